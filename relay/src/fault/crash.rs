//! The process ends itself, by SIGKILL and at a point that a test names: nothing is flushed, no
//! destructor runs, the kernel only closes what was open.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use protocol::tripwire::{Point, Tripwire};
use rustix::process::{Signal, getpid, kill_process};

/// Where the process ends, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Where.
    pub place: Place,
    /// When the place is passed for this time, from 1.
    pub times: u64,
}

/// Where the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a point of the way, where its thread stops at once and all others within some
    /// milliseconds. `in-commit` is the only one where it goes on: the signal comes from
    /// another thread, up to some milliseconds after the write has begun.
    At(Point),
    /// `torn-commit`: after a write of which nobody has seen anything, when a random part of it is
    /// taken away again, as if the process had ended in the middle of it.
    TornCommit,
}

impl FromStr for Crash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, times) = text.split_once('*').unwrap_or((text, "1"));
        let times = times.parse().ok().filter(|times| *times > 0);
        let times = times.ok_or_else(|| "not a number of times, from 1".to_owned())?;
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        let place = match (point, name) {
            (Some(point), _) => Place::At(point),
            (None, TORN_COMMIT) => Place::TornCommit,
            (None, _) => return Err("no such point: see docs/testing.md".to_owned()),
        };
        Ok(Self { place, times })
    }
}

impl Crash {
    pub(super) fn tripwire(self, data_dir: &Path) -> Tripwire {
        let countdown = Countdown(AtomicU64::new(self.times));
        match self.place {
            Place::At(Point::InCommit) => Tripwire::new(&[Point::InCommit], move |point| {
                if countdown.is_over() {
                    kill_soon(point);
                }
            }),
            Place::At(point) => Tripwire::new(&[point], move |point| {
                if countdown.is_over() {
                    stand_and_die(point);
                }
            }),
            Place::TornCommit => {
                let (dir, before) = (data_dir.to_owned(), Mutex::new(None));
                Tripwire::new(&[Point::InCommit, Point::AfterCommit], move |point| {
                    let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
                    match point {
                        Point::InCommit if countdown.is_over() => *before = Some(logs(&dir)),
                        Point::AfterCommit => {
                            if let Some(before) = before.take() {
                                kill(TORN_COMMIT, &tear(&before, &logs(&dir)));
                            }
                        }
                        _ => {}
                    }
                })
            }
        }
    }
}

/// Over once: when it has been asked for the last time that it counts.
struct Countdown(AtomicU64);

impl Countdown {
    fn is_over(&self) -> bool {
        let left =
            self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        left == Ok(1)
    }
}

/// The line is the proof that a test waits for.
fn kill(point: &str, how: &str) -> ! {
    tracing::warn!(point, how, "killed on purpose");
    end()
}

/// This thread goes no further; the others may, for up to some milliseconds or not at all.
fn stand_and_die(point: Point) -> ! {
    let random = random();
    let pause_ms = if random.is_multiple_of(2) { 0 } else { random >> 60 };
    tracing::warn!(point = point.name(), pause_ms, "killed on purpose");
    thread::park_timeout(Duration::from_millis(pause_ms));
    end()
}

fn end() -> ! {
    // It cannot fail for our own process, and there is nobody to tell.
    kill_process(getpid(), Signal::KILL).unwrap_or_default();
    loop {
        thread::park();
    }
}

/// Lets another thread end the process while this one goes on. Most of the delays are as short as
/// a write to the page cache is, the longest as long as a sync of the disk.
fn kill_soon(point: Point) {
    let random = random();
    let delay = Duration::from_nanos(500 << (random % 14)) + Duration::from_nanos(random >> 56);
    let go = Arc::new(AtomicBool::new(false));
    let ready = Arc::new(AtomicBool::new(false));
    let (waits, runs) = (Arc::clone(&go), Arc::clone(&ready));
    let killer = thread::Builder::new().name("killer".to_owned()).spawn(move || {
        runs.store(true, Ordering::Release);
        while !waits.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let begun = Instant::now();
        while begun.elapsed() < delay {
            std::hint::spin_loop();
        }
        end()
    });
    // Without a thread there is no delay either.
    if killer.is_err() {
        kill(point.name(), "at once");
    }
    while !ready.load(Ordering::Acquire) {
        thread::yield_now();
    }
    let delay_us = delay.as_micros();
    tracing::warn!(point = point.name(), delay_us, "killed on purpose");
    go.store(true, Ordering::Release);
}

/// The store's write-ahead logs with their lengths.
fn logs(dir: &Path) -> HashMap<PathBuf, u64> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "log"))
        .filter_map(|file| Some((file.path(), file.metadata().ok()?.len())))
        .collect()
}

/// Takes a random part of what the newest log has grown by away from it; what was done.
fn tear(before: &HashMap<PathBuf, u64>, after: &HashMap<PathBuf, u64>) -> String {
    let Some((path, len)) = after.iter().max_by_key(|(path, _)| *path) else {
        return "there is no log".to_owned();
    };
    let old = before.get(path).copied().unwrap_or(0);
    let grown = len.saturating_sub(old);
    if grown == 0 {
        return "nothing was written".to_owned();
    }
    let kept = random() % grown;
    match truncate(path, old + kept) {
        Ok(()) => format!("{kept} of {grown} bytes written"),
        Err(error) => format!("all bytes written: {error}"),
    }
}

fn truncate(path: &Path, len: u64) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.set_len(len)
}

/// From the keys that the standard library draws for its maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

const TORN_COMMIT: &str = "torn-commit";
