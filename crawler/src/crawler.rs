//! The service: one task per host, one budget for all, and the handle that starts and stops them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use metrics::Gauge;
use protocol::host::HostName;
use protocol::host_state::{Allowance, HostState, Meter};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::tripwire::Tripwire;
use tokio::runtime;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::budget::Pool;
use crate::dial::Dial;
use crate::inbound::Intake;
use crate::limits::Timing;
use crate::live::{Live, Pulse};
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::position::Resume;
use crate::report::Told;
use crate::subscription::{Inside, Subscription};

/// What the crawler is made of.
pub struct Options {
    /// Wall-clock time.
    pub clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    /// Reaches hosts.
    pub dial: Dial,
    /// Names this relay, its version and where to complain.
    pub user_agent: HeaderValue,
    /// Bytes of events that may be between the sockets and the sequencer. Below
    /// [`INTAKE_BYTES_MIN`](crate::limits::INTAKE_BYTES_MIN) it is raised to that.
    pub intake_bytes: u64,
    /// Dials with their handshakes that may be under way at once; at least one.
    pub dials_max: usize,
    /// How long things take.
    pub timing: Timing,
    /// Where tests end the process.
    pub tripwire: Tripwire,
}

/// A host as the store knows it when its task starts.
pub struct Start {
    /// Its number in the store.
    pub id: HostId,
    /// Its name.
    pub name: HostName,
    /// Its epoch.
    pub epoch: Epoch,
    /// Where its stream goes on.
    pub cursor: Resume,
    /// Where its events go.
    pub intake: Arc<dyn Intake>,
    /// What was counted of it so far.
    pub meter: Meter,
    /// How fast it is read.
    pub allowance: Allowance,
    /// Its live accounts: only a small host is ever [`HostState::Idle`].
    pub accounts: Arc<AtomicU64>,
    /// What its connection was last doing. One that was idle is not dialled at once, but within
    /// [`Timing::idle_poll`]; any other is.
    pub state: HostState,
}

/// What all tasks share; never changes.
pub(crate) struct Context {
    pub(crate) clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    pub(crate) dial: Dial,
    pub(crate) user_agent: HeaderValue,
    pub(crate) timing: Timing,
    pub(crate) tripwire: Tripwire,
    pub(crate) pool: Arc<Pool>,
    /// Nothing is read and nobody is dialled while this is true.
    pub(crate) held: watch::Sender<bool>,
    pub(crate) dials: Semaphore,
    /// [`Options::dials_max`].
    pub(crate) dials_max: usize,
    /// Tasks that have not dialled for the first time.
    pub(crate) starting: AtomicUsize,
    pub(crate) reports: mpsc::Sender<Told>,
    pub(crate) metrics: Metrics,
}

/// Starts hosts' tasks and stops them; cheap to clone. When the last one is dropped, the tasks end
/// where they are.
#[derive(Clone)]
pub struct Handle {
    context: Arc<Context>,
    runtime: runtime::Handle,
    tasks: Arc<Mutex<Tasks>>,
}

/// Invariant: every host has at most one task, and none is started once `stopped`. Its size is
/// bounded by the store's number of hosts.
#[derive(Default)]
struct Tasks {
    stopped: bool,
    hosts: HashMap<HostId, Task>,
    running: JoinSet<()>,
}

/// The outside of a host's task. Its receiver of orders is gone when it has ended.
#[derive(Clone)]
struct Task {
    orders: Arc<watch::Sender<Orders>>,
    redial: Arc<Notify>,
    pulse: Arc<Pulse>,
}

/// Prepares a crawler without hosts. Must be called within a tokio runtime, which its tasks then
/// run on.
pub fn start(options: Options, reports: mpsc::Sender<Told>) -> Handle {
    let metrics = Metrics::register();
    let dials_max = options.dials_max.clamp(1, Semaphore::MAX_PERMITS);
    let context = Context {
        clock: options.clock,
        dial: options.dial,
        user_agent: options.user_agent,
        timing: options.timing,
        tripwire: options.tripwire,
        pool: Arc::new(Pool::new(options.intake_bytes, metrics.intake_used_bytes.clone())),
        held: watch::Sender::new(false),
        dials: Semaphore::new(dials_max),
        dials_max,
        starting: AtomicUsize::new(0),
        reports,
        metrics,
    };
    Handle {
        context: Arc::new(context),
        runtime: runtime::Handle::current(),
        tasks: Arc::default(),
    }
}

