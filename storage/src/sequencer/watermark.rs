//! The settled prefix of one host's stream, which is all that its stored cursor may say (I5).
//!
//! Events of a host settle out of order, since its accounts live in several shards, and numbers
//! may be missing from its stream. So "everything up to n is settled" cannot be counted. But each
//! ticket names the number received just before it, and thereby claims the interval
//! `(prev, seq]`: nothing else was received in it. The prefix is what an unbroken chain of settled
//! intervals covers from its beginning; a hole in the chain is an event still on its way.

use std::collections::BTreeMap;

use protocol::ids::{Epoch, HostSeq};

/// Settled intervals of one host and epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    epoch: Epoch,
    /// Everything received up to here is settled. Never falls within an epoch.
    end: HostSeq,
    /// Settled intervals beyond `end`: start (exclusive) → end. Invariant: disjoint, not touching,
    /// and every start lies beyond `end`. Between two of them lies at least one event on its way,
    /// and the crawler lets a host have 256 of those: so there are at most 257.
    islands: BTreeMap<HostSeq, HostSeq>,
}

impl Watermark {
    /// With everything up to `end` settled.
    pub(crate) fn new(epoch: Epoch, end: HostSeq) -> Self {
        Self { epoch, end, islands: BTreeMap::new() }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The end of the settled prefix.
    pub(crate) fn end(&self) -> HostSeq {
        self.end
    }

    /// How many intervals wait for a hole to be filled.
    pub(crate) fn islands(&self) -> usize {
        self.islands.len()
    }

    /// Settles a ticket of this epoch. One whose `seq` is not beyond its `prev` claims nothing
    /// (a stale number, or none).
    pub(crate) fn settle(&mut self, prev: HostSeq, seq: HostSeq) {
        if seq <= prev || seq <= self.end {
            return;
        }
        if prev > self.end {
            self.add_island(prev, seq);
            return;
        }
        self.end = seq;
        while let Some(island) = self.islands.first_entry() {
            if *island.key() > self.end {
                break;
            }
            self.end = self.end.max(island.remove());
        }
    }

    // Takes up every interval that overlaps or touches the one to add.
    fn add_island(&mut self, mut start: HostSeq, mut end: HostSeq) {
        while let Some((&other_start, &other_end)) = self.islands.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            start = start.min(other_start);
            end = end.max(other_end);
            self.islands.remove(&other_start);
        }
        self.islands.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seq(number: u64) -> HostSeq {
        HostSeq::new(number).unwrap()
    }

    /// Settles links in this order; after each, the prefix must end where it says.
    fn check(start: u64, links: &[(u64, u64, u64)]) {
        let mut watermark = Watermark::new(Epoch(0), seq(start));
        for (prev, number, end) in links {
            watermark.settle(seq(*prev), seq(*number));
            assert_eq!(watermark.end(), seq(*end), "after ({prev}, {number}] of {links:?}");
        }
    }

    #[test]
    fn i5_the_prefix_ends_before_the_first_hole() {
        // In order, with gaps in the host's numbers.
        check(0, &[(0, 5, 5), (5, 6, 6), (6, 100, 100)]);
        // A hole at 6, filled last.
        check(5, &[(6, 9, 5), (9, 10, 5), (5, 6, 10)]);
        // Two holes.
        check(0, &[(1, 2, 0), (3, 4, 0), (0, 1, 2), (2, 3, 4)]);
        // From the back to the front.
        check(0, &[(3, 4, 0), (2, 3, 0), (1, 2, 0), (0, 1, 4)]);
    }

    #[test]
    fn i5_a_repeat_or_a_stale_number_moves_nothing() {
        check(9, &[(8, 9, 9), (3, 4, 9), (9, 9, 9), (12, 11, 9), (9, 12, 12), (9, 12, 12)]);
    }

    /// A host that was dialled again may pass over what it sent before.
    #[test]
    fn i5_the_prefix_never_falls_to_what_ended_within_it() {
        check(5, &[(6, 9, 5), (5, 20, 20), (20, 21, 21)]);
        check(5, &[(6, 7, 5), (8, 9, 5), (10, 30, 5), (5, 20, 30)]);
    }

    #[test]
    fn a_host_that_starts_live_links_to_the_empty_prefix() {
        check(0, &[(1_000_007, 1_000_009, 0), (0, 1_000_007, 1_000_009)]);
    }

    #[test]
    fn intervals_merge_so_that_memory_grows_with_holes_only() {
        let mut watermark = Watermark::new(Epoch(0), seq(0));
        for number in 2..=1000 {
            watermark.settle(seq(number - 1), seq(number));
        }
        assert_eq!((watermark.islands(), watermark.end()), (1, seq(0)));
        watermark.settle(seq(0), seq(1));
        assert_eq!((watermark.islands(), watermark.end()), (0, seq(1000)));
    }

    proptest! {
        /// The prefix is what a naive walk along the chain says, in whatever order links settle,
        /// and there are never more intervals than holes.
        #[test]
        fn i5_the_prefix_is_the_unbroken_chain(
            steps in prop::collection::vec(1u64..5, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let mut numbers = vec![0];
            for step in &steps {
                numbers.push(numbers.last().unwrap() + step);
            }
            let mut unsettled: Vec<usize> = (1..numbers.len()).collect();
            let mut watermark = Watermark::new(Epoch(0), seq(0));
            for pick in order.iter().take(steps.len()) {
                let link = unsettled.remove(pick.index(unsettled.len()));
                watermark.settle(seq(numbers[link - 1]), seq(numbers[link]));
                let first_hole = unsettled.iter().min().copied().unwrap_or(numbers.len());
                prop_assert_eq!(watermark.end(), seq(numbers[first_hole - 1]));
                prop_assert!(watermark.islands() <= unsettled.len());
            }
        }
    }
}
