//! Frames that the reference PDS sent (tests/vectors/pds-captures), with the DID documents of
//! their accounts: decoded, verified, made again, and passed through.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use protocol::did::Did;
use protocol::frame::{
    self, AccountFrame, CommitFrame, HostKind, IdentityFrame, Kind, Outgoing, Peek, SyncFrame,
};
use protocol::ids::Seq;
use protocol::keys::{PublicKey, SignatureError};
use protocol::tid::Tid;
use protocol::{car, commit, datetime};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/vectors/pds-captures", name].iter().collect()
}

/// A capture's frames, each with what its index says of it.
fn frames(capture: &str) -> Vec<(Value, Bytes)> {
    let index = fs::read_to_string(folder(capture).join("index.jsonl")).unwrap();
    let frames: Vec<_> = index
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            let file = entry["file"].as_str().unwrap();
            let bytes = fs::read(folder(capture).join(file)).unwrap();
            (entry, bytes.into())
        })
        .collect();
    assert!(!frames.is_empty(), "{capture} has frames");
    frames
}

/// All events of all captures.
fn events() -> Vec<(Kind, u64, Bytes)> {
    let captures = ["live", "outdated", "migrate-A", "migrate-B"];
    let frames = captures.into_iter().flat_map(frames);
    let events: Vec<_> = frames
        .filter_map(|(_, frame)| match frame::peek(&frame).unwrap() {
            Peek::Event { kind: HostKind::Event(kind), seq, .. } => {
                Some((kind, seq.unwrap(), frame))
            }
            _ => None,
        })
        .collect();
    assert_eq!(events.len(), 46);
    events
}

