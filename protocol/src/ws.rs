//! WebSocket frame headers (RFC 6455 section 5.2), both directions, without I/O.

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with the message before.
    Continuation,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// Ends the connection.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Last frame of its message.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// The masking key, on frames from a client.
    pub mask: Option<[u8; 4]>,
    /// Payload bytes that follow, as claimed.
    pub len: u64,
}

/// Bytes that are not a frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a WebSocket frame header")]
pub struct HeaderError;

/// The longest header: two bytes, eight of length, four of mask.
pub const HEADER_BYTES_MAX: usize = 14;

impl Header {
    /// Reads a header from the front of `bytes`; with it comes its own length. `Ok(None)`: more
    /// bytes are needed. Reserved bits and opcodes, fragmented or long control frames and
    /// non-minimal lengths are refused.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let fin = first & FIN != 0;
        let opcode = Opcode::from_bits(first & OPCODE_BITS).ok_or(HeaderError)?;
        let short_len = second & LEN_BITS;
        // "Control frames … MUST have a payload length of 125 bytes or less and MUST NOT be
        // fragmented" (RFC 6455 section 5.5).
        let control_broken = opcode.is_control() && (!fin || short_len > LEN_SHORT_MAX);
        if first & RESERVED_BITS != 0 || control_broken {
            return Err(HeaderError);
        }
        let Some((len, rest)) = split_len(short_len, rest)? else {
            return Ok(None);
        };
        let (mask, rest) = if second & MASKED == 0 {
            (None, rest)
        } else {
            match rest.split_first_chunk() {
                Some((key, rest)) => (Some(*key), rest),
                None => return Ok(None),
            }
        };
        Ok(Some((Self { fin, opcode, mask, len }, bytes.len() - rest.len())))
    }

    /// Appends the header.
    pub fn write(&self, out: &mut Vec<u8>) {
        let fin = if self.fin { FIN } else { 0 };
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        out.push(fin | self.opcode.bits());
        if let Ok(len) = u16::try_from(self.len) {
            match u8::try_from(len) {
                Ok(len) if len <= LEN_SHORT_MAX => out.push(masked | len),
                _ => {
                    out.push(masked | LEN_IS_16_BITS);
                    out.extend_from_slice(&len.to_be_bytes());
                }
            }
        } else {
            out.push(masked | LEN_IS_64_BITS);
            out.extend_from_slice(&self.len.to_be_bytes());
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }
}

impl Opcode {
    /// Whether it is a close, ping or pong: those may stand between the frames of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }
}

/// Applies the mask to payload bytes that start at `offset` of the payload.
pub fn mask(key: [u8; 4], offset: u64, bytes: &mut [u8]) {
    let turn = usize::try_from(offset % 4).expect("below four");
    // Whole chunks of a fixed length become vector instructions.
    let pad: [u8; MASK_CHUNK] = std::array::from_fn(|at| key[(at + turn) % 4]);
    let mut chunks = bytes.chunks_exact_mut(MASK_CHUNK);
    for chunk in &mut chunks {
        for (byte, pad) in chunk.iter_mut().zip(&pad) {
            *byte ^= pad;
        }
    }
    for (byte, pad) in chunks.into_remainder().iter_mut().zip(&pad) {
        *byte ^= pad;
    }
}

/// Fuzz target: what is read is written alike, and masking twice changes nothing.
pub fn fuzz_ws(data: &[u8]) {
    let Ok(Some((header, len))) = Header::parse(data) else { return };
    assert!(len <= HEADER_BYTES_MAX, "a header has an end");
    let mut written = Vec::new();
    header.write(&mut written);
    assert_eq!(written, data[..len], "a header has one form");
    for cut in 0..len {
        assert_eq!(Header::parse(&data[..cut]), Ok(None), "a header is read once it is whole");
    }
    if let Some(key) = header.mask {
        let mut payload = data[len..].to_vec();
        mask(key, header.len, &mut payload);
        mask(key, header.len, &mut payload);
        assert_eq!(payload, data[len..]);
    }
}

