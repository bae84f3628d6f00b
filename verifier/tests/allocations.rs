//! A check allocates for what it hands on, and for nothing that an event holds.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

#[path = "../src/testing.rs"]
mod testing;

use std::time::Duration;

use bytes::Bytes;
use protocol::frame::{HostKind, Kind};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq};
use protocol::keys::Curve;
use testing::{Repo, START, Write};
use verifier::Handles;
use verifier::check::{Case, Proof, Room, begin};

/// What a check that passes allocates: the claim, boxed.
const ALLOCATIONS: u64 = 1;

/// How often the check of a frame allocates, once its room has grown.
fn allocations(repo: &Repo, frame: &Bytes) -> u64 {
    let name = HostName::parse("pds.example.com", HostRules::Public).unwrap();
    let case = Case {
        kind: HostKind::Event(Kind::Commit),
        did: &repo.did,
        frame,
        host: HostId(1),
        name: &name,
        epoch: Epoch(0),
        seq: HostSeq::new(1).unwrap(),
        received: START,
        proof: Proof::Owed,
        handles: Handles::Pass,
        prior: None,
        synced: None,
        host_is_full: false,
        tombstone_spacing: Duration::from_secs(60),
        now: START.plus(Duration::from_secs(3600)),
    };
    let mut room = Room::default();
    begin(&case, &mut room).unwrap();
    allocation_counter::measure(|| drop(begin(&case, &mut room).unwrap())).count_total
}

#[test]
fn allocations_do_not_grow_with_the_tree() {
    let path = |number: usize| format!("app.bsky.feed.post/3k{number:011}");
    let mut repo = Repo::new(1, Curve::K256);
    for (round, records, ops) in [(1, 0, 1), (2, 10, 1), (3, 1_000, 1), (4, 1_000, 200)] {
        let old: Vec<String> = (0..records).map(|number| path(number * 10)).collect();
        for paths in old.chunks(200) {
            let writes: Vec<_> = paths.iter().map(|path| Write::Update(path, "old")).collect();
            repo.commit(&writes);
        }
        let new: Vec<String> = (0..ops).map(|number| path(number * 10 + round)).collect();
        let writes: Vec<_> = new.iter().map(|path| Write::Create(path, "new")).collect();
        let frame = repo.commit(&writes).frame(1);
        let count = allocations(&repo, &frame);
        assert_eq!(count, ALLOCATIONS, "{ops} ops in a repo of {records}, {} bytes", frame.len());
    }
}
