//! The proof of a commit: the tree holds what the ops say, and undoing them gives `prevData`.

use std::mem;
use std::sync::LazyLock;

use protocol::car::Blocks;
use protocol::cid::Cid;
use protocol::frame::CommitFrame;
use protocol::mst::{MstError, PartialTree, Tree};
use protocol::reject::Reject;

use super::ops::Fold;
use super::{Proof, Room};

/// How much was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proven {
    /// With `prevData` and every `prev`: Sync 1.1.
    Whole,
    /// Without `prevData`: undoing the ops gives the empty tree.
    First,
    /// The tree holds what the ops say; nothing about the tree before.
    TreeOnly,
}

/// Proves the fold against the tree at `data`.
pub(super) fn prove(
    proof: Proof,
    frame: &CommitFrame<'_>,
    fold: &Fold<'_>,
    blocks: &Blocks<'_>,
    data: &Cid,
    room: &mut Room,
) -> Result<Proven, Reject> {
    if fold.changes.is_empty() {
        return unchanged(proof, frame, blocks, data, room);
    }
    let proven = match frame.prev_data {
        Some(prev_data) if fold.has_every_prev => whole(&prev_data, fold, blocks, data, room),
        prev_data => part(proof, prev_data.is_none(), fold, blocks, data, room),
    };
    match proven {
        Err(Reject::InversionIncomplete) if proof == Proof::Lenient => Ok(Proven::TreeOnly),
        proven => proven,
    }
}

/// The root of the tree without a record.
pub(super) fn empty_tree() -> &'static Cid {
    static EMPTY: LazyLock<Cid> = LazyLock::new(|| Tree::new().root());
    &EMPTY
}

/// A commit without ops (the real PDS makes one of `applyWrites` without writes) need not send the
/// tree, since it says that nothing changed. One from before Sync 1.1 cannot say so.
fn unchanged(
    proof: Proof,
    frame: &CommitFrame<'_>,
    blocks: &Blocks<'_>,
    data: &Cid,
    room: &mut Room,
) -> Result<Proven, Reject> {
    match PartialTree::read_into(mem::take(&mut room.tree), blocks, data) {
        Ok(tree) => room.tree = tree.into_room(),
        Err(MstError::Missing) => {}
        Err(error) => return Err(reject(error)),
    }
    match frame.prev_data {
        Some(prev_data) if prev_data == *data => Ok(Proven::Whole),
        None if data == empty_tree() => Ok(Proven::First),
        None if proof != Proof::Owed => Ok(Proven::TreeOnly),
        _ => Err(Reject::InversionMismatch),
    }
}

/// Sync 1.1: "start with the new tree, invert every operation, and compare the root with
/// `prevData`" (proposal 0006).
fn whole(
    prev_data: &Cid,
    fold: &Fold<'_>,
    blocks: &Blocks<'_>,
    data: &Cid,
    room: &mut Room,
) -> Result<Proven, Reject> {
    let (tree, deletions_shown) = read(fold, blocks, data, room)?;
    if !deletions_shown {
        return Err(Reject::InversionIncomplete);
    }
    let before = tree.invert_in(&mut room.inversion, &fold.changes).map_err(reject)?;
    room.tree = tree.into_room();
    if before != *prev_data {
        return Err(Reject::InversionMismatch);
    }
    Ok(Proven::Whole)
}

/// Without `prevData`, or without some `prev`: a first commit, or Sync 1.0. A host that has once
/// proven a commit whole cannot fall back to Sync 1.0.
fn part(
    proof: Proof,
    may_be_first: bool,
    fold: &Fold<'_>,
    blocks: &Blocks<'_>,
    data: &Cid,
    room: &mut Room,
) -> Result<Proven, Reject> {
    let (tree, deletions_shown) = read(fold, blocks, data, room)?;
    let may_be_first = may_be_first && fold.has_every_prev && deletions_shown;
    let is_first = may_be_first
        && match tree.invert_in(&mut room.inversion, &fold.changes) {
            Ok(before) => before == *empty_tree(),
            Err(MstError::Missing) => false,
            Err(error) => return Err(reject(error)),
        };
    room.tree = tree.into_room();
    if is_first {
        return Ok(Proven::First);
    }
    match proof {
        Proof::Owed => Err(Reject::PrevDataMissing),
        Proof::NotYet | Proof::Lenient => Ok(Proven::TreeOnly),
    }
}

/// The tree, which holds every record written and none deleted. With it: whether the search for
/// every deleted path ends within the blocks.
fn read<'a>(
    fold: &Fold<'_>,
    blocks: &Blocks<'a>,
    data: &Cid,
    room: &mut Room,
) -> Result<(PartialTree<'a>, bool), Reject> {
    let tree = PartialTree::read_into(mem::take(&mut room.tree), blocks, data).map_err(reject)?;
    let mut deletions_shown = true;
    for change in &fold.changes {
        match tree.get(change.path) {
            Ok(held) if held == change.new => {}
            Ok(_) => return Err(Reject::OpNotInTree),
            Err(MstError::Missing) if change.new.is_none() => deletions_shown = false,
            Err(error) => return Err(reject(error)),
        }
    }
    Ok((tree, deletions_shown))
}

fn reject(error: MstError) -> Reject {
    match error {
        MstError::Malformed => Reject::MstMalformed,
        MstError::TooLarge => Reject::MstTooLarge,
        MstError::Missing => Reject::InversionIncomplete,
    }
}
