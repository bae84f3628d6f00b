//! What the process uses, from `/proc`: CPU time and memory; and how many files it may open.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Figures of the whole process since its start.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// Reads the figures of a process (`None`: this one). `None` where there is no `/proc`, or no
/// such process.
pub fn usage(pid: Option<u32>) -> Option<Usage> {
    let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // proc(5): the name stands in parentheses and may hold anything; utime and stime are fields
    // 14 and 15, in ticks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    let cpu = Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND));
    Some(Usage { cpu, resident_bytes: kib << 10 })
}

/// Lets the process open as many files as it may ask for: each host and each consumer is one, and
/// the usual limit of 1,024 is for programs that use `select`. The limit then; `None`: there is
/// none.
pub fn raise_open_files() -> Option<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => getrlimit(Resource::Nofile).current,
    }
}

/// Linux's USER_HZ, on every architecture that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_some_memory() {
        assert!(usage(None).unwrap().resident_bytes > 100_000);
        assert!(usage(Some(std::process::id())).is_some());
        assert!(usage(Some(u32::MAX)).is_none());
    }
}
