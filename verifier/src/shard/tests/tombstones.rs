//! The legacy `#tombstone`.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

#[test]
fn a_tombstone_is_confirmed_by_the_directory() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    let frame = identity_frame("#tombstone", &did, 1, None);
    bench.send(1, HostKind::LegacyTombstone, &did, frame);
    bench.land(|began| tombstone(&did, began));
    assert_eq!(bench.said(), [ok(1, 2, Kind::Account)]);
    let upstream = bench.shard.accounts.get(&did).unwrap().upstream;
    assert_eq!(upstream, Upstream { active: false, status: Some("deleted".into()) });
}

#[test]
fn a_tombstone_is_confirmed_by_two_looks_a_minute_apart() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    let frame = identity_frame("#tombstone", &did, 1, None);
    bench.send(1, HostKind::LegacyTombstone, &did, frame);
    bench.land(|_| Found::Missing);
    bench.pass(59);
    bench.nothing();
    bench.pass(1);
    bench.land(|_| Found::Missing);
    assert_eq!(bench.said(), [ok(1, 2, Kind::Account)]);
}

#[test]
fn a_tombstone_is_confirmed_by_its_host_or_not_at_all() {
    let check = |status: Status, expected: Result<Vec<Kind>, &'static str>, active: bool| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        bench.introduce(&mut repo, 1);
        bench.pass(60);
        let frame = identity_frame("#tombstone", &did, 1, None);
        bench.send(1, HostKind::LegacyTombstone, &did, frame);
        bench.land_document(&repo, 1);
        bench.land_status(status.clone());
        assert_eq!(bench.said(), [(1, 2, expected)], "{status:?}");
        assert_eq!(bench.shard.accounts.get(&did).unwrap().upstream.active, active, "{status:?}");
    };
    let deleted = Upstream { active: false, status: Some("deleted".into()) };
    check(Status::Of(deleted), Ok(vec![Kind::Account]), false);
    check(Status::NotFound, Ok(vec![Kind::Account]), false);
    check(Status::Of(Upstream::ACTIVE), Ok(vec![Kind::Account]), true);
    check(Status::MethodMissing, Err("tombstone_unconfirmed"), true);
    check(Status::None, Err("tombstone_unconfirmed"), true);
}

#[test]
fn a_tombstone_of_a_stranger_is_of_the_wrong_host() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    bench.send(3, HostKind::LegacyTombstone, &did, identity_frame("#tombstone", &did, 1, None));
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [no(3, 1, Reject::WrongHost)]);
}
