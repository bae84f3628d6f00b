//! Where a pass's accounts come from, portion by portion, and who of ours was among them.

use std::collections::{HashSet, VecDeque};

use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use tokio::time::Instant;

use super::compare::Listed;
use super::guard::Guard;
use super::ledger::Counts;
use super::listing::Listing;

/// Where the accounts of a pass come from.
pub(super) enum Source {
    /// The host's listing.
    Listing(Listing),
    /// These accounts, asked about one by one.
    Single(VecDeque<Did>),
    /// The accounts that we have from the host, asked about one by one.
    Members {
        /// The last one so far.
        after: Option<Did>,
        /// Who came later has said something since.
        joined_by: Micros,
        /// Who was listed needs not be asked about; `None`: nobody was.
        seen: Option<Seen>,
        /// There are no more.
        at_end: bool,
    },
}

/// Accounts of one page of the listing, or as many single ones.
#[derive(Debug)]
pub(super) struct Portion {
    /// When the host was asked: what was missed later is not looked after with it.
    pub(super) asked: Micros,
    /// Since then.
    pub(super) since: Instant,
    pub(super) guard: Guard,
    /// Those that may have to be looked at.
    pub(super) apart: Vec<Listed>,
    /// Single ones that need nothing.
    pub(super) settled: Vec<Did>,
    /// Those that nothing could be learnt of.
    pub(super) failed: Vec<Did>,
    /// Where the pass goes on behind it; `None`: it was the last, or is no place to go on from.
    pub(super) next: Option<String>,
    /// What was found of the others.
    pub(super) counts: Counts,
}

/// Who was in a listing: enough of it to find who was not, within a bound. Of a host with more
/// accounts than the bound, each pass remembers another part of them.
#[derive(Debug)]
pub(super) struct Seen {
    part: u64,
    parts: u64,
    hashes: HashSet<u64>,
}

impl Portion {
    /// `read` is when the host had said all of it.
    pub(super) fn new(asked: Micros, read: Micros) -> Self {
        Self {
            asked,
            since: Instant::now(),
            guard: Guard::of(read),
            apart: Vec::new(),
            settled: Vec::new(),
            failed: Vec::new(),
            next: None,
            counts: Counts::default(),
        }
    }
}

impl Seen {
    /// For a host of so many accounts; `turn` chooses the part.
    pub(super) fn new(accounts: u64, turn: u64) -> Self {
        let parts = accounts / SEEN_MAX + 1;
        Self { part: turn % parts, parts, hashes: HashSet::new() }
    }

    /// It was listed. Beyond the bound nobody is remembered, and so might count as absent; being
    /// absent is a reason to ask, not more.
    pub(super) fn insert(&mut self, did: &Did) {
        let hash = did.hash64();
        let is_full = self.hashes.len() >= 2 * usize::try_from(SEEN_MAX).unwrap_or(usize::MAX);
        if hash % self.parts == self.part && !is_full {
            self.hashes.insert(hash);
        }
    }

    /// Whether it is of this pass's part, and was not listed.
    pub(super) fn is_absent(&self, did: &Did) -> bool {
        let hash = did.hash64();
        hash % self.parts == self.part && !self.hashes.contains(&hash)
    }
}

/// Which part of a large host's accounts a pass remembers: another one each time.
pub(super) fn turn(host: HostId, began: Micros) -> u64 {
    u64::from(host.0) ^ began.0
}

/// Accounts of a host that a pass remembers: some 16 bytes each, 4 MB a pass.
const SEEN_MAX: u64 = 131_072;

#[cfg(test)]
mod tests {
    use super::*;

    fn did(number: u64) -> Did {
        Did::parse(&format!("did:web:a{number}.example.com")).unwrap()
    }

    #[test]
    fn who_was_not_listed_is_absent() {
        let mut seen = Seen::new(2, 7);
        seen.insert(&did(1));
        assert!(!seen.is_absent(&did(1)));
        assert!(seen.is_absent(&did(2)));
    }

    #[test]
    fn of_a_large_host_each_pass_looks_at_a_part_and_all_parts_get_their_turn() {
        let accounts = 3 * SEEN_MAX;
        let all =
            |turn| (0..1_000).map(did).filter(move |did| Seen::new(accounts, turn).is_absent(did));
        let parts: Vec<HashSet<Did>> = (0..4).map(|turn| all(turn).collect()).collect();
        assert!(parts.iter().all(|part| (150..350).contains(&part.len())));
        assert_eq!(parts.iter().map(HashSet::len).sum::<usize>(), 1_000);
        assert_eq!(parts.iter().flatten().collect::<HashSet<_>>().len(), 1_000);
    }

    #[test]
    fn a_listing_without_end_is_not_remembered_without_end() {
        let mut seen = Seen::new(0, 0);
        (0..2 * SEEN_MAX + 10).for_each(|number| seen.insert(&did(number)));
        assert_eq!(seen.hashes.len(), 2 * 131_072);
    }
}
