//! Writes and syncs that fail: the process ends and says where, and a start loses nothing (I6).

use std::time::Duration;

use futures_util::future::join_all;
use loadtest::oracle::Witness;
use tokio::sync::watch;

use super::journal::{self, Op};
use super::recording::{following, network, pump, watched, watched_again};
use super::support::until;

/// `KIND:PART:N`, errno, how (docs/testing.md, "Power cuts").
const CASES: [(&str, u32, &str); 10] = [
    ("write:.log:40", EIO, "undone"),
    ("write:.log:41", ENOSPC, "short"),
    ("write:.log:42", EIO, "once-done"),
    ("sync:.log:40", EIO, "once-undone"),
    ("sync:.log:41", EIO, "once-done"),
    ("write:.sst:3", EIO, "undone"),
    ("write:.sst:4", ENOSPC, "short"),
    ("sync:.sst:3", EIO, "undone"),
    ("write:MANIFEST:40", ENOSPC, "undone"),
    ("sync:MANIFEST:40", EIO, "done"),
];

/// I2, I6: every write that can fail, in both ways.
#[tokio::test(flavor = "multi_thread")]
async fn i2_i6_a_failed_write_ends_the_process_and_a_start_loses_nothing() {
    let cases = (0..).zip(CASES);
    // They mostly wait.
    join_all(
        cases.map(|(seed, (place, errno, how))| check(seed, format!("{place}:{errno}:{how}"))),
    )
    .await;
}

async fn check(seed: u64, fault: String) {
    let (mut network, folder) = (network(seed).await, tempfile::tempdir().unwrap());
    let relay = watched(&folder, &network, "fsync", Some(&fault));
    let (base_tx, base) = watch::channel(relay.base());
    let (consumer, seen) = following(base);
    let pump = tokio::spawn(async move {
        pump(&mut network, RATE, LOAD).await;
        network
    });
    let (line, status) = tokio::task::spawn_blocking(move || {
        let line = relay.log_line("\"store failed\"");
        (line, relay.ended())
    })
    .await
    .unwrap();
    assert_eq!(status.code(), Some(1), "{fault}: {line}");
    let part = fault.split(':').nth(1).unwrap();
    assert!(line.contains(part), "{fault}: which file? {line}");
    let fired = |op: &Op| matches!(op, Op::Fault { path } if path.contains(part));
    let records = journal::read(&folder.path().join("journal"));
    assert!(records.iter().any(|record| fired(&record.op)), "{fault}: it did not fire");

    let relay = watched_again(&folder, "fsync");
    base_tx.send(relay.base()).unwrap();
    let network = pump.await.unwrap();
    until(&format!("{fault}: everything is delivered"), async || {
        seen.lock().unwrap().len() as u64 >= network.oracle.frames()
    })
    .await;
    assert!(relay.terminate().success(), "{fault}: an orderly stop is a success");
    consumer.abort();
    let mut witness = Witness::default();
    seen.lock().unwrap().iter().for_each(|seen| witness.see(&seen.message));
    let findings = network.oracle.judge(&witness);
    assert!(findings.is_empty(), "{fault}: {:?}", findings.first());
    println!("{fault}: {} frames; {line}", witness.frames());
}

const EIO: u32 = 5;
const ENOSPC: u32 = 28;
const RATE: f64 = 200.0;
const LOAD: Duration = Duration::from_secs(5);
