//! What a consumer sends: control frames are answered, everything else is skipped unread.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use protocol::ws::{self, Header, Opcode};
use tokio::net::TcpStream;

/// What the writing side must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Answer a ping with the same payload.
    Pong(Vec<u8>),
    /// The consumer said goodbye, or broke the protocol: close with this code.
    Close(u16),
    /// The connection is gone.
    Gone,
}

/// What has come and is not a whole frame yet.
pub(super) struct Incoming {
    buffer: BytesMut,
    /// Bytes of a payload that nobody reads, still to come.
    skip: u64,
}

impl Incoming {
    /// Begins with what was read together with the handshake.
    pub(super) fn new(read_ahead: &Bytes) -> Self {
        Self { buffer: BytesMut::from(&read_ahead[..]), skip: 0 }
    }

    /// Takes what the socket has, up to a limit, so that nobody's flood holds up his neighbours.
    /// Pings beyond the first few of it are not answered: a flood costs nothing but reading.
    /// Empty most of the time; a note that ends the connection is the last one.
    pub(super) fn receive(&mut self, socket: &TcpStream) -> Vec<Note> {
        let mut notes = Vec::new();
        for _ in 0..READS_MAX {
            while let Step::Note(note) = step(&mut self.buffer, &mut self.skip) {
                match note {
                    Note::Pong(_) if notes.len() >= PONGS_MAX => {}
                    Note::Pong(_) => notes.push(note),
                    Note::Close(_) | Note::Gone => {
                        notes.push(note);
                        return notes;
                    }
                }
            }
            let mut bytes = [0; READ_BYTES];
            match socket.try_read(&mut bytes) {
                Ok(count @ 1..) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => {
                    notes.push(Note::Gone);
                    break;
                }
            }
        }
        notes
    }
}

enum Step {
    Note(Note),
    More,
}

/// Takes one frame, or as much of a payload to skip as there is, from the front of the buffer.
fn step(buffer: &mut BytesMut, skip: &mut u64) -> Step {
    loop {
        let skipped = buffer.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
        buffer.advance(skipped);
        *skip -= skipped as u64;
        if *skip > 0 {
            return Step::More;
        }
        let (header, header_len) = match Header::parse(buffer) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Step::More,
            Err(_) => return Step::Note(Note::Close(PROTOCOL_ERROR)),
        };
        // RFC 6455 section 5.1: "a client MUST mask all frames that it sends".
        let Some(mask) = header.mask else { return Step::Note(Note::Close(PROTOCOL_ERROR)) };
        match header.opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary | Opcode::Pong => {
                buffer.advance(header_len);
                *skip = header.len;
            }
            Opcode::Ping | Opcode::Close => {
                // The header's parser allows at most 125 bytes on a control frame.
                let len = usize::try_from(header.len).unwrap_or(usize::MAX);
                if buffer.len() < header_len.saturating_add(len) {
                    return Step::More;
                }
                buffer.advance(header_len);
                let mut payload = buffer.split_to(len).to_vec();
                ws::mask(mask, 0, &mut payload);
                return Step::Note(match header.opcode {
                    Opcode::Ping => Note::Pong(payload),
                    _ => Note::Close(NORMAL),
                });
            }
        }
    }
}

/// A consumer sends pings and a goodbye, no more.
const READ_BYTES: usize = 512;
/// Reads at a time.
const READS_MAX: usize = 32;
/// Pings that are answered at a time.
const PONGS_MAX: usize = 4;
/// RFC 6455 section 7.4.1.
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let key = [7, 1, 200, 3];
        let mut bytes = Vec::new();
        Header { fin: true, opcode, mask: Some(key), len: payload.len() as u64 }.write(&mut bytes);
        let mut masked = payload.to_vec();
        ws::mask(key, 0, &mut masked);
        bytes.extend(masked);
        bytes
    }

    fn notes(input: &[u8], at_once: usize) -> Vec<Note> {
        let (mut buffer, mut skip, mut notes) = (BytesMut::new(), 0, Vec::new());
        for chunk in input.chunks(at_once) {
            buffer.extend_from_slice(chunk);
            while let Step::Note(note) = step(&mut buffer, &mut skip) {
                let last = matches!(note, Note::Close(_));
                notes.push(note);
                if last {
                    return notes;
                }
            }
        }
        notes
    }

    #[test]
    fn data_is_skipped_and_controls_are_noted_however_they_arrive() {
        let mut input = frame(Opcode::Text, &[b'x'; 70_000]);
        input.extend(frame(Opcode::Ping, b"are you there"));
        input.extend(frame(Opcode::Binary, b""));
        input.extend(frame(Opcode::Close, &1000_u16.to_be_bytes()));
        for at_once in [1, 3, 1024, input.len()] {
            let expected = [Note::Pong(b"are you there".to_vec()), Note::Close(NORMAL)];
            assert_eq!(notes(&input, at_once), expected, "{at_once} bytes at once");
        }
    }

    #[test]
    fn an_unmasked_frame_breaks_the_protocol() {
        assert_eq!(notes(&[0x89, 0], 2), [Note::Close(PROTOCOL_ERROR)]);
    }
}
