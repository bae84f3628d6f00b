//! Hosts for operators: which there are, and what this relay is to do with them. What is answered
//! is committed, and in force.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use crawler::Resume;
use serde_json::{Map, Value, json};
use storage::{Host, Override, Start};

use crate::api::XrpcError;
use crate::pipeline::{Hosts, HostsError};

type Answer = Result<Json<Value>, XrpcError>;

/// What the endpoints answer from.
#[derive(Clone)]
struct Desk {
    storage: storage::Handle,
    hosts: Arc<Hosts>,
}

/// The routes.
pub(super) fn router(storage: storage::Handle, hosts: Arc<Hosts>) -> Router {
    Router::new()
        .route("/admin/hosts", get(list).post(add))
        .route("/admin/hosts/import", post(import))
        .route("/admin/hosts/{name}", get(show).delete(remove))
        .route("/admin/hosts/{name}/ban", post(ban))
        .route("/admin/hosts/{name}/unban", post(unban))
        .route("/admin/hosts/{name}/limits", post(limits))
        .route("/admin/hosts/{name}/reset-cursor", post(reset_cursor))
        .route("/admin/hosts/{name}/reconcile", post(reconcile))
        .route("/admin/domain-bans", get(list_domains).post(ban_domain).delete(unban_domain))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Desk { storage, hosts })
}

impl Desk {
    fn describe(&self, host: &Host) -> Json<Value> {
        Json(self.hosts.describe(host))
    }
}

/// Every host with its state, its reason and since when.
async fn list(State(desk): State<Desk>) -> Json<Value> {
    let rows = desk.storage.hosts(None, HOSTS_LISTED_MAX);
    let rows: Vec<Value> = rows.iter().map(|host| desk.hosts.describe(host)).collect();
    Json(json!({ "hosts": rows }))
}

async fn show(State(desk): State<Desk>, Path(name): Path<String>) -> Answer {
    Ok(desk.describe(&desk.hosts.find(&name)?))
}

/// `{"hostname": "pds.example.com", "start": "oldest"}`.
async fn add(State(desk): State<Desk>, body: String) -> Answer {
    let body = object(&body)?;
    let name = text(&body, "hostname")?;
    let host = desk.hosts.add(name, start(&body, Start::Oldest)?).await?;
    tracing::info!(host = %host.name, "an operator added a host");
    Ok(desk.describe(&host))
}

/// `{"hosts": ["pds.example.com"], "start": "live"}`: what became of each.
async fn import(State(desk): State<Desk>, body: String) -> Answer {
    let body = object(&body)?;
    let missing = || XrpcError::invalid("\"hosts\" is missing or no list of names");
    let names = body.get("hosts").and_then(Value::as_array).ok_or_else(missing)?;
    let name = |name: &Value| Some(name.as_str()?.to_owned());
    let names: Vec<String> = names.iter().map(name).collect::<Option<_>>().ok_or_else(missing)?;
    let known: Vec<bool> = names.iter().map(|name| desk.hosts.find(name).is_ok()).collect();
    let results = desk.hosts.import(names, start(&body, Start::Live)?).await?;
    let (mut added, mut already, mut refused) = (0_u32, 0_u32, Vec::new());
    for ((name, result), was_known) in results.into_iter().zip(known) {
        match result {
            Ok(_) if was_known => already += 1,
            Ok(_) => added += 1,
            Err(error) => refused.push(json!({ "hostname": name, "reason": error.to_string() })),
        }
    }
    tracing::info!(added, already, refused = refused.len(), "an operator imported hosts");
    Ok(Json(json!({ "added": added, "known": already, "refused": refused })))
}

async fn remove(State(desk): State<Desk>, Path(name): Path<String>) -> Answer {
    desk.hosts.remove(&name).await?;
    tracing::info!(host = %name, "an operator removed a host");
    Ok(Json(json!({})))
}

async fn ban(State(desk): State<Desk>, Path(name): Path<String>) -> Answer {
    let host = desk.hosts.ban(&name).await?;
    tracing::info!(host = %host.name, "an operator banned a host");
    Ok(desk.describe(&host))
}

async fn unban(State(desk): State<Desk>, Path(name): Path<String>) -> Answer {
    let host = desk.hosts.unban(&name).await?;
    tracing::info!(host = %host.name, "an operator unbanned a host");
    Ok(desk.describe(&host))
}

/// `{"accounts": 5000, "eventsPerHour": null}`: what is not named stays, null follows the rule.
async fn limits(State(desk): State<Desk>, Path(name): Path<String>, body: String) -> Answer {
    let body = object(&body)?;
    let edit = move |set| changed(set, &body).map_err(HostsError::Invalid);
    let host = desk.hosts.edit_override(&name, edit).await?;
    tracing::info!(host = %host.name, limits = ?host.allowance, "an operator set limits");
    Ok(desk.describe(&host))
}

