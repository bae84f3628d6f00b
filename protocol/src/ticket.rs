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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Purse {
        bytes: AtomicU32,
        permits: AtomicU32,
    }

    impl Budget for Purse {
        fn give_back(&self, bytes: u32) {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.permits.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_permit_is_given_back_once_with_its_ticket() {
        let purse = Arc::new(Purse::default());
        let ticket = Ticket {
            host: HostId(1),
            epoch: Epoch::default(),
            seq: HostSeq::ZERO,
            prev: HostSeq::ZERO,
            permit: Permit::new(500, Arc::clone(&purse) as Arc<dyn Budget>),
        };
        assert_eq!(ticket.permit.bytes(), 500);
        assert_eq!(purse.permits.load(Ordering::Relaxed), 0);
        drop(ticket);
        assert_eq!(purse.bytes.load(Ordering::Relaxed), 500);
        assert_eq!(purse.permits.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_free_permit_holds_nothing() {
        assert_eq!(Permit::free().bytes(), 0);
    }
}
