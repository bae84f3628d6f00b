//! Quiet small hosts: left alone, asked for news now and then, and followed when they have some.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::fake_host::{HOST, Host, Net, after, info, quick};
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
