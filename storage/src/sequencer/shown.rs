//! What is shown when, at the moments in between that nobody sees from outside (I2).

use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use protocol::account::{Account, Upstream};
use protocol::ids::{Micros, Seq};
use protocol::tripwire::{Point, Tripwire};

use crate::accounts::AccountWrite;
use crate::fixture::*;
use crate::{Entry, Log, Memory, Options, RejectNote, open};

/// A drop that rides in the same commit does not take the waiting from it.
#[tokio::test]
async fn i2_a_commit_with_an_event_waits_for_the_disk_whatever_else_is_in_it() {
    let (handle, _) = store();
    let host = add(&handle, "pds.example.com").await.id;
    let event = |number| accepted(host, number - 1, number, &did(number), false);
    let dropped = |number: u64| Entry {
        ticket: Some(ticket(host, 0, number - 1, number)),
        reject: Some(RejectNote {
            name: "op_duplicate",
            host,
            did: None,
            excerpt: Bytes::new(),
            at: Micros(number),
        }),
        ..Entry::default()
    };
    let only_frames = |number: u64| logged(&did(number), vec![active(&did(number))]);
    let mut head = handle.log().subscribe();
    for entries in [
        vec![event(1)],
        vec![event(2), dropped(3)],
        vec![dropped(4), event(5)],
        vec![only_frames(6)],
    ] {
        let before = handle.store().faults.waited();
        handle.submit(entries);
        head.changed().await.unwrap();
        assert_eq!(handle.store().faults.waited(), before + 1);
    }
}

/// A reader between the two must not see what an account did before it was hidden as the newest of
/// the log.
#[tokio::test]
async fn what_hides_is_shown_before_what_is_hidden() {
    let log: Arc<OnceLock<Log>> = Arc::default();
    let moments: Arc<Mutex<Vec<(Seq, bool)>>> = Arc::default();
    let (of, noted) = (Arc::clone(&log), Arc::clone(&moments));
    let tripwire = Tripwire::new(&[Point::BeforePublish], move |_| {
        let log = of.get().unwrap();
        noted.lock().unwrap().push((log.head(), log.hidden().contains(&did(1))));
    });
    let memory = Memory::empty().unwrap();
    let handle = open(Options { tripwire, ..options(&Clockwork::at(NOW), &memory) }).unwrap();
    log.set(handle.log()).unwrap_or_else(|_| panic!("set once"));
    let host = add(&handle, "pds.example.com").await.id;
    let upstream = Upstream { active: false, status: Some("deleted".into()) };
    handle.submit(vec![Entry {
        frames: vec![commit(&did(1), 1, 100), active(&did(1))],
        did: Some(did(1)),
        account: Some(AccountWrite {
            account: Account { upstream, ..account(host, 1) },
            was: None,
            decided: false,
        }),
        ..Entry::default()
    }]);
    settle(&handle).await;
    assert_eq!(*moments.lock().unwrap(), [(Seq::ZERO, true)]);
}
