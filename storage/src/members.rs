//! The accounts of a host: since when each counts there, and which of them are over its limit.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use protocol::account::{Account, Local, Throttle};
use protocol::did::Did;
use protocol::ids::{HostId, Micros};

use crate::accounts::live_on;
use crate::sequencer::Sequencer;
use crate::store::{Family, KeyAndRow, UNREADABLE, keys, records};
use crate::{Error, Handle};

/// A live account of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub did: Did,
    /// Since when it counts there; zero: since before that was kept.
    pub joined: Micros,
    /// It is throttled for being over the host's limit.
    pub throttled: bool,
    /// This relay has decided something else about it.
    pub decided: bool,
}

/// What is kept of an account on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) joined: Micros,
    /// It has a row in `throttled`.
    pub(crate) throttled: bool,
    pub(crate) decided: bool,
}

impl Membership {
    /// Of an account of which this is decided.
    pub(crate) fn of(joined: Micros, local: Local) -> Self {
        let throttled = local == Local::Throttled(Throttle::Quota);
        Self { joined, throttled, decided: !throttled && local != Local::None }
    }
}

impl Sequencer {
    /// Counts an account on its host, and no longer on the one before. A host's count is the
    /// number of its `host_accounts` rows, whatever a host says how often; so is that of its
    /// throttled ones the number of its rows there.
    pub(crate) fn count_account(
        &mut self,
        did: &Did,
        was: Option<HostId>,
        account: &Account,
        now: Micros,
    ) -> Result<(), Error> {
        let is = live_on(account);
        if let Some(left) = was.filter(|was| is != Some(*was)) {
            self.place(left, did, |_| None)?;
        }
        if let Some(host) = is {
            self.place(host, did, |before| {
                let joined = before.map_or(now, |before| before.joined);
                Some(Membership::of(joined, account.local))
            })?;
        }
        Ok(())
    }

    /// Writes what an account is to a host from here on, and counts.
    fn place(
        &mut self,
        id: HostId,
        did: &Did,
        after: impl FnOnce(Option<Membership>) -> Option<Membership>,
    ) -> Result<(), Error> {
        // Of a host that was removed nothing is kept.
        if self.hosts.find(id)?.is_none() {
            return Ok(());
        }
        let before = self.membership(id, did)?;
        let after = after(before);
        if before == after {
            return Ok(());
        }
        let (members, throttled) =
            (self.store.family(Family::HostAccounts), self.store.family(Family::Throttled));
        let rows = &mut self.pending.rows;
        if let Some(before) = before.filter(|before| before.throttled) {
            rows.delete_cf(throttled, keys::throttled(id, before.joined, did));
        }
        match after {
            None => {
                rows.delete_cf(members, keys::host_account(id, did));
                // Nobody looks at it there again.
                let reconcile = self.store.family(Family::Reconcile);
                rows.delete_cf(reconcile, keys::excused(id, did));
            }
            Some(after) => {
                rows.put_cf(members, keys::host_account(id, did), records::membership(after));
                if after.throttled {
                    rows.put_cf(throttled, keys::throttled(id, after.joined, did), []);
                }
            }
        }
        let host = &mut self.hosts.row(id)?.host;
        let is_throttled = |membership: Option<Membership>| membership.is_some_and(|m| m.throttled);
        host.accounts = recount(host.accounts, before.is_some(), after.is_some())?;
        host.throttled = recount(host.throttled, is_throttled(before), is_throttled(after))?;
        self.pending.members.insert((id, did.clone()), after);
        self.pending.hosts.insert(id);
        Ok(())
    }

    /// As of what is gathered, too.
    pub(crate) fn membership(&self, id: HostId, did: &Did) -> Result<Option<Membership>, Error> {
        if let Some(membership) = self.pending.members.get(&(id, did.clone())) {
            return Ok(*membership);
        }
        let key = keys::host_account(id, did);
        let Some(row) = self.store.get(Family::HostAccounts, &key)? else { return Ok(None) };
        let read = records::read_membership(&row);
        read.map(Some).ok_or_else(|| Family::HostAccounts.corrupt_at(&key, UNREADABLE))
    }
}

fn recount(count: u64, before: bool, after: bool) -> Result<u64, Error> {
    let without = count.checked_sub(u64::from(before));
    let without = without.ok_or_else(|| Family::Hosts.corrupt("fewer accounts than rows"))?;
    Ok(without + u64::from(after))
}

impl Handle {
    /// Live accounts of a host, in the order of their keys, after this one. May wait for the disk.
    pub fn members(
        &self,
        host: HostId,
        after: Option<&Did>,
        limit: usize,
    ) -> Result<Vec<Member>, Error> {
        let (mut from, to) = keys::of_host(host);
        if let Some(after) = after {
            from = keys::after(keys::host_account(host, after));
        }
        self.read_range(Family::HostAccounts, &from, &to, limit, member)
    }

