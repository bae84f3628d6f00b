//! Simulated PDS hosts: an HTTP server each, whose stream behaves as the reference PDS's does.

mod answers;
mod cars;
mod connection;
mod faults;
mod log;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Context;
use protocol::did::Did;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wire::Frame;
use crate::world::account::RepoRow;
use faults::Faults;
pub use faults::{Fault, Listing};
use log::Log;
pub(crate) use log::{framed, header};

/// A running host. It ends, with all its connections, when this is dropped.
pub struct Host {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// How a host is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The port; zero: any free one.
    pub port: u16,
    /// Its name's first part: `localhost` unless given.
    pub name: Option<String>,
}

/// What the server's tasks see.
struct Shared {
    name: String,
    state: Mutex<State>,
    /// What connections wait for.
    signal: watch::Sender<Signal>,
    connections: AtomicUsize,
    connections_ever: AtomicU64,
}

#[derive(Default)]
struct State {
    log: Log,
    repos: BTreeMap<String, RepoRow>,
    /// Accounts about which `getRepoStatus` answers with this status only.
    repos_refused: BTreeMap<String, u16>,
    /// Accounts of which `listRepos` does not say the truth.
    listings: BTreeMap<String, Listing>,
    faults: Faults,
    /// The DID that `describeServer` names, if it is not the `did:web` of its name.
    service_did: Option<String>,
    /// What `/.well-known/did.json` answers.
    web_document: Option<serde_json::Value>,
    /// The `Server` header; the reference PDS sends none.
    server_header: Option<String>,
    /// Upgrades are answered with this status instead.
    refusal: Option<u16>,
    /// How often each path was asked for.
    calls: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signal {
    /// Rises with each append.
    appended: u64,
    /// Rises when all connections must end.
    dropped: u64,
    /// Connections write nothing, not even pongs.
    stalled: bool,
}

impl Host {
    /// Opens a host on 127.0.0.1.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(("127.0.0.1", options.port)).await.context("bind a host")?;
        let port = listener.local_addr().context("name the host's address")?.port();
        let name = format!("{}:{port}", options.name.as_deref().unwrap_or("localhost"));
        let shared = Arc::new(Shared {
            name,
            state: Mutex::default(),
            signal: watch::Sender::new(Signal::default()),
            connections: AtomicUsize::new(0),
            connections_ever: AtomicU64::new(0),
        });
        let router = answers::router(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "simulated host ended");
            }
        });
        Ok(Self { shared, server })
    }

    /// Its name in DID documents and `requestCrawl`: `localhost:PORT`.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// `http://localhost:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.name)
    }

    /// Appends a frame under the next seq, which it returns.
    pub fn append(&self, frame: &Frame) -> u64 {
        let seq = self.shared.state().log.append(frame);
        self.wake();
        seq
    }

    /// Appends many frames, waking connections once; the last seq.
    pub fn append_all<'a>(&self, frames: impl IntoIterator<Item = &'a Frame>) -> u64 {
        let mut state = self.shared.state();
        for frame in frames {
            state.log.append(frame);
        }
        let seq = state.log.seq();
        drop(state);
        self.wake();
        seq
    }

    /// Appends a frame that claims a seq which is not its turn: one that does not rise, or that
    /// was sent before.
    pub fn append_as(&self, claimed: u64, frame: &Frame) {
        self.shared.state().log.append_as(claimed, frame);
        self.wake();
    }

    /// Leaves out this many numbers.
    pub fn skip(&self, count: u64) {
        self.shared.state().log.skip(count);
    }

    /// Sends a WebSocket text message, which no honest host does. It is no part of the log: it goes
    /// to the next connection that comes to it, and to no other.
    pub fn append_text(&self, text: &str) {
        self.shared.state().log.append_text(text);
        self.wake();
    }

    /// The newest seq.
    pub fn seq(&self) -> u64 {
        self.shared.state().log.seq()
    }

    /// Messages in its log.
    pub fn len(&self) -> usize {
        self.shared.state().log.len()
    }

    /// Whether its log is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets messages up to a seq fall out of its window: older cursors get `OutdatedCursor`.
    pub fn forget(&self, seq: u64) {
        self.shared.state().log.forget(seq);
    }

    /// Drops all connections without a close frame, as a stopped PDS does.
    pub fn drop_connections(&self) {
        self.shared.signal.send_modify(|signal| signal.dropped += 1);
    }

    /// Becomes a re-installed host: connections dropped, log empty, seqs from 1 again.
    pub fn reset(&self) {
        self.shared.state().log.wipe();
        self.drop_connections();
    }

    /// Stops writing to connections, or goes on; they stay open.
    pub fn set_stalled(&self, stalled: bool) {
        self.shared.signal.send_modify(|signal| signal.stalled = stalled);
    }

    /// Answers upgrades with a status instead, or takes them again. Connections stay.
    pub fn set_refusal(&self, status: Option<u16>) {
        self.shared.state().refusal = status;
    }

    /// Sends a `Server` header, for example another relay's.
    pub fn set_server_header(&self, header: Option<String>) {
        self.shared.state().server_header = header;
    }

    /// Sets what it answers about an account.
    pub fn set_repo(&self, did: &Did, row: RepoRow) {
        let mut state = self.shared.state();
        state.repos_refused.remove(&did.to_string());
        state.repos.insert(did.to_string(), row);
    }

    /// Forgets an account: `RepoNotFound`.
    pub fn forget_repo(&self, did: &Did) {
        let mut state = self.shared.state();
        state.repos_refused.remove(&did.to_string());
        state.repos.remove(&did.to_string());
    }

    /// Answers `getRepoStatus` about an account with a status and nothing else.
    pub fn refuse_repo(&self, did: &Did, status: u16) {
        self.shared.state().repos_refused.insert(did.to_string(), status);
    }

    /// Sets what `listRepos` says of an account instead of the truth, or the truth again.
    pub fn set_listing(&self, did: &Did, listing: Option<Listing>) {
        let mut state = self.shared.state();
        match listing {
            Some(listing) => state.listings.insert(did.to_string(), listing),
            None => state.listings.remove(&did.to_string()),
        };
    }

    /// Sets what goes wrong with a method, for example `com.atproto.sync.getRecord`; with `None`
    /// of all methods but the stream, instead of what was set of single ones.
    pub fn set_fault(&self, method: Option<&str>, fault: Fault) {
        self.shared.state().faults.set(method, fault);
    }

    /// Sets the DID that `describeServer` names.
    pub fn set_service_did(&self, did: &str) {
        self.shared.state().service_did = Some(did.to_owned());
    }

    /// What it answers about every account, deleted ones included.
    pub fn repos(&self) -> BTreeMap<String, RepoRow> {
        self.shared.state().repos.clone()
    }

    /// Sets the document of its `did:web`.
    pub fn set_web_document(&self, document: serde_json::Value) {
        self.shared.state().web_document = Some(document);
    }

    /// Open subscriptions.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Subscriptions opened since the start.
    pub fn connections_ever(&self) -> u64 {
        self.shared.connections_ever.load(Ordering::SeqCst)
    }

    /// How often a path was asked for, for example `/xrpc/com.atproto.sync.getRepoStatus`.
    pub fn calls(&self, path: &str) -> u64 {
        self.shared.state().calls.get(path).copied().unwrap_or(0)
    }

    /// Waits until this many subscriptions are open.
    pub async fn connected(&self, count: usize) {
        let mut signal = self.shared.signal.subscribe();
        while self.connections() < count {
            // A connection that opens sends a signal; the sender lives as long as this host.
            signal.changed().await.expect("the host lives");
        }
    }

    fn wake(&self) {
        self.shared.signal.send_modify(|signal| signal.appended += 1);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
        self.drop_connections();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds a host's state")
    }
}
