//! The intake budget: a host that is ahead of us waits at its own socket, and nobody else does.

use crate::fake_host::{Host, Net, padded_event, quick};
use crawler::{Inbound, Resume};
use protocol::host_state::HostState;

async fn take(net: &mut Net, count: usize) -> Vec<Inbound> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(net.inbound().await);
    }
    taken
}

/// Sends from a task of its own, since the crawler stops reading.
fn send_all(mut connection: crate::fake_host::Connection, frames: Vec<Vec<u8>>) {
    tokio::spawn(async move {
        for frame in frames {
            connection.send(frame).await;
        }
        std::future::pending::<()>().await;
    });
}

/// Of `frames`, only so many are under way until tickets are settled; another host goes on.
async fn check_share(frames: Vec<Vec<u8>>, under_way: usize) {
    let (fast, other) = (Host::listen().await, Host::listen().await);
    let mut net = Net::start(&[&fast, &other], quick());
    net.subscribe(0, Resume::Live);
    let total = frames.len();
    send_all(fast.accept().await, frames);
    let mut held = take(&mut net, under_way).await;
    net.subscribe(1, Resume::Live);
    let mut connection = other.accept().await;
    for seq in 1..=20 {
        connection.send_events([seq]).await;
        let passed = net.inbound().await;
        assert_ne!(passed.ticket.host, crate::fake_host::HOST, "its share is spent");
    }
    // Each settled ticket lets one more come.
    for _ in under_way..total {
        drop(held.remove(0));
        held.push(net.inbound().await);
    }
    let seqs: Vec<_> = held.iter().map(|inbound| inbound.ticket.seq.get()).collect();
    let first = u64::try_from(total - under_way + 1).unwrap();
    assert_eq!(seqs, (first..=u64::try_from(total).unwrap()).collect::<Vec<_>>());
    drop(held);
    assert_eq!(net.handle.intake_used_bytes(), 0);
}

/// I7: what is received and not settled is bounded by number.
#[tokio::test]
async fn host_has_at_most_256_events_under_way() {
    check_share((1..=300).map(crate::fake_host::event).collect(), 256).await;
}

#[tokio::test]
async fn host_has_at_most_12_mb_under_way() {
    let frames = (1..=5).map(|seq| padded_event(seq, 4_900_000)).collect();
    check_share(frames, 2).await;
}

#[tokio::test]
async fn host_waits_for_the_common_budget_in_its_turn() {
    let hosts =
        [Host::listen().await, Host::listen().await, Host::listen().await, Host::listen().await];
    let hosts: Vec<&Host> = hosts.iter().collect();
    let all: Vec<&Host> = hosts.iter().copied().cycle().take(8).collect();
    let mut net = Net::start(&all, quick());
    // 64 MiB hold 13 messages of 4.9 MB; eight hosts may want 16.
    for index in 0..8u32 {
        net.subscribe(index, Resume::Live);
        let connection = all[usize::try_from(index).unwrap()].accept().await;
        send_all(connection, (1..=2).map(|seq| padded_event(seq, 4_900_000)).collect());
    }
    let mut held = take(&mut net, 13).await;
    assert!(net.handle.intake_used_bytes() > 63_000_000);
    for _ in 0..3 {
        drop(held.pop());
        held.push(net.inbound().await);
    }
    drop(held);
    assert_eq!(net.handle.intake_used_bytes(), 0);
}

/// I10: who claims a large message and sends it slowly holds its own share of what may arrive.
#[tokio::test]
async fn a_large_claim_that_trickles_delays_no_large_message_of_others() {
    let (slow, other) = (Host::listen().await, Host::listen().await);
    let mut net = Net::start(&[&slow, &other], quick());
    net.subscribe(0, Resume::Live);
    let mut claiming = slow.accept().await;
    // Five megabytes are claimed, a byte comes.
    claiming.send_raw(&[0x82, 127, 0, 0, 0, 0, 0, 0x4c, 0x4b, 0x40, 0]).await;
    net.subscribe(1, Resume::Live);
    let mut connection = other.accept().await;
    for seq in 1..=10 {
        connection.send(padded_event(seq, 4_900_000)).await;
        assert_eq!(net.inbound().await.ticket.seq.get(), seq);
    }
    assert_eq!(net.handle.intake_used_bytes(), 5_000_000);
    drop(claiming);
    net.state(HostState::BackingOff).await;
    assert_eq!(net.handle.intake_used_bytes(), 0);
}
