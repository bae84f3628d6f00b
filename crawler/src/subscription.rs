//! One host's task: dial, stream, back off, for ever. A reason for every state, and since when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::did::{Did, DidError};
use protocol::frame::{self, HostKind, Malformed, Peek};
use protocol::host::HostName;
use protocol::ids::{HostId, HostSeq};
use protocol::reject::Reject;
use protocol::ticket::Ticket;
use protocol::tripwire::Point;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::budget::{Hold, Share};
use crate::crawler::{Context, Start};
use crate::handshake::{self, OpenError, Opened};
use crate::inbound::{Content, Inbound, Intake};
use crate::limits::{EXCERPT_BYTES_MAX, MALFORMED_MAX, MALFORMED_WINDOW, REASON_CHARS_MAX};
use crate::position::{Future, Judged, Position, Resume};
use crate::report::{Report, State, Told};
use crate::socket::{Ended, Incoming, Socket, Violation};

/// The state of one host's task, which owns all of it.
pub(crate) struct Subscription {
    context: Arc<Context>,
    host: HostId,
    name: HostName,
    intake: Arc<dyn Intake>,
    position: Position,
    share: Arc<Share>,
    backoff: Backoff,
    /// `requestCrawl` came.
    redial: Arc<Notify>,
    stop: watch::Receiver<bool>,
    state: State,
    /// When the malformed frames of the last minute came, at most [`MALFORMED_MAX`].
    malformed: VecDeque<Instant>,
    /// `OutdatedCursor` was reported of this connection.
    outdated: bool,
}

/// How an attempt to stream ended.
enum Outcome {
    /// By our own stop.
    Stopped,
    /// Not opened: the host is a relay.
    Relay,
    /// Any other way; why.
    Failed(String),
}

/// Why we end a stream, or have to.
enum End {
    /// The connection has ended.
    Socket(Ended),
    /// An error frame, as text.
    ErrorFrame(String),
    /// An error frame that says `FutureCursor`.
    FutureCursor,
    /// The first number was below the cursor.
    Backwards(HostSeq),
    /// [`MALFORMED_MAX`] within [`MALFORMED_WINDOW`].
    Malformed,
}

impl Subscription {
    /// The task of a host, not yet running.
    pub(crate) fn new(
        context: Arc<Context>,
        start: Start,
        redial: Arc<Notify>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let resume = match start.cursor {
            Resume::After(HostSeq::ZERO) => Resume::Oldest,
            resume => resume,
        };
        let timing = context.timing;
        context.metrics.hosts(State::Connecting).increment(1);
        Self {
            host: start.id,
            name: start.name,
            intake: start.intake,
            position: Position::new(start.epoch, resume),
            share: Share::new(&context.pool),
            backoff: Backoff::new(timing.back_off_min, timing.back_off_max),
            redial,
            stop,
            state: State::Connecting,
            malformed: VecDeque::new(),
            outdated: false,
            context,
        }
    }

    /// Runs until the crawler stops.
    pub(crate) async fn run(mut self) {
        let mut reason = String::new();
        loop {
            if self.released().await {
                break;
            }
            self.enter(State::Connecting, reason).await;
            let dialled_at = Instant::now();
            let (state, wait);
            match self.attempt().await {
                Outcome::Stopped => break,
                Outcome::Relay => {
                    (state, wait) = (State::Refused, self.context.timing.refused_wait);
                    reason = "host is a relay".to_owned();
                }
                Outcome::Failed(why) => {
                    (state, wait) = (State::BackingOff, self.backoff.next(rand::random()));
                    reason = why;
                }
            }
            self.enter(state, reason.clone()).await;
            if self.wait(wait, dialled_at).await {
                break;
            }
        }
        self.enter(State::Stopped, String::new()).await;
        self.context.metrics.hosts(State::Stopped).decrement(1);
    }

