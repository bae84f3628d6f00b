//! Pages of the simulated directory, read to the end and left in the middle.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use loadtest::export::Export;
use protocol::did::Did;
use serde_json::{Value, json};

use super::*;

const START: Micros = Micros(1_700_000_000_000_000);
const NOW: Micros = Micros(1_800_000_000_000_000);
const RULES: HostRules = HostRules::Public;

fn did(number: u64) -> Did {
    let digit =
        |place: u32| char::from(b'a' + u8::try_from(number / 26u64.pow(place) % 26).unwrap());
    let id: String = (0..24).map(|place| if place < 4 { digit(place) } else { 'a' }).collect();
    Did::parse(&format!("did:plc:{id}")).unwrap()
}

/// An operation that says this host.
fn operation(host: u64) -> Value {
    json!({
        "type": "plc_operation",
        "verificationMethods": {},
        "alsoKnownAs": [],
        "services": {
            "atproto_pds": {
                "type": "AtprotoPersonalDataServer",
                "endpoint": format!("https://h{host}.example.com"),
            },
        },
    })
}

fn at(millis: u64) -> Micros {
    START.plus(Duration::from_millis(millis))
}

/// What a reader has told so far.
#[derive(Default)]
struct Known {
    hosts: HashMap<Did, String>,
    operations: usize,
    malformed: usize,
    pages: usize,
}

impl Known {
    /// One page; whether there is more.
    fn page(&mut self, reader: &mut Reader, export: &Export) -> bool {
        let body = export.page(&reader.query());
        let page = reader.page(body.as_bytes(), NOW);
        for identity in page.identities {
            let host = identity.pds.map(|pds| pds.to_string()).unwrap_or_default();
            self.hosts.insert(identity.did, host);
        }
        self.operations += page.operations;
        self.malformed += page.malformed;
        self.pages += 1;
        assert!(self.pages < 10_000, "it comes to an end");
        page.more
    }

    fn drain(&mut self, reader: &mut Reader, export: &Export) {
        while self.page(reader, export) {}
    }
}

/// Numbers from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A log in which up to four operations have the same time, and the last state of each DID.
fn draw_log(seed: u64, numbered: bool) -> (Export, usize, HashMap<Did, String>) {
    let mut draw = Draw(seed);
    let export = Export::default();
    export.set_lines_max(5 + usize::try_from(draw.below(6)).unwrap());
    if numbered {
        export.set_numbered();
    }
    let (mut millis, mut same, mut hosts, mut count) = (0, 0, HashMap::new(), 0);
    for number in 0..20 + draw.below(200) {
        let step = draw.below(3);
        same = if step == 0 { same + 1 } else { 0 };
        millis += if same >= 4 { 1 } else { step };
        same %= 4;
        // Two of one DID within a millisecond have no order by time.
        let did = did(number % (10 + draw.below(30)));
        if hosts.get(&did).is_some_and(|(_, then)| *then == millis) {
            continue;
        }
        export.log(&did, operation(number), at(millis));
        hosts.insert(did, (format!("h{number}.example.com"), millis));
        count += 1;
    }
    (export, count, hosts.into_iter().map(|(did, (host, _))| (did, host)).collect())
}

#[test]
fn every_operation_is_read_once_wherever_pages_end() {
    for seed in 0..200 {
        for numbered in [false, true] {
            let (export, count, hosts) = draw_log(seed, numbered);
            let (mut known, mut reader) = (Known::default(), Reader::from_beginning(RULES));
            known.drain(&mut reader, &export);
            assert_eq!(known.operations, count, "seed {seed}, numbered {numbered}");
            assert_eq!(known.hosts, hosts, "seed {seed}, numbered {numbered}");
            assert_eq!(known.malformed, 0);
            assert_eq!(reader.row("u").by_seq, numbered);
        }
    }
}

#[test]
fn a_reader_goes_on_where_another_one_stopped() {
    for seed in 0..200 {
        for numbered in [false, true] {
            let (export, count, hosts) = draw_log(seed, numbered);
            let (mut known, mut reader) = (Known::default(), Reader::from_beginning(RULES));
            let mut draw = Draw(seed + 1000);
            while known.page(&mut reader, &export) {
                if draw.below(3) == 0 {
                    reader = Reader::resume(RULES, &reader.row("u"));
                }
            }
            assert!(known.operations >= count, "seed {seed}: {} of {count}", known.operations);
            assert_eq!(known.hosts, hosts, "seed {seed}, numbered {numbered}");
        }
    }
}

