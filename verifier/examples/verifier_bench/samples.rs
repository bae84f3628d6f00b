//! Commits of three shapes, signed and taken apart beforehand.

use std::collections::HashSet;

use bytes::Bytes;
use protocol::car::{self, Blocks};
use protocol::cid::Cid;
use protocol::commit::Commit;
use protocol::did::Did;
use protocol::frame::CommitFrame;
use protocol::host::{HostName, HostRules};
use protocol::keys::Curve;
use protocol::mst::Change;
use verifier::{Identity, identity};

use crate::testing::{Repo, START, Write};

/// How much a commit changes, and in how large a repo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A record in a young repo.
    Small,
    /// A record in a repo of seven layers, as the live network's median.
    Median,
    /// As many ops as a commit may have.
    Large,
}

/// A commit, and what a step of its check needs from the steps before.
pub(crate) struct Sample {
    pub(crate) did: Did,
    pub(crate) name: HostName,
    pub(crate) identity: Identity,
    pub(crate) frame: Bytes,
    pub(crate) decoded: CommitFrame<'static>,
    pub(crate) blocks: Blocks<'static>,
    pub(crate) commit_block: &'static [u8],
    pub(crate) commit: Commit<'static>,
    pub(crate) changes: Vec<Change<'static>>,
    /// What a check must hash: every block, the nodes of the tree before that this commit replaced,
    /// and every key that it is shown.
    pub(crate) hashed_blocks: Vec<Vec<u8>>,
    pub(crate) hashed_nodes: Vec<Vec<u8>>,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// One account with its frames, for the pool.
pub(crate) struct AccountFrames {
    pub(crate) repo: Repo,
    pub(crate) frames: Vec<Bytes>,
}

impl Shape {
    pub(crate) const ALL: [Self; 3] = [Self::Small, Self::Median, Self::Large];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Median => "median",
            Self::Large => "large",
        }
    }

    /// Records before the first sample.
    fn records(self) -> usize {
        match self {
            Self::Small => 40,
            Self::Median | Self::Large => OLD_RECORDS,
        }
    }

    fn samples(self) -> usize {
        match self {
            Self::Small => 400,
            Self::Median => 1_000,
            Self::Large => 20,
        }
    }
}

/// The samples of one shape, by one account each.
pub(crate) fn draw(shape: Shape, curve: Curve) -> Vec<Sample> {
    let mut repo = grown(1, curve, shape.records());
    let mut samples = Vec::with_capacity(shape.samples());
    for number in 0..shape.samples() {
        let mut before = repo.tree.clone();
        let frame = match shape {
            Shape::Small | Shape::Median => one_record(&mut repo, number),
            Shape::Large => many_records(&mut repo, number),
        };
        samples.push(take_apart(&repo, frame, &mut before));
        if shape == Shape::Small {
            // The repo stays young.
            repo.commit(&[Write::Delete(&new_path(number))]);
        }
    }
    samples
}

/// Accounts enough for every shard, with as many commits as a round has.
pub(crate) fn accounts() -> Vec<AccountFrames> {
    (1..=16)
        .map(|number| {
            let mut repo = grown(number, Curve::K256, Shape::Median.records());
            let frames = (0..100).map(|number| one_record(&mut repo, number)).collect();
            AccountFrames { repo, frames }
        })
        .collect()
}

pub(crate) fn identity_of(repo: &Repo) -> Identity {
    let document = repo.document("https://pds.example.com");
    identity::parse_document(document.as_bytes(), &repo.did, HostRules::Public, START).unwrap()
}

pub(crate) fn host_name() -> HostName {
    HostName::parse("pds.example.com", HostRules::Public).unwrap()
}

fn grown(number: u8, curve: Curve, records: usize) -> Repo {
    let mut repo = Repo::new(number, curve);
    let paths: Vec<String> = (0..records).map(old_path).collect();
    for paths in paths.chunks(200) {
        let writes: Vec<_> = paths.iter().map(|path| Write::Create(path, "old")).collect();
        repo.commit(&writes);
    }
    repo
}

fn one_record(repo: &mut Repo, number: usize) -> Bytes {
    repo.commit(&[Write::Create(&new_path(number), &words(9))]).frame(1_000_000)
}

