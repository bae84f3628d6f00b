//! One shard: its accounts, their identities, and the events that wait. Knows no threads and no
//! clock: events, findings and answers go in with the time, verdicts and look-ups come out.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use protocol::account::Account;
use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use protocol::reject::Reject;
use protocol::ticket::Ticket;
use protocol::tid::Tid;

use crate::accounts::Accounts;
use crate::arrival::Arrival;
use crate::check::{self, Case, Claim, Known, Need, Proof, Ruling, Status};
use crate::containment::Containment;
use crate::event::{Content, Event, Lenience, Origin};
use crate::finding::Finding;
use crate::identity::{Answer, Directory, Found, Lookup, Progress, Snapshot, Wanted};
use crate::metrics::{Fill, Metrics};
use crate::options::{Handles, Options, Recall, Timing};
use crate::parked::{Parked, Share, Subject, Waiting};
use crate::shard::conclusion::{Conclusion, Offence};
use crate::shard::throttle::Lifts;
use crate::verdict::{Mark, Outcome, Verdict};

/// The state of one shard; owned by its thread.
pub(crate) struct Shard {
    index: usize,
    handles: Handles,
    timing: Timing,
    recall: Arc<Recall>,
    checks: Containment,
    accounts: Accounts,
    directory: Directory,
    parked: Parked,
    directories_well: bool,
    lifts: Lifts,
    metrics: Metrics,
    marks: u64,
    verdicts: Vec<Verdict>,
    lookups: Vec<Lookup>,
}

/// An event or a finding, as far as it has been seen without taking it apart.
pub(crate) struct Seen<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) subject: &'a Subject,
    pub(crate) received: Micros,
}

/// What the look at its state has shown.
enum Poll {
    Done(Conclusion),
    /// Look again when an answer comes, and at this time.
    Wait(Micros),
}

impl Shard {
    pub(crate) fn new(
        index: usize,
        options: &Options,
        recall: Arc<Recall>,
        settled: Arc<[AtomicU64]>,
        share: Share,
        throttled: Vec<(Did, Micros)>,
        metrics: Metrics,
    ) -> Self {
        let per_shard = |max: usize| (max / options.threads).max(1);
        let accounts_max = per_shard(options.accounts_cached_max);
        Self {
            index,
            handles: options.handles,
            timing: options.timing.clone(),
            accounts: Accounts::new(accounts_max, Arc::clone(&recall), settled, index),
            directory: Directory::new(options),
            recall,
            checks: Containment::new(Arc::clone(&options.on_panic), &options.faults),
            parked: Parked::new(share),
            directories_well: true,
            lifts: Lifts::new(throttled),
            metrics,
            marks: 0,
            verdicts: Vec::new(),
            lookups: Vec::new(),
        }
    }

    /// Judges an event, or parks it.
    pub(crate) fn event(&mut self, event: Event, now: Micros) {
        self.metrics.received();
        let Content::Event { did: Ok(did), .. } = &event.content else {
            return self.plain(event);
        };
        let did = did.clone();
        self.enter(&did, Arrival::Event(event), now);
    }

    /// At the end of its line, or judged if there is none.
    fn enter(&mut self, did: &Did, arrival: Arrival, now: Micros) {
        let origin = arrival.origin();
        let (host, is_overfull) = (origin.host(), self.is_overfull(origin));
        if let Some(arrival) = self.parked.queue(did, arrival) {
            let head = self.begin(arrival, now);
            self.advance(head, VecDeque::new(), now);
        } else if is_overfull {
            self.resume(did, host, now);
        }
    }

    /// An answer has come: it may decide the events of its account.
    pub(crate) fn answer(&mut self, answer: Answer, now: Micros) {
        let Answer { did, found } = answer;
        self.metrics.lookup(&found);
        match found {
            Found::Handle(handle, resolution) => self.parked.hear(&did, &handle, &resolution),
            Found::Status(host, status) => {
                if let Some(asked) = self.accounts.asked(&did).filter(|asked| asked.host == host) {
                    asked.status = Some(status);
                }
            }
            found => {
                if let Some(identity) = self.directory.arrived(&did, found, now) {
                    self.say(None, Outcome::Learnt(Box::new(identity.as_ref().clone())));
                }
            }
        }
        for host in self.parked.hosts(&did) {
            self.resume(&did, host, now);
        }
    }

