//! `make startup`: a relay that starts with thousands of known hosts, each of a name and an address
//! of its own, over TLS. Prints how long it takes until all of them stream, what HTTP answers take
//! meanwhile, and what a connection costs; writes JSON to the file that is named first. Numbers
//! after it are how many hosts to try, instead of 3,000 and 20,000.
//!
//! The hosts are served by a process of their own, so that the relay's memory and CPU are its own.
//! Needs port 443 on 127.0.0.0/8, and `openssl` for the certificates.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use loadtest::dns::Dns;
use loadtest::plc::Plc;
use loadtest::report::{Report, Spread, count_f64};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

#[path = "../bench/child.rs"]
mod child;
mod peers;

use child::{Relay, binary, print};
use peers::Peers;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, certificate, key] = &arguments[..]
        && role == "peers"
    {
        return runtime.block_on(peers::serve(certificate.as_ref(), key.as_ref()));
    }
    let (path, counts) = match arguments.split_first() {
        None => (None, &[][..]),
        Some((path, counts)) => (Some(path), counts),
    };
    let counts: Result<Vec<usize>, _> = counts.iter().map(|count| count.parse()).collect();
    let mut counts = counts.context("a number of hosts")?;
    if counts.is_empty() {
        counts.extend(COUNTS);
    }
    let mut reports = Vec::new();
    for count in counts {
        let report = runtime.block_on(trial(count))?;
        print(&format!("{}\n", report.table()))?;
        reports.push(report.json());
    }
    if let Some(path) = path {
        let text = serde_json::to_string_pretty(&json!({ "reports": reports }))?;
        std::fs::write(path, text).context("write the JSON")?;
    }
    Ok(())
}

async fn trial(count: usize) -> anyhow::Result<Report> {
    let mut report = Report::new(format!("a start with {count} known hosts, TLS"));
    let files = raise_open_files(count)?;
    report.add("open files allowed", files as f64, "");
    let folder = tempfile::tempdir()?;
    let certificates = peers::certificates(folder.path())?;
    let (peers, plc, dns) =
        (Peers::start(&certificates)?, Plc::start().await?, Dns::start().await?);
    let names: Vec<String> = (0..count).map(|number| format!("pds{number}.{ZONE}")).collect();
    for (number, name) in names.iter().enumerate() {
        dns.put_addresses(name, &[address(number)?]);
    }
    let data = folder.path().join("data");
    let (plc, dns_address) = (plc.url(), dns.address());
    let authority = certificates.authority.display().to_string();
    let mut arguments = vec!["--plc-url", &plc, "--dns-server", &dns_address];
    arguments.extend(["--ca-file", &authority]);

    // What the process takes without hosts.
    let empty =
        Relay::start_with(Command::new(binary()?), &folder.path().join("empty"), &arguments)?;
    tokio::time::sleep(SETTLE).await;
    let base = empty.usage()?.resident_bytes;
    empty.terminate()?;

    // The first start makes the hosts known.
    let portions: Vec<String> = names.chunks(NAMES_PER_FLAG).map(|some| some.join(",")).collect();
    let mut first = arguments.clone();
    portions.iter().for_each(|some| first.extend(["--host", some]));
    first.extend(["--durability", "os"]);
    let relay = Relay::start_with(Command::new(binary()?), &data, &first)?;
    let known = until_streaming(&relay, count).await?;
    report.add("hosts that streamed at the first start", known.streaming, "");
    relay.terminate()?;

    let began = Instant::now();
    let relay = Relay::start_with(Command::new(binary()?), &data, &arguments)?;
    report.add("until it is ready", began.elapsed().as_secs_f64(), "s");
    let (stop, stopped) = oneshot::channel();
    let asking = tokio::spawn(ask_again(relay.base.clone(), stopped));
    let start = until_streaming(&relay, count).await?;
    drop(stop);
    let latencies = Spread::of_millis(asking.await??);
    let usage = relay.usage()?;
    report.add("hosts that stream", start.streaming, "");
    report.add("until they all stream", (start.at - began).as_secs_f64(), "s");
    report.add("dials in flight, most", start.dials_max, "");
    report.add("CPU of the relay until then", usage.cpu.as_secs_f64(), "s");
    report.add("the same for each host", usage.cpu.as_secs_f64() * 1e3 / start.streaming, "ms");
    report.add_spread("HTTP answers meanwhile", latencies, "ms");
    let per_connection =
        |resident: u64| (resident.saturating_sub(base)) as f64 / start.streaming / 1e3;
    report.add("resident memory without hosts", base as f64 / 1e6, "MB");
    report.add("resident memory when all stream", usage.resident_bytes as f64 / 1e6, "MB");
    report.add("per connection", per_connection(usage.resident_bytes), "kB");
    // Every connection was pinged in this time, and quiet ones gave back what they had read into.
    tokio::time::sleep(QUIET).await;
    let quiet = relay.usage()?;
    report.add("resident memory, quiet for a minute", quiet.resident_bytes as f64 / 1e6, "MB");
    report.add("per connection, quiet (aim: 40)", per_connection(quiet.resident_bytes), "kB");
    let cores = (quiet.cpu - usage.cpu).as_secs_f64() / QUIET.as_secs_f64();
    report.add("cores of the relay, all quiet", cores, "");
    report.add("memory of the hosts' process", peers.resident_bytes()? as f64 / 1e6, "MB");
    if start.streaming < count_f64(count) {
        let states = relay.metrics().await?;
        let states = states.iter().filter(|(name, _)| name.starts_with("mainstem_crawler_hosts{"));
        print(&format!("not all streamed: {:?}\n", states.collect::<Vec<_>>()))?;
        if files < u64::try_from(count)? + FILES_BESIDE {
            print(&format!("the system allows {files} open files, and each connection is one\n"))?;
        }
    }
    Ok(report)
}

