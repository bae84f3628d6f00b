//! What a running task is told from outside: to stop, and how fast to read.

use protocol::host_state::Allowance;
use tokio::sync::watch;

/// The orders in force for one task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    /// Close the connection and end.
    pub(crate) stop: bool,
    /// How fast to read.
    pub(crate) allowance: Allowance,
}

/// Resolves when the task is to end.
pub(crate) async fn stopped(orders: &mut watch::Receiver<Orders>) {
    // An error means that every handle is gone: then nobody could ever stop it.
    if orders.wait_for(|orders| orders.stop).await.is_err() {
        tracing::trace!("crawler has no handle");
    }
}
