//! One host's task: dial, stream, rest, for ever. A reason for every state, and since when; the
//! table of the states is in `docs/hosts.md`.

mod end;
mod stream;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::host::HostName;
use protocol::host_state::{HostState, Meter};
use protocol::ids::{HostId, HostSeq, Micros};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::budget::Share;
use crate::containment::contain;
use crate::crawler::{Context, Start, Starting};
use crate::handshake::{self, OpenError, Opened};
use crate::inbound::Intake;
use crate::limits::{IDLE_ACCOUNTS_MAX, Timing};
use crate::live::Pulse;
use crate::orders::{Orders, stopped};
use crate::position::{Future, Position, Resume};
use crate::report::{Report, Told};
use crate::socket::Socket;
use crate::throttle::{Delay, Throttle};

use self::end::{End, clip};

/// The state of one host's task, which owns all of it.
pub(crate) struct Subscription {
    context: Arc<Context>,
    host: HostId,
    name: HostName,
    intake: Arc<dyn Intake>,
    accounts: Arc<AtomicU64>,
    position: Position,
    share: Arc<Share>,
    backoff: Backoff,
    throttle: Throttle,
    /// What the last message has to be waited for.
    delay: Option<Delay>,
    /// It is held back by its limits: since when, and how often its socket had been empty by then.
    held_back: Option<(Instant, u64)>,
    inside: Inside,
    state: HostState,
    /// Until it has dialled.
    starting: Option<Starting>,
    /// When the last attempt ended.
    ended_at: Option<Instant>,
    /// The polls so far.
    polls: u32,
    /// The last state that was told may not be noted yet.
    is_unheard: bool,
    /// When the malformed frames of the last minute came, at most
    /// [`MALFORMED_MAX`](crate::limits::MALFORMED_MAX).
    malformed: VecDeque<Instant>,
    /// `OutdatedCursor` was reported of this connection.
    outdated: bool,
    /// `OutdatedCursor` was reported of a poll: what the host has is gone before we ask again.
    forgets: bool,
    /// A host that asked for us is not quiet for [`Timing::idle_after`](crate::Timing::idle_after).
    asked_at: Micros,
    /// The meter that was reported last, and when the next one is due.
    told: Meter,
    meter_due: Micros,
    /// When its lag was looked at.
    sampled: Micros,
}

/// What a task shares with its handle.
pub(crate) struct Inside {
    /// `requestCrawl` came.
    pub(crate) redial: Arc<Notify>,
    pub(crate) pulse: Arc<Pulse>,
    /// The only receiver but for its clones on the task's stack: it is gone with the task.
    pub(crate) orders: watch::Receiver<Orders>,
}

/// How an attempt to stream ended.
enum Outcome {
    /// By an order.
    Stopped,
    /// Not opened: the host is a relay.
    Relay,
    /// By us, since the host is quiet.
    Quiet,
    /// Any other way; why.
    Failed(String),
}

/// What comes before a connection.
struct Rest {
    state: HostState,
    reason: String,
    wait: Duration,
}

/// What ended a rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// The order to stop.
    Stop,
    /// `requestCrawl`.
    Redial,
    /// Its end.
    Time,
}

/// How a connection is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To follow the host.
    Follow,
    /// To see whether a quiet host has something.
    Poll,
}

