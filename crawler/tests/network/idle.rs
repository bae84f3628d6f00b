//! Quiet small hosts: left alone, asked for news now and then, and followed when they have some.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::fake_host::{HOST, Host, Net, after, event, info, quick};
use crawler::{Report, Resume, Start, Timing};
use protocol::host_state::{HostState, Meter};

fn impatient() -> Timing {
    Timing {
        ping_interval: Duration::from_millis(20),
        idle_after: Duration::from_millis(60),
        idle_poll: Duration::from_millis(40),
        poll_listen: Duration::from_millis(100),
        ..quick()
    }
}

#[tokio::test]
async fn a_quiet_host_is_polled_and_followed_when_it_has_something() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), impatient());
    let mut connection = host.accept_at(Some(5)).await;
    connection.send_events([6]).await;
    net.expect(0, 5, [6]).await;
    assert_eq!(connection.closed().await, 1000);
    let reason = net.state(HostState::Idle).await;
    assert_eq!(reason, "quiet: asked for news now and then");
    for _ in 0..3 {
        let mut poll = host.accept_at(Some(6)).await;
        // Inclusive cursors repeat the last event: that is no news.
        poll.send_events([6]).await;
        assert_eq!(poll.closed().await, 1000);
        assert_eq!(net.live().state, HostState::Idle);
    }
    while let Ok(report) = net.reports.try_recv() {
        assert!(matches!(report, Report::Meter { .. }), "a poll changes nothing: {report:?}");
    }
    let mut poll = host.accept_at(Some(6)).await;
    poll.send_events([7, 8]).await;
    net.expect(0, 6, [7, 8]).await;
    net.state(HostState::Streaming).await;
}

#[tokio::test]
async fn a_quiet_host_that_is_away_is_backed_off_from() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), impatient());
    let _connection = host.accept_at(Some(5)).await;
    net.state(HostState::Idle).await;
    net.away.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(net.state(HostState::BackingOff).await, "connection failed: nobody there");
}

#[tokio::test]
async fn a_quiet_host_that_asks_is_followed_at_once() {
    let timing = Timing { idle_poll: Duration::from_hours(1), ..impatient() };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), timing);
    let _connection = host.accept_at(Some(5)).await;
    net.state(HostState::Idle).await;
    assert!(net.live().next_dial.is_some());
    net.handle.redial(HOST);
    let _connection = host.accept_at(Some(5)).await;
    assert_eq!(net.state(HostState::Connecting).await, "requestCrawl");
    net.state(HostState::Streaming).await;
}

/// It is as quiet, and stays connected.
async fn check_never_idle(change: impl FnOnce(Start) -> Start) {
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], impatient());
    net.handle.subscribe(change(net.host(0, after(5))));
    let mut connection = host.accept().await;
    for _ in 0..10 {
        assert!(!connection.next().await.is_close(), "it was left");
    }
    assert_eq!(net.live().state, HostState::Streaming);
    net.state(HostState::Streaming).await;
}

#[tokio::test]
async fn a_host_of_many_accounts_is_never_left() {
    let accounts = Arc::new(AtomicU64::new(crawler::limits::IDLE_ACCOUNTS_MAX + 1));
    check_never_idle(|start| Start { accounts, ..start }).await;
}

#[tokio::test]
async fn a_host_without_a_cursor_is_never_left() {
    check_never_idle(|start| Start { cursor: Resume::Live, ..start }).await;
}

/// What such a host sends between two polls would be lost.
#[tokio::test]
async fn a_host_that_forgets_between_two_polls_stays_connected() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), impatient());
    host.accept_at(Some(5)).await;
    net.state(HostState::BackingOff).await;
    let _connection = host.accept_at(Some(5)).await;
    net.state(HostState::Idle).await;
    let mut poll = host.accept_at(Some(5)).await;
    poll.send(info("OutdatedCursor", "too old")).await;
    assert_eq!(net.gap().await, "OutdatedCursor: too old");
    net.state(HostState::Streaming).await;
    for _ in 0..10 {
        assert!(!poll.next().await.is_close(), "it was left");
    }
}

