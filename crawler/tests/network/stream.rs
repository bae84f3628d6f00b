//! A host that behaves: its events in order, each once, over connections, resets and stops.

use std::time::Duration;

use crate::fake_host::{BEGIN, DID, Host, Net, after, error, event, event_of, info, numbered};
use crate::fake_host::{padded_event, quick};
use crawler::{Content, Report, Resume};
use futures_util::SinkExt;
use protocol::did::DidError;
use protocol::frame::{HostKind, Kind};
use protocol::host_state::HostState;
use protocol::reject::Reject;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

#[tokio::test]
async fn events_arrive_in_order_with_chained_tickets() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept_at(None).await;
    connection.send_events([3, 4, 7, 1000]).await;
    net.expect(0, 0, [3, 4, 7, 1000]).await;
    connection.send(event(1001)).await;
    let inbound = net.inbound().await;
    assert_eq!(inbound.ticket.host, crate::fake_host::HOST);
    assert_eq!(inbound.ticket.permit.bytes(), 512);
    assert!(inbound.received >= BEGIN);
    let Content::Event { kind, .. } = inbound.content else { panic!("an event") };
    assert_eq!(kind, HostKind::Event(Kind::Identity));
}

#[tokio::test]
async fn request_names_us_and_offers_no_extension() {
    let host = Host::listen().await;
    let _net = Net::follow(&host, Resume::Live, quick());
    let request = host.accept().await.request;
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("host"), Some("h0.host.dev"));
    assert_eq!(header("user-agent"), Some("mainstem-test/1 (https://example.org)"));
    assert_eq!(header("sec-websocket-extensions"), None);
}

#[tokio::test]
async fn oldest_asks_with_cursor_zero_and_a_stored_cursor_is_asked_with() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Oldest, quick());
    host.accept_at(Some(0)).await.send_events([1, 2]).await;
    net.expect(0, 0, [1, 2]).await;

    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(41), quick());
    host.accept_at(Some(41)).await.send_events([42]).await;
    net.expect(0, 41, [42]).await;
}

#[tokio::test]
async fn reconnect_resumes_after_the_last_number_received() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept_at(None).await;
    connection.send_events([5, 6]).await;
    net.expect(0, 0, [5, 6]).await;
    drop(connection);
    assert_eq!(net.state(HostState::BackingOff).await, "connection lost");
    let mut connection = host.accept_at(Some(6)).await;
    connection.send_events([9]).await;
    net.expect(0, 6, [9]).await;
    connection.socket.close(None).await.unwrap();
    assert_eq!(net.state(HostState::BackingOff).await, "closed by host");
    host.accept_at(Some(9)).await;
}

#[tokio::test]
async fn inclusive_cursor_repeats_silently() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(6), quick());
    host.accept_at(Some(6)).await.send_events([6, 7]).await;
    net.expect(0, 6, [7]).await;
    net.handle.clone().stop().await;
    while let Ok(report) = net.reports.try_recv() {
        let is_mere = matches!(report, Report::State { .. } | Report::Meter { .. });
        assert!(is_mere, "{report:?}");
    }
}

#[tokio::test]
async fn number_that_does_not_rise_is_dropped_without_ticket() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    host.accept().await.send_events([5, 5, 4, 6]).await;
    net.expect(0, 0, [5, 6]).await;
    assert_eq!(net.dropped().await, (Reject::SeqStale, event(5).len()));
    assert_eq!(net.dropped().await, (Reject::SeqStale, event(4).len()));
}

/// I13: a cursor never passes a gap that the store does not know of.
#[tokio::test]
async fn what_follows_a_drop_waits_until_the_drop_is_noted() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    net.noting.send_replace(false);
    host.accept().await.send_events([5, 0, 6]).await;
    net.expect(0, 0, [5]).await;
    assert_eq!(net.dropped().await.0, Reject::SeqMissing);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(net.inbound.try_recv().is_err(), "6 overtook the drop before it");
    net.noting.send_replace(true);
    net.expect(0, 5, [6]).await;
}

