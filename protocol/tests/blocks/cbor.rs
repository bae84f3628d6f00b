//! What the CBOR readers take, refuse and report, and what the writer writes: by table, by the
//! interop vectors, and against another implementation.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ipld_core::ipld::Ipld;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use protocol::cbor::{
    CborError, ENVELOPE_KEYS_MAX, ITEMS_MAX, NESTING_MAX, RECORD_NESTING_MAX, Reader, Rules,
    TEXT_BYTES_MAX, Value, Writer, is_one_map, recode,
};
use protocol::cid::Cid;

use crate::{property, vectors};

/// Reads one value; whether it is canonical.
fn read(bytes: &[u8], rules: Rules) -> Result<bool, CborError> {
    let mut reader = Reader::new(bytes, rules);
    reader.skip()?;
    reader.end()?;
    Ok(reader.is_canonical())
}

fn repair(bytes: &[u8]) -> Result<Vec<u8>, CborError> {
    let mut out = Vec::new();
    let mut reader = Reader::new(bytes, Rules::Envelope);
    recode(&mut reader, &mut Writer::new(&mut out))?;
    reader.end()?;
    Ok(out)
}

#[derive(Clone, Copy, PartialEq)]
enum Taken {
    /// By every reader.
    Canonical,
    /// By the reader of envelopes, which reports it.
    Repairable,
    /// By `Rules::Drisl` only.
    Float,
    No,
}

fn check(name: &str, hex: &str, taken: Taken) {
    let bytes = HEXLOWER.decode(hex.replace(' ', "").as_bytes()).unwrap();
    let strict = if taken == Taken::Canonical { Ok(true) } else { Err(CborError) };
    assert_eq!(read(&bytes, Rules::DrislNoFloats), strict, "strict: {name}");
    let drisl = if taken == Taken::Float { Ok(true) } else { strict };
    assert_eq!(read(&bytes, Rules::Drisl), drisl, "with floats: {name}");
    let lenient = if taken == Taken::Repairable { Ok(false) } else { strict };
    assert_eq!(read(&bytes, Rules::Envelope), lenient, "envelope: {name}");
    if lenient.is_ok() {
        assert_eq!(read(&repair(&bytes).unwrap(), Rules::DrislNoFloats), Ok(true), "{name}");
    }
}

#[test]
fn numbers_are_taken_by_the_readers_they_are_for() {
    use Taken::{Canonical, Float, No, Repairable};
    check("0", "00", Canonical);
    check("23", "17", Canonical);
    check("24", "1818", Canonical);
    check("256", "190100", Canonical);
    check("2^16", "1a00010000", Canonical);
    check("2^32", "1b0000000100000000", Canonical);
    check("2^64 - 1", "1bffffffffffffffff", Canonical);
    check("-2^64", "3bffffffffffffffff", Canonical);
    check("23 in two bytes", "1817", Repairable);
    check("255 in three bytes", "1900ff", Repairable);
    check("2^16 - 1 in five bytes", "1a0000ffff", Repairable);
    check("2^32 - 1 in nine bytes", "1b00000000ffffffff", Repairable);
    check("-1 in two bytes", "3800", Repairable);
    check("the head is cut", "1901", No);
    check("heads that mean nothing", "1c", No);
    check("a 64-bit float", "fb3ff8000000000000", Float);
    check("minus zero", "fb8000000000000000", Float);
    check("a float within", "81fb3ff8000000000000", Float);
    check("a 16-bit float", "f93e00", No);
    check("a 32-bit float", "fa3fc00000", No);
    check("not a number", "fb7ff8000000000000", No);
    check("infinity", "fb7ff0000000000000", No);
}

