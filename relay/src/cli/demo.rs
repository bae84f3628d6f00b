//! `mainstem demo`: a simulated network and a relay in one command, one status line a second.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use loadtest::consumers::{self, Event, Received};
use loadtest::network::{self, Network};
use loadtest::oracle::Witness;
use loadtest::report::Spread;
use metrics_exporter_prometheus::PrometheusHandle;
use protocol::datetime;
use protocol::ids::Micros;

use super::{Cli, Command};
use crate::config::{Demo, Serve};
use crate::metrics;
use crate::pipeline::Relay;
use crate::process;
use crate::shutdown::Signals;

/// Runs it.
pub async fn run(options: &Demo) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let length = Duration::from_secs(options.seconds.into());
    say(&format!(
        "A simulated network: {} hosts, {} accounts each, {} events/s for {} s.",
        options.hosts, ACCOUNTS_PER_HOST, options.rate, options.seconds
    ))?;
    let mut network = Network::start(&network::Options {
        hosts: options.hosts.into(),
        accounts_per_host: ACCOUNTS_PER_HOST,
        records_per_account: RECORDS_PER_ACCOUNT,
        start: now(),
        ..network::Options::default()
    })
    .await?;
    let recorder = metrics::install()?;
    let relay = Relay::start(&serve_config(folder.path(), &network)?, recorder.clone()).await?;
    say(&format!(
        "Mainstem follows them. Firehose: ws://{}  metrics: http://{}/metrics\n",
        relay.address, relay.metrics_address
    ))?;
    let view = Arc::new(Mutex::new(View::default()));
    let base = format!("ws://{}", relay.address);
    let consumer = tokio::spawn(consume(base, Arc::clone(&view)));
    for host in &network.hosts {
        host.connected(1).await;
    }

    let sent = network.sent();
    let rate = f64::from(options.rate);
    let mut pumping = tokio::spawn(async move {
        network.pump(rate, length, now).await;
        network
    });
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    let mut status = Status { recorder, view: Arc::clone(&view), second: 0, last: Sample::take() };
    let mut network = loop {
        tokio::select! {
            network = &mut pumping => break network.context("send the traffic")?,
            _ = seconds.tick() => say(&status.line(sent.load(Ordering::Relaxed)))?,
            signal = signals.asked() => {
                say(&format!("{signal}: stopping early."))?;
                pumping.abort();
                return relay.stop().await;
            }
        }
    };
    // What comes from here on waits for look-ups, some of them for seconds.
    let latency = Spread::of(std::mem::take(&mut lock(&view).latencies_ms));
    send_lies(&mut network)?;
    let settled = all_delivered(&network, &view).await;
    for (reason, count) in status.drops() {
        say(&format!("  dropped {count:>4}  {reason}"))?;
    }
    relay.stop().await?;
    consumer.await.context("read the firehose")??;
    let findings = conclude(&network, &lock(&view), latency)?;
    ensure!(settled && findings == 0, "the consumer did not see what it had to");
    say("Every event that had to pass did, once, in order; every lie was refused by name.")
}

/// One of every kind; none where there is no second host to lie.
fn send_lies(network: &mut Network) -> anyhow::Result<()> {
    if network.hosts.len() < 2 {
        return Ok(());
    }
    let specimens = network.specimens();
    say(&format!("\n{} cases of forged, broken, misplaced and odd events:", specimens.len()))?;
    specimens.iter().for_each(|specimen| network.send_specimen(specimen));
    Ok(())
}

/// Compares what the consumer saw with what it had to see; how much is wrong.
fn conclude(network: &Network, view: &View, latency: Spread) -> anyhow::Result<usize> {
    let findings = network.oracle.judge(&view.witness);
    say(&format!(
        "\n{} events had to pass; the consumer saw {}; findings: {}. \
         Host to consumer: p50 {:.0} ms, p99 {:.0} ms.",
        network.oracle.frames(),
        view.witness.frames(),
        findings.len(),
        latency.p50,
        latency.p99
    ))?;
    for finding in findings.iter().take(FINDINGS_SHOWN) {
        say(&format!("  {finding}"))?;
    }
    Ok(findings.len())
}

/// What the consumer has seen.
#[derive(Default)]
struct View {
    witness: Witness,
    /// Event time to receipt; the clock in an event counts milliseconds.
    latencies_ms: Vec<f64>,
}

async fn consume(base: String, view: Arc<Mutex<View>>) -> anyhow::Result<()> {
    let mut subscription = consumers::subscribe(&base, Some(0)).await?;
    loop {
        let Received::Message(message) = subscription.next().await? else { return Ok(()) };
        let time = match consumers::decode(&message)? {
            Event::Frame { time: Some(time), .. } => datetime::parse(&time).ok(),
            _ => None,
        };
        let mut view = lock(&view);
        view.witness.see(&message);
        if let Some(time) = time.filter(|_| view.latencies_ms.len() < LATENCIES_MAX) {
            view.latencies_ms.push(now().since(time).as_secs_f64() * 1e3);
        }
    }
}

