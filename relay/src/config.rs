//! Settings: command line flags, each also an environment variable. Nothing else reads either.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::bail;
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use protocol::host::{HostName, HostRules};
use verifier::Lenience;

use crate::fault::Fault;
use crate::plc_export;

/// Settings of `mainstem serve`, in the order of the data's way.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Folder with everything the relay keeps.
    #[arg(long, env = "MAINSTEM_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// Address of the public API and the firehose.
    #[arg(long, env = "MAINSTEM_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:2470")]
    pub listen: SocketAddr,

    /// Address of the Prometheus metrics.
    #[arg(
        long,
        env = "MAINSTEM_METRICS_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:2471"
    )]
    pub metrics_listen: SocketAddr,

    /// Address of the admin API; opened only with --admin-token-file.
    #[arg(
        long,
        env = "MAINSTEM_ADMIN_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:2472"
    )]
    pub admin_listen: SocketAddr,

    /// File that holds the admin API's bearer token (at least 16 characters).
    #[arg(long, env = "MAINSTEM_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// PLC directory; the next one is asked when one fails.
    #[arg(
        long = "plc-url",
        env = "MAINSTEM_PLC_URL",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "https://plc.directory",
        value_parser = parse_http_url
    )]
    pub plc_urls: Vec<String>,

    /// Requests a second to one PLC directory, on average.
    #[arg(
        long,
        env = "MAINSTEM_PLC_RATE",
        value_name = "REQUESTS_PER_S",
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub plc_rate: u32,

    /// Requests under way to one PLC directory.
    #[arg(
        long,
        env = "MAINSTEM_PLC_CONCURRENCY",
        value_name = "N",
        default_value_t = 128,
        value_parser = clap::value_parser!(u32).range(1..=1_024)
    )]
    pub plc_concurrency: u32,

    /// Export of a PLC directory to follow, so that accounts need not be looked up one by one; of
    /// a directory's address its /export.
    #[arg(
        long,
        env = "MAINSTEM_PLC_EXPORT",
        value_name = "URL",
        value_parser = parse_export_url
    )]
    pub plc_export: Option<String>,

    /// Where the export is read for the first time; after that it goes on where it was.
    #[arg(long, env = "MAINSTEM_PLC_EXPORT_FROM", value_enum, default_value_t = ExportFrom::Now)]
    pub plc_export_from: ExportFrom,

    /// Time from one page of the export to the next: the public directory allows 500 in 5 minutes.
    #[arg(
        long,
        env = "MAINSTEM_PLC_EXPORT_INTERVAL",
        value_name = "DURATION",
        default_value = "800ms",
        value_parser = parse_duration
    )]
    pub plc_export_interval: Duration,

    /// Also allow http, ports, localhost and private addresses: development networks only.
    #[arg(
        long,
        env = "MAINSTEM_ALLOW_INSECURE_HOSTS",
        value_parser = BoolishValueParser::new()
    )]
    pub allow_insecure_hosts: bool,

    /// Name server to ask instead of the system's; on port 53 if it names none.
    #[arg(
        long = "dns-server",
        env = "MAINSTEM_DNS_SERVER",
        value_name = "IP[:PORT]",
        value_delimiter = ',',
        value_parser = parse_dns_server
    )]
    pub dns_servers: Vec<SocketAddr>,

    /// Further certificate authorities that hosts may be signed by.
    #[arg(long, env = "MAINSTEM_CA_FILE", value_name = "PEM")]
    pub ca_file: Option<PathBuf>,

    /// Host to subscribe to from the start; others come by requestCrawl.
    #[arg(long = "host", env = "MAINSTEM_HOST", value_name = "NAME_OR_URL", value_delimiter = ',')]
    pub hosts: Vec<String>,

    /// Start --host hosts that are not yet known from their oldest event instead of live.
    #[arg(long, env = "MAINSTEM_BACKFILL", value_parser = BoolishValueParser::new())]
    pub backfill: bool,

    /// Host that owes every commit's whole proof (Sync 1.1) from its first event on.
    #[arg(
        long = "strict-host",
        env = "MAINSTEM_STRICT_HOST",
        value_name = "NAME_OR_URL",
        value_delimiter = ','
    )]
    pub strict_hosts: Vec<String>,

    /// Host whose commits may always lack `prevData`, `prev` and nodes of their proof.
    #[arg(
        long = "lenient-host",
        env = "MAINSTEM_LENIENT_HOST",
        value_name = "NAME_OR_URL",
        value_delimiter = ','
    )]
    pub lenient_hosts: Vec<String>,

    /// Live accounts that one host may have; new ones beyond it are throttled.
    #[arg(
        long,
        env = "MAINSTEM_ACCOUNTS_PER_HOST_MAX",
        value_name = "N",
        default_value_t = 5_000_000,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub accounts_per_host_max: u64,

    /// How long events are kept for replay.
    #[arg(
        long,
        env = "MAINSTEM_RETENTION",
        value_name = "DURATION",
        default_value = "72h",
        value_parser = parse_retention
    )]
    pub retention: Duration,

    /// When a commit counts as done: synced to the disk, or handed to the operating system.
    #[arg(long, env = "MAINSTEM_DURABILITY", value_enum, default_value_t = Durability::Fsync)]
    pub durability: Durability,

    /// Events that arrive within this time of the last commit share the next one.
    #[arg(
        long,
        env = "MAINSTEM_COMMIT_INTERVAL",
        value_name = "DURATION",
        default_value = "3ms",
        value_parser = parse_commit_interval
    )]
    pub commit_interval: Duration,

    /// What becomes of the handle in an #identity: sent on if it is the account's, as the host
    /// says, or left out.
    #[arg(long, env = "MAINSTEM_HANDLES", value_enum, default_value_t = Handles::Verify)]
    pub handles: Handles,

    /// Threads that verify [default: the number of cores].
    #[arg(
        long,
        env = "MAINSTEM_VERIFIER_THREADS",
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub verifier_threads: Option<u16>,

    /// Received bytes that are not yet settled, all hosts together.
    #[arg(
        long,
        env = "MAINSTEM_INTAKE_BYTES",
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = parse_intake_bytes
    )]
    pub intake_bytes: ByteSize,

    /// DID documents kept in memory.
    #[arg(
        long,
        env = "MAINSTEM_IDENTITY_CACHE_BYTES",
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = parse_identity_cache_bytes
    )]
    pub identity_cache_bytes: ByteSize,

    /// Newest events kept in memory for consumers that are up to date.
    #[arg(
        long,
        env = "MAINSTEM_TAIL_BYTES",
        value_name = "SIZE",
        default_value = "32MiB",
        value_parser = parse_tail_bytes
    )]
    pub tail_bytes: ByteSize,

    /// Where people can reach you; sent with every request that the relay makes.
    #[arg(long, env = "MAINSTEM_CONTACT", value_name = "URL", value_parser = parse_contact)]
    pub contact: Option<String>,

    /// Form of the log on standard error.
    #[arg(long, env = "MAINSTEM_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Start although the stored head is far ahead of this machine's clock or the other way
    /// round; see docs/operations.md, "The clock".
    #[arg(long, env = "MAINSTEM_ACCEPT_CLOCK", value_parser = BoolishValueParser::new())]
    pub accept_clock: bool,

    /// Fault to provoke, for tests.
    #[arg(
        long = "fault",
        env = "MAINSTEM_FAULT",
        value_name = "NAME=VALUE",
        value_delimiter = ',',
        hide = true
    )]
    pub faults: Vec<Fault>,
}

