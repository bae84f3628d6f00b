//! A host made of an independent WebSocket library, driven frame by frame by the test, and a
//! crawler that follows it. Deadlines are safety nets: no test passes or fails by the clock.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crawler::{Content, Dial, DialError, Handle, Inbound, Intake, Live, Options, Report, Resume};
use crawler::{Start, Timing, Told, Transport};
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use protocol::host::{HostName, HostRules};
use protocol::host_state::{Allowance, HostState, Meter};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::reject::Reject;
use protocol::tripwire::Tripwire;
use serde_ipld_dagcbor::to_vec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Longer than anything here takes on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Fails instead of hanging.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// A listening host.
pub(crate) struct Host {
    listener: TcpListener,
    /// Its `Server` header.
    pub(crate) server: Option<&'static str>,
}

/// A connection of the crawler, after the handshake.
pub(crate) struct Connection {
    /// The query of its request.
    pub(crate) query: Option<String>,
    /// Its headers.
    pub(crate) request: Request,
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Host {
    pub(crate) async fn listen() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), server: None }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) async fn accept_raw(&self) -> TcpStream {
        within("a dial", self.listener.accept()).await.unwrap().0
    }

    #[expect(clippy::result_large_err, reason = "the library's callback")]
    pub(crate) async fn accept(&self) -> Connection {
        let stream = self.accept_raw().await;
        let mut seen = None;
        let callback = |request: &Request, mut response: Response| {
            seen = Some(request.clone());
            if let Some(server) = self.server {
                response.headers_mut().insert("server", HeaderValue::from_static(server));
            }
            Ok(response)
        };
        let socket = within("a handshake", accept_hdr_async(stream, callback)).await.unwrap();
        let request = seen.unwrap();
        assert_eq!(request.uri().path(), "/xrpc/com.atproto.sync.subscribeRepos");
        Connection { query: request.uri().query().map(str::to_owned), request, socket }
    }

    /// Accepts, and checks the cursor that was asked with.
    pub(crate) async fn accept_at(&self, cursor: Option<u64>) -> Connection {
        let connection = self.accept().await;
        assert_eq!(connection.query, cursor.map(|cursor| format!("cursor={cursor}")));
        connection
    }
}

impl Connection {
    pub(crate) async fn send(&mut self, frame: impl Into<Vec<u8>>) {
        let message = Message::binary(frame.into());
        within("room to send", self.socket.send(message)).await.unwrap();
    }

    pub(crate) async fn send_events(&mut self, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            self.send(event(seq)).await;
        }
    }

    pub(crate) async fn send_fragment(&mut self, frame: Frame) {
        within("room to send", self.socket.send(Message::Frame(frame))).await.unwrap();
    }

    /// Bytes that the library would not send.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    /// What the crawler sends next.
    pub(crate) async fn next(&mut self) -> Message {
        within("a message", self.socket.next()).await.unwrap().unwrap()
    }

    /// The code with which the crawler closes; 1006 if without a close frame.
    pub(crate) async fn closed(&mut self) -> u16 {
        within("the close", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(Some(close)))) => return close.code.into(),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return 1006,
                }
            }
        })
        .await
    }
}

/// The crawler under test and all that it says.
pub(crate) struct Net {
    pub(crate) handle: Handle,
    inbound_tx: mpsc::Sender<Inbound>,
    pub(crate) inbound: mpsc::Receiver<Inbound>,
    pub(crate) reports: mpsc::Receiver<Report>,
    /// Whether reports are noted as soon as they are read.
    pub(crate) noting: watch::Sender<bool>,
    /// Whether every dial fails.
    pub(crate) away: Arc<AtomicBool>,
    /// Taking an event panics.
    pub(crate) poison: Arc<Poison>,
}

/// An event whose taking panics, and how often.
#[derive(Default)]
pub(crate) struct Poison {
    pub(crate) seq: AtomicU64,
    pub(crate) times: AtomicU64,
}

struct Recorder(mpsc::Sender<Inbound>, Arc<Poison>);

impl Intake for Recorder {
    fn deliver(&self, inbound: Inbound) {
        if inbound.ticket.seq.get() == self.1.seq.load(Ordering::Relaxed)
            && self.1.times.load(Ordering::Relaxed) > 0
        {
            self.1.times.fetch_sub(1, Ordering::Relaxed);
            panic!("poison");
        }
        self.0.try_send(inbound).expect("a test reads what it causes");
    }
}

