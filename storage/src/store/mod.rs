//! The database: families, rows by key, one write. What the rows hold is in `keys`, `records` and
//! `batch`; that only the sequencer writes is the sequencer's to uphold (I11).

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::did::Did;
use protocol::ids::{HostId, Micros, Seq};
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBRawIteratorWithThreadMode, Direction, Env,
    IteratorMode, LiveFile, ReadOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint,
};

use crate::gaps::HostGap;
use crate::hosts::Host;
use crate::{Compression, Error};

pub(crate) mod batch;
#[cfg(test)]
pub(crate) mod faults;
pub(crate) mod fields;
mod format;
#[cfg(test)]
mod golden;
pub(crate) mod guard;
pub(crate) mod keys;
mod manifest;
pub(crate) mod options;
pub(crate) mod records;
pub(crate) mod wal;

pub(crate) use options::Sizes;

/// An open database.
pub(crate) struct Store {
    db: DB,
    dir: PathBuf,
    /// What was handed to RocksDB since the start.
    written_bytes: AtomicU64,
    #[cfg(test)]
    pub(crate) faults: faults::Faults,
    /// Invariant: outlives `db`, which keeps its files in it.
    memory: Option<Memory>,
}

/// A file system in memory, for tests. What was written in it is there when a store is opened in
/// it again.
#[derive(Clone)]
pub struct Memory(Env);

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// First seq → wire bytes and index.
    Batches,
    /// DID → state.
    Accounts,
    /// Host id → row.
    Hosts,
    /// (Host id, DID) → since when: which accounts count on a host.
    HostAccounts,
    /// (Host id, since when, DID) → nothing: which of them are throttled for being over its limit.
    Throttled,
    /// What is owed.
    Gaps,
    /// How far each host's reconciliation is, and which accounts need no look.
    Reconcile,
    /// DID → key, PDS, fetched at.
    Identities,
    /// (Host id, place) → one of the last rejects.
    Rejects,
    /// DID → the seq since which the log leaves out its commits.
    Hidden,
    /// DID → what this relay has decided about the account.
    Decisions,
    /// Format, head, clock, floor, mark.
    Meta,
}

/// Whether a write waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For the disk.
    Disk,
    /// For the operating system.
    Os,
}

/// What a start needs to know.
pub(crate) struct Found {
    pub(crate) head: Seq,
    /// The clock of the last commit; zero in an empty store.
    pub(crate) clock: Micros,
    pub(crate) floor: Seq,
    /// Numbers up to this may have been given out; zero if none were reserved.
    pub(crate) mark: Seq,
    /// When the log began; `None` in a store that was just made.
    pub(crate) begin: Option<Seq>,
    pub(crate) hosts: Vec<Host>,
    /// The last number that was given to a host.
    pub(crate) last_host: HostId,
    pub(crate) domain_bans: Vec<String>,
    pub(crate) owed: Vec<(HostId, HostGap)>,
    pub(crate) hidden: Vec<(Did, Seq)>,
}

impl Family {
    pub(crate) const ALL: [Self; 12] = [
        Self::Batches,
        Self::Accounts,
        Self::Hosts,
        Self::HostAccounts,
        Self::Throttled,
        Self::Gaps,
        Self::Reconcile,
        Self::Identities,
        Self::Rejects,
        Self::Hidden,
        Self::Decisions,
        Self::Meta,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Accounts => "accounts",
            Self::Hosts => "hosts",
            Self::HostAccounts => "host_accounts",
            Self::Throttled => "throttled",
            Self::Gaps => "gaps",
            Self::Reconcile => "reconcile",
            Self::Identities => "identities",
            Self::Rejects => "rejects",
            Self::Hidden => "hidden",
            Self::Decisions => "decisions",
            Self::Meta => "meta",
        }
    }

    pub(crate) fn corrupt(self, what: &'static str) -> Error {
        Error::Corrupt { family: self.name(), at: String::new(), what }
    }

    /// A damaged row, by its key.
    pub(crate) fn corrupt_at(self, key: &[u8], what: &'static str) -> Error {
        Error::Corrupt { family: self.name(), at: format!(", {}", keys::describe(self, key)), what }
    }
}

impl Memory {
    /// An empty one.
    pub fn empty() -> Result<Self, Error> {
        Ok(Self(Env::mem_env()?))
    }

    pub(crate) fn env(&self) -> &Env {
        &self.0
    }
}

