//! Golden bytes of every row, and that each reads back as what was written.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use protocol::account::{Account, Conduct, Local, Repo, Throttle, Upstream};
use protocol::host_state::{HostState, Level, Meter};
use protocol::ids::{Epoch, HostSeq, SEQ_MAX};
use protocol::tid::Tid;

use super::*;
use crate::fixture::name;
use crate::gaps::{AccountGap, HostGap};
use crate::hosts::{Host, Override, Start};
use crate::reconcile::{Excused, ReconcileRow};
use crate::store::hex;

fn check<T: Debug + PartialEq>(
    value: &T,
    row: &[u8],
    golden: &str,
    read: impl Fn(&[u8]) -> Option<T>,
) {
    assert_eq!(hex(row), golden, "{value:?}");
    assert_eq!(read(row).as_ref(), Some(value));
    // A row that is cut off, or of another version, is corrupt and not something else.
    assert_eq!(read(&[]), None);
    let mut other = row.to_vec();
    other[0] = 3;
    assert_eq!(read(&other), None);
}

fn plc() -> Did {
    Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub").unwrap()
}

#[test]
fn an_account_row_never_changes() {
    let full = Account {
        host: HostId(0x0102_0304),
        epoch: Epoch(5),
        host_seq: HostSeq::new(SEQ_MAX).unwrap(),
        local: Local::Takendown,
        upstream: Upstream { active: false, status: Some(Arc::from("deleted")) },
        conduct: Conduct::default(),
        repo: Some(Repo {
            rev: Tid::parse("3l3qo2vutsw2b").unwrap(),
            data: [0xaa; 32],
            commit: [0xbb; 32],
        }),
    };
    let golden = format!(
        "02{flags}{local}{host}{epoch}{host_seq}{rev}{data}{commit}{status}",
        flags = "06",
        local = "01",
        host = "01020304",
        epoch = "00000005",
        host_seq = "001fffffffffffff",
        rev = "1886d406f59c7007",
        data = "aa".repeat(32),
        commit = "bb".repeat(32),
        status = "64656c65746564",
    );
    check(&full, &account(&full), &golden, read_account);
    for cut in 0..ACCOUNT_BYTES {
        assert_eq!(read_account(&account(&full)[..cut]), None);
    }

    let plain = Account {
        local: Local::None,
        upstream: Upstream::ACTIVE,
        repo: None,
        host_seq: HostSeq::ZERO,
        ..full
    };
    let golden = format!("02010001020304000000050000000000000000{}", "00".repeat(72));
    check(&plain, &account(&plain), &golden, read_account);

    // An empty status is not an absent one.
    let upstream = Upstream { active: true, status: Some(Arc::from("")) };
    let local = Local::Throttled(Throttle::Operator);
    let odd = Account { upstream, local, ..plain };
    let golden = format!("02050301020304000000050000000000000000{}", "00".repeat(72));
    check(&odd, &account(&odd), &golden, read_account);
}

fn full_host(id: HostId) -> Host {
    Host {
        id,
        name: name("pds.example.com"),
        added: Micros(1),
        start: Start::Oldest,
        epoch: Epoch(2),
        cursor: HostSeq::new(3).unwrap(),
        state: HostState::BackingOff,
        reason: Arc::from("refused"),
        since: Micros(4),
        last_error: Arc::from("lost"),
        last_error_at: Micros(0x10),
        accounts: 5,
        throttled: 7,
        rejects: 6,
        ratchet_closed: true,
        banned: true,
        meter: Meter {
            events: 8,
            bytes: 9,
            connects: 10,
            last_event: Micros(11),
            hour: Level { spent: 12, at: Micros(13) },
            day: Level { spent: 14, at: Micros(15) },
        },
        level: 0x11,
        level_since: Micros(0x12),
        abuse: 0x13,
        allowance: Override {
            per_second: Some(0x14),
            per_hour: None,
            per_day: None,
            accounts: Some(0),
        },
        service: Some(Arc::from("did:web:a")),
        alias_of: Some(HostId(0x15)),
    }
}

