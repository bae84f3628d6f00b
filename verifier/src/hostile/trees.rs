//! Trees and CARs: as wide, deep and crowded as blocks allow, and beyond.

use protocol::car;
use protocol::cid::Cid;
use protocol::mst::{NODE_ENTRIES_MAX, TREE_ENTRIES_MAX, Tree, layer};
use protocol::reject::Reject;

use super::{Attack, commit, create, drops, fill, passes, raw, repo};
use crate::testing::{Commit, Op, Write, record, value};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        passes("20,000 entries, all on the way of 200 ops", &wide(TREE_ENTRIES_MAX, 200)),
        passes("20,000 entries, one op", &wide(TREE_ENTRIES_MAX, 1)),
        drops("2 MB of full nodes", &wide(34_000, 200), Reject::MstTooLarge),
        passes("keys of 2 MB behind small prefixes", &expanded(1_950)),
        drops("keys of 30 MB behind small prefixes", &expanded(25_000), Reject::MstTooLarge),
        passes("a chain of nodes as long as a key's layer", &chain(1, &[])),
        passes("all of 200 ops at the end of chains", &chains()),
        drops("a chain of 64 nodes", &chain_of(64), Reject::MstMalformed),
        drops("a chain of 9,000 nodes", &chain_of(9_000), Reject::MstMalformed),
        drops("one subtree 1,024 times", &shared(), Reject::MstTooLarge),
        drops("a node of 1,025 entries", &crowded(), Reject::MstTooLarge),
        drops("prefixes past their keys", &past(), Reject::MstMalformed),
        passes("as many blocks as may be", &blocks(car::SECTIONS_MAX - 4, 160)),
        drops("2 MB of tiny blocks", &blocks(49_000, 3), Reject::BlocksTooBig),
        drops("2 MB of blocks under CIDs of nothing", &identities(), Reject::BlocksTooBig),
        drops("one block 18,000 times", &repeated(), Reject::BlocksTooBig),
        drops("a CAR of 40,000 roots", &roots(), Reject::CarMalformed),
        passes("a CAR of 10,000 roots", &many_roots(10_000)),
        drops("a commit block of a million items", &commit_block(), Reject::CommitMalformed),
    ]
}

/// One entry of a node.
struct Entry<'a> {
    key: &'a [u8],
    value: Cid,
    right: Option<Cid>,
}

/// A node's block as it must be.
fn node(left: Option<Cid>, entries: &[Entry<'_>]) -> (Cid, Vec<u8>) {
    let block = value(|writer| {
        writer.map(2);
        writer.text("e");
        writer.array(entries.len());
        let mut previous: &[u8] = &[];
        for entry in entries {
            let shared = previous.iter().zip(entry.key).take_while(|(a, b)| a == b).count();
            previous = entry.key;
            writer.map(4);
            writer.text("k");
            writer.bytes(&entry.key[shared..]);
            writer.text("p");
            writer.unsigned(shared as u64);
            writer.text("t");
            subtree(writer, entry.right);
            writer.text("v");
            writer.cid(&entry.value);
        }
        writer.text("l");
        subtree(writer, left);
    });
    (Cid::of_cbor(&block), block)
}

fn subtree(writer: &mut protocol::cbor::Writer<'_>, cid: Option<Cid>) {
    match cid {
        Some(cid) => writer.cid(&cid),
        None => writer.null(),
    }
}

/// Keys in order, as short as may be: runs of layer 0, as long as a node may be, between single
/// ones of layer 1.
fn dense(count: usize, path: impl Fn(usize) -> String) -> Vec<String> {
    let mut keys = Vec::with_capacity(count);
    let mut run = 0;
    for key in (0..).map(path) {
        let wanted = if run < NODE_ENTRIES_MAX { 0 } else { 1 };
        if layer(key.as_bytes()) == wanted {
            run = if wanted == 0 { run + 1 } else { 0 };
            keys.push(key);
        }
        if keys.len() == count {
            break;
        }
    }
    keys
}

/// A number in four digits of base 36.
fn short(number: usize) -> String {
    let digit = |power: u32| {
        let digit = number / 36usize.pow(power) % 36;
        char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[digit])
    };
    (0..4).rev().map(digit).collect()
}

