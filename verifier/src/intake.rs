//! In front of each shard: one queue for each host, taken in turns, and the answers of look-ups.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use protocol::ids::HostId;
use tokio::sync::{Semaphore, oneshot};

use crate::arrival::Arrival;
use crate::command::{ORDERS_MAX, Order, Stopped, Work};
use crate::event::{Event, Origin};
use crate::finding::{Errand, FINDINGS_MAX, Finding, Found};
use crate::identity::Answer;

/// The intake of one shard. Events and answers are not bounded by it: every event holds a permit of
/// the crawler's budget, in bytes and in events per host, and every answer was asked for. Commands
/// wait for one of [`ORDERS_MAX`] places, findings for one of [`FINDINGS_MAX`].
#[derive(Debug)]
pub(crate) struct Intake {
    queues: Mutex<Queues>,
    arrived: Condvar,
    places: Arc<Semaphore>,
    findings: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Queues {
    hosts: HashMap<HostId, VecDeque<Arrival>>,
    /// Hosts that have events, in turn. Invariant: every key of `hosts` is here or in `held`, once.
    ready: VecDeque<HostId>,
    /// Hosts whose events are not taken for a while.
    held: VecDeque<HostId>,
    answers: VecDeque<Answer>,
    orders: VecDeque<Order>,
    /// Emptied queues, used again: hosts come and go with every event.
    spare: Vec<VecDeque<Arrival>>,
    sleeping: bool,
    stopping: bool,
}

/// What a shard has taken.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) orders: Vec<Order>,
}

/// What becomes of hosts that were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// They still are.
    Keep,
    /// They have their turn again.
    Recheck,
}

/// What becomes of a finding.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) judged: oneshot::Receiver<Found>,
    pub(crate) committed: oneshot::Receiver<()>,
}

/// What a call of [`Intake::take`] leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Some hosts are passed over.
    pub(crate) holding: bool,
    /// It was stopped, and nothing is left.
    pub(crate) ended: bool,
}

impl Default for Intake {
    fn default() -> Self {
        let (queues, arrived) = (Mutex::default(), Condvar::new());
        let places = |max| Arc::new(Semaphore::new(max));
        Self { queues, arrived, places: places(ORDERS_MAX), findings: places(FINDINGS_MAX) }
    }
}

impl Intake {
    /// Puts an event at the end of its host's queue. After [`Intake::stop`] it is abandoned.
    pub(crate) fn submit(&self, event: Event) {
        let mut queues = self.lock();
        if queues.stopping {
            return;
        }
        queues.push(Arrival::Event(event));
        self.wake(queues);
    }

    /// Brings the answer of a look-up.
    pub(crate) fn answer(&self, answer: Answer) {
        let mut queues = self.lock();
        if queues.stopping {
            return;
        }
        queues.answers.push_back(answer);
        self.wake(queues);
    }

