//! What reconciliation is told and what it has done: the rest of the relay, behind one trait.

use std::future::Future;

use bytes::Bytes;
use protocol::account::{Account, Upstream};
use protocol::did::Did;
use protocol::host::HostName;
use protocol::ids::{HostId, Micros};
use protocol::reject::Reject;

use super::guard::Stream;

/// The store, the streams and the way to the shards, as far as reconciliation needs them.
pub trait Ledger: Send + Sync + 'static {
    /// Hosts in the order of their numbers, after this one.
    fn hosts(
        &self,
        after: Option<HostId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Known>, Gone>> + Send;

    /// One host; `None`: it is not there any more.
    fn host(&self, host: HostId) -> impl Future<Output = Result<Option<Known>, Gone>> + Send;

    /// Its subscription, as of now; `None`: it has none.
    fn stream(&self, host: HostId) -> Option<Stream>;

    /// What is held of accounts, in their order.
    fn held(
        &self,
        host: HostId,
        dids: Vec<Did>,
    ) -> impl Future<Output = Result<Vec<Held>, Gone>> + Send;

    /// Accounts of the host that are owed by themselves.
    fn owed_accounts(
        &self,
        host: HostId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Did>, Gone>> + Send;

    /// Live accounts of the host, in the order of their keys, after this one; but for those that
    /// came to it after `joined_by`.
    fn members(
        &self,
        host: HostId,
        after: Option<Did>,
        joined_by: Micros,
        limit: usize,
    ) -> impl Future<Output = Result<Members, Gone>> + Send;

    /// Accounts that the host did not know any more, for the first time at or before `since`.
    fn missing(
        &self,
        host: HostId,
        since: Micros,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Did>, Gone>> + Send;

    /// Keeps how far the host's pass has come.
    fn keep(&self, host: HostId, row: Row) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Keeps, or forgets, that an account needs no look.
    fn excuse(
        &self,
        host: HostId,
        did: Did,
        excused: Option<Excused>,
    ) -> impl Future<Output = Result<(), Gone>> + Send;

    /// What was owed of an account, or of the whole host, before `began`, is looked after.
    fn settle(
        &self,
        host: HostId,
        did: Option<Did>,
        began: Micros,
    ) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Owes single accounts of the host: nothing could be learnt of them.
    fn owe(&self, host: HostId, dids: Vec<Did>) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Sends a finding through the shard of its account, behind all events of it that were
    /// received.
    fn submit(&self, finding: Finding) -> impl Future<Output = Result<Found, Gone>> + Send;
}

/// The store or the verifier has stopped: nothing more can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay has stopped")]
pub struct Gone;

/// A host, as far as it matters whether a pass over it is due.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its number.
    pub id: HostId,
    /// Its name.
    pub name: HostName,
    /// It is neither banned nor refused.
    pub is_followed: bool,
    /// Its live accounts.
    pub accounts: u64,
    /// What was kept of its passes; `None`: there was none.
    pub row: Option<Row>,
    /// What is owed of it.
    pub owed: Option<Owed>,
}

/// What is owed of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Every account of it; else single ones.
    pub whole: bool,
    /// How many single ones.
    pub accounts: u32,
    /// When something was missed last.
    pub newest: Micros,
    /// What.
    pub reason: String,
}

/// How far the pass over a host's whole listing has come, and what the last one that ended found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// When the pass began.
    pub began: Micros,
    /// When it ended; zero: it is under way, and goes on after a restart.
    pub ended: Micros,
    /// Why it began.
    pub reason: String,
    /// Where it goes on: the cursor of the listing behind the last page that was dealt with, or how
    /// far it is with single accounts.
    pub after: String,
    /// What was found so far.
    pub counts: Counts,
    /// When the first account that the host did not know is asked about again; zero: there is
    /// none.
    pub second_look: Micros,
    /// The last pass that ended.
    pub full: Full,
}

/// What a pass has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accounts that the host lists.
    pub listed: u64,
    /// Those that need nothing: the same as here, or as far as can be had.
    pub in_step: u64,
    /// Those that were still apart when they were looked at again.
    pub behind: u64,
    /// Those of which a `#sync` or an `#account` went out.
    pub repaired: u64,
    /// Those whose commit does not verify with the key of a fresh document.
    pub unverifiable: u64,
    /// Those that the host does not know any more, and that wait for a second look.
    pub missing: u64,
    /// Those that could not be looked at.
    pub failed: u64,
}

/// A pass that went over the whole listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Full {
    /// When it ended; zero: there was none.
    pub at: Micros,
    /// Accounts that the host listed.
    pub listed: u64,
    /// Accounts of the host that were held then.
    pub known: u64,
    /// Listed ones that were the same as here when it ended, or are now.
    pub in_step: u64,
    /// Those that were left behind.
    pub behind: u64,
}

/// What is held of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its state.
    pub account: Option<Account>,
    /// Why it needs no look.
    pub excused: Option<Excused>,
}

/// An account that is listed otherwise than we hold it, and need not be looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excused {
    /// The revision that was listed.
    pub rev: String,
    /// The commit that was listed.
    pub head: String,
    /// When it was looked at.
    pub at: Micros,
    /// When the host did not know it for the first time; zero: it does.
    pub missing_since: Micros,
}

/// A page of a host's accounts.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// The accounts.
    pub dids: Vec<Did>,
    /// The last one that was looked at, listed or not; `None`: there are no more.
    pub next: Option<Did>,
}

/// What was found of an account, for its shard to judge.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The host that says it.
    pub host: HostId,
    /// The account.
    pub did: Did,
    /// The block of its newest commit, if that is news.
    pub commit: Option<Bytes>,
    /// What the host says of the account, if that is news.
    pub status: Option<Upstream>,
    /// When the host was asked.
    pub seen: Micros,
}

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Consumers were told.
    Repaired,
    /// It was no news any more.
    InStep,
    /// It does not hold.
    Refused(Reject),
}

impl Counts {
    /// Adds what was found of a page.
    pub(super) fn add(&mut self, page: &Self) {
        let Self { listed, in_step, behind, repaired, unverifiable, missing, failed } = page;
        self.listed += listed;
        self.in_step += in_step;
        self.behind += behind;
        self.repaired += repaired;
        self.unverifiable += unverifiable;
        self.missing += missing;
        self.failed += failed;
    }
}

impl Row {
    /// Whether a pass over the whole listing is under way.
    pub fn is_under_way(&self) -> bool {
        self.began > Micros(0) && self.ended == Micros(0)
    }
}
