//! One subscription: the cursor's meaning, then the log for as long as the connection lives.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use protocol::ws::{self, Header, Opcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::log::{framed, header};
use super::{Shared, Signal};
use crate::wire::{Frame, Value};

/// What a cursor asks for, judged as the reference PDS does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Everything after this seq.
    After(u64),
    /// The cursor is older than the window: told so, then all of the window.
    Outdated(u64),
    /// The cursor is greater than the newest seq.
    Future,
    /// It is not an integer.
    Invalid,
}

/// Serves a subscription until it ends.
pub(super) async fn serve(io: Upgraded, cursor: Option<String>, shared: Arc<Shared>) {
    let signal = shared.signal.subscribe();
    shared.connections.fetch_add(1, Ordering::SeqCst);
    shared.connections_ever.fetch_add(1, Ordering::SeqCst);
    shared.signal.send_modify(|_| {});
    if let Err(error) = stream(io, cursor.as_deref(), &shared, signal).await {
        tracing::debug!(host = %shared.name, %error, "simulated host lost a subscription");
    }
    shared.connections.fetch_sub(1, Ordering::SeqCst);
}

async fn stream(
    io: Upgraded,
    cursor: Option<&str>,
    shared: &Shared,
    mut signal: watch::Receiver<Signal>,
) -> anyhow::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(io));
    let dropped = signal.borrow_and_update().dropped;
    let (start, life) = start(cursor, shared);
    let mut seq = match start {
        Start::After(seq) => seq,
        Start::Outdated(floor) => {
            writer.write_all(&framed(&info().with_seq(0))).await?;
            floor
        }
        Start::Future => {
            return refuse(&mut writer, "FutureCursor", "Cursor in the future.").await;
        }
        Start::Invalid => {
            return refuse(&mut writer, "InvalidRequest", "cursor must be an integer").await;
        }
    };
    let mut from_client = Vec::new();
    let mut out = Vec::with_capacity(WRITE_BYTES + 8192);
    loop {
        let state = *signal.borrow_and_update();
        if state.dropped != dropped {
            return Ok(());
        }
        if !state.stalled {
            answer(&mut from_client, &mut out)?;
            let log = &mut shared.state().log;
            if log.life != life {
                return Ok(());
            }
            seq = log.read(seq, WRITE_BYTES, &mut out);
        }
        if out.is_empty() {
            tokio::select! {
                changed = signal.changed() => changed.context("host ended")?,
                read = receive(&mut reader, &mut from_client) => read?,
            }
        } else {
            tokio::select! {
                wrote = writer.write_all(&out) => wrote.context("write")?,
                () = ended(&mut signal, dropped) => return Ok(()),
            }
            out.clear();
        }
    }
}

/// Returns when all connections must end: a client that does not read cannot prevent it.
async fn ended(signal: &mut watch::Receiver<Signal>, dropped: u64) {
    while signal.borrow_and_update().dropped == dropped {
        if signal.changed().await.is_err() {
            return;
        }
    }
}

fn start(cursor: Option<&str>, shared: &Shared) -> (Start, u64) {
    let state = shared.state();
    let log = &state.log;
    let start = match cursor.filter(|cursor| !cursor.is_empty()) {
        None => Start::After(log.seq()),
        Some(cursor) => match cursor.parse::<i64>() {
            Err(_) => Start::Invalid,
            Ok(number) => match u64::try_from(number).unwrap_or(0) {
                number if number > log.seq() => Start::Future,
                number if number < log.floor() => Start::Outdated(log.floor()),
                number => Start::After(number),
            },
        },
    };
    (start, log.life)
}

async fn receive(
    reader: &mut ReadHalf<TokioIo<Upgraded>>,
    from_client: &mut Vec<u8>,
) -> anyhow::Result<()> {
    if reader.read_buf(from_client).await.context("read")? == 0 {
        bail!("the client left");
    }
    Ok(())
}

/// Takes whole frames of the client; a ping is answered, the rest has no meaning here.
fn answer(from_client: &mut Vec<u8>, out: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        let Some((head, start)) = Header::parse(from_client)? else { return Ok(()) };
        let end = start + usize::try_from(head.len).context("a client's frame is small")?;
        if end > FROM_CLIENT_BYTES_MAX {
            bail!("a client's frame is too long");
        }
        let Some(payload) = from_client.get_mut(start..end) else { return Ok(()) };
        let Some(mask) = head.mask else { bail!("a client's frame is not masked") };
        ws::mask(mask, 0, payload);
        match head.opcode {
            Opcode::Ping => {
                header(Opcode::Pong, payload.len()).write(out);
                out.extend_from_slice(payload);
            }
            Opcode::Close => bail!("the client closed"),
            _ => {}
        }
        from_client.drain(..end);
    }
}

/// An error frame, then close 1008 with its name.
async fn refuse(
    writer: &mut WriteHalf<TokioIo<Upgraded>>,
    name: &str,
    message: &str,
) -> anyhow::Result<()> {
    let mut wire = framed(&error(name, message).with_seq(0)).to_vec();
    header(Opcode::Close, 2 + name.len()).write(&mut wire);
    wire.extend_from_slice(&CLOSE_POLICY.to_be_bytes());
    wire.extend_from_slice(name.as_bytes());
    writer.write_all(&wire).await?;
    writer.shutdown().await?;
    Ok(())
}

fn info() -> Frame {
    let message = "Requested cursor exceeded limit. Possibly missing events";
    let payload = Value::Map(vec![("name", "OutdatedCursor".into()), ("message", message.into())]);
    Frame::event("#info", &payload)
}

/// An error frame, as the reference PDS sends it.
fn error(name: &str, message: &str) -> Frame {
    // -1 in CBOR is the byte 0x20.
    let header = Value::Map(vec![("op", Value::Encoded(vec![0x20]))]);
    let payload = Value::Map(vec![("error", name.into()), ("message", message.into())]);
    Frame::from_parts(&header, &payload)
}

/// One write to the socket: large enough to make system calls rare, small enough to stay fair.
const WRITE_BYTES: usize = 128 * 1024;
/// Clients send control frames only, of at most 125 bytes and a header.
const FROM_CLIENT_BYTES_MAX: usize = 4096;
const CLOSE_POLICY: u16 = 1008;
