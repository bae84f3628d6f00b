//! What we know that we missed, until reconciliation has repaired it (I13).

use protocol::did::Did;
use protocol::ids::{HostId, Micros};

use crate::hosts::{REASON_BYTES_MAX, Row, cut};
use crate::sequencer::pending::Pending;
use crate::store::{Family, KeyAndRow, Store, UNREADABLE, keys, records};
use crate::{Error, Handle};

#[cfg(test)]
mod tests;

/// Something of a host was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The host.
    pub host: HostId,
    /// The account, if we know which: else the whole host is owed (invented DIDs must not fill
    /// the store).
    pub did: Option<Did>,
}

/// What is owed of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGap {
    /// Every account of it.
    pub whole: bool,
    /// How many accounts have a row of their own; of a host that is owed as a whole, those that
    /// were missed since.
    pub accounts: u32,
    /// Since when anything is.
    pub since: Micros,
    /// When it was last added to: to the whole, if that is owed, else to the accounts.
    pub newest: Micros,
    /// What was missed then.
    pub reason: String,
}

/// What is owed of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountGap {
    /// The account.
    pub did: Did,
    /// Since when.
    pub since: Micros,
    /// When something of it was missed last.
    pub newest: Micros,
    /// What was missed then.
    pub reason: String,
}

/// Owes the whole host.
pub(crate) fn owe_host(
    row: &mut Row,
    pending: &mut Pending,
    store: &Store,
    now: Micros,
    reason: &str,
) {
    let id = row.host.id;
    let since = row.owed.as_ref().map_or(now, |owed| owed.since);
    if row.owed.as_ref().is_some_and(|owed| owed.accounts > 0) {
        // The whole covers its parts; later puts of this batch come after this in its order.
        let (from, to) = keys::gap_accounts(id);
        pending.rows.delete_range_cf(store.family(Family::Gaps), from, to);
        pending.gaps.retain(|(host, _), _| *host != id);
        pending.gaps_cleared.insert(id);
    }
    let reason = cut(reason, REASON_BYTES_MAX).to_owned();
    row.owed = Some(HostGap { whole: true, accounts: 0, since, newest: now, reason });
    pending.owed.insert(id);
}

/// Owes one account of the host; beyond [`ACCOUNT_GAPS_MAX`] of them, the whole host.
///
/// Accounts are owed by themselves also while the whole host is: a reconciliation that is under
/// way then settles the whole, and these are left for the next.
pub(crate) fn owe_account(
    row: &mut Row,
    pending: &mut Pending,
    store: &Store,
    did: Did,
    now: Micros,
    reason: &str,
) -> Result<(), Error> {
    let id = row.host.id;
    let known = read(pending, store, id, &did)?;
    if known.as_ref().is_some_and(|known| known.newest == now) {
        return Ok(());
    }
    let before = row.owed.as_ref();
    let fresh = u32::from(known.is_none());
    let accounts = before.map_or(0, |owed| owed.accounts) + fresh;
    if accounts > ACCOUNT_GAPS_MAX {
        owe_host(row, pending, store, now, reason);
        return Ok(());
    }
    let since = known.map_or(now, |known| known.since);
    let reason = cut(reason, REASON_BYTES_MAX).to_owned();
    let gap = AccountGap { did, since, newest: now, reason: reason.clone() };
    let key = keys::gap_account(id, &gap.did);
    pending.rows.put_cf(store.family(Family::Gaps), key, records::account_gap(&gap));
    let since = before.map_or(now, |owed| owed.since);
    row.owed = Some(match row.owed.take() {
        Some(whole) if whole.whole => HostGap { accounts, ..whole },
        _ => HostGap { whole: false, accounts, since, newest: now, reason },
    });
    pending.gaps.insert((id, gap.did.clone()), Some(gap));
    pending.owed.insert(id);
    Ok(())
}

