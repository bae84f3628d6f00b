//! I3 over many lives of a store, as a property: whatever the clock does and however each life
//! ends, every number is used once, and every cursor goes on where it stood.

use std::time::Duration;

use proptest::prelude::*;

use crate::fixture::*;
use crate::store::faults::Fault;
use crate::{Durability, Error, Log, Memory, Options, open};

/// One life of the store.
#[derive(Clone, Debug)]
struct Life {
    /// The clock at its start, as days from [`NOW`].
    days: i64,
    durability: Durability,
    /// Commits: how far the clock is moved before each, in µs, and the ops of its events.
    commits: Vec<(u64, Vec<usize>)>,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    InOrder,
    /// Before the last commit's write, or after it and before anybody sees it.
    Crash(Fault),
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let commit = (prop_oneof![Just(0), 0_u64..10, 0_u64..2_000_000], events());
    let durability = prop_oneof![Just(Durability::Fsync), Just(Durability::Os)];
    let end = prop_oneof![
        Just(End::InOrder),
        Just(End::Crash(Fault::NotDone)),
        Just(End::Crash(Fault::DoneButFailed)),
    ];
    let life = (-10_i64..=10, durability, prop::collection::vec(commit, 1..5), end);
    let life =
        life.prop_map(|(days, durability, commits, end)| Life { days, durability, commits, end });
    prop::collection::vec(life, 2..7)
}

/// Ops of each event of a commit; an `#account` has none.
fn events() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![Just(0_usize), 1_usize..4, Just(200_usize)], 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn i3_no_number_is_used_twice_over_crashes_and_jumps_of_the_clock(lives in lives()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&lives));
    }
}

async fn check(lives: &[Life]) {
    let memory = Memory::empty().unwrap();
    let mut model = Model::default();
    // What the last life has written and not shown.
    let mut owed: &[usize] = &[];
    for life in lives {
        let clock = Clockwork::at(NOW.checked_add_signed(life.days * DAY_US).unwrap());
        let durability = life.durability;
        let handle = open(Options { durability, ..options(&clock, &memory) }).unwrap();
        model.take(&handle.log(), owed).await;
        assert_eq!(handle.log().head().get(), model.last());
        owed = &[];
        for (index, (pause_us, events)) in life.commits.iter().enumerate() {
            clock.advance(Duration::from_micros(*pause_us));
            let frames = events.iter().map(|ops| match ops {
                0 => active(&did(1)),
                ops => commit(&did(1), *ops, 10),
            });
            let entry = logged(&did(1), frames.collect());
            if let (true, End::Crash(fault)) = (index + 1 == life.commits.len(), life.end) {
                handle.store().faults.arm(fault);
                handle.submit(vec![entry]);
                assert!(matches!(handle.failed().await, Error::Injected));
                assert_eq!(handle.store().faults.fired(), 1);
                model.take(&handle.log(), &[]).await;
                owed = if fault == Fault::DoneButFailed { events } else { &[] };
                break;
            }
            handle.submit(vec![entry]);
            settle(&handle).await;
            model.take(&handle.log(), events).await;
        }
        assert_eq!(handle.stop().is_ok(), matches!(life.end, End::InOrder));
    }
}

/// Every event so far, by its number.
#[derive(Default)]
struct Model(Vec<(u64, Vec<u8>)>);

impl Model {
    fn last(&self) -> u64 {
        self.0.last().map_or(0, |(seq, _)| *seq)
    }

    /// The log is what it was, and after that events with these numbers of ops.
    async fn take(&mut self, log: &Log, ops: &[usize]) {
        let frames = read_all(log, seq(0), 1 << 20).await;
        assert_eq!(frames.len(), self.0.len() + ops.len());
        for ((_, known), frame) in self.0.iter().zip(&frames) {
            assert!(known == frame, "an event has changed");
        }
        for (frame, ops) in frames[self.0.len()..].iter().zip(ops) {
            let number = seq_of(frame);
            let first = number + 1 - u64::try_from((*ops).max(1)).unwrap();
            assert!(first > self.last(), "{number} with {ops} ops after {}", self.last());
            self.0.push((number, frame.clone()));
        }
        for (index, (cursor, _)) in self.0.iter().enumerate() {
            let rest = read_all(log, seq(*cursor), 1 << 20).await;
            assert_eq!(rest.len(), self.0.len() - index - 1, "after cursor {cursor}");
        }
    }
}

const DAY_US: i64 = 86_400_000_000;