/// The clock of a crawler begins here, and goes on.
pub(crate) const BEGIN: Micros = Micros(1_700_000_000_000_000);

/// More than any test sends.
pub(crate) const UNLIMITED: Allowance =
    Allowance { per_second: u64::MAX, per_hour: u64::MAX, per_day: u64::MAX, accounts: u64::MAX };

/// Back-off without waiting; everything else as in production.
pub(crate) fn quick() -> Timing {
    Timing {
        back_off_min: Duration::from_millis(1),
        back_off_max: Duration::from_millis(20),
        redial_spacing: Duration::ZERO,
        redial_spacing_max: Duration::ZERO,
        ..Timing::default()
    }
}

pub(crate) const HOST: HostId = HostId(7);

impl Net {
    /// A crawler whose host `h0.test`, `h1.test`, … are these.
    pub(crate) fn start(hosts: &[&Host], timing: Timing) -> Self {
        let addresses: BTreeMap<String, SocketAddr> = hosts
            .iter()
            .enumerate()
            .map(|(index, host)| (format!("h{index}.host.dev"), host.address()))
            .collect();
        let away = Arc::new(AtomicBool::new(false));
        let is_away = Arc::clone(&away);
        let dial = Dial::new(move |name: HostName| {
            let address = addresses[name.as_str()];
            let is_away = is_away.load(Ordering::Relaxed);
            async move {
                if is_away {
                    return Err(DialError::Connection("nobody there".to_owned()));
                }
                match TcpStream::connect(address).await {
                    Ok(stream) => Ok(Box::new(stream) as Box<dyn Transport>),
                    Err(error) => Err(DialError::Connection(error.to_string())),
                }
            }
        });
        let (reports_tx, reports) = mpsc::channel(1000);
        let (inbound_tx, inbound) = mpsc::channel(10_000);
        let begin = std::time::Instant::now();
        let options = Options {
            clock: Arc::new(move || BEGIN.plus(begin.elapsed())),
            dial,
            user_agent: HeaderValue::from_static("mainstem-test/1 (https://example.org)"),
            intake_bytes: 64 * 1024 * 1024,
            dials_max: 4,
            timing,
            tripwire: Tripwire::default(),
        };
        let (told_tx, mut told) = mpsc::channel::<Told>(1000);
        let (open, mut gate) = watch::channel(true);
        tokio::spawn(async move {
            while let Some(told) = told.recv().await {
                let waits = !matches!(told.report, Report::State { .. });
                let sent = reports_tx.send(told.report.clone()).await;
                // The test or the crawler has ended first.
                if sent.is_err() || (waits && gate.wait_for(|open| *open).await.is_err()) {
                    return;
                }
            }
        });
        Self {
            handle: crawler::start(options, told_tx),
            inbound_tx,
            inbound,
            reports,
            noting: open,
            away,
            poison: Arc::default(),
        }
    }

    /// One host, followed from there.
    pub(crate) fn follow(host: &Host, cursor: Resume, timing: Timing) -> Self {
        let net = Self::start(&[host], timing);
        net.subscribe(0, cursor);
        net
    }

    pub(crate) fn subscribe(&self, index: u32, cursor: Resume) {
        self.handle.subscribe(self.host(index, cursor));
    }

    /// What the store knows of a host that was just added.
    pub(crate) fn host(&self, index: u32, cursor: Resume) -> Start {
        Start {
            id: HostId(HOST.0 + index),
            name: HostName::parse(&format!("h{index}.host.dev"), HostRules::Public).unwrap(),
            epoch: Epoch(0),
            cursor,
            intake: Arc::new(Recorder(self.inbound_tx.clone(), Arc::clone(&self.poison))),
            meter: Meter::default(),
            allowance: UNLIMITED,
            accounts: Arc::default(),
            state: HostState::Idle,
        }
    }

    pub(crate) fn live(&self) -> Live {
        self.handle.live(HOST).unwrap()
    }

