//! `--handles verify` through the whole relay: a simulated network, and a name server with faults.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::time::Duration;

use loadtest::dns::Fault;
use loadtest::network::{Network, Options};
use loadtest::wire::{Frame, Value};
use protocol::datetime;
use protocol::did::Did;
use protocol::frame::{HostKind, IdentityFrame, Kind, Peek, peek};
use support::{Relay, messages, now};
use tempfile::TempDir;

async fn world() -> (Network, TempDir, Relay) {
    let options = Options { hosts: 1, accounts_per_host: 6, start: now(), ..Options::default() };
    let network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(folder.path(), &network, &["--handles", "verify"]);
    (network, folder, relay)
}

/// One account: its DID and the handle in its document.
fn account(network: &Network, index: usize) -> (Did, String) {
    let account = &network.world.accounts()[index];
    (account.did.clone(), account.handle.clone())
}

fn identify(network: &Network, t: &str, did: &Did, handle: &str) {
    let payload = Value::Map(vec![
        ("did", Value::text(did)),
        ("seq", Value::Seq),
        ("time", Value::text(datetime::format(now()))),
        ("handle", Value::text(handle)),
    ]);
    network.hosts[0].append(&Frame::event(t, &payload));
}

/// The next `count` messages, all of them `#identity`: DIDs and handles.
async fn identities(relay: &Relay, count: usize) -> Vec<(String, Option<String>)> {
    let read = |message: &bytes::Bytes| {
        let Ok(Peek::Event { kind, .. }) = peek(message) else { panic!("no event") };
        assert_eq!(kind, HostKind::Event(Kind::Identity));
        let frame = IdentityFrame::decode(message).unwrap();
        (frame.did.to_owned(), frame.handle.map(str::to_owned))
    };
    messages(&relay.base(), Some(0), count).await.iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_goes_out_verified_invalid_or_not_at_all() {
    let (network, _folder, relay) = world().await;
    let (verified, handle) = account(&network, 0);
    let (legacy, legacy_handle) = account(&network, 1);
    let (not_first, _) = account(&network, 2);
    let (stolen, stolen_handle) = account(&network, 3);
    let (gone, gone_handle) = account(&network, 4);
    let (broken, broken_handle) = account(&network, 5);
    network.dns.put_handle(&stolen_handle, &verified);
    network.dns.put_texts(&format!("_atproto.{gone_handle}"), &[]);
    network.dns.set_fault(Fault::Fails, Some(&broken_handle));

    identify(&network, "#identity", &verified, &handle);
    identify(&network, "#handle", &legacy, &legacy_handle);
    identify(&network, "#identity", &not_first, "another.test");
    identify(&network, "#identity", &stolen, &stolen_handle);
    // There is no such record, and the web has no address for the name either.
    identify(&network, "#identity", &gone, &gone_handle);
    identify(&network, "#identity", &broken, &broken_handle);
    let mut expected = vec![
        (verified.to_string(), Some(handle)),
        (legacy.to_string(), Some(legacy_handle)),
        (not_first.to_string(), None),
        (stolen.to_string(), Some("handle.invalid".to_owned())),
        (gone.to_string(), Some("handle.invalid".to_owned())),
        (broken.to_string(), None),
    ];
    let mut seen = identities(&relay, expected.len()).await;
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    assert!(relay.drops().await.is_empty());
    let asked = |what: &str| {
        format!("mainstem_verifier_lookups_total{{what=\"handle\",outcome=\"{what}\"}}")
    };
    assert_eq!(relay.metric(&asked("found")).await, 4.0);
    assert_eq!(relay.metric(&asked("missing")).await, 1.0);
    assert_eq!(relay.metric(&asked("failed")).await, 1.0);
    assert!(network.dns.questions(&format!("_atproto.{broken_handle}")) >= 1, "the fault fired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_name_server_costs_the_handle_and_holds_up_nobody_else() {
    let (network, _folder, relay) = world().await;
    let (slow, slow_handle) = account(&network, 0);
    let (quick, handle) = account(&network, 1);
    network.dns.set_fault(Fault::Silence, Some(&slow_handle));
    identify(&network, "#identity", &slow, &slow_handle);
    identify(&network, "#identity", &slow, &slow_handle);
    identify(&network, "#identity", &quick, &handle);
    let expected = [
        (quick.to_string(), Some(handle.clone())),
        (slow.to_string(), None),
        (slow.to_string(), None),
    ];
    assert_eq!(identities(&relay, 3).await, expected);
    assert!(network.dns.questions(&format!("_atproto.{slow_handle}")) >= 1, "the fault fired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_handle_is_seen_in_a_document_from_after_it() {
    let (network, _folder, relay) = world().await;
    let (did, old) = account(&network, 0);
    let document = network.world.document(&network.world.accounts()[0]);
    let text = document.to_string();
    assert!(text.contains(&old));
    let renewed = serde_json::from_str(&text.replace(&old, "renewed.test")).unwrap();
    network.plc.put_document(&did, renewed);
    network.dns.put_handle("renewed.test", &did);
    // Slow, but in time.
    network.dns.set_fault(Fault::Delay(Duration::from_millis(300)), Some("renewed.test"));
    identify(&network, "#identity", &did, "renewed.test");
    let expected = [(did.to_string(), Some("renewed.test".to_owned()))];
    assert_eq!(identities(&relay, 1).await, expected);
}
