//! A host that misbehaves, or is away: what it costs it, and that it never costs us.

use std::time::Duration;

use crate::fake_host::{BEGIN, Host, Net, after, error, event, padded_event, quick, read_head};
use crawler::{Resume, Timing};
use protocol::host_state::HostState;
use protocol::reject::Reject;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

#[tokio::test]
async fn message_over_the_limit_is_dropped_and_the_next_passes() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    let most = 5_000_000 - event(1).len();
    connection.send(padded_event(1, most)).await;
    connection.send(padded_event(2, 5_000_000)).await;
    connection.send_events([3]).await;
    assert_eq!(net.inbound().await.ticket.seq.get(), 1);
    net.expect(0, 1, [3]).await;
    assert_eq!(net.dropped().await, (Reject::FrameTooBig, 512));
    assert_eq!(net.handle.intake_used_bytes(), 0);
}

#[tokio::test]
async fn fragments_that_add_up_over_the_limit_are_dropped_and_the_next_passes() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    for index in 0..6 {
        let opcode = if index == 0 { Data::Binary } else { Data::Continue };
        let part = Frame::message(vec![index; 1_000_000], OpCode::Data(opcode), index == 5);
        connection.send_fragment(part).await;
    }
    connection.send_events([3]).await;
    net.expect(0, 0, [3]).await;
    assert_eq!(net.dropped().await, (Reject::FrameTooBig, 512));
    assert_eq!(net.handle.intake_used_bytes(), 0);
}

/// Sends bytes that no library would send; the connection ends for that reason.
async fn check_violation(bytes: &[u8], reason: &str, code: u16) {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    connection.send_raw(bytes).await;
    assert_eq!(net.state(HostState::BackingOff).await, reason);
    assert_eq!(connection.closed().await, code);
    host.accept().await.send_events([1]).await;
    net.expect(0, 0, [1]).await;
    assert_eq!(net.handle.intake_used_bytes(), 0);
}

#[tokio::test]
async fn claim_of_over_64_mb_closes() {
    let mut header = vec![0x82, 127];
    header.extend(64_000_001u64.to_be_bytes());
    check_violation(&header, "message over 64 MB", 1009).await;
    let mut header = vec![0x82, 127];
    header.extend((u64::MAX >> 1).to_be_bytes());
    check_violation(&header, "message over 64 MB", 1009).await;
}

#[tokio::test]
async fn masked_frame_closes() {
    check_violation(&[0x82, 0x81, 1, 2, 3, 4, 5], "masked frame from a server", 1002).await;
}

#[tokio::test]
async fn fragments_out_of_order_close() {
    check_violation(&[0x80, 0], "fragments out of order", 1002).await;
    check_violation(&[0x02, 0, 0x82, 0], "fragments out of order", 1002).await;
}

#[tokio::test]
async fn flood_of_pings_closes() {
    check_violation(&[0x89, 0].repeat(601), "too many pings and pongs", 1008).await;
    check_violation(&[0x8a, 0].repeat(601), "too many pings and pongs", 1008).await;
}

#[tokio::test]
async fn reserved_bits_close() {
    check_violation(&[0xc2, 0], "not a WebSocket frame header", 1002).await;
}

#[tokio::test]
async fn text_message_closes_and_is_counted() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    futures_util::SinkExt::send(&mut connection.socket, Message::text("hello")).await.unwrap();
    assert_eq!(net.dropped().await.0, Reject::FrameText);
    assert_eq!(net.state(HostState::BackingOff).await, "text message");
    assert_eq!(connection.closed().await, 1003);
}

#[tokio::test]
async fn eighth_malformed_frame_in_a_minute_closes() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    for seq in 1..=7 {
        connection.send([0xff; 600]).await;
        connection.send_events([seq]).await;
    }
    net.expect(0, 0, 1..=7).await;
    connection.send([0xff]).await;
    for index in 0..8 {
        let size = if index < 7 { 512 } else { 1 };
        assert_eq!(net.dropped().await, (Reject::FrameMalformed, size));
    }
    assert_eq!(net.state(HostState::BackingOff).await, "too many malformed frames");
    assert_eq!(connection.closed().await, 1008);
    host.accept_at(Some(7)).await;
}