#[tokio::test]
async fn unusable_number_is_dropped_without_ticket() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    host.accept().await.send_events([0, 1 << 53, (1 << 53) - 1]).await;
    net.expect(0, 0, [(1 << 53) - 1]).await;
    assert_eq!(net.dropped().await.0, Reject::SeqMissing);
    assert_eq!(net.dropped().await.0, Reject::SeqMissing);
}

/// An event of this DID and kind is handed on as that.
async fn check_event(
    did: &'static str,
    t: &'static str,
    expected_did: Result<&str, DidError>,
    expected_kind: HostKind,
) {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    host.accept().await.send(event_of(did, t, 1, 1)).await;
    let Content::Event { kind, did, .. } = net.inbound().await.content else { panic!("an event") };
    assert_eq!(
        (did.map(|did| did.to_string()), kind),
        (expected_did.map(str::to_owned), expected_kind)
    );
}

#[tokio::test]
async fn event_is_handed_on_with_its_kind_and_account_even_if_that_is_none() {
    let sync = HostKind::Event(Kind::Sync);
    check_event(DID, "#sync", Ok(DID), sync).await;
    check_event(DID, "#handle", Ok(DID), HostKind::LegacyHandle).await;
    check_event(DID, "#tombstone", Ok(DID), HostKind::LegacyTombstone).await;
    check_event("nobody", "#sync", Err(DidError::Syntax), sync).await;
    check_event("did:key:z6Mk", "#sync", Err(DidError::Method), sync).await;
}

#[tokio::test]
async fn unknown_kind_moves_the_cursor_on() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    connection.send_events([5]).await;
    connection.send(numbered("#later", 6, 10)).await;
    connection.send_events([7]).await;
    net.expect(0, 0, [5]).await;
    let passed = net.inbound().await;
    assert!(matches!(passed.content, Content::Passed), "{passed:?}");
    assert_eq!((passed.ticket.prev.get(), passed.ticket.seq.get()), (5, 6));
    net.expect(0, 6, [7]).await;
}

#[tokio::test]
async fn future_cursor_starts_a_new_epoch_from_the_oldest_event() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(500), quick());
    host.accept_at(Some(500)).await.send(error("FutureCursor", "Cursor in the future.")).await;
    assert_eq!(net.reset().await, (1, "error frame: FutureCursor".to_owned()));
    host.accept_at(Some(0)).await.send_events([1, 2]).await;
    net.expect(1, 0, [1, 2]).await;
}

/// A host that was installed anew, or restored from an old backup, says so by its numbers only.
#[tokio::test]
async fn a_reset_is_shown_and_counted_in_a_new_epoch() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(500), quick());
    assert_eq!((net.live().epoch.0, net.live().received.get()), (0, 500));
    host.accept_at(Some(500)).await.send_events([7]).await;
    net.reset().await;
    let _connection = host.accept_at(Some(0)).await;
    let live = net.live();
    assert_eq!((live.epoch.0, live.received.get(), live.caught_up.0), (1, 0, 0));
    let (_, error) = live.last_error.unwrap();
    assert_eq!(&*error, "sequence went backwards: 7");
}

#[tokio::test]
async fn future_cursor_without_a_cursor_only_backs_off() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    host.accept_at(None).await.send(error("FutureCursor", "?")).await;
    assert_eq!(net.state(HostState::BackingOff).await, "error frame: FutureCursor");
    host.accept_at(None).await.send_events([1]).await;
    net.expect(0, 0, [1]).await;
}

#[tokio::test]
async fn first_number_below_the_cursor_starts_a_new_epoch() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    host.accept_at(None).await.send_events([499, 500]).await;
    net.expect(0, 0, [499, 500]).await;
    let mut connection = host.accept_at(Some(500)).await;
    connection.send_events([3, 4]).await;
    assert_eq!(net.reset().await, (1, "sequence went backwards: 3".to_owned()));
    host.accept_at(Some(0)).await.send_events([1, 2, 3]).await;
    net.expect(1, 0, [1, 2, 3]).await;
}

