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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn pool(intake_bytes: u64) -> Arc<Pool> {
        Arc::new(Pool::new(intake_bytes, Gauge::noop()))
    }

    fn take(share: &Arc<Share>, bytes: u32) -> Option<Hold> {
        share.take(bytes).now_or_never()
    }

    #[test]
    fn share_is_an_eighth_or_12_mb_whichever_is_more() {
        for (intake, share) in [(64 * MIB, 12_000_000), (1024 * MIB, 128 * 1024 * 1024)] {
            let host = Share::new(&pool(intake));
            let _most = take(&host, share).expect("the whole share is free");
            assert!(take(&host, 1).is_none(), "{intake}");
        }
    }

    #[test]
    fn small_intake_is_raised_to_two_shares() {
        let pool = pool(1);
        let (one, other, third) = (Share::new(&pool), Share::new(&pool), Share::new(&pool));
        let _held = [take(&one, 12_000_000).unwrap(), take(&other, 12_000_000).unwrap()];
        assert!(take(&third, 1).is_none());
        assert_eq!(pool.used_bytes(), INTAKE_BYTES_MIN);
    }

    #[test]
    fn events_are_bounded_and_count_for_a_minimum() {
        let pool = pool(64 * MIB);
        let host = Share::new(&pool);
        let held: Vec<_> = (0..HOST_EVENTS_MAX).map(|_| take(&host, 1).unwrap()).collect();
        assert!(take(&host, 1).is_none());
        assert_eq!(pool.used_bytes(), u64::from(HOST_EVENTS_MAX * EVENT_BYTES_MIN));
        drop(held);
        assert!(take(&host, 1).is_some());
    }

    #[test]
    fn waiter_in_front_is_served_first() {
        let pool = pool(INTAKE_BYTES_MIN);
        let (one, other, third) = (Share::new(&pool), Share::new(&pool), Share::new(&pool));
        let all = (take(&one, 12_000_000), take(&other, 11_999_000));
        let mut large = Box::pin(third.take(5_000_000));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(take(&other, 600).is_none(), "a small one does not overtake it");
        drop(all.0);
        assert!(large.now_or_never().is_some());
    }

    #[test]
    fn messages_that_arrive_slowly_leave_half_to_the_others() {
        let pool = pool(INTAKE_BYTES_MIN);
        let shares: Vec<_> = (0..4).map(|_| Share::new(&pool)).collect();
        let arriving = |share: &Arc<Share>| share.take_arriving(5_000_000).now_or_never();
        let mut held: Vec<_> = shares[..2].iter().map(|share| arriving(share).unwrap()).collect();
        assert!(arriving(&shares[2]).is_none());
        assert!(take(&shares[3], 12_000_000).is_some());
        held[0].arrived(5_000_000);
        assert!(arriving(&shares[2]).is_some());
    }

    proptest! {
        /// Whatever is taken, abandoned, shrunk, made a permit or dropped: in the end all is back.
        #[test]
        fn everything_comes_back(
            moves in prop::collection::vec((0usize..3, 0u32..5_000_000, 0u8..6), 1..100),
        ) {
            let pool = pool(INTAKE_BYTES_MIN);
            let shares: Vec<_> = (0..3).map(|_| Share::new(&pool)).collect();
            let (mut holds, mut permits) = (Vec::new(), Vec::new());
            for (host, bytes, action) in moves {
                match action {
                    0 => holds.extend(take(&shares[host], bytes)),
                    1 => holds.extend(shares[host].take_arriving(bytes).now_or_never()),
                    2 => drop(holds.pop()),
                    3 => drop(permits.pop()),
                    4 => holds.iter_mut().for_each(|hold| hold.arrived(bytes)),
                    _ => permits.extend(holds.pop().map(Hold::into_permit)),
                }
                let held: u32 = holds.iter().map(|hold| hold.bytes).sum();
                let permitted: u32 = permits.iter().map(Permit::bytes).sum();
                prop_assert_eq!(pool.used_bytes(), u64::from(held + permitted));
            }
            drop((holds, permits));
            prop_assert_eq!(pool.used_bytes(), 0);
            prop_assert_eq!(pool.arriving.available_permits(), pool.total / 2);
            for share in &shares {
                prop_assert!(take(share, 12_000_000).is_some());
                prop_assert_eq!(share.events.available_permits(), to_usize(HOST_EVENTS_MAX));
            }
        }
    }
}
