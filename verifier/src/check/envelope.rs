//! What `#commit` and `#sync` have in common: fields, `rev`, `time`, the CAR, the commit object.

use std::time::Duration;

use protocol::car::{self, Blocks, CarError};
use protocol::cid::{Cid, Link};
use protocol::commit::Commit;
use protocol::datetime;
use protocol::did::Did;
use protocol::frame::FieldError;
use protocol::reject::Reject;
use protocol::tid::Tid;

use super::Case;

/// The name of a frame that is not what it says it is.
pub(super) fn field_reject(error: FieldError) -> Reject {
    match error {
        FieldError::Malformed => Reject::FrameMalformed,
        FieldError::Missing(_) => Reject::FieldMissing,
        FieldError::Type(_) => Reject::FieldType,
        FieldError::Cid(_) => Reject::CidUnsupported,
    }
}

/// The account that the payload names is the one that the event was routed by; else a frame with
/// both `repo` and `did` could speak for one account in the shard of another.
pub(super) fn same_did(case: &Case<'_>, named: &str) -> Result<(), Reject> {
    match Did::parse(named) {
        Ok(did) if did == *case.did => Ok(()),
        _ => Err(Reject::FieldType),
    }
}

/// `rev` is a TID that is not ahead of us.
pub(super) fn rev(case: &Case<'_>, text: &str) -> Result<Tid, Reject> {
    let rev = Tid::parse(text).map_err(|_| Reject::RevSyntax)?;
    // sync: "Services should also ignore any commits with a `rev` timestamp in the future", with
    // a fudge period for clock drift (atproto.com/specs/repository).
    if rev.micros() > case.now.plus(REV_AHEAD_MAX) {
        return Err(Reject::RevInFuture);
    }
    Ok(rev)
}

/// `time` is an RFC 3339 datetime of at most 64 characters.
pub(super) fn time(text: &str) -> Result<(), Reject> {
    datetime::parse(text).map(drop).map_err(|_| Reject::TimeSyntax)
}

/// The CAR in `blocks`, every hash in it checked.
pub(super) fn blocks(room: car::Room, bytes: &[u8]) -> Result<(Link<'_>, Blocks<'_>), Reject> {
    car::read_into(room, bytes).map_err(|error| match error {
        CarError::Malformed => Reject::CarMalformed,
        CarError::BlockMismatch => Reject::BlockCidMismatch,
        CarError::TooMany => Reject::BlocksTooBig,
    })
}

/// The signed commit behind `cid`, which speaks for the event's account and revision.
pub(super) fn commit<'a>(
    case: &Case<'_>,
    blocks: &Blocks<'a>,
    cid: &Cid,
    rev: &str,
) -> Result<Commit<'a>, Reject> {
    let block = blocks.get(cid).ok_or(Reject::CommitMissing)?;
    let commit = Commit::parse(block).map_err(|_| Reject::CommitMalformed)?;
    if Did::parse(commit.did).as_ref() != Ok(case.did) {
        return Err(Reject::CommitDidMismatch);
    }
    if commit.rev != rev {
        return Err(Reject::CommitRevMismatch);
    }
    Ok(commit)
}

/// Clocks of honest hosts drift; more than this is a revision that would block its own account.
const REV_AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
