//! A data folder verified as it lies there, and nothing in it changed: every file's blocks by their
//! checksums, every row by what it must be, and what rows must say of each other.
//!
//! Memory does not grow with the folder, but with its hosts, its decisions, and the accounts whose
//! frames it hides. What is found is told at most [`FINDINGS_MAX`] times, and counted on.

use std::path::{Path, PathBuf};

use protocol::ids::{HostId, Micros, Seq};
use rocksdb::{DB, DBRawIteratorWithThreadMode, LiveFile, Options as RocksOptions, ReadOptions};

use crate::store::{Family, Store, guard, keys, records, wal};
use crate::{Error, remedy};

mod batches;
mod rows;
#[cfg(test)]
mod tests;

pub use batches::Batches;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The store's format; `None`: it could not be read.
    pub format: Option<u32>,
    /// The newest seq.
    pub head: Seq,
    /// The clock of its commit.
    pub clock: Micros,
    /// When the log began.
    pub begin: Option<Seq>,
    /// Everything after it is kept.
    pub floor: Seq,
    /// Numbers up to it may have been given out, if it is there.
    pub mark: Option<Seq>,
    /// The last number that was given to a host, if that is written down.
    pub last_host: Option<HostId>,
    /// The log.
    pub batches: Batches,
    /// Rows of every other family.
    pub rows: Vec<(&'static str, u64)>,
    /// RocksDB's files of data, and their bytes.
    pub files: u64,
    /// See [`Report::files`].
    pub file_bytes: u64,
    /// Whole commits in the write-ahead log.
    pub wal_commits: u64,
    /// File and place where the write-ahead log ends in a torn commit, as crashes leave it.
    pub wal_torn: Option<(String, u64)>,
    /// What is wrong, the first [`FINDINGS_MAX`] of it.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub findings_total: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A file or a family.
    pub place: String,
    /// The row, if it is one: its key in hexadecimal and what it stands for.
    pub key: Option<String>,
    /// What is wrong with it.
    pub what: String,
}

/// Why a folder could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum Unchecked {
    /// There is no database.
    #[error("{0} holds no data folder of a relay")]
    NoStore(PathBuf),
    /// A relay writes it while it is read.
    #[error("a relay is running on {dir} (process {pid}): stop it first, or check a backup of it")]
    Running {
        /// The folder.
        dir: PathBuf,
        /// Who holds its lock.
        pid: i32,
    },
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] Error),
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The family that is read.
    pub family: &'static str,
    /// Bytes of rows read so far, all families.
    pub bytes: u64,
    /// Bytes of all files: about what there will be, if they are not compressed.
    pub file_bytes: u64,
}

/// Verifies the folder; tells `progress` every 32 MiB.
pub fn check(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Report, Unchecked> {
    let has_current = dir.join("CURRENT").exists();
    if !has_current && guard::data_files(dir).is_empty() {
        return Err(Unchecked::NoStore(dir.to_owned()));
    }
    if let Some(pid) = holder(dir)? {
        return Err(Unchecked::Running { dir: dir.to_owned(), pid });
    }
    let mut checker = Checker { report: Report::empty(), progress, bytes: 0, told: 0 };
    if !has_current {
        checker.find("CURRENT", None, "the file is missing: the files of data belong to nothing");
        return Ok(checker.report);
    }
    checker.wal(dir)?;
    let families = match DB::list_cf(&RocksOptions::default(), dir) {
        Ok(families) => families,
        Err(error) => return checker.not_opened(&error),
    };
    // An older format lacks some of them; RocksDB wants every one that is there to be named.
    let known: Vec<Family> = Family::ALL
        .into_iter()
        .filter(|family| families.iter().any(|name| name == family.name()))
        .collect();
    if !known.contains(&Family::Meta) {
        return Err(Unchecked::NoStore(dir.to_owned()));
    }
    let is_known = |name: &String| known.iter().any(|family| family.name() == name);
    for other in families.iter().filter(|name| *name != "default" && !is_known(name)) {
        checker.find(other, None, "no family of this version: a newer one may have written it");
    }
    let store = match Store::read_only(dir, &known) {
        Ok(store) => store,
        Err(Error::Rocks(error)) => return checker.not_opened(&error),
        Err(error) => return Err(error.into()),
    };
    if let Some(oldest) = guard::missing_log(dir)? {
        let what = "the write-ahead log is missing: the newest commits may have been in it only";
        checker.find(&format!("{oldest:06}.log"), None, what);
    }
    checker.store(&store, &known)?;
    Ok(checker.report)
}

/// The process that holds the folder's lock.
fn holder(dir: &Path) -> Result<Option<i32>, Error> {
    use rustix::process::{Flock, FlockType, fcntl_getlk};
    // A folder without its lock is one that nobody has open.
    let Ok(lock) = std::fs::File::open(dir.join("LOCK")) else { return Ok(None) };
    let found = fcntl_getlk(&lock, &Flock::from(FlockType::WriteLock)).map_err(|error| {
        Error::Io { what: "ask for the lock", source: std::sync::Arc::new(error.into()) }
    })?;
    Ok(found.and_then(|lock| lock.pid).map(|pid| pid.as_raw_nonzero().get()))
}

/// A check under way.
struct Checker<'a> {
    report: Report,
    progress: &'a mut dyn FnMut(Progress),
    /// Rows read, and of those what was told.
    bytes: u64,
    told: u64,
}

