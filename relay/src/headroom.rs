//! Room on the disk. The intake is held before the store runs out of it, everything that needs only
//! some bytes goes on, and when there is room again the intake goes on by itself.
//!
//! Once a second; on the way, RocksDB is asked whether something has failed behind the writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is watched.
pub struct Options {
    /// A folder of the file system.
    pub dir: PathBuf,
    /// The intake is held when less is free; zero: never.
    pub bytes: u64,
}

/// Whether the intake is held. Cheap to clone.
#[derive(Clone)]
pub struct Headroom(watch::Receiver<bool>);

/// The watcher, which has looked once.
pub struct Watcher {
    options: Arc<Options>,
    held: watch::Sender<bool>,
    /// The last look failed.
    is_blind: bool,
    metrics: Metrics,
}

struct Metrics {
    free: Gauge,
    held: Gauge,
    failures: Counter,
}

impl Headroom {
    /// Whether nothing is to be taken in.
    pub fn is_held(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until something may be taken in; at once, most of the time.
    pub async fn released(&mut self) {
        // Without the watcher the process is ending.
        drop(self.0.wait_for(|held| !held).await);
    }
}

impl Watcher {
    /// Looks for the first time, so that a start on a full disk takes nothing in. Blocks.
    pub fn new(options: Options) -> Self {
        let metrics = Metrics::register();
        gauge!("mainstem_relay_disk_headroom_bytes").set(options.bytes as f64);
        let (held, options) = (watch::Sender::new(false), Arc::new(options));
        let mut watcher = Self { options, held, is_blind: false, metrics };
        let found = storage::free_bytes(&watcher.options.dir);
        watcher.take(found);
        watcher
    }

    /// For those who have to wait.
    pub fn headroom(&self) -> Headroom {
        Headroom(self.held.subscribe())
    }

    /// Holds the crawler, if that is due, and watches until the process ends.
    pub fn start(self, crawler: crawler::Handle, storage: storage::Handle) -> JoinHandle<()> {
        crawler.hold(*self.held.borrow());
        tokio::spawn(self.run(crawler, storage))
    }

    async fn run(mut self, crawler: crawler::Handle, storage: storage::Handle) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            storage.probe().await;
            let options = Arc::clone(&self.options);
            // A network file system may make it wait.
            let found =
                tokio::task::spawn_blocking(move || storage::free_bytes(&options.dir)).await;
            let Ok(found) = found else { return };
            self.take(found);
            crawler.hold(*self.held.borrow());
        }
    }

    fn take(&mut self, found: std::io::Result<u64>) {
        let dir = self.options.dir.display();
        let free = match found {
            Ok(free) => free,
            Err(error) => {
                // Nothing is known: what was is kept, and the store says itself when it fails.
                if !self.is_blind {
                    tracing::warn!(%error, %dir, "cannot see how much room is on the disk");
                }
                self.is_blind = true;
                self.metrics.failures.increment(1);
                return;
            }
        };
        self.is_blind = false;
        self.metrics.free.set(free as f64);
        let (was, bytes) = (*self.held.borrow(), self.options.bytes);
        let is = is_held(was, free, bytes);
        self.metrics.held.set(f64::from(u8::from(is)));
        if is == was {
            return;
        }
        if is {
            tracing::error!(
                free, headroom = bytes, %dir,
                "the disk is nearly full: nothing more is read from hosts until there is room"
            );
        } else {
            tracing::info!(free, headroom = bytes, %dir, "there is room on the disk: reading on");
        }
        self.held.send_replace(is);
    }
}

/// An eighth more must be free to go on, so that it does not go on and stop with every file.
fn is_held(was: bool, free: u64, headroom: u64) -> bool {
    let enough = if was { headroom.saturating_add(headroom / 8) } else { headroom };
    free < enough
}

impl Metrics {
    fn register() -> Self {
        describe_gauge!("mainstem_relay_disk_free_bytes", "Room on the data folder's disk.");
        describe_gauge!(
            "mainstem_relay_disk_headroom_bytes",
            "With less room on the disk nothing is taken in; zero: never."
        );
        describe_gauge!(
            "mainstem_relay_intake_held",
            "1 while nothing is taken in, for want of room on the disk."
        );
        describe_counter!(
            "mainstem_relay_disk_free_failures_total",
            "Times that the room on the disk could not be seen."
        );
        Self {
            free: gauge!("mainstem_relay_disk_free_bytes"),
            held: gauge!("mainstem_relay_intake_held"),
            failures: counter!("mainstem_relay_disk_free_failures_total"),
        }
    }
}

/// A disk that takes 500 MB/s takes a quarter of the default headroom meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn watcher(bytes: u64) -> Watcher {
        let options = Arc::new(Options { dir: "/".into(), bytes });
        let held = watch::Sender::new(false);
        Watcher { options, held, is_blind: false, metrics: Metrics::register() }
    }

    #[test]
    fn the_intake_is_held_below_the_headroom_and_goes_on_an_eighth_above() {
        let mut watcher = watcher(800);
        let mut check = |free: u64, expected: bool| {
            watcher.take(Ok(free));
            assert_eq!(watcher.headroom().is_held(), expected, "{free}");
        };
        check(800, false);
        check(799, true);
        check(800, true);
        check(899, true);
        check(900, false);
        check(800, false);
        check(0, true);
    }

    #[test]
    fn a_headroom_of_zero_holds_nothing() {
        let mut watcher = watcher(0);
        watcher.take(Ok(0));
        assert!(!watcher.headroom().is_held());
    }

    #[test]
    fn a_look_that_fails_changes_nothing() {
        let mut watcher = watcher(800);
        let fail = || Err(std::io::Error::other("stale"));
        watcher.take(fail());
        assert!(!watcher.headroom().is_held());
        watcher.take(Ok(1));
        watcher.take(fail());
        watcher.take(fail());
        assert!(watcher.headroom().is_held());
        watcher.take(Ok(10_000));
        assert!(!watcher.headroom().is_held());
    }

    #[test]
    fn room_is_seen_where_there_is_a_folder() {
        assert!(storage::free_bytes(Path::new("/")).is_ok());
        assert!(storage::free_bytes(Path::new("/there/is/no/such/folder")).is_err());
    }
}
