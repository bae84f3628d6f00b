//! What a pass finds, and what it makes of it.

use std::time::Duration;

use protocol::cid::Cid;
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::*;

#[tokio::test]
async fn who_moved_on_without_us_is_told_of_and_nobody_else() {
    let world = World::new();
    for (number, ours, theirs) in [(1, 5, 5), (2, 5, 6), (3, 5, 4), (4, 0, 9), (5, 7, 7)] {
        world.theirs(number, theirs);
        if ours > 0 {
            world.ours(number, ours);
        }
    }
    let row = world.passes().await;
    assert_eq!(world.told(), [(2, Some(6), None), (4, Some(9), None)]);
    let counts = Counts { listed: 5, in_step: 3, behind: 2, repaired: 2, ..Counts::default() };
    assert_eq!(row.counts, counts);
    assert_eq!(row.reason, "new host");
    assert_eq!((row.full.listed, row.full.in_step, row.full.known), (5, 5, 5));
    // One request each: the proof of a record has the commit.
    assert_eq!((world.calls("getRecord"), world.calls("getLatestCommit")), (2, 0));
}

#[tokio::test]
async fn the_commit_is_had_by_what_the_host_knows() {
    for hidden in [vec![], vec!["getRecord"], vec!["getRecord", "getBlocks"]] {
        let world = World::new();
        world.theirs(1, 6);
        world.ours(1, 5);
        world.state().faults.hidden.extend(&hidden);
        world.passes().await;
        assert_eq!(world.told(), [(1, Some(6), None)], "without {hidden:?}");
    }
    // A host that knows none of them has nothing to be believed.
    let world = World::new();
    world.theirs(1, 6);
    world.ours(1, 5);
    world.state().faults.hidden.extend(["getRecord", "getLatestCommit", "getRepo"]);
    let row = world.passes().await;
    assert_eq!((world.told(), row.counts.failed), (vec![], 1));
}

#[tokio::test]
async fn a_status_that_changed_without_us_is_told() {
    let world = World::new();
    world.theirs_with(1, 5, |it| it.status = Some("deactivated"));
    world.ours(1, 5);
    world.theirs(2, 6);
    world.ours_with(2, 5, |it| it.upstream = inactive("deactivated"));
    world.theirs_with(3, 5, |it| it.status = Some("takendown"));
    world.ours_with(3, 5, |it| it.upstream = inactive("takendown"));
    // What it wrote before it was deactivated cannot be had.
    world.theirs_with(4, 9, |it| it.status = Some("deactivated"));
    world.ours(4, 5);
    world.theirs_with(5, 1, |it| it.status = Some("deactivated"));
    let row = world.passes().await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        world.told(),
        [
            (1, None, text("deactivated")),
            (2, Some(6), text("active")),
            (4, None, text("deactivated")),
            (5, None, text("deactivated")),
        ]
    );
    assert_eq!((row.counts.repaired, row.counts.in_step), (4, 1));
}

// PDSes of years ago.
#[tokio::test]
async fn where_a_listing_is_silent_the_status_is_asked_for() {
    let world = World::new();
    world.theirs_with(1, 6, |it| it.silent = true);
    world.ours_with(1, 5, |it| it.upstream = inactive("deactivated"));
    world.theirs_with(2, 6, |it| it.silent = true);
    world.ours(2, 5);
    world.passes().await;
    assert_eq!(world.told(), [(1, Some(6), Some("active".to_owned())), (2, Some(6), None)]);
    assert_eq!(world.calls("getRepoStatus"), 1);
}

// After a migration without a later write the new PDS lists one revision, and its commit carries
// another (protocol.md section 11).
#[tokio::test]
async fn a_commit_that_is_not_newer_than_ours_excuses_its_account_until_the_listing_changes() {
    let world = World::new();
    let strange = Some((tid(9).to_string(), Cid::of_cbor(b"\xa0").to_string()));
    world.theirs_with(1, 5, |it| it.listed.clone_from(&strange));
    world.ours(1, 5);
    let row = world.passes().await;
    assert_eq!((world.told(), row.counts.in_step), (vec![], 1));
    assert_eq!(world.calls("getRecord"), 1);
    // Another pass asks nothing.
    world.owe(START);
    world.state().row.as_mut().unwrap().full.at = Micros(0);
    let row = world.passes().await;
    assert_eq!((world.calls("getRecord"), row.counts.in_step), (1, 1));
    // The listing changes.
    world.theirs(1, 10);
    world.state().row.as_mut().unwrap().full.at = Micros(0);
    world.passes().await;
    assert_eq!(world.told(), [(1, Some(10), None)]);
}

