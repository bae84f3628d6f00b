//! The way out: canonical frames pass byte for byte, others are encoded anew.

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use proptest::prelude::*;
use protocol::frame::{
    AccountFrame, CommitFrame, FieldError, IdentityFrame, Kind, Outgoing, SyncFrame,
};
use protocol::ids::Seq;

use crate::fields::{account_fields, commit_fields, identity_fields, sync_fields};
use crate::loose::{Fields, Whims, any_ipld, canonical_frame, frame, strict_payload};

fn base(kind: Kind) -> Fields {
    match kind {
        Kind::Commit => commit_fields(),
        Kind::Sync => sync_fields(),
        Kind::Identity => identity_fields(),
        Kind::Account => account_fields(),
    }
}

fn write(outgoing: &Outgoing, seq: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    outgoing.write_with(Seq::new(seq).unwrap(), &mut bytes);
    bytes
}

fn set(fields: &mut Fields, key: &str, value: Ipld) {
    fields.retain(|(present, _)| present != key);
    fields.push((key.to_owned(), value));
}

/// What the decoders say of two frames must be the same.
fn assert_same(kind: Kind, a: &[u8], b: &[u8]) {
    match kind {
        Kind::Commit => assert_eq!(CommitFrame::decode(a), CommitFrame::decode(b)),
        Kind::Sync => assert_eq!(SyncFrame::decode(a), SyncFrame::decode(b)),
        Kind::Identity => assert_eq!(IdentityFrame::decode(a), IdentityFrame::decode(b)),
        Kind::Account => assert_eq!(AccountFrame::decode(a), AccountFrame::decode(b)),
    }
}

#[test]
fn missing_deprecated_fields_are_completed() {
    for key in ["rebase", "tooBig", "blobs", "since"] {
        let mut fields = commit_fields();
        fields.retain(|(present, _)| present != key);
        let host = frame("#commit", &fields, &mut Whims::none());
        let outgoing = Outgoing::from_host(&host.into(), Kind::Commit).unwrap();
        assert!(outgoing.recoded(), "{key}");
        let value = match key {
            "blobs" => Ipld::List(vec![]),
            "since" => Ipld::Null,
            _ => Ipld::Bool(false),
        };
        set(&mut fields, key, value);
        set(&mut fields, "seq", 99u8.into());
        assert_eq!(write(&outgoing, 99), canonical_frame("#commit", &fields), "{key}");
    }
}

#[test]
fn an_op_without_cid_is_given_null() {
    let mut fields = commit_fields();
    let Ipld::List(ops) = &mut fields[0].1 else { panic!("no ops") };
    let Ipld::Map(delete) = &mut ops[2] else { panic!("no op") };
    delete.remove("cid");
    let host = frame("#commit", &fields, &mut Whims::none());
    let outgoing = Outgoing::from_host(&host.into(), Kind::Commit).unwrap();
    assert!(outgoing.recoded());
    assert_eq!(write(&outgoing, 7), canonical_frame("#commit", &commit_fields()));
}

#[test]
fn a_commit_owns_one_number_per_op_and_at_least_one() {
    let check = |count: usize, span: u32| {
        let mut fields = commit_fields();
        let Ipld::List(ops) = &fields[0].1 else { panic!("no ops") };
        fields[0].1 = Ipld::List(vec![ops[0].clone(); count]);
        let host = frame("#commit", &fields, &mut Whims::none());
        assert_eq!(Outgoing::from_host(&host.into(), Kind::Commit).unwrap().span(), span);
    };
    check(0, 1);
    check(1, 1);
    check(2, 2);
    check(200, 200);
}

#[test]
fn a_frame_without_its_seq_or_of_another_kind_does_not_go_out() {
    let check = |fields: &Fields, kind, expected| {
        let host = Bytes::from(frame("#account", fields, &mut Whims::none()));
        assert_eq!(Outgoing::from_host(&host, kind).map(drop), Err(expected));
    };
    let mut fields = account_fields();
    check(&fields, Kind::Identity, FieldError::Malformed);
    set(&mut fields, "seq", "7".into());
    check(&fields, Kind::Account, FieldError::Type("seq"));
    fields.retain(|(key, _)| key != "seq");
    check(&fields, Kind::Account, FieldError::Missing("seq"));
}

#[test]
fn unknown_fields_of_the_header_are_kept() {
    let host = b"\xa3\x61t\x68#account\x62op\x01\x61x\x18\x05\xa1\x63seq\x01";
    let outgoing = Outgoing::from_host(&Bytes::from_static(host), Kind::Account).unwrap();
    assert_eq!(write(&outgoing, 2), b"\xa3\x61t\x68#account\x61x\x05\x62op\x01\xa1\x63seq\x02");
}

proptest! {
    #[test]
    fn what_goes_out_is_canonical_and_says_the_same(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        host_seq in prop_oneof![1u64..300, 1u64..1 << 53],
        seq in prop_oneof![1u64..300, 1u64..1 << 53],
        unknown in prop::collection::btree_map("[a-z]{1,3}X", any_ipld(), 0..3),
        shuffle in prop_oneof![Just(None), any::<u64>().prop_map(Some)],
        whims in prop_oneof![
            Just(Vec::new()),
            prop::collection::vec(any::<u8>(), 0..60),
        ],
    ) {
        let mut fields = base(kind);
        set(&mut fields, "seq", Ipld::Integer(host_seq.into()));
        fields.extend(unknown);
        fields.sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
        if let Some(seed) = shuffle {
            fields.sort_by_key(|(key, _)| {
                key.bytes().fold(seed, |hash, byte| {
                    (hash ^ u64::from(byte)).rotate_left(9).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                })
            });
        }
        let host = frame(kind.name(), &fields, &mut Whims(whims));
        let canonical = canonical_frame(kind.name(), &fields);
        let outgoing = Outgoing::from_host(&Bytes::from(host.clone()), kind).unwrap();
        prop_assert_eq!(outgoing.recoded(), host != canonical);
        prop_assert_eq!(write(&outgoing, host_seq), canonical);

        let out = write(&outgoing, seq);
        prop_assert_eq!(out.len(), outgoing.len_with(Seq::new(seq).unwrap()));
        assert_same(kind, &host, &out);
        set(&mut fields, "seq", Ipld::Integer(seq.into()));
        prop_assert_eq!(strict_payload(&out), Ipld::Map(fields.iter().cloned().collect()));
        prop_assert_eq!(&out, &canonical_frame(kind.name(), &fields));
        let again = Outgoing::from_host(&Bytes::from(out), kind).unwrap();
        prop_assert!(!again.recoded());
        prop_assert_eq!(again.span(), outgoing.span());
    }
}
