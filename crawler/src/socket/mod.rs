//! One WebSocket to a host after its handshake: whole messages, each with its room in the budget.
//!
//! A library that buffers whole messages first would let every hostile connection hold its maximum
//! outside of the budget, and a quiet one several KiB too many.

mod decoder;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::ids::Micros;
use protocol::ws::{self, HEADER_BYTES_MAX, Header, Opcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::coop;
use tokio::time::{Instant, sleep_until, timeout};

use crate::budget::{Hold, Share};
use crate::dial::Transport;
use crate::handshake::Opened;
use crate::limits::{CONTROLS_MAX, CONTROLS_WINDOW, READ_BYTES_BUSY, READ_BYTES_QUIET, Timing};
use crate::live::Pulse;

use self::decoder::{Decoder, Step};

pub(crate) use self::decoder::Violation;
pub use self::decoder::fuzz_socket;

/// A connection. Its task is the only one that reads and writes it.
pub(crate) struct Socket {
    transport: Box<dyn Transport>,
    timing: Timing,
    decoder: Decoder,
    /// Bytes read and not decoded.
    input: BytesMut,
    /// How large `input` is made for the next read.
    input_bytes: usize,
    /// Nothing is read while this is true.
    held: watch::Receiver<bool>,
    /// The room that the message which is arriving has taken.
    hold: Option<Hold>,
    heard_at: Instant,
    ping_at: Instant,
    /// Since when a message is arriving.
    message_since: Option<Instant>,
    /// Pings and pongs since [`Socket::controls_since`].
    controls: u32,
    controls_since: Instant,
    /// See [`Socket::listen_for`].
    patience: Option<Instant>,
    drain: Drain,
}

/// Notices when everything that the host has sent was read and handed on.
struct Drain {
    pulse: Arc<Pulse>,
    /// When the connection was opened, by both clocks.
    opened: (Instant, Micros),
    /// From when on that means that it has sent everything that it owes us.
    settled_at: Instant,
    /// How often it was so.
    times: u64,
    /// Whether the next time is to be told.
    tells: bool,
}

/// What a host sent.
pub(crate) enum Incoming {
    /// A whole binary message, and its room.
    Message(Bytes, Hold),
    /// A message over the limit, of which only the beginning was kept.
    TooBig {
        /// How long it was.
        bytes: u64,
        /// Its beginning.
        excerpt: Bytes,
    },
    /// Nothing for a while: it is time for a ping, by [`Socket::keep_alive`].
    Quiet,
    /// Everything was read; asked for by [`Socket::tell_drained`].
    Drained,
    /// Everything was read, and it is over; asked for by [`Socket::listen_for`].
    Nothing,
}

/// What a read has brought.
enum Read {
    Bytes(usize),
    /// Nothing is left; only if that is to be told.
    Drained,
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The host broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A message took longer than [`Timing::message_timeout`].
    #[error("message took too long to arrive")]
    Slow,
    /// The host said so.
    #[error("closed by host{}", describe_close(.0))]
    Closed(Bytes),
    /// Without a close frame.
    #[error("connection lost")]
    Lost,
    /// Reading or writing failed.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
    /// More pings and pongs than [`CONTROLS_MAX`].
    #[error("too many pings and pongs")]
    Controls,
    /// No byte for [`Timing::silence_max`].
    #[error("silent for too long")]
    Silent,
    /// The host does not read.
    #[error("host does not read")]
    Deaf,
}

impl Socket {
    /// Goes on behind the handshake. `pulse` learns when everything was read; it is told with the
    /// wall-clock time.
    pub(crate) fn new(
        opened: Opened,
        timing: Timing,
        held: watch::Receiver<bool>,
        (pulse, opened_at): (Arc<Pulse>, Micros),
    ) -> Self {
        let now = Instant::now();
        Self {
            transport: opened.transport,
            timing,
            decoder: Decoder::default(),
            input: BytesMut::from(&*opened.leftover),
            input_bytes: READ_BYTES_QUIET,
            held,
            hold: None,
            heard_at: now,
            ping_at: now + timing.ping_interval,
            message_since: None,
            controls: 0,
            controls_since: now,
            patience: None,
            drain: Drain {
                pulse,
                opened: (now, opened_at),
                settled_at: now + timing.poll_listen,
                times: 0,
                tells: false,
            },
        }
    }

    /// The next message. While the host's share is spent, nothing is read.
    pub(crate) async fn next(&mut self, share: &Arc<Share>) -> Result<Incoming, Ended> {
        loop {
            match self.decoder.step(&mut self.input)? {
                Step::Starved => {
                    if let Some(incoming) = self.read().await? {
                        return Ok(incoming);
                    }
                }
                Step::Wants(bytes) => {
                    self.hold = Some(share.take_arriving(bytes).await);
                    self.resume();
                }
                Step::Message(bytes) => {
                    let hold = self.room_for(&bytes, share).await;
                    self.message_since = None;
                    return Ok(Incoming::Message(bytes, hold));
                }
                Step::Discarding => self.hold = None,
                Step::Discarded { bytes, excerpt } => {
                    self.message_since = None;
                    return Ok(Incoming::TooBig { bytes, excerpt });
                }
                Step::Ping(payload) => {
                    self.control()?;
                    self.send(Opcode::Pong, &payload).await?;
                }
                Step::Pong => self.control()?,
                Step::Close(payload) => {
                    // RFC 6455 section 5.5.1: "If an endpoint receives a Close frame and did not
                    // previously send a Close frame, the endpoint MUST send a Close frame".
                    self.close(&payload[..payload.len().min(CLOSE_CODE_BYTES)]).await;
                    return Err(Ended::Closed(payload));
                }
            }
        }
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_within_message(&self) -> bool {
        self.decoder.is_within_message()
    }

    /// Whether not even the header of a message has begun.
    fn is_between_messages(&self) -> bool {
        !self.is_within_message() && self.input.is_empty()
    }

    /// How often everything that the host had sent was read.
    pub(crate) fn drained_times(&self) -> u64 {
        self.drain.times
    }

    /// The next time that everything was read is told, by [`Incoming::Drained`].
    pub(crate) fn tell_drained(&mut self) {
        self.drain.tells = true;
    }

    /// From so long after the opening on, [`Incoming::Nothing`] comes instead of a wait for more:
    /// by then the host is believed to have sent all that it owes us. Never within a message.
    pub(crate) fn listen_for(&mut self, time: Duration) {
        let until = self.drain.opened.0 + time;
        self.patience = Some(until);
        self.drain.settled_at = until;
    }

    /// Waits for what comes, however long that takes.
    pub(crate) fn listen_on(&mut self) {
        self.patience = None;
    }

    /// When it is time for a ping, also while nothing is read.
    pub(crate) fn ping_at(&self) -> Instant {
        self.ping_at
    }

    /// Pings, if it is time.
    pub(crate) async fn keep_alive(&mut self) -> Result<(), Ended> {
        if Instant::now() >= self.ping_at { self.ping().await } else { Ok(()) }
    }

    /// We did not listen for a while: that was not the host's silence.
    pub(crate) fn resume(&mut self) {
        self.heard_at = Instant::now();
        self.message_since = None;
    }

    /// Says good-bye, if the host listens, and closes.
    pub(crate) async fn close(&mut self, payload: &[u8]) {
        let close_timeout = self.timing.close_timeout;
        let closing = async {
            self.send(Opcode::Close, payload).await?;
            self.transport.shutdown().await.map_err(Ended::Io)
        };
        if let Ok(Err(error)) = timeout(close_timeout, closing).await {
            tracing::trace!(%error, "close failed");
        }
    }

    async fn room_for(&mut self, message: &Bytes, share: &Arc<Share>) -> Hold {
        let bytes = u32::try_from(message.len()).expect("at most MESSAGE_BYTES_MAX");
        if let Some(mut hold) = self.hold.take() {
            hold.arrived(bytes);
            return hold;
        }
        let hold = share.take(bytes).await;
        self.resume();
        hold
    }

    /// A ping or pong came.
    fn control(&mut self) -> Result<(), Ended> {
        if self.heard_at - self.controls_since > CONTROLS_WINDOW {
            (self.controls, self.controls_since) = (0, self.heard_at);
        }
        self.controls += 1;
        if self.controls > CONTROLS_MAX { Err(Ended::Controls) } else { Ok(()) }
    }

    /// Reads once, or tells of something that is no message; gives up when it is time.
    async fn read(&mut self) -> Result<Option<Incoming>, Ended> {
        self.make_room();
        let over_at = self.patience.filter(|_| self.is_between_messages());
        loop {
            self.released().await?;
            let dead_at = self.heard_at + self.timing.silence_max;
            let whole = (!self.decoder.is_within_message()).then_some(self.heard_at);
            tokio::select! {
                biased;
                read = self.drain.read(&mut self.transport, &mut self.input, whole) => match read? {
                    Read::Bytes(0) => return Err(Ended::Lost),
                    Read::Bytes(_) => return self.heard().map(|()| None),
                    Read::Drained => return Ok(Some(Incoming::Drained)),
                },
                _held = self.held.changed() => continue,
                () = sleep_until(self.ping_at.min(dead_at).min(over_at.unwrap_or(dead_at))) => {}
            }
            let now = Instant::now();
            if over_at.is_some_and(|at| now >= at) {
                self.drain.note(now);
                return Ok(Some(Incoming::Nothing));
            }
            if now >= dead_at {
                return Err(Ended::Silent);
            }
            if now >= self.ping_at {
                self.shrink();
                if whole.is_some() {
                    self.drain.note(now);
                }
                return Ok(Some(Incoming::Quiet));
            }
        }
    }

    /// Waits while the intake is held. Pings go on, for hosts that close what is quiet; what they
    /// answer waits with everything else that they send.
    async fn released(&mut self) -> Result<(), Ended> {
        if !*self.held.borrow_and_update() {
            return Ok(());
        }
        while *self.held.borrow_and_update() {
            tokio::select! {
                // An end of the other side is the end of this task as well.
                _changed = self.held.changed() => {}
                () = sleep_until(self.ping_at) => self.ping().await?,
            }
        }
        self.resume();
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Ended> {
        self.ping_at = Instant::now() + self.timing.ping_interval;
        self.send(Opcode::Ping, &[]).await
    }

    /// Some bytes came.
    fn heard(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        self.heard_at = now;
        if self.input.len() >= self.input_bytes {
            self.input_bytes = (2 * self.input_bytes).min(READ_BYTES_BUSY);
        }
        if !self.decoder.is_within_message() {
            self.message_since = None;
            return Ok(());
        }
        let since = *self.message_since.get_or_insert(now);
        if now - since > self.timing.message_timeout { Err(Ended::Slow) } else { Ok(()) }
    }

    /// What is not decoded is at most a part of a header or of a control frame.
    fn make_room(&mut self) {
        let lacking = self.input_bytes.saturating_sub(self.input.len());
        self.input.reserve(lacking.max(CONTROL_FRAME_BYTES_MAX));
    }

    /// A connection that is quiet when it is pinged goes back to a small buffer.
    fn shrink(&mut self) {
        self.input_bytes = READ_BYTES_QUIET;
        let undecoded = self.input.split();
        self.input = BytesMut::with_capacity(READ_BYTES_QUIET);
        self.input.extend_from_slice(&undecoded);
    }

    /// Writes one frame, masked.
    async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Ended> {
        let key = rand::random::<[u8; 4]>();
        let len = u64::try_from(payload.len()).expect("a control frame");
        let mut frame = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
        Header { fin: true, opcode, mask: Some(key), len }.write(&mut frame);
        let start = frame.len();
        frame.extend_from_slice(payload);
        ws::mask(key, 0, &mut frame[start..]);
        let writing = async {
            self.transport.write_all(&frame).await?;
            self.transport.flush().await
        };
        match timeout(self.timing.write_timeout, writing).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Ended::Deaf),
        }
    }
}

impl Drain {
    /// Waits for bytes. If it has to, everything before them was read, and no message has begun:
    /// `whole` is when the last of it came.
    async fn read(
        &mut self,
        transport: &mut Box<dyn Transport>,
        input: &mut BytesMut,
        mut whole: Option<Instant>,
    ) -> std::io::Result<Read> {
        let mut reading = pin!(transport.read_buf(input));
        poll_fn(|cx| {
            let polled = reading.as_mut().poll(cx).map_ok(Read::Bytes);
            // A task that had its turn is told that nothing is there, whatever is.
            if polled.is_pending()
                && coop::has_budget_remaining()
                && let Some(at) = whole.take()
            {
                // The time of the last read is early enough, and costs no look at a clock.
                self.note(at);
                if std::mem::take(&mut self.tells) {
                    return Poll::Ready(Ok(Read::Drained));
                }
            }
            polled
        })
        .await
    }

    /// Everything that came until then was read.
    fn note(&mut self, at: Instant) {
        self.times += 1;
        if at >= self.settled_at {
            self.pulse.caught_up(self.opened.1.plus(at - self.opened.0));
        }
    }
}

/// `: 1008 FutureCursor`, as far as it is there.
fn describe_close(payload: &[u8]) -> String {
    let Some((code, reason)) = payload.split_first_chunk::<CLOSE_CODE_BYTES>() else {
        return String::new();
    };
    format!(": {} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(reason))
}

/// The status code in front of a close frame's reason.
const CLOSE_CODE_BYTES: usize = 2;

/// A control frame's payload is at most 125 bytes.
const CONTROL_FRAME_BYTES_MAX: usize = HEADER_BYTES_MAX + 125;
