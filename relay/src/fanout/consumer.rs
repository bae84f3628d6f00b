//! One consumer: read from the log, write to the socket, until one of them ends.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use protocol::frame::{self, Peek};
use protocol::ids::{Micros, Seq};
use protocol::tripwire::Point;
use protocol::ws::{Header, Opcode};
use storage::{Chunk, Read};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, timeout};

use super::control::Note;
use super::link::{Broken, Link};
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
    fanout: Fanout,
    seat: Seat,
    socket: TcpStream,
    read_ahead: Bytes,
    cursor: Cursor,
    now: Micros,
) -> End {
    let start = cursor.start(fanout.window(now));
    let mut link = Link::new(socket, &read_ahead, fanout.0.options.stall_max);
    let mut consumer = Consumer { fanout, seat, after: Seq::ZERO, has_begun: false };
    if let Err(end) = consumer.begin(&mut link, start).await {
        farewell(&mut link, end).await;
        return end;
    }
    loop {
        let end = match consumer.follow(&mut link).await {
            Ok(()) => {
                (consumer, link) = match consumer.replay_apart(link).await {
                    Ok(both) => both,
                    Err(end) => return end,
                };
                continue;
            }
            Err(end) => end,
        };
        farewell(&mut link, end).await;
        return end;
    }
}

/// What a consumer is, beside its connection.
struct Consumer {
    fanout: Fanout,
    seat: Seat,
    /// Invariant: everything up to here was written whole, and nothing after it.
    after: Seq,
    /// It was sent an event.
    has_begun: bool,
}

impl Consumer {
    /// Finds the place in the log, and says what there is to say about it.
    async fn begin(&mut self, link: &mut Link, start: Start) -> Result<(), End> {
        self.after = match start {
            Start::After(seq) => seq,
            Start::Outdated(oldest) => {
                let message = "the cursor is older than the replay window: events are missing";
                self.say(link, Opcode::Binary, &frame::info("OutdatedCursor", message)).await?;
                oldest
            }
            Start::Future => {
                let message = "the cursor is in the future";
                self.say(link, Opcode::Binary, &frame::error("FutureCursor", message)).await?;
                return Err(End::FutureCursor);
            }
        };
        Ok(())
    }

    /// Writes what memory has, as it comes. Returns when only the disk has what is next.
    async fn follow(&mut self, link: &mut Link) -> Result<(), End> {
        let fanout = self.fanout.clone();
        let _follower = fanout.0.log.follow();
        let mut rounds = fanout.0.rounds.subscribe();
        let mut silence = std::pin::pin!(tokio::time::sleep(self.options().ping_every / 2));
        loop {
            // Marked as seen before the log is read: an event published in between is either
            // read now, or wakes the wait below.
            rounds.mark_unchanged();
            match fanout.0.log.read_newest(self.after, CHUNK_BYTES_MAX) {
                Some(Read::CaughtUp) => {
                    self.stop_if_asked()?;
                    self.wait(link, &mut rounds, silence.as_mut()).await?;
                }
                Some(read) => self.take(link, read).await?,
                None => return Ok(()),
            }
        }
    }

    /// Up to date: waits for the next batch, the peer's word, or the time for a ping.
    async fn wait(
        &self,
        link: &mut Link,
        rounds: &mut watch::Receiver<()>,
        mut silence: Pin<&mut Sleep>,
    ) -> Result<(), End> {
        tokio::select! {
            changed = rounds.changed() => changed.map_err(|_| End::Stopped),
            () = link.readable() => self.answer(link).await,
            () = silence.as_mut() => {
                let half = self.options().ping_every / 2;
                silence.reset(Instant::now() + half);
                if link.was_silent() {
                    self.say(link, Opcode::Ping, b"").await?;
                }
                Ok(())
            }
        }
    }

    /// Reads what the disk has, on the threads for that, until nothing is left to be read.
    async fn replay_apart(mut self, link: Link) -> Result<(Self, Link), End> {
        let gone = |_| End::Gone;
        let link = link.detach().map_err(gone)?;
        let threads = self.fanout.0.replays.threads().clone();
        let replay = async move {
            let mut link = link.attach().map_err(gone)?;
            if let Err(end) = self.replay(&mut link).await {
                farewell(&mut link, end).await;
                return Err(end);
            }
            Ok((self, link.detach().map_err(gone)?))
        };
        let (consumer, link) = threads.spawn(replay).await.expect("a replay does not panic")?;
        Ok((consumer, link.attach().map_err(gone)?))
    }

