//! CPU time, which what else the machine does does not count into.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What this thread has used.
pub(crate) fn thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// What all threads have used.
pub(crate) fn process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().unwrap()
}
