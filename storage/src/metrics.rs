//! The stage's metrics: registered once, held here, no label that grows with hosts or accounts.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use protocol::frame::Kind;

/// Handles of every metric of the store.
pub(crate) struct Metrics {
    /// From the beginning of a commit to its publication, fsync included.
    pub(crate) commit_seconds: Histogram,
    /// Entries per commit.
    pub(crate) commit_entries: Histogram,
    /// Bytes of the batch value per commit.
    pub(crate) commit_bytes: Histogram,
    /// Messages that wait in the queue.
    pub(crate) queue_messages: Gauge,
    /// The newest seq.
    pub(crate) head_seq: Gauge,
    /// The oldest seq from which the log is whole.
    pub(crate) floor_seq: Gauge,
    /// Bytes of the tail.
    pub(crate) tail_bytes: Gauge,
    /// Accounts whose commits the log leaves out.
    pub(crate) hidden_accounts: Gauge,
    /// Intervals of watermarks beyond their prefixes.
    pub(crate) watermark_islands: Gauge,
    /// Reads that came from RocksDB.
    pub(crate) disk_reads: Counter,
    /// Bytes of events read from RocksDB.
    pub(crate) disk_read_bytes: Counter,
    /// Reads behind the tail that found what another reader had loaded.
    pub(crate) replay_hits: Counter,
    /// Bytes of what was loaded for such reads.
    pub(crate) replay_cache_bytes: Gauge,
    /// Events that went into the log.
    commits: Counter,
    syncs: Counter,
    identities: Counter,
    accounts: Counter,
    /// Bytes of the log on disk, WAL included.
    pub(crate) log_bytes: Gauge,
    /// Files of batches.
    pub(crate) log_files: Gauge,
    /// The limit of the log's bytes.
    pub(crate) retention_bytes: Gauge,
    /// Files of batches that retention dropped.
    pub(crate) files_dropped: Counter,
}

impl Metrics {
    pub(crate) fn register() -> Self {
        describe();
        let events = |kind: &'static str| counter!("mainstem_storage_events_total", "kind" => kind);
        Self {
            commit_seconds: histogram!("mainstem_storage_commit_seconds"),
            commit_entries: histogram!("mainstem_storage_commit_entries"),
            commit_bytes: histogram!("mainstem_storage_commit_bytes"),
            queue_messages: gauge!("mainstem_storage_queue_messages"),
            head_seq: gauge!("mainstem_storage_head_seq"),
            floor_seq: gauge!("mainstem_storage_floor_seq"),
            tail_bytes: gauge!("mainstem_storage_tail_bytes"),
            hidden_accounts: gauge!("mainstem_storage_hidden_accounts"),
            watermark_islands: gauge!("mainstem_storage_watermark_islands"),
            disk_reads: counter!("mainstem_storage_disk_reads_total"),
            disk_read_bytes: counter!("mainstem_storage_disk_read_bytes_total"),
            replay_hits: counter!("mainstem_storage_replay_hits_total"),
            replay_cache_bytes: gauge!("mainstem_storage_replay_cache_bytes"),
            commits: events("commit"),
            syncs: events("sync"),
            identities: events("identity"),
            accounts: events("account"),
            log_bytes: gauge!("mainstem_storage_log_bytes"),
            log_files: gauge!("mainstem_storage_log_files"),
            retention_bytes: gauge!("mainstem_storage_retention_bytes"),
            files_dropped: counter!("mainstem_storage_files_dropped_total"),
        }
    }

    pub(crate) fn events(&self, kind: Kind) -> &Counter {
        match kind {
            Kind::Commit => &self.commits,
            Kind::Sync => &self.syncs,
            Kind::Identity => &self.identities,
            Kind::Account => &self.accounts,
        }
    }
}

fn describe() {
    for (name, meaning) in HISTOGRAMS {
        describe_histogram!(*name, *meaning);
    }
    for (name, meaning) in GAUGES {
        describe_gauge!(*name, *meaning);
    }
    for (name, meaning) in COUNTERS {
        describe_counter!(*name, *meaning);
    }
}

const HISTOGRAMS: &[(&str, &str)] = &[
    ("mainstem_storage_commit_seconds", "A commit, from its beginning to its publication."),
    ("mainstem_storage_commit_entries", "Entries of a commit."),
    ("mainstem_storage_commit_bytes", "Bytes of a commit's events."),
];

const GAUGES: &[(&str, &str)] = &[
    ("mainstem_storage_queue_messages", "Messages that wait for the sequencer."),
    ("mainstem_storage_head_seq", "The newest seq, a time in microseconds."),
    ("mainstem_storage_floor_seq", "The seq after which the log is whole."),
    ("mainstem_storage_tail_bytes", "Bytes of the newest events in memory."),
    (
        "mainstem_storage_replay_cache_bytes",
        "Bytes of older events in memory, loaded for consumers that replay.",
    ),
    ("mainstem_storage_hidden_accounts", "Accounts whose commits and syncs the log leaves out."),
    ("mainstem_storage_log_bytes", "Bytes of the log on disk, the write-ahead log included."),
    ("mainstem_storage_log_files", "Files of events."),
    ("mainstem_storage_retention_bytes", "What the log's bytes are kept to; 0: not limited."),
    (
        "mainstem_storage_watermark_islands",
        "Stretches of host seqs that are settled before what came ahead of them is.",
    ),
];

const COUNTERS: &[(&str, &str)] = &[
    ("mainstem_storage_events_total", "Events that went into the log, by kind."),
    ("mainstem_storage_disk_reads_total", "Reads of the log that memory did not answer."),
    ("mainstem_storage_disk_read_bytes_total", "Bytes of events read from disk."),
    (
        "mainstem_storage_replay_hits_total",
        "Reads of older events that were in memory for another consumer.",
    ),
    ("mainstem_storage_files_dropped_total", "Files of events that retention dropped."),
];

/// Gauges are floats; a seq below 2^53 is exact in one.
pub(crate) fn exact(number: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a seq is below 2^53; sizes may be rounded")]
    let float = number as f64;
    float
}

/// The same of a size.
pub(crate) fn size(number: usize) -> f64 {
    exact(u64::try_from(number).unwrap_or(u64::MAX))
}
