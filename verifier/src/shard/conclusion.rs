//! What becomes of an event or a finding, and how that leaves the shard.

use bytes::Bytes;
use protocol::account::{Account, Local};
use protocol::did::Did;
use protocol::frame::{HostKind, Kind};
use protocol::ids::Micros;
use protocol::reject::Reject;
use protocol::ticket::Ticket;

use super::Shard;
use crate::check::{Claim, Status};
use crate::event::Origin;
use crate::finding::{Errand, Found};
use crate::identity::Lookup;
use crate::parked::{Subject, Waiting};
use crate::verdict::{Accepted, EXCERPT_BYTES_MAX, Gap, Outcome};

/// What becomes of it. Of a finding one part may go out and the other be refused; or neither, where
/// we hold what was found. Of an event one does, unless its host is removed.
#[derive(Debug, Default)]
pub(super) struct Conclusion {
    pub(super) accepted: Option<Box<Accepted>>,
    pub(super) offence: Option<Offence>,
}

impl Conclusion {
    /// Its host is removed: whoever waits for a finding is told, and nobody else.
    pub(super) fn of_nobody(subject: &Subject) -> Self {
        match subject {
            Subject::Event { .. } => Self::default(),
            Subject::Finding(_) => Offence::from(Reject::WrongHost).into(),
        }
    }

    /// Nothing goes out, since its account is throttled.
    pub(super) fn is_throttled(&self) -> bool {
        let reject = self.offence.map(|offence| offence.reject);
        self.accepted.is_none() && reject == Some(Reject::AccountThrottled)
    }
}

/// Why something is dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offence {
    reject: Reject,
    /// We miss something by it, which reconciliation owes (I13).
    is_owed: bool,
}

impl Offence {
    /// With what the host has said of the account's status, if it was asked.
    pub(super) fn knowing(reject: Reject, status: Option<&Status>) -> Self {
        // An account whose host does not answer may well be active: what it wrote is missed.
        let is_unanswered =
            reject == Reject::AccountInactive && matches!(status, Some(Status::None));
        Self { reject, is_owed: is_unanswered || reject.leaves_gap() }
    }
}

impl From<Reject> for Offence {
    fn from(reject: Reject) -> Self {
        Self { reject, is_owed: reject.leaves_gap() }
    }
}

impl From<Offence> for Conclusion {
    fn from(offence: Offence) -> Self {
        Self { accepted: None, offence: Some(offence) }
    }
}

impl Shard {
    /// It leaves with what was found.
    pub(super) fn conclude(&mut self, w: Waiting, conclusion: Conclusion, now: Micros) {
        self.parked.conclude(&w);
        let Conclusion { mut accepted, offence } = conclusion;
        let reject = offence.map(|offence| offence.reject);
        if reject == Some(Reject::SignatureInvalid) {
            self.directory.note_forged(&w.did, now);
        }
        let is_kept_back = reject == Some(Reject::AccountThrottled) && w.is_throttled_here();
        let said_before = self.verdicts.len();
        match &mut accepted {
            Some(accepted) => self.apply(&w, accepted, now),
            None if reject == Some(Reject::AccountThrottled) => self.admit_throttled(&w, now),
            None => {}
        }
        if self.directory.refresh(&w.did, &w.origin, now) {
            self.lookups.push(Lookup::Document { did: w.did.clone(), began: now });
        }
        match w.subject {
            Subject::Event { ticket, frame, .. } => {
                if let Some(accepted) = accepted {
                    self.metrics.passed(&accepted);
                    self.say(Some(ticket), Outcome::Accept(accepted));
                } else if let Some(mut offence) = offence {
                    offence.is_owed &= !is_kept_back;
                    self.drop_event(ticket, &w.origin, offence, w.did, &frame);
                } else {
                    self.say(Some(ticket), Outcome::Silence);
                }
            }
            Subject::Finding(errand) => {
                let has_said = self.verdicts.len() > said_before;
                let found = match (&accepted, reject) {
                    (_, Some(reject)) => Found::Refused(reject),
                    (Some(_), None) => Found::Repaired,
                    (None, None) => Found::InStep,
                };
                match accepted {
                    Some(accepted) => self.say(None, Outcome::Accept(accepted)),
                    None if has_said => {}
                    None => self.say(None, Outcome::Silence),
                }
                self.report(*errand, found);
            }
        }
    }

