//! What the reference implementation commits passes the check, and its damaged copies do not.
//!
//! `sample.bin` is a recording of some dozen commits; longer ones are made and judged by
//! `scripts/reference_commits`.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod judge;

#[test]
fn commits_of_the_reference_implementation_pass_and_their_damaged_copies_do_not() {
    let report = judge::judge(include_bytes!("sample.bin"));
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    assert_eq!(report.passed, SAMPLE_COMMITS);
    // A commit of 200 ops would be as large as all others together.
    for shape in judge::SHAPES.into_iter().filter(|shape| *shape != "200 ops") {
        assert!(report.shapes.contains_key(shape), "no commit is {shape}: {:?}", report.shapes);
    }
}

const SAMPLE_COMMITS: u64 = 40;
