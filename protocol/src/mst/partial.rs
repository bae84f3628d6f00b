//! The part of a tree that a commit's blocks hold, read and checked.

use super::node::{KeptEntry, NodeReader};
use super::{
    EMPTY_ROOT, KEY_BYTES_MAX, LAYERS_MAX, MstError, TREE_ENTRIES_MAX, TREE_KEY_BYTES_MAX, layer,
};
use crate::car::Blocks;
use crate::cid::{Cid, Codec, Link};
use crate::recycle::recycle;
use crate::sha256::Digest32;

/// The part of a tree that a commit's blocks hold.
///
/// All nodes lie in one list, their entries in another, the bytes of their keys in a third, so
/// that reading does not allocate by node, and not at all with a [`Room`] of the same size.
#[derive(Debug)]
pub struct PartialTree<'a> {
    pub(super) root: Digest32,
    pub(super) root_node: NodeId,
    /// The layer of the root; 0 if the tree is empty.
    pub(super) root_layer: u32,
    nodes: Vec<Node<'a>>,
    pub(super) entries: Vec<Entry<'a>>,
    keys: Vec<u8>,
    /// By the block's position. Of no use after the reading.
    visited: Vec<bool>,
}

/// What a tree that is no longer needed was kept in ([`PartialTree::into_room`]).
#[derive(Debug, Default)]
pub struct Room {
    nodes: Vec<Node<'static>>,
    entries: Vec<Entry<'static>>,
    keys: Vec<u8>,
    visited: Vec<bool>,
}

/// A node that was read: its place in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeId(u32);

/// A subtree: its digest, and its node if that is among the blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subtree<'a> {
    pub(super) digest: &'a Digest32,
    pub(super) node: Option<NodeId>,
}

/// Invariant: everything below a node is one layer below it, and a node of layer 0 has nothing
/// below it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    pub(super) left: Option<Subtree<'a>>,
    /// Its entries in the tree's list.
    first: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Its key in the tree's bytes.
    key_start: u32,
    key_end: u32,
    /// As it stands in its block.
    pub(super) kept: KeptEntry<'a>,
    /// The node after it, if there is one and it is among the blocks.
    right_node: Option<NodeId>,
}

impl<'a> PartialTree<'a> {
    /// Reads every node reachable from `root` among the blocks, checking all of protocol.md
    /// section 3's rules. Subtrees whose block is absent stay as their CID.
    pub fn read(blocks: &Blocks<'a>, root: &Cid) -> Result<Self, MstError> {
        Self::read_into(Room::default(), blocks, root)
    }

    /// As [`PartialTree::read`], in the room of a tree that is no longer needed.
    pub fn read_into(room: Room, blocks: &Blocks<'a>, root: &Cid) -> Result<Self, MstError> {
        if root.codec != Codec::DagCbor {
            return Err(MstError::Malformed);
        }
        let Room { mut nodes, mut entries, mut keys, mut visited } = room;
        nodes.reserve(blocks.len().min(NODES_RESERVED));
        entries.reserve(ENTRIES_RESERVED);
        keys.clear();
        keys.reserve(KEY_BYTES_RESERVED);
        visited.clear();
        visited.resize(blocks.len(), false);
        let tree = Self {
            root: root.digest,
            root_node: NodeId(0),
            root_layer: 0,
            nodes,
            entries,
            keys,
            visited,
        };
        let mut reader = TreeReader { blocks, last: None, tree };
        reader.read_root(root)?;
        Ok(reader.tree)
    }

    /// Gives the room back for the next tree; of an unusually large one it is given up.
    pub fn into_room(self) -> Room {
        Room {
            nodes: recycle(self.nodes, ROOM_ITEMS_MAX),
            entries: recycle(self.entries, ROOM_ITEMS_MAX),
            keys: recycle(self.keys, ROOM_KEY_BYTES_MAX),
            visited: recycle(self.visited, ROOM_ITEMS_MAX),
        }
    }

