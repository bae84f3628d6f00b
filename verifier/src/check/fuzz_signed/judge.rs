//! The naive judge: he has the whole tree, lists its records, and builds it again from them.

use std::collections::BTreeMap;

use protocol::cid::Cid;

use super::tree::parse;
use super::{GOOD_RECORDS, PlotOp, RECORDS, Scene, whole};
use crate::check::Proof;

/// What the naive judge finds.
pub(super) enum Truth {
    /// All of it is true.
    Holds,
    /// Something is not.
    Lie(&'static str),
    /// He cannot tell: a part of the tree does not exist at all, or was hidden with a lie in it.
    Unknown,
}

/// What the ops say of one path.
struct Change {
    old: Option<Cid>,
    new: Option<Cid>,
    has_prev: bool,
}

/// The truth about a commit, of a host that owes so much of a proof.
pub(super) fn truth(scene: &Scene, proof: Proof) -> Truth {
    let changes = match changes(&scene.ops) {
        Ok(changes) => changes,
        Err(what) => return Truth::Lie(what),
    };
    for cid in changes.values().filter_map(|change| change.new) {
        let good = RECORDS[..GOOD_RECORDS].iter().any(|record| Cid::of_cbor(record) == cid);
        if !scene.shown.contains_key(&cid) || !good {
            return Truth::Lie("a record is missing or malformed");
        }
    }
    let empty = whole(&BTreeMap::new()).root();
    if changes.is_empty() {
        return without_ops(scene, empty, proof);
    }
    let every_prev = changes.values().all(|change| change.has_prev);
    // Without an inversion nothing vouches for what is not shown.
    let inverts = every_prev && scene.prev_data.is_some() && proof != Proof::Lenient;
    let can_tell = scene.all_shown || (inverts && !scene.hides_a_lie);
    let lie = |what| if can_tell { Truth::Lie(what) } else { Truth::Unknown };
    let mut records = match list(scene, &scene.data) {
        Listed::Tree(records) => records,
        Listed::NoTree => return lie("it is no tree"),
        Listed::Nothing => return Truth::Unknown,
    };
    for (path, change) in &changes {
        if records.get(path) != change.new.as_ref() {
            return lie("the tree does not hold what the ops say");
        }
        match change.old {
            Some(old) => drop(records.insert(path.clone(), old)),
            None => drop(records.remove(path)),
        }
    }
    let before = whole(&records).root();
    match scene.prev_data {
        Some(prev_data) if every_prev && prev_data == before => Truth::Holds,
        Some(_) if every_prev => lie("it does not lead back to prevData"),
        None if every_prev && before == empty => Truth::Holds,
        _ if proof == Proof::Owed => Truth::Lie("the proof is owed"),
        _ => Truth::Holds,
    }
}

/// Without ops the tree need not be there, and nothing is said of it.
fn without_ops(scene: &Scene, empty: Cid, proof: Proof) -> Truth {
    match scene.prev_data {
        Some(prev_data) if prev_data != scene.data => {
            return Truth::Lie("the tree changed without ops");
        }
        None if scene.data != empty && proof == Proof::Owed => {
            return Truth::Lie("the proof is owed");
        }
        _ => {}
    }
    match list(scene, &scene.data) {
        Listed::Tree(_) => Truth::Holds,
        Listed::NoTree if scene.all_shown => Truth::Lie("it is no tree"),
        _ => Truth::Unknown,
    }
}

/// The ops of each path, one after the other.
fn changes(ops: &[PlotOp]) -> Result<BTreeMap<String, Change>, &'static str> {
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    for op in ops {
        let shape =
            matches!((op.action, op.cid), ("create" | "update", Some(_)) | ("delete", None));
        if !shape || !op.path.starts_with("a.b.c/") {
            return Err("an op is malformed");
        }
        let creates = op.action == "create";
        match changes.get_mut(&op.path) {
            Some(change) if change.new.is_some() == creates => {
                return Err("an op does not follow from the one before");
            }
            Some(change) => change.new = op.cid,
            None if creates && op.prev.is_some() => return Err("a create has a record before"),
            None => {
                let has_prev = creates || op.prev.is_some();
                let change = Change { old: op.prev, new: op.cid, has_prev };
                changes.insert(op.path.clone(), change);
            }
        }
    }
    Ok(changes)
}

enum Listed {
    /// The only tree with these records.
    Tree(BTreeMap<String, Cid>),
    NoTree,
    /// A part of it is nowhere, or cannot be built again.
    Nothing,
}

fn list(scene: &Scene, root: &Cid) -> Listed {
    let mut records = BTreeMap::new();
    let mut to_read = vec![*root];
    let mut missing = false;
    // Every node once: a tree has no node twice, and what is none must end, too.
    for _ in 0..=scene.nodes.len() {
        let Some(cid) = to_read.pop() else { break };
        let Some(block) = scene.nodes.get(&cid) else {
            missing = true;
            continue;
        };
        let Some(node) = parse(block) else { return Listed::NoTree };
        to_read.extend(node.left);
        for (key, value, right) in node.entries {
            to_read.extend(right);
            // Keys are bytes to the check, and values may be under any CID; the trees that are
            // built here are of texts and CIDs of our kind.
            let (Ok(path), Some(value)) = (String::from_utf8(key), value) else {
                return Listed::Nothing;
            };
            records.insert(path, value);
        }
    }
    if missing {
        Listed::Nothing
    } else if to_read.is_empty() && whole(&records).root() == *root {
        Listed::Tree(records)
    } else {
        Listed::NoTree
    }
}
