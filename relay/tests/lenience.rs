//! What a host may leave out of its commits' proofs: by its ratchet, or as the operator decided.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use loadtest::network::{Network, Options};

use support::{Relay, now, until};

/// The three frames of one account: a whole commit, one without `prevData`, and the same with it.
const WHOLE: usize = 0;
const WITHOUT_PREV_DATA: usize = 1;
const WITH_PREV_DATA: usize = 2;

/// Has a host send some of the three to a relay that was told `flag` of it; checks how many are
/// dropped as `prev_data_missing`, and that the others pass.
async fn check(flag: Option<&str>, sent: &[usize], dropped: u8) {
    let options = Options { hosts: 2, accounts_per_host: 1, start: now(), ..Options::default() };
    let mut network = Network::start(&options).await.unwrap();
    let specimens = network.specimens();
    let specimen = specimens.iter().find(|it| it.name == "prev_data_missing").unwrap();
    let host = &network.hosts[specimen.home];
    for step in sent {
        host.append(specimen.steps[*step].frame().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let flags: Vec<&str> = flag.into_iter().flat_map(|flag| [flag, host.name()]).collect();
    let relay = Relay::start(folder.path(), &network, &flags);
    let passed = async || relay.metric(PASSED).await;
    let in_all = async || relay.drops().await.values().sum::<f64>() + passed().await;
    let count = u8::try_from(sent.len()).unwrap();
    until("all are judged", async || in_all().await >= f64::from(count)).await;
    let drops = relay.drops().await.remove("prev_data_missing").unwrap_or_default();
    let found = (drops, passed().await);
    let expected = (f64::from(dropped), f64::from(count - dropped));
    assert_eq!(found, expected, "{flag:?}, {sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_leave_prev_data_out_until_it_has_shown_it_or_as_the_operator_says() {
    check(None, &[WITHOUT_PREV_DATA], 0).await;
    check(None, &[WHOLE, WITHOUT_PREV_DATA, WITH_PREV_DATA], 1).await;
    check(Some("--strict-host"), &[WITHOUT_PREV_DATA, WITH_PREV_DATA], 1).await;
    check(Some("--lenient-host"), &[WHOLE, WITHOUT_PREV_DATA], 0).await;
}

const PASSED: &str = "mainstem_verifier_passed_total{kind=\"commit\"}";
