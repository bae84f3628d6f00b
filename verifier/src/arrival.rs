//! What goes through a shard in the order of events: the events, and what reconciliation found.

use std::sync::Arc;

use crate::event::{Event, Origin};
use crate::finding::Errand;

/// One thing in a host's queue.
#[derive(Debug)]
pub(crate) enum Arrival {
    Event(Event),
    Finding(Box<Errand>),
}

impl Arrival {
    pub(crate) fn origin(&self) -> &Arc<Origin> {
        match self {
            Self::Event(event) => &event.origin,
            Self::Finding(errand) => &errand.finding.origin,
        }
    }

    /// Bytes of the intake that it holds; a finding holds none, and has a place of its own.
    pub(crate) fn bytes(&self) -> Option<u32> {
        match self {
            Self::Event(event) => Some(event.ticket.permit.bytes()),
            Self::Finding(_) => None,
        }
    }
}