    /// Looks at the lines that are due.
    pub(crate) fn tick(&mut self, now: Micros) {
        while let Some((did, host)) = self.parked.due(now) {
            self.resume(&did, host, now);
        }
        self.lift_due(now);
        self.metrics.fill(&Fill {
            accounts: self.accounts.len(),
            identities: self.directory.len(),
            identities_bytes: self.directory.bytes(),
            under_way: self.directory.under_way(),
            parked_accounts: self.parked.len(),
            parked_bytes: self.parked.bytes(),
            lifts: self.lifts.len(),
        });
    }

    /// When [`Shard::tick`] is due.
    pub(crate) fn next_wake(&self) -> Option<Micros> {
        [self.parked.next_wake(), self.lifts.next()].into_iter().flatten().min()
    }

    /// Whether no more events are taken from a host, because too much of it waits already: they
    /// stay in the intake, hold its permits, and so stop its socket.
    pub(crate) fn holds(&self, origin: &Origin) -> bool {
        self.parked.is_crowded(origin) && self.directories_well
    }

    /// Whether directories answer, and soon. If not, it is of no use to wait for them in front of
    /// a host's socket: its known accounts would wait, too (I10).
    pub(crate) fn set_directories_well(&mut self, are_well: bool) {
        self.directories_well = are_well;
    }

    /// Whether what waits of a host is too much already and will not become less soon: then what
    /// would wait, too, is given up.
    fn is_overfull(&self, origin: &Origin) -> bool {
        !self.directories_well && self.parked.is_crowded(origin)
    }

    /// The verdicts since the last call, in order.
    pub(crate) fn take_verdicts(&mut self) -> Vec<Verdict> {
        mem::take(&mut self.verdicts)
    }

    /// The look-ups that must begin.
    pub(crate) fn take_lookups(&mut self) -> Vec<Lookup> {
        mem::take(&mut self.lookups)
    }

    /// What was decided before it came here, and what has no account.
    fn plain(&mut self, event: Event) {
        let Event { origin, ticket, content, .. } = event;
        match content {
            Content::Passed => self.say(Some(ticket), Outcome::Silence),
            Content::Dropped { reject, did, excerpt } => {
                self.reject(ticket, &origin, reject.into(), did, &excerpt);
            }
            Content::Event { did, frame, .. } => {
                let error = did.expect_err("an account's events take their turn");
                let reject = check::did_reject(error);
                self.metrics.dropped(reject);
                self.reject(ticket, &origin, reject.into(), None, &frame);
            }
        }
    }

    /// A line, if it is there, is looked at.
    fn resume(&mut self, did: &Did, host: HostId, now: Micros) {
        if let Some((head, behind)) = self.parked.lift(did, host) {
            self.advance(Some(head), behind, now);
        }
    }

    /// Judges a line from its head on, until one has to wait (I4: nobody overtakes).
    fn advance(&mut self, mut head: Option<Waiting>, mut behind: VecDeque<Arrival>, now: Micros) {
        loop {
            if let Some(mut waiting) = head {
                match self.poll(&mut waiting, now) {
                    Poll::Wait(wake) => return self.parked.park(waiting, behind, wake),
                    Poll::Done(conclusion) => self.conclude(waiting, conclusion, now),
                }
            }
            let Some(arrival) = behind.pop_front() else { return };
            self.parked.leave(&arrival);
            head = self.begin(arrival, now);
        }
    }

    /// Its turn has come: all checks but the look-ups. `None`: it is dropped.
    fn begin(&mut self, arrival: Arrival, now: Micros) -> Option<Waiting> {
        let (origin, did, received, subject) = match arrival {
            Arrival::Event(Event { origin, ticket, received, content }) => {
                let Content::Event { kind, did: Ok(did), frame } = content else {
                    unreachable!("only events of accounts stand in line");
                };
                (origin, did, received, Subject::Event { ticket, kind, frame })
            }
            Arrival::Finding(errand) => {
                let Finding { origin, did, seen, .. } = &errand.finding;
                (Arc::clone(origin), did.clone(), *seen, Subject::Finding(errand))
            }
        };
        let mut prior = self.accounts.get(&did);
        if prior.as_ref().and_then(|it| check::lifted_at(it.local)).is_some_and(|at| at <= now) {
            prior = self.lift(&did, prior, now);
        }
        let seen = Seen { origin: &origin, subject: &subject, received };
        let claim = match self.claim(&seen, &did, prior.as_ref(), now) {
            Ok(claim) => claim,
            Err(reject) => {
                self.refuse(subject, &origin, did, reject);
                return None;
            }
        };
        let before = self.snapshot(&did, now).identity;
        if matches!(claim, Claim::Identity(_)) {
            self.directory.mark_stale(&did, now);
        }
        Some(Waiting {
            origin,
            subject,
            received,
            did,
            claim,
            prior,
            before,
            since: now,
            counted: false,
            inquiry: Inquiry::default(),
        })
    }

