//! `--plc-export` through the whole relay: accounts of the export are not looked up, changes in it
//! are known before the next commit, and a relay that starts again goes on where it was.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use loadtest::export::{self, ExportFault};
use loadtest::network::{Network, Options};
use protocol::ids::Micros;
use serde_json::json;
use support::{Relay, messages, now, until};

const READ: &str = "mainstem_relay_plc_export_operations_total{kind=\"valid\"}";

async fn network() -> Network {
    let options = Options { accounts_per_host: 8, start: now(), ..Options::default() };
    let network = Network::start(&options).await.unwrap();
    network.plc.export().set_lines_max(10);
    network
}

/// Logs the operations of each account, weeks ago, many at the same time: it was elsewhere before,
/// and its owner undid what somebody else had done. How many are valid.
fn log_accounts(network: &Network) -> f64 {
    let export = network.plc.export();
    for (index, account) in network.world.accounts().iter().enumerate() {
        let document = network.world.document(account);
        let elsewhere = document.to_string().replace("http://localhost", "http://before.test");
        let elsewhere = serde_json::from_str(&elsewhere).unwrap();
        let moment = WEEKS - 5 * (u64::try_from(index).unwrap() / 4);
        export.log(&account.did, export::legacy_create(&elsewhere), ago(2 * moment));
        let mut theft = export::operation(&document);
        theft["verificationMethods"] = json!({});
        let theft = export.log(&account.did, theft, ago(moment + 1_000));
        export.nullify(&theft);
        let operation = match index % 3 {
            0 => export::legacy_create(&document),
            _ => export::operation(&document),
        };
        export.log(&account.did, operation, ago(moment));
    }
    2.0 * network.world.accounts().len() as f64
}

/// Longer than any document is believed that is not known to be unchanged.
const WEEKS: u64 = 30 * 24 * 3_600_000;

/// Milliseconds ago.
fn ago(millis: u64) -> Micros {
    Micros((now().0 / 1000 - millis) * 1000)
}

async fn follow(folder: &std::path::Path, network: &Network) -> Relay {
    let export = network.plc.url();
    let arguments = ["--plc-export", &export, "--plc-export-from", "beginning"];
    let fast = ["--plc-export-interval", "200ms"];
    Relay::start(folder, network, &[arguments.as_slice(), &fast].concat())
}

async fn in_step(relay: &Relay, operations: f64) {
    until("the export is read", async || {
        let lag = relay.metric("mainstem_relay_plc_export_lag_seconds").await;
        relay.metric(READ).await >= operations && lag < 60.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_in_the_export_are_not_looked_up() {
    let mut network = network().await;
    let operations = log_accounts(&network);
    let export = network.plc.export().clone();
    export.log_raw("{\"did\": \"did:plc:", ago(WEEKS + 500));
    export.fail_next([
        ExportFault::Status(429, Some(1)),
        ExportFault::Truncated,
        ExportFault::Status(503, None),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let relay = follow(folder.path(), &network).await;
    in_step(&relay, operations).await;
    assert!(export.has_failed(), "every fault has happened");
    let error = |reason| format!("mainstem_relay_plc_export_errors_total{{reason=\"{reason}\"}}");
    assert!(relay.metric(&error("malformed")).await >= 1.0);
    assert_eq!(relay.metric(&error("refused")).await, 2.0);
    assert_eq!(relay.metric(&error("unreachable")).await, 1.0);

    send_commits(&mut network, 40);
    let count = usize::try_from(network.oracle.frames()).unwrap();
    messages(&relay.base(), Some(0), count).await;
    assert_eq!(network.plc.reads_all(), 0, "single look-ups");
    assert!(relay.drops().await.is_empty());
}

/// Commits of all accounts in turn.
fn send_commits(network: &mut Network, count: usize) {
    for number in 0..count {
        let index = number % network.world.accounts().len();
        let event = network.world.write(index, now());
        network.send(event);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_the_export_is_known_before_the_next_commit() {
    let mut network = network().await;
    let operations = log_accounts(&network);
    let folder = tempfile::tempdir().unwrap();
    let relay = follow(folder.path(), &network).await;
    in_step(&relay, operations).await;
    send_commits(&mut network, 5);
    let count = usize::try_from(network.oracle.frames()).unwrap();
    messages(&relay.base(), Some(0), count).await;

    // Only the export tells of the new keys.
    for index in 0..3 {
        let document = network.world.rotate_key(index);
        let did = network.world.accounts()[index].did.clone();
        network.plc.export().log(&did, export::operation(&document), ago(0));
    }
    in_step(&relay, operations + 3.0).await;
    send_commits(&mut network, 24);
    let count = usize::try_from(network.oracle.frames()).unwrap();
    messages(&relay.base(), Some(0), count).await;
    assert_eq!(network.plc.reads_all(), 0, "single look-ups");
    assert!(relay.drops().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_starts_again_goes_on_where_it_was() {
    for numbered in [false, true] {
        let mut network = network().await;
        let export = network.plc.export().clone();
        if numbered {
            export.set_numbered();
        }
        let valid = log_accounts(&network);
        let folder = tempfile::tempdir().unwrap();
        let relay = follow(folder.path(), &network).await;
        // In the middle, wherever that is.
        until("some pages are read", async || relay.metric(READ).await >= 20.0).await;
        relay.kill();
        let first = export.requests().len();
        let relay = follow(folder.path(), &network).await;
        until("it is asked again", async || export.requests().len() > first).await;
        let queries = export.requests();
        assert!(first < 8 && queries[0].ends_with("after=0"), "{queries:?}");
        assert!(!queries[first].ends_with("after=0"), "it starts anew: {queries:?}");
        assert_eq!(queries[first].contains('T'), !numbered, "{queries:?}");
        until("all is read", async || {
            relay.metric("mainstem_relay_plc_export_lag_seconds").await < 60.0
                && relay.metric(READ).await > 0.0
        })
        .await;
        // An export by number does not say what was undone.
        let operations = if numbered { valid * 1.5 } else { valid };
        assert!(relay.metric(READ).await < operations, "what was stored is not read again");
        send_commits(&mut network, 20);
        let count = usize::try_from(network.oracle.frames()).unwrap();
        messages(&relay.base(), Some(0), count).await;
        assert_eq!(network.plc.reads_all(), 0, "single look-ups");
    }
}
