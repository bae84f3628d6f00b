//! One case for each name, each beside a truth that passes.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::account::{Local, Repo as RepoState};
use protocol::cid::{Cid, Codec};
use protocol::commit::Commit as SignedCommit;
use protocol::host::HostRules;
use protocol::ids::Seq;
use protocol::keys::{self, Curve};
use protocol::tid::Tid;

use super::*;
use crate::identity::parse_document;
use crate::testing::{
    Commit, Repo, START, Write, account_frame, identity_frame, map, record, text, value,
};

const PDS: &str = "https://pds.example.com";

/// What an event is judged against.
struct World {
    repo: Repo,
    prior: Option<Account>,
    proof: Proof,
    handles: Handles,
    name: HostName,
    key_of: Repo,
    now: Micros,
    synced: Option<Tid>,
    status: Option<Status>,
    received: Micros,
    fetched: Micros,
    seq: u64,
}

impl World {
    fn empty(curve: Curve) -> Self {
        Self {
            repo: Repo::new(7, curve),
            prior: None,
            proof: Proof::Owed,
            handles: Handles::Pass,
            name: HostName::parse("pds.example.com", HostRules::Public).unwrap(),
            key_of: Repo::new(7, curve),
            now: START.plus(Duration::from_secs(60)),
            synced: None,
            status: None,
            received: START,
            fetched: START,
            seq: 2,
        }
    }

    /// Holds an account with 300 records.
    fn settled() -> Self {
        let mut world = Self::empty(Curve::K256);
        let paths: Vec<String> = (0..300).map(path).collect();
        let writes: Vec<_> = paths.iter().map(|path| Write::Create(path, "old")).collect();
        writes.chunks(100).for_each(|writes| drop(world.repo.commit(writes)));
        world.remember();
        world
    }

    /// The account as it is after the repo's newest commit.
    fn remember(&mut self) {
        let (rev, data) = self.repo.head.unwrap();
        let repo = Some(RepoState { rev, data: data.digest, commit: [0; 32] });
        let (host, epoch) = (HostId(1), Epoch(0));
        let host_seq = HostSeq::new(1).unwrap();
        let (local, upstream) = (Local::None, Upstream::ACTIVE);
        self.prior = Some(Account { host, epoch, host_seq, local, upstream, repo });
    }

    fn identity(&self) -> Identity {
        let document = self.key_of.document(PDS);
        let document = document.replace(&self.key_of.did.to_string(), &self.repo.did.to_string());
        parse_document(document.as_bytes(), &self.repo.did, HostRules::Public, self.fetched)
            .unwrap()
    }

    fn judge_as(&self, kind: HostKind, frame: &Bytes, identity: &Identity) -> Ruling {
        let case = Case {
            kind,
            did: &self.repo.did,
            frame,
            host: HostId(1),
            name: &self.name,
            epoch: Epoch(0),
            seq: HostSeq::new(self.seq).unwrap(),
            received: self.received,
            proof: self.proof,
            handles: self.handles,
            prior: self.prior.as_ref(),
            synced: self.synced,
            tombstone_spacing: Duration::from_secs(60),
            now: self.now,
        };
        let known = Known {
            identity: Some(identity),
            before: Some(identity),
            status: self.status.as_ref(),
            ..Known::default()
        };
        match begin(&case) {
            Ok(claim) => claim.settle(&case, &known),
            Err(reject) => Ruling::Reject(reject),
        }
    }

    fn judge(&self, kind: Kind, frame: &Bytes) -> Result<Accepted, Reject> {
        match self.judge_as(HostKind::Event(kind), frame, &self.identity()) {
            Ruling::Accept(accepted) => Ok(*accepted),
            Ruling::Reject(reject) => Err(reject),
            Ruling::Wait(need) => panic!("waits for {need:?}"),
        }
    }

    fn commit(&self, commit: &Commit) -> Result<Accepted, Reject> {
        self.judge(Kind::Commit, &commit.frame(2))
    }
}

fn path(number: usize) -> String {
    format!("app.bsky.feed.post/3k{number:06}")
}

fn wire(accepted: &Accepted, at: usize) -> Vec<u8> {
    let mut out = Vec::new();
    accepted.frames[at].write_with(Seq::new(2).unwrap(), &mut out);
    out
}