    /// All checks but the look-ups.
    fn claim(
        &mut self,
        seen: &Seen<'_>,
        did: &Did,
        prior: Option<&Account>,
        now: Micros,
    ) -> Result<Claim, Reject> {
        let synced = self.synced(did, now);
        let case = self.case(seen, did, prior, synced, now);
        match seen.subject {
            Subject::Event { .. } => self.checks.begin(&case),
            Subject::Finding(errand) => {
                let evidence = self.evidence(&errand.finding);
                self.checks.begin_found(&case, evidence)
            }
        }
    }

    /// Judges who speaks, with what is known by now; asks for what is not.
    fn poll(&mut self, waiting: &mut Waiting, now: Micros) -> Poll {
        if waiting.origin.is_retired() {
            return Poll::Done(Conclusion::of_nobody(&waiting.subject));
        }
        let prior = self.accounts.get(&waiting.did);
        if prior != waiting.prior {
            // Another host's event of the account has passed meanwhile.
            match self.claim(&waiting.seen(), &waiting.did, prior.as_ref(), now) {
                Ok(claim) => waiting.claim = claim,
                Err(reject) => return Poll::Done(Offence::from(reject).into()),
            }
            waiting.prior = prior;
        }
        match self.settle(waiting, now) {
            // Once more, and not again: it is throttled nowhere else any more.
            Poll::Done(conclusion)
                if conclusion.is_throttled() && self.admit_moved(waiting, now) =>
            {
                self.poll(waiting, now)
            }
            poll => poll,
        }
    }

    fn settle(&mut self, waiting: &mut Waiting, now: Micros) -> Poll {
        let late = now >= self.deadline(waiting);
        let mut unresolved = late;
        loop {
            let did = &waiting.did;
            let Snapshot { identity, missing, lagging, forged } = self.snapshot(did, now);
            let status = self.status(waiting, now).or_else(|| late.then_some(Status::None));
            let prior = waiting.prior.as_ref();
            let case = self.case(&waiting.seen(), did, prior, None, now);
            let known = Known {
                identity: identity.as_deref(),
                before: waiting.before.as_deref(),
                unresolved,
                missing,
                lagging,
                forged,
                status: status.as_ref(),
                handle: waiting.inquiry.hearing(),
            };
            let need = match self.checks.settle(&waiting.claim, &case, &known) {
                Ruling::Accept(accepted) => {
                    return Poll::Done(Conclusion { accepted: Some(accepted), offence: None });
                }
                Ruling::Part(accepted, reject) => {
                    let offence = Some(reject.into());
                    return Poll::Done(Conclusion { accepted: Some(accepted), offence });
                }
                Ruling::InStep => return Poll::Done(Conclusion::default()),
                Ruling::Reject(reject) => {
                    if late && reject == Reject::IdentityUnresolved {
                        self.directory.give_up(did, now);
                    }
                    return Poll::Done(Offence::knowing(reject, status.as_ref()).into());
                }
                Ruling::Wait(need) => need,
            };
            let soon = self.next_look(waiting, now);
            if let Need::Handle | Need::HandleDocument = need {
                let handle = identity.as_ref().and_then(|identity| identity.handle.as_deref());
                match self.inquire(waiting, need, handle, now) {
                    Some(look) => return Poll::Wait(look.min(soon)),
                    None => continue,
                }
            }
            match self.demand(waiting, need, now) {
                Progress::Unresolved | Progress::OverBudget if !unresolved => unresolved = true,
                Progress::Unresolved | Progress::OverBudget => {
                    return Poll::Done(Offence::from(Reject::IdentityUnresolved).into());
                }
                _ if late => {
                    return Poll::Done(Offence::from(Reject::IdentityUnresolved).into());
                }
                Progress::At(at) => return Poll::Wait(at.min(soon)),
                Progress::Begin | Progress::UnderWay => return Poll::Wait(soon),
            }
        }
    }

    /// Asks for what an event needs, if it is not under way or not due yet.
    fn demand(&mut self, waiting: &Waiting, need: Need, now: Micros) -> Progress {
        let did = &waiting.did;
        let since = match need {
            Need::Document => Micros(0),
            Need::DocumentSince(since) => since,
            Need::Status => return self.demand_status(waiting, now),
            Need::Handle | Need::HandleDocument => {
                unreachable!("these have a deadline of their own")
            }
        };
        let until = Micros(self.deadline(waiting).0 - 1);
        let wanted = Wanted { since, payer: &waiting.origin, until };
        let progress = self.directory.demand(did, wanted, now);
        match progress {
            Progress::Begin => {
                self.lookups.push(Lookup::Document { did: did.clone(), began: now });
            }
            Progress::OverBudget => self.metrics.over_budget(),
            Progress::UnderWay | Progress::At(_) | Progress::Unresolved => {}
        }
        progress
    }

