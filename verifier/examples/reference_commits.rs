//! Judges a recording of the reference implementation's commits, and damaged copies of each.
//!
//! `cargo run --release -p verifier --example reference_commits FILE`; the recording is made by
//! `relay/tests/real_peers/commits.mjs`. Ends with a failure if a commit is refused or a damaged
//! one is not.

#![allow(clippy::unwrap_used, reason = "a recording that cannot be read has no judgement")]
#![allow(clippy::print_stdout, reason = "a judgement is told")]

#[path = "../tests/reference/judge.rs"]
mod judge;

use std::process::ExitCode;

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap();
    let report = judge::judge(&std::fs::read(path).unwrap());
    println!("{} commits passed", report.passed);
    for (shape, count) in &report.shapes {
        println!("  {count:>6} {shape}");
    }
    for ((damage, name), count) in &report.refused {
        println!("  {count:>6} with {damage}: {name}");
    }
    let mut faults = report.faults;
    let absent = judge::SHAPES.iter().filter(|shape| !report.shapes.contains_key(*shape));
    faults.extend(absent.map(|shape| format!("no commit is {shape}")));
    for fault in faults.iter().take(FAULTS_SHOWN) {
        println!("not ok: {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const FAULTS_SHOWN: usize = 50;
