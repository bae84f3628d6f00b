//! Data folders of every format there was, committed under `storage/tests/golden`: as rows in
//! text, one a line, and as the files of a database. What this version writes must be the rows of
//! its own format, byte for byte, and all of them must read back.
//!
//! `MAINSTEM_GOLDEN=write cargo test --release -p storage golden` writes those of this format anew,
//! which is right only for a new format. Those of older formats are never written again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::never;
use protocol::account::{Account, Conduct, Hour, Local, Repo, Throttle, Upstream};
use protocol::host_state::{HostState, Level, Meter};
use protocol::keys::Curve;
use protocol::tid::Tid;
use rocksdb::{DBCompressionType, IteratorMode};

use super::format::FORMAT;
use super::*;
use crate::check::{Finding, Report, check};
use crate::fixture::*;
use crate::store::records::{ExportRow, IdentityRow, RejectRow};
use crate::{
    AccountGap, AccountWrite, Compression, Entry, Excused, Gap, Handle, HostNote, Member, Options,
    Override, ReconcileRow, RejectNote, Start, open,
};

/// Everything that can be asked of a store.
#[derive(Debug, PartialEq)]
struct Answers {
    hosts: Vec<Host>,
    owed: Vec<Option<HostGap>>,
    owed_accounts: Vec<AccountGap>,
    members: Vec<Member>,
    throttled: Vec<Did>,
    reconcile: Option<ReconcileRow>,
    excused: Vec<(Did, Excused)>,
    domain_bans: Vec<String>,
    rejects: Vec<RejectRow>,
    accounts: Vec<Option<Account>>,
    identities: Vec<Option<IdentityRow>>,
    decisions: Vec<(Did, Local)>,
    export: Option<ExportRow>,
    begin_floor_head: [Seq; 3],
    hidden: usize,
    frames: Vec<Vec<u8>>,
}

/// What a store held in its later days is not in those of earlier formats.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    /// Without conduct and decisions.
    Format1,
    /// Without limits and reconciliation.
    Format2,
    Format4,
}

const CONTENTS: [(u32, Content); 4] =
    [(1, Content::Format1), (2, Content::Format2), (3, Content::Format2), (4, Content::Format4)];

fn web() -> Did {
    Did::parse("did:web:example.com").unwrap()
}

fn accounts() -> [Did; 5] {
    [did(1), did(2), did(3), did(4), web()]
}

/// An account in each of the ways that a row can be.
fn states(host: HostId, content: Content) -> Vec<(Did, Account)> {
    let repo = Repo { rev: Tid::parse("3l3qo2vutsw2b").unwrap(), data: [1; 32], commit: [2; 32] };
    let plain = |number| account(host, number);
    let status = |text: &str| Upstream { active: false, status: Some(Arc::from(text)) };
    let mut states = vec![
        (did(1), Account { repo: Some(repo), ..plain(5) }),
        (did(2), Account { upstream: status("deleted"), ..plain(6) }),
        (
            did(3),
            Account { local: Local::Takendown, upstream: status("desynchronized"), ..plain(7) },
        ),
    ];
    if content == Content::Format1 {
        return states;
    }
    let until = Micros(NOW + 1);
    let conduct = Conduct {
        breaks: 11,
        broken: Hour { since: Micros(NOW), count: 3 },
        changed: Hour { since: Micros(NOW + 2), count: 4 },
    };
    let local = Local::Throttled(Throttle::Breaks { until });
    states.push((did(4), Account { local, conduct, ..plain(8) }));
    let local = Local::Throttled(Throttle::Quota);
    states.push((web(), Account { local, ..plain(9) }));
    states
}

