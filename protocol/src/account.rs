//! What we hold of an account: who spoke for it last, its statuses, the state of its repo.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{Epoch, HostId, HostSeq, Micros};
use crate::tid::Tid;

/// The newest state of one account. Owned by the verifier's shard of its DID (I11); the store
/// keeps the copy that a batch committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The host that the last applied event came from; [`HostId::NOBODY`] if there was none, and
    /// all that we hold is our own decision.
    pub host: HostId,
    /// That host's epoch then.
    pub epoch: Epoch,
    /// Host seq of the last applied event of *any* kind.
    pub host_seq: HostSeq,
    /// What we ourselves decided about the account.
    pub local: Local,
    /// What the host says about it.
    pub upstream: Upstream,
    /// What it has done that it may do only so often.
    pub conduct: Conduct,
    /// The repo, once a commit or sync has passed.
    pub repo: Option<Repo>,
}

impl Account {
    /// The host that spoke for it last, if one did.
    pub fn home(&self) -> Option<HostId> {
        (self.host != HostId::NOBODY).then_some(self.host)
    }

    /// What the relay says of the account: active or not, and the status. Our own decision goes
    /// before the host's, but for a throttle of what is inactive anyway (protocol.md section 6).
    pub fn published(&self) -> (bool, Option<&str>) {
        let upstream = (self.upstream.active, self.upstream.status.as_deref());
        match self.local {
            Local::None => upstream,
            Local::Takendown => (false, Some("takendown")),
            Local::Suspended => (false, Some("suspended")),
            Local::Throttled(_) if self.upstream.active => (false, Some("throttled")),
            Local::Throttled(_) => upstream,
        }
    }
}

/// Our own decision about an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Local {
    /// Nothing.
    #[default]
    None,
    /// Taken down by this relay.
    Takendown,
    /// Suspended by this relay.
    Suspended,
    /// Over a limit.
    Throttled(Throttle),
}

/// Why an account is throttled, and so who lifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// An operator said so, and says when it ends.
    Operator,
    /// Its repo's chain broke too often.
    Breaks {
        /// When it is lifted by itself.
        until: Micros,
    },
    /// It was new when its host had as many accounts as it may have.
    Quota,
}

/// What an account has done that it may do only so often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// Breaks of its chain so far: commits that did not continue what we held, and syncs that
    /// changed it.
    pub breaks: u32,
    /// Those of an hour.
    pub broken: Hour,
    /// Changes, within an hour, of what its host says of it.
    pub changed: Hour,
}

/// How often something happened within an hour that began with the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// The first time.
    pub since: Micros,
    /// How often since then.
    pub count: u8,
}

impl Hour {
    /// It has happened again.
    #[must_use]
    pub fn with_one_more(self, now: Micros) -> Self {
        if self.count == 0 || now.since(self.since) >= HOUR {
            return Self { since: now, count: 1 };
        }
        Self { since: self.since, count: self.count.saturating_add(1) }
    }
}

/// What the account's host says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The host's `active`.
    pub active: bool,
    /// The host's `status`, known or not, at most [`STATUS_CHARS_MAX`] characters.
    pub status: Option<Arc<str>>,
}

/// The state of a repo after its newest commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repo {
    /// Revision of the newest commit.
    pub rev: Tid,
    /// SHA-256 of the MST's root node (its CID is always dag-cbor, sha-256).
    pub data: [u8; 32],
    /// SHA-256 of the commit block.
    pub commit: [u8; 32],
}

impl Upstream {
    /// An active account without a status.
    pub const ACTIVE: Self = Self { active: true, status: None };
}

const HOUR: Duration = Duration::from_secs(3600);
/// Longer statuses are left out.
pub const STATUS_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_begins_with_the_first_time() {
        let minutes =
            |minutes| Micros(1_795_219_200_000_000).plus(60 * Duration::from_secs(minutes));
        let mut hour = Hour::default();
        for (minute, since, count) in
            [(5, 5, 1), (6, 5, 2), (64, 5, 3), (65, 65, 1), (65, 65, 2), (200, 200, 1)]
        {
            hour = hour.with_one_more(minutes(minute));
            assert_eq!(hour, Hour { since: minutes(since), count }, "at {minute}");
        }
        // A clock that goes backwards over a restart starts no hour anew.
        assert_eq!(hour.with_one_more(minutes(1)), Hour { since: minutes(200), count: 2 });
    }
}
