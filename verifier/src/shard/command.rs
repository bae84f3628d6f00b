//! What a shard does about its accounts without an event: commands.

use protocol::account::Local;
use protocol::did::Did;
use protocol::ids::{HostId, Micros};

use super::Shard;
use crate::check;
use crate::command::{Done, Order, Work};
use crate::verdict::{Identity, Outcome};

impl Shard {
    /// Does what is asked; the answer leaves with the verdict that makes it true.
    pub(crate) fn command(&mut self, order: Order, now: Micros) {
        match order.work {
            Work::Decide { did, local } => {
                self.metrics.decided();
                self.decide(&did, local, now);
            }
            Work::Quota { did, host, throttled } => {
                self.metrics.quota();
                self.set_quota(&did, host, throttled, now);
            }
            Work::Learn(identities) => {
                for identity in identities {
                    self.metrics.pushed();
                    self.learn(identity, now);
                }
            }
        }
        self.acknowledge(order.done);
    }

    /// Our own decision about an account. Its events that wait are judged by it.
    fn decide(&mut self, did: &Did, local: Local, now: Micros) {
        let prior = self.accounts.get(did);
        if let Some(decided) = check::decide(did, prior.as_ref(), local, now) {
            self.decided(decided, prior.as_ref());
        }
    }

    /// The limit of the account's host throttles it, or does so no more. Who has moved since then
    /// is another limit's.
    fn set_quota(&mut self, did: &Did, host: HostId, throttled: bool, now: Micros) {
        let Some(prior) = self.accounts.get(did).filter(|it| it.home() == Some(host)) else {
            return;
        };
        let judge = if throttled { check::over_quota } else { check::within_quota };
        if let Some(decided) = judge(did, &prior, now) {
            self.decided(decided, Some(&prior));
        }
    }

    /// A document that was read elsewhere.
    fn learn(&mut self, identity: Identity, now: Micros) {
        let did = identity.did.clone();
        let waiting = self.parked.hosts(&did);
        let recall = || (self.recall.identity)(&did);
        let is_news = match self.directory.replace(&identity) {
            Some(is_news) => is_news,
            // Not in memory, where it may stay: most of what is read elsewhere is of accounts that
            // say nothing. The store's copy is the one to compare with.
            None if waiting.is_empty() => {
                recall().is_none_or(|held| held.fetched < identity.fetched || held.fetched > now)
            }
            None => {
                self.directory.known(&did, recall, now);
                self.directory.replace(&identity) == Some(true)
            }
        };
        if !is_news {
            return;
        }
        self.say(None, Outcome::Learnt(identity.into()));
        for host in waiting {
            self.resume(&did, host, now);
        }
    }

    /// Answers with what comes last: everything before it is committed by then.
    fn acknowledge(&mut self, done: Done) {
        self.say(None, Outcome::Silence);
        self.answer_with_last(done);
    }

    /// The verdict that was said last answers somebody when it is committed.
    pub(super) fn answer_with_last(&mut self, done: Done) {
        let verdict = self.verdicts.last_mut().expect("it was just said");
        verdict.done = Some(done);
    }
}
