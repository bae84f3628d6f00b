//! How hosts are shown.

use protocol::datetime;
use protocol::host_state::HostState;
use serde_json::{Value, json};
use storage::Host;

use super::Hosts;

impl Hosts {
    /// As [`status`], with the bans of domains.
    pub fn status(&self, host: &Host) -> &'static str {
        if self.is_banned(host) { "banned" } else { status(host) }
    }

    /// All that there is to know of a host, for operators.
    pub fn describe(&self, host: &Host) -> Value {
        let allowance = self.allowance(host);
        let alias_of = host.alias_of.and_then(|id| self.storage.host(id));
        json!({
            "hostname": host.name.as_str(),
            "status": self.status(host),
            "reason": &*host.reason,
            "since": datetime::format(host.since),
            "added": datetime::format(host.added),
            "cursor": host.cursor.get(),
            "epoch": host.epoch.0,
            "accounts": host.accounts,
            "throttled": host.throttled,
            "rejects": host.rejects,
            "sync11": host.ratchet_closed,
            "level": host.level.min(self.bounds().top()),
            "abuse": host.abuse,
            "trusted": self.is_trusted(host),
            "aliasOf": alias_of.map(|host| host.name.as_str().to_owned()),
            "limits": {
                "accounts": limit(allowance.accounts),
                "eventsPerSecond": limit(allowance.per_second),
                "eventsPerHour": limit(allowance.per_hour),
                "eventsPerDay": limit(allowance.per_day),
            },
        })
    }
}

/// The status that `listHosts` shows, as far as the host's row tells: `active`, `idle`, `offline`,
/// `throttled` or `banned`.
pub fn status(host: &Host) -> &'static str {
    match host.state {
        _ if host.banned => "banned",
        _ if host.alias_of.is_some() => "offline",
        HostState::Streaming => "active",
        HostState::Idle | HostState::Connecting => "idle",
        HostState::Throttled => "throttled",
        HostState::BackingOff | HostState::Refused => "offline",
    }
}

/// `null`: none.
fn limit(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}
