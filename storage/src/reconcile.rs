//! What reconciliation keeps between its passes: how far it is with each host, and which accounts
//! it need not look at again.

use protocol::did::Did;
use protocol::ids::{HostId, Micros};

use crate::sequencer::entry::Command;
use crate::store::{Family, KeyAndRow, keys, records};
use crate::{Error, Handle};

/// A host's reconciliation: the pass that is under way or was the last, and the last one that went
/// through its whole list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconcileRow {
    /// When the pass began.
    pub began: Micros,
    /// When it ended; zero: it is under way.
    pub ended: Micros,
    /// Why it was made; at most 256 bytes are kept.
    pub reason: String,
    /// The cursor of the host's list where it goes on; empty: at its beginning. One of more than 4
    /// KiB is kept as none.
    pub after: String,
    /// Accounts that the host listed in this pass so far.
    pub listed: u64,
    /// Of those: as we hold them.
    pub in_step: u64,
    /// Of those: ahead of what we hold.
    pub behind: u64,
    /// Of those that were behind: repaired.
    pub repaired: u64,
    /// What the host gave for them could not be verified.
    pub unverifiable: u64,
    /// The host did not give what was asked for.
    pub failed: u64,
    /// The host says that it does not have them, and is asked once more.
    pub missing: u64,
    /// When the first of those is asked about once more; zero: there is none.
    pub second_look: Micros,
    /// When the last pass over the whole list ended; zero: none has.
    pub last_full: Micros,
    /// Accounts that the host listed in it.
    pub last_full_listed: u64,
    /// Live accounts that we knew of the host at its end.
    pub last_full_known: u64,
    /// Accounts that were as we held them, or are since.
    pub last_full_in_step: u64,
    /// Accounts that were left behind.
    pub last_full_behind: u64,
}

/// An account that is listed otherwise than we hold it, and need not be looked at again before the
/// listing changes; or one that the host says it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excused {
    /// The `rev` that was listed; at most 256 bytes are kept.
    pub rev: String,
    /// The `head` that was listed; at most 256 bytes are kept.
    pub head: String,
    /// When it was looked at.
    pub at: Micros,
    /// Since when the host says that it does not have it; zero: it has not said so.
    pub missing_since: Micros,
}

impl Handle {
    /// What a reconciliation that began then has looked at is owed no longer: the account, or the
    /// whole host with its accounts. What was added to it meanwhile, at `began` or later, stays.
    /// Committed when this returns.
    pub async fn settle_gap(
        &self,
        host: HostId,
        did: Option<Did>,
        began: Micros,
    ) -> Result<(), Error> {
        self.command(Command::SettleGap { host, did, began }).await
    }

    /// How far a host's reconciliation is. May wait for the disk.
    pub fn reconcile_row(&self, host: HostId) -> Result<Option<ReconcileRow>, Error> {
        self.read(Family::Reconcile, &keys::reconcile(host), records::read_reconcile)
    }

    /// Writes down how far a host's reconciliation is. Committed when this returns.
    pub async fn put_reconcile_row(&self, host: HostId, row: ReconcileRow) -> Result<(), Error> {
        self.command(Command::Reconcile { host, row }).await
    }

    /// Whether an account needs no look, and as what it was listed then. May wait for the disk.
    pub fn excused(&self, host: HostId, did: &Did) -> Result<Option<Excused>, Error> {
        self.read(Family::Reconcile, &keys::excused(host, did), records::read_excused)
    }

    /// Accounts of a host that need no look, in the order of their keys, after this one. May wait
    /// for the disk.
    pub fn excused_after(
        &self,
        host: HostId,
        after: Option<&Did>,
        limit: usize,
    ) -> Result<Vec<(Did, Excused)>, Error> {
        let (mut from, to) = keys::excused_of(host);
        if let Some(after) = after {
            from = keys::after(keys::excused(host, after));
        }
        self.read_range(Family::Reconcile, &from, &to, limit, |KeyAndRow { key, row }| {
            Some((keys::excused_account(key)?.1, records::read_excused(row)?))
        })
    }

    /// Notes that an account needs no further look. It is kept as long as the account counts on the
    /// host; of one that does not, nothing is noted: a host may list whatever it likes. Committed
    /// when this returns.
    pub async fn put_excused(&self, host: HostId, did: Did, row: Excused) -> Result<(), Error> {
        self.command(Command::Excuse { host, did, row: Some(row) }).await
    }

    /// An account is to be looked at again. Committed when this returns.
    pub async fn drop_excused(&self, host: HostId, did: Did) -> Result<(), Error> {
        self.command(Command::Excuse { host, did, row: None }).await
    }
}
