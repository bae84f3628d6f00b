//! A small world for tests: accounts that sign commits, frames as a host sends them, and lies.

#![allow(dead_code, reason = "tests and the benchmark use different parts")]
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use bytes::Bytes;
use protocol::car;
use protocol::cbor::Writer;
use protocol::cid::Cid;
use protocol::commit;
use protocol::datetime;
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::{Curve, SigningKey};
use protocol::mst::Tree;
use protocol::tid::Tid;

/// When the first revision is made: 2026-11-21T00:00:00Z.
pub(crate) const START: Micros = Micros(1_795_219_200_000_000);

/// An account and its repo. A clone is a fork: another host's copy.
#[derive(Clone)]
pub(crate) struct Repo {
    pub(crate) did: Did,
    pub(crate) key: SigningKey,
    pub(crate) tree: Tree,
    /// The newest revision and the MST's root then.
    pub(crate) head: Option<(Tid, Cid)>,
    revs: u64,
}

/// One write of a commit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write<'a> {
    /// Path and text of a record.
    Create(&'a str, &'a str),
    /// Path and text of a record.
    Update(&'a str, &'a str),
    /// Path.
    Delete(&'a str),
    /// Path and bytes of a record to create.
    Raw(&'a str, &'a [u8]),
}

/// A `#commit` before it is encoded; a lie changes what it likes.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) repo: String,
    pub(crate) rev: String,
    pub(crate) since: Option<String>,
    pub(crate) commit: Cid,
    pub(crate) prev_data: Option<Cid>,
    pub(crate) root: Cid,
    pub(crate) blocks: Vec<(Cid, Vec<u8>)>,
    pub(crate) ops: Vec<Op>,
    pub(crate) time: String,
    /// The MST's root; not a field of the frame.
    pub(crate) data: Cid,
    /// Fields to add or to put in the place of others, encoded.
    pub(crate) fields: Vec<(&'static str, Vec<u8>)>,
    /// Fields to leave out.
    pub(crate) without: Vec<&'static str>,
}

/// One op of a [`Commit`].
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) action: String,
    pub(crate) path: String,
    pub(crate) cid: Option<Cid>,
    pub(crate) prev: Option<Cid>,
}

impl Repo {
    /// The account of this number: its DID and key follow from it.
    pub(crate) fn new(number: u8, curve: Curve) -> Self {
        let letter = |digit: u8| char::from(b'a' + digit % 26);
        let id: String = (0..24).map(|at| letter(number.wrapping_mul(at + 1))).collect();
        Self {
            did: Did::parse(&format!("did:plc:{id}")).unwrap(),
            key: SigningKey::from_secret(curve, &[number.max(1); 32]).unwrap(),
            tree: Tree::new(),
            head: None,
            revs: u64::from(number) << 10,
        }
    }

    /// The DID document that names `endpoint` as the PDS.
    pub(crate) fn document(&self, endpoint: &str) -> String {
        let did = &self.did;
        let key = self.key.public_key().to_multikey();
        format!(
            r##"{{"id":"{did}","alsoKnownAs":["at://someone.example.com"],
            "verificationMethod":[{{"id":"{did}#atproto","type":"Multikey","controller":"{did}",
            "publicKeyMultibase":"{key}"}}],"service":[{{"id":"#atproto_pds",
            "type":"AtprotoPersonalDataServer","serviceEndpoint":"{endpoint}"}}]}}"##
        )
    }

    /// Writes, and commits them as the reference PDS does.
    pub(crate) fn commit(&mut self, writes: &[Write<'_>]) -> Commit {
        let before = self.head;
        let mut blocks = Vec::new();
        let mut ops = Vec::new();
        for write in writes {
            let (action, path, record) = match *write {
                Write::Create(path, text) => ("create", path, Some(record(text))),
                Write::Update(path, text) => ("update", path, Some(record(text))),
                Write::Delete(path) => ("delete", path, None),
                Write::Raw(path, bytes) => ("create", path, Some(bytes.to_vec())),
            };
            let prev = self.tree.get(path);
            let cid = record.map(|record| {
                let cid = Cid::of_cbor(&record);
                blocks.push((cid, record));
                self.tree.insert(path, cid);
                cid
            });
            if cid.is_none() {
                self.tree.remove(path);
            }
            ops.push(Op { action: action.into(), path: path.into(), cid, prev });
        }
        let data = self.tree.root();
        let paths: Vec<&str> = ops.iter().map(|op| op.path.as_str()).collect();
        if !paths.is_empty() {
            blocks.extend(self.tree.proof(&paths));
        }
        self.revs += 1;
        let rev = Tid::from_micros(Micros(START.0 + self.revs), 7);
        self.head = Some((rev, data));
        let mut commit = Commit {
            repo: self.did.to_string(),
            rev: rev.to_string(),
            since: before.map(|(rev, _)| rev.to_string()),
            commit: data,
            prev_data: before.map(|(_, data)| data),
            root: data,
            blocks,
            ops,
            time: datetime::format(START),
            data,
            fields: Vec::new(),
            without: Vec::new(),
        };
        self.sign(&mut commit, rev, &data);
        commit
    }

    /// Puts a signed commit of this revision and tree in.
    pub(crate) fn sign(&self, commit: &mut Commit, rev: Tid, data: &Cid) {
        let block = commit::sign(&self.did, rev, data, &self.key);
        commit.replace_commit(block);
    }

    /// Its next revision comes after those of a fork with fewer than `revs` more commits.
    pub(crate) fn later(&mut self, revs: u64) {
        self.revs += revs;
    }

    /// A `#sync` of the newest revision.
    pub(crate) fn sync(&self) -> Sync {
        let (rev, data) = self.head.unwrap();
        let block = commit::sign(&self.did, rev, &data, &self.key);
        let root = Cid::of_cbor(&block);
        Sync {
            did: self.did.to_string(),
            rev: rev.to_string(),
            root,
            blocks: vec![(root, block)],
            time: datetime::format(START),
        }
    }
}