/// A commit of one create and one delete, changed by `lie`, gives `expected`.
fn check(lie: impl FnOnce(&mut World, &mut Commit), expected: Result<(), Reject>) {
    let mut world = World::settled();
    let path = path(40);
    let mut commit =
        world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1"), Write::Delete(&path)]);
    lie(&mut world, &mut commit);
    assert_eq!(world.commit(&commit).map(drop), expected);
}

fn drops(reject: Reject, lie: impl FnOnce(&mut World, &mut Commit)) {
    check(lie, Err(reject));
}

fn passes(lie: impl FnOnce(&mut World, &mut Commit)) {
    check(lie, Ok(()));
}

#[test]
fn a_true_commit_passes_and_is_the_state_from_then_on() {
    let mut world = World::settled();
    let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
    let frame = commit.frame(2);
    let accepted = world.judge(Kind::Commit, &frame).unwrap();
    assert_eq!(wire(&accepted, 0), frame, "the host's own bytes");
    assert_eq!((accepted.frames.len(), accepted.was), (1, Some(HostId(1))));
    assert!(accepted.closes_ratchet && !accepted.chain_break);
    let account = accepted.account.unwrap();
    let (rev, data) = world.repo.head.unwrap();
    let commit = commit.commit.digest;
    assert_eq!(account.repo, Some(RepoState { rev, data: data.digest, commit }));
    assert_eq!(account.host_seq, HostSeq::new(2).unwrap());
}

#[test]
fn what_was_applied_is_not_applied_again() {
    passes(|world, _| world.seq = 2);
    drops(Reject::AlreadyApplied, |world, _| world.seq = 1);
    // Another epoch, or another host, counts anew.
    passes(|world, _| {
        world.seq = 1;
        world.prior.as_mut().unwrap().epoch = Epoch(3);
    });
    passes(|world, _| {
        world.seq = 1;
        world.prior.as_mut().unwrap().host = HostId(9);
    });
}

#[test]
fn fields_are_required_and_typed() {
    for name in ["repo", "rev", "commit", "blocks", "ops", "time"] {
        drops(Reject::FieldMissing, |_, commit| commit.without.push(name));
        drops(Reject::FieldType, |_, commit| commit.fields.push((name, value(|w| w.unsigned(1)))));
    }
    // Bridges leave these out, and their values are ignored.
    passes(|_, commit| commit.without.extend(["rebase", "tooBig", "blobs"]));
    passes(|_, commit| commit.fields.push(("tooBig", value(|w| w.boolean(true)))));
    passes(|_, commit| commit.fields.push(("unknown", text("kept"))));
    passes(|_, commit| commit.fields.push(("prev", value(|w| w.null()))));
    let raw = |commit: &Commit| Cid { codec: Codec::Raw, ..commit.commit };
    drops(Reject::CidUnsupported, |_, commit| {
        let cid = raw(commit);
        commit.fields.push(("commit", value(|w| w.cid(&cid))));
    });
    drops(Reject::CidUnsupported, |_, commit| commit.prev_data = Some(raw(commit)));
    // The account in the payload is the one that chose the shard.
    let other = Repo::new(8, Curve::K256).did.to_string();
    drops(Reject::FieldType, |_, commit| commit.repo = other);
}

#[test]
fn sizes_have_limits() {
    let blocks = |bytes: usize| ("blocks", value(|w| w.bytes(&vec![0; bytes])));
    drops(Reject::BlocksTooBig, |_, commit| commit.fields.push(blocks(2_000_001)));
    drops(Reject::CarMalformed, |_, commit| commit.fields.push(blocks(2_000_000)));
    drops(Reject::OpsTooMany, |_, commit| commit.ops = vec![commit.ops[0].clone(); 201]);
    drops(Reject::OpDuplicate, |_, commit| commit.ops = vec![commit.ops[0].clone(); 200]);
}

