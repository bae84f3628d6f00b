//! A lie is wrong in its own point only, and its neighbouring truth in none.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod judge;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use loadtest::wire::Frame;
use loadtest::world::lies::{Deed, Directory, Specimen};
use loadtest::world::{Options, START, World};
use protocol::frame::{HostKind, Kind, Outgoing, Peek, peek};
use protocol::ids::Seq;
use protocol::keys::{PublicKey, SignatureError};
use protocol::reject::Reject;

const SEED: u64 = 11;

fn options(seed: u64) -> Options {
    let hosts = (0..4).map(|port| format!("localhost:{}", 4100 + port)).collect();
    Options { seed, hosts, accounts_per_host: 1, records_per_account: 2, ..Options::default() }
}

fn specimens() -> Vec<Specimen> {
    let mut world = World::new(&options(SEED));
    let mut specimens = world.specimens(START);
    specimens.extend(world.ordeals(START));
    specimens
}

fn whole(frame: &Frame) -> Bytes {
    frame.with_seq(1).into()
}

fn key_of(specimen: &Specimen) -> Option<PublicKey> {
    match &specimen.directory {
        Directory::Document(document) => judge::key_of(document),
        _ => None,
    }
}

/// The point in which a frame that is dropped under a name is wrong by itself; none for those that
/// are wrong only in what came before them, or in who sent them.
fn point_of(reject: Reject) -> Option<&'static str> {
    Some(match reject {
        Reject::FrameMalformed => "frame",
        Reject::FieldMissing | Reject::FieldType | Reject::CidUnsupported => "fields",
        Reject::DidSyntax | Reject::DidMethod => "did syntax",
        Reject::BlocksTooBig => "size of blocks",
        Reject::OpsTooMany => "number of ops",
        Reject::RevSyntax => "rev syntax",
        Reject::TimeSyntax => "time syntax",
        Reject::CarMalformed => "car",
        Reject::BlockCidMismatch => "block hash",
        Reject::CommitCidMismatch => "root",
        Reject::CommitMissing => "commit block",
        Reject::CommitMalformed => "commit object",
        Reject::CommitDidMismatch => "did",
        Reject::CommitRevMismatch => "rev",
        Reject::OpMalformed => "op",
        Reject::OpPath => "path",
        Reject::OpDuplicate => "fold",
        Reject::RecordMissing => "record block",
        Reject::RecordTooBig => "size of record",
        Reject::RecordMalformed => "record",
        Reject::MstMalformed => "tree",
        Reject::MstTooLarge => "size of tree",
        Reject::OpNotInTree => "op in tree",
        Reject::InversionIncomplete => "proof",
        // Without it, what undoing the ops must give is not said.
        Reject::InversionMismatch | Reject::PrevDataMissing => "inversion",
        Reject::SignatureHighS | Reject::SignatureInvalid => "signature",
        _ => return None,
    })
}

/// Names that speak of two things: what is wrong in one is wrong in the other.
fn follows_from(reject: Reject) -> &'static [&'static str] {
    match reject {
        // The commit is then of another account or revision, too; without a name, of none.
        Reject::DidSyntax | Reject::DidMethod => &["did", "fields"],
        Reject::RevSyntax => &["rev"],
        Reject::CommitCidMismatch => &["commit block", "commit object"],
        Reject::OpPath => &["op in tree", "proof", "inversion"],
        Reject::RecordMissing => &["op in tree"],
        // The judge's fold does not ask for more than the paths.
        Reject::OpMalformed => &["op in tree", "inversion", "record block", "fold", "proof"],
        Reject::CidUnsupported => &["root"],
        _ => &[],
    }
}

/// Frames of Sync 1.0, which prove less, and of two accounts.
const NOT_BY_ITSELF: [&str; 3] =
    ["host_that_is_upgraded", "host_of_before", "events_sent_again_after_a_restart"];

#[test]
fn a_lie_is_wrong_in_its_own_point_only() {
    let mut surprises = Vec::new();
    for specimen in specimens() {
        let Some(key) = key_of(&specimen) else { continue };
        if NOT_BY_ITSELF.contains(&&specimen.name[..]) {
            continue;
        }
        for step in &specimen.steps {
            let Some(frame) = step.frame() else { continue };
            let faults = judge::faults(&whole(frame), &key);
            let reject = step.drops().next();
            let point = reject.and_then(point_of);
            let more = reject.map_or(&[][..], follows_from);
            let is_wrong = |fault: &&&str| Some(**fault) != point && !more.contains(*fault);
            if faults.is_empty() == point.is_some() || faults.iter().any(|it| is_wrong(&it)) {
                surprises.push((specimen.name.clone(), reject, faults));
            }
        }
    }
    surprises.dedup();
    assert_eq!(surprises, [], "seed {SEED}");
}

