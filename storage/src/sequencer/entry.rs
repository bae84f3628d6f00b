//! What comes into the sequencer's queue: entries from the verifier, commands, the floor.

use bytes::Bytes;
use crossbeam_channel::Sender;
use protocol::did::Did;
use protocol::frame::Outgoing;
use protocol::host::HostName;
use protocol::ids::{HostId, Micros, Seq};
use protocol::ticket::Ticket;
use tokio::sync::oneshot;

use crate::Error;
use crate::accounts::AccountWrite;
use crate::gaps::Gap;
use crate::hosts::{Host, HostNote, Start};
use crate::reconcile::{Excused, ReconcileRow};
use crate::store::records::{ExportRow, IdentityRow};

/// Everything that one event changes; committed as a whole or not at all (I1).
#[derive(Debug, Default)]
pub struct Entry {
    /// The event's ticket: settled here.
    pub ticket: Option<Ticket>,
    /// The shard's own number of this entry.
    pub mark: Option<Mark>,
    /// What goes into the log, in order. Needs [`Entry::did`].
    pub frames: Vec<Outgoing>,
    /// The account that the frames and the account state belong to.
    pub did: Option<Did>,
    /// The account's state after the event. Needs [`Entry::did`].
    pub account: Option<AccountWrite>,
    /// The event was dropped, and the host's ring of rejects shows it.
    pub reject: Option<RejectNote>,
    /// Something was missed: reconciliation owes it (I13).
    pub gap: Option<Gap>,
    /// A resolved identity, kept for the next start.
    pub identity: Option<IdentityRow>,
    /// How far the PLC export has been read; what it brought was submitted before.
    pub export: Option<ExportRow>,
    /// This host has proven that it speaks Sync 1.1.
    pub closes_ratchet: Option<HostId>,
    /// Told when this entry is committed; dropped if it never will be.
    pub done: Option<oneshot::Sender<()>>,
}

/// Which entry of which shard this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The shard; below [`crate::Options::shards`].
    pub shard: usize,
    /// Rises within the shard, from 1.
    pub number: u64,
}

/// A dropped event, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectNote {
    /// The offence.
    pub name: &'static str,
    /// The host that sent it.
    pub host: HostId,
    /// The account, if it is known.
    pub did: Option<Did>,
    /// The first bytes of the frame; 512 of them are kept.
    pub excerpt: Bytes,
    /// When it came.
    pub at: Micros,
}

/// One thing for the sequencer to do. The queue is the only way to change the store (I11).
pub(crate) enum Message {
    /// From a shard, in the order in which they must be logged.
    Entries(Vec<Entry>),
    /// Answered with the host, once it is committed.
    AddHost { name: HostName, start: Start, level: u8, reply: oneshot::Sender<Host> },
    /// Answered once it is committed, if anybody asks.
    Note { note: HostNote, reply: Option<oneshot::Sender<Result<(), Error>>> },
    /// Answered once it is committed.
    Command { command: Command, reply: oneshot::Sender<Result<(), Error>> },
    /// The log below this seq may be dropped once this is answered.
    Floor { floor: Seq, reply: Sender<()> },
    /// Commit what came before this and end.
    Stop,
}

/// What somebody asks for and waits for.
pub(crate) enum Command {
    /// What is owed of an account, or of the whole host, was looked at by a reconciliation that
    /// began then.
    SettleGap { host: HostId, did: Option<Did>, began: Micros },
    /// How far a host's reconciliation is.
    Reconcile { host: HostId, row: ReconcileRow },
    /// An account needs no further look, or does again.
    Excuse { host: HostId, did: Did, row: Option<Excused> },
    /// The host goes, and all that is kept of it.
    RemoveHost { host: HostId },
    /// All patterns of names that are refused.
    BanDomains { patterns: Vec<String> },
}

impl Entry {
    /// Whether somebody waits for it: it then takes part in the next group commit. Anything else
    /// (settled drops, rejects, gaps, identities) rides along or goes unsynced once a second.
    pub(crate) fn is_urgent(&self) -> bool {
        let changes = self.account.is_some() || self.closes_ratchet.is_some();
        !self.frames.is_empty() || changes || self.done.is_some()
    }
}
