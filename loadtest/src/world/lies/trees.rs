//! Trees that break a rule of the Merkle search tree. Each is signed as the tree of a commit of one
//! create, whose record it holds where it can.

use protocol::cid::Cid;
use protocol::ids::Micros;
use protocol::mst;
use protocol::reject::Reject;
use protocol::tid::Tid;

use super::Specimen;
use super::scene::{Scene, commit_fields, lie_then_truth, signed_block, with_commit_block};
use crate::wire::{Block, Value};
use crate::world::World;
use crate::world::record::Collection;
use crate::world::repo::{CLOCK_ID, Write};

/// A tree by hand: what nodes there are, and the root.
#[derive(Default)]
struct Forest {
    blocks: Vec<Block>,
}

/// An entry of a node by hand.
struct Entry<'a> {
    key: &'a str,
    /// Bytes left out, shared with the key before; `None`: as many as are shared.
    prefix: Option<usize>,
    right: Option<Cid>,
}

/// What a forged tree is made of: the path and record of the commit's one op, and other paths by
/// their layer, on both sides of it.
struct Ground {
    record: Cid,
    /// Of the lowest layer.
    path: String,
    /// Paths of a layer, all before [`Ground::path`] or all after it.
    before: [Vec<String>; 3],
    after: [Vec<String>; 3],
}

