//! What is forgotten, in which order, and that readers are told.

use std::time::Duration;

use crossbeam_channel::never;
use protocol::account::{Account, Upstream};

use super::rocks_log::Written;
use super::*;
use crate::accounts::AccountWrite;
use crate::fixture::*;
use crate::store::faults::Fault;
use crate::{Durability, Entry, Handle, Memory, Options, Read, open};

const HOUR: Duration = Duration::from_secs(3600);

async fn hourly(handle: &Handle, clock: &Clockwork, events: u64, bytes: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for _ in 0..events {
        handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, bytes)])]);
        settle(handle).await;
        seqs.push(handle.log().head().get());
        clock.advance(HOUR);
    }
    seqs
}

#[tokio::test]
async fn events_older_than_the_retention_are_below_the_floor() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let options = || Options { retention: 10 * HOUR, ..options(&clock, &memory) };
    let handle = open(options()).unwrap();
    let retention = handle.retention(&options());
    let seqs = hourly(&handle, &clock, 8, 100).await;
    retention.enforce(&never()).unwrap();
    assert_eq!(handle.log().floor(), Seq::ZERO, "nothing is old enough");
    clock.set(seqs[4] + 36_000_000_000);
    retention.enforce(&never()).unwrap();
    // The event that is exactly as old as the retention stays.
    let floor = handle.log().floor();
    assert_eq!(floor, seq(seqs[3]));
    assert_eq!(handle.log().read(seq(0), 1).await.unwrap(), Read::BelowFloor(floor));
    assert_eq!(handle.log().read(seq(seqs[3] - 1), 1).await.unwrap(), Read::BelowFloor(floor));
    assert_eq!(read_all(&handle.log(), floor, 1 << 20).await.len(), 4);
    drop(retention);
    handle.stop().unwrap();
    // The floor is as durable as what it stands for.
    let handle = open(options()).unwrap();
    assert_eq!(handle.log().floor(), floor);
    assert_eq!(read_all(&handle.log(), floor, 1 << 20).await.len(), 4);
}

#[tokio::test]
async fn the_newest_batch_stays_however_old_it_is() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let options = || Options { retention: HOUR, ..options(&clock, &memory) };
    let handle = open(options()).unwrap();
    let seqs = hourly(&handle, &clock, 3, 100).await;
    clock.advance(100 * HOUR);
    handle.retention(&options()).enforce(&never()).unwrap();
    assert_eq!(handle.log().floor(), seq(seqs[1]));
    handle.stop().unwrap();
    let handle = open(options()).unwrap();
    assert_eq!(handle.log().head(), seq(seqs[2]));
    assert_eq!(read_all(&handle.log(), seq(seqs[1]), 1).await.len(), 1);
}

#[tokio::test]
async fn files_below_the_floor_are_dropped_and_the_rest_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clockwork::at(NOW);
    let memory = Memory::empty().unwrap();
    let options = || Options {
        dir: dir.path().to_owned(),
        in_memory: None,
        retention: 8 * HOUR,
        tail_bytes: 1,
        ..options(&clock, &memory)
    };
    let handle = open(options()).unwrap();
    for _ in 0..6 {
        hourly(&handle, &clock, 4, 10_000).await;
        handle.store().flush_batches_down();
    }
    let before = handle.store().batch_files().unwrap();
    assert!(before.len() >= 6, "{before:?}");
    let retention = handle.retention(&options());
    retention.enforce(&never()).unwrap();
    let floor = handle.log().floor();
    let after = handle.store().batch_files().unwrap();
    assert!(after.len() < before.len(), "{after:?}");
    assert!(after.iter().all(|file| file.last > floor));
    // Every file with something above the floor is still there.
    assert_eq!(after, before.into_iter().filter(|file| file.last > floor).collect::<Vec<_>>());
    assert_eq!(read_all(&handle.log(), floor, 1 << 20).await.len(), 8);
    // Nothing more to do.
    retention.enforce(&never()).unwrap();
    assert_eq!(handle.log().floor(), floor);
}

/// A crash between floor and drop leaves files that nobody reads; the other way round it would
/// leave a log with a hole.
#[tokio::test]
async fn i1_below_a_floor_that_is_not_committed_nothing_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clockwork::at(NOW);
    let options = || Options { retention: 8 * HOUR, ..on_disk(&clock, dir.path()) };
    let handle = open(options()).unwrap();
    for _ in 0..6 {
        hourly(&handle, &clock, 4, 10_000).await;
        handle.store().flush_batches_down();
    }
    let before = handle.store().batch_files().unwrap();
    handle.store().faults.arm(Fault::NotDone);
    let enforced = handle.retention(&options()).enforce(&never());
    assert!(matches!(enforced, Err(Error::Stopped)), "{enforced:?}");
    assert_eq!(handle.store().faults.fired(), 1);
    assert_eq!(handle.store().batch_files().unwrap(), before);
    assert_eq!(handle.log().floor(), Seq::ZERO);
}

#[tokio::test]
async fn bytes_over_their_limit_are_below_the_floor() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let options = || Options { retention_bytes: Some(100_000), ..options(&clock, &memory) };
    let handle = open(options()).unwrap();
    for _ in 0..6 {
        hourly(&handle, &clock, 3, 10_000).await;
        handle.store().flush_batches_down();
    }
    handle.retention(&options()).enforce(&never()).unwrap();
    let files = handle.store().batch_files().unwrap();
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    assert!((60_000..140_000).contains(&bytes), "{bytes}");
    let kept = read_all(&handle.log(), handle.log().floor(), 1 << 20).await.len();
    assert!((6..=10).contains(&kept), "{kept}");
}

