//! The rules, pure: everything that is known of an event goes in, what becomes of it comes out.
//!
//! In the order of protocol.md section 2: the DID, replays, fields and sizes, `rev` and `time`,
//! then the repo's blocks ([`begin`]); only for what is right so far the look-ups: identity and
//! host, the account's status; then the signature ([`Claim::settle`]). The first failure names the
//! drop, and the name never depends on what a cache held.

mod account;
mod commit;
mod decision;
mod envelope;
mod finding;
mod fuzz;
mod fuzz_signed;
mod identity;
mod inversion;
mod ops;
mod room;
mod speaker;
mod sync;
mod throttle;
mod tombstone;

use std::time::Duration;

use bytes::Bytes;
use protocol::account::{Account, Local, Upstream};
use protocol::did::{Did, DidError};
use protocol::frame::{HostKind, Kind};
use protocol::host::HostName;
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::reject::Reject;
use protocol::tid::Tid;

pub use decision::{decide, over_quota, within_quota};
pub use finding::{Evidence, begin_found};
pub use fuzz::{fuzz_check, fuzz_found};
pub use fuzz_signed::fuzz_signed;
pub use room::Room;
pub use throttle::{lift, lifted_at, moved_in, over_limit};

use crate::identity::Resolution;
use crate::options::Handles;
use crate::verdict::{Accepted, Identity};

/// An event with all that judging it takes, but for what must be looked up.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Its kind.
    pub kind: HostKind,
    /// Its account.
    pub did: &'a Did,
    /// The whole frame.
    pub frame: &'a Bytes,
    /// The host that sent it.
    pub host: HostId,
    /// That host's name.
    pub name: &'a HostName,
    /// The host's epoch when it was received.
    pub epoch: Epoch,
    /// The host's number of it.
    pub seq: HostSeq,
    /// When it was received.
    pub received: Micros,
    /// What this host may leave out.
    pub proof: Proof,
    /// What becomes of handles.
    pub handles: Handles,
    /// The account before it, if we hold it.
    pub prior: Option<&'a Account>,
    /// The revision of the account's last passed `#sync`, if that was within the last minute.
    pub synced: Option<Tid>,
    /// The host has as many accounts as it may have.
    pub host_is_full: bool,
    /// Between the two looks that show that a DID is gone.
    pub tombstone_spacing: Duration,
    /// The time of the judgement.
    pub now: Micros,
}

/// How much of a commit's proof its host owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Sync 1.1: `prevData`, every `prev`, every node.
    Owed,
    /// Nothing yet: what is there is checked.
    NotYet,
    /// Nothing, and nodes may be missing.
    Lenient,
}

/// What look-ups have brought so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The newest document.
    pub identity: Option<&'a Identity>,
    /// The document that was known when the event's turn came.
    pub before: Option<&'a Identity>,
    /// The look-up of a document has failed for good.
    pub unresolved: bool,
    /// When the directory first and last said that it does not know the DID, since it last did.
    pub missing: Option<(Micros, Micros)>,
    /// An `#identity` was heard of a moment ago: the document may be from a replica that lags, and
    /// is asked for again before it convicts.
    pub lagging: bool,
    /// A signature has failed within the last minute by a document that was fetched for it, and no
    /// `#identity` came since.
    pub forged: bool,
    /// The host's answer about the account's status, at most a minute old.
    pub status: Option<&'a Status>,
    /// What the document's handle resolves to.
    pub handle: Hearing<'a>,
}

/// What is known of a handle.
#[derive(Clone, Copy, Debug, Default)]
pub enum Hearing<'a> {
    /// Nothing yet.
    #[default]
    Open,
    /// What this handle resolves to.
    Heard(&'a str, &'a Resolution),
    /// Nothing, and it is not waited for any more.
    Closed,
}

/// A host's answer to `com.atproto.sync.getRepoStatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// What it says of the account.
    Of(Upstream),
    /// It has no such account.
    NotFound,
    /// It does not know the method (401, 404, 501: normal for small implementations).
    MethodMissing,
    /// No usable answer.
    None,
}

/// An event whose every claim holds in itself: what is left is who may say it. Owns what it
/// needs, so that a waiting event is not taken apart twice.
#[derive(Debug)]
pub enum Claim {
    /// A `#commit` or a `#sync`.
    Repo(Box<speaker::RepoClaim>),
    /// An `#identity`, or a legacy kind that means the same.
    Identity(Box<identity::IdentityClaim>),
    /// An `#account`.
    Account(Box<account::AccountClaim>),
    /// A legacy `#tombstone`.
    Tombstone,
    /// What reconciliation found.
    Finding(Box<finding::FindingClaim>),
}

/// What becomes of a claim.
#[derive(Debug)]
pub enum Ruling {
    /// It goes out.
    Accept(Box<Accepted>),
    /// It is dropped.
    Reject(Reject),
    /// Something must be looked up.
    Wait(Need),
    /// Of a finding: one part goes out, the other is refused.
    Part(Box<Accepted>, Reject),
    /// Of a finding: nothing of it is news.
    InStep,
}