#[test]
fn rev_and_time_are_judged_before_the_blocks() {
    let break_blocks =
        |commit: &mut Commit| commit.fields.push(("blocks", value(|w| w.bytes(b"no"))));
    drops(Reject::RevSyntax, |_, commit| {
        commit.rev = "3l".into();
        break_blocks(commit);
    });
    drops(Reject::RevInFuture, |world, commit| {
        world.now = Micros(START.0 - 301_000_000);
        break_blocks(commit);
    });
    passes(|world, _| world.now = Micros(START.0 - 290_000_000));
    drops(Reject::RevNotNewer, |world, commit| {
        world.prior.as_mut().unwrap().repo.as_mut().unwrap().rev = Tid::parse(&commit.rev).unwrap();
        break_blocks(commit);
    });
    drops(Reject::TimeSyntax, |_, commit| {
        commit.time = "yesterday".into();
        break_blocks(commit);
    });
}

#[test]
fn the_car_is_whole_and_holds_the_commit() {
    drops(Reject::CarMalformed, |_, commit| {
        commit.fields.push(("blocks", value(|w| w.bytes(&[1, 2, 3]))));
    });
    drops(Reject::BlockCidMismatch, |_, commit| commit.blocks[0].1[3] ^= 1);
    drops(Reject::CommitCidMismatch, |_, commit| commit.root = commit.data);
    drops(Reject::CommitMissing, |_, commit| {
        let cid = commit.commit;
        commit.blocks.retain(|(other, _)| *other != cid);
    });
    drops(Reject::CommitMalformed, |_, commit| commit.replace_commit(record("not a commit")));
    // Extra blocks are allowed, and the order is free.
    passes(|_, commit| {
        let extra = record("extra");
        commit.blocks.push((Cid::of_cbor(&extra), extra));
        commit.blocks.reverse();
    });
}

#[test]
fn the_commit_speaks_for_the_account_and_the_revision() {
    drops(Reject::CommitDidMismatch, |world, commit| {
        let other = Repo::new(9, Curve::K256);
        other.sign(commit, world.repo.head.unwrap().0, &commit.data.clone());
    });
    drops(Reject::CommitRevMismatch, |world, commit| {
        let rev = Tid::from_bits(world.repo.head.unwrap().0.bits() + 1).unwrap();
        world.repo.sign(commit, rev, &commit.data.clone());
    });
}

#[test]
fn ops_are_well_formed() {
    drops(Reject::OpMalformed, |_, commit| commit.ops[0].action = "upsert".into());
    drops(Reject::OpMalformed, |_, commit| commit.ops[0].cid = None);
    drops(Reject::OpMalformed, |_, commit| commit.ops[0].prev = commit.ops[0].cid);
    drops(Reject::OpMalformed, |_, commit| commit.ops[1].cid = commit.ops[0].cid);
    for path in ["", "nope", "app.bsky.feed.post", "app.bsky.feed.post/", "a/b", "/x"] {
        drops(Reject::OpPath, |_, commit| commit.ops[0].path = path.into());
    }
    drops(Reject::OpNotInTree, |_, commit| commit.ops[0].path = "app.bsky.feed.like/two".into());
    drops(Reject::OpNotInTree, |_, commit| {
        let (cid, _) = commit.blocks[0];
        let other = record("two");
        let other = (Cid::of_cbor(&other), other);
        assert_eq!(commit.ops[0].cid, Some(cid));
        commit.ops[0].cid = Some(other.0);
        commit.blocks.push(other);
    });
}

#[test]
fn records_are_there_and_maps() {
    drops(Reject::RecordMissing, |_, commit| drop(commit.blocks.remove(0)));
    let judge = |record: &[u8]| {
        let mut world = World::settled();
        let commit = world.repo.commit(&[Write::Raw("app.bsky.feed.like/one", record)]);
        world.commit(&commit).map(drop)
    };
    let long = |bytes: usize| map(&[("t", value(|w| w.bytes(&vec![0; bytes])))]);
    assert_eq!(judge(&long(999_992)), Ok(()), "{}", long(999_992).len());
    assert_eq!(judge(&long(999_993)), Err(Reject::RecordTooBig));
    assert_eq!(judge(b"\x80"), Err(Reject::RecordMalformed));
    assert_eq!(judge(b"\xa0\xa0"), Err(Reject::RecordMalformed));
    // Canonical form is not judged: unsorted keys, a long integer, a float.
    assert_eq!(judge(b"\xa2\x61b\x18\x01\x61a\xf9\x3c\x00"), Ok(()));
}

