//! The fields of each kind of event, borrowed from the frame.

use std::mem;

use super::Kind;
use super::peek::{Header, Malformed};
use super::splice::{Survey, Surveyor};
use crate::account::{STATUS_CHARS_MAX, Upstream};
use crate::cbor::{CborError, Map, Reader, Rules, Value};
use crate::cid::{Cid, Codec};
use crate::recycle::recycle;

/// Why a well-formed frame is not the event that it says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not a frame at all.
    #[error("malformed frame")]
    Malformed,
    /// A required field is missing.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A field has the wrong type.
    #[error("field {0} has the wrong type")]
    Type(&'static str),
    /// A CID that is not CIDv1 dag-cbor sha-256 where only that is allowed.
    #[error("field {0} has an unsupported CID")]
    Cid(&'static str),
}

impl From<CborError> for FieldError {
    fn from(_: CborError) -> Self {
        Self::Malformed
    }
}

impl From<Malformed> for FieldError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A `#commit`, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFrame<'a> {
    /// The account.
    pub repo: &'a str,
    /// The revision, unparsed.
    pub rev: &'a str,
    /// The revision before, if said.
    pub since: Option<&'a str>,
    /// The CID of the commit block.
    pub commit: Cid,
    /// The MST's root before; absent on first commits and from Sync 1.0 hosts.
    pub prev_data: Option<Cid>,
    /// The CAR.
    pub blocks: &'a [u8],
    /// The ops, in order.
    pub ops: Vec<Op<'a>>,
    /// When, unparsed.
    pub time: &'a str,
}

/// One op of a commit. Whether its CIDs fit its action is judged by the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op<'a> {
    /// As written: `create`, `update`, `delete`, or something else.
    pub action: &'a str,
    /// `collection/rkey`, unparsed.
    pub path: &'a str,
    /// The record after.
    pub cid: Option<Cid>,
    /// The record before.
    pub prev: Option<Cid>,
}

/// A `#sync`, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncFrame<'a> {
    /// The account.
    pub did: &'a str,
    /// The revision, unparsed.
    pub rev: &'a str,
    /// A CAR with the commit block.
    pub blocks: &'a [u8],
    /// When, unparsed.
    pub time: &'a str,
}

/// An `#identity` (or legacy `#handle`, `#migrate`), borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityFrame<'a> {
    /// The account.
    pub did: &'a str,
    /// The handle, as the host says.
    pub handle: Option<&'a str>,
    /// When, unparsed.
    pub time: &'a str,
}

/// An `#account`, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountFrame<'a> {
    /// The account.
    pub did: &'a str,
    /// Whether it is active.
    pub active: bool,
    /// Its status, any text.
    pub status: Option<&'a str>,
    /// When, unparsed.
    pub time: &'a str,
}

/// One more than the 200 that the protocol allows.
pub const OPS_DECODED_MAX: usize = 201;

/// Room for ops that is kept from one commit to the next: for as many as it may have, 26 kB.
const OPS_KEPT_MAX: usize = 256;
/// Room for keys of open maps that is kept from one commit to the next.
const KEYS_KEPT_MAX: usize = 256;
/// Room that is made on an array's word: as much as most commits need, and under 2 KiB.
const OPS_RESERVED: usize = 16;

/// What a decoded commit was kept in, to be used again.
#[derive(Debug, Default)]
pub struct Room {
    keys: Vec<&'static str>,
    ops: Vec<Op<'static>>,
}

impl Room {
    /// Takes back the list of ops of a commit that is no longer needed.
    pub fn put_ops(&mut self, ops: Vec<Op<'_>>) {
        self.ops = recycle(ops, OPS_KEPT_MAX);
    }
}