/// Settings of `mainstem demo`.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Simulated hosts.
    #[arg(
        long,
        env = "MAINSTEM_HOSTS",
        value_name = "N",
        default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(1..=500)
    )]
    pub hosts: u16,

    /// Events a second, all hosts together.
    #[arg(
        long,
        env = "MAINSTEM_RATE",
        value_name = "EVENTS_PER_S",
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=20_000)
    )]
    pub rate: u32,

    /// How long to run.
    #[arg(
        long,
        env = "MAINSTEM_SECONDS",
        value_name = "S",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub seconds: u32,
}

/// Settings of `mainstem check-frame`.
#[derive(Clone, Debug, Args)]
pub struct CheckFrame {
    /// A frame as its host sent it, such as one of DATA_DIR/panics.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Settings of `mainstem tail`.
#[derive(Clone, Debug, Args)]
pub struct Tail {
    /// A relay or host: `ws://`, `wss://`, `http://`, `https://` or a bare name.
    #[arg(value_name = "URL")]
    pub url: String,

    /// Start after this seq; 0 is the oldest kept. Without it: live.
    #[arg(long, env = "MAINSTEM_CURSOR", value_name = "N")]
    pub cursor: Option<u64>,

    /// Stop after so many events.
    #[arg(
        long,
        env = "MAINSTEM_LIMIT",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub limit: Option<u64>,
}

/// `--durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Nothing that a consumer saw is lost by a power cut.
    Fsync,
    /// Nothing that a consumer saw is lost by a crash of the process.
    Os,
}