/// A reconciliation that began then has looked at one account, or at the whole host: what is owed
/// of it since before that is settled. What was added meanwhile stays.
///
/// `pending` must hold no gaps yet, so that the store shows all of them.
pub(crate) fn settle(
    row: &mut Row,
    pending: &mut Pending,
    store: &Store,
    did: Option<Did>,
    began: Micros,
) -> Result<(), Error> {
    let Some(mut owed) = row.owed.clone() else { return Ok(()) };
    let id = row.host.id;
    let Some(did) = did else {
        settle_whole(&mut owed, pending, store, id, began)?;
        row.owed = Some(owed).filter(HostGap::is_anything);
        pending.owed.insert(id);
        return Ok(());
    };
    if read(pending, store, id, &did)?.is_none_or(|gap| gap.newest >= began) {
        return Ok(());
    }
    pending.rows.delete_cf(store.family(Family::Gaps), keys::gap_account(id, &did));
    pending.gaps.insert((id, did), None);
    owed.accounts = owed.accounts.checked_sub(1).ok_or_else(miscounted)?;
    row.owed = Some(owed).filter(HostGap::is_anything);
    pending.owed.insert(id);
    Ok(())
}

fn settle_whole(
    owed: &mut HostGap,
    pending: &mut Pending,
    store: &Store,
    id: HostId,
    began: Micros,
) -> Result<(), Error> {
    let is_settled = owed.whole && owed.newest < began;
    owed.whole &= !is_settled;
    let (from, to) = keys::gap_accounts(id);
    let mut since = None::<Micros>;
    let mut newest = None::<AccountGap>;
    // At most ACCOUNT_GAPS_MAX of them, some 10 ms.
    for KeyAndRow { key, row } in store.range(Family::Gaps, &from, Some(&to), usize::MAX)? {
        let gap = read_row(&key, &row)?;
        if gap.newest < began {
            pending.rows.delete_cf(store.family(Family::Gaps), &key);
            pending.gaps.insert((id, gap.did), None);
            owed.accounts = owed.accounts.checked_sub(1).ok_or_else(miscounted)?;
            continue;
        }
        since = Some(since.map_or(gap.since, |since| since.min(gap.since)));
        if newest.as_ref().is_none_or(|newest| newest.newest <= gap.newest) {
            newest = Some(gap);
        }
    }
    if let (false, Some(since), Some(newest)) = (owed.whole, since, newest) {
        (owed.since, owed.newest, owed.reason) = (since, newest.newest, newest.reason);
    }
    Ok(())
}

impl HostGap {
    fn is_anything(&self) -> bool {
        self.whole || self.accounts > 0
    }
}

impl Handle {
    /// What reconciliation owes of a host. May wait for the disk.
    pub fn gap(&self, host: HostId) -> Result<Option<HostGap>, Error> {
        self.read(Family::Gaps, &keys::gap_host(host), records::read_host_gap)
    }

    /// What is owed of one account of a host by itself. May wait for the disk.
    pub fn account_gap(&self, host: HostId, did: &Did) -> Result<Option<AccountGap>, Error> {
        let read = |row: &[u8]| records::read_account_gap(did.clone(), row);
        self.read(Family::Gaps, &keys::gap_account(host, did), read)
    }

    /// Accounts of a host that are owed by themselves. May wait for the disk.
    pub fn account_gaps(&self, host: HostId, limit: usize) -> Result<Vec<AccountGap>, Error> {
        let (from, to) = keys::gap_accounts(host);
        self.read_range(Family::Gaps, &from, &to, limit, |KeyAndRow { key, row }| {
            records::read_account_gap(keys::gap_account_did(key)?, row)
        })
    }
}

/// As of what is gathered, too.
fn read(
    pending: &Pending,
    store: &Store,
    id: HostId,
    did: &Did,
) -> Result<Option<AccountGap>, Error> {
    if let Some(gap) = pending.gaps.get(&(id, did.clone())) {
        return Ok(gap.clone());
    }
    if pending.gaps_cleared.contains(&id) {
        return Ok(None);
    }
    let key = keys::gap_account(id, did);
    store.get(Family::Gaps, &key)?.map(|row| read_row(&key, &row)).transpose()
}

fn read_row(key: &[u8], row: &[u8]) -> Result<AccountGap, Error> {
    let gap = keys::gap_account_did(key).and_then(|did| records::read_account_gap(did, row));
    gap.ok_or_else(|| Family::Gaps.corrupt_at(key, UNREADABLE))
}

fn miscounted() -> Error {
    Family::Gaps.corrupt("fewer accounts are owed than there are rows")
}

/// Rows of single accounts per host, about 70 bytes each; reconciling a whole host costs one pass
/// over its list of accounts, which is less work than this many single look-ups.
pub(crate) const ACCOUNT_GAPS_MAX: u32 = 10_000;
