//! Metrics: the recorder of the whole process, and the handles of this stage.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::fanout::End;

/// Makes the process's recorder; every stage registers with it, so it comes before them.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_entries".into()), ENTRIES)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), BYTES)?
        .install_recorder()?;
    describe_gauge!("mainstem_build_info", "Always 1; the version is a label.");
    gauge!("mainstem_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// The fan-out's handles.
#[derive(Clone)]
pub struct Fanout(Arc<FanoutHandles>);

struct FanoutHandles {
    consumers: Gauge,
    replaying: Gauge,
    replays: Counter,
    lag_max: Gauge,
    writes: Counter,
    frames: Counter,
    bytes: Counter,
    closed: Vec<(End, Counter)>,
}

impl Fanout {
    /// Registers them.
    pub fn register() -> Self {
        describe_gauge!("mainstem_relay_consumers", "Consumers that are connected.");
        describe_gauge!(
            "mainstem_relay_consumer_lag_max_seconds",
            "How far the slowest consumer is behind the newest event."
        );
        describe_gauge!(
            "mainstem_relay_consumers_replaying",
            "Consumers that are served from disk."
        );
        describe_counter!(
            "mainstem_relay_replays_total",
            "Times that a consumer was further behind than memory reaches."
        );
        describe_counter!("mainstem_relay_writes_total", "Writes of events to consumers.");
        describe_counter!("mainstem_relay_frames_sent_total", "Frames sent, all consumers.");
        describe_counter!("mainstem_relay_sent_bytes_total", "Bytes sent, all consumers.");
        describe_counter!(
            "mainstem_relay_consumers_closed_total",
            "Consumers that ended, by reason."
        );
        let closed = |end: End| {
            (end, counter!("mainstem_relay_consumers_closed_total", "reason" => end.name()))
        };
        Self(Arc::new(FanoutHandles {
            consumers: gauge!("mainstem_relay_consumers"),
            replaying: gauge!("mainstem_relay_consumers_replaying"),
            replays: counter!("mainstem_relay_replays_total"),
            lag_max: gauge!("mainstem_relay_consumer_lag_max_seconds"),
            writes: counter!("mainstem_relay_writes_total"),
            frames: counter!("mainstem_relay_frames_sent_total"),
            bytes: counter!("mainstem_relay_sent_bytes_total"),
            closed: End::ALL.into_iter().map(closed).collect(),
        }))
    }

    /// How many are connected.
    pub fn consumers(&self, count: usize) {
        self.0.consumers.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    /// One of them needs the disk.
    pub fn replay_begun(&self) {
        self.0.replays.increment(1);
    }

    /// How many of them are served from disk.
    pub fn replaying(&self, count: usize) {
        self.0.replaying.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    /// How far the slowest is behind.
    pub fn lag_max(&self, lag: Duration) {
        self.0.lag_max.set(lag.as_secs_f64());
    }

    /// What one write brought to a consumer.
    pub fn sent(&self, frames: u64, bytes: usize) {
        self.0.writes.increment(1);
        self.0.frames.increment(frames);
        self.0.bytes.increment(bytes as u64);
    }

    /// A consumer ended.
    pub fn closed(&self, end: End) {
        for (reason, counter) in &self.0.closed {
            if *reason == end {
                counter.increment(1);
            }
        }
    }
}

/// What hosts may, and what comes of it.
#[derive(Clone)]
pub struct Hosts {
    throttled: Counter,
    lifted: Counter,
    accounts_over: Gauge,
    hosts_over: Gauge,
    raised: Counter,
    lowered: Counter,
    new_refused: Counter,
    aliases_refused: Counter,
    domain_bans: Gauge,
}

impl Hosts {
    /// Registers them.
    pub fn register() -> Self {
        describe_counter!(
            "mainstem_relay_quota_throttled_total",
            "Accounts throttled because a host's limit fell below what it has; those that begin \
             throttled are not counted."
        );
        describe_counter!(
            "mainstem_relay_quota_lifted_total",
            "Throttled accounts let go since they fit into their host's limit again."
        );
        describe_gauge!(
            "mainstem_relay_quota_throttled_accounts",
            "Accounts that are throttled for their host's limit."
        );
        describe_gauge!(
            "mainstem_relay_quota_throttled_hosts",
            "Hosts that have accounts throttled for their limit."
        );
        describe_counter!(
            "mainstem_relay_quota_levels_total",
            "Changes of a host's standing: up after clean days, down after an hour of abuse."
        );
        describe_counter!(
            "mainstem_relay_new_hosts_refused_total",
            "requestCrawl of unknown hosts when as many as may come within a day had come."
        );
        describe_counter!(
            "mainstem_relay_aliases_refused_total",
            "Names refused since they are another name of a known host."
        );
        describe_gauge!("mainstem_relay_domain_bans", "Domains whose hosts are refused.");
        let levels = |to: &'static str| counter!("mainstem_relay_quota_levels_total", "to" => to);
        Self {
            throttled: counter!("mainstem_relay_quota_throttled_total"),
            lifted: counter!("mainstem_relay_quota_lifted_total"),
            accounts_over: gauge!("mainstem_relay_quota_throttled_accounts"),
            hosts_over: gauge!("mainstem_relay_quota_throttled_hosts"),
            raised: levels("up"),
            lowered: levels("down"),
            new_refused: counter!("mainstem_relay_new_hosts_refused_total"),
            aliases_refused: counter!("mainstem_relay_aliases_refused_total"),
            domain_bans: gauge!("mainstem_relay_domain_bans"),
        }
    }

    /// So many accounts were throttled.
    pub fn throttled(&self, accounts: usize) {
        self.throttled.increment(accounts as u64);
    }

    /// So many accounts were let go.
    pub fn lifted(&self, accounts: usize) {
        self.lifted.increment(accounts as u64);
    }

    /// So many accounts of so many hosts are throttled.
    pub fn over_limit(&self, accounts: u64, hosts: u64) {
        self.accounts_over.set(accounts as f64);
        self.hosts_over.set(hosts as f64);
    }

    /// A host has grown.
    pub fn raised(&self) {
        self.raised.increment(1);
    }

    /// A host has fallen.
    pub fn lowered(&self) {
        self.lowered.increment(1);
    }

    /// A host came on a day on which enough had come.
    pub fn new_host_refused(&self) {
        self.new_refused.increment(1);
    }

    /// A name was refused.
    pub fn alias_refused(&self) {
        self.aliases_refused.increment(1);
    }

    /// So many domains are banned.
    pub fn domain_bans(&self, domains: usize) {
        self.domain_bans.set(domains as f64);
    }
}

/// The process's own figures, under the names that every Prometheus client uses.
pub struct Process {
    cpu_seconds: Gauge,
    resident_bytes: Gauge,
    open_files: Gauge,
}

impl Process {
    /// Registers them.
    pub fn register() -> Self {
        describe_gauge!("process_cpu_seconds_total", "CPU time, user and system.");
        describe_gauge!("process_resident_memory_bytes", "Resident memory.");
        describe_gauge!("process_open_fds", "Open file descriptors.");
        Self {
            cpu_seconds: gauge!("process_cpu_seconds_total"),
            resident_bytes: gauge!("process_resident_memory_bytes"),
            open_files: gauge!("process_open_fds"),
        }
    }

    /// Reads them anew. On a system without `/proc` they stay at zero.
    pub fn refresh(&self) {
        if let Some(usage) = crate::process::usage(None) {
            self.cpu_seconds.set(usage.cpu.as_secs_f64());
            self.resident_bytes.set(usage.resident_bytes as f64);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as f64);
        }
    }
}

const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0];
const ENTRIES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const BYTES: &[f64] = &[1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6];
