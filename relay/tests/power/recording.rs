//! A relay under load whose files are watched, and what it says to its consumers meanwhile.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use loadtest::consumers::{self, Received};
use loadtest::network::{Network, Options};
use loadtest::wire::Frame;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::journal::{self, Record};
use super::support::{PATIENCE, Relay, command, now, until};

/// What was written down.
pub struct Recording {
    pub network: Network,
    pub folder: tempfile::TempDir,
    pub records: Vec<Record>,
    /// In the order in which it came.
    pub seen: Vec<Seen>,
    pub sent: Sent,
}

/// Per host, by its own seq: the print of each event.
pub type Sent = Vec<Vec<(u64, u64)>>;

/// One message as a consumer got it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub seq: u64,
    /// Of all its bytes.
    pub whole: u64,
    /// Of all bytes but the seq.
    pub print: u64,
    /// When, on the monotonic clock.
    pub at: u64,
    pub message: Bytes,
}

impl Recording {
    /// Load for this long; a kill and a start in the middle, a stop in order at the end.
    pub async fn make(durability: &'static str, seed: u64, length: Duration) -> Self {
        let (mut network, folder) = (network(seed).await, tempfile::tempdir().unwrap());
        let mut relay = watched(&folder, &network, durability, None);
        let (base_tx, base) = watch::channel(relay.base());
        let (consumer, seen) = following(base);
        let pump = tokio::spawn(async move {
            let sent = pump(&mut network, RATE, length).await;
            (network, sent)
        });
        tokio::time::sleep(length / 2).await;
        relay.kill();
        relay = watched_again(&folder, durability);
        base_tx.send(relay.base()).unwrap();
        let (network, sent) = pump.await.unwrap();
        until("everything is delivered", async || {
            seen.lock().unwrap().len() as u64 >= network.oracle.frames()
        })
        .await;
        assert!(relay.terminate().success(), "an orderly stop is a success");
        consumer.abort();
        let records = journal::read(&folder.path().join("journal"));
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        Self { network, folder, records, seen, sent }
    }

    /// The real folder.
    pub fn data(&self) -> PathBuf {
        data(&self.folder)
    }

    /// A relay on what is left of this one's folder, not watched.
    pub fn start_on(&self, folder: &Path, durability: &str) -> Relay {
        let (hosts, plc) = (hosts(&self.network), self.network.plc.url());
        let mut arguments = vec!["--allow-insecure-hosts", "--handles", "pass", "--backfill"];
        arguments.extend(["--plc-url", &plc, "--host", &hosts, "--durability", durability]);
        Relay::start_with(folder, &arguments)
    }

    /// The seq under which an event went out; the last one if it did so more than once.
    pub fn seqs(&self) -> HashMap<u64, u64> {
        self.seen.iter().map(|seen| (seen.print, seen.seq)).collect()
    }
}

/// Three hosts and their accounts.
pub async fn network(seed: u64) -> Network {
    let options = Options {
        seed,
        hosts: 3,
        accounts_per_host: 10,
        records_per_account: 50,
        start: now(),
        ..Options::default()
    };
    Network::start(&options).await.unwrap()
}

/// A relay whose files are watched, and whose log is so small that flushes, compactions and
/// dropped files come every second.
pub fn watched(
    folder: &tempfile::TempDir,
    network: &Network,
    durability: &str,
    fault: Option<&str>,
) -> Relay {
    let (plc, hosts) = (network.plc.url(), hosts(network));
    let first = ["--backfill", "--plc-url", &plc, "--host", &hosts];
    std::fs::create_dir(data(folder)).unwrap();
    std::fs::write(folder.path().join("plc"), &plc).unwrap();
    spawn(folder, durability, &first, fault)
}

fn hosts(network: &Network) -> String {
    let names: Vec<_> = network.hosts.iter().map(loadtest::hosts::Host::name).collect();
    names.join(",")
}

/// Starts it again: it knows its hosts.
pub fn watched_again(folder: &tempfile::TempDir, durability: &str) -> Relay {
    let plc = std::fs::read_to_string(folder.path().join("plc")).unwrap();
    spawn(folder, durability, &["--plc-url", &plc], None)
}

fn spawn(
    folder: &tempfile::TempDir,
    durability: &str,
    more: &[&str],
    fault: Option<&str>,
) -> Relay {
    let mut arguments = vec!["--allow-insecure-hosts", "--handles", "pass"];
    arguments.extend(["--durability", durability, "--retention", "1m", "--fault", SMALL_LOG]);
    arguments.extend(more);
    let data = data(folder);
    let mut command = command(&data, &arguments);
    command
        .env("LD_PRELOAD", shim())
        .env("POWERCUT_ROOT", &data)
        .env("POWERCUT_JOURNAL", folder.path().join("journal"));
    if let Some(fault) = fault {
        command.env("POWERCUT_FAULT", fault);
    }
    Relay::spawn(command)
}

/// In its canonical form, as the kernel names what lies in it.
pub fn data(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().canonicalize().unwrap().join("data")
}

/// The shim, compiled once.
pub fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest/powercut/shim.c");
        let shim = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("powercut-{}.so", std::process::id()));
        let compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&shim, &source])
            .arg("-ldl")
            .output()
            .expect("a C compiler, which RocksDB needs as well");
        assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
        shim
    })
}

/// Sends the crowd's events at this rate, a second, for this long.
pub async fn pump(network: &mut Network, rate: f64, length: Duration) -> Sent {
    let mut sent: Sent = network.hosts.iter().map(|_| Vec::new()).collect();
    let start = std::time::Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let (mut count, mut clock) = (0.0, now());
    while start.elapsed() < length {
        ticks.tick().await;
        while count < start.elapsed().min(length).as_secs_f64() * rate {
            clock = clock.max(now());
            let event = network.world.next_event(clock);
            let (host, print) = (event.host, print(event.frame.without_seq()));
            sent[host].push((network.send(event), print));
            count += 1.0;
            tokio::task::consume_budget().await;
        }
    }
    sent
}

/// A consumer that resumes from the last seq that it has seen, in the background.
pub fn following(base: watch::Receiver<String>) -> (JoinHandle<()>, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::default();
    (tokio::spawn(follow(base, Arc::clone(&seen))), seen)
}

/// As [`following`], of one relay, from what was seen of another.
pub fn resuming(base: String, seen: Vec<Seen>) -> (JoinHandle<()>, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(seen));
    let (_, base) = watch::channel(base);
    (tokio::spawn(follow(base, Arc::clone(&seen))), seen)
}

async fn follow(mut base: watch::Receiver<String>, seen: Arc<Mutex<Vec<Seen>>>) {
    loop {
        let url = base.borrow_and_update().clone();
        let cursor = seen.lock().unwrap().last().map_or(0, |seen| seen.seq);
        let Ok(mut subscription) = consumers::subscribe(&url, Some(cursor)).await else {
            drop(tokio::time::timeout(PATIENCE, base.changed()).await);
            continue;
        };
        while let Ok(Received::Message(message)) = subscription.next().await {
            let at = monotonic();
            seen.lock().unwrap().push(Seen::of(message, at));
        }
    }
}

impl Seen {
    /// Of a message that came at this moment.
    pub fn of(message: Bytes, at: u64) -> Self {
        let (seq, frame) = Frame::split(&message).expect("an event");
        Self { seq, whole: print(&message), print: print(frame.without_seq()), at, message }
    }
}

/// A fingerprint.
pub fn print(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// ns; the same clock for every process of the machine.
fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

const RATE: f64 = 600.0;
const SMALL_LOG: &str = "small-log=4MiB";
