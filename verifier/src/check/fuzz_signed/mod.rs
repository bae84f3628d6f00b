//! Commits with valid signatures over mutated trees: arbitrary bytes choose a repo, ops on it, and
//! lies about them; all is hashed and signed anew, so that every lie reaches the check that it is
//! for. A naive judge, who knows the whole tree and rebuilds it from its records, must agree.

mod judge;
mod tree;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use protocol::car;
use protocol::cid::Cid;
use protocol::commit;
use protocol::did::Did;
use protocol::frame::{CommitFrame, HostKind, Kind, Op, Outgoing};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros, Seq};
use protocol::keys::{Curve, SigningKey};
use protocol::mst::{Tree, layer};
use protocol::reject::Reject;
use protocol::tid::Tid;

use self::judge::Truth;
use self::tree::Node;
use super::{Case, Proof, check};
use crate::options::Handles;
use crate::verdict::Identity;

/// Draws a signed commit from the bytes and compares the verdict on it with the naive judge's.
pub fn fuzz_signed(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let mut plot = Plot::draw(&mut draw);
    let proof = [Proof::Owed, Proof::NotYet, Proof::Lenient][draw.below(3)];
    let lies = draw.below(5);
    for _ in 0..lies {
        plot.lie(&mut draw);
    }
    let scene = plot.stage(&mut draw);
    let said = verdict(&scene.frame, proof);
    let truth = judge::truth(&scene, proof);
    match (&said, truth) {
        (Ok(()), Truth::Lie(what)) => panic!("passes, but {what}"),
        (Err(reject), Truth::Holds) if scene.all_shown => panic!("holds, but {}", reject.name()),
        // A node that only points down and is not shown is taken for one with keys: then the root
        // before is another one (see `invert::trim_top`).
        (Err(Reject::InversionMismatch), Truth::Holds) => {
            assert!(scene.hides_a_pointer(), "holds, but is told to lead elsewhere");
        }
        (Err(reject), Truth::Holds) => assert!(
            matches!(reject, Reject::InversionIncomplete | Reject::PrevDataMissing),
            "holds, but {}",
            reject.name()
        ),
        _ => {}
    }
    assert!(lies > 0 || said.is_ok(), "an honest commit passes");
}

/// The decisions: bytes, and zeros when they are at their end.
struct Draw<'a>(&'a [u8]);

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }
}

/// A commit before it is encoded.
struct Plot {
    /// The tree after it; `None`: nothing of it is left.
    tree: Option<Node>,
    ops: Vec<PlotOp>,
    prev_data: Option<Cid>,
    /// The records that go with it.
    records: Vec<Vec<u8>>,
    /// The root that other commits of this repo could name.
    roots: Vec<Cid>,
}

#[derive(Clone)]
struct PlotOp {
    action: &'static str,
    path: String,
    cid: Option<Cid>,
    prev: Option<Cid>,
}

/// What is judged, and what the naive judge may know of it.
struct Scene {
    frame: Bytes,
    data: Cid,
    ops: Vec<PlotOp>,
    prev_data: Option<Cid>,
    /// Every node of the tree, those that are not in the frame, too.
    nodes: BTreeMap<Cid, Vec<u8>>,
    /// The blocks in the frame.
    shown: BTreeMap<Cid, Vec<u8>>,
    all_shown: bool,
    /// Some of what is not shown was changed: then nobody who sees the frame can tell.
    hides_a_lie: bool,
}

impl Scene {
    /// Whether a node without entries is not shown.
    fn hides_a_pointer(&self) -> bool {
        let hidden = self.nodes.iter().filter(|(cid, _)| !self.shown.contains_key(*cid));
        hidden.filter_map(|(_, block)| tree::parse(block)).any(|node| node.entries.is_empty())
    }
}

