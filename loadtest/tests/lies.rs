//! A lie is wrong in its own point only, and its neighbouring truth in none.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod judge;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use loadtest::world::lies::{Directory, Expect, Specimen, Step};
use loadtest::world::{Options, START, World};
use protocol::frame::Kind;
use protocol::keys::{PublicKey, SignatureError};
use protocol::reject::Reject;

const SEED: u64 = 11;

fn specimens() -> Vec<Specimen> {
    let options = Options {
        seed: SEED,
        hosts: vec!["localhost:4100".to_owned(), "localhost:4101".to_owned()],
        accounts_per_host: 2,
        ..Options::default()
    };
    World::new(&options).specimens(START)
}

fn whole(step: &Step) -> Bytes {
    step.frame.with_seq(1).into()
}

fn key_of(specimen: &Specimen) -> Option<PublicKey> {
    match &specimen.directory {
        Directory::Document(document) if specimen.name != "document_without_key" => {
            Some(judge::key_of(document))
        }
        _ => None,
    }
}

/// The points in which a specimen's lie is wrong when it is looked at by itself. Those that are
/// missing here are wrong only in what came before them, or in who sent them.
const POINTS: &[(&str, &[&str])] = &[
    ("rev_missing", &["fields"]),
    ("time_missing", &["fields"]),
    ("rev_is_a_number", &["fields"]),
    ("blocks_are_text", &["fields"]),
    ("cid_version_7_in_op", &["frame"]),
    ("cid_version_7_in_prev_data", &["frame"]),
    ("raw_cid_in_op", &["fields"]),
    ("raw_cid_in_prev_data", &["fields"]),
    ("blocks_over_2_mb", &["size of blocks"]),
    ("rev_is_no_tid", &["rev", "rev syntax"]),
    ("time_is_no_datetime", &["time syntax"]),
    ("car_without_roots", &["car"]),
    ("car_cut_short", &["car"]),
    ("cid_version_7_in_car", &["car"]),
    ("record_bytes_not_of_their_cid", &["block hash"]),
    ("commit_is_not_the_root", &["root"]),
    ("commit_block_missing", &["commit block"]),
    ("commit_with_unknown_field", &["commit object"]),
    ("commit_version_2", &["commit object"]),
    ("commit_of_another_did", &["did"]),
    ("commit_of_another_rev", &["rev"]),
    // Without its CID the op says that the tree holds nothing there.
    ("create_without_cid", &["op", "op in tree"]),
    ("unknown_action", &["op"]),
    ("create_twice", &["fold"]),
    ("record_block_missing", &["record block"]),
    ("op_not_in_tree", &["op in tree"]),
    ("wrong_prev_data", &["inversion"]),
    ("signed_with_another_key", &["signature"]),
    ("signature_bit_flipped", &["signature"]),
    ("high_s_k256", &["signature"]),
    ("high_s_p256", &["signature"]),
    ("missing_mst_nodes", &["proof"]),
    ("missing_mst_nodes_of_delete", &["proof"]),
    // What undoing them must give is not said.
    ("prev_data_missing", &["inversion"]),
    ("op_prev_missing", &["inversion"]),
    ("node_with_wrong_prefix", &["tree"]),
    ("node_with_1025_entries", &["size of tree"]),
    ("path_with_dots", &["path"]),
    ("path_without_collection", &["path"]),
    ("ops_201", &["number of ops"]),
    ("record_over_1_mb", &["size of record"]),
    ("record_is_a_list", &["record"]),
    ("record_is_cut_short", &["record"]),
    ("frame_with_trailing_byte", &["frame"]),
    ("frame_with_float", &["frame"]),
    ("frame_with_key_twice", &["frame"]),
    ("repo_is_no_did", &["did", "did syntax"]),
    ("did_of_unknown_method", &["did", "did syntax"]),
];

#[test]
fn a_lie_is_wrong_in_its_own_point_only() {
    let mut points: BTreeMap<&str, &[&str]> = POINTS.iter().copied().collect();
    let mut surprises = Vec::new();
    for specimen in specimens() {
        let Some(key) = key_of(&specimen) else { continue };
        let wrong = points.remove(specimen.name).unwrap_or_default();
        for step in &specimen.steps {
            let faults = judge::faults(&whole(step), &key);
            let expected = match step.expect {
                Expect::Drop(_) => wrong.iter().copied().collect(),
                Expect::Pass(_) => BTreeSet::new(),
            };
            if faults != expected {
                let step = matches!(step.expect, Expect::Pass(_)).then_some("truth");
                surprises.push((specimen.name, step.unwrap_or("lie"), faults));
            }
        }
    }
    assert_eq!(surprises, [], "seed {SEED}");
    assert!(points.is_empty(), "no such specimens: {points:?}");
}

#[test]
fn a_name_stands_once_and_every_lie_has_one_drop() {
    let specimens = specimens();
    let names: BTreeSet<&str> = specimens.iter().map(|specimen| specimen.name).collect();
    assert_eq!(names.len(), specimens.len());
    for specimen in &specimens {
        let is_drop = |step: &&Step| matches!(step.expect, Expect::Drop(_));
        let drops = specimen.steps.iter().filter(is_drop).count();
        assert_eq!(drops, usize::from(specimen.reject().is_some()), "{}", specimen.name);
    }
}

#[test]
fn every_seed_has_all_specimens() {
    let count = specimens().len();
    for seed in 100..110 {
        let hosts = vec!["localhost:4100".to_owned(), "localhost:4101".to_owned()];
        let options = Options {
            seed,
            hosts,
            accounts_per_host: 1,
            records_per_account: 2,
            ..Options::default()
        };
        assert_eq!(World::new(&options).specimens(START).len(), count, "seed {seed}");
    }
}

#[test]
fn every_reject_of_a_single_frame_has_a_specimen() {
    // Met only through the state of a host or a relay, not by any frame.
    let stateful = [
        Reject::FrameText,
        Reject::SeqStale,
        Reject::TombstoneUnconfirmed,
        Reject::AlreadyApplied,
        Reject::AccountThrottled,
        Reject::AccountTakendown,
        Reject::VerifierPanic,
    ];
    let met: BTreeSet<Reject> = specimens().iter().filter_map(Specimen::reject).collect();
    let all: BTreeSet<Reject> = Reject::ALL.iter().copied().collect();
    let unmet: Vec<Reject> = all.difference(&met).copied().collect();
    assert_eq!(unmet, stateful);
}

#[test]
fn a_high_s_is_the_only_fault_of_its_signature() {
    for specimen in specimens() {
        let Some(reject @ (Reject::SignatureHighS | Reject::SignatureInvalid)) = specimen.reject()
        else {
            continue;
        };
        let key = key_of(&specimen).unwrap();
        let message = whole(&specimen.steps[0]);
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
    for specimen in specimens() {
        for step in &specimen.steps {
            let Expect::Pass(seen) = &step.expect else { continue };
            let message = whole(step);
            let Ok(protocol::frame::Peek::Event {
                kind: protocol::frame::HostKind::Event(kind),
                ..
            }) = protocol::frame::peek(&message)
            else {
                panic!("{}: a pass is an event", specimen.name);
            };
            let outgoing = protocol::frame::Outgoing::from_host(&message, kind).unwrap();
            let mut bytes = Vec::new();
            outgoing.write_with(protocol::ids::Seq::new(9).unwrap(), &mut bytes);
            assert_eq!(bytes, seen.with_seq(9), "{}", specimen.name);
            let is_same = kind != Kind::Commit || *seen == step.frame;
            assert_eq!(outgoing.recoded(), !is_same, "{}", specimen.name);
        }
    }
}
