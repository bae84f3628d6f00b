//! A small judge of frames, which names every point that is wrong, not only the first.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::car;
use protocol::cid::{Codec, Link};
use protocol::commit::Commit;
use protocol::did::Did;
use protocol::frame::{
    AccountFrame, CommitFrame, FieldError, HostKind, IdentityFrame, Kind, Op, Peek, SyncFrame, peek,
};
use protocol::keys::PublicKey;
use protocol::mst::{Change, EMPTY_ROOT, MstError, PartialTree};
use protocol::tid::Tid;

/// What is wrong with a frame. Empty: nothing. `key` is the account's; `frame` has a seq.
pub(crate) fn faults(frame: &Bytes, key: &PublicKey) -> BTreeSet<&'static str> {
    let mut faults = BTreeSet::new();
    match peek(frame) {
        Ok(Peek::Event { kind: HostKind::Event(Kind::Commit), .. }) => {
            commit_faults(frame, key, &mut faults);
        }
        Ok(Peek::Event { kind: HostKind::Event(Kind::Sync), .. }) => {
            sync_faults(frame, key, &mut faults);
        }
        Ok(Peek::Event { kind: HostKind::Event(Kind::Account), .. }) => {
            let event = AccountFrame::decode(frame).map(|event| (event.did, event.time));
            named_faults(event, &mut faults);
        }
        Ok(Peek::Event { .. }) => {
            let event = IdentityFrame::decode(frame).map(|event| (event.did, event.time));
            named_faults(event, &mut faults);
        }
        Ok(Peek::Unknown { .. } | Peek::Info { .. }) => {}
        _ => {
            faults.insert("frame");
        }
    }
    faults
}

fn named_faults(event: Result<(&str, &str), FieldError>, faults: &mut BTreeSet<&'static str>) {
    let Ok((did, time)) = event else {
        faults.insert("fields");
        return;
    };
    if Did::parse(did).is_err() {
        faults.insert("did syntax");
    }
    if protocol::datetime::parse(time).is_err() {
        faults.insert("time syntax");
    }
}

fn sync_faults(frame: &Bytes, key: &PublicKey, faults: &mut BTreeSet<&'static str>) {
    let mut require = |holds: bool, point: &'static str| {
        if !holds {
            faults.insert(point);
        }
    };
    let Ok(event) = SyncFrame::decode(frame) else { return require(false, "fields") };
    require(Did::parse(event.did).is_ok(), "did syntax");
    require(Tid::parse(event.rev).is_ok(), "rev syntax");
    require(protocol::datetime::parse(event.time).is_ok(), "time syntax");
    require(event.blocks.len() <= 10_000, "size of blocks");
    let (root, blocks) = match car::read(event.blocks) {
        Ok(read) => read,
        Err(car::CarError::BlockMismatch) => return require(false, "block hash"),
        Err(car::CarError::Malformed) => return require(false, "car"),
        Err(car::CarError::TooMany) => return require(false, "number of blocks"),
    };
    let root = root.cid().filter(|root| root.codec == Codec::DagCbor);
    let Some(root) = root else { return require(false, "fields") };
    let Some(block) = blocks.get(&root) else { return require(false, "commit block") };
    let Ok(commit) = Commit::parse(block) else { return require(false, "commit object") };
    require(commit.did == event.did, "did");
    require(commit.rev == event.rev, "rev");
    require(key.verify(&commit.unsigned_digest, &commit.signature).is_ok(), "signature");
}

