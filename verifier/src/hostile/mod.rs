//! Frames that try to cost more than they should, and the largest honest ones: built here once, for
//! the test that judges them and for the bench that measures what judging them costs.

mod envelopes;
mod records;
mod trees;

use bytes::Bytes;
use protocol::cid::{Cid, Codec};
use protocol::keys::Curve;
use protocol::reject::Reject;
use protocol::tid::Tid;

use crate::testing::{Commit, Op, Repo};

/// A frame, and what a relay must say of it.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) frame: Bytes,
    /// What it tries, or that it is honest.
    pub(crate) expected: Result<(), Reject>,
}

/// All of them, said by [`repo`]'s account.
pub(crate) fn attacks() -> Vec<Attack> {
    [envelopes::attacks(), records::attacks(), trees::attacks()].into_iter().flatten().collect()
}

/// The account that says it all.
pub(crate) fn repo() -> Repo {
    Repo::new(9, Curve::K256)
}

fn passes(name: &'static str, commit: &Commit) -> Attack {
    Attack { name, frame: commit.frame(1), expected: Ok(()) }
}

fn drops(name: &'static str, commit: &Commit, reject: Reject) -> Attack {
    Attack { name, frame: commit.frame(1), expected: Err(reject) }
}

/// A signed commit that names this root and this one before, with these blocks.
fn commit(data: Cid, prev_data: Option<Cid>, blocks: Vec<(Cid, Vec<u8>)>, ops: Vec<Op>) -> Commit {
    let mut repo = repo();
    let mut commit = repo.commit(&[]);
    commit.data = data;
    commit.prev_data = prev_data;
    commit.blocks = blocks;
    commit.ops = ops;
    let rev = Tid::parse(&commit.rev).unwrap();
    repo.sign(&mut commit, rev, &data);
    commit
}

fn create(path: &str, cid: Cid) -> Op {
    Op { action: "create".to_owned(), path: path.to_owned(), cid: Some(cid), prev: None }
}

/// The CID of bytes that are not CBOR.
fn raw(bytes: &[u8]) -> Cid {
    Cid { codec: Codec::Raw, ..Cid::of_cbor(bytes) }
}

/// Fills up what the limit of `blocks` leaves with one block that nothing needs: it is hashed.
fn fill(commit: &mut Commit) {
    let sections = commit.blocks.iter().map(|(_, block)| SECTION_BYTES + block.len());
    let room = BLOCKS_BYTES_MAX.saturating_sub(sections.sum::<usize>() + 2 * SECTION_BYTES + 59);
    let filler: Vec<u8> = (0..room).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    commit.blocks.push((raw(&filler), filler));
}

/// The limit of `blocks` (com.atproto.sync.subscribeRepos).
const BLOCKS_BYTES_MAX: usize = 2_000_000;
/// A CID and the longest length of a section here.
const SECTION_BYTES: usize = 36 + 3;

#[cfg(test)]
mod tests;
