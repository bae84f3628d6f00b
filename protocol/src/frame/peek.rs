//! The first look at a frame: what it is, whose, and with which number.

use super::{HostKind, Kind};
use crate::cbor::{CborError, Reader, Rules, Value};

/// What a frame is, as far as routing needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// An event of an account. `seq` as sent, if it is an integer; `did` from `repo` or `did`, if
    /// it is text.
    Event {
        /// Its kind.
        kind: HostKind,
        /// The host's number; absent, negative or no integer: `None`.
        seq: Option<u64>,
        /// The account, as written.
        did: Option<&'a str>,
    },
    /// `#info`.
    Info {
        /// For example `OutdatedCursor`.
        name: Option<&'a str>,
        /// For people.
        message: Option<&'a str>,
    },
    /// An error frame (`op` = -1).
    Error {
        /// For example `FutureCursor`.
        error: Option<&'a str>,
        /// For people.
        message: Option<&'a str>,
    },
    /// An `op` or `t` that we do not know; its `seq`, if any, moves the cursor on.
    Unknown {
        /// The host's number.
        seq: Option<u64>,
    },
}

/// A frame that is no header and payload, or whose CBOR cannot be repaired (protocol.md
/// section 1, "envelope encoding").
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame")]
pub struct Malformed;

impl From<CborError> for Malformed {
    fn from(_: CborError) -> Self {
        Self
    }
}

/// Walks the whole frame leniently and says what it is.
pub fn peek(frame: &[u8]) -> Result<Peek<'_>, Malformed> {
    let mut reader = Reader::new(frame, Rules::Envelope);
    let header = Header::read(&mut reader)?;
    let payload = Payload::read(&mut reader)?;
    reader.end()?;
    let Payload { seq, repo, did, name, error, message } = payload;
    Ok(match header {
        Header::Error => Peek::Error { error, message },
        Header::Other => Peek::Unknown { seq },
        Header::Message("#info") => Peek::Info { name, message },
        Header::Message(name) => match HostKind::from_name(name) {
            Some(kind @ HostKind::Event(Kind::Commit)) => Peek::Event { kind, seq, did: repo },
            Some(kind) => Peek::Event { kind, seq, did },
            None => Peek::Unknown { seq },
        },
    })
}

/// The `time` of an event, as written; `None` if it has none, or is no frame.
pub fn event_time(frame: &[u8]) -> Option<&str> {
    let mut reader = Reader::new(frame, Rules::Envelope);
    Header::read(&mut reader).ok()?;
    let Value::Map(mut map) = reader.value().ok()? else { return None };
    while let Some(key) = map.next_key(&mut reader).ok()? {
        if key == "time" {
            return reader.text().ok()?;
        }
        reader.skip().ok()?;
    }
    None
}

/// The header, by its `op`.
pub(super) enum Header<'a> {
    /// `op` 1, with `t`.
    Message(&'a str),
    /// `op` -1.
    Error,
    /// Another integer.
    Other,
}

impl<'a> Header<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        // Nearly every header is one of four byte strings.
        for (literal, name) in CANONICAL_HEADERS {
            if reader.take_literal(literal) {
                return Ok(Self::Message(name));
            }
        }
        let Value::Map(mut map) = reader.value()? else {
            return Err(Malformed);
        };
        let mut op = None;
        let mut name = None;
        while let Some(key) = map.next_key(reader)? {
            match key {
                "op" => op = Some(reader.value()?),
                "t" => name = reader.text()?,
                _ => reader.skip()?,
            }
        }
        match (op, name) {
            (Some(Value::Unsigned(1)), Some(name)) => Ok(Self::Message(name)),
            (Some(Value::Negative(0)), _) => Ok(Self::Error),
            (Some(Value::Unsigned(op)), _) if op != 1 => Ok(Self::Other),
            (Some(Value::Negative(_)), _) => Ok(Self::Other),
            _ => Err(Malformed),
        }
    }
}

/// `{"t": name, "op": 1}`, in the order of how often they come.
const CANONICAL_HEADERS: [(&[u8], &str); 4] = [
    (b"\xa2\x61t\x67#commit\x62op\x01", "#commit"),
    (b"\xa2\x61t\x69#identity\x62op\x01", "#identity"),
    (b"\xa2\x61t\x68#account\x62op\x01", "#account"),
    (b"\xa2\x61t\x65#sync\x62op\x01", "#sync"),
];

/// The fields of all kinds of payload that routing looks at; of another type counts as absent.
#[derive(Default)]
struct Payload<'a> {
    seq: Option<u64>,
    repo: Option<&'a str>,
    did: Option<&'a str>,
    name: Option<&'a str>,
    error: Option<&'a str>,
    message: Option<&'a str>,
}

impl<'a> Payload<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let Value::Map(mut map) = reader.value()? else {
            return Err(Malformed);
        };
        let mut payload = Self::default();
        while let Some(key) = map.next_key(reader)? {
            match key {
                "seq" => payload.seq = reader.unsigned()?,
                "repo" => payload.repo = reader.text()?,
                "did" => payload.did = reader.text()?,
                "name" => payload.name = reader.text()?,
                "error" => payload.error = reader.text()?,
                "message" => payload.message = reader.text()?,
                _ => reader.skip()?,
            }
        }
        Ok(payload)
    }
}
