//! What a process did to the files of one folder, in order: as the shim wrote it down.

use std::path::Path;

use bytes::{Buf as _, Bytes};

/// One call.
#[derive(Clone, Debug)]
pub struct Record {
    pub op: Op,
    /// When it was done, ns of the monotonic clock, which is the whole machine's.
    pub at: u64,
}

/// What was done. Paths are relative to the folder, which is the empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A process begins: the descriptors of the one before are gone.
    Start,
    Open {
        fd: i32,
        create: bool,
        truncate: bool,
        path: String,
    },
    Close {
        fd: i32,
    },
    Duplicate {
        fd: i32,
        copy: i32,
    },
    Write {
        fd: i32,
        offset: u64,
        data: Bytes,
    },
    Truncate {
        fd: i32,
        size: u64,
    },
    TruncatePath {
        path: String,
        size: u64,
    },
    Allocate {
        fd: i32,
        offset: u64,
        len: u64,
        keeps_size: bool,
        punches: bool,
    },
    /// Of a file: its bytes and size. Of a folder: its entries.
    Sync {
        fd: i32,
    },
    SyncAll,
    /// `sync_file_range`: makes nothing durable.
    SyncNothing,
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    MakeFolder {
        path: String,
    },
    RemoveFolder {
        path: String,
    },
    /// A failure was brought about.
    Fault {
        path: String,
    },
}

/// Reads a journal. What it holds has been done by one process after the other.
pub fn read(file: &Path) -> Vec<Record> {
    let mut rest = Bytes::from(std::fs::read(file).unwrap());
    let mut records = Vec::new();
    let mut root = String::new();
    while rest.len() >= HEAD_BYTES {
        let len = rest.get_u32_le() as usize;
        // A process that was killed may leave half a record: of a call that was done, or not.
        if rest.len() < len {
            break;
        }
        let mut record = rest.split_to(len);
        let kind = record.get_u8();
        record.advance(3);
        let fd = record.get_i32_le();
        let at = record.get_u64_le();
        let (a, b) = (record.get_u64_le(), record.get_u64_le());
        let path_len = record.get_u32_le() as usize;
        let path = String::from_utf8(record.split_to(path_len).to_vec()).unwrap();
        if kind == START {
            root = path;
            records.push(Record { op: Op::Start, at });
            continue;
        }
        let op = op(kind, fd, (a, b), path, record, &root);
        records.push(Record { op, at });
    }
    records
}

fn op(kind: u8, fd: i32, (a, b): (u64, u64), path: String, data: Bytes, root: &str) -> Op {
    let below = |path: &str| {
        let path = path.strip_prefix(root).unwrap_or_else(|| panic!("{path} is not in {root}"));
        path.trim_start_matches('/').to_owned()
    };
    let other = || below(std::str::from_utf8(&data).unwrap());
    match kind {
        2 => Op::Open {
            fd,
            create: a & O_CREAT != 0,
            truncate: a & O_TRUNC != 0,
            path: below(&path),
        },
        3 => Op::Close { fd },
        4 => Op::Duplicate { fd, copy: i32::try_from(a).unwrap() },
        5 => Op::Write { fd, offset: a, data },
        6 => Op::Truncate { fd, size: a },
        7 => Op::TruncatePath { path: below(&path), size: a },
        8 => {
            let mode = i32::from_le_bytes(data[..].try_into().unwrap());
            let (keeps_size, punches) = (mode & 1 != 0, mode & 2 != 0);
            assert_eq!(mode & !3, 0, "a mode of fallocate that is not understood");
            Op::Allocate { fd, offset: a, len: b, keeps_size, punches }
        }
        9 => Op::Sync { fd },
        10 => Op::SyncAll,
        11 => Op::SyncNothing,
        12 => Op::Rename { from: below(&path), to: other() },
        13 => Op::Link { from: below(&path), to: other() },
        14 => Op::Unlink { path: below(&path) },
        15 => Op::MakeFolder { path: below(&path) },
        16 => Op::RemoveFolder { path: below(&path) },
        18 => Op::Fault { path: below(&path) },
        _ => panic!("not understood: {kind} of {path}: {:?}", String::from_utf8_lossy(&data)),
    }
}

const HEAD_BYTES: usize = 40;
const START: u8 = 1;
/// As Linux has them on every machine that this runs on.
const O_CREAT: u64 = 0o100;
const O_TRUNC: u64 = 0o1000;