impl Subscription {
    /// The task of a host, not yet running.
    pub(crate) fn new(context: Arc<Context>, start: Start, inside: Inside) -> Self {
        let resume = match start.cursor {
            Resume::After(HostSeq::ZERO) => Resume::Oldest,
            resume => resume,
        };
        let timing = context.timing;
        let now = (context.clock)();
        let Meter { hour, day, last_event, .. } = start.meter;
        context.metrics.hosts(start.state).increment(1);
        Self {
            host: start.id,
            name: start.name,
            intake: start.intake,
            accounts: start.accounts,
            position: Position::new(start.epoch, resume),
            share: Share::new(&context.pool),
            backoff: Backoff::new(timing.back_off_min, timing.back_off_max),
            throttle: Throttle::new(start.allowance, hour, day, now),
            delay: None,
            held_back: None,
            inside,
            state: start.state,
            starting: None,
            ended_at: None,
            polls: 0,
            is_unheard: false,
            malformed: VecDeque::new(),
            outdated: false,
            forgets: false,
            asked_at: if last_event == Micros::default() { now } else { last_event },
            told: start.meter,
            meter_due: now.plus(timing.meter_interval),
            sampled: Micros::default(),
            context,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut rest = self.first_rest();
        loop {
            let woken = self.rest(&rest).await;
            let purpose = match woken {
                Woken::Stop => break,
                Woken::Time if rest.state == HostState::Idle => Purpose::Poll,
                Woken::Time | Woken::Redial => Purpose::Follow,
            };
            if purpose == Purpose::Follow {
                let reason = if woken == Woken::Redial { REDIAL } else { &rest.reason };
                self.enter(HostState::Connecting, reason.to_owned()).await;
            }
            rest = match self.attempt(purpose).await {
                Outcome::Stopped => break,
                Outcome::Relay => Rest {
                    state: HostState::Refused,
                    reason: "host is a relay".to_owned(),
                    wait: self.context.timing.refused_wait,
                },
                Outcome::Quiet => self.idle_rest(),
                Outcome::Failed(reason) => Rest {
                    state: HostState::BackingOff,
                    reason,
                    wait: self.backoff.next(rand::random()),
                },
            };
            self.ended_at = Some(Instant::now());
            self.tell_meter(false).await;
        }
        self.context.metrics.hosts(self.state).decrement(1);
        // Reports are noted in their order. So when the task has ended, all that it said of its
        // state is noted, and whoever ended it has the last word about why.
        self.tell_meter(self.is_unheard).await;
    }

    /// A host that was quiet is polled as if there had been no restart; any other is dialled, in
    /// its turn.
    fn first_rest(&mut self) -> Rest {
        let was_idle = self.state == HostState::Idle && self.told.connects > 0;
        if was_idle && self.may_be_idle() {
            let Rest { state, reason, wait } = self.idle_rest();
            return Rest { state, reason, wait: part(wait) };
        }
        let (starting, before) = self.context.starting();
        self.starting = Some(starting);
        let all = u32::try_from(before).unwrap_or(u32::MAX);
        let spread = self.context.timing.start_spacing.saturating_mul(all);
        let wait = if before > self.context.dials_max { part(spread) } else { Duration::ZERO };
        Rest { state: HostState::Connecting, reason: String::new(), wait }
    }

    fn idle_rest(&self) -> Rest {
        let every = self.context.timing.idle_poll;
        let reason = "quiet: asked for news now and then".to_owned();
        Rest { state: HostState::Idle, reason, wait: every * 3 / 4 + part(every / 2) }
    }

    /// Whether nothing is lost by leaving the host, should it be quiet: it can be asked for what
    /// came meanwhile, and keeps that long enough.
    fn may_be_idle(&self) -> bool {
        self.position.cursor().is_some()
            && !self.forgets
            && self.accounts.load(Ordering::Relaxed) <= IDLE_ACCOUNTS_MAX
    }

    fn is_quiet(&self) -> bool {
        let heard = self.inside.pulse.last_event().max(self.asked_at);
        let now = (self.context.clock)();
        self.may_be_idle() && now.since(heard) >= self.context.timing.idle_after
    }

    /// How long after the last attempt anybody can have the host dialled.
    fn redial_spacing(&self, state: HostState) -> Duration {
        let Timing { redial_spacing, redial_spacing_max, .. } = self.context.timing;
        match state {
            HostState::Refused => redial_spacing_max.max(redial_spacing),
            _ => self.backoff.spacing(redial_spacing, redial_spacing_max),
        }
    }

    /// Waits until it is time to dial, and while the intake is held.
    async fn rest(&mut self, rest: &Rest) -> Woken {
        let due = Instant::now() + rest.wait;
        let mut until = due;
        self.inside.pulse.words().next_dial = Some((self.context.clock)().plus(rest.wait));
        self.enter(rest.state, rest.reason.clone()).await;
        let mut woken = Woken::Time;
        let soonest = self.ended_at.map(|at| at + self.redial_spacing(rest.state));
        let mut held = self.context.held.subscribe();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.inside.orders) => return Woken::Stop,
                () = self.inside.redial.notified() => {
                    let now = Instant::now();
                    until = until.min(soonest.unwrap_or(now).max(now));
                    woken = Woken::Redial;
                    let dial_at = (self.context.clock)().plus(until - now);
                    self.inside.pulse.words().next_dial = Some(dial_at);
                    self.asked_at = (self.context.clock)();
                }
                () = sleep_until(until) => break,
            }
        }
        tokio::select! {
            biased;
            () = stopped(&mut self.inside.orders) => return Woken::Stop,
            _released = held.wait_for(|held| !held) => {}
        }
        self.inside.pulse.words().next_dial = None;
        if until < due {
            self.backoff.called();
        }
        woken
    }

    /// One connection from its dial to its end. A panic in it is an end like others.
    async fn attempt(&mut self, purpose: Purpose) -> Outcome {
        let before = self.position.last();
        // A host that rests needs no room for what a connection needs.
        match contain(Box::pin(self.connection(purpose))).await {
            Ok(outcome) => outcome,
            Err(message) => {
                tracing::error!(host = %self.name, message, "host's connection panicked");
                self.context.metrics.panics.increment(1);
                let reason = clip(&format!("bug of the relay, please report: {message}"));
                // No ticket is lost by it: what was not handed on is asked for again. If it panics
                // again and again, it is stepped over.
                if self.position.last() == before {
                    self.killed(&reason).await;
                }
                Outcome::Failed(reason)
            }
        }
    }

    async fn connection(&mut self, purpose: Purpose) -> Outcome {
        let mut orders = self.inside.orders.clone();
        let opened = tokio::select! {
            biased;
            () = stopped(&mut orders) => return Outcome::Stopped,
            opened = Box::pin(self.open()) => opened,
        };
        self.starting = None;
        let opened = match opened {
            Ok(opened) => opened,
            Err(OpenError::Relay) => return Outcome::Relay,
            Err(error) => return Outcome::Failed(clip(&error.to_string())),
        };
        let opened_at = Instant::now();
        let before = self.position.last();
        let mut socket = self.opened(opened);
        let end = tokio::select! {
            biased;
            () = stopped(&mut orders) => None,
            end = self.follow(&mut socket, purpose) => Some(end),
        };
        let Some(end) = end else {
            socket.close(&end::GOING_AWAY.to_be_bytes()).await;
            return Outcome::Stopped;
        };
        if let Some(code) = end.close_code() {
            socket.close(&code.to_be_bytes()).await;
        }
        if matches!(end, End::Quiet) {
            return Outcome::Quiet;
        }
        let reason = end.describe();
        let is_stuck = self.position.last() == before;
        let is_kill = is_stuck
            && (end.is_offence()
                || socket.is_within_message()
                || opened_at.elapsed() < self.context.timing.short_lived);
        self.learn(&end, is_kill, &reason).await;
        Outcome::Failed(reason)
    }

    /// Waits for a place among the dials, then dials and shakes hands.
    async fn open(&self) -> Result<Opened, OpenError> {
        let context = &self.context;
        let _place = context.dial_place().await;
        let cursor = self.position.cursor();
        let opening = handshake::open(&context.dial, &self.name, cursor, &context.user_agent);
        let opened = timeout(context.timing.dial_timeout, opening).await;
        opened.unwrap_or(Err(OpenError::Timeout))
    }

    /// A connection is there.
    fn opened(&mut self, opened: Opened) -> Socket {
        self.context.metrics.connects.increment(1);
        self.inside.pulse.words().connects += 1;
        self.obey((self.context.clock)());
        self.position.opened();
        self.outdated = false;
        self.held_back = None;
        self.delay = None;
        let pulse = Arc::clone(&self.inside.pulse);
        let opened_at = (self.context.clock)();
        Socket::new(opened, self.context.timing, self.context.held.subscribe(), (pulse, opened_at))
    }

    /// The limits as they are ordered.
    fn obey(&mut self, now: Micros) {
        let allowance = self.inside.orders.borrow_and_update().allowance;
        if allowance != self.throttle.allowance() {
            self.throttle.allow(allowance, now);
        }
    }

    /// What the end of a connection says of our position.
    async fn learn(&mut self, end: &End, is_kill: bool, reason: &str) {
        match end {
            End::Backwards(_) => self.reset(reason).await,
            End::FutureCursor => match self.position.future_cursor() {
                Future::Backwards => self.reset(reason).await,
                Future::SteppedTooFar | Future::Nonsense => {}
            },
            _ if is_kill => self.killed(reason).await,
            _ => {}
        }
    }

    /// The position has killed a connection.
    async fn killed(&mut self, reason: &str) {
        let Some(step) = self.position.killed() else { return };
        self.context.metrics.steps.increment(1);
        let to = step.to.map_or_else(|| "live".to_owned(), |to| to.to_string());
        let reason = clip(&format!("stepped over {} to {to}: {reason}", step.from));
        self.report(Report::Gap { host: self.host, reason }).await;
    }

    async fn reset(&mut self, reason: &str) {
        self.context.metrics.resets.increment(1);
        let epoch = self.position.reset();
        self.inside.pulse.reset(epoch);
        self.report(Report::Reset { host: self.host, epoch, reason: reason.to_owned() }).await;
    }

    /// Changes the state. While the crawler stops, nobody may be listening: then it is not said.
    async fn enter(&mut self, state: HostState, reason: String) {
        let at = (self.context.clock)();
        if !self.show(state, &reason, at) {
            return;
        }
        tracing::debug!(host = %self.name, state = state.name(), reason, "host state");
        let report = Report::State { host: self.host, state, reason, at };
        let mut orders = self.inside.orders.clone();
        self.is_unheard = true;
        tokio::select! {
            biased;
            () = self.report(report) => {}
            () = stopped(&mut orders) => {}
        }
    }

    /// Whether that is anything new.
    fn show(&mut self, state: HostState, reason: &str, at: Micros) -> bool {
        let mut words = self.inside.pulse.words();
        if words.state == state && *words.reason == *reason && words.was_told {
            return false;
        }
        words.was_told = true;
        words.state = state;
        words.since = at;
        words.reason = reason.into();
        words.failures = self.backoff.failures();
        if matches!(state, HostState::BackingOff | HostState::Refused) {
            words.last_error = Some((at, Arc::clone(&words.reason)));
        }
        drop(words);
        self.context.metrics.hosts(self.state).decrement(1);
        self.context.metrics.hosts(state).increment(1);
        self.state = state;
        true
    }

    /// Tells what was counted, if that is more than was told, or anyway. When it has told that,
    /// what was told before is noted as well.
    async fn tell_meter(&mut self, anyway: bool) {
        let now = (self.context.clock)();
        self.meter_due = now.plus(self.context.timing.meter_interval);
        let [hour, day] = self.throttle.levels(now);
        let meter = {
            let mut words = self.inside.pulse.words();
            (words.hour, words.day) = (hour, day);
            self.inside.pulse.meter(&words)
        };
        let is_new = (meter.events, meter.connects) != (self.told.events, self.told.connects);
        if is_new || anyway {
            self.told = meter;
            self.report(Report::Meter { host: self.host, meter }).await;
            self.is_unheard = false;
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
}

/// Why a host is dialled before its time.
const REDIAL: &str = "requestCrawl";

/// A random part of a wait, so that hosts do not keep step.
fn part(wait: Duration) -> Duration {
    wait.mul_f64(rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F>(_: impl Fn(Subscription) -> F) -> usize {
        size_of::<F>()
    }

    /// 100,000 hosts are planned for, most of which rest: 200 MB.
    #[test]
    fn a_task_at_rest_is_at_most_2_kib() {
        let bytes = future_bytes(Subscription::run);
        assert!(bytes <= 2 * 1024, "{bytes}");
    }
}