impl Store {
    /// Opens the database, or makes it; whatever format it had, it has this one.
    pub(crate) fn open(
        dir: &Path,
        in_memory: Option<Memory>,
        sizes: Sizes,
        compression: Compression,
    ) -> Result<Self, Error> {
        let store = Self::open_as_it_is(dir, in_memory, sizes, compression)?;
        format::adopt(&store)?;
        Ok(store)
    }

    fn open_as_it_is(
        dir: &Path,
        in_memory: Option<Memory>,
        sizes: Sizes,
        compression: Compression,
    ) -> Result<Self, Error> {
        let database = options::database(in_memory.as_ref(), sizes);
        let families = options::families(sizes, compression);
        let db = DB::open_cf_descriptors(&database, dir, families)?;
        Ok(Self {
            db,
            dir: dir.to_owned(),
            written_bytes: AtomicU64::new(0),
            #[cfg(test)]
            faults: faults::Faults::default(),
            memory: in_memory,
        })
    }

    /// Opens these families of a database to read them as they lie there: what its write-ahead log
    /// holds is replayed in memory, and nothing is written.
    pub(crate) fn read_only(dir: &Path, families: &[Family]) -> Result<Self, Error> {
        let mut database = options::database(None, Sizes::of(None));
        database.create_if_missing(false);
        database.create_missing_column_families(false);
        let named = |descriptor: &ColumnFamilyDescriptor| {
            families.iter().any(|family| family.name() == descriptor.name())
        };
        let families =
            options::families(Sizes::of(None), Compression::None).into_iter().filter(named);
        let db = DB::open_cf_descriptors_read_only(&database, dir, families, false)?;
        Ok(Self {
            db,
            dir: dir.to_owned(),
            written_bytes: AtomicU64::new(0),
            #[cfg(test)]
            faults: faults::Faults::default(),
            memory: None,
        })
    }