#[test]
fn several_ops_on_one_path_are_folded_in_order() {
    let judge = |writes: &[Write<'_>]| {
        let mut world = World::settled();
        let commit = world.repo.commit(writes);
        world.commit(&commit).map(drop)
    };
    let (old, new) = (path(5), "app.bsky.feed.like/one");
    assert_eq!(judge(&[Write::Delete(&old), Write::Create(&old, "again")]), Ok(()));
    assert_eq!(judge(&[Write::Update(&old, "1"), Write::Update(&old, "2")]), Ok(()));
    assert_eq!(judge(&[Write::Create(new, "1"), Write::Delete(new)]), Ok(()));
    assert_eq!(judge(&[Write::Update(&old, "1"), Write::Update(&old, "old")]), Ok(()));
    let mut world = World::settled();
    let mut commit = world.repo.commit(&[Write::Create(new, "1"), Write::Update(new, "2")]);
    assert_eq!(world.commit(&commit).map(drop), Ok(()));
    // The record that was overwritten at once need not be there, nor a later op's `prev`.
    commit.blocks.remove(0);
    commit.ops[1].prev = None;
    assert_eq!(world.commit(&commit).map(drop), Ok(()));
    commit.ops.swap(0, 1);
    assert_eq!(world.commit(&commit).map(drop), Err(Reject::OpDuplicate));
    commit.ops = vec![commit.ops[1].clone(), commit.ops[1].clone()];
    assert_eq!(world.commit(&commit).map(drop), Err(Reject::OpDuplicate));
}

#[test]
fn the_tree_is_a_tree() {
    let with_root = |node: Vec<u8>| {
        move |world: &mut World, commit: &mut Commit| {
            let data = Cid::of_cbor(&node);
            commit.blocks.push((data, node));
            world.repo.sign(commit, world.repo.head.unwrap().0, &data);
        }
    };
    drops(Reject::MstMalformed, with_root(record("not a node")));
    let entry = |number: usize| {
        map(&[
            ("k", value(|w| w.bytes(path(number).as_bytes()))),
            ("p", value(|w| w.unsigned(0))),
            ("t", value(|w| w.null())),
            ("v", value(|w| w.cid(&Cid::of_cbor(b"\xa0")))),
        ])
    };
    let wide = value(|w| {
        w.array(1025);
        (0..1025).for_each(|number| w.encoded(&entry(number)));
    });
    let wide = map(&[("e", wide), ("l", value(|w| w.null()))]);
    drops(Reject::MstTooLarge, with_root(wide));
}

#[test]
fn the_ops_undone_give_the_tree_before() {
    drops(Reject::InversionMismatch, |_, commit| commit.prev_data = Some(commit.data));
    // Every node but the root is needed, or is a neighbour that the root's search passes.
    drops(Reject::InversionIncomplete, drop_deepest_node);
    passes(|world, commit| {
        world.proof = Proof::Lenient;
        drop_deepest_node(world, commit);
    });
    drops(Reject::InversionIncomplete, |_, commit| {
        let data = commit.data;
        commit.blocks.retain(|(cid, _)| *cid != data);
    });
}

fn drop_deepest_node(world: &mut World, commit: &mut Commit) {
    let node = world.repo.tree.proof(&[&commit.ops[1].path]).pop().unwrap().0;
    assert_ne!(node, commit.data);
    commit.blocks.retain(|(cid, _)| *cid != node);
}

#[test]
fn sync_1_0_passes_until_the_ratchet_closes() {
    let strip: [fn(&mut Commit); 2] =
        [|commit| commit.prev_data = None, |commit| commit.ops[1].prev = None];
    for strip in strip {
        drops(Reject::PrevDataMissing, |_, commit| strip(commit));
        for proof in [Proof::NotYet, Proof::Lenient] {
            passes(|world, commit| {
                world.proof = proof;
                strip(commit);
            });
        }
        let mut world = World::settled();
        world.proof = Proof::NotYet;
        let path = path(3);
        let mut commit = world
            .repo
            .commit(&[Write::Create("app.bsky.feed.like/one", "1"), Write::Delete(&path)]);
        strip(&mut commit);
        let accepted = world.commit(&commit).unwrap();
        assert!(!accepted.closes_ratchet && !accepted.chain_break);
        // All checks but the inversion.
        commit.ops[0].path = "app.bsky.feed.like/two".into();
        assert_eq!(world.commit(&commit).map(drop), Err(Reject::OpNotInTree));
    }
    // What Sync 1.1 proves is judged whole, ratchet or not.
    drops(Reject::InversionMismatch, |world, commit| {
        world.proof = Proof::NotYet;
        commit.prev_data = Some(commit.data);
    });
}

