//! Events at a steady rate to consumers that are up to date.

use std::time::{Duration, Instant};

use anyhow::ensure;
use loadtest::network::Network;
use loadtest::readers::{Options, Readers, check_complete};
use loadtest::report::{Report, Spread, count_f64};

use super::child::{Relay, now};

/// What was measured.
pub(crate) struct Live {
    /// From the making of a commit to its arrival at a consumer, in ms.
    pub(crate) age: Spread,
    /// Of the relay.
    pub(crate) cores: f64,
    pub(crate) events_per_second: f64,
    pub(crate) frames_per_write: f64,
    pub(crate) bytes_per_frame: f64,
}

pub(crate) async fn run(
    relay: &Relay,
    network: &mut Network,
    rate: u32,
    consumers: usize,
    report: &mut Report,
) -> anyhow::Result<Live> {
    let readers = Readers::start(Options {
        base: relay.base.clone(),
        count: consumers,
        cursor: None,
        sample_every: if consumers == 1 { 1 } else { 100 },
        stalled: false,
    })
    .await?;
    let (usage, before) = (relay.usage()?, network.oracle.frames());
    let writes = relay.metric(WRITES).await?;
    let began = Instant::now();
    network.pump(f64::from(rate), LENGTH, now).await;
    let wall = began.elapsed().as_secs_f64();
    let head = settled(relay).await?;
    ensure!(readers.reached(head, PATIENCE).await, "not every consumer has everything");
    let cpu = (relay.usage()?.cpu - usage.cpu).as_secs_f64();
    let writes = relay.metric(WRITES).await? - writes;
    let events = network.oracle.frames() - before;
    let outcome = readers.finish().await?;
    check_complete(&outcome.tallies, events, head)?;
    let ages = outcome.tallies.iter().flat_map(|tally| tally.ages.iter().map(|it| it.age));
    let age = Spread::of_millis(ages);
    let events = count_f64(usize::try_from(events)?);
    let delivered = events * count_f64(consumers);
    let bytes: u64 = outcome.tallies.iter().map(|tally| tally.bytes).sum();
    let live = Live {
        age,
        cores: cpu / wall,
        events_per_second: events / wall,
        frames_per_write: delivered / writes,
        bytes_per_frame: count_f64(usize::try_from(bytes / 1_000)?) * 1e3 / delivered,
    };
    report.add_spread("host to consumer", age, "ms");
    report.add("samples of it", count_f64(age.count), "");
    report.add("events", live.events_per_second, "1/s");
    report.add("cores in use", live.cores, "");
    report.add("CPU per event, all consumers", cpu * 1e6 / events, "us");
    report.add("frames per write", live.frames_per_write, "");
    report.add("cores of the readers", outcome.cpu.as_secs_f64() / wall, "");
    Ok(live)
}

/// The newest seq, once nothing more comes.
pub(crate) async fn settled(relay: &Relay) -> anyhow::Result<u64> {
    let mut head = relay.head().await?;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let next = relay.head().await?;
        if next == head {
            return Ok(head);
        }
        head = next;
    }
}

pub(crate) const WRITES: &str = "mainstem_relay_writes_total";
const LENGTH: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);