    async fn replay(&mut self, link: &mut Link) -> Result<(), End> {
        let fanout = self.fanout.clone();
        let _replaying = fanout.0.replays.enter(&fanout.0.metrics);
        loop {
            match fanout.0.log.read(self.after, CHUNK_BYTES_MAX).await {
                Ok(Read::CaughtUp) => return Ok(()),
                Ok(read) => self.take(link, read).await?,
                Err(error) => {
                    tracing::error!(%error, after = %self.after, "cannot read the log");
                    return Err(End::LogFailed);
                }
            }
            self.answer(link).await?;
        }
    }

    /// Sends what was read.
    async fn take(&mut self, link: &mut Link, read: Read) -> Result<(), End> {
        match read {
            Read::Chunk(chunk) => {
                let is_large = chunk.bytes.len() >= TURN_BYTES;
                self.has_begun = true;
                self.send_chunk(link, chunk).await?;
                self.seat.sent(self.after);
                if is_large {
                    tokio::task::yield_now().await;
                }
                self.stop_if_asked()
            }
            Read::CaughtUp => Ok(()),
            // Retention moved on while the consumer came in.
            Read::BelowFloor(floor) if !self.has_begun => {
                self.after = floor;
                Ok(())
            }
            Read::BelowFloor(_) => Err(refuse_slowness(link, self.options().stall_max).await),
        }
    }

    /// Writes a chunk of the log. What the socket does not take at once is let go, but for the
    /// rest of the frame that was begun: a consumer that does not drain holds one frame, never a
    /// batch (I10).
    async fn send_chunk(&mut self, link: &mut Link, chunk: Chunk) -> Result<(), End> {
        let tripwire = &self.fanout.0.options.tripwire;
        let part = tripwire.part(Point::MidWrite, chunk.bytes.len());
        let mut written =
            link.write_now(&chunk.bytes[..part]).map_err(|broken| ended(link, broken))?;
        if written == part && part < chunk.bytes.len() {
            tripwire.pass(Point::MidWrite);
            let rest = link.write_now(&chunk.bytes[part..]);
            written += rest.map_err(|broken| ended(link, broken))?;
        }
        let metrics = &self.fanout.0.metrics;
        if written == chunk.bytes.len() {
            metrics.sent(u64::from(chunk.frames), written);
            self.after = chunk.last;
            return Ok(());
        }
        let cut = Cut::at(&chunk.bytes, written);
        drop(chunk);
        metrics.sent(cut.frames, cut.bytes);
        self.after = cut.after.unwrap_or(self.after);
        self.seat.sent(self.after);
        if cut.rest.is_empty() {
            return match link.writable().await {
                Ok(()) => Ok(()),
                Err(Broken::Gone) => Err(End::Gone),
                // It has had its time: what the socket does not take at once is not said.
                Err(Broken::Stalled) => Err(refuse_slowness(link, FAREWELL_MAX).await),
            };
        }
        link.write(&cut.rest).await.map_err(|broken| ended(link, broken))?;
        metrics.sent(1, cut.rest.len());
        self.after = cut.current.unwrap_or(self.after);
        Ok(())
    }

    /// Answers what the peer has said.
    async fn answer(&self, link: &mut Link) -> Result<(), End> {
        for note in link.receive() {
            match note {
                Note::Pong(payload) => self.say(link, Opcode::Pong, &payload).await?,
                Note::Close(code) => {
                    self.say(link, Opcode::Close, &code.to_be_bytes()).await?;
                    return Err(End::Gone);
                }
                Note::Gone => return Err(End::Gone),
            }
        }
        Ok(())
    }

    /// Writes one small message of our own.
    async fn say(&self, link: &mut Link, opcode: Opcode, payload: &[u8]) -> Result<(), End> {
        link.send(opcode, payload).await.map_err(|broken| ended(link, broken))
    }

    fn stop_if_asked(&self) -> Result<(), End> {
        if *self.fanout.0.stop.borrow() { Err(End::Stopped) } else { Ok(()) }
    }

    fn options(&self) -> &Options {
        &self.fanout.0.options
    }
}