#[test]
fn a_first_commit_passes_without_prev_data() {
    for curve in [Curve::K256, Curve::P256] {
        let mut world = World::empty(curve);
        let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        let accepted = world.commit(&commit).unwrap();
        assert_eq!((accepted.was, accepted.closes_ratchet), (None, false));
        assert!(!accepted.chain_break);
    }
    // It breaks the chain of an account that holds other data.
    let mut world = World::settled();
    let held = world.prior.clone();
    world = World::empty(Curve::K256);
    world.prior = held;
    world.prior.as_mut().unwrap().repo.as_mut().unwrap().rev = Tid::from_bits(1).unwrap();
    let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
    assert!(world.commit(&commit).unwrap().chain_break);
}

#[test]
fn a_commit_without_ops_changes_nothing() {
    let mut world = World::empty(Curve::K256);
    let first = world.repo.commit(&[]);
    assert_eq!(world.commit(&first).map(|accepted| accepted.chain_break), Ok(false));
    world.remember();
    let second = world.repo.commit(&[]);
    let accepted = world.commit(&second).unwrap();
    assert_eq!((accepted.chain_break, accepted.closes_ratchet), (false, true));
    assert_eq!(accepted.frames[0].span(), 1);

    let mut world = World::settled();
    let mut commit = world.repo.commit(&[]);
    assert_eq!(commit.blocks.len(), 1, "only the commit block");
    assert_eq!(world.commit(&commit).map(drop), Ok(()));
    commit.prev_data = None;
    assert_eq!(world.commit(&commit).map(drop), Err(Reject::InversionMismatch));
    commit.prev_data = Some(commit.commit);
    assert_eq!(world.commit(&commit).map(drop), Err(Reject::InversionMismatch));
}

#[test]
fn a_commit_that_does_not_continue_ours_passes_as_a_chain_break() {
    let judge = |change: fn(&mut World, &mut Commit)| {
        let mut world = World::settled();
        let mut commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        change(&mut world, &mut commit);
        world.commit(&commit).unwrap().chain_break
    };
    assert!(judge(|world, _| {
        world.prior.as_mut().unwrap().repo.as_mut().unwrap().data = [9; 32];
    }));
    // `since` counts only where `prevData` is absent.
    assert!(!judge(|_, commit| commit.since = Some("3l22222222222".into())));
    assert!(!judge(sync_1_0));
    assert!(judge(|world, commit| {
        sync_1_0(world, commit);
        commit.since = Some("3l22222222222".into());
    }));
    assert!(!judge(|world, commit| {
        sync_1_0(world, commit);
        commit.since = None;
    }));
}

fn sync_1_0(world: &mut World, commit: &mut Commit) {
    world.proof = Proof::NotYet;
    commit.prev_data = None;
}

#[test]
fn signatures_are_low_s_and_of_the_documents_key() {
    for curve in [Curve::K256, Curve::P256] {
        let mut world = World::empty(curve);
        let mut commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        assert_eq!(world.commit(&commit).map(drop), Ok(()), "{curve:?}");
        world.key_of = Repo::new(8, curve);
        assert_eq!(world.commit(&commit).map(drop), Err(Reject::SignatureInvalid), "{curve:?}");
        world.key_of = Repo::new(7, curve);
        let mut block = commit.commit_block().clone();
        let low = SignedCommit::parse(&block).unwrap().signature;
        let at = block.windows(64).position(|window| window == low).unwrap();
        block[at..at + 64].copy_from_slice(&keys::flip_s(curve, &low));
        commit.replace_commit(block);
        assert_eq!(world.commit(&commit).map(drop), Err(Reject::SignatureHighS), "{curve:?}");
    }
}

