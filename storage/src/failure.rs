//! The first error of the store: whoever finds it reports it here, and the process must end (I6).

use std::sync::Arc;

use tokio::sync::watch;

use crate::Error;

/// Set once, by the sequencer, a reader or the retention thread.
#[derive(Clone)]
pub(crate) struct Failure(Arc<watch::Sender<Option<Error>>>);

impl Failure {
    pub(crate) fn none_yet() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// The first one wins.
    pub(crate) fn report(&self, error: &Error) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!(%error, "store failed");
                *first = Some(error.clone());
            }
            is_first
        });
    }

    pub(crate) fn happened(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Resolves with the first error, if there ever is one.
    pub(crate) async fn wait(&self) -> Error {
        let mut failure = self.0.subscribe();
        let first = failure.wait_for(Option::is_some).await;
        first.expect("the sender is held here").clone().expect("waited for it")
    }
}
