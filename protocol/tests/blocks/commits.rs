//! Commit objects: real ones, and what is none.

use protocol::car;
use protocol::cbor::Writer;
use protocol::cid::Cid;
use protocol::commit::{self, Commit};
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::{Curve, SigningKey};
use protocol::tid::Tid;
use sha2::{Digest, Sha256};

use crate::vectors::{COMMITS, Event};

#[test]
fn real_commits_say_what_their_events_say() {
    for (name, _) in COMMITS {
        let event = Event::read(name);
        let (root, blocks) = car::read(&event.car).unwrap();
        assert_eq!(root.cid().unwrap().to_string(), event.commit);
        let block = blocks.get_link(&root).unwrap();
        let commit = Commit::parse(block).unwrap();
        assert_eq!((commit.did, commit.rev), (event.repo.as_str(), event.rev.as_str()));
        for (path, record) in event.creates {
            assert!(blocks.get(&record).is_some(), "{path}");
        }
    }
}

/// The fields of a commit in canonical order, each encoded.
fn fields() -> Vec<(&'static str, Vec<u8>)> {
    let encode = |write: &dyn Fn(&mut Writer<'_>)| {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        out
    };
    vec![
        ("did", encode(&|writer| writer.text("did:plc:sxtoas2sxjv6gh2bibdg3g4b"))),
        ("rev", encode(&|writer| writer.text("3lhhxizu5wr2d"))),
        ("sig", encode(&|writer| writer.bytes(&[7; 64]))),
        ("data", encode(&|writer| writer.cid(&Cid::cbor([9; 32])))),
        ("prev", encode(&|writer| writer.null())),
        ("version", encode(&|writer| writer.unsigned(3))),
    ]
}

fn block(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.map(fields.len());
    for (key, value) in fields {
        writer.text(key);
        writer.encoded(value);
    }
    out
}

fn check(name: &str, fields: &[(&str, Vec<u8>)], expected: bool) {
    assert_eq!(Commit::parse(&block(fields)).is_ok(), expected, "{name}");
}

#[test]
fn a_commit_has_its_six_fields_and_no_other() {
    let with = |at: usize, value: &[u8]| {
        let mut fields = fields();
        fields[at].1 = value.to_vec();
        fields
    };
    check("as it should be", &fields(), true);
    for missing in 0..6 {
        let mut fields = fields();
        let (key, _) = fields.remove(missing);
        check(&format!("without {key}"), &fields, key == "prev");
    }
    for twice in 0..6 {
        let mut fields = fields();
        fields.insert(twice, fields[twice].clone());
        check("a field twice", &fields, false);
    }
    for at in 0..6 {
        let key = fields()[at].0;
        check(&format!("{key} is an array"), &with(at, &[0x80]), false);
        check(&format!("{key} is null"), &with(at, &[0xf6]), key == "prev");
    }
    let mut unknown = fields();
    unknown.push(("versions", vec![3]));
    check("an unknown field", &unknown, false);
    let mut unsorted = fields();
    unsorted.swap(0, 1);
    check("unsorted", &unsorted, false);
    check("version 2", &with(5, &[2]), false);
    check("version 3 in two bytes", &with(5, &[0x18, 3]), false);
    check("a short signature", &with(2, &[&[0x58, 63][..], &[7; 63]].concat()), false);
    check("a signature in text", &with(2, &[&[0x78, 64][..], &[b'a'; 64]].concat()), false);
    let link = |head: &[u8]| [&[0xd8, 42, 0x58, 37, 0][..], head, &[9; 32]].concat();
    check("a raw tree", &with(3, &link(&[1, 0x55, 0x12, 32])), false);
    check("a tree under another hash", &with(3, &link(&[1, 0x71, 0x1e, 32])), false);
    check("a previous commit", &with(4, &link(&[1, 0x71, 0x12, 32])), true);
    check("a previous commit under another hash", &with(4, &link(&[1, 0x71, 0x1e, 32])), true);
    let more = [block(&fields()), vec![0xf6]].concat();
    assert!(Commit::parse(&more).is_err(), "something after it");
}

#[test]
fn what_is_signed_is_the_block_without_its_signature() {
    for prev in [true, false] {
        let mut fields = fields();
        fields.retain(|(key, _)| prev || *key != "prev");
        let signed = block(&fields);
        fields.retain(|(key, _)| *key != "sig");
        let digest: [u8; 32] = Sha256::digest(block(&fields)).into();
        assert_eq!(Commit::parse(&signed).unwrap().unsigned_digest, digest);
    }
}

#[test]
fn a_signed_commit_verifies_and_is_canonical() {
    for curve in [Curve::K256, Curve::P256] {
        let key = SigningKey::from_secret(curve, &[11; 32]).unwrap();
        let did = Did::parse("did:plc:sxtoas2sxjv6gh2bibdg3g4b").unwrap();
        let rev = Tid::from_micros(Micros(1_700_000_000_000_000), 5);
        let data = Cid::cbor([3; 32]);
        let block = commit::sign(&did, rev, &data, &key);
        let commit = Commit::parse(&block).unwrap();
        assert_eq!((commit.did, commit.rev), (&*did.to_string(), &*rev.to_string()));
        assert_eq!(commit.data, data);
        key.public_key().verify(&commit.unsigned_digest, &commit.signature).unwrap();
    }
}
