//! Readers that stop, go and jump at random, while the log grows, forgets, and hides: what each of
//! them got is a slice of the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use protocol::account::{Local, Upstream};
use protocol::frame::{Kind, Outgoing};

use super::tests::decide;
use super::*;
use crate::fixture::*;
use crate::{Durability, Memory, Options, open};

const ACCOUNTS: u64 = 4;
/// At least, and as many more as it takes until the readers have been everywhere: how far they get
/// meanwhile is the machine's affair.
const ROUNDS: usize = 500;
/// A reader that has not been everywhere by then never will.
const ROUNDS_MAX: usize = 50_000;
const READERS: u64 = 8;

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn size(&mut self, sides: usize) -> usize {
        usize::try_from(self.below(sides as u64)).unwrap()
    }
}

/// An event as it must be read.
struct Expected {
    account: u64,
    kind: Kind,
    frame: Vec<u8>,
}

/// What a reader got between two jumps.
struct Slice {
    after: u64,
    last: u64,
    frames: Vec<Vec<u8>>,
}

/// What the readers share with the writer.
#[derive(Debug, Default)]
struct Stage {
    /// Per account: odd while it is certainly hidden.
    hidden: [AtomicU64; 4],
    over: AtomicBool,
    /// Times that a reader came from memory to disk, and back.
    crossings: AtomicUsize,
    /// Times that a reader jumped.
    jumps: AtomicUsize,
    below_floor: AtomicUsize,
}

impl Stage {
    /// Whether the readers have met everything that they are to meet, and often.
    fn is_all_seen(&self) -> bool {
        let seen = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        seen(&self.crossings) > 100 && seen(&self.jumps) > 100 && seen(&self.below_floor) > 0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i3_i8_i10_the_seam_is_gapless_for_readers_that_stop_go_and_jump() {
    let seed = u64::from(std::process::id()) ^ std::ptr::from_ref(&ROUNDS).addr() as u64;
    eprintln!("seed {seed}");
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let options = Options {
        tail_bytes: 6_000,
        commit_interval: Duration::ZERO,
        durability: Durability::Os,
        retention: Duration::from_secs(20),
        ..options(&clock, &memory)
    };
    let handle = open(options.clone()).unwrap();
    let host = add(&handle, "pds.example.com").await.id;
    let stage = Arc::new(Stage::default());
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let (log, stage) = (handle.log(), Arc::clone(&stage));
            tokio::spawn(read(log, stage, Dice(seed.wrapping_add(number + 1))))
        })
        .collect();

    let mut dice = Dice(seed);
    let mut model: BTreeMap<u64, Expected> = BTreeMap::new();
    let (_stop, stop) = bounded(0);
    let retention = handle.retention(&options);
    let mut ever_hidden = [false; 4];
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && stage.is_all_seen() {
            break;
        }
        clock.advance(Duration::from_millis(dice.below(200)));
        let of = dice.below(ACCOUNTS);
        let place = usize::try_from(of).unwrap();
        match dice.below(12) {
            0 => {
                let hide = stage.hidden[place].load(Ordering::SeqCst).is_multiple_of(2);
                let local = if hide { Local::Takendown } else { Local::None };
                if !hide {
                    stage.hidden[place].fetch_add(1, Ordering::SeqCst);
                }
                ever_hidden[place] |= hide;
                decide(&handle, host, &did(of), local, Upstream::ACTIVE).await;
                if hide {
                    stage.hidden[place].fetch_add(1, Ordering::SeqCst);
                }
                expect(&mut model, of, Kind::Account, &active(&did(of)), clock.now());
            }
            1 => tokio::task::block_in_place(|| retention.enforce(&stop)).unwrap(),
            _ => {
                let frames: Vec<_> = (0..=dice.below(4)).map(|_| frame(&mut dice, of)).collect();
                for (kind, frame) in &frames {
                    expect(&mut model, of, *kind, frame, clock.now());
                }
                let frames = frames.into_iter().map(|(_, frame)| frame).collect();
                handle.submit(vec![logged(&did(of), frames)]);
                settle(&handle).await;
            }
        }
    }
    stage.over.store(true, Ordering::SeqCst);
    handle.submit(vec![logged(&did(0), vec![active(&did(0))])]);
    settle(&handle).await;
    expect(&mut model, 0, Kind::Account, &active(&did(0)), clock.now());

    for reader in readers {
        for slice in reader.await.unwrap() {
            check(&slice, &model, ever_hidden, seed);
        }
    }
    assert!(stage.is_all_seen() && handle.log().floor() > Seq::ZERO, "seed {seed}: {stage:?}");
    handle.stop().unwrap();
}

