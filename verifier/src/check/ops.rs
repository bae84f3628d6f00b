//! The ops of a commit: several on one path become one change, and the records are looked at.

use std::mem;

use protocol::car::Blocks;
use protocol::cbor;
use protocol::frame::Op;
use protocol::mst::Change;
use protocol::reject::Reject;
use protocol::rkey;

use super::Room;

/// A commit's ops, folded: one change for each path.
#[derive(Debug)]
pub(super) struct Fold<'a> {
    /// Paths are distinct; ordered by path.
    pub changes: Vec<Change<'a>>,
    /// Every first op of a path that needs a `prev` has it, so that all can be undone.
    pub has_every_prev: bool,
}

/// Folds the ops in order: old = the first op's `prev`, new = the last op's `cid`. Later ops'
/// `prev` is not looked at. The real PDS sends several ops on one path: delete A + create A,
/// update A twice, create B + delete B.
pub(super) fn fold<'a>(ops: &[Op<'a>], room: &mut Room) -> Result<Fold<'a>, Reject> {
    for op in ops {
        action(op)?;
        if !rkey::is_path(op.path) {
            return Err(Reject::OpPath);
        }
    }
    room.order.clear();
    room.order.extend(0..ops.len());
    // Ops on one path stay in their order.
    room.order.sort_unstable_by_key(|&index| (ops[index].path, index));
    let mut fold = Fold { changes: mem::take(&mut room.changes), has_every_prev: true };
    fold.changes.reserve(ops.len());
    for &index in &room.order {
        let op = &ops[index];
        let action = action(op)?;
        match fold.changes.last_mut().filter(|change| change.path == op.path) {
            Some(change) => {
                // Create only where nothing is, update and delete only where something is.
                if change.new.is_some() == (action == Action::Create) {
                    return Err(Reject::OpDuplicate);
                }
                change.new = op.cid;
            }
            None => {
                // "For creations, field should not be defined" (the lexicon, of `prev`).
                if action == Action::Create && op.prev.is_some() {
                    return Err(Reject::OpMalformed);
                }
                fold.has_every_prev &= action == Action::Create || op.prev.is_some();
                fold.changes.push(Change { path: op.path, old: op.prev, new: op.cid });
            }
        }
    }
    Ok(fold)
}

/// Every record that the commit leaves behind is there, small enough, and one CBOR map. Its
/// canonical form is its author's affair: records are signed as they are.
pub(super) fn records(fold: &Fold<'_>, blocks: &Blocks<'_>) -> Result<(), Reject> {
    for (at, change) in fold.changes.iter().enumerate() {
        let Some(cid) = change.new else { continue };
        let record = blocks.get(&cid).ok_or(Reject::RecordMissing)?;
        if record.len() > RECORD_BYTES_MAX {
            return Err(Reject::RecordTooBig);
        }
        // A large record that many ops name is walked once: 200 times a megabyte would be seconds.
        let is_large = record.len() > RECORD_BYTES_SMALL;
        if is_large && fold.changes[..at].iter().any(|before| before.new == change.new) {
            continue;
        }
        if !cbor::is_one_map(record) {
            return Err(Reject::RecordMalformed);
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Create,
    Update,
    Delete,
}

/// "create: cid; update: cid, prev; delete: prev", nothing else (com.atproto.sync.subscribeRepos).
/// A missing `prev` is Sync 1.0, judged with the proof; one too many, with the fold.
fn action(op: &Op<'_>) -> Result<Action, Reject> {
    match (op.action, op.cid) {
        ("create", Some(_)) => Ok(Action::Create),
        ("update", Some(_)) => Ok(Action::Update),
        ("delete", None) => Ok(Action::Delete),
        _ => Err(Reject::OpMalformed),
    }
}

/// A record's own limit (atproto.com/guides/data-validation).
const RECORD_BYTES_MAX: usize = 1_000_000;
/// Walked again for every op that names it, since to look for those would cost as much.
const RECORD_BYTES_SMALL: usize = 4_096;