/// A lie: its name, its drop, and the root of the tree.
type Lie = (&'static str, Reject, fn(&Ground, &mut Forest) -> Cid);

const LIES: &[Lie] = &[
    ("node_that_shares_a_prefix_with_nothing", Reject::MstMalformed, |ground, forest| {
        let entry = Entry { prefix: Some(1), ..leaf(&ground.path) };
        forest.node(ground, None, &[entry])
    }),
    ("node_with_a_prefix_past_the_key", Reject::MstMalformed, |ground, forest| {
        let beyond = Entry { prefix: Some(1000), ..leaf(&ground.after[0][0]) };
        forest.node(ground, None, &[leaf(&ground.path), beyond])
    }),
    ("node_with_a_prefix_too_short", Reject::MstMalformed, |ground, forest| {
        let whole = Entry { prefix: Some(0), ..leaf(&ground.after[0][0]) };
        forest.node(ground, None, &[leaf(&ground.path), whole])
    }),
    ("node_with_a_prefix_of_one_too_few", Reject::MstMalformed, |ground, forest| {
        let key = &ground.after[0][0];
        let fewer = Entry { prefix: Some(shared(&ground.path, key) - 1), ..leaf(key) };
        forest.node(ground, None, &[leaf(&ground.path), fewer])
    }),
    ("node_with_keys_in_disorder", Reject::MstMalformed, |ground, forest| {
        forest.node(ground, None, &[leaf(&ground.path), leaf(&ground.before[0][0])])
    }),
    ("node_with_a_key_twice", Reject::MstMalformed, |ground, forest| {
        // Its prefix is exact: the second has nothing of its own.
        forest.node(ground, None, &[leaf(&ground.path), leaf(&ground.path)])
    }),
    ("node_with_a_key_of_a_higher_layer", Reject::MstMalformed, |ground, forest| {
        forest.node(ground, None, &[leaf(&ground.path), leaf(&ground.after[1][0])])
    }),
    ("node_with_a_key_of_a_lower_layer", Reject::MstMalformed, |ground, forest| {
        forest.node(ground, None, &[leaf(&ground.before[1][0]), leaf(&ground.path)])
    }),
    ("child_one_layer_too_low", Reject::MstMalformed, |ground, forest| {
        let child = forest.node(ground, None, &[leaf(&ground.path)]);
        forest.node(ground, Some(child), &[leaf(&ground.after[2][0])])
    }),
    ("child_of_the_same_layer", Reject::MstMalformed, |ground, forest| {
        let child = forest.node(ground, None, &[leaf(&ground.path)]);
        forest.node(ground, Some(child), &[leaf(&ground.after[0][0])])
    }),
    ("child_below_the_lowest_layer", Reject::MstMalformed, |ground, forest| {
        // Nodes that only point down, past the layer at which there is nothing below.
        let mut child = forest.node(ground, None, &[leaf(&ground.before[0][0])]);
        for _ in 0..3 {
            child = forest.node(ground, Some(child), &[]);
        }
        forest.node(ground, Some(child), &[leaf(&ground.after[1][0])])
    }),
    ("left_child_with_keys_of_the_right", Reject::MstMalformed, |ground, forest| {
        let child = forest.node(ground, None, &[leaf(&ground.path)]);
        forest.node(ground, Some(child), &[leaf(&ground.before[1][0])])
    }),
    ("right_child_with_keys_of_the_left", Reject::MstMalformed, |ground, forest| {
        let child = forest.node(ground, None, &[leaf(&ground.path)]);
        let entry = Entry { right: Some(child), ..leaf(&ground.after[1][0]) };
        forest.node(ground, None, &[entry])
    }),
    ("right_child_with_keys_of_the_next", Reject::MstMalformed, |ground, forest| {
        // Greater than its own entry, but not smaller than the entry after that.
        let child = forest.node(ground, None, &[leaf(&ground.after[0][0])]);
        let first = Entry { right: Some(child), ..leaf(&ground.before[1][0]) };
        forest.node(ground, None, &[first, leaf(&ground.before[1][1])])
    }),
    ("root_that_only_points_down", Reject::MstMalformed, |ground, forest| {
        let child = forest.node(ground, None, &[leaf(&ground.path)]);
        forest.node(ground, Some(child), &[])
    }),
    ("roots_that_only_point_down_65_layers", Reject::MstMalformed, |ground, forest| {
        let mut child = forest.node(ground, None, &[leaf(&ground.path)]);
        for _ in 0..65 {
            child = forest.node(ground, Some(child), &[]);
        }
        child
    }),
    ("empty_node_to_the_left", Reject::MstMalformed, |ground, forest| {
        let empty = forest.node(ground, None, &[]);
        forest.node(ground, Some(empty), &[leaf(&ground.after[1][0])])
    }),
    ("empty_node_to_the_right", Reject::MstMalformed, |ground, forest| {
        let empty = forest.node(ground, None, &[]);
        let entry = Entry { right: Some(empty), ..leaf(&ground.before[1][0]) };
        forest.node(ground, None, &[entry])
    }),
    ("node_on_both_sides_of_a_key", Reject::MstTooLarge, |ground, forest| {
        let child = forest.node(ground, None, &[leaf(&ground.path)]);
        let entry = Entry { right: Some(child), ..leaf(&ground.after[1][0]) };
        forest.node(ground, Some(child), &[entry])
    }),
    ("key_of_1025_bytes", Reject::MstTooLarge, |ground, forest| {
        let long = format!("app.bsky.feed.post/{}", "a".repeat(1025 - 19));
        forest.node(ground, None, &[leaf(&long)])
    }),
    ("empty_tree_with_a_record", Reject::OpNotInTree, |ground, forest| {
        forest.node(ground, None, &[])
    }),
];

/// A lie about the encoding of the root node: its name, and the node.
type Encoding = (&'static str, fn(Vec<(&'static str, Value)>, Value) -> Vec<u8>);

