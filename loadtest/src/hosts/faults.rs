//! What goes wrong with a host's answers, and what its listing hides.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::answers::{auth_missing, refusal};
use crate::world::account::RepoRow;

/// What goes wrong with a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The answer comes this late.
    Slow(Duration),
    /// The answer is this status, with `Retry-After` in seconds if there is one.
    Busy {
        /// 429 or 503.
        status: u16,
        /// Seconds.
        retry_after: Option<u32>,
    },
    /// The method is not there: `401 AuthMissing`, as the reference PDS answers about what it
    /// does not know.
    Hidden,
    /// No answer comes, and the connection stays.
    Hang,
    /// The answer's head promises a body that never ends.
    Endless,
}

/// What the listing says of an account, whatever else the host answers about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It is not in it.
    Absent,
    /// It is in it like this.
    Stale(RepoRow),
}

/// Faults by method; one for all others.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    of: BTreeMap<String, Fault>,
    all: Fault,
}

impl Faults {
    /// Sets the fault of a method; of `None`: of all, and forgets those of single ones.
    pub(super) fn set(&mut self, method: Option<&str>, fault: Fault) {
        match method {
            Some(method) => {
                self.of.insert(method.to_owned(), fault);
            }
            None => *self = Self { all: fault, ..Self::default() },
        }
    }

    /// The fault of a path. Streams have their own ways to fail.
    pub(super) fn of_path(&self, path: &str) -> Fault {
        match path.strip_prefix("/xrpc/") {
            None | Some("com.atproto.sync.subscribeRepos") => Fault::None,
            Some(method) => self.of.get(method).copied().unwrap_or(self.all),
        }
    }
}

impl Fault {
    /// The answer in place of the true one, if there is one.
    pub(super) async fn answer(self) -> Option<Response> {
        match self {
            Self::None => None,
            Self::Slow(delay) => {
                tokio::time::sleep(delay).await;
                None
            }
            Self::Busy { status, retry_after } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
                let mut response = refusal(status, "RateLimitExceeded");
                if let Some(seconds) = retry_after {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                Some(response)
            }
            Self::Hidden => Some(auth_missing().await),
            Self::Hang => std::future::pending().await,
            Self::Endless => Some(super::cars::endless()),
        }
    }
}
