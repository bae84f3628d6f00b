//! The log against a model, at its seam, under threads, and with hidden accounts.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use protocol::account::{Account, Local, Upstream};
use protocol::did::Did;
use protocol::frame::Outgoing;
use protocol::ids::HostId;

use super::*;
use crate::accounts::AccountWrite;
use crate::fixture::*;
use crate::{Durability, Entry, Handle, Memory, Options, open};

/// All frames after a cursor, as far as the model goes.
type Model = BTreeMap<u64, Vec<u8>>;

/// Appends to the model what the store must make of these frames at this time.
fn apply(model: &mut Model, frames: &[Outgoing], now: u64) {
    for frame in frames {
        let last = model.last_key_value().map_or(0, |(seq, _)| *seq);
        let number = now.max(last + u64::from(frame.span()));
        let mut bytes = Vec::new();
        frame.write_with(seq(number), &mut bytes);
        model.insert(number, bytes);
    }
}

async fn check(log: &Log, model: &Model, after: u64, bytes_max: usize) {
    let frames = read_all(log, seq(after), bytes_max).await;
    let expected: Vec<_> = model.range(after + 1..).map(|(_, frame)| frame.clone()).collect();
    assert_eq!(frames, expected, "after {after}");
}

#[derive(Clone, Debug)]
enum Step {
    /// Entries, each with the ops or bytes of its commits.
    Submit(Vec<Vec<(usize, usize)>>),
    /// The clock moves: forward, or back.
    Clock(i64),
    /// Read from the n-th known seq plus an offset.
    Read { from: prop::sample::Index, offset: u64, bytes_max: usize },
    /// Stop and open again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let frames = prop::collection::vec((0usize..5, 0usize..3000), 0..3);
    let step = prop_oneof![
        5 => prop::collection::vec(frames, 1..8).prop_map(Step::Submit),
        1 => (-2_000_000i64..4_000_000).prop_map(Step::Clock),
        3 => (any::<prop::sample::Index>(), 0u64..4, 1usize..20_000)
            .prop_map(|(from, offset, bytes_max)| Step::Read { from, offset, bytes_max }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is submitted, read and restarted: the log is the model. The small tail puts the
    /// seam between memory and disk everywhere.
    #[test]
    fn i3_i8_the_log_is_what_a_map_would_be(steps in steps(), tail_bytes in 1usize..8000) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).build().unwrap();
        runtime.block_on(run(steps, tail_bytes));
    }
}

async fn run(steps: Vec<Step>, tail_bytes: usize) {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let options = || Options { tail_bytes, ..options(&clock, &memory) };
    let mut handle = open(options()).unwrap();
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Submit(entries) => {
                let entries: Vec<Vec<_>> = entries
                    .into_iter()
                    .map(|frames| {
                        let frame = |(ops, bytes)| commit(&did(1), ops, bytes);
                        frames.into_iter().map(frame).collect()
                    })
                    .collect();
                for frames in &entries {
                    apply(&mut model, frames, clock.now());
                }
                let entry = |frames| logged(&did(1), frames);
                handle.submit(entries.into_iter().map(entry).collect());
                settle(&handle).await;
            }
            Step::Clock(by) => clock.set(clock.now().saturating_add_signed(by)),
            Step::Read { from, offset, bytes_max } => {
                let seqs: Vec<_> = model.keys().copied().collect();
                let after = if seqs.is_empty() { 0 } else { *from.get(&seqs) };
                check(&handle.log(), &model, after.saturating_sub(offset), bytes_max).await;
            }
            Step::Restart => {
                handle.stop().unwrap();
                handle = open(options()).unwrap();
            }
        }
    }
    check(&handle.log(), &model, 0, 5000).await;
    handle.stop().unwrap();
}

#[tokio::test]
async fn i8_tail_and_disk_give_the_same_bytes() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let open_with = |tail_bytes| open(Options { tail_bytes, ..options(&clock, &memory) }).unwrap();
    let handle = open_with(64 << 20);
    for _ in 0..30 {
        let frames = vec![commit(&did(1), 1, 5000), sync(&did(2)), sync(&did(3))];
        handle.submit(vec![logged(&did(1), frames)]);
        settle(&handle).await;
    }
    let hot = read_all(&handle.log(), seq(0), 1 << 20).await;
    handle.stop().unwrap();
    let handle = open_with(1);
    assert_eq!(read_all(&handle.log(), seq(0), 1 << 20).await, hot);
    assert_eq!(hot.len(), 90);
    handle.stop().unwrap();
    // Also for one that begins within a batch which nobody has loaded yet, or at its end.
    for index in [0, 1, 2, 30, 31, 88] {
        let handle = open_with(1);
        let after = seq(seq_of(&hot[index]));
        assert_eq!(read_all(&handle.log(), after, 1 << 20).await, hot[index + 1..]);
        handle.stop().unwrap();
    }
}