#[test]
fn strings_arrays_and_maps_are_taken_by_the_readers_they_are_for() {
    use Taken::{Canonical, No, Repairable};
    check("bytes", "420102", Canonical);
    check("a longer length than needed", "58020102", Repairable);
    check("bytes cut", "4201", No);
    check("bytes of all memory", "5bffffffffffffffff01", No);
    check("bytes of indefinite length", "5f4101ff", No);
    check("text", "63e282ac", Canonical);
    check("text that is not UTF-8", "62e282", No);
    check("text of a surrogate", "63eda080", No);
    check("text of indefinite length", "7f6161ff", No);

    check("an array", "83010203", Canonical);
    check("an array cut", "830102", No);
    check("an array of all memory", "9bffffffffffffffff01", No);
    check("an array of indefinite length", "9f01ff", No);
    check("a break", "ff", No);
    check("a map", "a2 6162 01 626161 02", Canonical);
    check("keys bytewise before length", "a2 626161 02 6162 01", Repairable);
    check("keys not sorted", "a2 6162 01 6161 02", Repairable);
    check("a key in a longer head", "a1 780161 01", Repairable);
    check("a key twice", "a2 6161 01 6161 02", No);
    check("a key twice, not side by side", "a3 6161 01 6162 01 6161 02", No);
    check("a key twice, below", "a2 6162 01 6161 a3 6161 01 6162 01 6161 02", No);
    check("the same key above and below", "a1 6161 a1 6161 01", Canonical);
    check("a key of bytes", "a1 4161 01", No);
    check("a key of a number", "a1 01 01", No);
    check("a map without a value", "a1 6161", No);
    check("a map of all memory", "bbffffffffffffffff 6161 01", No);
    check("a map of indefinite length", "bf 6161 01 ff", No);

    check("false, true, null", "83f4f5f6", Canonical);
    check("undefined", "f7", No);
    check("another simple value", "e0", No);
    check("null in two bytes", "f816", No);
    check("a simple value in two bytes", "f8ff", No);
    check("nothing", "", No);
    check("something after it", "0000", No);
}

#[test]
fn cids_are_taken_by_the_readers_they_are_for() {
    use Taken::{Canonical, No, Repairable};
    let digest = "00".repeat(32);
    check("a CID", &format!("d82a582500 01711220 {digest}"), Canonical);
    check("a raw CID", &format!("d82a582500 01551220 {digest}"), Canonical);
    check("a CID of another kind", &format!("d82a582500 0170b220 20 {digest}"), No);
    check("a CID with another hash", &format!("d82a582500 01711e20 {digest}"), Canonical);
    check("a CID of version 0", &format!("d82a582300 1220 {digest}"), Canonical);
    check("a CID of version 7", &format!("d82a582500 07711220 {digest}"), No);
    check("a tag in three bytes", &format!("d9002a582500 01711220 {digest}"), Repairable);
    check("a CID's length in three bytes", &format!("d82a59002500 01711220 {digest}"), Repairable);
    check("a CID without its zero", &format!("d82a5824 01711220 {digest}"), No);
    check("a CID and more", &format!("d82a582600 01711220 {digest} 00"), No);
    check("a CID cut", "d82a4500 01711220", No);
    check("a CID as text", "d82a6161", No);
    check("an empty CID", "d82a40", No);
    check("another tag", "c100", No);
    check("a tag alone", "d82a", No);
}

#[test]
fn nesting_ends_at_its_limit() {
    let nested = |head: &[u8], depth: usize| [head.repeat(depth), vec![0xf6]].concat();
    let most = usize::from(NESTING_MAX);
    for rules in [Rules::DrislNoFloats, Rules::Envelope] {
        for head in [&b"\x81"[..], b"\xa1\x61a"] {
            assert_eq!(read(&nested(head, most), rules), Ok(true));
            assert_eq!(read(&nested(head, most + 1), rules), Err(CborError));
            assert_eq!(read(&nested(head, 1_000_000), rules), Err(CborError));
            assert_eq!(repair(&nested(head, 1_000_000)), Err(CborError));
        }
        // What is closed does not count.
        let wide = [&[0x98, 100][..], &b"\x81\xa0".repeat(100)].concat();
        assert_eq!(read(&wide, rules), Ok(true));
    }
}

