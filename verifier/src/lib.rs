//! Check: who may speak for an account, and whether what is said is true.
//!
//! In: `(host, event, ticket)`, in the order in which each host sent them; findings.
//! Out: one `Verdict` per ticket, per account in that order: accept, or a named `Reject`.
//! Upholds: I4 (one account, one shard), I9 (pure checks), I11 (an account's state has one owner),
//! I12 (no signature, no passage), I13 (what is missed leaves a gap).
//! Knows nothing of: sockets, RocksDB, cursors, our seq.

mod command;
mod event;
mod faults;
mod finding;
mod options;

mod accounts;
mod arrival;
mod containment;
mod intake;
mod parked;
mod pool;
mod shard;

pub mod check;
pub mod identity;

#[cfg(test)]
mod hostile;
mod metrics;
#[cfg(test)]
mod testing;
mod verdict;

pub use command::{Command, Done, Stopped};
pub use containment::{MESSAGE_CHARS_MAX, OnPanic, Panicked};
pub use event::{Content, Event, Lenience, Origin};
pub use faults::Faults;
pub use finding::{Finding, Found};
pub use options::{Clock, Handles, InForce, Options, Recall, RecallOf, Timing};
pub use parked::HOST_EVENTS_MAX;
pub use pool::{Handle, Out, Outreach, start};
pub use verdict::{Accepted, Decided, EXCERPT_BYTES_MAX, Gap, Identity, Mark, Outcome, Verdict};
