//! The ticket of a received event: where it came from, and the intake bytes it holds.

use std::fmt;
use std::sync::Arc;

use crate::ids::{Epoch, HostId, HostSeq};

/// Travels with an event from the socket to the sequencer and is settled there exactly once:
/// committed or dropped. Losing one holds the host's stored cursor back for ever (I5).
#[must_use = "a ticket is settled by the sequencer, never dropped on the way"]
#[derive(Debug)]
pub struct Ticket {
    /// The host it came from.
    pub host: HostId,
    /// The host's epoch when it was received.
    pub epoch: Epoch,
    /// The host's own number of the event.
    pub seq: HostSeq,
    /// The number received from this host just before, or the cursor that the connection resumed
    /// from (zero: none). Tickets form a chain; the stored cursor moves along it only while every
    /// link is settled (I5).
    pub prev: HostSeq,
    /// The intake bytes it holds until it is settled.
    pub permit: Permit,
}

/// Bytes of the intake budget; given back when dropped.
pub struct Permit {
    bytes: u32,
    home: Option<Arc<dyn Budget>>,
}

/// Where permits come from.
pub trait Budget: Send + Sync {
    /// Takes back the bytes of one permit (and the one event that it stood for).
    fn give_back(&self, bytes: u32);
}

impl Permit {
    /// A permit for `bytes` that the budget has already counted as taken.
    pub fn new(bytes: u32, home: Arc<dyn Budget>) -> Self {
        Self { bytes, home: Some(home) }
    }

    /// A permit of no budget, for events that the relay makes itself, and for tests.
    pub fn free() -> Self {
        Self { bytes: 0, home: None }
    }

    /// How many bytes it holds.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give_back(self.bytes);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({})", self.bytes)
    }
}
