//! The demo's consumer: follows the relay's firehose and keeps what it saw.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loadtest::consumers::{self, Event, Received};
use loadtest::oracle::Witness;
use loadtest::report::Spread;
use protocol::datetime;
use protocol::ids::Micros;

/// What the consumer has seen.
#[derive(Clone, Default)]
pub(super) struct View(Arc<Mutex<Seen>>);

#[derive(Default)]
pub(super) struct Seen {
    pub(super) witness: Witness,
    /// Event time to receipt; the clock in an event counts milliseconds.
    latencies_ms: Vec<f64>,
}

impl View {
    /// Follows the firehose until the relay ends it.
    pub(super) async fn follow(self, base: String) -> anyhow::Result<()> {
        let mut subscription = consumers::subscribe(&base, Some(0)).await?;
        loop {
            let Received::Message(message) = subscription.next().await? else { return Ok(()) };
            let time = match consumers::decode(&message)? {
                Event::Frame { time: Some(time), .. } => datetime::parse(&time).ok(),
                _ => None,
            };
            let mut seen = self.seen();
            seen.witness.see(&message);
            if let Some(time) = time.filter(|_| seen.latencies_ms.len() < LATENCIES_MAX) {
                seen.latencies_ms.push(now().since(time).as_secs_f64() * 1e3);
            }
        }
    }

    /// Held for lines only.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Host to consumer, of the newest events.
    pub(super) fn recent_latency(&self) -> Spread {
        Spread::of(self.seen().latencies_ms.iter().rev().take(LATENCIES_SHOWN).copied().collect())
    }

    /// Host to consumer, of all events up to now.
    pub(super) fn latency(&self) -> Spread {
        Spread::of(self.seen().latencies_ms.clone())
    }
}

/// Wall-clock time, as the simulated hosts write it into their events.
pub(super) fn now() -> Micros {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Micros::default().plus(wall)
}

/// Ten million events in memory would be 80 MB.
const LATENCIES_MAX: usize = 1_000_000;
const LATENCIES_SHOWN: usize = 1_000;
