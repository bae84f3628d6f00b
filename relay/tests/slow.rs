//! Consumers that do not keep up: they cost themselves, and are told so (I10).

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::did::Did;
use protocol::frame::{self, Outgoing, Peek};
use protocol::ids::Micros;
use protocol::tid::Tid;
use protocol::ws::{Header, Opcode};
use relay::fanout::{Cursor, Fanout, Options};
use relay::metrics;
use storage::{Entry, Memory, Read};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A log of `count` events of some 10 kB, and its fan-out.
async fn log(count: u64, options: Options) -> (storage::Handle, Fanout, watch::Sender<bool>) {
    let start = std::time::Instant::now();
    let storage = storage::open(storage::Options {
        dir: "/slow".into(),
        in_memory: Some(Memory::empty().unwrap()),
        durability: storage::Durability::Os,
        commit_interval: Duration::from_millis(1),
        retention: Duration::from_secs(3600),
        retention_bytes: None,
        tail_bytes: 64 << 20,
        clock: Arc::new(move || Micros(1_700_000_000_000_000).plus(start.elapsed())),
        accept_clock: false,
        shards: 1,
    })
    .unwrap();
    append(&storage, count).await;
    let (stop, stopped) = watch::channel(false);
    let fanout = Fanout::new(storage.log(), options, metrics::Fanout::register(), stopped);
    (storage, fanout, stop)
}

async fn append(storage: &storage::Handle, count: u64) {
    let did = Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub").unwrap();
    let before = storage.log().head();
    for number in 0..count {
        let rev = Tid::from_micros(Micros(number), 0);
        let frame = Outgoing::sync(&did, rev, &[7; 9_900], "2026-11-21T02:37:17.492Z");
        storage.submit(vec![Entry {
            did: Some(did.clone()),
            frames: vec![frame],
            ..Entry::default()
        }]);
    }
    let mut head = storage.log().subscribe();
    let mut seen = 0;
    let mut after = before;
    while seen < u32::try_from(count).unwrap() {
        match storage.log().read(after, 1 << 20).await.unwrap() {
            Read::Chunk(chunk) => (seen, after) = (seen + chunk.frames, chunk.last),
            Read::CaughtUp => head.changed().await.unwrap(),
            Read::BelowFloor(_) => panic!("nothing is dropped"),
        }
    }
}

/// A consumer's side, with small buffers, and the task that serves it.
async fn connect(fanout: &Fanout, cursor: Cursor) -> (TcpStream, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(64 << 10).unwrap();
    let (client, accepted) =
        tokio::join!(client.connect(listener.local_addr().unwrap()), listener.accept());
    let (server, peer) = accepted.unwrap();
    let seat = fanout.seat(peer.ip()).unwrap();
    let fanout = fanout.clone();
    let now = Micros(1_700_000_001_000_000);
    let serving =
        tokio::spawn(async move { fanout.serve(seat, server, Bytes::new(), cursor, now).await });
    (client.unwrap(), serving)
}

/// Reads messages until `count` events have come or the connection ends; the seqs, and what the
/// stream said at last.
async fn read(client: &mut TcpStream, count: usize) -> (Vec<u64>, Option<String>) {
    let (mut buffer, mut seqs, mut last) = (Vec::new(), Vec::new(), None);
    loop {
        while let Some((header, start)) = Header::parse(&buffer).unwrap() {
            let end = start + usize::try_from(header.len).unwrap();
            if buffer.len() < end {
                break;
            }
            let payload: Vec<u8> = buffer.drain(..end).skip(start).collect();
            match header.opcode {
                Opcode::Binary => match frame::peek(&payload).unwrap() {
                    Peek::Event { seq, .. } => seqs.push(seq.unwrap()),
                    Peek::Error { error, .. } => last = error.map(str::to_owned),
                    other => panic!("{other:?}"),
                },
                Opcode::Close => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    last = Some(format!("{} {code}", last.unwrap_or_default()));
                    return (seqs, last);
                }
                _ => {}
            }
        }
        if seqs.len() >= count {
            return (seqs, last);
        }
        match client.read_buf(&mut buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return (seqs, last),
        }
    }
}

