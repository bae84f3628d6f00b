//! What is counted of the requests that are really sent, by upstream. Directories are numbered as
//! the operator gave them; all `did:web` hosts are one upstream, and so are all hosts that are
//! asked about an account: no label is a name that somebody else chose.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use protocol::fetch::{Answer, FetchError};

/// The handles of one upstream.
#[derive(Clone)]
pub(super) struct Requests {
    /// In the order of [`Ended`].
    ended: [Counter; 5],
    seconds: Histogram,
    waiting: Gauge,
    shut: Gauge,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With an answer: the upstream is well, whatever it says.
    Answered,
    /// "Too many requests", or a time to come back at.
    Busy,
    /// Another status.
    Failed,
    /// Out of time.
    Timeout,
    /// No connection, or none that is allowed; an answer over its limit.
    Unreachable,
}

/// Counts as waiting until it is dropped.
pub(super) struct Waiting(Gauge);

impl Requests {
    /// Of the directory of this index.
    pub(super) fn of_plc(index: usize) -> Self {
        Self::register(PLC[index.min(PLC.len() - 1)])
    }

    /// Of all `did:web` hosts.
    pub(super) fn of_web() -> Self {
        Self::register("web")
    }

    /// Of all hosts that are asked about accounts.
    pub(super) fn of_hosts() -> Self {
        Self::register("host")
    }

    fn register(upstream: &'static str) -> Self {
        describe_counter!(
            "mainstem_verifier_upstream_requests_total",
            "Requests sent for look-ups, by upstream and how they ended."
        );
        describe_histogram!(
            "mainstem_verifier_upstream_seconds",
            Unit::Seconds,
            "How long requests for look-ups took, by upstream."
        );
        describe_gauge!(
            "mainstem_verifier_upstream_waiting",
            "Look-ups that wait for their turn at an upstream."
        );
        describe_gauge!(
            "mainstem_verifier_upstream_shut",
            "1 while a directory is left alone for its failures or because it asked for it."
        );
        let ended = ["answered", "busy", "failed", "timeout", "unreachable"].map(|outcome| {
            let name = "mainstem_verifier_upstream_requests_total";
            counter!(name, "upstream" => upstream, "outcome" => outcome)
        });
        Self {
            ended,
            seconds: histogram!("mainstem_verifier_upstream_seconds", "upstream" => upstream),
            waiting: gauge!("mainstem_verifier_upstream_waiting", "upstream" => upstream),
            shut: gauge!("mainstem_verifier_upstream_shut", "upstream" => upstream),
        }
    }

    /// A look-up begins to wait for its turn.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.increment(1.0);
        Waiting(self.waiting.clone())
    }

    /// A request has ended.
    pub(super) fn ended(&self, how: Ended, took: Duration) {
        self.ended[how as usize].increment(1);
        self.seconds.record(took.as_secs_f64());
    }

    /// The upstream is left alone, or no longer.
    pub(super) fn shut(&self, is_shut: bool) {
        self.shut.set(if is_shut { 1.0 } else { 0.0 });
    }
}

impl Ended {
    /// How a request with this answer ended.
    pub(super) fn of(answer: &Result<Answer, FetchError>) -> Self {
        match answer {
            Err(FetchError::Timeout) => Self::Timeout,
            Err(_) => Self::Unreachable,
            Ok(Answer { status: 429, .. }) => Self::Busy,
            Ok(Answer { status: 500..=599, retry_after: Some(_), .. }) => Self::Busy,
            Ok(Answer { status: 200 | 400 | 404 | 410, .. }) => Self::Answered,
            Ok(_) => Self::Failed,
        }
    }

    /// The same of a question about an account: a host that does not know it has answered.
    pub(super) fn of_status(answer: &Result<Answer, FetchError>) -> Self {
        match answer {
            Ok(Answer { status: 401 | 501, .. }) => Self::Answered,
            _ => Self::of(answer),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Labels of directories; more than these share the last.
const PLC: [&str; 8] = ["plc_1", "plc_2", "plc_3", "plc_4", "plc_5", "plc_6", "plc_7", "plc_8"];
