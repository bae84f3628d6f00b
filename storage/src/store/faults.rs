//! Failed writes for tests, both ways: not done, and done but reported as failed.

use std::sync::atomic::{AtomicU8, Ordering};

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

    pub(crate) fn before_write(&self) -> Result<(), Error> {
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
