//! Faults that a test provokes on purpose, each with a counter that proves that it fired. None in
//! production: there every point costs one look at an empty option.

use std::cell::Cell;

use metrics::{Counter, counter, describe_counter};
use protocol::did::Did;

/// Which faults to provoke.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Checking the next so many events of an account panics.
    pub check_panic: Option<(Did, u32)>,
    /// The shard of this account panics outside of a check, at the account's next event.
    pub shard_panic: Option<Did>,
}

/// The faults with their counters, which exist only where a fault is asked for.
pub(crate) struct Provoked {
    check_panic: Option<CheckPanic>,
    shard_panic: Option<Did>,
}

struct CheckPanic {
    did: Did,
    left: Cell<u32>,
    fired: Counter,
}

impl Provoked {
    pub(crate) fn register(faults: &Faults) -> Self {
        let check_panic = faults.check_panic.clone().map(|(did, times)| CheckPanic {
            did,
            left: Cell::new(times),
            fired: fired("check_panic"),
        });
        Self { check_panic, shard_panic: faults.shard_panic.clone() }
    }

    /// Outside of any check. That the process ends is the proof.
    pub(crate) fn shard(&self, did: &Did) {
        assert!(self.shard_panic.as_ref() != Some(did), "provoked on purpose");
    }

    /// Inside the check of an event.
    pub(crate) fn check(&self, did: &Did) {
        if let Some(fault) = &self.check_panic
            && fault.did == *did
            && let Some(left) = fault.left.get().checked_sub(1)
        {
            fault.left.set(left);
            fault.fired.increment(1);
            panic!("provoked on purpose");
        }
    }
}

fn fired(fault: &'static str) -> Counter {
    describe_counter!(
        "mainstem_verifier_faults_total",
        "Faults that were provoked on purpose, by fault."
    );
    counter!("mainstem_verifier_faults_total", "fault" => fault)
}