/// `{"start": "oldest"}`.
async fn reset_cursor(State(desk): State<Desk>, Path(name): Path<String>, body: String) -> Answer {
    let from = match start(&object(&body)?, Start::Oldest)? {
        Start::Oldest => Resume::Oldest,
        Start::Live => Resume::Live,
    };
    let host = desk.hosts.reset_cursor(&name, from).await?;
    tracing::info!(host = %host.name, "an operator reset a host's cursor");
    Ok(desk.describe(&host))
}

async fn reconcile(State(desk): State<Desk>, Path(name): Path<String>) -> Answer {
    let host = desk.hosts.reconcile(&name).await?;
    tracing::info!(host = %host.name, "an operator asked for a reconciliation");
    Ok(desk.describe(&host))
}

async fn list_domains(State(desk): State<Desk>) -> Json<Value> {
    Json(json!({ "domains": desk.hosts.domain_bans() }))
}

/// `{"domain": "*.example.com"}`; how many hosts were cut off.
async fn ban_domain(State(desk): State<Desk>, body: String) -> Answer {
    let body = object(&body)?;
    let domain = text(&body, "domain")?;
    let hosts = desk.hosts.ban_domain(domain).await?;
    tracing::info!(domain, hosts, "an operator banned a domain");
    Ok(Json(json!({ "hosts": hosts })))
}

/// `{"domain": "*.example.com"}`; how many hosts are followed again.
async fn unban_domain(State(desk): State<Desk>, body: String) -> Answer {
    let body = object(&body)?;
    let domain = text(&body, "domain")?;
    let hosts = desk.hosts.unban_domain(domain).await?;
    tracing::info!(domain, hosts, "an operator unbanned a domain");
    Ok(Json(json!({ "hosts": hosts })))
}

/// A body is one JSON object; none is an empty one.
fn object(body: &str) -> Result<Map<String, Value>, XrpcError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(XrpcError::invalid("the body is no JSON object")),
        Err(error) => Err(XrpcError::invalid(format!("the body is not JSON: {error}"))),
    }
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<&'a str, XrpcError> {
    let text = body.get(name).and_then(Value::as_str);
    text.ok_or_else(|| XrpcError::invalid(format!("\"{name}\" is missing or no text")))
}

fn start(body: &Map<String, Value>, default: Start) -> Result<Start, XrpcError> {
    match body.get("start").map(Value::as_str) {
        None => Ok(default),
        Some(Some("oldest")) => Ok(Start::Oldest),
        Some(Some("live")) => Ok(Start::Live),
        Some(_) => Err(XrpcError::invalid("\"start\" is neither \"oldest\" nor \"live\"")),
    }
}

/// The limits that were set, with the changes that a body names.
fn changed(set: Override, body: &Map<String, Value>) -> Result<Override, String> {
    let mut set = set;
    for (name, value) in body {
        let place = match name.as_str() {
            "accounts" => &mut set.accounts,
            "eventsPerSecond" => &mut set.per_second,
            "eventsPerHour" => &mut set.per_hour,
            "eventsPerDay" => &mut set.per_day,
            _ => return Err(format!("there is no limit \"{name}\"")),
        };
        *place = match value {
            Value::Null => None,
            value => Some(
                value
                    .as_u64()
                    .ok_or_else(|| format!("\"{name}\" is neither a whole number nor null"))?,
            ),
        };
    }
    Ok(set)
}

impl From<HostsError> for XrpcError {
    fn from(error: HostsError) -> Self {
        let message = error.to_string();
        match error {
            HostsError::NotFound => Self::new(StatusCode::NOT_FOUND, "NotFound", message),
            HostsError::Invalid(_) => Self::invalid(message),
            HostsError::Banned => Self::new(StatusCode::CONFLICT, "HostBanned", message),
            HostsError::TooMany(_) => Self::new(StatusCode::CONFLICT, "TooMany", message),
            HostsError::Store(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "InternalServerError", message)
            }
        }
    }
}

const HOSTS_LISTED_MAX: usize = 100_000;
/// Ten thousand of the longest names.
const BODY_BYTES_MAX: usize = 3 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_change_where_they_are_named() {
        let set = Override { accounts: Some(5), per_day: Some(7), ..Override::default() };
        let check = |body: &str, expected: Option<Override>| {
            let found = object(body).ok().and_then(|body| changed(set, &body).ok());
            assert_eq!(found, expected, "{body}");
        };
        check("", Some(set));
        check("{}", Some(set));
        check(r#"{"accounts": null}"#, Some(Override { accounts: None, ..set }));
        let changed = Override { accounts: Some(9), per_second: Some(1), ..set };
        check(r#"{"accounts": 9, "eventsPerSecond": 1}"#, Some(changed));
        let bad = [
            "[]",
            "9",
            r#"{"accounts": -1}"#,
            r#"{"accounts": 1.5}"#,
            r#"{"accounts": "9"}"#,
            r#"{"events": 9}"#,
        ];
        for body in bad {
            check(body, None);
        }
    }
}
