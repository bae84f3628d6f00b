//! Envelopes: fields that nobody knows, of any size, depth and number; too many ops, long names.

use protocol::cid::Cid;
use protocol::reject::Reject;

use super::{Attack, create, drops, passes, repo};
use crate::testing::{Commit, Op, Write, text, value};

pub(super) fn attacks() -> Vec<Attack> {
    const MALFORMED: Reject = Reject::FrameMalformed;
    vec![
        passes("an unknown field of 2 MB", &with(value(|w| w.bytes(&vec![7; FIELD_BYTES])))),
        drops("a text of 2 MB", &with(text(&"\u{2603}".repeat(FIELD_BYTES / 3))), MALFORMED),
        passes("texts of half a megabyte", &with(text(&"\u{2603}".repeat(170_000)))),
        drops("a list of two million numbers", &with(list(&[0], FIELD_BYTES)), MALFORMED),
        drops("a list of maps of one", &with(list(b"\xa1\x60\xf6", FIELD_BYTES / 3)), MALFORMED),
        passes("as many maps of one as may be", &with(list(b"\xa1\x60\xf6", 5_000))),
        drops("a million nested arrays", &with(vec![0x81; FIELD_BYTES]), MALFORMED),
        drops(
            "a list that claims 2^63 items",
            &with(b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec()),
            MALFORMED,
        ),
        drops("a map of 4,097 keys", &with(unsorted(4_097, 4)), MALFORMED),
        passes("a map of 4,000 keys out of order", &with(unsorted(4_000, 4))),
        passes("a map of long keys out of order", &with(unsorted(1_000, 500))),
        passes("maps out of order in each other around 2 MB", &with(onion(28))),
        drops("blobs of 48,000 links", &with_links(48_000), MALFORMED),
        passes("blobs of 15,000 links", &with_links(15_000)),
        drops("1,500 ops", &with_ops(1_500, false), Reject::OpsTooMany),
        drops("20,000 ops", &with_ops(20_000, false), MALFORMED),
        passes("199 ops on one path", &on_one_path(199)),
        drops("200 ops of 2 kB each", &with_ops(200, true), Reject::OpPath),
        drops(
            "a DID of 500 kB",
            &named(&format!("did:web:{}", "a".repeat(500_000))),
            Reject::DidSyntax,
        ),
        drops("a DID of 2 MB", &named(&format!("did:web:{}", "a".repeat(FIELD_BYTES))), MALFORMED),
        drops(
            "a DID of 2,048 labels",
            &named(&format!("did:web:{}com", "a.".repeat(1_018))),
            Reject::DidMethod,
        ),
    ]
}

fn small() -> Commit {
    let mut repo = repo();
    repo.commit(&[]);
    repo.commit(&[Write::Create("app.bsky.feed.post/one", "one")])
}

/// A commit with a field that nobody knows.
fn with(field: Vec<u8>) -> Commit {
    let mut commit = small();
    commit.fields.push(("unknown", field));
    commit
}

fn with_links(count: usize) -> Commit {
    let mut commit = small();
    let cid = Cid::of_cbor(b"\xa0");
    let blobs = value(|writer| {
        writer.array(count);
        (0..count).for_each(|_| writer.cid(&cid));
    });
    commit.fields.push(("blobs", blobs));
    commit
}

fn list(item: &[u8], count: usize) -> Vec<u8> {
    let mut list = vec![0x9a];
    list.extend(u32::try_from(count).unwrap().to_be_bytes());
    list.extend(item.repeat(count));
    list
}

/// A map whose keys come in falling order, alike up to their ends.
fn unsorted(count: usize, key_bytes: usize) -> Vec<u8> {
    value(|writer| {
        writer.map(count);
        for number in (0..count).rev() {
            writer.text(&format!("{}{number:04}", "k".repeat(key_bytes - 4)));
            writer.null();
        }
    })
}

/// Maps in each other, each with its keys out of order, around a large value.
fn onion(depth: usize) -> Vec<u8> {
    let mut onion = value(|writer| writer.bytes(&vec![7; FIELD_BYTES]));
    for _ in 0..depth {
        onion = value(|writer| {
            writer.map(2);
            writer.text("b");
            writer.encoded(&onion);
            writer.text("a");
            writer.null();
        });
    }
    onion
}

/// The ops of a small commit, and many more.
fn with_ops(count: usize, long: bool) -> Commit {
    let mut commit = small();
    let cid = commit.ops[0].cid.unwrap();
    let name = if long { "x".repeat(2_000) } else { String::new() };
    commit.ops = (0..count).map(|at| create(&format!("a.b.c/{name}{at}"), cid)).collect();
    commit
}

/// One record, created and deleted and created again and so on: an odd number of ops.
fn on_one_path(count: usize) -> Commit {
    let mut commit = small();
    let there = commit.ops[0].clone();
    let gone = Op { action: "delete".to_owned(), cid: None, prev: there.cid, ..there.clone() };
    commit.ops = [there, gone].into_iter().cycle().take(count).collect();
    commit
}

fn named(did: &str) -> Commit {
    Commit { repo: did.to_owned(), ..small() }
}

/// With the rest of the frame it is 2 MB.
const FIELD_BYTES: usize = 1_995_000;
