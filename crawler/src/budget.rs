//! The intake budget: bytes and events between the sockets and the sequencer, shared by all hosts.
//!
//! A host's socket is read only while its share has room, so TCP tells a fast host to wait, and a
//! slow stage behind us costs nobody more memory (I7, I10). Waiters are served in their order, so
//! a large message is not starved by small ones.

use std::sync::Arc;

use metrics::Gauge;
use protocol::ticket::{Budget, Permit};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::{EVENT_BYTES_MIN, HOST_BYTES_MIN, HOST_EVENTS_MAX, INTAKE_BYTES_MIN};

/// The budget of all hosts.
pub(crate) struct Pool {
    total: usize,
    bytes: Semaphore,
    /// What messages may hold that have not wholly arrived: half of the budget. Hosts that claim
    /// large messages and send them slowly can delay each other, but no ordinary event.
    arriving: Semaphore,
    used: Gauge,
}

/// One host's part in the budget.
pub(crate) struct Share {
    pool: Arc<Pool>,
    bytes: Semaphore,
    events: Semaphore,
}

/// Bytes and one event taken from a share, until it becomes a permit or is dropped.
pub(crate) struct Hold {
    share: Arc<Share>,
    /// Zero: it has become a permit.
    bytes: u32,
    arriving: usize,
}

impl Pool {
    /// `used` is kept at the bytes in use.
    pub(crate) fn new(intake_bytes: u64, used: Gauge) -> Self {
        let total = usize::try_from(intake_bytes.max(INTAKE_BYTES_MIN)).unwrap_or(usize::MAX);
        let total = total.min(Semaphore::MAX_PERMITS);
        Self { total, bytes: Semaphore::new(total), arriving: Semaphore::new(total / 2), used }
    }

    /// Bytes in use.
    pub(crate) fn used_bytes(&self) -> u64 {
        u64::try_from(self.total - self.bytes.available_permits()).unwrap_or(u64::MAX)
    }

    fn note_use(&self) {
        self.used.set(self.used_bytes() as f64);
    }
}

impl Share {
    /// A host's share: an eighth of the budget, but room for two of the largest messages.
    pub(crate) fn new(pool: &Arc<Pool>) -> Arc<Self> {
        let bytes = (pool.total / 8).max(to_usize(HOST_BYTES_MIN));
        Arc::new(Self {
            pool: Arc::clone(pool),
            bytes: Semaphore::new(bytes),
            events: Semaphore::new(to_usize(HOST_EVENTS_MAX)),
        })
    }

    /// Waits for room for a message of so many bytes that has arrived.
    pub(crate) async fn take(self: &Arc<Self>, bytes: u32) -> Hold {
        let bytes = bytes.max(EVENT_BYTES_MIN);
        let event = acquire(&self.events, 1).await;
        let own = acquire(&self.bytes, bytes).await;
        self.hold(event, own, None, acquire(&self.pool.bytes, bytes).await)
    }

    /// Waits for room for a message of so many bytes that has yet to arrive.
    pub(crate) async fn take_arriving(self: &Arc<Self>, bytes: u32) -> Hold {
        let bytes = bytes.max(EVENT_BYTES_MIN);
        // The host's own first: who waits for those holds nothing that others need.
        let event = acquire(&self.events, 1).await;
        let own = acquire(&self.bytes, bytes).await;
        let arriving = acquire(&self.pool.arriving, bytes).await;
        self.hold(event, own, Some(arriving), acquire(&self.pool.bytes, bytes).await)
    }

    /// Makes the guards of the semaphores, which give back if their waiter goes away, into one.
    fn hold(
        self: &Arc<Self>,
        event: SemaphorePermit<'_>,
        own: SemaphorePermit<'_>,
        arriving: Option<SemaphorePermit<'_>>,
        common: SemaphorePermit<'_>,
    ) -> Hold {
        let bytes = u32::try_from(common.num_permits()).expect("asked for as u32");
        let arriving_bytes = arriving.as_ref().map_or(0, SemaphorePermit::num_permits);
        event.forget();
        own.forget();
        common.forget();
        if let Some(arriving) = arriving {
            arriving.forget();
        }
        self.pool.note_use();
        Hold { share: Arc::clone(self), bytes, arriving: arriving_bytes }
    }
}

impl Budget for Share {
    fn give_back(&self, bytes: u32) {
        self.pool.bytes.add_permits(to_usize(bytes));
        self.bytes.add_permits(to_usize(bytes));
        self.events.add_permits(1);
        self.pool.note_use();
    }
}

impl Hold {
    /// The message has wholly arrived, with so many bytes; gives back what was taken over that.
    pub(crate) fn arrived(&mut self, bytes: u32) {
        self.share.pool.arriving.add_permits(std::mem::take(&mut self.arriving));
        let surplus = self.bytes.saturating_sub(bytes.max(EVENT_BYTES_MIN));
        self.share.pool.bytes.add_permits(to_usize(surplus));
        self.share.bytes.add_permits(to_usize(surplus));
        self.bytes -= surplus;
    }

    /// The permit of an event's ticket.
    pub(crate) fn into_permit(mut self) -> Permit {
        let bytes = std::mem::take(&mut self.bytes);
        Permit::new(bytes, Arc::clone(&self.share) as Arc<dyn Budget>)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.share.pool.arriving.add_permits(self.arriving);
        if self.bytes > 0 {
            self.share.give_back(self.bytes);
        }
    }
}

async fn acquire(semaphore: &Semaphore, permits: u32) -> SemaphorePermit<'_> {
    semaphore.acquire_many(permits).await.expect("the budget's semaphores are never closed")
}

fn to_usize(bytes: u32) -> usize {
    usize::try_from(bytes).expect("usize has at least 32 bits")
}
