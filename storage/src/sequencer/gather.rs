//! From messages to the next commit: what each changes, in order.

use protocol::account::Local;
use protocol::did::Did;
use protocol::frame::Kind;
use protocol::ids::Micros;
use protocol::ticket::Ticket;
use tokio::sync::oneshot;

use crate::Error;
use crate::accounts::{self, AccountWrite};
use crate::gaps::{self, Gap};
use crate::hosts::{HostNote, Row};
use crate::store::records::{self, REJECTS_PER_HOST};
use crate::store::{Family, keys};

use super::Sequencer;
use super::entry::{Entry, Mark, Message, RejectNote};
use super::pending::{Reply, Unnumbered};

impl Sequencer {
    pub(super) fn gather(&mut self, message: Message) -> Result<(), Error> {
        let now = (self.clock)();
        match message {
            Message::Entries(entries) => {
                for entry in entries {
                    self.gather_entry(entry, now)?;
                }
                // Drops alone wait up to a second for their write, but their intake bytes do not:
                // a flood of them would use up its host's share for as long.
                if !self.pending.urgent {
                    self.pending.permits.clear();
                }
                return Ok(());
            }
            Message::AddHost { name, start, level, reply } => {
                let last = self.hosts.last();
                let host = self.hosts.add(&name, start, level, now)?.clone();
                if self.hosts.last() != last {
                    // Committed with it: the number of one that is removed is never given again.
                    let (family, row) =
                        (self.store.family(Family::Meta), records::host_id(host.id));
                    self.pending.rows.put_cf(family, keys::META_LAST_HOST, row);
                }
                self.pending.hosts.insert(host.id);
                self.pending.replies.push(Reply::Host(Box::new(host), reply));
                self.pending.urgent = true;
            }
            Message::Note { note, reply } => {
                self.pending.urgent |= note.is_urgent();
                let result = self.note(note, now);
                self.answer(result, reply)?;
            }
            Message::Command { command, reply } => {
                // Commands look at the store, which must show what was gathered before.
                self.commit()?;
                self.pending.urgent = true;
                let result = self.command(command);
                self.answer(result, Some(reply))?;
            }
            Message::Floor { floor, reply } => {
                self.pending.floor = self.pending.floor.max(Some(floor));
                self.pending.replies.push(Reply::Floor(reply));
                self.pending.urgent = true;
            }
            Message::Stop => unreachable!("the loop ends at Stop"),
        }
        self.pending.entries += 1;
        self.pending.since.get_or_insert(now);
        Ok(())
    }

    /// Has whoever waits told when the commit is done.
    fn answer(
        &mut self,
        result: Result<(), Error>,
        reply: Option<oneshot::Sender<Result<(), Error>>>,
    ) -> Result<(), Error> {
        match (result, reply) {
            (Ok(()), Some(reply)) => self.pending.replies.push(Reply::Note(reply)),
            // The caller's mistake, not the store's.
            (Err(error @ Error::UnknownHost(_)), Some(reply)) => drop(reply.send(Err(error))),
            (result, _) => result?,
        }
        Ok(())
    }

    fn gather_entry(&mut self, entry: Entry, now: Micros) -> Result<(), Error> {
        let bytes = entry.frames.iter().map(|frame| frame.len_with(self.head)).sum();
        if self.pending.is_full_with(bytes) {
            self.commit()?;
        }
        let urgent = entry.is_urgent();
        let Entry { ticket, mark, frames, did, account, reject, gap, identity, .. } = entry;
        if let Some(ticket) = ticket {
            self.settle(ticket, now)?;
        }
        if let Some(mark) = mark {
            self.mark(mark)?;
        }
        // Whatever changes an account's status sends an `#account` (protocol.md section 6).
        let restated = frames.iter().any(|frame| frame.kind() == Kind::Account);
        if !frames.is_empty() {
            let did = did.as_ref().ok_or(Error::Impossible("frames without an account"))?;
            let did_hash = did.hash64();
            let unnumbered = frames.into_iter().map(|frame| Unnumbered { frame, did_hash });
            self.pending.frames.extend(unnumbered);
            self.pending.frames_bytes += bytes;
        }
        let lifted = account.as_ref().filter(|write| write.decided).map_or("", |_| LIFTED);
        if let Some(write) = account {
            let did = did.ok_or(Error::Impossible("an account state without an account"))?;
            self.write_account(did, &write, restated, now)?;
        }
        let reason = reject.as_ref().map_or(lifted, |note| note.name);
        if let Some(gap) = gap {
            self.owe(gap, now, reason)?;
        }
        if let Some(note) = reject {
            self.write_reject(&note)?;
        }
        if let Some(identity) = identity {
            let family = self.store.family(Family::Identities);
            let key = keys::account(&identity.did);
            self.pending.rows.put_cf(family, key, records::identity(&identity));
        }
        if let Some(export) = entry.export {
            let family = self.store.family(Family::Meta);
            self.pending.rows.put_cf(family, keys::META_PLC_EXPORT, records::export(&export));
        }
        if let Some(host) = entry.closes_ratchet
            && let Some(row) = self.hosts.find(host)?
        {
            row.host.ratchet_closed = true;
            self.pending.hosts.insert(host);
        }
        self.pending.replies.extend(entry.done.map(Reply::Entry));
        self.pending.urgent |= urgent;
        self.pending.entries += 1;
        self.pending.since.get_or_insert(now);
        Ok(())
    }

