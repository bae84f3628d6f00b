//! The whole fake network: what its hosts send is what its oracle expects, and the oracle sees
//! every way in which a stream can differ from it.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::time::Duration;

use bytes::Bytes;
use loadtest::consumers::subscribe;
use loadtest::network::{Network, Options};
use loadtest::oracle::{Decision, Finding, Witness};
use loadtest::plc::Fault;
use loadtest::wire::Frame;
use loadtest::world::START;
use loadtest::world::account::account_frame;
use protocol::ids::Micros;
use serde_json::json;

fn options() -> Options {
    Options {
        seed: 5,
        hosts: 2,
        accounts_per_host: 4,
        records_per_account: 20,
        web_accounts: true,
        ..Options::default()
    }
}

/// All that the hosts have sent, one host after the other, under rising seqs: a perfect relay.
async fn relayed(network: &Network) -> Vec<Bytes> {
    let mut messages = Vec::new();
    for host in &network.hosts {
        let mut subscription = subscribe(&host.url(), Some(0)).await.unwrap();
        for _ in 0..host.len() {
            let message = subscription.next_message().await.unwrap();
            let (_, frame) = Frame::split(&message).unwrap();
            let seq = u64::try_from(messages.len()).unwrap() + 1_000;
            messages.push(frame.with_seq(seq).into());
        }
    }
    messages
}

fn judge(network: &Network, messages: &[Bytes]) -> Vec<Finding> {
    let mut witness = Witness::default();
    messages.iter().for_each(|message| witness.see(message));
    network.oracle.judge(&witness)
}

/// The same messages under rising seqs.
fn renumbered(messages: &[Bytes]) -> Vec<Bytes> {
    let numbered = (1_000..).zip(messages);
    numbered.map(|(seq, it)| Frame::split(it).unwrap().1.with_seq(seq).into()).collect()
}

#[tokio::test]
async fn the_oracle_finds_what_differs_and_nothing_else() {
    let mut network = Network::start(&options()).await.unwrap();
    network.send_next(300);
    let honest = relayed(&network).await;
    assert_eq!(u64::try_from(honest.len()).unwrap(), network.oracle.frames());
    assert_eq!(judge(&network, &honest), []);

    let mut lost = honest.clone();
    lost.remove(100);
    assert!(matches!(judge(&network, &renumbered(&lost))[..], [Finding::Missing(_)]));

    let mut twice = honest.clone();
    twice.insert(200, twice[100].clone());
    assert!(matches!(judge(&network, &renumbered(&twice))[..], [Finding::Repeated(_)]));

    let mut changed = honest.clone();
    let mut bytes = changed[50].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    changed[50] = bytes.into();
    let findings = judge(&network, &changed);
    assert!(findings.iter().any(|finding| matches!(finding, Finding::Extra(_))), "{findings:?}");
    assert!(findings.iter().any(|finding| matches!(finding, Finding::Missing(_))));

    let mut swapped = honest.clone();
    swapped.swap(0, 1);
    assert!(matches!(judge(&network, &swapped)[0], Finding::SeqNotRising { .. }));

    let mut reversed = honest;
    reversed.reverse();
    let findings = judge(&network, &renumbered(&reversed));
    assert!(findings.iter().all(|finding| matches!(finding, Finding::OutOfOrder(_))));
    assert!(!findings.is_empty());
}

#[tokio::test]
async fn the_pump_keeps_its_rate_and_the_hosts_their_rows() {
    let mut network = Network::start(&options()).await.unwrap();
    network.pump(2_000.0, Duration::from_millis(200), || START).await;
    let sent = network.sent().load(std::sync::atomic::Ordering::Relaxed);
    // The rate is a ceiling; a busy machine may send less, but not nothing.
    assert!((1..=400).contains(&sent), "{sent}");
    assert_eq!(network.oracle.frames(), sent);
    assert_eq!(judge(&network, &relayed(&network).await), []);
}

#[tokio::test]
async fn a_specimen_is_sent_and_its_passes_are_expected() {
    let mut network = Network::start(&options()).await.unwrap();
    let specimens = network.specimens();
    let honest = specimens.iter().find(|specimen| specimen.name == "plain").unwrap();
    let lie = specimens.iter().find(|specimen| specimen.name == "wrong_prev_data").unwrap();
    network.send_specimen(honest);
    assert_eq!(judge(&network, &relayed(&network).await), []);
    network.send_specimen(lie);
    let findings = judge(&network, &relayed(&network).await);
    assert!(matches!(findings[..], [Finding::Extra(_)]), "{findings:?}");
}

/// When a relay itself tells of an account nobody knows before; all else of it is judged.
#[tokio::test]
async fn the_oracle_knows_an_account_event_of_the_relay_at_any_time() {
    let mut network = Network::start(&options()).await.unwrap();
    let did = network.world.accounts()[2].did.clone();
    network.oracle.expect_account(&did, false, Some("takendown"));
    let check = |time: u64, active, status, more: &[u8], is_right| {
        let frame = account_frame(&did, active, status, Micros(time));
        let message = frame.followed_by(more).with_seq(5).into();
        assert_eq!(judge(&network, &[message]).is_empty(), is_right, "{time} {active} {status:?}");
    };
    check(START.0, false, Some("takendown"), b"", true);
    check(START.0 + 7_000_000, false, Some("takendown"), b"", true);
    check(START.0, true, Some("takendown"), b"", false);
    check(START.0, false, Some("suspended"), b"", false);
    check(START.0, false, None, b"", false);
    check(START.0, false, Some("takendown"), b"\0", false);
    assert!(!judge(&network, &[]).is_empty(), "it must come");
    let twice = [5, 6].map(|seq| {
        let frame = account_frame(&did, false, Some("takendown"), Micros(START.0 + seq));
        frame.with_seq(seq).into()
    });
    assert!(matches!(judge(&network, &twice)[..], [Finding::Repeated(_)]));
}