#[test]
fn documents_convict_only_if_fetched_after_the_event_came() {
    let judge = |fetched: u64, change: fn(&mut World, &mut Identity)| {
        let mut world = World::settled();
        world.fetched = Micros(START.0 - 1 + fetched);
        let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        let mut identity = world.identity();
        change(&mut world, &mut identity);
        world.judge_as(HostKind::Event(Kind::Commit), &commit.frame(2), &identity)
    };
    let check = |reject: Reject, change: fn(&mut World, &mut Identity)| {
        let early = judge(0, change);
        let waits = matches!(early, Ruling::Wait(Need::DocumentSince(START)));
        assert!(waits, "{reject:?}: {early:?}");
        let late = judge(1, change);
        assert!(matches!(late, Ruling::Reject(named) if named == reject), "{late:?}");
    };
    check(Reject::IdentityNoKey, |_, identity| identity.key = None);
    check(Reject::IdentityNoPds, |_, identity| identity.pds = None);
    check(Reject::IdentityTombstoned, |_, identity| identity.tombstoned = true);
    check(Reject::WrongHost, |world, _| {
        world.name = HostName::parse("other.example.com", HostRules::Public).unwrap();
    });
    check(Reject::SignatureInvalid, |_, identity| {
        identity.key = Some(Repo::new(8, Curve::K256).key.public_key());
    });
    assert!(matches!(judge(0, |_, _| {}), Ruling::Accept(_)), "an old document acquits");
}

#[test]
fn inactive_accounts_have_no_commits_unless_their_host_says_so() {
    let judge = |status: Option<Status>, change: fn(&mut Account)| {
        let mut world = World::settled();
        change(world.prior.as_mut().unwrap());
        world.status = status;
        let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        world.judge_as(HostKind::Event(Kind::Commit), &commit.frame(2), &world.identity())
    };
    let check = |status, change, expected: Result<usize, Reject>| {
        let ruling = match judge(status, change) {
            Ruling::Accept(accepted) => {
                assert!(accepted.account.unwrap().upstream.active);
                Ok(accepted.frames.len())
            }
            Ruling::Reject(reject) => Err(reject),
            Ruling::Wait(need) => panic!("waits for {need:?}"),
        };
        assert_eq!(ruling, expected);
    };
    let inactive =
        |account: &mut Account| account.upstream = Upstream { active: false, status: None };
    assert!(matches!(judge(None, inactive), Ruling::Wait(Need::Status)));
    check(Some(Status::Of(Upstream::ACTIVE)), inactive, Ok(2));
    check(Some(Status::MethodMissing), inactive, Ok(2));
    let no = Err(Reject::AccountInactive);
    let deactivated = Upstream { active: false, status: Some("deactivated".into()) };
    check(Some(Status::Of(deactivated)), inactive, no);
    check(Some(Status::NotFound), inactive, no);
    check(Some(Status::None), inactive, no);
    let active: fn(&mut Account) = |_| {};
    check(None, active, Ok(1));
    check(None, |account| account.local = Local::Takendown, Err(Reject::AccountTakendown));
    check(None, |account| account.local = Local::Suspended, Err(Reject::AccountTakendown));
    check(None, |account| account.local = Local::Throttled, Err(Reject::AccountThrottled));
}

#[test]
fn a_healed_account_is_announced_before_its_commit() {
    let mut world = World::settled();
    world.prior.as_mut().unwrap().upstream.active = false;
    world.status = Some(Status::Of(Upstream::ACTIVE));
    let frame = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]).frame(2);
    let accepted = world.judge(Kind::Commit, &frame).unwrap();
    let kinds: Vec<_> = accepted.frames.iter().map(protocol::frame::Outgoing::kind).collect();
    assert_eq!(kinds, [Kind::Account, Kind::Commit]);
    assert_eq!(wire(&accepted, 1), frame);
}

