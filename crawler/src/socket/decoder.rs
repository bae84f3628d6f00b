//! Bytes from a server in, WebSocket messages out: pure, whatever way the bytes are split.
//!
//! Nothing is allocated by a claim: a message grows with the bytes that came, and one over
//! [`MESSAGE_UNBUDGETED_MAX`] first asks for its permit.

use bytes::{Buf, Bytes, BytesMut};
use protocol::ws::{Header, HeaderError, Opcode};

use crate::limits::{
    EXCERPT_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_DISCARDED_MAX, MESSAGE_FRAGMENTS_MAX,
    MESSAGE_UNBUDGETED_MAX,
};

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing without more bytes.
    Starved,
    /// A message of up to so many bytes comes. The next call means that there is room for it.
    Wants(u32),
    /// A whole message.
    Message(Bytes),
    /// The message that comes is too big: it is read past, so its room is not needed.
    Discarding,
    /// That message has passed.
    Discarded {
        /// How long it was.
        bytes: u64,
        /// Its beginning.
        excerpt: Bytes,
    },
    /// Wants a pong with the same payload.
    Ping(Bytes),
    /// Answers a ping.
    Pong,
    /// The server ends the connection.
    Close(Bytes),
}

/// What a server may not do; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// See [`HeaderError`].
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// RFC 6455 section 5.1: "A server MUST NOT mask any frames that it sends to the client."
    #[error("masked frame from a server")]
    Masked,
    /// A continuation of nothing, or a message within a message.
    #[error("fragments out of order")]
    Fragments,
    /// Over [`MESSAGE_FRAGMENTS_MAX`].
    #[error("message in too many fragments")]
    TooManyFragments,
    /// The event stream is binary.
    #[error("text message")]
    Text,
    /// Over [`MESSAGE_DISCARDED_MAX`].
    #[error("message over 64 MB")]
    TooLong,
}

/// The state between two calls.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    message: Option<Message>,
    /// Bytes left of the current data frame's payload, and whether it is the message's last frame.
    frame: Option<Frame>,
}

#[derive(Debug)]
struct Frame {
    left: u64,
    fin: bool,
}

/// A message of which a frame has begun.
#[derive(Debug, Default)]
struct Message {
    /// Invariant: its capacity is never over `declared` or twice what came, whichever is more.
    bytes: Vec<u8>,
    /// The claimed lengths of its frames so far.
    declared: u64,
    fragments: u32,
    granted: bool,
    discarded: bool,
}

