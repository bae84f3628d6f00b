//! From messages to the next commit: what each changes, in order.

use protocol::account::Local;
use protocol::did::Did;
use protocol::frame::Kind;
use protocol::ids::{HostId, Micros};
use protocol::ticket::Ticket;

use crate::Error;
use crate::accounts::{self, AccountWrite};
use crate::gaps::{self, AccountGap, Gap};
use crate::hosts::{HostNote, REASON_BYTES_MAX, cut};
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
            Message::AddHost { name, start, reply } => {
                let host = self.hosts.add(&name, start, now)?.clone();
                self.pending.hosts.insert(host.id);
                self.pending.replies.push(Reply::Host(host, reply));
                self.pending.urgent = true;
            }
            Message::Note { note, reply } => {
                self.pending.urgent |= note.is_urgent();
                let result = self.note(note, now);
                match (result, reply) {
                    (Ok(()), Some(reply)) => self.pending.replies.push(Reply::Note(reply)),
                    // The caller's mistake, not the store's.
                    (Err(error @ Error::UnknownHost(_)), Some(reply)) => {
                        drop(reply.send(Err(error)));
                    }
                    (result, _) => result?,
                }
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
        if let Some(write) = account {
            let did = did.ok_or(Error::Impossible("an account state without an account"))?;
            self.write_account(did, &write, restated)?;
        }
        let reason = reject.as_ref().map_or("", |note| note.name);
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
        if let Some(host) = entry.closes_ratchet {
            self.hosts.row(host)?.host.ratchet_closed = true;
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
        let row = self.hosts.row(host)?;
        let islands_before = row.watermark.islands();
        if epoch > row.watermark.epoch() {
            row.reset(epoch);
            gaps::owe_host(row, &mut self.pending.rows, &self.store, now, "sequence reset");
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
        let is = accounts::live_on(account);
        if restated || is != *was {
            self.count_account(&did, *was, is)?;
        }
        let hide = accounts::is_hidden(account);
        let hidden = self.pending.hidden.get(&did).copied();
        if hide != hidden.unwrap_or_else(|| self.log.hidden().contains(&did)) {
            self.pending.hidden.insert(did, hide);
        }
        Ok(())
    }

    /// Counts an account on its host, and no longer on the one before. A host's count is the
    /// number of its `host_accounts` rows, whatever a host says how often.
    fn count_account(
        &mut self,
        did: &Did,
        was: Option<HostId>,
        is: Option<HostId>,
    ) -> Result<(), Error> {
        let members = self.store.family(Family::HostAccounts);
        let left = was.filter(|was| is != Some(*was));
        if let Some(id) = left
            && self.is_member(id, did)?
        {
            let host = &mut self.hosts.row(id)?.host;
            let fewer = host.accounts.checked_sub(1);
            host.accounts =
                fewer.ok_or_else(|| Family::Hosts.corrupt("fewer accounts than rows"))?;
            self.pending.rows.delete_cf(members, keys::host_account(id, did));
            self.pending.members.insert((id, did.clone()), false);
            self.pending.hosts.insert(id);
        }
        if let Some(id) = is
            && !self.is_member(id, did)?
        {
            self.hosts.row(id)?.host.accounts += 1;
            self.pending.rows.put_cf(members, keys::host_account(id, did), []);
            self.pending.members.insert((id, did.clone()), true);
            self.pending.hosts.insert(id);
        }
        Ok(())
    }

    fn is_member(&self, id: HostId, did: &Did) -> Result<bool, Error> {
        if let Some(member) = self.pending.members.get(&(id, did.clone())) {
            return Ok(*member);
        }
        let row = self.store.get(Family::HostAccounts, &keys::host_account(id, did))?;
        Ok(row.is_some())
    }

    fn owe(&mut self, gap: Gap, since: Micros, reason: &str) -> Result<(), Error> {
        let row = self.hosts.row(gap.host)?;
        let rows = &mut self.pending.rows;
        match gap.did {
            None => gaps::owe_host(row, rows, &self.store, since, reason),
            Some(did) => {
                let gap = AccountGap { did, since, reason: reason.to_owned() };
                gaps::owe_account(row, rows, &self.store, &mut self.pending.gaps, &gap)?;
            }
        }
        Ok(())
    }

    fn write_reject(&mut self, note: &RejectNote) -> Result<(), Error> {
        let host = &mut self.hosts.row(note.host)?.host;
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
        let row = self.hosts.row(note.host())?;
        let islands_before = row.watermark.islands();
        let host = note.host();
        match note {
            HostNote::State { state, reason, at, .. } => {
                row.host.state = state;
                row.host.reason = cut(&reason, REASON_BYTES_MAX).into();
                row.host.since = at;
            }
            HostNote::Reset { epoch, reason, .. } => {
                if epoch > row.watermark.epoch() {
                    row.reset(epoch);
                    gaps::owe_host(row, &mut self.pending.rows, &self.store, now, &reason);
                }
            }
            HostNote::Gap { reason, .. } => {
                gaps::owe_host(row, &mut self.pending.rows, &self.store, now, &reason);
            }
            HostNote::Ban { banned, .. } => row.host.banned = banned,
        }
        self.islands = self.islands + row.watermark.islands() - islands_before;
        self.pending.hosts.insert(host);
        Ok(())
    }
}
