//! `accounts` and `decisions`.

use std::sync::Arc;

use protocol::account::{Account, Conduct, Hour, Local, Repo, Throttle, Upstream};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::tid::Tid;

use super::{VERSION, flag};
use crate::members::Membership;
use crate::store::fields::Fields;

/// `accounts`.
pub(crate) fn account(account: &Account) -> Vec<u8> {
    let Upstream { active, status } = &account.upstream;
    let (local, until) = code(account.local);
    let has_conduct = account.conduct != Conduct::default() || until != Micros(0);
    let mut out = Vec::with_capacity(
        ACCOUNT_BYTES + CONDUCT_BYTES + status.as_ref().map_or(0, |text| text.len()),
    );
    out.push(ACCOUNT_VERSION);
    out.push(
        flag(*active, ACTIVE)
            | flag(account.repo.is_some(), HAS_REPO)
            | flag(status.is_some(), HAS_STATUS)
            | flag(has_conduct, HAS_CONDUCT),
    );
    out.push(local);
    out.extend_from_slice(&account.host.0.to_be_bytes());
    out.extend_from_slice(&account.epoch.0.to_be_bytes());
    out.extend_from_slice(&account.host_seq.get().to_be_bytes());
    let (rev, data, commit) = account
        .repo
        .as_ref()
        .map_or((0, [0; 32], [0; 32]), |repo| (repo.rev.bits(), repo.data, repo.commit));
    out.extend_from_slice(&rev.to_be_bytes());
    out.extend_from_slice(&data);
    out.extend_from_slice(&commit);
    if has_conduct {
        let Conduct { breaks, broken, changed } = account.conduct;
        out.extend_from_slice(&until.0.to_be_bytes());
        out.extend_from_slice(&breaks.to_be_bytes());
        for hour in [broken, changed] {
            out.extend_from_slice(&hour.since.0.to_be_bytes());
            out.push(hour.count);
        }
    }
    out.extend_from_slice(status.as_deref().unwrap_or_default().as_bytes());
    out
}

/// Reads what [`account`] wrote, in this version or the one before, which had no conduct.
pub(crate) fn read_account(row: &[u8]) -> Option<Account> {
    let version = *row.first()?;
    let known = (VERSION..=ACCOUNT_VERSION).contains(&version);
    let mut fields = Fields::of(row, version).filter(|_| known)?;
    let flags = fields.u8()?;
    let local = fields.u8()?;
    let host = HostId(fields.u32()?);
    let epoch = Epoch(fields.u32()?);
    let host_seq = HostSeq::new(fields.u64()?)?;
    let rev = Tid::from_bits(fields.u64()?)?;
    let repo = Repo { rev, data: fields.array()?, commit: fields.array()? };
    let (mut until, mut conduct) = (Micros(0), Conduct::default());
    if version == ACCOUNT_VERSION && flags & HAS_CONDUCT != 0 {
        until = Micros(fields.u64()?);
        conduct.breaks = fields.u32()?;
        for hour in [&mut conduct.broken, &mut conduct.changed] {
            *hour = Hour { since: Micros(fields.u64()?), count: fields.u8()? };
        }
    }
    let status = std::str::from_utf8(fields.rest()).ok()?;
    if flags & HAS_STATUS == 0 && !status.is_empty() {
        return None;
    }
    Some(Account {
        host,
        epoch,
        host_seq,
        local: read_local(local, until)?,
        upstream: Upstream {
            active: flags & ACTIVE != 0,
            status: (flags & HAS_STATUS != 0).then(|| Arc::from(status)),
        },
        conduct,
        repo: (flags & HAS_REPO != 0).then_some(repo),
    })
}

/// `decisions`: what this relay has decided about the account.
pub(crate) fn decision(local: Local) -> [u8; 10] {
    let (code, until) = code(local);
    let mut out = [VERSION, code, 0, 0, 0, 0, 0, 0, 0, 0];
    out[2..].copy_from_slice(&until.0.to_be_bytes());
    out
}

/// Reads what [`decision`] wrote.
pub(crate) fn read_decision(row: &[u8]) -> Option<Local> {
    let mut fields = Fields::of(row, VERSION)?;
    let (code, until) = (fields.u8()?, Micros(fields.u64()?));
    fields.end()?;
    read_local(code, until)
}

/// `host_accounts`: since when the account counts there.
pub(crate) fn membership(membership: Membership) -> [u8; 10] {
    let Membership { joined, throttled, decided } = membership;
    let mut out = [0; 10];
    out[0] = VERSION;
    out[1] = flag(throttled, THROTTLED) | flag(decided, DECIDED);
    out[2..].copy_from_slice(&joined.0.to_be_bytes());
    out
}

/// Reads what [`membership`] wrote. Rows of earlier formats are empty.
pub(crate) fn read_membership(row: &[u8]) -> Option<Membership> {
    if row.is_empty() {
        return Some(Membership::of(Micros(0), Local::None));
    }
    let mut fields = Fields::of(row, VERSION)?;
    let (flags, joined) = (fields.u8()?, Micros(fields.u64()?));
    fields.end()?;
    let (throttled, decided) = (flags & THROTTLED != 0, flags & DECIDED != 0);
    Some(Membership { joined, throttled, decided })
}