/// The fields of the node's one entry come with the value of `l`.
const ENCODINGS: &[Encoding] = &[
    ("node_without_left", |entry, _| {
        Value::Map(vec![("e", Value::List(vec![Value::Map(entry)]))]).encode()
    }),
    ("node_without_entries_field", |_, left| Value::Map(vec![("l", left)]).encode()),
    ("node_with_another_field", |entry, left| {
        let entries = Value::List(vec![Value::Map(entry)]);
        Value::Map(vec![("e", entries), ("l", left), ("m", Value::Null)]).encode()
    }),
    ("node_with_entries_null", |_, left| node(Value::Null, left)),
    ("node_with_entries_in_a_map", |entry, left| node(Value::Map(entry), left)),
    ("node_with_left_false", |entry, _| {
        node(Value::List(vec![Value::Map(entry)]), Value::Bool(false))
    }),
    ("node_with_left_a_text", |entry, _| node(Value::List(vec![Value::Map(entry)]), "l".into())),
    ("node_with_left_under_a_raw_cid", |entry, _| {
        node(Value::List(vec![Value::Map(entry)]), raw_link())
    }),
    ("node_with_fields_in_disorder", |entry, left| {
        let entries = Value::List(vec![Value::Map(entry)]);
        Value::Disordered(vec![("l", left), ("e", entries)]).encode()
    }),
    ("node_with_a_trailing_byte", |entry, left| {
        let mut node = node(Value::List(vec![Value::Map(entry)]), left);
        node.push(0);
        node
    }),
    ("node_is_a_list", |entry, left| Value::List(vec![Value::Map(entry), left]).encode()),
    ("node_is_empty_bytes", |_, _| Vec::new()),
    ("node_that_claims_more_entries", |entry, left| {
        let mut bytes = node(Value::List(vec![Value::Map(entry)]), left);
        // The head of the list: one entry becomes two.
        bytes[3] = 0x82;
        bytes
    }),
    ("entry_is_a_list", |entry, left| {
        let values = entry.into_iter().map(|(_, value)| value).collect();
        node(Value::List(vec![Value::List(values)]), left)
    }),
    ("entry_without_key", |entry, left| of_entry(entry, left, |fields| cut(fields, "k"))),
    ("entry_without_prefix", |entry, left| of_entry(entry, left, |fields| cut(fields, "p"))),
    ("entry_without_tree", |entry, left| of_entry(entry, left, |fields| cut(fields, "t"))),
    ("entry_without_value", |entry, left| of_entry(entry, left, |fields| cut(fields, "v"))),
    ("entry_with_another_field", |entry, left| {
        of_entry(entry, left, |fields| fields.push(("w", Value::Null)))
    }),
    ("entry_key_is_text", |entry, left| {
        of_entry(entry, left, |fields| set(fields, "k", "text".into()))
    }),
    ("entry_prefix_is_negative", |entry, left| {
        // -1 is the byte 0x20.
        of_entry(entry, left, |fields| set(fields, "p", Value::Encoded(vec![0x20])))
    }),
    ("entry_prefix_is_long", |entry, left| {
        of_entry(entry, left, |fields| set(fields, "p", Value::Wide(0)))
    }),
    ("entry_prefix_is_null", |entry, left| {
        of_entry(entry, left, |fields| set(fields, "p", Value::Null))
    }),
    ("entry_prefix_is_enormous", |entry, left| {
        of_entry(entry, left, |fields| set(fields, "p", Value::Int(u64::MAX)))
    }),
    ("entry_tree_is_false", |entry, left| {
        of_entry(entry, left, |fields| set(fields, "t", Value::Bool(false)))
    }),
    ("entry_tree_under_a_raw_cid", |entry, left| {
        of_entry(entry, left, |fields| set(fields, "t", raw_link()))
    }),
    ("entry_value_is_null", |entry, left| {
        of_entry(entry, left, |fields| set(fields, "v", Value::Null))
    }),
    ("entry_value_is_bytes", |entry, left| {
        of_entry(entry, left, |fields| set(fields, "v", Value::Bytes(vec![0; 36])))
    }),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, forge) in LIES {
        specimens.push(with_root(world, now, name, *reject, forge));
    }
    for (name, encode) in ENCODINGS {
        specimens.push(with_root(world, now, name, Reject::MstMalformed, |ground, forest| {
            let entry = vec![
                ("k", Value::Bytes(ground.path.as_bytes().to_vec())),
                ("p", Value::Int(0)),
                ("t", Value::Null),
                ("v", Value::link(ground.record)),
            ];
            forest.block(encode(entry, Value::Null))
        }));
    }
    specimens.push(with_root(world, now, "node_with_1025_entries", Reject::MstTooLarge, crowded));
}

fn crowded(ground: &Ground, forest: &mut Forest) -> Cid {
    let mut paths = likes_of_layer(0, 1024, 0);
    paths.push(ground.path.clone());
    paths.sort_unstable();
    let entries: Vec<Entry<'_>> = paths.iter().map(|path| leaf(path)).collect();
    forest.node(ground, None, &entries)
}