#[test]
fn items_and_text_end_at_their_limits() {
    let written = |write: &dyn Fn(&mut Writer<'_>)| {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        out
    };
    let half = usize::try_from(ITEMS_MAX / 2).unwrap();
    let lists = |more: usize| {
        written(&|writer| {
            writer.array(2);
            for items in [half - 2, half + more] {
                writer.array(items);
                (0..items).for_each(|_| writer.null());
            }
        })
    };
    let texts = |more: usize| {
        let half = usize::try_from(TEXT_BYTES_MAX / 2).unwrap();
        written(&|writer| {
            writer.map(1);
            writer.text(&"k".repeat(half));
            writer.text(&"v".repeat(half + more));
        })
    };
    for rules in [Rules::Drisl, Rules::DrislNoFloats, Rules::Envelope] {
        assert_eq!(read(&lists(0), rules), Ok(true));
        assert_eq!(read(&lists(1), rules), Err(CborError));
        assert_eq!(read(&texts(0), rules), Ok(true));
        assert_eq!(read(&texts(1), rules), Err(CborError));
    }
}

#[test]
fn keys_of_an_envelope_end_at_their_limit() {
    let map = |keys: usize, last: Option<usize>| {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.map(keys + usize::from(last.is_some()));
        for key in (0..keys).rev().chain(last) {
            writer.text(&format!("{key:06}"));
            writer.null();
        }
        out
    };
    assert_eq!(read(&map(ENVELOPE_KEYS_MAX, None), Rules::Envelope), Ok(false));
    assert_eq!(read(&map(ENVELOPE_KEYS_MAX + 1, None), Rules::Envelope), Err(CborError));
    assert_eq!(read(&map(ENVELOPE_KEYS_MAX - 1, Some(77)), Rules::Envelope), Err(CborError));
    assert!(repair(&map(ENVELOPE_KEYS_MAX, None)).is_ok());
}

#[test]
fn the_reader_is_where_it_says_and_reads_over_what_it_is_not_asked_for() {
    let bytes = b"\xa4\x61a\x82\x01\x02\x61b\xf5\x63seq\x18\x78\x64text\x62hi";
    let mut reader = Reader::new(bytes, Rules::DrislNoFloats);
    let Ok(Value::Map(mut map)) = reader.value() else { panic!("no map") };
    assert_eq!(map.next_key(&mut reader), Ok(Some("a")));
    assert_eq!(reader.text(), Ok(None), "an array is read over");
    assert_eq!(map.next_key(&mut reader), Ok(Some("b")));
    assert_eq!(reader.boolean(), Ok(Some(true)));
    assert_eq!(map.next_key(&mut reader), Ok(Some("seq")));
    let start = reader.position();
    assert_eq!(reader.unsigned(), Ok(Some(0x78)));
    assert_eq!(&bytes[start..reader.position()], b"\x18\x78");
    assert_eq!(map.next_key(&mut reader), Ok(Some("text")));
    assert!(!reader.take_null());
    assert_eq!(reader.text(), Ok(Some("hi")));
    assert_eq!(map.next_key(&mut reader), Ok(None));
    assert_eq!(map.next_key(&mut reader), Ok(None), "the end stays the end");
    assert_eq!(reader.end(), Ok(()));
    assert_eq!(reader.value().map(|_| ()), Err(CborError));
}

#[test]
fn a_record_is_one_well_formed_map() {
    let check = |hex: &str, expected| {
        let bytes = HEXLOWER.decode(hex.replace(' ', "").as_bytes()).unwrap();
        assert_eq!(is_one_map(&bytes), expected, "{hex}");
    };
    check("a0", true);
    check("a1 6161 fb7ff8000000000000", true);
    check("a2 6162 01 6161 f7", true);
    check("a1 01 c1 00", true);
    check("bf 6161 9f 5f4101ff 7f6161ff 01 ff ff", true);
    check("a1 6161 a2 01 02 03 bf ff", true);
    check("b9 0001 6161 f820", true);
    check("", false);
    check("80", false);
    check("a000", false);
    check("a1 6161", false);
    check("bf 6161 ff", false);
    check("bf 6161 01", false);
    check("a1 6161 ff", false);
    check("a1 6161 5f6161ff", false);
    check("a1 6161 5f5f4101ffff", false);
    check("a1 6161 1c", false);
    check("a1 6161 1f", false);
    check("a1 6161 df00", false);
    check("a1 6161 f81f", false);
    check("bbffffffffffffffff 00", false);
    check("a1 6161 5bffffffffffffffff", false);
    let nested = |depth: usize| [b"\xa1\x61a".repeat(depth), vec![0xf6]].concat();
    assert!(is_one_map(&nested(RECORD_NESTING_MAX - 1)));
    assert!(!is_one_map(&nested(RECORD_NESTING_MAX)));
    assert!(!is_one_map(&nested(1_000_000)));
}

