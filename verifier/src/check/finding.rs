//! What reconciliation found of an account, judged as if its host had said it in a `#sync` and an
//! `#account`.

use bytes::Bytes;
use protocol::account::{Account, STATUS_CHARS_MAX, Upstream};
use protocol::car;
use protocol::cid::Cid;
use protocol::commit::Commit;
use protocol::datetime;
use protocol::did::Did;
use protocol::frame::Outgoing;
use protocol::ids::Seq;
use protocol::reject::Reject;

use super::speaker::RepoClaim;
use super::{Case, Claim, Known, Need, Ruling, Status, Stop, account, decision, envelope, sync};
use crate::verdict::Accepted;

/// What a host was found to hold of an account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// The block of its newest commit; nothing in it was checked.
    pub commit: Option<&'a Bytes>,
    /// What it says of the account's status, if nothing newer was heard.
    pub status: Option<&'a Upstream>,
}

/// What of the evidence is news, as far as it holds in itself.
#[derive(Debug)]
pub struct FindingClaim {
    /// A commit that is newer than ours, or what is wrong with it.
    repo: Option<Result<RepoClaim, Reject>>,
    /// The host's word, news or not.
    status: Option<Upstream>,
}

/// Looks at the evidence without any look-up. The case is that of a `#sync` whose epoch and number
/// are those that the account has: a finding is no event, and changes neither.
pub fn begin_found(case: &Case<'_>, evidence: Evidence<'_>) -> Claim {
    let repo = evidence.commit.and_then(|commit| repo(case, commit).transpose());
    let status = evidence.status.map(|status| Upstream {
        active: status.active,
        status: status.status.clone().filter(|it| it.chars().count() <= STATUS_CHARS_MAX),
    });
    Claim::Finding(FindingClaim { repo, status }.into())
}

/// The commit in a `#sync` of ours, judged as one of the host; `None`: we hold it, or a newer one.
fn repo(case: &Case<'_>, block: &Bytes) -> Result<Option<RepoClaim>, Reject> {
    if block.len() > sync::BLOCKS_BYTES_MAX {
        return Err(Reject::BlocksTooBig);
    }
    let commit = Commit::parse(block).map_err(|_| Reject::CommitMalformed)?;
    // Else another account's old commit would do for saying that this one is in step.
    if Did::parse(commit.did).as_ref() != Ok(case.did) {
        return Err(Reject::CommitDidMismatch);
    }
    let rev = envelope::rev(case, commit.rev)?;
    // Section 11: in step is "the fetched commit's own rev ≤ ours, whatever is listed".
    if case.prior.and_then(|held| held.repo).is_some_and(|held| rev <= held.rev) {
        return Ok(None);
    }
    let root = Cid::of_cbor(block);
    let blocks = car::write(&root, &[(root, &block[..])]);
    let outgoing = Outgoing::sync(case.did, rev, &blocks, &datetime::format(case.now));
    let mut frame = Vec::new();
    outgoing.write_with(Seq::ZERO, &mut frame);
    let claim = sync::begin(&Case { frame: &frame.into(), ..*case })?;
    // That we are behind is known, and is no offence of the account's.
    Ok(Some(RepoClaim { chain_break: false, ..claim }))
}

impl FindingClaim {
    /// Judges who says it. Section 6: an account that is active is so before its `#sync`, one that
    /// is not any more after it.
    pub(super) fn settle(&self, case: &Case<'_>, known: &Known<'_>) -> Ruling {
        let said = self.status.clone().map(Status::Of);
        let known = &Known { status: said.as_ref().or(known.status), ..*known };
        match self.judge(case, known) {
            Ok(judged) => judged.ruling(case),
            Err(need) => Ruling::Wait(need),
        }
    }

    fn judge(&self, case: &Case<'_>, known: &Known<'_>) -> Result<Judged, Need> {
        let mut judged = Judged::default();
        match &self.status {
            None => self.sync(case, known, &mut judged)?,
            Some(status) if status.active => {
                tell(status, case, known, &mut judged)?;
                // Who may not say that it is active may not say what is in it.
                if judged.reject.is_none() {
                    self.sync(case, known, &mut judged)?;
                }
            }
            Some(status) => {
                self.sync(case, known, &mut judged)?;
                tell(status, case, known, &mut judged)?;
            }
        }
        Ok(judged)
    }

    fn sync(&self, case: &Case<'_>, known: &Known<'_>, judged: &mut Judged) -> Result<(), Need> {
        let Some(repo) = &self.repo else { return Ok(()) };
        let after = judged.after();
        let case = Case { prior: after.as_ref().or(case.prior), ..*case };
        let result = match repo {
            Ok(claim) => claim.settle(&case, known),
            Err(reject) => Err(Stop::Reject(*reject)),
        };
        judged.add(result)
    }
}

/// What the host says of the status, if it is news to us. Section 6: an `#account` goes out for it,
/// whether or not what we publish changes; but for a new account that is active, as all are that
/// nothing else is said of.
fn tell(
    status: &Upstream,
    case: &Case<'_>,
    known: &Known<'_>,
    judged: &mut Judged,
) -> Result<(), Need> {
    let after = judged.after();
    let case = Case { prior: after.as_ref().or(case.prior), ..*case };
    let held = case.prior.filter(|held| held.home().is_some());
    if held.is_some_and(|held| held.upstream == *status) {
        return Ok(());
    }
    let result = account::said(&case, known, status, case.local()).map(|account| {
        let is_change = case.prior.map_or(&Upstream::ACTIVE, |it| &it.upstream) != status;
        let frame = if is_change {
            Some(decision::announced(case.did, &account, case.now))
        } else {
            decision::told(case.did, case.prior, &account, case.now)
        };
        case.accepted(frame.into_iter().collect(), account)
    });
    judged.add(result)
}

/// What has come of the parts so far.
#[derive(Default)]
struct Judged {
    accepted: Option<Accepted>,
    reject: Option<Reject>,
}

impl Judged {
    fn add(&mut self, result: Result<Accepted, Stop>) -> Result<(), Need> {
        match result {
            Ok(mut accepted) => {
                let mut frames = self.accepted.take().map(|it| it.frames).unwrap_or_default();
                frames.append(&mut accepted.frames);
                self.accepted = Some(Accepted { frames, ..accepted });
            }
            Err(Stop::Reject(reject)) => self.reject = self.reject.or(Some(reject)),
            Err(Stop::Wait(need)) => return Err(need),
        }
        Ok(())
    }

    /// The account as the parts so far leave it, if they change it.
    fn after(&self) -> Option<Account> {
        self.accepted.as_ref().and_then(|accepted| accepted.account.clone())
    }

    fn ruling(self, case: &Case<'_>) -> Ruling {
        let was = case.prior.and_then(Account::home);
        let accepted = self.accepted.map(|accepted| Box::new(Accepted { was, ..accepted }));
        match (accepted, self.reject) {
            (None, None) => Ruling::InStep,
            (None, Some(reject)) => Ruling::Reject(reject),
            (Some(accepted), None) => Ruling::Accept(accepted),
            (Some(accepted), Some(reject)) => Ruling::Part(accepted, reject),
        }
    }
}
