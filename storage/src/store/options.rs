//! RocksDB's options. Memory is budgeted as a whole (architecture.md, "Memory"): what does not
//! stand here must not grow with the data.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DBRecoveryMode, Options,
};

use super::{Family, Memory};
use crate::Compression;

/// How large the parts of the database are that the log passes through before its oldest end can
/// be dropped: all that retention by bytes cannot take away must be a small part of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// A file of batches: one write buffer, since compaction only moves files.
    batches_file_bytes: usize,
    wal_bytes_max: u64,
}

impl Sizes {
    /// For a log of at most so many bytes. From 4 GiB on they are the largest; smaller logs are
    /// for tests, and shaped alike.
    pub(crate) fn of(retention_bytes: Option<u64>) -> Self {
        let limit = retention_bytes.unwrap_or(u64::MAX);
        let file = usize::try_from(limit / FILES_PER_LIMIT).unwrap_or(usize::MAX);
        Self {
            batches_file_bytes: file.clamp(BATCHES_FILE_BYTES_MIN, BATCHES_FILE_BYTES),
            wal_bytes_max: (limit / WALS_PER_LIMIT).clamp(WAL_BYTES_MIN, WAL_BYTES_MAX),
        }
    }
}

/// Options of the database as a whole.
pub(crate) fn database(in_memory: Option<&Memory>, sizes: Sizes) -> Options {
    let mut options = Options::default();
    if let Some(memory) = in_memory {
        options.set_env(memory.env());
    }
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_max_total_wal_size(sizes.wal_bytes_max);
    // A torn tail of the WAL is what a crash leaves. What was synced lies before it, so that a
    // start recovers at least everything that was ever visible (I2), and a prefix of the rest.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    // There is one writer (I11): what serves several only costs.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_skip_stats_update_on_db_open(true);
    options.set_bytes_per_sync(SYNC_STEP_BYTES);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Options for a look into a database that somebody else may have written. Read-only, with all
/// else as RocksDB has it: only that a log which the MANIFEST names is expected, not struck from
/// there. That would be a change, for which a database that is only read has no room: RocksDB
/// then reads through a null pointer.
pub(super) fn glance() -> Options {
    let mut options = Options::default();
    options.set_track_and_verify_wals_in_manifest(true);
    options
}

/// Every column family with its options.
pub(crate) fn families(sizes: Sizes, compression: Compression) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let descriptor = |family: &Family| {
        let options = match family {
            Family::Batches => batches(&cache, sizes, compression),
            Family::Accounts | Family::HostAccounts | Family::Identities => by_did(&cache),
            Family::Hosts
            | Family::Throttled
            | Family::Gaps
            | Family::Reconcile
            | Family::Rejects
            | Family::Hidden
            | Family::Decisions
            | Family::Meta => small(&cache),
        };
        ColumnFamilyDescriptor::new(family.name(), options)
    };
    Family::ALL.iter().map(descriptor).collect()
}

// Keys only ever rise and are dropped from the low end: files do not overlap, so that compaction
// moves them down without rewriting a byte, and retention drops whole files. What compression
// saves and costs: docs/decisions/0008.
fn batches(cache: &Cache, sizes: Sizes, compression: Compression) -> Options {
    let mut options = any();
    // Of every level alike: a file that would be compressed otherwise further down could not be
    // moved there.
    options.set_compression_type(match compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
        Compression::Zstd => DBCompressionType::Zstd,
    });
    options.set_write_buffer_size(sizes.batches_file_bytes);
    let file_bytes = u64::try_from(sizes.batches_file_bytes).unwrap_or(u64::MAX);
    options.set_target_file_size_base(file_bytes);
    options.set_max_bytes_for_level_base(32 * file_bytes);
    let mut table = table(cache);
    table.set_block_size(64 << 10);
    options.set_block_based_table_factory(&table);
    options
}

// Point reads by DID, a billion rows: filters and indexes are partitioned and live in the block
// cache, so that opening costs nothing and memory does not grow with the rows.
fn by_did(cache: &Cache) -> Options {
    let mut options = any();
    options.set_write_buffer_size(ROWS_BUFFER_BYTES);
    let mut table = table(cache);
    table.set_block_size(4 << 10);
    table.set_bloom_filter(10.0, false);
    table.set_partition_filters(true);
    table.set_optimize_filters_for_memory(true);
    table.set_whole_key_filtering(true);
    options.set_block_based_table_factory(&table);
    options
}