    /// An iterator that stands nowhere yet.
    pub(crate) fn iterate(
        &self,
        family: Family,
        options: ReadOptions,
    ) -> DBRawIteratorWithThreadMode<'_, DB> {
        self.db.raw_iterator_cf_opt(self.family(family), options)
    }

    /// RocksDB's files of data.
    pub(crate) fn files(&self) -> Result<Vec<LiveFile>, Error> {
        Ok(self.db.live_files()?)
    }

    /// How often a flush or a compaction has failed since the database was opened.
    pub(crate) fn background_errors(&self) -> Result<u64, Error> {
        let count = self.db.property_int_value(rocksdb::properties::BACKGROUND_ERRORS)?;
        Ok(count.unwrap_or(0))
    }

    /// Writes a copy of the database as it is now into a folder that is not there; files that
    /// never change again are linked instead, if it is on the same file system.
    pub(crate) fn checkpoint(&self, dir: &Path) -> Result<(), Error> {
        // The write-ahead log is copied, 256 MiB at most: flushing it into files first would hold
        // up commits while all families change to new buffers.
        Ok(Checkpoint::new(&self.db)?.create_checkpoint_with_log_size(dir, u64::MAX)?)
    }

    pub(crate) fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("every family is opened at start")
    }

    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.db.get_cf(self.family(family), key)?)
    }

    /// Writes all of it or nothing (I1).
    pub(crate) fn write(&self, rows: WriteBatch, wait: Wait) -> Result<(), Error> {
        #[cfg(test)]
        self.faults.before_write(wait)?;
        self.put(rows, wait)?;
        #[cfg(test)]
        self.faults.after_write()?;
        Ok(())
    }

    fn put(&self, rows: WriteBatch, wait: Wait) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(wait == Wait::Disk);
        let bytes = u64::try_from(rows.size_in_bytes()).unwrap_or(u64::MAX);
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(self.db.write_opt(rows, &options)?)
    }

    /// Waits until the disk has everything written so far.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        // A synced write that changes nothing: a WAL syncs in order. (`flush_wal` does the same,
        // but not on a file system in memory.)
        let mut nothing = WriteBatch::default();
        nothing.put_log_data(b"sync");
        self.write(nothing, Wait::Disk)
    }

    /// An iterator over the batches up to and including `last`. Its blocks do not push rows of
    /// accounts out of the cache.
    pub(crate) fn batches(&self, last: Seq) -> DBRawIteratorWithThreadMode<'_, DB> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_BYTES);
        let end = last.get().saturating_add(1).to_be_bytes();
        options.set_iterate_upper_bound(end);
        self.db.raw_iterator_cf_opt(self.family(Family::Batches), options)
    }

    /// Rows of a family from `from` to `to` (exclusive), at most `limit`. Their blocks do not push
    /// what every event needs out of the cache: a host may have millions of accounts.
    pub(crate) fn range(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyAndRow>, Error> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mode = IteratorMode::From(from, Direction::Forward);
        let rows = self.db.iterator_cf_opt(self.family(family), options, mode).take(limit);
        rows.map(|row| Ok(row.map(|(key, row)| KeyAndRow { key: key.into(), row: row.into() })?))
            .collect()
    }

    /// The files of the batches, oldest first: their bytes, and the seqs of their first and last
    /// batches.
    pub(crate) fn batch_files(&self) -> Result<Vec<BatchFile>, Error> {
        let mut files = Vec::new();
        for file in self.db.live_files()? {
            if file.column_family_name != Family::Batches.name() {
                continue;
            }
            let seq = |key: &Option<Vec<u8>>| key.as_deref().and_then(keys::batch_first);
            let (Some(first), Some(last)) = (seq(&file.start_key), seq(&file.end_key)) else {
                return Err(Family::Batches.corrupt("a file without keys"));
            };
            let bytes = u64::try_from(file.size).unwrap_or(u64::MAX);
            let level = file.level;
            files.push(BatchFile { first, last, bytes, level });
        }
        files.sort_by_key(|file| file.first);
        Ok(files)
    }

    /// What was written since the start, as it was written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// What the folder takes of the disk beside files of rows, nearly all of it the WAL, with the
    /// room that it has been given ahead; nothing of a store in memory.
    pub(crate) fn other_bytes(&self) -> Result<u64, Error> {
        if self.memory.is_some() {
            return Ok(0);
        }
        let failed = |error| Error::Io { what: "list the data folder", source: Arc::new(error) };
        let mut bytes = 0;
        for file in std::fs::read_dir(&self.dir).map_err(failed)? {
            let file = file.map_err(failed)?;
            if file.file_name().as_encoded_bytes().ends_with(b".sst") {
                continue;
            }
            match file.metadata() {
                Ok(file) => bytes += file.blocks() * BLOCK_BYTES,
                // Deleted meanwhile: RocksDB needs it no more.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(bytes)
    }

    /// Drops the files of batches that lie wholly in `from..=to`. Blocks the caller for up to
    /// some 20 ms a file. Only what the committed floor has given up may lie there.
    pub(crate) fn drop_batch_files(&self, from: Seq, to: Seq) -> Result<(), Error> {
        let family = self.family(Family::Batches);
        Ok(self.db.delete_file_in_range_cf(family, keys::batch(from), keys::batch(to))?)
    }

    /// What lies in the cache of blocks, which all families share.
    #[cfg(test)]
    pub(crate) fn cached_bytes(&self) -> u64 {
        let usage = rocksdb::properties::BLOCK_CACHE_USAGE;
        self.db.property_int_value_cf(self.family(Family::Accounts), usage).unwrap().unwrap()
    }

    /// Has RocksDB read and write every row of accounts, as it does by itself when there are many.
    #[cfg(test)]
    pub(crate) fn compact_accounts(&self) {
        let family = self.family(Family::Accounts);
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
    }

    /// Writes every family's rows to a file of its own, as a full buffer does.
    #[cfg(test)]
    pub(crate) fn flush_all(&self) {
        Family::ALL
            .iter()
            .for_each(|family| self.db.flush_cf(self.family(*family)).expect("flush"));
    }

    /// Writes the batches to a file. What is committed next goes to a log of its own, and the log
    /// before is kept for the rows of other families.
    #[cfg(test)]
    pub(crate) fn flush_batches(&self) {
        self.db.flush_cf(self.family(Family::Batches)).expect("flush");
    }

    /// Flushes the batches and moves them down, as time and load do by themselves.
    #[cfg(test)]
    pub(crate) fn flush_batches_down(&self) {
        let family = self.family(Family::Batches);
        self.db.flush_cf(family).expect("flush");
        self.db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
    }

    /// The newest seq, and the clock of its commit; zeros in an empty store.
    pub(crate) fn head(&self) -> Result<(Seq, Micros), Error> {
        let head = self.meta(keys::META_HEAD, records::read_head)?;
        Ok(head.unwrap_or((Seq::ZERO, Micros(0))))
    }

    fn meta<T>(&self, key: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, Error> {
        let row = self.get(Family::Meta, key)?;
        row.map(|row| read(&row).ok_or_else(|| Family::Meta.corrupt_at(key, UNREADABLE)))
            .transpose()
    }

    /// Reads what a start needs, and checks that it fits together.
    pub(crate) fn found(&self) -> Result<Found, Error> {
        let (head, clock) = self.head()?;
        let floor = self.meta(keys::META_FLOOR, records::read_seq)?.unwrap_or(Seq::ZERO);
        let mark = self.meta(keys::META_MARK, records::read_seq)?.unwrap_or(Seq::ZERO);
        let begin = self.meta(keys::META_BEGIN, records::read_seq)?;
        let last_host = self.meta(keys::META_LAST_HOST, records::read_host_id)?;
        let domain_bans = self.meta(keys::META_DOMAIN_BANS, records::read_lines)?;
        self.check_newest_batch(head)?;
        let hosts = self.read_all(Family::Hosts, |key, row| {
            records::read_host(HostId(u32::from_be_bytes(key.try_into().ok()?)), row)
        })?;
        let hidden = self.read_all(Family::Hidden, |key, row| {
            Some((Did::from_key(key)?, records::read_seq(row)?))
        })?;
        let (from, to) = keys::gap_hosts();
        let mut owed = Vec::new();
        for KeyAndRow { key, row } in self.range(Family::Gaps, &from, Some(&to), usize::MAX)? {
            let gap = keys::gap_host_id(&key).zip(records::read_host_gap(&row));
            owed.push(gap.ok_or_else(|| Family::Gaps.corrupt_at(&key, UNREADABLE))?);
        }
        let (last_host, domain_bans) =
            (last_host.unwrap_or(HostId::NOBODY), domain_bans.unwrap_or_default());
        Ok(Found { head, clock, floor, mark, begin, hosts, last_host, domain_bans, owed, hidden })
    }

    /// Writes down when the log began. Once, before the first batch.
    pub(crate) fn begin(&self, begin: Seq) -> Result<(), Error> {
        let mut rows = WriteBatch::default();
        rows.put_cf(self.family(Family::Meta), keys::META_BEGIN, records::seq(begin));
        self.write(rows, Wait::Disk)
    }

    /// Writes down that numbers up to this may be given out, and waits for the disk: it has
    /// everything written before, too.
    pub(crate) fn mark(&self, mark: Seq) -> Result<(), Error> {
        let mut rows = WriteBatch::default();
        rows.put_cf(self.family(Family::Meta), keys::META_MARK, records::seq(mark));
        // Faults of tests are meant for the commit that follows.
        self.put(rows, Wait::Disk)
    }

    // I1: the head and the batch that it is the end of were written together.
    fn check_newest_batch(&self, head: Seq) -> Result<(), Error> {
        let family = self.family(Family::Batches);
        let mut batches = self.db.raw_iterator_cf(family);
        batches.seek_to_last();
        let newest = match batches.value() {
            None => {
                batches.status()?;
                Seq::ZERO
            }
            Some(value) => batch::View::read(value)
                .ok_or_else(|| {
                    Family::Batches.corrupt_at(batches.key().unwrap_or_default(), UNREADABLE)
                })?
                .last(),
        };
        if newest != head {
            return Err(Family::Meta.corrupt("the head is not the end of the newest batch"));
        }
        Ok(())
    }

    fn read_all<T>(
        &self,
        family: Family,
        read: impl Fn(&[u8], &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut rows = Vec::new();
        for row in self.db.iterator_cf(self.family(family), IteratorMode::Start) {
            let (key, value) = row?;
            rows.push(read(&key, &value).ok_or_else(|| family.corrupt_at(&key, UNREADABLE))?);
        }
        Ok(rows)
    }
}

/// A row as it is stored.
pub(crate) struct KeyAndRow {
    pub(crate) key: Vec<u8>,
    pub(crate) row: Vec<u8>,
}

/// A file of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchFile {
    /// First seq of its first batch.
    pub(crate) first: Seq,
    /// First seq of its last batch.
    pub(crate) last: Seq,
    pub(crate) bytes: u64,
    /// Zero: just flushed; it can be dropped once it has been moved further down.
    pub(crate) level: i32,
}

/// What `stat` counts in.
const BLOCK_BYTES: u64 = 512;
/// What is said of a row that is not what was written.
pub(crate) const UNREADABLE: &str = "it does not read as what was written";
/// A replay reads batches one after the other.
const READAHEAD_BYTES: usize = 512 << 10;

#[cfg(test)]
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
