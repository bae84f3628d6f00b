//! Content identifiers: the one kind that the protocol computes with, and all others, opaque.

use std::fmt;
use std::str::FromStr;

use crate::sha256::sha256;

/// A CIDv1 of a sha-256 in dag-cbor or raw: the only kinds that the protocol computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid {
    /// What the bytes are.
    pub codec: Codec,
    /// SHA-256 of the bytes.
    pub digest: [u8; 32],
}

/// What the bytes behind a CID are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Opaque bytes (0x55).
    Raw,
    /// DRISL / DAG-CBOR (0x71).
    DagCbor,
}

/// A well-formed CID as it stands in the input: of our kind, or carried opaquely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link<'a> {
    /// One that we compute with.
    Sha256(Cid),
    /// Any other well-formed CID, its binary form.
    Other(&'a [u8]),
}

/// Bytes or text that are not a CID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a CID")]
pub struct CidError;

/// Length of the binary form of a [`Cid`].
pub const CID_BYTES: usize = 36;

impl Cid {
    /// The CID of a dag-cbor block.
    pub fn of_cbor(block: &[u8]) -> Self {
        Self::cbor(sha256(block))
    }

    /// The CID with this digest and dag-cbor.
    pub fn cbor(digest: [u8; 32]) -> Self {
        Self { codec: Codec::DagCbor, digest }
    }

    /// The 36 bytes of its binary form.
    pub fn to_bytes(self) -> [u8; CID_BYTES] {
        let mut bytes = [0; CID_BYTES];
        bytes[..4].copy_from_slice(&[VERSION_1, self.codec.code(), SHA256_CODE, SHA256_BYTES]);
        bytes[4..].copy_from_slice(&self.digest);
        bytes
    }
}

impl Codec {
    fn code(self) -> u8 {
        match self {
            Self::Raw => 0x55,
            Self::DagCbor => 0x71,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            0x55 => Some(Self::Raw),
            0x71 => Some(Self::DagCbor),
            _ => None,
        }
    }
}

impl<'a> Link<'a> {
    /// Reads a binary CID from the front of `bytes` (CIDv0 is a bare sha-256 multihash); with it
    /// comes its length.
    #[inline]
    pub fn read(bytes: &'a [u8]) -> Result<(Self, usize), CidError> {
        if let Some((&[VERSION_1, codec, SHA256_CODE, SHA256_BYTES], rest)) =
            bytes.split_first_chunk()
            && let Some(codec) = Codec::from_code(codec)
            && let Some(digest) = rest.first_chunk()
        {
            return Ok((Self::Sha256(Cid { codec, digest: *digest }), CID_BYTES));
        }
        let len = if bytes.starts_with(&[SHA256_CODE, SHA256_BYTES]) {
            CID_V0_BYTES
        } else {
            cid_v1_len(bytes)?
        };
        Ok((Self::Other(bytes.get(..len).ok_or(CidError)?), len))
    }

    /// The digest behind it, if its hash is a whole sha-256: under any codec and version.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        match self {
            Self::Sha256(cid) => Some(cid.digest),
            Self::Other(bytes) => {
                let mut at = 0;
                if bytes.len() != CID_V0_BYTES || bytes[0] != SHA256_CODE {
                    varint(bytes, &mut at).ok()?;
                    varint(bytes, &mut at).ok()?;
                }
                bytes[at..].strip_prefix(&[SHA256_CODE, SHA256_BYTES])?.try_into().ok()
            }
        }
    }

    /// The CID, if it is of our kind.
    pub fn cid(&self) -> Option<Cid> {
        match self {
            Self::Sha256(cid) => Some(*cid),
            Self::Other(_) => None,
        }
    }
}

/// Length of the CIDv1 at the front: version, codec, hash, length of the digest, digest.
fn cid_v1_len(bytes: &[u8]) -> Result<usize, CidError> {
    let mut at = 0;
    if varint(bytes, &mut at)? != u64::from(VERSION_1) {
        return Err(CidError);
    }
    varint(bytes, &mut at)?;
    varint(bytes, &mut at)?;
    let digest = varint(bytes, &mut at)?;
    if digest > DIGEST_BYTES_MAX {
        return Err(CidError);
    }
    at.checked_add(usize::try_from(digest).map_err(|_| CidError)?).ok_or(CidError)
}

/// Reads an unsigned varint at `at` and moves it on.
//
// "MUST be encoded in as few bytes as possible", "practical maximum of 9 bytes"
// (github.com/multiformats/unsigned-varint).
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, CidError> {
    let mut number = 0u64;
    for shift in (0..VARINT_BYTES_MAX * 7).step_by(7) {
        let byte = *bytes.get(*at).ok_or(CidError)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let minimal = byte != 0 || shift == 0;
            return if minimal { Ok(number) } else { Err(CidError) };
        }
    }
    Err(CidError)
}

