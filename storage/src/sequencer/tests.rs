//! The invariants of a commit: I1, I2, I3, I5, I6, I11, I13, and what its rows say.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use protocol::account::{Account, Upstream};
use protocol::did::Did;
use protocol::host_state::HostState;
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::keys::Curve;

use crate::accounts::AccountWrite;
use crate::fixture::*;
use crate::gaps::ACCOUNT_GAPS_MAX;
use crate::store::faults::Fault;
use crate::{
    Durability, Entry, Error, ExportRow, Gap, Handle, HostNote, IdentityRow, Mark, Memory, Options,
    Read, RejectNote, Start, open,
};

/// What a crash of the process leaves at this moment.
pub(crate) fn crash_image(dir: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "LOCK" {
            std::fs::copy(file.path(), image.path().join(file.file_name())).unwrap();
        }
    }
    image
}

fn rejected(host: HostId, prev: u64, number: u64, gap: Option<Option<Did>>) -> Entry {
    Entry {
        ticket: Some(ticket(host, 0, prev, number)),
        reject: Some(RejectNote {
            name: "op_duplicate",
            host,
            did: Some(did(1)),
            excerpt: Bytes::from_static(b"frame"),
            at: Micros(number),
        }),
        gap: gap.map(|did| Gap { host, did }),
        ..Entry::default()
    }
}

fn cursor(handle: &Handle, host: HostId) -> u64 {
    handle.host(host).unwrap().cursor.get()
}

#[tokio::test]
async fn i1_a_crash_leaves_all_of_a_commit_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(on_disk(&clock, dir.path())).unwrap();
    let host = add(&handle, "pds.example.com").await.id;
    for number in 1..=40_u64 {
        let mut entry = accepted(host, number - 1, number, &did(number), false);
        entry.gap = Some(Gap { host, did: Some(did(number)) });
        handle.submit(vec![entry]);
        if number % 8 != 0 {
            continue;
        }
        let image = crash_image(dir.path());
        let restarted = open(on_disk(&clock, image.path())).unwrap();
        let frames = read_all(&restarted.log(), seq(0), 1 << 20).await;
        let cursor = cursor(&restarted, host);
        assert_eq!(cursor, u64::try_from(frames.len()).unwrap(), "cursor and log");
        assert_eq!(restarted.host(host).unwrap().accounts, cursor, "count and log");
        assert_eq!(restarted.gap(host).unwrap().map_or(0, |gap| u64::from(gap.accounts)), cursor);
        for account in 1..=40 {
            let known = restarted.account(&did(account)).unwrap().is_some();
            assert_eq!(known, account <= cursor, "account {account} and cursor {cursor}");
        }
        let last = frames.last().map_or(0, |frame| seq_of(frame));
        assert_eq!(restarted.log().head().get(), last);
        restarted.stop().unwrap();
    }
    handle.stop().unwrap();
}

#[tokio::test]
async fn i2_what_is_visible_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(on_disk(&clock, dir.path())).unwrap();
    let host = add(&handle, "pds.example.com").await.id;
    let mut head = handle.log().subscribe();
    for number in 1..=5 {
        handle.submit(vec![accepted(host, number - 1, number, &did(number), false)]);
        head.changed().await.unwrap();
        let visible = read_all(&handle.log(), seq(0), 1 << 20).await;
        let image = crash_image(dir.path());
        let restarted = open(on_disk(&clock, image.path())).unwrap();
        assert_eq!(read_all(&restarted.log(), seq(0), 1 << 20).await, visible);
    }
}

