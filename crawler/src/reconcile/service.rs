//! The service: which hosts are due, so many passes at once, and the handle that asks for one.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::fetch::Fetch;
use protocol::ids::{HostId, Micros};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::ask::{Asker, Trouble};
use super::due::{Task, due};
use super::ledger::{Gone, Known, Ledger};
use super::metrics::Metrics;
use super::pace::{Pacing, Timing};
use super::pass::{Break, Pass, REQUESTED};
use crate::backoff::Backoff;

/// What reconciliation is made of.
pub struct Options<L> {
    /// The rest of the relay.
    pub ledger: Arc<L>,
    /// Asks hosts, through the guard.
    pub fetch: Fetch,
    /// Wall-clock time.
    pub clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    /// How long things take.
    pub timing: Timing,
}

/// Asks for passes and tells of them; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    shown: Arc<Shown>,
    task: Arc<JoinHandle<()>>,
}

/// What is under way at a host, or keeps it from being so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// A pass is under way.
    pub under_way: bool,
    /// Why the last one was broken off.
    pub trouble: String,
    /// When the next one may begin, after a trouble.
    pub rests_until: Micros,
}

struct Order {
    host: HostId,
    reason: String,
    /// Dropped when it is noted.
    _noted: oneshot::Sender<()>,
}

/// Of hosts with a pass under way, and of those with a trouble. A lock for lines only.
type Shown = Mutex<HashMap<HostId, Status>>;

/// Starts it. Must be called within a tokio runtime.
pub fn start<L: Ledger>(options: Options<L>) -> Handle {
    let (orders, received) = mpsc::channel(ORDERS_MAX);
    let shown = Arc::<Shown>::default();
    let pacing = Arc::new(Pacing::new(&options.timing));
    let service = Service {
        pacing,
        options,
        metrics: Arc::new(Metrics::register()),
        shown: Arc::clone(&shown),
        crowded: Arc::default(),
        passes: JoinSet::new(),
        running: HashMap::new(),
        resting: HashMap::new(),
        asked: HashMap::new(),
        sweep: Sweep::default(),
    };
    let task = Arc::new(tokio::spawn(service.run(received)));
    Handle { orders, shown, task }
}

/// Owned by its task.
struct Service<L> {
    options: Options<L>,
    pacing: Arc<Pacing>,
    metrics: Arc<Metrics>,
    shown: Arc<Shown>,
    crowded: Arc<AtomicBool>,
    passes: JoinSet<(HostId, Ended)>,
    /// At most [`PASSES_MAX`].
    running: HashMap<HostId, task::Id>,
    /// Hosts that had a pass, until their rest is over. Bounded by the number of hosts.
    resting: HashMap<HostId, Rest>,
    /// Passes that were asked for while one was under way, or no place free. One a host.
    asked: HashMap<HostId, String>,
    sweep: Sweep,
}

/// How a pass ended, and how long it took.
struct Ended {
    took: Duration,
    /// With the number of accounts that nothing could be learnt of.
    end: Result<u64, Break>,
}

struct Rest {
    until: Instant,
    backoff: Backoff,
}

/// One round over all hosts: how far it is, and what it has added up.
#[derive(Default)]
struct Sweep {
    after: Option<HostId>,
    hosts_owed: u64,
    accounts_owed: u64,
    listed: u64,
    known: u64,
    in_step: u64,
    oldest: Option<Micros>,
}

impl Handle {
    /// Asks for a pass over the host's whole listing. When it returns, a restart does not forget
    /// it; unless a pass was under way: after a restart that one goes on, and is the only one.
    pub async fn request(&self, host: HostId, reason: String) -> Result<(), Gone> {
        let (noted, waiting) = oneshot::channel();
        let order = Order { host, reason, _noted: noted };
        self.orders.send(order).await.map_err(|_| Gone)?;
        // It is never sent to: its end is the message.
        drop(waiting.await);
        Ok(())
    }

