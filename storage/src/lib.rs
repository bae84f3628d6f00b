//! Order and keep: the one writer, the log that is read from any seq, and the state beside it.
//!
//! In: [`Entry`]s (what a verifier says of an event) and commands about hosts.
//! Out: the [`Log`] from any seq; accounts, identities and hosts by key.
//! Upholds: I1, I2, I3, I5, I6 (a failed write ends the process), I7, I8, I11, I13.
//! Knows nothing of: sockets, consumers, identities (it keeps their rows), `Reject`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::did::Did;
use protocol::ids::{HostId, Micros, Seq};
use protocol::tripwire::Tripwire;

mod handle;

mod sequencer;

mod log;

mod store;

mod accounts;
mod gaps;
mod hosts;
mod members;
mod reconcile;
mod retention;

mod backup;
pub mod check;

mod failure;
#[cfg(test)]
mod fixture;
mod metrics;
mod remedy;

pub use accounts::AccountWrite;
pub use backup::{Backup, BackupError, free_bytes};
pub use gaps::{AccountGap, Gap, HostGap};
pub use handle::{Handle, open};
pub use hosts::{Host, HostNote, Override, Start};
pub use log::{Chunk, Follower, Log, Read};
pub use members::Member;
pub use reconcile::{Excused, ReconcileRow};
pub use sequencer::entry::{Entry, Mark, RejectNote};
pub use store::Memory;
pub use store::records::{ExportRow, IdentityRow, RejectRow};

/// The time: wall clock at start plus monotonic time since, so that it never jumps while the
/// process runs.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// The folder of the store; made if it is not there.
    pub dir: PathBuf,
    /// Keeps everything in this memory instead of on the disk (for tests).
    pub in_memory: Option<Memory>,
    /// What a commit waits for.
    pub durability: Durability,
    /// Least time between the beginnings of two commits under load.
    pub commit_interval: Duration,
    /// How long events are kept.
    pub retention: Duration,
    /// How many bytes of events are kept, if that ends earlier (config allows at least 4 GiB).
    pub retention_bytes: Option<u64>,
    /// How the log's files are written; those of earlier starts are read, however they are.
    pub compression: Compression,
    /// Bytes of the newest batches that stay in memory.
    pub tail_bytes: usize,
    /// The time.
    pub clock: Clock,
    /// Start although the clock is implausibly far ahead of the last run's.
    pub accept_clock: bool,
    /// How many shards number their entries with [`Mark`]s.
    pub shards: usize,
    /// Where tests end the process.
    pub tripwire: Tripwire,
}

/// What a commit waits for before anybody sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The disk has it (I2).
    Fsync,
    /// The operating system has it: it survives a crash of the process, not of the machine.
    Os,
}

/// How what is written to the log's files is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// A little, for little CPU.
    Lz4,
    /// Well, for more CPU.
    Zstd,
}

/// Why the store cannot go on. Every one of them ends the process; restart is the tested path
/// (I6).
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// RocksDB failed. It names the file, if it was one.
    #[error("{text}. {remedy}", text = remedy::text(.0), remedy = remedy::of(.0))]
    Rocks(#[from] rocksdb::Error),
    /// RocksDB failed behind the writes, at moving data within its files; writes may still pass.
    #[error("a flush or compaction failed: {0}. {remedy}", remedy = remedy::of_text(.0))]
    Background(String),
    /// The write-ahead log has intact commits behind a damaged one.
    #[error(
        "{file} is damaged at byte {at}, and {commits} commits behind that are intact: no crash \
         leaves that with --durability fsync (if it ran with os and the power was cut, start it \
         once so). {remedy}", remedy = remedy::DAMAGED
    )]
    WalHole {
        /// The file of the log.
        file: String,
        /// Where the damage begins.
        at: u64,
        /// Commits of events that would be lost.
        commits: u64,
    },
    /// A file of the write-ahead log that must be there is not.
    #[error(
        "the write-ahead log is missing: {oldest:06}.log or a later one must be in {dir}, and what \
         was committed since the last start may be in that file only. {remedy}",
        dir = .dir.display(), remedy = remedy::DAMAGED
    )]
    WalMissing {
        /// The folder.
        dir: PathBuf,
        /// The number of the oldest file that would do.
        oldest: u64,
    },
    /// The folder holds another program's database, or a part of ours.
    #[error("{dir} is no data folder of this relay: {why}. {remedy}", remedy = remedy::FOREIGN)]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// What is in it, or missing.
        why: String,
    },
    /// The store's folder or a thread could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: Arc<std::io::Error>,
    },
    /// A row that we wrote does not read back.
    #[error("damaged row in family {family}{at}: {what}. {remedy}", remedy = remedy::DAMAGED)]
    Corrupt {
        /// The column family.
        family: &'static str,
        /// The row, as text: `, key 01ab…`; empty if it is not one row.
        at: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Written by another version.
    #[error(
        "{} has the store format {found}, this version reads {oldest} to {newest}: start it with \
         the version that wrote it or a newer one, or give an empty folder; see \
         docs/operations.md, \"Upgrade\"",
        dir.display()
    )]
    Format {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The oldest that this version reads.
        oldest: u32,
        /// The newest, which it writes.
        newest: u32,
    },
    /// The clock is implausibly far ahead of the last commit.
    #[error(
        "the clock ({clock} us) is {days} days ahead of the last commit ({last} us); \
         if it is right, start once with --accept-clock"
    )]
    ClockAhead {
        /// The clock.
        clock: u64,
        /// The clock of the last commit.
        last: u64,
        /// The difference.
        days: u64,
    },
    /// The next number would not be exact in every client.
    #[error("no sequence numbers are left after {0}")]
    SeqExhausted(Seq),
    /// An entry or a command names a host that was never added.
    #[error("host {0} is not in the store")]
    UnknownHost(HostId),
    /// An entry contradicts itself or the state: a bug of ours.
    #[error("impossible entry: {0}")]
    Impossible(&'static str),
    /// The sequencer has stopped.
    #[error("the sequencer has stopped")]
    Stopped,
    /// The sequencer panicked: a bug of ours.
    #[error("the sequencer panicked")]
    Panicked,
    /// A write that a test made fail.
    #[cfg(test)]
    #[error("injected failure")]
    Injected,
}

impl Error {
    /// An identity's row reads, but its key is none: only whoever knows keys can tell.
    pub fn damaged_identity(did: &Did) -> Self {
        store::Family::Identities.corrupt_at(&store::keys::account(did), "its key is no key")
    }
}
