//! The legacy `#tombstone`: an old host says that an account is gone. It is asked to prove it.

use protocol::account::{Account, Upstream};
use protocol::datetime;
use protocol::frame::{IdentityFrame, Outgoing};
use protocol::reject::Reject;

use super::account::{DELETED, emitted};
use super::{Case, Known, Need, Status, Stop, envelope, speaker};
use crate::verdict::Accepted;

/// Fields and `time`: the same as those of an `#identity` without a handle.
pub(super) fn begin(case: &Case<'_>) -> Result<(), Reject> {
    let frame = IdentityFrame::decode(case.frame).map_err(envelope::field_reject)?;
    envelope::same_did(case, frame.did)?;
    envelope::time(frame.time)
}

/// From the current or last known host only. The directory is asked first, then the host; what
/// goes out is an `#account`.
pub(super) fn settle(case: &Case<'_>, known: &Known<'_>) -> Result<Accepted, Stop> {
    let from_last_host = case.prior.is_some_and(|account| account.host == case.host);
    if !from_last_host {
        let identity = speaker::document(known)?;
        if identity.pds.as_ref() != Some(case.name) {
            return Err(speaker::convict(case, known, identity, Reject::WrongHost));
        }
    }
    if is_gone(case, known)? {
        return Ok(accept(case, Upstream { active: false, status: Some(DELETED.into()) }));
    }
    match known.status {
        None => Err(Stop::Wait(Need::Status)),
        Some(Status::Of(upstream)) => Ok(accept(case, upstream.clone())),
        Some(Status::NotFound) => {
            Ok(accept(case, Upstream { active: false, status: Some(DELETED.into()) }))
        }
        Some(Status::MethodMissing | Status::None) => Err(Reject::TombstoneUnconfirmed.into()),
    }
}

/// The directory says so: 410, or 404 twice a minute apart for a DID that had a document.
fn is_gone(case: &Case<'_>, known: &Known<'_>) -> Result<bool, Stop> {
    let is_recent = |at| at >= case.received;
    if let Some(identity) = known.identity.filter(|identity| is_recent(identity.fetched)) {
        return Ok(identity.tombstoned);
    }
    match known.missing {
        Some((first, last)) if known.identity.is_some() && is_recent(last) => {
            let second_look = first.plus(case.tombstone_spacing);
            if last >= second_look {
                Ok(true)
            } else if known.unresolved && case.now >= second_look {
                Ok(false)
            } else {
                Err(Stop::Wait(Need::DocumentSince(second_look)))
            }
        }
        _ if known.unresolved => Ok(false),
        _ => Err(Stop::Wait(Need::DocumentSince(case.received))),
    }
}

fn accept(case: &Case<'_>, upstream: Upstream) -> Accepted {
    let account = Account { upstream, ..case.account() };
    let (active, status) = emitted(account.local, &account.upstream);
    let frame = Outgoing::account(case.did, active, status, &datetime::format(case.now));
    case.accepted(vec![frame], account)
}
