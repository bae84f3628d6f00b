//! Stretches of the log in memory: what one replaying reader has loaded, the others need not.
//!
//! Stretches begin where some reader once stood, and end where the next one in memory begins. So
//! readers of overlapping ranges fall into the same stretches after their first, whatever their
//! cursors were. Each is loaded once, however many wait for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use protocol::ids::Seq;
use tokio::sync::watch;

use super::replay::Stretch;

/// The cache. Locked for lines only.
pub(crate) struct Cache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the cursor that each follows.
    stretches: BTreeMap<Seq, Kept>,
    /// Invariant: what [`Stretch::bytes`] of all of them add up to.
    bytes: usize,
    /// Whose loading is under way. The other ends are with the [`Load`]s.
    loading: HashMap<Seq, watch::Receiver<()>>,
    /// Counts look-ups, as the time of last use.
    uses: u64,
}

struct Kept {
    stretch: Arc<Stretch>,
    used: u64,
}

/// Where the events after a cursor are.
pub(crate) enum Place {
    Here(Arc<Stretch>),
    /// Somebody loads them: this ends when that is done, in whichever way.
    Loading(watch::Receiver<()>),
    /// On disk: whoever gets this loads them.
    Absent,
}

/// The task of loading what follows a cursor. Over when dropped.
pub(crate) struct Load {
    cache: Arc<Cache>,
    pub(crate) after: Seq,
    /// What begins here is in memory, or about to be.
    pub(crate) until: Option<Seq>,
    _done: watch::Sender<()>,
}

impl Cache {
    /// An empty one that holds about so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// Where the events after `after` are.
    pub(crate) fn find(&self, after: Seq) -> Place {
        self.state().find(after)
    }

    /// Begins to load what follows `after`, unless it is here, or somebody else does.
    pub(crate) fn load(self: &Arc<Self>, after: Seq) -> Option<Load> {
        let mut state = self.state();
        if !matches!(state.find(after), Place::Absent) {
            return None;
        }
        let held = state.stretches.range(after..).next().map(|(from, _)| *from);
        let coming = state.loading.keys().filter(|from| **from > after).min().copied();
        let until = held.into_iter().chain(coming).min();
        let (done, waiting) = watch::channel(());
        state.loading.insert(after, waiting);
        Some(Load { cache: Arc::clone(self), after, until, _done: done })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl State {
    fn find(&mut self, after: Seq) -> Place {
        self.uses += 1;
        let used = self.uses;
        if let Some((_, kept)) = self.stretches.range_mut(..=after).next_back()
            && after < kept.stretch.last()
        {
            kept.used = used;
            return Place::Here(Arc::clone(&kept.stretch));
        }
        self.loading.get(&after).map_or(Place::Absent, |done| Place::Loading(done.clone()))
    }

    fn forget(&mut self, from: Seq) {
        if let Some(kept) = self.stretches.remove(&from) {
            self.bytes -= kept.stretch.bytes();
        }
    }
}

impl Load {
    /// Keeps what was loaded; what was not used for longest makes room. The newest always stays.
    pub(crate) fn keep(&self, stretch: &Arc<Stretch>) {
        let mut state = self.cache.state();
        state.uses += 1;
        state.forget(stretch.from());
        state.bytes += stretch.bytes();
        let kept = Kept { stretch: Arc::clone(stretch), used: state.uses };
        state.stretches.insert(stretch.from(), kept);
        while state.bytes > self.cache.bytes_max && state.stretches.len() > 1 {
            // Some dozens of entries, some thousand times a second at most.
            let oldest = state.stretches.iter().min_by_key(|(_, kept)| kept.used);
            let from = oldest.map(|(from, _)| *from).expect("more than one");
            state.forget(from);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.cache.state().loading.remove(&self.after);
    }
}
