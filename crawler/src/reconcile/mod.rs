//! Reconciliation: what a host lists is compared with what we hold, and whoever moved on without
//! us is looked after (protocol.md section 11).
//!
//! In: hosts, what is owed of them, and what is held, through a [`Ledger`]; a guarded `Fetch`.
//! Out: [`Finding`]s, which go the way of events; settled gaps; progress.
//! Upholds: I7 (pages, waiting accounts, passes and requests are bounded), I10 (each host at its
//! own pace), I13 (what was missed ends here).
//! Knows nothing of: the store, the verifier, identities.

mod ledger;

mod due;
mod service;

mod pass;
mod source;

mod compare;
mod guard;
mod listing;

mod ask;
mod pace;

mod metrics;

#[cfg(test)]
mod tests;

pub use self::guard::Stream;
pub use self::ledger::{
    Counts, Excused, Finding, Found, Full, Gone, Held, Known, Ledger, Members, Owed, Row,
};
pub use self::pace::Timing;
pub use self::service::{Handle, Options, Status, start};
