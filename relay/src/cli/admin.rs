//! Questions to the admin port of a running relay.

use std::path::Path;

use anyhow::{Context as _, bail};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Where the port is, and the right to ask there.
pub(super) struct Admin {
    host: String,
    port: u16,
    token: String,
}

impl Admin {
    /// Reads the token; nothing is asked yet.
    pub(super) fn new(url: &str, token_file: &Path) -> anyhow::Result<Self> {
        let token = std::fs::read_to_string(token_file)
            .with_context(|| format!("read the admin token from {}", token_file.display()))?;
        let url = url::Url::parse(url).context("--admin-url")?;
        if url.scheme() != "http" {
            bail!("--admin-url: the admin port speaks http");
        }
        let host = url.host_str().context("--admin-url names no host")?.to_owned();
        let port = url.port_or_known_default().context("--admin-url names no port")?;
        Ok(Self { host, port, token: token.trim().to_owned() })
    }

    /// Asks and waits for the answer, as long as it takes.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let Self { host, port, token } = self;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((bare, *port))
            .await
            .with_context(|| format!("reach the admin port of the relay at {host}:{port}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let driving = tokio::spawn(connection);
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{host}:{port}"))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(bytes::Bytes::from(body)))
            .context("write the request")?;
        let answer = sender.send_request(request).await.context("ask the relay")?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = match body {
            Ok(body) => body.to_bytes(),
            Err(error) => bail!("read the answer: {error}"),
        };
        driving.abort();
        let answer = serde_json::from_slice(&bytes)
            .with_context(|| format!("the answer of {host}:{port} ({status}) is not a relay's"))?;
        Ok((status, answer))
    }
}

/// A hundred thousand hosts with the longest reasons.
const ANSWER_BYTES_MAX: usize = 128 << 20;
