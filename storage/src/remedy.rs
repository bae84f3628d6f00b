//! What a person does about an error of the store: a word for each kind, in its message.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use rocksdb::ErrorKind;

/// What RocksDB says, as the beginning of a sentence that goes on.
pub(crate) fn text(error: &rocksdb::Error) -> String {
    error.to_string().trim_end_matches(['.', ' ']).to_owned()
}

/// What to do about an error of RocksDB, whose text names the file.
pub(crate) fn of(error: &rocksdb::Error) -> &'static str {
    match error.kind() {
        ErrorKind::Corruption => DAMAGED,
        _ => of_text(error.as_ref()),
    }
}

/// The same of what it says alone.
pub(crate) fn of_text(text: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["No space left on device", "Disk quota exceeded", "NoSpace", "Space limit"]) {
        NO_SPACE
    } else if says(&["lock hold by current process", "/LOCK: Resource temporarily unavailable"]) {
        LOCKED
    } else if says(&["Permission denied", "Operation not permitted", "Read-only file system"]) {
        NOT_ALLOWED
    } else if text.starts_with("IO error") && !says(&["No such file or directory"]) {
        SICK_DISK
    } else {
        // That a file which RocksDB has written is not there any more, too.
        DAMAGED
    }
}

/// What RocksDB's own log says of the last flush or compaction that failed: nothing else tells the
/// reason.
pub(crate) fn background(dir: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut log = File::open(dir.join("LOG"))?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
        let mut end = Vec::new();
        log.read_to_end(&mut end)?;
        Ok(String::from_utf8_lossy(&end).into_owned())
    };
    let text = read().unwrap_or_default();
    let last = text.lines().rev().find_map(|line| {
        // "Waiting after background flush error: IO error: …Accumulated background error counts: 1"
        let (_, rest) = line.split_once("Waiting after background ")?;
        let (_, reason) = rest.split_once("error: ")?;
        Some(reason.split("Accumulated").next()?.trim_end_matches([',', '.', ' ']).to_owned())
    });
    last.unwrap_or_else(|| "the file LOG in the data folder may tell why".to_owned())
}

const NO_SPACE: &str = "Make room on the disk of the data folder and start again: nothing that was \
    committed is lost (docs/operations.md, \"The disk is full\")";
const LOCKED: &str = "Another process has the data folder open: one relay at a time may run on it";
const NOT_ALLOWED: &str = "The user that the relay runs as must be allowed to read and write the \
    data folder and all files in it (docs/operations.md, \"Runbooks\")";
/// Of damage that no crash explains.
pub(crate) const DAMAGED: &str = "Stop, look with `mainstem check --data-dir DIR` what is \
    damaged, and restore a backup (docs/operations.md, \"The data folder is damaged\")";
/// Of a folder that must not be touched.
pub(crate) const FOREIGN: &str = "Nothing in it was changed. Give another --data-dir, or restore a \
    backup (docs/operations.md, \"The data folder is damaged\")";
const SICK_DISK: &str = "The disk or its connection may be failing: look at the kernel's log, then \
    start again; nothing that was committed is lost (docs/operations.md, \"The data folder is \
    damaged\")";
/// The end of RocksDB's log in which the reason of a failure is looked for.
const LOG_BYTES: u64 = 256 << 10;
