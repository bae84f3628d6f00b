//! What a family's files cost, from RocksDB's own journal of events (`LOG`): for the test and the
//! benchmark of retention.

use std::collections::BTreeSet;
use std::path::Path;

/// Bytes of table files, by who wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// From memory.
    pub(crate) flushed: u64,
    /// By compaction, from other files.
    pub(crate) compacted: u64,
}

impl Written {
    /// Of one family, as far as the folder's journal goes back.
    pub(crate) fn read(dir: &Path, family: &str) -> Self {
        let mut files: Vec<_> = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.path())
            .filter(|path| {
                path.file_name().is_some_and(|name| {
                    name.as_encoded_bytes().starts_with(b"LOG")
                        && name.as_encoded_bytes() != b"LOCK"
                })
            })
            .collect();
        // `LOG.old.TIME` before `LOG`.
        files.sort_by_key(|path| (path.extension().is_none(), path.clone()));
        let mut written = Self::default();
        let mut compactions = BTreeSet::new();
        for path in files {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            for event in text.lines().filter_map(|line| line.split_once("EVENT_LOG_v1 ")) {
                written.add(event.1, family, &mut compactions);
            }
        }
        written
    }

    fn add(&mut self, event: &str, family: &str, compactions: &mut BTreeSet<u64>) {
        let job = number(event, "job").unwrap_or(0);
        let is_ours = event.contains(&format!("\"cf_name\": \"{family}\""));
        if event.contains("\"event\": \"compaction_started\"") {
            compactions.insert(job);
        } else if event.contains("\"event\": \"table_file_creation\"") && is_ours {
            let bytes = number(event, "file_size").unwrap_or(0);
            if compactions.contains(&job) {
                self.compacted += bytes;
            } else {
                self.flushed += bytes;
            }
        }
    }
}

fn number(event: &str, key: &str) -> Option<u64> {
    let (_, rest) = event.split_once(&format!("\"{key}\": "))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}