    /// Waits for a place among the commands, and puts one there. What comes back resolves when it
    /// is committed.
    pub(crate) async fn order(&self, work: Work) -> Result<oneshot::Receiver<()>, Stopped> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Stopped)?;
        let (done, answer) = oneshot::channel();
        let mut queues = self.lock();
        if queues.stopping {
            return Err(Stopped);
        }
        queues.orders.push_back(Order { work, done, _place: place });
        self.wake(queues);
        Ok(answer)
    }

    /// Waits for a place among the findings, and puts one behind what came from its host before.
    /// What comes back tells what it was judged to be, and then that this is committed.
    pub(crate) async fn reconcile(&self, finding: Finding) -> Result<Judged, Stopped> {
        let place = Arc::clone(&self.findings).acquire_owned().await.map_err(|_| Stopped)?;
        let (answer, judged) = oneshot::channel();
        let (done, committed) = oneshot::channel();
        let mut queues = self.lock();
        if queues.stopping {
            return Err(Stopped);
        }
        let errand = Errand { finding, answer, done, _place: place };
        queues.push(Arrival::Finding(errand.into()));
        self.wake(queues);
        Ok(Judged { judged, committed })
    }

    /// No more events and findings; what is queued is still taken. Commands that wait are not done.
    pub(crate) fn stop(&self) {
        self.places.close();
        self.findings.close();
        let mut queues = self.lock();
        queues.stopping = true;
        queues.answers.clear();
        queues.orders.clear();
        self.wake(queues);
    }

    /// Waits for something to do, at most for `patience`, and takes all answers, up to
    /// [`BATCH_ORDERS_MAX`] commands and up to [`BATCH_EVENTS_MAX`] events, one of each host in
    /// turn. Hosts that `holds` names are passed over until a call with [`Held::Recheck`].
    pub(crate) fn take(
        &self,
        batch: &mut Batch,
        patience: Duration,
        held: Held,
        holds: impl Fn(&Origin) -> bool,
    ) -> Taken {
        let mut queues = self.lock();
        if queues.is_idle() {
            queues.sleeping = true;
            queues = self
                .arrived
                .wait_timeout_while(queues, patience, |queues| queues.sleeping)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            queues.sleeping = false;
        }
        if held == Held::Recheck || queues.stopping {
            let Queues { ready, held, .. } = &mut *queues;
            ready.append(held);
        }
        queues.take(batch, holds);
        Taken {
            holding: !queues.held.is_empty(),
            ended: queues.stopping && queues.hosts.is_empty(),
        }
    }

    fn wake(&self, mut queues: MutexGuard<'_, Queues>) {
        if queues.sleeping {
            queues.sleeping = false;
            drop(queues);
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn is_idle(&self) -> bool {
        let nothing = self.ready.is_empty() && self.answers.is_empty() && self.orders.is_empty();
        nothing && !self.stopping
    }

    fn push(&mut self, arrival: Arrival) {
        let host = arrival.origin().host();
        let Self { hosts, ready, spare, .. } = self;
        let queue = hosts.entry(host).or_insert_with(|| {
            ready.push_back(host);
            spare.pop().unwrap_or_default()
        });
        queue.push_back(arrival);
    }

    fn take(&mut self, batch: &mut Batch, holds: impl Fn(&Origin) -> bool) {
        batch.answers.extend(self.answers.drain(..));
        let orders = self.orders.len().min(BATCH_ORDERS_MAX);
        batch.orders.extend(self.orders.drain(..orders));
        while batch.arrivals.len() < BATCH_EVENTS_MAX {
            let Some(host) = self.ready.pop_front() else { return };
            let queue = self.hosts.get_mut(&host).expect("a host in turn has a queue");
            let origin = queue.front().expect("a queue is not empty").origin();
            if !self.stopping && holds(origin) {
                self.held.push_back(host);
                continue;
            }
            batch.arrivals.extend(queue.pop_front());
            if !queue.is_empty() {
                self.ready.push_back(host);
            } else if let Some(queue) = self.hosts.remove(&host) {
                let is_small = queue.capacity() <= SPARE_EVENTS_MAX;
                if is_small && self.spare.len() < SPARE_QUEUES_MAX {
                    self.spare.push(queue);
                }
            }
        }
    }
}

/// Events taken under one lock: enough that the lock costs nothing, few enough that the verdicts of
/// one round go out within a millisecond or two.
const BATCH_EVENTS_MAX: usize = 32;
/// Commands taken under one lock: they never hold events up for more than some milliseconds.
const BATCH_ORDERS_MAX: usize = 8;
/// Emptied queues kept, 10 kB each at most.
const SPARE_QUEUES_MAX: usize = 64;
const SPARE_EVENTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::host::{HostName, HostRules};
    use protocol::ids::{Epoch, HostSeq, Micros};
    use protocol::ticket::{Permit, Ticket};

    use super::*;
    use crate::event::{Content, Lenience};

    fn origin(host: u32) -> Arc<Origin> {
        let name = HostName::parse(&format!("h{host}.example.com"), HostRules::Insecure).unwrap();
        Arc::new(Origin::new(HostId(host), name, Lenience::Ratchet, false))
    }

    fn event(origin: &Arc<Origin>, seq: u64) -> Event {
        let ticket = Ticket {
            host: origin.host(),
            epoch: Epoch(0),
            seq: HostSeq::new(seq).unwrap(),
            prev: HostSeq::ZERO,
            permit: Permit::free(),
        };
        let origin = Arc::clone(origin);
        Event { origin, ticket, received: Micros(0), content: Content::Passed }
    }

    fn take(intake: &Intake, held: Held, holds: impl Fn(&Origin) -> bool) -> (Vec<u64>, Taken) {
        let mut batch = Batch::default();
        let taken = intake.take(&mut batch, Duration::ZERO, held, holds);
        let name = |arrival: &Arrival| match arrival {
            Arrival::Event(it) => u64::from(it.ticket.host.0) * 1000 + it.ticket.seq.get(),
            Arrival::Finding(it) => u64::from(it.finding.origin.host().0) * 1000 + 999,
        };
        (batch.arrivals.iter().map(name).collect(), taken)
    }

    #[test]
    fn one_hosts_backlog_is_never_in_front_of_everybody() {
        let intake = Intake::default();
        let (one, two) = (origin(1), origin(2));
        (1..=40).for_each(|seq| intake.submit(event(&one, seq)));
        (1..=3).for_each(|seq| intake.submit(event(&two, seq)));
        let (first, taken) = take(&intake, Held::Keep, |_| false);
        assert_eq!(first.len(), BATCH_EVENTS_MAX);
        assert_eq!(first[..7], [1001, 2001, 1002, 2002, 1003, 2003, 1004]);
        assert_eq!(taken, Taken { holding: false, ended: false });
        let (second, _) = take(&intake, Held::Keep, |_| false);
        assert_eq!(second, (1030..=1040).collect::<Vec<_>>());
        assert!(take(&intake, Held::Keep, |_| false).0.is_empty());
    }

    #[test]
    fn a_held_host_keeps_its_events_until_it_is_looked_at_again() {
        let intake = Intake::default();
        let (one, two) = (origin(1), origin(2));
        intake.submit(event(&one, 1));
        intake.submit(event(&two, 1));
        let (events, taken) = take(&intake, Held::Keep, |origin| origin.host() == HostId(1));
        assert_eq!((events, taken.holding), (vec![2001], true));
        intake.submit(event(&one, 2));
        assert!(take(&intake, Held::Keep, |_| false).0.is_empty());
        assert_eq!(take(&intake, Held::Recheck, |_| false).0, [1001, 1002]);
    }

    #[test]
    fn a_stopped_intake_gives_what_it_has_and_takes_nothing() {
        let intake = Intake::default();
        let one = origin(1);
        intake.submit(event(&one, 1));
        take(&intake, Held::Keep, |_| true);
        intake.stop();
        intake.submit(event(&one, 2));
        let (events, taken) = take(&intake, Held::Keep, |_| true);
        assert_eq!((events, taken), (vec![1001], Taken { holding: false, ended: true }));
    }
}