/// Fills a store with every kind of row, by the ways that the relay has.
async fn fill(handle: &Handle, clock: &Clockwork, options: &Options, content: Content) {
    let start = |name_: &str, start| handle.add_host(name(name_), start, 0);
    let first = start("pds.example.com", Start::Oldest).await.unwrap().id;
    let second = start("other.example.com", Start::Live).await.unwrap().id;
    let reason = "refused".to_owned();
    let (state, at) = (HostState::BackingOff, Micros(NOW + 3));
    handle.note_host(HostNote::State { host: second, state, reason, at }).await.unwrap();
    handle.note_host(HostNote::Gap { host: second, reason: "too slow".into() }).await.unwrap();
    handle.note_host(HostNote::Ban { host: second, banned: true }).await.unwrap();
    for (of, account) in states(first, content) {
        let number = account.host_seq.get();
        let decided = content != Content::Format1 && account.local != Local::None;
        let frames = vec![active(&of), identity(&of), sync(&of), commit(&of, 2, 500)];
        let account = Some(AccountWrite { account, was: None, decided });
        let ticket = Some(ticket(first, 0, number - 1, number));
        let did = Some(of);
        handle.submit(vec![Entry { ticket, frames, did, account, ..Entry::default() }]);
        settle(handle).await;
        clock.advance(Duration::from_secs(3600));
    }
    let identity = |did, key: Option<_>, pds: Option<&str>, handle: Option<&str>| IdentityRow {
        tombstoned: key.is_none(),
        pds: pds.map(name),
        handle: handle.map(str::to_owned),
        fetched: Micros(NOW + 4),
        did,
        key,
    };
    let identities = [
        identity(did(1), Some((Curve::K256, [3; 33])), Some("pds.example.com"), Some("a.test")),
        identity(web(), Some((Curve::P256, [2; 33])), None, None),
        identity(did(2), None, None, None),
    ];
    handle.submit(identities.map(|row| Entry { identity: Some(row), ..Entry::default() }).into());
    let reject = RejectNote {
        name: "rev_syntax",
        host: first,
        did: Some(did(1)),
        excerpt: bytes::Bytes::from_static(b"\xa2abc"),
        at: Micros(NOW + 5),
    };
    let export = ExportRow {
        url: "https://plc.example/export".to_owned(),
        by_seq: true,
        position: 77,
        since: Micros(1),
        until: Micros(2),
    };
    handle.submit(vec![Entry {
        reject: Some(reject),
        gap: Some(Gap { host: first, did: Some(did(1)) }),
        export: Some(export),
        closes_ratchet: Some(first),
        ..Entry::default()
    }]);
    settle(handle).await;
    if content == Content::Format4 {
        fill_format_4(handle, first, second).await;
    }
    // The first two batches are given up.
    let retention = Duration::from_secs(3600);
    clock.set(NOW + 2 * 3_600_000_000 + 3_600_000_000);
    let options = Options { retention, ..options.clone() };
    handle.retention(&options).enforce(&never()).unwrap();
}

/// What came with limits and reconciliation.
async fn fill_format_4(handle: &Handle, first: HostId, second: HostId) {
    let level = |spent| Level { spent, at: Micros(NOW + 6) };
    let meter = Meter {
        events: 1,
        bytes: 2,
        connects: 3,
        last_event: Micros(NOW + 7),
        hour: level(4),
        day: level(5),
    };
    let allowance = Override { per_hour: Some(6), accounts: Some(7), ..Override::default() };
    let (text, at) = ("connection lost".to_owned(), Micros(NOW + 8));
    for note in [
        HostNote::Meter { host: first, meter },
        HostNote::Level { host: first, level: 3, since: Micros(NOW + 9), abuse: 1 },
        HostNote::Allowance { host: first, allowance },
        HostNote::Service { host: first, did: Some("did:web:pds.example.com".to_owned()) },
        HostNote::Error { host: first, text, at },
        HostNote::Alias { host: second, of: Some(first) },
        HostNote::Gap { host: second, reason: "asked for".to_owned() },
    ] {
        handle.note_host(note).await.unwrap();
    }
    handle.submit(vec![Entry {
        gap: Some(Gap { host: first, did: Some(did(1)) }),
        ..Entry::default()
    }]);
    let row = ReconcileRow {
        began: Micros(NOW + 10),
        reason: "gap".to_owned(),
        after: "cursor".to_owned(),
        listed: 8,
        in_step: 7,
        behind: 1,
        repaired: 1,
        last_full: Micros(NOW + 11),
        last_full_known: 9,
        ..ReconcileRow::default()
    };
    handle.put_reconcile_row(first, row).await.unwrap();
    let (rev, head) = ("3l3qo2vutsw2b".to_owned(), "bafy".to_owned());
    let excused = Excused { rev, head, at: Micros(NOW + 12), missing_since: Micros(0) };
    handle.put_excused(first, did(1), excused).await.unwrap();
    let bans = ["*.bad.example.com", "worse.example.com"].map(str::to_owned);
    handle.set_domain_bans(bans.to_vec()).await.unwrap();
    let removed = add(handle, "gone.example.com").await.id;
    handle.remove_host(removed).await.unwrap();
}

