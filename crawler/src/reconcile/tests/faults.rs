//! Hosts that fail, lie or do not know a method; restarts and stops.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn an_account_that_is_only_left_out_of_the_listing_is_in_step() {
    let world = World::new();
    world.theirs(1, 5);
    world.theirs(2, 6);
    world.ours(2, 5);
    world.ours(1, 5);
    world.state().faults.hidden.insert("listRepos");
    let row = world.passes().await;
    // Without a listing each account that we have from the host is asked about.
    assert_eq!(world.told(), [(2, Some(6), None)]);
    assert_eq!((row.counts.listed, row.counts.missing), (2, 0));
}

#[tokio::test]
async fn a_pass_goes_on_where_it_was_after_a_restart() {
    let world = World::new();
    for number in 1..=9 {
        world.theirs(number, 6);
        world.ours(number, 5);
    }
    world.ours(10, 5);
    // Three pages and half of the accounts of the third.
    world.state().faults.answers = Some(9);
    let handle = world.start_with(|timing| timing.recheck = Duration::from_millis(1));
    world.until("trouble", |_| handle.status(HOST).is_some_and(|it| !it.trouble.is_empty())).await;
    handle.stop();
    let row = world.state().row.clone().unwrap();
    assert!(row.is_under_way(), "{row:?}");
    let before = world.told().len();
    world.state().faults.answers = None;
    let row = world.passes().await;
    assert_eq!(row.reason, "new host");
    let told: Vec<u64> = world.told().iter().map(|(number, ..)| *number).collect();
    assert_eq!(told, (1..=9).collect::<Vec<_>>(), "{before} before the restart");
    assert_eq!((row.counts.listed, row.counts.repaired + row.counts.in_step), (9, 9));
    // Who was not in a part of the listing may have been in the other.
    assert_eq!(world.calls("getRepoStatus"), 0);
}

#[tokio::test]
async fn a_listing_that_goes_in_a_circle_is_ended_and_accounts_are_asked_about() {
    let world = World::new();
    world.theirs(1, 5);
    world.ours(1, 5);
    world.theirs(2, 5);
    world.ours(2, 4);
    world.ours(3, 5);
    world.owe(START);
    world.state().faults.circle = true;
    let row = world.passes().await;
    assert_eq!(world.told(), [(2, Some(5), None)]);
    assert_eq!(row.counts.missing, 1);
    assert_eq!(world.state().owed, None);
}

#[tokio::test]
async fn a_listing_of_strangers_fills_no_store() {
    let world = World::new();
    world.state().faults.endless = true;
    let handle = world.start();
    world.until("some pages", |state| state.calls.get("listRepos") >= Some(&200)).await;
    handle.stop();
    let state = world.state();
    assert_eq!((state.excused.len(), state.accounts.len(), state.findings.len()), (0, 0, 0));
}

#[tokio::test]
async fn a_host_that_asks_to_wait_is_left_alone() {
    let world = World::new();
    world.theirs(1, 6);
    world.ours(1, 5);
    world.state().faults.busy = 1;
    world.passes().await;
    assert_eq!(world.told(), [(1, Some(6), None)]);
    assert_eq!(world.calls("listRepos"), 3, "the page again, and the last one");
}

#[tokio::test]
async fn what_could_not_be_looked_at_stays_owed() {
    let nothing = ["getRepoStatus", "getRecord", "getLatestCommit", "getRepo"];
    for (status_fails, hidden) in [(true, &nothing[..0]), (false, &nothing[..])] {
        let world = World::new();
        let full = Full { at: START, ..Full::default() };
        world.state().row = Some(Row { began: START, ended: START, full, ..Row::default() });
        world.theirs(1, 6);
        world.ours(1, 5);
        world.owe_account(1);
        let hidden = hidden.iter().copied().collect();
        world.state().faults = Faults { status_fails, hidden, ..Faults::default() };
        let handle = world.start();
        let has_trouble = || handle.status(HOST).is_some_and(|it| !it.trouble.is_empty());
        world.until("trouble", |_| has_trouble()).await;
        assert_eq!((world.told(), world.state().owed_accounts.len()), (vec![], 1));
        world.state().faults = Faults::default();
        world.until("all is settled", |state| state.owed_accounts.is_empty()).await;
        assert_eq!(world.told(), [(1, Some(6), None)]);
    }
}

#[tokio::test]
async fn when_the_relay_stops_nothing_goes_on() {
    let world = World::new();
    world.state().stopped = true;
    let handle = world.start();
    // Its task ends by itself, and says so to whoever asks.
    while handle.request(HOST, "test".to_owned()).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_account_that_cannot_be_had_does_not_keep_the_whole_host_owed() {
    let world = World::new();
    for number in 1..=3 {
        world.theirs(number, 6);
        world.ours(number, 5);
    }
    world.owe(START);
    world.state().faults.broken.insert(did(2).to_string());
    let row = world.passes().await;
    assert_eq!(world.told(), [(1, Some(6), None), (3, Some(6), None)]);
    assert_eq!((row.counts.failed, world.state().owed.clone()), (1, None));
    assert_eq!(world.state().owed_accounts, [did(2)].into());
}

#[tokio::test]
async fn a_pass_without_a_listing_goes_on_where_it_was_after_a_restart() {
    let world = World::new();
    for number in 1..=250 {
        world.theirs(number, 5);
        world.ours(number, 5);
    }
    world.state().faults.hidden.insert("listRepos");
    // The listing that is not there, and one and a half portions.
    world.state().faults.answers = Some(151);
    let handle = world.start();
    world.until("trouble", |_| handle.status(HOST).is_some_and(|it| !it.trouble.is_empty())).await;
    handle.stop();
    let row = world.state().row.clone().unwrap();
    assert!(row.is_under_way() && row.after.ends_with(&did(100).to_string()), "{row:?}");
    world.state().faults.answers = None;
    world.state().calls.clear();
    let row = world.passes().await;
    assert_eq!((row.counts.listed, row.counts.in_step), (250, 250));
    assert_eq!((world.calls("getRepoStatus"), world.calls("listRepos")), (150, 0));
}
