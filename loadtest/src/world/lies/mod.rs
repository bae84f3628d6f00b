//! The ledger of lies: events that must be dropped by a name, or pass although they look odd.
//!
//! Each specimen has an account of its own. A lie is signed, well-formed and wrong in one point
//! only, and its neighbouring truth, which differs from it in that point, follows and must pass:
//! that proves that nothing else was wrong, and that the lie left no trace.
//!
//! There are two lists. [`World::specimens`] needs nothing but frames: one specimen is sent after
//! the other, on one relay. [`World::ordeals`] needs more than that (answers that change, waits
//! for them, a relay that is killed or commanded), and a relay for each of them alone. Within a
//! specimen the order between hosts does not matter.

mod scene;
mod step;

mod frames;
mod layout;
mod mutations;

mod dids;
mod documents;
mod owners;

mod cars;
mod commits;
mod fields;
mod forgeries;
mod objects;
mod ops;
mod syncs;
mod trees;

mod histories;
mod passes;

mod conduct;
mod legacy;
mod replays;
mod statuses;
mod upgrades;

use std::collections::BTreeSet;

use protocol::did::Did;
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::World;
use super::account::RepoRow;

pub use mutations::Mutation;
pub use step::{Deed, Directory, Expect, HostAnswer, RelayDeed, Step};

/// A case, named.
#[derive(Clone, Debug)]
pub struct Specimen {
    /// What it shows.
    pub name: String,
    /// Its account.
    pub did: Did,
    /// What the directory answers about the account before the first step.
    pub directory: Directory,
    /// What the account's host ([`Specimen::home`]) answers about it, if it is asked.
    pub row: Option<RepoRow>,
    /// The account's host.
    pub home: usize,
    /// How many checks of the account's events a fault in the relay makes panic.
    pub panics: u32,
    /// What happens, in this order.
    pub steps: Vec<Step>,
}

impl Specimen {
    /// The names under which it is dropped; empty: all of it passes.
    pub fn rejects(&self) -> BTreeSet<Reject> {
        self.steps.iter().flat_map(Step::drops).collect()
    }
}

impl World {
    /// All specimens that are frames alone, on the world's hosts in turn. Nobody of the crowd is
    /// born after this.
    pub fn specimens(&mut self, now: Micros) -> Vec<Specimen> {
        assert!(self.hosts.len() >= 2, "a wrong host needs a right one beside it");
        let mut specimens = Vec::new();
        frames::add(self, now, &mut specimens);
        dids::add(self, now, &mut specimens);
        documents::add(self, now, &mut specimens);
        owners::add(self, now, &mut specimens);
        fields::add(self, now, &mut specimens);
        commits::add(self, now, &mut specimens);
        objects::add(self, now, &mut specimens);
        cars::add(self, now, &mut specimens);
        ops::add(self, now, &mut specimens);
        forgeries::add(self, now, &mut specimens);
        trees::add(self, now, &mut specimens);
        syncs::add(self, now, &mut specimens);
        histories::add(self, now, &mut specimens);
        passes::add(self, now, &mut specimens);
        legacy::add(self, now, &mut specimens);
        mutations::add(self, now, &mut specimens);
        specimens
    }

    /// All specimens that need a relay for themselves. Nobody of the crowd is born after this.
    pub fn ordeals(&mut self, now: Micros) -> Vec<Specimen> {
        assert!(self.hosts.len() >= 2, "a wrong host needs a right one beside it");
        let mut specimens = Vec::new();
        replays::add(self, now, &mut specimens);
        documents::add_ordeals(self, now, &mut specimens);
        owners::add_ordeals(self, now, &mut specimens);
        statuses::add(self, now, &mut specimens);
        conduct::add(self, now, &mut specimens);
        upgrades::add(self, now, &mut specimens);
        legacy::add_ordeals(self, now, &mut specimens);
        specimens
    }
}
