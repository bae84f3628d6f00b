//! Inversion: the root that a tree had before a commit's changes.
//!
//! The tree before is built from what it held: its keys and, in place of what no change touches,
//! whole subtrees by their digest. Three steps:
//!
//! 1. Walk down to the changes, listing keys and untouched subtrees in order, with every change
//!    undone on the way.
//! 2. While listing, keep the list such that a subtree stands only where the tree before has it: a
//!    subtree whose root is at layer n, between keys of layers above n. One that stands next to
//!    another subtree, or to a key that is not above it, is replaced by what is in it. That is
//!    where nodes split and merge; if the node is absent, the proof is incomplete.
//! 3. Build nodes from the list, bottom up.

use std::mem;

use super::node::{KeptEntry, NodeWriter};
use super::partial::{NodeId, PartialTree, ROOM_ITEMS_MAX, Subtree};
use super::{Change, EMPTY_ROOT, MstError, layer};
use crate::cid::Cid;
use crate::recycle::recycle;
use crate::sha256::Digest32;

/// What an inversion is computed in, to be used again.
#[derive(Debug, Default)]
pub struct InversionRoom {
    items: Vec<Item<'static>>,
    pending: Vec<Item<'static>>,
    builder: Builder,
}

impl PartialTree<'_> {
    /// Undoes the changes (paths distinct) and returns the root of the tree before. The tree
    /// must hold every `new` (checked with [`PartialTree::get`] by the caller; else it is
    /// [`MstError::Malformed`]). [`MstError::Missing`]: the proof is incomplete.
    pub fn invert(&self, changes: &[Change<'_>]) -> Result<Cid, MstError> {
        self.invert_in(&mut InversionRoom::default(), changes)
    }

    /// As [`PartialTree::invert`], in room that is used again.
    pub fn invert_in(
        &self,
        room: &mut InversionRoom,
        changes: &[Change<'_>],
    ) -> Result<Cid, MstError> {
        let is_in_order = changes.is_sorted_by(|a, b| a.path < b.path);
        if is_in_order && changes.iter().all(Change::is_effective) {
            return self.invert_sorted(room, changes);
        }
        let mut sorted: Vec<Change<'_>> =
            changes.iter().filter(|change| change.is_effective()).copied().collect();
        sorted.sort_unstable_by_key(|change| change.path);
        self.invert_sorted(room, &sorted)
    }

    fn invert_sorted(
        &self,
        room: &mut InversionRoom,
        changes: &[Change<'_>],
    ) -> Result<Cid, MstError> {
        if changes.is_empty() {
            return Ok(Cid::cbor(self.root));
        }
        let mut listing = Listing {
            tree: self,
            items: mem::take(&mut room.items),
            pending: mem::take(&mut room.pending),
        };
        listing.items.reserve(self.entries.len() + changes.len());
        let listed = listing
            .walk(self.root_node, self.root_layer, changes)
            .and_then(|()| listing.trim_top());
        let Listing { mut items, pending, .. } = listing;
        let root = listed.and_then(|()| room.builder.root(&mut items, self.nodes_read()));
        room.items = recycle(items, ROOM_ITEMS_MAX);
        room.pending = recycle(pending, ROOM_ITEMS_MAX);
        room.builder.trim();
        root
    }
}

impl Change<'_> {
    /// Whether it changes anything.
    fn is_effective(&self) -> bool {
        self.old != self.new
    }
}

/// A part of the tree before.
#[derive(Clone, Copy, Debug)]
enum Item<'t> {
    /// A key with the layer that its node has.
    Key { key: &'t [u8], layer: u32, value: Value<'t>, below: Below<'t> },
    /// A subtree with its root at this layer, no key of which changes.
    Subtree { subtree: Subtree<'t>, layer: u32 },
}

#[derive(Clone, Copy, Debug)]
enum Value<'t> {
    /// As it stands in its node.
    Kept(&'t KeptEntry<'t>),
    /// What a change says was there.
    Old(&'t Cid),
}

/// What building finds out about a key.
#[derive(Clone, Copy, Debug, Default)]
struct Below<'t> {
    /// The subtree after it.
    right: Built<'t>,
    /// The next key of its node.
    next: usize,
}

impl Item<'_> {
    fn key_layer(&self) -> Option<u32> {
        match self {
            Self::Key { layer, .. } => Some(*layer),
            Self::Subtree { .. } => None,
        }
    }
}

/// A subtree of the tree before.
#[derive(Clone, Copy, Debug, Default)]
enum Built<'t> {
    #[default]
    Nothing,
    /// One that is in the tree after, too.
    Kept(&'t Digest32),
    /// The digest at this place of [`Builder::built`].
    Anew(usize),
}

struct Listing<'t, 'a> {
    tree: &'t PartialTree<'a>,
    items: Vec<Item<'t>>,
    /// Items that come next, the last first. Empty between two pushes.
    pending: Vec<Item<'t>>,
}

