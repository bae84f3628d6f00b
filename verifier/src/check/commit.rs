//! `#commit`: a change of a repo, with the blocks that prove it.

use std::mem;

use protocol::account::Repo;
use protocol::cid::{Cid, Link};
use protocol::frame::{CommitFrame, Outgoing, Survey};
use protocol::reject::Reject;

use super::speaker::RepoClaim;
use super::{Case, Room, envelope, inversion, ops};

/// Everything that a commit says of itself, in the order of protocol.md section 3.
pub(super) fn begin(case: &Case<'_>, room: &mut Room) -> Result<RepoClaim, Reject> {
    let (frame, survey) = CommitFrame::decode_from_host(case.frame, &mut room.frame)
        .map_err(envelope::field_reject)?;
    let claim = judge(case, &frame, survey, room);
    room.frame.put_ops(frame.ops);
    claim
}

fn judge(
    case: &Case<'_>,
    frame: &CommitFrame<'_>,
    survey: Survey,
    room: &mut Room,
) -> Result<RepoClaim, Reject> {
    envelope::same_did(case, frame.repo)?;
    if frame.blocks.len() > BLOCKS_BYTES_MAX {
        return Err(Reject::BlocksTooBig);
    }
    if frame.ops.len() > OPS_MAX {
        return Err(Reject::OpsTooMany);
    }
    let rev = envelope::rev(case, frame.rev)?;
    let held = case.prior.and_then(|account| account.repo);
    // sync: "Check that the rev is higher than the previous rev" (atproto.com/specs/sync).
    if held.is_some_and(|repo| rev <= repo.rev) {
        return Err(Reject::RevNotNewer);
    }
    envelope::time(frame.time)?;

    let (root, blocks) = envelope::blocks(mem::take(&mut room.car), frame.blocks)?;
    if root != Link::Sha256(frame.commit) {
        return Err(Reject::CommitCidMismatch);
    }
    let commit = envelope::commit(case, &blocks, &frame.commit, frame.rev)?;
    let fold = ops::fold(&frame.ops, room)?;
    ops::records(&fold, &blocks)?;
    let proven = inversion::prove(case.proof, frame, &fold, &blocks, &commit.data, room)?;
    room.put_fold(fold);
    room.car = blocks.into_room();

    let outgoing = Outgoing::from_surveyed(case.frame, survey).map_err(envelope::field_reject)?;
    Ok(RepoClaim {
        outgoing,
        repo: Repo { rev, data: commit.data.digest, commit: frame.commit.digest },
        signature: commit.signature,
        unsigned_digest: commit.unsigned_digest,
        closes_ratchet: proven == inversion::Proven::Whole,
        chain_break: held.is_some_and(|held| breaks_chain(frame, &held, proven)),
    })
}

/// A valid commit that does not continue what we hold: counted, never dropped, since it is true in
/// itself and what was missed is reconciled. `since` speaks only where `prevData` is absent.
fn breaks_chain(frame: &CommitFrame<'_>, held: &Repo, proven: inversion::Proven) -> bool {
    match frame.prev_data {
        Some(prev_data) => prev_data != Cid::cbor(held.data),
        None if proven == inversion::Proven::First => held.data != inversion::empty_tree().digest,
        None => frame.since.is_some_and(|since| since != held.rev.to_string()),
    }
}

/// "limit of 2 MB for the blocks field" (com.atproto.sync.subscribeRepos).
const BLOCKS_BYTES_MAX: usize = 2_000_000;
/// "limit of 200 record operations" (com.atproto.sync.subscribeRepos).
const OPS_MAX: usize = 200;