impl Handle {
    /// Starts the host's task. Does nothing if it has one already, or after a stop.
    pub fn subscribe(&self, start: Start) {
        let mut tasks = self.tasks();
        let has_task = |task: &Task| !task.orders.is_closed();
        if tasks.stopped || tasks.hosts.get(&start.id).is_some_and(has_task) {
            return;
        }
        // Those that have ended meanwhile.
        while let Some(ended) = tasks.running.try_join_next() {
            note_end(&ended);
        }
        let (orders_tx, orders) =
            watch::channel(Orders { stop: false, allowance: start.allowance });
        let received = match start.cursor {
            Resume::After(seq) => seq,
            Resume::Live | Resume::Oldest => HostSeq::ZERO,
        };
        let now = (self.context.clock)();
        let pulse = Pulse::new((start.state, now), start.epoch, received, &start.meter);
        let task =
            Task { orders: Arc::new(orders_tx), redial: Arc::default(), pulse: Arc::new(pulse) };
        tasks.hosts.insert(start.id, task.clone());
        let inside = Inside { redial: task.redial, pulse: task.pulse, orders };
        let subscription = Subscription::new(Arc::clone(&self.context), start, inside);
        tasks.running.spawn_on(subscription.run(), &self.runtime);
    }

    /// Ends the host's task and its connection. When it returns, everything that was received has
    /// been delivered, everything that was reported is noted, and the host can be subscribed to
    /// anew. The channel of reports must be drained meanwhile.
    pub async fn unsubscribe(&self, host: HostId) {
        let Some(task) = self.task(host) else { return };
        task.orders.send_modify(|orders| orders.stop = true);
        task.orders.closed().await;
        let mut tasks = self.tasks();
        let is_same = |other: &Task| Arc::ptr_eq(&other.orders, &task.orders);
        if tasks.hosts.get(&host).is_some_and(is_same) {
            tasks.hosts.remove(&host);
        }
    }

    /// Dials the host at once, if it is waiting: it has just told us by `requestCrawl` that it is
    /// there. Rate-limited per host ([`Timing::redial_spacing`]).
    pub fn redial(&self, host: HostId) {
        if let Some(task) = self.task(host)
            && !task.pulse.is_connected()
        {
            task.redial.notify_one();
        }
    }

    /// Reads the host at another pace from here on, also if it is throttled at the moment.
    pub fn set_allowance(&self, host: HostId, allowance: Allowance) {
        if let Some(task) = self.task(host) {
            task.orders.send_if_modified(|orders| {
                std::mem::replace(&mut orders.allowance, allowance) != allowance
            });
        }
    }

    /// What the host's task is doing; `None`: it has none.
    pub fn live(&self, host: HostId) -> Option<Live> {
        self.task(host).map(|task| task.pulse.snapshot())
    }

    /// Holds the intake, or lets it go on: while it is held, nothing is read and nobody is dialled.
    /// What was received goes its way, connections are kept open with pings as long as their hosts
    /// let them, and TCP tells the hosts to wait: nothing is lost by it.
    pub fn hold(&self, held: bool) {
        self.context.held.send_if_modified(|before| std::mem::replace(before, held) != held);
    }

    /// Stops reading and closes all connections. When it returns, every event that was received
    /// has been delivered. The channel of reports must be drained meanwhile.
    pub async fn stop(self) {
        let mut running = {
            let mut tasks = self.tasks();
            tasks.stopped = true;
            for task in tasks.hosts.values() {
                task.orders.send_modify(|orders| orders.stop = true);
            }
            std::mem::take(&mut tasks.running)
        };
        let all_ended = async {
            while let Some(ended) = running.join_next().await {
                note_end(&ended);
            }
        };
        if timeout(self.context.timing.stop_timeout, all_ended).await.is_err() {
            tracing::warn!(tasks = running.len(), "host tasks did not stop in time");
            running.shutdown().await;
        }
    }

    /// Bytes of the intake budget that are in use.
    pub fn intake_used_bytes(&self) -> u64 {
        self.context.pool.used_bytes()
    }

    fn task(&self, host: HostId) -> Option<Task> {
        self.tasks().hosts.get(&host).cloned()
    }

    /// For some lines.
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// Counts a task that is to dial for the first time, until the returned value is dropped; says
    /// how many are before it.
    pub(crate) fn starting(self: &Arc<Self>) -> (Starting, usize) {
        let before = self.starting.fetch_add(1, Ordering::Relaxed);
        (Starting(Arc::clone(self)), before)
    }

    /// Waits for a place among those that dial.
    pub(crate) async fn dial_place(&self) -> Place<'_> {
        let permit = self.dials.acquire().await.expect("the dials are never closed");
        self.metrics.dials.increment(1);
        Place { dials: &self.metrics.dials, _permit: permit }
    }
}

/// A place among those that dial; given back when dropped.
pub(crate) struct Place<'a> {
    dials: &'a Gauge,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.dials.decrement(1);
    }
}

/// A task that has not dialled yet.
pub(crate) struct Starting(Arc<Context>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.starting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn note_end(ended: &Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "host task panicked");
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("crawler::Handle")
    }
}
