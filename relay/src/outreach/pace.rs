//! How often one name or one address may be asked: an even pace with a burst, per key.

use std::hash::Hash;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

/// Paces each key on its own. Forgets the keys that were not used for long: they are at rest
/// anyway.
pub struct Pace<K> {
    /// When the key's next request is due if it never bursts.
    due: Cache<K, Instant>,
    interval: Duration,
    burst: u32,
}

impl<K: Hash + Eq + Clone> Pace<K> {
    /// One request per `interval` and key on average, `burst` at once.
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self { due: Cache::new(KEYS_MAX), interval, burst }
    }

    /// Books the next request of a key and says how long to wait for it; `None` if that were
    /// longer than `patience` (then nothing is booked).
    pub fn book(&self, key: &K, now: Instant, patience: Duration) -> Option<Duration> {
        let due = self.due.get(key).map_or(now, |due| due.max(now));
        let ahead = due.duration_since(now).saturating_sub(self.interval * (self.burst - 1));
        if ahead > patience {
            return None;
        }
        self.due.insert(key.clone(), due + self.interval);
        Some(ahead)
    }
}

/// Keys remembered: about 100 bytes each.
const KEYS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_the_pace_holds() {
        let pace = Pace::new(Duration::from_millis(100), 3);
        let now = Instant::now();
        let patience = Duration::from_millis(150);
        let waits: Vec<_> = (0..5).map(|_| pace.book(&"a", now, patience)).collect();
        let wait = |millis| Some(Duration::from_millis(millis));
        assert_eq!(waits, [wait(0), wait(0), wait(0), wait(100), None]);
        assert_eq!(pace.book(&"b", now, patience), wait(0), "another key is not held up");
        assert_eq!(pace.book(&"a", now + Duration::from_secs(9), patience), wait(0));
    }
}
