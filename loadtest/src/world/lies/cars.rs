//! CARs that are none, or whose blocks are not what their CIDs say.

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::Specimen;
use super::fields::CODEC_RAW;
use super::scene::{Lie, bent};
use crate::wire::{Block, Value, car, write_varint};
use crate::world::World;
use crate::world::repo::Draft;

const LIES: &[Lie] = &[
    ("car_empty", Reject::CarMalformed, |_, draft| draft.with("blocks", Value::Bytes(vec![]))),
    ("car_without_roots", Reject::CarMalformed, |_, draft| Draft { roots: vec![], ..draft }),
    ("car_cut_short", Reject::CarMalformed, |_, draft| {
        of_bytes(draft, |car| car.truncate(car.len() - 1))
    }),
    ("car_with_a_trailing_zero", Reject::CarMalformed, |_, draft| {
        // A section of no bytes has no CID.
        of_bytes(draft, |car| car.push(0))
    }),
    ("car_version_2", Reject::CarMalformed, |_, draft| {
        with_header(draft, |roots| vec![("roots", roots), ("version", Value::Int(2))])
    }),
    ("car_without_version", Reject::CarMalformed, |_, draft| {
        with_header(draft, |roots| vec![("roots", roots)])
    }),
    ("car_without_list_of_roots", Reject::CarMalformed, |_, draft| {
        with_header(draft, |_| vec![("version", Value::Int(1))])
    }),
    ("car_root_is_text", Reject::CarMalformed, |truth, draft| {
        let root = Value::text(truth.commit.cid);
        with_header(draft, |_| vec![("roots", Value::List(vec![root])), ("version", Value::Int(1))])
    }),
    ("car_header_is_a_list", Reject::CarMalformed, |_, draft| {
        of_header(draft, &Value::List(vec![Value::Int(1)]).encode())
    }),
    ("car_header_with_a_trailing_byte", Reject::CarMalformed, |_, draft| {
        let mut header = header(&draft);
        header.push(0);
        of_header(draft, &header)
    }),
    ("car_header_length_not_shortest", Reject::CarMalformed, |_, draft| {
        of_bytes(draft, |car| {
            car[0] |= 0x80;
            car.insert(1, 0);
        })
    }),
    ("car_section_over_2_mb", Reject::CarMalformed, |_, draft| {
        // Its claim is enough: the bytes would be over the limit of `blocks`.
        of_bytes(draft, |car| write_varint(car, 2_000_001))
    }),
    ("car_section_length_of_ten_bytes", Reject::CarMalformed, |_, draft| {
        of_bytes(draft, |car| car.extend([0xff; 10]))
    }),
    ("cid_version_7_in_car", Reject::CarMalformed, |truth, draft| {
        let mut extra = truth.commit.records[0].clone();
        extra.cid[0] = 7;
        draft.with_blocks(|blocks| blocks.push(extra))
    }),
    ("cid_cut_short_in_car", Reject::CarMalformed, |truth, draft| {
        let mut extra = truth.commit.records[0].clone();
        extra.cid.truncate(20);
        extra.bytes.clear();
        draft.with_blocks(|blocks| blocks.push(extra))
    }),
    ("record_bytes_not_of_their_cid", Reject::BlockCidMismatch, |truth, draft| {
        let record = truth.commit.records[0].cid.clone();
        bent_block(draft, &record)
    }),
    ("node_bytes_not_of_their_cid", Reject::BlockCidMismatch, |truth, draft| {
        let node = truth.commit.data.to_bytes();
        bent_block(draft, &node)
    }),
    ("commit_bytes_not_of_their_cid", Reject::BlockCidMismatch, |truth, draft| {
        let commit = truth.commit.cid.to_bytes();
        bent_block(draft, &commit)
    }),
    ("extra_block_not_of_its_cid", Reject::BlockCidMismatch, |_, draft| {
        let extra = Block { bytes: b"other".to_vec(), ..Block::of_cbor(b"one".to_vec()) };
        draft.with_blocks(|blocks| blocks.push(extra))
    }),
    ("extra_raw_block_not_of_its_cid", Reject::BlockCidMismatch, |_, draft| {
        let mut extra = Block { bytes: b"other".to_vec(), ..Block::of_cbor(b"one".to_vec()) };
        extra.cid[1] = CODEC_RAW;
        draft.with_blocks(|blocks| blocks.push(extra))
    }),
    ("extra_cid_v0_block_not_of_its_cid", Reject::BlockCidMismatch, |_, draft| {
        let mut extra = Block { bytes: b"other".to_vec(), ..Block::of_cbor(b"one".to_vec()) };
        extra.cid.drain(..2);
        draft.with_blocks(|blocks| blocks.push(extra))
    }),
    ("second_copy_of_a_block_is_another", Reject::BlockCidMismatch, |truth, draft| {
        let mut copy = truth.commit.records[0].clone();
        copy.bytes.push(0);
        draft.with_blocks(|blocks| blocks.push(copy))
    }),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, bend) in LIES {
        specimens.push(bent(world, now, name, *reject, bend));
    }
}

/// The last byte of a block flipped.
fn bent_block(draft: Draft, cid: &[u8]) -> Draft {
    draft.with_blocks(|blocks| {
        let block = blocks.iter_mut().find(|block| block.cid == cid);
        let bytes = &mut block.expect("it is there").bytes;
        *bytes.last_mut().expect("it has bytes") ^= 1;
    })
}

/// The CAR's bytes bent.
fn of_bytes(draft: Draft, bend: impl FnOnce(&mut Vec<u8>)) -> Draft {
    let mut bytes = car(&draft.roots, &draft.blocks);
    bend(&mut bytes);
    draft.with("blocks", Value::Bytes(bytes))
}

/// The CAR under another header map.
fn with_header(draft: Draft, make: impl FnOnce(Value) -> Vec<(&'static str, Value)>) -> Draft {
    let roots = draft.roots.iter().map(|root| Value::Link(root.clone())).collect();
    let header = Value::Map(make(Value::List(roots))).encode();
    of_header(draft, &header)
}

/// The CAR behind other bytes of a header.
fn of_header(draft: Draft, new: &[u8]) -> Draft {
    let old = header(&draft).len();
    of_bytes(draft, |car| {
        let sections = car.split_off(1 + old);
        car.clear();
        write_varint(car, u64::try_from(new.len()).expect("a short header"));
        car.extend_from_slice(new);
        car.extend_from_slice(&sections);
    })
}

/// The bytes of the CAR's header. Its length is one byte.
fn header(draft: &Draft) -> Vec<u8> {
    let bytes = car(&draft.roots, &[]);
    bytes[1..].to_vec()
}