#[test]
fn a_sync_never_rolls_back() {
    let judge = |change: fn(&mut World)| {
        let mut world = World::settled();
        world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        let sync = world.repo.sync();
        change(&mut world);
        world.judge(Kind::Sync, &sync.frame(2)).map(drop)
    };
    assert_eq!(judge(|_| {}), Ok(()), "newer");
    assert_eq!(judge(World::remember), Ok(()), "the same");
    let same_again = |world: &mut World| {
        world.remember();
        world.synced = world.repo.head.map(|(rev, _)| rev);
    };
    assert_eq!(judge(same_again), Err(Reject::SyncRepeated));
    let after_another = |world: &mut World| {
        world.remember();
        world.synced = Tid::from_bits(1);
    };
    assert_eq!(judge(after_another), Ok(()), "the last sync said something else");
    let other_data = |world: &mut World| {
        world.remember();
        world.prior.as_mut().unwrap().repo.as_mut().unwrap().data = [9; 32];
    };
    assert_eq!(judge(other_data), Err(Reject::RevNotNewer));
    let older = |world: &mut World| {
        world.repo.commit(&[]);
        world.remember();
    };
    assert_eq!(judge(older), Err(Reject::RevNotNewer));
    assert_eq!(judge(|world| world.now = Micros(1)), Err(Reject::RevInFuture));
    assert_eq!(
        judge(|world| world.key_of = Repo::new(8, Curve::K256)),
        Err(Reject::SignatureInvalid)
    );
}

#[test]
fn a_sync_is_one_commit_block() {
    let judge = |change: fn(&mut crate::testing::Sync)| {
        let mut world = World::settled();
        world.repo.commit(&[]);
        let mut sync = world.repo.sync();
        change(&mut sync);
        world.judge(Kind::Sync, &sync.frame(2)).map(drop)
    };
    assert_eq!(judge(|_| {}), Ok(()));
    assert_eq!(judge(|sync| pad(sync, 9_000)), Ok(()));
    assert_eq!(judge(|sync| pad(sync, 10_000)), Err(Reject::BlocksTooBig));
    assert_eq!(judge(|sync| sync.blocks.clear()), Err(Reject::CommitMissing));
    assert_eq!(judge(|sync| sync.root.codec = Codec::Raw), Err(Reject::CidUnsupported));
    assert_eq!(judge(|sync| sync.time.clear()), Err(Reject::TimeSyntax));
    assert_eq!(judge(|sync| sync.rev = "3zzzzzzzzzzzz".into()), Err(Reject::RevInFuture));
    // The sync after a real PDS's migration: the old commit under a fresh rev.
    let fresh = |sync: &mut crate::testing::Sync| {
        let rev = Tid::parse(&sync.rev).unwrap();
        sync.rev = Tid::from_bits(rev.bits() + 1).unwrap().to_string();
    };
    assert_eq!(judge(fresh), Err(Reject::CommitRevMismatch));
}

fn pad(sync: &mut crate::testing::Sync, bytes: usize) {
    let block = map(&[("t", value(|w| w.bytes(&vec![0; bytes])))]);
    sync.blocks.push((Cid::of_cbor(&block), block));
}

#[test]
fn an_identity_passes_from_the_accounts_host() {
    let judge = |change: fn(&mut World)| {
        let mut world = World::settled();
        change(&mut world);
        let frame = identity_frame("#identity", &world.repo.did, 2, Some("a.example.com"));
        let identity = world.identity();
        (world.judge_as(HostKind::Event(Kind::Identity), &frame, &identity), frame)
    };
    let (ruling, frame) = judge(|_| {});
    let Ruling::Accept(accepted) = ruling else { panic!("{ruling:?}") };
    assert_eq!(wire(&accepted, 0), frame);
    // The last known host, whatever the document says; the document's host, whoever was before.
    let elsewhere: fn(&mut World) = |world| {
        world.name = HostName::parse("other.example.com", HostRules::Public).unwrap();
    };
    assert!(matches!(judge(elsewhere).0, Ruling::Accept(_)));
    let moved_in = |world: &mut World| world.prior.as_mut().unwrap().host = HostId(5);
    assert!(matches!(judge(moved_in).0, Ruling::Accept(_)));
    let stranger = |world: &mut World| {
        world.name = HostName::parse("other.example.com", HostRules::Public).unwrap();
        world.prior.as_mut().unwrap().host = HostId(5);
    };
    assert!(matches!(judge(stranger).0, Ruling::Reject(Reject::IdentityUnchanged)));
}

