//! The shape of a DNS question for TXT records: the verifier asks, `relay` hands in what answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxtError {
    /// DNS says that there are none: the name does not exist, or has other records only.
    #[error("no such record")]
    NotFound,
    /// DNS does not say: out of time, or a server failed.
    #[error("DNS failed: {0}")]
    Failed(String),
}

/// Asks DNS for the TXT records of a name. Each record is its strings joined, as they are read
/// (RFC 7208 section 3.3), and not necessarily text.
#[derive(Clone)]
pub struct Txt(Arc<Asker>);

type Asker = dyn Fn(String) -> TxtFuture + Send + Sync;
type TxtFuture = Pin<Box<dyn Future<Output = Result<Vec<Vec<u8>>, TxtError>> + Send>>;

impl Txt {
    /// From the function that does it.
    pub fn new<F, R>(asker: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<Vec<u8>>, TxtError>> + Send + 'static,
    {
        Self(Arc::new(move |name| Box::pin(asker(name))))
    }

    /// Asks. The name is a whole one; no search domain is tried behind it.
    pub async fn ask(&self, name: String) -> Result<Vec<Vec<u8>>, TxtError> {
        (self.0)(name).await
    }
}

impl fmt::Debug for Txt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Txt")
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn what_was_handed_in_is_asked() {
        let txt = Txt::new(|name: String| async move { Ok(vec![name.into_bytes()]) });
        let future = pin!(txt.ask("_atproto.example.com".to_owned()));
        let Poll::Ready(records) = future.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing to wait for");
        };
        assert_eq!(records, Ok(vec![b"_atproto.example.com".to_vec()]));
    }
}
