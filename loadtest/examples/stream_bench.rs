//! How fast a host sends its log and a consumer reads it, both on this machine:
//! `cargo run --release -p loadtest --example stream_bench [FRAMES] [BYTES]`.

use std::time::Instant;

use anyhow::Context;
use loadtest::consumers::subscribe;
use loadtest::hosts::{Host, Options};
use loadtest::report::{Report, count_f64};
use loadtest::wire::{Frame, Value};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| -> anyhow::Result<usize> {
        arguments.next().map_or(Ok(default), |text| text.parse().context("a number"))
    };
    let (frames, bytes) = (number(200_000)?, number(3_000)?);
    let filler = ("filler", Value::Bytes(vec![7; bytes]));
    let frame = Frame::event("#commit", &Value::Map(vec![("seq", Value::Seq), filler]));
    let host = Host::start(Options::default()).await?;
    host.append_all(std::iter::repeat_n(&frame, frames));

    let start = Instant::now();
    let mut subscription = subscribe(&host.url(), Some(0)).await?;
    let mut read = 0;
    for _ in 0..frames {
        read += subscription.next_message().await?.len();
    }
    let seconds = start.elapsed().as_secs_f64();

    let mut report = Report::new("host to consumer");
    report.add("frames", count_f64(frames) / seconds, "1/s");
    report.add("bytes", count_f64(read) / seconds / 1e6, "MB/s");
    print(&report);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn print(report: &Report) {
    println!("{}{}", report.table(), report.json());
}