    fn demand_status(&mut self, waiting: &Waiting, now: Micros) -> Progress {
        let host = waiting.origin.host();
        let under_way = self
            .accounts
            .asked(&waiting.did)
            .is_some_and(|asked| asked.host == host && asked.status.is_none());
        if under_way {
            return Progress::UnderWay;
        }
        self.accounts.note_asked(&waiting.did, host, now);
        let (did, name) = (waiting.did.clone(), waiting.origin.name().clone());
        self.lookups.push(Lookup::Status { did, host, name });
        Progress::Begin
    }

    fn say(&mut self, ticket: Option<Ticket>, outcome: Outcome) {
        self.marks += 1;
        let mark = Mark { shard: self.index, number: self.marks };
        self.verdicts.push(Verdict { mark, ticket, done: None, outcome });
    }

    fn case<'a>(
        &self,
        seen: &Seen<'a>,
        did: &'a Did,
        prior: Option<&'a Account>,
        synced: Option<Tid>,
        now: Micros,
    ) -> Case<'a> {
        let origin = seen.origin;
        let (kind, frame, epoch, seq) = match seen.subject {
            Subject::Event { ticket, kind, frame } => (*kind, frame, ticket.epoch, ticket.seq),
            Subject::Finding(errand) => {
                // It is no event of the host's: the account keeps the number of its last one.
                let held = prior.filter(|held| held.host == origin.host());
                let (epoch, seq) = held.map_or_else(Default::default, |it| (it.epoch, it.host_seq));
                (Finding::KIND, errand.finding.bytes(), epoch, seq)
            }
        };
        Case {
            kind,
            did,
            frame,
            host: origin.host(),
            name: origin.name(),
            epoch,
            seq,
            received: seen.received,
            proof: match origin.lenience() {
                Lenience::Lenient => Proof::Lenient,
                Lenience::Strict => Proof::Owed,
                Lenience::Ratchet if origin.ratchet_closed() => Proof::Owed,
                Lenience::Ratchet => Proof::NotYet,
            },
            handles: self.handles,
            prior,
            synced,
            host_is_full: origin.is_full(),
            tombstone_spacing: self.timing.tombstone_spacing,
            now,
        }
    }

    fn snapshot(&mut self, did: &Did, now: Micros) -> Snapshot {
        self.directory.known(did, || (self.recall.identity)(did), now)
    }

    fn synced(&mut self, did: &Did, now: Micros) -> Option<Tid> {
        let spacing = self.timing.sync_spacing;
        let (rev, at) = self.accounts.synced(did)?;
        (now < at.plus(spacing)).then_some(rev)
    }

    /// The host's answer about the account's status, if it is not older than a minute.
    fn status(&mut self, waiting: &Waiting, now: Micros) -> Option<Status> {
        let spacing = self.timing.status_spacing;
        let asked = self.accounts.asked(&waiting.did)?;
        let usable = asked.host == waiting.origin.host() && now < asked.at.plus(spacing);
        asked.status.clone().filter(|_| usable)
    }

    /// When a waiting event is judged with whatever is known.
    fn deadline(&self, waiting: &Waiting) -> Micros {
        if self.is_overfull(&waiting.origin) {
            return waiting.since;
        }
        if self.parked.is_crowded(&waiting.origin) {
            return waiting.since.plus(self.timing.crowded_deadline);
        }
        let extra = match waiting.claim {
            Claim::Tombstone => self.timing.tombstone_spacing,
            _ => Duration::ZERO,
        };
        waiting.since.plus(self.timing.deadline + extra)
    }

    /// When a waiting event is looked at again: at its deadline, or when it would be late if too
    /// much waited.
    fn next_look(&self, waiting: &Waiting, now: Micros) -> Micros {
        let crowded = waiting.since.plus(self.timing.crowded_deadline);
        let look = if now < crowded { crowded } else { now.plus(LOOK_INTERVAL) };
        look.min(self.deadline(waiting)).max(now.plus(LOOK_INTERVAL_MIN))
    }
}

/// How often a waiting event older than `crowded_deadline` is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(1);

mod command;
mod conclusion;
mod finding;
mod handles;
pub(crate) use handles::Inquiry;

#[cfg(test)]
mod tests;
pub(crate) mod throttle;
