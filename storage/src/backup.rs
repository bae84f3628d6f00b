//! A copy of the whole store while it runs, from which a relay can start.
//!
//! It is RocksDB's checkpoint: everything that was committed when it was asked for, and nothing
//! that was committed in part (I1). Commits go on meanwhile. It is one when [`Handle::backup`] has
//! returned, and then it survives a power cut; before that, an interrupted one lies in `DIR.tmp`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use protocol::ids::Seq;

use crate::handle::Handle;
use crate::store::{Family, Store, guard};
use crate::{Durability, Error};

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
    /// The disk has too little room, as far as can be told before.
    #[error(
        "{dir}: a backup takes {needed} bytes there, {free} are free, and {kept} of them must stay \
         free (--disk-headroom, on the disk of the data folder)"
    )]
    NoRoom {
        /// The folder.
        dir: PathBuf,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that have to be left.
        kept: u64,
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
    /// within the store's folder nor around it. Leaves `headroom` bytes of the store's own disk
    /// free. Blocks until the disk has it; one at a time.
    pub fn backup(&self, dir: &Path, headroom: u64) -> Result<Backup, BackupError> {
        let (store, own, running) = self.for_backup();
        let Ok(_one) = running.try_lock() else { return Err(BackupError::Running) };
        let dir = place(dir, own)?;
        room(store, own, &dir, headroom)?;
        let failed = |error: Error, left: &Path| {
            drop(fs::remove_dir_all(left));
            BackupError::Failed(error.to_string())
        };
        let mut tries = 1..=TRIES;
        let (head, bytes) = loop {
            // A write-ahead log that nothing was written to is left out of a checkpoint, and a
            // folder without it is what a start refuses. (This changes no row: I11.)
            let made = store.sync().and_then(|()| store.checkpoint(&dir));
            made.map_err(|error| failed(error, &staging(&dir)))?;
            match (finish(&dir), tries.next()) {
                // Another one was begun in between.
                (Err(Error::WalMissing { .. }), Some(_)) => {
                    fs::remove_dir_all(&dir).map_err(|error| {
                        BackupError::Failed(format!("remove what was made: {error}"))
                    })?;
                }
                (finished, _) => break finished.map_err(|error| failed(error, &dir))?,
            }
        };
        Ok(Backup { dir, head, bytes })
    }
}

/// Where RocksDB makes it, which it empties first.
fn staging(dir: &Path) -> PathBuf {
    let mut staging = dir.to_owned().into_os_string();
    staging.push(".tmp");
    PathBuf::from(staging)
}

/// Refuses a backup for which there is no room. Files of rows are linked if the file system can,
/// which is tried out; the write-ahead log is copied.
fn room(store: &Store, own: &Path, dir: &Path, headroom: u64) -> Result<(), BackupError> {
    let failed = |error: Error| BackupError::Failed(error.to_string());
    let unseen = |source: io::Error| {
        let source = std::sync::Arc::new(source);
        failed(Error::Io { what: "look for room for the backup", source })
    };
    let parent = dir.parent().expect("it has a name");
    let probe = staging(dir);
    let is_linked = fs::hard_link(own.join("CURRENT"), &probe).is_ok();
    if is_linked {
        fs::remove_file(&probe).map_err(unseen)?;
    }
    let files = if is_linked { Vec::new() } else { store.files().map_err(failed)? };
    let files = files.iter().map(|file| u64::try_from(file.size).unwrap_or(u64::MAX));
    let needed = files.sum::<u64>().saturating_add(store.other_bytes().map_err(failed)?);
    let is_own_disk = |parent: &Path| -> io::Result<bool> {
        Ok(fs::metadata(parent)?.dev() == fs::metadata(own)?.dev())
    };
    let kept = if is_own_disk(parent).map_err(unseen)? { headroom } else { 0 };
    let free = free_bytes(parent).map_err(unseen)?;
    if free < needed.saturating_add(kept) {
        return Err(BackupError::NoRoom { dir: dir.to_owned(), needed, free, kept });
    }
    Ok(())
}