#[test]
fn the_data_model_fixtures_are_canonical_and_hash_to_their_cids() {
    let fixtures = vectors::json("interop/data-model/data-model-fixtures.json");
    for fixture in fixtures.as_array().unwrap() {
        let bytes = vectors::base64(fixture["cbor_base64"].as_str().unwrap());
        assert_eq!(read(&bytes, Rules::DrislNoFloats), Ok(true));
        assert_eq!(read(&bytes, Rules::Envelope), Ok(true));
        assert!(is_one_map(&bytes));
        assert_eq!(repair(&bytes).unwrap(), bytes);
        let cid = Cid::of_cbor(&bytes).to_string();
        assert_eq!(cid, fixture["cid"].as_str().unwrap());
        assert_eq!(encode(&from_json(&fixture["json"]).unwrap()), bytes);
    }
}

/// The rest of the data model's rules (`$type`, `$link`, `blob`) are about JSON and schemas, which
/// a relay does not read: here only what CBOR can say is judged.
#[test]
fn the_data_model_files_are_judged_as_far_as_cbor_goes() {
    for file in ["valid", "invalid"] {
        let cases = vectors::json(&format!("interop/data-model/data-model-{file}.json"));
        for case in cases.as_array().unwrap() {
            let note = case["note"].as_str().unwrap();
            let Some(value) = from_json(&case["json"]) else { continue };
            let bytes = encode(&value);
            let is_float = note == "float" || note == "floats not allowed";
            let strict = read(&bytes, Rules::DrislNoFloats);
            assert_eq!(strict.is_err(), is_float, "{note}");
            assert_eq!(is_one_map(&bytes), case["json"].is_object(), "{note}");
        }
    }
}

/// The data model's JSON; `None` for a `$link` or `$bytes` that is none.
fn from_json(json: &serde_json::Value) -> Option<Ipld> {
    use serde_json::Value as Json;
    Some(match json {
        Json::Null => Ipld::Null,
        Json::Bool(boolean) => Ipld::Bool(*boolean),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Ipld::Integer(integer.into()),
            // JSON has one type of number: 123.0 is an integer.
            None if number.to_string().ends_with(".0") => {
                Ipld::Integer(number.to_string().trim_end_matches(".0").parse().ok()?)
            }
            None => Ipld::Float(number.as_f64()?),
        },
        Json::String(text) => Ipld::String(text.clone()),
        Json::Array(items) => Ipld::List(items.iter().map(from_json).collect::<Option<_>>()?),
        Json::Object(map) => {
            if let Some(link) = map.get("$link") {
                return Some(Ipld::Link(link.as_str()?.parse().ok()?));
            }
            if let Some(bytes) = map.get("$bytes") {
                return Some(Ipld::Bytes(vectors::base64(bytes.as_str()?)));
            }
            let entries = map.iter().map(|(key, value)| Some((key.clone(), from_json(value)?)));
            Ipld::Map(entries.collect::<Option<_>>()?)
        }
    })
}

fn encode(value: &Ipld) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).unwrap()
}

