//! `make isolation`: what a hundred good hosts' events wait on their way to a consumer, with and
//! without one host beside them that floods the relay. Prints a table; writes JSON to the file that
//! is named as the only argument.
//!
//! The machine itself is not what is measured: the flooding host is a process of its own that gets
//! only the CPU that nobody else wants.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use loadtest::hostile::{Conduct, Hostile};
use loadtest::network::{Network, Options};
use loadtest::readers::{self, Outcome, Readers};
use loadtest::report::{Report, Spread, count_f64};
use loadtest::wire::Frame;
use loadtest::world::{self, World};
use protocol::ids::Micros;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[path = "bench/child.rs"]
mod child;

use child::{NO_PLC_LIMIT, Relay, binary, now, print};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("flood"), Some(start)) => runtime.block_on(flood(Micros(start.parse()?))),
        (path, _) => {
            let reports = runtime.block_on(run())?;
            let all: Vec<Value> = reports.iter().map(Report::json).collect();
            if let Some(path) = path {
                let text = serde_json::to_string_pretty(&json!({ "reports": all }))?;
                std::fs::write(path, text).context("write the JSON")?;
            }
            Ok(())
        }
    }
}

async fn run() -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for (title, more) in [
        ("one host floods, with the limits that a new host has", PUBLIC),
        ("one host floods, and no limit of events holds it", &[]),
    ] {
        let report = trial(title, more).await?;
        print(&format!("{}\n", report.table()))?;
        reports.push(report);
    }
    Ok(reports)
}

/// Phases without and with the flood in turns, so that what else the machine does meets both.
async fn trial(title: &str, more: &[&str]) -> anyhow::Result<Report> {
    let mut network = Network::start(&Options {
        hosts: GOOD_HOSTS,
        accounts_per_host: 5,
        records_per_account: 50,
        start: Micros(now().0 - HOUR_MICROS),
        ..Options::default()
    })
    .await?;
    let folder = tempfile::tempdir()?;
    let (plc, hosts) = (network.plc.url(), names(&network));
    let mut arguments = vec!["--plc-url", &plc, "--host", &hosts, "--handles", "pass"];
    arguments.extend(NO_PLC_LIMIT);
    arguments.extend(more);
    let relay = Relay::start_with(Command::new(binary()?), folder.path(), &arguments)?;
    let mut report = Report::new(format!("{GOOD_HOSTS} good hosts, {RATE:.0} events/s; {title}"));

    let flooding = Flooding::start(&network, &relay).await?;
    flooding.pause(true)?;
    // Every account is known, and every buffer has its size.
    network.pump(RATE, WARM_UP, now).await;
    let readers = Readers::start(readers::Options {
        base: relay.base.clone(),
        count: 1,
        cursor: None,
        sample_every: 1,
        stalled: false,
    })
    .await?;
    let before = network.oracle.frames();
    let (mut quiet, mut flooded) = (Phases::default(), Phases::default());
    for _ in 0..ROUNDS {
        quiet.run(&relay, &mut network).await?;
        flooding.pause(false)?;
        flooded.run(&relay, &mut network).await?;
        flooding.pause(true)?;
        tokio::time::sleep(CALM).await;
    }
    let sent = network.oracle.frames() - before;
    let outcome = readers.finish().await?;
    let (alone, beside) = (quiet.ages(&outcome), flooded.ages(&outcome));
    report.add_spread("host to consumer, alone", alone, "ms");
    report.add_spread("host to consumer, beside the flood", beside, "ms");
    for (number, (alone, beside)) in quiet.each(&outcome).zip(flooded.each(&outcome)).enumerate() {
        report.add(format!("p99 alone, round {}", number + 1), alone.p99, "ms");
        report.add(format!("p99 beside the flood, round {}", number + 1), beside.p99, "ms");
    }
    let times = |of: fn(&Spread) -> f64| {
        let [alone, beside] = [&quiet, &flooded]
            .map(|phases| Spread::of(phases.each(&outcome).map(|it| of(&it)).collect()).p50);
        beside / alone
    };
    let p99 = times(|it| it.p99);
    report.add("p50 beside the flood, times that alone, medians", times(|it| it.p50), "");
    report.add("p99 beside the flood, times that alone, medians (aim: 2)", p99, "");
    report.add("events sent by good hosts", sent as f64, "");
    report.add("samples", count_f64(alone.count + beside.count), "");
    report.add("frames read, alone", quiet.frames_per_second(), "1/s");
    report.add("frames read, beside the flood", flooded.frames_per_second(), "1/s");
    report.add("cores of the relay, alone", quiet.cores(), "");
    report.add("cores of the relay, beside the flood", flooded.cores(), "");
    ensure!(flooded.frames > quiet.frames, "nothing of the flood was read");
    Ok(report)
}

/// What was measured in phases of one kind.
#[derive(Default)]
struct Phases {
    times: Vec<(Micros, Micros)>,
    seconds: f64,
    frames: f64,
    cpu: Duration,
}