/// The payload's length and what follows it; `None`: more bytes are needed.
fn split_len(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, HeaderError> {
    // "in all cases, the minimal number of bytes MUST be used to encode the length", and "the
    // most significant bit MUST be 0" of 64 (RFC 6455 section 5.2).
    match short {
        LEN_IS_16_BITS => match rest.split_first_chunk() {
            None => Ok(None),
            Some((len, rest)) => match u16::from_be_bytes(*len) {
                0..=125 => Err(HeaderError),
                len => Ok(Some((u64::from(len), rest))),
            },
        },
        LEN_IS_64_BITS => match rest.split_first_chunk() {
            None => Ok(None),
            Some((len, rest)) => match u64::from_be_bytes(*len) {
                len @ 0x1_0000..=0x7fff_ffff_ffff_ffff => Ok(Some((len, rest))),
                _ => Err(HeaderError),
            },
        },
        len => Ok(Some((u64::from(len), rest))),
    }
}

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LEN_BITS: u8 = 0x7f;
const LEN_SHORT_MAX: u8 = 125;
const LEN_IS_16_BITS: u8 = 126;
const LEN_IS_64_BITS: u8 = 127;
const MASK_CHUNK: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

    use super::*;

    fn check(bytes: &[u8], expected: Result<Option<(Header, usize)>, HeaderError>) {
        assert_eq!(Header::parse(bytes), expected, "{bytes:x?}");
    }

    fn data(opcode: Opcode, mask: Option<[u8; 4]>, len: u64) -> Header {
        Header { fin: true, opcode, mask, len }
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 6455, section 5.7.
        check(&[0x81, 0x05], Ok(Some((data(Opcode::Text, None, 5), 2))));
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let mut hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        check(&hello, Ok(Some((data(Opcode::Text, Some(key), 5), 6))));
        mask(key, 0, &mut hello[6..]);
        assert_eq!(&hello[6..], b"Hello");
        let first = Header { fin: false, opcode: Opcode::Text, mask: None, len: 3 };
        check(&[0x01, 0x03], Ok(Some((first, 2))));
        check(&[0x80, 0x02], Ok(Some((data(Opcode::Continuation, None, 2), 2))));
        check(&[0x89, 0x05], Ok(Some((data(Opcode::Ping, None, 5), 2))));
        check(&[0x82, 0x7e, 0x01, 0x00], Ok(Some((data(Opcode::Binary, None, 256), 4))));
        let long = [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
        check(&long, Ok(Some((data(Opcode::Binary, None, 65_536), 10))));
    }

    #[test]
    fn a_length_has_its_shortest_form() {
        check(&[0x82, 126, 0, 125], Err(HeaderError));
        check(&[0x82, 126, 0, 126], Ok(Some((data(Opcode::Binary, None, 126), 4))));
        check(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Err(HeaderError));
        check(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(HeaderError));
        let longest = data(Opcode::Binary, None, u64::MAX >> 1);
        check(&[0x82, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255], Ok(Some((longest, 10))));
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused_at_once() {
        for first in [0xc2, 0xa2, 0x92, 0x83, 0x87, 0x8b, 0x8f] {
            check(&[first, 0], Err(HeaderError));
        }
    }

    #[test]
    fn a_control_frame_is_whole_and_short() {
        check(&[0x88, 125], Ok(Some((data(Opcode::Close, None, 125), 2))));
        check(&[0x88, 126], Err(HeaderError));
        check(&[0x8a, 127], Err(HeaderError));
        check(&[0x09, 0], Err(HeaderError));
    }

    fn headers() -> impl Strategy<Value = Header> {
        let opcodes = prop::sample::select(vec![
            Opcode::Continuation,
            Opcode::Text,
            Opcode::Binary,
            Opcode::Close,
            Opcode::Ping,
            Opcode::Pong,
        ]);
        let lens = prop_oneof![0u64..300, 65_000u64..66_000, 0..u64::MAX >> 1];
        (opcodes, any::<bool>(), any::<Option<[u8; 4]>>(), lens).prop_map(
            |(opcode, fin, mask, len)| Header {
                fin: fin || opcode.is_control(),
                opcode,
                mask,
                len: if opcode.is_control() { len % 126 } else { len },
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_is_written_as_tungstenite_reads_it(header in headers()) {
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            prop_assert!(bytes.len() <= HEADER_BYTES_MAX);
            prop_assert_eq!(Header::parse(&bytes), Ok(Some((header, bytes.len()))));
            for cut in 0..bytes.len() {
                prop_assert_eq!(Header::parse(&bytes[..cut]), Ok(None));
            }
            let (theirs, len) = FrameHeader::parse(&mut Cursor::new(&bytes)).unwrap().unwrap();
            prop_assert_eq!((theirs.is_final, theirs.mask), (header.fin, header.mask));
            prop_assert_eq!((u8::from(theirs.opcode), len), (header.opcode.bits(), header.len));
            let mut written = Vec::new();
            theirs.format(len, &mut written).unwrap();
            prop_assert_eq!(written, bytes);
        }

        #[test]
        fn what_is_read_tungstenite_reads_alike(
            bytes in prop::collection::vec(any::<u8>(), 0..=HEADER_BYTES_MAX),
        ) {
            let Ok(Some((header, len))) = Header::parse(&bytes) else { return Ok(()) };
            let mut cursor = Cursor::new(&bytes);
            let (theirs, payload) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            prop_assert_eq!(cursor.position(), u64::try_from(len).unwrap());
            prop_assert_eq!((theirs.mask, payload), (header.mask, header.len));
        }

        #[test]
        fn a_payload_may_be_masked_in_parts(
            key in any::<[u8; 4]>(),
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            cut in 0usize..400,
        ) {
            let naive: Vec<u8> =
                bytes.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
            let mut masked = bytes;
            let cut = cut.min(masked.len());
            let (front, back) = masked.split_at_mut(cut);
            mask(key, 0, front);
            mask(key, u64::try_from(cut).unwrap(), back);
            prop_assert_eq!(masked, naive);
        }
    }
}