#[tokio::test]
async fn silent_connection_is_dropped() {
    let timing = Timing {
        ping_interval: Duration::from_millis(10),
        silence_max: Duration::from_millis(50),
        ..quick()
    };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    // Nobody answers its pings.
    let connection = host.accept().await;
    assert_eq!(net.state(HostState::BackingOff).await, "silent for too long");
    drop(connection);
    host.accept().await;
}

#[tokio::test]
async fn message_that_never_ends_is_given_up() {
    let timing = Timing { message_timeout: Duration::from_millis(50), ..quick() };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    let mut connection = host.accept().await;
    connection.send_raw(&[0x82, 127, 0, 0, 0, 0, 0, 0x40, 0, 0]).await;
    // The crawler's close of the connection ends the writing.
    let trickle = async {
        while connection.socket.get_mut().write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    crate::fake_host::within("the close", trickle).await;
    assert_eq!(net.state(HostState::BackingOff).await, "message took too long to arrive");
    assert_eq!(net.handle.intake_used_bytes(), 0);
}

#[tokio::test]
async fn position_that_kills_three_connections_is_stepped_over() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), quick());
    for _ in 0..3 {
        let mut connection = host.accept_at(Some(5)).await;
        connection.send(error("InternalServerError", "row 6")).await;
        connection.closed().await;
    }
    let reason = net.gap().await;
    assert_eq!(reason, "stepped over 5 to 6: error frame: InternalServerError: row 6");
    host.accept_at(Some(6)).await.send_raw(&[0x82, 126]).await;
    assert!(net.gap().await.starts_with("stepped over 5 to 7: "));
    host.accept_at(Some(7)).await.send_events([9, 10]).await;
    net.expect(0, 5, [9, 10]).await;
    host.accept_at(Some(10)).await;
}

#[tokio::test]
async fn steps_double_and_end_live() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(100), quick());
    let mut cursors = vec![Some(100); 3];
    cursors.extend((0..11).map(|step| Some(100 + (1 << step))));
    for cursor in cursors.into_iter().chain([None, None]) {
        drop(host.accept_at(cursor).await);
    }
    let mut connection = host.accept_at(None).await;
    connection.send_events([5000]).await;
    net.expect(0, 100, [5000]).await;
}

#[tokio::test]
async fn step_over_the_hosts_end_goes_live_in_the_same_epoch() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(100), quick());
    for _ in 0..3 {
        drop(host.accept_at(Some(100)).await);
    }
    host.accept_at(Some(101)).await.send(error("FutureCursor", "")).await;
    host.accept_at(None).await.send_events([101]).await;
    net.expect(0, 100, [101]).await;
}

#[tokio::test]
async fn quiet_connection_that_ends_kills_nothing() {
    let timing = Timing { short_lived: Duration::ZERO, ..quick() };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), timing);
    for _ in 0..5 {
        // An inclusive host repeats the cursor each time: that is no sign of trouble.
        host.accept_at(Some(5)).await.send_events([5]).await;
    }
    host.accept_at(Some(5)).await.send_events([6]).await;
    net.expect(0, 5, [6]).await;
}

