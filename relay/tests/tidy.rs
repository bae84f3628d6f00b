//! The house rules a machine can check. Run with every `cargo test`.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use loadtest::world::lies::Specimen;
use loadtest::world::{self, World};
use protocol::reject::Reject;

/// Which member may depend on which. Dev-dependencies are exempt. See ARCHITECTURE.md, "The law".
const MAY_USE: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("crawler", &["protocol"]),
    ("verifier", &["protocol"]),
    ("storage", &["protocol"]),
    ("relay", &["crawler", "loadtest", "protocol", "storage", "verifier"]),
    ("loadtest", &["protocol"]),
];

/// What the header of each crate's lib.rs must answer, each at the start of a line.
const CRATE_HEADER: &[&str] = &["//! In: ", "//! Out: ", "//! Upholds: ", "//! Knows nothing of: "];

/// How many invariants ARCHITECTURE.md states: I1 to this.
const INVARIANTS: u32 = 13;

/// The least number of bugs on purpose.
const MUTANTS_MIN: usize = 15;

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;

#[test]
fn members_depend_only_downwards() {
    for (member, allowed) in MAY_USE {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let dependencies = section(&manifest, "[dependencies]");
        for (other, _) in MAY_USE {
            let uses =
                dependencies.iter().any(|line| line.split([' ', '.', '=']).next() == Some(other));
            assert!(!uses || allowed.contains(other), "{member} must not depend on {other}");
        }
    }
}

#[test]
fn sources_are_tidy() {
    for path in sources("rs") {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display();
        assert!(text.starts_with("//! "), "{name}: say at the top what this file is for");
        let code = before_tests(&text).lines().count();
        assert!(code <= LINES_MAX, "{name}: {code} lines before its tests, limit {LINES_MAX}");
    }
    for path in ["rs", "mjs", "py"].into_iter().flat_map(sources) {
        for (index, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let columns = line.chars().count();
            assert!(columns <= COLUMNS_MAX, "{}:{}: {columns} columns", path.display(), index + 1);
        }
    }
}

#[test]
fn crates_say_what_goes_in_and_out() {
    for (member, _) in MAY_USE {
        let text = fs::read_to_string(root().join(member).join("src/lib.rs")).unwrap();
        for start in CRATE_HEADER {
            let said = text.lines().any(|line| line.starts_with(start));
            assert!(said, "{member}/src/lib.rs: its header has no line {start:?}");
        }
    }
}

#[test]
fn each_reject_is_told_in_the_docs() {
    let docs = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    for reject in Reject::ALL {
        let name = reject.name();
        assert!(docs.contains(&format!("`{name}`")), "docs/protocol.md does not tell of `{name}`");
    }
}

/// `relay/tests/names.rs` runs them all: there is no name that nothing meets, and no exception.
#[test]
fn each_reject_has_a_specimen_in_the_ledger() {
    let hosts = ["localhost:4100", "localhost:4101"].map(str::to_owned).into();
    let options = world::Options { hosts, accounts_per_host: 1, ..world::Options::default() };
    let mut world = World::new(&options);
    let mut ledger = world.specimens(world::START);
    ledger.extend(world.ordeals(world::START));
    let met: BTreeSet<Reject> = ledger.iter().flat_map(Specimen::rejects).collect();
    for reject in Reject::ALL {
        let name = reject.name();
        assert!(met.contains(reject), "loadtest::world::lies has no specimen of `{name}`");
    }
}

/// A rule whose test is gone, or was named otherwise, is a rule without a test.
#[test]
fn each_test_that_the_docs_name_is_there() {
    let code: String = sources("rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let docs = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let is_sentence = |word: &&str| {
        let of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.chars().all(of_a_name) && word.matches('_').count() >= 3
    };
    let mut count = 0;
    for word in docs.split('`').filter(is_sentence) {
        count += 1;
        let is_there = [format!("fn {word}("), format!("\"{word}\"")];
        assert!(is_there.iter().any(|text| code.contains(text)), "no test is called {word}");
    }
    assert!(count >= 100, "only {count} tests are named");
}

