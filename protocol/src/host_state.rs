//! What the stages tell each other of a host: what its connection does, what it has counted, how
//! much it may send.

use crate::ids::Micros;

/// What a host's connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostState {
    /// Not connected, and in no hurry: never dialled yet, or quiet and looked at now and then.
    #[default]
    Idle,
    /// Waiting for its turn to dial, dialling, or shaking hands.
    Connecting,
    /// Connected.
    Streaming,
    /// Waiting until it is dialled again.
    BackingOff,
    /// Connected, and not read for now: it has sent more than it may.
    Throttled,
    /// Not dialled, or only after a long time: it is another relay, or another name of a host that
    /// is known.
    Refused,
}

impl HostState {
    /// Every one, in the order of a connection's life.
    pub const ALL: [Self; 6] = [
        Self::Idle,
        Self::Connecting,
        Self::Streaming,
        Self::BackingOff,
        Self::Throttled,
        Self::Refused,
    ];

    /// The name in metrics and on the status page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::BackingOff => "backing_off",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
        }
    }
}

/// What a host's subscription has counted. It lives in the host's row, so that a restart goes on
/// with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Events received.
    pub events: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Connections that came about.
    pub connects: u64,
    /// When the last event came; zero: none has.
    pub last_event: Micros,
    /// What is used of the events of an hour.
    pub hour: Level,
    /// What is used of the events of a day.
    pub day: Level,
}

/// How full a token bucket is, as what was taken from it. Spent tokens come back evenly over the
/// bucket's period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Tokens that were spent and had not come back.
    pub spent: u64,
    /// As of when.
    pub at: Micros,
}

/// How fast a host's events are read, and how many live accounts it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Events a second.
    pub per_second: u64,
    /// Events an hour.
    pub per_hour: u64,
    /// Events a day.
    pub per_day: u64,
    /// Live accounts.
    pub accounts: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = HostState::ALL.map(HostState::name).into();
        assert_eq!(names.len(), HostState::ALL.len());
    }
}
