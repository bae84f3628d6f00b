//! Records: many, large, deep, of a million items, and one that all ops name.

use protocol::reject::Reject;

use super::{Attack, drops, fill, passes, repo};
use crate::testing::{Commit, Write, record};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        passes("200 records of 9 kB: the largest honest commit", &largest()),
        passes("200 small records", &commit_of(200, |_| record("small"))),
        passes("one record of a million items named by 200 ops", &named_by_all()),
        passes("records of one-byte items", &two_of(&[0x00])),
        passes("records of two-byte items", &two_of(&[0x18, 0xff])),
        passes("records of arrays of one", &two_of(&[0x81, 0x00])),
        passes("records of maps of one", &two_of(&[0xa1, 0x60, 0x00])),
        passes("records of open arrays", &two_of(&[0x9f, 0xff])),
        passes("records of open maps", &two_of(&[0xbf, 0x60, 0x00, 0xff])),
        passes("records of texts in empty chunks", &two_of(&[0x7f, 0x60, 0x60, 0xff])),
        passes("records of tags", &two_of(&[0xc1, 0x00])),
        passes("records as deep as may be, again and again", &two_of(&deepest())),
        passes("records of one key again and again", &two_maps(b"\x61a\x00")),
        drops("records of a million nested arrays", &nested(0x81), Reject::RecordMalformed),
        drops("records of a million nested tags", &nested(0xc1), Reject::RecordMalformed),
        drops("records of a million nested open arrays", &nested(0x9f), Reject::RecordMalformed),
        drops("a record that claims 2^63 items", &claims(), Reject::RecordMalformed),
    ]
}

/// A commit that creates so many records.
fn commit_of(count: usize, record: impl Fn(usize) -> Vec<u8>) -> Commit {
    let paths: Vec<String> = (0..count).map(|at| format!("app.bsky.feed.post/{at:013}")).collect();
    let records: Vec<Vec<u8>> = (0..count).map(record).collect();
    let writes: Vec<Write<'_>> =
        paths.iter().zip(&records).map(|(path, record)| Write::Raw(path, record)).collect();
    let mut repo = repo();
    repo.commit(&[]);
    repo.commit(&writes)
}

fn largest() -> Commit {
    let mut commit = commit_of(200, |at| record(&format!("{at:04} ").repeat(1_900)));
    fill(&mut commit);
    commit
}

fn named_by_all() -> Commit {
    let items = array(&[0x00], RECORD_BYTES);
    let mut commit = commit_of(200, |_| items.clone());
    commit.blocks.sort_by_key(|(cid, _)| *cid);
    commit.blocks.dedup_by_key(|(cid, _)| *cid);
    fill(&mut commit);
    commit
}

/// Two records that fill a commit with this item.
fn two_of(item: &[u8]) -> Commit {
    commit_of(2, |at| array(item, RECORD_BYTES - at * item.len()))
}

/// Two records that are one map each, of this entry again and again: a relay does not judge that.
fn two_maps(entry: &[u8]) -> Commit {
    commit_of(2, |at| {
        let entries = RECORD_BYTES / entry.len() - 10 - at;
        let mut record = head(0xba, entries);
        record.extend(entry.repeat(entries));
        record
    })
}

fn nested(initial: u8) -> Commit {
    commit_of(2, |at| {
        let mut record = b"\xa1\x61a".to_vec();
        record.extend(vec![initial; RECORD_BYTES - at]);
        record
    })
}

fn claims() -> Commit {
    commit_of(1, |_| b"\xa1\x61a\x9b\x7f\xff\xff\xff\xff\xff\xff\xff\x00".to_vec())
}

/// One item, as deep as the record around it allows.
fn deepest() -> Vec<u8> {
    let mut item = vec![0x81; 125];
    item.push(0x00);
    item
}

/// A map whose one value is an array of this item, in so many bytes.
fn array(item: &[u8], bytes: usize) -> Vec<u8> {
    let items = bytes / item.len() - 10;
    let mut record = b"\xa1\x61a".to_vec();
    record.extend(head(0x9a, items));
    record.extend(item.repeat(items));
    record
}

/// The head of an array or map with a length of four bytes.
fn head(initial: u8, count: usize) -> Vec<u8> {
    let mut head = vec![initial];
    head.extend(u32::try_from(count).unwrap().to_be_bytes());
    head
}

/// Two of them and the rest of a commit are within the limit of `blocks`, each within its own.
const RECORD_BYTES: usize = 999_000;
