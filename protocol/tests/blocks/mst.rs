//! Trees against a naive builder, inversion against the tree before, real commits and hostile
//! nodes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::car::{self, Blocks};
use protocol::cbor::Writer;
use protocol::cid::{Cid, Codec, Link};
use protocol::commit::Commit;
use protocol::mst::{
    Change, EMPTY_ROOT, KEY_BYTES_MAX, MstError, NODE_ENTRIES_MAX, PartialTree, Tree, layer,
};

use crate::naive_tree::{NaiveTree, Records, depth};
use crate::vectors::{COMMITS, Event};
use crate::{property, vectors};

type BlockList = Vec<(Cid, Vec<u8>)>;

fn record(number: u32) -> Cid {
    Cid::of_cbor(&number.to_be_bytes())
}

/// Calls `test` with the blocks as a CAR gives them.
fn with_blocks<T>(blocks: &[(Cid, Vec<u8>)], test: impl FnOnce(&Blocks<'_>) -> T) -> T {
    let sections: Vec<_> = blocks.iter().map(|(cid, block)| (*cid, block.as_slice())).collect();
    let car = car::write(&EMPTY_ROOT, &sections);
    let (_, blocks) = car::read(&car).unwrap();
    test(&blocks)
}

fn tree_of(records: &Records) -> Tree {
    let mut tree = Tree::new();
    for (path, record) in records {
        assert_eq!(tree.insert(path, *record), None);
    }
    tree
}

fn changes<'a>(old: &'a Records, new: &'a Records) -> Vec<Change<'a>> {
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .map(|path| Change { path, old: old.get(path).copied(), new: new.get(path).copied() })
        .filter(|change| change.old != change.new)
        .collect()
}

#[test]
fn key_heights_of_the_interop_file() {
    for case in vectors::json("interop/mst/key_heights.json").as_array().unwrap() {
        let key = case["key"].as_str().unwrap();
        assert_eq!(u64::from(layer(key.as_bytes())), case["height"].as_u64().unwrap(), "{key}");
    }
    for key in vectors::lines("interop/mst/example_keys.txt") {
        // "A0/374913": the digit is the height.
        assert_eq!(layer(key.as_bytes()), u32::from(key.as_bytes()[1] - b'0'), "{key}");
    }
}

#[test]
fn the_tree_of_the_example_keys_is_the_naive_one() {
    let keys = vectors::lines("interop/mst/example_keys.txt");
    let records: Records = keys.into_iter().map(|key| (key, record(1))).collect();
    check_tree(&mut tree_of(&records), &records).unwrap();
}

#[test]
fn the_empty_tree_has_its_root() {
    let mut tree = Tree::new();
    assert_eq!(tree.root(), EMPTY_ROOT);
    assert_eq!(
        tree.root().to_string(),
        "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
    );
    assert_eq!(tree.blocks(), [(EMPTY_ROOT, b"\xa2\x61e\x80\x61l\xf6".to_vec())]);
    assert_eq!(NaiveTree::build(&Records::new()).root, EMPTY_ROOT);
    with_blocks(&tree.blocks(), |blocks| {
        let partial = PartialTree::read(blocks, &EMPTY_ROOT).unwrap();
        assert_eq!(partial.get("a/b"), Ok(None));
        assert_eq!(partial.invert(&[]), Ok(EMPTY_ROOT));
    });
}

#[test]
fn commit_proofs_of_the_interop_file() {
    for case in vectors::json("interop/firehose/commit-proof-fixtures.json").as_array().unwrap() {
        let comment = case["comment"].as_str().unwrap();
        let list = |name: &str| -> Vec<&str> {
            case[name].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
        };
        let value: Cid = case["leafValue"].as_str().unwrap().parse().unwrap();
        let old: Records = list("keys").into_iter().map(|key| (key.to_owned(), value)).collect();
        let mut new = old.clone();
        for path in list("dels") {
            assert!(new.remove(path).is_some());
        }
        for path in list("adds") {
            assert!(new.insert(path.to_owned(), value).is_none());
        }
        let mut tree = tree_of(&old);
        assert_eq!(tree.root().to_string(), case["rootBeforeCommit"], "{comment}");
        for path in list("dels") {
            tree.remove(path);
        }
        for path in list("adds") {
            tree.insert(path, value);
        }
        assert_eq!(tree.root().to_string(), case["rootAfterCommit"], "{comment}");

        let expected: BTreeSet<String> =
            list("blocksInProof").into_iter().map(str::to_owned).collect();
        let paths: Vec<&str> = list("adds").into_iter().chain(list("dels")).collect();
        let proof = tree.proof(&paths);
        let given: BTreeSet<String> = proof.iter().map(|(cid, _)| cid.to_string()).collect();
        assert_eq!(given, expected, "{comment}");
        check_inversion(&proof, &old, &new).unwrap();
    }
}

#[test]
fn common_prefixes_of_the_interop_file() {
    let mut seen = 0;
    for case in vectors::json("interop/mst/common_prefix.json").as_array().unwrap() {
        let (left, right) = (case["left"].as_str().unwrap(), case["right"].as_str().unwrap());
        let len = common_prefix_in_a_node(left, right);
        if let Some(len) = len {
            assert_eq!(Some(len), case["len"].as_u64(), "{left:?} {right:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 11, "all but the two of equal keys");
}

/// Prefix lengths are seen in nodes: of two different keys of one layer, the second's.
fn common_prefix_in_a_node(a: &str, b: &str) -> Option<u64> {
    // A common beginning that is neutral for the prefix, chosen such that both are of layer 0.
    let lead = (0..1000)
        .map(|number| format!("{number}/"))
        .find(|lead| depth(&format!("{lead}{a}")) == 0 && depth(&format!("{lead}{b}")) == 0)?;
    let mut tree = Tree::new();
    for key in [a, b] {
        tree.insert(&format!("{lead}{key}"), record(0));
    }
    if a == b {
        return None;
    }
    let node: ipld_core::ipld::Ipld = serde_ipld_dagcbor::from_slice(&tree.blocks()[0].1).unwrap();
    let entries = node.get("e").unwrap().unwrap();
    let second = entries.get(1usize).unwrap().unwrap().get("p").unwrap().unwrap();
    let ipld_core::ipld::Ipld::Integer(prefix) = second else { panic!("p is an integer") };
    Some(u64::try_from(*prefix).unwrap() - u64::try_from(lead.len()).unwrap())
}

#[test]
fn real_commits_invert_unless_a_needed_node_is_missing() {
    for (name, before) in COMMITS {
        let event = Event::read(name);
        let (root, blocks) = car::read(&event.car).unwrap();
        let commit = Commit::parse(blocks.get_link(&root).unwrap()).unwrap();
        let creates: Vec<Change<'_>> = event
            .creates
            .iter()
            .map(|(path, cid)| Change { path, old: None, new: Some(*cid) })
            .collect();
        let tree = PartialTree::read(&blocks, &commit.data).unwrap();
        for create in &creates {
            assert_eq!(tree.get(create.path), Ok(create.new), "{name} {}", create.path);
        }
        let expected = before.map(|root| root.parse().unwrap()).ok_or(MstError::Missing);
        assert_eq!(tree.invert(&creates), expected, "{name}");
    }
}

/// The root before 4623075231 and its op, applied by hand, give its `data`.
#[test]
fn the_real_commit_with_one_record_is_its_op_on_the_root_before() {
    let (name, Some(before)) = COMMITS[3] else { panic!("it inverts") };
    let event = Event::read(name);
    let (root, blocks) = car::read(&event.car).unwrap();
    let commit = Commit::parse(blocks.get_link(&root).unwrap()).unwrap();
    let [(path, record)] = &event.creates[..] else { panic!("one op") };
    let entries = vec![(0, path.clone().into_bytes(), Some(before.parse().unwrap()))];
    let (data, _) = RawNode { left: None, entries }.block_of(record);
    assert_eq!(data, commit.data);
}

fn check_tree(tree: &mut Tree, records: &Records) -> Result<(), TestCaseError> {
    let naive = NaiveTree::build(records);
    prop_assert_eq!(tree.root(), naive.root);
    let blocks = tree.blocks();
    prop_assert_eq!(blocks[0].0, naive.root);
    prop_assert_eq!(BTreeMap::from_iter(blocks), naive.blocks);
    prop_assert_eq!(tree.len(), records.len());
    for (path, record) in records {
        prop_assert_eq!(tree.get(path), Some(*record));
    }
    Ok(())
}

/// That from these blocks the changes invert to the naive tree of what was before.
fn check_inversion(proof: &BlockList, old: &Records, new: &Records) -> Result<(), TestCaseError> {
    let root = NaiveTree::build(new).root;
    let before = NaiveTree::build(old).root;
    let changes = changes(old, new);
    with_blocks(proof, |blocks| {
        let tree = PartialTree::read(blocks, &root);
        prop_assert!(tree.is_ok(), "{tree:?}");
        let tree = tree.unwrap();
        for change in &changes {
            prop_assert_eq!(tree.get(change.path), Ok(change.new));
        }
        prop_assert_eq!(tree.invert(&changes), Ok(before));
        Ok(())
    })
}

/// Paths as they are in repos, of few collections, so that they share prefixes.
fn path() -> impl Strategy<Value = String> {
    let collection = prop_oneof![
        4 => Just("app.bsky.feed.like"),
        3 => Just("app.bsky.feed.post"),
        1 => Just("app.bsky.actor.profile"),
    ];
    (collection, 0..100_000u32).prop_map(|(name, number)| format!("{name}/3k{number:05}"))
}

fn records(most: usize) -> impl Strategy<Value = Records> {
    vec((path(), 0..1000u32), 0..most)
        .prop_map(|list| list.into_iter().map(|(path, number)| (path, record(number))).collect())
}

#[derive(Clone, Debug)]
enum Write {
    /// Creates, or updates what is there.
    Put(String, u32),
    /// Updates the record at a place among those there.
    Update(usize, u32),
    /// Deletes the record at a place among those there.
    Delete(usize),
}

fn writes(most: usize) -> impl Strategy<Value = Vec<Write>> {
    let write = prop_oneof![
        3 => (path(), 0..1000u32).prop_map(|(path, number)| Write::Put(path, number)),
        1 => (any::<usize>(), 0..1000u32).prop_map(|(at, number)| Write::Update(at, number)),
        3 => any::<usize>().prop_map(Write::Delete),
    ];
    vec(write, 1..=most)
}

/// Does a write to both.
fn apply(write: Write, tree: &mut Tree, records: &mut Records) -> Result<(), TestCaseError> {
    let at = |at: usize| records.keys().nth(at % records.len().max(1)).cloned();
    match write {
        Write::Put(path, number) => {
            let before = records.insert(path.clone(), record(number));
            prop_assert_eq!(tree.insert(&path, record(number)), before);
        }
        Write::Update(place, number) => {
            if let Some(path) = at(place) {
                let before = records.insert(path.clone(), record(number));
                prop_assert_eq!(tree.insert(&path, record(number)), before);
            }
        }
        Write::Delete(place) => {
            if let Some(path) = at(place) {
                prop_assert_eq!(tree.remove(&path), records.remove(&path));
                prop_assert_eq!(tree.remove(&path), None);
            }
        }
    }
    Ok(())
}

#[test]
fn a_changed_tree_is_the_naive_one_of_its_records() {
    property::check(150, (records(200), writes(60)), |(mut records, writes)| {
        let mut tree = tree_of(&records);
        for (step, write) in writes.into_iter().enumerate() {
            apply(write, &mut tree, &mut records)?;
            // Sometimes with digests known, sometimes not.
            if step % 3 == 0 {
                prop_assert_eq!(tree.root(), NaiveTree::build(&records).root);
            }
        }
        check_tree(&mut tree, &records)
    });
}

/// One commit after the other on one repo: the ops folded, the proof of their paths alone.
fn check_batches(cases: u32, records_max: usize, ops_max: usize) {
    let batches = vec(writes(ops_max), 1..4);
    property::check(cases, (records(records_max), batches), |(mut records, batches)| {
        let mut tree = tree_of(&records);
        for batch in batches {
            let (old, old_tree) = (records.clone(), tree.clone().blocks());
            for write in batch {
                apply(write, &mut tree, &mut records)?;
            }
            let changes = changes(&old, &records);
            let paths: Vec<&str> = changes.iter().map(|change| change.path).collect();
            let proof = tree.proof(&paths);
            check_inversion(&proof, &old, &records)?;
            // Every node that the commit made is in its proof.
            let old_nodes: BTreeSet<Cid> = old_tree.into_iter().map(|(cid, _)| cid).collect();
            let sent: BTreeSet<Cid> = proof.into_iter().map(|(cid, _)| cid).collect();
            for (cid, _) in tree.blocks() {
                prop_assert!(old_nodes.contains(&cid) || sent.contains(&cid));
            }
        }
        Ok(())
    });
}

#[test]
fn small_commits_invert_from_their_proofs_alone() {
    check_batches(400, 300, 3);
}

#[test]
fn big_commits_invert_from_their_proofs_alone() {
    check_batches(40, 400, 200);
}

#[test]
fn commits_on_small_repos_invert_from_their_proofs_alone() {
    check_batches(400, 6, 6);
}

/// With any of the nodes left out the answer is the right one or `Missing`, never the root of
/// another tree; but if all that is left is one absent node, it is taken for the root, though it
/// may be one that only points down, which is no tree's root.
#[test]
fn an_incomplete_proof_is_missing_nodes_and_never_another_tree() {
    let missing = std::cell::Cell::new(0);
    let strategy = (records(120), writes(5), vec(any::<prop::sample::Index>(), 1..4));
    property::check(600, strategy, |(mut records, writes, cut)| {
        let mut tree = tree_of(&records);
        let old = records.clone();
        for write in writes {
            apply(write, &mut tree, &mut records)?;
        }
        let changes = changes(&old, &records);
        let paths: Vec<&str> = changes.iter().map(|change| change.path).collect();
        let mut proof = tree.proof(&paths);
        for at in cut {
            if !proof.is_empty() {
                proof.remove(at.index(proof.len()));
            }
        }
        let before = NaiveTree::build(&old).root;
        let mut pointers = tree.blocks();
        pointers.retain(|(cid, _)| *cid != before);
        with_blocks(&proof, |blocks| {
            let inverted =
                PartialTree::read(blocks, &tree.root()).and_then(|tree| tree.invert(&changes));
            if inverted == Err(MstError::Missing) {
                missing.set(missing.get() + 1);
            } else if let Some((_, root)) = pointers.iter().find(|(cid, _)| Ok(*cid) == inverted) {
                prop_assert!(root.starts_with(b"\xa2\x61e\x80\x61l\xd8"));
            } else {
                prop_assert_eq!(inverted, Ok(before));
            }
            Ok(())
        })
    });
    assert!(missing.get() > 300, "leaving nodes out must matter: {}", missing.get());
}

#[test]
fn a_change_that_the_tree_does_not_hold_is_refused() {
    let records: Records = (0..40).map(|n| (format!("a.b.c/{n}"), record(n))).collect();
    let mut tree = tree_of(&records);
    let root = tree.root();
    with_blocks(&tree.blocks(), |blocks| {
        let check = |path, old, new| {
            let tree = PartialTree::read(blocks, &root).unwrap();
            assert_eq!(tree.invert(&[Change { path, old, new }]), Err(MstError::Malformed));
        };
        check("a.b.c/nothing", None, Some(record(0)));
        check("a.b.c/nothing", Some(record(0)), Some(record(1)));
        check("a.b.c/7", Some(record(7)), None);
        check("a.b.c/7", Some(record(8)), Some(record(9)));
        check("a.b.c/7", None, Some(record(9)));
    });
}

#[test]
fn a_search_that_ends_in_an_absent_subtree_says_so() {
    let records: Records = (0..400).map(|n| (format!("a.b.c/{n}"), record(n))).collect();
    let mut tree = tree_of(&records);
    let root = tree.root();
    let proof = tree.proof(&["a.b.c/7"]);
    with_blocks(&proof, |blocks| {
        let partial = PartialTree::read(blocks, &root).unwrap();
        assert_eq!(partial.get("a.b.c/7"), Ok(Some(record(7))));
        assert_eq!(partial.get("a.b.c/7!"), Ok(None), "its place is between 7 and 70");
        let missing =
            records.keys().filter(|path| partial.get(path) == Err(MstError::Missing)).count();
        assert!(missing > 300, "{missing}");
    });
    with_blocks(&[], |blocks| {
        assert_eq!(PartialTree::read(blocks, &root).map(|_| ()), Err(MstError::Missing));
    });
}

// Nodes by hand.

#[derive(Clone)]
struct RawNode {
    left: Option<Cid>,
    entries: Vec<(u64, Vec<u8>, Option<Cid>)>,
}

impl RawNode {
    fn new(left: Option<Cid>, entries: &[(u64, &str, Option<Cid>)]) -> Self {
        let entries = entries
            .iter()
            .map(|(prefix, suffix, right)| (*prefix, suffix.as_bytes().to_vec(), *right));
        Self { left, entries: entries.collect() }
    }

    fn block(&self) -> (Cid, Vec<u8>) {
        self.block_of(&record(0))
    }

    fn block_of(&self, record: &Cid) -> (Cid, Vec<u8>) {
        fn subtree(writer: &mut Writer<'_>, cid: Option<Cid>) {
            match cid {
                Some(cid) => writer.cid(&cid),
                None => writer.null(),
            }
        }
        let mut block = Vec::new();
        let mut writer = Writer::new(&mut block);
        writer.map(2);
        writer.text("e");
        writer.array(self.entries.len());
        for (prefix, suffix, right) in &self.entries {
            writer.map(4);
            writer.text("k");
            writer.bytes(suffix);
            writer.text("p");
            writer.unsigned(*prefix);
            writer.text("t");
            subtree(&mut writer, *right);
            writer.text("v");
            writer.cid(record);
        }
        writer.text("l");
        subtree(&mut writer, self.left);
        (Cid::of_cbor(&block), block)
    }
}

/// Reads the tree of these nodes; the first is the root.
fn check(name: &str, nodes: &[(Cid, Vec<u8>)], expected: Result<(), MstError>) {
    with_blocks(nodes, |blocks| {
        let read = PartialTree::read(blocks, &nodes[0].0).map(|_| ());
        assert_eq!(read, expected, "{name}");
    });
}

const MALFORMED: Result<(), MstError> = Err(MstError::Malformed);
const TOO_LARGE: Result<(), MstError> = Err(MstError::TooLarge);

#[test]
fn a_node_keeps_the_rules_of_keys_and_layers() {
    let node = RawNode::new;
    let one = |left, entries: &[(u64, &str, Option<Cid>)]| vec![node(left, entries).block()];
    // The digit is the layer (example_keys.txt).
    let absent = Some(Cid::cbor([1; 32]));
    check("one key", &one(None, &[(0, "A0/374913", None)]), Ok(()));
    check("two keys", &one(None, &[(0, "A0/374913", None), (0, "C0/451630", None)]), Ok(()));
    let falling = one(None, &[(0, "C0/451630", None), (0, "A0/374913", None)]);
    check("falling keys", &falling, MALFORMED);
    check("a key twice", &one(None, &[(0, "A0/374913", None), (9, "", None)]), MALFORMED);
    check("an inexact prefix", &one(None, &[(0, "A0/374913", None), (0, "A0/4", None)]), MALFORMED);
    check("a prefix of nothing", &one(None, &[(1, "0/374913", None)]), MALFORMED);
    let long = one(None, &[(0, "A0/374913", None), (10, "x", None)]);
    check("a prefix longer than the key", &long, MALFORMED);
    let mixed = one(None, &[(0, "A0/374913", None), (0, "B1/986427", None)]);
    check("keys of two layers", &mixed, MALFORMED);
    check("something below layer 0", &one(absent, &[(0, "A0/374913", None)]), MALFORMED);
    check("something below layer 0", &one(None, &[(0, "A0/374913", absent)]), MALFORMED);
    check("absent below layer 1", &one(absent, &[(0, "B1/986427", absent)]), Ok(()));

    let below = node(None, &[(0, "A0/374913", None)]).block();
    let with_left = |key| vec![node(Some(below.0), &[(0, key, None)]).block(), below.clone()];
    check("a node one layer below", &with_left("B1/986427"), Ok(()));
    check("a node two layers below", &with_left("B2/827649"), MALFORMED);
    let right = node(None, &[(0, "B1/986427", Some(below.0))]).block();
    check("keys that fall into a subtree", &[right, below.clone()], MALFORMED);
    let high = node(None, &[(0, "A2/827942", None)]).block();
    let upside_down = node(Some(high.0), &[(0, "B1/986427", None)]).block();
    check("a node of a higher layer below", &[upside_down, high], MALFORMED);
}

#[test]
fn a_node_without_entries_is_the_empty_tree_or_points_down() {
    let node = RawNode::new;
    let below = node(None, &[(0, "A0/374913", None)]).block();
    let pointer = node(Some(below.0), &[]).block();
    let empty = node(None, &[]).block();
    let root = |left| node(Some(left), &[(0, "B2/827649", None)]).block();
    check("the empty tree", std::slice::from_ref(&empty), Ok(()));
    check("a root that points down", &[pointer.clone(), below.clone()], MALFORMED);
    check("a node that points down", &[root(pointer.0), pointer.clone(), below], Ok(()));
    check("one that points to an absent node", &[root(pointer.0), pointer], Ok(()));
    check("one that points to nothing", &[root(empty.0), empty], MALFORMED);
}

#[test]
fn limits_of_a_tree() {
    let node = RawNode::new;
    // All entries of one node, found by trying keys until their layer is 0.
    let keys: Vec<String> =
        (0..).map(|n| format!("{n:08}")).filter(|key| depth(key) == 0).take(2000).collect();
    let wide = |entries: usize| {
        let mut previous = "";
        let entries = keys[..entries].iter().map(|key| {
            let prefix = key.bytes().zip(previous.bytes()).take_while(|(a, b)| a == b).count();
            previous = key;
            (u64::try_from(prefix).unwrap(), key.as_bytes()[prefix..].to_vec(), None)
        });
        vec![RawNode { left: None, entries: entries.collect() }.block()]
    };
    check("as many entries as may be", &wide(NODE_ENTRIES_MAX), Ok(()));
    check("one more", &wide(NODE_ENTRIES_MAX + 1), TOO_LARGE);
    let claim = b"\xa2\x61e\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    check("a claim of more than there can be", &[(Cid::of_cbor(&claim), claim)], MALFORMED);

    let long = |len: usize| {
        let key = (0..).map(|n| format!("{n:0len$}")).find(|key| depth(key) == 0).unwrap();
        vec![node(None, &[(0, &key, None)]).block()]
    };
    check("a key as long as may be", &long(KEY_BYTES_MAX), Ok(()));
    check("one byte more", &long(KEY_BYTES_MAX + 1), TOO_LARGE);

    // The same node in two places. It has no keys of its own, so only counting visits finds it.
    let pointer = node(Some(Cid::cbor([1; 32])), &[]).block();
    let twice = node(Some(pointer.0), &[(0, "B2/827649", Some(pointer.0))]).block();
    check("a block twice", &[twice, pointer], TOO_LARGE);
}

#[test]
fn a_node_has_one_encoding() {
    let (_, good) = RawNode::new(None, &[(0, "A0/374913", None)]).block();
    let check_bytes = |name, bytes: Vec<u8>, expected| {
        check(name, &[(Cid::of_cbor(&bytes), bytes)], expected);
    };
    let replace = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|window| window == from).unwrap();
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    check_bytes("as it should be", good.clone(), Ok(()));
    check_bytes("something after it", [&good[..], b"\xf6"].concat(), MALFORMED);
    check_bytes("cut", good[..good.len() - 1].to_vec(), MALFORMED);
    check_bytes("an unknown field", replace(b"\xa2\x61e", b"\xa3\x61d\xf6\x61e"), MALFORMED);
    check_bytes("a prefix in two bytes", replace(b"\x61p\x00", b"\x61p\x18\x00"), MALFORMED);
    check_bytes("a negative prefix", replace(b"\x61p\x00", b"\x61p\x20"), MALFORMED);
    check_bytes("a key of text", replace(b"\x61k\x49", b"\x61k\x69"), MALFORMED);
    check_bytes("no subtree field", replace(b"\x61t\xf6", b""), MALFORMED);
    check_bytes("a number for a subtree", replace(b"\x61t\xf6", b"\x61t\x00"), MALFORMED);
    let value = [&b"\x61v\xd8\x2a\x58\x25\x00\x01\x71\x12\x20"[..], &record(0).digest].concat();
    check_bytes("no value", replace(&value, b"\x61v\xf6"), MALFORMED);
    let raw = [&b"\x61v\xd8\x2a\x58\x25\x00\x01\x55\x12\x20"[..], &[1; 32]].concat();
    check_bytes("a raw value", replace(&value, &raw), Ok(()));
    let blake3 = [&b"\x61v\xd8\x2a\x58\x25\x00\x01\x71\x1e\x20"[..], &[1; 32]].concat();
    let opaque = replace(&value, &blake3);
    check_bytes("a value under another hash", opaque.clone(), Ok(()));
    let root = Cid::of_cbor(&opaque);
    with_blocks(&[(root, opaque)], |blocks| {
        let tree = PartialTree::read(blocks, &root).unwrap();
        assert_eq!(tree.get("A0/374913"), Err(MstError::Malformed), "no op can name it");
    });
    let raw = [&b"\x61l\xd8\x2a\x58\x25\x00\x01\x55\x12\x20"[..], &[1; 32]].concat();
    check_bytes("a subtree that is no node", replace(b"\x61l\xf6", &raw), MALFORMED);
    with_blocks(&[], |blocks| {
        let root = Cid { codec: Codec::Raw, digest: [1; 32] };
        assert_eq!(PartialTree::read(blocks, &root).map(|_| ()), Err(MstError::Malformed));
    });
}

#[test]
fn keys_that_are_no_text_are_keys() {
    let key = (0..=255u8).map(|byte| vec![0xff, byte]).find(|key| layer(key) == 0).unwrap();
    let node = RawNode { left: None, entries: vec![(0, key, None)] }.block();
    check("bytes that are not UTF-8", std::slice::from_ref(&node), Ok(()));
    with_blocks(&[node], |blocks| {
        let (root, _) = blocks.iter().next().unwrap();
        let tree = PartialTree::read(blocks, &root).unwrap();
        assert_eq!(tree.get("a.b.c/d"), Ok(None));
        let link = Link::Sha256(root);
        assert!(blocks.get_link(&link).is_some());
    });
}
