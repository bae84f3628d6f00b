//! RocksDB's options. Memory is budgeted as a whole (architecture.md, "Memory"): what does not
//! stand here must not grow with the data.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DBRecoveryMode, Options,
};

use super::{Family, Memory};

/// Options of the database as a whole.
pub(crate) fn database(in_memory: Option<&Memory>) -> Options {
    let mut options = Options::default();
    if let Some(memory) = in_memory {
        options.set_env(memory.env());
    }
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
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

/// Every column family with its options.
pub(crate) fn families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let descriptor = |family: &Family| {
        let options = match family {
            Family::Batches => batches(&cache),
            Family::Accounts | Family::HostAccounts | Family::Identities => by_did(&cache),
            Family::Hosts
            | Family::Gaps
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
// moves them down without rewriting a byte, and retention drops whole files. Frames are mostly
// hashes and signatures: compressing them costs more CPU than everything else here together.
fn batches(cache: &Cache) -> Options {
    let mut options = any();
    options.set_write_buffer_size(BATCHES_BUFFER_BYTES);
    options.set_target_file_size_base(BATCHES_FILE_BYTES);
    options.set_max_bytes_for_level_base(4 * BATCHES_FILE_BYTES);
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
const BATCHES_BUFFER_BYTES: usize = 32 << 20;
const ROWS_BUFFER_BYTES: usize = 16 << 20;
const SMALL_BUFFER_BYTES: usize = 4 << 20;
/// Blocks of all families: indexes, filters, rows of accounts. Batches pass it by.
const BLOCK_CACHE_BYTES: usize = 16 << 20;
/// What a start has to replay at most: about a second of work.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// A step of retention drops whole files, and every file costs a descriptor.
const BATCHES_FILE_BYTES: u64 = 256 << 20;
/// Each open file costs a few KiB outside the block cache.
const OPEN_FILES_MAX: i32 = 1024;
const BACKGROUND_JOBS: i32 = 2;
/// Flushes write in steps, so that the log's fsyncs never wait behind a large one.
const SYNC_STEP_BYTES: u64 = 1 << 20;
