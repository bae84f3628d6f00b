//! Follows a PLC directory's export: who every account is, before it is asked for.
//!
//! One request at a time, at a pace that the public directory allows. What a page brings goes to
//! the shards, through them into the store, and only then is the place in the export remembered: a
//! crash in between reads a page twice, and reading one twice changes nothing.

mod metrics;
mod reader;

use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use protocol::fetch::{Fetch, FetchError, Get, Longer};
use protocol::host::HostRules;
use protocol::ids::Micros;
use storage::{Entry, ExportRow};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use verifier::identity::Coverage;
use verifier::{Clock, Command};

use crate::headroom::Headroom;

pub use self::metrics::Metrics;
pub use self::reader::{Page, Position, Reader};

/// Where the export is read for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What is there is left to single look-ups.
    Now,
    /// Every account there is.
    Beginning,
}

/// What following takes.
pub struct Options {
    /// The address of the export.
    pub url: String,
    /// Where to begin, if it was not read before.
    pub from: From,
    /// From one request to the next, while there is more to be read.
    pub interval: Duration,
    /// Which names are hosts.
    pub rules: HostRules,
    /// Asks.
    pub fetch: Fetch,
    /// The time.
    pub clock: Clock,
    /// Whom identities are told to.
    pub verifier: verifier::Handle,
    /// Where the place is kept.
    pub storage: storage::Handle,
    /// Whether the disk has room: if not, it waits.
    pub headroom: Headroom,
    /// What is shown of how far it is.
    pub coverage: Arc<Coverage>,
}

/// Starts following. It may be aborted at any time: what was read and not noted is read again.
pub fn start(options: Options) -> JoinHandle<()> {
    tokio::spawn(Follower { options, metrics: Metrics::register() }.run())
}

struct Follower {
    options: Options,
    metrics: Metrics,
}

/// Why there is no page.
enum Failure {
    /// The directory's status, and how long it wants to be left alone.
    Status(u16, Option<Duration>),
    Fetch(FetchError),
}

impl Follower {
    async fn run(self) {
        let Some(mut reader) = self.reader().await else { return };
        let mut failures = 0;
        let mut headroom = self.options.headroom.clone();
        loop {
            headroom.released().await;
            let began = Instant::now();
            let asked = (self.options.clock)();
            let wait = match self.page(&reader.query()).await {
                Ok(body) => {
                    failures = 0;
                    let read = tokio::task::spawn_blocking(move || {
                        let page = reader.page(&body, asked);
                        (reader, page)
                    });
                    let Ok((read, page)) = read.await else { return };
                    reader = read;
                    let more = page.more;
                    if !self.deliver(page, &reader, asked).await {
                        return;
                    }
                    let interval = self.options.interval;
                    if more { interval } else { interval.max(POLL_INTERVAL) }
                }
                Err(failure) => {
                    failures += 1;
                    self.failed(&failure, failures)
                }
            };
            sleep_until(began + wait).await;
        }
    }

    /// Where it goes on. `None`: the store has failed, and the process ends for that.
    async fn reader(&self) -> Option<Reader> {
        let Options { url, from, rules, storage, .. } = &self.options;
        let (rules, storage) = (*rules, storage.clone());
        let row = tokio::task::spawn_blocking(move || storage.export()).await.ok()?.ok()?;
        let is_usable = |row: &ExportRow| {
            let has_beginning = row.since == Micros(0) || *from == From::Now;
            row.url == *url && has_beginning
        };
        let reader = match row.filter(is_usable) {
            Some(row) => {
                self.show(&row);
                Reader::resume(rules, &row)
            }
            None if *from == From::Beginning => Reader::from_beginning(rules),
            None => Reader::from_time(rules, (self.options.clock)()),
        };
        tracing::info!(%url, query = %reader.query(), "following the PLC export");
        Some(reader)
    }

    async fn page(&self, query: &str) -> Result<bytes::Bytes, Failure> {
        let get = Get {
            url: format!("{}?{query}", self.options.url),
            timeout: PAGE_TIMEOUT,
            body_bytes_max: PAGE_BYTES_MAX,
            longer: Longer::Refused,
            redirects_max: REDIRECTS_MAX,
        };
        let answer = self.options.fetch.get(get).await.map_err(Failure::Fetch)?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(Failure::Status(status, answer.retry_after)),
        }
    }

    /// Hands a page on. False if nothing can be handed on any more.
    async fn deliver(&self, mut page: Page, reader: &Reader, asked: Micros) -> bool {
        let row = reader.row(&self.options.url);
        let news = page.operations > 0;
        let identities = mem::take(&mut page.identities);
        if self.options.verifier.command(Command::Learn(identities)).await.is_err() {
            return false;
        }
        // Only now: a place that is remembered stands for identities that are stored.
        if news || !page.more {
            let (storage, entry) = (self.options.storage.clone(), row.clone());
            let entry = Entry { export: Some(entry), ..Entry::default() };
            let submitted = tokio::task::spawn_blocking(move || storage.submit(vec![entry])).await;
            if submitted.is_err() {
                return false;
            }
        }
        self.show(&row);
        // What is counted is known.
        self.metrics.lag(asked.since(row.until));
        self.metrics.page(&page);
        true
    }

    fn show(&self, row: &ExportRow) {
        self.options.coverage.show(row.since, row.until);
    }

    /// How long to leave the directory alone.
    fn failed(&self, failure: &Failure, failures: u32) -> Duration {
        let doubled = RETRY_MIN * 2u32.saturating_pow(failures.min(16) - 1);
        let wait = doubled.min(RETRY_MAX);
        // Any spread does: relays that failed together must not come back together.
        let part = RandomState::new().hash_one(failures) % 1_000;
        let wait = wait / 2 + wait / 2 * u32::try_from(part).expect("below 1,000") / 1_000;
        match failure {
            Failure::Status(status, retry_after) => {
                self.metrics.refused();
                tracing::warn!(status, "the PLC export was refused");
                wait.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
            }
            Failure::Fetch(error) => {
                self.metrics.unreachable();
                tracing::warn!(%error, "the PLC export was not read");
                wait
            }
        }
    }
}

/// At the end of the export: how late a change is known at most, beside what the directory takes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// A thousand operations are one megabyte.
const PAGE_BYTES_MAX: usize = 16 << 20;
const REDIRECTS_MAX: u8 = 3;
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// A directory that asks for more has a mistake in its header.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
