//! `mainstem backup`: asks a running relay, over its admin port, for a copy of its store.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, bail};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::config;

/// Prints what was made, or fails with what the relay says.
pub async fn run(options: &config::Backup) -> anyhow::Result<()> {
    let token = std::fs::read_to_string(&options.admin_token_file).with_context(|| {
        format!("read the admin token from {}", options.admin_token_file.display())
    })?;
    // The relay may have been started elsewhere.
    let dir = std::path::absolute(&options.dir).context("find the current folder")?;
    let body = json!({ "dir": dir.to_str().context("the folder's name is not UTF-8")? });
    let asked = post(&options.admin_url, token.trim(), &body);
    let mut asked = std::pin::pin!(asked);
    let began = Instant::now();
    let mut waits = tokio::time::interval(SAY_EVERY);
    waits.tick().await;
    let (status, answer) = loop {
        tokio::select! {
            answer = &mut asked => break answer?,
            _ = waits.tick() => {
                let seconds = began.elapsed().as_secs();
                writeln!(std::io::stderr(), "the relay is making the backup: {seconds} s")?;
            }
        }
    };
    if status != StatusCode::OK {
        bail!("{} ({status})", answer["message"].as_str().unwrap_or("the relay refuses"));
    }
    let text = |field: &str| match &answer[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Standard output is this command's purpose.
    let mut out = std::io::stdout().lock();
    if options.json {
        return writeln!(out, "{answer}").context("print");
    }
    let seconds = answer["seconds"].as_f64().unwrap_or_default();
    writeln!(
        out,
        "backup in {}: up to seq {}, {} bytes, {seconds:.1} s",
        text("dir"),
        text("head"),
        text("bytes")
    )
    .context("print")
}

async fn post(base: &str, token: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
    let url = url::Url::parse(base).context("--admin-url")?;
    if url.scheme() != "http" {
        bail!("--admin-url: the admin port speaks http");
    }
    let host = url.host_str().context("--admin-url names no host")?;
    let port = url.port_or_known_default().context("--admin-url names no port")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let socket = TcpStream::connect((bare, port))
        .await
        .with_context(|| format!("reach the admin port of the relay at {host}:{port}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let driving = tokio::spawn(connection);
    let request = Request::post("/admin/backup")
        .header(HOST, format!("{host}:{port}"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(body.to_string())))
        .context("write the request")?;
    let answer = sender.send_request(request).await.context("ask the relay")?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await.context("read the answer")?.to_bytes();
    driving.abort();
    let answer = serde_json::from_slice(&bytes)
        .with_context(|| format!("the answer of {host}:{port} ({status}) is not a relay's"))?;
    Ok((status, answer))
}

const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
