//! Every lie through the whole relay, refused by its name; every odd truth beside it passes.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::collections::BTreeMap;

use loadtest::consumers::{self, Received};
use loadtest::network::{Network, Options};
use loadtest::oracle::Witness;
use loadtest::world::lies::{Expect, Specimen};

use support::{Relay, now, until};

/// One specimen after the other, so that every drop is seen under its name.
#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_dropped_by_its_name_and_its_neighbouring_truth_passes() {
    let options = Options {
        hosts: 2,
        accounts_per_host: 2,
        records_per_account: 20,
        start: now(),
        ..Options::default()
    };
    let mut network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(folder.path(), &network, &[]);
    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    let mut witness = Witness::default();
    let mut drops = BTreeMap::new();
    let specimens = network.specimens();
    assert!(specimens.len() >= 20, "only {} specimens", specimens.len());
    for specimen in &specimens {
        network.send_specimen(specimen);
        let passes = specimen.steps.iter().filter(|step| matches!(step.expect, Expect::Pass(_)));
        for _ in passes {
            let next = tokio::time::timeout(support::PATIENCE, subscription.next()).await;
            match next {
                Ok(Ok(Received::Message(message))) => witness.see(&message),
                Ok(end) => panic!("{}: {end:?}", specimen.name),
                Err(_) => {
                    panic!("{}: drops {:?}, not {drops:?}", specimen.name, relay.drops().await)
                }
            }
        }
        expect_drops(specimen, &mut drops);
        until(specimen.name, async || {
            relay.drops().await.values().sum::<f64>() >= drops.values().sum()
        })
        .await;
        assert_eq!(relay.drops().await, drops, "{}", specimen.name);
        let findings = network.oracle.judge(&witness);
        assert!(findings.is_empty(), "{}: {findings:?}", specimen.name);
    }
}

fn expect_drops(specimen: &Specimen, drops: &mut BTreeMap<String, f64>) {
    for step in &specimen.steps {
        if let Expect::Drop(reject) = step.expect {
            *drops.entry(reject.name().to_owned()).or_default() += 1.0;
        }
    }
}
