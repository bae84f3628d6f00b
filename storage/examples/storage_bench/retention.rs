//! Writes several times the limit of the log and looks what the folder takes meanwhile, and what
//! commits suffer from dropping files.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use protocol::ids::Seq;
use storage::Options;
use tokio::runtime::Runtime;

use crate::load::{self, Load};
use crate::rocks_log::Written;

/// Whether anything is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drops {
    ToLimit,
    /// For comparison: the disk must hold all of it.
    Nothing,
}

/// Fails if the folder takes more than it may, or compaction writes more; times are only told.
pub(crate) fn run(runtime: &Runtime, dir: &Path, limit: u64, times: u64, drops: Drops) {
    let moments = Moments::default();
    metrics::set_global_recorder(moments.clone()).unwrap();
    let dir = dir.join("store");
    let retention_bytes = (drops == Drops::ToLimit).then_some(limit);
    let options = Options { retention_bytes, ..load::options(&dir) };
    let handle = storage::open(options).unwrap();
    let mut load = Load::new(runtime, &handle);
    let is_done = Arc::new(AtomicBool::new(false));
    let watch = {
        let (dir, is_done) = (dir.clone(), Arc::clone(&is_done));
        thread::spawn(move || {
            let mut most = 0;
            while !is_done.load(Ordering::Relaxed) {
                most = most.max(folder_bytes(&dir));
                thread::park_timeout(Duration::from_millis(20));
            }
            most
        })
    };
    let began = Instant::now();
    let mut written = 0;
    while written < limit * times {
        load::submit(runtime, &handle, load.groups(EVENTS));
        written += EVENTS as u64 * crate::FRAME_BYTES as u64;
    }
    let seconds = began.elapsed().as_secs_f64();
    is_done.store(true, Ordering::Relaxed);
    let most = watch.join().unwrap();
    let floor = handle.log().floor();
    handle.stop().unwrap();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Written { flushed, compacted } = Written::read(&dir, "batches");
    println!("limit                               {:.0} MiB", mib(limit));
    println!("written                             {:.0} MiB", mib(written));
    println!("at                                  {:.0} MiB/s", mib(written) / seconds);
    println!("floor                               {floor}");
    println!("folder at most                      {:.0} MiB", mib(most));
    println!("of the limit                        {:.3}", most as f64 / limit as f64);
    println!("files of batches flushed            {:.0} MiB", mib(flushed));
    println!("written by their compaction         {:.0} MiB", mib(compacted));
    println!("write amplification of compaction   {:.4}", compacted as f64 / flushed as f64);
    moments.print();
    assert!(compacted * 10 <= flushed, "compaction wrote {compacted} bytes, flushes {flushed}");
    if drops == Drops::ToLimit {
        assert!(most * 10 <= limit * 11, "{most} bytes of {limit}");
        assert!(floor > Seq::ZERO, "nothing was dropped");
    }
}

/// What the folder takes of the disk, as `du` counts.
fn folder_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(files) = std::fs::read_dir(dir) else { return 0 };
    files.flatten().flat_map(|file| file.metadata()).map(|file| file.blocks() * 512).sum()
}

/// When commits and drops ended, and how long the commits took, by the store's own metrics.
#[derive(Clone, Default)]
struct Moments(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    commits: Vec<(Instant, Duration)>,
    drops: Vec<Instant>,
}

impl Moments {
    fn print(&self) {
        let seen = self.0.lock().unwrap();
        // A drop counts its files when it is over, which may be just after the commit that it
        // held up.
        let is_beside = |(end, took): &(Instant, Duration)| {
            let began = *end - *took;
            let next = seen.drops.partition_point(|drop| *drop < began);
            seen.drops.get(next).is_some_and(|drop| *drop < *end + Duration::from_millis(10))
        };
        let (beside, apart): (Vec<_>, Vec<_>) = seen.commits.iter().partition(|at| is_beside(at));
        println!("drops of files                      {}", seen.drops.len());
        for (name, commits) in [("beside drops", beside), ("all others", apart)] {
            let mut sorted: Vec<_> = commits.iter().map(|(_, took)| *took).collect();
            sorted.sort();
            let at = |thousandths: usize| {
                let place = sorted.len().saturating_sub(1) * thousandths / 1000;
                sorted.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
            };
            println!(
                "commits {name:<12} p50, p99, p99.9, longest  {} {:.1} {:.1} {:.1} {:.1} ms",
                sorted.len(),
                at(500),
                at(990),
                at(999),
                at(1000)
            );
        }
    }
}

impl HistogramFn for Moments {
    fn record(&self, seconds: f64) {
        let took = Duration::from_secs_f64(seconds);
        self.0.lock().unwrap().commits.push((Instant::now(), took));
    }
}

impl CounterFn for Moments {
    fn increment(&self, _: u64) {
        self.0.lock().unwrap().drops.push(Instant::now());
    }
    fn absolute(&self, _: u64) {}
}

impl Recorder for Moments {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "mainstem_storage_files_dropped_total" {
            return Counter::from_arc(Arc::new(self.clone()));
        }
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() == "mainstem_storage_commit_seconds" {
            return Histogram::from_arc(Arc::new(self.clone()));
        }
        Histogram::noop()
    }
}

const EVENTS: usize = 8_192;
