//! The accounts whose `#commit` and `#sync` frames the log leaves out: taken down here, or deleted
//! by their host. `#account` and `#identity` are never hidden.
//!
//! An account stays in the set until the log's floor has passed the seq at which it was hidden:
//! nothing of it can be in the log then (its later commits do not pass the verifier). So the set
//! is bounded by what is hidden within the retention, not by all accounts ever deleted.
//!
//! Every read that begins after a command is answered leaves out what it hides; a read before
//! that may hand out one more chunk with it. Whoever keeps what was read must look again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{RwLock, RwLockReadGuard};

use hashbrown::HashMap;
use protocol::did::Did;
use protocol::frame::Kind;
use protocol::ids::Seq;

use crate::store::batch::{Indexed, View, kind_code};

/// The set. The sequencer changes it; readers of any thread look into it.
pub(crate) struct Hidden {
    /// The newest seq at which an account of the set was hidden; zero while it is empty. No later
    /// event is hidden: whoever reads those takes no lock.
    newest: AtomicU64,
    set: RwLock<Set>,
}

#[derive(Default)]
struct Set {
    /// By DID hash, as the index of a batch has it; two DIDs of one hash would take 2^64 tries.
    accounts: HashMap<u64, (Did, Seq)>,
    sieve: Sieve,
}

/// The set while it is looked into.
pub(crate) struct Seen<'a>(RwLockReadGuard<'a, Set>);

/// A bit per account, by its hash: what has none is not in the set, and that costs a look into
/// memory that stays in the processor's cache. Without it each event of a replay would be a miss
/// of that cache once tens of thousands are hidden.
struct Sieve(Box<[u64]>);

impl Hidden {
    pub(crate) fn load(rows: Vec<(Did, Seq)>) -> Self {
        let hidden = Self { newest: AtomicU64::new(0), set: RwLock::new(Set::default()) };
        let mut set = hidden.set.write().expect("no holder of this lock panics");
        set.accounts.extend(rows.into_iter().map(|(did, since)| (did.hash64(), (did, since))));
        set.sieve = Sieve::of(&set.accounts);
        hidden.newest.store(set.newest(), Ordering::Release);
        drop(set);
        hidden
    }

    /// The set, unless it is empty.
    pub(crate) fn any(&self) -> Option<Seen<'_>> {
        self.after(Seq::ZERO)
    }

    /// The set, unless no event from `first` on can be hidden.
    pub(crate) fn after(&self, first: Seq) -> Option<Seen<'_>> {
        let newest = self.newest.load(Ordering::Acquire);
        (newest > 0 && first.get() <= newest).then(|| Seen(self.read()))
    }

    /// Whether no event from `position` on is hidden.
    pub(crate) fn touches_none(&self, view: View<'_>, position: usize) -> bool {
        let Some(seen) = self.after(view.first()) else { return true };
        !(position..view.events()).any(|position| seen.hides(view.event(position)))
    }

    pub(crate) fn contains(&self, did: &Did) -> bool {
        self.any().is_some_and(|seen| seen.0.accounts.contains_key(&did.hash64()))
    }

    pub(crate) fn len(&self) -> usize {
        self.any().map_or(0, |seen| seen.0.accounts.len())
    }

    /// Hides and shows accounts, as of a commit that ended at `since`.
    pub(crate) fn change(&self, changes: impl Iterator<Item = (Did, bool)>, since: Seq) {
        let mut set = self.set.write().expect("no holder of this lock panics");
        let (mut is_any_hidden, mut is_any_shown) = (false, false);
        for (did, hide) in changes {
            let hash = did.hash64();
            if hide {
                is_any_hidden = true;
                set.sieve.add(hash);
                // One that was shown and is hidden again within a commit may have events up to
                // here.
                set.accounts.insert(hash, (did, since));
            } else {
                is_any_shown |= set.accounts.remove(&hash).is_some();
            }
        }
        // What is hidden is hidden as of a seq that rises from commit to commit. All of the set is
        // looked at only when something leaves it.
        if is_any_shown {
            set.sieve = Sieve::of(&set.accounts);
            self.newest.store(set.newest(), Ordering::Release);
        } else if is_any_hidden {
            self.newest.fetch_max(since.get(), Ordering::AcqRel);
        }
    }

    /// The accounts of the set that have an event in this batch, which must stay for it. A verifier
    /// lets none of them through; that readers need not look is the store's own to uphold.
    pub(crate) fn touched(&self, view: View<'_>) -> Vec<Did> {
        let Some(seen) = self.any() else { return Vec::new() };
        let events = (0..view.events()).map(|position| view.event(position));
        let touched = events.filter(|event| seen.hides(*event));
        touched.filter_map(|event| Some(seen.0.accounts.get(&event.did_hash)?.0.clone())).collect()
    }

    /// The accounts of which nothing is in the log after `floor`.
    pub(crate) fn outdated(&self, floor: Seq) -> Vec<Did> {
        let Some(seen) = self.any() else { return Vec::new() };
        let outdated = seen.0.accounts.values().filter(|(_, since)| *since <= floor);
        outdated.map(|(did, _)| did.clone()).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Set> {
        self.set.read().expect("no holder of this lock panics")
    }
}