    /// What is under way; `None`: nothing, and nothing is in the way.
    pub fn status(&self, host: HostId) -> Option<Status> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).get(&host).cloned()
    }

    /// Ends all passes where they are: they go on after the next start.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl<L: Ledger> Service<L> {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut ticks = interval(self.options.timing.look);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                Some(ended) = self.passes.join_next_with_id() => {
                    self.ended(ended);
                    Ok(())
                }
                order = orders.recv() => match order {
                    Some(order) => self.order(order).await,
                    // Nobody could ask for anything any more.
                    None => return,
                },
                _tick = ticks.tick() => self.look().await,
            };
            if done.is_err() {
                // The process ends for that.
                return;
            }
        }
    }

    /// Notes what is asked for; it begins with the next look, or when there is a place.
    async fn order(&mut self, order: Order) -> Result<(), Gone> {
        let Order { host, reason, _noted } = order;
        let reason = format!("{REQUESTED}{reason}");
        self.resting.remove(&host);
        if !self.running.contains_key(&host)
            && let Some(known) = self.options.ledger.host(host).await?
        {
            let row = Pass::<L>::begin(known.row, reason.clone(), (self.options.clock)());
            if self.options.ledger.keep(host, row).await.is_err() {
                // It was removed just now; and if everything has stopped, the next look says so.
                return Ok(());
            }
        }
        self.asked.insert(host, reason);
        Ok(())
    }

    /// Begins what was asked for, then a step of the round over all hosts.
    async fn look(&mut self) -> Result<(), Gone> {
        self.crowded.store(false, Ordering::Relaxed);
        let asked: Vec<HostId> =
            self.asked.keys().filter(|host| !self.running.contains_key(host)).copied().collect();
        for host in asked {
            if self.running.len() >= PASSES_MAX {
                self.crowded.store(true, Ordering::Relaxed);
                break;
            }
            let reason = self.asked.remove(&host).unwrap_or_default();
            let Some(known) = self.options.ledger.host(host).await? else { continue };
            if known.is_followed {
                self.begin(known, Task::Whole { reason });
            }
        }
        self.resting.retain(|_, rest| rest.until > Instant::now() || rest.backoff.failures() > 0);
        let page = self.options.ledger.hosts(self.sweep.after, SWEEP_STEP).await?;
        let now = (self.options.clock)();
        self.sweep.after = page.last().map(|known| known.id);
        let is_last = page.len() < SWEEP_STEP;
        for known in page {
            self.sweep.add(&known);
            if self.is_free(known.id)
                && let Some(stream) = self.options.ledger.stream(known.id)
                && let Some(task) = due(&known, &stream, now, &self.options.timing)
            {
                self.begin(known, task);
            }
        }
        if is_last {
            std::mem::take(&mut self.sweep).show(&self.metrics, now);
        }
        Ok(())
    }

    /// Whether a pass over the host may begin: it rests from none.
    fn is_free(&self, host: HostId) -> bool {
        let rests = self.resting.get(&host).is_some_and(|rest| rest.until > Instant::now());
        !rests && !self.running.contains_key(&host)
    }

    fn begin(&mut self, known: Known, task: Task) {
        if self.running.len() >= PASSES_MAX {
            self.crowded.store(true, Ordering::Relaxed);
            return;
        }
        let Options { ledger, fetch, clock, timing } = &self.options;
        let (pacing, metrics) = (Arc::clone(&self.pacing), Arc::clone(&self.metrics));
        let crowded = Arc::clone(&self.crowded);
        let asker = Asker::new(fetch.clone(), &known.name, pacing, timing, metrics, crowded);
        let row = known.row.clone();
        let row = match &task {
            Task::Whole { reason } => Pass::<L>::begin(row, reason.clone(), clock()),
            Task::Resume | Task::Single => row.unwrap_or_default(),
        };
        tracing::debug!(host = %known.name, ?task, "reconciliation begins");
        let mut pass = Pass {
            ledger: Arc::clone(ledger),
            clock: Arc::clone(clock),
            timing: *timing,
            metrics: Arc::clone(&self.metrics),
            asker,
            host: known.id,
            crowded: Arc::clone(&self.crowded),
            row,
            started: Instant::now(),
            failed: 0,
        };
        let host = known.id;
        let handle = self.passes.spawn(async move {
            let done = match task {
                Task::Whole { .. } | Task::Resume => pass.whole(&known).await,
                Task::Single => pass.single().await,
            };
            let end = done.map(|()| pass.failed);
            (host, Ended { took: pass.started.elapsed(), end })
        });
        self.running.insert(host, handle.id());
        self.metrics.under_way.increment(1);
        self.show(host, |status| status.under_way = true);
    }

    /// A pass has ended: its host rests, and the longer the more often that fails.
    fn ended(&mut self, ended: Result<(task::Id, (HostId, Ended)), task::JoinError>) {
        let (id, told) = match ended {
            Ok((id, told)) => (id, Some(told)),
            Err(error) => {
                tracing::error!(%error, "a pass of reconciliation panicked");
                (error.id(), None)
            }
        };
        let Some(host) = self.running.iter().find(|(_, it)| **it == id).map(|(host, _)| *host)
        else {
            return;
        };
        self.running.remove(&host);
        self.metrics.under_way.decrement(1);
        let recheck = self.options.timing.recheck;
        let backoff = self.resting.remove(&host).map(|rest| rest.backoff);
        let mut backoff = backoff.unwrap_or_else(|| Backoff::new(recheck, REST_MAX));
        let end = told.map(|(_, ended)| (ended.end, ended.took));
        let (trouble, least) = match end {
            Some((Ok(0), took)) => {
                backoff.progress();
                self.metrics.done.increment(1);
                (None, (took / REST_PART).clamp(recheck, REST_MAX.max(recheck)))
            }
            Some((Ok(failed), _)) => {
                self.metrics.done.increment(1);
                let why = format!("{failed} accounts could not be looked at");
                (Some(Trouble::of(&why)), backoff.next(rand::random()))
            }
            Some((Err(Break::Crowded), _)) => (None, Duration::ZERO),
            Some((Err(Break::Gone), _)) => (None, recheck),
            Some((Err(Break::Trouble(trouble)), _)) => {
                let asked = trouble.rest.unwrap_or_default();
                (Some(trouble), asked.max(backoff.next(rand::random())).min(REST_MAX.max(recheck)))
            }
            None => (Some(Trouble::of("a fault of ours")), backoff.next(rand::random())),
        };
        if let Some(trouble) = &trouble {
            self.metrics.broken_off.increment(1);
            tracing::debug!(%host, why = trouble.why, "reconciliation goes on later");
        }
        self.resting.insert(host, Rest { until: Instant::now() + least, backoff });
        let until = (self.options.clock)().plus(least);
        match trouble {
            Some(trouble) => self.show(host, |status| {
                *status = Status { under_way: false, trouble: trouble.why, rests_until: until };
            }),
            None => {
                let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown.remove(&host);
            }
        }
    }

    fn show(&self, host: HostId, change: impl FnOnce(&mut Status)) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        change(shown.entry(host).or_default());
    }
}

