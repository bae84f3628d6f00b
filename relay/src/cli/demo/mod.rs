//! `mainstem demo`: a simulated network and a relay in one command: live on a terminal, a status
//! line a second elsewhere.

mod consumer;
mod figures;
mod screen;

use std::future::Future;
use std::io::Write as _;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use loadtest::network::{self, Network};
use loadtest::report::Spread;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::consumer::{View, now};
use self::figures::{Figures, Sampler};
use self::screen::{Screen, Title};
use super::{Cli, Command};
use crate::config::{Demo, Serve};
use crate::metrics;
use crate::pipeline::Relay;
use crate::shutdown::Signals;

/// Runs it.
pub async fn run(options: &Demo) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let length = Duration::from_secs(options.seconds.into());
    let about = format!(
        "a simulated network: {} hosts, {ACCOUNTS_PER_HOST} accounts each, {} events/s for {} s",
        options.hosts, options.rate, options.seconds
    );
    say(&format!("Starting {about}."))?;
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
    let view = View::default();
    let consumer = tokio::spawn(view.clone().follow(format!("ws://{}", relay.address)));
    for host in &network.hosts {
        host.connected(1).await;
    }

    let sampler = Sampler::new(recorder, relay.storage.clone(), view.clone(), network.sent());
    let mut display = Display::open(options.plain, sampler, about, &relay)?;
    let rate = f64::from(options.rate);
    let pumping = tokio::spawn(async move {
        network.pump(rate, length, now).await;
        network
    });
    let stop_pumping = pumping.abort_handle();
    let Some(pumped) = display.during(pumping, &mut signals).await? else {
        stop_pumping.abort();
        drop(display);
        say("Stopping early.")?;
        return relay.stop().await;
    };
    let mut network = pumped.context("send the traffic")?;
    // What comes from here on waits for look-ups, some of them for seconds.
    let latency = view.latency();
    let lies = send_lies(&mut network);
    display.enter(format!("{lies} cases of forged, broken, misplaced and odd events"))?;
    let Some(settled) = display.during(all_delivered(&network, &view), &mut signals).await? else {
        drop(display);
        say("Stopping early.")?;
        return relay.stop().await;
    };
    let figures = display.close()?;
    relay.stop().await?;
    consumer.await.context("read the firehose")??;
    let findings = conclude(&network, &view, &figures, latency)?;
    ensure!(settled && findings == 0, "the consumer did not see what it had to");
    say("Every event that had to pass did, once, in order; every lie was refused by name.")
}

/// Where the figures go.
struct Display {
    /// None: a line a second.
    screen: Option<Screen>,
    sampler: Sampler,
}

impl Display {
    fn open(plain: bool, sampler: Sampler, network: String, relay: &Relay) -> anyhow::Result<Self> {
        let addresses = vec![
            ("firehose", format!("ws://{}/xrpc/com.atproto.sync.subscribeRepos", relay.address)),
            ("page", format!("http://{}/", relay.address)),
            ("metrics", format!("http://{}/metrics", relay.metrics_address)),
        ];
        for (name, address) in &addresses {
            say(&format!("  {name:<9} {address}"))?;
        }
        let title = Title { network, addresses, phase: "honest traffic".to_owned() };
        let screen = if plain { None } else { Screen::open(title)? };
        Ok(Self { screen, sampler })
    }

    /// Says what comes now.
    fn enter(&mut self, phase: String) -> anyhow::Result<()> {
        match &mut self.screen {
            Some(screen) => screen.enter(phase),
            None => say(&format!("\n{phase}:"))?,
        }
        Ok(())
    }

    /// Shows the figures until the work is done; `None` if a signal ended it before.
    async fn during<T>(
        &mut self,
        work: impl Future<Output = T>,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<T>> {
        let mut work = pin!(work);
        let pace = if self.screen.is_some() { DRAW_EVERY } else { LINE_EVERY };
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.screen.is_none() {
            ticks.tick().await;
        }
        loop {
            tokio::select! {
                done = &mut work => return Ok(Some(done)),
                _ = ticks.tick() => self.show()?,
                _signal = signals.asked() => return Ok(None),
            }
        }
    }

    fn show(&mut self) -> anyhow::Result<()> {
        let figures = self.sampler.take();
        match &self.screen {
            Some(screen) => screen.draw(figures),
            None => say(&figures.line()),
        }
    }

    /// The last picture, and its figures.
    fn close(mut self) -> anyhow::Result<Figures> {
        if self.screen.is_some() {
            self.show()?;
        }
        Ok(self.sampler.take().clone())
    }
}

/// One of every kind; none where there is no second host to lie. How many.
fn send_lies(network: &mut Network) -> usize {
    if network.hosts.len() < 2 {
        return 0;
    }
    let specimens = network.specimens();
    specimens.iter().for_each(|specimen| network.send_specimen(specimen));
    specimens.len()
}

/// Compares what the consumer saw with what it had to see; how much is wrong.
fn conclude(
    network: &Network,
    view: &View,
    figures: &Figures,
    latency: Spread,
) -> anyhow::Result<usize> {
    for (reason, count) in &figures.drops {
        say(&format!("  dropped {count:>4}  {reason}"))?;
    }
    let seen = view.seen();
    let findings = network.oracle.judge(&seen.witness);
    say(&format!(
        "\n{} events had to pass; the consumer saw {}; findings: {}. \
         Host to consumer: p50 {:.0} ms, p99 {:.0} ms.",
        network.oracle.frames(),
        seen.witness.frames(),
        findings.len(),
        latency.p50,
        latency.p99
    ))?;
    for finding in findings.iter().take(FINDINGS_SHOWN) {
        say(&format!("  {finding}"))?;
    }
    Ok(findings.len())
}

/// Waits until the consumer has seen as many events as must pass; false after a while.
async fn all_delivered(network: &Network, view: &View) -> bool {
    for _ in 0..DELIVERY_POLLS_MAX {
        if view.seen().witness.frames() >= network.oracle.frames() {
            // A moment more shows whether anything comes that must not.
            sleep(DELIVERY_POLL * 5).await;
            return true;
        }
        sleep(DELIVERY_POLL).await;
    }
    false
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

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("print")
}

const ACCOUNTS_PER_HOST: usize = 20;
const RECORDS_PER_ACCOUNT: usize = 300;
/// Often enough to look alive; a picture costs the metrics once.
const DRAW_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(1);
const FINDINGS_SHOWN: usize = 10;
const DELIVERY_POLL: Duration = Duration::from_millis(100);
/// An identity that does not resolve is given up after 15 s.
const DELIVERY_POLLS_MAX: usize = 300;