/// A commit of one create whose tree is this one.
fn with_root(
    world: &mut World,
    now: Micros,
    name: &'static str,
    reject: Reject,
    forge: impl Fn(&Ground, &mut Forest) -> Cid,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let path = posts_of_layer(0, 1, MIDDLE).remove(0);
    let record = super::ops::record_of(name.into());
    let truth = scene.commit(&[Write::Create(path.clone(), record)]);
    let ground = Ground {
        record: truth.ops[0].cid.expect("a create"),
        path,
        before: [0, 1, 2].map(|layer| posts_of_layer(layer, 2, 0)),
        after: [0, 1, 2].map(|layer| posts_of_layer(layer, 2, 2 * MIDDLE)),
    };
    let mut forest = Forest::default();
    let data = forge(&ground, &mut forest);
    let fields = commit_fields(&truth, truth.rev, data);
    let block = signed_block(&fields, &scene.account().key);
    let lie = with_commit_block(truth.draft(), &truth, block)
        .with_blocks(|blocks| blocks.extend(forest.blocks));
    let steps = lie_then_truth(&scene, &lie, reject, &truth);
    scene.finish(name, steps)
}

impl Forest {
    /// Adds a node of entries that all have the commit's record.
    fn node(&mut self, ground: &Ground, left: Option<Cid>, entries: &[Entry<'_>]) -> Cid {
        let mut previous = "";
        let mut values = Vec::with_capacity(entries.len());
        for entry in entries {
            let prefix = entry.prefix.unwrap_or_else(|| shared(previous, entry.key));
            let rest = entry.key.as_bytes().get(prefix..).unwrap_or_default();
            values.push(Value::Map(vec![
                ("k", Value::Bytes(rest.to_vec())),
                ("p", Value::Int(u64::try_from(prefix).expect("a short prefix"))),
                ("t", entry.right.map_or(Value::Null, Value::link)),
                ("v", Value::link(ground.record)),
            ]));
            previous = entry.key;
        }
        self.block(node(Value::List(values), left.map_or(Value::Null, Value::link)))
    }

    fn block(&mut self, bytes: Vec<u8>) -> Cid {
        let cid = Cid::of_cbor(&bytes);
        self.blocks.push(Block::of_cbor(bytes));
        cid
    }
}

fn leaf(key: &str) -> Entry<'_> {
    Entry { key, prefix: None, right: None }
}

fn node(entries: Value, left: Value) -> Vec<u8> {
    Value::Map(vec![("e", entries), ("l", left)]).encode()
}

fn of_entry(
    mut entry: Vec<(&'static str, Value)>,
    left: Value,
    bend: impl FnOnce(&mut Vec<(&'static str, Value)>),
) -> Vec<u8> {
    bend(&mut entry);
    node(Value::List(vec![Value::Map(entry)]), left)
}

/// How many bytes two keys begin with in common.
fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

fn raw_link() -> Value {
    let mut cid = mst::EMPTY_ROOT.to_bytes().to_vec();
    cid[1] = super::fields::CODEC_RAW;
    Value::Link(cid)
}

fn cut(fields: &mut Vec<(&'static str, Value)>, name: &str) {
    fields.retain(|(key, _)| *key != name);
}

fn set(fields: &mut Vec<(&'static str, Value)>, name: &'static str, value: Value) {
    cut(fields, name);
    fields.push((name, value));
}

fn posts_of_layer(layer: u32, count: usize, from: u64) -> Vec<String> {
    of_layer(Collection::Post, layer, count, from)
}

fn likes_of_layer(layer: u32, count: usize, from: u64) -> Vec<String> {
    of_layer(Collection::Like, layer, count, from)
}

/// The first paths of a layer in a collection, in order, their keys from a time on. One key in
/// 4^n is of layer n or above.
pub(super) fn of_layer(collection: Collection, layer: u32, count: usize, from: u64) -> Vec<String> {
    let paths = (from..).map(|micros| collection.path(Tid::from_micros(Micros(micros), CLOCK_ID)));
    paths.filter(|path| mst::layer(path.as_bytes()) == layer).take(count).collect()
}

/// Microseconds between the paths before, at and after the op's. Sparse enough for every layer
/// that is used here.
const MIDDLE: u64 = 1 << 20;
