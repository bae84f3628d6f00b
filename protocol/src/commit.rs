//! Signed commits, repo version 3.

use std::ops::Range;

use crate::cbor::{CborError, Reader, Rules, Value, Writer};
use crate::cid::{Cid, Codec, Link};
use crate::did::Did;
use crate::keys::SigningKey;
use crate::sha256::{sha256, sha256_of_parts};
use crate::tid::Tid;

/// A commit object as it stands in its block: strict DRISL, no duplicate or unknown field.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    /// The account, as written.
    pub did: &'a str,
    /// Its revision, as written.
    pub rev: &'a str,
    /// The root of the MST.
    pub data: Cid,
    /// The signature, r and s.
    pub signature: [u8; 64],
    /// SHA-256 of the commit's own bytes without `sig`: what was signed.
    pub unsigned_digest: [u8; 32],
}

/// A block that is not a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a commit")]
pub struct CommitError;

impl From<CborError> for CommitError {
    fn from(_: CborError) -> Self {
        Self
    }
}

impl<'a> Commit<'a> {
    /// Parses the block.
    pub fn parse(block: &'a [u8]) -> Result<Self, CommitError> {
        let mut reader = Reader::new(block, Rules::DrislNoFloats);
        let Value::Map(mut map) = reader.value()? else {
            return Err(CommitError);
        };
        let mut fields = Fields::default();
        loop {
            let start = reader.position();
            let Some(key) = map.next_key(&mut reader)? else { break };
            match key {
                "did" => fields.did = reader.text()?,
                "rev" => fields.rev = reader.text()?,
                "sig" => {
                    let signature = reader.bytes()?.ok_or(CommitError)?;
                    let signature = signature.try_into().map_err(|_| CommitError)?;
                    fields.signature = Some((signature, start..reader.position()));
                }
                "data" => fields.data = reader.link()?,
                // "in v3 it must be present but nullable" (atproto.com/specs/repository); absent
                // in the commits of some hosts, and never used.
                "prev" => {
                    if !reader.take_null() {
                        reader.link()?.ok_or(CommitError)?;
                    }
                }
                "version" => fields.version = reader.unsigned()?,
                _ => return Err(CommitError),
            }
        }
        reader.end()?;
        fields.into_commit(block).ok_or(CommitError)
    }
}

#[derive(Default)]
struct Fields<'a> {
    did: Option<&'a str>,
    rev: Option<&'a str>,
    /// With it the place of the whole entry, key and value.
    signature: Option<([u8; 64], Range<usize>)>,
    data: Option<Link<'a>>,
    version: Option<u64>,
}

impl<'a> Fields<'a> {
    /// `None`: one is missing or has another type.
    fn into_commit(self, block: &[u8]) -> Option<Commit<'a>> {
        let data = self.data?.cid().filter(|cid| cid.codec == Codec::DagCbor)?;
        let (signature, entry) = self.signature?;
        if self.version? != COMMIT_VERSION {
            return None;
        }
        Some(Commit {
            did: self.did?,
            rev: self.rev?,
            data,
            signature,
            unsigned_digest: digest_without(block, entry),
        })
    }
}

/// Digest of a canonical map of at most 23 entries, one of them cut out.
//
// "To sign a commit: … populate all the data fields … serialize the UnsignedCommit object with
// DRISL-CBOR … hash the bytes with SHA-256" (atproto.com/specs/repository). Canonical as the
// block is, cutting the entry out and counting one entry less gives just those bytes.
fn digest_without(map: &[u8], entry: Range<usize>) -> [u8; 32] {
    sha256_of_parts([&[map[0] - 1], &map[1..entry.start], &map[entry.end..]])
}

/// Builds the signed block of a commit (`prev: null`).
pub fn sign(did: &Did, rev: Tid, data: &Cid, key: &SigningKey) -> Vec<u8> {
    let (did, rev) = (did.to_string(), rev.to_string());
    let encode = |signature: Option<&[u8; 64]>| {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let mut writer = Writer::new(&mut block);
        writer.map(if signature.is_some() { 6 } else { 5 });
        writer.text("did");
        writer.text(&did);
        writer.text("rev");
        writer.text(&rev);
        if let Some(signature) = signature {
            writer.text("sig");
            writer.bytes(signature);
        }
        writer.text("data");
        writer.cid(data);
        writer.text("prev");
        writer.null();
        writer.text("version");
        writer.unsigned(COMMIT_VERSION);
        block
    };
    let digest = sha256(&encode(None));
    encode(Some(&key.sign(&digest)))
}

/// Fuzz target: of a block that is taken, the signed bytes are those of the block's other fields,
/// encoded anew.
pub fn fuzz_commit(data: &[u8]) {
    let Ok(commit) = Commit::parse(data) else {
        return;
    };
    let mut reader = Reader::new(data, Rules::DrislNoFloats);
    let Ok(Value::Map(mut map)) = reader.value() else {
        unreachable!("a commit is a map");
    };
    let mut entries: Vec<(&str, &[u8])> = Vec::new();
    while let Ok(Some(key)) = map.next_key(&mut reader) {
        let start = reader.position();
        reader.skip().expect("it was read before");
        entries.push((key, &data[start..reader.position()]));
    }
    entries.retain(|(key, _)| *key != "sig");
    let mut unsigned = Vec::new();
    Writer::new(&mut unsigned).sorted_map(&mut entries);
    assert_eq!(commit.unsigned_digest, sha256(&unsigned));
}

const COMMIT_VERSION: u64 = 3;
/// Room for a commit of a `did:plc`.
const BLOCK_BYTES: usize = 224;
