//! `com.atproto.sync.requestCrawl`: a host asks to be subscribed to.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::client::Client;
use super::{Api, XrpcError};
use crate::pipeline::CrawlError;

/// Answers `{}` once the host is subscribed to.
pub(super) async fn request_crawl(
    State(api): State<Api>,
    Client(address): Client,
    body: Bytes,
) -> Result<Json<Value>, XrpcError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(XrpcError::invalid("the body is too large"));
    }
    let body: Value = serde_json::from_slice(&body)
        .map_err(|error| XrpcError::invalid(format!("the body is not JSON: {error}")))?;
    let Some(hostname) = body.get("hostname").and_then(Value::as_str) else {
        return Err(XrpcError::invalid("hostname is missing"));
    };
    match api.hosts.request_crawl(hostname, address).await {
        Ok(()) => Ok(Json(json!({}))),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &CrawlError) -> XrpcError {
    let message = error.to_string();
    match error {
        CrawlError::Invalid(_) => XrpcError::invalid(message),
        CrawlError::Banned => XrpcError::bad("HostBanned", message),
        CrawlError::NotFound(_) => XrpcError::bad("HostNotFound", message),
        CrawlError::Alias(_) => XrpcError::invalid(message),
        CrawlError::Busy => too_many(message).retry_after(BUSY_WAIT),
        CrawlError::DayFull(wait) => too_many(message).retry_after(*wait),
        CrawlError::Held => {
            XrpcError::new(StatusCode::SERVICE_UNAVAILABLE, "NotEnoughResources", message)
        }
        CrawlError::Store(_) => {
            XrpcError::new(StatusCode::SERVICE_UNAVAILABLE, "InternalServerError", message)
        }
    }
}

fn too_many(message: String) -> XrpcError {
    XrpcError::new(StatusCode::TOO_MANY_REQUESTS, "RateLimitExceeded", message)
}

/// Askers are paced by the second; a provider that has asked for all its hosts waits longer.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// A hostname has at most 253 characters.
const BODY_BYTES_MAX: usize = 4 << 10;