fn document(did: &str) -> Value {
    let id = did.strip_prefix("did:plc:").unwrap();
    let text = fs::read(folder("plc").join(format!("{id}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The key of an account today.
fn key(did: &str) -> PublicKey {
    let entry = document(did);
    let method = &entry["doc"]["verificationMethod"][0];
    assert_eq!(method["id"].as_str(), Some(&*format!("{did}#atproto")));
    let text = |field: &str| method[field].as_str().unwrap().to_owned();
    PublicKey::from_method(&text("type"), &text("publicKeyMultibase")).unwrap()
}

/// The key of an account when it was made.
fn first_key(did: &str) -> PublicKey {
    let entry = document(did);
    let operation = &entry["audit"][0]["operation"];
    PublicKey::from_did_key(operation["verificationMethods"]["atproto"].as_str().unwrap()).unwrap()
}

/// What a `#commit` or `#sync` says, and what the commit block in it says.
struct Signed {
    did: String,
    event_rev: String,
    commit_rev: String,
    digest: [u8; 32],
    signature: [u8; 64],
}

impl Signed {
    fn read(kind: Kind, frame: &[u8]) -> Option<Self> {
        let (did, rev, blocks) = match kind {
            Kind::Commit => {
                let frame = CommitFrame::decode(frame).unwrap();
                let (root, _) = car::read(frame.blocks).unwrap();
                assert_eq!(root.cid(), Some(frame.commit));
                (frame.repo, frame.rev, frame.blocks)
            }
            Kind::Sync => {
                let frame = SyncFrame::decode(frame).unwrap();
                (frame.did, frame.rev, frame.blocks)
            }
            Kind::Identity | Kind::Account => return None,
        };
        let (root, blocks) = car::read(blocks).unwrap();
        let commit = commit::Commit::parse(blocks.get_link(&root).unwrap()).unwrap();
        assert_eq!(commit.did, did);
        Some(Self {
            did: did.to_owned(),
            event_rev: rev.to_owned(),
            commit_rev: commit.rev.to_owned(),
            digest: commit.unsigned_digest,
            signature: commit.signature,
        })
    }

    fn verify(&self, key: &PublicKey) -> Result<(), SignatureError> {
        key.verify(&self.digest, &self.signature)
    }
}

fn signed(capture: &str) -> Vec<(Value, Signed)> {
    frames(capture)
        .into_iter()
        .filter_map(|(entry, frame)| match frame::peek(&frame).unwrap() {
            Peek::Event { kind: HostKind::Event(kind), .. } => {
                Signed::read(kind, &frame).map(|signed| (entry, signed))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn every_commit_and_sync_verifies_with_the_key_of_its_document() {
    let mut verified = 0;
    for (entry, signed) in signed("live") {
        assert_eq!(signed.verify(&key(&signed.did)), Ok(()), "{entry}");
        assert_eq!(signed.event_rev, signed.commit_rev, "{entry}");
        verified += 1;
    }
    assert_eq!(verified, 17);
}

#[test]
fn a_migrated_account_has_another_key() {
    for (entry, signed) in signed("migrate-A") {
        assert_eq!(signed.verify(&first_key(&signed.did)), Ok(()), "{entry}");
        assert_eq!(signed.verify(&key(&signed.did)), Err(SignatureError::Invalid), "{entry}");
    }
    let [(_, sync), (_, commit)] = signed("migrate-B").try_into().ok().unwrap();
    // The first thing the new host sends is not valid: the old host's commit, the old key,
    // another rev.
    assert_eq!(sync.verify(&key(&sync.did)), Err(SignatureError::Invalid));
    assert_eq!(sync.verify(&first_key(&sync.did)), Ok(()));
    assert_ne!(sync.event_rev, sync.commit_rev);
    assert_eq!(commit.verify(&key(&commit.did)), Ok(()));
    assert_eq!(commit.event_rev, commit.commit_rev);
}

/// A CID or bytes or nothing, as the index writes them.
fn cid_text(value: &Value) -> Option<&str> {
    value["/"].as_str()
}

#[test]
fn every_field_is_decoded_as_the_index_says() {
    for capture in ["live", "outdated", "migrate-A", "migrate-B"] {
        for (entry, frame) in frames(capture) {
            let body = &entry["body"];
            let text = |field: &str| body[field].as_str();
            match entry["header"]["t"].as_str().unwrap() {
                "#commit" => {
                    let commit = CommitFrame::decode(&frame).unwrap();
                    assert_eq!(Some(commit.repo), text("repo"));
                    assert_eq!(Some(commit.rev), text("rev"));
                    assert_eq!(Some(commit.time), text("time"));
                    assert_eq!(commit.since, text("since"));
                    assert_eq!(Some(&*commit.commit.to_string()), cid_text(&body["commit"]));
                    let prev_data = commit.prev_data.map(|cid| cid.to_string());
                    assert_eq!(prev_data.as_deref(), cid_text(&body["prevData"]));
                    let ops = body["ops"].as_array().unwrap();
                    assert_eq!(commit.ops.len(), ops.len());
                    for (op, expected) in commit.ops.iter().zip(ops) {
                        let cid = op.cid.map(|cid| cid.to_string());
                        let prev = op.prev.map(|cid| cid.to_string());
                        assert_eq!(Some(op.action), expected["action"].as_str());
                        assert_eq!(Some(op.path), expected["path"].as_str());
                        assert_eq!(cid.as_deref(), cid_text(&expected["cid"]));
                        assert_eq!(prev.as_deref(), cid_text(&expected["prev"]));
                    }
                }
                "#sync" => {
                    let sync = SyncFrame::decode(&frame).unwrap();
                    assert_eq!((Some(sync.did), Some(sync.rev)), (text("did"), text("rev")));
                    assert_eq!(Some(sync.time), text("time"));
                }
                "#identity" => {
                    let identity = IdentityFrame::decode(&frame).unwrap();
                    assert_eq!(
                        (Some(identity.did), identity.handle),
                        (text("did"), text("handle"))
                    );
                    assert_eq!(Some(identity.time), text("time"));
                }
                "#account" => {
                    let account = AccountFrame::decode(&frame).unwrap();
                    assert_eq!((Some(account.did), account.status), (text("did"), text("status")));
                    assert_eq!(Some(account.active), body["active"].as_bool());
                    assert_eq!(Some(account.time), text("time"));
                }
                "#info" => assert!(matches!(frame::peek(&frame), Ok(Peek::Info { .. }))),
                name => panic!("unknown kind {name}"),
            }
        }
    }
}

#[test]
fn a_real_frame_passes_through_but_for_its_seq() {
    for (kind, host_seq, frame) in events() {
        let outgoing = Outgoing::from_host(&frame, kind).unwrap();
        assert!(!outgoing.recoded());
        assert_eq!(outgoing.kind(), kind);
        let write = |seq: u64| {
            let seq = Seq::new(seq).unwrap();
            let mut bytes = Vec::new();
            outgoing.write_with(seq, &mut bytes);
            assert_eq!(bytes.len(), outgoing.len_with(seq));
            bytes
        };
        assert_eq!(write(host_seq), frame);
        // Every width of the integer; around it nothing changes.
        for seq in [0, 23, 24, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, (1 << 53) - 1] {
            let bytes = write(seq);
            let Ok(Peek::Event { seq: read, .. }) = frame::peek(&bytes) else { panic!("no event") };
            assert_eq!(read, Some(seq));
            let again = Outgoing::from_host(&bytes.into(), kind).unwrap();
            let mut back = Vec::new();
            again.write_with(Seq::new(host_seq).unwrap(), &mut back);
            assert_eq!(back, frame);
        }
    }
}

#[test]
fn what_we_encode_is_what_the_reference_pds_sends() {
    for (kind, host_seq, frame) in events() {
        let did = |text: &str| Did::parse(text).unwrap();
        let ours = match kind {
            Kind::Commit => Outgoing::commit(&CommitFrame::decode(&frame).unwrap()),
            Kind::Sync => {
                let sync = SyncFrame::decode(&frame).unwrap();
                let rev = Tid::parse(sync.rev).unwrap();
                Outgoing::sync(&did(sync.did), rev, sync.blocks, sync.time)
            }
            Kind::Identity => {
                let identity = IdentityFrame::decode(&frame).unwrap();
                Outgoing::identity(&did(identity.did), identity.handle, identity.time)
            }
            Kind::Account => {
                let account = AccountFrame::decode(&frame).unwrap();
                Outgoing::account(&did(account.did), account.active, account.status, account.time)
            }
        };
        let theirs = Outgoing::from_host(&frame, kind).unwrap();
        assert_eq!((ours.kind(), ours.span()), (theirs.kind(), theirs.span()));
        let mut bytes = Vec::new();
        let seq = Seq::new(host_seq).unwrap();
        ours.write_with(seq, &mut bytes);
        assert_eq!(bytes, frame);
        assert_eq!(bytes.len(), ours.len_with(seq));
    }
}

#[test]
fn info_and_error_frames_are_what_the_reference_pds_sends() {
    let (_, info) = &frames("outdated")[0];
    let message = "Requested cursor exceeded limit. Possibly missing events";
    assert_eq!(frame::info("OutdatedCursor", message), *info);
    let (_, error) = &frames("future")[0];
    assert_eq!(frame::error("FutureCursor", "Cursor in the future."), *error);
}

#[test]
fn times_are_written_as_they_were_read() {
    for (kind, _, frame) in events() {
        let time = match kind {
            Kind::Commit => CommitFrame::decode(&frame).unwrap().time,
            Kind::Sync => SyncFrame::decode(&frame).unwrap().time,
            Kind::Identity => IdentityFrame::decode(&frame).unwrap().time,
            Kind::Account => AccountFrame::decode(&frame).unwrap().time,
        };
        assert_eq!(datetime::format(datetime::parse(time).unwrap()), time);
    }
}
