//! CAR v1 over a slice: every section walked, every hash checked.

use crate::cbor::{CborError, Reader, Rules, Value, Writer};
use crate::cid::{self, CID_BYTES, Cid, CidError, Codec, Link};
use crate::sha256::{self, Digest32};

/// The blocks of one CAR, borrowed from its bytes, found by digest.
#[derive(Debug, Default)]
pub struct Blocks<'a> {
    car: &'a [u8],
    /// Invariant: sorted by [`Section::key`], then CID. Sorted, and not hashed into a table: a
    /// digest is its sender's choice, and a search by halves has no bad case.
    checked: Vec<Section>,
    /// Blocks under other CIDs. Invariant: sorted by CID.
    others: Vec<(&'a [u8], &'a [u8])>,
}

/// Where a block under a CID of our kind is.
#[derive(Clone, Copy, Debug)]
struct Section {
    /// How its digest begins: compared first, and nearly always all that is.
    key: u64,
    cid_at: u32,
    end: u32,
}

/// What the sections of the last CAR were kept in, so that reading the next one allocates nothing.
#[derive(Debug, Default)]
pub struct Room {
    checked: Vec<Section>,
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
    /// More than [`SECTIONS_MAX`].
    #[error("too many blocks")]
    TooMany,
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

/// Most sections behind the header: each costs a hash and its place in an order, even if it holds
/// nothing. A commit of 200 ops in a tree of a billion records, which is 16 layers high, has one
/// record and three ways down for each: 9,800.
pub const SECTIONS_MAX: usize = 10_000;

/// Walks a CAR: its first root and its blocks. Every sha-256 block is hashed and compared;
/// blocks under other well-formed CIDs are kept under their CID but cannot be checked. The first
/// offence in the order of the bytes names the error.
pub fn read(car: &[u8]) -> Result<(Link<'_>, Blocks<'_>), CarError> {
    read_into(Room::default(), car)
}

/// As [`read`], with the room of a CAR that is no longer needed ([`Blocks::into_room`]).
pub fn read_into(room: Room, car: &[u8]) -> Result<(Link<'_>, Blocks<'_>), CarError> {
    let mut at = 0;
    let root = read_header(section(car, &mut at)?)?;
    let mut blocks = Blocks { car, checked: room.checked, others: Vec::new() };
    blocks.checked.clear();
    blocks.checked.reserve(BLOCKS_RESERVED);
    let walked = blocks.walk(at);
    // What was walked over comes before what ended the walk.
    if !blocks.match_their_cids() {
        return Err(CarError::BlockMismatch);
    }
    walked?;
    blocks.sort();
    Ok((root, blocks))
}

/// Finds one block at the front of a CAR that may be cut off anywhere: the one with this CID, or
/// that of the first root. Only sections are walked, and only the block that is found is hashed.
///
/// Of what a host sends of a repo a relay needs one block. The header may name no root: the
/// reference PDS's `getBlocks` names none.
pub fn find(car: &[u8], wanted: Option<Cid>) -> Result<Option<(Cid, &[u8])>, CarError> {
    let mut at = 0;
    let header = section(car, &mut at)?;
    let wanted = match wanted {
        Some(cid) => cid,
        None => read_header(header)?.cid().ok_or(CarError::Malformed)?,
    };
    for _ in 0..SECTIONS_MAX {
        // The end of what was sent, wherever that is.
        let Ok(section) = section(car, &mut at) else { return Ok(None) };
        let (link, len) = Link::read(section)?;
        if link.cid() == Some(wanted) {
            let block = &section[len..];
            let is_it = sha256::sha256(block) == wanted.digest;
            return if is_it { Ok(Some((wanted, block))) } else { Err(CarError::BlockMismatch) };
        }
    }
    Err(CarError::TooMany)
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
    // Nearly every header is these bytes around one root.
    if let Some(cid) = header.strip_prefix(HEADER_START).and_then(|it| it.strip_suffix(HEADER_END))
        && let Ok((root, CID_BYTES)) = Link::read(cid)
        && cid.len() == CID_BYTES
    {
        return Ok(root);
    }
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
    /// Lists all sections from `at` on, or those before the first that is malformed.
    fn walk(&mut self, mut at: usize) -> Result<(), CarError> {
        while at < self.car.len() {
            if self.checked.len() + self.others.len() >= SECTIONS_MAX {
                return Err(CarError::TooMany);
            }
            let section = section(self.car, &mut at)?;
            match Link::read(section)? {
                (Link::Sha256(cid), _) => self.checked.push(Section {
                    key: key(&cid.digest),
                    cid_at: place(at - section.len())?,
                    end: place(at)?,
                }),
                (Link::Other(cid), len) => self.others.push((cid, &section[len..])),
            }
        }
        Ok(())
    }

    /// Whether every block that was listed is what its CID says, as far as that is a sha-256.
    fn match_their_cids(&self) -> bool {
        let checked =
            self.checked.iter().map(|section| (self.block(section), self.digest(section)));
        let others = self.others.iter().filter_map(|(cid, block)| {
            let digest = Link::Other(cid).sha256()?;
            Some(sha256::sha256(block) == digest)
        });
        sha256::all_match(checked) && others.into_iter().all(|matches| matches)
    }

    fn sort(&mut self) {
        let Self { car, checked, others } = self;
        let by_cid = |section: &Section| (section.key, cid_at(car, section));
        checked.sort_unstable_by(|a, b| by_cid(a).cmp(&by_cid(b)));
        checked.dedup_by(|a, b| a.key == b.key && cid_at(car, a) == cid_at(car, b));
        // Stable: of two blocks under one CID that nobody can check, the first stays the first.
        others.sort_by_key(|(cid, _)| *cid);
    }

    /// The block with this CID.
    pub fn get(&self, cid: &Cid) -> Option<&'a [u8]> {
        self.position(cid).map(|at| self.at(at))
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

    /// The blocks with a CID of our kind, in the order of their digests.
    pub fn iter(&self) -> impl Iterator<Item = (Cid, &'a [u8])> {
        self.checked.iter().map(|section| {
            let (link, _) = Link::read(cid_at(self.car, section)).expect("it was read before");
            (link.cid().expect("of our kind"), self.block(section))
        })
    }

    /// Gives the room back for the next CAR; of an unusually large one it is given up.
    pub fn into_room(self) -> Room {
        if self.checked.capacity() > ROOM_BLOCKS_MAX {
            return Room::default();
        }
        Room { checked: self.checked }
    }

    /// Which of the `len` blocks this is.
    #[inline]
    pub(crate) fn position(&self, cid: &Cid) -> Option<usize> {
        self.find(cid.codec, &cid.digest)
    }

    /// Which of the `len` blocks this is, as a CID of this codec.
    #[inline]
    pub(crate) fn find(&self, codec: Codec, digest: &Digest32) -> Option<usize> {
        let key = key(digest);
        let first = self.checked.partition_point(|section| section.key < key);
        // More than one is what nobody has found yet, or one block under both codecs.
        let equal = self.checked[first..].iter().take_while(|section| section.key == key);
        let wanted = Cid { codec, digest: *digest }.to_bytes();
        equal.into_iter().position(|it| *cid_at(self.car, it) == wanted).map(|at| first + at)
    }

    /// The block at a position.
    #[inline]
    pub(crate) fn at(&self, position: usize) -> &'a [u8] {
        self.block(&self.checked[position])
    }