/// Readers start anywhere and follow to the end while the log grows and the tail forgets: each
/// must see every event once, in order. The tail holds a few batches only, so that readers cross
/// the seam in both directions all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_seam_between_tail_and_disk_has_no_gap() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(Options {
        tail_bytes: 3000,
        commit_interval: Duration::ZERO,
        durability: Durability::Os,
        ..options(&clock, &memory)
    })
    .unwrap();
    const EVENTS: u64 = 6000;
    let readers: Vec<_> = (0..6)
        .map(|reader: u64| {
            let log = handle.log();
            tokio::spawn(async move {
                let mut head = log.subscribe();
                let mut seqs = Vec::new();
                let mut after = Seq::ZERO;
                let bytes_max =
                    [1, 700, 2500, 10_000, 1 << 20, 400][usize::try_from(reader).unwrap()];
                while seqs.last().is_none_or(|last| *last < NOW + EVENTS - 1) {
                    match log.read(after, bytes_max).await.unwrap() {
                        Read::Chunk(chunk) => {
                            seqs.extend(split(&chunk.bytes).iter().map(|frame| seq_of(frame)));
                            after = chunk.last;
                            // Falling behind, so that the tail moves on meanwhile.
                            for _ in 0..reader * 3 {
                                tokio::task::yield_now().await;
                            }
                        }
                        Read::CaughtUp => head.changed().await.unwrap(),
                        Read::BelowFloor(floor) => panic!("below the floor {floor}"),
                    }
                }
                seqs
            })
        })
        .collect();
    let writer = handle.clone();
    let written = spawn_blocking(move || {
        for _ in 0..EVENTS / 3 {
            writer.submit(vec![logged(&did(1), vec![active(&did(1)); 3])]);
        }
    });
    written.await.unwrap();
    for reader in readers {
        let seqs = reader.await.unwrap();
        assert!(seqs.iter().copied().eq(NOW..NOW + EVENTS));
    }
    handle.stop().unwrap();
}

#[tokio::test]
async fn a_cursor_at_or_beyond_the_head_is_caught_up() {
    let (handle, _) = store();
    let log = handle.log();
    assert_eq!(log.read(seq(0), 1).await.unwrap(), Read::CaughtUp);
    assert_eq!(log.read(seq(NOW), 1).await.unwrap(), Read::CaughtUp);
    handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
    settle(&handle).await;
    assert_eq!(log.read(log.head(), 1).await.unwrap(), Read::CaughtUp);
    assert_eq!(log.read(seq(NOW + 99), 1).await.unwrap(), Read::CaughtUp);
    assert_eq!(log.floor(), Seq::ZERO);
}

#[tokio::test]
async fn i7_a_chunk_is_bounded_by_bytes_or_one_batch() {
    for tail_bytes in [1, 64 << 20] {
        let memory = Memory::empty().unwrap();
        let options = Options { tail_bytes, ..options(&Clockwork::at(NOW), &memory) };
        let handle = open(options).unwrap();
        for bytes in [1000, 1000, 1000, 1000, 200_000, 1000, 1000] {
            handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, bytes)])]);
            settle(&handle).await;
        }
        let mut frames = Vec::new();
        let mut after = Seq::ZERO;
        while let Read::Chunk(chunk) = handle.log().read(after, 4000).await.unwrap() {
            assert!(chunk.frames == 1 || chunk.bytes.len() <= 4000);
            frames.push(chunk.frames);
            after = chunk.last;
        }
        assert_eq!(frames.iter().sum::<u32>(), 7);
        assert!(frames.len() < 7, "small batches go together: {frames:?}");
    }
}

/// Writes an account's state, with an `#account` frame as its own event.
pub(super) async fn decide(
    handle: &Handle,
    host: HostId,
    of: &Did,
    local: Local,
    upstream: Upstream,
) {
    let was = handle.account(of).unwrap().and_then(|account| crate::accounts::live_on(&account));
    let account = Account { local, upstream, ..account(host, 1) };
    handle.submit(vec![Entry {
        frames: vec![active(of)],
        did: Some(of.clone()),
        account: Some(AccountWrite { account, was, decided: false }),
        ..Entry::default()
    }]);
    settle(handle).await;
}

/// For each visible event, its account and the first letter of its kind.
async fn seen(handle: &Handle) -> String {
    let frames = read_all(&handle.log(), seq(0), 700).await;
    let describe = |frame: &Vec<u8>| {
        let text = String::from_utf8_lossy(frame);
        let kind = char::from(frame[5]);
        let account = (1..=2).find(|number| text.contains(&did(*number).to_string())).unwrap();
        format!("{kind}{account} ")
    };
    frames.iter().map(describe).collect()
}

