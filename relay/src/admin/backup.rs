//! `POST /admin/backup`: a copy of the store, made while it runs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use serde_json::{Value, json};
use storage::{Backup, BackupError};

use crate::api::XrpcError;

/// Where backups come from, and what is counted of them.
#[derive(Clone)]
struct Backups {
    storage: storage::Handle,
    /// Bytes of the store's disk that a backup leaves free.
    headroom: u64,
    running: Gauge,
    made: Counter,
    failed: Counter,
}

/// The route.
pub(super) fn router(storage: storage::Handle, headroom: u64) -> Router {
    describe_gauge!("mainstem_relay_backups_running", "Backups that are being made: one at most.");
    describe_counter!("mainstem_relay_backups_total", "Backups made or failed, by outcome.");
    let backups =
        |outcome: &'static str| counter!("mainstem_relay_backups_total", "outcome" => outcome);
    let state = Backups {
        storage,
        headroom,
        running: gauge!("mainstem_relay_backups_running"),
        made: backups("made"),
        failed: backups("failed"),
    };
    Router::new().route("/admin/backup", post(make)).with_state(state)
}

/// Makes it in the folder that the body names, and answers when the disk has it. It is made to its
/// end when the caller goes away.
async fn make(State(backups): State<Backups>, body: String) -> Result<Json<Value>, XrpcError> {
    let dir = dir(&body)?;
    let began = Instant::now();
    let making = tokio::task::spawn_blocking(move || backups.make(&dir));
    let made = making.await.unwrap_or_else(|_| Err(BackupError::Failed("it panicked".into())));
    let took = began.elapsed();
    match made {
        Ok(backup) => Ok(Json(json!({
            "dir": backup.dir.to_string_lossy(),
            "head": backup.head.get(),
            "bytes": backup.bytes,
            "seconds": took.as_secs_f64(),
        }))),
        Err(error) => Err(refusal(&error)),
    }
}

impl Backups {
    fn make(&self, dir: &Path) -> Result<Backup, BackupError> {
        self.running.increment(1);
        let made = self.storage.backup(dir, self.headroom);
        self.running.decrement(1);
        match &made {
            Ok(Backup { dir, head, bytes }) => {
                self.made.increment(1);
                tracing::info!(dir = %dir.display(), %head, bytes, "a backup was made");
            }
            Err(error) => {
                self.failed.increment(1);
                tracing::warn!(%error, "no backup was made");
            }
        }
        made
    }
}

/// What a body asks for: `{"dir": "/backups/monday"}`.
fn dir(body: &str) -> Result<PathBuf, XrpcError> {
    let body: Value = serde_json::from_str(body)
        .map_err(|error| XrpcError::invalid(format!("the body is not JSON: {error}")))?;
    let dir = body.get("dir").and_then(Value::as_str).map(PathBuf::from);
    dir.ok_or_else(|| XrpcError::invalid("\"dir\" is missing"))
}

fn refusal(error: &BackupError) -> XrpcError {
    let message = error.to_string();
    match error {
        BackupError::Place { .. } => XrpcError::invalid(message),
        BackupError::Running => XrpcError::new(StatusCode::CONFLICT, "BackupRunning", message),
        BackupError::NoRoom { .. } => {
            XrpcError::new(StatusCode::INSUFFICIENT_STORAGE, "BackupNoRoom", message)
        }
        BackupError::Failed(_) => {
            XrpcError::new(StatusCode::INTERNAL_SERVER_ERROR, "BackupFailed", message)
        }
    }
}