    /// The record at a path. [`MstError::Missing`]: its search ends in an absent subtree.
    /// [`MstError::Malformed`]: it is under a CID that no op can name.
    pub fn get(&self, path: &str) -> Result<Option<Cid>, MstError> {
        let mut node = self.node(self.root_node);
        loop {
            let entries = self.entries(node);
            let below = match entries.binary_search_by(|entry| self.key(entry).cmp(path.as_bytes()))
            {
                Ok(at) => return record(&entries[at]).cid().map(Some).ok_or(MstError::Malformed),
                Err(0) => node.left,
                Err(at) => entries[at - 1].right(),
            };
            let Some(below) = below else {
                return Ok(None);
            };
            node = self.node(below.node.ok_or(MstError::Missing)?);
        }
    }

    /// All keys and values that are there, in the order in which their nodes were read.
    pub fn records(&self) -> Vec<(&[u8], Link<'a>)> {
        self.entries.iter().map(|entry| (self.key(entry), record(entry))).collect()
    }

    /// Whether no node is missing.
    pub fn is_whole(&self) -> bool {
        let left = self.nodes.iter().filter_map(|node| node.left);
        let right = self.entries.iter().filter_map(Entry::right);
        left.chain(right).all(|subtree| subtree.node.is_some())
    }

    /// How many nodes are there.
    pub(super) fn nodes_read(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, node: NodeId) -> &Node<'a> {
        &self.nodes[index(node.0)]
    }

    pub(super) fn entries(&self, node: &Node<'_>) -> &[Entry<'a>] {
        &self.entries[index(node.first)..index(node.end)]
    }

    pub(super) fn key(&self, entry: &Entry<'_>) -> &[u8] {
        &self.keys[index(entry.key_start)..index(entry.key_end)]
    }
}

impl<'a> Entry<'a> {
    /// The subtree after it.
    #[inline]
    pub(super) fn right(&self) -> Option<Subtree<'a>> {
        self.kept.right.map(|digest| Subtree { digest, node: self.right_node })
    }
}

struct TreeReader<'b, 'a> {
    blocks: &'b Blocks<'a>,
    /// The entry before, in the order of the keys over the whole tree.
    last: Option<u32>,
    tree: PartialTree<'a>,
}

