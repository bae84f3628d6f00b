//! A whole tree in memory, changed key by key.

use super::node::NodeWriter;
use super::{EMPTY_ROOT, layer};
use crate::cid::Cid;
use crate::sha256::Digest32;

/// A whole tree in memory, for the simulated network and as the builder in tests.
///
/// It is changed in place, by splitting and merging nodes as the classical algorithms do; the
/// inversion of [`super::PartialTree`] works another way, so that each is a check on the other.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub(super) root: Option<Box<TreeNode>>,
    len: usize,
}

/// A node. Invariants: it has an entry or something to its left; what is below it is one layer
/// below it; the root has an entry.
#[derive(Clone, Debug, Default)]
pub(super) struct TreeNode {
    layer: u32,
    pub(super) left: Option<Box<Self>>,
    pub(super) entries: Vec<TreeEntry>,
    /// Its digest, until something in it or below it changes.
    digest: Option<Digest32>,
}

#[derive(Clone, Debug)]
pub(super) struct TreeEntry {
    pub(super) key: Box<str>,
    value: Cid,
    pub(super) right: Option<Box<TreeNode>>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record at a path.
    pub fn get(&self, path: &str) -> Option<Cid> {
        let mut node = self.root.as_deref();
        while let Some(here) = node {
            match here.find(path) {
                Ok(at) => return Some(here.entries[at].value),
                Err(at) => node = here.gap(at).as_deref(),
            }
        }
        None
    }