#[test]
fn a_host_row_never_changes() {
    let id = HostId(9);
    let full = full_host(id);
    let numbers: String =
        [3_u64, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map(|n| format!("{n:016x}")).concat();
    let golden = format!(
        "027f0300000002{numbers}11000000000000001200000013\
         000f7064732e6578616d706c652e636f6d000772656675736564\
         0900000000000000140000000000000000\
         00000015\
         00096469643a7765623a61\
         000000000000001000046c6f7374",
    );
    check(&full, &host(&full), &golden, |row| read_host(id, row));
    let row = host(&full);
    (0..row.len()).for_each(|cut| assert_eq!(read_host(id, &row[..cut]), None, "{cut}"));
    let added = Host::added(id, name("pds.example.com"), Start::Live, Micros(1));
    let golden = format!(
        "02000000000000{}{}{}{}00{}00000000000f7064732e6578616d706c652e636f6d0000",
        "0000000000000000",
        "0000000000000001".repeat(2),
        "00".repeat(24),
        "00".repeat(64),
        "0000000000000001",
    );
    check(&added, &host(&added), &golden, |row| read_host(id, row));
    let throttled = Host { state: HostState::Throttled, ..added };
    assert_eq!(read_host(id, &host(&throttled)), Some(throttled));
}

#[test]
fn a_host_row_of_the_version_before_is_read() {
    let id = HostId(9);
    let row = "010703000000020000000000000003000000000000000100000000000000040000000000000005\
               0000000000000006000f7064732e6578616d706c652e636f6d000772656675736564";
    let digits = |at: usize| u8::from_str_radix(&row[at..at + 2], 16).unwrap();
    let row: Vec<u8> = (0..row.len()).step_by(2).map(digits).collect();
    let expected = Host {
        throttled: 0,
        last_error: Arc::from(""),
        last_error_at: Micros(0),
        meter: Meter::default(),
        level: 0,
        level_since: Micros(0),
        abuse: 0,
        allowance: Override::default(),
        service: None,
        alias_of: None,
        ..full_host(id)
    };
    assert_eq!(read_host(id, &row), Some(expected));
}

#[test]
fn reconcile_rows_never_change() {
    let row = ReconcileRow {
        began: Micros(1),
        ended: Micros(2),
        reason: "gap".to_owned(),
        after: "x".to_owned(),
        listed: 3,
        in_step: 4,
        behind: 5,
        repaired: 6,
        unverifiable: 7,
        failed: 8,
        missing: 9,
        second_look: Micros(10),
        last_full: Micros(11),
        last_full_listed: 12,
        last_full_known: 13,
        last_full_in_step: 14,
        last_full_behind: 15,
    };
    let numbers: String = (1..=15_u64).map(|number| format!("{number:016x}")).collect();
    check(&row, &reconcile(&row), &format!("01{numbers}0003676170000178"), read_reconcile);
    // Another cursor would lead somewhere else.
    let long = ReconcileRow { after: "x".repeat(5_000), reason: "x".repeat(5_000), ..row };
    let read = read_reconcile(&reconcile(&long)).unwrap();
    assert_eq!((read.after.as_str(), read.reason.len()), ("", 256));

    let row = Excused {
        rev: "a".to_owned(),
        head: "b".to_owned(),
        at: Micros(1),
        missing_since: Micros(2),
    };
    let golden = "0100000000000000010000000000000002000161000162";
    check(&row, &excused(&row), golden, read_excused);
}

#[test]
fn an_identity_row_never_changes() {
    let did = plc();
    let full = IdentityRow {
        did: did.clone(),
        key: Some((Curve::P256, [0xcc; 33])),
        pds: Some(name("pds.example.com")),
        handle: Some("alice.example.com".to_owned()),
        fetched: Micros(7),
        tombstoned: false,
    };
    let golden = format!(
        "0106000000000000000702{}000f7064732e6578616d706c652e636f6d\
         0011616c6963652e6578616d706c652e636f6d",
        "cc".repeat(33)
    );
    check(&full, &identity(&full), &golden, |row| read_identity(&did, row));
    let gone = IdentityRow { key: None, pds: None, handle: None, tombstoned: true, ..full };
    check(&gone, &identity(&gone), "010100000000000000070000000000", |row| {
        read_identity(&did, row)
    });
}

#[test]
fn a_reject_row_never_changes() {
    let note = RejectNote {
        name: "rev_syntax",
        host: HostId(1),
        did: Some(plc()),
        excerpt: Bytes::from_static(b"\xa2"),
        at: Micros(8),
    };
    let row = RejectRow {
        number: 65,
        at: Micros(8),
        name: "rev_syntax".to_owned(),
        did: Some(plc()),
        excerpt: vec![0xa2],
    };
    let golden = "0100000000000000410000000000000008000a7265765f73796e746178\
                  00206469643a706c633a333272737467686f32726276707035777277717035667562a2";
    check(&row, &reject(65, &note), golden, read_reject);
    let long = RejectNote { excerpt: Bytes::from(vec![0; 5000]), did: None, ..note };
    let read = read_reject(&reject(0, &long)).unwrap();
    assert_eq!((read.did, read.excerpt.len()), (None, EXCERPT_BYTES_MAX));
}

#[test]
fn gap_rows_never_change() {
    let host = HostGap {
        whole: true,
        accounts: 2,
        since: Micros(9),
        newest: Micros(10),
        reason: "op_duplicate".to_owned(),
    };
    let golden = "0201000000020000000000000009000000000000000a000c6f705f6475706c6963617465";
    check(&host, &host_gap(&host), golden, read_host_gap);
    let some = HostGap { whole: false, accounts: 3, reason: String::new(), ..host };
    let golden = "0200000000030000000000000009000000000000000a0000";
    check(&some, &host_gap(&some), golden, read_host_gap);
    let (since, newest) = (Micros(9), Micros(10));
    let account = AccountGap { did: plc(), since, newest, reason: "x".to_owned() };
    let golden = "020000000000000009000000000000000a000178";
    check(&account, &account_gap(&account), golden, |row| read_account_gap(plc(), row));
}

#[test]
fn gap_rows_of_the_version_before_are_read() {
    let row = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, b'x'];
    let (since, newest) = (Micros(9), Micros(9));
    let reason = || "x".to_owned();
    let expected = HostGap { whole: true, accounts: 0, since, newest, reason: reason() };
    assert_eq!(read_host_gap(&row), Some(expected));
    let row = [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, b'x'];
    let expected = AccountGap { did: plc(), since, newest, reason: reason() };
    assert_eq!(read_account_gap(plc(), &row), Some(expected));
}

