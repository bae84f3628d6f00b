//! How far documents are pushed to us, so that they need not be asked for again.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::did::Did;
use protocol::ids::Micros;

/// Every change of a `did:plc` document between two times has been learnt: a document from in
/// between is as good as one that was fetched at the end. Shared by whoever follows a directory's
/// export and by all shards.
#[derive(Debug, Default)]
pub struct Coverage {
    since: AtomicU64,
    /// Zero: nothing is covered.
    until: AtomicU64,
}

impl Coverage {
    /// Every change from `since` to `until` has been learnt by now. `since` does not change while
    /// the process runs.
    pub fn show(&self, since: Micros, until: Micros) {
        self.since.store(since.0, Ordering::Relaxed);
        // What was learnt before is seen by whoever sees this.
        self.until.store(until.0, Ordering::Release);
    }

    /// When a document that was fetched then was known to be right for the last time.
    pub(crate) fn confirmed(&self, did: &Did, fetched: Micros) -> Micros {
        let until = Micros(self.until.load(Ordering::Acquire));
        let since = Micros(self.since.load(Ordering::Relaxed));
        let is_covered = did.web_host().is_none() && since <= fetched && fetched < until;
        if is_covered { until } else { fetched }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_covered_document_is_as_good_as_the_end_of_what_is_covered() {
        let coverage = Coverage::default();
        let plc = Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub").unwrap();
        let check = |coverage: &Coverage, did: &Did, fetched, expected| {
            assert_eq!(coverage.confirmed(did, Micros(fetched)), Micros(expected), "{fetched}");
        };
        check(&coverage, &plc, 150, 150);
        coverage.show(Micros(100), Micros(200));
        check(&coverage, &plc, 99, 99);
        check(&coverage, &plc, 100, 200);
        check(&coverage, &plc, 199, 200);
        check(&coverage, &plc, 300, 300);
        check(&coverage, &Did::parse("did:web:example.com").unwrap(), 150, 150);
    }
}
