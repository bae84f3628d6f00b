//! A copy of the whole store while it runs, from which a relay can start.
//!
//! It is RocksDB's checkpoint: everything that was committed when it was asked for, and nothing
//! that was committed in part (I1). Commits go on meanwhile. It is one when [`Handle::backup`] has
//! returned, and then it survives a power cut; before that, an interrupted one lies in `DIR.tmp`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use protocol::ids::Seq;

use crate::Error;
use crate::handle::Handle;
use crate::store::{Family, Store, UNREADABLE, keys, records};

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Where it lies.
    pub dir: PathBuf,
    /// The newest seq that it holds.
    pub head: Seq,
    /// Bytes of its files; those that are linked take no room of their own until the store drops
    /// them.
    pub bytes: u64,
}

/// Why there is no backup. None of them ends the process: it is the caller's place that failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder cannot be one for a backup.
    #[error("{dir}: {why}")]
    Place {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        why: String,
    },
    /// One is being made.
    #[error("another backup is being made")]
    Running,
    /// It was begun and has failed; nothing is left of it.
    #[error("the backup failed: {0}")]
    Failed(String),
}

impl Handle {
    /// Makes a backup in a folder that is not there or empty: absolute, its parent there, neither
    /// within the store's folder nor around it. Blocks until the disk has it; one at a time.
    pub fn backup(&self, dir: &Path) -> Result<Backup, BackupError> {
        let (store, own, running) = self.for_backup();
        let Ok(_one) = running.try_lock() else { return Err(BackupError::Running) };
        let dir = place(dir, own)?;
        let failed = |error: Error| BackupError::Failed(error.to_string());
        store.checkpoint(&dir).map_err(failed)?;
        let finished = finish(&dir);
        if finished.is_err() {
            drop(fs::remove_dir_all(&dir));
        }
        let (head, bytes) = finished.map_err(failed)?;
        Ok(Backup { dir, head, bytes })
    }
}

/// The folder as the file system knows it, if a backup may be made there.
fn place(dir: &Path, own: &Path) -> Result<PathBuf, BackupError> {
    let refuse = |why: &str| Err(BackupError::Place { dir: dir.to_owned(), why: why.to_owned() });
    if !dir.is_absolute() {
        return refuse("give an absolute path: it is the relay that writes there");
    }
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return refuse("give a folder that is not there yet");
    };
    let Ok(parent) = parent.canonicalize() else {
        return refuse(
            "the folder that it is to be made in is not there, or the relay may not see it",
        );
    };
    let dir = parent.join(name);
    let own = own.canonicalize().unwrap_or_else(|_| own.to_owned());
    if dir.starts_with(&own) || own.starts_with(&dir) {
        return refuse("a backup lies outside of the data folder");
    }
    // RocksDB works there, and empties it first.
    let mut staging = dir.clone().into_os_string();
    staging.push(".tmp");
    if fs::symlink_metadata(&staging).is_ok() {
        return refuse(
            "DIR.tmp is there, perhaps of a backup that was interrupted: remove it first",
        );
    }
    match fs::remove_dir(&dir) {
        Ok(()) => Ok(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(dir),
        Err(_) => refuse("it is there already, and is no empty folder"),
    }
}

/// Waits until the disk has it, and reads it as a start would: its head and bytes.
fn finish(dir: &Path) -> Result<(Seq, u64), Error> {
    let failed =
        |source| Error::Io { what: "sync the backup", source: std::sync::Arc::new(source) };
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let file = File::open(entry.map_err(failed)?.path()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        bytes += file.metadata().map_err(failed)?.len();
    }
    let parent = dir.parent().expect("it has a name");
    for folder in [dir, parent] {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    let store = Store::read_only(dir, &Family::ALL)?;
    let head = match store.get(Family::Meta, keys::META_HEAD)? {
        None => Seq::ZERO,
        Some(row) => {
            let head = records::read_head(&row);
            head.ok_or_else(|| Family::Meta.corrupt_at(keys::META_HEAD, UNREADABLE))?.0
        }
    };
    Ok((head, bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixture::{Clockwork, NOW, accepted, add, did, on_disk, read_all, settle};
    use crate::open;

    #[tokio::test]
    async fn a_backup_is_made_only_where_nothing_else_is() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clockwork::at(NOW);
        let data = folder.path().join("data");
        let handle = open(on_disk(&clock, &data)).unwrap();
        let check = |dir: &Path, why: &str| {
            let error = handle.backup(dir).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let at = |name: &str| other.path().join(name);
        check(Path::new("backup"), "absolute");
        check(&data.join("backup"), "outside of the data folder");
        check(folder.path(), "outside of the data folder");
        check(&at("missing/backup"), "is not there");
        fs::create_dir_all(at("full/x")).unwrap();
        check(&at("full"), "there already");
        fs::write(at("file"), "").unwrap();
        check(&at("file"), "there already");
        fs::create_dir(at("next.tmp")).unwrap();
        check(&at("next"), "DIR.tmp");
        fs::create_dir(at("empty")).unwrap();
        handle.backup(&at("empty")).unwrap();
        handle.backup(&at("new")).unwrap();
        handle.stop().unwrap();
    }

    /// I1, I3: what it holds is whole, and what is committed meanwhile is not in it.
    #[tokio::test]
    async fn i1_i3_a_relay_starts_on_a_backup_and_uses_no_number_again() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clockwork::at(NOW);
        let handle = open(on_disk(&clock, folder.path())).unwrap();
        let host = add(&handle, "pds.example.com").await.id;
        for number in 1..=50 {
            clock.advance(Duration::from_millis(2));
            handle.submit(vec![accepted(host, number - 1, number, &did(number), false)]);
            settle(&handle).await;
        }
        let before = read_all(&handle.log(), Seq::ZERO, 1 << 20).await;
        let dir = other.path().join("backup");
        let backup = handle.backup(&dir).unwrap();
        assert_eq!(backup.head, handle.log().head());
        assert!(backup.bytes > 0);
        clock.advance(Duration::from_millis(2));
        handle.submit(vec![accepted(host, 50, 51, &did(51), false)]);
        settle(&handle).await;
        let lost = handle.log().head();
        handle.stop().unwrap();

        clock.advance(Duration::from_secs(1));
        let restored = open(on_disk(&clock, &dir)).unwrap();
        assert_eq!(restored.log().head(), backup.head);
        assert_eq!(read_all(&restored.log(), Seq::ZERO, 1 << 20).await, before);
        assert_eq!(restored.host(host).unwrap().cursor.get(), 50);
        restored.submit(vec![accepted(host, 50, 51, &did(51), false)]);
        settle(&restored).await;
        assert!(restored.log().head() > lost, "a number was used again");
        restored.stop().unwrap();
        let report = crate::check::check(&dir, &mut |_| {}).unwrap();
        assert_eq!(report.findings, []);
    }
}
