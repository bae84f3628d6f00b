//! CBOR values, CARs and frames, written without the relay's own encoders.
//!
//! Being a second implementation on purpose, it can check `protocol`, and it can write what
//! `protocol` refuses to: unordered maps, CARs without roots, CIDs of a version 7.

use bytes::Bytes;
use protocol::cid::Cid;

/// A CBOR value. Encoded canonically (DRISL), but for the variants that say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A non-negative integer in its shortest form.
    Int(u64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Tag 42 around the binary form of a CID, well-formed or not.
    Link(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A map; its keys are put in order when it is encoded.
    Map(Vec<(&'static str, Self)>),
    /// A map whose entries are written in the order given.
    Disordered(Vec<(&'static str, Self)>),
    /// An integer written in nine bytes, however small it is.
    Wide(u64),
    /// Bytes that already are CBOR, or pretend to be.
    Encoded(Vec<u8>),
    /// The place of the host's seq: written when the host appends the frame.
    Seq,
}

impl Value {
    /// Text from anything that displays.
    pub fn text(text: impl std::fmt::Display) -> Self {
        Self::Text(text.to_string())
    }

    /// A link to a CID.
    pub fn link(cid: Cid) -> Self {
        Self::Link(cid.to_bytes().to_vec())
    }

    /// The CBOR of a value without [`Value::Seq`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.write(&mut out, &mut None);
        out
    }

    fn write(&self, out: &mut Vec<u8>, seq_at: &mut Option<usize>) {
        match self {
            Self::Null => out.push(0xf6),
            Self::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
            Self::Int(value) => write_head(out, MAJOR_UINT, *value),
            Self::Text(text) => write_text(out, text),
            Self::Bytes(bytes) => write_bytes(out, bytes),
            Self::Link(cid) => {
                out.extend_from_slice(&[0xd8, 42]);
                write_head(out, MAJOR_BYTES, len_u64(cid.len() + 1));
                // "the CID's binary form with the multibase prefix 0x00" (DAG-CBOR).
                out.push(0);
                out.extend_from_slice(cid);
            }
            Self::List(items) => {
                write_head(out, MAJOR_LIST, len_u64(items.len()));
                for item in items {
                    item.write(out, seq_at);
                }
            }
            Self::Map(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by_key(|(key, _)| (key.len(), *key));
                write_entries(out, seq_at, sorted.into_iter());
            }
            Self::Disordered(entries) => write_entries(out, seq_at, entries.iter()),
            Self::Wide(value) => {
                out.push(0x1b);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Encoded(bytes) => out.extend_from_slice(bytes),
            Self::Seq => *seq_at = Some(out.len()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

fn write_entries<'a>(
    out: &mut Vec<u8>,
    seq_at: &mut Option<usize>,
    entries: impl ExactSizeIterator<Item = &'a (&'static str, Value)>,
) {
    write_head(out, MAJOR_MAP, len_u64(entries.len()));
    for (key, value) in entries {
        write_text(out, key);
        value.write(out, seq_at);
    }
}

/// One block of a CAR: any bytes under any name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The binary form of its CID, well-formed or not.
    pub cid: Vec<u8>,
    /// What is said to hash to it.
    pub bytes: Vec<u8>,
}

impl Block {
    /// A block under the CID that it has.
    pub fn of_cbor(bytes: Vec<u8>) -> Self {
        Self { cid: Cid::of_cbor(&bytes).to_bytes().to_vec(), bytes }
    }
}

/// Writes a CAR v1 with any number of roots.
pub fn car(roots: &[Vec<u8>], blocks: &[Block]) -> Vec<u8> {
    let roots = roots.iter().map(|root| Value::Link(root.clone())).collect();
    let header = Value::Map(vec![("roots", Value::List(roots)), ("version", Value::Int(1))]);
    let header = header.encode();
    let payload: usize = blocks.iter().map(|block| block.cid.len() + block.bytes.len() + 4).sum();
    let mut out = Vec::with_capacity(header.len() + payload + 4);
    write_varint(&mut out, len_u64(header.len()));
    out.extend_from_slice(&header);
    for block in blocks {
        write_varint(&mut out, len_u64(block.cid.len() + block.bytes.len()));
        out.extend_from_slice(&block.cid);
        out.extend_from_slice(&block.bytes);
    }
    out
}

/// A frame that lacks only its seq: what a host adds when it appends it, and what a relay
/// replaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Header and payload, without the integer of `seq`.
    bytes: Bytes,
    /// Where that integer belongs; `None`: the frame has none.
    seq_at: Option<usize>,
}

impl Frame {
    /// An event frame: `t` with its `#`, and a payload that holds [`Value::Seq`].
    pub fn event(t: &str, payload: &Value) -> Self {
        let header = Value::Map(vec![("op", Value::Int(1)), ("t", Value::from(t))]);
        Self::from_parts(&header, payload)
    }

    /// A frame of any header and payload.
    pub fn from_parts(header: &Value, payload: &Value) -> Self {
        let mut bytes = Vec::with_capacity(4096);
        let mut seq_at = None;
        header.write(&mut bytes, &mut None);
        payload.write(&mut bytes, &mut seq_at);
        Self { bytes: bytes.into(), seq_at }
    }

    /// The same frame with bytes after it, which no frame may have.
    #[must_use]
    pub fn followed_by(&self, tail: &[u8]) -> Self {
        let bytes = [&self.bytes[..], tail].concat();
        Self { bytes: bytes.into(), seq_at: self.seq_at }
    }

    /// The same frame with another byte at a place of [`Frame::without_seq`].
    #[must_use]
    pub fn patched(&self, at: usize, byte: u8) -> Self {
        let mut bytes = self.bytes.to_vec();
        bytes[at] = byte;
        Self { bytes: bytes.into(), seq_at: self.seq_at }
    }

    /// Any bytes, as a message without seq.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), seq_at: None }
    }

    /// Takes the seq out of a frame as received: the number and what is left. `None` for a
    /// message that is not an event with a `seq`.
    pub fn split(message: &Bytes) -> Option<(u64, Self)> {
        let payload = skip(message, 0)?;
        let (major, entries, mut at) = read_head(message, payload)?;
        if major != MAJOR_MAP {
            return None;
        }
        for _ in 0..entries {
            let (key, value) = read_text(message, at)?;
            let end = skip(message, value)?;
            if key == b"seq" {
                let (MAJOR_UINT, seq, _) = read_head(message, value)? else { return None };
                let mut bytes = Vec::with_capacity(message.len());
                bytes.extend_from_slice(&message[..value]);
                bytes.extend_from_slice(&message[end..]);
                return Some((seq, Self { bytes: bytes.into(), seq_at: Some(value) }));
            }
            at = end;
        }
        None
    }

    /// Its bytes without the seq.
    pub fn without_seq(&self) -> &Bytes {
        &self.bytes
    }

    /// Where in them the seq belongs; `None`: the frame has none.
    pub fn seq_at(&self) -> Option<usize> {
        self.seq_at
    }

    /// The whole frame with a seq.
    pub fn with_seq(&self, seq: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 9);
        let at = self.seq_at.unwrap_or(self.bytes.len());
        out.extend_from_slice(&self.bytes[..at]);
        if self.seq_at.is_some() {
            write_head(&mut out, MAJOR_UINT, seq);
        }
        out.extend_from_slice(&self.bytes[at..]);
        out
    }
}

/// Where the value that starts at `at` ends. Walks, never recurses: one counter of items to come.
pub(crate) fn skip(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut items: u64 = 1;
    while items > 0 {
        items -= 1;
        let (major, argument, next) = read_head(bytes, at)?;
        at = next;
        match major {
            MAJOR_BYTES | MAJOR_TEXT => {
                at = at.checked_add(usize::try_from(argument).ok()?)?;
                if at > bytes.len() {
                    return None;
                }
            }
            MAJOR_LIST => items = items.checked_add(argument)?,
            MAJOR_MAP => items = items.checked_add(argument.checked_mul(2)?)?,
            MAJOR_TAG => items += 1,
            _ => {}
        }
    }
    Some(at)
}

fn read_text(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (MAJOR_TEXT, len, start) = read_head(bytes, at)? else { return None };
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    Some((bytes.get(start..end)?, end))
}

/// Major type, argument and what follows.
pub(crate) fn read_head(bytes: &[u8], at: usize) -> Option<(u8, u64, usize)> {
    let first = *bytes.get(at)?;
    let width = match first & 0x1f {
        small @ 0..24 => return Some((first >> 5, u64::from(small), at + 1)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return None,
    };
    let digits = bytes.get(at + 1..at + 1 + width)?;
    let argument = digits.iter().fold(0, |sum, digit| sum << 8 | u64::from(*digit));
    Some((first >> 5, argument, at + 1 + width))
}

fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let digits = argument.to_be_bytes();
    match argument {
        0..24 => out.push(major | digits[7]),
        24..0x100 => out.extend_from_slice(&[major | 24, digits[7]]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&digits[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&digits[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&digits);
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, MAJOR_TEXT, len_u64(text.len()));
    out.extend_from_slice(text.as_bytes());
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_head(out, MAJOR_BYTES, len_u64(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Writes an unsigned varint, the shortest.
pub(crate) fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Reads an unsigned varint: the number and what follows.
pub(crate) fn read_varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number, at));
        }
    }
    None
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits 64 bits")
}

const MAJOR_UINT: u8 = 0;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_LIST: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Value {
        Value::Map(vec![
            ("active", true.into()),
            ("did", "did:plc:bvmv7b6przzp5qac5x7s3aa3".into()),
            ("time", "2026-11-21T02:37:17.492Z".into()),
            ("seq", Value::Seq),
        ])
    }

    /// As the reference PDS sent it.
    const ACCOUNT: &[u8] = b"\xa2at\x68#accountbop\x01\
        \xa4cdidx\x20did:plc:bvmv7b6przzp5qac5x7s3aa3cseq\x02\
        dtimex\x182026-11-21T02:37:17.492Zfactive\xf5";

    #[test]
    fn a_frame_is_written_as_the_reference_pds_writes_it() {
        assert_eq!(Frame::event("#account", &account()).with_seq(2), ACCOUNT);
    }

    #[test]
    fn taking_the_seq_out_is_the_reverse_of_putting_it_in() {
        let frame = Frame::event("#account", &account());
        for seq in [1, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 52] {
            let message = Bytes::from(frame.with_seq(seq));
            assert_eq!(Frame::split(&message), Some((seq, frame.clone())));
            for cut in 0..message.len() {
                // A cut frame may still be read, but never wrongly.
                let seen = Frame::split(&message.slice(..cut));
                assert!(seen.is_none_or(|(found, _)| found == seq), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_message_without_seq_has_none_to_take() {
        let info = Value::Map(vec![("name", "OutdatedCursor".into())]);
        let message = Bytes::from(Frame::event("#info", &info).with_seq(7));
        assert_eq!(Frame::split(&message), None);
        assert_eq!(Frame::split(&Bytes::from_static(b"\xff\xff")), None);
        assert_eq!(Frame::split(&Bytes::new()), None);
    }
}
