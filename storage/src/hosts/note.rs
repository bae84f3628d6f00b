//! What is noted of a host, and what each note changes in its row.

use std::sync::Arc;

use protocol::host_state::{HostState, Meter};
use protocol::ids::{Epoch, HostId, Micros};

use super::{Host, Override, REASON_BYTES_MAX, SERVICE_BYTES_MAX, cut};

/// A fact about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNote {
    /// Its connection does something else than before. Written with the next commit.
    State {
        /// The host.
        host: HostId,
        /// What it does.
        state: HostState,
        /// Why.
        reason: String,
        /// Since when.
        at: Micros,
    },
    /// Its own sequence went backwards: the cursor is forgotten, and the whole host is owed.
    Reset {
        /// The host.
        host: HostId,
        /// Its epoch from here on; one that is not higher than the stored one changes nothing.
        epoch: Epoch,
        /// How we know.
        reason: String,
    },
    /// Something of it was missed: the whole host is owed. Written with the next commit.
    Gap {
        /// The host.
        host: HostId,
        /// What was missed.
        reason: String,
    },
    /// An operator refuses the host, or no longer.
    Ban {
        /// The host.
        host: HostId,
        /// Whether it is refused.
        banned: bool,
    },
    /// What its subscription has counted so far. Written with the next commit.
    Meter {
        /// The host.
        host: HostId,
        /// All of it.
        meter: Meter,
    },
    /// Its standing has changed.
    Level {
        /// The host.
        host: HostId,
        /// Where it stands.
        level: u8,
        /// Since when.
        since: Micros,
        /// How often it fell.
        abuse: u32,
    },
    /// An operator sets its allowance, or parts of it, or leaves it to the rule again.
    Allowance {
        /// The host.
        host: HostId,
        /// All that is set from here on.
        allowance: Override,
    },
    /// It has told the DID by which it calls itself, or none. Written with the next commit.
    Service {
        /// The host.
        host: HostId,
        /// The DID; one of more than 256 bytes counts as none.
        did: Option<String>,
    },
    /// It is another name of a host, or no longer.
    Alias {
        /// The host.
        host: HostId,
        /// The host whose name it is.
        of: Option<HostId>,
    },
    /// Something went wrong with it. Written with the next commit.
    Error {
        /// The host.
        host: HostId,
        /// What, for people.
        text: String,
        /// When.
        at: Micros,
    },
}

impl HostNote {
    /// The host that it is about.
    pub fn host(&self) -> HostId {
        match self {
            Self::State { host, .. }
            | Self::Reset { host, .. }
            | Self::Gap { host, .. }
            | Self::Ban { host, .. }
            | Self::Meter { host, .. }
            | Self::Level { host, .. }
            | Self::Allowance { host, .. }
            | Self::Service { host, .. }
            | Self::Alias { host, .. }
            | Self::Error { host, .. } => *host,
        }
    }

    /// Whether the caller waits for its commit: these are rare, and what follows from them must not
    /// be taken back by a crash. The others are told often (every dial of every host), and losing
    /// the last of them in a crash loses nothing that a start does not repair.
    pub(crate) fn is_urgent(&self) -> bool {
        self.is_wish() || matches!(self, Self::Reset { .. } | Self::Level { .. })
    }

    /// Whether somebody wants it so; the others are what was seen.
    pub(crate) fn is_wish(&self) -> bool {
        matches!(self, Self::Ban { .. } | Self::Allowance { .. } | Self::Alias { .. })
    }
}

impl Host {
    /// Takes over what a note says of this row alone. A reset and a gap are more than that, and
    /// change nothing here.
    pub(crate) fn take(&mut self, note: HostNote) {
        match note {
            HostNote::State { state, reason, at, .. } => {
                self.state = state;
                self.reason = cut(&reason, REASON_BYTES_MAX).into();
                self.since = at;
            }
            HostNote::Ban { banned, .. } => self.banned = banned,
            HostNote::Meter { meter, .. } => self.meter = meter,
            HostNote::Level { level, since, abuse, .. } => {
                (self.level, self.level_since, self.abuse) = (level, since, abuse);
            }
            HostNote::Allowance { allowance, .. } => self.allowance = allowance,
            HostNote::Service { did, .. } => {
                self.service = did.filter(|did| did.len() <= SERVICE_BYTES_MAX).map(Arc::from);
            }
            HostNote::Alias { of, .. } => self.alias_of = of,
            HostNote::Error { text, at, .. } => {
                self.last_error = cut(&text, REASON_BYTES_MAX).into();
                self.last_error_at = at;
            }
            HostNote::Reset { .. } | HostNote::Gap { .. } => {}
        }
    }
}