fn commit_faults(frame: &Bytes, key: &PublicKey, faults: &mut BTreeSet<&'static str>) {
    let mut require = |holds: bool, point: &'static str| {
        if !holds {
            faults.insert(point);
        }
    };
    let Ok(event) = CommitFrame::decode(frame) else { return require(false, "fields") };
    require(Tid::parse(event.rev).is_ok(), "rev syntax");
    require(protocol::datetime::parse(event.time).is_ok(), "time syntax");
    require(event.blocks.len() <= 2_000_000, "size of blocks");
    require(event.ops.len() <= 200, "number of ops");
    require(Did::parse(event.repo).is_ok(), "did syntax");
    let (root, blocks) = match car::read(event.blocks) {
        Ok(read) => read,
        Err(car::CarError::BlockMismatch) => return require(false, "block hash"),
        Err(car::CarError::Malformed) => return require(false, "car"),
        Err(car::CarError::TooMany) => return require(false, "number of blocks"),
    };
    require(root == Link::Sha256(event.commit), "root");
    let root = match root {
        Link::Sha256(root) => root,
        Link::Other(_) => event.commit,
    };
    let Some(block) = blocks.get(&root) else { return require(false, "commit block") };
    let Ok(commit) = Commit::parse(block) else { return require(false, "commit object") };
    require(commit.did == event.repo, "did");
    require(commit.rev == event.rev, "rev");
    require(key.verify(&commit.unsigned_digest, &commit.signature).is_ok(), "signature");
    let paths_fine = event.ops.iter().all(|op| protocol::rkey::is_path(op.path));
    require(paths_fine, "path");
    let first_on_path = |op: &Op<'_>| event.ops.iter().find(|first| first.path == op.path);
    let shapes_fine = event.ops.iter().all(|op| match op.action {
        "create" if first_on_path(op) == Some(op) && op.prev.is_some() => false,
        "create" | "update" => op.cid.is_some(),
        "delete" => op.cid.is_none(),
        _ => false,
    });
    require(shapes_fine, "op");
    let Some(changes) = fold(&event.ops) else { return require(false, "fold") };
    for record in changes.iter().filter_map(|change| change.new) {
        let Some(block) = blocks.get(&record) else {
            require(false, "record block");
            continue;
        };
        require(block.len() <= 1_000_000, "size of record");
        require(protocol::cbor::is_one_map(block), "record");
    }
    if changes.is_empty() {
        let before = event.prev_data.unwrap_or(EMPTY_ROOT);
        return require(before == commit.data, "inversion");
    }
    let tree = match PartialTree::read(&blocks, &commit.data) {
        Ok(tree) => tree,
        Err(MstError::TooLarge) => return require(false, "size of tree"),
        Err(MstError::Missing) => return require(false, "proof"),
        Err(_) => return require(false, "tree"),
    };
    if changes.iter().any(|change| tree.get(change.path) == Err(MstError::Missing)) {
        return require(false, "proof");
    }
    let in_tree = changes.iter().all(|change| tree.get(change.path) == Ok(change.new));
    if !in_tree {
        return require(false, "op in tree");
    }
    match tree.invert(&changes) {
        Ok(before) => require(before == event.prev_data.unwrap_or(EMPTY_ROOT), "inversion"),
        Err(MstError::Missing) => require(false, "proof"),
        Err(_) => require(false, "tree"),
    }
}

/// The ops of each path folded in order; `None`: they do not follow from each other.
pub(crate) fn fold<'a>(ops: &[Op<'a>]) -> Option<Vec<Change<'a>>> {
    let mut changes: Vec<Change<'a>> = Vec::new();
    for op in ops {
        let index = changes.iter().position(|change| change.path == op.path);
        let stands = match index {
            Some(index) => changes[index].new.is_some(),
            None => op.action != "create",
        };
        if stands != (op.action != "create") {
            return None;
        }
        match index {
            Some(index) => changes[index].new = op.cid,
            None => {
                let old = if op.action == "create" { None } else { op.prev };
                changes.push(Change { path: op.path, old, new: op.cid });
            }
        }
    }
    Some(changes)
}

/// The first key in a DID document, if it has one.
pub(crate) fn key_of(document: &serde_json::Value) -> Option<PublicKey> {
    let methods = document["verificationMethod"].as_array()?;
    let multikey = methods.iter().find_map(|method| method["publicKeyMultibase"].as_str())?;
    PublicKey::from_multikey(multikey).ok()
}
