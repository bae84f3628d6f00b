//! Forgetting: by time and by bytes, whichever ends earlier.
//!
//! The floor goes first: the sequencer commits it and readers obey it. Only then does this thread
//! drop files, some at a time. A crash in between leaves files that nobody reads, and the next
//! round drops them.
//!
//! Whole files only. A file that lies partly above the floor waits for the rest of it to follow,
//! and so does what has not left the first level. A range tombstone would reach it, but it
//! would make the next flushed file overlap every older one, and compaction would rewrite what it
//! otherwise only moves.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use protocol::ids::Seq;
use protocol::tripwire::{Point, Tripwire};

use crate::failure::Failure;
use crate::log::Log;
use crate::metrics::{Metrics, exact, size};
use crate::sequencer::entry::Message;
use crate::store::batch::View;
use crate::store::{BatchFile, Family, Store, UNREADABLE, keys};
use crate::{Clock, Error};

/// The thread's state.
pub(crate) struct Retention {
    pub(crate) store: Arc<Store>,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    pub(crate) retention: Duration,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) sequencer: Sender<Message>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tripwire: Tripwire,
}

impl Retention {
    /// Enforces it again and again, until the other end of `stop` is gone or something fails.
    pub(crate) fn run(self, stop: &Receiver<()>, failure: &Failure) {
        let pause = (self.retention / ROUNDS_PER_RETENTION).clamp(PAUSE_MIN, PAUSE_MAX);
        let look = self.retention_bytes.map_or(pause, |_| pause.min(LOOK));
        let step = self.retention_bytes.map_or(u64::MAX, step_bytes);
        let (mut rested, mut written) = (Duration::ZERO, 0);
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(look) {
            rested += look;
            let so_far = self.store.written_bytes();
            if rested < pause && so_far - written < step {
                continue;
            }
            (rested, written) = (Duration::ZERO, so_far);
            match self.enforce(stop) {
                Ok(()) => {}
                Err(Error::Stopped) => return,
                Err(error) => {
                    failure.report(&error);
                    return;
                }
            }
        }
    }

    /// Raises the floor to where it should be, then drops what lies below it.
    /// Does not wait for a sequencer that has ended if `stop` tells.
    pub(crate) fn enforce(&self, stop: &Receiver<()>) -> Result<(), Error> {
        let files = self.store.batch_files()?;
        if let Some(floor) = self.floor(&files)?
            && floor > self.log.floor()
        {
            let (reply, committed) = bounded(1);
            let message = Message::Floor { floor, reply };
            self.sequencer.send(message).map_err(|_| Error::Stopped)?;
            select! {
                recv(committed) -> answer => answer.map_err(|_| Error::Stopped)?,
                recv(stop) -> _ => return Err(Error::Stopped),
            }
            self.tripwire.pass(Point::RetentionFloor);
        }
        self.drop_below(&files, self.log.floor(), stop)?;
        self.measure()
    }

    /// The end of the newest batch that may go; `None` if none may. The newest of all stays.
    fn floor(&self, files: &[BatchFile]) -> Result<Option<Seq>, Error> {
        let retention = u64::try_from(self.retention.as_micros()).unwrap_or(u64::MAX);
        let by_time = (self.clock)().0.saturating_sub(retention);
        // What of the log is not in files yet lies in the WAL; and room for what is written until
        // the next round.
        let by_bytes = match self.retention_bytes {
            Some(bytes) => {
                let taken = self.store.other_bytes()?.saturating_add(step_bytes(bytes));
                too_many(files, bytes.saturating_sub(taken))
            }
            None => None,
        };
        let target = by_time.max(by_bytes.map_or(0, Seq::get)).min(self.log.head().get());
        let target = Seq::new(target).expect("not beyond the head");
        // The batch that begins at or before the target stays: the end of the one before it is a
        // cursor after which nothing is missing.
        let mut batches = self.store.batches(target);
        batches.seek_for_prev(keys::batch(target));
        if batches.valid() {
            batches.prev();
        }
        let floor = batches.value().map(|value| View::read(value).map(View::last));
        batches.status()?;
        floor
            .map(|floor| {
                floor.ok_or_else(|| {
                    Family::Batches.corrupt_at(batches.key().unwrap_or_default(), UNREADABLE)
                })
            })
            .transpose()
    }

    fn drop_below(
        &self,
        files: &[BatchFile],
        floor: Seq,
        stop: &Receiver<()>,
    ) -> Result<(), Error> {
        // A batch that begins at or below the floor ends there, since the floor is the end of one.
        let below: Vec<_> =
            files.iter().filter(|file| file.last <= floor && file.level > 0).collect();
        for step in below.chunks(FILES_PER_STEP) {
            let began = (self.clock)();
            let from = step.first().map_or(Seq::ZERO, |file| file.first);
            let to = step.iter().map(|file| file.last).max().unwrap_or(floor);
            self.store.drop_batch_files(from, to)?;
            self.tripwire.pass(Point::RetentionDrop);
            self.metrics.files_dropped.increment(u64::try_from(step.len()).unwrap_or(0));
            // A long way to go (a limit that was lowered) leaves commits at least half of the time.
            let took = (self.clock)().since(began).min(REST_MAX);
            if stop.recv_timeout(took) != Err(RecvTimeoutError::Timeout) {
                return Err(Error::Stopped);
            }
        }
        Ok(())
    }

    fn measure(&self) -> Result<(), Error> {
        let files = self.store.batch_files()?;
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        self.metrics.log_bytes.set(exact(bytes.saturating_add(self.store.other_bytes()?)));
        self.metrics.log_files.set(size(files.len()));
        self.metrics.retention_bytes.set(exact(self.retention_bytes.unwrap_or(0)));
        Ok(())
    }
}

/// Where the newest files that together keep to `bytes_max` begin; `None` if all do. The newest
/// always stays.
fn too_many(files: &[BatchFile], bytes_max: u64) -> Option<Seq> {
    let mut newest_first = files.iter().rev();
    let mut oldest_kept = newest_first.next()?;
    let mut bytes = oldest_kept.bytes;
    for file in newest_first {
        bytes = bytes.saturating_add(file.bytes);
        if bytes > bytes_max {
            return Some(oldest_kept.first);
        }
        oldest_kept = file;
    }
    None
}

/// How much is written from one round to the next: what the limit may be exceeded by for a moment.
fn step_bytes(retention_bytes: u64) -> u64 {
    (retention_bytes / STEPS_PER_LIMIT).min(STEP_BYTES_MAX)
}

/// The window is longer than it should be by at most this part of it.
const ROUNDS_PER_RETENTION: u32 = 64;
/// A round lists all files, which takes milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often the written bytes are looked at, which is one load. At 250 MB/s they are 25 MB on.
const LOOK: Duration = Duration::from_millis(100);
/// 64 MiB of 4 GiB: two files.
const STEPS_PER_LIMIT: u64 = 64;
const STEP_BYTES_MAX: u64 = 1 << 30;
/// Dropping holds RocksDB's mutex, and with it the next commit, for about 10 ms a file.
const FILES_PER_STEP: usize = 2;
const REST_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod rocks_log;
#[cfg(test)]
mod tests;