impl<'t> Listing<'t, '_> {
    /// Lists a subtree with its changes undone.
    // Recurses by layers, of which the tree was read with LAYERS_MAX at most.
    fn walk(
        &mut self,
        node: NodeId,
        layer_here: u32,
        mut changes: &'t [Change<'t>],
    ) -> Result<(), MstError> {
        let tree = self.tree;
        let node = tree.node(node);
        let mut before = node.left;
        for entry in tree.entries(node) {
            let key = tree.key(entry);
            let in_gap = changes.partition_point(|change| change.path.as_bytes() < key);
            let (gap, rest) = changes.split_at(in_gap);
            self.walk_gap(before, layer_here, gap)?;
            changes = rest;
            let mut value = Some(Value::Kept(&entry.kept));
            if let Some((change, rest)) = changes.split_first()
                && change.path.as_bytes() == key
            {
                changes = rest;
                let new = change.new.ok_or(MstError::Malformed)?;
                if entry.kept.value != new.to_bytes() {
                    return Err(MstError::Malformed);
                }
                value = change.old.as_ref().map(Value::Old);
            }
            if let Some(value) = value {
                self.push(Item::Key { key, layer: layer_here, value, below: Below::default() })?;
            }
            before = entry.right();
        }
        self.walk_gap(before, layer_here, changes)
    }

    /// Lists what is between two keys of a node: a subtree or nothing, and the changes that fall
    /// there.
    fn walk_gap(
        &mut self,
        subtree: Option<Subtree<'t>>,
        layer_above: u32,
        changes: &'t [Change<'t>],
    ) -> Result<(), MstError> {
        match subtree {
            Some(subtree) => {
                let layer = layer_above.checked_sub(1).ok_or(MstError::Malformed)?;
                if changes.is_empty() {
                    self.push(Item::Subtree { subtree, layer })
                } else {
                    self.walk(subtree.node.ok_or(MstError::Missing)?, layer, changes)
                }
            }
            None => changes.iter().try_for_each(|change| {
                let is_deleted = change.new.is_none();
                let old = change.old.as_ref().filter(|_| is_deleted).ok_or(MstError::Malformed)?;
                let key = change.path.as_bytes();
                let value = Value::Old(old);
                self.push(Item::Key { key, layer: layer(key), value, below: Below::default() })
            }),
        }
    }

    /// Adds an item, opening the subtrees that cannot stand where they would.
    // Ends: a node is opened once, and its parts are below it.
    fn push(&mut self, mut item: Item<'t>) -> Result<(), MstError> {
        loop {
            match (self.items.last(), &item) {
                (Some(&Item::Subtree { subtree, layer }), Item::Key { layer: key, .. })
                    if layer >= *key =>
                {
                    self.items.pop();
                    self.pending.push(item);
                    self.open(subtree, layer)?;
                }
                (Some(Item::Key { layer: key, .. }), &Item::Subtree { subtree, layer })
                    if layer >= *key =>
                {
                    self.open(subtree, layer)?;
                }
                (
                    Some(&Item::Subtree { subtree: left, layer: left_layer }),
                    &Item::Subtree { subtree: right, layer: right_layer },
                ) => {
                    // The higher one; of two at one layer the left, and then the right, as it
                    // stands next to a key of its own layer or to a lower subtree.
                    if left_layer >= right_layer {
                        self.items.pop();
                        self.pending.push(item);
                        self.open(left, left_layer)?;
                    } else {
                        self.open(right, right_layer)?;
                    }
                }
                _ => self.items.push(item),
            }
            match self.pending.pop() {
                Some(next) => item = next,
                None => return Ok(()),
            }
        }
    }

    /// Puts the parts of a subtree before everything that is pending.
    fn open(&mut self, subtree: Subtree<'t>, layer: u32) -> Result<(), MstError> {
        let tree = self.tree;
        let node = tree.node(subtree.node.ok_or(MstError::Missing)?);
        let below = |subtree| Item::Subtree { subtree, layer: layer.saturating_sub(1) };
        for entry in tree.entries(node).iter().rev() {
            self.pending.extend(entry.right().map(below));
            let key = tree.key(entry);
            self.pending.push(Item::Key {
                key,
                layer,
                value: Value::Kept(&entry.kept),
                below: Below::default(),
            });
        }
        self.pending.extend(node.left.map(below));
        Ok(())
    }

    /// A lone subtree is the whole tree. If its root only points down, that is not part of it.
    //
    // An absent one is taken for a root with keys: honest hosts leave it out (so did the live
    // network before Sync 1.1), and if it is not, the root is one that no tree has, and so differs
    // from any that was checked.
    fn trim_top(&mut self) -> Result<(), MstError> {
        while let [Item::Subtree { subtree, layer }] = self.items[..]
            && subtree.node.is_some()
        {
            self.items.clear();
            self.open(subtree, layer)?;
            while let Some(item) = self.pending.pop() {
                self.items.push(item);
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Builder {
    /// The digests of nodes that no block holds, in the order in which they were built.
    built: Vec<Digest32>,
    /// Scratch for a node's block.
    block: Vec<u8>,
    /// The node of each layer, from 0, that the items so far belong to.
    open: Vec<Open<'static>>,
}

/// A node that is being built: its keys are a list through the items.
#[derive(Clone, Copy, Debug, Default)]
struct Open<'t> {
    /// The subtree before its keys.
    left: Built<'t>,
    entries: usize,
    first: usize,
    last: usize,
}

impl Builder {
    /// The root of the tree of what is listed.
    fn root<'t>(&mut self, items: &mut [Item<'t>], nodes: usize) -> Result<Cid, MstError> {
        if let [Item::Subtree { subtree, .. }] = items {
            return Ok(Cid::cbor(*subtree.digest));
        }
        let Some(top) = items.iter().filter_map(Item::key_layer).max() else {
            return Ok(EMPTY_ROOT);
        };
        self.built.clear();
        self.built.reserve(nodes);
        self.block.reserve(BLOCK_BYTES_RESERVED);
        let mut open: Vec<Open<'t>> = mem::take(&mut self.open);
        open.resize(index(top) + 1, Open::default());
        for at in 0..items.len() {
            match items[at] {
                Item::Key { layer, .. } => {
                    self.close_below(&mut open[..=index(layer)], items)?;
                    open[index(layer)].add(items, at);
                }
                Item::Subtree { subtree, layer } => {
                    let node = open.get_mut(index(layer) + 1).ok_or(MstError::Malformed)?;
                    node.hang(items, Built::Kept(subtree.digest))?;
                }
            }
        }
        self.close_below(&mut open, items)?;
        let root = self.encode(items, &open[index(top)]);
        self.open = recycle(open, OPEN_KEPT_MAX);
        Ok(Cid::cbor(root))
    }

    /// Builds what is open below the last of these layers, and hangs it one below the other.
    fn close_below<'t>(
        &mut self,
        open: &mut [Open<'t>],
        items: &mut [Item<'t>],
    ) -> Result<(), MstError> {
        for at in 1..open.len() {
            let node = mem::take(&mut open[at - 1]);
            if node.is_begun() {
                let digest = self.encode(items, &node);
                self.built.push(digest);
                open[at].hang(items, Built::Anew(self.built.len() - 1))?;
            }
        }
        Ok(())
    }

    /// Gives up room of an unusual size.
    fn trim(&mut self) {
        self.built = recycle(mem::take(&mut self.built), ROOM_ITEMS_MAX);
        self.block = recycle(mem::take(&mut self.block), BLOCK_BYTES_KEPT);
    }

    /// The digest of a node; what is below it is built.
    fn encode(&mut self, items: &[Item<'_>], node: &Open<'_>) -> Digest32 {
        let mut block = mem::take(&mut self.block);
        let mut writer = NodeWriter::new(&mut block, node.entries);
        let mut at = node.first;
        for _ in 0..node.entries {
            let Item::Key { key, value, below, .. } = &items[at] else {
                unreachable!("the keys of a node are linked");
            };
            let right = self.digest(&below.right);
            match value {
                Value::Kept(kept) => writer.kept_entry(key, kept, right),
                Value::Old(cid) => writer.entry(key, &cid.to_bytes(), right),
            }
            at = below.next;
        }
        let digest = writer.finish(self.digest(&node.left));
        self.block = block;
        digest
    }

    fn digest<'s>(&'s self, subtree: &'s Built<'_>) -> Option<&'s Digest32> {
        match subtree {
            Built::Nothing => None,
            Built::Kept(digest) => Some(digest),
            Built::Anew(at) => Some(&self.built[*at]),
        }
    }
}

