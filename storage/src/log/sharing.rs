//! Readers behind the tail share what one of them has loaded.

use std::time::Duration;

use protocol::account::{Local, Upstream};

use super::tests::decide;
use super::*;
use crate::fixture::*;
use crate::{Durability, Handle, Memory, Options, open};

/// A log without a tail to speak of: so many batches of one commit with so many bytes.
async fn cold(batches: usize, bytes: usize) -> Handle {
    let handle = open(Options {
        tail_bytes: 1,
        commit_interval: Duration::ZERO,
        durability: Durability::Os,
        ..options(&Clockwork::at(NOW), &Memory::empty().unwrap())
    })
    .unwrap();
    for _ in 0..batches {
        handle.submit(vec![logged(&did(1), vec![commit(&did(1), 1, bytes)])]);
        settle(&handle).await;
    }
    handle
}

/// The chunks after a cursor: where their bytes lie in memory, and the cursor after them.
async fn places(log: &Log, mut after: Seq, bytes_max: usize) -> Vec<(usize, Seq)> {
    let mut places = Vec::new();
    while let Read::Chunk(chunk) = log.read(after, bytes_max).await.unwrap() {
        after = chunk.last;
        places.push((chunk.bytes.as_ptr().addr(), after));
    }
    // The newest batch is in memory, wherever the rest is.
    places.pop();
    places
}

/// I8, I10: the bytes are the same bytes, so they were loaded once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i8_i10_a_hundred_readers_of_one_place_cost_one_read() {
    let handle = cold(60, 30_000).await;
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let log = handle.log();
            tokio::spawn(async move { places(&log, Seq::ZERO, usize::MAX).await })
        })
        .collect();
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.await.unwrap());
    }
    assert!(seen[0].len() >= 3, "several stretches: {:?}", seen[0]);
    assert!(seen.iter().all(|places| *places == seen[0]), "{seen:?}");
    handle.stop().unwrap();
}

#[tokio::test]
async fn readers_fall_into_the_same_stretches_wherever_they_begin() {
    let handle = cold(60, 30_000).await;
    let log = handle.log();
    // The second one begins within what the first one has loaded, and ends where that does.
    let first = places(&log, Seq::ZERO, usize::MAX).await;
    let second = places(&log, seq(NOW + 3), usize::MAX).await;
    assert_eq!(second[1..], first[1..]);
    assert_eq!(second[0].1, first[0].1);
    handle.stop().unwrap();

    // The second one begins before that, and reads no further than to there.
    let handle = cold(60, 30_000).await;
    let log = handle.log();
    let first = places(&log, seq(NOW + 3), usize::MAX).await;
    let second = places(&log, Seq::ZERO, usize::MAX).await;
    assert_eq!(second[0].1, seq(NOW + 3));
    assert_eq!(second[1..], first[..]);
    handle.stop().unwrap();
}

/// What comes next is loaded while a reader is busy: it finds it there, or on its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_read_ahead_for() {
    let handle = cold(60, 30_000).await;
    let log = handle.log();
    let Read::Chunk(chunk) = log.read(Seq::ZERO, usize::MAX).await.unwrap() else {
        panic!("there are events");
    };
    assert!(!matches!(log.0.cache.find(chunk.last), Place::Absent));
    // Nobody reads ahead of what is in the tail.
    log.read_ahead(log.head(), log.head());
    assert!(matches!(log.0.cache.find(log.head()), Place::Absent));
    handle.stop().unwrap();
}

#[tokio::test]
async fn i7_what_is_loaded_is_bounded() {
    let handle = cold(60, 1_000_000).await;
    let log = handle.log();
    assert_eq!(places(&log, Seq::ZERO, usize::MAX).await.len(), 59);
    let bytes = log.0.cache.bytes();
    assert!(bytes > CACHE_BYTES_MAX / 2 && bytes <= CACHE_BYTES_MAX, "{bytes}");
    // What was used last is what stayed, and the log is all there still.
    assert_eq!(read_all(&log, Seq::ZERO, usize::MAX).await.len(), 60);
    handle.stop().unwrap();
}

#[tokio::test]
async fn what_is_loaded_fits_into_what_a_reader_asks_for() {
    let handle = cold(60, 3_000).await;
    let log = handle.log();
    let all = read_all(&log, Seq::ZERO, usize::MAX).await;
    for bytes_max in [1, 3_000, 3_500, 7_000, 50_000] {
        assert_eq!(read_all(&log, Seq::ZERO, bytes_max).await, all, "{bytes_max}");
    }
    let Read::Chunk(chunk) = log.read(Seq::ZERO, 7_000).await.unwrap() else { panic!("events") };
    assert_eq!(chunk.frames, 2);
    let exact = chunk.bytes.len();
    let Read::Chunk(chunk) = log.read(Seq::ZERO, exact).await.unwrap() else { panic!("events") };
    assert_eq!((chunk.frames, chunk.bytes.len()), (2, exact));
    let Read::Chunk(chunk) = log.read(Seq::ZERO, exact - 1).await.unwrap() else { panic!("one") };
    assert_eq!(chunk.frames, 1);
    handle.stop().unwrap();
}

#[tokio::test]
async fn what_is_hidden_later_is_left_out_of_what_is_loaded_already() {
    let handle = cold(5, 100).await;
    let log = handle.log();
    let host = add(&handle, "pds.example.com").await.id;
    handle.submit(vec![logged(&did(2), vec![commit(&did(2), 1, 100), identity(&did(2))])]);
    settle(&handle).await;
    assert_eq!(read_all(&log, Seq::ZERO, usize::MAX).await.len(), 7);
    decide(&handle, host, &did(1), Local::Takendown, Upstream::ACTIVE).await;
    assert_eq!(read_all(&log, Seq::ZERO, usize::MAX).await.len(), 3);
    decide(&handle, host, &did(1), Local::None, Upstream::ACTIVE).await;
    assert_eq!(read_all(&log, Seq::ZERO, usize::MAX).await.len(), 9);
    handle.stop().unwrap();
}

#[test]
fn what_follows_a_cursor_is_loaded_by_one_at_a_time() {
    let cache = Arc::new(Cache::new(1));
    let first = cache.load(seq(5)).unwrap();
    assert_eq!(first.until, None);
    assert!(cache.load(seq(5)).is_none());
    assert!(matches!(cache.find(seq(5)), Place::Loading(_)));
    // Another place is another matter, and ends where the first one begins.
    let before = cache.load(seq(3)).unwrap();
    assert_eq!(before.until, Some(seq(5)));
    assert!(matches!(cache.find(seq(4)), Place::Absent));
    // Whoever gives up leaves the place to the next one, and wakes who waits for it.
    let Place::Loading(done) = cache.find(seq(5)) else { panic!("it is being loaded") };
    drop(first);
    assert!(done.has_changed().is_err());
    assert!(cache.load(seq(5)).is_some());
}

/// Waking a reader costs the same for one event as for ten.
#[test]
fn commits_are_further_apart_with_many_followers() {
    let (handle, _) = store();
    let log = handle.log();
    assert_eq!(log.pace(), Duration::ZERO);
    let mut followers: Vec<_> = (0..100).map(|_| log.follow()).collect();
    assert_eq!(log.pace(), Duration::from_millis(6));
    followers.truncate(10);
    assert_eq!(log.pace(), Duration::from_micros(600));
    followers.extend((0..5_000).map(|_| log.follow()));
    assert_eq!(log.pace(), PACE_MAX);
    drop(followers);
    assert_eq!(log.pace(), Duration::ZERO);
    handle.stop().unwrap();
}
