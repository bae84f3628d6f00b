//! The protocol's own vectors of identifier syntax (tests/vectors/interop/syntax).

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::did::{Did, DidError};
use protocol::handle::is_handle;
use protocol::nsid::is_nsid;
use protocol::rkey::is_rkey;
use protocol::tid::Tid;

/// Judges every line of `NAME_syntax_valid.txt` and `NAME_syntax_invalid.txt`.
fn check(name: &str, is_valid: impl Fn(&str) -> bool) {
    for (suffix, expected) in [("valid", true), ("invalid", false)] {
        for line in lines(&format!("{name}_syntax_{suffix}.txt")) {
            assert_eq!(is_valid(&line), expected, "{name}: {line:?}");
        }
    }
}

/// Lines without comments; some begin or end with spaces on purpose.
fn lines(file: &str) -> Vec<String> {
    let path = format!("{}/tests/vectors/interop/syntax/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("# "))
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "{file} has cases");
    lines
}

#[test]
fn dids() {
    // The generic syntax alone: most examples are of methods that no account has.
    check("did", |text| Did::parse(text) != Err(DidError::Syntax));
}

#[test]
fn handles() {
    check("handle", is_handle);
}

#[test]
fn nsids() {
    check("nsid", is_nsid);
}

#[test]
fn record_keys() {
    check("recordkey", is_rkey);
}

#[test]
fn tids() {
    check("tid", |text| Tid::parse(text).is_ok_and(|tid| tid.to_string() == text));
}

#[test]
fn datetimes() {
    check("datetime", |text| protocol::datetime::parse(text).is_ok());
    for line in lines("datetime_parse_invalid.txt") {
        assert!(protocol::datetime::parse(&line).is_err(), "{line:?}");
    }
}