    /// One connection from its dial to its end.
    async fn attempt(&mut self) -> Outcome {
        let mut stop = self.stop.clone();
        let opened = tokio::select! {
            biased;
            () = stopped(&mut stop) => return Outcome::Stopped,
            opened = Box::pin(self.open()) => opened,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(OpenError::Relay) => return Outcome::Relay,
            Err(error) => return Outcome::Failed(clip(&error.to_string())),
        };
        let opened_at = Instant::now();
        let before = self.position.last();
        let timing = self.context.timing;
        let mut socket =
            Socket::new(opened.transport, &opened.leftover, timing, self.context.held.subscribe());
        drop(opened.leftover);
        self.context.metrics.connects.increment(1);
        self.position.opened();
        self.outdated = false;
        self.enter(State::Streaming, String::new()).await;
        let end = tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            end = self.stream(&mut socket) => Some(end),
        };
        let Some(end) = end else {
            socket.close(&CLOSE_GOING_AWAY.to_be_bytes()).await;
            return Outcome::Stopped;
        };
        if let Some(code) = close_code(&end) {
            socket.close(&code.to_be_bytes()).await;
        }
        let reason = describe(&end);
        let is_stuck = self.position.last() == before;
        let is_kill = is_stuck
            && (is_offence(&end)
                || socket.is_within_message()
                || opened_at.elapsed() < timing.short_lived);
        self.learn(&end, is_kill, &reason).await;
        Outcome::Failed(reason)
    }

    /// What the end of a connection says of our position.
    async fn learn(&mut self, end: &End, is_kill: bool, reason: &str) {
        match end {
            End::Backwards(_) => self.reset(reason).await,
            End::FutureCursor => match self.position.future_cursor() {
                Future::Backwards => self.reset(reason).await,
                Future::SteppedTooFar | Future::Nonsense => {}
            },
            _ if is_kill => {
                let Some(step) = self.position.killed() else { return };
                self.context.metrics.steps.increment(1);
                let to = step.to.map_or_else(|| "live".to_owned(), |to| to.to_string());
                let reason = clip(&format!("stepped over {} to {to}: {reason}", step.from));
                self.report(Report::Gap { host: self.host, reason }).await;
            }
            _ => {}
        }
    }

    /// Waits for a place among the dials, then dials and shakes hands.
    async fn open(&self) -> Result<Opened, OpenError> {
        let context = &self.context;
        let place = context.dials.acquire().await.expect("the dials are never closed");
        context.metrics.dials.increment(1);
        let cursor = self.position.cursor();
        let opening = handshake::open(&context.dial, &self.name, cursor, &context.user_agent);
        let opened = timeout(context.timing.dial_timeout, opening).await;
        context.metrics.dials.decrement(1);
        drop(place);
        opened.unwrap_or(Err(OpenError::Timeout))
    }

    /// Delivers what the host sends until something ends it.
    async fn stream(&mut self, socket: &mut Socket) -> End {
        loop {
            let end = match socket.next(&self.share).await {
                Ok(Incoming::Message(bytes, hold)) => self.message(bytes, hold).await,
                Ok(Incoming::TooBig { bytes, excerpt }) => {
                    self.count(bytes);
                    self.drop_frame(Reject::FrameTooBig, excerpt).await;
                    None
                }
                Err(ended) => {
                    if matches!(ended, Ended::Violation(Violation::Text)) {
                        self.drop_frame(Reject::FrameText, Bytes::new()).await;
                    }
                    Some(End::Socket(ended))
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Decodes what routing needs of one message and hands it on.
    async fn message(&mut self, bytes: Bytes, hold: Hold) -> Option<End> {
        self.count(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        match frame::peek(&bytes) {
            Ok(Peek::Event { kind, seq, did }) => {
                let did = did.map_or(Err(DidError::Syntax), Did::parse);
                let Some(seq) = usable(seq) else {
                    self.drop_frame(Reject::SeqMissing, excerpt(&bytes)).await;
                    return None;
                };
                self.numbered(seq, hold, bytes, Some((kind, did))).await
            }
            Ok(Peek::Unknown { seq }) => {
                self.context.metrics.unknown.increment(1);
                let seq = usable(seq)?;
                self.numbered(seq, hold, bytes, None).await
            }
            Ok(Peek::Info { name, message }) => {
                if name == Some("OutdatedCursor") && !self.outdated {
                    self.outdated = true;
                    let reason = clip(&format!("OutdatedCursor: {}", message.unwrap_or_default()));
                    self.report(Report::Gap { host: self.host, reason }).await;
                }
                None
            }
            Ok(Peek::Error { error: Some("FutureCursor"), .. }) => Some(End::FutureCursor),
            Ok(Peek::Error { error, message }) => {
                let (error, message) = (error.unwrap_or_default(), message.unwrap_or_default());
                Some(End::ErrorFrame(format!("{error}: {message}")))
            }
            Err(Malformed) => {
                self.drop_frame(Reject::FrameMalformed, excerpt(&bytes)).await;
                self.is_malformed_too_often().then_some(End::Malformed)
            }
        }
    }

    /// Takes a frame with a usable number: an event, or one to pass over.
    async fn numbered(
        &mut self,
        seq: HostSeq,
        hold: Hold,
        frame: Bytes,
        event: Option<(HostKind, Result<Did, DidError>)>,
    ) -> Option<End> {
        let prev = match self.position.receive(seq) {
            Judged::Rising { prev } => prev,
            Judged::Repeat => return None,
            Judged::Stale => {
                self.drop_frame(Reject::SeqStale, excerpt(&frame)).await;
                return None;
            }
            Judged::Backwards => return Some(End::Backwards(seq)),
        };
        let epoch = self.position.epoch();
        let ticket = Ticket { host: self.host, epoch, seq, prev, permit: hold.into_permit() };
        let content = match event {
            Some((kind, did)) => Content::Event { kind, did, frame },
            None => Content::Passed,
        };
        self.context.tripwire.pass(Point::AfterReceive);
        self.intake.deliver(Inbound { ticket, received: (self.context.clock)(), content });
        self.backoff.progress();
        None
    }

    /// Whether this was one malformed frame too many.
    fn is_malformed_too_often(&mut self) -> bool {
        let now = Instant::now();
        self.malformed.retain(|at| now - *at < MALFORMED_WINDOW);
        self.malformed.push_back(now);
        let too_often = self.malformed.len() >= MALFORMED_MAX;
        if too_often {
            self.malformed.clear();
        }
        too_often
    }

    fn count(&self, bytes: u64) {
        self.context.metrics.frames.increment(1);
        self.context.metrics.frame_bytes.increment(bytes);
    }

    async fn drop_frame(&self, reject: Reject, excerpt: Bytes) {
        self.context.metrics.dropped(reject);
        let at = (self.context.clock)();
        self.report(Report::Dropped { host: self.host, reject, excerpt, at }).await;
    }

    async fn reset(&mut self, reason: &str) {
        self.context.metrics.resets.increment(1);
        let epoch = self.position.reset();
        self.report(Report::Reset { host: self.host, epoch, reason: reason.to_owned() }).await;
    }

    /// Changes the state. While the crawler stops, nobody may be listening: then it is not said.
    async fn enter(&mut self, state: State, reason: String) {
        self.context.metrics.hosts(self.state).decrement(1);
        self.context.metrics.hosts(state).increment(1);
        self.state = state;
        tracing::debug!(host = %self.name, state = state.name(), reason, "host state");
        let at = (self.context.clock)();
        let report = Report::State { host: self.host, state, reason, at };
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = self.report(report) => {}
            () = stopped(&mut stop) => {}
        }
    }

    async fn report(&self, report: Report) {
        let (told, noted) = Told::new(report);
        if self.context.reports.send(told).await.is_err() {
            tracing::trace!(host = %self.name, "nobody reads reports");
        } else if let Some(noted) = noted {
            // It is never sent to: its end is the message.
            drop(noted.await);
        }
    }

    /// Waits while the intake is held; true if the crawler stopped.
    async fn released(&mut self) -> bool {
        let mut held = self.context.held.subscribe();
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => true,
            _released = held.wait_for(|held| !held) => false,
        }
    }

    /// Waits before the next dial; true if the crawler stopped.
    async fn wait(&mut self, wait: Duration, dialled_at: Instant) -> bool {
        let mut until = Instant::now() + wait;
        let soonest = dialled_at + self.context.timing.redial_spacing;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return true,
                () = self.redial.notified() => until = until.min(soonest),
                () = sleep_until(until) => return false,
            }
        }
    }
}