/// Waits until the consumer has seen as many events as must pass; false after a while.
async fn all_delivered(network: &Network, view: &Mutex<View>) -> bool {
    for _ in 0..DELIVERY_POLLS_MAX {
        if lock(view).witness.frames() >= network.oracle.frames() {
            // A moment more shows whether anything comes that must not.
            tokio::time::sleep(DELIVERY_POLL * 5).await;
            return true;
        }
        tokio::time::sleep(DELIVERY_POLL).await;
    }
    false
}

struct Status {
    recorder: PrometheusHandle,
    view: Arc<Mutex<View>>,
    second: u32,
    last: Sample,
}

/// The process's CPU time at a moment.
struct Sample {
    at: std::time::Instant,
    cpu: Duration,
}

impl Sample {
    fn take() -> Self {
        let cpu = process::usage(None).map_or(Duration::ZERO, |usage| usage.cpu);
        Self { at: std::time::Instant::now(), cpu }
    }
}

impl Status {
    fn line(&mut self, sent: u64) -> String {
        self.second += 1;
        let text = self.recorder.render();
        let sample = Sample::take();
        let percent = (sample.cpu - self.last.cpu).as_secs_f64() * 100.0
            / sample.at.duration_since(self.last.at).as_secs_f64();
        self.last = sample;
        let resident = process::usage(None).map_or(0, |usage| usage.resident_bytes >> 20);
        let (delivered, head, recent) = {
            let view = lock(&self.view);
            let recent = view.latencies_ms.iter().rev().take(LATENCIES_SHOWN).copied().collect();
            (view.witness.frames(), view.witness.seq().unwrap_or(0), recent)
        };
        let spread = Spread::of(recent);
        format!(
            "{:>4} s  sent {sent:>7}  received {:>7}  passed {:>7}  dropped {:>3}  \
             delivered {delivered:>7}  p50 {:>3.0} ms  p99 {:>3.0} ms  cpu {percent:>3.0} %  \
             {resident} MiB  head {head}",
            self.second,
            total(&text, "mainstem_crawler_frames_total"),
            total(&text, "mainstem_verifier_passed_total"),
            total(&text, "mainstem_verifier_dropped_total"),
            spread.p50,
            spread.p99,
        )
    }

    /// Drops by reason, those that happened.
    fn drops(&self) -> BTreeMap<String, u64> {
        let text = self.recorder.render();
        let reasons = samples(&text, "mainstem_verifier_dropped_total")
            .chain(samples(&text, "mainstem_crawler_drops_total"));
        let mut drops = BTreeMap::new();
        for (labels, count) in reasons.filter(|(_, count)| *count > 0) {
            let reason = labels.split('"').nth(1).unwrap_or(labels).to_owned();
            *drops.entry(reason).or_default() += count;
        }
        drops
    }
}

/// The samples of a counter in Prometheus's text format: labels and value.
fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let own = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.parse().ok()?)).filter(|_| own)
    })
}

fn total(text: &str, name: &str) -> u64 {
    samples(text, name).map(|(_, value)| value).sum()
}

/// The command line that a person would give for this network.
fn serve_config(folder: &std::path::Path, network: &Network) -> anyhow::Result<Serve> {
    let hosts: Vec<String> = network.hosts.iter().map(|host| host.name().to_owned()).collect();
    let arguments = [
        "mainstem",
        "serve",
        "--data-dir",
        folder.to_str().context("the temporary folder's name is not UTF-8")?,
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--allow-insecure-hosts",
        "--backfill",
        // A temporary folder may lie in memory.
        "--disk-headroom",
        "64MiB",
        // The directory is our own.
        "--plc-rate",
        "100000",
        "--plc-url",
        &network.plc.url(),
        "--dns-server",
        &network.dns.address(),
        // What arrives is compared byte by byte, and a handle that is changed twice within the
        // spacing of document fetches would be left out.
        "--handles",
        "pass",
        "--host",
        &hosts.join(","),
    ];
    match Cli::try_parse_from(arguments)?.command {
        Command::Serve(config) => Ok(*config),
        _ => unreachable!("the arguments say serve"),
    }
}

fn now() -> Micros {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Micros::default().plus(wall)
}

fn lock(view: &Mutex<View>) -> std::sync::MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("print")
}

const ACCOUNTS_PER_HOST: usize = 20;
const RECORDS_PER_ACCOUNT: usize = 300;
/// Ten million events in memory would be 80 MB.
const LATENCIES_MAX: usize = 1_000_000;
const LATENCIES_SHOWN: usize = 1_000;
const FINDINGS_SHOWN: usize = 10;
const DELIVERY_POLL: Duration = Duration::from_millis(100);
/// An identity that does not resolve is given up after 15 s.
const DELIVERY_POLLS_MAX: usize = 300;
