//! What a frame is, at the first look.

use data_encoding::HEXLOWER_PERMISSIVE;
use protocol::frame::{HostKind, Kind, Malformed, Peek, event_time, peek};

/// Frames are written as hex, with texts in quotes.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, part) in text.split('"').enumerate() {
        if at % 2 == 1 {
            out.extend_from_slice(part.as_bytes());
        } else {
            let hex: String = part.split_whitespace().collect();
            out.extend(HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).unwrap());
        }
    }
    out
}

fn check(text: &str, expected: Result<Peek<'_>, Malformed>) {
    assert_eq!(peek(&bytes(text)), expected, "{text}");
}

fn event(kind: HostKind, seq: Option<u64>, did: Option<&str>) -> Result<Peek<'_>, Malformed> {
    Ok(Peek::Event { kind, seq, did })
}

const ACCOUNT: HostKind = HostKind::Event(Kind::Account);
const SYNC_HEADER: &str = r#"a2 61"t" 65"#;

#[test]
fn an_event_has_a_kind_a_seq_and_a_did() {
    let check = |name: &str, kind, did_key: &str| {
        let length = 0x60 + name.len();
        let key_length = 0x60 + did_key.len();
        let text = format!(
            r#"a2 61"t" {length:x}"{name}" 62"op" 01 a2 {key_length:x}"{did_key}" 61"d" 63"seq" 07"#
        );
        check(&text, event(kind, Some(7), Some("d")));
    };
    check("#commit", HostKind::Event(Kind::Commit), "repo");
    check("#sync", HostKind::Event(Kind::Sync), "did");
    check("#identity", HostKind::Event(Kind::Identity), "did");
    check("#account", ACCOUNT, "did");
    check("#handle", HostKind::LegacyHandle, "did");
    check("#migrate", HostKind::LegacyMigrate, "did");
    check("#tombstone", HostKind::LegacyTombstone, "did");
}

#[test]
fn a_commit_is_of_its_repo_and_other_events_of_their_did() {
    let commit = r#"a2 61"t" 67"#.to_owned() + r##""#commit" 62"op" 01"##;
    let text = format!(r#"{commit} a2 63"did" 61"d" 64"repo" 61"r""#);
    check(&text, event(HostKind::Event(Kind::Commit), None, Some("r")));
    let sync = SYNC_HEADER.to_owned() + r##""#sync" 62"op" 01"##;
    let text = format!(r#"{sync} a2 63"did" 61"d" 64"repo" 61"r""#);
    check(&text, event(HostKind::Event(Kind::Sync), None, Some("d")));
}

fn account(payload: &str) -> String {
    format!(r##"a2 61"t" 68"#account" 62"op" 01 {payload}"##)
}

#[test]
fn fields_of_another_type_count_as_absent() {
    let check = |payload: &str, seq, did| check(&account(payload), event(ACCOUNT, seq, did));
    check("a0", None, None);
    check(r#"a1 63"seq" 1b 00 1f ff ff ff ff ff ff"#, Some((1 << 53) - 1), None);
    check(r#"a1 63"seq" 1b ff ff ff ff ff ff ff ff"#, Some(u64::MAX), None);
    check(r#"a1 63"seq" 20"#, None, None);
    check(r#"a1 63"seq" 61"7""#, None, None);
    check(r#"a1 63"seq" f6"#, None, None);
    check(r#"a1 63"did" 80"#, None, None);
    check(r#"a1 63"did" a1 63"did" 61"x""#, None, None);
}

#[test]
fn what_can_be_repaired_is_tolerated() {
    // Unsorted keys, longer integers, unknown fields, in header and payload.
    check(
        r##"b8 03 62"op" 18 01 61"t" 68"#account" 61"x" 80 a3 63"seq" 19 00 07 63"did" 61"d"
        62"zz" a2 61"b" f5 61"a" f6"##,
        event(ACCOUNT, Some(7), Some("d")),
    );
}

#[test]
fn what_cannot_be_repaired_is_malformed() {
    let check = |payload: &str| check(&account(payload), Err(Malformed));
    // No payload, two, or one that is no map.
    check("");
    check("a0 a0");
    check("a0 00");
    check("80");
    // Duplicate keys, also when they are not neighbours; keys that are no text.
    check(r#"a2 61"a" 00 61"a" 00"#);
    check(r#"a3 61"a" 00 61"b" 00 61"a" 00"#);
    check("a1 00 00");
    // Indefinite lengths, floats, undefined, other tags, reserved heads, cut ends.
    check("bf ff");
    check(r#"a1 61"a" 9f ff"#);
    check(r#"a1 61"a" fb 3f f0 00 00 00 00 00 00"#);
    check(r#"a1 61"a" f9 3c 00"#);
    check(r#"a1 61"a" f7"#);
    check(r#"a1 61"a" c1 00"#);
    check(r#"a1 61"a" 1c"#);
    check(r#"a2 61"a" 00"#);
    check(r#"a1 61"a" 5b ff ff ff ff ff ff ff ff"#);
    check(r#"a1 61"a" 61 ff"#);
    // Nesting over 32.
    check(&format!(r#"a1 61"a" {} 00"#, "81".repeat(40)));
}

#[test]
fn a_header_has_an_op_and_a_message_a_type() {
    check(r##"a1 61"t" 68"#account" a0"##, Err(Malformed));
    check(r##"a2 61"t" 68"#account" 62"op" 61"1" a0"##, Err(Malformed));
    check(r#"a1 62"op" 01 a0"#, Err(Malformed));
    check(r#"a2 61"t" 00 62"op" 01 a0"#, Err(Malformed));
    check("a0 a0", Err(Malformed));
    check("", Err(Malformed));
    check("80 a0", Err(Malformed));
}

#[test]
fn what_is_not_known_still_has_a_seq() {
    check(r##"a2 61"t" 64"#new" 62"op" 01 a1 63"seq" 07"##, Ok(Peek::Unknown { seq: Some(7) }));
    check(r##"a2 61"t" 68"#account" 62"op" 02 a0"##, Ok(Peek::Unknown { seq: None }));
    check(r#"a1 62"op" 00 a0"#, Ok(Peek::Unknown { seq: None }));
    check(r#"a1 62"op" 21 a0"#, Ok(Peek::Unknown { seq: None }));
}

#[test]
fn errors_and_infos_have_words() {
    let error = protocol::frame::error("FutureCursor", "Cursor in the future.");
    let words = Peek::Error { error: Some("FutureCursor"), message: Some("Cursor in the future.") };
    assert_eq!(peek(&error), Ok(words));
    let info = protocol::frame::info("OutdatedCursor", "gone");
    assert_eq!(peek(&info), Ok(Peek::Info { name: Some("OutdatedCursor"), message: Some("gone") }));
    check(r#"a1 62"op" 20 a0"#, Ok(Peek::Error { error: None, message: None }));
}

#[test]
fn the_time_of_an_event_is_as_written_wherever_it_stands() {
    let check = |payload: &str, expected: Option<&str>| {
        let text = SYNC_HEADER.to_owned() + r##""#sync" 62"op" 01 "## + payload;
        assert_eq!(event_time(&bytes(&text)), expected, "{payload}");
    };
    check(r#"a2 63"seq" 07 64"time" 63"now""#, Some("now"));
    check(r#"a2 64"time" 63"now" 63"seq" 07"#, Some("now"));
    check(r#"a1 64"time" 07"#, None);
    check(r#"a1 63"seq" 07"#, None);
    check(r#"a2 63"seq" 07 64"time""#, None);
    check("07", None);
    assert_eq!(event_time(&[0xff]), None);
}
