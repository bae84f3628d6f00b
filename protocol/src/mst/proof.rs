//! The node blocks that go with a commit.

use super::Tree;
use super::tree::TreeNode;
use crate::cid::Cid;

impl Tree {
    /// The node blocks that the reference PDS sends with a commit of these paths, on the tree
    /// after the commit: those on the way to each path and to its left and right neighbours.
    //
    // "the proof chain for … each record path … in addition, the MST nodes necessary to invert the
    // operations" (atproto.com/specs/sync): where a record was created, its two neighbours' nodes
    // must merge; where one was deleted, the nodes on the way to it must split.
    pub fn proof(&mut self, paths: &[&str]) -> Vec<(Cid, Vec<u8>)> {
        self.root();
        let Some(root) = &self.root else {
            return self.blocks();
        };
        let mut targets: Vec<&str> = Vec::with_capacity(paths.len() * 3);
        for path in paths {
            targets.push(path);
            targets.extend(before(root, path));
            targets.extend(after(root, path));
        }
        targets.sort_unstable();
        targets.dedup();
        let mut blocks = Vec::new();
        collect(root, &targets, &mut blocks);
        blocks
    }

    /// The node blocks on the way to a path, root first: they prove that a record is there, or
    /// that it is not.
    pub fn way(&mut self, path: &str) -> Vec<(Cid, Vec<u8>)> {
        self.root();
        let Some(root) = &self.root else {
            return self.blocks();
        };
        let mut blocks = Vec::new();
        collect(root, &[path], &mut blocks);
        blocks
    }
}

/// The greatest key below a path.
fn before<'t>(mut node: &'t TreeNode, path: &str) -> Option<&'t str> {
    let mut found = None;
    loop {
        let (Ok(at) | Err(at)) = node.find(path);
        found = at.checked_sub(1).map(|at| node.entries[at].key.as_ref()).or(found);
        match node.gap(at) {
            Some(below) => node = below,
            None => return found,
        }
    }
}

/// The smallest key above a path.
fn after<'t>(mut node: &'t TreeNode, path: &str) -> Option<&'t str> {
    let mut found = None;
    loop {
        let at = node.entries.partition_point(|entry| entry.key.as_ref() <= path);
        found = node.entries.get(at).map(|entry| entry.key.as_ref()).or(found);
        match node.gap(at) {
            Some(below) => node = below,
            None => return found,
        }
    }
}

/// The blocks on the way to sorted targets, the upper first.
fn collect(node: &TreeNode, mut targets: &[&str], blocks: &mut Vec<(Cid, Vec<u8>)>) {
    blocks.push(node.block());
    for at in 0..=node.entries.len() {
        let key = node.entries.get(at).map(|entry| entry.key.as_ref());
        let in_gap = key.map_or(targets.len(), |key| targets.partition_point(|path| *path < key));
        let (gap, rest) = targets.split_at(in_gap);
        if !gap.is_empty()
            && let Some(below) = node.gap(at)
        {
            collect(below, gap, blocks);
        }
        let is_here = rest.first().is_some_and(|path| Some(*path) == key);
        targets = &rest[usize::from(is_here)..];
    }
}
