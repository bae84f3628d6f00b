//! What each kind of event must have, and how it is named when it has not.

use ipld_core::ipld::Ipld;
use protocol::account::Upstream;
use protocol::cid::{Cid, Codec};
use protocol::frame::{
    AccountFrame, CommitFrame, FieldError, IdentityFrame, OPS_DECODED_MAX, Op, SyncFrame,
};

use crate::loose::{Fields, Whims, frame, link, link_of};

const DID: &str = "did:plc:32rstgho2rbvpp5wrwqp5fub";
const TIME: &str = "2026-11-21T02:37:17.492Z";
const REV: &str = "3n2s2ynjiyk2k";

fn fields(pairs: &[(&str, Ipld)]) -> Fields {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// A complete `#commit` with one op of every action.
pub(crate) fn commit_fields() -> Fields {
    let op = |pairs: &[(&str, Ipld)]| Ipld::Map(fields(pairs).into_iter().collect());
    let create =
        op(&[("action", "create".into()), ("path", "a.b.c/1".into()), ("cid", link([1; 32]))]);
    let update = op(&[
        ("action", "update".into()),
        ("path", "a.b.c/2".into()),
        ("cid", link([2; 32])),
        ("prev", link([3; 32])),
    ]);
    let delete = op(&[
        ("action", "delete".into()),
        ("path", "a.b.c/3".into()),
        ("cid", Ipld::Null),
        ("prev", link([4; 32])),
    ]);
    fields(&[
        ("ops", Ipld::List(vec![create, update, delete])),
        ("rev", REV.into()),
        ("seq", 7u8.into()),
        ("repo", DID.into()),
        ("time", TIME.into()),
        ("blobs", Ipld::List(vec![])),
        ("since", "3n2s2ynjiyk2j".into()),
        ("blocks", Ipld::Bytes(b"CAR".to_vec())),
        ("commit", link([5; 32])),
        ("rebase", false.into()),
        ("tooBig", false.into()),
        ("prevData", link([6; 32])),
    ])
}

pub(crate) fn sync_fields() -> Fields {
    fields(&[
        ("did", DID.into()),
        ("rev", REV.into()),
        ("seq", 7u8.into()),
        ("time", TIME.into()),
        ("blocks", Ipld::Bytes(b"CAR".to_vec())),
    ])
}

pub(crate) fn identity_fields() -> Fields {
    fields(&[
        ("did", DID.into()),
        ("seq", 7u8.into()),
        ("time", TIME.into()),
        ("handle", "alice.test".into()),
    ])
}

pub(crate) fn account_fields() -> Fields {
    fields(&[
        ("did", DID.into()),
        ("seq", 7u8.into()),
        ("time", TIME.into()),
        ("active", false.into()),
        ("status", "deactivated".into()),
    ])
}

fn without(mut fields: Fields, key: &str) -> Fields {
    fields.retain(|(present, _)| present != key);
    fields
}

fn with(fields: Fields, key: &str, value: Ipld) -> Fields {
    let mut fields = without(fields, key);
    fields.push((key.to_owned(), value));
    fields
}

fn encode(name: &str, fields: &Fields) -> Vec<u8> {
    frame(name, fields, &mut Whims::none())
}

fn cid(byte: u8) -> Cid {
    Cid::cbor([byte; 32])
}

#[test]
fn a_commit_is_decoded() {
    let bytes = encode("#commit", &commit_fields());
    let op = |action, path, cid, prev| Op { action, path, cid, prev };
    let expected = CommitFrame {
        repo: DID,
        rev: REV,
        since: Some("3n2s2ynjiyk2j"),
        commit: cid(5),
        prev_data: Some(cid(6)),
        blocks: b"CAR",
        ops: vec![
            op("create", "a.b.c/1", Some(cid(1)), None),
            op("update", "a.b.c/2", Some(cid(2)), Some(cid(3))),
            op("delete", "a.b.c/3", None, Some(cid(4))),
        ],
        time: TIME,
    };
    assert_eq!(CommitFrame::decode(&bytes), Ok(expected));
}

fn check_commit(fields: &Fields, expected: Result<(), FieldError>) {
    let bytes = encode("#commit", fields);
    assert_eq!(CommitFrame::decode(&bytes).map(drop), expected, "{fields:?}");
}

#[test]
fn required_fields_are_named_when_missing() {
    for name in ["repo", "rev", "commit", "blocks", "ops", "time"] {
        check_commit(&without(commit_fields(), name), Err(FieldError::Missing(name)));
    }
    for name in ["did", "rev", "blocks", "time"] {
        let bytes = encode("#sync", &without(sync_fields(), name));
        assert_eq!(SyncFrame::decode(&bytes), Err(FieldError::Missing(name)));
    }
    for name in ["did", "time"] {
        let bytes = encode("#identity", &without(identity_fields(), name));
        assert_eq!(IdentityFrame::decode(&bytes), Err(FieldError::Missing(name)));
    }
    for name in ["did", "time", "active"] {
        let bytes = encode("#account", &without(account_fields(), name));
        assert_eq!(AccountFrame::decode(&bytes), Err(FieldError::Missing(name)));
    }
}

#[test]
fn fields_of_a_wrong_type_are_named() {
    for name in ["repo", "rev", "commit", "blocks", "ops", "time", "since", "prevData"] {
        let fields = with(commit_fields(), name, Ipld::List(vec![Ipld::Null]));
        check_commit(&fields, Err(FieldError::Type(name)));
    }
    for name in ["repo", "rev", "commit", "blocks", "ops", "time"] {
        let fields = with(commit_fields(), name, Ipld::Null);
        check_commit(&fields, Err(FieldError::Type(name)));
    }
    for name in ["did", "rev", "blocks", "time"] {
        let bytes = encode("#sync", &with(sync_fields(), name, 1u8.into()));
        assert_eq!(SyncFrame::decode(&bytes), Err(FieldError::Type(name)));
    }
    for name in ["did", "time", "handle"] {
        let bytes = encode("#identity", &with(identity_fields(), name, 1u8.into()));
        assert_eq!(IdentityFrame::decode(&bytes), Err(FieldError::Type(name)));
    }
    for name in ["did", "time", "active", "status"] {
        let bytes = encode("#account", &with(account_fields(), name, 1u8.into()));
        assert_eq!(AccountFrame::decode(&bytes), Err(FieldError::Type(name)));
    }
}

#[test]
fn deprecated_fields_are_not_looked_at() {
    for name in ["rebase", "tooBig", "blobs"] {
        check_commit(&without(commit_fields(), name), Ok(()));
        check_commit(&with(commit_fields(), name, "anything".into()), Ok(()));
    }
}

#[test]
fn null_and_missing_are_the_same_where_a_field_may_be_absent() {
    for name in ["since", "prevData"] {
        for fields in [without(commit_fields(), name), with(commit_fields(), name, Ipld::Null)] {
            let bytes = encode("#commit", &fields);
            let commit = CommitFrame::decode(&bytes).unwrap();
            let absent =
                if name == "since" { commit.since.is_none() } else { commit.prev_data.is_none() };
            assert!(absent, "{name}");
        }
    }
}

/// The commit with this as its only op.
fn with_op(op: &[(&str, Ipld)]) -> Fields {
    let op = Ipld::Map(fields(op).into_iter().collect());
    with(commit_fields(), "ops", Ipld::List(vec![op]))
}

#[test]
fn an_op_has_an_action_and_a_path() {
    let check = |op: &[(&str, Ipld)], expected| check_commit(&with_op(op), expected);
    let (action, path) = (("action", Ipld::from("create")), ("path", Ipld::from("a.b.c/1")));
    check(&[action.clone(), path.clone()], Ok(()));
    check(std::slice::from_ref(&path), Err(FieldError::Missing("ops.action")));
    check(std::slice::from_ref(&action), Err(FieldError::Missing("ops.path")));
    check(&[action.clone(), ("path", 1u8.into())], Err(FieldError::Type("ops.path")));
    check(&[("action", Ipld::Null), path.clone()], Err(FieldError::Type("ops.action")));
    let cid = ("cid", Ipld::from("text"));
    check(&[action.clone(), path.clone(), cid], Err(FieldError::Type("ops.cid")));
    check(&[action, path, ("prev", 1u8.into())], Err(FieldError::Type("ops.prev")));
    let fields = with(commit_fields(), "ops", Ipld::List(vec![Ipld::Null]));
    check_commit(&fields, Err(FieldError::Type("ops")));
}

#[test]
fn cids_are_dag_cbor_and_sha_256() {
    let raw = link_of(Cid { codec: Codec::Raw, digest: [1; 32] });
    // CIDv1, dag-cbor, sha2-512.
    let mut bytes = vec![1, 0x71, 0x13, 64];
    bytes.extend([1; 64]);
    let sha512 = Ipld::Link(bytes.as_slice().try_into().unwrap());
    for other in [raw, sha512] {
        for name in ["commit", "prevData"] {
            let fields = with(commit_fields(), name, other.clone());
            check_commit(&fields, Err(FieldError::Cid(name)));
        }
        for (name, error) in [("cid", "ops.cid"), ("prev", "ops.prev")] {
            let (action, path) = (("action", "update".into()), ("path", "a.b.c/1".into()));
            let fields = with_op(&[action, path, (name, other.clone())]);
            check_commit(&fields, Err(FieldError::Cid(error)));
        }
    }
}

#[test]
fn ops_beyond_the_limit_are_not_kept() {
    let Ipld::List(ops) = commit_fields()[0].1.clone() else { panic!("no ops") };
    for (count, kept) in [(200, 200), (201, 201), (202, 201), (1500, OPS_DECODED_MAX)] {
        let ops = Ipld::List(vec![ops[0].clone(); count]);
        let bytes = encode("#commit", &with(commit_fields(), "ops", ops));
        assert_eq!(CommitFrame::decode(&bytes).unwrap().ops.len(), kept);
    }
}

#[test]
fn a_status_over_its_limit_is_left_out() {
    let check = |status: &str, expected: Option<&str>| {
        let bytes = encode("#account", &with(account_fields(), "status", status.into()));
        let frame = AccountFrame::decode(&bytes).unwrap();
        assert_eq!(frame.status, Some(status));
        let expected = Upstream { active: false, status: expected.map(Into::into) };
        assert_eq!(Upstream::from(&frame), expected);
    };
    check("desynchronized", Some("desynchronized"));
    check(&"\u{e9}".repeat(64), Some(&"\u{e9}".repeat(64)));
    check(&"a".repeat(65), None);
}