#[tokio::test]
async fn i2_i6_a_failed_write_shows_nothing_and_stops_for_good() {
    for (fault, survives) in [(Fault::NotDone, 1), (Fault::DoneButFailed, 2)] {
        let memory = Memory::empty().unwrap();
        let clock = Clockwork::at(NOW);
        let handle = open(options(&clock, &memory)).unwrap();
        let host = add(&handle, "pds.example.com").await.id;
        let mut entry = accepted(host, 0, 1, &did(1), false);
        entry.mark = Some(Mark { shard: 0, number: 1 });
        handle.submit(vec![entry]);
        settle(&handle).await;
        let head = handle.log().head();
        assert!(handle.is_writable());

        handle.store().faults.arm(fault);
        let mut entry = accepted(host, 1, 2, &did(2), false);
        entry.mark = Some(Mark { shard: 0, number: 2 });
        handle.submit(vec![entry]);
        assert!(matches!(handle.failed().await, Error::Injected));
        assert_eq!(handle.store().faults.fired(), 1);
        assert!(!handle.is_writable());
        assert_eq!(handle.log().head(), head);
        assert_eq!(handle.log().read(head, 1 << 20).await.unwrap(), Read::CaughtUp);
        assert_eq!(cursor(&handle, host), 1);
        assert_eq!(handle.settled()[0].load(Ordering::Acquire), 1);
        // Whatever comes later goes nowhere, and nobody hangs.
        handle.submit(vec![accepted(host, 2, 3, &did(3), false)]);
        let added = handle.add_host(name("other.example.com"), Start::Live, 0).await;
        assert!(matches!(added, Err(Error::Stopped)));
        assert!(matches!(handle.clone().stop(), Err(Error::Injected)));
        drop(handle);

        let restarted = open(options(&clock, &memory)).unwrap();
        let frames = read_all(&restarted.log(), seq(0), 1 << 20).await;
        assert_eq!(frames.len(), survives, "{fault:?}");
        assert_eq!(cursor(&restarted, host), u64::try_from(survives).unwrap());
    }
}

#[tokio::test]
async fn i3_seq_rises_over_restarts_and_clock_jumps() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let mut last = 0;
    for (jump, first) in [
        (NOW, NOW),
        // Two hours off, an ordinary restart.
        (NOW + 7_200_000_000, NOW + 7_200_000_000),
        // A day back: on by one.
        (NOW - 86_400_000_000, NOW + 7_200_000_002),
        (NOW + 7_200_000_000, NOW + 7_200_000_004),
    ] {
        clock.set(jump);
        let handle = open(options(&clock, &memory)).unwrap();
        assert_eq!(handle.log().head().get(), last);
        handle.submit(vec![logged(&did(1), vec![active(&did(1)), active(&did(1))])]);
        settle(&handle).await;
        let frames = read_all(&handle.log(), seq(last), 1 << 20).await;
        let seqs: Vec<_> = frames.iter().map(|frame| seq_of(frame)).collect();
        // The first commit of a run is the host's, so its own number is the clock's.
        assert_eq!(seqs, [first.max(last + 1), first.max(last + 1) + 1]);
        last = seqs[1];
        handle.stop().unwrap();
    }
    clock.set(NOW + 40 * 86_400_000_000);
    assert!(matches!(open(options(&clock, &memory)), Err(Error::ClockAhead { .. })));
    open(Options { accept_clock: true, ..options(&clock, &memory) }).unwrap();
}

#[tokio::test]
async fn i3_an_event_owns_as_many_numbers_as_it_has_ops() {
    let (handle, _) = store();
    let frames = vec![commit(&did(1), 3, 10), commit(&did(1), 1, 10), commit(&did(1), 200, 10)];
    handle.submit(vec![logged(&did(1), frames)]);
    settle(&handle).await;
    let frames = read_all(&handle.log(), seq(0), 1 << 20).await;
    let seqs: Vec<_> = frames.iter().map(|frame| seq_of(frame)).collect();
    assert_eq!(seqs, [NOW, NOW + 1, NOW + 201]);
    // A cursor inside the span resumes at the whole event.
    assert_eq!(read_all(&handle.log(), seq(NOW + 100), 1 << 20).await.len(), 1);
}

#[tokio::test]
async fn i3_the_last_number_is_the_last() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(protocol::ids::SEQ_MAX - 1);
    let handle = open(options(&clock, &memory)).unwrap();
    handle.submit(vec![logged(&did(1), vec![active(&did(1)), active(&did(1))])]);
    settle(&handle).await;
    assert_eq!(handle.log().head().get(), protocol::ids::SEQ_MAX);
    handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
    assert!(matches!(handle.failed().await, Error::SeqExhausted(_)));
}

