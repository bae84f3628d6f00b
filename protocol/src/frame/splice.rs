//! Frames on their way out: a host's own bytes with our seq in the place of its, or a frame
//! encoded anew.

use std::ops::Range;

use bytes::Bytes;

use super::Kind;
use super::decode::FieldError;
use super::peek::Header;
use crate::cbor::{CborError, Map, Reader, Rules, Value, Writer, recode};
use crate::ids::Seq;

/// A frame on its way out that lacks only its seq.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What it is.
    kind: Kind,
    /// How many seq numbers it owns: max(1, ops).
    span: u32,
    /// The frame with some `seq`, or none at the splice's place.
    bytes: Bytes,
    /// Where in `bytes` the CBOR integer of `seq` stands. Invariant: within `bytes`.
    seq: Range<usize>,
    /// Whether the host's bytes had to be encoded anew.
    recoded: bool,
}

impl Outgoing {
    /// A host's own frame: its bytes as they are, if they are canonical DRISL with every required
    /// field; else encoded once anew: canonical order, shortest integers, `rebase: false`,
    /// `tooBig: false`, `blobs: []`, `since: null` and an op's `cid: null` added where missing,
    /// unknown fields kept (protocol.md section 8). `kind` must be what [`super::peek`] said.
    pub fn from_host(frame: &Bytes, kind: Kind) -> Result<Self, FieldError> {
        let Survey { seq, ops, fit } = Survey::take(frame, kind)?;
        let seq = seq?;
        if fit {
            return Ok(Self::surveyed(kind, frame.clone(), seq, ops, false));
        }
        let bytes = recode_frame(frame, kind)?;
        let Survey { seq, ops, fit } = Survey::take(&bytes, kind)?;
        debug_assert!(fit, "what was encoded anew needs no repair");
        Ok(Self::surveyed(kind, bytes.into(), seq?, ops, true))
    }

    /// As [`Outgoing::from_host`], of a `#commit` that was decoded
    /// ([`super::CommitFrame::decode_from_host`]): it is not walked again.
    pub fn from_surveyed(frame: &Bytes, survey: Survey) -> Result<Self, FieldError> {
        if survey.fit {
            return Ok(Self::surveyed(Kind::Commit, frame.clone(), survey.seq?, survey.ops, false));
        }
        Self::from_host(frame, Kind::Commit)
    }

    /// A frame of ours, without a seq at the splice's place.
    pub(super) fn drafted(kind: Kind, span: u32, bytes: Vec<u8>, seq_at: usize) -> Self {
        Self { kind, span, bytes: bytes.into(), seq: seq_at..seq_at, recoded: false }
    }

    fn surveyed(kind: Kind, bytes: Bytes, seq: Range<usize>, ops: u32, recoded: bool) -> Self {
        Self { kind, span: ops.max(1), bytes, seq, recoded }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many seq numbers it owns.
    pub fn span(&self) -> u32 {
        self.span
    }

    /// Whether it was encoded anew.
    pub fn recoded(&self) -> bool {
        self.recoded
    }

    /// Bytes of the frame with this seq.
    pub fn len_with(&self, seq: Seq) -> usize {
        let width = match seq.get() {
            0..24 => 1,
            24..0x100 => 2,
            0x100..0x1_0000 => 3,
            0x1_0000..0x1_0000_0000 => 5,
            _ => 9,
        };
        self.bytes.len() - self.seq.len() + width
    }

    /// Appends the frame with this seq.
    pub fn write_with(&self, seq: Seq, out: &mut Vec<u8>) {
        out.reserve(self.len_with(seq));
        out.extend_from_slice(&self.bytes[..self.seq.start]);
        Writer::new(out).unsigned(seq.get());
        out.extend_from_slice(&self.bytes[self.seq.end..]);
    }
}

/// What the splice must know of a host's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Where the integer of `seq` stands, or what is wrong with it.
    seq: Result<Range<usize>, FieldError>,
    /// How many ops it has.
    ops: u32,
    /// Whether it may go out as it is.
    fit: bool,
}

/// A survey of a payload that is being read.
pub(super) struct Surveyor {
    kind: Kind,
    seq: Result<Range<usize>, FieldError>,
    ops: u32,
    /// Fields of the payload that it is given if they are missing.
    defaults_missing: usize,
    /// Whether every op has the fields that it is given if they are missing.
    ops_complete: bool,
}

impl Surveyor {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            seq: Err(FieldError::Missing("seq")),
            ops: 0,
            defaults_missing: defaults(kind).len(),
            ops_complete: true,
        }
    }

    /// Reads the value of `seq`.
    pub(super) fn seq(&mut self, reader: &mut Reader<'_>) -> Result<(), CborError> {
        let start = reader.position();
        self.seq = match reader.unsigned()? {
            Some(_) => Ok(start..reader.position()),
            None => Err(FieldError::Type("seq")),
        };
        Ok(())
    }

    /// One of [`COMMIT_DEFAULTS`] is there.
    //
    // Once per key, but that is known only at the map's end.
    pub(super) fn default(&mut self) {
        self.defaults_missing = self.defaults_missing.saturating_sub(1);
    }

    /// An op is there.
    pub(super) fn op(&mut self, has_cid: bool) {
        self.ops = self.ops.saturating_add(1);
        self.ops_complete &= has_cid;
    }

    /// After the end of a frame with this header.
    pub(super) fn finish(self, header: &Header<'_>, reader: &Reader<'_>) -> Survey {
        let is_kind = matches!(header, Header::Message(name) if *name == self.kind.name());
        let is_complete = self.defaults_missing == 0 && self.ops_complete;
        let fit = is_kind && is_complete && reader.is_canonical();
        Survey { seq: self.seq, ops: self.ops, fit }
    }
}

