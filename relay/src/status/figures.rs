//! The relay as a whole, in figures: gathered at most every two seconds, however many ask.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::host_state::HostState;
use protocol::ids::{Micros, Seq};
use tokio::sync::watch;

use crate::api::{Reads, XrpcError};
use crate::fanout::Fanout;
use crate::pipeline::Hosts;
use crate::server::stopped;

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// Hosts by what their connection does, in the order of [`HostState::ALL`].
    pub(super) states: Vec<(HostState, u64)>,
    /// Hosts that are not dialled because an operator refuses them or their domain.
    pub(super) banned: u64,
    /// Live accounts of all hosts.
    pub(super) accounts: u64,
    /// The newest event.
    pub(super) head: Seq,
    /// The oldest cursor that is served; zero while nothing was dropped.
    pub(super) floor: Seq,
    /// Those who are connected.
    pub(super) consumers: usize,
    /// Events of the last minute, each second.
    pub(super) per_second: f64,
}

/// Gathers them.
pub(super) struct Figures {
    reads: Reads,
    log: storage::Log,
    fanout: Fanout,
    hosts: Arc<Hosts>,
    /// How many events there had been, at moments of the last minute.
    samples: Mutex<VecDeque<(Instant, u64)>>,
    gathered: tokio::sync::Mutex<Option<(Instant, Arc<Totals>)>>,
}

impl Figures {
    pub(super) fn new(reads: Reads, log: storage::Log, fanout: Fanout, hosts: Arc<Hosts>) -> Self {
        let samples = Mutex::new(VecDeque::from([(Instant::now(), log.published())]));
        Self { reads, log, fanout, hosts, samples, gathered: tokio::sync::Mutex::default() }
    }

    /// As they are now, or were a moment ago.
    pub(super) async fn totals(&self) -> Result<Arc<Totals>, XrpcError> {
        let mut gathered = self.gathered.lock().await;
        if let Some((at, totals)) = &*gathered
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(totals));
        }
        let hosts = Arc::clone(&self.hosts);
        let counting = self.reads.run(move |storage| Ok(count(storage, &hosts)));
        let mut totals = counting.await?;
        totals.head = self.log.head();
        totals.floor = self.log.floor();
        totals.consumers = self.fanout.consumers();
        totals.per_second = self.per_second(Instant::now());
        let totals = Arc::new(totals);
        *gathered = Some((Instant::now(), Arc::clone(&totals)));
        Ok(totals)
    }

    /// Remembers how many events there have been, every few seconds until `stop`.
    pub(super) async fn sample(&self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SAMPLE_EVERY) => {}
                () = stopped(&mut stop) => return,
            }
            let mut samples = self.samples();
            if samples.len() == SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back((Instant::now(), self.log.published()));
        }
    }

    fn per_second(&self, now: Instant) -> f64 {
        let oldest = self.samples().front().copied();
        oldest.map_or(0.0, |(at, count)| {
            let seconds = now.duration_since(at).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let events = self.log.published().saturating_sub(count) as f64;
            if seconds > 0.0 { events / seconds } else { 0.0 }
        })
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, u64)>> {
        // A panic elsewhere leaves the samples as they are; they are still right.
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts hosts and accounts, page by page.
fn count(storage: &storage::Handle, hosts: &Hosts) -> Totals {
    let mut states = HostState::ALL.map(|state| (state, 0));
    let (mut after, mut banned, mut accounts) = (None, 0, 0);
    loop {
        let page = storage.hosts(after, PAGE);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for host in &page {
            accounts += host.accounts;
            if hosts.is_banned(host) {
                banned += 1;
            } else if let Some((_, count)) =
                states.iter_mut().find(|(state, _)| *state == host.state)
            {
                *count += 1;
            }
        }
    }
    Totals { states: states.into(), banned, accounts, ..Totals::default() }
}

/// When the newest event was numbered, if there is one.
pub(super) fn head_time(totals: &Totals) -> Option<Micros> {
    (totals.head > Seq::ZERO).then(|| Micros(totals.head.get()))
}

const FRESH: Duration = Duration::from_secs(2);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// A minute of them.
const SAMPLES_MAX: usize = 12;
/// Rows copied at once: the store's lock is held for so many.
const PAGE: usize = 1_000;
