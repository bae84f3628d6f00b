//! `kill -9` under load: nothing missing, nothing twice, no number used again.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use loadtest::consumers::{self, Received};
use loadtest::network::{Network, Options};
use loadtest::oracle::Witness;
use tokio::sync::watch;

use support::{PATIENCE, Relay, now, until};

/// I1, I2, I3, I5: ten kills at random moments; the consumer resumes from its cursor each time.
#[tokio::test(flavor = "multi_thread")]
async fn i2_i3_i5_a_killed_relay_loses_nothing_and_repeats_nothing() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let options = Options {
        hosts: 3,
        accounts_per_host: 10,
        records_per_account: 50,
        start: now(),
        ..Options::default()
    };
    let mut network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(folder.path(), &network, &[]);
    let plc = network.plc.url();
    let (base_tx, base) = watch::channel(relay.base());
    let seen: Seen = Arc::default();
    let consumer = tokio::spawn(follow(base, Arc::clone(&seen)));
    let pump = tokio::spawn(async move {
        network.pump(RATE, LENGTH, now).await;
        network
    });
    let mut random = seed;
    let mut received = 0.0;
    for kill in 0..KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(200 + (random >> 33) % 1_000)).await;
        received += relay.metric("mainstem_crawler_frames_total").await;
        relay.kill();
        // No host is named again: the store knows them.
        relay = Relay::start_with(
            folder.path(),
            &["--allow-insecure-hosts", "--plc-url", &plc, "--handles", "pass"],
        );
        base_tx.send(relay.base()).unwrap();
        println!("kill {kill}: {} seen", seen.lock().unwrap().0.len());
    }
    let network = pump.await.unwrap();
    until("everything is delivered", async || {
        seen.lock().unwrap().0.len() as u64 >= network.oracle.frames()
    })
    .await;
    received += relay.metric("mainstem_crawler_frames_total").await;
    let sent = network.oracle.frames() as f64;
    assert!(received < 2.0 * sent, "{received} received of {sent}: hosts start over");

    let count = seen.lock().unwrap().0.len();
    let again = support::messages(&relay.base(), Some(0), count).await;
    consumer.abort();
    let seen = seen.lock().unwrap();
    assert!(again == seen.0, "a reader from the beginning sees another stream");
    let findings = network.oracle.judge(&seen.1);
    assert!(findings.is_empty(), "{} findings: {:?}", findings.len(), findings.first());
    assert!(relay.terminate().success(), "an orderly stop is a success");
}

type Seen = Arc<Mutex<(Vec<Bytes>, Witness)>>;

/// A consumer as clients are: after every loss it resumes from the last seq that it has seen.
async fn follow(mut base: watch::Receiver<String>, seen: Seen) {
    loop {
        let (url, cursor) = (base.borrow_and_update().clone(), seen.lock().unwrap().1.seq());
        let Ok(mut subscription) = consumers::subscribe(&url, cursor.or(Some(0))).await else {
            drop(tokio::time::timeout(PATIENCE, base.changed()).await);
            continue;
        };
        while let Ok(Received::Message(message)) = subscription.next().await {
            let mut seen = seen.lock().unwrap();
            seen.1.see(&message);
            seen.0.push(message);
        }
    }
}

const KILLS: u32 = 10;
const RATE: f64 = 800.0;
const LENGTH: Duration = Duration::from_secs(14);
