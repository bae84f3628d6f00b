//! What an account may do only so often, and how that ends.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::account::{Hour, Throttle};
use protocol::frame::AccountFrame;
use protocol::ids::Seq;

use super::*;

impl Bench {
    /// The statuses of `#account` frames that leave, of events or without one ("" is active), and
    /// the names of drops.
    pub(super) fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        for verdict in self.shard.take_verdicts() {
            let frames = match verdict.outcome {
                Outcome::Accept(accepted) => accepted.frames,
                Outcome::Decided(decided) => decided.frame.into_iter().collect(),
                Outcome::Reject { reject, .. } => {
                    heard.push(reject.name().to_owned());
                    continue;
                }
                Outcome::Learnt(_) | Outcome::Silence => continue,
            };
            for frame in frames {
                let mut bytes = Vec::new();
                frame.write_with(Seq::new(1).unwrap(), &mut bytes);
                heard.push(match frame.kind() {
                    Kind::Account => match AccountFrame::decode(&bytes).unwrap() {
                        AccountFrame { active: true, .. } => "active".to_owned(),
                        AccountFrame { status, .. } => status.unwrap_or("inactive").to_owned(),
                    },
                    kind => kind.name().to_owned(),
                });
            }
        }
        heard
    }

    /// The account as it is.
    fn account(&mut self, did: &Did) -> Account {
        self.shard.accounts.get(did).unwrap()
    }

    /// A process that starts with what the store holds: this account, and what ends by itself.
    pub(super) fn restart(&mut self, did: &Did, throttled: Vec<(Did, Micros)>) {
        let account = self.account(did);
        self.stored.lock().unwrap().insert(did.clone(), account);
        let options = options(Arc::new(|_| ()));
        self.shard = shard(&options, &self.stored, &self.settled, throttled);
    }
}

/// A commit that does not continue the one before it as the shard saw it.
fn breaking(repo: &mut Repo, name: &str) -> Bytes {
    write(repo, &format!("{name}-unseen"));
    write(repo, name)
}

/// An account whose chain has broken eleven times within the hour.
fn broken() -> (Bench, Repo) {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    for number in 0..11 {
        let frame = breaking(&mut repo, &format!("b{number}"));
        bench.send(1, COMMIT, &repo.did, frame);
    }
    (bench, repo)
}

#[test]
fn the_eleventh_break_in_an_hour_passes_and_throttles_the_account() {
    let (mut bench, mut repo) = broken();
    let mut expected = vec!["#commit"; 11];
    expected.push("throttled");
    assert_eq!(bench.heard(), expected);
    let account = bench.account(&repo.did);
    let until = bench.now.plus(Duration::from_secs(3600));
    assert_eq!(account.local, Local::Throttled(Throttle::Breaks { until }));
    assert_eq!(account.conduct.breaks, 11);
    bench.pass(3599);
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &repo.did, frame);
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Reject { reject, gap, .. } = &verdicts[0].outcome else { panic!() };
    assert_eq!((*reject, gap), (Reject::AccountThrottled, &None), "its end will owe it");
}

#[test]
fn a_throttle_for_breaks_ends_by_itself_and_what_was_dropped_is_owed() {
    let (mut bench, mut repo) = broken();
    let did = repo.did.clone();
    bench.heard();
    assert_eq!(bench.shard.next_wake(), Some(bench.now.plus(Duration::from_secs(3600))));
    bench.pass(3600);
    let verdicts = bench.shard.take_verdicts();
    let [Verdict { outcome: Outcome::Decided(decided), ticket: None, .. }] = &verdicts[..] else {
        panic!("{verdicts:?}")
    };
    assert_eq!((decided.owed, decided.was), (Some(HostId(1)), Some(HostId(1))));
    assert!(decided.frame.is_some());
    let account = bench.account(&did);
    assert_eq!((account.local, account.conduct.breaks), (Local::None, 11));
    // It begins anew: ten more are fine.
    for number in 0..10 {
        let frame = breaking(&mut repo, &format!("c{number}"));
        bench.send(1, COMMIT, &did, frame);
    }
    assert_eq!(bench.heard(), ["#commit"; 10]);
    assert_eq!(bench.shard.next_wake(), None);
}

