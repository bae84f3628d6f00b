//! N plain threads, one per shard of the accounts, and the bounded intake in front of each.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::Gauge;
use protocol::fetch::Fetch;
use protocol::ids::Micros;
use protocol::tripwire::{Point, Tripwire};
use protocol::txt::Txt;
use tokio::sync::oneshot;
use tracing::error;

use crate::arrival::Arrival;
use crate::command::{Command, LEARN_MAX, Stopped, Work};
use crate::containment::hush;
use crate::event::Event;
use crate::finding::{Finding, Found};
use crate::identity::{Handles, Resolver};
use crate::intake::{Batch, Held, Intake};
use crate::metrics::Metrics;
use crate::options::{Clock, InForce, Options, Recall};
use crate::parked::Share;
use crate::shard::Shard;
use crate::verdict::Verdict;

/// Where verdicts go, in batches; it may block, and that is the back-pressure of the store.
pub type Out = Arc<dyn Fn(Vec<Verdict>) + Send + Sync>;

/// The running verifier. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    intakes: Arc<[Arc<Intake>]>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    queued: Gauge,
    orders: Gauge,
    findings: Gauge,
}

/// What asks the network: `relay` hands it in.
#[derive(Clone, Debug)]
pub struct Outreach {
    /// Directories, hosts, and the web sites of handles.
    pub fetch: Fetch,
    /// DNS, for handles.
    pub txt: Txt,
}

/// Starts the threads. `settled` holds one number per shard: the highest [`crate::Mark`] of it
/// that the store has settled. Metrics are registered here: install the recorder before.
///
/// # Panics
/// If there are no threads, `settled` does not have one number for each, or one cannot be started.
pub fn start(
    options: Options,
    outreach: Outreach,
    runtime: tokio::runtime::Handle,
    mut recall: Recall,
    settled: Arc<[AtomicU64]>,
    out: Out,
) -> Handle {
    assert!(options.threads > 0, "somebody must work");
    assert_eq!(settled.len(), options.threads, "one settled mark for each shard");
    hush();
    let metrics = Metrics::register();
    let (queued, orders, findings) = (metrics.queued(), metrics.orders(), metrics.findings());
    let InForce { counts, throttled } = std::mem::take(&mut recall.in_force);
    metrics.found_in_force(counts);
    let mut parts = vec![Vec::new(); options.threads];
    for (did, until) in throttled {
        parts[shard_of(did.hash64(), options.threads)].push((did, until));
    }
    let recall = Arc::new(recall);
    let share = Share::new(options.intake_bytes);
    let Outreach { fetch, txt } = outreach;
    let resolver = Resolver::new(
        fetch.clone(),
        Handles::new(fetch, txt, options.rules, options.timing.request),
        runtime,
        options.rules,
        (options.plc_urls.clone(), options.plc_limits),
        Arc::clone(&options.clock),
        &options.timing,
    );
    let mut intakes = Vec::with_capacity(options.threads);
    let mut threads = Vec::with_capacity(options.threads);
    for (index, throttled) in parts.into_iter().enumerate() {
        let intake = Arc::new(Intake::default());
        let worker = Worker {
            shard: Shard::new(
                index,
                &options,
                Arc::clone(&recall),
                Arc::clone(&settled),
                share.clone(),
                throttled,
                metrics.clone(),
            ),
            intake: Arc::clone(&intake),
            resolver: resolver.clone(),
            out: Arc::clone(&out),
            clock: Arc::clone(&options.clock),
            held_recheck: options.timing.held_recheck,
            tripwire: options.tripwire.clone(),
            queued: queued.clone(),
            orders: orders.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("verifier-{index}"))
            .spawn(move || work(worker))
            .expect("the system starts a thread");
        intakes.push(intake);
        threads.push(thread);
    }
    let threads = Arc::new(Mutex::new(threads));
    Handle { intakes: intakes.into(), threads, queued, orders, findings }
}

impl Handle {
    /// Hands an event to the shard of its account. Never blocks: what may be in flight is bounded
    /// by the permits that tickets hold. What has no account goes by its host.
    pub fn submit(&self, event: Event) {
        let hash = match event.did() {
            Some(did) => did.hash64(),
            None => u64::from(event.origin.host().0),
        };
        self.queued.increment(1.0);
        self.intakes[self.shard(hash)].submit(event);
    }

    /// Has a command done, and returns when what it changes is committed. Waits while too many
    /// others wait. Of those that are given one after the other, the earlier are done first.
    pub async fn command(&self, command: Command) -> Result<(), Stopped> {
        let mut answers = Vec::new();
        match command {
            Command::Decide { did, local } => {
                let shard = self.shard(did.hash64());
                answers.push(self.order(shard, Work::Decide { did, local }).await?);
            }
            Command::Quota { did, host, throttled } => {
                let shard = self.shard(did.hash64());
                answers.push(self.order(shard, Work::Quota { did, host, throttled }).await?);
            }
            Command::Learn(identities) => {
                let mut parts: Vec<_> = self.intakes.iter().map(|_| Vec::new()).collect();
                for identity in identities {
                    parts[self.shard(identity.did.hash64())].push(identity);
                }
                for (shard, mut part) in parts.into_iter().enumerate() {
                    while !part.is_empty() {
                        let rest = part.split_off(part.len().min(LEARN_MAX));
                        answers.push(self.order(shard, Work::Learn(part)).await?);
                        part = rest;
                    }
                }
            }
        }
        for answer in answers {
            answer.await.map_err(|_| Stopped)?;
        }
        Ok(())
    }

