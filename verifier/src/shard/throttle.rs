//! What a shard does about its accounts by itself: throttles that end, and accounts over a limit.

use std::collections::BTreeSet;

use protocol::account::{Account, Local};
use protocol::did::Did;
use protocol::ids::Micros;

use super::Shard;
use crate::check;
use crate::parked::Waiting;
use crate::verdict::{Decided, Outcome};

/// When which throttles end.
#[derive(Debug, Default)]
pub(crate) struct Lifts(BTreeSet<(Micros, Did)>);

impl Lifts {
    pub(crate) fn new(throttled: Vec<(Did, Micros)>) -> Self {
        let mut lifts = Self::default();
        throttled.into_iter().for_each(|(did, until)| lifts.add(did, until));
        lifts
    }

    /// Beyond the bound an account is not remembered: its throttle ends with its next event, or
    /// after the next start.
    fn add(&mut self, did: Did, until: Micros) {
        if self.0.len() < LIFTS_MAX {
            self.0.insert((until, did));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn next(&self) -> Option<Micros> {
        self.0.first().map(|(until, _)| *until)
    }

    fn due(&mut self, now: Micros) -> Option<Did> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, did)| did)
    }
}

impl Shard {
    /// Ends what is due. After a start that may be much: not all at once.
    pub(super) fn lift_due(&mut self, now: Micros) {
        for _ in 0..LIFTS_PER_ROUND_MAX {
            let Some(did) = self.lifts.due(now) else { return };
            let account = self.accounts.get(&did);
            self.lift(&did, account, now);
        }
    }

    /// The account, its throttle lifted if that is over.
    pub(super) fn lift(
        &mut self,
        did: &Did,
        account: Option<Account>,
        now: Micros,
    ) -> Option<Account> {
        let lifted = account.as_ref().and_then(|account| check::lift(did, account, now));
        let Some(decided) = lifted else { return account };
        let (before, account) = (account, decided.account.clone());
        self.metrics.lifted();
        self.decided(decided, before.as_ref());
        Some(account)
    }

    /// The first event of an account at a host is over that host's limit: the account is held there
    /// all the same.
    pub(super) fn admit_throttled(&mut self, waiting: &Waiting, now: Micros) {
        let prior = waiting.prior.as_ref();
        let case = self.case(&waiting.seen(), &waiting.did, prior, None, now);
        if let Some(decided) = check::over_limit(&case) {
            self.decided(decided, prior);
        }
    }

    /// The account was throttled for the limit of the host that it has left, and its new one has
    /// room: it is not throttled any more. Whether it was so.
    pub(super) fn admit_moved(&mut self, waiting: &Waiting, now: Micros) -> bool {
        let prior = waiting.prior.as_ref();
        let case = self.case(&waiting.seen(), &waiting.did, prior, None, now);
        let Some(decided) = check::moved_in(&case) else { return false };
        self.decided(decided, prior);
        true
    }

    /// A decision takes effect.
    pub(super) fn decided(&mut self, decided: Decided, before: Option<&Account>) {
        let did = &decided.did;
        self.accounts.set(did, decided.account.clone(), self.marks + 1);
        self.note_local(did, before, decided.account.local);
        self.say(None, Outcome::Decided(decided.into()));
    }

    /// Counts our decisions in force, and remembers which ends by itself. Whether it has changed.
    pub(super) fn note_local(&mut self, did: &Did, before: Option<&Account>, local: Local) -> bool {
        let before = before.map_or(Local::None, |account| account.local);
        if before == local {
            return false;
        }
        self.metrics.in_force(before, local);
        if let Some(until) = check::lifted_at(local) {
            self.lifts.add(did.clone(), until);
        }
        true
    }
}

/// Throttles of one shard whose end is remembered, 100 bytes each: 10 MB. An account costs its host
/// eleven signed commits to come in here.
const LIFTS_MAX: usize = 100_000;
/// Each costs a read of the store at worst.
const LIFTS_PER_ROUND_MAX: usize = 64;
