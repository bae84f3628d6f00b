//! The fake network: a seed becomes accounts, signed traffic, lies, hosts, a directory, consumers.
//!
//! In: a seed, host names, the time of each event.
//! Out: frames as hosts send them, servers that send them, and what a consumer must see of them.
//! Upholds: nothing of its own; it is what the invariants are tested with.
//! Knows nothing of: the relay's insides.
//!
//! The way of one event: [`world`] makes it, [`hosts`] sends it, [`plc`] vouches for its account
//! and [`dns`] for its handle, [`consumers`] receive what the relay made of it (or [`readers`],
//! which are many), [`oracle`] judges that, [`report`] prints figures. [`network`] wires the first
//! four together. A [`mirror`] keeps what a stream tells, to be held against what the hosts hold;
//! [`hostile`] hosts do harm.

pub mod wire;
pub mod world;

pub mod dns;
pub mod export;
pub mod hostile;
pub mod hosts;
pub mod plc;

pub mod network;

pub mod client;
pub mod consumers;
pub mod mirror;
pub mod oracle;
pub mod readers;
pub mod report;
