//! A folder that is sound, and one of every kind of damage: what the check says of it, and what a
//! start or the read that meets it does (I6).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use protocol::account::Local;
use protocol::ids::HostId;
use rocksdb::WriteBatch;

use super::*;
use crate::fixture::{Clockwork, NOW, accepted, account, add, did, on_disk, read_all, settle};
use crate::sequencer::entry::RejectNote;
use crate::store::{Sizes, Wait};
use crate::{AccountWrite, Compression, Durability, Gap, Handle, IdentityRow, Options, open};

/// A store with rows of every family in files, and more of them in the write-ahead log.
struct Folder {
    folder: tempfile::TempDir,
    clock: Clockwork,
}

impl Folder {
    async fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clockwork::at(NOW));
        let this = Self { folder, clock };
        let handle = open(this.options()).unwrap();
        let host = add(&handle, "pds.example.com").await.id;
        this.fill(&handle, host, 1..=600).await;
        handle.store().flush_all();
        this.fill(&handle, host, 601..=700).await;
        handle.stop().unwrap();
        this
    }

    /// The same once more, to be damaged in another way.
    fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in contents(self.path()) {
            fs::write(folder.path().join(name(&path)), bytes).unwrap();
        }
        Self { folder, clock: self.clock.clone() }
    }

    async fn fill(&self, handle: &Handle, host: HostId, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            self.clock.advance(Duration::from_millis(1));
            let mut entry = accepted(host, number - 1, number, &did(number), false);
            if number % 50 == 1 {
                let account = account(host, number);
                let account = protocol::account::Account { local: Local::Takendown, ..account };
                entry.account = Some(AccountWrite { account, was: None, decided: true });
                entry.gap = Some(Gap { host, did: Some(did(number)) });
                let (did, excerpt) = (Some(did(number)), Bytes::from_static(b"frame"));
                let at = Micros(NOW);
                entry.reject = Some(RejectNote { name: "rev_old", host, did, excerpt, at });
            }
            let key = (protocol::keys::Curve::K256, GENERATOR);
            entry.identity = Some(IdentityRow {
                did: did(number),
                key: Some(key),
                pds: None,
                handle: None,
                fetched: Micros(NOW),
                tombstoned: false,
            });
            handle.submit(vec![entry]);
            if number % 10 == 0 {
                settle(handle).await;
            }
        }
        settle(handle).await;
    }

    fn options(&self) -> Options {
        on_disk(&self.clock, self.path())
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The files with this extension, or whose name begins so, the largest last.
    fn files(&self, named: &str) -> Vec<PathBuf> {
        let is_named = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(named) || name.starts_with(named)
        };
        let mut files: Vec<PathBuf> = fs::read_dir(self.path()).unwrap().map(path_of).collect();
        files.retain(is_named);
        files.sort_by_key(|path| fs::metadata(path).unwrap().len());
        files
    }

    /// The file that holds the family's rows.
    fn table(&self, family: Family) -> PathBuf {
        let store = Store::read_only(self.path(), &Family::ALL).unwrap();
        let files = store.files().unwrap();
        let file = files.iter().find(|file| file.column_family_name == family.name()).unwrap();
        self.path().join(file.name.trim_start_matches('/'))
    }

    fn check(&self) -> Report {
        let before = contents(self.path());
        let report = check(self.path(), &mut |_| {}).unwrap();
        assert!(contents(self.path()) == before, "a check changes nothing");
        report
    }

    /// Writes a row as it must not be, in valid files.
    fn rot(&self, family: Family, key: &[u8], row: Option<&[u8]>) {
        let store = Store::open(self.path(), None, Sizes::of(None), Compression::None).unwrap();
        let mut rows = WriteBatch::default();
        match row {
            Some(row) => rows.put_cf(store.family(family), key, row),
            None => rows.delete_cf(store.family(family), key),
        }
        store.write(rows, Wait::Disk).unwrap();
    }

    /// What the check says, which must name this place and say this.
    fn finds(&self, place: &str, what: &str) {
        let report = self.check();
        let found = |finding: &Finding| {
            let key = finding.key.as_deref().unwrap_or_default();
            finding.place == place && format!("{key}: {}", finding.what).contains(what)
        };
        assert!(report.findings.iter().any(found), "{place}, {what}: {:?}", report.findings);
    }

    /// A start refuses it, and says this, the remedy among it.
    fn is_refused(&self, words: &[&str]) {
        let error = open(self.options()).err().expect("it is damaged").to_string();
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(error.contains("docs/operations.md"), "{error}");
    }
}

