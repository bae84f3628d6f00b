//! What the socket's decoder costs on streams of 2 MB that no honest host sends, and on one that
//! honest ones do, beside the SHA-256 of the same bytes: CPU time of the fastest of some rounds.
//!
//! `cargo run --release -p crawler --example decoder_bench`

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no result")]
#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![allow(dead_code, unreachable_pub, reason = "a part of the crawler, without the rest")]

#[path = "../src/socket/decoder.rs"]
mod decoder;
#[path = "../src/limits.rs"]
mod limits;

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use decoder::{Decoder, Step};
use protocol::cid::Cid;
use rustix::time::{ClockId, clock_gettime};

fn main() {
    println!("{:<40} {:>9} {:>9} {:>9}  ends", "stream", "bytes", "sha-256", "decode");
    let whole = message(&[0x82, 127, 0, 0, 0, 0, 0, 0x1e, 0x84, 0x80], 2_000_000);
    row("one message", &whole);
    row("messages of 4 kB", &message(&[0x82, 126, 0x0f, 0xa0], 4_000).repeat(500));
    row("a message in fragments of 500 bytes", &fragments(500));
    row("a message in fragments of one byte", &fragments(1));
    row("a message in fragments of nothing", &fragments(0));
    row("messages of nothing", &[0x82, 0].repeat(1_000_000));
    row("pings of nothing", &[0x89, 0].repeat(1_000_000));
    row("pings of 125 bytes", &message(&[0x89, 125], 125).repeat(15_748));
    row("pongs of nothing", &[0x8a, 0].repeat(1_000_000));
}

fn message(header: &[u8], bytes: usize) -> Vec<u8> {
    [header, &vec![7; bytes]].concat()
}

fn fragments(bytes: u16) -> Vec<u8> {
    let length = bytes.to_be_bytes();
    let header = |first: u8| match u8::try_from(bytes) {
        Ok(short @ 0..126) => vec![first, short],
        _ => vec![first, 126, length[0], length[1]],
    };
    let bytes = usize::from(bytes);
    let rest = message(&header(0x00), bytes);
    let mut stream = message(&header(0x02), bytes);
    stream.extend(rest.repeat(2_000_000 / rest.len()));
    stream.extend(message(&header(0x80), bytes));
    stream
}

fn row(name: &str, stream: &[u8]) {
    let sha256 = fastest(|| Cid::of_cbor(black_box(stream)));
    let decode = fastest(|| decode(black_box(stream)));
    let bytes = stream.len();
    println!("{name:<40} {bytes:>9} {sha256:>9.1?} {decode:>9.1?}  {}", decode_end(stream));
}

fn decode_end(stream: &[u8]) -> String {
    decode(stream).err().unwrap_or_else(|| "at its end".to_owned())
}

/// As the socket does it: a read buffer at a time, and no further than its limits allow.
fn decode(stream: &[u8]) -> Result<(), String> {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::new();
    let (mut controls, mut malformed) = (0, 0);
    for bytes in stream.chunks(limits::READ_BYTES_BUSY) {
        input.extend_from_slice(bytes);
        loop {
            match decoder.step(&mut input).map_err(|violation| violation.to_string())? {
                Step::Starved => break,
                Step::Ping(_) | Step::Pong => controls += 1,
                Step::Message(message) if message.is_empty() => malformed += 1,
                _ => {}
            }
            if controls > limits::CONTROLS_MAX {
                return Err("too many pings and pongs".to_owned());
            }
            if malformed >= limits::MALFORMED_MAX {
                return Err("too many malformed frames".to_owned());
            }
        }
    }
    Ok(())
}

fn fastest<T>(work: impl Fn() -> T) -> Duration {
    let round = |_| {
        let start = cpu();
        black_box(work());
        cpu() - start
    };
    (0..ROUNDS).map(round).min().unwrap()
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

const ROUNDS: usize = 15;