/// `--handles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Handles {
    /// If it resolves to the account, and the account's document names it first.
    Verify,
    /// As the host said.
    Pass,
    /// Left out.
    Strip,
}

/// `--plc-export-from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFrom {
    /// Changes only; who is there is looked up one by one.
    Now,
    /// Every account there is: 43 million take most of a day.
    Beginning,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A number of bytes, written with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct ByteSize(pub u64);

impl Serve {
    /// Which hosts may be dialled.
    pub fn rules(&self) -> HostRules {
        if self.allow_insecure_hosts { HostRules::Insecure } else { HostRules::Public }
    }

    /// The listed hosts by name: they depend on another flag, so they are parsed at last.
    pub fn host_names(&self) -> anyhow::Result<Vec<HostName>> {
        self.names("--host", &self.hosts)
    }

    /// Hosts that the operator has decided on: what each may leave out of a proof.
    pub fn lenience(&self) -> anyhow::Result<HashMap<HostName, Lenience>> {
        let strict = self.names("--strict-host", &self.strict_hosts)?;
        let lenient = self.names("--lenient-host", &self.lenient_hosts)?;
        let mut decided: HashMap<HostName, Lenience> =
            strict.into_iter().map(|name| (name, Lenience::Strict)).collect();
        for name in lenient {
            if decided.get(&name) == Some(&Lenience::Strict) {
                bail!("--lenient-host '{name}': it is also a --strict-host");
            }
            decided.insert(name, Lenience::Lenient);
        }
        Ok(decided)
    }

    fn names(&self, flag: &str, texts: &[String]) -> anyhow::Result<Vec<HostName>> {
        let parse = |text: &String| {
            HostName::parse(text.trim(), self.rules()).map_err(|error| {
                let hint = match self.rules() {
                    HostRules::Public => " (private networks need --allow-insecure-hosts)",
                    HostRules::Insecure => "",
                };
                anyhow::anyhow!("{flag} '{text}': {error}{hint}")
            })
        };
        texts.iter().filter(|text| !text.trim().is_empty()).map(parse).collect()
    }

    /// How many threads verify.
    pub fn verifier_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.verifier_threads.map_or_else(cores, usize::from)
    }

    /// The origins that the operator named: they may be private.
    pub fn trusted_urls(&self) -> Vec<String> {
        self.plc_urls.iter().chain(&self.plc_export).cloned().collect()
    }

    /// What this relay calls itself towards hosts.
    pub fn user_agent(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        match &self.contact {
            Some(contact) => format!("mainstem/{version} (atproto-relay; +{contact})"),
            None => format!("mainstem/{version} (atproto-relay)"),
        }
    }
}

impl From<ExportFrom> for plc_export::From {
    fn from(from: ExportFrom) -> Self {
        match from {
            ExportFrom::Now => Self::Now,
            ExportFrom::Beginning => Self::Beginning,
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 =
            number.parse().map_err(|_| "not a size: write for example 64MiB".to_owned())?;
        let factor = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            unit => return Err(format!("unknown unit '{unit}': use KiB, MiB or GiB")),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| "too large".to_owned())
    }
}

fn parse_intake_bytes(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    // Two hosts' shares: one that holds all of its own must not be able to stop the others.
    at_least(size, INTAKE_BYTES_MIN, "24MiB")
}

fn parse_identity_cache_bytes(text: &str) -> Result<ByteSize, String> {
    at_least(text.parse()?, IDENTITY_CACHE_BYTES_MIN, "1MiB")
}

