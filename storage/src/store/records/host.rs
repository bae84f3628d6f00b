//! A host as a row.

use std::sync::Arc;

use protocol::host_state::{HostState, Level, Meter};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};

use super::{VERSION, flag, host_name};
use crate::hosts::{Host, Override, Start};
use crate::store::fields::{Fields, put_text};

/// `hosts`. It is written with every commit that moves the host's cursor: what most hosts have not
/// takes no bytes.
pub(crate) fn host(host: &Host) -> Vec<u8> {
    let has_error = host.last_error_at != Micros(0) || !host.last_error.is_empty();
    let texts = host.name.as_str().len() + host.reason.len() + host.last_error.len();
    let mut out = Vec::with_capacity(HOST_BYTES + texts);
    out.push(HOST_VERSION);
    out.push(
        flag(host.start == Start::Oldest, OLDEST)
            | flag(host.ratchet_closed, RATCHET)
            | flag(host.banned, BANNED)
            | flag(host.allowance != Override::default(), HAS_ALLOWANCE)
            | flag(host.alias_of.is_some(), HAS_ALIAS)
            | flag(host.service.is_some(), HAS_SERVICE)
            | flag(has_error, HAS_ERROR),
    );
    out.push(match host.state {
        HostState::Idle => 0,
        HostState::Connecting => 1,
        HostState::Streaming => 2,
        HostState::BackingOff => 3,
        HostState::Refused => 4,
        HostState::Throttled => 5,
    });
    out.extend_from_slice(&host.epoch.0.to_be_bytes());
    let numbers = [
        host.cursor.get(),
        host.added.0,
        host.since.0,
        host.accounts,
        host.rejects,
        host.throttled,
    ];
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    put_meter(&mut out, &host.meter);
    out.push(host.level);
    out.extend_from_slice(&host.level_since.0.to_be_bytes());
    out.extend_from_slice(&host.abuse.to_be_bytes());
    put_text(&mut out, host.name.as_str());
    put_text(&mut out, &host.reason);
    if host.allowance != Override::default() {
        put_override(&mut out, &host.allowance);
    }
    if let Some(HostId(of)) = host.alias_of {
        out.extend_from_slice(&of.to_be_bytes());
    }
    if let Some(service) = &host.service {
        put_text(&mut out, service);
    }
    if has_error {
        out.extend_from_slice(&host.last_error_at.0.to_be_bytes());
        put_text(&mut out, &host.last_error);
    }
    out
}

/// Reads what [`host`] wrote, in this version or the one before, which knew of no limits.
pub(crate) fn read_host(id: HostId, row: &[u8]) -> Option<Host> {
    let version = *row.first()?;
    let known = (VERSION..=HOST_VERSION).contains(&version);
    let mut fields = Fields::of(row, version).filter(|_| known)?;
    let flags = fields.u8()?;
    let state = match fields.u8()? {
        0 => HostState::Idle,
        1 => HostState::Connecting,
        2 => HostState::Streaming,
        3 => HostState::BackingOff,
        4 => HostState::Refused,
        5 => HostState::Throttled,
        _ => return None,
    };
    let epoch = Epoch(fields.u32()?);
    let cursor = HostSeq::new(fields.u64()?)?;
    let (added, since) = (Micros(fields.u64()?), Micros(fields.u64()?));
    let (accounts, rejects) = (fields.u64()?, fields.u64()?);
    let (mut throttled, mut meter, mut standing) = (0, Meter::default(), (0, Micros(0), 0));
    if version == HOST_VERSION {
        throttled = fields.u64()?;
        meter = read_meter(&mut fields)?;
        standing = (fields.u8()?, Micros(fields.u64()?), fields.u32()?);
    }
    let name = host_name(fields.text()?)?;
    let reason = Arc::from(fields.text()?);
    let has = |flag| version == HOST_VERSION && flags & flag != 0;
    let allowance =
        if has(HAS_ALLOWANCE) { read_override(&mut fields)? } else { Override::default() };
    let alias_of = if has(HAS_ALIAS) { Some(HostId(fields.u32()?)) } else { None };
    let service = if has(HAS_SERVICE) { Some(Arc::from(fields.text()?)) } else { None };
    let (last_error_at, last_error) =
        if has(HAS_ERROR) { (Micros(fields.u64()?), fields.text()?) } else { (Micros(0), "") };
    fields.end()?;
    let (level, level_since, abuse) = standing;
    Some(Host {
        id,
        name,
        added,
        start: if flags & OLDEST != 0 { Start::Oldest } else { Start::Live },
        epoch,
        cursor,
        state,
        reason,
        since,
        last_error: Arc::from(last_error),
        last_error_at,
        accounts,
        throttled,
        rejects,
        ratchet_closed: flags & RATCHET != 0,
        banned: flags & BANNED != 0,
        meter,
        level,
        level_since,
        abuse,
        allowance,
        service,
        alias_of,
    })
}

fn put_meter(out: &mut Vec<u8>, meter: &Meter) {
    let Meter { events, bytes, connects, last_event, hour, day } = meter;
    let levels = [hour.spent, hour.at.0, day.spent, day.at.0];
    for number in [*events, *bytes, *connects, last_event.0].into_iter().chain(levels) {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn read_meter(fields: &mut Fields<'_>) -> Option<Meter> {
    let (events, bytes, connects) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let last_event = Micros(fields.u64()?);
    let hour = Level { spent: fields.u64()?, at: Micros(fields.u64()?) };
    let day = Level { spent: fields.u64()?, at: Micros(fields.u64()?) };
    Some(Meter { events, bytes, connects, last_event, hour, day })
}

fn put_override(out: &mut Vec<u8>, allowance: &Override) {
    let Override { per_second, per_hour, per_day, accounts } = allowance;
    let parts = [per_second, per_hour, per_day, accounts];
    let flags = parts.iter().enumerate().map(|(place, part)| flag(part.is_some(), 1 << place));
    out.push(flags.sum());
    for part in parts.into_iter().flatten() {
        out.extend_from_slice(&part.to_be_bytes());
    }
}

fn read_override(fields: &mut Fields<'_>) -> Option<Override> {
    let flags = fields.u8()?;
    let mut parts = [None; 4];
    for (place, part) in parts.iter_mut().enumerate() {
        if flags & 1 << place != 0 {
            *part = Some(fields.u64()?);
        }
    }
    let [per_second, per_hour, per_day, accounts] = parts;
    Some(Override { per_second, per_hour, per_day, accounts })
}

const HOST_VERSION: u8 = 2;
/// Of a row without its texts, nearly always.
const HOST_BYTES: usize = 192;

const OLDEST: u8 = 1;
const RATCHET: u8 = 2;
const BANNED: u8 = 4;
const HAS_ALLOWANCE: u8 = 8;
const HAS_ALIAS: u8 = 16;
const HAS_SERVICE: u8 = 32;
const HAS_ERROR: u8 = 64;