#[test]
fn meta_rows_never_change() {
    let newest = Seq::new(0x0006_4456_2b87_c240).unwrap();
    assert_eq!(hex(&head(newest, Micros(1))), "000644562b87c2400000000000000001");
    assert_eq!(read_head(&head(newest, Micros(1))), Some((newest, Micros(1))));
    assert_eq!(hex(&seq(newest)), "000644562b87c240");
    assert_eq!(read_seq(&seq(newest)), Some(newest));
    assert_eq!(read_seq(&u64::MAX.to_be_bytes()), None);
    assert_eq!(hex(&host_id(HostId(7))), "00000007");
    assert_eq!(read_host_id(&host_id(HostId(7))), Some(HostId(7)));
    let patterns = ["a.b".to_owned(), "*.c".to_owned()];
    assert_eq!(hex(&lines(&patterns)), "612e620a2a2e63");
    assert_eq!(read_lines(&lines(&patterns)).as_deref(), Some(&patterns[..]));
    assert_eq!(read_lines(&lines(&[])), Some(Vec::new()));
    let row = ExportRow {
        url: "https://plc.directory/export".to_owned(),
        by_seq: false,
        position: 0x0006_4456_2b87_c240,
        since: Micros(2),
        until: Micros(3),
    };
    let golden = "0100000644562b87c24000000000000000020000000000000003001c\
                  68747470733a2f2f706c632e6469726563746f72792f6578706f7274";
    check(&row, &export(&row), golden, read_export);
    let row = ExportRow { by_seq: true, url: String::new(), ..row };
    let golden = "0101000644562b87c240000000000000000200000000000000030000";
    check(&row, &export(&row), golden, read_export);
}