fn parse_tail_bytes(text: &str) -> Result<ByteSize, String> {
    at_least(text.parse()?, TAIL_BYTES_MIN, "2MiB")
}

fn at_least(size: ByteSize, min: u64, shown: &str) -> Result<ByteSize, String> {
    if size.0 < min { Err(format!("too small: at least {shown}")) } else { Ok(size) }
}

fn parse_retention(text: &str) -> Result<Duration, String> {
    let retention = parse_duration(text)?;
    if retention < RETENTION_MIN {
        return Err("too short: at least 1m".to_owned());
    }
    Ok(retention)
}

fn parse_commit_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval > COMMIT_INTERVAL_MAX {
        return Err("too long: at most 1s, or consumers wait for nothing".to_owned());
    }
    Ok(interval)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("not a duration, such as 72h or 3ms: {error}"))
}

fn parse_http_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("not an http or https URL".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn parse_export_url(text: &str) -> Result<String, String> {
    let text = parse_http_url(text)?;
    let url = url::Url::parse(&text).map_err(|error| error.to_string())?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a URL without a query: how to page is known".to_owned());
    }
    Ok(if url.path() == "/" { format!("{text}/export") } else { text })
}

fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    let on_usual_port = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let error = |_| "not an address, such as 10.0.0.53 or [fd00::53]:5353".to_owned();
    text.parse().or_else(|_| on_usual_port().map_err(error))
}

fn parse_contact(text: &str) -> Result<String, String> {
    let printable = text.chars().all(|c| c.is_ascii_graphic() && c != '(' && c != ')');
    if text.is_empty() || !printable {
        return Err("not a URL or mail address".to_owned());
    }
    Ok(text.to_owned())
}

