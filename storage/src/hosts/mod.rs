//! Hosts as the store knows them: what a row says, what is noted of one, the sequencer's own table,
//! the mirror for readers.

use std::sync::Arc;

use protocol::host::HostName;
use protocol::host_state::{HostState, Meter};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};

mod mirror;
mod note;
mod table;

pub(crate) use mirror::Mirror;
pub use note::HostNote;
pub(crate) use table::{Row, Table};

/// An upstream host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its number, given once.
    pub id: HostId,
    /// Its name; unique.
    pub name: HostName,
    /// When it was added.
    pub added: Micros,
    /// Where its stream begins for us while [`Host::cursor`] is zero.
    pub start: Start,
    /// Counts how often its own sequence went backwards.
    pub epoch: Epoch,
    /// End of the settled prefix of its stream (I5): everything received up to here is in the
    /// log or dropped. Zero: nothing yet.
    pub cursor: HostSeq,
    /// What its connection was last doing.
    pub state: HostState,
    /// Why, for people; at most 256 bytes.
    pub reason: Arc<str>,
    /// Since when.
    pub since: Micros,
    /// What went wrong last, for people, at most 256 bytes; it stays when that is over. Empty:
    /// nothing did.
    pub last_error: Arc<str>,
    /// When.
    pub last_error_at: Micros,
    /// Live accounts: every account that this host spoke for last and has not deleted.
    pub accounts: u64,
    /// Those of them that are throttled for being over the host's limit.
    pub throttled: u64,
    /// Events dropped so far that left a reject.
    pub rejects: u64,
    /// It has proven that it speaks Sync 1.1.
    pub ratchet_closed: bool,
    /// An operator refuses it.
    pub banned: bool,
    /// What its subscription has counted.
    pub meter: Meter,
    /// Its standing, which grows with clean conduct and falls with abuse. What it means for its
    /// allowance is the relay's.
    pub level: u8,
    /// Since when it stands there; zero: nobody has judged it yet.
    pub level_since: Micros,
    /// How often it fell.
    pub abuse: u32,
    /// What an operator has set for it.
    pub allowance: Override,
    /// The DID by which it calls itself (`describeServer`), if it told one.
    pub service: Option<Arc<str>>,
    /// It is another name of this host.
    pub alias_of: Option<HostId>,
}

/// The parts of a host's allowance that an operator has set; the others follow the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Events a second.
    pub per_second: Option<u64>,
    /// Events an hour.
    pub per_hour: Option<u64>,
    /// Events a day.
    pub per_day: Option<u64>,
    /// Live accounts.
    pub accounts: Option<u64>,
}

/// Where a host's stream begins when there is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At whatever comes next.
    Live,
    /// At the oldest event that the host still has.
    Oldest,
}

impl Host {
    /// Its live accounts that its limit is about: all but those that are throttled for being over
    /// it.
    pub fn open_accounts(&self) -> u64 {
        self.accounts.saturating_sub(self.throttled)
    }

    /// One that was just added.
    pub(crate) fn added(id: HostId, name: HostName, start: Start, now: Micros) -> Self {
        Self {
            id,
            name,
            added: now,
            start,
            epoch: Epoch::default(),
            cursor: HostSeq::ZERO,
            state: HostState::default(),
            reason: Arc::from(""),
            since: now,
            last_error: Arc::from(""),
            last_error_at: Micros(0),
            accounts: 0,
            throttled: 0,
            rejects: 0,
            ratchet_closed: false,
            banned: false,
            meter: Meter::default(),
            level: 0,
            level_since: now,
            abuse: 0,
            allowance: Override::default(),
            service: None,
            alias_of: None,
        }
    }
}

/// At most `bytes_max` bytes of a text, whole characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Longer reasons and errors are cut. A host says some of them itself, and they lie in memory for
/// every host.
pub(crate) const REASON_BYTES_MAX: usize = 256;
/// A longer DID of a service is left out: it would lie in memory for every host.
pub(crate) const SERVICE_BYTES_MAX: usize = 256;
