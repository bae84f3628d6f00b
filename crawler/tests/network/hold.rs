//! A held intake: nothing is read and nobody is dialled, and nothing is lost by it.

use std::time::Duration;

use crate::fake_host::{Host, Net, after, quick};
use crawler::{Resume, Timing};
use protocol::host_state::HostState;
use tokio_tungstenite::tungstenite::Message;

/// Lets every task come to where it waits.
async fn settled() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// I10, I13: what came before goes its way, what comes waits with the host, and pings go on beyond
/// the time after which silence would end the connection.
#[tokio::test]
async fn i13_a_held_connection_is_kept_and_goes_on_where_it_was() {
    let host = Host::listen().await;
    let timing = Timing {
        ping_interval: Duration::from_millis(100),
        silence_max: Duration::from_millis(300),
        ..quick()
    };
    let mut net = Net::follow(&host, Resume::Live, timing);
    let mut connection = host.accept_at(None).await;
    connection.send_events([1, 2]).await;
    net.expect(0, 0, [1, 2]).await;
    net.handle.hold(true);
    settled().await;
    connection.send_events([3, 4]).await;
    for _ in 0..6 {
        while !matches!(connection.next().await, Message::Ping(_)) {}
    }
    assert!(net.inbound.try_recv().is_err(), "it was read");
    net.handle.hold(false);
    net.expect(0, 2, [3, 4]).await;
    connection.send_events([5]).await;
    net.expect(0, 4, [5]).await;
}

#[tokio::test]
async fn nobody_is_dialled_while_the_intake_is_held() {
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], quick());
    net.handle.hold(true);
    net.subscribe(0, after(7));
    settled().await;
    net.handle.hold(false);
    let mut connection = host.accept_at(Some(7)).await;
    connection.send_events([8]).await;
    net.expect(0, 7, [8]).await;
    net.handle.hold(true);
    settled().await;
    // What the host has sent before it closes is read when there is room, and counts.
    connection.send_events([9, 10]).await;
    drop(connection);
    net.handle.redial(crate::fake_host::HOST);
    settled().await;
    assert!(net.inbound.try_recv().is_err());
    net.handle.hold(false);
    net.expect(0, 8, [9, 10]).await;
    net.state(HostState::BackingOff).await;
    let mut connection = host.accept_at(Some(10)).await;
    connection.send_events([11]).await;
    net.expect(0, 10, [11]).await;
}

#[tokio::test]
async fn a_held_crawler_stops() {
    let host = Host::listen().await;
    let net = Net::follow(&host, Resume::Live, quick());
    let _connection = host.accept_at(None).await;
    let idle = Host::listen().await;
    let other = Net::start(&[&idle], quick());
    other.handle.hold(true);
    other.subscribe(0, Resume::Live);
    net.handle.hold(true);
    settled().await;
    net.handle.clone().stop().await;
    other.handle.clone().stop().await;
}
