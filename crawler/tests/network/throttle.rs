//! Hosts that send more than they may: they wait at their own sockets, and nobody else does.

use std::time::Duration;

use crate::fake_host::{BEGIN, HOST, Host, Net, UNLIMITED, quick};
use crawler::{Resume, Start, Timing};
use futures_util::StreamExt;
use protocol::host_state::{Allowance, HostState, Level, Meter};
use tokio_tungstenite::tungstenite::Message;

fn hourly(per_hour: u64) -> Allowance {
    Allowance { per_hour, ..UNLIMITED }
}

/// I10: a flood beyond its limits is held and shown, others go on; with a higher limit everything
/// that was held comes, in order.
#[tokio::test]
async fn i10_a_flood_is_held_and_shown_while_others_go_on() {
    let (flood, other) = (Host::listen().await, Host::listen().await);
    let mut net = Net::start(&[&flood, &other], quick());
    net.handle.subscribe(Start { allowance: hourly(10), ..net.host(0, Resume::Live) });
    let mut flooding = flood.accept().await;
    flooding.send_events(1..=100).await;
    net.expect(0, 0, 1..=10).await;
    let reason = net.state(HostState::Throttled).await;
    assert_eq!(reason, "over its limit of 10 events an hour");
    net.subscribe(1, Resume::Live);
    let mut connection = other.accept().await;
    for seq in 1..=50 {
        connection.send_events([seq]).await;
        assert_ne!(net.inbound().await.ticket.host, HOST, "it is over its limit");
    }
    let live = net.live();
    assert_eq!((live.state, &*live.reason), (HostState::Throttled, &*reason));
    assert_eq!((live.received.get(), live.last_error), (10, None));
    net.handle.set_allowance(HOST, UNLIMITED);
    net.expect(0, 10, 11..=100).await;
    net.shows("it streams", |live| (live.state == HostState::Streaming).then_some(())).await;
}

/// A lower limit is in force at once, too.
#[tokio::test]
async fn a_limit_takes_effect_while_a_host_streams() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    connection.send_events(1..=20).await;
    net.expect(0, 0, 1..=20).await;
    net.handle.set_allowance(HOST, hourly(5));
    connection.send_events(21..=40).await;
    // The bucket is new, and has five.
    net.expect(0, 20, 21..=25).await;
    net.state(HostState::Throttled).await;
    assert!(net.inbound.try_recv().is_err());
}

/// Over a second's limit it is held for milliseconds at a time; shown when that goes on.
#[tokio::test]
async fn a_steady_flood_gets_its_rate_and_is_shown() {
    let timing = Timing { throttled_after: Duration::from_millis(100), ..quick() };
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], timing);
    let allowance = Allowance { per_second: 500, ..UNLIMITED };
    net.handle.subscribe(Start { allowance, ..net.host(0, Resume::Live) });
    let mut connection = host.accept().await;
    connection.send_events(1..=800).await;
    net.expect(0, 0, 1..=500).await;
    let reason = net.state(HostState::Throttled).await;
    assert_eq!(reason, "over its limit of 500 events a second");
    net.expect(0, 500, 501..=800).await;
    // It has sent no more, so it is held back no more.
    net.state(HostState::Streaming).await;
}

/// What was used of an hour is used after a restart as well.
#[tokio::test]
async fn a_restart_forgets_no_limit() {
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], quick());
    let used = Level { spent: 100, at: BEGIN };
    let meter = Meter { hour: used, ..Meter::default() };
    net.handle.subscribe(Start { allowance: hourly(100), meter, ..net.host(0, Resume::Live) });
    let mut connection = host.accept().await;
    connection.send_events([1, 2]).await;
    net.expect(0, 0, [1]).await;
    net.state(HostState::Throttled).await;
    assert!(net.inbound.try_recv().is_err());
}

/// Pings go on, and the host's own silence is not held against it.
#[tokio::test]
async fn a_throttled_connection_is_kept() {
    let timing = Timing {
        ping_interval: Duration::from_millis(20),
        silence_max: Duration::from_millis(60),
        ..quick()
    };
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], timing);
    net.handle.subscribe(Start { allowance: hourly(1), ..net.host(0, Resume::Live) });
    let mut connection = host.accept().await;
    connection.send_events([1, 2]).await;
    net.state(HostState::Throttled).await;
    for _ in 0..10 {
        let message = crate::fake_host::within("a ping", connection.socket.next()).await;
        assert!(matches!(message, Some(Ok(Message::Ping(_)))), "{message:?}");
    }
    assert_eq!(net.live().state, HostState::Throttled);
    net.handle.set_allowance(HOST, UNLIMITED);
    net.expect(0, 0, [1, 2]).await;
}

/// Bad frames count as well: they cost the same.
#[tokio::test]
async fn a_flood_of_stale_numbers_is_held() {
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], quick());
    net.handle.subscribe(Start { allowance: hourly(10), ..net.host(0, Resume::Live) });
    let mut connection = host.accept().await;
    connection.send_events([1; 50]).await;
    net.state(HostState::Throttled).await;
    assert_eq!(net.live().meter.events, 10);
}
