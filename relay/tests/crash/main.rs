//! Death under load, at every point of an event's way and at any other: nothing missing, nothing
//! twice, no number used again, whatever the clock says.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]
#![allow(clippy::print_stdout, reason = "a long run tells how far it is, and its seed")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod examine;
mod operator;
mod readers;
mod record;
#[path = "../support/mod.rs"]
mod support;
mod trial;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use loadtest::consumers::{self, Received};
use loadtest::network::{Network, Options};
use loadtest::oracle::Witness;
use tokio::sync::watch;

use support::{PATIENCE, Relay, now, until};
use trial::{Setup, Trial};

/// I1, I2, I3, I5, with `--durability fsync`.
#[tokio::test(flavor = "multi_thread")]
async fn i1_i2_i3_i5_a_relay_that_dies_anywhere_loses_nothing_and_repeats_nothing() {
    Trial::run(setup("fsync", false)).await;
}

/// I1, I2, I3, I5, with `--durability os`, while the clock jumps by days from life to life.
#[tokio::test(flavor = "multi_thread")]
async fn i1_i2_i3_i5_nor_does_one_whose_clock_jumps_by_days() {
    Trial::run(setup("os", true)).await;
}

/// I3: the clock is refused, or believed, as docs/decisions/0002 says; either way the seqs rise.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_clock_that_is_ahead_by_a_month_is_refused_until_it_is_accepted() {
    for durability in ["fsync", "os"] {
        let options = Options { hosts: 1, accounts_per_host: 5, ..Options::default() };
        let mut network = Network::start(&options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        for (clock, accept) in [
            ("clock=+0s", false),
            ("clock=+31d", true),
            // Right again: on by one, and that is no reason to refuse the next jump.
            ("clock=+0s", false),
            ("clock=+29d", false),
            ("clock=-400d", false),
            ("clock=+29d", true),
        ] {
            let mut more = vec!["--durability", durability, "--fault", clock];
            if accept {
                let refused = refused(folder.path(), &more).await;
                assert!(refused.contains("--accept-clock"), "{clock}: {refused}");
                assert!(refused.contains(" days ahead of the last commit"), "{clock}: {refused}");
                more.push("--accept-clock");
            }
            let relay = Relay::start(folder.path(), &network, &more);
            let cursor = seen.last().map_or(0, |(seq, _)| *seq);
            network.send_next(20);
            let messages = support::messages(&relay.base(), Some(cursor), 20).await;
            seen.extend(messages.iter().map(|message| record::read(message).unwrap()));
            relay.kill();
        }
        assert!(seen.is_sorted_by(|one, other| one.0 < other.0), "{durability}: {seen:?}");
        let relay = Relay::start(folder.path(), &network, &["--accept-clock"]);
        let again = support::messages(&relay.base(), Some(0), seen.len()).await;
        let again: Vec<_> = again.iter().map(|message| record::read(message).unwrap()).collect();
        assert_eq!(again, seen, "{durability}");
    }
}

/// What a relay says that does not start.
async fn refused(dir: &std::path::Path, arguments: &[&str]) -> String {
    let mut command = support::command(dir, arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(!output.status.success(), "it must not start");
    String::from_utf8(output.stderr).unwrap()
}

/// `CRASH_CYCLES` lives, from the seed `CRASH_SEED`.
fn setup(durability: &'static str, clock_jumps: bool) -> Setup {
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let cycles = number("CRASH_CYCLES").map_or(CYCLES, |cycles| usize::try_from(cycles).unwrap());
    Setup { seed, durability, clock_jumps, cycles }
}

/// I1, I2, I3, I5: some kills at random moments; the consumer resumes from its cursor each time.
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

/// Every way to die once, by each of the two tests.
const CYCLES: usize = 18;
const KILLS: u32 = 4;
const RATE: f64 = 800.0;
const LENGTH: Duration = Duration::from_secs(6);