#[tokio::test]
async fn i5_the_stored_cursor_is_the_end_of_the_settled_prefix() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(options(&clock, &memory)).unwrap();
    let host = add(&handle, "pds.example.com").await.id;
    // 10, 20, 30, 40 were received; 20 is on its way in another shard.
    handle.submit(vec![accepted(host, 0, 10, &did(1), false)]);
    handle.submit(vec![accepted(host, 20, 30, &did(2), false)]);
    handle.submit(vec![rejected(host, 30, 40, None)]);
    settle(&handle).await;
    assert_eq!(cursor(&handle, host), 10);
    handle.stop().unwrap();

    // It was still on its way at the end: the host sends again what followed the cursor.
    let handle = open(options(&clock, &memory)).unwrap();
    assert_eq!(cursor(&handle, host), 10);
    handle.submit(vec![accepted(host, 20, 30, &did(2), true), rejected(host, 30, 40, None)]);
    settle(&handle).await;
    assert_eq!(cursor(&handle, host), 10);
    // The cursor in a commit is the cursor after it.
    handle.submit(vec![accepted(host, 10, 20, &did(3), false)]);
    settle(&handle).await;
    assert_eq!(cursor(&handle, host), 40);
    // A known account's commit changes nothing else of the host's row.
    handle.submit(vec![accepted(host, 40, 50, &did(3), true)]);
    settle(&handle).await;
    assert_eq!(cursor(&handle, host), 50);
    handle.stop().unwrap();
    assert_eq!(cursor(&open(options(&clock, &memory)).unwrap(), host), 50);
}

#[tokio::test]
async fn i5_i13_a_higher_epoch_forgets_the_cursor_and_owes_the_host() {
    let (handle, _) = store();
    let host = add(&handle, "pds.example.com").await.id;
    handle.submit(vec![accepted(host, 0, 500, &did(1), false)]);
    settle(&handle).await;
    let mut entry = accepted(host, 0, 3, &did(2), false);
    entry.ticket = Some(ticket(host, 1, 0, 3));
    handle.submit(vec![entry]);
    // Stragglers of the epoch before settle without moving the cursor, also where their numbers
    // would go on from it.
    handle.submit(vec![rejected(host, 2, 400, None), rejected(host, 500, 501, None)]);
    settle(&handle).await;
    let row = handle.host(host).unwrap();
    assert_eq!((row.epoch, row.cursor, row.start), (Epoch(1), host_seq(3), Start::Oldest));
    assert!(handle.gap(host).unwrap().unwrap().whole);

    // The crawler's own report says the same; one that comes late changes nothing.
    let reset = |epoch| HostNote::Reset { host, epoch: Epoch(epoch), reason: "future".to_owned() };
    handle.note_host(reset(1)).await.unwrap();
    assert_eq!(cursor(&handle, host), 3);
    handle.note_host(reset(2)).await.unwrap();
    let row = handle.host(host).unwrap();
    assert_eq!((row.epoch, row.cursor), (Epoch(2), HostSeq::ZERO));
}

#[tokio::test]
async fn i6_an_entry_that_contradicts_the_state_stops_the_store() {
    let check = async |entry: Entry| {
        let (handle, _) = store();
        handle.submit(vec![entry]);
        let error = handle.failed().await;
        assert!(matches!(error, Error::Impossible(_) | Error::UnknownHost(_)), "{error}");
    };
    check(rejected(HostId(77), 0, 1, None)).await;
    check(Entry { frames: vec![active(&did(1))], ..Entry::default() }).await;
    check(Entry { mark: Some(Mark { shard: 2, number: 1 }), ..Entry::default() }).await;
    let account = Some(AccountWrite { account: account(HostId(77), 1), was: None, decided: false });
    check(Entry { account, did: Some(did(1)), ..Entry::default() }).await;
}

