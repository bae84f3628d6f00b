//! XRPC errors: `{"error": Name, "message": text}`.

use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error as XRPC answers it.
#[derive(Debug)]
pub struct XrpcError {
    status: StatusCode,
    name: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl XrpcError {
    /// With a name from the lexicon.
    pub fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self { status, name, message: message.into(), retry_after: None }
    }

    /// With `Retry-After`, in whole seconds.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// 400 with a name from the lexicon.
    pub fn bad(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, name, message)
    }

    /// 400 `InvalidRequest`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::bad("InvalidRequest", message)
    }

    /// 400 `RepoNotFound`.
    pub fn repo_not_found() -> Self {
        Self::bad("RepoNotFound", "no event of this account has passed this relay")
    }

    /// Why the repo of an account that is not active is not given: its published status.
    pub fn repo_inactive(status: Option<&str>) -> Self {
        match status {
            Some("takendown") => Self::bad("RepoTakendown", "the account is taken down"),
            Some("suspended") => Self::bad("RepoSuspended", "the account is suspended"),
            Some("deleted") => Self::repo_not_found(),
            _ => Self::bad("RepoDeactivated", "the account is not active"),
        }
    }

    /// 400 `HostNotFound`.
    pub fn host_not_found() -> Self {
        Self::bad("HostNotFound", "this relay does not know the host: requestCrawl introduces it")
    }

    /// 429 `RateLimitExceeded`.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RateLimitExceeded", message).retry_after(BUSY_FOR)
    }
}

impl From<storage::Error> for XrpcError {
    fn from(error: storage::Error) -> Self {
        tracing::error!(%error, "cannot read the store");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "the store failed")
    }
}

impl IntoResponse for XrpcError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.name, "message": self.message }));
        let mut response = (self.status, body).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// In so long an address may ask some dozens of times again.
const BUSY_FOR: Duration = Duration::from_secs(5);
