//! The live network's mix: what happens next, and the events that it makes.

use protocol::frame::Kind;
use protocol::ids::Micros;
use protocol::tid::Tid;
use rand::RngExt;

use super::account::{Account, Standing};
use super::record::{self, Collection};
use super::repo::{CLOCK_ID, Write};
use super::{Event, World};
use crate::wire::Value;

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occurrence {
    Create,
    Delete,
    UpdateProfile,
    Several,
    Nothing,
    Identity,
    HandleChange,
    Rest,
    Takedown,
    Birth,
}

/// Shares in a thousand, near what the live network showed in 2026.
const SHARES: [(Occurrence, u32); 10] = [
    (Occurrence::Create, 856),
    (Occurrence::Delete, 85),
    (Occurrence::UpdateProfile, 15),
    (Occurrence::Several, 30),
    (Occurrence::Nothing, 1),
    (Occurrence::Identity, 3),
    (Occurrence::HandleChange, 2),
    (Occurrence::Rest, 3),
    (Occurrence::Takedown, 2),
    (Occurrence::Birth, 3),
];

impl World {
    /// The next event of the crowd. Its time is `now`, or just after the last event's if that is
    /// later.
    pub fn next_event(&mut self, now: Micros) -> Event {
        if let Some(event) = self.pending.pop_front() {
            return event;
        }
        let is_free = |account: &Account| !account.is_reserved;
        assert!(self.accounts[..self.crowd].iter().any(is_free), "somebody must cause an event");
        let index = loop {
            let index = self.rng.random_range(0..self.crowd);
            if is_free(&self.accounts[index]) {
                break index;
            }
        };
        let mut events = match self.accounts[index].standing {
            Standing::Active => self.occur(index, now),
            Standing::Deactivated => self.reactivate(index, now),
            Standing::Takendown | Standing::Deleted => {
                vec![self.stand(index, Standing::Active, now)]
            }
        };
        // The reference PDS skips numbers where rows were erased.
        if self.rng.random_ratio(1, 200) {
            events[0].seqs_skipped = self.rng.random_range(1..=5);
        }
        let mut events = events.into_iter();
        let first = events.next().expect("an occurrence is at least one event");
        self.pending.extend(events);
        first
    }

    fn occur(&mut self, index: usize, now: Micros) -> Vec<Event> {
        let account = &self.accounts[index];
        let may_change = account.standing_changes + 2 <= STANDING_CHANGES_MAX;
        let may_rest = may_change && !account.sync_spent;
        match self.draw_occurrence() {
            Occurrence::Create => vec![self.create(index, now)],
            Occurrence::Delete => vec![self.delete(index, now)],
            Occurrence::UpdateProfile => vec![self.update_profile(index, now)],
            Occurrence::Several => vec![self.several(index, now)],
            Occurrence::Nothing => vec![self.commit(index, now, &[])],
            Occurrence::Identity => vec![self.identify(index, now)],
            Occurrence::HandleChange => vec![self.change_handle(index, now)],
            Occurrence::Rest if may_rest => vec![self.stand(index, Standing::Deactivated, now)],
            Occurrence::Takedown if may_change => {
                vec![self.stand(index, Standing::Takendown, now)]
            }
            // Specimens stand at the end of the accounts: nobody is born after them.
            Occurrence::Birth if self.crowd == self.accounts.len() => {
                let host = self.rng.random_range(0..self.hosts.len());
                self.birth(host, now)
            }
            Occurrence::Rest | Occurrence::Takedown | Occurrence::Birth => {
                vec![self.create(index, now)]
            }
        }
    }

    fn draw_occurrence(&mut self) -> Occurrence {
        let mut point = self.rng.random_range(0..1000);
        for (occurrence, share) in SHARES {
            if point < share {
                return occurrence;
            }
            point -= share;
        }
        Occurrence::Create
    }

    fn create(&mut self, index: usize, now: Micros) -> Event {
        let write = self.draw_create(now);
        self.commit(index, now, &[write])
    }

    fn delete(&mut self, index: usize, now: Micros) -> Event {
        match self.draw_path(index) {
            Some(path) => self.commit(index, now, &[Write::Delete(path)]),
            None => self.create(index, now),
        }
    }

