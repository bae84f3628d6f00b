//! Consumers that do not keep up: they cost themselves, and are told so (I10).

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use protocol::did::Did;
use protocol::frame::{self, Outgoing, Peek};
use protocol::ids::{Micros, Seq};
use protocol::tid::Tid;
use protocol::tripwire::Tripwire;
use protocol::ws::{Header, Opcode};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use relay::fanout::{Cursor, Fanout, Options};
use relay::metrics;
use storage::{Entry, Memory, Read};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A log of `count` events of some 10 kB, and its fan-out.
async fn log(count: u64, options: Options) -> (storage::Handle, Fanout, watch::Sender<bool>) {
    let storage = open(64 << 20, Duration::from_secs(3600));
    append(&storage, count).await;
    let (stop, stopped) = watch::channel(false);
    let fanout = Fanout::start(storage.log(), options, metrics::Fanout::register(), stopped);
    (storage, fanout.unwrap(), stop)
}

fn open(tail_bytes: usize, retention: Duration) -> storage::Handle {
    let start = std::time::Instant::now();
    let began = Micros(1_700_000_000_000_000);
    open_at(tail_bytes, retention, Arc::new(move || began.plus(start.elapsed())))
}

fn open_at(tail_bytes: usize, retention: Duration, clock: storage::Clock) -> storage::Handle {
    storage::open(storage::Options {
        dir: "/slow".into(),
        in_memory: Some(Memory::empty().unwrap()),
        durability: storage::Durability::Os,
        commit_interval: Duration::from_millis(1),
        retention,
        retention_bytes: None,
        compression: storage::Compression::None,
        tail_bytes,
        clock,
        accept_clock: false,
        tripwire: Tripwire::default(),
        shards: 1,
    })
    .unwrap()
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
    let listener = TcpSocket::new_v4().unwrap();
    listener.set_send_buffer_size(64 << 10).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
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
    let options = Options { stall_max: Duration::from_secs(3), ..Options::default() };
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

/// One that falls out of the window is told, never skipped ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_falls_out_of_the_window_is_told_so() {
    // A second of the log is as long as the test says, not as long as the machine takes.
    let time = Arc::new(AtomicU64::new(1_700_000_000_000_000));
    let clock = Arc::clone(&time);
    let clock = Arc::new(move || Micros(clock.fetch_add(1, Ordering::Relaxed)));
    let storage = open_at(100_000, Duration::from_secs(1), clock);
    let (_stop, stopped) = watch::channel(false);
    let recorder = PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    let metrics = ::metrics::with_local_recorder(&recorder, metrics::Fanout::register);
    let fanout = Fanout::start(storage.log(), Options::default(), metrics, stopped).unwrap();
    let (mut client, _serving) = connect(&fanout, Cursor::At(0)).await;
    append(&storage, 300).await;
    let before = read_exactly(&mut client, 1).await.0;
    // What is written did not wait for it, and is forgotten after a second.
    time.fetch_add(2_000_000, Ordering::Relaxed);
    until("the window has moved on", || storage.log().floor() > storage.log().begin()).await;
    let (seqs, last) = read(&mut client, usize::MAX).await;
    assert!(seqs.len() < 299 && before[0] < seqs[0] && seqs.is_sorted_by(|a, b| a < b));
    assert_eq!(last.as_deref(), Some("ConsumerTooSlow 1008"));
    drop(client);
    let counted = "mainstem_relay_consumers_closed_total{reason=\"too_slow\"} 1";
    until("it is counted", || rendered.render().contains(counted)).await;
    storage.stop().unwrap();
}

