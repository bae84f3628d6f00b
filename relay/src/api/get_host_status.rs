//! `com.atproto.sync.getHostStatus`: one host, as `listHosts` lists it.

use axum::Json;
use axum::extract::State;
use protocol::host::HostName;
use serde_json::{Value, json};
use storage::Host;

use super::params::Params;
use super::{Api, XrpcError};
use crate::pipeline::Hosts;

/// Answers `{hostname, seq, accountCount, status}`.
pub(super) async fn get_host_status(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let text = params.text("hostname");
    let text = text.ok_or_else(|| XrpcError::invalid("parameter hostname is missing"))?;
    let name = HostName::parse(text, api.rules)
        .map_err(|error| XrpcError::invalid(format!("parameter hostname: {error}")))?;
    let host = api.storage.host_by_name(&name).ok_or_else(XrpcError::host_not_found)?;
    Ok(Json(entry(&api.hosts, &host)))
}

/// What the lexicon tells of a host.
pub(super) fn entry(hosts: &Hosts, host: &Host) -> Value {
    json!({
        "hostname": host.name.as_str(),
        "seq": host.cursor.get(),
        "accountCount": host.accounts,
        "status": hosts.status(host),
    })
}
