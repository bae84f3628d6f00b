//! Judges commits of the reference implementation, and damaged copies of them.
//!
//! A recording (`relay/tests/real_peers/commits.mjs` makes it) is a row of entries, each a letter,
//! four bytes of length, and the bytes: `k`, an account's DID and multikey, then `f`, its frames.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use protocol::account::Account;
use protocol::car;
use protocol::cid::Cid;
use protocol::commit::Commit as Signed;
use protocol::did::Did;
use protocol::frame::{CommitFrame, HostKind, Kind, Op};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros, Seq};
use protocol::keys::PublicKey;
use protocol::mst::{self, EMPTY_ROOT};
use protocol::reject::Reject;
use verifier::check::{Case, Proof, check};
use verifier::{Accepted, Handles, Identity};

#[path = "../../src/testing.rs"]
mod testing;

/// What was seen and how it was judged.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Commits that passed.
    pub(crate) passed: u64,
    /// Of what kinds the commits were; one commit may be of several.
    pub(crate) shapes: BTreeMap<&'static str, u64>,
    /// By damage and name: how many damaged copies were refused.
    pub(crate) refused: BTreeMap<(&'static str, &'static str), u64>,
    /// What should not be.
    pub(crate) faults: Vec<String>,
}

/// The kinds of commits that a recording has to have, or it proves too little.
pub(crate) const SHAPES: [&str; 11] = [
    "first",
    "first with records",
    "without ops",
    "200 ops",
    "a tree emptied",
    "several ops on a path",
    "created and deleted at once",
    "a write that changes nothing",
    "a record that moved",
    "a key above layer 6",
    "a key of 400 characters",
];

/// The damages, each with the names that it may meet.
const DAMAGES: [(&str, Damage, &[Reject]); 5] = [
    ("prevData of another commit", with_other_prev_data, &[Reject::InversionMismatch]),
    // Without an op the search may lead where its proof does not.
    (
        "an op left out",
        without_an_op,
        // A first commit without one of its records is none.
        &[Reject::InversionMismatch, Reject::InversionIncomplete, Reject::PrevDataMissing],
    ),
    ("another cid in an op", with_other_cid, &[Reject::OpNotInTree]),
    ("another prev in an op", with_other_prev, &[Reject::InversionMismatch]),
    (
        "another signature",
        with_other_signature,
        &[Reject::SignatureInvalid, Reject::SignatureHighS],
    ),
];

type Damage = fn(&Commit<'_>) -> Option<Bytes>;

/// A commit of the recording, decoded.
struct Commit<'a> {
    frame: CommitFrame<'a>,
    /// What the commit before it gave as its `prevData`, or meant by giving none.
    other_data: Cid,
}

/// Judges every commit of a recording in its order, and the damaged copies of each.
pub(crate) fn judge(recording: &[u8]) -> Report {
    let mut report = Report::default();
    let mut identity: Option<Identity> = None;
    let mut prior: Option<Account> = None;
    let mut other_data = EMPTY_ROOT;
    for (letter, bytes) in entries(recording) {
        match letter {
            b'k' => {
                identity = Some(identity_of(std::str::from_utf8(bytes).unwrap()));
                prior = None;
            }
            b'f' => {
                let identity = identity.as_ref().expect("an account comes before its frames");
                let message = Bytes::copy_from_slice(bytes);
                let frame = CommitFrame::decode(&message).unwrap();
                let commit = Commit { frame, other_data };
                prior = judge_one(&commit, &message, identity, prior.as_ref(), &mut report);
                if prior.is_none() {
                    return report;
                }
                other_data = commit.frame.prev_data.unwrap_or(EMPTY_ROOT);
            }
            other => panic!("an entry of kind {other}"),
        }
    }
    report
}