impl Report {
    fn empty() -> Self {
        Self {
            format: None,
            head: Seq::ZERO,
            clock: Micros(0),
            begin: None,
            floor: Seq::ZERO,
            mark: None,
            last_host: None,
            batches: Batches::default(),
            rows: Vec::new(),
            files: 0,
            file_bytes: 0,
            wal_commits: 0,
            wal_torn: None,
            findings: Vec::new(),
            findings_total: 0,
        }
    }
}

impl Checker<'_> {
    fn find(&mut self, place: &str, key: Option<String>, what: impl Into<String>) {
        self.report.findings_total += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(Finding { place: place.to_owned(), key, what: what.into() });
        }
    }

    fn find_row(&mut self, family: Family, key: &[u8], what: impl Into<String>) {
        self.find(family.name(), Some(keys::describe(family, key)), what);
    }

    /// RocksDB does not open it: what is wrong is told, and nothing more can be looked at. What the
    /// folder is not to blame for is no finding.
    fn not_opened(mut self, error: &rocksdb::Error) -> Result<Report, Unchecked> {
        if error.kind() == rocksdb::ErrorKind::IOError && !is_missing(error) {
            return Err(Error::Rocks(error.clone()).into());
        }
        let what = format!("{}. Nothing else could be looked at", remedy::text(error));
        self.find(&file_of(error).unwrap_or_else(|| "MANIFEST".to_owned()), None, what);
        Ok(self.report)
    }

    fn wal(&mut self, dir: &Path) -> Result<(), Error> {
        let wal::Found { commits, torn, hole, .. } = wal::scan(dir)?;
        (self.report.wal_commits, self.report.wal_torn) = (commits, torn);
        if let Some(wal::Hole { file, at, commits }) = hole {
            let what = format!("damaged at byte {at}, with {commits} intact commits behind that");
            self.find(&file, None, what);
        }
        Ok(())
    }

    fn store(&mut self, store: &Store, known: &[Family]) -> Result<(), Error> {
        let files = store.files()?;
        self.report.files = u64::try_from(files.len()).unwrap_or(u64::MAX);
        let bytes = files.iter().map(|file| u64::try_from(file.size).unwrap_or(u64::MAX));
        self.report.file_bytes = bytes.sum();
        self.meta(store, &files);
        self.rows(store, known, &files);
        self.batches(store, &files);
        Ok(())
    }

    /// The rows of `meta`, which the others are compared with.
    fn meta(&mut self, store: &Store, files: &[LiveFile]) {
        let mut count = 0;
        let mut seen = Vec::new();
        self.scan(store, Family::Meta, files, &mut |checker, key, row| {
            count += 1;
            seen.push(key.to_vec());
            if !checker.meta_row(key, row) {
                checker.find_row(Family::Meta, key, UNREADABLE);
            }
        });
        self.report.rows.push((Family::Meta.name(), count));
        for key in [keys::META_FORMAT, keys::META_BEGIN] {
            if !seen.iter().any(|seen| seen == key) {
                self.find_row(Family::Meta, key, "the row is missing");
            }
        }
    }

    /// Takes over what a row of `meta` says; false if it does not read.
    fn meta_row(&mut self, key: &[u8], row: &[u8]) -> bool {
        let report = &mut self.report;
        let seq = records::read_seq(row);
        match key {
            keys::META_FORMAT => {
                report.format = row.try_into().ok().map(u32::from_be_bytes);
                report.format.is_some()
            }
            keys::META_HEAD => match records::read_head(row) {
                Some((head, clock)) => {
                    (report.head, report.clock) = (head, clock);
                    true
                }
                None => false,
            },
            keys::META_FLOOR => {
                report.floor = seq.unwrap_or(Seq::ZERO);
                seq.is_some()
            }
            keys::META_BEGIN => {
                report.begin = seq;
                seq.is_some()
            }
            keys::META_LAST_HOST => {
                report.last_host = records::read_host_id(row);
                report.last_host.is_some()
            }
            keys::META_DOMAIN_BANS => records::read_lines(row).is_some(),
            keys::META_PLC_EXPORT => records::read_export(row).is_some(),
            keys::META_MARK => {
                report.mark = seq;
                seq.is_some()
            }
            _ => false,
        }
    }

    /// Reads a family from its first row to its last. What cannot be read is told, and passed over:
    /// the rest of the file that it lies in is not seen.
    fn scan(
        &mut self,
        store: &Store,
        family: Family,
        files: &[LiveFile],
        visit: &mut impl FnMut(&mut Self, &[u8], &[u8]),
    ) {
        let mut from = Vec::new();
        loop {
            let mut rows = iterate(store, family, &from);
            while let Some((key, row)) = rows.item() {
                self.count(family, key.len() + row.len());
                visit(self, key, row);
                rows.next();
            }
            let Err(error) = rows.status() else { return };
            let file = file_of(&error);
            let place = file.clone().unwrap_or_else(|| family.name().to_owned());
            self.find(
                &place,
                None,
                format!("rows of {} cannot be read: {}", family.name(), remedy::text(&error)),
            );
            let named = |file: &&LiveFile| Some(file.name.trim_start_matches('/')) == place.get(..);
            let end = files.iter().find(named).and_then(|file| file.end_key.clone());
            match end.filter(|end| *end >= from) {
                Some(mut end) => {
                    end.push(0);
                    from = end;
                }
                None => {
                    let what = "what follows in this family could not be looked at";
                    self.find(family.name(), None, what);
                    return;
                }
            }
            self.report.batches.forget_the_last(family);
        }
    }

    fn count(&mut self, family: Family, bytes: usize) {
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.bytes - self.told >= PROGRESS_BYTES {
            self.told = self.bytes;
            let (family, file_bytes) = (family.name(), self.report.file_bytes);
            (self.progress)(Progress { family, bytes: self.bytes, file_bytes });
        }
    }
}