/// A decision, and when it ends by itself; zero: it does not.
fn code(local: Local) -> (u8, Micros) {
    match local {
        Local::None => (0, Micros(0)),
        Local::Takendown => (1, Micros(0)),
        Local::Suspended => (2, Micros(0)),
        Local::Throttled(Throttle::Operator) => (3, Micros(0)),
        Local::Throttled(Throttle::Breaks { until }) => (4, until),
        Local::Throttled(Throttle::Quota) => (5, Micros(0)),
    }
}

fn read_local(code: u8, until: Micros) -> Option<Local> {
    match code {
        0 => Some(Local::None),
        1 => Some(Local::Takendown),
        2 => Some(Local::Suspended),
        3 => Some(Local::Throttled(Throttle::Operator)),
        4 => Some(Local::Throttled(Throttle::Breaks { until })),
        5 => Some(Local::Throttled(Throttle::Quota)),
        _ => None,
    }
}

const ACCOUNT_VERSION: u8 = 2;
const ACTIVE: u8 = 1;
const HAS_REPO: u8 = 2;
const HAS_STATUS: u8 = 4;
const HAS_CONDUCT: u8 = 8;
const THROTTLED: u8 = 1;
const DECIDED: u8 = 2;
/// An account without conduct and status.
pub(crate) const ACCOUNT_BYTES: usize = 91;
/// Most accounts have none.
const CONDUCT_BYTES: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hex;

    fn plain() -> Account {
        Account {
            host: HostId(0x0102_0304),
            epoch: Epoch(5),
            host_seq: HostSeq::ZERO,
            local: Local::None,
            upstream: Upstream::ACTIVE,
            conduct: Conduct::default(),
            repo: None,
        }
    }

    #[test]
    fn an_account_row_with_conduct_never_changes() {
        let check = |account_: Account, golden: &str| {
            let row = account(&account_);
            assert_eq!(hex(&row), golden);
            assert_eq!(read_account(&row), Some(account_));
            (0..row.len()).for_each(|cut| assert_eq!(read_account(&row[..cut]), None, "{cut}"));
        };
        let head = |flags: &str, local: &str| {
            let rest = "00".repeat(80);
            format!("02{flags}{local}0102030400000005{rest}")
        };
        let conduct = Conduct {
            breaks: 11,
            broken: Hour { since: Micros(0x0a), count: 3 },
            changed: Hour { since: Micros(0x0b), count: 4 },
        };
        let golden = head("09", "00")
            + "0000000000000000"
            + "0000000b"
            + "000000000000000a03"
            + "000000000000000b04";
        check(Account { conduct, ..plain() }, &golden);
        let throttle = Throttle::Breaks { until: Micros(0x0c) };
        let golden = head("09", "04") + "000000000000000c" + "00000000" + &"00".repeat(18);
        check(Account { local: Local::Throttled(throttle), ..plain() }, &golden);
    }

    #[test]
    fn a_row_of_the_version_before_is_read() {
        let row = |local: &str, status: &str| {
            let hex = format!("0105{local}0102030400000005{}{status}", "00".repeat(80));
            let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
            (0..hex.len()).step_by(2).map(digits).collect::<Vec<u8>>()
        };
        let upstream = Upstream { active: true, status: Some(Arc::from("x")) };
        let expected = Account {
            local: Local::Throttled(Throttle::Operator),
            upstream: upstream.clone(),
            ..plain()
        };
        assert_eq!(read_account(&row("03", "78")), Some(expected));
        let expected = Account { local: Local::Takendown, upstream, ..plain() };
        assert_eq!(read_account(&row("01", "78")), Some(expected));
    }

    #[test]
    fn a_membership_row_never_changes() {
        let check = |local, golden: &str| {
            let membership_ = Membership::of(Micros(7), local);
            let row = membership(membership_);
            assert_eq!(hex(&row), golden);
            assert_eq!(read_membership(&row), Some(membership_));
        };
        check(Local::None, "01000000000000000007");
        check(Local::Throttled(Throttle::Quota), "01010000000000000007");
        check(Local::Takendown, "01020000000000000007");
        check(Local::Throttled(Throttle::Operator), "01020000000000000007");
        assert_eq!(read_membership(&[]), Some(Membership::of(Micros(0), Local::None)));
        assert_eq!(read_membership(&[1, 0, 7]), None);
        assert_eq!(read_membership(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_decision_row_never_changes() {
        let check = |local: Local, golden: &str| {
            assert_eq!(hex(&decision(local)), golden);
            assert_eq!(read_decision(&decision(local)), Some(local));
        };
        check(Local::Takendown, "01010000000000000000");
        check(Local::Suspended, "01020000000000000000");
        check(Local::Throttled(Throttle::Operator), "01030000000000000000");
        check(Local::Throttled(Throttle::Breaks { until: Micros(7) }), "01040000000000000007");
        check(Local::Throttled(Throttle::Quota), "01050000000000000000");
        assert_eq!(read_decision(&[1, 6, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(read_decision(&[1, 1, 0]), None);
    }
}
