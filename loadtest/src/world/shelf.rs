//! What a repo holds, shared: the world writes it, and the account's host answers from it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use protocol::cid::Cid;
use protocol::mst::Tree;

use super::repo::Head;
use crate::wire::Block;

/// A repo's tree, records and newest commit. Clones are the same shelf; [`Shelf::copied`] is
/// another one.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Content>>);

#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) tree: Tree,
    /// By path: two records may be the same bytes, and so one block.
    records: HashMap<String, Vec<u8>>,
    pub(super) head: Option<Head>,
}

impl Shelf {
    /// The newest commit.
    pub fn head(&self) -> Option<Head> {
        self.content().head.clone()
    }

    /// The CID of every record by its path.
    pub fn records(&self) -> BTreeMap<String, Cid> {
        let content = self.content();
        content.records.iter().map(|(path, it)| (path.clone(), Cid::of_cbor(it))).collect()
    }

    /// What proves that a record is there, or that it is not: the commit, the nodes on the way to
    /// its path, and the record. `None` without a commit.
    pub fn proof(&self, path: &str) -> Option<(Cid, Vec<Block>)> {
        let mut content = self.content();
        let (root, commit) = content.commit()?;
        let mut blocks = vec![commit];
        blocks.extend(content.tree.way(path).into_iter().map(named));
        blocks.extend(content.records.get(path).cloned().map(Block::of_cbor));
        Some((root, blocks))
    }

    /// Everything. As with the reference PDS, whose newest blocks come first in no other order,
    /// the commit is near the beginning but not the first. `None` without a commit.
    pub fn export(&self) -> Option<(Cid, Vec<Block>)> {
        let mut content = self.content();
        let (root, commit) = content.commit()?;
        let mut blocks: Vec<Block> = content.tree.blocks().into_iter().map(named).collect();
        blocks.insert(1, commit);
        blocks.extend(content.records.values().cloned().map(Block::of_cbor));
        Some((root, blocks))
    }

    /// Blocks by their CIDs as text, in this order, or those that are not here.
    pub fn blocks(&self, cids: &[String]) -> Result<Vec<Block>, Vec<String>> {
        let all = self.export().map(|(_, blocks)| blocks).unwrap_or_default();
        let text = |block: &Block| Cid::of_cbor(&block.bytes).to_string();
        let known: HashMap<String, Block> = all.into_iter().map(|it| (text(&it), it)).collect();
        let missing: Vec<String> =
            cids.iter().filter(|cid| !known.contains_key(*cid)).cloned().collect();
        match missing.is_empty() {
            true => Ok(cids.iter().map(|cid| known[cid].clone()).collect()),
            false => Err(missing),
        }
    }

    /// Another shelf of the same content.
    pub(super) fn copied(&self) -> Self {
        Self(Arc::new(Mutex::new(self.content().clone())))
    }

    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("nothing panics while it holds a shelf")
    }
}

impl Content {
    /// Puts a record; whether none was there.
    pub(super) fn put(&mut self, path: &str, record: &[u8]) -> bool {
        self.records.insert(path.to_owned(), record.to_vec());
        self.tree.insert(path, Cid::of_cbor(record)).is_none()
    }

    /// Takes a record out.
    pub(super) fn take(&mut self, path: &str) {
        self.records.remove(path);
        self.tree.remove(path);
    }

    fn commit(&self) -> Option<(Cid, Block)> {
        let head = self.head.as_ref()?;
        Some((head.commit, Block::of_cbor(head.block.clone())))
    }
}

impl PartialEq for Shelf {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shelf {}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

fn named((cid, bytes): (Cid, Vec<u8>)) -> Block {
    Block { cid: cid.to_bytes().to_vec(), bytes }
}
