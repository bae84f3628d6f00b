//! A PLC directory's `/export`: logged operations, paged by time or by number, faults on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use protocol::cid::Cid;
use protocol::datetime;
use protocol::did::Did;
use protocol::ids::Micros;
use serde_json::{Value, json};

/// The operations of a directory. Cheap to clone.
#[derive(Clone, Default)]
pub struct Export(Arc<Mutex<Log>>);

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportFault {
    /// This status, and a `Retry-After` of so many seconds.
    Status(u16, Option<u32>),
    /// The connection ends in the middle of the page.
    Truncated,
}

struct Log {
    lines: Vec<Line>,
    /// Lines of a page, whatever is asked for.
    lines_max: usize,
    numbered: bool,
    faults: VecDeque<ExportFault>,
    /// The query of every request, refused ones included.
    requests: Vec<String>,
}

#[derive(Clone)]
enum Line {
    Operation {
        did: Did,
        operation: Value,
        cid: String,
        nullified: bool,
        created: Micros,
    },
    /// Stands where an operation of this time would.
    Raw(Micros, String),
}

impl Default for Log {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            lines_max: LINES_MAX,
            numbered: false,
            faults: VecDeque::new(),
            requests: Vec::new(),
        }
    }
}

impl Export {
    /// Logs an operation that the directory takes now; its CID.
    pub fn log(&self, did: &Did, operation: Value, now: Micros) -> String {
        let created = Micros(now.0 / 1000 * 1000);
        let cid = Cid::of_cbor(format!("{did} {operation}").as_bytes()).to_string();
        let (did, nullified) = (did.clone(), false);
        let line = Line::Operation { did, operation, cid: cid.clone(), nullified, created };
        self.lock().lines.push(line);
        cid
    }

    /// Puts any bytes where an operation of this time would stand.
    pub fn log_raw(&self, line: &str, now: Micros) {
        self.lock().lines.push(Line::Raw(now, line.to_owned()));
    }

    /// A recovery operation, to be logged after this, has undone an operation.
    pub fn nullify(&self, cid: &str) {
        for line in &mut self.lock().lines {
            match line {
                Line::Operation { cid: other, nullified, .. } if other == cid => *nullified = true,
                _ => {}
            }
        }
    }

    /// Pages have at most so many lines from now on.
    pub fn set_lines_max(&self, lines_max: usize) {
        self.lock().lines_max = lines_max;
    }

    /// Operations have numbers, and `after` may be one.
    pub fn set_numbered(&self) {
        self.lock().numbered = true;
    }

    /// What goes wrong with the next requests, one each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = ExportFault>) {
        self.lock().faults.extend(faults);
    }

    /// Whether all of these have happened.
    pub fn has_failed(&self) -> bool {
        self.lock().faults.is_empty()
    }

    /// The queries of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// The body of a page.
    pub fn page(&self, query: &str) -> String {
        self.lock().page(query).join("\n")
    }

    /// Answers `/export`.
    pub fn router(&self) -> Router {
        Router::new().route("/export", get(answer)).with_state(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().expect("nothing panics while it holds the log")
    }
}

/// The operation that a directory makes this document of.
pub fn operation(document: &Value) -> Value {
    let method = &document["verificationMethod"][0];
    let multibase = method["publicKeyMultibase"].as_str().unwrap_or_default();
    json!({
        "sig": "AAAA",
        "prev": null,
        "type": "plc_operation",
        "services": {
            "atproto_pds": {
                "type": "AtprotoPersonalDataServer",
                "endpoint": document["service"][0]["serviceEndpoint"],
            },
        },
        "alsoKnownAs": document["alsoKnownAs"],
        "rotationKeys": [format!("did:key:{multibase}")],
        "verificationMethods": { "atproto": format!("did:key:{multibase}") },
    })
}

/// The operation with which DIDs were made until 2023.
pub fn legacy_create(document: &Value) -> Value {
    let multibase = document["verificationMethod"][0]["publicKeyMultibase"].as_str();
    let key = format!("did:key:{}", multibase.unwrap_or_default());
    let handle = document["alsoKnownAs"][0].as_str().unwrap_or_default();
    json!({
        "sig": "AAAA",
        "prev": null,
        "type": "create",
        "handle": handle.trim_start_matches("at://"),
        "service": document["service"][0]["serviceEndpoint"],
        "signingKey": key,
        "recoveryKey": key,
    })
}

/// `GET /export?count=…&after=…`: JSON lines, without a line end behind the last one.
async fn answer(State(export): State<Export>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let (fault, page) = {
        let mut log = export.lock();
        log.requests.push(query.clone());
        (log.faults.pop_front(), log.page(&query).join("\n"))
    };
    let kind = [(header::CONTENT_TYPE, "application/jsonlines")];
    match fault {
        None => (kind, page).into_response(),
        Some(ExportFault::Status(status, retry_after)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            let mut response = (status, "injected").into_response();
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
        Some(ExportFault::Truncated) => {
            let mut half = Bytes::from(page);
            half.truncate(half.len() / 2);
            // The length is not told, so that the half is not taken for the whole.
            let part = Ok(half);
            let end = Err(std::io::Error::other("injected"));
            let body = Body::from_stream(futures_util::stream::iter([part, end]));
            (kind, body).into_response()
        }
    }
}

impl Log {
    fn page(&self, query: &str) -> Vec<String> {
        let value = |name: &str| {
            query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let count = value("count").and_then(|count| count.parse().ok()).unwrap_or(LINES_MAX);
        let count = count.min(self.lines_max);
        let after = value("after").unwrap_or("0");
        match after.parse::<usize>() {
            Ok(after) if self.numbered => {
                let numbered = self.lines.iter().enumerate().skip(after);
                numbered.take(count).map(|(at, line)| line.numbered(at + 1)).collect()
            }
            after_number => {
                // A bare number is read as a year, as the real server's language does.
                let after = after_number.map_or_else(
                    |_| datetime::parse(&after.replace("%3A", ":")).unwrap_or_default(),
                    |_| Micros(0),
                );
                let mut lines: Vec<&Line> =
                    self.lines.iter().filter(|line| line.order().0 > after).collect();
                lines.sort_by_key(|line| line.order());
                lines.iter().take(count).map(|line| line.text()).collect()
            }
        }
    }
}

impl Line {
    /// "order by createdAt, cid".
    fn order(&self) -> (Micros, &str) {
        match self {
            Self::Operation { created, cid, .. } => (*created, cid),
            Self::Raw(created, _) => (*created, ""),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Raw(_, text) => text.clone(),
            Self::Operation { did, operation, cid, nullified, created } => json!({
                "did": did.to_string(),
                "operation": operation,
                "cid": cid,
                "nullified": nullified,
                "createdAt": datetime::format(*created),
            })
            .to_string(),
        }
    }

    /// An export by number does not tell what is nullified.
    fn numbered(&self, seq: usize) -> String {
        match self {
            Self::Raw(_, text) => text.clone(),
            Self::Operation { did, operation, cid, created, .. } => json!({
                "did": did.to_string(),
                "operation": operation,
                "cid": cid,
                "seq": seq,
                "type": "sequenced_op",
                "createdAt": datetime::format(*created),
            })
            .to_string(),
        }
    }
}

/// Of a page of the real server.
const LINES_MAX: usize = 1_000;
