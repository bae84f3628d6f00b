//! The first stage: one subscription per upstream host, within one budget of bytes.
//!
//! In: hosts with the cursors where their streams go on; a guarded dialer.
//! Out: [`Inbound`] events with chained tickets; [`Report`]s of hosts' states, counts, resets,
//! gaps, drops; each host as it is ([`Live`]).
//! Upholds: I4 (a host's events in its order), I7, I10 (a slow host costs its own share), I13.
//! Knows nothing of: accounts, storage, our own seq.

mod crawler;
mod orders;
mod subscription;

mod backoff;
mod containment;
mod live;
mod position;

pub mod allowance;
pub mod limits;

mod budget;
mod throttle;

mod dial;
mod handshake;
mod socket;

pub mod admission;
mod inbound;
mod report;

pub mod reconcile;

mod metrics;

pub use crate::crawler::{Handle, Options, Start, start};
pub use crate::dial::{Dial, DialError, Transport};
pub use crate::inbound::{Content, Inbound, Intake};
pub use crate::limits::Timing;
pub use crate::live::Live;
pub use crate::position::Resume;
pub use crate::report::{Report, Told};
pub use crate::socket::fuzz_socket;
