//! CBOR as careless encoders write it: keys in any order, heads longer than needed.

use ipld_core::cid::Cid as IpldCid;
use ipld_core::ipld::Ipld;
use proptest::prelude::*;
use protocol::cid::{Cid, Codec};

/// Fields of a map in the order in which they are to be written.
pub(crate) type Fields = Vec<(String, Ipld)>;

/// Choices of an encoder: zero is canonical, the further from it the wilder.
#[derive(Clone, Debug)]
pub(crate) struct Whims(pub(crate) Vec<u8>);

impl Whims {
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    fn next(&mut self) -> usize {
        self.0.pop().map_or(0, usize::from)
    }
}

/// A frame of two maps, the second with its keys as they come.
pub(crate) fn frame(name: &str, fields: &Fields, whims: &mut Whims) -> Vec<u8> {
    let mut out = Vec::new();
    let header = [("t".to_owned(), Ipld::from(name)), ("op".to_owned(), Ipld::from(1u8))];
    encode_map(&header, whims, &mut out);
    encode_map(fields, whims, &mut out);
    out
}

/// The same in canonical form, by an independent encoder.
pub(crate) fn canonical_frame(name: &str, fields: &Fields) -> Vec<u8> {
    let header = [("t".to_owned(), Ipld::from(name)), ("op".to_owned(), Ipld::from(1u8))];
    let mut out = serde_ipld_dagcbor::to_vec(&Ipld::Map(header.into())).unwrap();
    out.extend(serde_ipld_dagcbor::to_vec(&Ipld::Map(fields.iter().cloned().collect())).unwrap());
    out
}

/// Reads the payload with a strict, independent decoder.
pub(crate) fn strict_payload(frame: &[u8]) -> Ipld {
    use protocol::cbor::{Reader, Rules};
    let mut reader = Reader::new(frame, Rules::DrislNoFloats);
    reader.skip().unwrap();
    let (header, payload) = frame.split_at(reader.position());
    let _: Ipld = serde_ipld_dagcbor::from_slice(header).unwrap();
    serde_ipld_dagcbor::from_slice(payload).unwrap()
}

/// A value that is no field of any kind of frame.
pub(crate) fn any_ipld() -> impl Strategy<Value = Ipld> {
    let integers = prop_oneof![
        -30i128..30,
        Just(i128::from(u64::MAX)),
        Just(-1 - i128::from(u64::MAX)),
        any::<i64>().prop_map(i128::from),
    ];
    let leaves = prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        integers.prop_map(Ipld::Integer),
        "[a-z\u{e9}\u{1f4a9}]{0,30}".prop_map(Ipld::String),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Ipld::Bytes),
        any::<[u8; 32]>().prop_map(link),
    ];
    leaves.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Ipld::List),
            prop::collection::btree_map("[a-z]{0,5}", inner, 0..4).prop_map(Ipld::Map),
        ]
    })
}

/// A dag-cbor sha-256 CID.
pub(crate) fn link(digest: [u8; 32]) -> Ipld {
    link_of(Cid { codec: Codec::DagCbor, digest })
}

pub(crate) fn link_of(cid: Cid) -> Ipld {
    Ipld::Link(IpldCid::try_from(cid.to_bytes().as_slice()).unwrap())
}

fn encode(value: &Ipld, whims: &mut Whims, out: &mut Vec<u8>) {
    match value {
        Ipld::Null => out.push(0xf6),
        Ipld::Bool(boolean) => out.push(0xf4 + u8::from(*boolean)),
        Ipld::Integer(number) => match u64::try_from(*number) {
            Ok(number) => head(0, number, whims, out),
            Err(_) => head(1, u64::try_from(-1 - number).unwrap(), whims, out),
        },
        Ipld::Float(_) => panic!("floats are not in the data model"),
        Ipld::String(text) => {
            head(3, text.len() as u64, whims, out);
            out.extend_from_slice(text.as_bytes());
        }
        Ipld::Bytes(bytes) => {
            head(2, bytes.len() as u64, whims, out);
            out.extend_from_slice(bytes);
        }
        Ipld::List(items) => {
            head(4, items.len() as u64, whims, out);
            for item in items {
                encode(item, whims, out);
            }
        }
        Ipld::Map(map) => {
            let mut entries: Fields =
                map.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            entries.sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
            if let Some(last) = entries.len().checked_sub(1) {
                entries.swap(0, whims.next() % (last + 1));
            }
            encode_map(&entries, whims, out);
        }
        Ipld::Link(cid) => {
            head(6, 42, whims, out);
            let bytes = cid.to_bytes();
            head(2, bytes.len() as u64 + 1, whims, out);
            out.push(0);
            out.extend_from_slice(&bytes);
        }
    }
}

fn encode_map(entries: &[(String, Ipld)], whims: &mut Whims, out: &mut Vec<u8>) {
    head(5, entries.len() as u64, whims, out);
    for (key, value) in entries {
        head(3, key.len() as u64, whims, out);
        out.extend_from_slice(key.as_bytes());
        encode(value, whims, out);
    }
}

fn head(major: u8, argument: u64, whims: &mut Whims, out: &mut Vec<u8>) {
    let shortest = match argument {
        0..24 => 0,
        24..0x100 => 1,
        0x100..0x1_0000 => 2,
        0x1_0000..0x1_0000_0000 => 3,
        _ => 4,
    };
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match shortest.max(whims.next() % 12) {
        1 => out.extend_from_slice(&[major | 24, bytes[7]]),
        2 => out.extend_from_slice(&[major | 25, bytes[6], bytes[7]]),
        3 => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        4 => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
        // Most of the time, the shortest.
        _ if shortest > 0 => head(major >> 5, argument, &mut Whims::none(), out),
        _ => out.push(major | bytes[7]),
    }
}
