//! A host over its life: away for weeks, back again, counted, subscribed to and not any more.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::fake_host::{BEGIN, HOST, Host, Net, UNLIMITED, after, event, event_at, quick, within};
use crawler::{Report, Resume, Start, Timing};
use protocol::host_state::{HostState, Level, Meter};
use protocol::ids::{HostId, Micros};

/// An hour takes four milliseconds: the host is away for three weeks.
#[tokio::test]
async fn a_host_that_was_away_for_weeks_comes_back_by_itself() {
    let timing = Timing {
        back_off_min: Duration::from_micros(10),
        back_off_max: Duration::from_millis(4),
        ..quick()
    };
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], timing);
    net.away.store(true, Ordering::Relaxed);
    net.subscribe(0, after(5));
    for _ in 0..3 * 7 * 24 {
        let reason = net.state(HostState::BackingOff).await;
        assert_eq!(reason, "connection failed: nobody there");
    }
    let live = net.live();
    assert!(live.failures >= 3 * 7 * 24, "{live:?}");
    assert_eq!(live.meter.connects, 0);
    net.away.store(false, Ordering::Relaxed);
    let mut connection = host.accept_at(Some(5)).await;
    connection.send_events([6]).await;
    net.expect(0, 5, [6]).await;
    let live =
        net.shows("it streams", |live| (live.state == HostState::Streaming).then(|| live.clone()));
    let (_, error) = live.await.last_error.expect("what was wrong stays to be seen");
    assert_eq!(&*error, "connection failed: nobody there");
    drop(connection);
    net.state(HostState::BackingOff).await;
    assert_eq!(net.live().failures, 1, "an event was progress");
}

#[tokio::test]
async fn the_wait_is_shown_with_its_reason_and_its_end() {
    let timing = Timing { back_off_min: Duration::from_hours(1), ..quick() };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    drop(host.accept().await);
    net.state(HostState::BackingOff).await;
    let live = net.live();
    assert_eq!(live.state, HostState::BackingOff);
    assert_eq!(&*live.reason, "connection lost");
    assert!(live.since >= BEGIN && live.next_dial.unwrap() >= live.since.plus(timing.back_off_min));
    assert_eq!(live.last_error, Some((live.since, live.reason)));
    assert_eq!((live.failures, live.meter.connects), (1, 1));
}

#[tokio::test]
async fn what_comes_is_counted_and_its_age_is_shown() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    // Ten seconds before the clock begins.
    connection.send(event_at(1, "2023-11-14T22:13:10.000Z")).await;
    connection.send_events([2, 3]).await;
    for _ in 0..3 {
        net.inbound().await;
    }
    let live =
        net.shows("the third event", |live| (live.received.get() == 3).then(|| live.clone()));
    let live = live.await;
    assert!(live.lag.unwrap() >= Duration::from_secs(10), "{live:?}");
    assert!(live.last_event >= BEGIN);
    let bytes = event_at(1, "2023-11-14T22:13:10.000Z").len() + event(2).len() + event(3).len();
    assert_eq!((live.meter.events, live.meter.bytes), (3, bytes as u64));
    drop(connection);
    let meter = net.meter().await;
    assert_eq!((meter.events, meter.bytes, meter.connects), (3, bytes as u64, 1));
    assert_eq!(meter.last_event, live.last_event);
}

#[tokio::test]
async fn counting_goes_on_after_a_restart() {
    let host = Host::listen().await;
    let mut net = Net::start(&[&host], quick());
    let used = Level { spent: 50, at: BEGIN };
    let last_event = Micros(BEGIN.0 - 1);
    let meter =
        Meter { events: 100, bytes: 50_000, connects: 7, last_event, hour: used, day: used };
    net.handle.subscribe(Start {
        meter,
        state: HostState::Streaming,
        allowance: protocol::host_state::Allowance { per_day: 1_000, ..UNLIMITED },
        ..net.host(0, after(5))
    });
    assert_eq!(net.live().meter, meter);
    let mut connection = host.accept().await;
    connection.send_events([6]).await;
    net.expect(0, 5, [6]).await;
    drop(connection);
    let meter = net.meter().await;
    assert_eq!((meter.events, meter.connects), (101, 8));
    assert_eq!((meter.hour.spent, meter.day.spent), (0, 51), "without a limit nothing is used");
}

#[tokio::test]
async fn a_meter_is_told_while_a_connection_lasts() {
    let timing = Timing {
        meter_interval: Duration::ZERO,
        ping_interval: Duration::from_millis(20),
        ..quick()
    };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    let mut connection = host.accept().await;
    connection.send_events([1, 2]).await;
    assert_eq!(net.meter().await.events, 1);
    assert_eq!(net.meter().await.events, 2);
}

