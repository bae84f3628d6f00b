//! The ports that are not public: metrics, and the admin API behind a bearer token. Both run on a
//! runtime of their own, so that they answer when the rest is busy.

mod accounts;
mod backup;
mod hosts;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::fanout::Fanout;
use crate::metrics;
use crate::pipeline::Hosts;
use crate::server;

/// What is served apart from the public.
pub struct Ports {
    /// Renders all metrics.
    pub recorder: PrometheusHandle,
    /// For the figures that are read when asked for.
    pub fanout: Fanout,
    /// The store, read only.
    pub storage: storage::Handle,
    /// Bytes of its disk that stay free.
    pub headroom: u64,
    /// Takes commands about accounts.
    pub verifier: verifier::Handle,
    /// The hosts.
    pub hosts: Arc<Hosts>,
    /// Where metrics are asked for.
    pub metrics_listener: std::net::TcpListener,
    /// Where the admin API is asked for, and who may.
    pub admin: Option<(std::net::TcpListener, Token)>,
}

/// SHA-256 of the bearer token: comparing digests tells nothing about the token by its timing.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Reads the token's file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the admin token from {}", path.display()))?;
        let token = text.trim();
        if token.len() < TOKEN_CHARS_MIN {
            bail!("the admin token in {} is shorter than 16 characters", path.display());
        }
        Ok(Self(Sha256::digest(token).into()))
    }

    fn admits(&self, request: &Request) -> bool {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = header.and_then(|value| value.strip_prefix("Bearer "));
        given.is_some_and(|token| <[u8; 32]>::from(Sha256::digest(token.trim())) == self.0)
    }
}

/// Serves them on a thread of their own until `stop`.
pub fn start(
    ports: Ports,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the admin runtime")?;
    let Ports { recorder, fanout, storage, headroom, verifier, .. } = ports;
    let Ports { hosts, metrics_listener, admin, .. } = ports;
    let process = metrics::Process::register();
    let scrape = Arc::new(Scrape { recorder, fanout, process });
    let metrics_router =
        Router::new().route("/metrics", get(render)).with_state(Arc::clone(&scrape));
    let upkeep_stop = stop.clone();
    let serve_all = async move {
        let mut tasks = tokio::task::JoinSet::new();
        let listener = TcpListener::from_std(metrics_listener)?;
        tasks.spawn(server::serve(listener, metrics_router, stop.clone()));
        if let Some((listener, token)) = admin {
            let router = Router::new()
                .merge(hosts::router(storage.clone(), hosts))
                .merge(backup::router(storage.clone(), headroom))
                .merge(accounts::router(storage, verifier))
                .layer(middleware::from_fn_with_state(token, authorise));
            tasks.spawn(server::serve(TcpListener::from_std(listener)?, router, stop.clone()));
        }
        tasks.spawn(upkeep(scrape, upkeep_stop));
        tasks.join_all().await;
        std::io::Result::Ok(())
    };
    let run = move || {
        if let Err(error) = runtime.block_on(serve_all) {
            tracing::error!(%error, "cannot serve metrics");
        }
    };
    std::thread::Builder::new().name("admin".into()).spawn(run).context("start the admin thread")
}

struct Scrape {
    recorder: PrometheusHandle,
    fanout: Fanout,
    process: metrics::Process,
}

async fn render(State(scrape): State<Arc<Scrape>>) -> Response {
    scrape.process.refresh();
    scrape.fanout.refresh_metrics();
    let text = scrape.recorder.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Histograms keep their samples until somebody asks or tidies up.
async fn upkeep(scrape: Arc<Scrape>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_EVERY) => scrape.recorder.run_upkeep(),
            () = server::stopped(&mut stop) => return,
        }
    }
}

async fn authorise(State(token): State<Token>, request: Request, next: Next) -> Response {
    if token.admits(&request) {
        return next.run(request).await;
    }
    let body = json!({ "error": "AuthMissing", "message": "a bearer token is required" });
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

const TOKEN_CHARS_MIN: usize = 16;
const UPKEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
