//! A connection while it lasts: what comes in is looked at once and handed on, no faster than the
//! host may send.

use bytes::Bytes;
use protocol::datetime;
use protocol::did::{Did, DidError};
use protocol::frame::{self, HostKind, Malformed, Peek};
use protocol::host_state::HostState;
use protocol::ids::{HostSeq, Micros};
use protocol::reject::Reject;
use protocol::ticket::Ticket;
use protocol::tripwire::Point;
use tokio::time::{Instant, sleep_until};

use super::end::{End, clip};
use super::{Purpose, Subscription};
use crate::budget::Hold;
use crate::inbound::{Content, Inbound};
use crate::limits::{
    EXCERPT_BYTES_MAX, MALFORMED_MAX, MALFORMED_WINDOW, PATIENT_POLL_EVERY, PATIENT_POLL_TIMES,
    SAMPLE_INTERVAL,
};
use crate::position::Judged;
use crate::report::Report;
use crate::socket::{Ended, Incoming, Socket, Violation};
use crate::throttle::Delay;

impl Subscription {
    /// From the handshake to the end. A poll that hears nothing is over soon, and nobody needs to
    /// know of it.
    pub(super) async fn follow(&mut self, socket: &mut Socket, purpose: Purpose) -> End {
        if purpose == Purpose::Poll
            && let Some(end) = self.listen(socket).await
        {
            return end;
        }
        if self.state != HostState::Throttled {
            self.enter(HostState::Streaming, String::new()).await;
        }
        loop {
            if let Some(end) = self.step(socket).await {
                return end;
            }
        }
    }

    /// Until there is something new, or the end: that nothing was left to read when the time was
    /// over. A message that is arriving by then, or that waits for room, is waited for; who goes on
    /// sending what is no news is followed.
    async fn listen(&mut self, socket: &mut Socket) -> Option<End> {
        self.context.metrics.polls.increment(1);
        self.polls = self.polls.wrapping_add(1);
        let is_patient = self.polls.is_multiple_of(PATIENT_POLL_EVERY);
        let time =
            self.context.timing.poll_listen * if is_patient { PATIENT_POLL_TIMES } else { 1 };
        socket.listen_for(time);
        let (before, followed_at) = (self.position.last(), Instant::now() + 2 * time);
        while self.position.last() == before {
            if let Some(end) = self.step(socket).await {
                return Some(end);
            }
            if self.outdated {
                self.forgets = true;
                break;
            }
            if Instant::now() >= followed_at {
                break;
            }
        }
        socket.listen_on();
        None
    }

    /// Takes one message, and waits for as long as the host may not send another one.
    async fn step(&mut self, socket: &mut Socket) -> Option<End> {
        let end = match socket.next(&self.share).await {
            Ok(Incoming::Message(bytes, hold)) => self.message(bytes, hold).await,
            Ok(Incoming::TooBig { bytes, excerpt }) => {
                let now = self.count(bytes);
                self.drop_frame(Reject::FrameTooBig, excerpt, now).await;
                None
            }
            Ok(Incoming::Quiet) => {
                self.tell_meter(false).await;
                // A poll has a time of its own; and nobody is left in the middle of a message.
                let may_leave = self.state != HostState::Idle && !socket.is_within_message();
                if may_leave && self.is_quiet() {
                    Some(End::Quiet)
                } else {
                    socket.keep_alive().await.err().map(End::Socket)
                }
            }
            Ok(Incoming::Drained) => {
                self.enter(HostState::Streaming, String::new()).await;
                None
            }
            Ok(Incoming::Nothing) => Some(End::Quiet),
            Err(ended) => {
                if matches!(ended, Ended::Violation(Violation::Text)) {
                    let now = self.count(0);
                    self.drop_frame(Reject::FrameText, Bytes::new(), now).await;
                }
                Some(End::Socket(ended))
            }
        };
        if end.is_some() {
            return end;
        }
        let delay = self.delay.take()?;
        self.hold_back(delay, socket).await
    }