#[tokio::test]
async fn a_host_that_was_idle_waits_for_its_poll_after_a_restart() {
    let timing = Timing { idle_poll: Duration::from_hours(10), ..impatient() };
    let host = Host::listen().await;
    let net = Net::start(&[&host], timing);
    let meter = Meter { connects: 1, ..Meter::default() };
    let start = Start { state: HostState::Idle, meter, ..net.host(0, after(5)) };
    net.handle.subscribe(start);
    let dialled = tokio::time::timeout(Duration::from_millis(50), host.accept_raw()).await;
    assert!(dialled.is_err());
    assert_eq!(net.live().state, HostState::Idle);
    net.handle.redial(HOST);
    host.accept_at(Some(5)).await;
}

/// A poll's time is over in the middle of an event: it is waited for, and until it is there nobody
/// says that everything was read.
#[tokio::test]
async fn an_event_that_is_still_arriving_when_a_poll_ends_is_taken() {
    let timing = Timing { poll_listen: Duration::from_millis(500), ..impatient() };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), timing);
    let _connection = host.accept_at(Some(5)).await;
    net.state(HostState::Idle).await;
    let mut poll = host.accept_at(Some(5)).await;
    let known = net.live().caught_up;
    let frame = event(6);
    poll.send_raw(&[0x82, u8::try_from(frame.len()).unwrap()]).await;
    poll.send_raw(&frame[..10]).await;
    tokio::time::sleep(2 * timing.poll_listen).await;
    assert_eq!(net.live().caught_up, known);
    poll.send_raw(&frame[10..]).await;
    net.expect(0, 5, [6]).await;
    net.state(HostState::Streaming).await;
    poll.send_events([7]).await;
    net.expect(0, 6, [7]).await;
}

/// I7: there is no room while 256 events of the host are under way.
#[tokio::test]
async fn an_event_that_waits_for_room_when_a_poll_ends_is_taken() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(0), impatient());
    let mut connection = host.accept_at(Some(0)).await;
    connection.send_events(1..=256).await;
    let mut under_way = Vec::new();
    for _ in 0..256 {
        under_way.push(net.inbound().await);
    }
    net.state(HostState::Idle).await;
    let mut poll = host.accept_at(Some(256)).await;
    poll.send_events([257]).await;
    tokio::time::sleep(3 * impatient().poll_listen).await;
    assert!(net.inbound.try_recv().is_err(), "there is no room");
    drop(under_way);
    net.expect(0, 256, [257]).await;
    poll.send_events([258]).await;
    net.expect(0, 257, [258]).await;
}

/// Every poll but a patient one is over before such a host has looked up what it owes us.
#[tokio::test]
async fn a_host_that_is_slower_than_a_poll_is_heard_all_the_same() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), impatient());
    let _connection = host.accept_at(Some(5)).await;
    net.state(HostState::Idle).await;
    let answering = async {
        loop {
            let mut poll = host.accept_at(Some(5)).await;
            tokio::time::sleep(2 * impatient().poll_listen).await;
            // The crawler may be gone by now.
            let message = tokio_tungstenite::tungstenite::Message::binary(event(6));
            drop(futures_util::SinkExt::send(&mut poll.socket, message).await);
        }
    };
    tokio::select! {
        () = net.expect(0, 5, [6]) => {}
        () = answering => {}
    }
}

/// What is no news for ever is no silence either.
#[tokio::test]
async fn a_host_that_repeats_itself_through_a_poll_is_followed() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, after(5), impatient());
    let _connection = host.accept_at(Some(5)).await;
    net.state(HostState::Idle).await;
    let mut poll = host.accept_at(Some(5)).await;
    let repeating = async {
        loop {
            poll.send_events([5; 100]).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _reason = net.state(HostState::Streaming) => {}
        () = repeating => {}
    }
}
