//! What comes out: one verdict per ticket, in the order in which it must be logged.

use bytes::Bytes;
use protocol::account::Account;
use protocol::did::Did;
use protocol::frame::Outgoing;
use protocol::host::HostName;
use protocol::ids::{HostId, Micros};
use protocol::keys::PublicKey;
use protocol::reject::Reject;
use protocol::ticket::Ticket;

use crate::command::Done;

/// What a shard says of one event, or has learnt beside it.
#[derive(Debug)]
pub struct Verdict {
    /// Its place in the order of its shard.
    pub mark: Mark,
    /// To be settled with it; `None` for what came of no event.
    pub ticket: Option<Ticket>,
    /// Somebody waits until it is committed.
    pub done: Option<Done>,
    /// What it says.
    pub outcome: Outcome,
}

/// A place in the order of a shard. Once it is settled, the store's copy of what the verdict
/// changed is as new as the shard's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The shard.
    pub shard: usize,
    /// Rises by one with every verdict of the shard; the first is 1.
    pub number: u64,
}

/// What is said of an event.
#[derive(Debug)]
pub enum Outcome {
    /// It goes out.
    Accept(Box<Accepted>),
    /// It is dropped.
    Reject {
        /// Why.
        reject: Reject,
        /// Whose fault it is.
        host: HostId,
        /// The account, if its name is one.
        did: Option<Did>,
        /// The first bytes of the frame, copied; at most [`EXCERPT_BYTES_MAX`].
        excerpt: Bytes,
        /// What it leaves to reconcile.
        gap: Option<Gap>,
    },
    /// Our own decision about an account has changed.
    Decided(Box<Decided>),
    /// A DID document, for the store to keep.
    Learnt(Box<Identity>),
    /// The ticket is settled, nothing else.
    Silence,
}

/// An event that goes out.
#[derive(Debug)]
pub struct Accepted {
    /// The account.
    pub did: Did,
    /// One to three frames, in order: a healed account's `#account` goes before the event, that of
    /// one that is throttled after it.
    pub frames: Vec<Outgoing>,
    /// The account's state after it; `None` leaves the state as it is (an `#identity` that another
    /// host was the first to notice).
    pub account: Option<Account>,
    /// The host that the account belonged to before, if we held it.
    pub was: Option<HostId>,
    /// The event's host has proven that it speaks Sync 1.1.
    pub closes_ratchet: bool,
    /// The commit does not continue the repo that we held, or the sync replaces it.
    pub chain_break: bool,
    /// The account was inactive, and its host says that it is not.
    pub healed: bool,
    /// The account has broken its chain too often: the last frame says that it is throttled.
    pub throttled: bool,
    /// Our own decision about the account has changed with it.
    pub decided: bool,
}

/// What a decision of ours makes of an account.
#[derive(Debug)]
pub struct Decided {
    /// The account.
    pub did: Did,
    /// What consumers are told, if what we publish of the account changes.
    pub frame: Option<Outgoing>,
    /// The account's state after it.
    pub account: Account,
    /// The host that the account belongs to, if any has spoken for it.
    pub was: Option<HostId>,
    /// What this host said of the account was dropped until now, and is to be reconciled (I13).
    pub owed: Option<HostId>,
}

/// Where something was missed (I13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// In an account that we hold.
    Account(Did),
    /// In the event's host: accounts that we do not hold must not fill the store.
    Host,
}

/// What a DID document says, as far as a relay needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The document's own `id`.
    pub did: Did,
    /// The first `#atproto` key.
    pub key: Option<PublicKey>,
    /// The first `#atproto_pds` service.
    pub pds: Option<HostName>,
    /// The first valid `at://` of `alsoKnownAs`.
    pub handle: Option<String>,
    /// When the fetch *began*: what changed before that, it shows.
    pub fetched: Micros,
    /// The directory says that the DID is gone for good; then there is no key and no PDS.
    pub tombstoned: bool,
}

impl Identity {
    /// Whether the documents say different things; when they were fetched is not one of them.
    pub(crate) fn differs_from(&self, other: &Self) -> bool {
        self.key != other.key
            || self.pds != other.pds
            || self.handle != other.handle
            || self.tombstoned != other.tombstoned
    }
}

/// How much of a dropped frame is kept.
pub const EXCERPT_BYTES_MAX: usize = 512;