    /// Has what a host was found to hold of an account judged as if the host had said it, in the
    /// order of its events: behind those that are here, never in front of one. Returns when what
    /// comes of it is committed. Waits while too many others do, and for look-ups as an event does.
    pub async fn reconcile(&self, finding: Finding) -> Result<Found, Stopped> {
        let shard = self.shard(finding.did.hash64());
        let _under_way = UnderWay::count(&self.findings);
        let errand = self.intakes[shard].reconcile(finding).await?;
        let found = errand.judged.await.map_err(|_| Stopped)?;
        errand.committed.await.map_err(|_| Stopped)?;
        Ok(found)
    }

    /// Judges what is queued, abandons unsettled what waits for a look-up (its host sends it
    /// again), and joins the threads. Blocks. Events submitted after it are abandoned too.
    ///
    /// # Panics
    /// Never: a shard that panics ends the process.
    pub fn stop(self) {
        self.intakes.iter().for_each(|intake| intake.stop());
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            thread.join().expect("a shard does not panic");
        }
    }

    async fn order(&self, shard: usize, work: Work) -> Result<oneshot::Receiver<()>, Stopped> {
        let answer = self.intakes[shard].order(work).await?;
        self.orders.increment(1.0);
        Ok(answer)
    }

    fn shard(&self, hash: u64) -> usize {
        shard_of(hash, self.intakes.len())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("shards", &self.intakes.len()).finish_non_exhaustive()
    }
}

/// A finding counts as under way until it is answered, or nobody waits for that any more.
struct UnderWay(Gauge);

impl UnderWay {
    fn count(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn shard_of(hash: u64, shards: usize) -> usize {
    let shards = u64::try_from(shards).expect("fits");
    usize::try_from(hash % shards).expect("below the number of shards")
}

/// A shard's thread: owns the shard, sleeps on its intake.
struct Worker {
    shard: Shard,
    intake: Arc<Intake>,
    resolver: Resolver,
    out: Out,
    clock: Clock,
    held_recheck: Duration,
    tripwire: Tripwire,
    queued: Gauge,
    orders: Gauge,
}

/// I6: a shard that panicked outside of a check holds states that nobody may trust, and its
/// accounts would wait for ever. The process ends; a start recovers from what was committed.
fn work(worker: Worker) {
    if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
        error!("a shard panicked: stopping");
        process::abort();
    }
}

impl Worker {
    fn run(mut self) {
        let mut batch = Batch::default();
        let mut recheck_at: Option<Micros> = None;
        loop {
            let now = (self.clock)();
            let wakes = [self.shard.next_wake(), recheck_at];
            let patience = wakes
                .into_iter()
                .flatten()
                .map(|wake| wake.since(now))
                .fold(SLEEP_MAX, Duration::min);
            let due = recheck_at.is_some_and(|at| at <= now);
            let held = if due { Held::Recheck } else { Held::Keep };
            let taken =
                self.intake.take(&mut batch, patience, held, |origin| self.shard.holds(origin));
            let now = (self.clock)();
            if due || !taken.holding {
                recheck_at = None;
            }
            if taken.holding && recheck_at.is_none() {
                recheck_at = Some(now.plus(self.held_recheck));
            }
            self.round(&mut batch, now);
            if taken.ended {
                return;
            }
        }
    }

    fn round(&mut self, batch: &mut Batch, now: Micros) {
        let is_event = |arrival: &&Arrival| matches!(arrival, Arrival::Event(_));
        let events = batch.arrivals.iter().filter(is_event).count();
        self.queued.decrement(f64::from(u32::try_from(events).expect("a small batch")));
        self.shard.set_directories_well(self.resolver.directories_well());
        for answer in batch.answers.drain(..) {
            self.shard.answer(answer, now);
        }
        for order in batch.orders.drain(..) {
            self.orders.decrement(1.0);
            self.shard.command(order, now);
        }
        for arrival in batch.arrivals.drain(..) {
            match arrival {
                Arrival::Event(event) => self.shard.event(event, now),
                Arrival::Finding(errand) => self.shard.finding(errand, now),
            }
        }
        self.shard.tick(now);
        for lookup in self.shard.take_lookups() {
            let intake = Arc::clone(&self.intake);
            self.resolver.begin(lookup, move |answer| intake.answer(answer));
        }
        let verdicts = self.shard.take_verdicts();
        if !verdicts.is_empty() {
            self.tripwire.pass(Point::AfterVerify);
            (self.out)(verdicts);
        }
    }
}

/// A shard looks up at least this often; nothing depends on it.
const SLEEP_MAX: Duration = Duration::from_secs(10);
