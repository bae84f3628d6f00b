//! What a host answers over HTTP, in the reference PDS's words.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Listing, Shared, cars, connection};
use crate::world::account::{RepoRow, Standing};

pub(super) type Parameters = Query<HashMap<String, String>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/xrpc/com.atproto.sync.subscribeRepos", get(subscribe_repos))
        .route("/xrpc/com.atproto.sync.getRepoStatus", get(get_repo_status))
        .route("/xrpc/com.atproto.sync.getLatestCommit", get(get_latest_commit))
        .route("/xrpc/com.atproto.sync.listRepos", get(list_repos))
        .route("/xrpc/com.atproto.sync.getRecord", get(cars::get_record))
        .route("/xrpc/com.atproto.sync.getBlocks", get(cars::get_blocks))
        .route("/xrpc/com.atproto.sync.getRepo", get(cars::get_repo))
        .route("/xrpc/com.atproto.server.describeServer", get(describe_server))
        .route("/xrpc/_health", get(health))
        .route("/.well-known/did.json", get(web_document))
        .fallback(auth_missing)
        .layer(from_fn_with_state(Arc::clone(&shared), note))
        .with_state(shared)
}

/// Counts the call, lets it fail if it must, and puts on the `Server` header if there is one.
async fn note(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let fault = shared.state().faults.of_path(&path);
    *shared.state().calls.entry(path).or_default() += 1;
    let mut response = match fault.answer().await {
        Some(response) => response,
        None => next.run(request).await,
    };
    let server = shared.state().server_header.clone();
    if let Some(server) = server.and_then(|server| HeaderValue::from_str(&server).ok()) {
        response.headers_mut().insert(header::SERVER, server);
    }
    response
}

async fn subscribe_repos(
    State(shared): State<Arc<Shared>>,
    Query(mut parameters): Parameters,
    mut request: Request,
) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return auth_missing().await;
    };
    let accept = derive_accept_key(key.as_bytes());
    let refusal = shared.state().refusal;
    if let Some(status) = refusal {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        return (status, "refused").into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let cursor = parameters.remove("cursor");
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => connection::serve(io, cursor, shared).await,
            Err(error) => tracing::debug!(%error, "simulated host failed to upgrade"),
        }
    });
    let headers = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn get_repo_status(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Parameters,
) -> Response {
    let did = parameters.get("did").cloned().unwrap_or_default();
    let refused = shared.state().repos_refused.get(&did).copied();
    if let Some(status) = refused {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return refusal(status, "Refused");
    }
    let row = shared.state().repos.get(&did).cloned();
    match row {
        None => refusal(StatusCode::BAD_REQUEST, "RepoNotFound"),
        Some(row) if row.standing == Standing::Deleted => {
            refusal(StatusCode::BAD_REQUEST, "RepoNotFound")
        }
        Some(row) => match row.standing.status() {
            None => Json(json!({"did": did, "active": true, "rev": row.rev})).into_response(),
            Some(status) => {
                Json(json!({"did": did, "active": false, "status": status})).into_response()
            }
        },
    }
}

async fn get_latest_commit(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Parameters,
) -> Response {
    match row_of(&shared, parameters.get("did")) {
        Some(row) if row.standing.is_active() => {
            Json(json!({"cid": row.head, "rev": row.rev})).into_response()
        }
        row => unavailable(row.as_ref()),
    }
}

pub(super) fn row_of(shared: &Shared, did: Option<&String>) -> Option<RepoRow> {
    shared.state().repos.get(did?).cloned()
}

/// Why there is no content of an account to be had.
pub(super) fn unavailable(row: Option<&RepoRow>) -> Response {
    let name = match row.map(|row| row.standing) {
        Some(Standing::Deactivated) => "RepoDeactivated",
        Some(Standing::Takendown) => "RepoTakendown",
        Some(Standing::Active | Standing::Deleted) | None => "RepoNotFound",
    };
    refusal(StatusCode::BAD_REQUEST, name)
}

/// Pages through the accounts. As the reference PDS does, the last page has a cursor too.
async fn list_repos(State(shared): State<Arc<Shared>>, Query(parameters): Parameters) -> Response {
    let limit = parameters.get("limit").map_or(Ok(500), |limit| limit.parse::<usize>());
    let Some(limit) = limit.ok().filter(|limit| (1..=1000).contains(limit)) else {
        return refusal(StatusCode::BAD_REQUEST, "InvalidRequest");
    };
    // Of the reference PDS's form: a time, and the last account.
    let cursor = parameters.get("cursor").map_or(Some(("", "")), |it| it.split_once("::"));
    let Some((_, after)) = cursor else {
        return refusal(StatusCode::BAD_REQUEST, "InvalidRequest");
    };
    let state = shared.state();
    let listed = |(did, row): (&String, &RepoRow)| match state.listings.get(did) {
        Some(Listing::Absent) => None,
        Some(Listing::Stale(row)) => Some((did.clone(), row.clone())),
        None => Some((did.clone(), row.clone())),
    };
    let rows = state
        .repos
        .iter()
        .filter(|(did, _)| did.as_str() > after)
        .filter_map(listed)
        .filter(|(_, row)| row.standing != Standing::Deleted);
    let rows: Vec<(String, RepoRow)> = rows.take(limit).collect();
    drop(state);
    let mut page = json!({"repos": rows.iter().map(repo).collect::<Vec<_>>()});
    if let Some((last, _)) = rows.last() {
        page["cursor"] = json!(format!("{LISTED_AT}::{last}"));
    }
    Json(page).into_response()
}

fn repo((did, row): &(String, RepoRow)) -> serde_json::Value {
    let active = row.standing.is_active();
    let mut repo = json!({"did": did, "head": row.head, "rev": row.rev, "active": active});
    if let Some(status) = row.standing.status() {
        repo["status"] = json!(status);
    }
    repo
}

async fn describe_server(State(shared): State<Arc<Shared>>) -> Response {
    let did = shared.state().service_did.clone();
    let did = did.unwrap_or_else(|| format!("did:web:{}", shared.name.replace(':', "%3A")));
    let answer = json!({
        "did": did,
        "availableUserDomains": [".test"],
        "inviteCodeRequired": false,
        "links": {},
        "contact": {},
    });
    Json(answer).into_response()
}

async fn health() -> Response {
    Json(json!({"version": "0.5.35"})).into_response()
}

async fn web_document(State(shared): State<Arc<Shared>>) -> Response {
    match shared.state().web_document.clone() {
        Some(document) => Json(document).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What the reference PDS answers to anything that it does not know: its catch-all is a proxy
/// that wants authentication.
pub(super) async fn auth_missing() -> Response {
    refusal(StatusCode::UNAUTHORIZED, "AuthMissing")
}

pub(super) fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error, "message": error}))).into_response()
}

/// Some milliseconds since 1970, which mean nothing here.
const LISTED_AT: u64 = 1_735_689_600_000;