impl Decoder {
    /// Takes bytes off the front of `input` until something is complete. After an error the
    /// connection makes no sense any more.
    pub(crate) fn step(&mut self, input: &mut BytesMut) -> Result<Step, Violation> {
        loop {
            let step = if self.frame.is_some() { self.payload(input) } else { self.header(input)? };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_within_message(&self) -> bool {
        self.message.is_some()
    }

    /// Reads one frame's header, and the whole frame if it is a control frame.
    fn header(&mut self, input: &mut BytesMut) -> Result<Option<Step>, Violation> {
        let Some((header, header_bytes)) = Header::parse(input)? else {
            return Ok(Some(Step::Starved));
        };
        if header.mask.is_some() {
            return Err(Violation::Masked);
        }
        match header.opcode {
            Opcode::Ping | Opcode::Pong | Opcode::Close => {
                Ok(Some(control(input, header, header_bytes)))
            }
            Opcode::Text => Err(Violation::Text),
            Opcode::Binary if self.message.is_some() => Err(Violation::Fragments),
            Opcode::Continuation if self.message.is_none() => Err(Violation::Fragments),
            Opcode::Binary | Opcode::Continuation => {
                input.advance(header_bytes);
                self.begin(header)
            }
        }
    }

    /// Begins a data frame.
    fn begin(&mut self, header: Header) -> Result<Option<Step>, Violation> {
        let message = self.message.get_or_insert_default();
        message.fragments += 1;
        if message.fragments > MESSAGE_FRAGMENTS_MAX {
            return Err(Violation::TooManyFragments);
        }
        message.declared = message.declared.saturating_add(header.len);
        if message.declared > MESSAGE_DISCARDED_MAX {
            return Err(Violation::TooLong);
        }
        self.frame = Some(Frame { left: header.len, fin: header.fin });
        if message.discarded {
            return Ok(None);
        }
        if message.declared > u64::from(MESSAGE_BYTES_MAX) {
            message.discarded = true;
            message.bytes.truncate(EXCERPT_BYTES_MAX);
            message.bytes.shrink_to_fit();
            return Ok(Some(Step::Discarding));
        }
        let budgeted = message.declared > u64::from(MESSAGE_UNBUDGETED_MAX);
        if !budgeted || message.granted {
            return Ok(None);
        }
        message.granted = true;
        // A message in fragments does not say how long it becomes. Asking again for each of them
        // would make hosts wait for each other while they hold what the other waits for.
        let most = if header.fin { message.declared } else { u64::from(MESSAGE_BYTES_MAX) };
        Ok(Some(Step::Wants(u32::try_from(most).expect("at most MESSAGE_BYTES_MAX"))))
    }

    /// Takes payload of the current frame.
    fn payload(&mut self, input: &mut BytesMut) -> Option<Step> {
        let frame = self.frame.as_mut().expect("called within a frame");
        let message = self.message.as_mut().expect("a data frame belongs to a message");
        let taken = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
        message.take(&input[..taken], frame.fin);
        input.advance(taken);
        frame.left -= u64::try_from(taken).expect("at most what was left");
        if frame.left > 0 {
            return Some(Step::Starved);
        }
        let fin = frame.fin;
        self.frame = None;
        if !fin {
            return None;
        }
        let Message { bytes, declared, discarded, .. } = self.message.take()?;
        if discarded {
            return Some(Step::Discarded { bytes: declared, excerpt: bytes.into() });
        }
        Some(Step::Message(bytes.into()))
    }
}

impl Message {
    /// Appends payload, or what the excerpt lacks of it. `fin`: its frame is the last one.
    fn take(&mut self, payload: &[u8], fin: bool) {
        if self.discarded {
            let lacking = EXCERPT_BYTES_MAX.saturating_sub(self.bytes.len()).min(payload.len());
            self.bytes.extend_from_slice(&payload[..lacking]);
            return;
        }
        let needed = self.bytes.len() + payload.len();
        if needed > self.bytes.capacity() {
            // Doubling, so that many small fragments cost no copy of the whole each; but never over
            // what the message may hold, which its last frame has told.
            let most = if fin { self.declared } else { u64::from(MESSAGE_BYTES_MAX) };
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let capacity = needed.max(2 * self.bytes.capacity()).min(most);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
    }
}

/// Takes a whole control frame, at most 125 bytes of payload.
fn control(input: &mut BytesMut, header: Header, header_bytes: usize) -> Step {
    let payload_bytes = usize::try_from(header.len).unwrap_or(usize::MAX);
    if input.len() - header_bytes < payload_bytes {
        return Step::Starved;
    }
    input.advance(header_bytes);
    let payload = Bytes::copy_from_slice(&input[..payload_bytes]);
    input.advance(payload_bytes);
    match header.opcode {
        Opcode::Ping => Step::Ping(payload),
        Opcode::Pong => Step::Pong,
        _ => Step::Close(payload),
    }
}

/// Decodes the same bytes whole and in pieces: both must say the same, and nothing may panic or
/// hold more than its bound. The first byte chooses the pieces.
pub fn fuzz_socket(data: &[u8]) {
    let Some((&split, stream)) = data.split_first() else { return };
    let whole = run(stream, stream.len().max(1));
    let pieces = run(stream, usize::from(split % 31) + 1);
    assert_eq!(whole, pieces, "the way the bytes are split changes what they say");
}

/// All steps but [`Step::Starved`], and how it ended.
fn run(stream: &[u8], piece: usize) -> (Vec<Step>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::new();
    let mut steps = Vec::new();
    for bytes in stream.chunks(piece) {
        input.extend_from_slice(bytes);
        loop {
            match decoder.step(&mut input) {
                Ok(Step::Starved) => break,
                Ok(step) => steps.push(step),
                Err(violation) => return (steps, Some(violation)),
            }
            if let Some(message) = &decoder.message {
                assert!(message.bytes.len() <= stream.len());
                let declared = usize::try_from(message.declared).unwrap_or(usize::MAX);
                let bound = declared.max(2 * message.bytes.len()).max(EXCERPT_BYTES_MAX);
                assert!(message.bytes.capacity() <= bound);
            }
        }
    }
    (steps, None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::Message as TheirMessage;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as Theirs;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

    use super::*;

    /// What a server sends: a message in fragments of these lengths, or a control frame.
    #[derive(Clone, Debug)]
    enum Sent {
        Message(Vec<usize>),
        Ping(usize),
        Pong(usize),
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let length = prop_oneof![0usize..200, 16_000usize..17_000, 60_000usize..70_000];
        prop_oneof![
            prop::collection::vec(length, 1..4).prop_map(Sent::Message),
            (0usize..=125).prop_map(Sent::Ping),
            (0usize..=125).prop_map(Sent::Pong),
        ]
    }

    /// The bytes that the independent implementation puts on the wire.
    fn encode(sent: &[Sent]) -> Vec<u8> {
        let mut server = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Role::Server, None);
        for (index, sent) in sent.iter().enumerate() {
            let fill = u8::try_from(index % 251).unwrap();
            match sent {
                Sent::Message(parts) => {
                    for (part, bytes) in parts.iter().enumerate() {
                        let data = if part == 0 { Data::Binary } else { Data::Continue };
                        let fin = part + 1 == parts.len();
                        let frame = Theirs::message(vec![fill; *bytes], OpCode::Data(data), fin);
                        server.send(TheirMessage::Frame(frame)).unwrap();
                    }
                }
                Sent::Ping(bytes) => {
                    server.send(TheirMessage::Ping(vec![fill; *bytes].into())).unwrap();
                }
                Sent::Pong(bytes) => {
                    server.send(TheirMessage::Pong(vec![fill; *bytes].into())).unwrap();
                }
            }
        }
        server.get_ref().get_ref().clone()
    }

    /// The steps that [`encode`]'s bytes must give.
    fn expected(sent: &[Sent]) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, sent) in sent.iter().enumerate() {
            let fill = u8::try_from(index % 251).unwrap();
            match sent {
                Sent::Message(parts) => {
                    let ends = parts.iter().scan(0, |end, bytes| {
                        *end += bytes;
                        Some(*end)
                    });
                    let budgeted = usize::try_from(MESSAGE_UNBUDGETED_MAX).unwrap();
                    if let Some(part) = ends.clone().position(|end| end > budgeted) {
                        let last = part + 1 == parts.len();
                        let total = u32::try_from(parts.iter().sum::<usize>()).unwrap();
                        steps.push(Step::Wants(if last { total } else { MESSAGE_BYTES_MAX }));
                    }
                    steps.push(Step::Message(vec![fill; parts.iter().sum()].into()));
                }
                Sent::Ping(bytes) => steps.push(Step::Ping(vec![fill; *bytes].into())),
                Sent::Pong(_) => steps.push(Step::Pong),
            }
        }
        steps
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn independent_servers_bytes_are_understood_however_split(
            sent in prop::collection::vec(sent(), 0..6),
            piece in 1usize..5000,
        ) {
            prop_assert_eq!(run(&encode(&sent), piece), (expected(&sent), None));
        }

        #[test]
        fn bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_socket(&data);
        }

        /// Random bytes seldom get past the first header: these do.
        #[test]
        fn frames_in_any_order_never_panic(
            frames in prop::collection::vec((any::<u8>(), 0u8..=127, 0usize..150), 0..20),
            split in any::<u8>(),
        ) {
            let mut data = vec![split];
            for (first, second, bytes) in frames {
                data.extend([first & 0x8f, second]);
                data.extend(vec![second; bytes]);
            }
            fuzz_socket(&data);
        }
    }

