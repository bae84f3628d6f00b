//! Repos: records in a tree, and commits with their Sync 1.1 proofs as the reference PDS sends.

use std::slice::from_ref;

use protocol::cid::Cid;
use protocol::commit;
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::SigningKey;
use protocol::tid::Tid;

use super::account::datetime;
use super::shelf::Shelf;
use crate::wire::{Block, Frame, Value, car};

/// One account's repo, and the right to write it.
#[derive(Default)]
pub struct Repo {
    shelf: Shelf,
    /// The paths on the shelf, in no order, for drawing one.
    paths: Vec<String>,
    /// As on the shelf.
    head: Option<Head>,
}

/// The newest commit of a repo.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its revision.
    pub rev: Tid,
    /// The root of its tree.
    pub data: Cid,
    /// Its CID.
    pub commit: Cid,
    /// Its block.
    pub block: Vec<u8>,
}

/// One write, as `applyWrites` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A record where none is.
    Create(String, Vec<u8>),
    /// A record where one is.
    Update(String, Vec<u8>),
    /// No record where one is.
    Delete(String),
}

/// A commit in parts.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The account.
    pub did: Did,
    /// Its revision.
    pub rev: Tid,
    /// When it was made.
    pub time: Micros,
    /// The commit before.
    pub before: Option<Head>,
    /// The root of its tree.
    pub data: Cid,
    /// CID of its block.
    pub cid: Cid,
    /// Its block.
    pub block: Vec<u8>,
    /// What was written, in order.
    pub ops: Vec<Op>,
    /// The records that it leaves behind.
    pub records: Vec<Block>,
    /// The nodes of its proof, root first.
    pub nodes: Vec<Block>,
}

/// One op of a commit, as the reference PDS fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// `create`, `update` or `delete`.
    pub action: &'static str,
    /// `collection/rkey`.
    pub path: String,
    /// The record after.
    pub cid: Option<Cid>,
    /// The record before the whole commit, whatever the action and the ops before it.
    pub prev: Option<Cid>,
}

impl Repo {
    /// The newest commit.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// What it holds, for its host to answer from: it changes with each write.
    pub fn shelf(&self) -> Shelf {
        self.shelf.clone()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path with this index, in no order.
    pub(super) fn path(&self, index: usize) -> &str {
        &self.paths[index]
    }

    /// All paths, in no order.
    pub(super) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Whether there is a record.
    pub(super) fn holds(&self, path: &str) -> bool {
        self.shelf.content().tree.get(path).is_some()
    }

    /// Puts a record in without a commit: history that nobody was sent.
    pub(super) fn seed(&mut self, path: String, record: &[u8]) {
        let is_new = self.shelf.content().put(&path, record);
        if is_new {
            self.paths.push(path);
        }
    }

    /// Commits what is there without a frame: the last commit that nobody was sent.
    pub(super) fn seal(&mut self, did: &Did, key: &SigningKey, time: Micros) {
        let data = self.shelf.content().tree.root();
        let rev = Tid::from_micros(time, CLOCK_ID);
        let block = commit::sign(did, rev, &data, key);
        self.set_head(Head { rev, data, commit: Cid::of_cbor(&block), block });
    }

    /// Writes and commits. The revision is `time`, which must be later than the last one.
    pub(super) fn commit(
        &mut self,
        did: &Did,
        key: &SigningKey,
        time: Micros,
        writes: &[Write],
    ) -> Commit {
        let ops = self.ops(writes);
        for write in writes {
            self.apply(write);
        }
        let data = self.shelf.content().tree.root();
        let rev = Tid::from_micros(time, CLOCK_ID);
        let block = commit::sign(did, rev, &data, key);
        let cid = Cid::of_cbor(&block);
        let before = self.set_head(Head { rev, data, commit: cid, block: block.clone() });
        let is_first = before.is_none();
        let nodes = if is_first {
            self.shelf.content().tree.blocks()
        } else if writes.is_empty() {
            // The reference PDS sends nothing but the commit block when nothing was written.
            Vec::new()
        } else {
            self.shelf.content().tree.proof(&touched(&ops))
        };
        Commit {
            did: did.clone(),
            rev,
            time,
            before,
            data,
            cid,
            block,
            records: self.records_left(writes),
            ops,
            nodes: nodes.into_iter().map(named).collect(),
        }
    }

    /// `#sync` of the newest commit.
    pub(super) fn sync_frame(&self, did: &Did, time: Micros) -> Option<Frame> {
        let head = self.head.as_ref()?;
        let block = Block::of_cbor(head.block.clone());
        let payload = Value::Map(vec![
            ("did", Value::text(did)),
            ("rev", Value::text(head.rev)),
            ("seq", Value::Seq),
            ("time", datetime(time)),
            ("blocks", Value::Bytes(car(from_ref(&block.cid), from_ref(&block)))),
        ]);
        Some(Frame::event("#sync", &payload))
    }

    /// The head before.
    fn set_head(&mut self, head: Head) -> Option<Head> {
        self.shelf.content().head = Some(head.clone());
        self.head.replace(head)
    }

    /// The ops of these writes. As the reference PDS does, `prev` is looked up in the state
    /// before the commit, for every write.
    fn ops(&self, writes: &[Write]) -> Vec<Op> {
        let content = self.shelf.content();
        let op = |write: &Write| {
            let (action, path, cid) = match write {
                Write::Create(path, record) => ("create", path, Some(Cid::of_cbor(record))),
                Write::Update(path, record) => ("update", path, Some(Cid::of_cbor(record))),
                Write::Delete(path) => ("delete", path, None),
            };
            Op { action, path: path.clone(), cid, prev: content.tree.get(path) }
        };
        writes.iter().map(op).collect()
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Create(path, record) | Write::Update(path, record) => {
                let is_new = self.shelf.content().put(path, record);
                if is_new {
                    self.paths.push(path.clone());
                }
            }
            Write::Delete(path) => {
                self.shelf.content().take(path);
                if let Some(index) = self.paths.iter().position(|known| known == path) {
                    self.paths.swap_remove(index);
                }
            }
        }
    }

