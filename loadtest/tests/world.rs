//! What a world makes is what honest hosts send, and the same for the same seed.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod judge;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use loadtest::wire::{Block, Frame, car};
use loadtest::world::{Event, Options, START, World};
use protocol::cid::Cid;
use protocol::commit::Commit;
use protocol::did::Did;
use protocol::frame::{AccountFrame, CommitFrame, Kind, Outgoing, SyncFrame};
use protocol::ids::Micros;
use protocol::keys::{Curve, PublicKey};

const SEED: u64 = 7;

fn options(seed: u64) -> Options {
    Options {
        seed,
        hosts: vec!["localhost:4100".to_owned(), "localhost:4101".to_owned()],
        accounts_per_host: 20,
        ..Options::default()
    }
}

fn events(world: &mut World, count: u64) -> Vec<Event> {
    (1..=count).map(|number| world.next_event(Micros(START.0 + number * 1000))).collect()
}

fn whole(event: &Event) -> Bytes {
    event.frame.with_seq(1).into()
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let run = |seed| {
        let mut world = World::new(&options(seed));
        let events = events(&mut world, 500);
        let specimens = world.specimens(START);
        let sent = events.into_iter().map(|event| (event.host, event.frame));
        let ordeals = world.ordeals(START);
        let deeds = specimens.into_iter().chain(ordeals).flat_map(|specimen| specimen.steps);
        let deeds = deeds.map(|step| format!("{:?}", step.deed));
        (sent.collect::<Vec<_>>(), deeds.collect::<Vec<_>>())
    };
    assert!(run(SEED) == run(SEED), "seed {SEED}");
    assert!(run(SEED) != run(SEED + 1), "seed {SEED}");
}

#[test]
fn every_commit_is_whole_signed_and_follows_the_one_before() {
    let mut world = World::new(&options(SEED));
    let mut keys: HashMap<Did, PublicKey> = HashMap::new();
    let mut heads: HashMap<Did, (String, Cid)> = HashMap::new();
    for account in world.accounts() {
        let head = account.repo.head().unwrap();
        heads.insert(account.did.clone(), (head.rev.to_string(), head.data));
        keys.insert(account.did.clone(), judge::key_of(&world.document(account)).unwrap());
    }
    for event in events(&mut world, 3000) {
        if let Some(document) = &event.document {
            keys.insert(event.did.clone(), judge::key_of(document).unwrap());
        }
        let message = whole(&event);
        let faults = judge::faults(&message, &keys[&event.did]);
        assert_eq!(faults, BTreeSet::new(), "seed {SEED}: {event:?}");
        if event.kind != Kind::Commit {
            continue;
        }
        let frame = CommitFrame::decode(&message).unwrap();
        let before = heads.get(&event.did);
        assert_eq!(frame.since, before.map(|(rev, _)| rev.as_str()));
        assert_eq!(frame.prev_data, before.map(|(_, data)| *data));
        assert!(before.is_none_or(|(rev, _)| frame.rev > rev.as_str()));
        let (_, blocks) = protocol::car::read(frame.blocks).unwrap();
        let data = Commit::parse(blocks.get(&frame.commit).unwrap()).unwrap().data;
        heads.insert(event.did.clone(), (frame.rev.to_owned(), data));
    }
}

#[test]
fn every_frame_goes_out_as_it_came() {
    let mut world = World::new(&options(SEED));
    for event in events(&mut world, 2000) {
        let outgoing = Outgoing::from_host(&whole(&event), event.kind).unwrap();
        assert!(!outgoing.recoded(), "seed {SEED}: {event:?}");
    }
}

#[test]
fn the_commit_block_is_not_the_first() {
    let mut world = World::new(&options(SEED));
    for event in events(&mut world, 200) {
        let message = whole(&event);
        if event.kind != Kind::Commit {
            continue;
        }
        let frame = CommitFrame::decode(&message).unwrap();
        if frame.ops.is_empty() {
            continue;
        }
        let (header, section) = frame.blocks.split_at(1 + usize::from(frame.blocks[0]));
        assert!(header.windows(36).any(|window| window == frame.commit.to_bytes()));
        let first = section.windows(36).next().unwrap();
        assert_ne!(&section[2..38], frame.commit.to_bytes(), "{first:?}");
    }
}