fn path_of(entry: std::io::Result<fs::DirEntry>) -> PathBuf {
    entry.unwrap().path()
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut contents: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(path_of)
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    contents.sort();
    contents
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn length(path: &Path) -> usize {
    usize::try_from(fs::metadata(path).unwrap().len()).unwrap()
}

fn truncate(path: &Path, bytes: usize) {
    let whole = fs::read(path).unwrap();
    fs::write(path, &whole[..bytes]).unwrap();
}

#[tokio::test]
async fn a_sound_folder_is_told_as_it_is() {
    let folder = Folder::new().await;
    let report = folder.check();
    assert_eq!((report.findings, report.findings_total), (Vec::new(), 0));
    assert_eq!(report.batches.events, 700);
    assert_eq!(report.batches.last, Some(report.head));
    assert!(report.begin.is_some() && report.format.is_some() && report.clock > Micros(NOW));
    let rows = |family: Family| {
        report.rows.iter().find(|(name, _)| *name == family.name()).map(|(_, count)| *count)
    };
    let counts = [Family::Accounts, Family::HostAccounts, Family::Identities].map(rows);
    assert_eq!(counts, [Some(700); 3]);
    let counts = [Family::Decisions, Family::Hidden, Family::Rejects].map(rows);
    assert_eq!(counts, [Some(14); 3]);
    // A host's row, and those of its accounts.
    assert_eq!((rows(Family::Gaps), rows(Family::Hosts)), (Some(15), Some(2)));
    assert!(report.files >= 9 && report.wal_commits > 10 && report.wal_torn.is_none());
}

#[tokio::test]
async fn what_is_no_data_folder_is_not_checked() {
    let empty = tempfile::tempdir().unwrap();
    let missing = empty.path().join("missing");
    for dir in [empty.path(), &missing] {
        let unchecked = check(dir, &mut |_| {}).err();
        assert!(matches!(unchecked, Some(Unchecked::NoStore(_))), "{unchecked:?}");
    }
}

/// I6: a block that does not read ends the process, at the read that meets it, and is named.
#[tokio::test]
async fn i6_a_damaged_block_of_the_log_is_named_by_the_replay_that_meets_it() {
    let folder = Folder::new().await;
    let table = folder.table(Family::Batches);
    flip(&table, 70_000);
    folder.finds(name(&table), "checksum mismatch");
    let handle = open(folder.options()).unwrap();
    let log = handle.log();
    let mut after = Seq::ZERO;
    let error = loop {
        match log.read(after, 1 << 10).await {
            Ok(crate::Read::Chunk(chunk)) => after = chunk.last,
            Ok(other) => panic!("{other:?} in front of a damaged block"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains(name(&table)) && error.contains("mainstem check"), "{error}");
    assert_eq!(handle.failed().await.to_string(), error);
    assert!(!handle.is_writable());
}

#[tokio::test]
async fn i6_a_damaged_block_of_accounts_is_named_by_the_look_up_that_meets_it() {
    let folder = Folder::new().await;
    let table = folder.table(Family::Accounts);
    flip(&table, 100);
    folder.finds(name(&table), "checksum mismatch");
    let handle = open(folder.options()).unwrap();
    let read = (1..=600).find_map(|number| handle.account(&did(number)).err());
    let error = read.expect("it is read").to_string();
    assert!(error.contains(name(&table)) && error.contains("mainstem check"), "{error}");
    assert!(!handle.is_writable());
}

/// Wherever a file is damaged, it is found, or it is in a part that no row depends on (a filter, a
/// statistic): then every row reads as before.
#[tokio::test]
async fn a_damaged_byte_anywhere_in_a_file_is_found_or_harmless() {
    let folder = Folder::new().await;
    let sound = folder.check();
    let (mut found, mut harmless) = (0, 0);
    for family in [Family::Batches, Family::Accounts, Family::Hosts] {
        let table = folder.table(family);
        let length = length(&table);
        for part in 0..16 {
            let at = part * (length - 1) / 15;
            flip(&table, at);
            let report = check(folder.path(), &mut |_| {}).unwrap();
            if report.findings_total > 0 {
                // Of properties that do not read, RocksDB does not say whose they are.
                let named = report.findings.iter().any(|finding| {
                    finding.place == name(&table) || finding.what.contains("properties")
                });
                assert!(named, "{} at {at}: {:?}", name(&table), report.findings);
                found += 1;
            } else {
                assert_eq!((&report.batches, &report.rows), (&sound.batches, &sound.rows), "{at}");
                harmless += 1;
            }
            flip(&table, at);
        }
    }
    assert!(found > 24, "{found} found, {harmless} harmless");
}

#[tokio::test]
async fn a_file_that_is_cut_or_gone_is_named_and_refused() {
    let folder = Folder::new().await;
    let table = folder.table(Family::Accounts);
    truncate(&table, length(&table) / 2);
    folder.finds(name(&table), "");
    folder.is_refused(&[name(&table), "mainstem check"]);
    fs::remove_file(&table).unwrap();
    folder.finds(name(&table), "");
    folder.is_refused(&[name(&table), "mainstem check"]);
}

#[tokio::test]
async fn a_damaged_manifest_is_named_and_refused() {
    let folder = Folder::new().await;
    let manifest = folder.files("MANIFEST-").pop().unwrap();
    flip(&manifest, length(&manifest) / 3);
    folder.finds(name(&manifest), "");
    folder.is_refused(&["MANIFEST", "mainstem check"]);
    fs::remove_file(&manifest).unwrap();
    folder.finds(name(&manifest), "");
    folder.is_refused(&["MANIFEST", "mainstem check"]);
}

/// RocksDB would make a new database beside what is there, and drop that.
#[tokio::test]
async fn a_folder_without_its_beginning_is_refused_and_not_made_anew() {
    let folder = Folder::new().await;
    let current = folder.path().join("CURRENT");
    fs::write(&current, "MANIFEST-x\n").unwrap();
    folder.is_refused(&[]);
    fs::remove_file(&current).unwrap();
    folder.finds("CURRENT", "missing");
    let before = contents(folder.path());
    folder.is_refused(&["CURRENT is missing", "Nothing in it was changed"]);
    assert!(contents(folder.path()) == before);
}

#[test]
fn another_programs_database_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clockwork::at(NOW);
    DB::open_default(folder.path()).unwrap().put("a", "b").unwrap();
    let names = || fs::read_dir(folder.path()).unwrap().map(path_of).collect::<Vec<_>>();
    let before = names();
    let error = open(on_disk(&clock, folder.path())).err().unwrap().to_string();
    assert!(error.contains("another program"), "{error}");
    assert_eq!(names(), before);
    assert!(matches!(check(folder.path(), &mut |_| {}), Err(Unchecked::NoStore(_))));
}

#[tokio::test]
async fn a_family_of_another_version_is_told() {
    let folder = Folder::new().await;
    let families = Family::ALL.map(Family::name);
    let mut db = DB::open_cf(&RocksOptions::default(), folder.path(), families).unwrap();
    db.create_cf("later", &RocksOptions::default()).unwrap();
    drop(db);
    folder.finds("later", "a newer one");
    let error = open(folder.options()).err().unwrap().to_string();
    assert!(error.contains("later"), "{error}");
}

/// The torn end is what a crash leaves; a damage with commits behind it is not.
#[tokio::test]
async fn i2_a_torn_log_opens_and_one_with_a_hole_is_refused() {
    let folder = Folder::new().await;
    let log = folder.files(".log").pop().unwrap();
    let whole = fs::read(&log).unwrap();
    let fresh = folder.copy();
    let sound = folder.check();
    for torn in [whole.len() - 1, whole.len() - 40] {
        truncate(&log, torn);
        let report = folder.check();
        assert_eq!(report.findings, [], "{torn}");
        assert!(report.wal_commits < sound.wal_commits);
        assert_eq!(report.wal_torn.map(|(file, _)| file).as_deref(), Some(name(&log)));
    }
    // A power cut leaves zeros, too, or what was there before.
    for tail in [vec![0; 5_000], vec![0xa5; 5_000]] {
        fs::write(&log, [&whole[..whole.len() - 30], &tail].concat()).unwrap();
        assert_eq!(folder.check().findings, []);
    }
    for at in [9, whole.len() / 2] {
        fs::write(&log, &whole).unwrap();
        flip(&log, at);
        folder.finds(name(&log), "intact commits behind");
        folder.is_refused(&[name(&log), "commits behind that are intact", "mainstem check"]);
    }
    // Without syncs the system writes in its own order, and a power cut may leave holes.
    let options = Options { durability: Durability::Os, ..folder.options() };
    open(options).unwrap().stop().unwrap();
    let folder = fresh;
    let log = folder.files(".log").pop().unwrap();
    truncate(&log, whole.len() - 1);
    open(folder.options()).unwrap().stop().unwrap();
}

/// I2: RocksDB opens a folder whose newest log was deleted, and has forgotten its commits.
#[tokio::test]
async fn i2_a_write_ahead_log_that_is_gone_is_refused_and_named() {
    let folder = Folder::new().await;
    let restarted = folder.copy();
    let log = folder.files(".log").pop().unwrap();
    fs::remove_file(&log).unwrap();
    let named = |folder: &Folder| {
        let before = contents(folder.path());
        folder.is_refused(&["the write-ahead log is missing", "mainstem check"]);
        assert!(contents(folder.path()) == before, "nothing in it was changed");
        let found = folder.check().findings;
        let told = |finding: &Finding| {
            finding.place.ends_with(".log") && finding.what.contains("is missing")
        };
        assert!(found.iter().any(told), "{found:?}");
    };
    named(&folder);
    // What a start has read from a log it has written to files: the next log is empty, and all
    // rows fit together without what was committed to it.
    let handle = open(restarted.options()).unwrap();
    restarted.fill(&handle, HostId(1), 701..=710).await;
    handle.stop().unwrap();
    fs::remove_file(restarted.files(".log").pop().unwrap()).unwrap();
    named(&restarted);
    // The same of a folder that was started once, and nothing of it written to files.
    let first = Folder { folder: tempfile::tempdir().unwrap(), clock: Clockwork::at(NOW) };
    let handle = open(first.options()).unwrap();
    add(&handle, "pds.example.com").await;
    handle.stop().unwrap();
    fs::remove_file(first.files(".log").pop().unwrap()).unwrap();
    named(&first);
}

/// I2: several logs are read by a start, by RocksDB and by us.
#[tokio::test]
async fn i2_all_logs_that_are_needed_are_read_and_none_may_be_gone() {
    let folder = Folder::new().await;
    let handle = open(folder.options()).unwrap();
    folder.fill(&handle, HostId(1), 701..=710).await;
    handle.store().flush_batches();
    folder.fill(&handle, HostId(1), 711..=720).await;
    handle.stop().unwrap();
    let mut logs = folder.files(".log");
    logs.sort();
    assert!(logs.len() >= 2, "{logs:?}");
    let without = |back: usize| {
        let damaged = folder.copy();
        fs::remove_file(damaged.path().join(name(&logs[logs.len() - back]))).unwrap();
        damaged
    };
    let newest = without(1);
    newest.is_refused(&["the write-ahead log is missing", "mainstem check"]);
    newest.finds(name(&logs[logs.len() - 1]), "is missing");
    let older = without(2);
    older.is_refused(&["Missing WAL", "mainstem check"]);
    older.finds("MANIFEST", "Missing WAL");
    let report = folder.check();
    assert_eq!((report.findings, report.batches.events), (Vec::new(), 720));
    let handle = open(folder.options()).unwrap();
    assert_eq!(handle.host(HostId(1)).unwrap().cursor.get(), 720);
    handle.stop().unwrap();
}

/// Logs whose rows are all in files are not missed: RocksDB itself deletes them.
#[tokio::test]
async fn a_write_ahead_log_that_nothing_needs_is_not_missed() {
    let folder = Folder::new().await;
    for _ in 0..3 {
        open(folder.options()).unwrap().stop().unwrap();
        let logs = folder.files(".log");
        let newest = logs.iter().max().unwrap();
        for log in logs.iter().filter(|log| *log != newest) {
            fs::remove_file(log).unwrap();
        }
        assert_eq!(folder.check().findings, []);
    }
}

/// I6: a row that reads, with bytes for a key that are none.
#[tokio::test]
async fn i6_an_identity_whose_key_is_no_point_is_named() {
    let folder = Folder::new().await;
    let identity = IdentityRow {
        did: did(7),
        key: Some((protocol::keys::Curve::K256, [0xff; 33])),
        pds: None,
        handle: None,
        fetched: Micros(NOW),
        tombstoned: false,
    };
    folder.rot(Family::Identities, &keys::account(&did(7)), Some(&records::identity(&identity)));
    folder.finds("identities", &did(7).to_string());
    folder.finds("identities", "its key is no point of its curve");
}

/// I6: rows that RocksDB reads well and that are not what was written.
#[tokio::test]
async fn i6_a_damaged_row_is_named_with_its_key() {
    let host = keys::host(HostId(1));
    let plc = keys::account(&did(7));
    let member = keys::host_account(HostId(1), &did(7));
    let gap = keys::gap_account(HostId(1), &did(1));
    let sound = Folder::new().await;
    let check = |family: Family, key: &[u8], row: Option<&[u8]>, what: &str| {
        let folder = sound.copy();
        folder.rot(family, key, row);
        let found = folder.check().findings;
        let text = found.iter().map(|finding| format!("{finding:?}")).collect::<String>();
        assert!(text.contains(what) && text.contains("key"), "{family:?}, {what}: {text}");
        assert!(found.len() <= 2, "{text}");
    };
    check(Family::Accounts, &plc, Some(b"\x02\x01"), &did(7).to_string());
    check(Family::Accounts, &plc, None, "699 rows of accounts are its own");
    check(Family::Accounts, b"\x09", Some(b""), "its key does not read");
    check(Family::Hosts, &host, Some(b"\x01"), "host 1");
    check(Family::HostAccounts, &member, None, "host_accounts has 699");
    check(Family::HostAccounts, &member, Some(b"\x01"), "host_accounts");
    let over = keys::throttled(HostId(1), Micros(1), &did(7));
    check(Family::Throttled, &over, Some(b""), "throttled 1, accounts 0");
    check(Family::Throttled, &over, Some(b"x"), "does not read");
    check(Family::Throttled, b"\x00", Some(b""), "its key does not read");
    check(Family::Reconcile, &keys::reconcile(HostId(1)), Some(b"\x01"), "does not read");
    check(Family::Reconcile, &keys::excused(HostId(1), &did(7)), Some(b"\x01"), "does not read");
    let excused = records::excused(&crate::Excused::default());
    check(
        Family::Reconcile,
        &keys::excused(HostId(9), &did(7)),
        Some(&excused),
        "host 9 is not in hosts",
    );
    check(Family::Meta, keys::META_LAST_HOST, Some(&[0; 4]), "was not given out");
    check(Family::Meta, keys::META_LAST_HOST, Some(b"x"), "last_host");
    check(Family::Meta, keys::META_DOMAIN_BANS, Some(b"\xff"), "domain_bans");
    check(Family::Gaps, &gap, None, "14 accounts are owed, and 13 rows are");
    check(Family::Rejects, &keys::reject(HostId(1), 2), Some(b"\x01"), "rejects");
    check(Family::Hidden, &keys::account(&did(1)), None, "is not in hidden");
    check(Family::Hidden, &plc, Some(&[0; 8]), "must be seen");
    check(Family::Decisions, &keys::account(&did(1)), None, "in decisions is none");
    check(Family::Identities, &plc, Some(b"\x01\x00"), &did(7).to_string());
    check(Family::Meta, keys::META_HEAD, Some(&[0; 16]), "the newest batch ends at");
    check(Family::Meta, keys::META_FLOOR, Some(b"x"), "floor");
    check(Family::Meta, keys::META_MARK, Some(b"x"), "mark");
    check(Family::Meta, keys::META_BEGIN, None, "the row is missing");
}

#[tokio::test]
async fn i6_a_damaged_batch_is_named_with_its_seq() {
    let folder = Folder::new().await;
    let (key, value) = {
        let store = Store::read_only(folder.path(), &Family::ALL).unwrap();
        let mut rows = iterate(&store, Family::Batches, &[]);
        rows.next();
        (rows.key().unwrap().to_vec(), rows.value().unwrap().to_vec())
    };
    let seq = keys::batch_first(&key).unwrap().to_string();
    let view = crate::store::batch::View::read(&value).unwrap();
    let wire = value.len() - view.wire(0..view.events()).len();
    let check = |at: usize, what: &str| {
        let mut rotten = value.clone();
        rotten[at] ^= 0x01;
        folder.rot(Family::Batches, &key, Some(&rotten));
        let found = folder.check().findings;
        assert!(found.iter().any(|finding| finding.what.contains(what)), "{at} {what}: {found:?}");
        let told = found[0].key.clone().unwrap();
        assert!(told.contains(&seq), "{told}");
    };
    check(0, "does not read");
    check(15, "follows");
    check(16 + 12, "another kind");
    check(16 + 13, "another account");
    check(wire, "message");
    check(wire + 5, "malformed");
    folder.rot(Family::Batches, &key, None);
    folder.finds("batches", "events are missing before it");
    // A consumer is never led over the gap.
    let handle = open(folder.options()).unwrap();
    let error = handle.log().read(Seq::ZERO, 1 << 20).await.unwrap_err().to_string();
    assert!(error.contains("the batch before it is missing") && error.contains("seq"), "{error}");
}

/// I6: a compaction that fails tells nobody; the next look finds it and ends the process.
#[tokio::test]
async fn i6_a_failed_compaction_ends_the_process_at_once() {
    let folder = Folder::new().await;
    let table = folder.table(Family::Accounts);
    flip(&table, 100);
    let handle = open(folder.options()).unwrap();
    handle.probe().await;
    assert!(handle.is_writable(), "nothing has failed yet");
    handle.store().compact_accounts();
    handle.probe().await;
    let error = handle.failed().await.to_string();
    assert!(error.contains("Corruption") && error.contains(name(&table)), "{error}");
    assert!(error.contains("mainstem check") && error.contains("docs/operations.md"), "{error}");
}

/// The store is there for one process, and says so to the second.
#[tokio::test]
async fn a_folder_that_is_in_use_or_not_readable_is_told() {
    let folder = Folder::new().await;
    let first = open(folder.options()).unwrap();
    let error = open(folder.options()).err().unwrap().to_string();
    assert!(error.contains("Another process") && error.contains("LOCK"), "{error}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(Options { dir: file, ..folder.options() }).err().unwrap().to_string();
    assert!(error.contains("it is no folder"), "{error}");
    assert_eq!(read_all(&first.log(), Seq::ZERO, 1 << 20).await.len(), 700 - 14);
}

/// The generator of secp256k1, compressed: a point that is a key.
const GENERATOR: [u8; 33] = [
    0x02, 0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b,
    0x07, 0x02, 0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17,
    0x98,
];
