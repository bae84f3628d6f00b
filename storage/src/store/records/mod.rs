//! Every row of the store but the batches: explicit bytes, the first of them the version of the
//! row. Numbers are big-endian; a text is its length (u16) and UTF-8. They are on disk: a changed
//! golden test here is a new format (docs/storage-format.md).

use protocol::did::Did;
use protocol::host::{HostName, HostRules};
use protocol::ids::{HostId, Micros, Seq};
use protocol::keys::Curve;

use crate::sequencer::entry::RejectNote;

use super::fields::{Fields, put_text};

mod account;
mod gap;
mod host;
mod reconcile;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use account::ACCOUNT_BYTES;
pub(crate) use account::{
    account, decision, membership, read_account, read_decision, read_membership,
};
pub(crate) use gap::{account_gap, host_gap, read_account_gap, read_host_gap};
pub(crate) use host::{host, read_host};
pub(crate) use reconcile::{excused, read_excused, read_reconcile, reconcile};

/// A resolved identity. The store only keeps it: what it means is the verifier's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRow {
    /// Whose.
    pub did: Did,
    /// The signing key: its curve and compressed point.
    pub key: Option<(Curve, [u8; 33])>,
    /// The host that may speak for it.
    pub pds: Option<HostName>,
    /// The first valid handle of its document.
    pub handle: Option<String>,
    /// When the document was fetched.
    pub fetched: Micros,
    /// The DID was tombstoned.
    pub tombstoned: bool,
}

/// How far the PLC directory's export has been read. Every identity up to there is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRow {
    /// Where it is read.
    pub url: String,
    /// The position is one of the export's own numbers, and no time.
    pub by_seq: bool,
    /// The newest operation read: its number, or its time in µs since 1970.
    pub position: u64,
    /// Every operation from this time on has been read.
    pub since: Micros,
    /// And up to this time.
    pub until: Micros,
}

/// A dropped event, as a host's ring holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectRow {
    /// The host's how-manieth reject it was, from 0.
    pub number: u64,
    /// When.
    pub at: Micros,
    /// The offence.
    pub name: String,
    /// The account, if it was known.
    pub did: Option<Did>,
    /// The first bytes of the frame.
    pub excerpt: Vec<u8>,
}

/// `identities`; the DID is the key.
pub(crate) fn identity(identity: &IdentityRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.push(VERSION);
    out.push(
        flag(identity.tombstoned, TOMBSTONED)
            | flag(identity.pds.is_some(), HAS_PDS)
            | flag(identity.handle.is_some(), HAS_HANDLE),
    );
    out.extend_from_slice(&identity.fetched.0.to_be_bytes());
    match &identity.key {
        None => out.push(0),
        Some((curve, point)) => {
            out.push(match curve {
                Curve::K256 => 1,
                Curve::P256 => 2,
            });
            out.extend_from_slice(point);
        }
    }
    put_text(&mut out, identity.pds.as_ref().map_or("", |name| name.as_str()));
    put_text(&mut out, identity.handle.as_deref().unwrap_or_default());
    out
}

/// Reads what [`identity`] wrote.
pub(crate) fn read_identity(did: &Did, row: &[u8]) -> Option<IdentityRow> {
    let mut fields = Fields::of(row, VERSION)?;
    let flags = fields.u8()?;
    let fetched = Micros(fields.u64()?);
    let key = match fields.u8()? {
        0 => None,
        1 => Some((Curve::K256, fields.array()?)),
        2 => Some((Curve::P256, fields.array()?)),
        _ => return None,
    };
    let pds = fields.text()?;
    let pds = if flags & HAS_PDS != 0 { Some(host_name(pds)?) } else { None };
    let handle = fields.text()?;
    let handle = (flags & HAS_HANDLE != 0).then(|| handle.to_owned());
    fields.end()?;
    let tombstoned = flags & TOMBSTONED != 0;
    Some(IdentityRow { did: did.clone(), key, pds, handle, fetched, tombstoned })
}