fn iterate<'a>(
    store: &'a Store,
    family: Family,
    from: &[u8],
) -> DBRawIteratorWithThreadMode<'a, DB> {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.fill_cache(false);
    options.set_readahead_size(READAHEAD_BYTES);
    let mut rows = store.iterate(family, options);
    rows.seek(from);
    rows
}

/// The file that an error of RocksDB is about: a table or log that it names, else what it says of
/// the list of those.
fn file_of(error: &rocksdb::Error) -> Option<String> {
    let text = error.to_string();
    let words = || text.split(|c: char| c == '/' || c == ':' || c == ',' || c.is_whitespace());
    let is_data = |word: &&str| {
        word.rsplit_once('.').is_some_and(|(stem, extension)| {
            matches!(extension, "sst" | "log") && stem.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let is_list = |word: &&str| word.starts_with("MANIFEST-") || *word == "CURRENT";
    words().find(is_data).or_else(|| words().find(is_list)).map(str::to_owned)
}

fn is_missing(error: &rocksdb::Error) -> bool {
    error.to_string().contains("No such file")
}

const UNREADABLE: &str = crate::store::UNREADABLE;
/// Findings that are told one by one: a person needs a few of each kind.
pub const FINDINGS_MAX: usize = 200;
const PROGRESS_BYTES: u64 = 32 << 20;
const READAHEAD_BYTES: usize = 4 << 20;
