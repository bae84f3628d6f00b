//! `mainstem serve` as a child process, so that its CPU time is its own.

#![allow(unreachable_pub, reason = "an example has no outside")]
#![allow(dead_code, reason = "every example uses its own part")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use loadtest::network::Network;
use protocol::ids::Micros;
use relay::process;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A running relay; killed when dropped.
pub struct Relay {
    child: Child,
    /// `ws://HOST:PORT` of the firehose.
    pub base: String,
    metrics: String,
}

impl Relay {
    /// Starts it on the hosts of a simulated network, from their oldest events.
    pub fn start(dir: &Path, network: &Network, more: &[&str]) -> anyhow::Result<Self> {
        let hosts: Vec<&str> = network.hosts.iter().map(loadtest::hosts::Host::name).collect();
        let (plc, hosts) = (network.plc.url(), hosts.join(","));
        let mut arguments = vec!["--backfill", "--plc-url", &plc, "--host", &hosts];
        // Which handles resolve in time differs from run to run.
        arguments.extend(["--handles", "pass"]);
        arguments.extend(more);
        Self::start_with(Command::new(binary()?), dir, &arguments)
    }

    /// Starts it with these arguments beside its folder and its ports. The command is the binary,
    /// or one that runs the binary.
    pub fn start_with(
        mut command: Command,
        dir: &Path,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let mut child = command
            .args(["serve", "--log-format", "json", "--allow-insecure-hosts"])
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir)
            .args(arguments)
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
        let authority = |field: &str| {
            let url = ready[field].as_str().and_then(|url| url.split('/').nth(2));
            url.map(str::to_owned).with_context(|| format!("the address of its {field}"))
        };
        let (base, metrics) = (format!("ws://{}", authority("firehose")?), authority("metrics")?);
        Ok(Self { child, base, metrics })
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time and memory so far.
    pub fn usage(&self) -> anyhow::Result<process::Usage> {
        process::usage(Some(self.child.id())).context("read the relay's CPU time")
    }

    /// One of its metrics; zero if it is not there.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        Ok(self.metrics().await?.get(name).copied().unwrap_or_default())
    }

    /// All metrics by name and labels.
    pub async fn metrics(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let exchange = async {
            let mut socket = TcpStream::connect(&self.metrics).await?;
            let request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
            socket.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(PATIENCE, exchange).await.context("read the metrics")??;
        let is_fine = answer.split(' ').nth(1) == Some("200");
        ensure!(is_fine, "metrics: {answer}");
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Ok(answer.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The newest seq in its log.
    pub async fn head(&self) -> anyhow::Result<u64> {
        let head = self.metric("mainstem_storage_head_seq").await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^53")]
        Ok(head as u64)
    }

    /// Waits until it has so many events in its log since its start.
    pub async fn has(&self, events: u64, patience: Duration) -> anyhow::Result<()> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            let mut sum = 0.0;
            for kind in ["commit", "sync", "identity", "account"] {
                let name = format!("mainstem_storage_events_total{{kind=\"{kind}\"}}");
                sum += self.metric(&name).await?;
            }
            if sum >= events as f64 {
                return Ok(());
            }
            ensure!(std::time::Instant::now() < deadline, "{sum} of {events} events in time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGTERM, and waits for its orderly end.
    pub fn terminate(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the relay ended with {status}");
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Cargo puts examples beside the binary, one folder deeper.
pub fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let binary = own.ancestors().nth(2).context("find the build folder")?.join("mainstem");
    ensure!(binary.exists(), "{} is missing: cargo build --release", binary.display());
    Ok(binary)
}

/// The wall clock.
pub fn now() -> Micros {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Micros::default().plus(wall)
}

/// When a world begins that draws so many events, a millisecond apart, before it goes on live: a
/// revision says when its commit was made, which must not lie ahead of the clock.
pub fn start_before(events: usize) -> Micros {
    let drawing = Duration::from_millis(u64::try_from(events).unwrap_or(u64::MAX)) + SETTING_UP;
    Micros(now().0.saturating_sub(u64::try_from(drawing.as_micros()).unwrap_or(u64::MAX)))
}

/// Writes to standard output.
pub fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    std::io::stdout().lock().write_all(text.as_bytes()).context("print")
}

/// The world's accounts and their records are made at times of their own, at its beginning.
const SETTING_UP: Duration = Duration::from_secs(3_600);
/// For a look at the metrics.
const PATIENCE: Duration = Duration::from_secs(60);
/// For whoever does not want to wait for a directory's limits.
pub const NO_PLC_LIMIT: [&str; 2] = ["--plc-rate", "100000"];
