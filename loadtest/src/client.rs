//! A plain HTTP client: what consumers ask beside the stream.

use anyhow::Context;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Asks for a URL, without following where it leads.
pub async fn get(url: &str) -> anyhow::Result<Answer> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let url = url.parse().with_context(|| format!("parse the URL {url}"))?;
    let answer = client.get(url).await.context("ask")?;
    let (head, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), BODY_BYTES_MAX).await.context("read the answer")?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

/// As [`get`], following up to [`REDIRECTS_MAX`] redirects.
pub async fn get_following(url: &str) -> anyhow::Result<Answer> {
    let mut url = url.to_owned();
    for _ in 0..REDIRECTS_MAX {
        let answer = get(&url).await?;
        let location = answer.headers.get(header::LOCATION);
        match location.filter(|_| (300..400).contains(&answer.status)) {
            Some(location) => url = location.to_str().context("read a redirect")?.to_owned(),
            None => return Ok(answer),
        }
    }
    anyhow::bail!("too many redirects: {url}")
}

impl Answer {
    /// Its body as JSON; `Null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The largest repos have some hundred MB.
const BODY_BYTES_MAX: usize = 1 << 30;
/// As a browser would.
const REDIRECTS_MAX: usize = 10;
