//! `--fault`: faults that tests ask for. Each proves that it fired; see docs/testing.md.

mod crash;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use protocol::did::Did;
use protocol::ids::Micros;
use protocol::tripwire::Tripwire;

pub use self::crash::{Crash, Place};
use crate::config::ByteSize;

/// A fault, as given: `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `check-panic=DID` or `check-panic=DID*N`: checking the next event, or the next N, of this
    /// account panics.
    CheckPanic(Did, u32),
    /// `shard-panic=DID`: the shard of this account panics at its next event, outside of a check.
    ShardPanic(Did),
    /// `crash=POINT` or `crash=POINT*N`: the process gets SIGKILL when it passes the point for the
    /// first, or the N-th, time.
    Crash(Crash),
    /// `clock=-3d` or `clock=+10d`: the wall clock is that far off from the start on.
    Clock(Shift),
    /// `small-log=SIZE`: the log is kept to this size, also below the least that may be configured,
    /// and its files are as small as that wants them.
    SmallLog(u64),
}

/// By how much a clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// It is slow.
    Behind(Duration),
    /// It is fast.
    Ahead(Duration),
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("check-panic", target)) => {
                let (did, times) = target.split_once('*').unwrap_or((target, "1"));
                let did = Did::parse(did).map_err(|error| error.to_string())?;
                let times = times.parse().map_err(|_| "not a number of times".to_owned())?;
                Ok(Self::CheckPanic(did, times))
            }
            Some(("shard-panic", did)) => {
                Did::parse(did).map(Self::ShardPanic).map_err(|error| error.to_string())
            }
            Some(("crash", crash)) => crash.parse().map(Self::Crash),
            Some(("clock", shift)) => shift.parse().map(Self::Clock),
            Some(("small-log", size)) => size.parse().map(|ByteSize(bytes)| Self::SmallLog(bytes)),
            _ => Err("unknown fault: see docs/testing.md".to_owned()),
        }
    }
}

impl FromStr for Shift {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = |text| humantime::parse_duration(text).map_err(|error| error.to_string());
        match text.split_at_checked(1) {
            Some(("-", by)) => duration(by).map(Self::Behind),
            Some(("+", by)) => duration(by).map(Self::Ahead),
            _ => Err("neither behind (-3d) nor ahead (+10d)".to_owned()),
        }
    }
}

/// What the verifier provokes of these; of one kind the last one.
pub fn of_verifier(faults: &[Fault]) -> verifier::Faults {
    let mut verifier = verifier::Faults::default();
    for fault in faults {
        match fault {
            Fault::CheckPanic(did, times) => {
                verifier.check_panic = Some((did.clone(), *times));
            }
            Fault::ShardPanic(did) => verifier.shard_panic = Some(did.clone()),
            Fault::Crash(_) | Fault::Clock(_) | Fault::SmallLog(_) => {}
        }
    }
    verifier
}

/// Where the process ends: at the last crash of these. `data_dir` is the store's folder.
pub fn tripwire(faults: &[Fault], data_dir: &Path) -> Tripwire {
    let crash = faults.iter().rev().find_map(|fault| match fault {
        Fault::Crash(crash) => Some(*crash),
        _ => None,
    });
    crash.map_or_else(Tripwire::default, |crash| crash.tripwire(data_dir))
}

/// How large the log may be, if the last one of these says so.
pub fn log_bytes(faults: &[Fault]) -> Option<u64> {
    faults.iter().rev().find_map(|fault| match fault {
        Fault::SmallLog(bytes) => Some(*bytes),
        _ => None,
    })
}

/// The clock, as wrong as the last one of these has it.
pub fn clock(
    faults: &[Fault],
    clock: Arc<dyn Fn() -> Micros + Send + Sync>,
) -> Arc<dyn Fn() -> Micros + Send + Sync> {
    let shift = faults.iter().rev().find_map(|fault| match fault {
        Fault::Clock(shift) => Some(*shift),
        _ => None,
    });
    match shift {
        None => clock,
        Some(Shift::Ahead(by)) => Arc::new(move || clock().plus(by)),
        Some(Shift::Behind(by)) => {
            let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
            Arc::new(move || Micros(clock().0.saturating_sub(by)))
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::tripwire::Point;

    use super::*;

    #[test]
    fn a_fault_is_a_name_and_a_value() {
        let check = |text: &str, expected: Option<Fault>| {
            assert_eq!(text.parse::<Fault>().ok(), expected, "{text}");
        };
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let crash = |place, times| Some(Fault::Crash(Crash { place, times }));
        check("crash=after-receive", crash(Place::At(Point::AfterReceive), 1));
        check("crash=mid-write*12", crash(Place::At(Point::MidWrite), 12));
        check("crash=torn-commit*2", crash(Place::TornCommit, 2));
        for point in Point::ALL {
            check(&format!("crash={}", point.name()), crash(Place::At(point), 1));
        }
        for text in ["crash=", "crash=nowhere", "crash=mid-write*0", "crash=mid-write*x"] {
            check(text, None);
        }
        check("clock=-3d", Some(Fault::Clock(Shift::Behind(days(3)))));
        check("clock=+10d", Some(Fault::Clock(Shift::Ahead(days(10)))));
        check("small-log=4MiB", Some(Fault::SmallLog(4 << 20)));
        for text in
            ["small-log=much", "clock=3d", "clock=", "clock=-", "clock=+soon", "unknown=1", "crash"]
        {
            check(text, None);
        }
    }

    #[test]
    fn a_clock_is_as_wrong_as_it_is_told() {
        let check = |fault: &str, expected: u64| {
            let faults = [fault.parse().unwrap()];
            assert_eq!(clock(&faults, Arc::new(|| Micros(5_000_000)))(), Micros(expected));
        };
        check("clock=+2s", 7_000_000);
        check("clock=-2s", 3_000_000);
        check("clock=-10d", 0);
        assert_eq!(clock(&[], Arc::new(|| Micros(5)))(), Micros(5));
    }
}
