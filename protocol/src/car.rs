//! CAR v1 over a slice: every section walked, every hash checked.

use sha2::{Digest, Sha256};

use crate::cbor::{CborError, Reader, Rules, Value, Writer};
use crate::cid::{self, CID_BYTES, Cid, CidError, Link};

/// The blocks of one CAR, borrowed from its bytes, found by digest.
#[derive(Debug, Default)]
pub struct Blocks<'a> {
    /// Invariant: sorted by CID. Sorted, and not hashed into a table: a digest is its sender's
    /// choice, and a search by halves has no bad case.
    checked: Vec<(Cid, &'a [u8])>,
    /// Blocks under other CIDs. Invariant: sorted by CID.
    others: Vec<(&'a [u8], &'a [u8])>,
}

/// Why bytes are not a CAR that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarError {
    /// Not CAR v1 with at least one root and well-formed sections.
    #[error("malformed CAR")]
    Malformed,
    /// A block's bytes do not hash to its CID.
    #[error("a block does not match its CID")]
    BlockMismatch,
}

impl From<CidError> for CarError {
    fn from(_: CidError) -> Self {
        Self::Malformed
    }
}

impl From<CborError> for CarError {
    fn from(_: CborError) -> Self {
        Self::Malformed
    }
}

/// Longest section, CID and block together.
pub const SECTION_BYTES_MAX: usize = 2_000_000;

/// Walks a CAR: its first root and its blocks. Every sha-256 block is hashed and compared;
/// blocks under other well-formed CIDs are kept under their CID but cannot be checked. The first
/// offence in the order of the bytes names the error.
pub fn read(car: &[u8]) -> Result<(Link<'_>, Blocks<'_>), CarError> {
    let mut at = 0;
    let root = read_header(section(car, &mut at)?)?;
    let mut blocks = Blocks { checked: Vec::with_capacity(BLOCKS_RESERVED), others: Vec::new() };
    while at < car.len() {
        let section = section(car, &mut at)?;
        let (link, cid_len) = Link::read(section)?;
        let block = &section[cid_len..];
        if let Some(digest) = link.sha256()
            && digest != *Sha256::digest(block)
        {
            return Err(CarError::BlockMismatch);
        }
        match link {
            Link::Sha256(cid) => blocks.checked.push((cid, block)),
            Link::Other(cid) => blocks.others.push((cid, block)),
        }
    }
    blocks.checked.sort_unstable_by_key(|(cid, _)| *cid);
    blocks.checked.dedup_by_key(|(cid, _)| *cid);
    // Stable: of two blocks under one CID that nobody can check, the first stays the first.
    blocks.others.sort_by_key(|(cid, _)| *cid);
    Ok((root, blocks))
}

/// The section at `at`, without its length.
fn section<'a>(car: &'a [u8], at: &mut usize) -> Result<&'a [u8], CarError> {
    let len = usize::try_from(cid::varint(car, at)?).map_err(|_| CarError::Malformed)?;
    if len > SECTION_BYTES_MAX {
        return Err(CarError::Malformed);
    }
    let section = car[*at..].get(..len).ok_or(CarError::Malformed)?;
    *at += len;
    Ok(section)
}

/// The first root.
//
// "the CAR header consists of a CBOR map with the `version` … and `roots`" (ipld.io/specs/
// transport/car/carv1). The order of its keys is not judged, as in an envelope.
fn read_header(header: &[u8]) -> Result<Link<'_>, CarError> {
    let mut reader = Reader::new(header, Rules::Envelope);
    let Value::Map(mut map) = reader.value()? else {
        return Err(CarError::Malformed);
    };
    let mut version = None;
    let mut root = None;
    while let Some(key) = map.next_key(&mut reader)? {
        match key {
            "version" => version = reader.unsigned()?,
            "roots" => {
                let Value::Array(mut roots) = reader.value()? else {
                    return Err(CarError::Malformed);
                };
                while roots.next(&mut reader)? {
                    let link = reader.link()?.ok_or(CarError::Malformed)?;
                    root = root.or(Some(link));
                }
            }
            _ => reader.skip()?,
        }
    }
    reader.end()?;
    if version != Some(CAR_VERSION) {
        return Err(CarError::Malformed);
    }
    root.ok_or(CarError::Malformed)
}

impl<'a> Blocks<'a> {
    /// The block with this CID.
    pub fn get(&self, cid: &Cid) -> Option<&'a [u8]> {
        self.position(cid).map(|at| self.checked[at].1)
    }

    /// The block under any well-formed CID (a record's may be of another hash).
    pub fn get_link(&self, link: &Link<'_>) -> Option<&'a [u8]> {
        match link {
            Link::Sha256(cid) => self.get(cid),
            Link::Other(cid) => {
                let at = self.others.partition_point(|(other, _)| other < cid);
                self.others.get(at).filter(|(other, _)| other == cid).map(|(_, block)| *block)
            }
        }
    }

    /// How many different blocks have a CID of our kind.
    pub fn len(&self) -> usize {
        self.checked.len()
    }

    /// Whether no block has a CID of our kind.
    pub fn is_empty(&self) -> bool {
        self.checked.is_empty()
    }

    /// The blocks with a CID of our kind, in the order of their CIDs.
    pub fn iter(&self) -> impl Iterator<Item = (Cid, &'a [u8])> {
        self.checked.iter().copied()
    }

    /// Which of the `len` blocks this is.
    pub(crate) fn position(&self, cid: &Cid) -> Option<usize> {
        self.checked.binary_search_by(|(other, _)| other.cmp(cid)).ok()
    }

    /// The block at a position.
    pub(crate) fn at(&self, position: usize) -> &'a [u8] {
        self.checked[position].1
    }
}

/// Writes a CAR v1 with one root.
pub fn write(root: &Cid, blocks: &[(Cid, &[u8])]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    let mut writer = Writer::new(&mut header);
    writer.map(2);
    writer.text("roots");
    writer.array(1);
    writer.cid(root);
    writer.text("version");
    writer.unsigned(CAR_VERSION);

    let sections: usize = blocks.iter().map(|(_, block)| CID_BYTES + block.len() + 4).sum();
    let mut car = Vec::with_capacity(1 + header.len() + sections);
    write_varint(header.len(), &mut car);
    car.extend_from_slice(&header);
    for (cid, block) in blocks {
        write_varint(CID_BYTES + block.len(), &mut car);
        car.extend_from_slice(&cid.to_bytes());
        car.extend_from_slice(block);
    }
    car
}

/// Fuzz target: a CAR that is taken is written again and read as the same.
pub fn fuzz_car(data: &[u8]) {
    let Ok((root, blocks)) = read(data) else {
        return;
    };
    for (cid, block) in blocks.iter() {
        assert_eq!(*Sha256::digest(block), cid.digest);
        assert_eq!(blocks.get_link(&Link::Sha256(cid)), Some(block));
    }
    if let Some(root) = root.cid() {
        let sorted: Vec<_> = blocks.iter().collect();
        let car = write(&root, &sorted);
        let (root_again, blocks_again) = read(&car).expect("what is written can be read");
        assert_eq!(root_again, Link::Sha256(root));
        assert!(blocks_again.iter().eq(sorted));
    }
}

fn write_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

const CAR_VERSION: u64 = 1;
/// A header with one root.
const HEADER_BYTES: usize = 58;
/// Room for the blocks of most commits, so that walking their CAR allocates once (0.9 KiB).
const BLOCKS_RESERVED: usize = 16;