    /// Puts a record; what was there before.
    pub fn insert(&mut self, path: &str, record: Cid) -> Option<Cid> {
        let entry = TreeEntry { key: path.into(), value: record, right: None };
        let layer = layer(path.as_bytes());
        let root_layer = self.root.as_ref().map_or(0, |root| root.layer);
        let before = insert(&mut self.root, root_layer.max(layer), entry, layer);
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes a record; what was there.
    pub fn remove(&mut self, path: &str) -> Option<Cid> {
        let before = remove(&mut self.root, path)?;
        self.len -= 1;
        // "any empty nodes at the top … are trimmed" (atproto.com/specs/repository).
        while let Some(root) = &mut self.root
            && root.entries.is_empty()
        {
            self.root = root.left.take();
        }
        Some(before)
    }

    /// Its root. Cheap when little changed since the last call.
    pub fn root(&mut self) -> Cid {
        let mut block = Vec::new();
        self.root.as_mut().map_or(EMPTY_ROOT, |root| Cid::cbor(root.digest(&mut block)))
    }

    /// All node blocks, root first.
    pub fn blocks(&mut self) -> Vec<(Cid, Vec<u8>)> {
        self.root();
        let Some(root) = &self.root else {
            return vec![empty_block()];
        };
        let mut blocks = Vec::new();
        collect(root, &mut blocks);
        blocks
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TreeNode {
    /// Its digest, of all nodes below it too; those known are not computed again.
    // All functions here recurse by layers, of which honest keys have some twenty.
    fn digest(&mut self, block: &mut Vec<u8>) -> Digest32 {
        if let Some(digest) = self.digest {
            return digest;
        }
        let below = self.entries.iter_mut().map(|entry| &mut entry.right);
        for subtree in std::iter::once(&mut self.left).chain(below).flatten() {
            subtree.digest(block);
        }
        let digest = self.encode(block);
        self.digest = Some(digest);
        digest
    }

    /// Writes its block; the digests of what is below it must be known.
    fn encode(&self, block: &mut Vec<u8>) -> Digest32 {
        fn known(subtree: &Option<Box<TreeNode>>) -> Option<&Digest32> {
            let subtree = subtree.as_ref()?;
            Some(subtree.digest.as_ref().expect("digests are computed bottom up"))
        }
        let mut writer = NodeWriter::new(block, self.entries.len());
        for entry in &self.entries {
            writer.entry(entry.key.as_bytes(), &entry.value.to_bytes(), known(&entry.right));
        }
        writer.finish(known(&self.left))
    }

    /// Its block, once digests are known.
    pub(super) fn block(&self) -> (Cid, Vec<u8>) {
        let mut block = Vec::new();
        let digest = self.encode(&mut block);
        (Cid::cbor(digest), block)
    }

    /// Where a key is among its entries, or before which of them it would be.
    pub(super) fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key.as_ref().cmp(key))
    }

    /// The subtree before the entry at a position.
    pub(super) fn gap(&self, at: usize) -> &Option<Box<Self>> {
        match at.checked_sub(1) {
            None => &self.left,
            Some(before) => &self.entries[before].right,
        }
    }

    fn gap_mut(&mut self, at: usize) -> &mut Option<Box<Self>> {
        match at.checked_sub(1) {
            None => &mut self.left,
            Some(before) => &mut self.entries[before].right,
        }
    }

    /// `None` if there is nothing in it.
    fn unless_empty(self) -> Option<Box<Self>> {
        (!self.entries.is_empty() || self.left.is_some()).then(|| Box::new(self))
    }
}

/// The block of the tree without records.
fn empty_block() -> (Cid, Vec<u8>) {
    TreeNode::default().block()
}

fn collect(node: &TreeNode, blocks: &mut Vec<(Cid, Vec<u8>)>) {
    blocks.push(node.block());
    let below = node.entries.iter().map(|entry| &entry.right);
    for subtree in std::iter::once(&node.left).chain(below).flatten() {
        collect(subtree, blocks);
    }
}

/// Puts an entry of layer `layer` into what is below a node of layer `layer_here` + 1 (or is the
/// root, which may be of a lower layer than `layer_here`).
fn insert(
    place: &mut Option<Box<TreeNode>>,
    layer_here: u32,
    mut entry: TreeEntry,
    layer: u32,
) -> Option<Cid> {
    raise(place, layer_here);
    let node = place
        .get_or_insert_with(|| Box::new(TreeNode { layer: layer_here, ..TreeNode::default() }));
    node.digest = None;
    if layer < layer_here {
        let Err(at) = node.find(&entry.key) else {
            unreachable!("one key has one layer");
        };
        return insert(node.gap_mut(at), layer_here - 1, entry, layer);
    }
    match node.find(&entry.key) {
        Ok(at) => Some(std::mem::replace(&mut node.entries[at].value, entry.value)),
        Err(at) => {
            let gap = node.gap_mut(at);
            let (left, right) = gap.take().map_or((None, None), |below| split(*below, &entry.key));
            *gap = left;
            entry.right = right;
            node.entries.insert(at, entry);
            None
        }
    }
}

/// Puts nodes without entries above a root until it is at this layer.
fn raise(place: &mut Option<Box<TreeNode>>, layer_here: u32) {
    while let Some(node) = place.take_if(|node| node.layer < layer_here) {
        let layer = node.layer + 1;
        *place = Some(Box::new(TreeNode { layer, left: Some(node), ..TreeNode::default() }));
    }
}

/// What of a subtree comes before a key that is not in it, and what after.
fn split(mut node: TreeNode, key: &str) -> (Option<Box<TreeNode>>, Option<Box<TreeNode>>) {
    let (Ok(at) | Err(at)) = node.find(key);
    let after = node.entries.split_off(at);
    let gap = node.gap_mut(at).take();
    let (left, right) = gap.map_or((None, None), |below| split(*below, key));
    *node.gap_mut(at) = left;
    node.digest = None;
    let after = TreeNode { layer: node.layer, left: right, entries: after, digest: None };
    (node.unless_empty(), after.unless_empty())
}

fn remove(place: &mut Option<Box<TreeNode>>, key: &str) -> Option<Cid> {
    let node = place.as_mut()?;
    let removed = match node.find(key) {
        Err(at) => remove(node.gap_mut(at), key)?,
        Ok(at) => {
            let entry = node.entries.remove(at);
            let gap = node.gap_mut(at);
            *gap = merge(gap.take(), entry.right);
            entry.value
        }
    };
    node.digest = None;
    if node.entries.is_empty() && node.left.is_none() {
        *place = None;
    }
    Some(removed)
}

/// One subtree of two neighbours of the same layer.
fn merge(left: Option<Box<TreeNode>>, right: Option<Box<TreeNode>>) -> Option<Box<TreeNode>> {
    let (mut left, mut right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return left.or(right),
    };
    let seam = left.gap_mut(left.entries.len());
    *seam = merge(seam.take(), right.left.take());
    left.entries.append(&mut right.entries);
    left.digest = None;
    Some(left)
}
