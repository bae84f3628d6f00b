//! Settings: command line flags, each also an environment variable. Nothing else reads either.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use protocol::host::{HostName, HostRules};
use verifier::Lenience;

use crate::api::Network;
use crate::fault::Fault;
use crate::plc_export;

mod commands;
mod host_commands;
mod quotas;
mod reconcile;
#[cfg(test)]
mod tests;
mod values;

pub use commands::{Backup, Check, CheckFrame, Demo, Tail};
pub use host_commands::{Hosts, HostsVerb, Limit, Start, Status};
pub use quotas::{EventRates, Quotas};
pub use reconcile::Reconcile;
pub use values::ByteSize;
use values::{
    parse_commit_interval, parse_consumers, parse_contact, parse_dns_server, parse_duration,
    parse_export_url, parse_http_url, parse_identity_cache_bytes, parse_intake_bytes,
    parse_retention, parse_retention_bytes, parse_tail_bytes,
};

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

    /// What hosts may.
    #[command(flatten)]
    pub quotas: Quotas,

    /// How hosts are compared with what is held of them.
    #[command(flatten)]
    pub reconcile: Reconcile,

    /// How long events are kept for replay.
    #[arg(
        long,
        env = "MAINSTEM_RETENTION",
        value_name = "DURATION",
        default_value = "72h",
        value_parser = parse_retention
    )]
    pub retention: Duration,

    /// How many bytes of events are kept, if that is less than --retention; at least 4GiB.
    #[arg(
        long,
        env = "MAINSTEM_RETENTION_BYTES",
        value_name = "SIZE",
        value_parser = parse_retention_bytes
    )]
    pub retention_bytes: Option<ByteSize>,

    /// How the log is compressed on disk; may be changed from start to start.
    #[arg(long, env = "MAINSTEM_COMPRESSION", value_enum, default_value_t = Compression::None)]
    pub compression: Compression,

    /// Room that is kept on the data folder's disk: with less, nothing more is read from hosts
    /// until there is some. 0 switches it off.
    #[arg(long, env = "MAINSTEM_DISK_HEADROOM", value_name = "SIZE", default_value = "2GiB")]
    pub disk_headroom: ByteSize,

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

    /// Consumers in all; who comes later is answered 429.
    #[arg(
        long,
        env = "MAINSTEM_CONSUMERS_MAX",
        value_name = "N",
        default_value_t = 5_000,
        value_parser = parse_consumers
    )]
    pub consumers_max: usize,

    /// Consumers of one address, or of one /64 of IPv6.
    #[arg(
        long,
        env = "MAINSTEM_CONSUMERS_PER_ADDRESS",
        value_name = "N",
        default_value_t = 2_000,
        value_parser = parse_consumers
    )]
    pub consumers_per_address: usize,

    /// Network of reverse proxies that say in X-Forwarded-For whom they speak for.
    #[arg(
        long = "trusted-proxy",
        env = "MAINSTEM_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub trusted_proxies: Vec<Network>,

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

/// `--durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Nothing that a consumer saw is lost by a power cut.
    Fsync,
    /// Nothing that a consumer saw is lost by a crash of the process.
    Os,
}

/// `--compression`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    None,
    /// A little, for little CPU.
    Lz4,
    /// Well, for more CPU.
    Zstd,
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

impl From<Compression> for storage::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
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