/// I10: one that reads nothing is ended, and the one beside it is served all the while.
#[tokio::test(flavor = "multi_thread")]
async fn i10_a_consumer_that_stalls_is_ended_and_the_others_are_not_held_up() {
    let options = Options {
        stall_max: Duration::from_millis(600),
        release_after: Duration::from_millis(100),
        ..Options::default()
    };
    let (storage, fanout, _stop) = log(3_000, options).await;
    let (stalled, serving) = connect(&fanout, Cursor::At(0)).await;
    let (mut quick, _serving) = connect(&fanout, Cursor::At(0)).await;
    let (seqs, _) = read(&mut quick, 3_000).await;
    assert_eq!(seqs.len(), 3_000);
    assert!(seqs.is_sorted_by(|a, b| a < b));
    tokio::time::timeout(Duration::from_secs(60), serving).await.unwrap().unwrap();
    // Its socket was full in the middle of a frame, so nothing more could be said: what is left
    // there ends in a reset, never in something that looks like an end or like another frame.
    let mut stalled = stalled;
    let (seqs, last) = read(&mut stalled, usize::MAX).await;
    assert!(seqs.len() < 3_000 && last.is_none(), "{} events, then {last:?}", seqs.len());
    storage.stop().unwrap();
}

/// I8, I10: one that pauses within the deadline misses nothing, though its batch was let go.
#[tokio::test(flavor = "multi_thread")]
async fn i8_i10_a_consumer_that_pauses_gets_every_frame_whole_and_once() {
    let options = Options { release_after: Duration::from_millis(50), ..Options::default() };
    let (storage, fanout, _stop) = log(3_000, options).await;
    let (mut client, _serving) = connect(&fanout, Cursor::At(0)).await;
    let mut all = Vec::new();
    for count in [1, 500, 499, 2_000] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // A reader that keeps what it has read beyond `count` would hide a repeated frame.
        let (seqs, last) = read_exactly(&mut client, count).await;
        assert_eq!((seqs.len(), last), (count, None));
        all.extend(seqs);
    }
    assert!(all.is_sorted_by(|a, b| a < b));
    storage.stop().unwrap();
}

/// Reads exactly so many events, byte by byte where their length says so.
async fn read_exactly(client: &mut TcpStream, count: usize) -> (Vec<u64>, Option<String>) {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        let mut head = [0; 4];
        client.read_exact(&mut head).await.unwrap();
        let (header, start) = Header::parse(&head).unwrap().expect("two bytes of length");
        assert_eq!((header.opcode, start), (Opcode::Binary, 4));
        let mut payload = vec![0; usize::try_from(header.len).unwrap()];
        client.read_exact(&mut payload).await.unwrap();
        match frame::peek(&payload).unwrap() {
            Peek::Event { seq, .. } => seqs.push(seq.unwrap()),
            other => return (seqs, Some(format!("{other:?}"))),
        }
    }
    (seqs, None)
}

/// A stop ends consumers that are up to date with 1001.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_says_goodbye_after_the_last_event() {
    let (storage, fanout, stop) = log(10, Options::default()).await;
    let (mut client, serving) = connect(&fanout, Cursor::At(0)).await;
    let (seqs, _) = read_exactly(&mut client, 10).await;
    assert_eq!(seqs.len(), 10);
    stop.send_replace(true);
    assert_eq!(read(&mut client, 1).await, (Vec::new(), Some(" 1001".to_owned())));
    drop(client);
    serving.await.unwrap();
    fanout.ended(Duration::from_secs(5)).await;
    storage.stop().unwrap();
}

/// I7: consumers are bounded, in all and by address.
#[tokio::test]
async fn i7_seats_are_bounded_and_given_back() {
    let options = Options { consumers_max: 3, consumers_per_address_max: 2, ..Options::default() };
    let (storage, fanout, _stop) = log(0, options).await;
    let (here, there) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
    let first = fanout.seat(here).unwrap();
    let _second = fanout.seat(here).unwrap();
    assert_eq!(fanout.seat(here).err(), Some(relay::fanout::Full::Address));
    let _third = fanout.seat(there).unwrap();
    assert_eq!(fanout.seat(there).err(), Some(relay::fanout::Full::Relay));
    drop(first);
    assert!(fanout.seat(here).is_ok());
    storage.stop().unwrap();
}