    /// The accounts of a host that are throttled for being over its limit and have been there
    /// longest. May wait for the disk.
    pub fn throttled_oldest(&self, host: HostId, limit: usize) -> Result<Vec<Did>, Error> {
        let (from, to) = keys::of_host(host);
        let read = |row: &KeyAndRow| Some(keys::throttled_account(&row.key)?.1);
        self.read_range(Family::Throttled, &from, &to, limit, read)
    }

    /// The newest live accounts of a host about which nothing is decided, newest first: `count` of
    /// them, among the first `cap` accounts in the order of their keys. Reads all of those, a
    /// second for a million, and keeps `count` of them in memory.
    pub fn newest_members(
        &self,
        host: HostId,
        count: usize,
        cap: usize,
    ) -> Result<Vec<Did>, Error> {
        let mut newest = BinaryHeap::new();
        let (mut after, mut left) = (None::<Did>, cap);
        while left > 0 {
            let page = self.members(host, after.as_ref(), left.min(PAGE))?;
            left -= page.len();
            let Some(last) = page.last() else { break };
            after = Some(last.did.clone());
            let is_open = |member: &Member| !member.throttled && !member.decided;
            for Member { did, joined, .. } in page.into_iter().filter(is_open) {
                let mut key = Vec::new();
                did.write_key(&mut key);
                newest.push(Reverse((joined, key)));
                if newest.len() > count {
                    newest.pop();
                }
            }
        }
        let newest = newest.into_sorted_vec();
        let read = |Reverse((_, key)): &Reverse<(Micros, Vec<u8>)>| Did::from_key(key);
        Ok(newest.iter().filter_map(read).collect())
    }
}

fn member(KeyAndRow { key, row }: &KeyAndRow) -> Option<Member> {
    let (_, did) = keys::host_account_of(key)?;
    let Membership { joined, throttled, decided } = records::read_membership(row)?;
    Some(Member { did, joined, throttled, decided })
}

