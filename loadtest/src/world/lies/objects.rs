//! Commit objects that are none: a field missing, of another type, too many; another encoding.
//!
//! Each is signed as it stands, with its own account's key.

use protocol::cid::{Cid, Codec};
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::Specimen;
use super::scene::{Truth, bent, commit_fields, signed_block, with_commit_block};
use crate::wire::Value;
use crate::world::World;
use crate::world::repo::Draft;

/// A commit's fields, `sig` not among them.
type Fields = Vec<(&'static str, Value)>;

/// A lie about the fields: they are signed after it.
type Bend = (&'static str, fn(&mut Fields));

const UNSIGNED: &[Bend] = &[
    ("commit_with_unknown_field", |fields| fields.push(("note", "unknown".into()))),
    ("commit_version_2", |fields| set(fields, "version", Value::Int(2))),
    ("commit_version_4", |fields| set(fields, "version", Value::Int(4))),
    ("commit_version_is_text", |fields| set(fields, "version", "3".into())),
    ("commit_without_version", |fields| cut(fields, "version")),
    ("commit_without_did", |fields| cut(fields, "did")),
    ("commit_did_is_bytes", |fields| {
        set(fields, "did", Value::Bytes(b"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".to_vec()));
    }),
    ("commit_without_rev", |fields| cut(fields, "rev")),
    ("commit_rev_is_a_number", |fields| set(fields, "rev", Value::Int(7))),
    ("commit_without_data", |fields| cut(fields, "data")),
    ("commit_data_is_null", |fields| set(fields, "data", Value::Null)),
    ("commit_data_is_text", |fields| {
        set(fields, "data", Value::text(protocol::mst::EMPTY_ROOT));
    }),
    ("commit_data_under_a_raw_cid", |fields| {
        let data = Cid { codec: Codec::Raw, ..protocol::mst::EMPTY_ROOT };
        set(fields, "data", Value::link(data));
    }),
    ("commit_prev_is_text", |fields| set(fields, "prev", "none".into())),
    ("commit_prev_is_false", |fields| set(fields, "prev", Value::Bool(false))),
];

/// A lie about the block: what the fields with their signature become.
type Encode = (&'static str, fn(Fields, Vec<u8>) -> Vec<u8>);

const SIGNED: &[Encode] = &[
    ("commit_without_signature", |fields, _| Value::Map(fields).encode()),
    ("commit_signature_of_63_bytes", |fields, mut signature| {
        signature.pop();
        with_signature(fields, Value::Bytes(signature))
    }),
    ("commit_signature_of_65_bytes", |fields, mut signature| {
        signature.push(0);
        with_signature(fields, Value::Bytes(signature))
    }),
    ("commit_signature_is_null", |fields, _| with_signature(fields, Value::Null)),
    ("commit_signature_is_a_list", |fields, signature| {
        let bytes = signature.into_iter().map(|byte| Value::Int(u64::from(byte)));
        with_signature(fields, Value::List(bytes.collect()))
    }),
    ("commit_with_keys_in_disorder", |mut fields, signature| {
        fields.push(("sig", Value::Bytes(signature)));
        fields.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        Value::Disordered(fields).encode()
    }),
    ("commit_with_a_key_twice", |fields, signature| {
        let mut sorted = fields.clone();
        sorted.push(("sig", Value::Bytes(signature)));
        sorted.extend(fields.into_iter().filter(|(key, _)| *key == "rev"));
        Value::Map(sorted).encode()
    }),
    ("commit_with_a_long_integer", |mut fields, signature| {
        set(&mut fields, "version", Value::Wide(3));
        with_signature(fields, Value::Bytes(signature))
    }),
    ("commit_with_a_trailing_byte", |fields, signature| {
        let mut block = with_signature(fields, Value::Bytes(signature));
        block.push(0);
        block
    }),
    ("commit_is_a_list", |fields, signature| {
        let values = fields.into_iter().map(|(_, value)| value);
        Value::List(values.chain([Value::Bytes(signature)]).collect()).encode()
    }),
    ("commit_is_empty", |_, _| Vec::new()),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, bend) in UNSIGNED {
        specimens.push(of_draft(world, now, name, |truth, draft| {
            let mut fields = honest(truth);
            bend(&mut fields);
            with_commit_block(draft, &truth.commit, signed_block(&fields, truth.key))
        }));
    }
    for (name, encode) in SIGNED {
        specimens.push(of_draft(world, now, name, |truth, draft| {
            let signature = truth.key.sign(&Cid::of_cbor(&unsigned(truth)).digest);
            let block = encode(honest(truth), signature.to_vec());
            with_commit_block(draft, &truth.commit, block)
        }));
    }
}

fn of_draft(
    world: &mut World,
    now: Micros,
    name: &'static str,
    bend: impl Fn(&Truth<'_>, Draft) -> Draft,
) -> Specimen {
    bent(world, now, name, Reject::CommitMalformed, bend)
}

fn honest(truth: &Truth<'_>) -> Fields {
    commit_fields(&truth.commit, truth.commit.rev, truth.commit.data)
}

fn unsigned(truth: &Truth<'_>) -> Vec<u8> {
    Value::Map(honest(truth)).encode()
}

fn with_signature(mut fields: Fields, signature: Value) -> Vec<u8> {
    fields.push(("sig", signature));
    Value::Map(fields).encode()
}

fn cut(fields: &mut Fields, name: &str) {
    fields.retain(|(key, _)| *key != name);
}

fn set(fields: &mut Fields, name: &'static str, value: Value) {
    cut(fields, name);
    fields.push((name, value));
}