    fn update_profile(&mut self, index: usize, now: Micros) -> Event {
        let profile = record::profile(&mut self.rng);
        let path = record::PROFILE.to_owned();
        let write = match self.accounts[index].repo.holds(&path) {
            true => Write::Update(path, profile),
            false => Write::Create(path, profile),
        };
        self.commit(index, now, &[write])
    }

    /// Several writes to distinct paths in one commit: a thread, a list of follows, a clean-up.
    fn several(&mut self, index: usize, now: Micros) -> Event {
        let count = self.rng.random_range(2..=10);
        let mut writes: Vec<Write> = Vec::with_capacity(count);
        for _ in 0..count {
            let doomed = match self.rng.random_ratio(1, 4) {
                true => self.draw_path(index),
                false => None,
            };
            let write = match doomed {
                Some(path) => Write::Delete(path),
                None => self.draw_create(now),
            };
            if !writes.iter().any(|known| known.path() == write.path()) {
                writes.push(write);
            }
        }
        self.commit(index, now, &writes)
    }

    /// A commit of an account: one record.
    pub fn write(&mut self, index: usize, now: Micros) -> Event {
        self.create(index, now)
    }

    /// A commit of an account: one post of so many bytes and some.
    pub fn write_large(&mut self, index: usize, bytes: usize, now: Micros) -> Event {
        let time = self.tick(now);
        let text = Value::Text("x".repeat(bytes));
        let record = Value::Map(vec![("$type", "app.bsky.feed.post".into()), ("text", text)]);
        let path = format!("app.bsky.feed.post/{}", Tid::from_micros(time, CLOCK_ID));
        self.commit(index, now, &[Write::Create(path, record.encode())])
    }

    /// Gives an account another key; the document that says so. Its next commit is signed by it.
    pub fn rotate_key(&mut self, index: usize) -> serde_json::Value {
        let curve = self.accounts[index].curve;
        self.accounts[index].set_curve(&mut self.rng, curve);
        self.accounts[index].document(&self.hosts)
    }

    fn identify(&mut self, index: usize, now: Micros) -> Event {
        let time = self.tick(now);
        let account = &self.accounts[index];
        account.event(Kind::Identity, account.identity_frame(time))
    }

    fn change_handle(&mut self, index: usize, now: Micros) -> Event {
        let number: u32 = self.rng.random_range(0..1_000_000);
        self.accounts[index].handle = format!("user{index}-{number}.test");
        let document = self.accounts[index].document(&self.hosts);
        Event { document: Some(document), ..self.identify(index, now) }
    }

    fn stand(&mut self, index: usize, standing: Standing, now: Micros) -> Event {
        let time = self.tick(now);
        let account = &mut self.accounts[index];
        account.standing = standing;
        account.standing_changes += 1;
        account.event(Kind::Account, account.account_frame(time))
    }

    /// As the reference PDS does it: `#account`, `#identity`, `#sync`.
    fn reactivate(&mut self, index: usize, now: Micros) -> Vec<Event> {
        let active = self.stand(index, Standing::Active, now);
        let identity = self.identify(index, now);
        let time = self.tick(now);
        let account = &mut self.accounts[index];
        account.sync_spent = true;
        let sync = account.repo.sync_frame(&account.did, time).expect("only committers rest");
        vec![active, identity, account.event(Kind::Sync, sync)]
    }

    pub(super) fn commit(&mut self, index: usize, now: Micros, writes: &[Write]) -> Event {
        let time = self.tick(now);
        let account = &mut self.accounts[index];
        let commit = account.repo.commit(&account.did, &account.key, time, writes);
        account.event(Kind::Commit, commit.draft().frame())
    }

    /// A record of the live network's mix, under a key of its own.
    pub(super) fn draw_create(&mut self, now: Micros) -> Write {
        let time = self.tick(now);
        let collection = Collection::draw(&mut self.rng);
        let about = self.accounts[self.rng.random_range(0..self.crowd.max(1))].did.clone();
        let record = collection.record(&mut self.rng, &about, time);
        Write::Create(collection.path(Tid::from_micros(time, CLOCK_ID)), record)
    }

    fn draw_path(&mut self, index: usize) -> Option<String> {
        let repo = &self.accounts[index].repo;
        if repo.is_empty() {
            return None;
        }
        Some(repo.path(self.rng.random_range(0..repo.len())).to_owned())
    }
}

/// Half of what a relay allows an account in an hour, so that no seed meets that limit.
const STANDING_CHANGES_MAX: u32 = 5;