async fn ask(handle: &Handle, content: Content) -> Answers {
    let mut hosts = handle.hosts(None, 10);
    let log = handle.log();
    let mut members = handle.members(hosts[0].id, None, 10).unwrap();
    if content != Content::Format4 {
        // Since when accounts are there, it did not say, and hosts had no standing.
        members.iter_mut().for_each(|member| member.joined = Micros(0));
        hosts.iter_mut().for_each(|host| host.level_since = Micros(0));
    }
    if content == Content::Format1 {
        // Nor was it written down which accounts something was decided about.
        members.iter_mut().for_each(|member| member.decided = false);
    }
    Answers {
        members,
        throttled: handle.throttled_oldest(hosts[0].id, 10).unwrap(),
        reconcile: handle.reconcile_row(hosts[0].id).unwrap(),
        excused: handle.excused_after(hosts[0].id, None, 10).unwrap(),
        domain_bans: handle.domain_bans().to_vec(),
        owed: hosts.iter().map(|host| handle.gap(host.id).unwrap()).collect(),
        owed_accounts: handle.account_gaps(hosts[0].id, 10).unwrap(),
        rejects: handle.rejects(hosts[0].id).unwrap(),
        accounts: accounts().iter().map(|did| handle.account(did).unwrap()).collect(),
        identities: accounts().iter().map(|did| handle.identity(did).unwrap()).collect(),
        decisions: handle.decisions(None, 10).unwrap(),
        export: handle.export().unwrap(),
        begin_floor_head: [log.begin(), log.floor(), log.head()],
        hidden: log.hidden().len(),
        frames: read_all(&log, log.floor(), 1 << 20).await,
        hosts,
    }
}

/// A store with all of it, freshly written by this version: what it answers, and its rows.
async fn fresh(content: Content) -> (Answers, String) {
    let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
    let options = options(&clock, &memory);
    let handle = open(options.clone()).unwrap();
    fill(&handle, &clock, &options, content).await;
    let answers = ask(&handle, content).await;
    handle.stop().unwrap();
    let store = reopen(&options.dir, Some(memory)).unwrap();
    (answers, rows(&store.db, FORMAT))
}

fn reopen(dir: &Path, memory: Option<Memory>) -> Result<Store, Error> {
    Store::open(dir, memory, Sizes::of(None), Compression::None)
}

/// Families in the order of their declaration, keys in theirs.
fn rows(db: &DB, format: u32) -> String {
    let mut text = String::new();
    for family in families(format) {
        let name = family.name();
        for row in db.iterator_cf(db.cf_handle(name).unwrap(), IteratorMode::Start) {
            let (key, row) = row.unwrap();
            text.push_str(&format!("{name} {} {}\n", hex(&key), hex(&row)));
        }
    }
    text
}