impl<'t> Open<'t> {
    fn is_begun(&self) -> bool {
        self.entries > 0 || !matches!(self.left, Built::Nothing)
    }

    /// The item there is its next key.
    fn add(&mut self, items: &mut [Item<'t>], at: usize) {
        if self.entries == 0 {
            self.first = at;
        } else if let Item::Key { below, .. } = &mut items[self.last] {
            below.next = at;
        }
        self.last = at;
        self.entries += 1;
    }

    /// Puts a subtree where its keys have come to. There is none yet: two neighbours were opened
    /// when they were listed.
    fn hang(&mut self, items: &mut [Item<'t>], subtree: Built<'t>) -> Result<(), MstError> {
        let place = match items.get_mut(self.last) {
            Some(Item::Key { below, .. }) if self.entries > 0 => &mut below.right,
            _ => &mut self.left,
        };
        if !matches!(place, Built::Nothing) {
            return Err(MstError::Malformed);
        }
        *place = subtree;
        Ok(())
    }
}

/// The place of a layer.
fn index(layer: u32) -> usize {
    usize::try_from(layer).expect("32 bits fit into a usize")
}

/// A layer is 128 at most.
const OPEN_KEPT_MAX: usize = 256;
/// Room for nodes of 20 entries, so that encoding most of them allocates once.
const BLOCK_BYTES_RESERVED: usize = 2048;
/// Room for a node that is kept for the next inversion.
const BLOCK_BYTES_KEPT: usize = 128 * 1024;