impl Sweep {
    fn add(&mut self, known: &Known) {
        if let Some(owed) = &known.owed {
            self.hosts_owed += u64::from(owed.whole);
            self.accounts_owed += u64::from(owed.accounts);
        }
        let full = known.row.as_ref().map(|row| row.full).unwrap_or_default();
        self.listed += full.listed;
        self.known += full.known;
        self.in_step += full.in_step;
        let is_older = |at: Micros| self.oldest.is_none_or(|oldest| at < oldest);
        if full.at > Micros(0) && is_older(full.at) {
            self.oldest = Some(full.at);
        }
    }

    fn show(self, metrics: &Metrics, now: Micros) {
        let gauge = |gauge: &metrics::Gauge, value: u64| {
            gauge.set(f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
        };
        gauge(&metrics.hosts_owed, self.hosts_owed);
        gauge(&metrics.accounts_owed, self.accounts_owed);
        gauge(&metrics.listed, self.listed);
        gauge(&metrics.known, self.known);
        gauge(&metrics.in_step, self.in_step);
        let age = self.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        metrics.oldest.set(age.as_secs_f64());
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reconcile::Handle")
    }
}

/// Passes under way: most of them wait for a stream or for their turn. Each holds 5 MB at most.
const PASSES_MAX: usize = 32;
/// Hosts looked at in one look: a round over 100,000 takes as many seconds as hundreds of them.
const SWEEP_STEP: usize = 500;
const ORDERS_MAX: usize = 64;
/// A pass that took long is followed by a rest of this part of it.
const REST_PART: u32 = 4;
/// The longest rest after a trouble, or after a pass that took longer.
const REST_MAX: Duration = Duration::from_hours(6);
