//! One consumer: read from the log, write to the socket, until one of them ends.

use std::time::Duration;

use bytes::Bytes;
use protocol::frame::{self, Peek};
use protocol::ids::{Micros, Seq};
use protocol::ws::{Header, Opcode};
use storage::{Chunk, Read};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::control::{self, Note};
use super::{Cursor, Fanout, Options, Seat, Start};

/// Why a consumer's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It left, or its connection broke.
    Gone,
    /// It accepted nothing for the whole deadline, or fell out of the window, and was told.
    TooSlow,
    /// It accepted nothing for the whole deadline in the middle of a frame, where nothing can be
    /// said: the connection was reset.
    Stalled,
    /// Its cursor was in the future.
    FutureCursor,
    /// The relay stopped.
    Stopped,
    /// The log could not be read: ours, and the store says so.
    LogFailed,
}

impl End {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Gone,
        Self::TooSlow,
        Self::Stalled,
        Self::FutureCursor,
        Self::Stopped,
        Self::LogFailed,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::TooSlow => "too_slow",
            Self::Stalled => "stalled",
            Self::FutureCursor => "future_cursor",
            Self::Stopped => "stopped",
            Self::LogFailed => "log_failed",
        }
    }
}

/// Serves one consumer.
pub(super) async fn run(
    fanout: &Fanout,
    seat: &Seat,
    socket: TcpStream,
    read_ahead: Bytes,
    cursor: Cursor,
    now: Micros,
) -> End {
    let (read_half, write_half) = socket.into_split();
    let (notes_tx, notes_rx) = mpsc::channel(NOTES_MAX);
    let reading = tokio::spawn(control::read(read_half, read_ahead, notes_tx));
    let head = fanout.0.log.subscribe();
    let start = cursor.start(fanout.window(now));
    let mut consumer = Consumer {
        fanout,
        seat,
        socket: write_half,
        notes: notes_rx,
        head,
        stop: fanout.0.stop.clone(),
        after: Seq::ZERO,
    };
    let end = consumer.run(start).await.unwrap_or_else(|end| end);
    consumer.farewell(end).await;
    reading.abort();
    end
}

struct Consumer<'a> {
    fanout: &'a Fanout,
    seat: &'a Seat,
    socket: OwnedWriteHalf,
    notes: mpsc::Receiver<Note>,
    head: watch::Receiver<Seq>,
    stop: watch::Receiver<bool>,
    /// Invariant: everything up to here was written whole, and nothing after it.
    after: Seq,
}

/// How far a write came before it got stuck.
enum Written {
    All,
    Stuck(usize),
}

