//! What we know that we missed, until reconciliation has repaired it (I13).

use hashbrown::HashSet;
use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use rocksdb::WriteBatch;

use crate::Error;
use crate::hosts::{REASON_BYTES_MAX, Row, cut};
use crate::store::{Family, Store, keys, records};

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
    /// Every account of it; else [`HostGap::accounts`] of them.
    pub whole: bool,
    /// How many accounts have a row of their own. Zero if the whole host is owed.
    pub accounts: u32,
    /// Since when anything is.
    pub since: Micros,
    /// What was missed last.
    pub reason: String,
}

/// What is owed of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountGap {
    /// The account.
    pub did: Did,
    /// Since when.
    pub since: Micros,
    /// What was missed.
    pub reason: String,
}

/// Owes the whole host.
pub(crate) fn owe_host(
    row: &mut Row,
    rows: &mut WriteBatch,
    store: &Store,
    now: Micros,
    reason: &str,
) {
    let since = row.owed.as_ref().map_or(now, |owed| owed.since);
    if row.owed.as_ref().is_some_and(|owed| owed.accounts > 0) {
        // The whole covers its parts; later puts of this batch come after this in its order.
        let (from, to) = keys::gap_accounts(row.host.id);
        rows.delete_range_cf(store.family(Family::Gaps), from, to);
    }
    let reason = cut(reason, REASON_BYTES_MAX).to_owned();
    let owed = HostGap { whole: true, accounts: 0, since, reason };
    rows.put_cf(store.family(Family::Gaps), keys::gap_host(row.host.id), records::host_gap(&owed));
    row.owed = Some(owed);
}

/// Owes one account of the host; beyond [`ACCOUNT_GAPS_MAX`] of them, the whole host. `fresh`
/// holds the rows that `rows` adds, which the store does not show yet.
pub(crate) fn owe_account(
    row: &mut Row,
    rows: &mut WriteBatch,
    store: &Store,
    fresh: &mut HashSet<(HostId, Did)>,
    gap: &AccountGap,
) -> Result<(), Error> {
    let id = row.host.id;
    if row.owed.as_ref().is_some_and(|owed| owed.whole) {
        return Ok(());
    }
    let key = keys::gap_account(id, &gap.did);
    let known = fresh.contains(&(id, gap.did.clone())) || store.get(Family::Gaps, &key)?.is_some();
    if known {
        return Ok(());
    }
    let accounts = row.owed.as_ref().map_or(0, |owed| owed.accounts) + 1;
    if accounts > ACCOUNT_GAPS_MAX {
        owe_host(row, rows, store, gap.since, &gap.reason);
        return Ok(());
    }
    fresh.insert((id, gap.did.clone()));
    rows.put_cf(store.family(Family::Gaps), key, records::account_gap(gap));
    let since = row.owed.as_ref().map_or(gap.since, |owed| owed.since);
    let owed = HostGap { whole: false, accounts, since, reason: gap.reason.clone() };
    rows.put_cf(store.family(Family::Gaps), keys::gap_host(id), records::host_gap(&owed));
    row.owed = Some(owed);
    Ok(())
}

/// Rows of single accounts per host, about 60 bytes each; reconciling a whole host costs one pass
/// over its list of accounts, which is less work than this many single look-ups.
pub(crate) const ACCOUNT_GAPS_MAX: u32 = 10_000;