    /// The written records that are in the tree after all writes: the reference PDS sends no
    /// block of a record that a later write of the same commit replaced.
    fn records_left(&self, writes: &[Write]) -> Vec<Block> {
        let content = self.shelf.content();
        let mut blocks: Vec<Block> = Vec::with_capacity(writes.len());
        for write in writes {
            let (Write::Create(path, record) | Write::Update(path, record)) = write else {
                continue;
            };
            let cid = Cid::of_cbor(record);
            let block = named((cid, record.clone()));
            if content.tree.get(path) == Some(cid) && !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        blocks
    }
}

impl Clone for Repo {
    /// A repo of its own: what is written to one is not in the other.
    fn clone(&self) -> Self {
        Self { shelf: self.shelf.copied(), paths: self.paths.clone(), head: self.head.clone() }
    }
}

impl Write {
    /// What it writes to.
    pub fn path(&self) -> &str {
        match self {
            Self::Create(path, _) | Self::Update(path, _) | Self::Delete(path) => path,
        }
    }
}

impl Commit {
    /// Its envelope and CAR, every part still open to change.
    pub fn draft(&self) -> Draft {
        let mut fields = vec![
            ("ops", Value::List(self.ops.iter().map(Op::value).collect())),
            ("rev", Value::text(self.rev)),
            ("seq", Value::Seq),
            ("repo", Value::text(&self.did)),
            ("time", datetime(self.time)),
            ("blobs", Value::List(Vec::new())),
            ("since", self.before.as_ref().map_or(Value::Null, |head| Value::text(head.rev))),
            ("commit", Value::link(self.cid)),
            ("rebase", Value::Bool(false)),
            ("tooBig", Value::Bool(false)),
        ];
        // As the reference PDS does: an account's first commit has no `prevData` at all.
        if let Some(before) = &self.before {
            fields.push(("prevData", Value::link(before.data)));
        }
        let roots = vec![self.cid.to_bytes().to_vec()];
        Draft { fields, roots, blocks: self.blocks(), has_blocks: true }
    }

    /// The blocks in the order of the reference PDS, in which the commit is not the first: new
    /// nodes, records, the commit, nodes beside the changes.
    fn blocks(&self) -> Vec<Block> {
        let (new, beside) = self.nodes.split_at(self.nodes.len().min(1));
        let commit = named((self.cid, self.block.clone()));
        [new, &self.records, &[commit], beside].concat()
    }
}

impl Op {
    /// As it stands in a commit's `ops`.
    pub fn value(&self) -> Value {
        let mut fields = vec![
            ("action", Value::from(self.action)),
            ("path", Value::Text(self.path.clone())),
            ("cid", self.cid.map_or(Value::Null, Value::link)),
        ];
        if let Some(prev) = self.prev {
            fields.push(("prev", Value::link(prev)));
        }
        Value::Map(fields)
    }
}

/// A `#commit` about to be a frame, in which anything can be bent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The payload but for `blocks`.
    pub fields: Vec<(&'static str, Value)>,
    /// The roots of the CAR.
    pub roots: Vec<Vec<u8>>,
    /// The blocks of the CAR.
    pub blocks: Vec<Block>,
    /// Whether the payload has `blocks`.
    pub has_blocks: bool,
}

impl Draft {
    /// Sets a field, or adds it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        match self.fields.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name, value)),
        }
        self
    }

    /// Takes a field out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(key, _)| *key != name);
        self
    }

    /// Takes `blocks` out.
    #[must_use]
    pub fn without_blocks(mut self) -> Self {
        self.has_blocks = false;
        self
    }

    /// Changes the blocks.
    #[must_use]
    pub fn with_blocks(mut self, change: impl FnOnce(&mut Vec<Block>)) -> Self {
        change(&mut self.blocks);
        self
    }

    /// Its payload.
    pub fn payload(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.fields.clone();
        if self.has_blocks && !fields.iter().any(|(key, _)| *key == "blocks") {
            fields.push(("blocks", Value::Bytes(car(&self.roots, &self.blocks))));
        }
        fields
    }

    /// The frame.
    pub fn frame(&self) -> Frame {
        Frame::event("#commit", &Value::Map(self.payload()))
    }
}

fn named((cid, bytes): (Cid, Vec<u8>)) -> Block {
    Block { cid: cid.to_bytes().to_vec(), bytes }
}

/// The distinct paths of these ops.
fn touched(ops: &[Op]) -> Vec<&str> {
    let mut paths: Vec<&str> = ops.iter().map(|op| op.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// All hosts of this world use one clock id, as every process of the reference PDS has one.
pub(super) const CLOCK_ID: u16 = 7;
