//! `GET /status/host/NAME`: what the relay does with a host, and why its events are not seen if
//! they are not.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use crawler::allowance::GROWN;
use crawler::{Live, reconcile};
use protocol::datetime;
use protocol::host::HostName;
use protocol::host_state::{Allowance, HostState, Level, Meter};
use protocol::ids::Micros;
use serde_json::{Value, json};
use storage::{Host, HostGap, Override, ReconcileRow, RejectRow};

use super::host_page;
use super::rejects;
use super::visit::Visit;
use crate::api::{Api, XrpcError};
use crate::pipeline::Hosts;

/// Answers with what there is; 404 if the host is not known.
pub(super) async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
    visit: Visit,
) -> Response {
    let name = match HostName::parse(&name, api.rules) {
        Ok(name) => name,
        Err(error) => return XrpcError::invalid(format!("the host: {error}")).into_response(),
    };
    let Some(host) = api.storage.host_by_name(&name) else {
        let refusal = || unknown(&name);
        return visit.answer(StatusCode::NOT_FOUND, refusal, || host_page::unknown(&name, &visit));
    };
    let now = (api.clock)();
    let live = api.crawler.live(host.id);
    let hosts = Arc::clone(&api.hosts);
    let gathering = api.status.reads.run(move |storage| Seen::gather(storage, &hosts, host, live));
    let seen = match gathering.await {
        Ok(seen) => seen,
        Err(error) => return error.into_response(),
    };
    visit.answer(StatusCode::OK, || seen.describe(now), || host_page::page(&seen, now))
}

/// All that is known of one host, each part as of its own last change.
pub(super) struct Seen {
    pub(super) host: Host,
    /// As `listHosts` tells it.
    pub(super) status: &'static str,
    pub(super) connection: Connection,
    /// What it may at present.
    pub(super) allowance: Allowance,
    /// Its domain is trusted.
    pub(super) is_trusted: bool,
    /// The host that this one is another name of.
    pub(super) alias_of: Option<HostName>,
    pub(super) gap: Option<HostGap>,
    pub(super) reconciled: Option<ReconcileRow>,
    /// A comparison that is under way, or what keeps one from being so.
    pub(super) reconciling: reconcile::Status,
    /// Newest first.
    pub(super) rejects: Vec<RejectRow>,
}

/// What its connection does.
pub(super) struct Connection {
    pub(super) state: HostState,
    pub(super) since: Micros,
    pub(super) reason: String,
    /// What went wrong last, and when.
    pub(super) last_error: Option<(Micros, String)>,
    pub(super) meter: Meter,
    /// What its task knows beside; `None`: it has none.
    pub(super) live: Option<Live>,
}

impl Seen {
    fn gather(
        storage: &storage::Handle,
        hosts: &Hosts,
        host: Host,
        live: Option<Live>,
    ) -> Result<Self, storage::Error> {
        let (id, status) = (host.id, hosts.status(&host));
        let mut connection = Connection::of(&host, live);
        if status == "banned" {
            // Which of its domains the operators have banned is theirs to tell.
            connection.reason.clear();
        }
        Ok(Self {
            status,
            connection,
            allowance: hosts.allowance(&host),
            is_trusted: hosts.is_trusted(&host),
            alias_of: host.alias_of.and_then(|id| Some(storage.host(id)?.name)),
            gap: storage.gap(id)?,
            reconciled: storage.reconcile_row(id)?,
            reconciling: hosts.reconciler().and_then(|all| all.status(id)).unwrap_or_default(),
            rejects: storage.rejects(id)?,
            host,
        })
    }

    fn describe(&self, now: Micros) -> Value {
        let Self { host, connection, .. } = self;
        let moment = |at: Micros| (at != Micros(0)).then(|| datetime::format(at));
        let (meter, live) = (&connection.meter, connection.live.as_ref());
        json!({
            "hostname": host.name.as_str(),
            "status": self.status,
            "banned": host.banned,
            "aliasOf": self.alias_of.as_ref().map(HostName::as_str),
            "added": datetime::format(host.added),
            "connection": {
                "state": connection.state.name(),
                "since": datetime::format(connection.since),
                "reason": connection.reason,
                "lastError": connection.last_error.as_ref().map(|(at, text)| json!({
                    "at": datetime::format(*at),
                    "text": text,
                })),
                "nextDial": live.and_then(|live| live.next_dial).map(datetime::format),
                "failures": live.map(|live| live.failures),
                "connects": meter.connects,
                "sync11": host.ratchet_closed,
            },
            "stream": {
                "lastEvent": moment(meter.last_event),
                "lagSeconds": live.and_then(|live| live.lag).map(|lag| lag.as_secs_f64()),
                "received": live.map(|live| live.received.get()),
                "caughtUp": live.and_then(|live| moment(live.caught_up)),
                "events": meter.events,
                "bytes": meter.bytes,
                "cursor": host.cursor.get(),
                "epoch": host.epoch.0,
            },
            "accounts": { "live": host.accounts, "throttled": host.throttled },
            "limits": self.limits(now),
            "reconciliation": self.reconciliation(),
            "rejectsTotal": host.rejects,
            "rejects": rejects::describe(&self.rejects),
            "at": datetime::format(now),
        })
    }

