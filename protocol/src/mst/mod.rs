//! The Merkle search tree: reading a partial one from a commit's blocks and undoing its ops
//! (inversion), and building whole ones with the proofs that a commit carries.
//!
//! A tree is a function of its keys and values: a key's layer comes from its hash, and so the
//! shape is given. Keys are bytes here; whether one is a path is judged on ops, not on trees.

mod invert;
mod node;
mod partial;
mod proof;
mod tree;

pub use invert::InversionRoom;
pub use partial::{PartialTree, Room};
pub use tree::Tree;

use crate::cid::Cid;
use crate::sha256::leading_zeros;

/// What one path went through in a commit, all its ops folded in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// `collection/rkey`.
    pub path: &'a str,
    /// The record before; `None`: there was none.
    pub old: Option<Cid>,
    /// The record after; `None`: there is none.
    pub new: Option<Cid>,
}

/// Why a partial tree cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MstError {
    /// A node breaks the tree's rules.
    #[error("malformed tree")]
    Malformed,
    /// Over a limit of entries, layers or key length, or a block visited twice.
    #[error("tree over its limits")]
    TooLarge,
    /// The root, or a node needed for the question, is not among the blocks.
    #[error("a node is missing")]
    Missing,
}

/// Most entries of one node. Honest nodes have 4 on average; 1,024 would need a search for keys
/// of that many leading zeros.
pub const NODE_ENTRIES_MAX: usize = 1024;

/// Highest layer of a key. It bounds recursion. A tree of a billion records has 15 layers.
pub const LAYERS_MAX: u32 = 64;

/// Longest key: that of a path (protocol.md section 3).
pub const KEY_BYTES_MAX: usize = 1024;

/// Most entries of all nodes together: each is hashed for its layer, and encoded again where a node
/// before differs. Honest ones have 100 bytes, so that 2 MB of blocks hold no more of them.
pub const TREE_ENTRIES_MAX: usize = 20_000;

/// Most bytes of all keys together. Keys share prefixes, so that without this limit 2 MB of blocks
/// could stand for 36 MB of keys, every one of which is hashed for its layer. Paths have some 40
/// bytes, and an entry has 100, so that honest nodes are larger than their keys.
pub const TREE_KEY_BYTES_MAX: usize = 2_000_000;

/// The root of a tree without records.
pub const EMPTY_ROOT: Cid = Cid {
    codec: crate::cid::Codec::DagCbor,
    digest: [
        0x9d, 0xfe, 0xfe, 0x61, 0xdd, 0x76, 0xea, 0x3d, 0xca, 0xe5, 0x02, 0x38, 0x80, 0xb0, 0x83,
        0x79, 0xd5, 0x7a, 0xdf, 0x20, 0x48, 0x2d, 0x6f, 0xdb, 0xe2, 0x75, 0x92, 0x89, 0xf6, 0x47,
        0x67, 0x7b,
    ],
};

/// The layer of a key: leading zero bits of its sha-256, in pairs.
//
// "hash the key with SHA-256 (binary output); count the number of leading binary zeros in the
// hash, and divide by two, rounding down" (atproto.com/specs/repository).
#[inline]
pub fn layer(path: &[u8]) -> u32 {
    leading_zeros(path) / 2
}

/// Fuzz target: of the tree under a CAR's first root, every record is found; undoing the creation
/// of a record gives the tree without it; a tree of which nothing is missing is the only one
/// with its records.
pub fn fuzz_mst(data: &[u8]) {
    let Ok((root, blocks)) = crate::car::read(data) else {
        return;
    };
    let Some(root) = root.cid() else {
        return;
    };
    let Ok(tree) = PartialTree::read(&blocks, &root) else {
        return;
    };
    let records = tree.records();
    let mut whole = Tree::new();
    for (key, value) in &records {
        let Some((path, value)) = std::str::from_utf8(key).ok().zip(value.cid()) else {
            return;
        };
        assert_eq!(tree.get(path), Ok(Some(value)));
        whole.insert(path, value);
    }
    let is_whole = tree.is_whole();
    assert!(!is_whole || whole.root() == root, "one tree for the same records");
    for (key, value) in records {
        let path = std::str::from_utf8(key).expect("seen above");
        let tree = PartialTree::read(&blocks, &root).expect("it was read before");
        match tree.invert(&[Change { path, old: None, new: value.cid() }]) {
            Ok(before) if is_whole => {
                let mut without = whole.clone();
                without.remove(path);
                assert_eq!(before, without.root());
            }
            Ok(before) => assert_ne!(before, root),
            Err(error) => assert_eq!((error, is_whole), (MstError::Missing, false)),
        }
    }
}