const DNS_PORT: u16 = 53;
const INTAKE_BYTES_MIN: u64 = 24 << 20;
const IDENTITY_CACHE_BYTES_MIN: u64 = 1 << 20;
const TAIL_BYTES_MIN: u64 = 2 << 20;
const RETENTION_MIN: Duration = Duration::from_secs(60);
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn serve(arguments: &[&str]) -> Result<Serve, String> {
        let arguments = ["mainstem", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).map_err(|error| error.to_string())?.command {
            Command::Serve(serve) => Ok(*serve),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = serve(&[]).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("./data"));
        assert_eq!(config.listen.to_string(), "127.0.0.1:2470");
        assert_eq!(config.metrics_listen.to_string(), "127.0.0.1:2471");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:2472");
        assert_eq!(config.plc_urls, ["https://plc.directory"]);
        assert_eq!(config.retention, Duration::from_secs(72 * 3600));
        assert_eq!(config.commit_interval, Duration::from_millis(3));
        assert_eq!(config.intake_bytes, ByteSize(64 << 20));
        assert_eq!(config.identity_cache_bytes, ByteSize(64 << 20));
        assert_eq!(config.tail_bytes, ByteSize(32 << 20));
        assert_eq!((config.plc_rate, config.plc_concurrency), (200, 128));
        assert_eq!(config.durability, Durability::Fsync);
        assert_eq!(config.accounts_per_host_max, 5_000_000);
        assert_eq!(config.handles, Handles::Verify);
        assert_eq!(config.dns_servers, []);
        assert_eq!((config.plc_export, config.plc_export_from), (None, ExportFrom::Now));
        assert_eq!(config.plc_export_interval, Duration::from_millis(800));
        assert!(!config.allow_insecure_hosts && !config.backfill);
    }

    #[test]
    fn bad_values_are_refused_with_which_and_why() {
        let check = |arguments: &[&str], which: &str, why: &str| {
            let error = serve(arguments).unwrap_err();
            assert!(error.contains(which) && error.contains(why), "{error}");
        };
        check(&["--tail-bytes", "32MB"], "--tail-bytes", "unknown unit 'MB'");
        check(&["--tail-bytes", "1"], "--tail-bytes", "at least 2MiB");
        check(&["--identity-cache-bytes", "1"], "--identity-cache-bytes", "at least 1MiB");
        check(&["--plc-rate", "0"], "--plc-rate", "not in 1..");
        check(&["--intake-bytes", "16MiB"], "--intake-bytes", "at least 24MiB");
        check(&["--intake-bytes", "x"], "--intake-bytes", "not a size");
        check(&["--intake-bytes", "99999999999GiB"], "--intake-bytes", "too large");
        check(&["--retention", "soon"], "--retention", "not a duration, such as 72h");
        check(&["--commit-interval", "1h"], "--commit-interval", "at most 1s");
        check(&["--durability", "none"], "--durability", "fsync, os");
        check(&["--plc-url", "ftp://x"], "--plc-url", "not an http");
        check(&["--plc-export", "plc.directory"], "--plc-export", "relative URL");
        check(&["--plc-export", "https://x/export?count=5"], "--plc-export", "without a query");
        check(&["--plc-export-from", "today"], "--plc-export-from", "now, beginning");
        check(&["--dns-server", "ns.example.com"], "--dns-server", "not an address");
        check(&["--listen", "here"], "--listen", "invalid socket address");
        check(&["--verifier-threads", "0"], "--verifier-threads", "not in 1..");
        check(&["--fault", "check-panic=me"], "--fault", "DID");
        check(&["--fault", "check-panic=did:web:a.example*x"], "--fault", "number of times");
        check(&["--fault", "fire"], "--fault", "unknown fault");
        check(&["--frobnicate"], "--frobnicate", "unexpected argument");
    }

    #[test]
    fn lists_are_flags_given_again_or_commas() {
        let config = serve(&["--host", "a.example.com,b.example.com", "--host", "c.example.com"]);
        assert_eq!(config.unwrap().hosts, ["a.example.com", "b.example.com", "c.example.com"]);
    }

    #[test]
    fn a_name_server_is_on_port_53_unless_it_says_otherwise() {
        let config =
            serve(&["--dns-server", "10.0.0.53,10.0.0.54:5353", "--dns-server", "fd00::1"]);
        let servers =
            config.unwrap().dns_servers.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(servers, ["10.0.0.53:53", "10.0.0.54:5353", "[fd00::1]:53"]);
    }

    #[test]
    fn the_export_of_a_directory_is_at_its_usual_place() {
        let check = |url: &str, expected: &str| {
            let config = serve(&["--plc-export", url]).unwrap();
            assert_eq!(config.plc_export.as_deref(), Some(expected));
        };
        check("https://plc.directory", "https://plc.directory/export");
        check("https://plc.directory/", "https://plc.directory/export");
        check("https://mirror.example.com/plc/export", "https://mirror.example.com/plc/export");
    }

    #[test]
    fn private_hosts_need_the_flag() {
        let config = serve(&["--host", "localhost:2583"]).unwrap();
        let error = config.host_names().unwrap_err().to_string();
        assert!(error.contains("localhost:2583") && error.contains("--allow-insecure-hosts"));
        let config = serve(&["--host", "http://localhost:2583/", "--allow-insecure-hosts"]);
        let names = config.unwrap().host_names().unwrap();
        assert_eq!(names[0].as_str(), "localhost:2583");
    }

    #[test]
    fn a_host_is_strict_or_lenient_but_not_both() {
        let config = serve(&["--strict-host", "A.example.com,b.example.com"]).unwrap();
        let name = |text| HostName::parse(text, HostRules::Public).unwrap();
        let decided = config.lenience().unwrap();
        assert_eq!(decided.get(&name("a.example.com")), Some(&Lenience::Strict));
        assert_eq!(decided.get(&name("c.example.com")), None);
        let both = ["--strict-host", "a.example.com", "--lenient-host", "https://a.example.com/"];
        let error = serve(&both).unwrap().lenience().unwrap_err().to_string();
        assert!(error.contains("--lenient-host 'a.example.com'"), "{error}");
        let error = serve(&["--lenient-host", "localhost:1"]).unwrap().lenience().unwrap_err();
        assert!(error.to_string().starts_with("--lenient-host 'localhost:1'"), "{error}");
    }

    #[test]
    fn every_flag_is_also_an_environment_variable() {
        use clap::CommandFactory as _;
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments().filter(|argument| argument.get_id() != "help") {
            let long = argument.get_long().unwrap();
            let variable = format!("MAINSTEM_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().unwrap().to_str(), Some(variable.as_str()), "{long}");
        }
    }
}
