//! What is looked at before RocksDB opens a folder: it would make a new database beside the files
//! of a damaged one, and take over another program's.

use std::fs;
use std::path::Path;

use rocksdb::{DB, IteratorMode, Options};

use super::{Family, format, manifest, options, wal};
use crate::{Durability, Error};

/// Refuses a folder that must not be opened, before anything in it changes.
pub(crate) fn before_opening(dir: &Path, durability: Durability) -> Result<(), Error> {
    let foreign = |why: String| Err(Error::Foreign { dir: dir.to_owned(), why });
    if dir.exists() && !dir.is_dir() {
        return foreign("it is no folder".to_owned());
    }
    if !dir.join("CURRENT").exists() {
        // A first start that was killed leaves a MANIFEST and an empty log at most.
        let files = data_files(dir);
        return match files.first() {
            None => Ok(()),
            Some(first) => foreign(format!(
                "the file CURRENT is missing, and {} files of data are there, such as {first}",
                files.len()
            )),
        };
    }
    // What cannot be listed cannot be opened, and opening it says why.
    let Ok(families) = DB::list_cf(&Options::default(), dir) else { return Ok(()) };
    if families.iter().any(|name| name == Family::Meta.name()) {
        // A later format may have families that are unknown here.
        format::check_before_opening(dir)?;
        if let Some(oldest) = missing_log(dir)? {
            return Err(Error::WalMissing { dir: dir.to_owned(), oldest });
        }
    } else {
        let is_ours = |name: &String| Family::ALL.iter().any(|family| family.name() == name);
        if let Some(other) = families.iter().find(|name| *name != "default" && !is_ours(name)) {
            return foreign(format!("it has the column family {other}"));
        }
        // A first start that was killed has made no family yet, and no row.
        let database = DB::open_for_read_only(&options::glance(), dir, false)?;
        if database.iterator(IteratorMode::Start).next().is_some() {
            return foreign("it is a database of another program".to_owned());
        }
    }
    refuse_hole(dir, durability)
}

/// The number of the log that must be there, or a later one, if neither is. RocksDB misses only
/// logs that it has noted as complete, never the one that was written last.
pub(crate) fn missing_log(dir: &Path) -> Result<Option<u64>, Error> {
    let oldest = manifest::newest_log_at_least(dir)?;
    Ok((!wal::is_there(dir, oldest)).then_some(oldest))
}

/// RocksDB ends its recovery at the first damaged commit. At the end of the log that is the torn
/// tail of a crash; with more commits behind it, they would be lost in silence.
fn refuse_hole(dir: &Path, durability: Durability) -> Result<(), Error> {
    let wal::Found { hole: Some(hole), .. } = wal::scan(dir)? else { return Ok(()) };
    let wal::Hole { file, at, commits } = hole;
    // A commit of events waits for the disk, and with it for all before it. So the last one may be
    // what a power cut interrupted, out of order; one before that may not.
    match durability {
        Durability::Fsync if commits > 1 => Err(Error::WalHole { file, at, commits }),
        Durability::Fsync | Durability::Os => {
            tracing::warn!(file, at, commits, "a power cut has torn the write-ahead log");
            Ok(())
        }
    }
}

/// Tables, and logs that hold anything.
pub(crate) fn data_files(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let is_data = |entry: &fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (stem, extension) = name.rsplit_once('.')?;
        let is_numbered = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
        let holds_data = match extension {
            "sst" => true,
            "log" => entry.metadata().is_ok_and(|file| file.len() > 0),
            _ => false,
        };
        (is_numbered && holds_data).then_some(name)
    };
    let mut files: Vec<String> =
        entries.filter_map(Result::ok).filter_map(|entry| is_data(&entry)).collect();
    files.sort_unstable();
    files
}