/// What a broken write means. One that is stuck may be in the middle of a frame, where nothing
/// can be said any more.
fn ended(link: &Link, broken: Broken) -> End {
    match broken {
        Broken::Gone => End::Gone,
        Broken::Stalled => {
            link.reset_at_end();
            End::Stalled
        }
    }
}

/// At a frame boundary: says why, as far as the socket still takes it, and ends.
async fn refuse_slowness(link: &mut Link, patience: Duration) -> End {
    let message = "the consumer does not keep up with the stream";
    let error = frame::error("ConsumerTooSlow", message);
    match timeout(patience, link.send(Opcode::Binary, &error)).await {
        Ok(Ok(())) => End::TooSlow,
        Ok(Err(broken)) => ended(link, broken),
        Err(_) => ended(link, Broken::Stalled),
    }
}

/// The close frame, where one is due: never 1000, on which clients stop for good.
async fn farewell(link: &mut Link, end: End) {
    let (code, reason) = match end {
        End::Gone | End::Stalled => return,
        End::TooSlow => (POLICY_VIOLATION, "ConsumerTooSlow"),
        End::FutureCursor => (POLICY_VIOLATION, "FutureCursor"),
        End::Stopped => (GOING_AWAY, ""),
        End::LogFailed => (INTERNAL_ERROR, ""),
    };
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    if let Ok(Ok(())) = timeout(FAREWELL_MAX, link.send(Opcode::Close, &payload)).await {
        link.finish(FAREWELL_MAX).await;
    }
}

/// A chunk that the socket took only a part of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cut {
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

impl Cut {
    /// Finds the frame boundary around `written`. The chunk is our own, so it is well-formed.
    fn at(chunk: &[u8], written: usize) -> Self {
        let mut cut = Self::default();
        while cut.bytes < written {
            let (header, header_len) = Header::parse(&chunk[cut.bytes..])
                .expect("the log holds well-formed messages")
                .expect("the log holds whole messages");
            let body = cut.bytes + header_len;
            let end = body + usize::try_from(header.len).expect("frames fit in memory");
            let seq = match frame::peek(&chunk[body..end]) {
                Ok(Peek::Event { seq: Some(seq), .. }) => Seq::new(seq),
                other => unreachable!("the log holds events only, not {other:?}"),
            };
            if end > written {
                cut.rest = chunk[written..end].to_vec();
                cut.current = seq;
                break;
            }
            cut.frames += 1;
            cut.bytes = end;
            cut.after = seq;
        }
        cut
    }
}

/// Bytes read from the log at once: large enough that a replay is bound by copying.
const CHUNK_BYTES_MAX: usize = 512 << 10;
/// A chunk of this much is followed by a turn of the others: a thread serves many.
const TURN_BYTES: usize = 64 << 10;
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// RFC 6455 section 7.4.1.
const GOING_AWAY: u16 = 1001;
const POLICY_VIOLATION: u16 = 1008;
const INTERNAL_ERROR: u16 = 1011;

#[cfg(test)]
mod tests {
    use protocol::did::Did;
    use protocol::frame::Outgoing;
    use protocol::tid::Tid;

    use super::*;

    #[test]
    fn i3_a_cut_is_where_the_last_whole_frame_ends() {
        let did = Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub").expect("a DID");
        let mut chunk = Vec::new();
        let mut ends = vec![(0, None)];
        // Headers of two lengths.
        for (number, bytes) in [(7, 10), (8, 300), (300, 1)] {
            let seq = Seq::new(number).expect("a small number");
            let rev = Tid::from_micros(Micros(number), 0);
            let frame = Outgoing::sync(&did, rev, &vec![7; bytes], "2026-11-21T02:37:17.492Z");
            let len = frame.len_with(seq) as u64;
            Header { fin: true, opcode: Opcode::Binary, mask: None, len }.write(&mut chunk);
            frame.write_with(seq, &mut chunk);
            ends.push((chunk.len(), Some(seq)));
        }
        for written in 0..=chunk.len() {
            let whole = ends.partition_point(|(end, _)| *end <= written) - 1;
            let (bytes, after) = ends[whole];
            let (rest, current) = match ends.get(whole + 1) {
                Some((end, seq)) if written > bytes => (chunk[written..*end].to_vec(), *seq),
                _ => (Vec::new(), None),
            };
            let expected = Cut { frames: whole as u64, bytes, after, rest, current };
            assert_eq!(Cut::at(&chunk, written), expected, "{written} written");
        }
    }
}