    fn check(stream: &[u8], expected: (&[Step], Option<Violation>)) {
        for piece in [1, 3, stream.len()] {
            let (steps, violation) = run(stream, piece);
            assert_eq!((&steps[..], violation), expected, "{stream:?} in pieces of {piece}");
        }
    }

    #[test]
    fn violations_are_told_apart() {
        let message = Step::Message(Bytes::from_static(b"x"));
        let masked = [0x82, 1, b'x', 0x82, 0x80, 1, 2, 3, 4];
        check(&masked, (&[message], Some(Violation::Masked)));
        check(&[0x81, 0], (&[], Some(Violation::Text)));
        check(&[0x80, 0], (&[], Some(Violation::Fragments)));
        check(&[0x02, 0, 0x82, 0], (&[], Some(Violation::Fragments)));
        check(&[0x83, 0], (&[], Some(Violation::Header(HeaderError))));
        let long = [&[0x82, 127][..], &64_000_001u64.to_be_bytes()].concat();
        check(&long, (&[], Some(Violation::TooLong)));
    }

    #[test]
    fn a_message_has_so_many_fragments_at_most() {
        let fragments = usize::try_from(MESSAGE_FRAGMENTS_MAX).unwrap();
        let message = |fragments: usize| {
            let mut stream = vec![0x02, 1, 7];
            stream.extend([0, 1, 7].repeat(fragments - 2));
            stream.extend([0x80, 1, 7]);
            run(&stream, stream.len())
        };
        let whole = Step::Message(vec![7; fragments].into());
        assert_eq!(message(fragments), (vec![whole], None));
        let too_many = Some(Violation::TooManyFragments);
        assert_eq!(message(fragments + 1), (Vec::new(), too_many));
    }

