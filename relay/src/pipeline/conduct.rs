//! What hosts do that no honest one does, counted by the hour.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crawler::allowance::{
    CONDUCT_WINDOW, Conduct, HOSTILE_PER_ACCOUNT_MAX, HOSTILE_PER_HOUR_MAX, is_hostile,
};
use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use protocol::reject::Reject;

/// Hostile drops of each host within the hour that began with the first of them. Cheap to clone.
/// Honest hosts are not in it: nothing is locked for what passes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<HashMap<HostId, Tally>>>);

#[derive(Debug)]
struct Tally {
    since: Micros,
    hostile: u64,
    /// How many of them count of each account. At most [`HOSTILE_PER_HOUR_MAX`] accounts: with more
    /// there is enough for a judgement.
    by_account: HashMap<Did, u32>,
    /// The events that the host had sent when its hour was first looked at.
    events_before: Option<u64>,
}

impl Ledger {
    /// A host's event was dropped, of this account if that is known. At most one entry for each
    /// host that is known.
    pub(super) fn dropped(&self, host: HostId, did: Option<&Did>, reject: Reject, now: Micros) {
        if !is_hostile(reject) {
            return;
        }
        let mut tallies = self.tallies();
        let tally = tallies.entry(host).or_insert_with(|| Tally::new(now));
        if now.since(tally.since) >= CONDUCT_WINDOW {
            *tally = Tally::new(now);
        }
        tally.count(did);
    }

    /// What the host did in its hour. `events` is what it has sent so far, since ever.
    pub(super) fn conduct(
        &self,
        host: HostId,
        events: u64,
        last_event: Micros,
        now: Micros,
    ) -> Conduct {
        let mut tallies = self.tallies();
        let quiet = Conduct { last_event, ..Conduct::default() };
        let Some(tally) = tallies.get_mut(&host) else { return quiet };
        if now.since(tally.since) >= CONDUCT_WINDOW {
            tallies.remove(&host);
            return quiet;
        }
        let before = *tally.events_before.get_or_insert(events);
        let events = events.saturating_sub(before);
        Conduct { last_event, hostile: tally.hostile, events }
    }

    /// The host has been judged, or is gone: its next hour begins with its next hostile drop.
    pub(super) fn forget(&self, host: HostId) {
        self.tallies().remove(&host);
    }

    /// Drops hours that are over: also those of hosts that were removed meanwhile.
    pub(super) fn tidy(&self, now: Micros) {
        self.tallies().retain(|_, tally| now.since(tally.since) < CONDUCT_WINDOW);
    }

    fn tallies(&self) -> MutexGuard<'_, HashMap<HostId, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn new(since: Micros) -> Self {
        Self { since, hostile: 0, by_account: HashMap::new(), events_before: None }
    }

    fn count(&mut self, did: Option<&Did>) {
        if let Some(did) = did {
            let accounts = self.by_account.len();
            match self.by_account.get_mut(did) {
                Some(count) if *count >= HOSTILE_PER_ACCOUNT_MAX => return,
                Some(count) => *count += 1,
                None if accounts < ACCOUNTS_MAX => {
                    self.by_account.insert(did.clone(), 1);
                }
                None => {}
            }
        }
        self.hostile += 1;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a thousand")]
const ACCOUNTS_MAX: usize = HOSTILE_PER_HOUR_MAX as usize;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Micros = Micros(1_700_000_000_000_000);
    const HOST: HostId = HostId(7);

    fn at(minutes: u64) -> Micros {
        NOW.plus(Duration::from_mins(minutes))
    }

    /// What is found of the host, as hostile drops and events of its hour.
    fn found(ledger: &Ledger, events: u64, now: Micros) -> (u64, u64) {
        let conduct = ledger.conduct(HOST, events, NOW, now);
        assert_eq!(conduct.last_event, NOW);
        (conduct.hostile, conduct.events)
    }

    #[test]
    fn an_hour_begins_with_the_first_hostile_drop_and_ends() {
        let ledger = Ledger::default();
        assert_eq!(found(&ledger, 1_000, at(0)), (0, 0));
        ledger.dropped(HOST, None, Reject::WrongHost, at(0));
        assert_eq!(found(&ledger, 1_000, at(1)), (1, 0));
        ledger.dropped(HOST, None, Reject::SignatureInvalid, at(59));
        assert_eq!(found(&ledger, 1_200, at(59)), (2, 200));
        assert_eq!(found(&ledger, 1_300, at(60)), (0, 0));
        ledger.dropped(HOST, None, Reject::WrongHost, at(70));
        ledger.dropped(HOST, None, Reject::WrongHost, at(130));
        assert_eq!(found(&ledger, 2_000, at(131)), (1, 0));
    }

    #[test]
    fn what_an_honest_host_does_is_not_counted_and_hosts_are_counted_apart() {
        let ledger = Ledger::default();
        ledger.dropped(HOST, None, Reject::PrevDataMissing, NOW);
        assert_eq!(ledger.tallies().len(), 0);
        ledger.dropped(HostId(8), None, Reject::WrongHost, NOW);
        assert_eq!(found(&ledger, 10, NOW), (0, 0));
        ledger.forget(HostId(8));
        assert_eq!(ledger.tallies().len(), 0);
        ledger.dropped(HOST, None, Reject::WrongHost, at(0));
        ledger.tidy(at(59));
        assert_eq!(ledger.tallies().len(), 1);
        ledger.tidy(at(60));
        assert_eq!(ledger.tallies().len(), 0);
    }

    /// Its owner writes another key or another host into its DID document, and posts.
    #[test]
    fn one_account_does_not_make_its_host_hostile_but_many_do() {
        let did = |number| Did::parse(&format!("did:web:u{number}.example.com")).unwrap();
        let dropped = |ledger: &Ledger, did: Did| {
            ledger.dropped(HOST, Some(&did), Reject::SignatureInvalid, NOW);
        };
        let ledger = Ledger::default();
        (0..10_000).for_each(|_| dropped(&ledger, did(0)));
        assert_eq!(found(&ledger, 0, NOW).0, 10);
        (1..5_000).for_each(|number| dropped(&ledger, did(number)));
        assert_eq!(found(&ledger, 0, NOW).0, 10 + 4_999);
        assert_eq!(ledger.tallies()[&HOST].by_account.len(), ACCOUNTS_MAX);
        // What nobody's name is on counts whole.
        (0..100).for_each(|_| ledger.dropped(HOST, None, Reject::FrameMalformed, NOW));
        assert_eq!(found(&ledger, 0, NOW).0, 5_109);
        dropped(&ledger, did(0));
        assert_eq!(found(&ledger, 0, NOW).0, 5_109);
    }
}
