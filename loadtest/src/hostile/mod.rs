//! Hosts that do harm: each accepts connections and then behaves in one bad way.
//!
//! They speak through bare sockets: no HTTP library would let them.

mod conduct;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::wire::Frame;

/// What a host does to who subscribes to it. To `describeServer` it answers as a PDS.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// It takes the connection and never says anything.
    Mute,
    /// It ends every connection at once.
    AcceptAndClose,
    /// Its answer to the handshake comes byte by byte, with this pause.
    SlowHandshake(Duration),
    /// It sends the handshake's answer, then these frames, and from then on neither reads nor
    /// writes: a peer whose network has gone.
    HalfOpen(Vec<Frame>),
    /// It begins a frame of this length and sends it byte by byte, with this pause.
    SlowFrame {
        /// The length that the frame claims.
        bytes: u64,
        /// From byte to byte.
        pause: Duration,
    },
    /// These frames over and over, under rising numbers, as fast as the socket takes them.
    Flood(Vec<Frame>),
    /// These frames at once, then a pause, over and over, under rising numbers.
    Bursts {
        /// What comes at once.
        frames: Vec<Frame>,
        /// Until it comes again.
        pause: Duration,
    },
    /// Random bytes in well-formed WebSocket messages.
    GarbageMessages,
    /// Random bytes behind the handshake.
    GarbageBytes,
    /// It answers the handshake and ends the connection.
    HandshakeAndClose,
    /// The handshake is answered with a redirect to this URL.
    Redirect(String),
    /// It is another relay: it says so in its `Server` header, and sends these frames.
    Relay(Vec<Frame>),
}

/// A running hostile host. It ends, with all its connections, when this is dropped.
pub struct Hostile {
    name: String,
    tally: Arc<Tally>,
    server: JoinHandle<()>,
}

/// What it did.
#[derive(Debug, Default)]
pub struct Tally {
    subscriptions: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Hostile {
    /// Opens one on 127.0.0.1 at this port; zero: any free one.
    pub async fn start(conduct: Conduct, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("bind a host")?;
        let port = listener.local_addr().context("name the host's address")?.port();
        let tally = Arc::new(Tally::default());
        let server = tokio::spawn(serve(listener, Arc::new(conduct), Arc::clone(&tally)));
        Ok(Self { name: format!("localhost:{port}"), tally, server })
    }

    /// `localhost:PORT`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it was subscribed to, whatever became of that.
    pub fn subscriptions(&self) -> u64 {
        self.tally.subscriptions.load(Ordering::Relaxed)
    }

    /// Frames that sockets took.
    pub fn frames(&self) -> u64 {
        self.tally.frames.load(Ordering::Relaxed)
    }

    /// Bytes of them.
    pub fn bytes(&self) -> u64 {
        self.tally.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Takes connections; those end with it.
async fn serve(listener: TcpListener, conduct: Arc<Conduct>, tally: Arc<Tally>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { return };
                connections.spawn(connection(socket, Arc::clone(&conduct), Arc::clone(&tally)));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connection(mut socket: TcpStream, conduct: Arc<Conduct>, tally: Arc<Tally>) {
    let outcome = async {
        if matches!(*conduct, Conduct::AcceptAndClose) {
            tally.subscriptions.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let request = read_head(&mut socket).await?;
        if !request.starts_with("GET /xrpc/com.atproto.sync.subscribeRepos") {
            return describe(&mut socket, &request).await;
        }
        tally.subscriptions.fetch_add(1, Ordering::Relaxed);
        conduct.act(&mut socket, &request, &tally).await
    };
    if let Err(error) = outcome.await {
        tracing::debug!(%error, "hostile host lost a connection");
    }
}

/// `describeServer`, so that it is taken for a host; 401 for all else.
async fn describe(socket: &mut TcpStream, request: &str) -> anyhow::Result<()> {
    let (status, body) = match request.contains("com.atproto.server.describeServer") {
        true => ("200 OK", "{\"did\":\"did:web:hostile.test\",\"availableUserDomains\":[]}"),
        false => ("401 Unauthorized", "{\"error\":\"AuthMissing\",\"message\":\"AuthMissing\"}"),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(answer.as_bytes()).await.context("answer")
}

async fn read_head(socket: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        anyhow::ensure!(head.len() < HEAD_BYTES_MAX, "the request is too long");
        head.push(socket.read_u8().await.context("read the request")?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The head of the answer that upgrades; `more`: further header lines.
fn upgrade(request: &str, more: &str) -> String {
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let accept = derive_accept_key(key.unwrap_or_default().as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

const HEAD_BYTES_MAX: usize = 16 * 1024;
