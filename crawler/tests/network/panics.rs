//! A panic of ours while an event is handed on: it costs the host its connection, and no ticket.

use std::sync::atomic::Ordering;

use crate::fake_host::{Host, Net, after, quick};
use protocol::host_state::HostState;

const REASON: &str = "bug of the relay, please report: poison";

fn poison(net: &Net, seq: u64, times: u64) {
    net.poison.seq.store(seq, Ordering::Relaxed);
    net.poison.times.store(times, Ordering::Relaxed);
}

/// I5: a lost ticket would hold the stored cursor for ever.
#[tokio::test]
async fn i5_an_event_whose_handing_on_panics_is_asked_for_again() {
    let (host, other) = (Host::listen().await, Host::listen().await);
    let mut net = Net::start(&[&host, &other], quick());
    net.subscribe(0, after(1));
    poison(&net, 3, 1);
    let mut connection = host.accept_at(Some(1)).await;
    connection.send_events([2, 3]).await;
    net.expect(0, 1, [2]).await;
    assert_eq!(net.state(HostState::BackingOff).await, REASON);
    assert_eq!(net.handle.intake_used_bytes(), 0, "its room is given back");
    let mut connection = host.accept_at(Some(2)).await;
    connection.send_events([3, 4]).await;
    net.expect(0, 2, [3, 4]).await;
    let (_, error) = net.live().last_error.unwrap();
    assert_eq!(&*error, REASON);
    net.subscribe(1, after(7));
    other.accept_at(Some(7)).await.send_events([8]).await;
    net.expect(0, 7, [8]).await;
}

/// I5, I13: one that panics every time is stepped over; the chain goes on, and a gap is told.
#[tokio::test]
async fn i13_a_poisonous_event_is_stepped_over_and_a_gap_is_told() {
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], quick());
    net.subscribe(0, after(2));
    poison(&net, 3, u64::MAX);
    for _ in 0..3 {
        host.accept_at(Some(2)).await.send_events([3]).await;
    }
    assert_eq!(net.gap().await, format!("stepped over 2 to 3: {REASON}"));
    host.accept_at(Some(3)).await.send_events([4, 5]).await;
    net.expect(0, 2, [4, 5]).await;
    assert_eq!(net.handle.intake_used_bytes(), 0);
}
