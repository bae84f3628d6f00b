//! `make bench`: what one event costs, from a host's socket to a consumer's, beside what cannot
//! be avoided, measured in the same run.
//!
//! The relay is a child process, so that its CPU time is its own. Prints tables; writes JSON to
//! the file that is named as the only argument.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use loadtest::consumers::{self, Event, Received, Subscription, decode};
use loadtest::network::{Network, Options};
use loadtest::report::{Report, Spread, count_f64};
use protocol::car;
use protocol::commit::Commit;
use protocol::frame::CommitFrame;
use protocol::ids::Micros;
use protocol::keys::{Curve, PublicKey, SigningKey};
use relay::process;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let reports = runtime.block_on(run())?;
    let mut all = Vec::new();
    for report in &reports {
        print(&format!("{}\n", report.table()))?;
        all.push(report.json());
    }
    if let Some(path) = std::env::args_os().nth(1) {
        let text = serde_json::to_string_pretty(&Value::from(all))?;
        std::fs::write(&path, text).context("write the JSON")?;
    }
    Ok(())
}

async fn run() -> anyhow::Result<Vec<Report>> {
    let mut network = Network::start(&Options {
        hosts: 10,
        accounts_per_host: 100,
        records_per_account: 200,
        start: now(),
        ..Options::default()
    })
    .await?;
    print("drawing the events\n")?;
    network.send_next(EVENTS);
    let folder = tempfile::tempdir()?;
    let mut flat = Report::new(format!("flat out: {EVENTS} events, one consumer, fsync"));
    let relay = Relay::start(folder.path(), &network, &[])?;
    let messages = flat_out(&relay, &network, &mut flat).await?;
    unavoidable(&network, &messages, &mut flat)?;
    let mut replay = Report::new("replay: one consumer from cursor 0");
    replay_speed(&relay, &messages, &mut replay).await?;
    let mut steady = Report::new(format!("steady: {STEADY_RATE} events/s, one consumer, fsync"));
    let mut network = steady_latency(&relay, network, &mut steady).await?;
    let mut crowd = Report::new(format!("crowd: {STEADY_RATE} events/s, {CROWD} consumers"));
    many_consumers(&relay, &mut network, &mut crowd).await?;
    drop(relay);
    Ok(vec![flat, replay, steady, crowd])
}

/// The relay reads all hosts from their first event as fast as it can.
async fn flat_out(
    relay: &Relay,
    network: &Network,
    report: &mut Report,
) -> anyhow::Result<Vec<Bytes>> {
    let expected = usize::try_from(network.oracle.frames())?;
    let mut subscription = consumers::subscribe(&relay.base, Some(0)).await?;
    let start = relay.usage()?;
    let began = Instant::now();
    let mut messages = Vec::with_capacity(expected);
    while messages.len() < expected {
        messages.push(next(&mut subscription).await?);
    }
    let (end, wall) = (relay.usage()?, began.elapsed());
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    let events = count_f64(expected);
    report.add("frame, mean", count_f64(bytes) / events, "bytes");
    let cpu = end.cpu.as_secs_f64() * 1e6 / events;
    report.add("CPU per event, since the relay's start", cpu, "us");
    report.add("CPU before the first event", start.cpu.as_secs_f64() * 1e3, "ms");
    report.add("events", events / wall.as_secs_f64(), "1/s");
    report.add("cores in use", (end.cpu - start.cpu).as_secs_f64() / wall.as_secs_f64(), "");
    report.add("resident memory", count_f64(usize::try_from(end.resident_bytes >> 20)?), "MiB");
    Ok(messages)
}

