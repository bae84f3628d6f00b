//! A host over the relay's life: away and back again, and what is known of it after a restart.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loadtest::network::{Network, Options};
use protocol::host::{HostName, HostRules};
use protocol::tripwire::Tripwire;
use support::{Relay, messages, now, until};

/// The host's row, as a later start finds it.
fn row(dir: &Path, name: &str) -> storage::Host {
    let storage = storage::open(storage::Options {
        dir: dir.to_owned(),
        in_memory: None,
        durability: storage::Durability::Os,
        commit_interval: Duration::from_millis(3),
        retention: Duration::from_hours(1),
        retention_bytes: None,
        compression: storage::Compression::None,
        tail_bytes: 2 << 20,
        clock: Arc::new(now),
        accept_clock: false,
        tripwire: Tripwire::default(),
        shards: 2,
    })
    .unwrap();
    let name = HostName::parse(name, HostRules::Insecure).unwrap();
    let host = storage.host_by_name(&name).unwrap();
    storage.stop().unwrap();
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_away_comes_back_and_its_counts_outlive_a_restart() {
    let options = Options { hosts: 2, ..Options::default() };
    let mut network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(folder.path(), &network, &[]);
    let frames = |network: &Network| usize::try_from(network.oracle.frames()).unwrap();
    network.send_next(50);
    messages(&relay.base(), Some(0), frames(&network)).await;

    network.hosts[0].set_refusal(Some(503));
    network.hosts[0].drop_connections();
    let away = r#"mainstem_crawler_hosts{state="backing_off"}"#;
    until("it is away", async || relay.metric(away).await == 1.0).await;
    network.send_next(50);
    // The first failure is the lost connection; the next one is the refusal.
    let refused = network.hosts[0].calls("/xrpc/com.atproto.sync.subscribeRepos");
    until("it is dialled again", async || {
        network.hosts[0].calls("/xrpc/com.atproto.sync.subscribeRepos") > refused
    })
    .await;
    network.hosts[0].set_refusal(None);
    messages(&relay.base(), Some(0), frames(&network)).await;
    assert!(relay.terminate().success());
    let host = row(folder.path(), network.hosts[0].name());
    assert_eq!(&*host.last_error, "handshake refused: HTTP 503 Service Unavailable");
    let sent = u64::try_from(network.hosts[0].len()).unwrap();
    assert!(host.meter.events >= sent, "{:?} of {sent}", host.meter);
    assert!(host.meter.connects >= 2 && host.meter.last_event.0 > 0, "{:?}", host.meter);

    let relay = Relay::start(folder.path(), &network, &[]);
    network.send_next(50);
    messages(&relay.base(), Some(0), frames(&network)).await;
    assert!(relay.terminate().success());
    let later = row(folder.path(), network.hosts[0].name());
    assert!(later.meter.events > host.meter.events, "{:?}", later.meter);
    assert!(later.meter.connects > host.meter.connects, "{:?}", later.meter);
    assert_eq!(later.last_error, host.last_error, "it stays to be seen");
}
