//! A disk that fills up: the intake is held before the store fails, everybody is served meanwhile,
//! and nothing is lost or said twice, whether it was held in time or not.
//!
//! The disk is a small tmpfs. A test mounts it in a namespace of its own, by running itself again
//! in there; where a machine allows no namespaces it says so, and counts as skipped.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loadtest::consumers::{self, Received};
use loadtest::network::{Network, Options};
use loadtest::oracle::Witness;
use protocol::did::Did;
use serde_json::Value;
use tokio::sync::watch;

use support::{PATIENCE, Relay, get, now, post, request, until};

/// I1, I2, I3, I5, I13, I10: a disk that is nearly full costs nobody an event.
#[tokio::test(flavor = "multi_thread")]
async fn i13_a_nearly_full_disk_holds_the_intake_and_serves_on() {
    let Some(disk) = disk("i13_a_nearly_full_disk_holds_the_intake_and_serves_on", 400) else {
        return;
    };
    let mut network = network().await;
    let token = disk.join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let data = disk.join("data");
    let relay = Relay::start(
        &data,
        &network,
        &["--disk-headroom", "100MiB", "--admin-token-file", token.to_str().unwrap()],
    );
    let (_base, base) = watch::channel(relay.base());
    let seen: Seen = Arc::default();
    let consumer = tokio::spawn(follow(base, Arc::clone(&seen)));
    network.pump(400.0, Duration::from_secs(1), now).await;
    until("events are delivered", async || frames(&seen) >= 100).await;
    assert_eq!(health(&relay).await.0, 200);

    let filler = Filler::leave(&disk, 90 << 20);
    until("health tells it", async || health(&relay).await.0 == 503).await;
    let (_, text) = health(&relay).await;
    assert!(text.contains("the disk is nearly full"), "{text}");
    assert!(relay.log_line("the disk is nearly full").contains("ERROR"));
    let metrics = relay.all_metrics().await;
    assert_eq!(metrics["mainstem_relay_intake_held"], 1.0);
    assert_eq!(metrics["mainstem_relay_disk_headroom_bytes"], f64::from(100 << 20));
    assert!(metrics["mainstem_relay_disk_free_bytes"] < f64::from(100 << 20));
    // What was in flight settles; then the cursors stand, whatever hosts send.
    let before = standing(&relay).await;
    network.pump(400.0, Duration::from_millis(1_500), now).await;
    assert!(network.oracle.frames() > before.1 + 100);
    assert_eq!(standing(&relay).await, before);

    let (status, text) =
        post(&relay.address, "/xrpc/com.atproto.sync.requestCrawl", r#"{"hostname": "x.test"}"#)
            .await;
    assert!(status == 503 && text.contains("NotEnoughResources"), "{status}: {text}");
    // A backup would take what the headroom keeps.
    let (status, text) = backup(&relay, &disk.join("backup")).await;
    assert!(status == 507 && text.contains("BackupNoRoom"), "{status}: {text}");
    // What takes some bytes only goes on, and a consumer sees it, live and from the beginning.
    let did = Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub").unwrap();
    let decide = format!(
        "POST /admin/accounts/{did} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: 22\r\n"
    );
    let (status, text) = request(&relay.admin, &decide, r#"{"local": "takendown"}"#).await;
    assert_eq!(status, 200, "{text}");
    network.oracle.expect_account(&did, false, Some("takendown"));
    until("the takedown is told", async || frames(&seen) == before.1 + 1).await;
    let count = usize::try_from(frames(&seen)).unwrap();
    support::messages(&relay.base(), Some(0), count).await;

    drop(filler);
    until("health tells that there is room", async || health(&relay).await.0 == 200).await;
    network.pump(400.0, Duration::from_millis(500), now).await;
    until("everything is delivered", async || frames(&seen) >= network.oracle.frames()).await;
    assert_eq!(relay.metric("mainstem_relay_intake_held").await, 0.0);
    let (status, log) = relay.terminate_with_log();
    assert!(status.success());
    assert!(!log.iter().any(|line| line.contains("ERROR")), "told once: {log:?}");
    consumer.abort();
    judge(&network, &seen);
}

/// I1, I3, I5, I13: a start without the headroom serves what is there and takes nothing in, until
/// there is room.
#[tokio::test(flavor = "multi_thread")]
async fn i13_a_start_on_a_nearly_full_disk_serves_and_goes_on_when_there_is_room() {
    let test = "i13_a_start_on_a_nearly_full_disk_serves_and_goes_on_when_there_is_room";
    let Some(disk) = disk(test, 400) else { return };
    let mut network = network().await;
    let data = disk.join("data");
    let relay = Relay::start(&data, &network, &["--disk-headroom", "100MiB"]);
    let (base_tx, base) = watch::channel(relay.base());
    let seen: Seen = Arc::default();
    let consumer = tokio::spawn(follow(base, Arc::clone(&seen)));
    network.pump(400.0, Duration::from_millis(500), now).await;
    until("everything is delivered", async || frames(&seen) >= network.oracle.frames()).await;
    assert!(relay.terminate().success());

    let filler = Filler::leave(&disk, 90 << 20);
    let relay = Relay::start(&data, &network, &["--disk-headroom", "100MiB"]);
    assert_eq!(health(&relay).await.0, 503);
    base_tx.send(relay.base()).unwrap();
    let count = frames(&seen);
    support::messages(&relay.base(), Some(0), usize::try_from(count).unwrap()).await;
    let before = standing(&relay).await;
    network.pump(400.0, Duration::from_millis(500), now).await;
    assert!(network.oracle.frames() > count + 50);
    assert_eq!(standing(&relay).await, before);
    assert_eq!((frames(&seen), health(&relay).await.0), (count, 503));

    drop(filler);
    until("health tells that there is room", async || health(&relay).await.0 == 200).await;
    until("everything is delivered", async || frames(&seen) >= network.oracle.frames()).await;
    assert!(relay.terminate().success());
    consumer.abort();
    judge(&network, &seen);
}

/// I6: a folder that may not be written, of a file system or by its permissions, is told once, with
/// its name and what to do, and nothing in it is changed.
#[tokio::test]
async fn i6_a_start_that_may_not_write_says_so_and_ends() {
    let Some(disk) = disk("i6_a_start_that_may_not_write_says_so_and_ends", 160) else { return };
    let data = disk.join("data");
    assert!(Relay::start_with(&data, &[]).terminate().success());
    let remount = |options: &str| {
        let options = format!("remount,{options}");
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", &options]).arg(&disk).status().unwrap().success());
    };
    remount("ro");
    for dir in [&data, &disk.join("missing")] {
        refuses(support::command(dir, &[]), dir, "Read-only file system").await;
    }
    remount("rw");
    // Modes do not bind who has all capabilities. In a name space of users of its own the owner of
    // the folder is nobody, and has none.
    let as_nobody = |dir: &Path| {
        let plain = support::command(dir, &[]);
        let mut command = Command::new("unshare");
        command.arg("--user").arg(plain.get_program()).args(plain.get_args());
        command
    };
    for mode in [0o500, 0o000] {
        std::fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
        refuses(as_nobody(&data), &data, "Permission denied").await;
    }
    std::fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    assert!(Relay::start_with(&data, &[]).terminate().success());
    let checked = support::mainstem(&["check", "--data-dir", data.to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
}

/// One line says that this command does not start, with the folder, the reason and the remedy.
async fn refuses(mut command: Command, dir: &Path, reason: &str) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("it ends", async || child.try_wait().unwrap().is_some()).await;
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    for word in [reason, dir.to_str().unwrap(), "must be allowed to read and write"] {
        assert!(errors[0].contains(word), "{word}: {text}");
    }
}

/// I6: a backup that finds no room on its disk is no backup, leaves nothing, and harms nobody.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_backup_to_a_full_disk_fails_and_leaves_nothing() {
    let Some(disk) = disk("i6_a_backup_to_a_full_disk_fails_and_leaves_nothing", 160) else {
        return;
    };
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let arguments = ["--admin-token-file", token.to_str().unwrap()];
    let relay = Relay::start(&folder.path().join("data"), &network, &arguments);
    network.pump(400.0, Duration::from_millis(500), now).await;
    let dir = disk.join("backup");
    let entries = || std::fs::read_dir(&disk).unwrap().count();

    let filler = Filler::leave(&disk, 0);
    let (status, text) = backup(&relay, &dir).await;
    assert!(status == 507 && text.contains("BackupNoRoom"), "{status}: {text}");
    drop(filler);
    assert_eq!(entries(), 0);
    // Room for its bytes, but not for its files: that shows when it is half made.
    let inodes = |count: u32| {
        let options = format!("remount,nr_inodes={count}");
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", &options]).arg(&disk).status().unwrap().success());
    };
    inodes(4);
    let (status, text) = backup(&relay, &dir).await;
    assert!(status == 500 && text.contains("No space left on device"), "{status}: {text}");
    assert_eq!(entries(), 0);
    inodes(1_000);
    let (status, text) = backup(&relay, &dir).await;
    assert_eq!(status, 200, "{text}");
    network.pump(400.0, Duration::from_millis(200), now).await;
    let count = usize::try_from(network.oracle.frames()).unwrap();
    support::messages(&relay.base(), Some(0), count).await;
    assert_eq!(health(&relay).await.0, 200);
    assert!(relay.terminate().success());
    let checked = support::mainstem(&["check", "--data-dir", dir.to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
}

async fn backup(relay: &Relay, dir: &Path) -> (u16, String) {
    let body = serde_json::json!({ "dir": dir }).to_string();
    let head = format!(
        "POST /admin/backup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    request(&relay.admin, &head, &body).await
}

/// I2, I3, I6: without a headroom the write that finds no room is the last, says so, and nothing
/// that anybody saw is lost.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_full_disk_ends_the_process_and_loses_nothing() {
    let Some(disk) = disk("i6_a_full_disk_ends_the_process_and_loses_nothing", 160) else {
        return;
    };
    let mut network = network().await;
    let data = disk.join("data");
    let mut relay = Relay::start(&data, &network, &["--disk-headroom", "0"]);
    let (base_tx, base) = watch::channel(relay.base());
    let seen: Seen = Arc::default();
    let consumer = tokio::spawn(follow(base, Arc::clone(&seen)));
    network.pump(400.0, Duration::from_millis(500), now).await;
    until("events are delivered", async || frames(&seen) >= 50).await;
    let filler = Filler::leave(&disk, 0);
    // The write-ahead log has taken some room in advance.
    let deadline = Instant::now() + PATIENCE;
    while relay.is_running() {
        assert!(Instant::now() < deadline, "it goes on without room");
        network.pump(4_000.0, Duration::from_millis(200), now).await;
    }
    let line = relay.log_line("the store in");
    for word in ["No space left on device", "Make room", data.to_str().unwrap()] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert!(!relay.ended().success());

    drop(filler);
    let plc = network.plc.url();
    let arguments = ["--allow-insecure-hosts", "--plc-url", &plc, "--handles", "pass"];
    let relay = Relay::start_with(&data, &[&arguments[..], &["--disk-headroom", "0"]].concat());
    base_tx.send(relay.base()).unwrap();
    until("everything is delivered", async || frames(&seen) >= network.oracle.frames()).await;
    assert!(relay.terminate().success());
    consumer.abort();
    judge(&network, &seen);
    let checked = support::mainstem(&["check", "--data-dir", data.to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
}

/// The folder of a disk of so many MiB, in the process that runs within its namespace. `None`: that
/// process has run, or there can be none.
fn disk(test: &str, mib: u32) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(PathBuf::from(disk));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut unshare = vec!["--mount", "--fork", "--kill-child"];
    if !is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let mount = format!("mount -t tmpfs -o size={mib}m none \"$0\"");
    let isolated = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(&unshare).args(["sh", "-ec", script]).arg(folder.path());
        command
    };
    if !isolated(&mount).output().is_ok_and(|output| output.status.success()) {
        // Past the capture of the test's output, for `scripts/test` to count.
        let skipped = format!("skipped - {test}: this machine allows no namespaces\n");
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return None;
    }
    let own = std::env::current_exe().unwrap();
    let script = format!("{mount}\nexec \"$1\" --exact \"$2\" --nocapture");
    let output = isolated(&script).arg(own).arg(test).env(DISK, folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    None
}

fn is_root() -> bool {
    let id = Command::new("sh").args(["-c", "id -u"]).output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// A file that takes the room of a disk, until it is dropped.
struct Filler(PathBuf);

impl Filler {
    /// Leaves so many bytes free.
    fn leave(disk: &Path, free: u64) -> Self {
        let path = disk.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let room = || {
            let found = rustix::fs::statvfs(disk).unwrap();
            found.f_bavail * found.f_frsize
        };
        let block = vec![1; 64 << 10];
        while room() > free {
            let bytes = usize::try_from((room() - free).min(64 << 10)).unwrap();
            if file.write_all(&block[..bytes]).is_err() {
                break;
            }
        }
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

async fn network() -> Network {
    let options = Options {
        hosts: 2,
        accounts_per_host: 10,
        records_per_account: 30,
        start: now(),
        ..Options::default()
    };
    Network::start(&options).await.unwrap()
}

async fn health(relay: &Relay) -> (u16, String) {
    let (status, text) = get(&relay.address, "/_health").await;
    let same = get(&relay.address, "/xrpc/_health").await;
    if same.0 == status { (status, text) } else { (0, text) }
}

/// The hosts' cursors and the count of events, once they have stopped moving.
async fn standing(relay: &Relay) -> (Vec<u64>, u64) {
    let look = async || {
        let (_, hosts) = get(&relay.address, "/xrpc/com.atproto.sync.listHosts").await;
        let hosts: Value = serde_json::from_str(&hosts).unwrap();
        let hosts = hosts["hosts"].as_array().unwrap().iter();
        let seqs: Vec<u64> = hosts.map(|host| host["seq"].as_u64().unwrap()).collect();
        let metrics = relay.all_metrics().await;
        let events = metrics.iter().filter(|(name, _)| name.starts_with(EVENTS));
        let events: f64 = events.map(|(_, count)| count).sum();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let events = events as u64;
        (seqs, events)
    };
    let mut last = look().await;
    until("the cursors stand", async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let next = look().await;
        let stands = next == last;
        last = next;
        stands
    })
    .await;
    last
}

type Seen = Arc<Mutex<Witness>>;

fn frames(seen: &Seen) -> u64 {
    seen.lock().unwrap().frames()
}

fn judge(network: &Network, seen: &Seen) {
    let findings = network.oracle.judge(&seen.lock().unwrap());
    assert!(findings.is_empty(), "{} findings: {:?}", findings.len(), findings.first());
}

/// A consumer as clients are: after every loss it resumes from the last seq that it has seen.
async fn follow(mut base: watch::Receiver<String>, seen: Seen) {
    loop {
        let (url, cursor) = (base.borrow_and_update().clone(), seen.lock().unwrap().seq());
        let Ok(mut subscription) = consumers::subscribe(&url, cursor.or(Some(0))).await else {
            drop(tokio::time::timeout(Duration::from_secs(1), base.changed()).await);
            continue;
        };
        while let Ok(Received::Message(message)) = subscription.next().await {
            seen.lock().unwrap().see(&message);
        }
    }
}

const DISK: &str = "MAINSTEM_TEST_DISK";
const TOKEN: &str = "0123456789abcdef";
const EVENTS: &str = "mainstem_storage_events_total";