#[test]
fn a_name_stands_once_and_a_truth_follows_each_lie() {
    let specimens = specimens();
    let names: BTreeSet<&str> = specimens.iter().map(|specimen| &specimen.name[..]).collect();
    assert_eq!(names.len(), specimens.len());
    for specimen in &specimens {
        let last = specimen.steps.last().unwrap();
        // Documents have their truths beside them, and what is gone has none.
        let has_truth = last.passes().next().is_some()
            || specimen.name.starts_with("document_")
            || specimen.name.starts_with("tombstone_");
        assert!(has_truth || specimen.rejects().is_empty(), "{}", specimen.name);
    }
}

#[test]
fn every_seed_has_all_specimens() {
    let count = specimens().len();
    for seed in 100..103 {
        let mut world = World::new(&options(seed));
        let drawn = world.specimens(START).len() + world.ordeals(START).len();
        assert_eq!(drawn, count, "seed {seed}");
    }
}

#[test]
fn few_malformed_frames_are_sent_by_one_host() {
    let specimens = World::new(&options(SEED)).specimens(START);
    let mut by_host: BTreeMap<usize, usize> = BTreeMap::new();
    for step in specimens.iter().flat_map(|specimen| &specimen.steps) {
        if let Deed::Send { host, .. } = step.deed
            && step.drops().any(|reject| reject == Reject::FrameMalformed)
        {
            *by_host.entry(host).or_default() += 1;
        }
    }
    // The eighth in a minute ends the connection.
    assert!(by_host.values().all(|count| *count <= 7), "{by_host:?}");
}

/// Every byte of real frames of the four kinds has its changes, and a frame that is none is none to
/// the crawler: more of them than can be sent to a relay.
#[test]
fn mutations_reach_every_byte_and_malformed_ones_are_no_frames() {
    let mut world = World::new(&options(SEED));
    for (kind, truth, mutations) in world.mutations(START) {
        assert!(peek(&whole(&truth)).is_ok());
        let touched: BTreeSet<usize> = mutations.iter().map(|mutation| mutation.at).collect();
        let share = touched.len() as f64 / truth.without_seq().len() as f64;
        assert!(share > 0.95, "{kind:?}: {share} of the bytes");
        for mutation in &mutations {
            let frame = whole(&mutation.of(&truth));
            let is_frame = peek(&frame).is_ok();
            let expected = mutation.meets != Some(Reject::FrameMalformed);
            // A CID of the envelope that cannot be read shows when the fields are.
            let is_link = !expected && is_frame;
            assert!(is_frame == expected || is_link, "{kind:?}: {mutation:?}");
        }
    }
}

#[test]
fn a_high_s_is_the_only_fault_of_its_signature() {
    for specimen in specimens() {
        let step = specimen.steps.iter().find(|step| step.drops().next().is_some());
        let Some((step, reject)) = step.and_then(|step| Some((step, step.drops().next()?))) else {
            continue;
        };
        if !matches!(reject, Reject::SignatureHighS | Reject::SignatureInvalid) {
            continue;
        }
        let key = key_of(&specimen).unwrap();
        let message = whole(step.frame().unwrap());
        let Ok(frame) = protocol::frame::CommitFrame::decode(&message) else { continue };
        let (_, blocks) = protocol::car::read(frame.blocks).unwrap();
        let commit = protocol::commit::Commit::parse(blocks.get(&frame.commit).unwrap()).unwrap();
        let expected = match reject {
            Reject::SignatureHighS => SignatureError::HighS,
            _ => SignatureError::Invalid,
        };
        let verified = key.verify(&commit.unsigned_digest, &commit.signature);
        assert_eq!(verified, Err(expected), "{}", specimen.name);
        let (curve, _) = key.to_compressed();
        let flipped = protocol::keys::flip_s(curve, &commit.signature);
        let holds = key.verify(&commit.unsigned_digest, &flipped).is_ok();
        assert_eq!(holds, reject == Reject::SignatureHighS, "{}", specimen.name);
    }
}

#[test]
fn what_consumers_see_of_a_pass_is_what_the_relay_makes_of_it() {
    for specimen in World::new(&options(SEED)).specimens(START) {
        for step in &specimen.steps {
            let (Some(sent), Some(seen)) = (step.frame(), step.passes().next()) else { continue };
            let message = whole(sent);
            let Ok(Peek::Event { kind: HostKind::Event(kind), .. }) = peek(&message) else {
                // A legacy kind: the verifier makes another of it.
                continue;
            };
            let outgoing = Outgoing::from_host(&message, kind).unwrap();
            if kind == Kind::Account && seen != sent {
                // A status that is not passed on.
                continue;
            }
            let mut bytes = Vec::new();
            outgoing.write_with(Seq::new(9).unwrap(), &mut bytes);
            assert_eq!(bytes, seen.with_seq(9), "{}", specimen.name);
            assert_eq!(outgoing.recoded(), seen != sent, "{}", specimen.name);
        }
    }
}