impl Seen<'_> {
    pub(crate) fn hides(&self, event: Indexed) -> bool {
        let Set { accounts, sieve } = &*self.0;
        let hideable = [Kind::Commit, Kind::Sync].map(kind_code).contains(&event.kind);
        hideable && sieve.may_have(event.did_hash) && accounts.contains_key(&event.did_hash)
    }
}

impl Set {
    fn newest(&self) -> u64 {
        self.accounts.values().map(|(_, since)| since.get()).max().unwrap_or(0)
    }
}

impl Sieve {
    fn of(accounts: &HashMap<u64, (Did, Seq)>) -> Self {
        let mut sieve = Self::default();
        accounts.keys().for_each(|hash| sieve.add(*hash));
        sieve
    }

    fn add(&mut self, hash: u64) {
        let (word, bit) = Self::place(hash);
        self.0[word] |= bit;
    }

    fn may_have(&self, hash: u64) -> bool {
        let (word, bit) = Self::place(hash);
        self.0[word] & bit != 0
    }

    fn place(hash: u64) -> (usize, u64) {
        let place = hash % SIEVE_BITS;
        (usize::try_from(place / 64).expect("below the sieve's words"), 1 << (place % 64))
    }
}

impl Default for Sieve {
    fn default() -> Self {
        let words = usize::try_from(SIEVE_BITS / 64).expect("a small number");
        Self(vec![0; words].into())
    }
}