#[tokio::test]
async fn i7_a_commit_is_bounded_in_entries_and_bytes() {
    let (handle, _) = store();
    let many = (0..1000).map(|_| logged(&did(1), vec![active(&did(1))])).collect();
    handle.submit(many);
    let large = (0..10).map(|_| logged(&did(1), vec![commit(&did(1), 1, 300_000)])).collect();
    handle.submit(large);
    handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, 1_900_000)])]);
    settle(&handle).await;
    assert_eq!(read_all(&handle.log(), seq(0), 1).await.len(), 1011);
    let mut batches = handle.store().batches(handle.log().head());
    batches.seek_to_first();
    while let Some(value) = batches.value() {
        let events = crate::store::batch::View::read(value).unwrap().events();
        assert!(events <= super::pending::ENTRIES_MAX);
        assert!(events == 1 || value.len() <= super::pending::BYTES_MAX + (64 << 10));
        batches.next();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_hosts_added_at_once_get_one_number_each() {
    let (handle, _) = store();
    let tasks: Vec<_> = (0..64)
        .map(|task: u32| {
            let handle = handle.clone();
            tokio::spawn(async move { add(&handle, &format!("pds{}.example.com", task % 8)).await })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        let host = task.await.unwrap();
        assert_eq!(handle.host_by_name(&host.name).unwrap().id, host.id);
        ids.push(host.id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids, (1..=8).map(HostId).collect::<Vec<_>>());
    let page = handle.hosts(Some(HostId(3)), 2);
    assert_eq!(page.iter().map(|host| host.id).collect::<Vec<_>>(), [HostId(4), HostId(5)]);
}

#[tokio::test]
async fn i13_a_drop_and_what_it_owes_are_one_write() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(on_disk(&clock, dir.path())).unwrap();
    let host = add(&handle, "pds.example.com").await.id;
    handle.submit(vec![rejected(host, 0, 1, Some(Some(did(1))))]);
    handle.submit(vec![rejected(host, 1, 2, Some(Some(did(1))))]);
    handle.submit(vec![rejected(host, 2, 3, Some(Some(did(2))))]);
    settle(&handle).await;
    let restarted = open(on_disk(&clock, crash_image(dir.path()).path())).unwrap();
    assert_eq!(cursor(&restarted, host), 3);
    let gap = restarted.gap(host).unwrap().unwrap();
    assert_eq!((gap.whole, gap.accounts, gap.reason.as_str()), (false, 2, "op_duplicate"));
    let dids: Vec<_> =
        restarted.account_gaps(host, 10).unwrap().into_iter().map(|gap| gap.did).collect();
    assert_eq!(dids.len(), 2);
    assert!(dids.contains(&did(1)) && dids.contains(&did(2)));
    assert_eq!(restarted.account_gap(host, &did(1)).unwrap().unwrap().reason, "op_duplicate");
    assert_eq!(restarted.account_gap(host, &did(3)).unwrap(), None);
    // Known after a restart, too: counted once.
    restarted.submit(vec![rejected(host, 3, 4, Some(Some(did(2))))]);
    settle(&restarted).await;
    assert_eq!(restarted.gap(host).unwrap().unwrap().accounts, 2);
}

#[tokio::test]
async fn i13_beyond_its_limit_of_account_gaps_the_whole_host_is_owed() {
    let (handle, _) = store();
    let host = add(&handle, "pds.example.com").await.id;
    let other = add(&handle, "other.example.com").await.id;
    handle.submit(vec![rejected(other, 0, 1, Some(Some(did(1))))]);
    for number in 1..=u64::from(ACCOUNT_GAPS_MAX) {
        handle.submit(vec![rejected(host, number - 1, number, Some(Some(did(number))))]);
    }
    settle(&handle).await;
    let gap = handle.gap(host).unwrap().unwrap();
    assert_eq!((gap.whole, gap.accounts), (false, ACCOUNT_GAPS_MAX));
    let one_more = u64::from(ACCOUNT_GAPS_MAX) + 1;
    handle.submit(vec![rejected(host, one_more - 1, one_more, Some(Some(did(one_more))))]);
    settle(&handle).await;
    let gap = handle.gap(host).unwrap().unwrap();
    assert_eq!((gap.whole, gap.accounts), (true, 0));
    assert!(handle.account_gaps(host, 10).unwrap().is_empty());
    assert_eq!(handle.account_gaps(other, 10).unwrap().len(), 1);
}

/// What an account's hosts say of it, one after the other, and how many accounts the old and the
/// new host have afterwards.
fn moves(old: HostId, new: HostId) -> Vec<(Entry, (u64, u64))> {
    let deleted = || Upstream { active: false, status: Some("deleted".into()) };
    let deactivated = || Upstream { active: false, status: Some("deactivated".into()) };
    let mut before = None;
    let mut says = |host, upstream, counts| {
        let account = Account { upstream, ..account(host, 1) };
        let was = before.replace(host);
        let entry = Entry {
            frames: vec![active(&did(1))],
            did: Some(did(1)),
            account: Some(AccountWrite { account, was, decided: false }),
            ..Entry::default()
        };
        (entry, counts)
    };
    vec![
        says(old, Upstream::ACTIVE, (1, 0)),
        says(old, deactivated(), (1, 0)),
        says(new, Upstream::ACTIVE, (0, 1)),
        says(new, deleted(), (0, 0)),
        says(new, deleted(), (0, 0)),
        says(new, Upstream::ACTIVE, (0, 1)),
        says(new, Upstream::ACTIVE, (0, 1)),
        says(new, deleted(), (0, 0)),
        says(old, deleted(), (0, 0)),
        says(old, deactivated(), (1, 0)),
    ]
}

fn counts(handle: &Handle, old: HostId, new: HostId) -> (u64, u64) {
    let count = |id: HostId| {
        let accounts = handle.host(id).unwrap().accounts;
        let (from, to) = (crate::store::keys::host(id), crate::store::keys::host(HostId(id.0 + 1)));
        let family = crate::store::Family::HostAccounts;
        let rows = handle.store().range(family, &from, Some(&to), 10).unwrap();
        assert_eq!(u64::try_from(rows.len()).unwrap(), accounts, "rows and count of {id}");
        accounts
    };
    (count(old), count(new))
}

#[tokio::test]
async fn a_live_account_counts_on_one_host_whatever_is_said_how_often() {
    let (handle, _) = store();
    let old = add(&handle, "old.example.com").await.id;
    let new = add(&handle, "new.example.com").await.id;
    for (entry, expected) in moves(old, new) {
        let account = entry.account.as_ref().unwrap().account.clone();
        handle.submit(vec![entry]);
        settle(&handle).await;
        assert_eq!(counts(&handle, old, new), expected, "{account:?}");
        assert_eq!(handle.account(&did(1)).unwrap(), Some(account));
    }
    // The same within one commit.
    let (handle, _) = store();
    for name in ["old.example.com", "new.example.com"] {
        add(&handle, name).await;
    }
    for end in 1..=moves(old, new).len() {
        let (entries, expected): (Vec<_>, Vec<_>) = moves(old, new).into_iter().take(end).unzip();
        let gone = Upstream { active: false, status: Some("deleted".into()) };
        let begin = [old, new].map(|host| Entry {
            did: Some(did(1)),
            account: Some(AccountWrite {
                account: Account { upstream: gone.clone(), ..account(host, 1) },
                was: Some(host),
                decided: false,
            }),
            ..Entry::default()
        });
        handle.submit(begin.into_iter().chain(entries).collect());
        settle(&handle).await;
        assert_eq!(counts(&handle, old, new), expected[end - 1], "{end}");
    }
}

#[tokio::test]
async fn a_host_keeps_its_last_rejects_only() {
    let (handle, _) = store();
    let host = add(&handle, "pds.example.com").await.id;
    for number in 1..=100 {
        handle.submit(vec![rejected(host, number - 1, number, None)]);
    }
    settle(&handle).await;
    let rejects = handle.rejects(host).unwrap();
    let numbers: Vec<_> = rejects.iter().map(|reject| reject.number).collect();
    assert_eq!(numbers, (36..100).rev().collect::<Vec<_>>());
    assert_eq!(rejects[0].at, Micros(100));
    assert_eq!(handle.host(host).unwrap().rejects, 100);
}

#[tokio::test]
async fn drops_alone_give_back_their_bytes_at_once() {
    struct Count(std::sync::atomic::AtomicU32);
    impl protocol::ticket::Budget for Count {
        fn give_back(&self, bytes: u32) {
            self.0.fetch_add(bytes, Ordering::SeqCst);
        }
    }
    let (handle, _) = store();
    let host = add(&handle, "pds.example.com").await.id;
    let budget = std::sync::Arc::new(Count(0.into()));
    let mut entry = rejected(host, 0, 1, None);
    let permit = protocol::ticket::Permit::new(7, budget.clone());
    entry.ticket = Some(protocol::ticket::Ticket { permit, ..ticket(host, 0, 0, 1) });
    handle.submit(vec![entry]);
    // Its write is up to a second away; a failing one proves that it did not happen before.
    handle.store().faults.arm(Fault::NotDone);
    while budget.0.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cursor(&handle, host), 0);
    // It does happen by itself.
    assert!(matches!(handle.failed().await, Error::Injected));
}

#[tokio::test]
async fn notes_are_kept() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(options(&clock, &memory)).unwrap();
    let host = add(&handle, "pds.example.com").await;
    let state = HostState::BackingOff;
    let reason = "ä".repeat(200);
    let note = HostNote::State { host: host.id, state, reason, at: Micros(5) };
    handle.note_host(note).await.unwrap();
    let note = HostNote::Gap { host: host.id, reason: "outdated cursor".to_owned() };
    handle.note_host(note).await.unwrap();
    handle.note_host(HostNote::Ban { host: host.id, banned: true }).await.unwrap();
    handle.submit(vec![Entry { closes_ratchet: Some(host.id), ..Entry::default() }]);
    let unknown = HostNote::Ban { host: HostId(99), banned: true };
    assert!(matches!(handle.note_host(unknown).await, Err(Error::UnknownHost(HostId(99)))));
    handle.stop().unwrap();

    let handle = open(options(&clock, &memory)).unwrap();
    let row = handle.host_by_name(&host.name).unwrap();
    assert_eq!((row.state, row.since, row.banned), (state, Micros(5), true));
    assert_eq!(row.reason.as_ref(), "ä".repeat(128));
    assert!(row.ratchet_closed);
    assert_eq!(handle.gap(host.id).unwrap().unwrap().reason, "outdated cursor");
    // The number of a host is never given again.
    assert_eq!(add(&handle, "other.example.com").await.id, HostId(2));
}

