//! Keeps hosts within what they may: their standing rises and falls, accounts over a host's limit
//! are throttled, the newest first, and those that fit in again are let go, the oldest first.
//!
//! Everything follows from what the store holds, so that a restart goes on where it was, and it
//! does not matter why there is room: a deletion, a migration, a limit that was raised.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crawler::allowance::Standing;
use futures_util::future::join_all;
use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use storage::{Host, HostNote};
use tokio::task::{JoinHandle, spawn_blocking};
use verifier::Command;

use super::conduct::Ledger;
use super::hosts::Hosts;

/// Looks at all hosts, a page of them at a time, for as long as the relay runs.
pub(super) struct Governor {
    hosts: Arc<Hosts>,
    ledger: Ledger,
    /// The last host that was looked at.
    after: Option<HostId>,
    /// What the hosts up to there have throttled.
    seen: Seen,
    /// Hosts that are over their limit by accounts that operators have decided about, and when that
    /// was seen: looking for others reads all of a host's accounts. At most all hosts.
    in_vain: HashMap<HostId, Micros>,
    /// The newest accounts of one host that is far over its limit; others like it wait for it.
    newest: Option<Newest>,
}

/// Accounts to be throttled next: found once, since looking for them reads all of a host's.
struct Newest {
    host: HostId,
    /// The newest last. At most [`NEWEST_MAX`].
    dids: Vec<Did>,
    found: Micros,
}

/// Accounts that are throttled for a limit, and the hosts that they are on.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    accounts: u64,
    hosts: u64,
}

/// Why a round ended early: the process ends for that.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Store(#[from] storage::Error),
    #[error(transparent)]
    Verifier(#[from] verifier::Stopped),
}

/// What a host has too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Balance {
    /// So many accounts are to be throttled.
    Over(u64),
    /// So many throttled accounts fit in.
    Room(u64),
    /// Neither.
    Even,
}

/// Starts it.
pub(super) fn start(hosts: Arc<Hosts>, ledger: Ledger) -> JoinHandle<()> {
    let (seen, in_vain) = (Seen::default(), HashMap::new());
    tokio::spawn(Governor { hosts, ledger, after: None, seen, in_vain, newest: None }.run())
}

impl Governor {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(ROUND_EVERY).await;
            if let Err(error) = self.round().await {
                tracing::debug!(%error, "the governor ends");
                return;
            }
        }
    }

    /// Looks at the next hosts, and does as much as a round may.
    async fn round(&mut self) -> Result<(), Ended> {
        let page = self.hosts.storage().hosts(self.after, HOSTS_PER_ROUND);
        let is_last = page.len() < HOSTS_PER_ROUND;
        let mut left = ACCOUNTS_PER_ROUND;
        for host in page {
            let host = self.judge(host).await?;
            left -= self.balance(&host, left).await?;
            self.after = Some(host.id);
            self.seen.accounts += host.throttled;
            self.seen.hosts += u64::from(host.throttled > 0);
            if left == 0 {
                // The other hosts are next; whoever needs more has its turn again.
                return Ok(());
            }
        }
        if is_last {
            let Seen { accounts, hosts } = std::mem::take(&mut self.seen);
            self.hosts.metrics().over_limit(accounts, hosts);
            self.ledger.tidy(self.hosts.now());
            self.after = None;
        }
        Ok(())
    }

    /// The host with the standing that it has earned.
    async fn judge(&self, host: Host) -> Result<Host, Ended> {
        let now = self.hosts.now();
        let before = Standing { level: host.level, since: host.level_since, abuse: host.abuse };
        let (events, last_event) = (self.hosts.events(&host), host.meter.last_event);
        let conduct = self.ledger.conduct(host.id, events, last_event, now);
        let after = self.hosts.bounds().next(before, &conduct, now);
        if after == before {
            return Ok(host);
        }
        let Standing { level, since, abuse } = after;
        if abuse > before.abuse {
            self.ledger.forget(host.id);
            self.hosts.metrics().lowered();
            let (hostile, events) = (conduct.hostile, conduct.events);
            tracing::warn!(host = %host.name, level, hostile, events, "a host abuses us: lowered");
        } else if before.since.0 > 0 {
            self.hosts.metrics().raised();
            tracing::debug!(host = %host.name, level, "a host has grown");
        }
        let note = HostNote::Level { host: host.id, level, since, abuse };
        self.hosts.storage().note_host(note).await?;
        let host = Host { level, level_since: since, abuse, ..host };
        self.hosts.hand_allowance(host.id);
        Ok(host)
    }

    /// Brings the host's accounts closer to its limit, by this many at most; by how many.
    async fn balance(&mut self, host: &Host, most: usize) -> Result<usize, Ended> {
        let now = self.hosts.now();
        let in_vain = self.in_vain.get(&host.id);
        if self.hosts.is_banned(host) || in_vain.is_some_and(|at| now.since(*at) < VAIN_FOR) {
            return Ok(0);
        }
        self.in_vain.remove(&host.id);
        let hosts = Arc::clone(&self.hosts);
        let metrics = hosts.metrics();
        let limit = self.hosts.allowance(host).accounts;
        match balance(host.open_accounts(), host.throttled, limit) {
            Balance::Even => Ok(0),
            Balance::Over(count) => {
                let dids = self.newest(host.id, count, most).await?;
                self.command(host.id, &dids, true).await?;
                metrics.throttled(dids.len());
                Ok(dids.len())
            }
            Balance::Room(count) => {
                let (storage, id) = (self.hosts.storage().clone(), host.id);
                let count = at_most(count, most);
                let dids = read(move || storage.throttled_oldest(id, count)).await?;
                self.command(id, &dids, false).await?;
                metrics.lifted(dids.len());
                Ok(dids.len())
            }
        }
    }

    /// Some of the newest `count` accounts of a host, at most so many. What an operator has decided
    /// about an account stands: it is not among them.
    async fn newest(
        &mut self,
        host: HostId,
        count: u64,
        most: usize,
    ) -> Result<Vec<Did>, storage::Error> {
        let now = self.hosts.now();
        let is_old = |newest: &Newest| now.since(newest.found) >= NEWEST_FOR;
        self.newest.take_if(|newest| newest.dids.is_empty() || is_old(newest));
        let is_others = self.newest.as_ref().is_some_and(|newest| newest.host != host);
        if is_others && at_most(count, NEWEST_MAX) > most {
            return Ok(Vec::new());
        }
        if is_others || self.newest.is_none() {
            let (storage, count) = (self.hosts.storage().clone(), at_most(count, NEWEST_MAX));
            let newest = move || storage.newest_members(host, count, MEMBERS_READ_MAX);
            let mut dids = read(newest).await?;
            if dids.is_empty() {
                self.in_vain.insert(host, now);
            }
            if is_others {
                return Ok(dids);
            }
            dids.reverse();
            self.newest = Some(Newest { host, dids, found: now });
        }
        let Some(newest) = &mut self.newest else { return Ok(Vec::new()) };
        // Whoever has moved away since is passed over by the command.
        let mut dids =
            newest.dids.split_off(newest.dids.len().saturating_sub(at_most(count, most)));
        dids.reverse();
        Ok(dids)
    }

    /// Has accounts of the host throttled, or let go. Done when all is committed, so that the next
    /// round sees it.
    async fn command(&self, host: HostId, dids: &[Did], throttled: bool) -> Result<(), Ended> {
        let mut under_way = Vec::with_capacity(dids.len());
        for did in dids {
            let command = Command::Quota { did: did.clone(), host, throttled };
            under_way.push(self.hosts.verifier().command(command));
        }
        for done in join_all(under_way).await {
            done?;
        }
        Ok(())
    }
}

