//! Why a stream ends: what it is called, what the host is told, and whose doing it is.

use protocol::ids::HostSeq;

use crate::limits::REASON_CHARS_MAX;
use crate::socket::{Ended, Violation};

/// Why we end a stream, or have to.
pub(super) enum End {
    /// The connection has ended.
    Socket(Ended),
    /// An error frame, as text.
    ErrorFrame(String),
    /// An error frame that says `FutureCursor`.
    FutureCursor,
    /// The first number was below the cursor.
    Backwards(HostSeq),
    /// [`MALFORMED_MAX`](crate::limits::MALFORMED_MAX) within
    /// [`MALFORMED_WINDOW`](crate::limits::MALFORMED_WINDOW).
    Malformed,
    /// It has nothing to say.
    Quiet,
}

impl End {
    /// Whether the host's own bytes made the connection end.
    pub(super) fn is_offence(&self) -> bool {
        match self {
            Self::Socket(ended) => {
                matches!(ended, Ended::Violation(_) | Ended::Slow | Ended::Controls)
            }
            Self::ErrorFrame(_) | Self::Malformed => true,
            Self::FutureCursor | Self::Backwards(_) | Self::Quiet => false,
        }
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        clip(&match self {
            Self::Socket(ended) => ended.to_string(),
            Self::ErrorFrame(text) => format!("error frame: {text}"),
            Self::FutureCursor => "error frame: FutureCursor".to_owned(),
            Self::Backwards(seq) => format!("sequence went backwards: {seq}"),
            Self::Malformed => "too many malformed frames".to_owned(),
            Self::Quiet => "quiet".to_owned(),
        })
    }

    /// What to close with; none where the host closed first, or does not listen.
    pub(super) fn close_code(&self) -> Option<u16> {
        match self {
            Self::Socket(Ended::Violation(Violation::Text)) => Some(UNSUPPORTED),
            Self::Socket(Ended::Violation(Violation::TooLong)) => Some(TOO_BIG),
            Self::Socket(Ended::Violation(_)) => Some(PROTOCOL),
            Self::Socket(Ended::Slow | Ended::Controls) => Some(POLICY),
            Self::Socket(_) => None,
            Self::Quiet => Some(NORMAL),
            _ => Some(POLICY),
        }
    }
}

/// A reason may hold a host's own words: they are shortened, on one line.
pub(super) fn clip(reason: &str) -> String {
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    reason.chars().take(REASON_CHARS_MAX).map(plain).collect()
}

// RFC 6455 section 7.4.1.
const NORMAL: u16 = 1000;
pub(super) const GOING_AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;