/// What the folder takes of the disk, as `du` counts.
fn folder_bytes(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = std::fs::read_dir(dir).unwrap().flatten();
    // One that is deleted meanwhile takes nothing.
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Five times the limit is written without a pause, and after each step of it comes the round that
/// the thread does then: WAL, what is in memory and what cannot be dropped yet are all counted.
#[tokio::test]
async fn the_folder_keeps_to_its_limit_and_compaction_only_moves_files() {
    const LIMIT: u64 = 80 << 20;
    let dir = tempfile::tempdir().unwrap();
    let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
    let options = Options {
        dir: dir.path().join("store"),
        in_memory: None,
        durability: Durability::Os,
        commit_interval: Duration::ZERO,
        retention_bytes: Some(LIMIT),
        ..options(&clock, &memory)
    };
    let handle = open(options.clone()).unwrap();
    let retention = handle.retention(&options);
    let host = add(&handle, "pds.example.com").await.id;
    let (mut most, mut written, mut number) = (0, 0, 0);
    while written < 5 * LIMIT {
        let before = handle.store().written_bytes();
        while handle.store().written_bytes() - before < step_bytes(LIMIT) {
            let entries = (0..16).map(|_| {
                number += 1;
                let entry = accepted(host, number - 1, number, &did(number % 999), number > 999);
                Entry { frames: vec![commit(&did(number % 999), 1, 30_000)], ..entry }
            });
            handle.submit(entries.collect());
            settle(&handle).await;
            clock.advance(Duration::from_millis(1));
        }
        retention.enforce(&never()).unwrap();
        most = most.max(folder_bytes(&options.dir));
        written = handle.store().written_bytes();
    }
    assert!(most <= LIMIT / 10 * 11, "{most} bytes of {LIMIT}");
    let kept = folder_bytes(&options.dir);
    assert!(kept >= LIMIT / 10 * 8, "only {kept} bytes of {LIMIT} are kept");
    let floor = handle.log().floor();
    assert!(floor > Seq::ZERO);
    assert!(!read_all(&handle.log(), floor, 1 << 20).await.is_empty());
    let costs = Written::read(&options.dir, "batches");
    assert!(costs.flushed >= 4 * LIMIT, "{costs:?}");
    assert!(costs.compacted * 10 <= costs.flushed, "{costs:?}");
    let others = Written::read(&options.dir, "accounts");
    assert!(others.compacted > 0, "what compaction writes is seen: {others:?}");
    drop(retention);
    handle.stop().unwrap();
}

#[tokio::test]
async fn a_hidden_account_is_forgotten_when_nothing_of_it_is_left() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let options = || Options { retention: 2 * HOUR, ..options(&clock, &memory) };
    let handle = open(options()).unwrap();
    let host = add(&handle, "pds.example.com").await.id;
    let upstream = Upstream { active: false, status: Some("deleted".into()) };
    let account = Account { upstream, ..account(host, 1) };
    handle.submit(vec![Entry {
        frames: vec![active(&did(2))],
        did: Some(did(2)),
        account: Some(AccountWrite { account, was: None, decided: false }),
        ..Entry::default()
    }]);
    settle(&handle).await;
    let retention = handle.retention(&options());
    hourly(&handle, &clock, 1, 10).await;
    retention.enforce(&never()).unwrap();
    assert_eq!(handle.log().hidden().len(), 1);
    hourly(&handle, &clock, 4, 10).await;
    retention.enforce(&never()).unwrap();
    assert_eq!(handle.log().hidden().len(), 0);
    drop(retention);
    handle.stop().unwrap();
    assert_eq!(open(options()).unwrap().log().hidden().len(), 0);
}

/// I13: on a nearly full disk nothing is taken in; what becomes too old meanwhile gives its room
/// back.
#[tokio::test]
async fn i13_room_is_given_back_while_nothing_is_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
    let options = Options {
        dir: dir.path().to_owned(),
        in_memory: None,
        // A round is due every 50 ms; the clock of the test decides what is old.
        retention: Duration::from_secs(2),
        tail_bytes: 1,
        ..options(&clock, &memory)
    };
    let handle = open(options).unwrap();
    let count = 30;
    for _ in 0..count {
        handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, 100_000)])]);
        settle(&handle).await;
    }
    handle.store().flush_batches_down();
    handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, 100)])]);
    settle(&handle).await;
    let bytes = || {
        let files = handle.store().batch_files().unwrap();
        files.iter().map(|file| file.bytes).sum::<u64>()
    };
    assert!(bytes() > count * 100_000, "nothing is old yet");
    // From here on nothing is submitted.
    let head = handle.log().head();
    clock.advance(HOUR);
    while bytes() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(handle.log().head(), head);
    assert_eq!(read_all(&handle.log(), handle.log().floor(), 1 << 20).await.len(), 1);
    handle.stop().unwrap();
}

#[tokio::test]
async fn it_runs_by_itself() {
    let memory = Memory::empty().unwrap();
    let clock = Clockwork::at(NOW);
    let retention = Duration::from_secs(1);
    let handle = open(Options { retention, ..options(&clock, &memory) }).unwrap();
    let seqs = hourly(&handle, &clock, 3, 100).await;
    while handle.log().floor() < seq(seqs[1]) {
        tokio::task::yield_now().await;
    }
    handle.stop().unwrap();
}