#[tokio::test]
async fn the_log_leaves_out_commits_and_syncs_of_hidden_accounts() {
    let deleted = || Upstream { active: false, status: Some("deleted".into()) };
    for tail_bytes in [1, 64 << 20] {
        let memory = Memory::empty().unwrap();
        let clock = Clockwork::at(NOW);
        let options = || Options { tail_bytes, ..options(&clock, &memory) };
        let handle = open(options()).unwrap();
        let host = add(&handle, "pds.example.com").await.id;
        let (one, two) = (did(1), did(2));
        handle.submit(vec![
            logged(&one, vec![commit(&one, 1, 100), identity(&one)]),
            logged(&two, vec![commit(&two, 1, 100), sync(&two)]),
            logged(&one, vec![sync(&one), commit(&one, 1, 100)]),
        ]);
        settle(&handle).await;
        assert_eq!(seen(&handle).await, "c1 i1 c2 s2 s1 c1 ");
        decide(&handle, host, &one, Local::Takendown, Upstream::ACTIVE).await;
        assert_eq!(seen(&handle).await, "i1 c2 s2 a1 ");
        decide(&handle, host, &two, Local::None, deleted()).await;
        assert_eq!(seen(&handle).await, "i1 a1 a2 ");
        // A start loads what is hidden.
        handle.stop().unwrap();
        let handle = open(options()).unwrap();
        assert_eq!(seen(&handle).await, "i1 a1 a2 ");
        // Lifted: one reason is as good as two.
        decide(&handle, host, &one, Local::None, deleted()).await;
        assert_eq!(seen(&handle).await, "i1 a1 a2 a1 ");
        decide(&handle, host, &one, Local::Suspended, Upstream::ACTIVE).await;
        assert_eq!(seen(&handle).await, "c1 i1 s1 c1 a1 a2 a1 a1 ");
        decide(&handle, host, &two, Local::None, Upstream::ACTIVE).await;
        assert_eq!(seen(&handle).await, "c1 i1 c2 s2 s1 c1 a1 a2 a1 a1 a2 ");
        assert_eq!(handle.log().hidden().len(), 0);
    }
}

#[tokio::test]
async fn a_batch_of_hidden_events_moves_the_cursor_all_the_same() {
    for tail_bytes in [1, 64 << 20] {
        let memory = Memory::empty().unwrap();
        let options = Options { tail_bytes, ..options(&Clockwork::at(NOW), &memory) };
        let handle = open(options).unwrap();
        let host = add(&handle, "pds.example.com").await.id;
        handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, 100)])]);
        settle(&handle).await;
        decide(&handle, host, &did(1), Local::Takendown, Upstream::ACTIVE).await;
        let Read::Chunk(chunk) = handle.log().read(seq(0), 1).await.unwrap() else {
            panic!("there are events");
        };
        assert_eq!((chunk.frames, chunk.bytes.len(), chunk.last), (0, 0, seq(NOW)));
    }
}

#[tokio::test]
async fn i6_a_corrupt_batch_stops_the_store() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(Options { tail_bytes: 1, ..options(&clock, &memory) }).unwrap();
    for _ in 0..3 {
        handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
        settle(&handle).await;
    }
    let store = handle.store();
    let mut rows = rocksdb::WriteBatch::default();
    rows.put_cf(store.family(Family::Batches), crate::store::keys::batch(seq(NOW + 1)), b"rot");
    store.write(rows, crate::store::Wait::Os).unwrap();
    assert!(handle.log().read(seq(NOW), 1).await.is_err());
    assert!(matches!(handle.failed().await, Error::Corrupt { .. }));
    assert!(!handle.is_writable());
}

#[tokio::test]
async fn i1_a_head_that_is_not_the_newest_batchs_end_is_refused() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(options(&clock, &memory)).unwrap();
    handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
    settle(&handle).await;
    let mut rows = rocksdb::WriteBatch::default();
    let head = crate::store::records::head(seq(NOW + 5), protocol::ids::Micros(NOW));
    rows.put_cf(handle.store().family(Family::Meta), crate::store::keys::META_HEAD, head);
    handle.store().write(rows, crate::store::Wait::Os).unwrap();
    handle.stop().unwrap();
    assert!(matches!(open(options(&clock, &memory)), Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn i13_a_missing_batch_is_noticed() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let handle = open(Options { tail_bytes: 1, ..options(&clock, &memory) }).unwrap();
    for _ in 0..5 {
        handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
        settle(&handle).await;
    }
    let store = handle.store();
    let mut rows = rocksdb::WriteBatch::default();
    rows.delete_cf(store.family(Family::Batches), crate::store::keys::batch(seq(NOW + 2)));
    store.write(rows, crate::store::Wait::Os).unwrap();
    // Within a chunk, and at its beginning.
    for after in [NOW, NOW + 1] {
        assert!(handle.log().read(seq(after), 1 << 20).await.is_err(), "{after}");
    }
    assert!(handle.log().read(seq(NOW + 2), 1 << 20).await.is_ok());
    assert!(matches!(handle.failed().await, Error::Corrupt { .. }));
}
