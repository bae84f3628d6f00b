//! A backup of a running relay, and a relay that starts from it.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::path::Path;
use std::time::Duration;

use loadtest::consumers;
use loadtest::network::{Network, Options};
use loadtest::oracle::{Finding, Witness};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use support::{Relay, mainstem, messages, now, until};

/// I1, I3, I5: what it holds is whole, no number comes again, and hosts send what came after it.
#[tokio::test(flavor = "multi_thread")]
async fn i1_i3_i5_a_relay_goes_on_from_a_backup() {
    let options = Options {
        hosts: 2,
        accounts_per_host: 10,
        records_per_account: 50,
        start: now(),
        ..Options::default()
    };
    let mut network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let token = token.to_str().unwrap();
    let relay = Relay::start(&folder.path().join("data"), &network, &["--admin-token-file", token]);
    network.pump(500.0, Duration::from_secs(1), now).await;

    let dir = folder.path().join("backup");
    let url = format!("http://{}", relay.admin);
    let ask = {
        let (dir, token) = (dir.clone(), token.to_owned());
        move || backup(&dir, &url, &token)
    };
    let asking = tokio::task::spawn_blocking(ask.clone());
    network.pump(500.0, Duration::from_secs(2), now).await;
    let made = asking.await.unwrap();
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(made["dir"], json!(dir.canonicalize().unwrap()));
    assert!(made["bytes"].as_u64().unwrap() > 0 && made["seconds"].as_f64().is_some(), "{made}");
    let head = made["head"].as_u64().unwrap();
    // What is there is not written over.
    let again = tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(!again.status.success());
    let text = String::from_utf8(again.stderr).unwrap();
    assert!(text.contains("it is there already") && text.contains("400"), "{text}");

    let (first, second) = (network.oracle.frames(), "mainstem_relay_backups_total");
    let all = messages(&relay.base(), Some(0), usize::try_from(first).unwrap()).await;
    let mut witness = Witness::default();
    all.iter().for_each(|message| witness.see(message));
    assert_eq!(network.oracle.judge(&witness), []);
    let cursor = witness.seq().unwrap();
    assert!(cursor > head, "events came after the backup");
    for outcome in ["made", "failed"] {
        assert_eq!(relay.metric(&format!("{second}{{outcome=\"{outcome}\"}}")).await, 1.0);
    }
    relay.kill();
    let checked = mainstem(&["check", "--json", "--data-dir", dir.to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&checked["head"], &checked["sound"]), (&json!(head), &json!(true)));

    let plc = network.plc.url();
    let relay = Relay::start_with(
        &dir,
        &["--allow-insecure-hosts", "--plc-url", &plc, "--handles", "pass"],
    );
    // Its cursor is ahead of the backup, but not of the time: it goes on with what hosts resend.
    let mut subscription = consumers::subscribe(&relay.base(), Some(cursor)).await.unwrap();
    network.pump(500.0, Duration::from_secs(1), now).await;
    let count = usize::try_from(network.oracle.frames()).unwrap();
    let restored = messages(&relay.base(), Some(0), count).await;
    let mut fresh = Witness::default();
    restored.iter().for_each(|message| fresh.see(message));
    assert_eq!(network.oracle.judge(&fresh), []);
    while witness.seq() < fresh.seq() {
        let next = tokio::time::timeout(support::PATIENCE, subscription.next_message());
        witness.see(&next.await.expect("a message in time").unwrap());
    }
    let findings = network.oracle.judge(&witness);
    let allowed = |finding: &Finding| matches!(finding, Finding::Repeated(_));
    assert!(findings.iter().all(allowed), "{findings:?}");
    until("the relay is well", async || support::get(&relay.address, "/_health").await.0 == 200)
        .await;
    assert!(relay.terminate().success());
}

/// Whoever asked may go away: the backup is made to its end, or was not begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_to_its_end_when_nobody_waits_for_it() {
    let mut network =
        Network::start(&Options { start: now(), ..Options::default() }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let arguments = ["--admin-token-file", token.to_str().unwrap()];
    let relay = Relay::start(&folder.path().join("data"), &network, &arguments);
    network.pump(500.0, Duration::from_millis(500), now).await;
    let of = |number: usize| folder.path().join(format!("backup-{number}"));
    let mut asked = 0;
    until("a backup is made", async || {
        // A request that is not taken in yet goes with its connection.
        let body = json!({ "dir": of(asked) }).to_string();
        let head = format!(
            "POST /admin/backup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 0123456789abcdef\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(&relay.admin).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        drop(socket);
        asked += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
        relay.metric("mainstem_relay_backups_total{outcome=\"made\"}").await > 0.0
    })
    .await;
    until("none is being made", async || {
        relay.metric("mainstem_relay_backups_running").await == 0.0
    })
    .await;
    let made: Vec<_> = (0..asked).map(of).filter(|dir| dir.exists()).collect();
    assert!(!made.is_empty());
    for dir in made {
        let checked = mainstem(&["check", "--data-dir", dir.to_str().unwrap()]);
        assert!(checked.status.success(), "{checked:?}");
    }
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let staging = |name: &std::ffi::OsString| name.as_encoded_bytes().ends_with(b".tmp");
    assert_eq!(names.filter(staging).count(), 0);
    assert!(relay.terminate().success());
}

fn backup(dir: &Path, url: &str, token: &str) -> std::process::Output {
    let dir = dir.to_str().unwrap();
    mainstem(&["backup", dir, "--admin-url", url, "--admin-token-file", token, "--json"])
}

/// A relay that is there is not looked at, whatever it does meanwhile; after a crash it is sound.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_checked_only_when_nobody_writes_it() {
    let mut network =
        Network::start(&Options { start: now(), ..Options::default() }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let relay = Relay::start(folder.path(), &network, &[]);
    network.pump(500.0, Duration::from_secs(1), now).await;
    let checked = mainstem(&["check", "--data-dir", data]);
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    let text = String::from_utf8(checked.stderr).unwrap();
    let pid = format!("process {}", relay.pid());
    assert!(text.contains("a relay is running") && text.contains(&pid), "{text}");
    relay.kill();
    let checked = mainstem(&["check", "--data-dir", data]);
    let text = String::from_utf8(checked.stdout.clone()).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(text.contains("sound") && text.contains("head"), "{text}");

    let table = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let log =
        table.filter(|path| path.extension().is_some_and(|kind| kind == "log")).max().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let checked = mainstem(&["check", "--data-dir", data]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let text = String::from_utf8(checked.stdout).unwrap();
    let name = log.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(name) && text.contains("Restore a backup"), "{text}");
    let mut refused = support::command(folder.path(), &[]);
    let refused = refused.stderr(std::process::Stdio::piped()).output().unwrap();
    assert!(!refused.status.success());
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains(name) && text.contains("mainstem check"), "{text}");
    let missing = mainstem(&["check", "--data-dir", "/there/is/none"]);
    assert_eq!(missing.status.code(), Some(2));
}