    #[test]
    fn small_fragments_are_not_copied_again_and_again() {
        let mut decoder = Decoder::default();
        let (mut copies, mut capacity) = (0, 0);
        let mut input = BytesMut::from(&[0x02, 1, 7][..]);
        for _ in 1..MESSAGE_FRAGMENTS_MAX {
            assert_eq!(decoder.step(&mut input), Ok(Step::Starved));
            let now = decoder.message.as_ref().unwrap().bytes.capacity();
            copies += u32::from(now != capacity);
            capacity = now;
            input.extend_from_slice(&[0, 1, 7]);
        }
        assert!(copies <= 14, "{copies}");
    }

    #[test]
    fn close_carries_its_payload() {
        check(&[0x88, 3, 3, 0xf0, b'y'], (&[Step::Close(vec![3, 0xf0, b'y'].into())], None));
        check(&[0x88, 0], (&[Step::Close(Bytes::new())], None));
    }

    #[test]
    fn claim_of_a_large_message_allocates_nothing() {
        let mut decoder = Decoder::default();
        let claim = [&[0x82, 127][..], &5_000_000u64.to_be_bytes()].concat();
        let mut input = BytesMut::from(&claim[..]);
        assert_eq!(decoder.step(&mut input), Ok(Step::Wants(5_000_000)));
        input.extend_from_slice(&[0; 100]);
        assert_eq!(decoder.step(&mut input), Ok(Step::Starved));
        assert!(decoder.message.is_some_and(|message| message.bytes.capacity() < 1000));
    }

    #[test]
    fn message_over_the_limit_keeps_only_its_beginning() {
        let mut stream = [&[0x82, 127][..], &5_000_001u64.to_be_bytes()].concat();
        stream.extend(vec![9; 5_000_001]);
        stream.extend([0x82, 1, 7]);
        let excerpt = Bytes::from(vec![9; EXCERPT_BYTES_MAX]);
        let discarded = Step::Discarded { bytes: 5_000_001, excerpt };
        let next = Step::Message(Bytes::from_static(&[7]));
        assert_eq!(run(&stream, 60_000), (vec![Step::Discarding, discarded, next], None));
    }

    #[test]
    fn empty_socket_is_no_violation() {
        fuzz_socket(&[]);
        fuzz_socket(&[1]);
        assert_eq!(run(&[], 1), (Vec::new(), None));
    }
}
