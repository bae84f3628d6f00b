//! One commit: number, write, publish. Its order is what I1, I2, I3 and I5 rest on.

use std::sync::atomic::Ordering;

use protocol::ids::Micros;
use protocol::tripwire::Point;

use crate::metrics::size;
use crate::store::batch::{Batch, Numbered};
use crate::store::{Family, Wait, keys, records};
use crate::{Durability, Error};

use super::pending::{Pending, Reply, Unnumbered};
use super::{Sequencer, clock};

impl Sequencer {
    /// Writes what is gathered, if anything is, and shows it.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let began = (self.clock)();
        let mut pending = self.pending.take();
        let frames = std::mem::take(&mut pending.frames);
        // A crash before the write: nothing happened. Hosts send again from their cursors.
        self.tripwire.pass(Point::BeforeCommit);
        let batch = self.number(frames, began)?;
        self.reserve()?;
        self.complete_rows(&mut pending, batch.as_ref(), began)?;
        let rows = std::mem::take(&mut pending.rows);
        // A crash in here: the WAL has all of it or nothing (I1).
        self.tripwire.pass(Point::InCommit);
        self.store.write(rows, self.wait_for(&pending))?;
        // A crash from here on: it is durable, and nobody has seen it. Consumers get it from their
        // cursors, and what the hosts send again falls to `already_applied`.
        self.tripwire.pass(Point::AfterCommit);
        self.committed = began;
        self.measure(&pending, batch.as_ref(), began);
        self.publish(pending, batch);
        Ok(())
    }

    /// Gives every frame its seq and its place in the batch. `None` without frames.
    fn number(&mut self, frames: Vec<Unnumbered>, now: Micros) -> Result<Option<Batch>, Error> {
        if frames.is_empty() {
            return Ok(None);
        }
        let previous = self.log.head();
        let mut numbered = Vec::with_capacity(frames.len());
        for Unnumbered { frame, did_hash } in frames {
            self.head = clock::next(self.head, frame.span(), now)?;
            self.metrics.events(frame.kind()).increment(1);
            numbered.push(Numbered { seq: self.head, frame, did_hash });
        }
        Batch::write(previous, &numbered).map(Some).ok_or(Error::Impossible("a batch over 4 GiB"))
    }

    /// Adds the rows that are known only at the end: the batch, hosts as they are by then, what is
    /// hidden, floor and head.
    fn complete_rows(
        &mut self,
        pending: &mut Pending,
        batch: Option<&Batch>,
        now: Micros,
    ) -> Result<(), Error> {
        let Pending { rows, hosts, owed, hidden, floor, .. } = pending;
        if let Some(batch) = batch {
            let key = keys::batch(batch.view().first());
            rows.put_cf(self.store.family(Family::Batches), key, batch.value());
            let head = records::head(self.head, now);
            rows.put_cf(self.store.family(Family::Meta), keys::META_HEAD, head);
            for did in self.log.hidden().touched(batch.view()) {
                hidden.entry(did).or_insert(true);
            }
        }
        for id in hosts.iter() {
            let row = records::host(&self.hosts.row(*id)?.host);
            rows.put_cf(self.store.family(Family::Hosts), keys::host(*id), row);
        }
        for id in owed.iter() {
            let (family, key) = (self.store.family(Family::Gaps), keys::gap_host(*id));
            match &self.hosts.row(*id)?.owed {
                Some(owed) => rows.put_cf(family, key, records::host_gap(owed)),
                None => rows.delete_cf(family, key),
            }
        }
        if let Some(floor) = *floor {
            rows.put_cf(self.store.family(Family::Meta), keys::META_FLOOR, records::seq(floor));
            for did in self.log.hidden().outdated(floor) {
                hidden.entry(did).or_insert(false);
            }
        }
        let family = self.store.family(Family::Hidden);
        for (did, hide) in hidden.iter() {
            if *hide {
                rows.put_cf(family, keys::account(did), records::seq(self.head));
            } else {
                rows.delete_cf(family, keys::account(did));
            }
        }
        Ok(())
    }

    // I2: what consumers or callers will see waits for the disk. Settled drops, rejects and
    // identities alone are seen by nobody: losing them in a crash only repeats work.
    //
    // Whoever waits for an answer gets it from the disk in any case: an operator relies on a
    // decision, and files that a floor has given up are dropped for good.
    fn wait_for(&self, pending: &Pending) -> Wait {
        match self.durability {
            Durability::Fsync if pending.urgent => Wait::Disk,
            Durability::Os if !pending.replies.is_empty() => Wait::Disk,
            Durability::Fsync | Durability::Os => Wait::Os,
        }
    }

    /// Shows a written commit: what hides before what is hidden, state before events, and the
    /// wake-up of consumers last.
    fn publish(&self, pending: Pending, batch: Option<Batch>) {
        let Pending { hosts, removed, domain_bans, hidden, .. } = pending;
        let Pending { floor, marks, permits, replies, .. } = pending;
        if !hidden.is_empty() {
            self.log.hidden().change(hidden.into_iter(), self.head);
            self.metrics.hidden_accounts.set(size(self.log.hidden().len()));
        }
        if let Some(floor) = floor {
            self.log.raise_floor(floor);
        }
        self.mirror.forget(removed.into_iter());
        if let Some(bans) = domain_bans {
            self.mirror.show_domain_bans(bans);
        }
        let hosts = hosts.iter().filter_map(|id| self.hosts.get(*id));
        self.mirror.show(hosts);
        for (settled, mark) in self.settled.iter().zip(marks) {
            settled.fetch_max(mark, Ordering::AcqRel);
        }
        if let Some(batch) = batch {
            self.tripwire.pass(Point::BeforePublish);
            self.log.publish(batch);
        }
        drop(permits);
        for reply in replies {
            // Whoever asked may have gone away; the commit stands.
            match reply {
                Reply::Host(host, reply) => drop(reply.send(*host)),
                Reply::Entry(done) => drop(done.send(())),
                Reply::Note(reply) => drop(reply.send(Ok(()))),
                Reply::Floor(reply) => drop(reply.try_send(())),
            }
        }
    }

    fn measure(&self, pending: &Pending, batch: Option<&Batch>, began: Micros) {
        let bytes = batch.map_or(0, |batch| batch.value().len());
        self.metrics.commit_seconds.record((self.clock)().since(began));
        self.metrics.commit_entries.record(size(pending.entries));
        self.metrics.commit_bytes.record(size(bytes));
        self.metrics.watermark_islands.set(size(self.islands));
    }
}