/// The account after the commit; `None` ends the judgement, since nothing follows from a commit
/// that did not pass.
fn judge_one(
    commit: &Commit<'_>,
    message: &Bytes,
    identity: &Identity,
    prior: Option<&Account>,
    report: &mut Report,
) -> Option<Account> {
    let seq = prior.map_or(1, |account| account.host_seq.get() + 1);
    let told = format!("{} {}", commit.frame.repo, commit.frame.rev);
    let accepted = match judged(message, identity, prior, seq) {
        Ok(accepted) => accepted,
        Err(reject) => {
            report.faults.push(format!("{told} is refused: {}", reject.name()));
            return None;
        }
    };
    report.passed += 1;
    for shape in shapes(&commit.frame) {
        *report.shapes.entry(shape).or_default() += 1;
    }
    let mut out = Vec::new();
    accepted.frames[0].write_with(Seq::new(seq_of(message)).unwrap(), &mut out);
    let requirements = [
        (accepted.frames.len() == 1 && out == message[..], "does not go out as it came"),
        (!accepted.chain_break, "breaks the chain"),
        (accepted.closes_ratchet == commit.frame.prev_data.is_some(), "is not proven whole"),
    ];
    let unmet = requirements.iter().filter(|(holds, _)| !holds);
    report.faults.extend(unmet.map(|(_, what)| format!("{told} {what}")));

    // What the damages start from: a copy without any passes.
    let again = encode(&commit.frame);
    if judged(&again, identity, prior, seq).is_err() {
        report.faults.push(format!("{told} encoded anew is refused"));
    }
    for (name, damage, expected) in DAMAGES {
        let Some(damaged) = damage(commit) else { continue };
        match judged(&damaged, identity, prior, seq) {
            Err(reject) if expected.contains(&reject) => {
                *report.refused.entry((name, reject.name())).or_default() += 1;
            }
            other => {
                let met = other.map_or_else(Reject::name, |_| "nothing");
                report.faults.push(format!("{told} with {name} meets {met}"));
            }
        }
    }
    accepted.account
}

fn judged(
    frame: &Bytes,
    identity: &Identity,
    prior: Option<&Account>,
    seq: u64,
) -> Result<Accepted, Reject> {
    let name = identity.pds.as_ref().unwrap();
    let case = Case {
        kind: HostKind::Event(Kind::Commit),
        did: &identity.did,
        frame,
        host: HostId(1),
        name,
        epoch: Epoch(0),
        seq: HostSeq::new(seq).unwrap(),
        received: Micros(0),
        proof: Proof::Owed,
        handles: Handles::Pass,
        prior,
        synced: None,
        host_is_full: false,
        tombstone_spacing: Duration::from_secs(60),
        // No revision is in this future.
        now: Micros(u64::MAX >> 11),
    };
    check(&case, identity)
}

fn identity_of(line: &str) -> Identity {
    let (did, multikey) = line.split_once(' ').unwrap();
    Identity {
        did: Did::parse(did).unwrap(),
        key: Some(PublicKey::from_multikey(multikey).unwrap()),
        pds: Some(HostName::parse("pds.example.com", HostRules::Public).unwrap()),
        handle: None,
        fetched: Micros(1),
        tombstoned: false,
    }
}

/// The entries of a recording.
fn entries(mut recording: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = recording.split_at_checked(5)?;
        let len = u32::from_be_bytes(head[1..].try_into().unwrap());
        let (bytes, rest) = rest.split_at(usize::try_from(len).unwrap());
        recording = rest;
        Some((head[0], bytes))
    })
}

fn seq_of(message: &Bytes) -> u64 {
    let Ok(protocol::frame::Peek::Event { seq, .. }) = protocol::frame::peek(message) else {
        panic!("an event")
    };
    seq.unwrap()
}

fn shapes(frame: &CommitFrame<'_>) -> Vec<&'static str> {
    let ops = &frame.ops;
    let on_path = |path: &str| ops.iter().filter(|op| op.path == path).count();
    let is_last = |at: usize| !ops[at + 1..].iter().any(|op| op.path == ops[at].path);
    let vanished = |at: usize| ops[at].action == "delete" && ops[at].prev.is_none() && is_last(at);
    let moved = |op: &Op<'_>| {
        op.action == "create"
            && ops.iter().any(|other| op.cid == other.prev && op.path != other.path)
    };
    let holds = [
        frame.prev_data.is_none() && ops.is_empty(),
        frame.prev_data.is_none() && !ops.is_empty(),
        frame.prev_data.is_some() && ops.is_empty(),
        ops.len() == 200,
        data(frame) == EMPTY_ROOT && !ops.is_empty(),
        ops.iter().any(|op| on_path(op.path) > 1),
        (0..ops.len()).any(vanished),
        ops.iter().any(|op| op.cid.is_some() && op.cid == op.prev),
        ops.iter().any(moved),
        ops.iter().any(|op| mst::layer(op.path.as_bytes()) > 6),
        ops.iter().any(|op| op.path.len() > 400),
    ];
    SHAPES.into_iter().zip(holds).filter(|(_, holds)| *holds).map(|(shape, _)| shape).collect()
}

