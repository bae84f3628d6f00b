//! What checks are computed in.

use protocol::mst::{self, Change};
use protocol::recycle::recycle;
use protocol::{car, frame};

use super::ops::Fold;

/// The lists that a check fills, empty between two of them. Owned by a shard, and handed to each
/// check in turn, so that none has to allocate by what an event holds. A check that ends with a
/// drop may lose some of it; the next one then makes it anew.
#[derive(Debug, Default)]
pub struct Room {
    pub(super) frame: frame::Room,
    pub(super) changes: Vec<Change<'static>>,
    pub(super) order: Vec<usize>,
    pub(super) car: car::Room,
    pub(super) tree: mst::Room,
    pub(super) inversion: mst::InversionRoom,
}

impl Room {
    /// Takes back what a commit's ops were folded into.
    pub(super) fn put_fold(&mut self, fold: Fold<'_>) {
        self.changes = recycle(fold.changes, CHANGES_KEPT_MAX);
    }
}

/// Room for as many changes as a commit may have, 23 kB.
const CHANGES_KEPT_MAX: usize = 256;
