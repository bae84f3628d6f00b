//! Fan-out: consumers pull from the log at their own pace, each on its own connection.
//!
//! There is no queue per consumer and no broadcast: a consumer is a cursor and a socket. The
//! bytes it is sent are the log's own, shared with everybody (I8, I10).

mod consumer;
mod control;
mod cursor;
mod link;
mod replays;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::{Micros, Seq};
use protocol::tripwire::Tripwire;
use storage::Log;
use tokio::net::TcpStream;
use tokio::sync::watch;

pub use self::consumer::End;
pub use self::cursor::{Cursor, Start, Window};
use self::replays::Replays;
use crate::metrics::Fanout as Metrics;
use crate::server::stopped;

/// Limits of the consumers' side.
#[derive(Clone, Debug)]
pub struct Options {
    /// Consumers in all: a socket, a task and a few KiB each.
    pub consumers_max: usize,
    /// Consumers of one address.
    pub consumers_per_address_max: usize,
    /// A consumer that accepts no byte for so long is closed.
    pub stall_max: Duration,
    /// Sent when nothing else is.
    pub ping_every: Duration,
    /// Threads for consumers that are further behind than memory reaches.
    pub replay_threads: usize,
    /// Where tests end the process.
    pub tripwire: Tripwire,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            consumers_max: 5_000,
            // Most relays stand behind a reverse proxy, whose address all consumers share.
            consumers_per_address_max: 2_000,
            stall_max: Duration::from_secs(60),
            ping_every: Duration::from_secs(30),
            replay_threads: replay_threads(),
            tripwire: Tripwire::default(),
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
    /// Wakes those who are up to date, see [`herald`].
    rounds: watch::Sender<()>,
    replays: Replays,
    /// Who is connected, for limits and lag. Locked for lines, never over an await.
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Arc<AtomicU64>>,
    /// By [`per_network`].
    by_network: HashMap<IpAddr, usize>,
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
    /// No consumers yet. Within a runtime, which serves those who are up to date.
    pub fn start(
        log: Log,
        options: Options,
        metrics: Metrics,
        stop: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let rounds = watch::Sender::new(());
        let replays = Replays::start(options.replay_threads)?;
        tokio::spawn(herald(log.subscribe(), stop.clone(), rounds.clone()));
        let seats = Mutex::default();
        Ok(Self(Arc::new(Shared { log, options, metrics, stop, rounds, replays, seats })))
    }

    /// Takes a seat for a consumer from this address.
    pub fn seat(&self, address: IpAddr) -> Result<Seat, Full> {
        let network = per_network(address);
        let mut seats = self.seats();
        if seats.taken.len() >= self.0.options.consumers_max {
            return Err(Full::Relay);
        }
        let count = seats.by_network.entry(network).or_default();
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
        let address = seat.address;
        let end = consumer::run(self.clone(), seat, socket, read_ahead, cursor, now).await;
        self.0.metrics.closed(end);
        tracing::debug!(%address, reason = end.name(), "consumer left");
    }

    /// How many are connected.
    pub fn consumers(&self) -> usize {
        self.seats().taken.len()
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
        let (begin, floor, given) = (log.begin(), log.floor(), log.given());
        Window { begin, floor, head: log.head(), given, now }
    }

    fn seats(&self) -> std::sync::MutexGuard<'_, Seats> {
        // A panic elsewhere leaves the counts as they are; they are still right.
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one address: of IPv6 a whole /64, which is what one customer gets.
pub(crate) fn per_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let host_bits = u128::from(u64::MAX);
            Ipv6Addr::from_bits(address.to_bits() & !host_bits).into()
        }
        address => address,
    }
}

/// Passes the news of a commit on. One that is told wakes the others from within their own
/// runtime, which costs a fraction of what it costs the sequencer to wake each of them from
/// outside.
async fn herald(
    mut head: watch::Receiver<Seq>,
    mut stop: watch::Receiver<bool>,
    rounds: watch::Sender<()>,
) {
    let mut stopping = false;
    loop {
        tokio::select! {
            changed = head.changed() => if changed.is_err() { return },
            () = stopped(&mut stop), if !stopping => stopping = true,
        }
        rounds.send_replace(());
    }
}

/// Half of the cores: a replay is bound by copying, and the others are for those who are live.
fn replay_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

impl Seat {
    fn sent(&self, seq: Seq) {
        self.sent.store(seq.get(), Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let network = per_network(self.address);
        let mut seats = self.fanout.seats();
        seats.taken.remove(&self.number);
        if let Some(count) = seats.by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                seats.by_network.remove(&network);
            }
        }
        self.fanout.0.metrics.consumers(seats.taken.len());
    }
}

/// How often a stop looks whether the last consumer has left.
const LEAVE_CHECK: Duration = Duration::from_millis(10);
