//! A light subscriber: reads a stream as raw messages, without copying them, and decodes on
//! demand.

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use protocol::frame::{
    AccountFrame, CommitFrame, HostKind, IdentityFrame, Kind, Peek, SyncFrame, peek,
};
use protocol::ws::{self, Header, Opcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// A subscription to a `subscribeRepos` stream.
pub struct Subscription {
    socket: TcpStream,
    buffer: BytesMut,
}

/// What a subscription brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// One binary message.
    Message(Bytes),
    /// The server closed, with a code (1005: none) and a reason.
    Closed(u16, String),
    /// The connection ended without a close frame.
    Lost,
}

/// A decoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An event of an account.
    Frame {
        /// What it is.
        kind: Kind,
        /// Its place in the stream.
        seq: u64,
        /// Its account.
        did: Option<String>,
        /// Its revision, of a `#commit` or `#sync`.
        rev: Option<String>,
        /// When its host made it.
        time: Option<String>,
        /// Ops of a `#commit`.
        ops: usize,
    },
    /// `#info`.
    Info {
        /// Its name.
        name: String,
    },
    /// An error frame.
    Error {
        /// Its name.
        error: String,
        /// For people.
        message: String,
    },
    /// Something else.
    Unknown,
}

/// Subscribes at a base URL (`ws://HOST:PORT` or `http://HOST:PORT`), from a cursor.
pub async fn subscribe(base: &str, cursor: Option<u64>) -> anyhow::Result<Subscription> {
    let query = cursor.map_or(String::new(), |cursor| format!("?cursor={cursor}"));
    subscribe_raw(base, &query).await
}

/// Subscribes with any query string, for example `?cursor=abc`.
pub async fn subscribe_raw(base: &str, query: &str) -> anyhow::Result<Subscription> {
    connect(base, query, None).await
}

/// Subscribes with a receive buffer of this size, as far as the system gives it.
pub async fn subscribe_with(
    base: &str,
    cursor: Option<u64>,
    receive_bytes: Option<u32>,
) -> anyhow::Result<Subscription> {
    let query = cursor.map_or(String::new(), |cursor| format!("?cursor={cursor}"));
    connect(base, &query, receive_bytes).await
}

async fn connect(
    base: &str,
    query: &str,
    receive_bytes: Option<u32>,
) -> anyhow::Result<Subscription> {
    let authority = base
        .strip_prefix("ws://")
        .or_else(|| base.strip_prefix("http://"))
        .with_context(|| format!("{base}: neither ws:// nor http://"))?
        .trim_end_matches('/');
    let mut socket = match receive_bytes {
        None => TcpStream::connect(authority).await.context("connect")?,
        Some(bytes) => {
            let socket = TcpSocket::new_v4().context("make a socket")?;
            socket.set_recv_buffer_size(bytes).context("set the receive buffer")?;
            let address = authority.parse().context("an IPv4 address and a port")?;
            socket.connect(address).await.context("connect")?
        }
    };
    socket.set_nodelay(true).context("set no delay")?;
    let request = format!(
        "GET {PATH}{query} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.context("send the handshake")?;
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break buffer.split_to(end + 4);
        }
        ensure!(buffer.len() < HEAD_BYTES_MAX, "the handshake's answer is too long");
        let read = socket.read_buf(&mut buffer).await.context("read the handshake's answer")?;
        ensure!(read > 0, "closed during the handshake");
    };
    let head = std::str::from_utf8(&head).context("the handshake's answer is not text")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.starts_with("HTTP/1.1 101 "), "no upgrade: {status}");
    let accept = derive_accept_key(KEY.as_bytes());
    ensure!(head.contains(&accept), "the handshake's answer is not for our key");
    Ok(Subscription { socket, buffer })
}

impl Subscription {
    /// The next message. Answers pings on the way.
    pub async fn next(&mut self) -> anyhow::Result<Received> {
        loop {
            let Some((head, start)) = Header::parse(&self.buffer)? else {
                if !self.fill().await? {
                    return Ok(Received::Lost);
                }
                continue;
            };
            let len = usize::try_from(head.len).context("length of a message")?;
            ensure!(len <= MESSAGE_BYTES_MAX, "a message of {len} bytes");
            if self.buffer.len() < start + len {
                self.buffer.reserve(start + len - self.buffer.len());
                if !self.fill().await? {
                    return Ok(Received::Lost);
                }
                continue;
            }
            let mut frame = self.buffer.split_to(start + len);
            let payload = frame.split_off(start).freeze();
            match head.opcode {
                Opcode::Binary if head.fin => return Ok(Received::Message(payload)),
                Opcode::Ping => self.pong(&payload).await?,
                Opcode::Pong => {}
                Opcode::Close => return Ok(closed(&payload)),
                other => bail!("an unexpected {other:?} frame"),
            }
        }
    }