/// 128 KiB, which a core's cache holds; with 100,000 hidden accounts one in eleven others is looked
/// for in vain.
const SIEVE_BITS: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use proptest::prelude::*;
    use protocol::account::{Account, Upstream};

    use super::*;
    use crate::accounts::AccountWrite;
    use crate::fixture::*;
    use crate::store::batch::{Batch, Numbered};
    use crate::{Entry, Handle, Memory, Options, Read, open};

    /// Hides or shows an account, and returns when that is answered.
    async fn decide(handle: &Handle, of: u64, hide: bool) {
        let upstream = match hide {
            true => Upstream { active: false, status: Some("deleted".into()) },
            false => Upstream::ACTIVE,
        };
        let host = add(handle, "pds.example.com").await.id;
        let account = Account { upstream, ..account(host, 1) };
        let (done, answer) = tokio::sync::oneshot::channel();
        handle.submit(vec![Entry {
            frames: vec![active(&did(of))],
            did: Some(did(of)),
            account: Some(AccountWrite { account, was: None, decided: false }),
            done: Some(done),
            ..Entry::default()
        }]);
        answer.await.unwrap();
    }

    fn shows(frame: &[u8], of: u64) -> bool {
        String::from_utf8_lossy(frame).contains(&did(of).to_string()) && frame[5] == b'c'
    }

    /// Readers that never rest, from memory and from disk, while an account is hidden, shown and
    /// hidden again: what a read that began after an answer returns is as the answer says.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn every_read_that_begins_after_an_answer_obeys_it() {
        for tail_bytes in [1, 64 << 20] {
            let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
            let handle = open(Options { tail_bytes, ..options(&clock, &memory) }).unwrap();
            for _ in 0..40 {
                let entry = |of| logged(&did(of), vec![commit(&did(of), 1, 1000)]);
                handle.submit(vec![entry(1), entry(2)]);
                settle(&handle).await;
            }
            let end = handle.log().head();
            // Odd while the account is hidden.
            let turn = Arc::new(AtomicUsize::new(0));
            let is_over = Arc::new(AtomicBool::new(false));
            let shown = Arc::new(AtomicUsize::new(0));
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let log = handle.log();
                    let (turn, is_over) = (Arc::clone(&turn), Arc::clone(&is_over));
                    let shown = Arc::clone(&shown);
                    tokio::spawn(async move {
                        let mut after = Seq::ZERO;
                        while !is_over.load(Ordering::SeqCst) {
                            let began = turn.load(Ordering::SeqCst);
                            let Read::Chunk(chunk) = log.read(after, 5000).await.unwrap() else {
                                panic!("there are events");
                            };
                            let frames = split(&chunk.bytes);
                            let is_shown = frames.iter().any(|frame| shows(frame, 1));
                            // It may have been shown again before the read was over.
                            if began % 2 == 1 && turn.load(Ordering::SeqCst) == began {
                                assert!(!is_shown, "hidden before the read began");
                            }
                            shown.fetch_add(usize::from(is_shown), Ordering::SeqCst);
                            after = if chunk.last < end { chunk.last } else { Seq::ZERO };
                        }
                    })
                })
                .collect();
            for _ in 0..5 {
                let before = shown.load(Ordering::SeqCst);
                while shown.load(Ordering::SeqCst) == before {
                    tokio::task::yield_now().await;
                }
                decide(&handle, 1, true).await;
                turn.fetch_add(1, Ordering::SeqCst);
                for _ in 0..50 {
                    let Read::Chunk(chunk) = handle.log().read(Seq::ZERO, 1 << 20).await.unwrap()
                    else {
                        panic!("there are events");
                    };
                    assert!(!split(&chunk.bytes).iter().any(|frame| shows(frame, 1)));
                }
                turn.fetch_add(1, Ordering::SeqCst);
                decide(&handle, 1, false).await;
            }
            is_over.store(true, Ordering::SeqCst);
            for reader in readers {
                reader.await.unwrap();
            }
            handle.stop().unwrap();
        }
    }

    #[test]
    fn an_account_that_is_hidden_again_stays_until_its_latest_events_are_gone() {
        let hidden = Hidden::load(vec![(did(1), seq(3))]);
        hidden.change([(did(1), true)].into_iter(), seq(9));
        assert_eq!(hidden.outdated(seq(8)), []);
        assert_eq!(hidden.outdated(seq(9)), [did(1)]);
        hidden.change([(did(1), false)].into_iter(), seq(10));
        assert_eq!((hidden.len(), hidden.any().is_some()), (0, false));
    }

    #[test]
    fn readers_beyond_the_newest_take_no_lock() {
        let hidden = Hidden::load(Vec::new());
        assert!(hidden.after(Seq::ZERO).is_none());
        hidden.change([(did(1), true)].into_iter(), seq(9));
        assert!(hidden.after(seq(9)).is_some());
        assert!(hidden.after(seq(10)).is_none());
        hidden.change([(did(2), true)].into_iter(), seq(20));
        assert!(hidden.after(seq(20)).is_some());
        hidden.change([(did(2), false)].into_iter(), seq(30));
        assert!(hidden.after(seq(10)).is_none());
    }

    proptest! {
        /// Whatever is hidden and shown, in whatever order: what is left out is what a map says.
        #[test]
        fn what_is_hidden_is_what_a_map_would_hide(
            changes in prop::collection::vec((0u64..6, any::<bool>()), 0..20),
            loaded in prop::collection::btree_map(0u64..6, Just(()), 0..4),
        ) {
            let rows = loaded.keys().map(|of| (did(*of), seq(100))).collect();
            let hidden = Hidden::load(rows);
            let mut model: BTreeMap<u64, bool> = loaded.keys().map(|of| (*of, true)).collect();
            for (of, hide) in changes {
                hidden.change([(did(of), hide)].into_iter(), seq(100));
                model.insert(of, hide);
            }
            for of in 0..6 {
                for frame in [commit(&did(of), 1, 9), sync(&did(of)), active(&did(of))] {
                    let is_hidden = model.get(&of) == Some(&true) && frame.kind() != Kind::Account;
                    let did_hash = did(of).hash64();
                    let event = Numbered { seq: seq(50), frame, did_hash };
                    let batch = Batch::write(Seq::ZERO, &[event]).unwrap();
                    prop_assert_eq!(hidden.touches_none(batch.view(), 0), !is_hidden);
                }
                prop_assert_eq!(hidden.contains(&did(of)), model.get(&of) == Some(&true));
            }
            prop_assert_eq!(hidden.len(), model.values().filter(|hide| **hide).count());
        }
    }
}