#[test]
fn a_throttle_for_breaks_ends_by_itself_after_a_restart() {
    let (mut bench, mut repo) = broken();
    let did = repo.did.clone();
    bench.heard();
    let until = check::lifted_at(bench.account(&did).local).unwrap();
    bench.restart(&did, vec![(did.clone(), until)]);
    bench.pass(3599);
    assert!(bench.heard().is_empty());
    bench.pass(1);
    assert_eq!(bench.heard(), ["active"]);

    // One that is not remembered is lifted before its next event is judged.
    let (mut bench, _) = broken();
    bench.heard();
    bench.restart(&did, Vec::new());
    bench.pass(3600);
    assert!(bench.heard().is_empty());
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.heard(), ["active"]);
    bench.land_document(&repo, 1);
    assert_eq!(bench.heard(), ["#commit"]);
}

#[test]
fn an_operators_throttle_stays() {
    let (mut bench, mut repo) = broken();
    let did = repo.did.clone();
    bench.heard();
    bench.decide(&did, Local::Throttled(Throttle::Operator));
    assert!(bench.heard().is_empty(), "what consumers hear is the same");
    bench.pass(100_000);
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.heard(), ["account_throttled"]);
    bench.decide(&did, Local::None);
    assert_eq!(bench.heard(), ["active"]);
}

#[test]
fn a_takedown_outlives_the_throttle_that_it_replaced() {
    let (mut bench, repo) = broken();
    bench.heard();
    bench.decide(&repo.did, Local::Takendown);
    assert_eq!(bench.heard(), ["takendown"]);
    bench.pass(100_000);
    assert!(bench.heard().is_empty());
    assert_eq!(bench.account(&repo.did).local, Local::Takendown);
}

#[test]
fn syncs_that_change_the_repo_count_as_breaks() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    for number in 0..11 {
        write(&mut repo, &format!("s{number}"));
        bench.send(1, SYNC, &repo.did, repo.sync().frame(1));
        // Said again, it changes nothing.
        bench.pass(60);
        bench.send(1, SYNC, &repo.did, repo.sync().frame(1));
        bench.pass(60);
    }
    let mut expected = vec!["#sync"; 21];
    expected.extend(["throttled", "account_throttled"]);
    assert_eq!(bench.heard(), expected);
}

#[test]
fn ten_breaks_an_hour_are_nobodys_offence() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    for number in 0..40 {
        let frame = breaking(&mut repo, &format!("b{number}"));
        bench.send(1, COMMIT, &repo.did, frame);
        bench.pass(360);
    }
    assert_eq!(bench.heard(), ["#commit"; 40]);
    assert_eq!(bench.account(&repo.did).conduct.breaks, 40);
}

#[test]
fn the_eleventh_change_of_a_status_in_an_hour_is_not_heard() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let say = |bench: &mut Bench, active: bool, status: Option<&str>| {
        bench.send(1, ACCOUNT, &did, account_frame(&did, 1, active, status));
        bench.heard().pop().unwrap()
    };
    for _ in 0..5 {
        assert_eq!(say(&mut bench, false, Some("deactivated")), "deactivated");
        assert_eq!(say(&mut bench, false, Some("deactivated")), "deactivated", "no change");
        assert_eq!(say(&mut bench, true, None), "active");
        bench.pass(60);
    }
    // The eleventh is not heard; what was said before can be said again.
    bench.send(1, ACCOUNT, &did, account_frame(&did, 1, false, Some("deactivated")));
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Reject { reject, gap, .. } = &verdicts[0].outcome else { panic!() };
    assert_eq!((*reject, gap), (Reject::AccountThrottled, &Some(Gap::Account(did.clone()))));
    assert_eq!(say(&mut bench, true, None), "active");
    // A deletion is heard whenever it comes, and is then the last word for the rest of the hour.
    assert_eq!(say(&mut bench, false, Some("deleted")), "deleted");
    assert_eq!(say(&mut bench, true, None), "account_throttled");
    bench.pass(3600);
    assert_eq!(say(&mut bench, true, None), "active");
    let changed = Hour { since: bench.now, count: 1 };
    assert_eq!(bench.account(&did).conduct.changed, changed);
}