impl<'a> CommitFrame<'a> {
    /// Decodes the payload of a `#commit`. `ops` over [`OPS_DECODED_MAX`] are not decoded:
    /// `Ok` with exactly that many, which the verifier refuses. `since`, `prevData` and an op's
    /// `cid` and `prev` may be null or missing alike.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FieldError> {
        Self::decode_from_host(frame, &mut Room::default()).map(|(decoded, _)| decoded)
    }

    /// As [`CommitFrame::decode`], in the same walk with what [`super::Outgoing::from_surveyed`]
    /// must know, and in room that is used again.
    pub fn decode_from_host(
        frame: &'a [u8],
        room: &mut Room,
    ) -> Result<(Self, Survey), FieldError> {
        let mut reader = Reader::in_room(frame, Rules::Envelope, mem::take(&mut room.keys));
        let mut ops_room: Vec<Op<'a>> = mem::take(&mut room.ops);
        let header = Header::read(&mut reader)?;
        let mut map = payload(&mut reader)?;
        let mut survey = Surveyor::new(Kind::Commit);
        let (mut repo, mut rev, mut time, mut blocks) = (None, None, None, None);
        let (mut commit, mut ops, mut since, mut prev_data) = (None, None, None, None);
        while let Some(key) = map.next_key(&mut reader)? {
            match key {
                "seq" => survey.seq(&mut reader)?,
                "repo" => repo = Some(text(&mut reader, "repo")?),
                "rev" => rev = Some(text(&mut reader, "rev")?),
                "time" => time = Some(text(&mut reader, "time")?),
                "blocks" => blocks = Some(bytes(&mut reader, "blocks")?),
                "commit" => commit = Some(cid(&mut reader, "commit")?),
                "ops" => ops = Some(read_ops(&mut reader, &mut survey, mem::take(&mut ops_room))?),
                "since" => {
                    survey.default();
                    since = text_or_null(&mut reader, "since")?;
                }
                "blobs" | "rebase" | "tooBig" => {
                    survey.default();
                    reader.skip()?;
                }
                "prevData" => prev_data = cid_or_null(&mut reader, "prevData")?,
                _ => reader.skip()?,
            }
        }
        reader.end()?;
        let decoded = Self {
            repo: required(repo, "repo")?,
            rev: required(rev, "rev")?,
            since,
            commit: required(commit, "commit")?,
            prev_data,
            blocks: required(blocks, "blocks")?,
            ops: required(ops, "ops")?,
            time: required(time, "time")?,
        };
        let survey = survey.finish(&header, &reader);
        room.keys = recycle(reader.into_room(), KEYS_KEPT_MAX);
        Ok((decoded, survey))
    }
}

impl<'a> Op<'a> {
    fn read(reader: &mut Reader<'a>, survey: &mut Surveyor) -> Result<Self, FieldError> {
        let value = reader.value()?;
        let Value::Map(mut map) = value else {
            return Err(FieldError::Type("ops"));
        };
        let (mut action, mut path, mut cid, mut prev) = (None, None, None, None);
        let mut has_cid = false;
        while let Some(key) = map.next_key(reader)? {
            match key {
                "action" => action = Some(text(reader, "ops.action")?),
                "path" => path = Some(text(reader, "ops.path")?),
                "cid" => {
                    has_cid = true;
                    cid = cid_or_null(reader, "ops.cid")?;
                }
                "prev" => prev = cid_or_null(reader, "ops.prev")?,
                _ => reader.skip()?,
            }
        }
        survey.op(has_cid);
        Ok(Self {
            action: required(action, "ops.action")?,
            path: required(path, "ops.path")?,
            cid,
            prev,
        })
    }
}

impl<'a> SyncFrame<'a> {
    /// Decodes the payload of a `#sync`.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FieldError> {
        let (mut reader, mut map) = open(frame)?;
        let (mut did, mut rev, mut blocks, mut time) = (None, None, None, None);
        while let Some(key) = map.next_key(&mut reader)? {
            match key {
                "did" => did = Some(text(&mut reader, "did")?),
                "rev" => rev = Some(text(&mut reader, "rev")?),
                "blocks" => blocks = Some(bytes(&mut reader, "blocks")?),
                "time" => time = Some(text(&mut reader, "time")?),
                _ => reader.skip()?,
            }
        }
        reader.end()?;
        Ok(Self {
            did: required(did, "did")?,
            rev: required(rev, "rev")?,
            blocks: required(blocks, "blocks")?,
            time: required(time, "time")?,
        })
    }
}