/// Resolves when the crawler stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that every handle is gone: then nobody could ever stop it.
    if stop.wait_for(|stopped| *stopped).await.is_err() {
        tracing::trace!("crawler has no handle");
    }
}

/// `seq`: 1 ≤ seq < 2^53 (protocol.md section 1).
fn usable(seq: Option<u64>) -> Option<HostSeq> {
    seq.and_then(HostSeq::new).filter(|seq| *seq != HostSeq::ZERO)
}

fn excerpt(frame: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&frame[..frame.len().min(EXCERPT_BYTES_MAX)])
}

/// Whether the host's own bytes made the connection end.
fn is_offence(end: &End) -> bool {
    match end {
        End::Socket(ended) => matches!(ended, Ended::Violation(_) | Ended::Slow | Ended::Controls),
        End::ErrorFrame(_) | End::Malformed => true,
        End::FutureCursor | End::Backwards(_) => false,
    }
}

fn describe(end: &End) -> String {
    clip(&match end {
        End::Socket(ended) => ended.to_string(),
        End::ErrorFrame(text) => format!("error frame: {text}"),
        End::FutureCursor => "error frame: FutureCursor".to_owned(),
        End::Backwards(seq) => format!("sequence went backwards: {seq}"),
        End::Malformed => "too many malformed frames".to_owned(),
    })
}

/// A reason may hold a host's own words: they are shortened, on one line.
fn clip(reason: &str) -> String {
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    reason.chars().take(REASON_CHARS_MAX).map(plain).collect()
}

/// What to close with; none where the host closed first, or does not listen.
fn close_code(end: &End) -> Option<u16> {
    match end {
        End::Socket(Ended::Violation(Violation::Text)) => Some(CLOSE_UNSUPPORTED),
        End::Socket(Ended::Violation(Violation::TooLong)) => Some(CLOSE_TOO_BIG),
        End::Socket(Ended::Violation(_)) => Some(CLOSE_PROTOCOL),
        End::Socket(Ended::Slow | Ended::Controls) => Some(CLOSE_POLICY),
        End::Socket(_) => None,
        _ => Some(CLOSE_POLICY),
    }
}

// RFC 6455 section 7.4.1.
const CLOSE_GOING_AWAY: u16 = 1001;
const CLOSE_PROTOCOL: u16 = 1002;
const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_POLICY: u16 = 1008;
const CLOSE_TOO_BIG: u16 = 1009;
