//! A PLC directory in memory: documents that change, faults on demand, and a count of reads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use protocol::did::Did;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::export::Export;
use crate::world::lies::Directory;

/// A running directory. It ends when this is dropped.
pub struct Plc {
    address: SocketAddr,
    export: Export,
    shelf: Arc<Mutex<Shelf>>,
    server: JoinHandle<()>,
}

/// What goes wrong with a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The answer comes this late.
    Delay(Duration),
    /// The answer is this status.
    Status(u16),
    /// No answer comes while the fault stands.
    Hang,
}

#[derive(Default)]
struct Shelf {
    documents: HashMap<String, Directory>,
    reads: HashMap<String, u64>,
    reads_all: u64,
    fault: Fault,
    /// The only DID that `fault` is for; `None`: all.
    faulty: Option<String>,
}

impl Plc {
    /// Starts an empty directory on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("bind the directory")?;
        let address = listener.local_addr().context("name the directory's address")?;
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let router = Router::new().route("/{did}", get(read)).with_state(Arc::clone(&shelf));
        let export = Export::default();
        let router = router.merge(export.router());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "simulated directory ended");
            }
        });
        Ok(Self { address, export, shelf, server })
    }

    /// `http://127.0.0.1:PORT`, for `--plc-url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its log of operations, which no document follows from by itself.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Puts what it answers about a DID.
    pub fn put(&self, did: &Did, directory: Directory) {
        self.shelf().documents.insert(did.to_string(), directory);
    }

    /// Puts a document.
    pub fn put_document(&self, did: &Did, document: serde_json::Value) {
        self.put(did, Directory::Document(document));
    }

    /// What it answers about a DID.
    pub fn document(&self, did: &Did) -> Option<Directory> {
        self.shelf().documents.get(&did.to_string()).cloned()
    }

    /// Sets what goes wrong, for one DID or for all.
    pub fn set_fault(&self, fault: Fault, did: Option<&Did>) {
        let mut shelf = self.shelf();
        shelf.fault = fault;
        shelf.faulty = did.map(ToString::to_string);
    }

    /// How often a DID was asked for, faults included.
    pub fn reads(&self, did: &Did) -> u64 {
        self.shelf().reads.get(&did.to_string()).copied().unwrap_or(0)
    }

    /// How often anything was asked for.
    pub fn reads_all(&self) -> u64 {
        self.shelf().reads_all
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }
}

impl Drop for Plc {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// `GET /:did`; the path may be percent-encoded, as one real client's is.
async fn read(State(shelf): State<Arc<Mutex<Shelf>>>, Path(did): Path<String>) -> Response {
    let fault = {
        let mut shelf = lock(&shelf);
        shelf.reads_all += 1;
        *shelf.reads.entry(did.clone()).or_default() += 1;
        fault_of(&shelf, &did)
    };
    match fault {
        Fault::None => {}
        Fault::Delay(delay) => tokio::time::sleep(delay).await,
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            return (status, "injected").into_response();
        }
        Fault::Hang => {
            while fault_of(&lock(&shelf), &did) == Fault::Hang {
                tokio::time::sleep(HANG_CHECK).await;
            }
        }
    }
    let directory = lock(&shelf).documents.get(&did).cloned();
    let message = |text: &str| serde_json::json!({"message": text}).to_string();
    let json = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    match directory {
        Some(Directory::Document(document)) => {
            let kind = [(header::CONTENT_TYPE, "application/did+ld+json; charset=utf-8")];
            (kind, document.to_string()).into_response()
        }
        Some(Directory::Tombstoned) => {
            (StatusCode::GONE, json, message("DID not available")).into_response()
        }
        Some(Directory::Missing) | None => {
            (StatusCode::NOT_FOUND, json, message("DID not registered")).into_response()
        }
    }
}

fn fault_of(shelf: &Shelf, did: &str) -> Fault {
    match &shelf.faulty {
        Some(faulty) if faulty != did => Fault::None,
        _ => shelf.fault,
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().expect("nothing panics while it holds the shelf")
}

/// How often a hanging read looks whether it may go on.
const HANG_CHECK: Duration = Duration::from_millis(20);
