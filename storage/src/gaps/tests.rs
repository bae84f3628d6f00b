//! I13 over reconciliations, as a property: whatever is missed while one runs is owed after it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use protocol::ids::{HostId, Micros};

use super::{ACCOUNT_GAPS_MAX, Gap};
use crate::fixture::*;
use crate::{AccountWrite, Entry, Handle, HostNote, Memory, open};

#[derive(Clone, Debug)]
enum Step {
    /// Something of the whole host was missed, or of these accounts, all in one commit.
    MissHost,
    MissAccounts(Vec<u64>),
    /// A reconciliation begins, and goes on beside what comes.
    Begin,
    /// The one that began last has looked at this account.
    SettleAccount(u64),
    /// It has looked at all of them.
    SettleHost,
    Wait(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::MissHost),
        6 => prop::collection::vec(1..6_u64, 1..4).prop_map(Step::MissAccounts),
        3 => Just(Step::Begin),
        3 => (1..6_u64).prop_map(Step::SettleAccount),
        2 => Just(Step::SettleHost),
        3 => (0..3_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

/// When each was missed last.
#[derive(Default)]
struct Model {
    host: Option<u64>,
    accounts: BTreeMap<u64, u64>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn i13_what_is_missed_during_a_reconciliation_is_owed_after_it(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&steps));
    }
}

async fn check(steps: &[Step]) {
    let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
    let mut handle = open(options(&clock, &memory)).unwrap();
    let host = add(&handle, "pds.example.com").await.id;
    let (mut model, mut began) = (Model::default(), NOW);
    for step in steps {
        match step {
            Step::MissHost => {
                let reason = "outdated cursor".to_owned();
                handle.note_host(HostNote::Gap { host, reason }).await.unwrap();
                // The whole covers its parts.
                model = Model { host: Some(clock.now()), accounts: BTreeMap::new() };
            }
            Step::MissAccounts(numbers) => {
                miss(&handle, host, numbers.iter().copied());
                model.accounts.extend(numbers.iter().map(|number| (*number, clock.now())));
            }
            Step::Begin => began = clock.now(),
            Step::SettleAccount(number) => {
                handle.settle_gap(host, Some(did(*number)), Micros(began)).await.unwrap();
                model.accounts.retain(|known, newest| known != number || *newest >= began);
            }
            Step::SettleHost => {
                handle.settle_gap(host, None, Micros(began)).await.unwrap();
                model.host = model.host.filter(|newest| *newest >= began);
                model.accounts.retain(|_, newest| *newest >= began);
            }
            Step::Wait(micros) => clock.advance(Duration::from_micros(*micros)),
            Step::Restart => {
                handle.stop().unwrap();
                handle = open(options(&clock, &memory)).unwrap();
            }
        }
        settle(&handle).await;
        compare(&handle, host, &model);
    }
}

fn miss(handle: &Handle, host: HostId, numbers: impl Iterator<Item = u64>) {
    let gap =
        |number| Entry { gap: Some(Gap { host, did: Some(did(number)) }), ..Entry::default() };
    handle.submit(numbers.map(gap).collect());
}

fn compare(handle: &Handle, host: HostId, model: &Model) {
    let gap = handle.gap(host).unwrap();
    let rows = handle.account_gaps(host, 100).unwrap();
    assert_eq!(gap.is_some(), model.host.is_some() || !model.accounts.is_empty(), "{gap:?}");
    assert_eq!(rows.len(), model.accounts.len(), "{rows:?}");
    for (number, newest) in &model.accounts {
        let row = handle.account_gap(host, &did(*number)).unwrap().unwrap();
        assert_eq!(row.newest, Micros(*newest));
        assert!(row.since <= row.newest && rows.contains(&row), "{row:?}");
    }
    let Some(gap) = gap else { return };
    assert_eq!(gap.whole, model.host.is_some());
    assert_eq!(usize::try_from(gap.accounts).unwrap(), model.accounts.len());
    let newest = model.host.or_else(|| model.accounts.values().max().copied()).unwrap();
    assert!(gap.since <= gap.newest && gap.newest >= Micros(newest), "{gap:?}");
    assert!(model.host.is_none() || gap.newest == Micros(newest), "{gap:?}");
}

/// However many accounts are missed while the whole host is owed, and within one commit.
#[tokio::test]
async fn i13_too_many_accounts_are_the_whole_host_anew() {
    let (handle, clock) = store();
    let host = add(&handle, "pds.example.com").await.id;
    let many = u64::from(ACCOUNT_GAPS_MAX);
    miss(&handle, host, 1..=many + 5);
    settle(&handle).await;
    let gap = handle.gap(host).unwrap().unwrap();
    assert_eq!((gap.whole, gap.accounts), (true, 4));
    assert_eq!(handle.account_gaps(host, 10).unwrap().len(), 4);
    let began = Micros(clock.now());
    clock.advance(Duration::from_secs(1));
    miss(&handle, host, 1..=many - 4);
    settle(&handle).await;
    let gap = handle.gap(host).unwrap().unwrap();
    assert_eq!((gap.whole, gap.newest), (true, began));
    miss(&handle, host, many..=many + 5);
    settle(&handle).await;
    let gap = handle.gap(host).unwrap().unwrap();
    assert_eq!((gap.whole, gap.newest, gap.since), (true, Micros(clock.now()), began));
    handle.settle_gap(host, None, Micros(clock.now())).await.unwrap();
    assert_eq!(handle.gap(host).unwrap(), Some(gap));
    clock.advance(Duration::from_secs(1));
    handle.settle_gap(host, None, Micros(clock.now())).await.unwrap();
    assert_eq!(handle.gap(host).unwrap(), None);
    assert!(handle.account_gaps(host, 10).unwrap().is_empty());
}

#[tokio::test]
async fn i13_a_decision_that_is_lifted_says_so_in_what_is_owed() {
    let (handle, _) = store();
    let host = add(&handle, "pds.example.com").await.id;
    let account = account(host, 1);
    handle.submit(vec![Entry {
        gap: Some(Gap { host, did: Some(did(1)) }),
        did: Some(did(1)),
        account: Some(AccountWrite { account, was: Some(host), decided: true }),
        ..Entry::default()
    }]);
    settle(&handle).await;
    let gap = handle.account_gap(host, &did(1)).unwrap().unwrap();
    assert_eq!(gap.reason, "decision lifted");
}

#[tokio::test]
async fn what_is_settled_is_committed() {
    let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
    let handle = open(options(&clock, &memory)).unwrap();
    let host = add(&handle, "pds.example.com").await.id;
    miss(&handle, host, 1..=2);
    settle(&handle).await;
    clock.advance(Duration::from_secs(1));
    handle.settle_gap(host, Some(did(1)), Micros(clock.now())).await.unwrap();
    // A crash: what is committed next does not happen.
    handle.store().faults.arm(crate::store::faults::Fault::NotDone);
    miss(&handle, host, 3..=3);
    handle.failed().await;
    drop(handle.clone().stop());
    drop(handle);
    let handle = open(options(&clock, &memory)).unwrap();
    let owed: Vec<_> = handle.account_gaps(host, 10).unwrap();
    assert_eq!(owed.iter().map(|gap| gap.did.clone()).collect::<Vec<_>>(), [did(2)]);
    assert_eq!(handle.gap(host).unwrap().unwrap().accounts, 1);
    let unknown = handle.settle_gap(HostId(99), None, Micros(NOW)).await;
    assert!(matches!(unknown, Err(crate::Error::UnknownHost(HostId(99)))));
}
