//! Accounts for operators: what is known of one, and what this relay decides about it.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use protocol::account::{Account, Local, Throttle};
use protocol::datetime;
use protocol::did::Did;
use serde_json::{Value, json};
use verifier::Command;

use crate::api::XrpcError;

/// What the endpoints answer from, and where decisions go.
#[derive(Clone)]
struct Accounts {
    storage: storage::Handle,
    verifier: verifier::Handle,
}

/// The routes.
pub(super) fn router(storage: storage::Handle, verifier: verifier::Handle) -> Router {
    Router::new()
        .route("/admin/accounts/{did}", get(show).post(decide))
        .with_state(Accounts { storage, verifier })
}

/// All that is known of an account.
async fn show(
    State(accounts): State<Accounts>,
    Path(did): Path<String>,
) -> Result<Json<Value>, XrpcError> {
    accounts.describe(&parse(&did)?)
}

/// Decides about an account; answers as [`show`] does, once the decision is committed.
async fn decide(
    State(accounts): State<Accounts>,
    Path(did): Path<String>,
    body: String,
) -> Result<Json<Value>, XrpcError> {
    let did = parse(&did)?;
    let local = local(&body)?;
    let command = accounts.verifier.command(Command::Decide { did: did.clone(), local });
    match tokio::time::timeout(COMMIT_MAX, command).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(unavailable(&error.to_string())),
        Err(_) => return Err(unavailable("not committed in time: ask whether it was done")),
    }
    tracing::info!(%did, local = name(local), "decided about an account");
    accounts.describe(&did)
}

impl Accounts {
    fn describe(&self, did: &Did) -> Result<Json<Value>, XrpcError> {
        let account = self.storage.account(did)?.ok_or_else(not_found)?;
        let host = account.home().and_then(|host| self.storage.host(host));
        let host = host.map(|host| host.name.as_str().to_owned());
        Ok(Json(description(did, &account, host)))
    }
}

fn description(did: &Did, account: &Account, host: Option<String>) -> Value {
    let (active, status) = account.published();
    let repo = account.repo.as_ref();
    json!({
        "did": did.to_string(),
        "active": active,
        "status": status,
        "host": host,
        "local": name(account.local),
        "upstream": {
            "active": account.upstream.active,
            "status": account.upstream.status.as_deref(),
        },
        "breaks": account.conduct.breaks,
        "throttle": throttle(account.local),
        "throttledUntil": until(account.local),
        "rev": repo.map(|repo| repo.rev.to_string()),
    })
}

fn parse(did: &str) -> Result<Did, XrpcError> {
    Did::parse(did).map_err(|error| XrpcError::invalid(format!("the account: {error}")))
}

/// What a body decides: `{"local": "takendown"}`.
fn local(body: &str) -> Result<Local, XrpcError> {
    let body: Value = serde_json::from_str(body)
        .map_err(|error| XrpcError::invalid(format!("the body is not JSON: {error}")))?;
    let wanted = body.get("local").and_then(Value::as_str);
    let found = LOCALS.into_iter().find(|local| Some(name(*local)) == wanted);
    found.ok_or_else(|| {
        let names = LOCALS.map(name).join(", ");
        XrpcError::invalid(format!("\"local\" is missing or none of {names}"))
    })
}

fn name(local: Local) -> &'static str {
    match local {
        Local::None => "none",
        Local::Takendown => "takendown",
        Local::Suspended => "suspended",
        Local::Throttled(_) => "throttled",
    }
}

/// Why an account is throttled.
fn throttle(local: Local) -> Option<&'static str> {
    let Local::Throttled(throttle) = local else { return None };
    Some(match throttle {
        Throttle::Operator => "operator",
        Throttle::Breaks { .. } => "breaks",
        Throttle::Quota => "quota",
    })
}

/// When it is lifted by itself.
fn until(local: Local) -> Option<String> {
    let Local::Throttled(Throttle::Breaks { until }) = local else { return None };
    Some(datetime::format(until))
}

fn not_found() -> XrpcError {
    let message = "nothing of this account has passed, and nothing was decided about it";
    XrpcError::new(StatusCode::NOT_FOUND, "AccountNotFound", message)
}

fn unavailable(message: &str) -> XrpcError {
    XrpcError::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message)
}

const LOCALS: [Local; 4] =
    [Local::None, Local::Takendown, Local::Suspended, Local::Throttled(Throttle::Operator)];
/// A decision waits behind what its shard and the store have to do; more than this is a fault that
/// the caller should hear of.
const COMMIT_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_a_decision() {
        let check = |body: &str, expected: Option<Local>| {
            assert_eq!(local(body).ok(), expected, "{body}");
        };
        for decision in LOCALS {
            check(&json!({ "local": name(decision) }).to_string(), Some(decision));
        }
        for body in ["", "[]", "{}", r#"{"local":null}"#, r#"{"local":"deleted"}"#, "takendown"] {
            check(body, None);
        }
    }
}