#[tokio::test]
async fn a_commit_that_does_not_verify_is_counted_apart_and_not_fetched_again() {
    let world = World::new();
    world.theirs(1, 6);
    world.ours(1, 5);
    world.state().refused.insert(did(1), Reject::SignatureInvalid);
    world.theirs(2, 6);
    world.ours_with(2, 5, |it| it.host = THERE);
    world.state().refused.insert(did(2), Reject::WrongHost);
    for _ in 0..2 {
        let row = world.passes().await;
        assert_eq!(row.counts.repaired, 0);
        world.state().row.as_mut().unwrap().full.at = Micros(0);
    }
    assert_eq!((world.told().len(), world.calls("getRecord")), (2, 2));
    // Whoever asks for a pass wants to know.
    let handle = world.start();
    world.until("the pass", |state| state.row.as_ref().unwrap().full.at > Micros(0)).await;
    handle.request(HOST, "operator".to_owned()).await.unwrap();
    assert!(world.state().row.as_ref().unwrap().reason.ends_with("operator"));
    world.until("the pass that was asked for", |state| state.findings.len() == 4).await;
}

// The guard: events that are on their way go first (protocol.md section 11).
#[tokio::test]
async fn nothing_overtakes_what_the_stream_still_brings() {
    let world = World::new();
    world.theirs(1, 6);
    world.ours(1, 5);
    let handle = world.start();
    world.until("the pass", |state| state.row.as_ref().is_some_and(|it| it.full.at.0 > 0)).await;
    world.theirs(1, 7);
    world.state().is_behind = true;
    handle.request(HOST, "test".to_owned()).await.unwrap();
    world.until("a page", |state| state.calls["listRepos"] >= 3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.told(), [(1, Some(6), None)], "the stream has not got past the page");
    // The stream comes to rest, and has brought it.
    {
        let mut state = world.state();
        state.arriving = Some((did(1), account(1, 7)));
        state.is_behind = false;
    }
    world.until("the end", |state| state.row.as_ref().unwrap().ended > Micros(0)).await;
    assert_eq!(world.told(), [(1, Some(6), None)], "and so nothing is to be told");
    let counts = world.state().row.as_ref().unwrap().counts;
    assert_eq!(counts, Counts { listed: 1, in_step: 1, ..Counts::default() });
}

#[tokio::test]
async fn an_account_that_its_host_does_not_know_twice_a_day_apart_is_deleted() {
    let world = World::new();
    world.theirs(1, 5);
    world.ours(1, 5);
    world.ours(2, 5);
    // The host knows it, and does not list it.
    let row = world.passes().await;
    assert_eq!((world.told(), row.counts.missing), (vec![], 1));
    assert!(row.second_look > START.plus(Duration::from_hours(24)));
    let handle = world.start();
    world.state().later += Duration::from_hours(23);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((world.told(), world.calls("getRepoStatus")), (vec![], 1));
    world.state().later += Duration::from_hours(2);
    world.until("the second look", |state| !state.findings.is_empty()).await;
    assert_eq!(world.told(), [(2, None, Some("deleted".to_owned()))]);
    world
        .until("all is done", |state| {
            state.excused.is_empty() && state.row.as_ref().unwrap().second_look == Micros(0)
        })
        .await;
    handle.stop();
}

#[tokio::test]
async fn an_account_that_is_there_again_is_not_deleted() {
    let world = World::new();
    world.theirs(1, 5);
    world.ours(1, 5);
    world.ours(2, 5);
    world.passes().await;
    assert_eq!(world.state().excused.len(), 1);
    world.theirs(2, 5);
    world.state().later += Duration::from_hours(25);
    let handle = world.start();
    world.until("the second look", |state| state.excused.is_empty()).await;
    handle.stop();
    assert_eq!(world.told(), []);
}

#[tokio::test]
async fn a_gap_is_settled_by_a_pass_that_began_after_it() {
    let world = World::new();
    world.theirs(1, 6);
    world.ours(1, 5);
    world.owe(world.now());
    let row = world.passes().await;
    assert_eq!(row.reason, "gap: OutdatedCursor");
    assert_eq!(world.state().owed, None);
    // One that came while the pass was under way stays.
    world.owe(Micros(START.0 + 3_600_000_000));
    world.state().row.as_mut().unwrap().full.at = Micros(0);
    world.passes().await;
    assert!(world.state().owed.is_some());
}

#[tokio::test]
async fn a_gap_of_single_accounts_costs_no_listing() {
    let world = World::new();
    for number in 1..=4 {
        world.theirs(number, 6);
        world.ours(number, 5);
    }
    world.ours(1, 6);
    let full = Full { at: START, ..Full::default() };
    world.state().row = Some(Row { began: START, ended: START, full, ..Row::default() });
    [1, 2, 3].into_iter().for_each(|number| world.owe_account(number));
    world.theirs_with(3, 5, |it| it.status = Some("takendown"));
    let handle = world.start();
    world.until("all is settled", |state| state.owed_accounts.is_empty()).await;
    handle.stop();
    assert_eq!(world.told(), [(2, Some(6), None), (3, None, Some("takendown".to_owned()))]);
    assert_eq!(world.calls("listRepos"), 0);
}
