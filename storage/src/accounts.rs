//! What an account's state means to the store: whether it counts on its host, and is hidden.

use protocol::account::{Account, Local, Upstream};
use protocol::ids::HostId;

/// An account's new state, as its shard decided it (I11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountWrite {
    /// The state.
    pub account: Account,
    /// The host that it belonged to before, if we knew it. Whether it was counted there is the
    /// store's own knowledge.
    pub was: Option<HostId>,
    /// Our own decision about the account has changed with it.
    pub decided: bool,
}

/// The host on which an account is counted: the one that spoke for it last, if any did, unless it
/// deleted it. Anything short of a deletion can be undone, and still takes up the host's quota.
pub(crate) fn live_on(account: &Account) -> Option<HostId> {
    account.home().filter(|_| !is_deleted(&account.upstream))
}

/// Whether the log leaves out the account's `#commit` and `#sync` frames.
pub(crate) fn is_hidden(account: &Account) -> bool {
    account.local == Local::Takendown || is_deleted(&account.upstream)
}

fn is_deleted(upstream: &Upstream) -> bool {
    !upstream.active && upstream.status.as_deref() == Some("deleted")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use protocol::account::Throttle;
    use protocol::ids::Micros;

    use super::*;
    use crate::fixture::{Clockwork, NOW, account, add, did, options, settle, store};
    use crate::{Entry, Memory, open};

    fn decided(number: u64, host: HostId, local: Local) -> Entry {
        let account = Account { local, ..account(host, 1) };
        Entry {
            did: Some(did(number)),
            account: Some(AccountWrite { account, was: Some(host), decided: true }),
            ..Entry::default()
        }
    }

    #[tokio::test]
    async fn decisions_are_found_by_the_next_start_as_long_as_they_stand() {
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let until = Micros(NOW + 1);
        let expected = [
            (did(1), Local::Takendown),
            (did(3), Local::Throttled(Throttle::Breaks { until })),
            (did(4), Local::Throttled(Throttle::Operator)),
        ];
        {
            let handle = open(options(&clock, &memory)).unwrap();
            let host = add(&handle, "pds.example.com").await.id;
            let stand = expected.iter().map(|(_, local)| *local).zip([1, 3, 4]);
            let ended = [(Local::Suspended, 2), (Local::None, 2)];
            let entry = |(local, number)| decided(number, host, local);
            handle.submit(stand.chain(ended).map(entry).collect());
            settle(&handle).await;
            handle.stop().unwrap();
        }
        let handle = open(options(&clock, &memory)).unwrap();
        let mut found = handle.decisions(None, 100).unwrap();
        assert_eq!(handle.decisions(None, 1).unwrap(), found[..1]);
        assert_eq!(handle.decisions(Some(&found[0].0), 1).unwrap(), found[1..2]);
        assert_eq!(handle.decisions(Some(&found[2].0), 1).unwrap(), []);
        found.sort_by_key(|(found, _)| expected.iter().position(|(did, _)| did == found));
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn an_account_that_nobody_has_spoken_for_counts_on_no_host() {
        let (handle, _clock) = store();
        let host = add(&handle, "pds.example.com").await.id;
        let count = handle.account_count(host);
        let mut entry = decided(1, HostId::NOBODY, Local::Takendown);
        entry.account.as_mut().unwrap().was = None;
        handle.submit(vec![entry]);
        settle(&handle).await;
        assert_eq!(count.load(Ordering::Relaxed), 0);
        let mut entry = decided(1, host, Local::Takendown);
        entry.account.as_mut().unwrap().was = None;
        handle.submit(vec![entry]);
        settle(&handle).await;
        // The count that shards look at is the store's own.
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert_eq!(handle.host(host).unwrap().accounts, 1);
        let mut gone = decided(1, host, Local::None);
        let upstream = Upstream { active: false, status: Some("deleted".into()) };
        gone.account.as_mut().unwrap().account.upstream = upstream;
        gone.frames = vec![crate::fixture::active(&did(1))];
        handle.submit(vec![gone]);
        settle(&handle).await;
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert_eq!(handle.account_count(host).load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn an_entry_is_answered_when_it_is_committed() {
        let (handle, _clock) = store();
        let (done, answer) = tokio::sync::oneshot::channel();
        handle.submit(vec![Entry { done: Some(done), ..Entry::default() }]);
        assert_eq!(answer.await, Ok(()));
    }
}