impl Phases {
    async fn run(&mut self, relay: &Relay, network: &mut Network) -> anyhow::Result<()> {
        let (from, usage, frames) = (now(), relay.usage()?, relay.metric(FRAMES).await?);
        network.pump(RATE, PHASE, now).await;
        self.times.push((from, now()));
        self.seconds += PHASE.as_secs_f64();
        self.frames += relay.metric(FRAMES).await? - frames;
        self.cpu += relay.usage()?.cpu - usage.cpu;
        Ok(())
    }

    /// Ages of the good hosts' commits in all phases.
    fn ages(&self, outcome: &Outcome) -> Spread {
        ages(outcome, |at| self.times.iter().any(|(from, to)| *from <= at && at < *to))
    }

    /// The same of each phase.
    fn each(&self, outcome: &Outcome) -> impl Iterator<Item = Spread> {
        self.times.iter().map(move |(from, to)| ages(outcome, |at| *from <= at && at < *to))
    }

    fn frames_per_second(&self) -> f64 {
        self.frames / self.seconds
    }

    fn cores(&self) -> f64 {
        self.cpu.as_secs_f64() / self.seconds
    }
}

/// Ages of the good hosts' commits that arrived then: the flood's were made long ago.
fn ages(outcome: &Outcome, is_then: impl Fn(Micros) -> bool) -> Spread {
    let all = outcome.tallies.iter().flat_map(|tally| tally.ages.iter());
    let good = all.filter(|it| it.age < FLOOD_AGE / 2 && is_then(it.at));
    Spread::of_millis(good.map(|it| it.age))
}

/// The flooding host: a child process.
struct Flooding(Child);

impl Flooding {
    /// Starts it, vouches for its accounts, and has it crawled.
    async fn start(network: &Network, relay: &Relay) -> anyhow::Result<Self> {
        let start = Micros(now().0 - u64::try_from(FLOOD_AGE.as_micros())?);
        let mut child = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["flood", &start.0.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .context("start the flooding host")?;
        let stdout = child.stdout.take().context("take what it prints")?;
        let line = std::io::BufRead::lines(std::io::BufReader::new(stdout)).next();
        let name = line.context("the flooding host ended")??;
        for account in flood_world(start).accounts() {
            let document = account.document(std::slice::from_ref(&name));
            network.plc.put_document(&account.did, document);
        }
        let flooding = Self(child);
        request_crawl(relay, &name).await?;
        Ok(flooding)
    }

    /// Stops the process, or lets it go on: its connection stays.
    fn pause(&self, paused: bool) -> anyhow::Result<()> {
        let signal = if paused { "-STOP" } else { "-CONT" };
        let pid = self.0.id().to_string();
        let status =
            Command::new("sh").args(["-c", "kill \"$0\" \"$1\"", signal, &pid]).status()?;
        ensure!(status.success(), "kill {signal} {pid}");
        Ok(())
    }
}

impl Drop for Flooding {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The child's part: commits of its accounts, all valid when they come first, for ever.
async fn flood(start: Micros) -> anyhow::Result<()> {
    let mut world = flood_world(start);
    let accounts = world.accounts().len();
    let frames: Vec<Frame> = (0..FLOOD_FRAMES)
        .map(|number| world.write(number % accounts, Micros(start.0 + number as u64 * 1_000)).frame)
        .collect();
    let host = Hostile::start(Conduct::Flood(frames), 0).await?;
    print(&format!("{}\n", host.name()))?;
    std::future::pending().await
}

fn flood_world(start: Micros) -> World {
    World::new(&world::Options {
        seed: 99,
        hosts: vec!["localhost:1".to_owned()],
        accounts_per_host: 50,
        records_per_account: 50,
        web_accounts: false,
        start: Micros(start.0 - HOUR_MICROS),
    })
}

fn names(network: &Network) -> String {
    let names: Vec<&str> = network.hosts.iter().map(loadtest::hosts::Host::name).collect();
    names.join(",")
}

async fn request_crawl(relay: &Relay, name: &str) -> anyhow::Result<()> {
    let address = relay.base.trim_start_matches("ws://");
    let body = json!({ "hostname": name }).to_string();
    let request = format!(
        "POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.0\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    ensure!(answer.split(' ').nth(1) == Some("200"), "requestCrawl: {answer}");
    Ok(())
}

/// The limits that are the default where hosts are public.
const PUBLIC: &[&str] = &[
    "--host-events-base",
    "500/s,200000/h,1000000/d",
    "--host-events-max",
    "5000/s,5000000/h,50000000/d",
];
const FRAMES: &str = "mainstem_crawler_frames_total";
const GOOD_HOSTS: usize = 100;
/// What the live network brings.
const RATE: f64 = 500.0;
/// The middle one of them counts: whatever else the machine does spoils some.
const ROUNDS: usize = 5;
const PHASE: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(5);
/// What was under way of the flood is done.
const CALM: Duration = Duration::from_secs(1);
/// Enough that valid ones last for as long as they are read at the verifier's speed.
const FLOOD_FRAMES: usize = 60_000;
/// The flood's commits were made so long ago, which tells them from the others.
const FLOOD_AGE: Duration = Duration::from_hours(24);
const HOUR_MICROS: u64 = 3_600_000_000;
