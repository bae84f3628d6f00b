//! Fan-out: consumers pull from the log at their own pace, each on its own connection.
//!
//! There is no queue per consumer and no broadcast: a consumer is a cursor and a socket. The
//! bytes it is sent are the log's own, shared with everybody (I8, I10).

mod consumer;
mod control;
mod cursor;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::{Micros, Seq};
use storage::Log;
use tokio::net::TcpStream;
use tokio::sync::watch;

pub use self::consumer::End;
pub use self::cursor::{Cursor, Start, Window};
use crate::metrics::Fanout as Metrics;

/// Limits of the consumers' side.
#[derive(Clone, Debug)]
pub struct Options {
    /// Consumers in all: a socket, a task and a few KiB each.
    pub consumers_max: usize,
    /// Consumers of one address.
    pub consumers_per_address_max: usize,
    /// A consumer that accepts no byte for so long is closed.
    pub stall_max: Duration,
    /// A write that is stuck for so long lets go of the shared batch.
    pub release_after: Duration,
    /// Sent when nothing else is.
    pub ping_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            consumers_max: 5_000,
            // Most relays stand behind a reverse proxy, whose address all consumers share.
            consumers_per_address_max: 2_000,
            stall_max: Duration::from_secs(60),
            release_after: Duration::from_secs(1),
            ping_every: Duration::from_secs(30),
        }
    }
}

/// All consumers. Cheap to clone.
#[derive(Clone)]
pub struct Fanout(Arc<Shared>);

struct Shared {
    log: Log,
    options: Options,
    metrics: Metrics,
    /// Becomes true once, when the relay stops.
    stop: watch::Receiver<bool>,
    /// Who is connected, for limits and lag. Locked for lines, never over an await.
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Arc<AtomicU64>>,
    by_address: HashMap<IpAddr, usize>,
}

/// One consumer's place; free again when dropped.
pub struct Seat {
    fanout: Fanout,
    number: u64,
    address: IpAddr,
    /// Everything up to here was sent.
    sent: Arc<AtomicU64>,
}

/// No seat was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Over the limit in all.
    Relay,
    /// Over the limit of this address.
    Address,
}

impl Fanout {
    /// No consumers yet.
    pub fn new(log: Log, options: Options, metrics: Metrics, stop: watch::Receiver<bool>) -> Self {
        Self(Arc::new(Shared { log, options, metrics, stop, seats: Mutex::default() }))
    }

    /// Takes a seat for a consumer from this address.
    pub fn seat(&self, address: IpAddr) -> Result<Seat, Full> {
        let mut seats = self.seats();
        if seats.taken.len() >= self.0.options.consumers_max {
            return Err(Full::Relay);
        }
        let count = seats.by_address.entry(address).or_default();
        if *count >= self.0.options.consumers_per_address_max {
            return Err(Full::Address);
        }
        *count += 1;
        let number = seats.next;
        seats.next += 1;
        let sent = Arc::new(AtomicU64::new(self.0.log.head().get()));
        seats.taken.insert(number, Arc::clone(&sent));
        self.0.metrics.consumers(seats.taken.len());
        Ok(Seat { fanout: self.clone(), number, address, sent })
    }

    /// Serves one consumer until either side ends it.
    pub async fn serve(
        &self,
        seat: Seat,
        socket: TcpStream,
        read_ahead: Bytes,
        cursor: Cursor,
        now: Micros,
    ) {
        let peer = socket.peer_addr().unwrap_or_else(|_| SocketAddr::new(seat.address, 0));
        let end = consumer::run(self, &seat, socket, read_ahead, cursor, now).await;
        self.0.metrics.closed(end);
        tracing::debug!(%peer, reason = end.name(), "consumer left");
    }

    /// Sets the figures that are counted when asked for.
    pub fn refresh_metrics(&self) {
        let head = self.0.log.head().get();
        let behind = |sent: &Arc<AtomicU64>| head.saturating_sub(sent.load(Ordering::Relaxed));
        let lag_max = self.seats().taken.values().map(behind).max().unwrap_or(0);
        self.0.metrics.lag_max(Duration::from_micros(lag_max));
    }

    /// Waits until no consumer is connected, but not for ever.
    pub async fn ended(&self, patience: Duration) {
        let all_left = async {
            while !self.seats().taken.is_empty() {
                tokio::time::sleep(LEAVE_CHECK).await;
            }
        };
        if tokio::time::timeout(patience, all_left).await.is_err() {
            tracing::warn!(left = self.seats().taken.len(), "consumers did not leave in time");
        }
    }

    /// The state of the log for a cursor that arrives at `now`.
    fn window(&self, now: Micros) -> Window {
        let log = &self.0.log;
        Window { begin: log.begin(), floor: log.floor(), head: log.head(), now }
    }

    fn seats(&self) -> std::sync::MutexGuard<'_, Seats> {
        // A panic elsewhere leaves the counts as they are; they are still right.
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn sent(&self, seq: Seq) {
        self.sent.store(seq.get(), Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.fanout.seats();
        seats.taken.remove(&self.number);
        if let Some(count) = seats.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                seats.by_address.remove(&self.address);
            }
        }
        self.fanout.0.metrics.consumers(seats.taken.len());
    }
}

/// How often a stop looks whether the last consumer has left.
const LEAVE_CHECK: Duration = Duration::from_millis(10);