#[test]
fn a_new_account_is_announced_in_four_events() {
    let mut world = World::new(&options(SEED));
    let births = world.birth(1, START);
    let kinds: Vec<Kind> = births.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::Identity, Kind::Account, Kind::Commit, Kind::Sync]);
    assert!(births[0].document.is_some() && births.iter().all(|event| event.host == 1));
    let commit = whole(&births[2]);
    let commit = CommitFrame::decode(&commit).unwrap();
    assert!(commit.ops.is_empty() && commit.since.is_none() && commit.prev_data.is_none());
    let sync = whole(&births[3]);
    assert_eq!(SyncFrame::decode(&sync).unwrap().rev, commit.rev);
}

#[test]
fn the_mix_is_the_live_networks() {
    let mut world = World::new(&Options { accounts_per_host: 200, ..options(SEED) });
    let events = events(&mut world, 10_000);
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    let mut sizes: Vec<usize> = Vec::new();
    for event in &events {
        sizes.push(event.frame.without_seq().len());
        let message = whole(event);
        let name = match event.kind {
            Kind::Commit => {
                let frame = CommitFrame::decode(&message).unwrap();
                match &frame.ops[..] {
                    [] => "none".to_owned(),
                    [op] => op.action.to_owned(),
                    _ => "several".to_owned(),
                }
            }
            Kind::Account if !AccountFrame::decode(&message).unwrap().active => "rest".to_owned(),
            kind => format!("{kind:?}"),
        };
        *kinds.entry(name).or_default() += 1;
    }
    let within = |name: &str, range: std::ops::Range<u32>| {
        let count = kinds.get(name).copied().unwrap_or(0);
        assert!(range.contains(&count), "seed {SEED}: {count} of {name} in {kinds:?}");
    };
    within("create", 8000..9000);
    within("delete", 600..1100);
    within("update", 80..300);
    within("several", 150..500);
    within("none", 1..100);
    within("Identity", 20..200);
    within("Account", 20..200);
    within("Sync", 10..150);
    within("rest", 10..150);
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    assert!((2800..5200).contains(&median), "seed {SEED}: median frame {median} bytes");
    assert!(events.iter().any(|event| event.seqs_skipped > 0));
}

#[test]
fn nine_keys_in_ten_are_k256() {
    let options = Options { accounts_per_host: 250, records_per_account: 2, ..options(SEED) };
    let world = World::new(&options);
    let of = |curve| world.accounts().iter().filter(|account| account.curve == curve).count();
    assert!((420..480).contains(&of(Curve::K256)), "seed {SEED}: {}", of(Curve::K256));
    assert_eq!(of(Curve::K256) + of(Curve::P256), 500);
}

#[test]
fn a_did_web_is_its_host() {
    let world = World::new(&Options { web_accounts: true, ..options(SEED) });
    let account = &world.accounts()[1];
    assert_eq!(account.did.to_string(), "did:web:localhost%3A4101");
    let endpoint = &world.document(account)["service"][0]["serviceEndpoint"];
    assert_eq!(endpoint, "http://localhost:4101");
}

#[test]
fn no_relay_limit_on_repeats_is_met() {
    let mut world = World::new(&Options { accounts_per_host: 3, ..options(SEED) });
    let (mut syncs, mut standings) = (HashMap::new(), HashMap::new());
    for event in events(&mut world, 5000) {
        match event.kind {
            Kind::Sync => *syncs.entry(event.did).or_insert(0) += 1,
            Kind::Account => *standings.entry(event.did).or_insert(0) += 1,
            Kind::Commit | Kind::Identity => {}
        }
    }
    assert!(syncs.values().all(|count| *count == 1), "seed {SEED}: {syncs:?}");
    assert!(standings.values().all(|count| *count <= 6), "seed {SEED}: {standings:?}");
}

#[test]
fn our_cars_are_the_relays() {
    let blocks: Vec<Block> = [&b"\xa0"[..], &b"\xa1ax\x01"[..], &[0x80; 300]]
        .into_iter()
        .map(|bytes| Block::of_cbor(bytes.to_vec()))
        .collect();
    let named: Vec<(Cid, &[u8])> =
        blocks.iter().map(|block| (Cid::of_cbor(&block.bytes), &block.bytes[..])).collect();
    let ours = car(std::slice::from_ref(&blocks[1].cid), &blocks);
    assert_eq!(ours, protocol::car::write(&named[1].0, &named));
}

#[test]
fn a_split_frame_is_the_events_frame() {
    let mut world = World::new(&options(SEED));
    for event in events(&mut world, 300) {
        let message = Bytes::from(event.frame.with_seq(1_735_689_600_000_000));
        assert_eq!(Frame::split(&message), Some((1_735_689_600_000_000, event.frame)));
    }
}