fn frame(dice: &mut Dice, of: u64) -> (Kind, Outgoing) {
    let of = did(of);
    match dice.below(6) {
        0 => (Kind::Sync, sync(&of)),
        1 => (Kind::Identity, identity(&of)),
        2 => (Kind::Account, active(&of)),
        _ => (Kind::Commit, commit(&of, dice.size(6), dice.size(1_500))),
    }
}

fn expect(model: &mut BTreeMap<u64, Expected>, of: u64, kind: Kind, frame: &Outgoing, now: u64) {
    let last = model.last_key_value().map_or(0, |(seq, _)| *seq);
    let number = now.max(last + u64::from(frame.span().max(1)));
    let mut bytes = Vec::new();
    frame.write_with(seq(number), &mut bytes);
    model.insert(number, Expected { account: of, kind, frame: bytes });
}

/// Reads from random cursors, by random portions, at a random pace.
async fn read(log: Log, stage: Arc<Stage>, mut dice: Dice) -> Vec<Slice> {
    let mut head = log.subscribe();
    let mut slices = Vec::new();
    let mut from_disk = false;
    loop {
        // Anywhere in the log, within the numbers of an event, too.
        let span = log.head().get().saturating_sub(NOW).max(1);
        let mut after = NOW - 1 + dice.below(span + 1);
        if dice.below(10) > 0 {
            after = after.max(log.floor().get());
        }
        let mut slice = Slice { after, last: after, frames: Vec::new() };
        while dice.below(12) > 0 {
            head.mark_unchanged();
            let certainly = stage.hidden.each_ref().map(|epoch| epoch.load(Ordering::SeqCst));
            let bytes_max = [1, 900, 4_000, usize::MAX][dice.size(4)];
            let is_disk = log.read_newest(seq(slice.last), bytes_max).is_none();
            stage.crossings.fetch_add(usize::from(is_disk != from_disk), Ordering::SeqCst);
            from_disk = is_disk;
            match log.read(seq(slice.last), bytes_max).await.unwrap() {
                Read::Chunk(chunk) => {
                    let frames = split(&chunk.bytes);
                    for (account, before) in (0..).zip(certainly) {
                        let place = usize::try_from(account).unwrap();
                        let after = stage.hidden[place].load(Ordering::SeqCst);
                        if before == after && before % 2 == 1 {
                            assert!(!frames.iter().any(|frame| is_hidden(frame, account)));
                        }
                    }
                    slice.frames.extend(frames);
                    slice.last = chunk.last.get();
                }
                Read::CaughtUp if stage.over.load(Ordering::SeqCst) => break,
                Read::CaughtUp => drop(head.changed().await),
                Read::BelowFloor(_) => {
                    stage.below_floor.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
            for _ in 0..dice.below(40) {
                tokio::task::yield_now().await;
            }
        }
        slices.push(slice);
        stage.jumps.fetch_add(1, Ordering::SeqCst);
        if stage.over.load(Ordering::SeqCst) {
            return slices;
        }
    }
}

/// Whether a frame is a commit or sync of the account.
fn is_hidden(frame: &[u8], account: u64) -> bool {
    let text = String::from_utf8_lossy(frame);
    (text.contains("#commit") || text.contains("#sync")) && text.contains(&did(account).to_string())
}

fn check(slice: &Slice, model: &BTreeMap<u64, Expected>, ever_hidden: [bool; 4], seed: u64) {
    if slice.last == slice.after {
        assert!(slice.frames.is_empty());
        return;
    }
    let mut got = slice.frames.iter().peekable();
    for (seq, expected) in model.range(slice.after + 1..=slice.last) {
        if got.next_if(|frame| **frame == expected.frame).is_some() {
            continue;
        }
        let hideable = matches!(expected.kind, Kind::Commit | Kind::Sync);
        let may_lack = hideable && ever_hidden[usize::try_from(expected.account).unwrap()];
        let Slice { after, last, .. } = slice;
        assert!(may_lack, "seed {seed}: {seq} is missing between {after} and {last}");
    }
    assert!(got.next().is_none(), "seed {seed}: more than the log has after {}", slice.after);
}
