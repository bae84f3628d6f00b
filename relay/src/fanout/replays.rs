//! The threads that replay the log from disk: few, and last in line for the processor, so that
//! those who catch up have all of a machine that is idle, and those who are up to date never wait
//! for them (I10).

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::metrics::Fanout as Metrics;

/// A runtime of its own for consumers that need the disk, and its reads.
pub(super) struct Replays {
    /// Invariant: there until this is dropped.
    runtime: Option<Runtime>,
    consumers: AtomicUsize,
}

/// A consumer that replays.
pub(super) struct Replaying<'a> {
    replays: &'a Replays,
    metrics: &'a Metrics,
}

impl Replays {
    /// Starts so many threads, beside those that wait for the disk.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(DISK_THREADS)
            .thread_name("replay")
            .enable_all()
            .on_thread_start(|| {
                // Where that is not to be had, they are threads like all others.
                if let Err(error) = rustix::process::nice(NICE) {
                    tracing::debug!(%error, "replays keep the priority of everything else");
                }
            })
            .build()?;
        Ok(Self { runtime: Some(runtime), consumers: AtomicUsize::new(0) })
    }

    pub(super) fn threads(&self) -> &Handle {
        self.runtime.as_ref().expect("there until this is dropped").handle()
    }

    /// Counts a consumer for as long as it replays.
    pub(super) fn enter<'a>(&'a self, metrics: &'a Metrics) -> Replaying<'a> {
        metrics.replay_begun();
        metrics.replaying(self.consumers.fetch_add(1, Ordering::Relaxed) + 1);
        Replaying { replays: self, metrics }
    }
}

impl Drop for Replaying<'_> {
    fn drop(&mut self) {
        let before = self.replays.consumers.fetch_sub(1, Ordering::Relaxed);
        self.metrics.replaying(before - 1);
    }
}

impl Drop for Replays {
    fn drop(&mut self) {
        // A runtime may not be waited for from within another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A tenth of the processor time of a thread that is not nice, where both want it.
const NICE: i32 = 10;
/// As many as the log reads from disk at a time. Each thread has memory of its own at the
/// allocator.
const DISK_THREADS: usize = 4;
