//! `com.atproto.sync.getRepoStatus`: what consumers were last told of an account.

use axum::Json;
use axum::extract::State;
use protocol::account::{Account, Local};
use serde_json::{Value, json};

use super::params::Params;
use super::{Api, XrpcError};

/// Answers `{did, active, status?, rev?}`.
pub(super) async fn get_repo_status(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let did = params.did("did")?;
    let account =
        api.storage.account(&did)?.filter(is_known).ok_or_else(XrpcError::repo_not_found)?;
    let (active, status) = account.published();
    let mut answer = json!({ "did": did.to_string(), "active": active });
    if let Some(status) = status {
        answer["status"] = json!(status);
    }
    // "rev: … optional, the current rev of the repo, if active=true" (the lexicon).
    if let (true, Some(repo)) = (active, &account.repo) {
        answer["rev"] = json!(repo.rev.to_string());
    }
    Ok(Json(answer))
}

/// A decision that was lifted again leaves a row of an account that nobody has spoken for.
fn is_known(account: &Account) -> bool {
    account.home().is_some() || account.local != Local::None
}
