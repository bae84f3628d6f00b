//! Handles that are verified while their `#identity` waits.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::ids::Seq;

use super::*;
use crate::identity::Resolution;

/// The handle in every document.
const FIRST: &str = "someone.example.com";

fn bench() -> (Bench, Repo) {
    let mut bench = Bench::new();
    bench.shard.handles = Handles::Verify;
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    (bench, repo)
}

impl Bench {
    fn identify(&mut self, repo: &Repo, handle: &str) {
        let frame = identity_frame("#identity", &repo.did, 1, Some(handle));
        self.send(1, IDENTITY, &repo.did, frame);
    }

    /// Exactly one handle was asked for; this comes back.
    fn land_handle(&mut self, expected: &str, resolution: Resolution) {
        let asked = self.asked();
        let [Lookup::Handle { did, handle, .. }] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(handle, expected);
        let found = Found::Handle(handle.clone(), resolution);
        self.shard.answer(Answer { did: did.clone(), found }, self.now);
    }

    /// The only verdict is an `#identity` with this handle.
    fn goes_out(&mut self, repo: &Repo, handle: Option<&str>) {
        let verdicts: Vec<_> = self.shard.take_verdicts();
        let accepted: Vec<_> = verdicts
            .iter()
            .filter_map(|verdict| match &verdict.outcome {
                Outcome::Accept(accepted) => Some(accepted),
                Outcome::Learnt(_) => None,
                other => panic!("{other:?}"),
            })
            .collect();
        let [accepted] = &accepted[..] else { panic!("{accepted:?}") };
        let mut wire = Vec::new();
        accepted.frames[0].write_with(Seq::new(1).unwrap(), &mut wire);
        assert_eq!(wire, identity_frame("#identity", &repo.did, 1, handle));
    }
}

#[test]
fn a_handle_is_asked_for_once_and_the_identity_waits_for_it() {
    let (mut bench, repo) = bench();
    bench.identify(&repo, FIRST);
    bench.pass(1);
    assert_eq!(bench.said(), []);
    bench.land_handle(FIRST, Resolution::Did(repo.did.clone()));
    bench.goes_out(&repo, Some(FIRST));
    // Then, as after each `#identity`, the document is fetched behind its back.
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), []);
    bench.identify(&repo, FIRST);
    bench.land_handle(FIRST, Resolution::Nothing);
    bench.goes_out(&repo, Some("handle.invalid"));
}

#[test]
fn a_handle_that_does_not_come_is_left_out_after_two_seconds_and_holds_nobody_up() {
    let (mut bench, mut repo) = bench();
    let mut other = Repo::new(2, Curve::P256);
    bench.introduce(&mut other, 1);
    bench.identify(&repo, FIRST);
    let frame = write(&mut repo, "behind");
    bench.send(1, COMMIT, &repo.did, frame);
    let frame = write(&mut other, "beside");
    bench.send(1, COMMIT, &other.did, frame);
    assert_eq!(bench.said(), [ok(1, 5, Kind::Commit)], "another account's");
    bench.pass(1);
    assert_eq!(bench.said(), [], "not yet");
    bench.pass(1);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Identity), ok(1, 4, Kind::Commit)], "in order");
}

#[test]
fn a_late_answer_does_not_matter() {
    let (mut bench, repo) = bench();
    bench.identify(&repo, FIRST);
    bench.pass(2);
    bench.goes_out(&repo, None);
    let found = Found::Handle(FIRST.into(), Resolution::Did(repo.did.clone()));
    bench.shard.answer(Answer { did: repo.did.clone(), found }, bench.now);
    assert_eq!(bench.said(), []);
}

#[test]
fn a_document_from_before_a_change_of_handle_is_fetched_again_first() {
    let (mut bench, mut repo) = bench();
    bench.identify(&repo, "old.example.com");
    // It shows a change, so that it is not doubted.
    repo.key = Repo::new(9, Curve::K256).key;
    bench.land_document(&repo, 1);
    bench.land_handle(FIRST, Resolution::Did(repo.did.clone()));
    bench.goes_out(&repo, None);
    // Within the spacing of fetches no document comes in time.
    bench.pass(2);
    bench.identify(&repo, "old.example.com");
    bench.goes_out(&repo, None);
}

#[test]
fn a_document_that_fails_leaves_the_handle_out() {
    let (mut bench, repo) = bench();
    bench.identify(&repo, "new.example.com");
    bench.land(|_| Found::Failed);
    bench.pass(1);
    assert_eq!(bench.said(), []);
    bench.land(|_| Found::Failed);
    bench.goes_out(&repo, None);
}
