//! `make scale`: many consumers that are up to date, beside some that read nothing and some that
//! replay the whole log again and again. Prints what the live ones wait, what all of it costs, and
//! that nobody lost anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use loadtest::network::{Network, Options};
use loadtest::readers::{self, Outcome, Readers, check_complete};
use loadtest::report::{Report, Spread, count_f64};
use protocol::ids::Micros;
use relay::process;

#[path = "bench/child.rs"]
mod child;

use child::{NO_PLC_LIMIT, Relay, now, print, start_before};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let mut network = Network::start(&Options {
        hosts: 10,
        accounts_per_host: 100,
        records_per_account: 200,
        start: start_before(EVENTS_BEFORE),
        ..Options::default()
    })
    .await?;
    print("drawing the events\n")?;
    network.send_next(EVENTS_BEFORE);
    for (live, rate) in [(1_000, 200), (200, 1_000)] {
        // A relay of its own for each, so that memory tells what the crowd takes.
        let folder = tempfile::tempdir()?;
        let relay = Relay::start(folder.path(), &network, &NO_PLC_LIMIT)?;
        relay.has(network.oracle.frames(), PATIENCE).await?;
        let report = crowd(&relay, &mut network, live, rate).await?;
        print(&format!("{}\n", report.table()))?;
    }
    Ok(())
}

async fn crowd(
    relay: &Relay,
    network: &mut Network,
    live: usize,
    rate: u32,
) -> anyhow::Result<Report> {
    let title = format!("{live} live at {rate} events/s, {STALLED} stalled, {REPLAYING} replaying");
    let mut report = Report::new(title);
    let resident = |relay: &Relay| relay.usage().map(|usage| mib(usage.resident_bytes));
    report.add("resident memory before", resident(relay)?, "MiB");
    let peak = Peak::watch(relay.pid());
    let options = |count, cursor| readers::Options {
        base: relay.base.clone(),
        count,
        cursor,
        sample_every: 0,
        stalled: false,
    };
    let sampling = readers::Options { sample_every: 500, ..options(live, None) };
    let live_readers = Readers::start(sampling).await?;
    let stalling = readers::Options { stalled: true, ..options(STALLED, Some(0)) };
    let stalled_since = Instant::now();
    let stalled = Readers::start(stalling).await?;
    report.add("resident memory, all connected", resident(relay)?, "MiB");

    // 1. Live alone. 2. Beside replays without a pause. 3. Until the deadline of the stalled.
    let before = network.oracle.frames();
    let (quiet_from, usage) = (now(), relay.usage()?);
    network.pump(f64::from(rate), PHASE, now).await;
    let (replays_from, quiet_usage) = (now(), relay.usage()?);
    let kept = Readers::start(options(REPLAYING, Some(0))).await?;
    let again = replay_again(relay, options(REPLAYING, Some(0)), Instant::now() + PHASE);
    let (_, again) = tokio::join!(network.pump(f64::from(rate), PHASE, now), again);
    let (again, replays_to) = (again?, now());
    let left = STALL_MAX.saturating_sub(stalled_since.elapsed());
    network.pump(f64::from(rate), left, now).await;

    let head = settled(relay).await?;
    ensure!(live_readers.reached(head, PATIENCE).await, "not every live consumer has all");
    ensure!(kept.reached(head, PATIENCE).await, "not every replay came to its end");
    report.add("resident memory at the end", resident(relay)?, "MiB");
    report.add("resident memory, highest", mib(peak.highest()), "MiB");
    let events = network.oracle.frames() - before;
    let outcome = live_readers.finish().await?;
    check_complete(&outcome.tallies, events, head)?;
    let kept = kept.finish().await?;
    check_complete(&kept.tallies, network.oracle.frames(), head)?;
    let within = |from: Micros, to: Micros| ages(&outcome, from, to);
    report.add_spread("host to live consumer, no replays", within(quiet_from, replays_from), "ms");
    report.add_spread("beside the replays", within(replays_from, replays_to), "ms");
    let cpu = (quiet_usage.cpu - usage.cpu).as_secs_f64();
    let frames = f64::from(rate) * PHASE.as_secs_f64() * count_f64(live);
    report.add("cores in use, no replays", cpu / PHASE.as_secs_f64(), "");
    report.add("CPU per delivered frame, no replays", cpu * 1e6 / frames, "us");
    let frames_again: u64 = again.tallies.iter().map(|tally| tally.frames).sum();
    let bytes_again: u64 = again.tallies.iter().map(|tally| tally.bytes).sum();
    report.add("frames replayed", frames_again as f64 / PHASE.as_secs_f64(), "1/s");
    report.add("replayed", mib(bytes_again) / PHASE.as_secs_f64(), "MiB/s");
    report.add(
        "cores of the live readers",
        outcome.cpu.as_secs_f64() / (3.0 * PHASE.as_secs_f64()),
        "",
    );
    report.add("cores of the replaying readers", again.cpu.as_secs_f64() / PHASE.as_secs_f64(), "");

    let ended = |reason: &str| {
        let name = format!("mainstem_relay_consumers_closed_total{{reason=\"{reason}\"}}");
        async move { relay.metric(&name).await }
    };
    let deadline = Instant::now() + PATIENCE;
    while ended("stalled").await? + ended("too_slow").await? < count_f64(STALLED) {
        ensure!(Instant::now() < deadline, "a stalled consumer was not ended");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(stalled.finish().await?);
    report.add("ended for reading nothing", ended("stalled").await?, "");
    report.add("of them told so", ended("too_slow").await?, "");
    Ok(report)
}

/// Replays of the whole log, again and again until then: all that they saw.
async fn replay_again(
    relay: &Relay,
    options: readers::Options,
    until: Instant,
) -> anyhow::Result<Outcome> {
    let mut all = Outcome::default();
    while Instant::now() < until {
        let head = relay.head().await?;
        let readers = Readers::start(options.clone()).await?;
        ensure!(readers.reached(head, PATIENCE).await, "not every replay came to its end");
        let outcome = readers.finish().await?;
        ensure!(outcome.tallies.iter().all(|tally| tally.disorder == 0), "a replay in disorder");
        all.cpu += outcome.cpu;
        all.tallies.extend(outcome.tallies);
    }
    Ok(all)
}

/// The highest resident memory of a process, looked at again and again.
struct Peak(Arc<AtomicU64>, tokio::task::JoinHandle<()>);

impl Peak {
    fn watch(pid: u32) -> Self {
        let highest = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&highest);
        let watching = tokio::spawn(async move {
            while let Some(usage) = process::usage(Some(pid)) {
                seen.fetch_max(usage.resident_bytes, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self(highest, watching)
    }

    fn highest(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.1.abort();
    }
}

fn ages(outcome: &Outcome, from: Micros, to: Micros) -> Spread {
    let all = outcome.tallies.iter().flat_map(|tally| tally.ages.iter());
    let within = all.filter(|it| from <= it.at && it.at < to);
    Spread::of_millis(within.map(|it| it.age))
}

/// The newest seq, once nothing more comes.
async fn settled(relay: &Relay) -> anyhow::Result<u64> {
    let mut head = relay.head().await?;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let next = relay.head().await?;
        if next == head {
            return Ok(head);
        }
        head = next;
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

const EVENTS_BEFORE: usize = 60_000;
const STALLED: usize = 20;
const REPLAYING: usize = 20;
const PHASE: Duration = Duration::from_secs(20);
/// The relay's own deadline, and some.
const STALL_MAX: Duration = Duration::from_secs(65);
const PATIENCE: Duration = Duration::from_secs(120);