/// Rows read at once.
const PAGE: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use protocol::account::Upstream;

    use super::*;
    use crate::fixture::*;
    use crate::{AccountWrite, Entry, Memory, open};

    /// An account as its shard decided it.
    fn decided(number: u64, host: HostId, was: Option<HostId>, local: Local) -> Entry {
        let account = Account { local, ..account(host, 1) };
        Entry {
            did: Some(did(number)),
            account: Some(AccountWrite { account, was, decided: true }),
            ..Entry::default()
        }
    }

    const QUOTA: Local = Local::Throttled(Throttle::Quota);

    async fn submit(handle: &Handle, entry: Entry) {
        handle.submit(vec![entry]);
        settle(handle).await;
    }

    /// All, throttled, and what the limit is compared with; rows say the same.
    fn counts(handle: &Handle, host: HostId) -> [u64; 3] {
        let row = handle.host(host).unwrap();
        let open = handle.account_count(host).load(Ordering::Relaxed);
        assert_eq!(open, row.open_accounts());
        let members = handle.members(host, None, 100).unwrap();
        let size = |count: usize| u64::try_from(count).unwrap();
        assert_eq!(size(members.len()), row.accounts);
        let throttled = members.iter().filter(|member| member.throttled).count();
        assert_eq!(size(throttled), row.throttled);
        let mut oldest = handle.throttled_oldest(host, 100).unwrap();
        oldest.sort_by_key(keys::account);
        let flagged = members.iter().filter(|member| member.throttled).map(|member| &member.did);
        assert!(flagged.eq(&oldest), "{members:?} {oldest:?}");
        [row.accounts, row.throttled, open]
    }

    #[tokio::test]
    async fn the_limit_is_about_live_accounts_that_are_not_throttled_for_it() {
        let (handle, _) = store();
        let host = add(&handle, "pds.example.com").await.id;
        let other = add(&handle, "other.example.com").await.id;
        let gone = || Upstream { active: false, status: Some("deleted".into()) };
        submit(&handle, decided(1, host, None, Local::None)).await;
        assert_eq!(counts(&handle, host), [1, 0, 1]);
        submit(&handle, decided(2, host, None, QUOTA)).await;
        assert_eq!(counts(&handle, host), [2, 1, 1]);
        submit(&handle, decided(1, host, Some(host), QUOTA)).await;
        assert_eq!(counts(&handle, host), [2, 2, 0]);
        // What else is decided takes up a place.
        submit(&handle, decided(1, host, Some(host), Local::Takendown)).await;
        assert_eq!(counts(&handle, host), [2, 1, 1]);
        submit(&handle, decided(2, host, Some(host), Local::None)).await;
        assert_eq!(counts(&handle, host), [2, 0, 2]);
        // Within one commit, and moving to another host while throttled.
        handle.submit(vec![
            decided(2, host, Some(host), QUOTA),
            decided(2, host, Some(host), Local::None),
            decided(2, host, Some(host), QUOTA),
            decided(2, other, Some(host), QUOTA),
        ]);
        settle(&handle).await;
        assert_eq!(counts(&handle, host), [1, 0, 1]);
        assert_eq!(counts(&handle, other), [1, 1, 0]);
        let mut entry = decided(2, other, Some(other), QUOTA);
        entry.account.as_mut().unwrap().account.upstream = gone();
        submit(&handle, entry).await;
        assert_eq!(counts(&handle, other), [0, 0, 0]);
    }

    #[tokio::test]
    async fn who_came_first_is_kept_over_decisions_and_restarts() {
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let handle = open(options(&clock, &memory)).unwrap();
        let host = add(&handle, "pds.example.com").await.id;
        let order = [4, 1, 3, 2, 5];
        for number in order {
            clock.advance(Duration::from_secs(1));
            submit(&handle, decided(number, host, None, Local::None)).await;
        }
        // Throttled from the newest on, the last of them first.
        for number in [5, 2, 3] {
            clock.advance(Duration::from_secs(1));
            submit(&handle, decided(number, host, Some(host), QUOTA)).await;
        }
        submit(&handle, decided(1, host, Some(host), Local::Suspended)).await;
        handle.stop().unwrap();
        let handle = open(options(&clock, &memory)).unwrap();
        assert_eq!(counts(&handle, host), [5, 3, 2]);
        assert_eq!(handle.throttled_oldest(host, 2).unwrap(), [did(3), did(2)]);
        assert_eq!(handle.newest_members(host, 5, 100).unwrap(), [did(4)]);
        for number in [1, 2, 3, 5] {
            submit(&handle, decided(number, host, Some(host), Local::None)).await;
        }
        assert_eq!(counts(&handle, host), [5, 0, 5]);
        let newest = [5, 2, 3, 1, 4].map(did);
        assert_eq!(handle.newest_members(host, 5, 100).unwrap(), newest);
        assert_eq!(handle.newest_members(host, 2, 100).unwrap(), newest[..2]);
        assert_eq!(handle.newest_members(host, 5, 2).unwrap(), [did(2), did(1)]);
        let members = handle.members(host, None, 100).unwrap();
        assert_eq!(members[0].joined, Micros(NOW + 2_000_000));
        assert!(members.is_sorted_by_key(|member| keys::account(&member.did)));
        assert_eq!(handle.members(host, None, 2).unwrap(), members[..2]);
        assert_eq!(handle.members(host, Some(&members[1].did), 2).unwrap(), members[2..4]);
    }

    /// An ordinary event of a known account reads and writes nothing of this.
    #[tokio::test]
    async fn an_event_that_changes_no_membership_does_not_look() {
        let (handle, _) = store();
        let host = add(&handle, "pds.example.com").await.id;
        submit(&handle, accepted(host, 0, 1, &did(1), false)).await;
        let mut rows = rocksdb::WriteBatch::default();
        let key = keys::host_account(host, &did(1));
        rows.put_cf(handle.store().family(Family::HostAccounts), key, b"rot");
        handle.store().write(rows, crate::store::Wait::Os).unwrap();
        submit(&handle, accepted(host, 1, 2, &did(1), true)).await;
        assert!(handle.is_writable());
        handle.submit(vec![decided(1, host, Some(host), QUOTA)]);
        assert!(matches!(handle.failed().await, Error::Corrupt { .. }));
    }

    /// Scans are long, and what events need stays in the cache.
    #[tokio::test]
    async fn a_scan_leaves_no_rows_in_the_cache() {
        let (handle, _) = store();
        let host = add(&handle, "pds.example.com").await.id;
        let count = 2_000;
        handle.submit((1..=count).map(|number| decided(number, host, None, QUOTA)).collect());
        settle(&handle).await;
        handle.store().flush_all();
        let before = handle.store().cached_bytes();
        let few = usize::try_from(count).unwrap();
        assert_eq!(handle.members(host, None, few).unwrap().len(), few);
        assert_eq!(handle.throttled_oldest(host, few).unwrap().len(), few);
        assert_eq!(handle.newest_members(host, few, few).unwrap().len(), 0);
        assert_eq!(handle.accounts(None, few).unwrap().len(), few);
        // Indexes may.
        let scanned = handle.store().cached_bytes() - before;
        assert!(scanned < 32 << 10, "{scanned}");
        // What is asked for by its key is kept.
        for number in 1..=count {
            assert!(handle.account(&did(number)).unwrap().is_some());
        }
        let asked = handle.store().cached_bytes() - before;
        assert!(asked > 128 << 10, "{asked}");
    }

    #[tokio::test]
    async fn accounts_are_read_page_by_page() {
        let (handle, _) = store();
        let host = add(&handle, "pds.example.com").await.id;
        for number in 1..=5 {
            submit(&handle, accepted(host, number - 1, number, &did(number), false)).await;
        }
        let all = handle.accounts(None, 100).unwrap();
        assert_eq!(all.len(), 5);
        assert!(all.is_sorted_by_key(|(did, _)| keys::account(did)));
        let known = |(did, account): &(Did, Account)| {
            handle.account(did).unwrap().as_ref() == Some(account)
        };
        assert!(all.iter().all(known));
        assert_eq!(handle.accounts(None, 2).unwrap(), all[..2]);
        assert_eq!(handle.accounts(Some(&all[1].0), 100).unwrap(), all[2..]);
        assert_eq!(handle.accounts(Some(&all[4].0), 100).unwrap(), []);
    }
}
