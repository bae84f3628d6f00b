//! One WebSocket to a host after its handshake: whole messages, each with its room in the budget.
//!
//! A library that buffers whole messages first would let every hostile connection hold its maximum
//! outside of the budget, and a quiet one several KiB too many.

mod decoder;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use protocol::ws::{self, HEADER_BYTES_MAX, Header, Opcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::budget::{Hold, Share};
use crate::dial::Transport;
use crate::limits::{CONTROLS_MAX, CONTROLS_WINDOW, READ_BYTES_BUSY, READ_BYTES_QUIET, Timing};

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
    /// Goes on behind the handshake, of which `leftover` was read too much.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        leftover: &[u8],
        timing: Timing,
        held: watch::Receiver<bool>,
    ) -> Self {
        let now = Instant::now();
        Self {
            transport,
            timing,
            decoder: Decoder::default(),
            input: BytesMut::from(leftover),
            input_bytes: READ_BYTES_QUIET,
            held,
            hold: None,
            heard_at: now,
            ping_at: now + timing.ping_interval,
            message_since: None,
            controls: 0,
            controls_since: now,
        }
    }

    /// The next message. While the host's share is spent, nothing is read.
    pub(crate) async fn next(&mut self, share: &Arc<Share>) -> Result<Incoming, Ended> {
        loop {
            match self.decoder.step(&mut self.input)? {
                Step::Starved => self.read().await?,
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

    /// We did not listen for a while: that was not the host's silence.
    fn resume(&mut self) {
        self.heard_at = Instant::now();
        self.message_since = None;
    }

    /// Reads once; pings, and gives up, when it is time.
    async fn read(&mut self) -> Result<(), Ended> {
        self.make_room();
        loop {
            self.released().await?;
            let dead_at = self.heard_at + self.timing.silence_max;
            tokio::select! {
                biased;
                read = self.transport.read_buf(&mut self.input) => {
                    return if read? == 0 { Err(Ended::Lost) } else { self.heard() };
                }
                _held = self.held.changed() => continue,
                () = sleep_until(self.ping_at.min(dead_at)) => {}
            }
            let now = Instant::now();
            if now >= dead_at {
                return Err(Ended::Silent);
            }
            if now >= self.ping_at {
                self.ping().await?;
                self.shrink();
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
