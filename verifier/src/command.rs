//! Commands: what is decided or learnt about accounts beside their events. A command goes through
//! the shard of its account as an event does, and leaves as a verdict (I11).

use protocol::account::Local;
use protocol::did::Did;
use protocol::ids::HostId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::verdict::Identity;

/// Something to do about accounts.
#[derive(Debug)]
pub enum Command {
    /// What this relay decides about an account, known or not.
    Decide {
        /// The account.
        did: Did,
        /// The decision; it replaces the one before.
        local: Local,
    },
    /// Whether an account is one too many for its host's limit. Takes the place of no other
    /// decision, nor does its end; an account that belongs to another host by now, or that we do
    /// not hold, is left alone.
    Quota {
        /// The account.
        did: Did,
        /// The host.
        host: HostId,
        /// It is throttled for it, or is not any more, and is then to be reconciled.
        throttled: bool,
    },
    /// Documents that were read elsewhere. One that is newer than the one held takes its place; the
    /// others change nothing.
    Learn(Vec<Identity>),
}

/// The verifier has stopped, or the store has: what was asked for may not have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the verifier has stopped")]
pub struct Stopped;

/// Told when what it stands for is committed; dropped if it never will be.
pub type Done = oneshot::Sender<()>;

/// One shard's part of a command.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) work: Work,
    pub(crate) done: Done,
    /// Its place in the intake; given back when the shard has done it.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// What an [`Order`] is about.
#[derive(Debug)]
pub(crate) enum Work {
    Decide {
        did: Did,
        local: Local,
    },
    Quota {
        did: Did,
        host: HostId,
        throttled: bool,
    },
    /// At most [`LEARN_MAX`] documents.
    Learn(Vec<Identity>),
}

/// Documents of one order: what a shard takes in while its events wait, some 0.3 ms.
pub(crate) const LEARN_MAX: usize = 64;
/// Orders that wait in front of one shard. A full one holds 64 documents, 30 kB: 8 MB a shard.
pub(crate) const ORDERS_MAX: usize = 256;
