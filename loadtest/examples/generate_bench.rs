//! How fast a world makes events, and how large they are:
//! `cargo run --release -p loadtest --example generate_bench [EVENTS] [ACCOUNTS] [RECORDS]`.

use std::time::Instant;

use anyhow::Context;
use loadtest::report::{Report, Spread, count_f64};
use loadtest::world::{Options, START, World};
use protocol::frame::Kind;
use protocol::ids::Micros;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| -> anyhow::Result<usize> {
        arguments.next().map_or(Ok(default), |text| text.parse().context("a number"))
    };
    let (events, accounts, records) = (number(20_000)?, number(200)?, number(300)?);
    let options =
        Options { accounts_per_host: accounts, records_per_account: records, ..Options::default() };

    let start = Instant::now();
    let mut world = World::new(&options);
    let drawn = start.elapsed();

    let mut now = START;
    let start = Instant::now();
    let mut sizes = Vec::with_capacity(events);
    let mut commit_sizes = Vec::with_capacity(events);
    for _ in 0..events {
        now = Micros(now.0 + 1000);
        let event = world.next_event(now);
        let size = count_f64(event.frame.without_seq().len());
        sizes.push(size);
        if event.kind == Kind::Commit {
            commit_sizes.push(size);
        }
    }
    let made = start.elapsed().as_secs_f64();

    let mut report = Report::new("world");
    report.add("accounts drawn", count_f64(accounts) / drawn.as_secs_f64(), "1/s");
    report.add("events made", count_f64(events) / made, "1/s");
    report.add("time of an event", made / count_f64(events) * 1e6, "us");
    report.add_spread("frame", Spread::of(sizes), "bytes");
    report.add_spread("commit frame", Spread::of(commit_sizes), "bytes");
    print(&report);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn print(report: &Report) {
    println!("{}{}", report.table(), report.json());
}