impl Commit {
    /// Another block as the commit.
    pub(crate) fn replace_commit(&mut self, block: Vec<u8>) {
        let old = self.commit;
        self.blocks.retain(|(cid, _)| *cid != old || *cid == self.data);
        self.commit = Cid::of_cbor(&block);
        self.root = self.commit;
        self.blocks.push((self.commit, block));
    }

    /// The block of the commit.
    pub(crate) fn commit_block(&mut self) -> &mut Vec<u8> {
        let cid = self.commit;
        &mut self.blocks.iter_mut().find(|(other, _)| *other == cid).unwrap().1
    }

    /// As the host sends it.
    pub(crate) fn frame(&self, seq: u64) -> Bytes {
        let blocks: Vec<_> = self.blocks.iter().map(|(cid, block)| (*cid, &block[..])).collect();
        let ops: Vec<Vec<u8>> = self.ops.iter().map(Op::encode).collect();
        let mut fields = vec![
            ("seq", value(|w| w.unsigned(seq))),
            ("repo", text(&self.repo)),
            ("rev", text(&self.rev)),
            ("since", self.since.as_deref().map_or_else(null, text)),
            ("commit", value(|w| w.cid(&self.commit))),
            ("blocks", value(|w| w.bytes(&car::write(&self.root, &blocks)))),
            ("time", text(&self.time)),
            ("rebase", value(|w| w.boolean(false))),
            ("tooBig", value(|w| w.boolean(false))),
            ("blobs", value(|w| w.array(0))),
            (
                "ops",
                value(|w| {
                    w.array(ops.len());
                    ops.iter().for_each(|op| w.encoded(op));
                }),
            ),
        ];
        if let Some(prev_data) = self.prev_data {
            fields.push(("prevData", value(|w| w.cid(&prev_data))));
        }
        let replaced = |name: &str| self.fields.iter().any(|(other, _)| *other == name);
        fields.retain(|(name, _)| !replaced(name));
        fields.extend(self.fields.iter().cloned());
        fields.retain(|(name, _)| !self.without.contains(name));
        frame("#commit", &fields)
    }
}

impl Op {
    fn encode(&self) -> Vec<u8> {
        let cid = |cid: &Cid| value(|w| w.cid(cid));
        let mut fields = vec![
            ("action", text(&self.action)),
            ("path", text(&self.path)),
            ("cid", self.cid.as_ref().map_or_else(null, cid)),
        ];
        if let Some(prev) = &self.prev {
            fields.push(("prev", cid(prev)));
        }
        map(&fields)
    }
}

/// A `#sync` before it is encoded.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) did: String,
    pub(crate) rev: String,
    pub(crate) root: Cid,
    pub(crate) blocks: Vec<(Cid, Vec<u8>)>,
    pub(crate) time: String,
}

impl Sync {
    /// As the host sends it.
    pub(crate) fn frame(&self, seq: u64) -> Bytes {
        let blocks: Vec<_> = self.blocks.iter().map(|(cid, block)| (*cid, &block[..])).collect();
        let fields = [
            ("seq", value(|w| w.unsigned(seq))),
            ("did", text(&self.did)),
            ("rev", text(&self.rev)),
            ("time", text(&self.time)),
            ("blocks", value(|w| w.bytes(&car::write(&self.root, &blocks)))),
        ];
        frame("#sync", &fields)
    }
}

/// An `#identity` (or a legacy kind that looks like it) as the host sends it.
pub(crate) fn identity_frame(t: &str, did: &Did, seq: u64, handle: Option<&str>) -> Bytes {
    let mut fields = vec![
        ("seq", value(|w| w.unsigned(seq))),
        ("did", text(&did.to_string())),
        ("time", text(&datetime::format(START))),
    ];
    if let Some(handle) = handle {
        fields.push(("handle", text(handle)));
    }
    frame(t, &fields)
}

/// An `#account` as the host sends it.
pub(crate) fn account_frame(did: &Did, seq: u64, active: bool, status: Option<&str>) -> Bytes {
    let mut fields = vec![
        ("seq", value(|w| w.unsigned(seq))),
        ("did", text(&did.to_string())),
        ("time", text(&datetime::format(START))),
        ("active", value(|w| w.boolean(active))),
    ];
    if let Some(status) = status {
        fields.push(("status", text(status)));
    }
    frame("#account", &fields)
}

/// A record with this text.
pub(crate) fn record(words: &str) -> Vec<u8> {
    map(&[("text", text(words)), ("$type", text("app.bsky.feed.post"))])
}

/// A frame of these fields.
pub(crate) fn frame(t: &str, fields: &[(&str, Vec<u8>)]) -> Bytes {
    let mut out = map(&[("t", text(t)), ("op", value(|w| w.unsigned(1)))]);
    out.extend(map(fields));
    out.into()
}

/// A map, encoded.
pub(crate) fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut entries: Vec<_> = fields.iter().map(|(name, field)| (*name, &field[..])).collect();
    value(|w| w.sorted_map(&mut entries))
}

/// A text, encoded.
pub(crate) fn text(words: &str) -> Vec<u8> {
    value(|w| w.text(words))
}

/// A value, encoded.
pub(crate) fn value(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out));
    out
}

fn null() -> Vec<u8> {
    value(|w| w.null())
}