    #[inline]
    fn block(&self, section: &Section) -> &'a [u8] {
        &self.car[index(section.cid_at) + CID_BYTES..index(section.end)]
    }

    #[inline]
    fn digest(&self, section: &Section) -> &'a Digest32 {
        cid_at(self.car, section).last_chunk().expect("a CID ends with its digest")
    }
}

#[inline]
fn cid_at<'a>(car: &'a [u8], section: &Section) -> &'a [u8; CID_BYTES] {
    car[index(section.cid_at)..].first_chunk().expect("a section begins with its CID")
}

#[inline]
fn key(digest: &Digest32) -> u64 {
    u64::from_be_bytes(*digest.first_chunk().expect("eight of its bytes"))
}

/// A place in a CAR. Its length is limited elsewhere: what does not fit is malformed, not a panic.
fn place(at: usize) -> Result<u32, CarError> {
    u32::try_from(at).map_err(|_| CarError::Malformed)
}

#[inline]
fn index(place: u32) -> usize {
    usize::try_from(place).expect("32 bits fit into a usize")
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
    if let Ok(Some((cid, block))) = find(data, None) {
        assert_eq!(sha256::sha256(block), cid.digest);
    }
    let Ok((root, blocks)) = read(data) else {
        return;
    };
    for (cid, block) in blocks.iter() {
        assert_eq!(sha256::sha256(block), cid.digest);
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
/// `{"roots": [CID], "version": 1}`, with a CID of our kind's length.
const HEADER_START: &[u8] = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00";
const HEADER_END: &[u8] = b"\x67version\x01";
/// A header with one root.
const HEADER_BYTES: usize = 58;
/// Room for the blocks of most commits, so that walking their CAR allocates once (256 bytes).
const BLOCKS_RESERVED: usize = 16;
/// Room that is kept from one CAR to the next: for the blocks of any honest commit, 32 KiB.
const ROOM_BLOCKS_MAX: usize = 2048;