/// Everything that was received is handed on, the host is closed politely, and can come again.
#[tokio::test]
async fn an_unsubscribed_host_is_left_and_can_be_subscribed_to_anew() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    net.handle.unsubscribe(HostId(99)).await;
    let mut connection = host.accept().await;
    connection.send_events(1..=100).await;
    net.expect(0, 0, 1..=50).await;
    within("the end", net.handle.unsubscribe(HOST)).await;
    assert_eq!(connection.closed().await, 1001);
    assert_eq!(net.handle.live(HOST), None);
    let mut last = 50;
    while let Ok(inbound) = net.inbound.try_recv() {
        assert_eq!(inbound.ticket.prev.get(), last);
        last = inbound.ticket.seq.get();
    }
    assert_eq!(net.meter().await.events, last);
    let away = tokio::time::timeout(Duration::from_millis(50), host.accept_raw()).await;
    assert!(away.is_err(), "it is dialled no more");
    net.subscribe(0, after(last));
    host.accept_at(Some(last)).await.send_events([1000]).await;
    net.expect(0, last, [1000]).await;
}

/// Whoever ends a task has the last word about its state: nothing that it said comes later.
#[tokio::test]
async fn an_unsubscribed_host_has_nothing_left_to_say() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let _hung = host.accept_raw().await;
    net.noting.send_replace(false);
    let leaving = net.handle.clone();
    let leaving = tokio::spawn(async move { leaving.unsubscribe(HOST).await });
    // Behind every state.
    net.state(HostState::Connecting).await;
    net.meter().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!leaving.is_finished(), "what it said is not noted yet");
    net.noting.send_replace(true);
    within("the end", leaving).await.unwrap();
    assert!(net.reports.try_recv().is_err(), "it says no more");
}

#[tokio::test]
async fn unsubscribing_ends_a_wait_a_dial_and_a_throttle() {
    let timing = Timing { back_off_min: Duration::from_hours(1), ..Timing::default() };
    let hosts = [Host::listen().await, Host::listen().await, Host::listen().await];
    let [away, hanging, fast] = &hosts;
    let mut net = Net::start(&[away, hanging, fast], timing);
    net.subscribe(0, Resume::Live);
    drop(away.accept().await);
    net.state(HostState::BackingOff).await;
    net.subscribe(1, Resume::Live);
    let _hung = hanging.accept_raw().await;
    let allowance = protocol::host_state::Allowance { per_hour: 1, ..UNLIMITED };
    net.handle.subscribe(Start { allowance, ..net.host(2, Resume::Live) });
    let mut connection = fast.accept().await;
    connection.send_events([1, 2]).await;
    net.state(HostState::Throttled).await;
    for index in 0..3 {
        within("the end", net.handle.unsubscribe(HostId(HOST.0 + index))).await;
    }
    assert!((0..3).all(|index| net.handle.live(HostId(HOST.0 + index)).is_none()));
    assert_eq!(connection.closed().await, 1001);
}

/// A start with more hosts than may dial at once: all of them are dialled.
#[tokio::test]
async fn a_start_with_many_hosts_dials_them_all() {
    let timing = Timing { start_spacing: Duration::from_millis(2), ..quick() };
    let host = Host::listen().await;
    let net = Net::start(&[&host; 100], timing);
    for index in 0..100 {
        net.subscribe(index, Resume::Live);
    }
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(host.accept().await);
    }
    let all_streaming = async {
        let state = |index| net.handle.live(HostId(HOST.0 + index)).unwrap().state;
        while (0..100).any(|index| state(index) != HostState::Streaming) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within("all hosts", all_streaming).await;
}

/// What a reconciler waits for: everything that the host had sent by then has been handed on.
#[tokio::test]
async fn a_moment_at_which_everything_was_read_is_shown() {
    let timing = Timing {
        poll_listen: Duration::from_millis(100),
        ping_interval: Duration::from_millis(20),
        ..quick()
    };
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, timing);
    let mut connection = host.accept().await;
    let opened =
        net.shows("it streams", |live| (live.state == HostState::Streaming).then_some(live.since));
    let opened = opened.await;
    let first = net.shows("a moment", |live| Some(live.caught_up).filter(|at| at.0 > 0)).await;
    assert!(first >= opened.plus(timing.poll_listen), "not while it may be looking");
    // Nothing comes, not even a pong: that is everything, again and again, and never less.
    let later = first.plus(Duration::from_millis(100));
    let mut before = first;
    while before < later {
        let at = net.live().caught_up;
        assert!(at >= before, "{at:?} after {before:?}");
        before = at;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Half a message is not everything.
    let frame = event(1);
    connection.send_raw(&[0x82, u8::try_from(frame.len()).unwrap()]).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let within_it = net.live().caught_up;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(net.live().caught_up, within_it);
    connection.send_raw(&frame).await;
    net.expect(0, 0, [1]).await;
    net.shows("a later moment", |live| Some(live.caught_up).filter(|at| *at > within_it)).await;
    assert_eq!(net.live().received.get(), 1);
}

#[tokio::test]
async fn a_state_is_told_once() {
    let host = Host::listen().await;
    let mut net = Net::follow(&host, Resume::Live, quick());
    let mut connection = host.accept().await;
    connection.send_events([1]).await;
    net.expect(0, 0, [1]).await;
    net.handle.clone().stop().await;
    let mut states = Vec::new();
    while let Ok(report) = net.reports.try_recv() {
        if let Report::State { state, .. } = report {
            states.push(state);
        }
    }
    assert_eq!(states, [HostState::Connecting, HostState::Streaming]);
}
