//! `#sync`: the state of a repo, without what changed.

use protocol::account::Repo;
use protocol::car;
use protocol::cid::{Codec, Link};
use protocol::frame::{Kind, Outgoing, SyncFrame};
use protocol::reject::Reject;

use super::speaker::RepoClaim;
use super::{Case, envelope};

/// Everything that a sync says of itself, in the order of protocol.md sections 3 and 4.
///
/// After a migration the real PDS sends one that is not valid (the old host's commit under a fresh
/// `rev`): that frame is dropped here, and the account's next commit verifies.
pub(super) fn begin(case: &Case<'_>) -> Result<RepoClaim, Reject> {
    let frame = SyncFrame::decode(case.frame).map_err(envelope::field_reject)?;
    envelope::same_did(case, frame.did)?;
    if frame.blocks.len() > BLOCKS_BYTES_MAX {
        return Err(Reject::BlocksTooBig);
    }
    let rev = envelope::rev(case, frame.rev)?;
    let held = case.prior.and_then(|account| account.repo);
    if held.is_some_and(|held| rev < held.rev) {
        return Err(Reject::RevNotNewer);
    }
    envelope::time(frame.time)?;

    let (root, blocks) = envelope::blocks(car::Room::default(), frame.blocks)?;
    let Link::Sha256(root) = root else { return Err(Reject::CidUnsupported) };
    if root.codec != Codec::DagCbor {
        return Err(Reject::CidUnsupported);
    }
    let commit = envelope::commit(case, &blocks, &root, frame.rev)?;
    if let Some(held) = held.filter(|held| held.rev == rev) {
        if held.data != commit.data.digest {
            return Err(Reject::RevNotNewer);
        }
        // Every account's first commit is followed by a sync that says the same, and so is every
        // re-activation; not twice.
        if case.synced == Some(rev) {
            return Err(Reject::SyncRepeated);
        }
    }

    let outgoing = Outgoing::from_host(case.frame, Kind::Sync).map_err(envelope::field_reject)?;
    Ok(RepoClaim {
        outgoing,
        repo: Repo { rev, data: commit.data.digest, commit: root.digest },
        signature: commit.signature,
        unsigned_digest: commit.unsigned_digest,
        closes_ratchet: false,
        // Every consumer fetches the repo anew for it: it counts as a break of the chain does.
        chain_break: held.is_some_and(|held| held.data != commit.data.digest),
    })
}

/// "limit of 10 kB": one commit block (com.atproto.sync.subscribeRepos).
pub(super) const BLOCKS_BYTES_MAX: usize = 10_000;