impl Survey {
    fn take(frame: &[u8], kind: Kind) -> Result<Self, FieldError> {
        let mut reader = Reader::new(frame, Rules::Envelope);
        let header = Header::read(&mut reader)?;
        if !matches!(header, Header::Message(name) if name == kind.name()) {
            return Err(FieldError::Malformed);
        }
        let Value::Map(mut map) = reader.value()? else {
            return Err(FieldError::Malformed);
        };
        let mut survey = Surveyor::new(kind);
        let is_commit = kind == Kind::Commit;
        while let Some(key) = map.next_key(&mut reader)? {
            match key {
                "seq" => survey.seq(&mut reader)?,
                "ops" if is_commit => survey_ops(&mut reader, &mut survey)?,
                "blobs" | "since" | "rebase" | "tooBig" if is_commit => {
                    survey.default();
                    reader.skip()?;
                }
                _ => reader.skip()?,
            }
        }
        reader.end()?;
        Ok(survey.finish(&header, &reader))
    }
}

fn survey_ops(reader: &mut Reader<'_>, survey: &mut Surveyor) -> Result<(), FieldError> {
    let Value::Array(mut array) = reader.value()? else {
        return Err(FieldError::Type("ops"));
    };
    while array.next(reader)? {
        let Value::Map(mut map) = reader.value()? else {
            return Err(FieldError::Type("ops"));
        };
        let mut has_cid = false;
        while let Some(key) = map.next_key(reader)? {
            has_cid |= key == "cid";
            reader.skip()?;
        }
        survey.op(has_cid);
    }
    Ok(())
}

/// Encodes a frame anew: the slow path.
fn recode_frame(frame: &[u8], kind: Kind) -> Result<Vec<u8>, FieldError> {
    let mut reader = Reader::new(frame, Rules::Envelope);
    let mut bytes = Vec::with_capacity(frame.len() + DEFAULTS_BYTES);
    let mut writer = Writer::new(&mut bytes);
    recode(&mut reader, &mut writer)?;
    let Value::Map(map) = reader.value()? else {
        return Err(FieldError::Malformed);
    };
    complete_map(map, &mut reader, &mut writer, defaults(kind), |key, reader, writer| {
        if kind == Kind::Commit && key == "ops" {
            recode_ops(reader, writer)
        } else {
            recode(reader, writer)
        }
    })?;
    reader.end()?;
    Ok(bytes)
}

fn recode_ops(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CborError> {
    let Value::Array(mut array) = reader.value()? else {
        return Err(CborError);
    };
    writer.array(usize::try_from(array.left()).map_err(|_| CborError)?);
    while array.next(reader)? {
        let Value::Map(map) = reader.value()? else {
            return Err(CborError);
        };
        complete_map(map, reader, writer, &OP_DEFAULTS, |_, reader, writer| {
            recode(reader, writer)
        })?;
    }
    Ok(())
}

/// Writes a map in canonical order, with defaults for keys that it lacks. `recode_value` reads
/// one value and writes it canonically.
fn complete_map<'a>(
    mut map: Map<'a>,
    reader: &mut Reader<'a>,
    writer: &mut Writer<'_>,
    defaults: &[(&'a str, &[u8])],
    mut recode_value: impl FnMut(&str, &mut Reader<'a>, &mut Writer<'_>) -> Result<(), CborError>,
) -> Result<(), CborError> {
    let mut values = Vec::new();
    let mut ranges: Vec<(&str, Range<usize>)> = Vec::new();
    while let Some(key) = map.next_key(reader)? {
        let start = values.len();
        recode_value(key, reader, &mut Writer::new(&mut values))?;
        ranges.push((key, start..values.len()));
    }
    let mut entries: Vec<(&str, &[u8])> =
        ranges.into_iter().map(|(key, range)| (key, &values[range])).collect();
    for (key, value) in defaults {
        if !entries.iter().any(|(present, _)| present == key) {
            entries.push((key, value));
        }
    }
    writer.sorted_map(&mut entries);
    Ok(())
}

/// Fields that the lexicon requires, that hosts are known to leave out, and what they then mean.
fn defaults(kind: Kind) -> &'static [(&'static str, &'static [u8])] {
    match kind {
        Kind::Commit => &COMMIT_DEFAULTS,
        Kind::Sync | Kind::Identity | Kind::Account => &[],
    }
}

/// `blobs: []`, `since: null`, `rebase: false`, `tooBig: false`.
const COMMIT_DEFAULTS: [(&str, &[u8]); 4] =
    [("blobs", &[0x80]), ("since", &[0xf6]), ("rebase", &[0xf4]), ("tooBig", &[0xf4])];
/// `cid: null`, on a delete.
const OP_DEFAULTS: [(&str, &[u8]); 1] = [("cid", &[0xf6])];
/// Room for all defaults of a payload.
const DEFAULTS_BYTES: usize = 64;