#[test]
fn a_new_account_over_its_hosts_limit_begins_throttled() {
    let did = Repo::new(1, Curve::K256).did;
    let check = |kind: HostKind, frame: Option<Bytes>, expected: &[&str]| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        full(&mut bench, 1);
        let frame = frame.unwrap_or_else(|| write(&mut repo, "a"));
        bench.send(1, kind, &did, frame);
        bench.land_document(&repo, 1);
        assert_eq!(bench.heard(), expected, "{kind:?}");
        let account = bench.account(&did);
        assert_eq!(account.local, Local::Throttled(Throttle::Quota));
        assert_eq!((account.host, account.repo), (HostId(1), None));
        // Once it is there it is not new; nor is it lifted by itself.
        bench.pass(100_000);
        let frame = write(&mut repo, "b");
        bench.send(1, COMMIT, &did, frame);
        let asked = bench.asked();
        assert!(asked.len() <= 1, "a document in the background: {asked:?}");
        assert_eq!(bench.heard(), ["account_throttled"]);
        bench.decide(&did, Local::None);
        assert_eq!(bench.heard(), ["active"]);
    };
    check(COMMIT, None, &["throttled", "account_throttled"]);
    check(ACCOUNT, Some(account_frame(&did, 1, true, None)), &["throttled"]);
    let identity = identity_frame("#identity", &did, 1, None);
    check(IDENTITY, Some(identity), &["#identity", "throttled"]);
}

// I12: no signature, no passage, not even into the accounts that we hold.
#[test]
fn a_forged_commit_over_the_limit_makes_no_account() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    full(&mut bench, 1);
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &repo.did, frame);
    repo.key = Repo::new(9, Curve::K256).key;
    bench.land_document(&repo, 1);
    assert_eq!(bench.heard(), ["signature_invalid"]);
    assert_eq!(bench.shard.accounts.get(&repo.did), None);
}

// Also after a crash between the account and its dropped event: the event comes again.
#[test]
fn what_a_throttled_account_sends_is_owed_when_it_begins_and_when_it_ends() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    full(&mut bench, 1);
    let gap = |bench: &mut Bench| {
        let Outcome::Reject { reject, gap, .. } =
            bench.shard.take_verdicts().pop().unwrap().outcome
        else {
            panic!()
        };
        assert_eq!(reject, Reject::AccountThrottled);
        gap
    };
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &did, frame.clone());
    bench.land_document(&repo, 1);
    assert_eq!(gap(&mut bench), Some(Gap::Account(did.clone())));
    bench.seqs.insert(1, 0);
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(gap(&mut bench), None);
    write(&mut repo, "b");
    bench.send(1, SYNC, &did, repo.sync().frame(1));
    assert_eq!(gap(&mut bench), None);
    bench.quota(&did, 1, false);
    assert_eq!(bench.decided(), (Some(HostId(1)), Some(HostId(1))));
}

// Its end owes the commits; of what its host says of its status nobody else would tell.
#[test]
fn a_status_that_is_not_heard_is_owed_while_the_account_is_throttled() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.decide(&did, Local::Throttled(Throttle::Operator));
    for number in 0..11 {
        bench.shard.take_verdicts();
        bench.send(1, ACCOUNT, &did, account_frame(&did, 1, number % 2 == 1, None));
    }
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Reject { reject, gap, .. } = &verdicts[0].outcome else { panic!("{verdicts:?}") };
    assert_eq!((*reject, gap), (Reject::AccountThrottled, &Some(Gap::Account(did))));
}

/// An account that host 1's limit throttles, and that is at host 2 now.
fn moved(at_two: impl FnOnce(&mut Bench)) -> (Bench, Repo) {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    at_two(&mut bench);
    bench.introduce(&mut repo, 1);
    bench.quota(&did, 1, true);
    assert_eq!(bench.heard(), ["throttled"]);
    bench.pass(60);
    (bench, repo)
}

#[test]
fn a_commit_at_a_new_host_with_room_ends_the_throttle_of_the_old_one() {
    let (mut bench, mut repo) = moved(|_| {});
    let did = repo.did.clone();
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &did, frame);
    bench.land_document(&repo, 2);
    let mut verdicts = bench.shard.take_verdicts();
    let at = verdicts.iter().position(|it| matches!(it.outcome, Outcome::Decided(_))).unwrap();
    let Outcome::Decided(decided) = verdicts.remove(at).outcome else { unreachable!() };
    assert_eq!((decided.was, decided.owed), (Some(HostId(1)), Some(HostId(2))));
    assert_eq!((decided.account.host, decided.account.host_seq), (HostId(2), HostSeq::ZERO));
    assert!(decided.frame.is_some(), "it is active again");
    let Outcome::Accept(accepted) = verdicts.remove(at).outcome else { panic!("{verdicts:?}") };
    assert_eq!((accepted.was, accepted.chain_break), (Some(HostId(2)), false));
    let account = bench.account(&did);
    assert_eq!((account.local, account.host_seq.get()), (Local::None, 1));
    // The limit of a host that it is not at any more is none of its business.
    bench.quota(&did, 1, true);
    assert!(bench.heard().is_empty());
    let frame = write(&mut repo, "c");
    bench.send(2, COMMIT, &did, frame);
    assert_eq!(bench.heard(), ["#commit"]);
}

