//! What judging a commit costs, step by step, beside what nobody can leave out; and how it scales
//! with threads. docs/testing.md tells how to read it.
//!
//! `verifier_bench [FILE]` prints tables and writes them to FILE as JSON;
//! `verifier_bench once SHAPE STEP` takes one step of each sample, for counting instructions.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no result")]
#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![allow(clippy::disallowed_methods, reason = "a benchmark is about time")]

mod clock;
mod pool;
mod samples;
mod steps;
mod table;
#[path = "../../src/testing.rs"]
mod testing;

use protocol::keys::Curve;
use samples::{Sample, Shape};
use serde_json::Value;
use steps::STEPS;
use table::Table;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["once", shape, step] => once(shape, step),
        [] => drop(tables()),
        [path] => {
            let tables: Vec<Value> = tables().iter().map(Table::json).collect();
            std::fs::write(path, serde_json::to_string_pretty(&tables).unwrap()).unwrap();
        }
        _ => panic!("usage: verifier_bench [FILE] | verifier_bench once SHAPE STEP"),
    }
}

/// The tables, each printed as soon as it is there.
fn tables() -> Vec<Table> {
    let columns = [
        (Shape::Small, Curve::K256),
        (Shape::Median, Curve::K256),
        (Shape::Median, Curve::P256),
        (Shape::Large, Curve::K256),
    ];
    let columns = columns.map(|(shape, curve)| {
        let title = format!("{} {curve:?}", shape.name());
        (title, samples::draw(shape, curve))
    });
    let titles: Vec<String> = columns.iter().map(|(title, _)| title.clone()).collect();
    let samples: Vec<&[Sample]> = columns.iter().map(|(_, samples)| &samples[..]).collect();
    let mut tables = vec![
        sizes(&titles, &samples),
        steps::time(&titles, &samples),
        steps::allocations(&titles, &samples),
    ];
    tables.iter().for_each(|table| println!("{}", table.text()));
    tables.push(pool::scaling(&samples::accounts()));
    println!("{}", tables[tables.len() - 1].text());
    tables
}

/// What the samples are.
fn sizes(titles: &[String], columns: &[&[Sample]]) -> Table {
    let mut table = Table::new("a commit, mean", titles);
    let mut row = |name: &str, count: fn(&Sample) -> usize| {
        let mean = |samples: &&[Sample]| {
            table::count_f64(samples.iter().map(count).sum()) / table::count_f64(samples.len())
        };
        table.add(name, columns.iter().map(mean).collect());
    };
    row("bytes of the frame", |sample| sample.frame.len());
    row("blocks", |sample| sample.blocks.len());
    row("ops", |sample| sample.decoded.ops.len());
    row("MST entries", |sample| sample.keys.len());
    row("SHA-256 blocks: of the CAR's blocks", |sample| compressions(&sample.hashed_blocks));
    row("SHA-256 blocks: of nodes hashed anew", |sample| compressions(&sample.hashed_nodes));
    row("SHA-256 blocks: of keys, for their layers", |sample| compressions(&sample.keys));
    table
}

/// How many blocks of 64 bytes SHA-256 makes of these messages.
fn compressions(messages: &[Vec<u8>]) -> usize {
    messages.iter().map(|message| (message.len() + 9).div_ceil(64)).sum()
}

/// One step, once for each sample, in a function that valgrind can be told to look at.
fn once(shape: &str, step: &str) {
    let shape = Shape::ALL.into_iter().find(|it| it.name() == shape).expect("small, median, large");
    let step = STEPS.iter().find(|it| it.name == step).expect("a step as the table names it");
    let samples = samples::draw(shape, Curve::K256);
    measured(step, &samples);
    println!("{} samples", samples.len());
}

#[inline(never)]
fn measured(step: &steps::Step, samples: &[Sample]) {
    let mut rooms = steps::Rooms::default();
    samples.iter().for_each(|it| (step.run)(&mut rooms, it));
}