/// 120 creates, 40 updates, 40 deletes, spread over the repo.
fn many_records(repo: &mut Repo, number: usize) -> Bytes {
    let old = |at: usize| old_path((number * 80 + at) * 149 % Shape::Large.records());
    let created: Vec<String> = (0..120).map(|at| new_path(number * 120 + at)).collect();
    let updated: Vec<String> = (0..40).map(old).collect();
    let deleted: Vec<String> = (40..80).map(old).collect();
    // No two the same, or they would be one block.
    let texts: Vec<String> = (0..160).map(|at| format!("{number}.{at}: {}", words(31))).collect();
    let writes: Vec<Write<'_>> = created
        .iter()
        .zip(&texts)
        .map(|(path, text)| Write::Create(path, text))
        .chain(updated.iter().zip(&texts[120..]).map(|(path, text)| Write::Update(path, text)))
        .chain(deleted.iter().map(|path| Write::Delete(path)))
        .collect();
    repo.commit(&writes).frame(1_000_000)
}

fn old_path(number: usize) -> String {
    format!("app.bsky.feed.post/3k{:011}", number * 7)
}

/// One that no old record has, anywhere among them.
fn new_path(number: usize) -> String {
    let place = number * 7919 % OLD_RECORDS;
    format!("app.bsky.feed.post/3k{:011}", place * 7 + 1 + number / OLD_RECORDS)
}

fn words(sentences: usize) -> String {
    "some words of the usual length, a sentence or two. ".repeat(sentences)
}

/// Frames are kept for good, so that what a step needs can be borrowed from them.
fn take_apart(repo: &Repo, frame: Bytes, before: &mut protocol::mst::Tree) -> Sample {
    let kept: &'static [u8] = Vec::leak(frame.to_vec());
    let decoded = CommitFrame::decode(kept).unwrap();
    let (_, blocks) = car::read(decoded.blocks).unwrap();
    let commit_block = blocks.get(&decoded.commit).unwrap();
    let commit = Commit::parse(commit_block).unwrap();
    let change =
        |op: &protocol::frame::Op<'static>| Change { path: op.path, old: op.prev, new: op.cid };
    let mut changes: Vec<_> = decoded.ops.iter().map(change).collect();
    changes.sort_by_key(|change| change.path);
    let shown: HashSet<Cid> = blocks.iter().map(|(cid, _)| cid).collect();
    let paths: Vec<&str> = changes.iter().map(|change| change.path).collect();
    let replaced = before.proof(&paths).into_iter().filter(|(cid, _)| !shown.contains(cid));
    let is_node = |block: &&[u8]| block.starts_with(b"\xa2\x61e");
    let nodes = blocks.iter().map(|(_, block)| block).filter(is_node);
    Sample {
        did: repo.did.clone(),
        name: host_name(),
        identity: identity_of(repo),
        frame,
        commit_block,
        commit,
        changes,
        hashed_blocks: blocks.iter().map(|(_, block)| block.to_vec()).collect(),
        hashed_nodes: replaced.map(|(_, block)| block).collect(),
        keys: nodes.flat_map(keys_of).collect(),
        decoded,
        blocks,
    }
}

/// The keys of a node, whole.
fn keys_of(block: &[u8]) -> Vec<Vec<u8>> {
    use protocol::cbor::{Reader, Rules, Value};
    let mut reader = Reader::new(block, Rules::DrislNoFloats);
    let Ok(Value::Map(mut node)) = reader.value() else { panic!("a node is a map") };
    let mut keys: Vec<Vec<u8>> = Vec::new();
    while let Some(field) = node.next_key(&mut reader).unwrap() {
        if field != "e" {
            reader.skip().unwrap();
            continue;
        }
        let Ok(Value::Array(mut entries)) = reader.value() else { panic!("e is an array") };
        while entries.next(&mut reader).unwrap() {
            let Ok(Value::Map(mut entry)) = reader.value() else { panic!("entries are maps") };
            let (mut suffix, mut prefix) = (Vec::new(), 0);
            while let Some(field) = entry.next_key(&mut reader).unwrap() {
                match field {
                    "k" => suffix = reader.bytes().unwrap().unwrap().to_vec(),
                    "p" => prefix = usize::try_from(reader.unsigned().unwrap().unwrap()).unwrap(),
                    _ => reader.skip().unwrap(),
                }
            }
            let shared = keys.last().map_or(&[][..], |key| &key[..prefix]);
            keys.push([shared, &suffix].concat());
        }
    }
    keys
}

/// The live network's median commit shows seven nodes.
const OLD_RECORDS: usize = 6_000;
