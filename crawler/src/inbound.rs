//! What a host's task hands on: every numbered frame of the host, once, in order, with its ticket.

use bytes::Bytes;
use protocol::did::{Did, DidError};
use protocol::frame::HostKind;
use protocol::ids::Micros;
use protocol::ticket::Ticket;

/// A received frame that has a usable number. Every such number travels exactly once: the tickets
/// of a host form a chain, and its stored cursor moves along it (I5).
///
/// Frames without a usable number (too big, malformed, `seq` missing or stale) have no ticket, and
/// so travel as [`Report::Dropped`](crate::report::Report::Dropped), which is sent before anything
/// that the host sent later is delivered.
#[derive(Debug)]
pub struct Inbound {
    /// Where it came from, and the intake bytes it holds.
    pub ticket: Ticket,
    /// When its last byte was read.
    pub received: Micros,
    /// What it is.
    pub content: Content,
}

/// What an [`Inbound`] is.
#[derive(Debug)]
pub enum Content {
    /// An event of an account.
    Event {
        /// Its kind, as the frame's header says.
        kind: HostKind,
        /// The account, from `repo` or `did`. A missing one counts as [`DidError::Syntax`].
        did: Result<Did, DidError>,
        /// The whole frame as the host sent it; the ticket's permit covers these bytes.
        frame: Bytes,
    },
    /// An unknown `op` or `t`: counted here already. Its ticket is settled and nothing else, so
    /// that the cursor moves on (protocol.md section 1).
    Passed,
}

/// Where a host's task delivers. One per host, made by `relay`.
pub trait Intake: Send + Sync {
    /// Takes the event. Never blocks: what is under way is bounded by the permits.
    fn deliver(&self, inbound: Inbound);
}
