//! `com.atproto.sync.listHosts`: the hosts, oldest first.

use axum::Json;
use axum::extract::State;
use protocol::ids::HostId;
use serde_json::{Value, json};

use super::get_host_status::entry;
use super::params::Params;
use super::{Api, XrpcError};

/// Answers a page.
pub(super) async fn list_hosts(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let limit = params.number("limit", 1..=1000, 200_usize)?;
    let after = match params.text("cursor") {
        None | Some("") => None,
        Some(text) => Some(HostId(
            text.parse().map_err(|_| XrpcError::invalid("parameter cursor: not one of ours"))?,
        )),
    };
    let page = api.storage.hosts(after, limit);
    let hosts: Vec<Value> = page.iter().map(|host| entry(&api.hosts, host)).collect();
    let mut answer = json!({ "hosts": hosts });
    if let (true, Some(last)) = (page.len() == limit, page.last()) {
        answer["cursor"] = json!(last.id.to_string());
    }
    Ok(Json(answer))
}