/// What nobody can leave out of a commit: its signature, and a hash of its blocks.
fn unavoidable(network: &Network, messages: &[Bytes], report: &mut Report) -> anyhow::Result<()> {
    let commits: Vec<CommitFrame<'_>> = messages
        .iter()
        .filter_map(|message| CommitFrame::decode(message).ok())
        .take(PRIMITIVES_MAX)
        .collect();
    let mut keys = HashMap::new();
    for account in network.world.accounts() {
        let document = network.world.document(account);
        let key = document["verificationMethod"][0]["publicKeyMultibase"].as_str();
        let key = PublicKey::from_multikey(key.context("the document has a key")?)?;
        keys.insert(account.did.to_string(), key);
    }
    let mut signed = Vec::new();
    for commit in &commits {
        let (root, blocks) = car::read(commit.blocks).context("read a CAR")?;
        let block = blocks.get_link(&root).context("find the commit")?;
        let inner = Commit::parse(block).context("parse the commit")?;
        if let Some(key) = keys.get(commit.repo) {
            signed.push((key, inner.unsigned_digest, inner.signature));
        }
    }
    let count = count_f64(signed.len());
    let began = Instant::now();
    let valid = signed.iter().filter(|(key, digest, sig)| key.verify(digest, sig).is_ok()).count();
    let signature = began.elapsed().as_secs_f64() * 1e6 / count;
    ensure!(valid * 100 >= signed.len() * 99, "{valid} of {} signatures verify", signed.len());
    let began = Instant::now();
    for commit in &commits {
        black_box(Sha256::digest(commit.blocks));
    }
    let hash = began.elapsed().as_secs_f64() * 1e6 / count_f64(commits.len());
    report.add("unavoidable: signature, this mix of keys", signature, "us");
    report.add("unavoidable: SHA-256 of the blocks", hash, "us");
    for (name, curve) in [("K-256", Curve::K256), ("P-256", Curve::P256)] {
        report.add(format!("signature {name}"), one_signature(curve)?, "us");
    }
    let cpu = report.get("CPU per event, since the relay's start").context("CPU per event")?;
    report.add("ratio to the unavoidable", cpu / (signature + hash), "x");
    Ok(())
}

fn one_signature(curve: Curve) -> anyhow::Result<f64> {
    let key = SigningKey::from_secret(curve, &[7; 32])?;
    let (public, digest) = (key.public_key(), [9; 32]);
    let signature = key.sign(&digest);
    let began = Instant::now();
    for _ in 0..SIGNATURES {
        black_box(&public).verify(black_box(&digest), &signature)?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(SIGNATURES))
}

async fn replay_speed(
    relay: &Relay,
    messages: &[Bytes],
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut subscription = consumers::subscribe(&relay.base, Some(0)).await?;
    let start = relay.usage()?;
    let began = Instant::now();
    for message in messages {
        ensure!(next(&mut subscription).await? == *message, "the replay differs");
    }
    let (end, wall) = (relay.usage()?, began.elapsed());
    let frames = count_f64(messages.len());
    report.add("frames, as fast as this client reads", frames / wall.as_secs_f64(), "1/s");
    let cpu = (end.cpu - start.cpu).as_secs_f64() * 1e6 / frames;
    report.add("CPU per frame", cpu, "us");
    Ok(())
}

/// From a host's `append` to the consumer's read.
async fn steady_latency(
    relay: &Relay,
    mut network: Network,
    report: &mut Report,
) -> anyhow::Result<Network> {
    let sent: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let mut subscription = consumers::subscribe(&relay.base, None).await?;
    let start = relay.usage()?;
    let before = network.oracle.frames();
    let sending = Arc::clone(&sent);
    let pump = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / STEADY_RATE);
        for _ in 0..STEADY_RATE * STEADY_SECONDS {
            ticks.tick().await;
            let event = network.world.next_event(now());
            if let Some(key) = name(&Bytes::from(event.frame.with_seq(1))) {
                lock(&sending).insert(key, Instant::now());
            }
            network.send(event);
        }
        network
    });
    let mut latencies = Vec::new();
    while !pump.is_finished() {
        let message = tokio::time::timeout(Duration::from_secs(1), next(&mut subscription)).await;
        let Ok(message) = message else { continue };
        let (arrived, message) = (Instant::now(), message?);
        if let Some(at) = name(&message).and_then(|name| lock(&sent).remove(&name)) {
            latencies.push(arrived.duration_since(at));
        }
    }
    let network = pump.await?;
    let end = relay.usage()?;
    report.add_spread("host to consumer", Spread::of_millis(latencies), "ms");
    let events = count_f64(usize::try_from(network.oracle.frames() - before)?);
    let cpu = (end.cpu - start.cpu).as_secs_f64();
    report.add("CPU per event", cpu * 1e6 / events, "us");
    report.add("cores in use", cpu / f64::from(STEADY_SECONDS), "");
    Ok(network)
}