fn small(cache: &Cache) -> Options {
    let mut options = any();
    options.set_write_buffer_size(SMALL_BUFFER_BYTES);
    let mut table = table(cache);
    table.set_block_size(4 << 10);
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
    options
}

fn any() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(6);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_metadata_block_size(4 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_top_level_index_and_filter(true);
    table
}

/// All families' write buffers together.
const WRITE_BUFFERS_BYTES: usize = 48 << 20;
/// What one file of the log holds: 16,000 files of 520 GB, and a 128th of the least limit.
const BATCHES_FILE_BYTES: usize = 32 << 20;
const BATCHES_FILE_BYTES_MIN: usize = 256 << 10;
const FILES_PER_LIMIT: u64 = 128;
const ROWS_BUFFER_BYTES: usize = 16 << 20;
const SMALL_BUFFER_BYTES: usize = 4 << 20;
/// Blocks of all families: indexes, filters, rows of accounts. Batches pass it by.
const BLOCK_CACHE_BYTES: usize = 16 << 20;
/// What a start has to replay at most: about a second of work.
const WAL_BYTES_MAX: u64 = 256 << 20;
const WAL_BYTES_MIN: u64 = 2 << 20;
const WALS_PER_LIMIT: u64 = 16;
/// Each open file costs a few KiB outside the block cache.
const OPEN_FILES_MAX: i32 = 1024;
const BACKGROUND_JOBS: i32 = 2;
/// Flushes write in steps, so that the log's fsyncs never wait behind a large one.
const SYNC_STEP_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;
    use crate::{Options, open};

    #[test]
    fn what_retention_cannot_drop_is_a_small_part_of_the_limit() {
        for limit in [64 << 20, 1 << 30, 4 << 30, 500 << 30] {
            let Sizes { batches_file_bytes, wal_bytes_max } = Sizes::of(Some(limit));
            // A file that is being written, five on the first level, and the WAL.
            let part = 6 * u64::try_from(batches_file_bytes).unwrap() + wal_bytes_max;
            assert!(part <= limit / 8, "{part} of {limit}");
        }
        assert_eq!(Sizes::of(None), Sizes::of(Some(4 << 30)));
    }

    /// Once the log of commits was begun anew while the old one is still needed, the MANIFEST names
    /// it. A start looks into the folder before it opens it, and must not fall over that.
    #[tokio::test]
    async fn a_folder_that_needs_an_older_log_of_commits_is_opened() {
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let options = Options { dir: path.clone(), in_memory: None, ..options(&clock, &memory) };
        for round in 1..=3 {
            let handle = open(options.clone()).unwrap();
            add(&handle, "pds.example.com").await;
            for _ in 0..2 {
                handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, 50_000)])]);
                settle(&handle).await;
                // Hosts and all else stay in memory, and so their log is needed.
                handle.store().flush_batches_down();
            }
            assert_eq!(read_all(&handle.log(), seq(0), 1 << 20).await.len(), 2 * round);
            handle.stop().unwrap();
            let files = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
            let logs = files.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
            assert!(logs.count() > 1, "an older log is there");
        }
    }

    /// A setting that is changed holds for what is written from then on; what was written before
    /// is read, and is not written again.
    #[tokio::test]
    async fn files_of_every_compression_are_read_and_stay_as_they_are() {
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let mut files = Vec::new();
        let mut frames = Vec::new();
        for compression in [
            Compression::None,
            Compression::Lz4,
            Compression::Zstd,
            Compression::None,
            Compression::Zstd,
        ] {
            let options = Options { compression, tail_bytes: 1, ..options(&clock, &memory) };
            let handle = open(options).unwrap();
            assert_eq!(read_all(&handle.log(), seq(0), 1 << 20).await, frames, "{compression:?}");
            for _ in 0..5 {
                handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, 50_000)])]);
                settle(&handle).await;
            }
            handle.store().flush_batches_down();
            let now = handle.store().batch_files().unwrap();
            assert_eq!(now[..files.len()], files, "{compression:?}");
            let newest = now.last().unwrap();
            assert!(newest.level > 0, "{newest:?}");
            // The blocks of the frames are one byte again and again.
            assert_eq!(newest.bytes > 250_000, compression == Compression::None, "{newest:?}");
            files = now;
            frames = read_all(&handle.log(), seq(0), 1 << 20).await;
            handle.stop().unwrap();
        }
        assert_eq!((files.len(), frames.len()), (5, 25));
    }
}