impl Plot {
    /// An honest commit of some ops.
    fn draw(draw: &mut Draw<'_>) -> Self {
        let mut records = BTreeMap::new();
        for _ in 0..draw.below(40) {
            records.insert(path(draw), record_cid(draw));
        }
        let mut tree = whole(&records);
        let before = (!records.is_empty() || draw.below(2) == 0).then(|| tree.root());
        let mut ops = Vec::new();
        let mut written = Vec::new();
        for _ in 0..draw.below(8) {
            let path = path(draw);
            let prev = records.get(&path).copied();
            let at = draw.below(GOOD_RECORDS);
            let (action, cid) = match prev {
                None => ("create", Some(Cid::of_cbor(&RECORDS[at]))),
                Some(_) if draw.below(2) == 0 => ("delete", None),
                Some(_) => ("update", Some(Cid::of_cbor(&RECORDS[at]))),
            };
            match cid {
                Some(cid) => drop(records.insert(path.clone(), cid)),
                None => drop(records.remove(&path)),
            }
            written.extend(cid.map(|_| RECORDS[at].clone()));
            ops.push(PlotOp { action, path, cid, prev });
        }
        // Of several ops on one path the real PDS says of each what was there at that moment.
        let mut tree = whole(&records);
        let root = tree.root();
        let paths: Vec<&str> = ops.iter().map(|op| op.path.as_str()).collect();
        let shown: Vec<Cid> = tree.proof(&paths).into_iter().map(|(cid, _)| cid).collect();
        let nodes = tree.blocks().into_iter().collect();
        let node = Node::read(&nodes, &root, &shown);
        let roots = vec![root, Tree::new().root()];
        Self { tree: node, ops, prev_data: before, records: written, roots }
    }

    /// Changes one thing.
    fn lie(&mut self, draw: &mut Draw<'_>) {
        match draw.below(8) {
            0 => self.lie_about_an_op(draw),
            1 => {
                self.prev_data = match draw.below(4) {
                    0 => None,
                    1 => Some(record_cid(draw)),
                    _ => Some(self.roots[draw.below(self.roots.len())]),
                };
            }
            2 if draw.below(2) == 0 => {
                let at = draw.below(self.records.len());
                if at < self.records.len() {
                    self.records.remove(at);
                }
            }
            2 => {
                let at = draw.below(self.ops.len());
                if let Some(op) = self.ops.get_mut(at) {
                    let record = RECORDS[draw.below(RECORDS.len())].clone();
                    op.cid = Some(Cid::of_cbor(&record));
                    self.records.push(record);
                }
            }
            _ => {
                if let Some(tree) = &mut self.tree {
                    tree.lie(draw);
                }
            }
        }
    }

    fn lie_about_an_op(&mut self, draw: &mut Draw<'_>) {
        if self.ops.is_empty() || draw.below(4) == 0 {
            let (path, cid) = (path(draw), Some(record_cid(draw)));
            self.ops.push(PlotOp { action: "create", path, cid, prev: None });
            return;
        }
        let at = draw.below(self.ops.len());
        let op = &mut self.ops[at];
        match draw.below(7) {
            0 => op.action = ["create", "update", "delete", "undo"][draw.below(4)],
            1 => op.path = path(draw),
            2 => op.path = "no path".to_owned(),
            3 => op.cid = op.cid.is_none().then(|| record_cid(draw)),
            4 => op.cid = Some(record_cid(draw)),
            5 => op.prev = op.prev.is_none().then(|| record_cid(draw)),
            _ => drop(self.ops.remove(at)),
        }
    }

    /// Hashes upward, signs, and encodes.
    fn stage(self, draw: &mut Draw<'_>) -> Scene {
        let mut nodes = BTreeMap::new();
        let mut shown = BTreeMap::new();
        let data = match &self.tree {
            Some(tree) => tree.write(&mut nodes, &mut shown),
            None => Tree::new().root(),
        };
        let all_shown = nodes.len() == shown.len();
        let hides_a_lie = self.tree.as_ref().is_some_and(|tree| tree.hides_a_lie(true));
        shown.extend(self.records.into_iter().map(|record| (Cid::of_cbor(&record), record)));
        let signed = commit::sign(&DID, rev(), &data, &KEY);
        let root = Cid::of_cbor(&signed);
        shown.insert(root, signed);
        let mut blocks: Vec<(Cid, &[u8])> =
            shown.iter().map(|(cid, block)| (*cid, &block[..])).collect();
        let turn = draw.below(blocks.len());
        blocks.rotate_left(turn);
        if draw.below(8) == 1 {
            blocks.extend_from_within(..1);
        }
        let car = car::write(&root, &blocks);
        let op = |op: &'_ PlotOp| (op.action, op.path.clone(), op.cid, op.prev);
        let ops: Vec<_> = self.ops.iter().map(op).collect();
        let outgoing = Outgoing::commit(&CommitFrame {
            repo: &DID.to_string(),
            rev: &rev().to_string(),
            since: None,
            commit: root,
            prev_data: self.prev_data,
            blocks: &car,
            ops: ops
                .iter()
                .map(|(action, path, cid, prev)| Op { action, path, cid: *cid, prev: *prev })
                .collect(),
            time: "2026-11-21T00:00:00Z",
        });
        let mut frame = Vec::new();
        outgoing.write_with(Seq::new(1).expect("small"), &mut frame);
        Scene {
            frame: frame.into(),
            data,
            ops: self.ops,
            prev_data: self.prev_data,
            nodes,
            shown,
            all_shown,
            hides_a_lie,
        }
    }
}

