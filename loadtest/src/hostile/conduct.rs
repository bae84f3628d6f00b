//! What each of them does with a connection.

use std::future::pending;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use protocol::ws::Opcode;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Conduct, Tally, upgrade};
use crate::hosts::{framed, header};
use crate::wire::Frame;

impl Conduct {
    /// Serves a subscription until it ends.
    pub(super) async fn act(
        &self,
        socket: &mut TcpStream,
        request: &str,
        tally: &Tally,
    ) -> anyhow::Result<()> {
        let (mut head, mut seq) = (upgrade(request, ""), cursor(request));
        match self {
            Self::AcceptAndClose => return Ok(()),
            Self::Mute => return pending().await,
            Self::SlowHandshake(pause) => return dribble(socket, head.as_bytes(), *pause).await,
            Self::Redirect(location) => {
                head = format!(
                    "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
                );
            }
            Self::Relay(_) => {
                head = upgrade(request, "Server: otherrelay/1.0 (atproto-relay)\r\n");
            }
            _ => {}
        }
        socket.write_all(head.as_bytes()).await.context("answer the handshake")?;
        match self {
            Self::HalfOpen(frames) => {
                send(socket, frames, &mut seq, tally).await?;
                pending().await
            }
            Self::SlowFrame { bytes, pause } => {
                let length = usize::try_from(*bytes).context("length of a frame")?;
                let mut start = Vec::new();
                header(Opcode::Binary, length).write(&mut start);
                socket.write_all(&start).await?;
                dribble(socket, &vec![0; length], *pause).await
            }
            Self::Flood(frames) => over_and_over(socket, frames, Duration::ZERO, seq, tally).await,
            Self::Bursts { frames, pause } => {
                over_and_over(socket, frames, *pause, seq, tally).await
            }
            Self::GarbageMessages => loop {
                socket.write_all(&framed(&random())).await?;
            },
            Self::GarbageBytes => loop {
                socket.write_all(&random()).await?;
            },
            Self::Relay(frames) => {
                send(socket, frames, &mut seq, tally).await?;
                pending().await
            }
            _ => Ok(()),
        }
    }
}

/// What the request asks to be followed; 0 if nothing.
fn cursor(request: &str) -> u64 {
    let value = request.split_once("cursor=").map_or("", |(_, rest)| rest);
    let end = value.find(|it: char| !it.is_ascii_digit()).unwrap_or(value.len());
    value[..end].parse().unwrap_or(0)
}

/// Frames without an end, under rising numbers; what comes back is read and left.
async fn over_and_over(
    socket: &mut TcpStream,
    frames: &[Frame],
    pause: Duration,
    mut seq: u64,
    tally: &Tally,
) -> anyhow::Result<()> {
    let (mut reader, mut writer) = socket.split();
    let sending = async {
        loop {
            send(&mut writer, frames, &mut seq, tally).await?;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    };
    let mut left = [0; 4096];
    let reading = async {
        while reader.read(&mut left).await? > 0 {}
        anyhow::Ok(())
    };
    tokio::select! {
        sent = sending => sent,
        ended = reading => ended,
    }
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    frames: &[Frame],
    seq: &mut u64,
    tally: &Tally,
) -> anyhow::Result<()> {
    for frame in frames {
        *seq += 1;
        let wire = framed(&frame.with_seq(*seq));
        writer.write_all(&wire).await.context("send a frame")?;
        tally.frames.fetch_add(1, Ordering::Relaxed);
        tally.bytes.fetch_add(wire.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

async fn dribble(socket: &mut TcpStream, bytes: &[u8], pause: Duration) -> anyhow::Result<()> {
    for byte in bytes {
        socket.write_all(&[*byte]).await.context("send a byte")?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

fn random() -> Vec<u8> {
    let mut bytes = vec![0; GARBAGE_BYTES];
    ChaCha8Rng::seed_from_u64(7).fill(&mut bytes[..]);
    bytes
}

const GARBAGE_BYTES: usize = 1000;
