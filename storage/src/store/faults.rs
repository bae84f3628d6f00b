//! Failed writes for tests, both ways: not done, and done but reported as failed. And which writes
//! waited for the disk, which a store in memory does not show.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::Wait;
use crate::Error;

/// The next write fails in this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is written.
    NotDone,
    /// Everything is written, and an error reported.
    DoneButFailed,
}

/// What is to fail, and how often something did.
#[derive(Default)]
pub(crate) struct Faults {
    armed: AtomicU8,
    fired: AtomicU8,
    waited: AtomicU64,
}

impl Faults {
    pub(crate) fn arm(&self, fault: Fault) {
        let code = match fault {
            Fault::NotDone => 1,
            Fault::DoneButFailed => 2,
        };
        self.armed.store(code, Ordering::SeqCst);
    }

    pub(crate) fn fired(&self) -> u8 {
        self.fired.load(Ordering::SeqCst)
    }

    /// How many writes waited for the disk.
    pub(crate) fn waited(&self) -> u64 {
        self.waited.load(Ordering::SeqCst)
    }

    pub(crate) fn before_write(&self, wait: Wait) -> Result<(), Error> {
        self.waited.fetch_add(u64::from(wait == Wait::Disk), Ordering::SeqCst);
        self.fire(1)
    }

    pub(crate) fn after_write(&self) -> Result<(), Error> {
        self.fire(2)
    }

    fn fire(&self, code: u8) -> Result<(), Error> {
        let hit = self.armed.compare_exchange(code, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if hit {
            self.fired.fetch_add(1, Ordering::SeqCst);
            return Err(Error::Injected);
        }
        Ok(())
    }
}