#[test]
fn more_operations_of_one_moment_than_a_page_holds_do_not_stop_it() {
    let export = Export::default();
    export.set_lines_max(5);
    (0..8).for_each(|number| drop(export.log(&did(number), operation(number), at(7))));
    export.log(&did(9), operation(9), at(8));
    let (mut known, mut reader) = (Known::default(), Reader::from_beginning(RULES));
    known.drain(&mut reader, &export);
    assert_eq!(known.hosts.get(&did(9)).map(String::as_str), Some("h9.example.com"));
    assert_eq!(known.operations, 6, "the directory does not give the other three");
}

#[test]
fn what_becomes_visible_late_is_read_at_the_end() {
    let export = Export::default();
    for number in 0..6 {
        export.log(&did(number), operation(number), at(number * 1000));
    }
    let (mut known, mut reader) = (Known::default(), Reader::from_time(RULES, at(0)));
    known.drain(&mut reader, &export);
    export.log(&did(30), operation(30), at(2_500));
    export.log(&did(31), operation(31), at(1_500));
    assert!(!known.page(&mut reader, &export));
    assert!(known.hosts.contains_key(&did(30)), "2.5 s before the newest");
    assert!(!known.hosts.contains_key(&did(31)), "later than any write takes");
    let operations = known.operations;
    known.page(&mut reader, &export);
    assert_eq!(known.operations, operations, "what overlaps is known");
}

#[test]
fn undone_operations_count_for_nothing() {
    let export = Export::default();
    export.log(&did(1), operation(1), at(1));
    let undone = export.log(&did(1), operation(2), at(2));
    export.log(&did(2), operation(3), at(3));
    export.nullify(&undone);
    let (mut known, mut reader) = (Known::default(), Reader::from_beginning(RULES));
    known.drain(&mut reader, &export);
    assert_eq!(known.hosts[&did(1)], "h1.example.com");
    // The operation that undid it comes last, and says all that there is to say.
    export.log(&did(1), operation(4), at(4));
    known.drain(&mut reader, &export);
    assert_eq!(known.hosts[&did(1)], "h4.example.com");
}

#[test]
fn a_line_that_cannot_be_read_is_passed_over_but_not_at_a_pages_end() {
    let export = Export::default();
    export.log(&did(1), operation(1), at(1));
    export.log_raw("{\"did\":", at(2));
    export.log_raw(&"x".repeat(100_000), at(2));
    export.log(&did(2), json!({"type": "plc_merge"}), at(3));
    export.log(&did(3), operation(3), at(4));
    let (mut known, mut reader) = (Known::default(), Reader::from_time(RULES, START));
    known.drain(&mut reader, &export);
    assert_eq!(known.malformed, 3, "two lines and an operation");
    assert_eq!((known.operations, known.hosts.len()), (3, 2));
    // A page that was cut off: what is behind the cut is asked for again.
    let body = export.page(&reader.query());
    let mut reader = Reader::from_time(RULES, START);
    let page = reader.page(&body.as_bytes()[..body.len() - 10], NOW);
    assert!(page.more, "{page:?}");
    let mut known = Known::default();
    known.drain(&mut reader, &export);
    assert!(known.hosts.contains_key(&did(3)));
}

#[test]
fn nothing_comes_from_the_future() {
    let export = Export::default();
    export.log(&did(1), operation(1), NOW.plus(FUTURE_MAX * 2));
    export.log(&did(2), operation(2), NOW);
    let (mut known, mut reader) = (Known::default(), Reader::from_time(RULES, START));
    known.page(&mut reader, &export);
    assert_eq!((known.operations, known.malformed), (1, 1));
    assert_eq!(reader.row("u").position, NOW.0);
}

#[test]
fn what_is_covered_ends_at_the_newest_operation_or_shortly_before_the_present() {
    let (export, ..) = draw_log(5, false);
    let mut reader = Reader::from_beginning(RULES);
    let page = reader.page(export.page(&reader.query()).as_bytes(), NOW);
    assert!(page.more);
    let row = reader.row("u");
    assert_eq!((row.since, Some(row.until)), (Micros(0), page.newest));
    Known::default().drain(&mut reader, &export);
    let row = reader.row("u");
    assert_eq!(row.until.plus(OVERLAP), NOW);
    let reader = Reader::from_time(RULES, START);
    assert_eq!((reader.row("u").since, reader.row("u").until), (START, START));
    assert_eq!(reader.query(), "count=1000&after=2023-11-14T22:13:19.999Z");
    assert_eq!(Reader::from_beginning(RULES).query(), "count=1000&after=0");
}