/// I8, I10: one that pauses within the deadline misses nothing, though its batch was let go.
#[tokio::test(flavor = "multi_thread")]
async fn i8_i10_a_consumer_that_pauses_gets_every_frame_whole_and_once() {
    let (storage, fanout, _stop) = log(3_000, Options::default()).await;
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

#[tokio::test]
async fn i7_a_network_of_ipv6_counts_as_one_address() {
    let options = Options { consumers_per_address_max: 2, ..Options::default() };
    let (storage, fanout, _stop) = log(0, options).await;
    let mut seats = Vec::new();
    let mut check = |address: &str, is_free: bool| {
        let seat = fanout.seat(address.parse().unwrap());
        assert_eq!(seat.is_ok(), is_free, "{address}");
        seats.extend(seat);
    };
    check("2001:db8:0:1::1", true);
    check("2001:db8:0:1:ffff:ffff:ffff:ffff", true);
    check("2001:db8:0:1::2", false);
    check("2001:db8:0:2::1", true);
    check("198.51.100.7", true);
    check("::ffff:198.51.100.7", true);
    check("198.51.100.7", false);
    check("198.51.100.8", true);
    // All of them are free again.
    seats.clear();
    for address in ["2001:db8:0:1::3", "2001:db8:0:1::4", "198.51.100.7", "198.51.100.7"] {
        let seat = fanout.seat(address.parse().unwrap());
        assert!(seat.is_ok(), "{address}");
        seats.extend(seat);
    }
    storage.stop().unwrap();
}

/// I8: live delivery is one write of the shared bytes for each consumer and batch, and nothing is
/// copied for it.
#[tokio::test(flavor = "multi_thread")]
async fn i8_a_batch_is_one_write_to_each_consumer() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    let metrics = ::metrics::with_local_recorder(&recorder, metrics::Fanout::register);
    let (storage, _, _stop) = log(0, Options::default()).await;
    let (_stop, stopped) = watch::channel(false);
    let fanout = Fanout::start(storage.log(), Options::default(), metrics, stopped).unwrap();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(connect(&fanout, Cursor::At(0)).await.0);
    }
    const BATCHES: usize = 20;
    for _ in 0..BATCHES {
        append(&storage, 1).await;
        for client in &mut clients {
            assert_eq!(read_exactly(client, 1).await.0.len(), 1);
        }
    }
    let writes = format!("mainstem_relay_writes_total {}", 10 * BATCHES);
    let frames = format!("mainstem_relay_frames_sent_total {}", 10 * BATCHES);
    let text = rendered.render();
    assert!(text.contains(&writes) && text.contains(&frames), "{text}");
    storage.stop().unwrap();
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// I3, I8, I10: consumers that stop and go cross the seam from disk to memory and back again and
/// again; each has every event after its cursor, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn i3_i8_i10_consumers_that_stop_and_go_get_every_event() {
    let seed = u64::from(std::process::id());
    let recorder = PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    let metrics = ::metrics::with_local_recorder(&recorder, metrics::Fanout::register);
    let storage = open(100_000, Duration::from_secs(3600));
    let (_stop, stopped) = watch::channel(false);
    let fanout = Fanout::start(storage.log(), Options::default(), metrics, stopped).unwrap();
    // As many as it takes until consumers have crossed the seam often: how far they get meanwhile
    // is the machine's affair. 600 MB of events without that, and they never will.
    const EVENTS: u64 = 3_000;
    const EVENTS_MAX: u64 = 60_000;
    let streams = Arc::new(AtomicU64::new(0));
    let is_all_seen = || {
        let text = rendered.render();
        let name = "mainstem_relay_replays_total ";
        let crossings = text.lines().find_map(|line| line.strip_prefix(name));
        let crossings = crossings.map_or(0, |count| count.parse::<u64>().unwrap());
        crossings > 30 && streams.load(Ordering::SeqCst) > 6
    };
    append(&storage, 100).await;
    let (over, end) = watch::channel(None);
    let consumers: Vec<_> = (0..6)
        .map(|number| {
            let (fanout, log, end) = (fanout.clone(), storage.log(), end.clone());
            let (rng, streams) = (ChaCha8Rng::seed_from_u64(seed + number), Arc::clone(&streams));
            tokio::spawn(stop_and_go(fanout, log, end, rng, streams))
        })
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed + 99);
    let mut sent = 100;
    while sent < EVENTS || (sent < EVENTS_MAX && !is_all_seen()) {
        let burst = rng.random_range(1..60);
        append(&storage, burst).await;
        sent += burst;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..8))).await;
    }
    let head = storage.log().head();
    over.send_replace(Some(head));
    for consumer in consumers {
        tokio::time::timeout(Duration::from_secs(60), consumer)
            .await
            .unwrap_or_else(|_| panic!("seed {seed}: a consumer did not reach {head}"))
            .unwrap();
    }
    assert!(
        is_all_seen(),
        "seed {seed}: {} streams\n{}",
        streams.load(Ordering::SeqCst),
        rendered.render()
    );
    storage.stop().unwrap();
}

/// Reads from a random cursor, with pauses, until it is at the end of everything; begins anew
/// elsewhere at random. Counts the streams that it reads, each of which is right.
async fn stop_and_go(
    fanout: Fanout,
    log: storage::Log,
    end: watch::Receiver<Option<Seq>>,
    mut rng: ChaCha8Rng,
    streams: Arc<AtomicU64>,
) {
    loop {
        let begin = log.begin().get();
        let cursor = rng.random_range(begin..=log.head().get());
        let (mut client, _serving) = connect(&fanout, Cursor::At(cursor)).await;
        let mut after = Seq::new(cursor).unwrap();
        let mut expected: VecDeque<Vec<u8>> = VecDeque::new();
        streams.fetch_add(1, Ordering::SeqCst);
        for _ in 0..rng.random_range(5..400) {
            if expected.is_empty() {
                match log.read(after, 64 << 10).await.unwrap() {
                    Read::Chunk(chunk) => {
                        after = chunk.last;
                        expected.extend(messages(&chunk.bytes));
                    }
                    Read::CaughtUp if *end.borrow() == Some(after) => return,
                    Read::CaughtUp => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                    Read::BelowFloor(_) => panic!("nothing is dropped"),
                }
            }
            let Some(message) = expected.pop_front() else { continue };
            let mut got = vec![0; message.len()];
            client.read_exact(&mut got).await.unwrap();
            assert!(got == message, "after {cursor}: another event");
            if rng.random_range(0..30) == 0 {
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await;
            }
        }
    }
}

/// The messages that stand one behind the other.
fn messages(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((header, start)) = Header::parse(wire).unwrap() {
        let (message, rest) = wire.split_at(start + usize::try_from(header.len).unwrap());
        messages.push(message.to_vec());
        wire = rest;
    }
    messages
}