/// `rejects`.
pub(crate) fn reject(number: u64, note: &RejectNote) -> Vec<u8> {
    let excerpt = &note.excerpt[..note.excerpt.len().min(EXCERPT_BYTES_MAX)];
    let mut out = Vec::with_capacity(64 + excerpt.len());
    out.push(VERSION);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&note.at.0.to_be_bytes());
    put_text(&mut out, note.name);
    put_text(&mut out, &note.did.as_ref().map_or_else(String::new, Did::to_string));
    out.extend_from_slice(excerpt);
    out
}

/// Reads what [`reject`] wrote.
pub(crate) fn read_reject(row: &[u8]) -> Option<RejectRow> {
    let mut fields = Fields::of(row, VERSION)?;
    let number = fields.u64()?;
    let at = Micros(fields.u64()?);
    let name = fields.text()?.to_owned();
    let did = match fields.text()? {
        "" => None,
        text => Some(Did::parse(text).ok()?),
    };
    Some(RejectRow { number, at, name, did, excerpt: fields.rest().to_vec() })
}

/// `meta`, the head: the newest seq and the clock of its commit.
pub(crate) fn head(head: Seq, clock: Micros) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&head.get().to_be_bytes());
    out[8..].copy_from_slice(&clock.0.to_be_bytes());
    out
}

/// Reads what [`head`] wrote.
pub(crate) fn read_head(row: &[u8]) -> Option<(Seq, Micros)> {
    let row: &[u8; 16] = row.try_into().ok()?;
    let (seq, clock) = row.split_at(8);
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    Some((Seq::new(number(seq)?)?, Micros(number(clock)?)))
}

/// `meta`, the PLC export.
pub(crate) fn export(export: &ExportRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(28 + export.url.len());
    out.push(VERSION);
    out.push(flag(export.by_seq, BY_SEQ));
    out.extend_from_slice(&export.position.to_be_bytes());
    out.extend_from_slice(&export.since.0.to_be_bytes());
    out.extend_from_slice(&export.until.0.to_be_bytes());
    put_text(&mut out, &export.url);
    out
}

/// Reads what [`export`] wrote.
pub(crate) fn read_export(row: &[u8]) -> Option<ExportRow> {
    let mut fields = Fields::of(row, VERSION)?;
    let by_seq = fields.u8()? & BY_SEQ != 0;
    let position = fields.u64()?;
    let (since, until) = (Micros(fields.u64()?), Micros(fields.u64()?));
    let url = fields.text()?.to_owned();
    fields.end()?;
    Some(ExportRow { url, by_seq, position, since, until })
}

/// `meta`, the last number that was given to a host.
pub(crate) fn host_id(id: HostId) -> [u8; 4] {
    id.0.to_be_bytes()
}

/// Reads what [`host_id`] wrote.
pub(crate) fn read_host_id(row: &[u8]) -> Option<HostId> {
    Some(HostId(u32::from_be_bytes(row.try_into().ok()?)))
}

/// `meta`, the patterns of refused names: one a line.
pub(crate) fn lines(lines: &[String]) -> Vec<u8> {
    lines.join("\n").into_bytes()
}

/// Reads what [`lines`] wrote.
pub(crate) fn read_lines(row: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(row).ok()?;
    Some(text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// A seq alone: `meta`, the floor, and `hidden`, since when.
pub(crate) fn seq(seq: Seq) -> [u8; 8] {
    seq.get().to_be_bytes()
}

/// Reads what [`seq`] wrote.
pub(crate) fn read_seq(row: &[u8]) -> Option<Seq> {
    Seq::new(u64::from_be_bytes(row.try_into().ok()?))
}

/// A host's normal form was checked by the rules of its day before it came here: reading it back
/// must not depend on how the process was started.
fn host_name(text: &str) -> Option<HostName> {
    HostName::parse(text, HostRules::Insecure).ok()
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// Of every kind of row but `accounts`, `hosts` and `gaps`.
const VERSION: u8 = 1;

const TOMBSTONED: u8 = 1;
const HAS_PDS: u8 = 2;
const HAS_HANDLE: u8 = 4;

const BY_SEQ: u8 = 1;

/// Bytes of a dropped frame that are kept: enough to see header, DID and seq.
pub(crate) const EXCERPT_BYTES_MAX: usize = 512;
/// Rejects kept per host.
pub(crate) const REJECTS_PER_HOST: u8 = 64;