fn families(format: u32) -> impl Iterator<Item = Family> {
    Family::ALL.into_iter().filter(move |family| match family {
        Family::Decisions => format > 1,
        Family::Throttled | Family::Reconcile => format > 3,
        _ => true,
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden_rows(format: u32) -> String {
    let path = golden(&format!("format-{format}.rows"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "how a person asks this test for new files")]
fn is_written_anew() -> bool {
    std::env::var("MAINSTEM_GOLDEN").is_ok_and(|what| what == "write")
}

/// The rows as a database's files: each batch since format 3 in a file of its own, compressed in a
/// way of its own, the rest in the WAL.
fn write_folder(format: u32, rows: &str, dir: &Path) {
    drop(fs::remove_dir_all(dir));
    let lines = || rows.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let batches = lines().filter(|line| line[0] == "batches").count();
    let ways = [DBCompressionType::None, DBCompressionType::Lz4, DBCompressionType::Zstd];
    let open = |compression| {
        let database = options::database(None, Sizes::of(None));
        let descriptors = families(format).map(|family| {
            let mut options = rocksdb::Options::default();
            options.set_compression_type(compression);
            ColumnFamilyDescriptor::new(family.name(), options)
        });
        DB::open_cf_descriptors(&database, dir, descriptors).unwrap()
    };
    let put = |db: &DB, line: &[&str]| {
        db.put_cf(db.cf_handle(line[0]).unwrap(), unhex(line[1]), unhex(line[2])).unwrap();
    };
    for (place, line) in lines().take(batches).enumerate() {
        let db = open(if format < 3 { ways[0] } else { ways[place % ways.len()] });
        put(&db, &line);
        db.flush_cf(db.cf_handle("batches").unwrap()).unwrap();
    }
    let db = open(ways[0]);
    lines().skip(batches).for_each(|line| put(&db, &line));
    drop(db);
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["LOG", "LOCK", "OPTIONS", "IDENTITY"].iter().any(|kind| name.starts_with(kind)) {
            fs::remove_file(path).unwrap();
        }
    }
}

/// The format, and what is wrong but for the keys of identities, which are no points here.
fn checked(dir: &Path) -> (Option<u32>, Vec<Finding>) {
    let Report { format, mut findings, .. } = check(dir, &mut |_| {}).unwrap();
    findings.retain(|finding| finding.place != Family::Identities.name());
    (format, findings)
}

#[tokio::test]
async fn golden_rows_are_what_this_version_writes() {
    let (_, rows) = fresh(Content::Format4).await;
    if is_written_anew() {
        fs::create_dir_all(golden("")).unwrap();
        fs::write(golden(&format!("format-{FORMAT}.rows")), &rows).unwrap();
        write_folder(FORMAT, &rows, &golden(&format!("format-{FORMAT}")));
    }
    let expected = golden_rows(FORMAT);
    for (row, expected) in rows.lines().zip(expected.lines()) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows.lines().count(), expected.lines().count());
    for family in Family::ALL {
        assert!(rows.contains(&format!("{} ", family.name())), "no row of {}", family.name());
    }
}

#[tokio::test]
async fn golden_folders_of_every_format_are_read() {
    for (format, content) in CONTENTS {
        let (expected, _) = fresh(content).await;
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("store");
        copy(&golden(&format!("format-{format}")), &dir);
        let names: Vec<_> = families(format).map(Family::name).collect();
        let db = DB::open_cf_for_read_only(
            &options::database(None, Sizes::of(None)),
            &dir,
            names,
            false,
        )
        .unwrap();
        assert_eq!(rows(&db, format), golden_rows(format), "format {format}");
        drop(db);
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let options = Options { dir, in_memory: None, ..options(&clock, &memory) };
        let handle = open(options.clone()).unwrap();
        assert_eq!(ask(&handle, content).await, expected, "format {format}");
        handle.stop().unwrap();
        // From here on it is a folder of this format.
        let store = reopen(&options.dir, None).unwrap();
        let row = store.get(Family::Meta, keys::META_FORMAT).unwrap();
        assert_eq!(row, Some(FORMAT.to_be_bytes().to_vec()), "format {format}");
        let last = store.meta(keys::META_LAST_HOST, records::read_host_id).unwrap();
        assert!(last.unwrap() >= expected.hosts.last().unwrap().id, "format {format}");
    }
}

/// A crash before the format was written down: the folder is sound, and the next start goes on.
#[tokio::test]
async fn a_conversion_that_was_broken_off_is_sound_and_made_again() {
    for (format, content) in CONTENTS.into_iter().filter(|(format, _)| *format < FORMAT) {
        let (expected, _) = fresh(content).await;
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("store");
        copy(&golden(&format!("format-{format}")), &dir);
        let sizes = Sizes::of(None);
        let store = Store::open_as_it_is(&dir, None, sizes, Compression::None).unwrap();
        format::count_decided(&store, &mut WriteBatch::default()).unwrap();
        let throttled = store.range(Family::Throttled, &[], None, 10).unwrap().len();
        assert_eq!(throttled, usize::from(content != Content::Format1), "format {format}");
        drop(store);
        assert_eq!(checked(&dir), (Some(format), vec![]));
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let options = Options { dir: dir.clone(), in_memory: None, ..options(&clock, &memory) };
        let handle = open(options).unwrap();
        assert_eq!(ask(&handle, content).await, expected, "format {format}");
        handle.stop().unwrap();
        assert_eq!(checked(&dir), (Some(FORMAT), vec![]));
    }
}

/// I12: earlier formats did not write down which number was given last. Whoever held the highest
/// and is removed before another comes is the one that would be forgotten.
#[tokio::test]
async fn i12_the_number_of_a_host_that_an_older_folder_knew_is_never_given_again() {
    for (format, _) in CONTENTS {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("store");
        copy(&golden(&format!("format-{format}")), &dir);
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let options = Options { dir, in_memory: None, ..options(&clock, &memory) };
        let handle = open(options.clone()).unwrap();
        let hosts = handle.hosts(None, 10);
        let (other, highest) = (hosts[0].id, hosts.last().unwrap().id);
        let mut moves = accepted(highest, 0, 1, &did(1), false);
        moves.account.as_mut().unwrap().was = Some(other);
        handle.submit(vec![moves]);
        // As a folder is whose numbers were not written down when it became one of this format.
        if format < FORMAT {
            let mut rows = WriteBatch::default();
            rows.delete_cf(handle.store().family(Family::Meta), keys::META_LAST_HOST);
            handle.store().write(rows, Wait::Disk).unwrap();
        }
        handle.remove_host(highest).await.unwrap();
        handle.stop().unwrap();

        let handle = open(options.clone()).unwrap();
        let mut moves = accepted(other, 0, 1, &did(1), false);
        moves.account.as_mut().unwrap().was = Some(highest);
        moves.gap = Some(Gap { host: highest, did: Some(did(1)) });
        handle.submit(vec![moves]);
        let added = add(&handle, "new.example.com").await.id;
        assert!(added > highest, "format {format}: {added}");
        handle.stop().unwrap();
        assert_eq!(checked(&options.dir), (Some(FORMAT), vec![]), "format {format}");
    }
}

#[test]
fn a_folder_of_another_format_is_refused_and_stays_as_it_is() {
    for format in [0, FORMAT + 1, u32::MAX] {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("store");
        copy(&golden(&format!("format-{FORMAT}")), &dir);
        // As a later version might: with a family that this one does not know.
        let mut database = options::database(None, Sizes::of(None));
        database.create_missing_column_families(true);
        let names = Family::ALL.into_iter().map(Family::name).chain(["later"]);
        let db = DB::open_cf(&database, &dir, names).unwrap();
        db.put_cf(db.cf_handle("meta").unwrap(), keys::META_FORMAT, format.to_be_bytes()).unwrap();
        drop(db);
        let files = || {
            let file = |file: std::io::Result<fs::DirEntry>| {
                let path = file.unwrap().path();
                (fs::read(&path).unwrap(), path)
            };
            let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(file).collect();
            files.sort();
            files
        };
        let before = files();
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let options = Options { dir: dir.clone(), in_memory: None, ..options(&clock, &memory) };
        let refused = open(options).err().unwrap();
        assert!(matches!(&refused, Error::Format { found, .. } if *found == format), "{refused}");
        let said = refused.to_string();
        let named = [dir.display().to_string(), format!("format {format},"), "1 to 4".to_owned()];
        assert!(named.iter().all(|what| said.contains(what)), "{said}");
        assert!(before == files(), "nothing of it is changed");
    }
}
