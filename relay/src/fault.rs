//! `--fault`: faults that tests ask for. Each proves that it fired; see docs/testing.md.

use std::str::FromStr;

use protocol::did::Did;

/// A fault, as given: `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `check-panic=DID` or `check-panic=DID*N`: checking the next event, or the next N, of this
    /// account panics.
    CheckPanic(Did, u32),
    /// `shard-panic=DID`: the shard of this account panics at its next event, outside of a check.
    ShardPanic(Did),
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
            _ => Err("unknown fault: see docs/testing.md".to_owned()),
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
        }
    }
    verifier
}
