//! What the next commit will hold: gathered entry by entry, written at once.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use protocol::did::Did;
use protocol::frame::Outgoing;
use protocol::ids::{HostId, Micros, Seq};
use protocol::ticket::Permit;
use rocksdb::WriteBatch;
use tokio::sync::oneshot;

use crate::Error;
use crate::gaps::AccountGap;
use crate::hosts::Host;
use crate::members::Membership;

/// The gathered part of a commit. Owned by the sequencer.
pub(crate) struct Pending {
    /// In the order in which they get their seqs.
    pub(crate) frames: Vec<Unnumbered>,
    /// About how many bytes they will take.
    pub(crate) frames_bytes: usize,
    /// Rows that are final already: accounts, identities, rejects, gaps.
    pub(crate) rows: WriteBatch,
    /// Hosts whose rows changed; written as they are at the end.
    pub(crate) hosts: BTreeSet<HostId>,
    /// Hosts of which something else is owed than before; written as it is at the end.
    pub(crate) owed: BTreeSet<HostId>,
    /// Account gaps that `rows` changes, which the store does not show yet; `None`: settled.
    pub(crate) gaps: HashMap<(HostId, Did), Option<AccountGap>>,
    /// Hosts all of whose account gaps `rows` deletes, but for those in `gaps`.
    pub(crate) gaps_cleared: HashSet<HostId>,
    /// Accounts that `rows` adds to a host, changes there or takes from it (`None`), which the
    /// store does not show yet.
    pub(crate) members: HashMap<(HostId, Did), Option<Membership>>,
    /// Accounts to hide or to show from this commit on.
    pub(crate) hidden: HashMap<Did, bool>,
    /// Hosts that were removed.
    pub(crate) removed: Vec<HostId>,
    pub(crate) domain_bans: Option<Arc<[String]>>,
    pub(crate) floor: Option<Seq>,
    /// The highest mark of each shard; zero if there is none.
    pub(crate) marks: Vec<u64>,
    /// Intake bytes, given back when the commit is done.
    pub(crate) permits: Vec<Permit>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) entries: usize,
    /// Somebody waits for it; else it may go unsynced.
    pub(crate) urgent: bool,
    /// When its first entry came.
    pub(crate) since: Option<Micros>,
}

/// A frame that has no seq yet.
pub(crate) struct Unnumbered {
    pub(crate) frame: Outgoing,
    pub(crate) did_hash: u64,
}

/// Somebody who waits for the commit.
pub(crate) enum Reply {
    Host(Box<Host>, oneshot::Sender<Host>),
    Entry(oneshot::Sender<()>),
    Note(oneshot::Sender<Result<(), Error>>),
    Floor(crossbeam_channel::Sender<()>),
}

impl Pending {
    pub(crate) fn empty(shards: usize) -> Self {
        Self {
            frames: Vec::new(),
            frames_bytes: 0,
            rows: WriteBatch::default(),
            hosts: BTreeSet::new(),
            owed: BTreeSet::new(),
            gaps: HashMap::new(),
            gaps_cleared: HashSet::new(),
            members: HashMap::new(),
            hidden: HashMap::new(),
            removed: Vec::new(),
            domain_bans: None,
            floor: None,
            marks: vec![0; shards],
            permits: Vec::new(),
            replies: Vec::new(),
            entries: 0,
            urgent: false,
            since: None,
        }
    }

    /// Everything gathered; this is empty again.
    pub(crate) fn take(&mut self) -> Self {
        let shards = self.marks.len();
        mem::replace(self, Self::empty(shards))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// Whether it must be written before `bytes` more of frames are added.
    pub(crate) fn is_full_with(&self, bytes: usize) -> bool {
        let gathered = self.frames_bytes + self.rows.size_in_bytes();
        let many = if self.urgent { ENTRIES_MAX } else { LAZY_ENTRIES_MAX };
        !self.is_empty() && (self.entries >= many || gathered + bytes > BYTES_MAX)
    }

    /// Whether nothing more should be waited for.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full_with(0)
    }
}

/// Entries of one commit: what 20,000 events/s bring in 13 ms.
pub(crate) const ENTRIES_MAX: usize = 256;
/// Entries that nobody waits for: a flood of drops is written four times a second at most.
const LAZY_ENTRIES_MAX: usize = 16_384;
/// Bytes of one commit; a single larger event goes alone. Half of a consumer's memory at worst.
pub(crate) const BYTES_MAX: usize = 1 << 20;