    /// It is refused before anything was looked up.
    pub(super) fn refuse(&mut self, subject: Subject, origin: &Origin, did: Did, reject: Reject) {
        match subject {
            Subject::Event { ticket, frame, .. } => {
                self.drop_event(ticket, origin, reject.into(), did, &frame);
            }
            Subject::Finding(errand) => {
                self.say(None, Outcome::Silence);
                self.report(*errand, Found::Refused(reject));
            }
        }
    }

    /// What goes out changes what we hold.
    fn apply(&mut self, w: &Waiting, accepted: &mut Accepted, now: Micros) {
        accepted.closes_ratchet = accepted.closes_ratchet && w.origin.close_ratchet();
        if let Some(account) = &accepted.account {
            let local = account.local;
            self.accounts.set(&w.did, account.clone(), self.marks + 1);
            accepted.decided = self.note_local(&w.did, w.prior.as_ref(), local);
        }
        let repo = accepted.account.as_ref().and_then(|account| account.repo);
        let is_sync = accepted.frames.iter().any(|frame| frame.kind() == Kind::Sync);
        if let Some(repo) = repo.filter(|_| is_sync) {
            self.accounts.note_sync(&w.did, repo.rev, now);
        }
        let said_at = match &w.subject {
            _ if accepted.healed => self.accounts.asked(&w.did).map(|asked| asked.at),
            Subject::Event { kind, .. } => is_status(*kind).then_some(w.received),
            Subject::Finding(errand) => errand.finding.status.as_ref().map(|_| w.received),
        };
        if let Some(at) = said_at {
            self.accounts.note_told(&w.did, at);
        }
    }

    /// Somebody waits for what comes of a finding; what was said last makes it true.
    fn report(&mut self, errand: Errand, found: Found) {
        self.metrics.found(found);
        let Errand { answer, done, .. } = errand;
        self.answer_with_last(done);
        // Nobody may wait any more; the finding was judged all the same.
        answer.send(found).ok();
    }

    /// An account's event is dropped here.
    fn drop_event(
        &mut self,
        ticket: Ticket,
        origin: &Origin,
        offence: Offence,
        did: Did,
        frame: &Bytes,
    ) {
        self.metrics.dropped(offence.reject);
        // A repeat is nobody's offence: there is nothing to look at later.
        let is_repeat = offence.reject == Reject::AlreadyApplied;
        let excerpt = if is_repeat { &[][..] } else { &frame[..] };
        self.reject(ticket, origin, offence, Some(did), excerpt);
    }

    pub(super) fn reject(
        &mut self,
        ticket: Ticket,
        origin: &Origin,
        offence: Offence,
        did: Option<Did>,
        frame: &[u8],
    ) {
        let Offence { reject, is_owed } = offence;
        let gap = is_owed.then(|| match &did {
            Some(did) if self.accounts.get(did).is_some() => Gap::Account(did.clone()),
            _ => Gap::Host,
        });
        // Copied, so that a kept excerpt does not keep a frame of megabytes.
        let excerpt = Bytes::copy_from_slice(&frame[..frame.len().min(EXCERPT_BYTES_MAX)]);
        let host = origin.host();
        self.say(Some(ticket), Outcome::Reject { reject, host, did, excerpt, gap });
    }
}

impl Waiting {
    /// It is a commit or a sync of an account that its host has while it is throttled: whoever
    /// lifts that owes the account a look, so that each of them need not.
    fn is_throttled_here(&self) -> bool {
        let is_throttled = |prior: &Account| {
            matches!(prior.local, Local::Throttled(_)) && prior.home() == Some(self.origin.host())
        };
        matches!(self.claim, Claim::Repo(_)) && self.prior.as_ref().is_some_and(is_throttled)
    }
}

/// Whether such an event says what an account's status is.
fn is_status(kind: HostKind) -> bool {
    matches!(kind, HostKind::Event(Kind::Account) | HostKind::LegacyTombstone)
}
