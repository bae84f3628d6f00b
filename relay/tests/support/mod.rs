//! A relay as a child process, as operators run it, and what the tests ask of it.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loadtest::consumers::{self, Received};
use loadtest::network::Network;
use protocol::ids::Micros;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// `mainstem serve` as a child process; killed when dropped.
pub struct Relay {
    child: Child,
    /// `127.0.0.1:PORT` of the public API.
    pub address: String,
    /// `127.0.0.1:PORT` of the metrics.
    pub metrics: String,
    /// `127.0.0.1:PORT` of the admin API; empty if it is not open.
    pub admin: String,
    log: mpsc::Receiver<String>,
}

impl Relay {
    /// Starts it on the hosts of a simulated network and waits until it is ready.
    pub fn start(dir: &Path, network: &Network, more: &[&str]) -> Self {
        let hosts: Vec<&str> = network.hosts.iter().map(loadtest::hosts::Host::name).collect();
        let (plc, hosts) = (network.plc.url(), hosts.join(","));
        let dns = network.dns.address();
        let mut arguments =
            vec!["--allow-insecure-hosts", "--backfill", "--plc-url", &plc, "--host", &hosts];
        arguments.extend(["--dns-server", &dns]);
        if !more.contains(&"--handles") {
            // What goes out is compared byte by byte, and a handle that was changed twice within
            // the spacing of document fetches is left out.
            arguments.extend(["--handles", "pass"]);
        }
        arguments.extend(more);
        Self::start_with(dir, &arguments)
    }

    /// Starts it with these arguments beside the data folder and the ports.
    pub fn start_with(dir: &Path, arguments: &[&str]) -> Self {
        Self::spawn(command(dir, arguments))
    }

    /// Starts this command, one of [`command`], and waits until the relay is ready.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (log_tx, log) = mpsc::sync_channel(LOG_LINES_MAX);
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| drop(log_tx.send(line)));
        });
        let (address, metrics, admin) = (String::new(), String::new(), String::new());
        let mut relay = Self { child, address, metrics, admin, log };
        let ready = relay.log_line("\"ready\"");
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let authority = |field: &str| {
            let url = ready[field].as_str()?;
            url.split('/').nth(2).map(str::to_owned)
        };
        relay.address = authority("firehose").unwrap();
        relay.metrics = authority("metrics").unwrap();
        relay.admin = authority("admin").unwrap_or_default();
        relay
    }

    /// The next line of the log that contains this.
    pub fn log_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no log line with {text}:\n{}", seen.join("\n")),
            }
        }
    }

    /// `ws://127.0.0.1:PORT`.
    pub fn base(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `kill -9`, of a relay that another takes the place of.
    pub fn kill_here(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how the process ended.
    pub fn terminate(self) -> ExitStatus {
        self.terminate_with_log().0
    }

    /// SIGTERM, how the process ended, and all of its log that nobody has read yet.
    pub fn terminate_with_log(mut self) -> (ExitStatus, Vec<String>) {
        self.ask_to_stop();
        let status = self.child.wait().unwrap();
        (status, self.log.iter().collect())
    }

    /// SIGTERM; it ends in its own time.
    pub fn ask_to_stop(&self) {
        let pid = self.child.id().to_string();
        // The shell's own: a bare Debian has no program of this name.
        let kill = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        assert!(kill.unwrap().success());
    }

    /// How it ended, once it has.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// All of the log that nobody has read yet, of a relay that has ended.
    pub fn rest_of_log(&self) -> Vec<String> {
        self.log.iter().collect()
    }

    /// Waits until it has ended by itself, and how.
    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All metrics by name and labels.
    pub async fn all_metrics(&self) -> BTreeMap<String, f64> {
        let (status, text) = get(&self.metrics, "/metrics").await;
        assert_eq!(status, 200);
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
    }

    /// Drops so far, by reason.
    pub async fn drops(&self) -> BTreeMap<String, f64> {
        let metrics = self.all_metrics().await;
        let mut drops = BTreeMap::new();
        for (name, value) in metrics {
            let stage = ["mainstem_verifier_dropped_total{", "mainstem_crawler_drops_total{"];
            if value > 0.0 && stage.iter().any(|stage| name.starts_with(stage)) {
                let reason = name.split('"').nth(1).unwrap().to_owned();
                *drops.entry(reason).or_default() += value;
            }
        }
        drops
    }

    /// One metric; zero if it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        self.all_metrics().await.get(name).copied().unwrap_or(0.0)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Ended already, most of the time.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The binary with a data folder and free ports.
pub fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstem"));
    command
        .args(["serve", "--log-format", "json", "--data-dir"])
        .arg(dir)
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0"])
        // A temporary folder may lie in memory.
        .env("MAINSTEM_DISK_HEADROOM", "64MiB")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Another command of the binary, and what it prints.
pub fn mainstem(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstem"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Messages of a stream until there are `count`, or the patience ends.
pub async fn messages(base: &str, cursor: Option<u64>, count: usize) -> Vec<Bytes> {
    let mut subscription = consumers::subscribe(base, cursor).await.unwrap();
    let mut messages = Vec::new();
    while messages.len() < count {
        let next = tokio::time::timeout(PATIENCE, subscription.next());
        match next.await.expect("a message in time").unwrap() {
            Received::Message(message) => messages.push(message),
            end => panic!("the stream ended after {} messages: {end:?}", messages.len()),
        }
    }
    messages
}

/// Status and body of a GET.
pub async fn get(address: &str, path: &str) -> (u16, String) {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n"), "").await
}

/// Status and body of a POST of JSON.
pub async fn post(address: &str, path: &str, body: &str) -> (u16, String) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    request(address, &head, body).await
}

/// Status and body of the answer to any request head without its last line.
pub async fn request(address: &str, head: &str, body: &str) -> (u16, String) {
    request_of(address, head, body).await.expect("a relay that answers")
}

/// As [`request`], of a relay that may be killed meanwhile.
pub async fn request_of(address: &str, head: &str, body: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await.ok()?;
        let request = format!("{head}Connection: close\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok()?;
        String::from_utf8(answer).ok()
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, dechunked(&answer, body)))
}

/// Status, head and body of the answer to a GET with further lines of a head.
pub async fn get_with(address: &str, path: &str, lines: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{lines}Connection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    read.expect("an answer in time").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, head.to_ascii_lowercase(), dechunked(&answer, body))
}

fn dechunked(answer: &str, body: &str) -> String {
    if !answer.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        whole.push_str(&after[..size]);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    whole
}

/// Waits until a condition holds; the safety net of a test, never its measure.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut condition: F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The wall clock.
pub fn now() -> Micros {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Micros::default().plus(wall)
}

/// A relay that says more than this at once has a problem that a test should show as a hang.
const LOG_LINES_MAX: usize = 100_000;
/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