/// What must be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any usable document.
    Document,
    /// A document whose fetch began at this time or later, not before it.
    DocumentSince(Micros),
    /// The account's status at the event's host.
    Status,
    /// A document whose fetch began when the event came or later, for its handle alone.
    HandleDocument,
    /// What the document's handle resolves to.
    Handle,
}

/// Checks what an event says of itself and against the account's state, without any look-up.
/// Nothing that is in the room has a say: it is there so that nothing is allocated.
pub fn begin(case: &Case<'_>, room: &mut Room) -> Result<Claim, Reject> {
    if case.is_applied() {
        return Err(Reject::AlreadyApplied);
    }
    match case.kind {
        HostKind::Event(Kind::Commit) => {
            commit::begin(case, room).map(|claim| Claim::Repo(claim.into()))
        }
        HostKind::Event(Kind::Sync) => sync::begin(case).map(|claim| Claim::Repo(claim.into())),
        HostKind::Event(Kind::Account) => {
            account::begin(case).map(|claim| Claim::Account(claim.into()))
        }
        HostKind::Event(Kind::Identity) | HostKind::LegacyHandle | HostKind::LegacyMigrate => {
            identity::begin(case).map(|claim| Claim::Identity(claim.into()))
        }
        HostKind::LegacyTombstone => tombstone::begin(case).map(|()| Claim::Tombstone),
    }
}

impl Claim {
    /// Judges who says it, with what is known so far. A claim that was not accepted stays as it
    /// was.
    pub fn settle(&self, case: &Case<'_>, known: &Known<'_>) -> Ruling {
        let result = match self {
            Self::Repo(claim) => claim.settle(case, known),
            Self::Identity(claim) => claim.settle(case, known),
            Self::Account(claim) => claim.settle(case, known),
            Self::Tombstone => tombstone::settle(case, known),
            Self::Finding(claim) => return claim.settle(case, known),
        };
        match result {
            Ok(accepted) => Ruling::Accept(accepted.into()),
            Err(Stop::Reject(reject)) => Ruling::Reject(reject),
            Err(Stop::Wait(need)) => Ruling::Wait(need),
        }
    }
}

/// The whole way at once, for what needs no look-up beyond this document.
pub fn check(case: &Case<'_>, identity: &Identity) -> Result<Accepted, Reject> {
    let claim = begin(case, &mut Room::default())?;
    let known = Known {
        identity: Some(identity),
        before: Some(identity),
        handle: Hearing::Closed,
        ..Known::default()
    };
    match claim.settle(case, &known) {
        Ruling::Accept(accepted) => Ok(*accepted),
        Ruling::Reject(reject) => Err(reject),
        Ruling::Wait(Need::Status) => Err(Reject::AccountInactive),
        Ruling::Wait(_) => Err(Reject::IdentityUnresolved),
        Ruling::Part(..) | Ruling::InStep => unreachable!("an event has one part"),
    }
}

/// The name of a DID that is none.
pub fn did_reject(error: DidError) -> Reject {
    match error {
        DidError::Syntax => Reject::DidSyntax,
        DidError::Method => Reject::DidMethod,
    }
}

/// Why a claim is not accepted (yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Reject(Reject),
    Wait(Need),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl Case<'_> {
    /// Section 7: each account remembers (host, epoch, host seq) of the last event applied to it,
    /// so that a host that repeats itself after a reconnect repeats nothing to our consumers.
    fn is_applied(&self) -> bool {
        self.prior.is_some_and(|account| {
            let same_count = account.host == self.host && account.epoch == self.epoch;
            same_count && self.seq <= account.host_seq
        })
    }

    /// The account after this event, applied from its host; repo and statuses as they were.
    fn account(&self) -> Account {
        let prior = self.prior;
        Account {
            host: self.host,
            epoch: self.epoch,
            host_seq: self.seq,
            local: self.local(),
            upstream: prior.map_or(Upstream::ACTIVE, |account| account.upstream.clone()),
            conduct: prior.map(|account| account.conduct).unwrap_or_default(),
            repo: prior.and_then(|account| account.repo),
        }
    }

    /// Our own decision about the account; that a new one is over its host's limit is one.
    fn local(&self) -> Local {
        if self.is_over_limit() {
            return decision::OVER_QUOTA;
        }
        self.prior.map(|account| account.local).unwrap_or_default()
    }

    /// Section 2: "new account within the host's account limit (one that migrates in is not new)".
    fn is_over_limit(&self) -> bool {
        let is_new = self
            .prior
            .is_none_or(|account| account.home().is_none() && account.local == Local::None);
        is_new && self.host_is_full
    }

    /// The limit that throttles the account is another host's than the one that speaks for it now.
    fn is_throttled_elsewhere(&self) -> bool {
        self.prior.is_some_and(|it| it.local == decision::OVER_QUOTA && it.host != self.host)
    }

    /// What goes out for this event.
    fn accepted(&self, frames: Vec<protocol::frame::Outgoing>, account: Account) -> Accepted {
        Accepted {
            did: self.did.clone(),
            frames,
            account: Some(account),
            was: self.prior.and_then(Account::home),
            closes_ratchet: false,
            chain_break: false,
            healed: false,
            throttled: false,
            decided: false,
        }
    }
}

#[cfg(test)]
mod tests;
