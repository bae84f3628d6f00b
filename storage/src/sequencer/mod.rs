//! The one writer: a thread that gathers what comes through its queue and commits it in groups.
//!
//! Events get their seqs in the order of the queue (I3). A commit is one write: batch, accounts,
//! host cursors, gaps, head (I1). Only after it has returned does anybody see any of it (I2), and
//! the first one that fails is the last (I6).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use protocol::ids::{Micros, Seq};
use protocol::tripwire::{Point, Tripwire};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::hosts::{Mirror, Table};
use crate::log::Log;
use crate::metrics::{Metrics, size};
use crate::store::Store;
use crate::{Clock, Durability, Error};

pub(crate) mod clock;
mod commands;
mod commit;
pub(crate) mod entry;
mod gather;
#[cfg(test)]
mod lives;
pub(crate) mod mark;
pub(crate) mod pending;
#[cfg(test)]
mod shown;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod watermark;

use entry::Message;
use pending::Pending;

/// The thread's state. Nothing else writes the store (I11).
pub(crate) struct Sequencer {
    pub(crate) queue: Receiver<Message>,
    pub(crate) store: Arc<Store>,
    pub(crate) log: Log,
    pub(crate) mirror: Arc<Mirror>,
    /// Per shard: every entry up to this mark is committed.
    pub(crate) settled: Arc<[AtomicU64]>,
    pub(crate) clock: Clock,
    pub(crate) commit_interval: Duration,
    pub(crate) durability: Durability,
    pub(crate) metrics: Arc<Metrics>,
    /// The last seq that may have been given out: the end of the log, or beyond it until the
    /// first batch after a start that found a mark there.
    pub(crate) head: Seq,
    /// With [`Durability::Os`] no seq beyond this is given out; the disk has it.
    pub(crate) mark: Seq,
    pub(crate) hosts: Table,
    /// Intervals of all watermarks beyond their prefixes.
    pub(crate) islands: usize,
    pub(crate) pending: Pending,
    /// When the last commit began.
    pub(crate) committed: Micros,
    pub(crate) tripwire: Tripwire,
    /// Goes with the thread, and so tells everybody who waits for an answer that none will come:
    /// what is left in the queue stays there unanswered.
    pub(crate) _alive: watch::Sender<()>,
}

enum Wake {
    Message(Message),
    /// It is time to write what is gathered.
    Due,
    /// Every handle is gone.
    Closed,
}

/// Reports a panic of the thread, which would otherwise end it in silence.
struct Alarm(Failure);

impl Sequencer {
    /// Runs until it is told to stop, every handle is gone, or a write fails.
    pub(crate) fn run(mut self, failure: Failure) -> Result<(), Error> {
        let alarm = Alarm(failure);
        let result = self.work();
        if let Err(error) = &result {
            alarm.0.report(error);
        }
        result
    }

    fn work(&mut self) -> Result<(), Error> {
        loop {
            match self.wait() {
                Wake::Message(Message::Stop) | Wake::Closed => break,
                Wake::Message(message) => self.gather(message)?,
                Wake::Due => self.commit()?,
            }
            if self.pending.is_full() {
                self.commit()?;
            }
        }
        self.tripwire.pass(Point::ShutdownStore);
        self.commit()?;
        self.end_in_order()
    }

    fn wait(&self) -> Wake {
        self.metrics.queue_messages.set(size(self.queue.len()));
        let Some(wait) = self.due_in() else {
            return self.queue.recv().map_or(Wake::Closed, Wake::Message);
        };
        // With nothing left to wait, this still takes what is in the queue already: the more the
        // queue has filled meanwhile, the larger the group.
        match self.queue.recv_timeout(wait) {
            Ok(message) => Wake::Message(message),
            Err(RecvTimeoutError::Timeout) => Wake::Due,
            Err(RecvTimeoutError::Disconnected) => Wake::Closed,
        }
    }

    /// How long until what is gathered is to be written; `None` if nothing is.
    fn due_in(&self) -> Option<Duration> {
        let since = self.pending.since?;
        let due = if self.pending.urgent {
            self.committed.plus(self.commit_interval.max(self.log.pace()))
        } else {
            since.plus(LAZY_INTERVAL)
        };
        Some(due.since((self.clock)()).min(LAZY_INTERVAL))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.report(&Error::Panicked);
        }
    }
}

/// What nobody waits for is written this long after it came. A crash costs at most this much of
/// the cursors' progress, and the hosts send it again.
const LAZY_INTERVAL: Duration = Duration::from_secs(1);