/// What a process without privileges may still write on the file system of this folder.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
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
    if fs::symlink_metadata(staging(&dir)).is_ok() {
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
    guard::before_opening(dir, Durability::Fsync)?;
    let store = Store::read_only(dir, &Family::ALL)?;
    let (head, _) = store.head()?;
    Ok((head, bytes))
}

const TRIES: u32 = 5;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixture::{Clockwork, NOW, accepted, add, commit, did, on_disk, read_all, settle};
    use crate::{Entry, Options, open};

    #[tokio::test]
    async fn a_backup_is_made_only_where_nothing_else_is() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clockwork::at(NOW);
        let data = folder.path().join("data");
        let handle = open(on_disk(&clock, &data)).unwrap();
        let check = |dir: &Path, why: &str| {
            let error = handle.backup(dir, 0).unwrap_err().to_string();
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
        handle.backup(&at("empty"), 0).unwrap();
        handle.backup(&at("new"), 0).unwrap();
        handle.stop().unwrap();
    }

    /// A backup of a store that nothing was committed to since its start is one, too.
    #[tokio::test]
    async fn a_store_at_rest_is_backed_up_whole() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clockwork::at(NOW);
        for round in ["first", "second", "third"] {
            let handle = open(on_disk(&clock, folder.path())).unwrap();
            let dir = other.path().join(round);
            handle.backup(&dir, 0).unwrap();
            handle.stop().unwrap();
            open(on_disk(&clock, &dir)).unwrap().stop().unwrap();
            assert_eq!(crate::check::check(&dir, &mut |_| {}).unwrap().findings, [], "{round}");
        }
    }

    #[tokio::test]
    async fn i13_a_backup_that_would_take_the_headroom_is_refused_and_leaves_nothing() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clockwork::at(NOW);
        let handle = open(on_disk(&clock, folder.path())).unwrap();
        add(&handle, "pds.example.com").await;
        let dir = other.path().join("backup");
        let error = handle.backup(&dir, u64::MAX).unwrap_err();
        assert!(matches!(error, BackupError::NoRoom { kept: u64::MAX, .. }), "{error}");
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
        handle.backup(&dir, 0).unwrap();
        handle.stop().unwrap();
    }

    /// I1, I13: files that retention drops meanwhile are all in a backup, or none of their events.
    #[tokio::test(flavor = "multi_thread")]
    async fn i1_backups_are_whole_while_retention_drops_files() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clockwork::at(NOW);
        let options = Options {
            retention_bytes: Some(8 << 20),
            durability: Durability::Os,
            commit_interval: Duration::ZERO,
            ..on_disk(&clock, folder.path())
        };
        let handle = open(options).unwrap();
        let host = add(&handle, "pds.example.com").await.id;
        let writing = {
            let (handle, clock) = (handle.clone(), clock.clone());
            tokio::spawn(async move {
                for number in 1.. {
                    clock.advance(Duration::from_millis(1));
                    let entry = accepted(host, number - 1, number, &did(number), false);
                    let frames = vec![commit(&did(number), 1, 30_000)];
                    handle.submit(vec![Entry { frames, ..entry }]);
                    if number % 16 == 0 {
                        settle(&handle).await;
                    }
                }
            })
        };
        let floor = || handle.log().floor();
        let mut backups = 0;
        let mut raised = 0;
        // Until the floor has risen within several of them.
        while raised < 3 {
            let before = floor();
            let dir = other.path().join(format!("backup-{backups}"));
            let (making, at) = (handle.clone(), dir.clone());
            let made = tokio::task::spawn_blocking(move || making.backup(&at, 0)).await.unwrap();
            let made = made.unwrap();
            raised += usize::from(before > Seq::ZERO && floor() > before);
            let report = crate::check::check(&dir, &mut |_| {}).unwrap();
            assert_eq!(report.findings, [], "backup {backups}");
            assert_eq!(report.head, made.head);
            fs::remove_dir_all(&dir).unwrap();
            backups += 1;
            assert!(backups < 500, "the floor does not rise");
        }
        writing.abort();
        drop(writing.await);
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
        let backup = handle.backup(&dir, 0).unwrap();
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