/// Any value, floats and CIDs of other kinds among them.
pub(crate) fn any_value() -> impl Strategy<Value = Ipld> {
    let integer = prop_oneof![
        any::<u64>().prop_map(i128::from),
        any::<u64>().prop_map(|number| -1 - i128::from(number)),
        (0..64u32, -2..3i128).prop_map(|(bits, by)| ((1i128 << bits) + by).abs()),
        -300..300i128,
    ];
    let link = (any::<[u8; 32]>(), 0..4u8).prop_map(|(digest, kind)| {
        let head: &[u8] = match kind {
            0 => &[1, 0x71, 0x12, 32],
            1 => &[1, 0x55, 0x12, 32],
            2 => &[1, 0x71, 0x1e, 32],
            _ => &[0x12, 32],
        };
        Ipld::Link(ipld_core::cid::Cid::read_bytes(&*[head, &digest].concat()).unwrap())
    });
    let leaf = prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        integer.prop_map(Ipld::Integer),
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Ipld::Float),
        "\\PC{0,30}".prop_map(Ipld::String),
        vec(any::<u8>(), 0..300).prop_map(Ipld::Bytes),
        link,
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Ipld::List),
            btree_map("[a-c]{0,4}", inner, 0..8).prop_map(Ipld::Map),
        ]
    })
}

fn has_float(value: &Ipld) -> bool {
    match value {
        Ipld::Float(_) => true,
        Ipld::List(items) => items.iter().any(has_float),
        Ipld::Map(map) => map.values().any(has_float),
        _ => false,
    }
}

#[test]
fn what_another_implementation_writes_is_canonical_here() {
    property::check(1000, any_value(), |value| {
        let bytes = encode(&value);
        prop_assert_eq!(read(&bytes, Rules::Drisl), Ok(true));
        let expected = if has_float(&value) { Err(CborError) } else { Ok(true) };
        prop_assert_eq!(read(&bytes, Rules::DrislNoFloats), expected);
        prop_assert_eq!(read(&bytes, Rules::Envelope), expected);
        let mut again = Vec::new();
        let mut reader = Reader::new(&bytes, Rules::Drisl);
        prop_assert_eq!(recode(&mut reader, &mut Writer::new(&mut again)), Ok(()));
        prop_assert_eq!(&again, &bytes);
        prop_assert_eq!(is_one_map(&bytes), matches!(value, Ipld::Map(_)));
        Ok(())
    });
}

/// Replaces, inserts and removes bytes.
pub(crate) fn mutate(bytes: &mut Vec<u8>, mutations: &[(u16, u8, u8)]) {
    for &(place, kind, byte) in mutations {
        let at = usize::from(place) % (bytes.len() + 1);
        match (kind % 4, bytes.get_mut(at)) {
            (0, _) => bytes.insert(at, byte),
            (1, Some(_)) => drop(bytes.remove(at)),
            (2, Some(here)) => *here = here.wrapping_add(1),
            (_, Some(here)) => *here = byte,
            (_, None) => bytes.push(byte),
        }
    }
}

/// What is taken here is taken there, as the same value, and the other way round, but for what is
/// refused here on purpose: nesting beyond `NESTING_MAX`, which this input does not reach, and
/// bytes after a CID within its tag, which the other one ignores (so that its value, encoded
/// again, is another).
#[test]
fn on_mutated_input_both_implementations_agree() {
    let mutations = vec(any::<(u16, u8, u8)>(), 1..4);
    property::check(20_000, (any_value(), mutations), |(value, mutations)| {
        let mut bytes = encode(&value);
        mutate(&mut bytes, &mutations);
        let theirs = serde_ipld_dagcbor::from_slice::<Ipld>(&bytes);
        let is_canonical = theirs.as_ref().is_ok_and(|value| encode(value) == bytes);
        prop_assert_eq!(
            read(&bytes, Rules::Drisl).is_ok(),
            is_canonical,
            "{:02x?} {:?}",
            bytes,
            theirs
        );
        Ok(())
    });
}

