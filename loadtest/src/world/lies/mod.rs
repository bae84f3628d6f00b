//! Specimens: events that must be dropped by a name, or pass although they look odd.
//!
//! Each has an account of its own (one needs two specimens). A lie is signed, well-formed and wrong
//! in one point only, and its neighbouring truth, which differs from it in that point, follows and
//! must pass: that proves that nothing else was wrong, and that the lie left no trace.
//!
//! Specimens are sent in their order, each when the one before has taken effect. Within one, the
//! order between hosts does not matter.

mod commits;
mod forgeries;
mod frames;
mod owners;
mod passes;
mod scene;

use protocol::did::Did;
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::World;
use super::account::RepoRow;
use crate::wire::Frame;

/// A case, named.
#[derive(Clone, Debug)]
pub struct Specimen {
    /// What it shows.
    pub name: &'static str,
    /// Its account.
    pub did: Did,
    /// What the directory answers about the account; in place before the first step.
    pub directory: Directory,
    /// What the account's host ([`Specimen::home`]) answers about it, if it is asked.
    pub row: Option<RepoRow>,
    /// The account's host.
    pub home: usize,
    /// What hosts send, in this order.
    pub steps: Vec<Step>,
}

/// What a directory knows of a DID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directory {
    /// A document.
    Document(serde_json::Value),
    /// Nothing: 404.
    Missing,
    /// It was: 410.
    Tombstoned,
}

/// One frame and what must become of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The host that sends it.
    pub host: usize,
    /// The frame.
    pub frame: Frame,
    /// What must become of it.
    pub expect: Expect,
}

/// What must become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It passes, and consumers see this frame.
    Pass(Frame),
    /// It is dropped under this name.
    Drop(Reject),
}

impl Step {
    /// A frame that must pass as it is.
    pub fn pass(host: usize, frame: Frame) -> Self {
        Self { host, expect: Expect::Pass(frame.clone()), frame }
    }

    /// A frame that must be dropped.
    pub fn drop(host: usize, frame: Frame, reject: Reject) -> Self {
        Self { host, frame, expect: Expect::Drop(reject) }
    }

    /// A frame that must pass, and that consumers see as another.
    pub fn pass_as(host: usize, frame: Frame, seen: Frame) -> Self {
        Self { host, frame, expect: Expect::Pass(seen) }
    }
}

impl Specimen {
    /// The reject that it must meet; `None`: all of it passes.
    pub fn reject(&self) -> Option<Reject> {
        self.steps.iter().find_map(|step| match step.expect {
            Expect::Drop(reject) => Some(reject),
            Expect::Pass(_) => None,
        })
    }
}

impl World {
    /// All specimens, on the world's hosts in turn. Nobody of the crowd is born after this.
    pub fn specimens(&mut self, now: Micros) -> Vec<Specimen> {
        assert!(self.hosts.len() >= 2, "a wrong host needs a right one beside it");
        let mut specimens = Vec::new();
        commits::add(self, now, &mut specimens);
        forgeries::add(self, now, &mut specimens);
        owners::add(self, now, &mut specimens);
        frames::add(self, now, &mut specimens);
        passes::add(self, now, &mut specimens);
        specimens
    }
}
