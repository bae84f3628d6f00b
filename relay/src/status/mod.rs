//! The status of the relay, its hosts and accounts, for everybody: JSON, and pages for browsers.
//!
//! Nothing here is on the way of events: it reads what the stages have noted, a few visitors at a
//! time, and each address has its pace.

mod front;

mod find;

mod host;
mod host_page;

mod account;
mod account_page;

mod figures;
mod rejects;
mod visit;

mod facts;
mod html;
mod page;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::sync::watch;

use self::figures::Figures;
use crate::api::{Api, Reads, Visitors};
use crate::fanout::Fanout;
use crate::pipeline::Hosts;

/// What the pages share.
pub struct Status {
    visitors: Visitors,
    /// Their own: whoever lists all accounts takes none of them.
    reads: Reads,
    figures: Figures,
}

impl Status {
    /// Counts from here on, until `stop`. Within a runtime.
    pub fn start(
        storage: storage::Handle,
        fanout: Fanout,
        hosts: Arc<Hosts>,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let reads = Reads::new(storage.clone(), "pages");
        let figures = Figures::new(reads.clone(), storage.log(), fanout, hosts);
        let status = Arc::new(Self { visitors: Visitors::new(), reads, figures });
        let sampled = Arc::clone(&status);
        tokio::spawn(async move { sampled.figures.sample(stop).await });
        status
    }
}

/// The routes.
pub(crate) fn router() -> Router<Api> {
    Router::new()
        .route("/", get(front::show))
        .route("/status", get(find::find))
        .route("/status/host/{name}", get(host::show))
        .route("/status/account/{did}", get(account::show))
}