    // I5: the ticket is marked before the commit is built, so that the cursor in a commit is the
    // cursor after it.
    fn settle(&mut self, ticket: Ticket, now: Micros) -> Result<(), Error> {
        let Ticket { host, epoch, seq, prev, permit } = ticket;
        self.pending.permits.push(permit);
        let Some(row) = self.hosts.find(host)? else { return Ok(()) };
        let islands_before = row.watermark.islands();
        if epoch > row.watermark.epoch() {
            row.reset(epoch);
            gaps::owe_host(row, &mut self.pending, &self.store, now, "sequence reset");
            self.pending.hosts.insert(host);
        }
        // What is left of an older epoch says nothing about this one's cursor.
        if epoch < row.watermark.epoch() {
            return Ok(());
        }
        row.watermark.settle(prev, seq);
        self.islands = self.islands + row.watermark.islands() - islands_before;
        if row.watermark.end() > row.host.cursor {
            row.host.cursor = row.watermark.end();
            self.pending.hosts.insert(host);
        }
        Ok(())
    }

    fn mark(&mut self, mark: Mark) -> Result<(), Error> {
        let highest = self.pending.marks.get_mut(mark.shard);
        let highest = highest.ok_or(Error::Impossible("a mark of a shard that there is not"))?;
        *highest = mark.number.max(*highest);
        Ok(())
    }

    fn write_account(
        &mut self,
        did: Did,
        write: &AccountWrite,
        restated: bool,
        now: Micros,
    ) -> Result<(), Error> {
        let AccountWrite { account, was, decided } = write;
        let accounts = self.store.family(Family::Accounts);
        self.pending.rows.put_cf(accounts, keys::account(&did), records::account(account));
        if *decided {
            let (decisions, key) = (self.store.family(Family::Decisions), keys::account(&did));
            match account.local {
                Local::None => self.pending.rows.delete_cf(decisions, key),
                local => self.pending.rows.put_cf(decisions, key, records::decision(local)),
            }
        }
        // Else it is where it was and as it was: the common case, which reads nothing.
        if restated || *decided || accounts::live_on(account) != *was {
            self.count_account(&did, *was, account, now)?;
        }
        let hide = accounts::is_hidden(account);
        let hidden = self.pending.hidden.get(&did).copied();
        if hide != hidden.unwrap_or_else(|| self.log.hidden().contains(&did)) {
            self.pending.hidden.insert(did, hide);
        }
        Ok(())
    }

    fn owe(&mut self, gap: Gap, now: Micros, reason: &str) -> Result<(), Error> {
        let Some(row) = self.hosts.find(gap.host)? else { return Ok(()) };
        match gap.did {
            None => gaps::owe_host(row, &mut self.pending, &self.store, now, reason),
            Some(did) => {
                gaps::owe_account(row, &mut self.pending, &self.store, did, now, reason)?;
            }
        }
        Ok(())
    }

    fn write_reject(&mut self, note: &RejectNote) -> Result<(), Error> {
        let Some(Row { host, .. }) = self.hosts.find(note.host)? else { return Ok(()) };
        let number = host.rejects;
        host.rejects += 1;
        self.pending.hosts.insert(note.host);
        let place = u8::try_from(number % u64::from(REJECTS_PER_HOST)).expect("below 64");
        let family = self.store.family(Family::Rejects);
        let row = records::reject(number, note);
        self.pending.rows.put_cf(family, keys::reject(note.host, place), row);
        Ok(())
    }

    fn note(&mut self, note: HostNote, now: Micros) -> Result<(), Error> {
        let host = note.host();
        if let HostNote::Alias { of: Some(of), .. } = note {
            self.hosts.row(of)?;
        }
        let Some(row) = self.hosts.find(host)? else {
            // It was removed. Whoever wants something of it hears that; what its connection had yet
            // to tell is passed over.
            return if note.is_wish() { Err(Error::UnknownHost(host)) } else { Ok(()) };
        };
        let islands_before = row.watermark.islands();
        match note {
            HostNote::Reset { epoch, reason, .. } => {
                if epoch > row.watermark.epoch() {
                    row.reset(epoch);
                    gaps::owe_host(row, &mut self.pending, &self.store, now, &reason);
                }
            }
            HostNote::Gap { reason, .. } => {
                gaps::owe_host(row, &mut self.pending, &self.store, now, &reason);
            }
            other => row.host.take(other),
        }
        self.islands = self.islands + row.watermark.islands() - islands_before;
        self.pending.hosts.insert(host);
        Ok(())
    }
}

/// What is owed of an account without a drop: what it sent while it was throttled or taken down.
const LIFTED: &str = "decision lifted";