fn verdict(frame: &Bytes, proof: Proof) -> Result<(), Reject> {
    let name = HostName::parse("pds.example.com", HostRules::Public).expect("a host name");
    let identity = Identity {
        did: DID.clone(),
        key: Some(KEY.public_key()),
        pds: Some(name.clone()),
        handle: None,
        fetched: Micros(u64::MAX),
        tombstoned: false,
    };
    let case = Case {
        kind: HostKind::Event(Kind::Commit),
        did: &DID,
        frame,
        host: HostId(1),
        name: &name,
        epoch: Epoch(0),
        seq: HostSeq::new(1).expect("small"),
        received: Micros(0),
        proof,
        handles: Handles::Pass,
        prior: None,
        synced: None,
        host_is_full: false,
        tombstone_spacing: Duration::ZERO,
        now: NOW,
    };
    check(&case, &identity).map(drop)
}

fn whole(records: &BTreeMap<String, Cid>) -> Tree {
    let mut tree = Tree::new();
    for (path, cid) in records {
        tree.insert(path, *cid);
    }
    tree
}

fn path(draw: &mut Draw<'_>) -> String {
    PATHS[draw.below(PATHS.len())].clone()
}

fn record_cid(draw: &mut Draw<'_>) -> Cid {
    Cid::of_cbor(&RECORDS[draw.below(RECORDS.len())])
}

fn rev() -> Tid {
    Tid::from_micros(NOW, 0)
}

/// Paths of all layers up to 4, many of the lower ones, so that small trees are high.
static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut wanted = [24u32, 12, 6, 3, 1];
    let mut paths: Vec<String> = (0..100_000)
        .map(|number| format!("a.b.c/{number}"))
        .filter(|path| {
            let layer = usize::try_from(layer(path.as_bytes())).expect("small");
            let left = wanted.get_mut(layer);
            left.is_some_and(|left| left.checked_sub(1).map(|less| *left = less).is_some())
        })
        .collect();
    paths.sort_unstable();
    paths
});

/// The last is no record.
static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let good = (0..GOOD_RECORDS).map(|at| vec![0xa1, 0x61, b'n', u8::try_from(at).expect("few")]);
    good.chain([vec![0x80]]).collect()
});
const GOOD_RECORDS: usize = 5;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_secret(Curve::K256, &[7; 32]).expect("a secret"));
static DID: LazyLock<Did> =
    LazyLock::new(|| Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").expect("a DID"));
/// 2026-11-21T00:00:00Z.
const NOW: Micros = Micros(1_795_219_200_000_000);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000,
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn the_naive_judge_agrees(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            fuzz_signed(&bytes);
        }
    }

    /// Found by fuzzing: the hidden node only points down, and the tree before is below it.
    #[test]
    fn a_hidden_pointer_above_the_root_before_is_no_proof() {
        fuzz_signed(
            b"\xc9\x9d\x6e\x75\xaf\x65\x47\xcf\xb1\x15\xff\xff\xb3\xff\xff\xff\xff\xfb\xff\xff\xff\
            \xc7",
        );
    }

    #[test]
    fn some_lies_pass_and_some_do_not() {
        let mut state = 1u64;
        let (mut passed, mut named) = (0, std::collections::BTreeSet::new());
        for _ in 0..3_000 {
            let bytes: Vec<u8> = (0..100)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33).to_le_bytes()[0]
                })
                .collect();
            let mut draw = Draw(&bytes);
            let mut plot = Plot::draw(&mut draw);
            plot.lie(&mut draw);
            match verdict(&plot.stage(&mut draw).frame, Proof::Owed) {
                Ok(()) => passed += 1,
                Err(reject) => drop(named.insert(reject.name())),
            }
        }
        assert!(passed > 100, "{passed}");
        // Each of these checks is reached.
        for name in [
            "inversion_incomplete",
            "inversion_mismatch",
            "mst_malformed",
            "op_duplicate",
            "op_malformed",
            "op_not_in_tree",
            "op_path",
            "prev_data_missing",
            "record_malformed",
            "record_missing",
        ] {
            assert!(named.contains(name), "{name}: {named:?}");
        }
    }
}