impl<'a> TreeReader<'_, 'a> {
    fn read_root(&mut self, root: &Cid) -> Result<(), MstError> {
        let block = self.visit(&root.digest)?.ok_or(MstError::Missing)?;
        let node = self.read_entries(block)?;
        let Some(entry) = self.tree.entries(&node).first() else {
            // The one node that is empty. A root that merely points down is none: "the top of the
            // tree … if it has no entries … is trimmed" (atproto.com/specs/repository).
            return if *root == EMPTY_ROOT {
                self.tree.root_node = self.add(node);
                Ok(())
            } else {
                Err(MstError::Malformed)
            };
        };
        let layer = layer(self.tree.key(entry));
        if layer > LAYERS_MAX {
            return Err(MstError::TooLarge);
        }
        self.tree.root_layer = layer;
        self.tree.root_node = self.read_below(node, layer)?;
        Ok(())
    }

    /// Its block, if it is there.
    fn visit(&mut self, digest: &Digest32) -> Result<Option<usize>, MstError> {
        let position = self.blocks.find(Codec::DagCbor, digest);
        if let Some(position) = position
            && std::mem::replace(&mut self.tree.visited[position], true)
        {
            return Err(MstError::TooLarge);
        }
        Ok(position)
    }

    /// The node at a layer, and all that is below it, if it is among the blocks.
    // Recurses by layers, of which there are LAYERS_MAX at most.
    fn read_subtree(&mut self, digest: &Digest32, layer: u32) -> Result<Option<NodeId>, MstError> {
        let Some(block) = self.visit(digest)? else {
            return Ok(None);
        };
        let node = self.read_entries(block)?;
        let is_empty = node.first == node.end && node.left.is_none();
        if is_empty {
            return Err(MstError::Malformed);
        }
        self.read_below(node, layer).map(Some)
    }

    /// Checks the keys of a node that was read against its layer and against all keys before, and
    /// reads what is below it, in the order of the keys.
    fn read_below(&mut self, mut node: Node<'a>, layer_here: u32) -> Result<NodeId, MstError> {
        if let Some(left) = &mut node.left {
            let layer = layer_here.checked_sub(1).ok_or(MstError::Malformed)?;
            left.node = self.read_subtree(left.digest, layer)?;
        }
        for at in node.first..node.end {
            let entry = self.tree.entries[index(at)];
            let key = self.tree.key(&entry);
            let last = self.last.map(|last| self.tree.key(&self.tree.entries[index(last)]));
            let rises = last.is_none_or(|last| last < key);
            if !rises || layer(key) != layer_here {
                return Err(MstError::Malformed);
            }
            self.last = Some(at);
            if let Some(right) = entry.kept.right {
                let layer = layer_here.checked_sub(1).ok_or(MstError::Malformed)?;
                self.tree.entries[index(at)].right_node = self.read_subtree(right, layer)?;
            }
        }
        Ok(self.add(node))
    }

    /// Parses a block into the lists; what is below it is not looked at.
    fn read_entries(&mut self, block: usize) -> Result<Node<'a>, MstError> {
        let tree = &mut self.tree;
        let mut reader = NodeReader::new(self.blocks.at(block))?;
        let first = number(tree.entries.len())?;
        let mut previous = 0..0;
        while let Some(entry) = reader.next_entry()? {
            let prefix = usize::try_from(entry.prefix).map_err(|_| MstError::Malformed)?;
            if prefix > previous.len() {
                return Err(MstError::Malformed);
            }
            // The prefix is exact if the keys differ right after it.
            let after_prefix = tree.keys[previous.clone()].get(prefix);
            if after_prefix.is_some() && after_prefix == entry.suffix.first() {
                return Err(MstError::Malformed);
            }
            let key_bytes = prefix + entry.suffix.len();
            let start = tree.keys.len();
            let is_full = tree.entries.len() >= TREE_ENTRIES_MAX;
            if is_full || key_bytes > KEY_BYTES_MAX || start + key_bytes > TREE_KEY_BYTES_MAX {
                return Err(MstError::TooLarge);
            }
            tree.keys.extend_from_within(previous.start..previous.start + prefix);
            tree.keys.extend_from_slice(entry.suffix);
            let end = tree.keys.len();
            previous = start..end;
            tree.entries.push(Entry {
                key_start: number(start)?,
                key_end: number(end)?,
                kept: KeptEntry {
                    encoded: entry.encoded,
                    prefix,
                    value: entry.value,
                    right: entry.right,
                },
                right_node: None,
            });
        }
        let left = reader.left()?.map(|digest| Subtree { digest, node: None });
        Ok(Node { left, first, end: number(tree.entries.len())? })
    }

    fn add(&mut self, node: Node<'a>) -> NodeId {
        self.tree.nodes.push(node);
        NodeId(u32::try_from(self.tree.nodes.len() - 1).expect("fewer nodes than blocks"))
    }
}

fn record<'a>(entry: &Entry<'a>) -> Link<'a> {
    let (link, _) = Link::read(entry.kept.value).expect("it was read with its node");
    link
}

/// A place in one of the lists. Blocks are limited in bytes, but not here: what does not fit is
/// too large, not a panic.
fn number(length: usize) -> Result<u32, MstError> {
    u32::try_from(length).map_err(|_| MstError::TooLarge)
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit into a usize")
}

/// Room that is kept from one tree to the next, for any honest commit: 1.3 MiB in all, and
/// much less if none was large.
pub(super) const ROOM_ITEMS_MAX: usize = 16_384;
const ROOM_KEY_BYTES_MAX: usize = 512 * 1024;
/// Room for what most commits hold (8 KiB in all), so that each list is allocated once.
const NODES_RESERVED: usize = 16;
const ENTRIES_RESERVED: usize = 48;
const KEY_BYTES_RESERVED: usize = 2048;
