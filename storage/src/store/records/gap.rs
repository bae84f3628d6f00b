//! What is owed, as rows.

use protocol::did::Did;
use protocol::ids::Micros;

use super::{VERSION, flag};
use crate::gaps::{AccountGap, HostGap};
use crate::store::fields::{Fields, put_text};

/// `gaps`, the row of a host.
pub(crate) fn host_gap(gap: &HostGap) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + gap.reason.len());
    out.push(GAP_VERSION);
    out.push(flag(gap.whole, WHOLE));
    out.extend_from_slice(&gap.accounts.to_be_bytes());
    out.extend_from_slice(&gap.since.0.to_be_bytes());
    out.extend_from_slice(&gap.newest.0.to_be_bytes());
    put_text(&mut out, &gap.reason);
    out
}

/// Reads what [`host_gap`] wrote, in this version or the one before, which did not say when
/// something was added.
pub(crate) fn read_host_gap(row: &[u8]) -> Option<HostGap> {
    let (version, mut fields) = fields(row)?;
    let whole = fields.u8()? & WHOLE != 0;
    let accounts = fields.u32()?;
    let (since, newest) = times(version, &mut fields)?;
    let reason = fields.text()?.to_owned();
    fields.end()?;
    Some(HostGap { whole, accounts, since, newest, reason })
}

/// `gaps`, the row of an account.
pub(crate) fn account_gap(gap: &AccountGap) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + gap.reason.len());
    out.push(GAP_VERSION);
    out.extend_from_slice(&gap.since.0.to_be_bytes());
    out.extend_from_slice(&gap.newest.0.to_be_bytes());
    put_text(&mut out, &gap.reason);
    out
}

/// Reads what [`account_gap`] wrote, in this version or the one before.
pub(crate) fn read_account_gap(did: Did, row: &[u8]) -> Option<AccountGap> {
    let (version, mut fields) = fields(row)?;
    let (since, newest) = times(version, &mut fields)?;
    let reason = fields.text()?.to_owned();
    fields.end()?;
    Some(AccountGap { did, since, newest, reason })
}

fn fields(row: &[u8]) -> Option<(u8, Fields<'_>)> {
    let version = *row.first()?;
    let known = (VERSION..=GAP_VERSION).contains(&version);
    Some((version, Fields::of(row, version).filter(|_| known)?))
}

/// Since when, and when it was last added to. Nothing was reconciled while version 1 was written:
/// whatever settles such a row began after its last addition.
fn times(version: u8, fields: &mut Fields<'_>) -> Option<(Micros, Micros)> {
    let since = Micros(fields.u64()?);
    let newest = if version == GAP_VERSION { Micros(fields.u64()?) } else { since };
    Some((since, newest))
}

const GAP_VERSION: u8 = 2;
const WHOLE: u8 = 1;
