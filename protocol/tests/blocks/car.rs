//! What a CAR is.

use protocol::car::{self, CarError};
use protocol::cid::{Cid, Link};
use sha2::{Digest, Sha256};

use crate::vectors;

fn header(roots: &[&[u8]], version: u8) -> Vec<u8> {
    let mut header = b"\xa2\x65roots".to_vec();
    header.push(0x80 | u8::try_from(roots.len()).unwrap());
    for root in roots {
        header.extend([0xd8, 42, 0x58, u8::try_from(root.len()).unwrap() + 1, 0]);
        header.extend(*root);
    }
    header.extend(b"\x67version");
    header.push(version);
    section(&[&header])
}

fn section(parts: &[&[u8]]) -> Vec<u8> {
    let mut section = Vec::new();
    let mut len: usize = parts.iter().map(|part| part.len()).sum();
    while len >= 0x80 {
        section.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
        len >>= 7;
    }
    section.push(u8::try_from(len).unwrap());
    section.extend(parts.concat());
    section
}

fn check(name: &str, car: &[&[u8]], expected: Result<usize, CarError>) {
    let car = car.concat();
    assert_eq!(car::read(&car).map(|(_, blocks)| blocks.len()), expected, "{name}");
}

#[test]
fn a_car_is_a_header_with_a_root_and_sections_that_hash() {
    const MALFORMED: Result<usize, CarError> = Err(CarError::Malformed);
    let block = b"\xa0";
    let cid = Cid::of_cbor(block).to_bytes();
    let good = &header(&[&cid], 1)[..];
    let one = &section(&[&cid, block])[..];
    let digest = Sha256::digest(block);
    let pb = [&[1, 0x70, 0x12, 32][..], &digest].concat();
    let v0 = [&[0x12, 32][..], &digest].concat();
    let blake3 = [&[1, 0x71, 0x1e, 32][..], &digest].concat();

    check("a header alone", &[good], Ok(0));
    check("a block", &[good, one], Ok(1));
    check("a block twice", &[good, one, one], Ok(1));
    check("two roots", &[&header(&[&cid, &cid], 1), one], Ok(1));
    check("a root of another kind", &[&header(&[&blake3], 1), one], Ok(1));
    check("another hash is not judged", &[good, &section(&[&blake3, b"x"])], Ok(0));

    check("nothing", &[], MALFORMED);
    check("no root", &[&header(&[], 1), one], MALFORMED);
    check("version 2", &[&header(&[&cid], 2), one], MALFORMED);
    check("an empty header", &[&[0]], MALFORMED);
    check("a header that is no map", &[&section(&[b"\x80"])], MALFORMED);
    check("more in the header", &[&section(&[&good[1..], b"\xf6"]), one], MALFORMED);
    check("cut", &[good, &one[..one.len() - 1]], MALFORMED);
    check("cut in its length", &[good, &[0x80]], MALFORMED);
    check("a length that is not minimal", &[good, &[0xa5, 0x00], &one[1..]], MALFORMED);
    check("an empty section", &[good, &[0], one], MALFORMED);
    check("a section without a CID", &[good, &section(&[b"\x07\x71\x12\x20"])], MALFORMED);
    check("a CID of version 7", &[good, &section(&[&[7], &cid[1..], block])], MALFORMED);
    let claims = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    check("a claim of all memory", &[good, &claims], MALFORMED);
    let long = vec![0; car::SECTION_BYTES_MAX];
    check("a long section", &[good, &section(&[&blake3, &long[..]])], MALFORMED);
    check("one as long as may be", &[good, &section(&[&blake3, &long[36..]])], Ok(0));

    let many = one.repeat(car::SECTIONS_MAX);
    check("as many sections as may be", &[good, &many], Ok(1));
    check("one more", &[good, &many, one], Err(CarError::TooMany));

    check("other bytes", &[good, &section(&[&cid, b"\xa1"])], Err(CarError::BlockMismatch));
    check("other bytes, dag-pb", &[good, &section(&[&pb, b"x"])], Err(CarError::BlockMismatch));
    check("other bytes, CIDv0", &[good, &section(&[&v0, b"x"])], Err(CarError::BlockMismatch));
    check("the bytes of a dag-pb CID", &[good, &section(&[&pb, block])], Ok(0));
}