impl<'a> IdentityFrame<'a> {
    /// Decodes the payload of an `#identity`.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FieldError> {
        let (mut reader, mut map) = open(frame)?;
        let (mut did, mut handle, mut time) = (None, None, None);
        while let Some(key) = map.next_key(&mut reader)? {
            match key {
                "did" => did = Some(text(&mut reader, "did")?),
                "handle" => handle = Some(text(&mut reader, "handle")?),
                "time" => time = Some(text(&mut reader, "time")?),
                _ => reader.skip()?,
            }
        }
        reader.end()?;
        Ok(Self { did: required(did, "did")?, handle, time: required(time, "time")? })
    }
}

impl<'a> AccountFrame<'a> {
    /// Decodes the payload of an `#account`.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FieldError> {
        let (mut reader, mut map) = open(frame)?;
        let (mut did, mut active, mut status, mut time) = (None, None, None, None);
        while let Some(key) = map.next_key(&mut reader)? {
            match key {
                "did" => did = Some(text(&mut reader, "did")?),
                "active" => {
                    active = Some(reader.boolean()?.ok_or(FieldError::Type("active"))?);
                }
                "status" => status = Some(text(&mut reader, "status")?),
                "time" => time = Some(text(&mut reader, "time")?),
                _ => reader.skip()?,
            }
        }
        reader.end()?;
        Ok(Self {
            did: required(did, "did")?,
            active: required(active, "active")?,
            status,
            time: required(time, "time")?,
        })
    }
}

/// What a host's `#account` says, for comparing with what we would say.
impl From<&AccountFrame<'_>> for Upstream {
    fn from(frame: &AccountFrame<'_>) -> Self {
        let kept = frame.status.filter(|status| status.chars().count() <= STATUS_CHARS_MAX);
        Self { active: frame.active, status: kept.map(Into::into) }
    }
}

/// A reader behind the header, and the payload's map.
fn open(frame: &[u8]) -> Result<(Reader<'_>, Map<'_>), FieldError> {
    let mut reader = Reader::new(frame, Rules::Envelope);
    Header::read(&mut reader)?;
    let map = payload(&mut reader)?;
    Ok((reader, map))
}

fn payload<'a>(reader: &mut Reader<'a>) -> Result<Map<'a>, FieldError> {
    match reader.value()? {
        Value::Map(map) => Ok(map),
        _ => Err(FieldError::Malformed),
    }
}

fn read_ops<'a>(
    reader: &mut Reader<'a>,
    survey: &mut Surveyor,
    mut ops: Vec<Op<'a>>,
) -> Result<Vec<Op<'a>>, FieldError> {
    let value = reader.value()?;
    let Value::Array(mut array) = value else {
        return Err(FieldError::Type("ops"));
    };
    let claimed = usize::try_from(array.left()).unwrap_or(usize::MAX);
    ops.reserve(claimed.min(OPS_RESERVED));
    while array.next(reader)? {
        if ops.len() < OPS_DECODED_MAX {
            ops.push(Op::read(reader, survey)?);
        } else {
            reader.skip()?;
            // Not looked at: whoever sends it on surveys it anew.
            survey.op(false);
        }
    }
    Ok(ops)
}

fn required<T>(field: Option<T>, name: &'static str) -> Result<T, FieldError> {
    field.ok_or(FieldError::Missing(name))
}

fn text<'a>(reader: &mut Reader<'a>, name: &'static str) -> Result<&'a str, FieldError> {
    reader.text()?.ok_or(FieldError::Type(name))
}

fn text_or_null<'a>(
    reader: &mut Reader<'a>,
    name: &'static str,
) -> Result<Option<&'a str>, FieldError> {
    if reader.take_null() { Ok(None) } else { text(reader, name).map(Some) }
}

fn bytes<'a>(reader: &mut Reader<'a>, name: &'static str) -> Result<&'a [u8], FieldError> {
    reader.bytes()?.ok_or(FieldError::Type(name))
}

fn cid(reader: &mut Reader<'_>, name: &'static str) -> Result<Cid, FieldError> {
    match reader.link()?.ok_or(FieldError::Type(name))?.cid() {
        Some(cid) if cid.codec == Codec::DagCbor => Ok(cid),
        _ => Err(FieldError::Cid(name)),
    }
}

fn cid_or_null(reader: &mut Reader<'_>, name: &'static str) -> Result<Option<Cid>, FieldError> {
    if reader.take_null() { Ok(None) } else { cid(reader, name).map(Some) }
}
