//! The accounts whose `#commit` and `#sync` frames the log leaves out: taken down here, or deleted
//! by their host. `#account` and `#identity` are never hidden.
//!
//! An account stays in the set until the log's floor has passed the seq at which it was hidden:
//! nothing of it can be in the log then (its later commits do not pass the verifier). So the set
//! is bounded by what is hidden within the retention, not by all accounts ever deleted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{RwLock, RwLockReadGuard};

use hashbrown::HashMap;
use protocol::did::Did;
use protocol::frame::Kind;
use protocol::ids::Seq;

use crate::store::batch::{Indexed, View, kind_code};

/// The set. The sequencer changes it; readers of any thread look into it.
pub(crate) struct Hidden {
    /// False while the set is empty, so that nobody takes the lock for nothing.
    any: AtomicBool,
    /// By DID hash, as the index of a batch has it; two DIDs of one hash would take 2^64 tries.
    set: RwLock<HashMap<u64, (Did, Seq)>>,
}

/// The set while it is looked into.
pub(crate) struct Seen<'a>(RwLockReadGuard<'a, HashMap<u64, (Did, Seq)>>);

impl Hidden {
    pub(crate) fn load(rows: Vec<(Did, Seq)>) -> Self {
        let set: HashMap<_, _> =
            rows.into_iter().map(|(did, since)| (did.hash64(), (did, since))).collect();
        Self { any: AtomicBool::new(!set.is_empty()), set: RwLock::new(set) }
    }

    /// The set, unless it is empty.
    pub(crate) fn any(&self) -> Option<Seen<'_>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        Some(Seen(self.set.read().expect("no holder of this lock panics")))
    }

    /// Whether no event from `position` on is hidden.
    pub(crate) fn touches_none(&self, view: View<'_>, position: usize) -> bool {
        let Some(seen) = self.any() else { return true };
        !(position..view.events()).any(|position| seen.hides(view.event(position)))
    }

    pub(crate) fn contains(&self, did: &Did) -> bool {
        self.any().is_some_and(|seen| seen.0.contains_key(&did.hash64()))
    }

    pub(crate) fn len(&self) -> usize {
        self.any().map_or(0, |seen| seen.0.len())
    }

    /// Hides and shows accounts, as of a commit that ended at `since`.
    pub(crate) fn change(&self, changes: impl Iterator<Item = (Did, bool)>, since: Seq) {
        let mut set = self.set.write().expect("no holder of this lock panics");
        for (did, hide) in changes {
            if hide {
                set.entry(did.hash64()).or_insert((did, since));
            } else {
                set.remove(&did.hash64());
            }
        }
        self.any.store(!set.is_empty(), Ordering::Release);
    }

    /// The accounts of which nothing is in the log after `floor`.
    pub(crate) fn outdated(&self, floor: Seq) -> Vec<Did> {
        let Some(seen) = self.any() else { return Vec::new() };
        let outdated = seen.0.values().filter(|(_, since)| *since <= floor);
        outdated.map(|(did, _)| did.clone()).collect()
    }
}

impl Seen<'_> {
    pub(crate) fn hides(&self, event: Indexed) -> bool {
        let hideable = [Kind::Commit, Kind::Sync].map(kind_code).contains(&event.kind);
        hideable && self.0.contains_key(&event.did_hash)
    }
}