#[test]
fn a_block_is_found_under_its_cid_only() {
    let (a, b) = (b"\xa0", b"\x80");
    let cid = Cid::of_cbor(a);
    let blake3 = [&[1, 0x71, 0x1e, 32][..], &cid.digest].concat();
    let car = [
        header(&[&cid.to_bytes()], 1),
        section(&[&blake3, b"first"]),
        section(&[&Cid::of_cbor(b).to_bytes(), b]),
        section(&[&cid.to_bytes(), a]),
        section(&[&blake3, b"second"]),
    ]
    .concat();
    let (root, blocks) = car::read(&car).unwrap();
    assert_eq!(root, Link::Sha256(cid));
    assert_eq!(blocks.get(&cid), Some(&a[..]));
    assert_eq!(blocks.get(&Cid::of_cbor(b)), Some(&b[..]));
    assert_eq!(blocks.get(&Cid::of_cbor(b"\xf6")), None);
    let raw = Cid { codec: protocol::cid::Codec::Raw, ..cid };
    assert_eq!(blocks.get(&raw), None);
    assert_eq!(blocks.get_link(&Link::Other(&blake3)), Some(&b"first"[..]));
    assert_eq!(blocks.get_link(&Link::Other(&blake3[..35])), None);
}

#[test]
fn one_block_is_found_in_the_head_of_a_car() {
    let (a, b): (&[u8], &[u8]) = (b"\xa0", b"\x80");
    let (cid, other) = (Cid::of_cbor(a), Cid::of_cbor(b));
    let good = header(&[&cid.to_bytes()], 1);
    let sections = [section(&[&other.to_bytes(), b]), section(&[&cid.to_bytes(), a])].concat();
    let check = |car: &[&[u8]], wanted: Option<Cid>, expected: Result<Option<&[u8]>, CarError>| {
        let car = car.concat();
        let found = car::find(&car, wanted);
        assert_eq!(found.map(|found| found.map(|(_, block)| block)), expected, "{wanted:?}");
    };
    check(&[&good, &sections], None, Ok(Some(a)));
    check(&[&good, &sections], Some(other), Ok(Some(b)));
    check(&[&good, &sections], Some(Cid::of_cbor(b"\xf6")), Ok(None));
    // What is behind the block may be anything, or missing.
    check(&[&good, &sections, &[0xff; 40]], None, Ok(Some(a)));
    for cut in 0..sections.len() {
        check(&[&good, &sections[..cut]], None, Ok(None));
    }
    // As the reference PDS answers `getBlocks`.
    let rootless = header(&[], 1);
    check(&[&rootless, &sections], Some(cid), Ok(Some(a)));
    check(&[&rootless, &sections], None, Err(CarError::Malformed));

    check(&[], None, Err(CarError::Malformed));
    let lie = section(&[&cid.to_bytes(), b]);
    check(&[&good, &lie, &sections], None, Err(CarError::BlockMismatch));
    let many = section(&[&other.to_bytes(), b]).repeat(car::SECTIONS_MAX);
    check(&[&good, &many, &sections], None, Err(CarError::TooMany));
}

#[test]
fn a_car_of_the_live_network_is_written_as_it_was() {
    for car in vectors::cars() {
        let (root, blocks) = car::read(&car).unwrap();
        let mut sections = Vec::new();
        // In the order of the original.
        let mut at = 59;
        while at < car.len() {
            let mut len = 0;
            for shift in (0..).step_by(7) {
                let byte = usize::from(car[at]);
                at += 1;
                len |= (byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            let (link, _) = Link::read(&car[at..]).unwrap();
            let cid = link.cid().unwrap();
            sections.push((cid, blocks.get(&cid).unwrap()));
            at += len;
        }
        assert_eq!(car::write(&root.cid().unwrap(), &sections), car);
    }
}