    /// The socket, and what was read from it and not taken.
    pub fn into_parts(self) -> (TcpStream, Bytes) {
        (self.socket, self.buffer.freeze())
    }

    /// The next message; anything else is an error.
    pub async fn next_message(&mut self) -> anyhow::Result<Bytes> {
        match self.next().await? {
            Received::Message(message) => Ok(message),
            end => bail!("the stream ended: {end:?}"),
        }
    }

    /// Reads what has come. False: the connection has ended.
    async fn fill(&mut self) -> anyhow::Result<bool> {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
            self.buffer.reserve(READ_BYTES);
        }
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(read) => Ok(read > 0),
            // A server that was killed resets its connections.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error).context("read"),
        }
    }

    async fn pong(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let len = u64::try_from(payload.len()).context("length of a ping")?;
        let head = Header { fin: true, opcode: Opcode::Pong, mask: Some(MASK), len };
        let mut out = Vec::with_capacity(payload.len() + ws::HEADER_BYTES_MAX);
        head.write(&mut out);
        let start = out.len();
        out.extend_from_slice(payload);
        ws::mask(MASK, 0, &mut out[start..]);
        self.socket.write_all(&out).await.context("answer a ping")
    }
}

/// Decodes a message with the relay's own reader.
pub fn decode(message: &Bytes) -> anyhow::Result<Event> {
    Ok(match peek(message).context("read a frame")? {
        Peek::Event { kind, seq, did } => {
            let HostKind::Event(kind) = kind else { bail!("a legacy event: {kind:?}") };
            let seq = seq.context("an event without seq")?;
            let (rev, time, ops) = details(message, kind);
            Event::Frame { kind, seq, did: did.map(str::to_owned), rev, time, ops }
        }
        Peek::Info { name, .. } => Event::Info { name: name.unwrap_or_default().to_owned() },
        Peek::Error { error, message } => Event::Error {
            error: error.unwrap_or_default().to_owned(),
            message: message.unwrap_or_default().to_owned(),
        },
        Peek::Unknown { .. } => Event::Unknown,
    })
}

/// Revision, time and number of ops, as far as the frame has them.
fn details(message: &Bytes, kind: Kind) -> (Option<String>, Option<String>, usize) {
    let owned = |text: &str| Some(text.to_owned());
    match kind {
        Kind::Commit => CommitFrame::decode(message)
            .map_or((None, None, 0), |it| (owned(it.rev), owned(it.time), it.ops.len())),
        Kind::Sync => SyncFrame::decode(message)
            .map_or((None, None, 0), |it| (owned(it.rev), owned(it.time), 0)),
        Kind::Identity => {
            IdentityFrame::decode(message).map_or((None, None, 0), |it| (None, owned(it.time), 0))
        }
        Kind::Account => {
            AccountFrame::decode(message).map_or((None, None, 0), |it| (None, owned(it.time), 0))
        }
    }
}

fn closed(payload: &[u8]) -> Received {
    match payload.split_first_chunk() {
        Some((code, reason)) => Received::Closed(
            u16::from_be_bytes(*code),
            String::from_utf8_lossy(reason).into_owned(),
        ),
        None => Received::Closed(CLOSE_NO_STATUS, String::new()),
    }
}

const PATH: &str = "/xrpc/com.atproto.sync.subscribeRepos";
/// RFC 6455 wants it random to see through confused proxies, of which there are none here.
const KEY: &str = "bWFpbnN0ZW0gbG9hZHRlcw==";
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
/// Large reads make system calls rare at 100,000 messages a second.
const READ_BYTES: usize = 256 * 1024;
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Larger than anything that may be sent.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// RFC 6455 section 7.4.1: "no status code was actually present".
const CLOSE_NO_STATUS: u16 = 1005;