impl Consumer<'_> {
    async fn run(&mut self, start: Start) -> Result<End, End> {
        self.after = match start {
            Start::After(seq) => seq,
            Start::Outdated(oldest) => {
                let message = "the cursor is older than the replay window: events are missing";
                self.send(Opcode::Binary, &frame::info("OutdatedCursor", message)).await?;
                oldest
            }
            Start::Future => {
                let message = "the cursor is in the future";
                self.send(Opcode::Binary, &frame::error("FutureCursor", message)).await?;
                return Ok(End::FutureCursor);
            }
        };
        let mut begun = false;
        loop {
            self.seat.sent(self.after);
            // Marked as seen before the log is read: an event published in between is either
            // read now, or wakes the wait below.
            self.head.mark_unchanged();
            match self.fanout.0.log.read(self.after, CHUNK_BYTES_MAX).await {
                Ok(Read::Chunk(chunk)) => {
                    self.send_chunk(chunk).await?;
                    begun = true;
                }
                Ok(Read::CaughtUp) => self.wait().await?,
                // Retention moved on while the consumer came in.
                Ok(Read::BelowFloor(floor)) if !begun => self.after = floor,
                Ok(Read::BelowFloor(_)) => {
                    let stall_max = self.options().stall_max;
                    return Err(self.refuse_slowness(stall_max).await);
                }
                Err(error) => {
                    tracing::error!(%error, after = %self.after, "cannot read the log");
                    return Ok(End::LogFailed);
                }
            }
            while let Ok(note) = self.notes.try_recv() {
                self.answer(note).await?;
            }
            if *self.stop.borrow() {
                return Ok(End::Stopped);
            }
        }
    }

    /// Up to date: waits for the next batch, a note, or the time for a ping.
    async fn wait(&mut self) -> Result<(), End> {
        let ping_every = self.options().ping_every;
        tokio::select! {
            changed = self.head.changed() => changed.map_err(|_| End::Stopped),
            stopped = self.stop.changed() => stopped.map_err(|_| End::Stopped),
            note = self.notes.recv() => self.answer(note.unwrap_or(Note::Gone)).await,
            () = tokio::time::sleep(ping_every) => self.send(Opcode::Ping, b"").await,
        }
    }

    async fn answer(&mut self, note: Note) -> Result<(), End> {
        match note {
            Note::Pong(payload) => self.send(Opcode::Pong, &payload).await,
            Note::Close(code) => {
                self.send(Opcode::Close, &code.to_be_bytes()).await?;
                Err(End::Gone)
            }
            Note::Gone => Err(End::Gone),
        }
    }

    /// Writes a chunk of the log. When the write is stuck, the rest of the current frame is
    /// copied and the chunk let go: a consumer that does not drain holds one frame, never a
    /// batch.
    async fn send_chunk(&mut self, chunk: Chunk) -> Result<(), End> {
        let metrics = &self.fanout.0.metrics;
        let release_after = self.options().release_after;
        let stuck = match self.write(&chunk.bytes, release_after).await? {
            Written::All => {
                metrics.sent(u64::from(chunk.frames), chunk.bytes.len());
                self.after = chunk.last;
                return Ok(());
            }
            Written::Stuck(written) => Stuck::at(&chunk.bytes, written),
        };
        drop(chunk);
        metrics.sent(stuck.frames, stuck.bytes);
        self.after = stuck.after.unwrap_or(self.after);
        self.seat.sent(self.after);
        let patience = self.options().stall_max.saturating_sub(release_after);
        if stuck.rest.is_empty() {
            let writable = timeout(patience, self.socket.writable()).await;
            return match writable {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(End::Gone),
                // It has had its time: what the socket does not take at once is not said.
                Err(_) => Err(self.refuse_slowness(FAREWELL_MAX).await),
            };
        }
        match self.write(&stuck.rest, patience).await? {
            Written::All => {
                self.after = stuck.current.unwrap_or(self.after);
                metrics.sent(1, stuck.rest.len());
                Ok(())
            }
            // In the middle of a frame nothing can be said any more.
            Written::Stuck(_) => Err(self.reset()),
        }
    }

    /// Writes one small message of our own.
    async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), End> {
        self.send_within(opcode, payload, self.options().stall_max).await
    }

    async fn send_within(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        patience: Duration,
    ) -> Result<(), End> {
        let mut message = Vec::with_capacity(payload.len() + 4);
        Header { fin: true, opcode, mask: None, len: payload.len() as u64 }.write(&mut message);
        message.extend_from_slice(payload);
        match self.write(&message, patience).await? {
            Written::All => Ok(()),
            Written::Stuck(_) => Err(self.reset()),
        }
    }

    /// Writes until done or until no byte was accepted for `patience`.
    async fn write(&mut self, bytes: &[u8], patience: Duration) -> Result<Written, End> {
        let mut written = 0;
        while written < bytes.len() {
            match timeout(patience, self.socket.write(&bytes[written..])).await {
                Ok(Ok(count)) if count > 0 => written += count,
                Ok(_) => return Err(End::Gone),
                Err(_) => return Ok(Written::Stuck(written)),
            }
        }
        Ok(Written::All)
    }

    /// At a frame boundary: says why, as far as the socket still takes it, and ends.
    async fn refuse_slowness(&mut self, patience: Duration) -> End {
        let message = "the consumer does not keep up with the stream";
        let error = frame::error("ConsumerTooSlow", message);
        let sent = self.send_within(Opcode::Binary, &error, patience).await;
        sent.err().unwrap_or(End::TooSlow)
    }

    /// Ends the connection without a word: the peer must not take half a frame for a whole one.
    fn reset(&self) -> End {
        // A failure to set it leaves an ordinary close, which the peer sees as an error as well.
        drop(self.socket.as_ref().set_zero_linger());
        End::Stalled
    }

    /// The close frame, where one is due: never 1000, on which clients stop for good.
    async fn farewell(&mut self, end: End) {
        let (code, reason) = match end {
            End::Gone | End::Stalled => return,
            End::TooSlow => (POLICY_VIOLATION, "ConsumerTooSlow"),
            End::FutureCursor => (POLICY_VIOLATION, "FutureCursor"),
            End::Stopped => (GOING_AWAY, ""),
            End::LogFailed => (INTERNAL_ERROR, ""),
        };
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        let send = self.send(Opcode::Close, &payload);
        if let Ok(Ok(())) = timeout(FAREWELL_MAX, send).await {
            drop(self.socket.shutdown().await);
            // The peer's own close frame, or the end of its patience.
            drop(timeout(FAREWELL_MAX, self.notes.recv()).await);
        }
    }

    fn options(&self) -> &Options {
        &self.fanout.0.options
    }
}

/// A chunk whose write got stuck.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stuck {
    /// Frames written whole, and their bytes.
    frames: u64,
    bytes: usize,
    /// The seq of the last of them.
    after: Option<Seq>,
    /// What is left of the frame that is written in part; empty at a frame boundary.
    rest: Vec<u8>,
    /// Its seq.
    current: Option<Seq>,
}

impl Stuck {
    /// Finds the frame boundary around `written`. The chunk is our own, so it is well-formed.
    fn at(chunk: &[u8], written: usize) -> Self {
        let mut stuck = Self::default();
        while stuck.bytes < written {
            let (header, header_len) = Header::parse(&chunk[stuck.bytes..])
                .expect("the log holds well-formed messages")
                .expect("the log holds whole messages");
            let body = stuck.bytes + header_len;
            let end = body + usize::try_from(header.len).expect("frames fit in memory");
            let seq = match frame::peek(&chunk[body..end]) {
                Ok(Peek::Event { seq: Some(seq), .. }) => Seq::new(seq),
                other => unreachable!("the log holds events only, not {other:?}"),
            };
            if end > written {
                stuck.rest = chunk[written..end].to_vec();
                stuck.current = seq;
                break;
            }
            stuck.frames += 1;
            stuck.bytes = end;
            stuck.after = seq;
        }
        stuck
    }
}

/// Bytes read from the log at once: large enough that a replay is bound by copying.
const CHUNK_BYTES_MAX: usize = 512 << 10;
/// Notes of a consumer that wait for its current write.
const NOTES_MAX: usize = 4;
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// RFC 6455 section 7.4.1.
const GOING_AWAY: u16 = 1001;
const POLICY_VIOLATION: u16 = 1008;
const INTERNAL_ERROR: u16 = 1011;