/// Answers the handshake with that; the host is in that state for that reason.
async fn check_handshake(answer: &str, state: HostState, reason: &str) {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut stream = host.accept_raw().await;
    read_head(&mut stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    let said = net.state(state).await;
    assert!(said.starts_with(reason), "{said}");
}

#[tokio::test]
async fn handshake_that_is_no_upgrade_backs_off() {
    let unavailable = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";
    let reason = "handshake refused: HTTP 503 Service Unavailable";
    check_handshake(unavailable, HostState::BackingOff, reason).await;
    check_handshake("SSH-2.0-OpenSSH\r\n\r\n", HostState::BackingOff, "handshake failed").await;
    let other = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    check_handshake(other, HostState::BackingOff, "handshake failed: upgrade header").await;
    let unkeyed = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Accept: bm8=\r\n\r\n";
    let reason = "handshake failed: sec-websocket-accept header";
    check_handshake(unkeyed, HostState::BackingOff, reason).await;
    let endless = format!("HTTP/1.1 101 {}", "x".repeat(100_000));
    check_handshake(&endless, HostState::BackingOff, "handshake failed").await;
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let moved = "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://pds.host.dev/\r\n\r\n";
    let reason = "handshake refused: HTTP 308 Permanent Redirect, a redirect to \
                  https://pds.host.dev/";
    check_handshake(moved, HostState::BackingOff, reason).await;
    let nowhere = "HTTP/1.1 302 Found\r\n\r\n";
    let reason = "handshake refused: HTTP 302 Found, a redirect to nowhere";
    check_handshake(nowhere, HostState::BackingOff, reason).await;
}

/// I10: it costs itself a place among the dials for as long as a dial may take, and nobody else.
#[tokio::test]
async fn a_handshake_that_trickles_is_given_up_and_delays_nobody() {
    let timing = Timing { dial_timeout: Duration::from_millis(300), ..quick() };
    let (slow, other) = (Host::listen().await, Host::listen().await);
    let mut net = Net::start(&[&slow, &other], timing);
    net.subscribe(0, Resume::Live);
    let mut stream = slow.accept_raw().await;
    read_head(&mut stream).await;
    let trickle = tokio::spawn(async move {
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    net.subscribe(1, Resume::Live);
    let mut connection = other.accept().await;
    connection.send_events([1]).await;
    assert_eq!(net.inbound().await.ticket.seq.get(), 1);
    assert_eq!(net.state(HostState::BackingOff).await, "dial or handshake timed out");
    crate::fake_host::within("the close", trickle).await.unwrap();
}

#[tokio::test]
async fn relay_is_refused_whatever_its_status() {
    let answer = "HTTP/1.1 429 Slow Down\r\nServer: indigo (ATProto-Relay)\r\n\r\n";
    check_handshake(answer, HostState::Refused, "host is a relay").await;
    let mut host = Host::listen().await;
    host.server = Some("mainstem/0.1.0 (atproto-relay)");
    let mut net = Net::follow(&host, Resume::Live, quick());
    host.accept().await;
    assert_eq!(net.state(HostState::Refused).await, "host is a relay");
}

#[tokio::test]
async fn connection_without_an_event_is_no_progress() {
    let timing = Timing { back_off_max: Duration::from_hours(1), ..quick() };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    for _ in 0..8 {
        drop(host.accept().await);
        net.state(HostState::BackingOff).await;
    }
    // The ninth wait has grown to 128 ms at least; the first one was 2 ms at most.
    let dialled = tokio::time::timeout(Duration::from_millis(50), host.accept_raw()).await;
    assert!(dialled.is_err(), "it is dialled less and less often");
    host.accept_raw().await;
}

#[tokio::test]
async fn dial_that_hangs_is_given_up_and_dialled_again() {
    let timing = Timing { dial_timeout: Duration::from_millis(50), ..quick() };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    let hung = host.accept_raw().await;
    assert_eq!(net.state(HostState::BackingOff).await, "dial or handshake timed out");
    host.accept_raw().await;
    drop(hung);
}

#[tokio::test]
async fn handshakes_under_way_are_bounded() {
    let host = Host::listen().await;
    let net = Net::start(&[&host; 5], quick());
    for index in 0..4 {
        net.subscribe(index, Resume::Live);
    }
    let mut hung = Vec::new();
    for _ in 0..4 {
        let mut stream = host.accept_raw().await;
        read_head(&mut stream).await;
        hung.push(stream);
    }
    net.subscribe(4, Resume::Live);
    let fifth = tokio::time::timeout(Duration::from_millis(50), host.accept_raw()).await;
    assert!(fifth.is_err(), "all places are taken");
    drop(hung.pop());
    let head = read_head(&mut host.accept_raw().await).await;
    assert!(head.contains("h4.host.dev"), "who waits longest is next: {head}");
}

#[tokio::test]
async fn redial_ends_the_wait() {
    let timing = Timing {
        back_off_min: Duration::from_hours(1),
        back_off_max: Duration::from_hours(2),
        redial_spacing: Duration::ZERO,
        ..Timing::default()
    };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    drop(host.accept().await);
    net.state(HostState::BackingOff).await;
    net.handle.redial(crate::fake_host::HOST);
    host.accept().await.send_events([1]).await;
    net.expect(0, 0, [1]).await;
}

#[tokio::test]
async fn redial_comes_too_soon_after_a_dial() {
    let timing = Timing {
        back_off_min: Duration::from_hours(1),
        back_off_max: Duration::from_hours(2),
        redial_spacing: Duration::from_hours(1),
        ..Timing::default()
    };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    drop(host.accept().await);
    net.state(HostState::BackingOff).await;
    net.handle.redial(crate::fake_host::HOST);
    let dialled = tokio::time::timeout(Duration::from_millis(50), host.accept_raw()).await;
    assert!(dialled.is_err(), "anybody may send requestCrawl");
}

/// The time that a dial takes is no part of the spacing: a host that answers nothing would hold a
/// place among the dials all the time.
#[tokio::test]
async fn redial_is_spaced_from_the_end_of_a_dial() {
    let timing = Timing {
        back_off_min: Duration::from_hours(1),
        back_off_max: Duration::from_hours(2),
        dial_timeout: Duration::from_millis(600),
        redial_spacing: Duration::from_millis(500),
        redial_spacing_max: Duration::from_millis(500),
        ..Timing::default()
    };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    let _hung = host.accept_raw().await;
    net.state(HostState::BackingOff).await;
    let since = net.live().since;
    net.handle.redial(crate::fake_host::HOST);
    let _hung = host.accept_raw().await;
    net.state(HostState::Connecting).await;
    // Half of it, since the state is told a little after the end.
    assert!(net.live().since >= since.plus(Duration::from_millis(250)));
}

/// A storm of them is answered by less and less dials; the first one comes at once.
#[tokio::test]
async fn redials_that_come_to_nothing_space_themselves() {
    let timing = Timing {
        back_off_min: Duration::from_hours(1),
        back_off_max: Duration::from_hours(2),
        redial_spacing: Duration::from_millis(1),
        redial_spacing_max: Duration::from_hours(1),
        ..Timing::default()
    };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    drop(host.accept().await);
    for _ in 0..9 {
        net.state(HostState::BackingOff).await;
        net.handle.redial(crate::fake_host::HOST);
        drop(host.accept().await);
    }
    net.state(HostState::BackingOff).await;
    net.handle.redial(crate::fake_host::HOST);
    let next = |live: &crawler::Live| {
        let wait = live.next_dial?.since(live.since);
        (wait < Duration::from_mins(1)).then_some(wait)
    };
    let wait = net.shows("when it is dialled", next).await;
    // Of 512 ms, less what passed until the state was told.
    assert!(wait >= Duration::from_millis(260), "{wait:?}");
    host.accept().await.send_events([1]).await;
    net.expect(0, 0, [1]).await;
}

/// It has said that it is a relay: that does not change by somebody's asking again.
#[tokio::test]
async fn redial_of_a_host_that_was_refused_waits_the_longest() {
    let mut host = Host::listen().await;
    host.server = Some("some (atproto-relay)");
    let timing = Timing { redial_spacing_max: Duration::from_mins(10), ..quick() };
    let mut net = Net::follow(&host, Resume::Live, timing);
    host.accept().await;
    net.state(HostState::Refused).await;
    net.handle.redial(crate::fake_host::HOST);
    let next = |live: &crawler::Live| {
        let wait = live.next_dial?.since(live.since);
        (wait < Duration::from_hours(5)).then_some(wait)
    };
    let wait = net.shows("when it is dialled", next).await;
    assert!(wait > Duration::from_mins(9), "{wait:?}");
}

#[tokio::test]
async fn redial_ends_a_refusal() {
    let mut host = Host::listen().await;
    host.server = Some("some (atproto-relay)");
    let mut net = Net::follow(&host, Resume::Live, quick());
    host.accept().await;
    net.state(HostState::Refused).await;
    assert!(net.live().next_dial.unwrap() > BEGIN.plus(Duration::from_hours(5)));
    host.server = None;
    net.handle.redial(crate::fake_host::HOST);
    host.accept().await.send_events([1]).await;
    net.expect(0, 0, [1]).await;
}

#[tokio::test]
async fn stop_ends_a_wait_and_a_dial() {
    let timing = Timing {
        back_off_min: Duration::from_hours(1),
        back_off_max: Duration::from_hours(1),
        ..Timing::default()
    };
    let (away, hanging) = (Host::listen().await, Host::listen().await);
    let mut net = Net::start(&[&away, &hanging], timing);
    net.subscribe(0, Resume::Live);
    drop(away.accept().await);
    net.state(HostState::BackingOff).await;
    net.subscribe(1, Resume::Live);
    let _hung = hanging.accept_raw().await;
    crate::fake_host::within("the stop", net.handle.clone().stop()).await;
}
