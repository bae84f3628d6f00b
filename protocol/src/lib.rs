//! The vocabulary of the AT Protocol's sync streams: bytes in, types that cannot be wrong out.
//!
//! In: bytes from the network or the disk, numbers, names.
//! Out: DID, TID, CID, CAR, MST, commit, keys, frames, and the words that the stages share.
//! Upholds: I8 (splice and frame once), I9 (pure: no clock, no socket, no disk).
//! Knows nothing of: sockets, disks, clocks, tokio.

pub mod datetime;
pub mod did;
pub mod handle;
pub mod nsid;
pub mod rkey;
pub mod tid;

pub mod car;
pub mod cbor;
pub mod cid;
pub mod commit;
pub mod frame;
pub mod keys;
pub mod mst;
pub mod ws;

pub mod account;
pub mod address;
pub mod fetch;
pub mod host;
pub mod ids;
pub mod reject;
pub mod ticket;