    /// Waits until the host shows that.
    pub(crate) async fn shows<T>(&self, what: &str, wanted: impl Fn(&Live) -> Option<T>) -> T {
        within(what, async {
            loop {
                if let Some(found) = wanted(&self.live()) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
    }

    pub(crate) async fn inbound(&mut self) -> Inbound {
        within("an event", self.inbound.recv()).await.unwrap()
    }

    /// The next events have these numbers, chained after `prev`.
    pub(crate) async fn expect(
        &mut self,
        epoch: u32,
        mut prev: u64,
        seqs: impl IntoIterator<Item = u64>,
    ) {
        for seq in seqs {
            let Inbound { ticket, content, .. } = self.inbound().await;
            let link = (ticket.epoch.0, ticket.prev.get(), ticket.seq.get());
            assert_eq!(link, (epoch, prev, seq));
            let Content::Event { frame, did, .. } = content else { panic!("{content:?}") };
            assert_eq!(frame, event(seq));
            assert_eq!(did.unwrap().to_string(), DID);
            prev = seq;
        }
    }

    /// The next report that `wanted` picks.
    pub(crate) async fn report<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&Report) -> Option<T>,
    ) -> T {
        within(what, async {
            loop {
                let report = self.reports.recv().await.unwrap();
                if let Some(found) = wanted(&report) {
                    return found;
                }
            }
        })
        .await
    }

    /// The reason of the next change into `state`.
    pub(crate) async fn state(&mut self, wanted: HostState) -> String {
        self.report("a state", |report| match report {
            Report::State { state, reason, .. } if *state == wanted => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// The next meter that is reported.
    pub(crate) async fn meter(&mut self) -> Meter {
        self.report("a meter", |report| match report {
            Report::Meter { meter, .. } => Some(*meter),
            _ => None,
        })
        .await
    }

    pub(crate) async fn dropped(&mut self) -> (Reject, usize) {
        self.report("a drop", |report| match report {
            Report::Dropped { reject, excerpt, .. } => Some((*reject, excerpt.len())),
            _ => None,
        })
        .await
    }

    pub(crate) async fn gap(&mut self) -> String {
        self.report("a gap", |report| match report {
            Report::Gap { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn reset(&mut self) -> (u32, String) {
        self.report("a reset", |report| match report {
            Report::Reset { epoch, reason, .. } => Some((epoch.0, reason.clone())),
            _ => None,
        })
        .await
    }
}

pub(crate) fn after(seq: u64) -> Resume {
    Resume::After(HostSeq::new(seq).unwrap())
}

pub(crate) const DID: &str = "did:plc:yk4dd2qkboz2yv6tpubpc6co";

#[derive(serde::Serialize)]
struct Head {
    t: &'static str,
    op: i8,
}

#[derive(serde::Serialize)]
struct Body {
    did: &'static str,
    pad: Pad,
    seq: u64,
}

/// So many bytes: a text of megabytes is refused.
struct Pad(usize);

impl serde::Serialize for Pad {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&vec![b'x'; self.0])
    }
}

/// An `#identity` with this number.
pub(crate) fn event(seq: u64) -> Vec<u8> {
    padded_event(seq, 24)
}

/// An event of a little over `bytes` bytes.
pub(crate) fn padded_event(seq: u64, bytes: usize) -> Vec<u8> {
    numbered("#identity", seq, bytes)
}

pub(crate) fn numbered(t: &'static str, seq: u64, bytes: usize) -> Vec<u8> {
    event_of(DID, t, seq, bytes)
}

pub(crate) fn event_of(did: &'static str, t: &'static str, seq: u64, bytes: usize) -> Vec<u8> {
    let mut frame = to_vec(&Head { t, op: 1 }).unwrap();
    frame.extend(to_vec(&Body { did, pad: Pad(bytes), seq }).unwrap());
    frame
}

/// An event that says when it was.
pub(crate) fn event_at(seq: u64, time: &'static str) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Timed {
        did: &'static str,
        seq: u64,
        time: &'static str,
    }
    let mut frame = to_vec(&Head { t: "#identity", op: 1 }).unwrap();
    frame.extend(to_vec(&Timed { did: DID, seq, time }).unwrap());
    frame
}

/// A frame of text fields.
pub(crate) fn texts(head: &BTreeMap<&str, Value>, body: &[(&str, &str)]) -> Vec<u8> {
    let mut frame = to_vec(head).unwrap();
    frame.extend(to_vec(&body.iter().copied().collect::<BTreeMap<_, _>>()).unwrap());
    frame
}

#[derive(serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Text(&'static str),
    Int(i64),
}

pub(crate) fn error(name: &str, message: &str) -> Vec<u8> {
    texts(&BTreeMap::from([("op", Value::Int(-1))]), &[("error", name), ("message", message)])
}

pub(crate) fn info(name: &str, message: &str) -> Vec<u8> {
    let head = BTreeMap::from([("op", Value::Int(1)), ("t", Value::Text("#info"))]);
    texts(&head, &[("name", name), ("message", message)])
}

/// Reads an HTTP request's head.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a request", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