    /// Decodes what routing needs of one message and hands it on.
    async fn message(&mut self, bytes: Bytes, hold: Hold) -> Option<End> {
        let now = self.count(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        match frame::peek(&bytes) {
            Ok(Peek::Event { kind, seq, did }) => {
                let did = did.map_or(Err(DidError::Syntax), Did::parse);
                let Some(seq) = usable(seq) else {
                    self.drop_frame(Reject::SeqMissing, excerpt(&bytes), now).await;
                    return None;
                };
                self.numbered((seq, now), hold, bytes, Some((kind, did))).await
            }
            Ok(Peek::Unknown { seq }) => {
                self.context.metrics.unknown.increment(1);
                let seq = usable(seq)?;
                self.numbered((seq, now), hold, bytes, None).await
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
                self.drop_frame(Reject::FrameMalformed, excerpt(&bytes), now).await;
                self.is_malformed_too_often().then_some(End::Malformed)
            }
        }
    }

    /// Takes a frame with a usable number: an event, or one to pass over.
    async fn numbered(
        &mut self,
        (seq, received): (HostSeq, Micros),
        hold: Hold,
        frame: Bytes,
        event: Option<(HostKind, Result<Did, DidError>)>,
    ) -> Option<End> {
        let prev = match self.position.judge(seq) {
            Judged::Rising { prev } => prev,
            Judged::Repeat => return None,
            Judged::Stale => {
                self.drop_frame(Reject::SeqStale, excerpt(&frame), received).await;
                return None;
            }
            Judged::Backwards => return Some(End::Backwards(seq)),
        };
        if received.since(self.sampled) >= SAMPLE_INTERVAL {
            self.sample(&frame, received);
        }
        let epoch = self.position.epoch();
        let ticket = Ticket { host: self.host, epoch, seq, prev, permit: hold.into_permit() };
        let content = match event {
            Some((kind, did)) => Content::Event { kind, did, frame },
            None => Content::Passed,
        };
        self.context.tripwire.pass(Point::AfterReceive);
        self.intake.deliver(Inbound { ticket, received, content });
        // Not before: a panic on the way must not make a hole in the chain of tickets.
        self.position.take(seq);
        self.inside.pulse.event(seq, received);
        self.backoff.progress();
        if received >= self.meter_due {
            self.tell_meter(false).await;
        }
        None
    }

    /// Counts a message; says when it came.
    fn count(&mut self, bytes: u64) -> Micros {
        let now = (self.context.clock)();
        self.context.metrics.frames.increment(1);
        self.context.metrics.frame_bytes.increment(bytes);
        self.inside.pulse.message(bytes);
        if self.inside.orders.has_changed().unwrap_or(false) {
            self.obey(now);
        }
        if !self.throttle.take(now) {
            self.delay = self.throttle.delay(now);
        }
        now
    }

    /// What costs too much for every event.
    fn sample(&mut self, frame: &[u8], received: Micros) {
        self.sampled = received;
        let time = frame::event_time(frame).and_then(|time| datetime::parse(time).ok());
        let lag = time.map(|time| received.since(time));
        if let Some(lag) = lag {
            self.context.metrics.lag.record(lag);
        }
        let [hour, day] = self.throttle.levels(received);
        let mut words = self.inside.pulse.words();
        (words.lag, words.hour, words.day) = (lag.or(words.lag), hour, day);
    }

    /// Reads nothing until the host may send again. Pings go on.
    async fn hold_back(&mut self, delay: Delay, socket: &mut Socket) -> Option<End> {
        let began = Instant::now();
        let drained = socket.drained_times();
        let since = match self.held_back {
            Some((since, before)) if before == drained => since,
            _ => began,
        };
        self.held_back = Some((since, drained));
        let mut until = began + delay.wait;
        let is_long = until - since > self.context.timing.throttled_after;
        if is_long && self.state != HostState::Throttled {
            self.enter(HostState::Throttled, delay.to_string()).await;
            socket.tell_drained();
        }
        while Instant::now() < until {
            tokio::select! {
                biased;
                Ok(()) = self.inside.orders.changed() => until = self.reconsider(),
                () = sleep_until(until.min(socket.ping_at())) => {}
            }
            if let Err(ended) = socket.keep_alive().await {
                return Some(End::Socket(ended));
            }
        }
        socket.resume();
        let waited = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.context.metrics.throttled.increment(waited);
        None
    }

    /// The limits have changed: until when to wait by the ones in force.
    fn reconsider(&mut self) -> Instant {
        let now = (self.context.clock)();
        self.obey(now);
        let wait = self.throttle.delay(now).map(|delay| delay.wait);
        Instant::now() + wait.unwrap_or_default()
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

    async fn drop_frame(&self, reject: Reject, excerpt: Bytes, at: Micros) {
        self.context.metrics.dropped(reject);
        self.report(Report::Dropped { host: self.host, reject, excerpt, at }).await;
    }
}

/// `seq`: 1 ≤ seq < 2^53 (protocol.md section 1).
fn usable(seq: Option<u64>) -> Option<HostSeq> {
    seq.and_then(HostSeq::new).filter(|seq| *seq != HostSeq::ZERO)
}

fn excerpt(frame: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&frame[..frame.len().min(EXCERPT_BYTES_MAX)])
}