#[test]
fn handles_are_passed_or_stripped() {
    let judge = |handles, t: &str, kind, handle| {
        let mut world = World::settled();
        world.handles = handles;
        let frame = identity_frame(t, &world.repo.did, 2, handle);
        let identity = world.identity();
        let Ruling::Accept(accepted) = world.judge_as(kind, &frame, &identity) else {
            panic!("{t}")
        };
        (wire(&accepted, 0), world.repo.did)
    };
    let check = |handles, t: &str, kind, handle, expected| {
        let (wire, did) = judge(handles, t, kind, handle);
        assert_eq!(wire, identity_frame("#identity", &did, 2, expected), "{t}");
    };
    let ours = HostKind::Event(Kind::Identity);
    let name = Some("a.example.com");
    check(Handles::Pass, "#identity", ours, name, name);
    check(Handles::Pass, "#identity", ours, None, None);
    check(Handles::Strip, "#identity", ours, name, None);
    check(Handles::Strip, "#identity", ours, None, None);
    check(Handles::Pass, "#handle", HostKind::LegacyHandle, name, name);
    check(Handles::Strip, "#handle", HostKind::LegacyHandle, name, None);
    check(Handles::Pass, "#migrate", HostKind::LegacyMigrate, None, None);
}

#[test]
fn an_account_speaks_through_its_own_host() {
    let judge = |status: Option<&str>, change: fn(&mut World, &mut Identity)| {
        let mut world = World::settled();
        let mut identity = world.identity();
        change(&mut world, &mut identity);
        let frame = account_frame(&world.repo.did, 2, status.is_none(), status);
        let kind = HostKind::Event(Kind::Account);
        (world.judge_as(kind, &frame, &identity), frame, world.repo.did)
    };
    let check = |status, change, expected: Result<(bool, Option<&str>), Reject>| {
        let (ruling, frame, did) = judge(status, change);
        let emitted = match ruling {
            Ruling::Accept(accepted) => {
                let account = accepted.account.as_ref().unwrap();
                assert_eq!(account.upstream.active, status.is_none(), "the host's word is kept");
                Ok(wire(&accepted, 0))
            }
            Ruling::Reject(reject) => Err(reject),
            Ruling::Wait(need) => panic!("waits for {need:?}"),
        };
        let same = emitted.as_ref() == Ok(&frame.to_vec());
        let expected = expected.map(|(active, status)| account_frame(&did, 2, active, status));
        assert_eq!(emitted, expected.map(|frame| frame.to_vec()), "{status:?}, same: {same}");
    };
    let fine: fn(&mut World, &mut Identity) = |_, _| {};
    check(None, fine, Ok((true, None)));
    check(Some("deactivated"), fine, Ok((false, Some("deactivated"))));
    check(Some("mushroomed"), fine, Ok((false, Some("mushroomed"))));
    let sixty_five = "x".repeat(65);
    check(Some(&sixty_five[..64]), fine, Ok((false, Some(&sixty_five[..64]))));
    check(Some(&sixty_five), fine, Ok((false, None)));
    check(
        None,
        |world, _| world.prior.as_mut().unwrap().local = Local::Takendown,
        Ok((false, Some("takendown"))),
    );
    let stranger: fn(&mut World, &mut Identity) =
        |_, identity| identity.pds = HostName::parse("b.example.com", HostRules::Public).ok();
    check(Some("deactivated"), stranger, Err(Reject::WrongHost));
    let gone: fn(&mut World, &mut Identity) = |_, identity| {
        *identity = Identity { key: None, pds: None, tombstoned: true, ..identity.clone() };
    };
    check(Some("deleted"), gone, Ok((false, Some("deleted"))));
    check(Some("deactivated"), gone, Err(Reject::IdentityTombstoned));
    let gone_elsewhere: fn(&mut World, &mut Identity) = |world, identity| {
        *identity = Identity { key: None, pds: None, tombstoned: true, ..identity.clone() };
        world.prior.as_mut().unwrap().host = HostId(5);
    };
    check(Some("deleted"), gone_elsewhere, Err(Reject::IdentityTombstoned));
}

#[test]
fn a_did_that_is_none_is_named() {
    assert_eq!(did_reject(Did::parse("nobody").unwrap_err()), Reject::DidSyntax);
    assert_eq!(did_reject(Did::parse("did:key:z6Mk").unwrap_err()), Reject::DidMethod);
}
