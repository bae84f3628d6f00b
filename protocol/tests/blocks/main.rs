//! Blocks from the network: CBOR, CIDs, CARs, commits and trees, against the interop vectors, real
//! commits, other implementations, and random input.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod car;
mod cbor;
mod cid;
mod commits;
mod fuzz;
mod mst;
mod naive_tree;
mod property;
mod vectors;
mod well_formed;