#[tokio::test]
async fn an_identity_is_kept() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(options(&clock, &memory)).unwrap();
    let identity = IdentityRow {
        did: did(1),
        key: Some((Curve::K256, [2; 33])),
        pds: Some(name("pds.example.com")),
        handle: None,
        fetched: Micros(3),
        tombstoned: false,
    };
    handle.submit(vec![Entry { identity: Some(identity.clone()), ..Entry::default() }]);
    handle.stop().unwrap();
    let handle = open(options(&clock, &memory)).unwrap();
    assert_eq!(handle.identity(&did(1)).unwrap(), Some(identity));
    assert_eq!(handle.identity(&did(2)).unwrap(), None);
}

#[tokio::test]
async fn the_place_in_the_plc_export_is_kept() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(options(&clock, &memory)).unwrap();
    assert_eq!(handle.export().unwrap(), None);
    let export = |position| ExportRow {
        url: "https://plc.example.com/export".to_owned(),
        by_seq: true,
        position,
        since: Micros(0),
        until: Micros(NOW),
    };
    let entry = |position| Entry { export: Some(export(position)), ..Entry::default() };
    handle.submit(vec![entry(1), entry(2)]);
    handle.stop().unwrap();
    let handle = open(options(&clock, &memory)).unwrap();
    assert_eq!(handle.export().unwrap(), Some(export(2)));
}