#[test]
fn a_commit_at_a_new_host_without_room_moves_the_throttle_there() {
    let (mut bench, mut repo) = moved(|bench| full(bench, 2));
    let did = repo.did.clone();
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &did, frame);
    bench.land_document(&repo, 2);
    let verdicts = bench.shard.take_verdicts();
    let [.., Verdict { outcome: Outcome::Decided(decided), .. }, dropped] = &verdicts[..] else {
        panic!("{verdicts:?}")
    };
    assert_eq!((decided.was, decided.owed), (Some(HostId(1)), None));
    assert_eq!((decided.account.host, decided.account.host_seq), (HostId(2), HostSeq::ZERO));
    assert!(decided.frame.is_none(), "consumers know that it is throttled");
    let Outcome::Reject { reject, gap, .. } = &dropped.outcome else { panic!("{dropped:?}") };
    assert_eq!((*reject, gap), (Reject::AccountThrottled, &Some(Gap::Account(did.clone()))));
    // From now on it is as any that the new host has too many of.
    bench.origin(2).set_accounts_max(3);
    let frame = write(&mut repo, "c");
    bench.send(2, COMMIT, &did, frame);
    assert_eq!(bench.heard(), ["account_throttled"]);
    bench.quota(&did, 1, false);
    assert!(bench.heard().is_empty());
    bench.quota(&did, 2, false);
    assert_eq!(bench.decided(), (Some(HostId(2)), Some(HostId(2))));
}

#[test]
fn a_forged_commit_at_a_new_host_moves_no_throttled_account() {
    let (mut bench, mut repo) = moved(|_| {});
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &repo.did, frame);
    repo.key = Repo::new(9, Curve::K256).key;
    bench.land_document(&repo, 2);
    assert_eq!(bench.heard(), ["signature_invalid"]);
    let account = bench.account(&repo.did);
    assert_eq!((account.host, account.local), (HostId(1), Local::Throttled(Throttle::Quota)));
}

#[test]
fn an_operators_throttle_is_not_ended_by_a_move() {
    let (mut bench, mut repo) = moved(|_| {});
    bench.decide(&repo.did, Local::Throttled(Throttle::Operator));
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &repo.did, frame);
    bench.land_document(&repo, 2);
    assert_eq!(bench.heard(), ["account_throttled"]);
    assert_eq!(bench.account(&repo.did).local, Local::Throttled(Throttle::Operator));
}

#[test]
fn a_limit_that_comes_and_goes_forgives_no_breaks() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    for number in 0..10 {
        let frame = breaking(&mut repo, &format!("b{number}"));
        bench.send(1, COMMIT, &did, frame);
    }
    bench.quota(&did, 1, true);
    bench.quota(&did, 1, false);
    bench.heard();
    let frame = breaking(&mut repo, "b10");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.heard(), ["#commit", "throttled"]);
}

#[test]
fn an_account_that_migrates_in_is_not_new() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    full(&mut bench, 2);
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &repo.did, frame);
    bench.land_document(&repo, 2);
    assert_eq!(bench.heard(), ["#commit"]);
    assert_eq!(bench.account(&repo.did).local, Local::None);
}

#[test]
fn a_limit_that_is_raised_holds_for_the_next_event() {
    let mut bench = Bench::new();
    let (mut one, mut two) = (Repo::new(1, Curve::K256), Repo::new(2, Curve::K256));
    full(&mut bench, 1);
    let say = |bench: &mut Bench, repo: &mut Repo| {
        let frame = write(repo, "a");
        bench.send(1, COMMIT, &repo.did, frame);
        bench.land_document(repo, 1);
        bench.heard()
    };
    assert_eq!(say(&mut bench, &mut one), ["throttled", "account_throttled"]);
    bench.origin(1).set_accounts_max(3);
    assert_eq!(say(&mut bench, &mut two), ["#commit"]);
    bench.origin(1).set_accounts_max(2);
    assert_eq!(say(&mut bench, &mut Repo::new(3, Curve::K256)), ["throttled", "account_throttled"]);
}
