//! The service: one task per host, one budget for all, and the handle that starts and stops them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use protocol::host::HostName;
use protocol::ids::{Epoch, HostId, Micros};
use protocol::tripwire::Tripwire;
use tokio::runtime;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::budget::Pool;
use crate::dial::Dial;
use crate::inbound::Intake;
use crate::limits::Timing;
use crate::metrics::Metrics;
use crate::position::Resume;
use crate::report::Told;
use crate::subscription::Subscription;

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
    pub(crate) reports: mpsc::Sender<Told>,
    pub(crate) metrics: Metrics,
}

/// Starts hosts' tasks and stops them; cheap to clone. When the last one is dropped, the tasks end
/// where they are.
#[derive(Clone)]
pub struct Handle {
    context: Arc<Context>,
    runtime: runtime::Handle,
    stop: Arc<watch::Sender<bool>>,
    tasks: Arc<Mutex<Tasks>>,
}

/// Invariant: every host has at most one task, and none is started once `stopped`. Its size is
/// bounded by the store's number of hosts.
#[derive(Default)]
struct Tasks {
    stopped: bool,
    redials: HashMap<HostId, Arc<Notify>>,
    running: JoinSet<()>,
}

/// Prepares a crawler without hosts. Must be called within a tokio runtime, which its tasks then
/// run on.
pub fn start(options: Options, reports: mpsc::Sender<Told>) -> Handle {
    let metrics = Metrics::register();
    let context = Context {
        clock: options.clock,
        dial: options.dial,
        user_agent: options.user_agent,
        timing: options.timing,
        tripwire: options.tripwire,
        pool: Arc::new(Pool::new(options.intake_bytes, metrics.intake_used_bytes.clone())),
        held: watch::Sender::new(false),
        dials: Semaphore::new(options.dials_max.clamp(1, Semaphore::MAX_PERMITS)),
        reports,
        metrics,
    };
    Handle {
        context: Arc::new(context),
        runtime: runtime::Handle::current(),
        stop: Arc::new(watch::Sender::new(false)),
        tasks: Arc::default(),
    }
}

impl Handle {
    /// Starts the host's task. Does nothing if it has one already, or after a stop.
    pub fn subscribe(&self, start: Start) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.stopped || tasks.redials.contains_key(&start.id) {
            return;
        }
        let redial = Arc::new(Notify::new());
        tasks.redials.insert(start.id, Arc::clone(&redial));
        let context = Arc::clone(&self.context);
        let subscription = Subscription::new(context, start, redial, self.stop.subscribe());
        tasks.running.spawn_on(subscription.run(), &self.runtime);
    }

    /// Ends the host's wait, if it is waiting to dial again: it has just told us by `requestCrawl`
    /// that it is there. Rate-limited per host ([`Timing::redial_spacing`]).
    pub fn redial(&self, host: HostId) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(redial) = tasks.redials.get(&host) {
            redial.notify_one();
        }
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
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.stopped = true;
            std::mem::take(&mut tasks.running)
        };
        self.stop.send_replace(true);
        let all_ended = async {
            while let Some(ended) = running.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "host task panicked");
                }
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
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("crawler::Handle")
    }
}
