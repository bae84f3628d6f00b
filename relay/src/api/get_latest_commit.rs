//! `com.atproto.sync.getLatestCommit`: the newest commit that passed.

use axum::Json;
use axum::extract::State;
use protocol::cid::Cid;
use serde_json::{Value, json};

use super::params::Params;
use super::{Api, XrpcError};

/// Answers `{cid, rev}`.
pub(super) async fn get_latest_commit(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let did = params.did("did")?;
    let account = api.storage.account(&did)?.ok_or_else(XrpcError::repo_not_found)?;
    if let (false, status) = account.published() {
        return Err(XrpcError::repo_inactive(status));
    }
    let repo = account.repo.ok_or_else(XrpcError::repo_not_found)?;
    let cid = Cid::cbor(repo.commit).to_string();
    Ok(Json(json!({ "cid": cid, "rev": repo.rev.to_string() })))
}