/// Writes a value with heads longer than needed and maps in any order, as `choices` say.
fn write_badly(value: &Ipld, choices: &mut impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    let mut head = |major: u8, argument: u64, out: &mut Vec<u8>| {
        let shortest: u8 = match argument {
            0..24 => 0,
            24..0x100 => 1,
            0x100..0x1_0000 => 2,
            0x1_0000..0x1_0000_0000 => 3,
            _ => 4,
        };
        let size = shortest + choices.next().unwrap_or(0) % (5 - shortest);
        let bytes = argument.to_be_bytes();
        match size {
            0 => out.push(major << 5 | bytes[7]),
            size => {
                out.push(major << 5 | (23 + size));
                out.extend(&bytes[8 - (1 << (size - 1))..]);
            }
        }
    };
    let len = |len: usize| u64::try_from(len).unwrap();
    match value {
        Ipld::Integer(number) if *number < 0 => {
            head(1, u64::try_from(-1 - number).unwrap(), out);
        }
        Ipld::Integer(number) => head(0, u64::try_from(*number).unwrap(), out),
        Ipld::Bytes(bytes) => {
            head(2, len(bytes.len()), out);
            out.extend(bytes);
        }
        Ipld::String(text) => {
            head(3, len(text.len()), out);
            out.extend(text.as_bytes());
        }
        Ipld::List(items) => {
            head(4, len(items.len()), out);
            for item in items {
                write_badly(item, choices, out);
            }
        }
        Ipld::Map(map) => {
            head(5, len(map.len()), out);
            // Bytewise, forwards or backwards: neither is length first.
            let mut entries: Vec<_> = map.iter().collect();
            if choices.next().unwrap_or(0) % 2 == 1 {
                entries.reverse();
            }
            for (key, value) in entries {
                write_badly(&Ipld::String(key.clone()), choices, out);
                write_badly(value, choices, out);
            }
        }
        Ipld::Link(cid) => {
            let bytes = cid.to_bytes();
            head(6, 42, out);
            head(2, len(bytes.len() + 1), out);
            out.push(0);
            out.extend(bytes);
        }
        Ipld::Null | Ipld::Bool(_) | Ipld::Float(_) => out.extend(encode(value)),
    }
}

#[test]
fn a_bad_envelope_is_repaired_to_what_another_implementation_writes() {
    let choices = vec(any::<u8>(), 0..300);
    property::check(2000, (any_value(), choices), |(value, choices)| {
        if has_float(&value) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        write_badly(&value, &mut choices.into_iter(), &mut bytes);
        let canonical = encode(&value);
        prop_assert_eq!(read(&bytes, Rules::Envelope), Ok(bytes == canonical));
        prop_assert_eq!(repair(&bytes), Ok(canonical));
        Ok(())
    });
}

#[test]
fn a_duplicate_key_is_found_wherever_it_stands() {
    let keys = btree_map("[a-z]{0,6}", any::<u8>(), 1..80).prop_map(|map| map.into_keys());
    let strategy = (keys.prop_map(Vec::from_iter).prop_shuffle(), any::<(usize, usize)>());
    property::check(500, strategy, |(mut keys, (from, to))| {
        let map = |keys: &[String]| {
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out);
            writer.map(keys.len());
            for key in keys {
                writer.text(key);
                writer.null();
            }
            out
        };
        prop_assert!(read(&map(&keys), Rules::Envelope).is_ok());
        let twice = keys[from % keys.len()].clone();
        keys.insert(to % (keys.len() + 1), twice);
        prop_assert_eq!(read(&map(&keys), Rules::Envelope), Err(CborError));
        prop_assert_eq!(repair(&map(&keys)), Err(CborError));
        Ok(())
    });
}

#[test]
fn a_map_is_sorted_on_write() {
    let entries = btree_map("[a-z]{0,4}", 0..24u8, 0..40);
    property::check(200, entries, |entries: BTreeMap<String, u8>| {
        let values: Vec<_> = entries.values().map(|value| [*value]).collect();
        let mut pairs: Vec<(&str, &[u8])> = entries
            .keys()
            .map(String::as_str)
            .zip(values.iter().map(<[u8; 1]>::as_slice))
            .collect();
        let mut out = Vec::new();
        Writer::new(&mut out).sorted_map(&mut pairs);
        prop_assert_eq!(read(&out, Rules::DrislNoFloats), Ok(true));
        Ok(())
    });
}