#[test]
fn each_metric_says_what_it_means() {
    let code: String = sources("rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let code: String = code.split_whitespace().collect();
    let is_metric = |text: &&str| {
        let of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        text.starts_with("mainstem_") && !text.ends_with('_') && text.chars().all(of_a_name)
    };
    let names: BTreeSet<&str> = code.split('"').filter(is_metric).collect();
    assert!(names.len() >= 60, "only {} metrics", names.len());
    for name in names {
        // Behind its name stands the meaning, perhaps after a unit; a label would have a value.
        let is_meaning = |rest: &str| {
            let text = rest.trim_start_matches(|c| c != '"').split('"').nth(1);
            let after = text.and_then(|text| rest.split_once(text)).map(|(_, after)| after);
            after.is_some_and(|after| !after.starts_with("\"=>"))
        };
        let called = format!("\"{name}\",");
        let mut places = code.match_indices(&called).map(|(at, _)| &code[at + called.len()..]);
        let told = places
            .any(|rest| (rest.starts_with('"') || rest.starts_with("Unit::")) && is_meaning(rest));
        assert!(told, "{name} is not described");
    }
}

#[test]
fn each_invariant_is_named_by_a_test() {
    let tests: String = sources("rs").iter().map(|path| tests_of(path)).collect();
    let words: Vec<&str> = tests.split(|c: char| !c.is_alphanumeric()).collect();
    for number in 1..=INVARIANTS {
        let name = format!("I{number}");
        assert!(words.contains(&name.as_str()), "no test names {name}");
    }
}

/// `make mutants` takes long; that each patch still fits the code is seen here.
#[test]
fn each_mutant_fits_the_code_and_says_what_it_breaks() {
    let folder = root().join("loadtest/mutants");
    let patches: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(patches.len() >= MUTANTS_MIN, "only {} mutants", patches.len());
    for path in patches {
        let (name, text) = (path.display(), fs::read_to_string(&path).unwrap());
        for field in ["Breaks: ", "Run: cargo test --release "] {
            assert!(text.lines().any(|line| line.starts_with(field)), "{name}: no line {field:?}");
        }
        let file = text.lines().find_map(|line| line.strip_prefix("--- a/")).expect("a file");
        let code = fs::read_to_string(root().join(file)).unwrap();
        let mut hunks = text.split("\n@@ ").skip(1);
        let hunk = hunks.next().expect("a hunk");
        assert_eq!(hunks.next(), None, "{name}: a mutant is one edit");
        let old: Vec<&str> = hunk
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with(['+', '\\']))
            .map(|line| line.get(1..).unwrap_or_default())
            .collect();
        assert!(code.contains(&old.join("\n")), "{name}: {file} no longer has what it changes");
    }
}

#[test]
fn each_fuzz_target_is_run() {
    let targets: String = fs::read_dir(root().join("fuzz/targets"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for path in sources("rs") {
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some(rest) = line.strip_prefix("pub fn fuzz_") else { continue };
            let name = format!("::fuzz_{}(", rest.split('(').next().unwrap());
            assert!(targets.contains(&name), "no target in fuzz/targets runs {name}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn section<'a>(manifest: &'a str, heading: &str) -> Vec<&'a str> {
    manifest
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .collect()
}

/// A source without its module of tests.
fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

/// The part of a source that is tests: all of a file of tests but this one, else its module.
fn tests_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let is_tests = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs");
    let start = if path.ends_with(Path::new(file!()).file_name().unwrap()) {
        text.len()
    } else if is_tests {
        0
    } else {
        before_tests(&text).len()
    };
    text[start..].to_owned()
}

fn sources(extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = MAY_USE.iter().map(|(member, _)| root().join(member)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
    }
    files
}