#[tokio::test]
async fn outdated_cursor_is_a_gap() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), quick());
    let mut connection = host.accept().await;
    connection.send(info("OutdatedCursor", "too old")).await;
    connection.send(info("Hello", "")).await;
    connection.send_events([900]).await;
    assert_eq!(net.gap().await, "OutdatedCursor: too old");
    net.expect(0, 5, [900]).await;
}

#[tokio::test]
async fn error_frame_is_the_reason_of_the_back_off() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    connection.send(error("ConsumerTooSlow", "Stream\nconsumer too slow")).await;
    let reason = net.state(HostState::BackingOff).await;
    assert_eq!(reason, "error frame: ConsumerTooSlow: Stream consumer too slow");
    assert_eq!(connection.closed().await, 1008);
}

#[tokio::test]
async fn message_in_fragments_with_pings_between_is_one_event() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    for (seq, size) in [(1, 10), (2, 40_000), (3, 1_000_000)] {
        let whole = padded_event(seq, size);
        let third = whole.len() / 3;
        let part =
            |range: &[u8], opcode, fin| Frame::message(range.to_vec(), OpCode::Data(opcode), fin);
        connection.send_fragment(part(&whole[..third], Data::Binary, false)).await;
        connection.send_fragment(Frame::ping(vec![7])).await;
        connection.send_fragment(part(&whole[third..2 * third], Data::Continue, false)).await;
        connection.send_fragment(part(&[], Data::Continue, false)).await;
        connection.send_fragment(part(&whole[2 * third..], Data::Continue, true)).await;
        assert_eq!(connection.next().await, Message::Pong(vec![7].into()));
        let inbound = net.inbound().await;
        let Content::Event { frame, .. } = inbound.content else { panic!("an event") };
        assert_eq!(frame, whole);
        let charged = usize::try_from(inbound.ticket.permit.bytes()).unwrap();
        assert_eq!(charged, whole.len().max(512), "what was taken for more is given back");
    }
    assert_eq!(net.handle.intake_used_bytes(), 0);
}

#[tokio::test]
async fn frames_behind_the_handshake_in_one_packet_are_not_lost() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut stream = host.accept_raw().await;
    let head = crate::fake_host::read_head(&mut stream).await;
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes();
    for seq in [1, 2] {
        let frame = event(seq);
        answer.extend([0x82, u8::try_from(frame.len()).unwrap()]);
        answer.extend(frame);
    }
    tokio::io::AsyncWriteExt::write_all(&mut stream, &answer).await.unwrap();
    net.expect(0, 0, [1, 2]).await;
}

#[tokio::test]
async fn pings_are_answered_and_ours_are_sent() {
    let timing = crawler::Timing { ping_interval: Duration::from_millis(20), ..quick() };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    let mut connection = host.accept().await;
    connection.socket.send(Message::Ping(vec![1, 2, 3].into())).await.unwrap();
    let (mut pinged, mut ponged) = (0, 0);
    let answers = async {
        while pinged < 3 || ponged < 1 {
            match connection.next().await {
                Message::Ping(_) => pinged += 1,
                Message::Pong(payload) => ponged += usize::from(payload[..] == [1, 2, 3]),
                other => panic!("{other:?}"),
            }
        }
    };
    crate::fake_host::within("pings and a pong", answers).await;
    connection.send_events([1]).await;
    net.expect(0, 0, [1]).await;
}

#[tokio::test]
async fn stop_delivers_what_was_received_and_closes_politely() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    connection.send_events(1..=100).await;
    net.expect(0, 0, 1..=50).await;
    net.handle.clone().stop().await;
    assert_eq!(connection.closed().await, 1001);
    let mut prev = 50;
    while let Ok(inbound) = net.inbound.try_recv() {
        assert_eq!(inbound.ticket.prev.get(), prev);
        prev = inbound.ticket.seq.get();
    }
    assert_eq!(net.meter().await.events, prev);
    net.subscribe(1, Resume::Live);
    net.subscribe(0, Resume::Live);
    assert!(net.reports.try_recv().is_err(), "nothing starts after a stop");
}
