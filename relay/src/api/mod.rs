//! The public API: XRPC methods of `com.atproto.sync` and the health check.

mod client;
mod error;
mod get_host_status;
mod get_latest_commit;
mod get_repo;
mod get_repo_status;
mod health;
mod list_hosts;
mod list_repos;
mod params;
mod reads;
mod request_crawl;
mod subscribe_repos;
mod visitors;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, SERVER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use protocol::host::HostRules;
use protocol::ids::Micros;

pub(crate) use self::client::Client;
pub use self::client::Network;
pub use self::error::XrpcError;
pub use self::list_repos::Lists;
pub(crate) use self::params::Params;
pub use self::reads::Reads;
pub(crate) use self::visitors::Visitors;
use crate::fanout::Fanout;
use crate::headroom::Headroom;
use crate::pipeline::Hosts;
use crate::status::{self, Status};

/// What the endpoints answer from.
#[derive(Clone)]
pub struct Api {
    /// The store, read only.
    pub storage: storage::Handle,
    /// The same, for lists of accounts.
    pub lists: Lists,
    /// The consumers.
    pub fanout: Fanout,
    /// The hosts' tasks: what each does now.
    pub crawler: crawler::Handle,
    /// The hosts: requestCrawl adds some.
    pub hosts: Arc<Hosts>,
    /// Which names may be hosts.
    pub rules: HostRules,
    /// Who may say whom it speaks for.
    pub proxies: Arc<[Network]>,
    /// What the status pages share.
    pub status: Arc<Status>,
    /// Whether the disk has room.
    pub headroom: Headroom,
    /// The time.
    pub clock: Arc<dyn Fn() -> Micros + Send + Sync>,
}

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .merge(status::router())
        .route("/_health", get(health::health))
        .route("/xrpc/_health", get(health::health))
        .route("/xrpc/com.atproto.sync.subscribeRepos", any(subscribe_repos::subscribe))
        .route("/xrpc/com.atproto.sync.requestCrawl", post(request_crawl::request_crawl))
        .route("/xrpc/com.atproto.sync.listHosts", get(list_hosts::list_hosts))
        .route("/xrpc/com.atproto.sync.getHostStatus", get(get_host_status::get_host_status))
        .route("/xrpc/com.atproto.sync.listRepos", get(list_repos::list_repos))
        .route("/xrpc/com.atproto.sync.getRepo", get(get_repo::get_repo))
        .route("/xrpc/com.atproto.sync.getRepoStatus", get(get_repo_status::get_repo_status))
        .route("/xrpc/com.atproto.sync.getLatestCommit", get(get_latest_commit::get_latest_commit))
        .route("/xrpc/{method}", any(unknown_method))
        .method_not_allowed_fallback(wrong_verb)
        .fallback(not_found)
        .layer(middleware::from_fn(headers))
        .with_state(api)
}

async fn unknown_method() -> XrpcError {
    XrpcError::new(
        StatusCode::NOT_IMPLEMENTED,
        "MethodNotImplemented",
        "this relay does not have the method",
    )
}

async fn wrong_verb() -> XrpcError {
    XrpcError::new(StatusCode::METHOD_NOT_ALLOWED, "InvalidRequest", "wrong HTTP method")
}

async fn not_found() -> XrpcError {
    XrpcError::new(StatusCode::NOT_FOUND, "NotFound", "there is nothing here")
}

/// The headers of every answer. Other relays know us by `Server`; browsers of any origin may
/// read.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// A relay says what it is: no relay subscribes to another.
pub const SERVER_NAME: &str = concat!("mainstem/", env!("CARGO_PKG_VERSION"), " (atproto-relay)");
