//! `GET /status/host/NAME`: what the relay does with a host, and why its events are not seen if
//! they are not.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use protocol::datetime;
use protocol::host::HostName;
use protocol::host_state::{HostState, Meter};
use protocol::ids::Micros;
use serde_json::{Value, json};
use storage::{Host, HostGap, ReconcileRow, RejectRow};

use super::host_page;
use super::rejects;
use super::visit::Visit;
use crate::api::{Api, XrpcError};
use crate::pipeline;

/// Answers with what there is; 404 if the host is not known.
pub(super) async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
    visit: Visit,
) -> Response {
    let name = match HostName::parse(&name, api.rules) {
        Ok(name) => name,
        Err(error) => return XrpcError::invalid(format!("the host: {error}")).into_response(),
    };
    let Some(host) = api.storage.host_by_name(&name) else {
        let refusal = || unknown(&name);
        return visit.answer(StatusCode::NOT_FOUND, refusal, || host_page::unknown(&name, &visit));
    };
    let seen = match api.reads.run(move |storage| Seen::gather(storage, host)).await {
        Ok(seen) => seen,
        Err(error) => return error.into_response(),
    };
    let now = (api.clock)();
    visit.answer(StatusCode::OK, || seen.describe(now), || host_page::page(&seen, now))
}

/// All that is known of one host, each part as of its own last change.
pub(super) struct Seen {
    pub(super) host: Host,
    /// As `listHosts` tells it.
    pub(super) status: &'static str,
    pub(super) connection: Connection,
    /// The host that this one is another name of.
    pub(super) alias_of: Option<HostName>,
    pub(super) gap: Option<HostGap>,
    pub(super) reconciled: Option<ReconcileRow>,
    /// Newest first.
    pub(super) rejects: Vec<RejectRow>,
}

/// What its connection does.
pub(super) struct Connection {
    pub(super) state: HostState,
    pub(super) since: Micros,
    pub(super) reason: String,
    /// What went wrong last, and when.
    pub(super) last_error: Option<(Micros, String)>,
    pub(super) meter: Meter,
}

impl Seen {
    fn gather(storage: &storage::Handle, host: Host) -> Result<Self, storage::Error> {
        let id = host.id;
        Ok(Self {
            status: pipeline::status(&host),
            connection: Connection::stored(&host),
            alias_of: host.alias_of.and_then(|id| Some(storage.host(id)?.name)),
            gap: storage.gap(id)?,
            reconciled: storage.reconcile_row(id)?,
            rejects: storage.rejects(id)?,
            host,
        })
    }

    fn describe(&self, now: Micros) -> Value {
        let Self { host, connection, .. } = self;
        let moment = |at: Micros| (at != Micros(0)).then(|| datetime::format(at));
        let meter = &connection.meter;
        json!({
            "hostname": host.name.as_str(),
            "status": self.status,
            "banned": host.banned,
            "aliasOf": self.alias_of.as_ref().map(HostName::as_str),
            "added": datetime::format(host.added),
            "connection": {
                "state": connection.state.name(),
                "since": datetime::format(connection.since),
                "reason": connection.reason,
                "lastError": connection.last_error.as_ref().map(|(at, text)| json!({
                    "at": datetime::format(*at),
                    "text": text,
                })),
                "connects": meter.connects,
                "sync11": host.ratchet_closed,
            },
            "stream": {
                "lastEvent": moment(meter.last_event),
                "events": meter.events,
                "bytes": meter.bytes,
                "cursor": host.cursor.get(),
                "epoch": host.epoch.0,
            },
            "accounts": { "live": host.accounts, "throttled": host.throttled },
            "reconciliation": self.reconciliation(),
            "rejectsTotal": host.rejects,
            "rejects": rejects::describe(&self.rejects),
            "at": datetime::format(now),
        })
    }

    fn reconciliation(&self) -> Value {
        let moment = |at: Micros| (at != Micros(0)).then(|| datetime::format(at));
        let row = self.reconciled.as_ref();
        json!({
            "owed": self.gap.as_ref().map(|gap| json!({
                "whole": gap.whole,
                "accounts": gap.accounts,
                "since": datetime::format(gap.since),
                "reason": gap.reason,
            })),
            "pass": row.map(|row| json!({
                "began": moment(row.began),
                "ended": moment(row.ended),
                "reason": row.reason,
                "listed": row.listed,
                "inStep": row.in_step,
                "behind": row.behind,
                "repaired": row.repaired,
                "unverifiable": row.unverifiable,
                "missing": row.missing,
                "failed": row.failed,
            })),
            "lastFull": row.filter(|row| row.last_full != Micros(0)).map(|row| json!({
                "ended": moment(row.last_full),
                "listed": row.last_full_listed,
                "known": row.last_full_known,
                "inStep": row.last_full_in_step,
                "behind": row.last_full_behind,
            })),
        })
    }
}

impl Connection {
    /// As the store was told last.
    pub(super) fn stored(host: &Host) -> Self {
        let failed = !host.last_error.is_empty();
        Self {
            state: host.state,
            since: host.since,
            reason: host.reason.to_string(),
            last_error: failed.then(|| (host.last_error_at, host.last_error.to_string())),
            meter: host.meter,
        }
    }
}

fn unknown(name: &HostName) -> Value {
    json!({
        "error": "HostNotFound",
        "message": format!("{name} is not known to this relay: requestCrawl introduces it"),
    })
}