/// The root of the tree after the commit.
fn data(frame: &CommitFrame<'_>) -> Cid {
    let (_, blocks) = car::read(frame.blocks).unwrap();
    Signed::parse(blocks.get(&frame.commit).unwrap()).unwrap().data
}

fn with_other_prev_data(commit: &Commit<'_>) -> Option<Bytes> {
    let other = commit.other_data;
    if other == commit.frame.prev_data.unwrap_or(EMPTY_ROOT) {
        return None;
    }
    Some(encode(&CommitFrame { prev_data: Some(other), ..commit.frame.clone() }))
}

fn without_an_op(commit: &Commit<'_>) -> Option<Bytes> {
    let at = telling(&commit.frame)?;
    let mut frame = commit.frame.clone();
    frame.ops.remove(at);
    Some(encode(&frame))
}

/// The commit's own block is there and is a map, as a record would be.
fn with_other_cid(commit: &Commit<'_>) -> Option<Bytes> {
    let mut frame = commit.frame.clone();
    let last = frame.ops.iter().rposition(|op| op.cid.is_some())?;
    let path = frame.ops[last].path;
    // A later op on the path would put its own in the place.
    if frame.ops[last + 1..].iter().any(|op| op.path == path) {
        return None;
    }
    frame.ops[last].cid = Some(frame.commit);
    Some(encode(&frame))
}

fn with_other_prev(commit: &Commit<'_>) -> Option<Bytes> {
    let mut frame = commit.frame.clone();
    let at = telling(&frame).filter(|at| frame.ops[*at].prev.is_some())?;
    frame.ops[at].prev = Some(frame.commit);
    Some(encode(&frame))
}

fn with_other_signature(commit: &Commit<'_>) -> Option<Bytes> {
    let (_, blocks) = car::read(commit.frame.blocks).unwrap();
    let block = blocks.get(&commit.frame.commit).unwrap();
    let signature = Signed::parse(block).unwrap().signature;
    let at = block.windows(signature.len()).position(|window| window == signature)?;
    let mut forged = block.to_vec();
    forged[at + 40] ^= 1;
    let cid = Cid::of_cbor(&forged);
    let mut parts: Vec<(Cid, &[u8])> =
        blocks.iter().filter(|(other, _)| *other != commit.frame.commit).collect();
    parts.push((cid, &forged));
    let car = car::write(&cid, &parts);
    Some(encode(&CommitFrame { commit: cid, blocks: &car, ..commit.frame.clone() }))
}

/// An op that is alone on its path and changes something: undoing it cannot be left out.
fn telling(frame: &CommitFrame<'_>) -> Option<usize> {
    let ops = &frame.ops;
    let alone = |op: &Op<'_>| ops.iter().filter(|other| other.path == op.path).count() == 1;
    (0..ops.len()).rev().find(|at| alone(&ops[*at]) && ops[*at].cid != ops[*at].prev)
}

fn encode(frame: &CommitFrame<'_>) -> Bytes {
    let op = |op: &Op<'_>| testing::Op {
        action: op.action.into(),
        path: op.path.into(),
        cid: op.cid,
        prev: op.prev,
    };
    let commit = testing::Commit {
        repo: frame.repo.into(),
        rev: frame.rev.into(),
        since: frame.since.map(Into::into),
        commit: frame.commit,
        prev_data: frame.prev_data,
        root: frame.commit,
        blocks: Vec::new(),
        ops: frame.ops.iter().map(op).collect(),
        time: frame.time.into(),
        data: frame.commit,
        fields: vec![("blocks", testing::value(|writer| writer.bytes(frame.blocks)))],
        without: Vec::new(),
    };
    commit.frame(1)
}
