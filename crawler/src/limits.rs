//! The crawler's bounds (I7): what each costs, and why this number.

use std::time::Duration;

/// A longer message is discarded while it is read. The `sync` lexicons allow `blocks` of 2 MB, and
/// the reference relay and clients refuse messages over 5 MB.
pub const MESSAGE_BYTES_MAX: u32 = 5_000_000;

/// A message that claims more than this is not even discarded: the connection is closed.
pub const MESSAGE_DISCARDED_MAX: u64 = 64_000_000;

/// A message over this takes its permit before its payload is read. So it is also what one
/// connection may hold outside of the budget: 1.6 GB at 100,000 hosts that all misbehave at once.
pub const MESSAGE_UNBUDGETED_MAX: u32 = 16 * 1024;

/// A message in more fragments closes the connection: 5 MB in pieces of a byte are millions of
/// steps. Hosts do not fragment at all, and a proxy that did would have pieces of a kilobyte.
pub const MESSAGE_FRAGMENTS_MAX: u32 = 4_096;

/// The pings and pongs of a host within [`CONTROLS_WINDOW`]; over it the connection is closed. A
/// ping of two bytes costs a write of ours. Hosts that ping at all do it a few times a minute.
pub const CONTROLS_MAX: u32 = 600;

/// See [`CONTROLS_MAX`].
pub const CONTROLS_WINDOW: Duration = Duration::from_mins(1);

/// The least that a message counts for: its ticket, its place in queues and its account's state
/// cost memory too, so that a flood of tiny events is bounded by bytes as well.
pub const EVENT_BYTES_MIN: u32 = 512;

/// The events of one host that may be under way at once. At a few milliseconds from socket to
/// commit this is tens of thousands of events a second, more than any host sends.
pub const HOST_EVENTS_MAX: u32 = 256;

/// What one host may hold of the intake budget, if an eighth of the budget is less: two of the
/// largest messages and some small ones.
pub const HOST_BYTES_MIN: u32 = 12_000_000;

/// The smallest intake budget: two hosts' shares, so that no host alone can hold it all.
pub const INTAKE_BYTES_MIN: u64 = 24_000_000;

/// The beginning of a dropped frame that is kept for the host's ring of rejects.
pub const EXCERPT_BYTES_MAX: usize = 512;

/// The characters of a reason that are kept; some reasons are written by hosts.
pub const REASON_CHARS_MAX: usize = 200;

/// So many malformed frames within [`MALFORMED_WINDOW`] close the connection.
pub const MALFORMED_MAX: usize = 8;

/// See [`MALFORMED_MAX`].
pub const MALFORMED_WINDOW: Duration = Duration::from_mins(1);

/// A position that has killed so many connections is stepped over.
pub const KILLS_MAX: u32 = 3;

/// The doubling steps over a position that keeps killing connections: the last one is 1,024
/// numbers wide; after that the host is followed live.
pub const STEPS_MAX: u32 = 11;

/// The read buffer of a quiet connection: most events do not fit, and cost one more read. At
/// 100,000 hosts these are 200 MB.
pub const READ_BYTES_QUIET: usize = 2 * 1024;

/// The read buffer of a busy connection: several events a system call.
pub const READ_BYTES_BUSY: usize = 32 * 1024;

/// The largest response head of a host's handshake.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Only a host with at most so many live accounts is ever disconnected for being quiet: a larger
/// one is quiet because something is wrong, and its connection is the way to see that.
pub const IDLE_ACCOUNTS_MAX: u64 = 100;

/// Every so many polls, once an hour, one is patient: a host that always takes longer than
/// [`Timing::poll_listen`] to look up what it owes us would never be heard otherwise.
pub const PATIENT_POLL_EVERY: u32 = 6;

/// So many times [`Timing::poll_listen`] a patient poll listens: 25 s, less than up to a ping.
/// 100,000 quiet hosts cost 1,400 connections at a time.
pub const PATIENT_POLL_TIMES: u32 = 5;

/// How often a host's lag is looked at: reading an event's time costs a walk over it.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How long things take; tests shrink it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The shortest wait between two dials of a host, after its stream had made progress.
    pub back_off_min: Duration,
    /// The longest one, reached by doubling.
    pub back_off_max: Duration,
    /// The wait after a host turned out to be a relay.
    pub refused_wait: Duration,
    /// `redial` dials at once, but not sooner than this after the last attempt ended: anybody may
    /// send `requestCrawl`. It doubles with each such dial that comes to nothing.
    pub redial_spacing: Duration,
    /// The longest one, and the one after a refusal.
    pub redial_spacing_max: Duration,
    /// For one dial with its TLS and WebSocket handshake: a host that does not answer holds one of
    /// the places of all dials for so long.
    pub dial_timeout: Duration,
    /// Between two pings of ours.
    pub ping_interval: Duration,
    /// A connection without any byte for so long is dead.
    pub silence_max: Duration,
    /// For one message from its header to its last byte: a slow sender holds its permit for so
    /// long at most.
    pub message_timeout: Duration,
    /// For one write of ours (a ping, a pong): it is some bytes only.
    pub write_timeout: Duration,
    /// For the close frame.
    pub close_timeout: Duration,
    /// A connection that the host ends within this time, without having sent anything, was killed
    /// by its cursor; a longer one was only quiet.
    pub short_lived: Duration,
    /// Between two reports of what a host has counted, while it counts: a crash forgets so much.
    pub meter_interval: Duration,
    /// A host is shown as throttled when it was held back for so long without a moment at which
    /// everything that it had sent was read.
    pub throttled_after: Duration,
    /// A small host that has sent nothing for so long is disconnected, and polled.
    pub idle_after: Duration,
    /// Between two polls of a quiet host, a quarter more or less.
    pub idle_poll: Duration,
    /// How long a poll listens for the first event (but see [`PATIENT_POLL_EVERY`]), and how long a
    /// connection with a cursor is not believed to have caught up: the host has to look up what it
    /// owes us.
    pub poll_listen: Duration,
    /// At a start with more hosts than may dial at once, their dials are spread over so long for
    /// each of them: 200 a second.
    pub start_spacing: Duration,
    /// For all tasks to end.
    pub stop_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            back_off_min: Duration::from_secs(1),
            back_off_max: Duration::from_hours(1),
            refused_wait: Duration::from_hours(6),
            redial_spacing: Duration::from_secs(10),
            redial_spacing_max: Duration::from_mins(10),
            dial_timeout: Duration::from_secs(20),
            ping_interval: Duration::from_secs(30),
            silence_max: Duration::from_mins(1),
            message_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(1),
            short_lived: Duration::from_secs(10),
            meter_interval: Duration::from_mins(1),
            throttled_after: Duration::from_secs(2),
            idle_after: Duration::from_hours(24),
            idle_poll: Duration::from_mins(10),
            poll_listen: Duration::from_secs(5),
            start_spacing: Duration::from_millis(5),
            stop_timeout: Duration::from_secs(5),
        }
    }
}