#[tokio::test]
async fn when_the_last_handle_goes_what_was_submitted_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(Options {
        durability: Durability::Os,
        commit_interval: Duration::from_secs(3600),
        ..on_disk(&clock, dir.path())
    })
    .unwrap();
    let mut head = handle.log().subscribe();
    handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
    handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
    drop(handle);
    // The sender goes when the sequencer has let go of the log.
    while head.changed().await.is_ok() {}
    let handle = open(on_disk(&clock, dir.path())).unwrap();
    assert_eq!(read_all(&handle.log(), seq(0), 1 << 20).await.len(), 2);
}

#[tokio::test]
async fn i6_a_row_that_does_not_read_back_stops_the_store() {
    let (handle, _) = store();
    let mut rows = rocksdb::WriteBatch::default();
    let key = crate::store::keys::account(&did(1));
    rows.put_cf(handle.store().family(crate::store::Family::Accounts), key, b"rot");
    handle.store().write(rows, crate::store::Wait::Os).unwrap();
    assert!(matches!(handle.account(&did(1)), Err(Error::Corrupt { .. })));
    assert!(matches!(handle.failed().await, Error::Corrupt { .. }));
    assert!(!handle.is_writable());
}

#[tokio::test]
async fn i7_a_flood_of_drops_does_not_hold_up_what_somebody_waits_for() {
    let (handle, _) = store();
    let host = add(&handle, "pds.example.com").await.id;
    let drops = (1..=50_000).map(|number| rejected(host, number - 1, number, None)).collect();
    handle.submit(drops);
    handle.submit(vec![accepted(host, 50_000, 50_001, &did(1), false)]);
    settle(&handle).await;
    assert_eq!(cursor(&handle, host), 50_001);
    assert_eq!(read_all(&handle.log(), seq(0), 1 << 20).await.len(), 1);
    assert_eq!(handle.rejects(host).unwrap().len(), 64);
}