async fn many_consumers(
    relay: &Relay,
    network: &mut Network,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let mut subscription = consumers::subscribe(&relay.base, None).await?;
        readers.spawn(async move {
            let mut count = 0_usize;
            while let Ok(Ok(Received::Message(_))) =
                tokio::time::timeout(Duration::from_secs(3), subscription.next()).await
            {
                count += 1;
            }
            count
        });
    }
    let start = relay.usage()?;
    let before = network.oracle.frames();
    let length = Duration::from_secs(STEADY_SECONDS.into());
    network.pump(f64::from(STEADY_RATE), length, now).await;
    let cpu = (relay.usage()?.cpu - start.cpu).as_secs_f64();
    let events = usize::try_from(network.oracle.frames() - before)?;
    let counts = readers.join_all().await;
    ensure!(counts.iter().all(|count| *count == events), "{events} sent, seen: {counts:?}");
    report.add("cores in use", cpu / f64::from(STEADY_SECONDS), "");
    report.add("CPU per delivered frame", cpu * 1e6 / count_f64(events * CROWD), "us");
    Ok(())
}

/// `mainstem serve` as a child process.
struct Relay {
    child: Child,
    base: String,
}

impl Relay {
    fn start(dir: &Path, network: &Network, more: &[&str]) -> anyhow::Result<Self> {
        let hosts: Vec<&str> = network.hosts.iter().map(loadtest::hosts::Host::name).collect();
        let mut child = Command::new(binary()?)
            .args(["serve", "--log-format", "json", "--allow-insecure-hosts", "--backfill"])
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .args(["--plc-url", &network.plc.url(), "--host", &hosts.join(",")])
            // Which handles resolve in time differs from run to run.
            .args(["--handles", "pass"])
            .args(["--plc-rate", "100000"])
            .arg("--data-dir")
            .arg(dir)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .context("start mainstem")?;
        let mut lines = BufReader::new(child.stderr.take().context("take its log")?).lines();
        let ready = loop {
            let line = lines.next().context("mainstem ended before it was ready")??;
            if line.contains("\"ready\"") {
                break serde_json::from_str::<Value>(&line)?;
            }
        };
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let url = ready["firehose"].as_str().context("the firehose's address")?;
        let address = url.split('/').nth(2).context("the firehose's address")?;
        Ok(Self { child, base: format!("ws://{address}") })
    }

    fn usage(&self) -> anyhow::Result<process::Usage> {
        process::usage(Some(self.child.id())).context("read the relay's CPU time")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Cargo puts examples beside the binary, one folder deeper.
fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let binary = own.ancestors().nth(2).context("find the build folder")?.join("mainstem");
    ensure!(binary.exists(), "{} is missing: cargo build --release", binary.display());
    Ok(binary)
}

async fn next(subscription: &mut Subscription) -> anyhow::Result<Bytes> {
    match tokio::time::timeout(Duration::from_secs(30), subscription.next()).await?? {
        Received::Message(message) => Ok(message),
        end => bail!("the stream ended: {end:?}"),
    }
}

/// What tells a commit from all others.
fn name(message: &Bytes) -> Option<String> {
    match decode(message).ok()? {
        Event::Frame { did: Some(did), rev: Some(rev), kind, .. } => {
            Some(format!("{did} {rev} {kind:?}"))
        }
        _ => None,
    }
}

fn now() -> Micros {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Micros::default().plus(wall)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    std::io::stdout().lock().write_all(text.as_bytes()).context("print")
}

const EVENTS: usize = 60_000;
const PRIMITIVES_MAX: usize = 20_000;
const SIGNATURES: u32 = 5_000;
const STEADY_RATE: u32 = 500;
const STEADY_SECONDS: u32 = 10;
const CROWD: usize = 100;
