//! Whether the relay works, and a word to people who open its address in a browser.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

/// 200 with the version; 503 while the store is not writable.
pub(super) async fn health(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    let version = env!("CARGO_PKG_VERSION");
    if api.storage.is_writable() {
        (StatusCode::OK, Json(json!({ "version": version })))
    } else {
        let error = "the store is not writable";
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "version": version, "error": error })))
    }
}

/// Plain text, for people.
pub(super) async fn banner() -> &'static str {
    concat!(
        "This is Mainstem ",
        env!("CARGO_PKG_VERSION"),
        ", a relay of the AT Protocol network.\n\n",
        "Subscribe:  /xrpc/com.atproto.sync.subscribeRepos (WebSocket, ?cursor= to resume)\n",
        "Hosts:      /xrpc/com.atproto.sync.listHosts\n",
        "Your PDS:   POST /xrpc/com.atproto.sync.requestCrawl ",
        "{\"hostname\": \"pds.example.com\"}\n",
    )
}
