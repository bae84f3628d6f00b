//! The demo's figures at one moment: from the metrics, the store and the consumer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loadtest::report::Spread;
use metrics_exporter_prometheus::PrometheusHandle;

use super::consumer::View;
use crate::pipeline;
use crate::process;

/// What a moment looks like.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Since the first event was sent.
    pub(super) elapsed: Duration,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) passed: u64,
    pub(super) delivered: u64,
    /// The newest seq that the consumer saw.
    pub(super) head: u64,
    /// Events a second, of the last seconds, the newest last.
    pub(super) rates: VecDeque<Rate>,
    /// Host to consumer, in ms, of the newest events.
    pub(super) latency: Spread,
    /// Of one core, in the last second.
    pub(super) cpu_percent: f64,
    pub(super) resident_mib: u64,
    pub(super) hosts: Vec<HostFigures>,
    /// Those that happened.
    pub(super) drops: BTreeMap<String, u64>,
}

/// Events of one second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    pub(super) received: u64,
    pub(super) delivered: u64,
}

/// One host.
#[derive(Clone, Debug)]
pub(super) struct HostFigures {
    pub(super) name: String,
    pub(super) status: &'static str,
    /// The end of what is settled of it.
    pub(super) cursor: u64,
    pub(super) accounts: u64,
    pub(super) rejects: u64,
}

/// Takes the figures.
pub(super) struct Sampler {
    recorder: PrometheusHandle,
    storage: storage::Handle,
    view: View,
    sent: Arc<AtomicU64>,
    start: Instant,
    /// The figures and the process's CPU time when the last whole second began.
    second: (Instant, Duration, Rate),
    last: Figures,
}

impl Sampler {
    pub(super) fn new(
        recorder: PrometheusHandle,
        storage: storage::Handle,
        view: View,
        sent: Arc<AtomicU64>,
    ) -> Self {
        let now = Instant::now();
        let second = (now, cpu_time(), Rate::default());
        Self { recorder, storage, view, sent, start: now, second, last: Figures::default() }
    }

    /// The figures now. Rates and CPU change once a second.
    pub(super) fn take(&mut self) -> &Figures {
        let text = self.recorder.render();
        let figures = &mut self.last;
        figures.elapsed = self.start.elapsed();
        figures.sent = self.sent.load(Ordering::Relaxed);
        figures.received = total(&text, "mainstem_crawler_frames_total");
        figures.passed = total(&text, "mainstem_verifier_passed_total");
        figures.drops = drops(&text);
        figures.latency = self.view.recent_latency();
        {
            let seen = self.view.seen();
            figures.delivered = seen.witness.frames();
            figures.head = seen.witness.seq().unwrap_or(0);
        }
        figures.resident_mib = process::usage(None).map_or(0, |usage| usage.resident_bytes >> 20);
        let hosts = self.storage.hosts(None, HOSTS_SHOWN_MAX);
        figures.hosts = hosts.iter().map(HostFigures::of).collect();
        self.count_second();
        &self.last
    }

    fn count_second(&mut self) {
        let (began, cpu_before, before) = self.second;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if millis < 1_000 {
            return;
        }
        let (figures, cpu) = (&mut self.last, cpu_time());
        let count = Rate { received: figures.received, delivered: figures.delivered };
        let per_second = |is: u64, was: u64| is.saturating_sub(was).saturating_mul(1_000) / millis;
        figures.rates.push_back(Rate {
            received: per_second(count.received, before.received),
            delivered: per_second(count.delivered, before.delivered),
        });
        if figures.rates.len() > RATES_MAX {
            figures.rates.pop_front();
        }
        let spent = cpu.saturating_sub(cpu_before).as_secs_f64();
        figures.cpu_percent = spent * 100_000.0 / millis as f64;
        self.second = (Instant::now(), cpu, count);
    }
}

impl Figures {
    /// How many events were dropped, whatever the reason.
    pub(super) fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// All of it in one line, where there is no screen.
    pub(super) fn line(&self) -> String {
        format!(
            "{:>4} s  sent {:>7}  received {:>7}  passed {:>7}  dropped {:>3}  \
             delivered {:>7}  p50 {:>3.0} ms  p99 {:>3.0} ms  cpu {:>3.0} %  {} MiB  head {}",
            self.elapsed.as_secs(),
            self.sent,
            self.received,
            self.passed,
            self.dropped(),
            self.delivered,
            self.latency.p50,
            self.latency.p99,
            self.cpu_percent,
            self.resident_mib,
            self.head,
        )
    }
}

impl HostFigures {
    fn of(host: &storage::Host) -> Self {
        Self {
            name: host.name.as_str().to_owned(),
            status: pipeline::status(host),
            cursor: host.cursor.get(),
            accounts: host.accounts,
            rejects: host.rejects,
        }
    }
}

fn cpu_time() -> Duration {
    process::usage(None).map_or(Duration::ZERO, |usage| usage.cpu)
}

fn drops(text: &str) -> BTreeMap<String, u64> {
    let reasons = samples(text, "mainstem_verifier_dropped_total")
        .chain(samples(text, "mainstem_crawler_drops_total"));
    let mut drops = BTreeMap::new();
    for (labels, count) in reasons.filter(|(_, count)| *count > 0) {
        let reason = labels.split('"').nth(1).unwrap_or(labels).to_owned();
        *drops.entry(reason).or_default() += count;
    }
    drops
}

/// The samples of a counter in Prometheus's text format: labels and value.
fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let own = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.parse().ok()?)).filter(|_| own)
    })
}

fn total(text: &str, name: &str) -> u64 {
    samples(text, name).map(|(_, value)| value).sum()
}

/// Seconds whose rates are kept.
const RATES_MAX: usize = 60;
/// The demo has 500 hosts at most; a screen has room for some of them.
const HOSTS_SHOWN_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_told_by_reason_over_all_stages() {
        let text = "mainstem_verifier_dropped_total{reason=\"wrong_host\"} 2\n\
            mainstem_verifier_dropped_total{reason=\"rev_syntax\"} 0\n\
            mainstem_crawler_drops_total{reason=\"seq_stale\"} 3\n\
            mainstem_crawler_drops_total_of_another_name{reason=\"x\"} 9\n";
        let expected = [("seq_stale".to_owned(), 3), ("wrong_host".to_owned(), 2)];
        assert_eq!(drops(text), BTreeMap::from(expected));
        assert_eq!(total("a_total 7\na_total_b 8\n", "a_total"), 7);
    }
}
