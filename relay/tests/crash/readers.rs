//! Consumers as clients are, over many lives of a relay: one that keeps up, one that does not, and
//! those that begin at the beginning.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use loadtest::consumers::{self, Event, Received, Subscription, decode};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::record::{self, Place, Read, Record};

/// Where the relay is; nowhere while it is down.
pub type Base = watch::Receiver<Option<String>>;

/// A consumer that resumes from its cursor, for as long as it lives.
pub struct Follower {
    name: &'static str,
    seen: Arc<Mutex<Seen>>,
    /// Microseconds that it takes over each event.
    pace_us: Arc<AtomicU64>,
    task: JoinHandle<()>,
    /// Up to where what it saw was compared, on both sides.
    compared: usize,
    place: Place,
}

#[derive(Default)]
struct Seen {
    read: Vec<Read>,
    findings: Vec<String>,
}

impl Seen {
    fn see(&mut self, message: &Bytes) {
        let Some(read) = record::read(message) else {
            return self.findings.push(format!("was told {:?}", decode(message)));
        };
        if let Some(last) = self.read.last().filter(|last| last.0 >= read.0) {
            self.findings.push(format!("I3: {} came after {}", read.0, last.0));
        }
        self.read.push(read);
    }
}

impl Follower {
    pub fn start(name: &'static str, base: Base, pace_us: u64) -> Self {
        let (seen, pace_us) = (Arc::default(), Arc::new(AtomicU64::new(pace_us)));
        let task = tokio::spawn(follow(base, Arc::clone(&seen), Arc::clone(&pace_us)));
        Self { name, seen, pace_us, task, compared: 0, place: Place::default() }
    }

    /// From here on it takes its time, or none.
    pub fn set_pace_us(&self, pace_us: u64) {
        self.pace_us.store(pace_us, Ordering::Relaxed);
    }

    /// The newest seq that it has seen.
    pub fn cursor(&self) -> u64 {
        self.seen.lock().unwrap().read.last().map_or(0, |(seq, _)| *seq)
    }

    /// Events that it has seen.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().read.len()
    }

    /// What is wrong with what it has seen since the last call.
    pub fn compare(&mut self, record: &Record) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap();
        let mut findings = std::mem::take(&mut seen.findings);
        if let Err(finding) = record.follow(&mut self.place, &seen.read[self.compared..]) {
            findings.push(finding);
        }
        self.compared = seen.read.len();
        findings.iter().map(|finding| format!("{}: {finding}", self.name)).collect()
    }

    /// Whether it has seen all of the record.
    pub fn is_complete(&self, record: &Record) -> bool {
        record.is_end(self.place)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut base: Base, seen: Arc<Mutex<Seen>>, pace_us: Arc<AtomicU64>) {
    loop {
        let url = base.borrow_and_update().clone();
        let cursor = seen.lock().unwrap().read.last().map_or(0, |(seq, _)| *seq);
        let subscription = match &url {
            Some(url) => consumers::subscribe(url, Some(cursor)).await.ok(),
            None => None,
        };
        let Some(mut subscription) = subscription else {
            // A relay that was killed before it was left is followed by another one.
            if base.changed().await.is_err() {
                return;
            }
            continue;
        };
        while let Some(message) = next(&mut subscription).await {
            seen.lock().unwrap().see(&message);
            let pace_us = pace_us.load(Ordering::Relaxed);
            if pace_us > 0 {
                tokio::time::sleep(Duration::from_micros(pace_us)).await;
            }
        }
    }
}

async fn next(subscription: &mut Subscription) -> Option<Bytes> {
    match subscription.next().await {
        Ok(Received::Message(message)) => Some(message),
        _ => None,
    }
}

/// Reads from cursor zero until the relay ends, or as far as its log went when it was asked.
pub async fn from_zero(url: String, until: u64) -> (Vec<Read>, Vec<String>) {
    let (mut read, mut findings) = (Vec::new(), Vec::new());
    let Ok(mut subscription) = consumers::subscribe(&url, Some(0)).await else {
        return (read, findings);
    };
    while let Some(message) = next(&mut subscription).await {
        match (record::read(&message), decode(&message)) {
            (Some(event), _) => read.push(event),
            // Retention has passed it while it read.
            (None, Ok(Event::Error { error, .. })) if error == "ConsumerTooSlow" => break,
            (None, other) => findings.push(format!("from zero: was told {other:?}")),
        }
        if read.last().is_some_and(|(seq, _)| *seq >= until) {
            break;
        }
    }
    (read, findings)
}