/// A commit whose `ops` creates are spread over the whole of a tree, all of which it shows.
fn over(keys: &[String], ops: usize) -> Commit {
    let step = keys.len() / ops;
    let small = record("small");
    let cid = Cid::of_cbor(&small);
    let written: Vec<&String> = keys.iter().skip(step / 2).step_by(step).take(ops).collect();
    let mut tree = Tree::new();
    for key in keys {
        tree.insert(key, cid);
    }
    let data = tree.root();
    let mut blocks = tree.blocks();
    for key in &written {
        tree.remove(key);
    }
    blocks.push((cid, small));
    let ops = written.iter().map(|key| create(key, cid)).collect();
    commit(data, Some(tree.root()), blocks, ops)
}

fn wide(count: usize, ops: usize) -> Commit {
    let mut commit = over(&dense(count, |at| format!("a.b.c/{}", short(at))), ops);
    fill(&mut commit);
    commit
}

/// Keys of a kilobyte that differ at their ends only. They are no paths; the op's is one.
fn expanded(count: usize) -> Commit {
    let long = "b".repeat(1_000);
    let mut keys = dense(count, |at| format!("{long}{}", short(at)));
    keys.push("z.y.x/0".to_owned());
    let mut commit = over(&keys, 1);
    let op = keys.last().unwrap();
    commit.ops = vec![create(op, commit.ops[0].cid.unwrap())];
    let mut before = Tree::new();
    for key in &keys[..count] {
        before.insert(key, commit.ops[0].cid.unwrap());
    }
    commit.prev_data = Some(before.root());
    fill(&mut commit);
    commit
}

/// A key of the highest layer that was found in a minute, one of layer 0 far below it, and the
/// nodes that only point down between them.
fn chain(ops: usize, more: &[String]) -> Commit {
    let mut keys = vec!["a.b.c/a".to_owned(), DEEP_KEY.to_owned()];
    keys.extend_from_slice(more);
    keys.sort_unstable();
    let mut commit = over(&keys, ops);
    fill(&mut commit);
    commit
}

/// Each op's key alone below the same high one: their ways down are built and taken apart again.
fn chains() -> Commit {
    let more: Vec<String> = (0..198).map(|at| format!("a.b.c/a{}", short(at * 731))).collect();
    chain(100, &more)
}

/// Below a key, nodes that only point down.
fn chain_of(length: usize) -> Commit {
    let small = record("small");
    let cid = Cid::of_cbor(&small);
    let mut blocks = vec![node(None, &[Entry { key: b"a.b.c/a", value: cid, right: None }])];
    for _ in 0..length {
        let below = blocks.last().unwrap().0;
        blocks.push(node(Some(below), &[]));
    }
    let below = blocks.last().unwrap().0;
    let top = node(Some(below), &[Entry { key: DEEP_KEY.as_bytes(), value: cid, right: None }]);
    blocks.extend([top.clone(), (cid, small)]);
    let mut commit = commit(top.0, Some(top.0), blocks, vec![create("a.b.c/a", cid)]);
    fill(&mut commit);
    commit
}

/// One node below every entry of another.
fn shared() -> Commit {
    let small = record("small");
    let cid = Cid::of_cbor(&small);
    let of_layer = |wanted: u32| {
        let keys = (0..).map(|at| format!("a.b.c/{}", short(at)));
        keys.filter(move |key| layer(key.as_bytes()) == wanted)
    };
    let keys: Vec<String> = of_layer(1).take(NODE_ENTRIES_MAX).collect();
    let inner = of_layer(0).find(|key| *key > keys[0]).unwrap();
    let below = node(None, &[Entry { key: inner.as_bytes(), value: cid, right: None }]);
    let entry = |key: &String| (key.clone(), Some(below.0));
    let entries: Vec<(String, Option<Cid>)> = keys.iter().map(entry).collect();
    let entries: Vec<Entry<'_>> = entries
        .iter()
        .map(|(key, right)| Entry { key: key.as_bytes(), value: cid, right: *right })
        .collect();
    let top = node(None, &entries);
    let ops = vec![create(&keys[0], cid)];
    let mut commit = commit(top.0, Some(top.0), vec![top, below, (cid, small)], ops);
    fill(&mut commit);
    commit
}

