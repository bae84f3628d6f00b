//! Facts about a host for the store and the status page, beside the stream of its events.

use bytes::Bytes;
use protocol::host_state::{HostState, Meter};
use protocol::ids::{Epoch, HostId, Micros};
use protocol::reject::Reject;
use tokio::sync::oneshot;

/// A report on its way through one bounded channel; a task waits while there is no room. Except
/// for states during a stop, none is lost.
///
/// Dropping this tells the task that the report is in the sequencer's queue. After anything but a
/// state the task waits for that before it hands on what the host sent later: so no cursor that
/// has passed a gap is committed before the gap (I13).
#[derive(Debug)]
pub struct Told {
    /// What is told.
    pub report: Report,
    /// Dropped with this.
    _noted: Option<oneshot::Sender<()>>,
}

impl Told {
    /// With what waits until it is noted; `None`: nobody waits.
    pub(crate) fn new(report: Report) -> (Self, Option<oneshot::Receiver<()>>) {
        if matches!(report, Report::State { .. }) {
            return (Self { report, _noted: None }, None);
        }
        let (noted, waiting) = oneshot::channel();
        (Self { report, _noted: Some(noted) }, Some(waiting))
    }
}

/// A fact about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A host's task has come into another state.
    State {
        /// The host.
        host: HostId,
        /// The state it is in from here on.
        state: HostState,
        /// Why, for people; at most [`REASON_CHARS_MAX`](crate::limits::REASON_CHARS_MAX).
        reason: String,
        /// Since when.
        at: Micros,
    },
    /// What was counted of the host so far: once a minute while it changes, at the end of every
    /// connection, and at the end of its task.
    Meter {
        /// The host.
        host: HostId,
        /// All that was counted, in former processes too.
        meter: Meter,
    },
    /// The host's own sequence went backwards. Tickets carry the new epoch from here on, its
    /// cursor is forgotten, and the next connection asks for its oldest event. A gap of the whole
    /// host is owed (I13). Sent before the first ticket of the new epoch is delivered; it may
    /// still overtake tickets of the old one that are on their way.
    Reset {
        /// The host.
        host: HostId,
        /// The new epoch.
        epoch: Epoch,
        /// Why, for people.
        reason: String,
    },
    /// Something of this host was missed: its cursor was outdated, or a position was stepped over.
    Gap {
        /// The host.
        host: HostId,
        /// Why, for people.
        reason: String,
    },
    /// A frame without a usable number was dropped. It has no ticket; if
    /// [`Reject::leaves_gap`], a gap of the whole host is owed.
    Dropped {
        /// The host.
        host: HostId,
        /// Its offence.
        reject: Reject,
        /// The frame's beginning, at most [`EXCERPT_BYTES_MAX`](crate::limits::EXCERPT_BYTES_MAX).
        excerpt: Bytes,
        /// When.
        at: Micros,
    },
}