    fn limits(&self, now: Micros) -> Value {
        let told = |limit| (limit != u64::MAX).then_some(limit);
        let Allowance { per_second, per_hour, per_day, accounts } = self.allowance;
        let meter = &self.connection.meter;
        json!({
            "accounts": told(accounts),
            "eventsPerSecond": told(per_second),
            "eventsPerHour": told(per_hour),
            "eventsPerDay": told(per_day),
            "eventsOfHour": used(meter.hour, per_hour, HOUR, now),
            "eventsOfDay": used(meter.day, per_day, DAY, now),
            "setByOperator": self.host.allowance != Override::default(),
            "trusted": self.is_trusted,
            "level": (self.host.level < GROWN).then_some(self.host.level),
        })
    }

    fn reconciliation(&self) -> Value {
        let moment = |at: Micros| (at != Micros(0)).then(|| datetime::format(at));
        let (row, now) = (self.reconciled.as_ref(), &self.reconciling);
        let trouble = Some(now.trouble.as_str()).filter(|trouble| !trouble.is_empty());
        json!({
            "owed": self.gap.as_ref().map(|gap| json!({
                "whole": gap.whole,
                "accounts": gap.accounts,
                "since": datetime::format(gap.since),
                "reason": gap.reason,
            })),
            "underWay": now.under_way,
            "trouble": trouble,
            "restsUntil": moment(now.rests_until),
            "pass": row.map(|row| json!({
                "began": moment(row.began),
                "ended": moment(row.ended),
                "reason": row.reason,
                "listed": row.listed,
                "inStep": row.in_step,
                "behind": row.behind,
                "repaired": row.repaired,
                "unverifiable": row.unverifiable,
                "missing": row.missing,
                "failed": row.failed,
            })),
            "lastFull": row.filter(|row| row.last_full != Micros(0)).map(|row| json!({
                "ended": moment(row.last_full),
                "listed": row.last_full_listed,
                "known": row.last_full_known,
                "inStep": row.last_full_in_step,
                "behind": row.last_full_behind,
            })),
        })
    }
}

impl Connection {
    /// As its task knows it, or the store was told last.
    pub(super) fn of(host: &Host, live: Option<Live>) -> Self {
        let failed = !host.last_error.is_empty();
        let stored = failed.then(|| (host.last_error_at, host.last_error.to_string()));
        let Some(live) = live else {
            return Self {
                state: host.state,
                since: host.since,
                reason: host.reason.to_string(),
                last_error: stored,
                meter: host.meter,
                live: None,
            };
        };
        // Its own words are of this process; those of the one before are the store's.
        let own = live.last_error.as_ref().map(|(at, text)| (*at, text.to_string()));
        Self {
            state: live.state,
            since: live.since,
            reason: live.reason.to_string(),
            last_error: own.or(stored),
            meter: live.meter,
            live: Some(live),
        }
    }
}

/// What is used up of a limit: what was spent comes back evenly over its period.
pub(super) fn used(level: Level, limit: u64, period: Duration, now: Micros) -> u64 {
    let back = u128::from(limit) * now.since(level.at).as_micros() / period.as_micros();
    level.spent.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
}

fn unknown(name: &HostName) -> Value {
    json!({
        "error": "HostNotFound",
        "message": format!("{name} is not known to this relay: requestCrawl introduces it"),
    })
}

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_comes_back_evenly() {
        let now = Micros(1_795_219_300_000_000);
        let check = |spent, seconds, limit, expected| {
            let level = Level { spent, at: now };
            let later = now.plus(Duration::from_secs(seconds));
            assert_eq!(used(level, limit, HOUR, later), expected, "{spent} {seconds} {limit}");
        };
        check(100, 0, 3_600, 100);
        check(100, 40, 3_600, 60);
        check(100, 4_000, 3_600, 0);
        check(u64::MAX, 1, u64::MAX, u64::MAX - u64::MAX / 3_600);
        check(100, 1, 0, 100);
    }
}
