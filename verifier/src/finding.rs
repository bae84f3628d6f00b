//! What reconciliation finds at a host, and what comes of it.
//!
//! A finding goes through the shard of its account in the order of events: behind what came from
//! that host before it, queued or parked, so that it never overtakes an event that we have (I4).

use std::sync::Arc;

use bytes::Bytes;
use protocol::account::Upstream;
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::reject::Reject;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::command::Done;
use crate::event::Origin;

/// What a host was found to hold of an account, beside its stream.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The host.
    pub origin: Arc<Origin>,
    /// The account.
    pub did: Did,
    /// The block of its newest signed commit, as the host gave it: nothing in it was checked.
    pub commit: Option<Bytes>,
    /// What the host says of its status.
    pub status: Option<Upstream>,
    /// When the host was asked. What came from it later is newer than the status, and only a
    /// document that was fetched later can convict it.
    pub seen: Micros,
}

/// What came of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// What we held was put right, and goes out: a `#sync`, an `#account`, or both; nothing for an
    /// account that was unknown, is active, and came without a commit.
    Repaired,
    /// We hold the commit, or a newer one, and the status, or have heard a newer one.
    InStep,
    /// Why the commit is not taken, or the status. The status may have been taken all the same:
    /// that of an account that we have taken down, for one.
    Refused(Reject),
}

/// A finding on its way, and who waits for what comes of it.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) finding: Finding,
    /// Told when it is judged.
    pub(crate) answer: oneshot::Sender<Found>,
    /// Leaves with the verdict.
    pub(crate) done: Done,
    /// Its place in the intake; given back when it is judged.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// Findings of one shard on their way. Each holds a commit, some 200 bytes and at most what the
/// reconciler fetched; it has few under way at once.
pub(crate) const FINDINGS_MAX: usize = 64;