/// What the oracle reads out of frames is what the world knows of its accounts.
#[tokio::test]
async fn the_oracle_knows_what_a_relay_must_answer_about_accounts() {
    let mut network = Network::start(&options()).await.unwrap();
    let did = network.world.accounts()[2].did.clone();
    assert_eq!(network.oracle.state(&did, usize::MAX), None);
    network.send_next(500);
    let resting = |network: &Network| {
        network.world.accounts().iter().filter(|account| !account.standing.is_active()).count()
    };
    // That is one event, so nothing of the world's is still to be sent.
    loop {
        let before = resting(&network);
        network.send_next(1);
        if resting(&network) > before {
            break;
        }
    }
    let mut at_rest = 0;
    for account in network.world.accounts() {
        let frames = network.oracle.frames_of(&account.did);
        let state = network.oracle.state(&account.did, frames).unwrap();
        let row = account.row().unwrap();
        assert_eq!(state.rev(), Some(&*row.rev));
        assert_eq!(state.published(), (row.standing.is_active(), row.standing.status()));
        let commit = state.latest_commit();
        match row.standing.status() {
            None => {
                assert_eq!(commit.unwrap(), json!({ "cid": row.head, "rev": row.rev }));
            }
            Some(status) => {
                at_rest += 1;
                assert_eq!(state.repo_status(&account.did)["status"], status);
                assert!(commit.is_err());
            }
        }
    }
    assert!(at_rest > 0, "nobody rests");

    network.oracle.expect_decision(&did, Decision::Takendown);
    let state = network.oracle.state(&did, usize::MAX).unwrap();
    assert_eq!(
        (state.published(), state.local()),
        ((false, Some("takendown")), Decision::Takendown)
    );
    assert_eq!(state.latest_commit(), Err("RepoTakendown"));
    assert!(state.rev().is_some());
}

#[tokio::test]
async fn i5_the_oracle_knows_how_far_a_cursor_may_be() {
    let mut network = Network::start(&options()).await.unwrap();
    network.send_next(400);
    let messages = relayed(&network).await;
    let first_of_second = network.hosts[0].len();
    let check = |seen: &[Bytes], host: usize, expected: Option<u64>| {
        let mut witness = Witness::default();
        seen.iter().for_each(|message| witness.see(message));
        let max = network.oracle.cursor_max(host, &witness).map(|(max, _)| max);
        assert_eq!(max, expected, "{}", seen.len());
        assert_eq!(network.oracle.judge_so_far(&witness), []);
    };
    check(&messages, 0, None);
    check(&messages, 1, None);
    check(&messages[..first_of_second], 0, None);
    check(&messages[..first_of_second], 1, Some(0));
    let mut subscription = subscribe(&network.hosts[0].url(), Some(0)).await.unwrap();
    for count in 0..first_of_second {
        let message = subscription.next_message().await.unwrap();
        let (seq, _) = Frame::split(&message).unwrap();
        check(&messages[..count], 0, Some(seq - 1));
    }
    // What is there twice, or came before its time, is no beginning.
    let mut witness = Witness::default();
    renumbered(&[messages[0].clone(), messages[0].clone()]).iter().for_each(|it| witness.see(it));
    assert_ne!(network.oracle.judge_so_far(&witness), []);
}

#[tokio::test]
async fn the_directory_answers_changes_and_fails_on_demand() {
    let network = Network::start(&options()).await.unwrap();
    let plc = &network.plc;
    // The first two are did:web.
    let account = &network.world.accounts()[2];
    let did = account.did.to_string();
    let authority = plc.url().trim_start_matches("http://").to_owned();
    let ask = async |did: &str| get(&authority, &format!("/{did}")).await;

    let answer = ask(&did).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"Multikey\""), "{answer}");
    assert!(ask(&did.replace(':', "%3A")).await.starts_with("HTTP/1.1 200"));
    assert_eq!(plc.reads(&account.did), 2);
    assert!(ask("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").await.starts_with("HTTP/1.1 404"));
    plc.set_fault(Fault::Status(503), Some(&account.did));
    assert!(ask(&did).await.starts_with("HTTP/1.1 503"));
    let other = network.world.accounts()[3].did.to_string();
    assert!(ask(&other).await.starts_with("HTTP/1.1 200"));
    plc.set_fault(Fault::None, None);
    plc.put(&account.did, loadtest::world::lies::Directory::Tombstoned);
    assert!(ask(&did).await.starts_with("HTTP/1.1 410"));
    assert_eq!(plc.reads_all(), 6);

    plc.set_fault(Fault::Hang, None);
    let hanging = tokio::time::timeout(Duration::from_millis(50), ask(&did)).await;
    assert!(hanging.is_err());

    let host = &network.hosts[0];
    let answer = get(host.name(), "/.well-known/did.json").await;
    assert!(answer.contains(&network.world.accounts()[0].did.to_string()), "{answer}");
}

/// A plain HTTP request, by hand.
async fn get(authority: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(authority).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}
