//! The shape of a guarded HTTP request: the stages ask, `relay` hands in what answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// One GET request.
#[derive(Clone, Debug)]
pub struct Get {
    /// Absolute http or https URL.
    pub url: String,
    /// For the whole exchange, redirects and body included.
    pub timeout: Duration,
    /// So much of the body is read.
    pub body_bytes_max: usize,
    /// What becomes of a longer body.
    pub longer: Longer,
    /// Redirects followed; each passes the guard again.
    pub redirects_max: u8,
}

/// What becomes of a body that is longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Longer {
    /// It is an error.
    Refused,
    /// Its head is the answer, and the connection is given up.
    Cut,
}

/// What came back, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The `Server` header, if it is text.
    pub server: Option<String>,
    /// How long the `Retry-After` header asks to wait, if there is one.
    pub retry_after: Option<Duration>,
    /// The body, within its limit.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL cannot be asked: syntax, scheme, port.
    #[error("bad address: {0}")]
    Address(String),
    /// The name resolves to an address that is not public, or to none (SSRF guard).
    #[error("forbidden address: {0}")]
    Forbidden(String),
    /// DNS says that the name does not exist or has no address.
    #[error("no such name: {0}")]
    NoSuchName(String),
    /// Not reached, or broken off.
    #[error("connection failed: {0}")]
    Connection(String),
    /// Out of time.
    #[error("timed out")]
    Timeout,
    /// A body over the limit, or too many redirects.
    #[error("answer over its limit")]
    TooBig,
}

/// Does GET requests: every one through the guard, with a place in a bounded pool.
#[derive(Clone)]
pub struct Fetch(Arc<Fetcher>);

type Fetcher = dyn Fn(Get) -> FetchFuture + Send + Sync;
type FetchFuture = Pin<Box<dyn Future<Output = Result<Answer, FetchError>> + Send>>;

impl Fetch {
    /// From the function that does it.
    pub fn new<F, R>(fetcher: F) -> Self
    where
        F: Fn(Get) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Answer, FetchError>> + Send + 'static,
    {
        Self(Arc::new(move |get| Box::pin(fetcher(get))))
    }

    /// Does the request.
    pub async fn get(&self, get: Get) -> Result<Answer, FetchError> {
        (self.0)(get).await
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetch")
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn what_was_handed_in_is_asked() {
        let fetch = Fetch::new(|get: Get| async move { Err(FetchError::Address(get.url)) });
        let get = Get {
            url: "https://example.com/".to_owned(),
            timeout: Duration::from_secs(1),
            body_bytes_max: 1000,
            longer: Longer::Refused,
            redirects_max: 0,
        };
        let future = pin!(fetch.get(get));
        let Poll::Ready(answer) = future.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing to wait for");
        };
        let expected = FetchError::Address("https://example.com/".to_owned());
        assert_eq!(answer.map(|answer| answer.status), Err(expected));
    }
}
