//! Frames that are made here: those that the relay says itself, and all kinds for the simulated
//! network.

use super::decode::CommitFrame;
use super::splice::Outgoing;
use super::{Kind, Op};
use crate::cbor::Writer;
use crate::did::Did;
use crate::tid::Tid;

impl Outgoing {
    /// A `#commit`, as the reference PDS sends it: an op's `cid` is there even when null, `prev`
    /// and `prevData` only when they are not.
    pub fn commit(commit: &CommitFrame<'_>) -> Self {
        let fields = 11 + usize::from(commit.prev_data.is_some());
        let mut bytes = Vec::with_capacity(commit.blocks.len() + COMMIT_BYTES);
        let mut writer = open(&mut bytes, Kind::Commit, fields);
        writer.text("ops");
        writer.array(commit.ops.len());
        for op in &commit.ops {
            write_op(op, &mut writer);
        }
        writer.text("rev");
        writer.text(commit.rev);
        let seq_at = leave_seq(&mut writer);
        writer.text("repo");
        writer.text(commit.repo);
        writer.text("time");
        writer.text(commit.time);
        writer.text("blobs");
        writer.array(0);
        writer.text("since");
        match commit.since {
            Some(since) => writer.text(since),
            None => writer.null(),
        }
        writer.text("blocks");
        writer.bytes(commit.blocks);
        writer.text("commit");
        writer.cid(&commit.commit);
        writer.text("rebase");
        writer.boolean(false);
        writer.text("tooBig");
        writer.boolean(false);
        if let Some(prev_data) = &commit.prev_data {
            writer.text("prevData");
            writer.cid(prev_data);
        }
        let span = u32::try_from(commit.ops.len()).expect("ops in memory are fewer than 2^32");
        Self::drafted(Kind::Commit, span.max(1), bytes, seq_at)
    }

    /// A `#sync`. `blocks` is a CAR with the commit block.
    pub fn sync(did: &Did, rev: Tid, blocks: &[u8], time: &str) -> Self {
        let mut bytes = Vec::with_capacity(blocks.len() + SMALL_BYTES);
        let mut writer = open(&mut bytes, Kind::Sync, 5);
        writer.text("did");
        writer.text(&did.to_string());
        writer.text("rev");
        writer.text(&rev.to_string());
        let seq_at = leave_seq(&mut writer);
        writer.text("time");
        writer.text(time);
        writer.text("blocks");
        writer.bytes(blocks);
        Self::drafted(Kind::Sync, 1, bytes, seq_at)
    }

    /// An `#identity`. A legacy `#handle` and a stripped or changed handle come through here.
    pub fn identity(did: &Did, handle: Option<&str>, time: &str) -> Self {
        let mut bytes = Vec::with_capacity(SMALL_BYTES);
        let mut writer = open(&mut bytes, Kind::Identity, 3 + usize::from(handle.is_some()));
        writer.text("did");
        writer.text(&did.to_string());
        let seq_at = leave_seq(&mut writer);
        writer.text("time");
        writer.text(time);
        if let Some(handle) = handle {
            writer.text("handle");
            writer.text(handle);
        }
        Self::drafted(Kind::Identity, 1, bytes, seq_at)
    }

    /// An `#account`.
    pub fn account(did: &Did, active: bool, status: Option<&str>, time: &str) -> Self {
        let mut bytes = Vec::with_capacity(SMALL_BYTES);
        let mut writer = open(&mut bytes, Kind::Account, 4 + usize::from(status.is_some()));
        writer.text("did");
        writer.text(&did.to_string());
        let seq_at = leave_seq(&mut writer);
        writer.text("time");
        writer.text(time);
        writer.text("active");
        writer.boolean(active);
        if let Some(status) = status {
            writer.text("status");
            writer.text(status);
        }
        Self::drafted(Kind::Account, 1, bytes, seq_at)
    }
}

/// The frame `#info`.
pub fn info(name: &str, message: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SMALL_BYTES);
    let mut writer = Writer::new(&mut bytes);
    write_header("#info", &mut writer);
    writer.map(2);
    writer.text("name");
    writer.text(name);
    writer.text("message");
    writer.text(message);
    bytes
}

/// The error frame.
pub fn error(error: &str, message: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SMALL_BYTES);
    let mut writer = Writer::new(&mut bytes);
    writer.map(1);
    writer.text("op");
    // -1.
    writer.negative(0);
    writer.map(2);
    writer.text("error");
    writer.text(error);
    writer.text("message");
    writer.text(message);
    bytes
}

/// Writes the header and the head of a payload with this many fields.
fn open(bytes: &mut Vec<u8>, kind: Kind, fields: usize) -> Writer<'_> {
    let mut writer = Writer::new(bytes);
    write_header(kind.name(), &mut writer);
    writer.map(fields);
    writer
}

fn write_header(name: &str, writer: &mut Writer<'_>) {
    writer.map(2);
    writer.text("t");
    writer.text(name);
    writer.text("op");
    writer.unsigned(1);
}

/// Writes the key `seq` and leaves its value out; where it belongs is returned.
fn leave_seq(writer: &mut Writer<'_>) -> usize {
    writer.text("seq");
    writer.position()
}

fn write_op(op: &Op<'_>, writer: &mut Writer<'_>) {
    writer.map(3 + usize::from(op.prev.is_some()));
    writer.text("cid");
    match &op.cid {
        Some(cid) => writer.cid(cid),
        None => writer.null(),
    }
    writer.text("path");
    writer.text(op.path);
    if let Some(prev) = &op.prev {
        writer.text("prev");
        writer.cid(prev);
    }
    writer.text("action");
    writer.text(op.action);
}

/// Room for a frame without CAR: a DID, a time, a handle, and the keys.
const SMALL_BYTES: usize = 192;
/// Room for a commit of a few ops, beside its CAR.
const COMMIT_BYTES: usize = 768;