fn crowded() -> Commit {
    let keys = (0..).map(|at| format!("a.b.c/{}", short(at)));
    let zero: Vec<String> =
        keys.filter(|key| layer(key.as_bytes()) == 0).take(NODE_ENTRIES_MAX + 1).collect();
    let mut commit = over(&zero, 1);
    fill(&mut commit);
    commit
}

/// Every entry of a full node claims more of the key before it than there is.
fn past() -> Commit {
    let cid = raw(b"x");
    let keys: Vec<String> = dense(1_000, |at| format!("a.b.c/{}", short(at)));
    let entries: Vec<Entry<'_>> =
        keys.iter().map(|key| Entry { key: key.as_bytes(), value: cid, right: None }).collect();
    let (_, block) = node(None, &entries);
    // `p` is 9 from the second entry on.
    let at = block.windows(3).rposition(|bytes| bytes == [0x61, b'p', 9]).unwrap();
    let mut block = block;
    block.splice(at + 2..at + 3, [0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let root = Cid::of_cbor(&block);
    let mut commit = commit(root, Some(root), vec![(root, block)], vec![delete()]);
    fill(&mut commit);
    commit
}

fn delete() -> Op {
    let (action, path) = ("delete".to_owned(), "a.b.c/gone".to_owned());
    Op { action, path, cid: None, prev: Some(Cid::of_cbor(b"gone")) }
}

/// An honest commit in so many blocks.
fn blocks(count: usize, bytes: usize) -> Commit {
    let mut commit = small();
    for number in 0..count {
        let mut block = vec![0; bytes];
        block[..3].copy_from_slice(&number.to_be_bytes()[5..]);
        commit.blocks.push((raw(&block), block));
    }
    commit
}

fn small() -> Commit {
    let mut repo = repo();
    repo.commit(&[]);
    repo.commit(&[Write::Create("app.bsky.feed.post/one", "one")])
}

/// The CAR of a commit with these bytes behind it.
fn with_sections(sections: &[u8]) -> Commit {
    let mut commit = small();
    let blocks: Vec<_> = commit.blocks.iter().map(|(cid, block)| (*cid, &block[..])).collect();
    let mut car = car::write(&commit.root, &blocks);
    car.extend_from_slice(sections);
    commit.fields.push(("blocks", value(|writer| writer.bytes(&car))));
    commit
}

/// Sections of five bytes: the CID of nothing at all, under the hash that is none.
fn identities() -> Commit {
    with_sections(&[4, 0x01, 0x55, 0x00, 0x00].repeat(399_000))
}

fn repeated() -> Commit {
    let block = [7; 70];
    let mut section = vec![36 + 70];
    section.extend(raw(&block).to_bytes());
    section.extend(block);
    with_sections(&section.repeat(18_000))
}

/// More roots than a reader takes items.
fn roots() -> Commit {
    many_roots(40_000)
}

fn many_roots(count: usize) -> Commit {
    let mut commit = small();
    let header = value(|writer| {
        writer.map(2);
        writer.text("roots");
        writer.array(count);
        (0..count).for_each(|_| writer.cid(&commit.root));
        writer.text("version");
        writer.unsigned(1);
    });
    let blocks: Vec<_> = commit.blocks.iter().map(|(cid, block)| (*cid, &block[..])).collect();
    let car = car::write(&commit.root, &blocks);
    let mut len = header.len();
    let mut with_roots = Vec::new();
    while len >= 0x80 {
        with_roots.push(0x80 | u8::try_from(len & 0x7f).unwrap());
        len >>= 7;
    }
    with_roots.push(u8::try_from(len).unwrap());
    with_roots.extend(header);
    with_roots.extend_from_slice(&car[59..]);
    commit.fields.push(("blocks", value(|writer| writer.bytes(&with_roots))));
    commit
}

/// A commit object whose `did` is a list of nearly two million numbers.
fn commit_block() -> Commit {
    let mut commit = small();
    let mut block = b"\xa1\x63did\x9a".to_vec();
    let items = 1_990_000u32;
    block.extend(items.to_be_bytes());
    block.extend(vec![0; items as usize]);
    commit.replace_commit(block);
    commit
}

/// Found in half a minute of trying: its layer is 14. One of layer 64 would take longer than the
/// universe has been there, so a chain of 64 can only be a lie.
const DEEP_KEY: &str = "a.b.c/m50294382";
