//! What it costs to fill the store from a PLC export: a relay as a child process, so that its CPU
//! time is its own, and a directory that answers at once. Prints a table.
//!
//! Arguments: the number of operations (default 300,000).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use loadtest::export;
use loadtest::plc::Plc;
use loadtest::report::{Report, count_f64};
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::{Curve, SigningKey};
use relay::process;
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let operations = match std::env::args().nth(1) {
        Some(text) => text.parse().context("read the number of operations")?,
        None => OPERATIONS,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let plc = runtime.block_on(Plc::start())?;
    log(&plc, operations)?;
    let folder = tempfile::tempdir()?;
    let report = measure(&plc, folder.path(), operations)?;
    std::io::stdout().write_all(report.table().as_bytes()).context("print")
}

/// Two in three operations make a DID, the others change one.
fn log(plc: &Plc, operations: usize) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let start = Micros::default().plus(now - Duration::from_secs(24 * 3600));
    plc.export().set_numbered();
    let keys: Vec<String> = (1..=200u8)
        .map(|number| {
            let curve = if number % 10 == 0 { Curve::P256 } else { Curve::K256 };
            let key = SigningKey::from_secret(curve, &[number; 32]).context("make a key")?;
            Ok(key.public_key().to_multikey())
        })
        .collect::<anyhow::Result<_>>()?;
    for number in 0..operations {
        let id = if number % 3 == 2 { number / 2 } else { number };
        let spread = u64::try_from(id)?.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bytes = vec![1];
        bytes.extend_from_slice(&spread.to_be_bytes());
        bytes.extend_from_slice(&spread.rotate_left(17).to_be_bytes()[..7]);
        let did = Did::from_key(&bytes).context("make a DID")?;
        let document = json!({
            "alsoKnownAs": [format!("at://user{number}.example.com")],
            "verificationMethod": [{ "publicKeyMultibase": keys[number % keys.len()] }],
            "service": [{ "serviceEndpoint": format!("https://pds{}.example.com", number % 300) }],
        });
        let created = start.plus(Duration::from_millis(u64::try_from(number)?));
        plc.export().log(&did, export::operation(&document), created);
    }
    Ok(())
}

fn measure(plc: &Plc, folder: &Path, operations: usize) -> anyhow::Result<Report> {
    let relay = Relay::start(folder, plc)?;
    let began = Instant::now();
    let cpu = process::usage(Some(relay.child.id())).context("read its CPU time")?.cpu;
    let mut read = 0.0;
    while read < count_f64(operations) {
        ensure!(began.elapsed() < PATIENCE, "{read} operations read in time");
        std::thread::park_timeout(Duration::from_millis(20));
        read = relay.metric("mainstem_relay_plc_export_operations_total{kind=\"valid\"}")?;
    }
    let wall = began.elapsed();
    let usage = process::usage(Some(relay.child.id())).context("read its CPU time")?;
    drop(relay);
    let mut report = Report::new(format!("PLC export: {operations} operations"));
    let rows = count_f64(operations);
    report.add("operations", rows / wall.as_secs_f64(), "1/s");
    report.add("CPU per operation", (usage.cpu - cpu).as_secs_f64() * 1e6 / rows, "us");
    report.add("resident memory", count_f64(usize::try_from(usage.resident_bytes >> 20)?), "MiB");
    report.add("disk per operation", bytes_in(folder)? / rows, "bytes");
    Ok(report)
}

fn bytes_in(folder: &Path) -> anyhow::Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(folder)? {
        let data = entry?.metadata()?;
        bytes += count_f64(usize::try_from(data.len())?);
    }
    Ok(bytes)
}

struct Relay {
    child: Child,
    metrics: String,
}

impl Relay {
    fn start(folder: &Path, plc: &Plc) -> anyhow::Result<Self> {
        let bench = std::env::current_exe().context("find this program")?;
        let binary = bench.parent().and_then(Path::parent).context("find the binary")?;
        let mut child = Command::new(binary.join("mainstem"))
            .args(["serve", "--log-format", "json", "--allow-insecure-hosts"])
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .args(["--plc-url", &plc.url(), "--plc-export", &plc.url()])
            .args(["--plc-export-from", "beginning", "--plc-export-interval", "0s"])
            .arg("--data-dir")
            .arg(folder)
            .stderr(Stdio::piped())
            .spawn()
            .context("start mainstem")?;
        let mut lines = BufReader::new(child.stderr.take().context("take its log")?).lines();
        let mut relay = Self { child, metrics: String::new() };
        let ready = lines.by_ref().map_while(Result::ok).find(|line| line.contains("\"ready\""));
        let ready: serde_json::Value = serde_json::from_str(&ready.context("wait for it")?)?;
        let url = ready["metrics"].as_str().context("find the address of its metrics")?;
        url.split('/').nth(2).context("read that address")?.clone_into(&mut relay.metrics);
        std::thread::spawn(move || lines.for_each(drop));
        Ok(relay)
    }

    fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let mut socket = TcpStream::connect(&self.metrics)?;
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let line = answer.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.map_or(Ok(0.0), |value| value.trim().parse())?)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Ended already, perhaps.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const OPERATIONS: usize = 300_000;
const PATIENCE: Duration = Duration::from_secs(600);