/// `bafyrei…` or `bafkrei…`.
impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [MULTIBASE_BASE32; TEXT_CHARS];
        let (mut bits, mut bits_len, mut at) = (0u32, 0, 1);
        for byte in self.to_bytes().into_iter().chain([0]) {
            bits = (bits << 8 | u32::from(byte)) & 0xfff;
            bits_len += 8;
            while bits_len >= 5 && at < TEXT_CHARS {
                bits_len -= 5;
                text[at] = BASE32[usize::try_from(bits >> bits_len & 31).expect("five bits")];
                at += 1;
            }
        }
        f.write_str(std::str::from_utf8(&text).expect("base32 is ASCII"))
    }
}

impl FromStr for Cid {
    type Err = CidError;

    fn from_str(text: &str) -> Result<Self, CidError> {
        let text: &[u8; TEXT_CHARS] = text.as_bytes().try_into().map_err(|_| CidError)?;
        if text[0] != MULTIBASE_BASE32 {
            return Err(CidError);
        }
        let mut bytes = [0; CID_BYTES];
        let (mut bits, mut bits_len, mut at) = (0u32, 0, 0);
        for &char in &text[1..] {
            let digit = match char {
                b'a'..=b'z' => char - b'a',
                b'2'..=b'7' => char - b'2' + 26,
                _ => return Err(CidError),
            };
            bits = (bits << 5 | u32::from(digit)) & 0xfff;
            bits_len += 5;
            if bits_len >= 8 {
                bits_len -= 8;
                bytes[at] = (bits >> bits_len & 0xff).to_le_bytes()[0];
                at += 1;
            }
        }
        // One text per CID: the last character's two spare bits are zero.
        if bits & 3 != 0 {
            return Err(CidError);
        }
        match Link::read(&bytes)? {
            (Link::Sha256(cid), CID_BYTES) => Ok(cid),
            _ => Err(CidError),
        }
    }
}

const VERSION_1: u8 = 1;
const SHA256_CODE: u8 = 0x12;
const SHA256_BYTES: u8 = 32;
const CID_V0_BYTES: usize = 34;
/// The longest digest that a multihash library in use lets pass (go-multihash's identity hash).
/// It costs nothing: such a CID is only ever a slice of the input.
const DIGEST_BYTES_MAX: u64 = 128;
const VARINT_BYTES_MAX: u32 = 9;
const MULTIBASE_BASE32: u8 = b'b';
/// One character of multibase, and 288 bits in characters of five.
const TEXT_CHARS: usize = 59;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454";

    fn read(hex: &str) -> Result<(Option<Cid>, usize), CidError> {
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        Link::read(&bytes).map(|(link, len)| (link.cid(), len))
    }

    #[test]
    fn a_cid_survives_text_and_bytes() {
        for text in [TEXT, "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"] {
            let cid: Cid = text.parse().unwrap();
            assert_eq!(cid.to_string(), text);
            assert_eq!(Link::read(&cid.to_bytes()), Ok((Link::Sha256(cid), CID_BYTES)));
        }
    }

    #[test]
    fn a_text_of_another_kind_is_refused() {
        let check = |text: &str| assert_eq!(text.parse::<Cid>(), Err(CidError), "{text}");
        check("");
        check("b");
        check(&TEXT.to_uppercase());
        check(&TEXT[1..]);
        check(&format!("{TEXT}a"));
        // Spare bits set.
        check(&TEXT.replace("z454", "z455"));
        // dag-pb.
        check("bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi");
        check("QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR");
    }

    #[test]
    fn any_well_formed_binary_cid_is_read_and_only_ours_is_typed() {
        let digest = "00".repeat(32);
        let other = |head: &str, len| assert_eq!(read(&format!("{head}{digest}")), Ok((None, len)));
        other("01701220", 36);
        other("01711320", 36);
        other("01711b20", 36);
        other("1220", 34);
        other("0180011220", 37);
        other("01711214", 24);
        assert_eq!(read("01550000"), Ok((None, 4)), "an empty identity hash");
    }

    #[test]
    fn what_is_no_cid_is_refused() {
        let digest = "00".repeat(32);
        let check = |head: &str| assert_eq!(read(&format!("{head}{digest}")), Err(CidError));
        check("00711220");
        check("02711220");
        check("07711220");
        check("01f1001220");
        check("01711221");
        check("01ffffffffffffffffff011220");
        assert_eq!(read(""), Err(CidError));
        assert_eq!(read("1220"), Err(CidError));
        assert_eq!(read(&format!("0171122000{}", "00".repeat(30))), Err(CidError));
    }

    #[test]
    fn a_sha256_is_found_under_any_codec() {
        let digest = [7; 32];
        let check = |head: &[u8], expected| {
            let bytes = [head, &digest].concat();
            let (link, _) = Link::read(&bytes).unwrap();
            assert_eq!(link.sha256(), expected, "{head:?}");
        };
        check(&[1, 0x71, 0x12, 32], Some(digest));
        check(&[1, 0x70, 0x12, 32], Some(digest));
        check(&[0x12, 32], Some(digest));
        check(&[1, 0x71, 0x16, 32], None);
        // An identity hash whose own bytes look like a multihash is none.
        let nested = [&[1, 0x71, 0, 34, 0x12, 32][..], &digest].concat();
        let (link, _) = Link::read(&nested).unwrap();
        assert_eq!(link.sha256(), None);
    }
}