fn balance(open: u64, throttled: u64, limit: u64) -> Balance {
    if open > limit {
        return Balance::Over(open - limit);
    }
    match throttled.min(limit - open) {
        0 => Balance::Even,
        room => Balance::Room(room),
    }
}

fn at_most(count: u64, most: usize) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(most)
}

/// Reads that may wait for the disk.
async fn read<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, storage::Error> + Send + 'static,
) -> Result<T, storage::Error> {
    spawn_blocking(read).await.unwrap_or(Err(storage::Error::Stopped))
}

/// Often enough that whoever deletes one account to make another waits for a second or two.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// Some 300 bytes are copied of each: a millisecond a round. 100,000 hosts are looked at in 20 s.
const HOSTS_PER_ROUND: usize = 5_000;
/// Accounts that a round throttles or lets go: each is an event of its own, so this is at most as
/// many more a second.
const ACCOUNTS_PER_ROUND: usize = 500;
/// Accounts of a host that are looked at to find its newest: twice as many as the largest host may
/// have unless somebody asks for more.
const MEMBERS_READ_MAX: usize = 10_000_000;
/// Accounts that are found by one look: 5 MB. At 500 a second they last for 100 s.
const NEWEST_MAX: usize = 50_000;
/// Who is in the way of others no longer than this, and newer accounts come first after it.
const NEWEST_FOR: Duration = Duration::from_mins(5);
/// How long a host is let alone of which no account could be throttled.
const VAIN_FOR: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_over_the_limit_are_throttled_and_those_that_fit_in_are_let_go() {
        let check = |open, throttled, limit, expected| {
            assert_eq!(balance(open, throttled, limit), expected, "{open} {throttled} {limit}");
        };
        check(2, 0, 2, Balance::Even);
        check(2, 5, 2, Balance::Even);
        check(3, 0, 2, Balance::Over(1));
        check(3, 5, 2, Balance::Over(1));
        check(1, 5, 2, Balance::Room(1));
        check(0, 1, 2, Balance::Room(1));
        check(1, 0, 2, Balance::Even);
        check(7, 9, 0, Balance::Over(7));
        check(0, 9, u64::MAX, Balance::Room(9));
        check(u64::MAX, 0, 0, Balance::Over(u64::MAX));
    }

    /// Rounds of any size end, with as many accounts open as there may be, and then rest.
    #[test]
    fn model_rounds_end_at_the_limit() {
        for (accounts, limit, round) in [(10, 3, 2), (3, 10, 2), (10, 10, 4), (9, 0, 100)] {
            for mut open in 0..=accounts {
                for _ in 0..accounts + 1 {
                    match balance(open, accounts - open, limit) {
                        Balance::Over(count) => open -= count.min(round),
                        Balance::Room(count) => open += count.min(round),
                        Balance::Even => {}
                    }
                }
                assert_eq!(open, limit.min(accounts));
                assert_eq!(balance(open, accounts - open, limit), Balance::Even);
            }
        }
    }
}
