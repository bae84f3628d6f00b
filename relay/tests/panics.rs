//! A check that panics costs its event: the relay stays up, says so, and keeps the whole frame.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loadtest::network::{Network, Options};
use loadtest::wire::Frame;
use loadtest::world::Event;
use protocol::did::Did;
use protocol::tripwire::Tripwire;
use support::{Relay, messages, now, until};

/// I13: what was dropped for our own fault is owed, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_one_event_and_its_frame_is_kept() {
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let victim = network.world.accounts()[0].did.clone();

    // Everybody is known before it happens.
    let relay = Relay::start(folder.path(), &network, &[]);
    let (before, _) = send(&mut network, &victim, 3);
    assert_eq!(messages(&relay.base(), Some(0), before.len()).await.len(), before.len());
    assert!(relay.terminate().success());
    assert!(!folder.path().join("panics").exists(), "nothing has panicked");

    let fault = format!("check-panic={victim}");
    let relay = Relay::start(folder.path(), &network, &["--fault", &fault]);
    relay.log_line("faults are provoked on purpose");
    let (sent, of_victim) = send(&mut network, &victim, 3);
    let (seq, poison) = &of_victim[0];
    let line: serde_json::Value =
        serde_json::from_str(&relay.log_line("a check panicked")).unwrap();
    let drops = relay.drops().await;
    assert_eq!(drops.into_iter().collect::<Vec<_>>(), [("verifier_panic".to_owned(), 1.0)]);
    let fired = "mainstem_verifier_faults_total{fault=\"check_panic\"}";
    assert_eq!(relay.metric(fired).await, 1.0);
    assert_eq!(relay.metric("mainstem_relay_panic_frames_kept").await, 1.0);

    // Every other event flows on, those of the same account and host, too.
    let others: Vec<_> = sent.iter().filter(|frame| *frame != poison).collect();
    assert_eq!(others.len(), sent.len() - 1);
    let got = messages(&relay.base(), Some(0), before.len() + others.len()).await;
    let got: Vec<Frame> = got.iter().map(|message| Frame::split(message).unwrap().1).collect();
    for frame in others {
        assert!(got.contains(frame), "an event beside the panic is missing");
    }

    let kept = fs::read(line["file"].as_str().unwrap()).unwrap();
    assert!(kept == poison.with_seq(*seq), "not the bytes that the host sent");
    let note = Path::new(line["file"].as_str().unwrap()).with_extension("json");
    let note: serde_json::Value = serde_json::from_slice(&fs::read(note).unwrap()).unwrap();
    assert_eq!(note["did"], victim.to_string());
    assert_eq!(note["host"], network.hosts[0].name());
    assert_eq!(note["seq"], *seq);
    assert_eq!(note["message"], "provoked on purpose");
    assert!(note["place"].as_str().unwrap().starts_with("verifier/src/faults.rs:"), "{note}");
    assert!(check_frame(line["file"].as_str().unwrap()).contains("right in itself"));

    assert!(relay.terminate().success());
    assert_eq!(owed(folder.path()), [victim]);
}

/// I6: what a shard holds after a panic of its own is not to be trusted.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_panics_ends_the_process_and_a_start_recovers() {
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let victim = network.world.accounts()[0].did.clone();
    let fault = format!("shard-panic={victim}");
    let relay = Relay::start(folder.path(), &network, &["--fault", &fault]);
    let (sent, _) = send(&mut network, &victim, 3);
    relay.log_line("a shard panicked: stopping");
    assert!(!relay.ended().success());

    let relay = Relay::start(folder.path(), &network, &[]);
    let got = messages(&relay.base(), Some(0), sent.len()).await;
    let got: Vec<Frame> = got.iter().map(|message| Frame::split(message).unwrap().1).collect();
    assert!(sent.iter().all(|frame| got.contains(frame)), "an event is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_panics_neither_fills_the_disk_nor_the_log() {
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let victim = network.world.accounts()[0].did.clone();
    let fault = format!("check-panic={victim}*100");
    let relay = Relay::start(folder.path(), &network, &["--fault", &fault]);
    let (sent, of_victim) = send(&mut network, &victim, 101);
    let others = sent.len() - of_victim.len() + 1;
    messages(&relay.base(), Some(0), others).await;
    let count = |outcome| format!("mainstem_relay_panic_frames_total{{outcome=\"{outcome}\"}}");
    let (written, lost) = (count("written"), count("lost"));
    until("all are counted", async || {
        relay.metric(&written).await + relay.metric(&lost).await == 100.0
    })
    .await;
    assert_eq!(relay.drops().await["verifier_panic"], 100.0);
    // Some are lost already while the first are written, but those are not the first of all.
    let written = relay.metric(&written).await;
    assert!((1.0..=4.0).contains(&written), "{written} kept of one place");
    let files = fs::read_dir(folder.path().join("panics")).unwrap().count();
    assert_eq!(files as f64, 2.0 * written);
    let (status, log) = relay.terminate_with_log();
    assert!(status.success());
    let told = log.iter().filter(|line| line.contains("panicked")).count();
    // The four, and one a minute that says that no more are kept.
    assert!((1..=6).contains(&told), "{told} lines:\n{}", log.join("\n"));
    assert!(!log.iter().any(|line| line.contains("stack backtrace")), "the hook is not hushed");
}

async fn network() -> Network {
    let options = Options {
        hosts: 2,
        accounts_per_host: 2,
        records_per_account: 10,
        start: now(),
        ..Options::default()
    };
    Network::start(&options).await.unwrap()
}

/// Sends the crowd's events until so many were the victim's; all frames, and the victim's with
/// their numbers.
fn send(network: &mut Network, victim: &Did, count: usize) -> (Vec<Frame>, Vec<(u64, Frame)>) {
    let (mut all, mut of_victim) = (Vec::new(), Vec::new());
    let mut time = now();
    while of_victim.len() < count {
        time = time.plus(Duration::from_millis(1));
        let event: Event = network.world.next_event(time);
        let (did, frame) = (event.did.clone(), event.frame.clone());
        let seq = network.send(event);
        if did == *victim {
            of_victim.push((seq, frame.clone()));
        }
        all.push(frame);
    }
    (all, of_victim)
}

/// What `mainstem check-frame` says.
fn check_frame(file: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mainstem"));
    let output = command.args(["check-frame", file]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The accounts of which the stopped relay's store knows that something was missed.
fn owed(dir: &Path) -> Vec<Did> {
    let store = storage::open(storage::Options {
        dir: dir.to_owned(),
        in_memory: None,
        durability: storage::Durability::Os,
        commit_interval: Duration::from_millis(3),
        retention: Duration::from_secs(3600),
        retention_bytes: None,
        compression: storage::Compression::None,
        tail_bytes: 1 << 20,
        clock: Arc::new(now),
        accept_clock: true,
        tripwire: Tripwire::default(),
        shards: 1,
    });
    let store = store.unwrap();
    let mut owed = Vec::new();
    for host in store.hosts(None, 10) {
        let gaps = store.account_gaps(host.id, 10).unwrap();
        assert!(gaps.iter().all(|gap| gap.reason == "verifier_panic"), "{gaps:?}");
        assert!(store.gap(host.id).unwrap().is_none_or(|gap| !gap.whole));
        owed.extend(gaps.into_iter().map(|gap| gap.did));
    }
    store.stop().unwrap();
    owed
}
