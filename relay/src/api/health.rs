//! Whether the relay works.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

/// 200 with the version; 503 while nothing new can be stored, and why.
pub(super) async fn health(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    let version = env!("CARGO_PKG_VERSION");
    let error = if !api.storage.is_writable() {
        "the store is not writable"
    } else if api.headroom.is_held() {
        "the disk is nearly full: nothing more is read from hosts until there is room; consumers \
         are served"
    } else {
        return (StatusCode::OK, Json(json!({ "version": version })));
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "version": version, "error": error })))
}