/// How a start went.
struct Start {
    streaming: f64,
    dials_max: f64,
    /// When the last of them came to stream.
    at: Instant,
}

/// Waits until all stream, or until no more do.
async fn until_streaming(relay: &Relay, count: usize) -> anyhow::Result<Start> {
    let mut start = Start { streaming: 0.0, dials_max: 0.0, at: Instant::now() };
    while start.streaming < count_f64(count) && start.at.elapsed() < PATIENCE {
        let metrics = relay.metrics().await?;
        let figure = |name: &str| metrics.get(name).copied().unwrap_or_default();
        start.dials_max = start.dials_max.max(figure("mainstem_crawler_dials"));
        let streaming = figure("mainstem_crawler_hosts{state=\"streaming\"}");
        if streaming > start.streaming {
            (start.streaming, start.at) = (streaming, Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    ensure!(start.streaming > 0.0, "no host streams");
    Ok(start)
}

/// What the public port's answers take, asked for again and again until told to stop.
async fn ask_again(base: String, mut stop: oneshot::Receiver<()>) -> anyhow::Result<Vec<Duration>> {
    let address = base.trim_start_matches("ws://");
    let mut latencies = Vec::new();
    while matches!(stop.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
        let began = Instant::now();
        let mut socket = TcpStream::connect(address).await?;
        let request = "GET /xrpc/com.atproto.sync.listHosts?limit=100 HTTP/1.0\r\n\r\n";
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        ensure!(answer.split(' ').nth(1) == Some("200"), "listHosts: {answer}");
        latencies.push(began.elapsed());
        tokio::time::sleep(BETWEEN_ANSWERS).await;
    }
    Ok(latencies)
}

/// An address of its own for each host, in 127.0.0.0/8: the guard counts connections by address.
fn address(number: usize) -> anyhow::Result<Ipv4Addr> {
    let number = u32::try_from(number).context("number of hosts")?;
    Ok(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number))
}

/// Allows this process and its children so many connections and some; how many files it is.
fn raise_open_files(count: usize) -> anyhow::Result<u64> {
    let wanted = u64::try_from(count)? + FILES_BESIDE;
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = maximum.map(|maximum| maximum.max(wanted));
    // Beyond the maximum only root may go.
    for limit in [raised, maximum] {
        if setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).is_ok() {
            break;
        }
    }
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// The aim, and as many as there may be.
const COUNTS: [usize; 2] = [3_000, 20_000];
const ZONE: &str = "hosts.test";
/// Beside the connections: the store's files, and what the rest of the process opens.
const FILES_BESIDE: u64 = 4_000;
/// A name is some 20 bytes long, and an argument at most 128 KiB.
const NAMES_PER_FLAG: usize = 2_000;
const SETTLE: Duration = Duration::from_secs(3);
const QUIET: Duration = Duration::from_secs(65);
const BETWEEN_ANSWERS: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(200);
/// Without one more host that streams.
const PATIENCE: Duration = Duration::from_secs(20);
