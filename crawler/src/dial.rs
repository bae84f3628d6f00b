//! The guarded dialer that `relay` hands in: how the crawler reaches a host.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use protocol::host::HostName;
use tokio::io::{AsyncRead, AsyncWrite};

/// An open connection to a host: TCP, or TLS over it.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Why a host cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Its name resolves to no address, or to one that is not public (SSRF guard).
    #[error("forbidden address: {0}")]
    Forbidden(String),
    /// Refused, timed out, or TLS failed.
    #[error("connection failed: {0}")]
    Connection(String),
}

/// Opens a guarded transport to a host, TLS included where its name asks for it. The crawler
/// limits the time and how many dial at once.
#[derive(Clone)]
pub struct Dial(Arc<Dialer>);

type Dialer = dyn Fn(HostName) -> DialFuture + Send + Sync;
type DialFuture = Pin<Box<dyn Future<Output = Result<Box<dyn Transport>, DialError>> + Send>>;

impl Dial {
    /// From the function that does it.
    pub fn new<F, R>(dialer: F) -> Self
    where
        F: Fn(HostName) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Box<dyn Transport>, DialError>> + Send + 'static,
    {
        Self(Arc::new(move |host| Box::pin(dialer(host))))
    }

    /// Does it.
    pub(crate) async fn open(&self, host: HostName) -> Result<Box<dyn Transport>, DialError> {
        (self.0)(host).await
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}
