//! Writes several times the limit of the log and looks what the folder takes meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use storage::Options;
use tokio::runtime::Runtime;

use crate::load::{self, Load};
use crate::rocks_log::Written;

pub(crate) fn run(runtime: &Runtime, dir: &Path, limit: u64, times: u64) {
    let commits = Commits::default();
    metrics::set_global_recorder(commits.clone()).unwrap();
    let dir = dir.join("store");
    let options = Options { retention_bytes: Some(limit), ..load::options(&dir) };
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
    let seen = commits.0.lock().unwrap();
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
    let mut sorted = seen.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |thousandths| sorted[(sorted.len() - 1) * thousandths / 1000] * 1e3;
    println!("commits                             {}", sorted.len());
    println!(
        "commit p50, p99, p99.9, longest     {:.1} {:.1} {:.1} {:.1} ms",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}

/// What the folder takes of the disk, as `du` counts.
fn folder_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(files) = std::fs::read_dir(dir) else { return 0 };
    files.flatten().flat_map(|file| file.metadata()).map(|file| file.blocks() * 512).sum()
}

/// How long each commit took, from the store's own metric.
#[derive(Clone, Default)]
struct Commits(Arc<Mutex<Vec<f64>>>);

impl HistogramFn for Commits {
    fn record(&self, seconds: f64) {
        self.0.lock().unwrap().push(seconds);
    }
}

impl Recorder for Commits {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
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
