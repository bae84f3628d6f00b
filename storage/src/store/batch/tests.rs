//! Golden bytes of a batch, its index against a naive reading, and what is refused.

use proptest::prelude::*;
use protocol::ids::SEQ_MAX;

use super::*;
use crate::fixture::{active, commit, did, identity, seq, seq_of, split, sync};
use crate::store::hex;

fn numbered(number: u64, frame: Outgoing, account: u64) -> Numbered {
    Numbered { seq: seq(number), frame, did_hash: did(account).hash64() }
}

#[test]
fn i8_a_batch_never_changes() {
    let web = protocol::did::Did::parse("did:web:example.com").unwrap();
    let frame = Outgoing::account(&web, true, None, "T");
    let events = [
        Numbered { seq: seq(0x0006_4459_4164_2240), frame: frame.clone(), did_hash: 0x0102 },
        Numbered { seq: seq(0x0006_4459_4164_2241), frame, did_hash: 0x0304 },
    ];
    let batch = Batch::write(seq(0x0006_4459_4164_2239), &events).unwrap();
    let frame = |last: &str| {
        // {"t": "#account", "op": 1} {"did": …, "seq": …, "time": "T", "active": true}
        format!(
            "a2617468236163636f756e74626f7001\
             a4636469647364\
             69643a7765623a6578616d706c652e636f6d\
             637365711b00064459416422{last}6474696d6561546661637469766 5f5"
        )
        .replace(' ', "")
    };
    let golden = format!(
        "01000000 00000002 0006445941642239\
         0006445941642240 00000000 04 0000000000000102\
         0006445941642241 00000047 04 0000000000000304\
         8245{}8245{}",
        frame("40"),
        frame("41")
    );
    assert_eq!(hex(batch.value()), golden.replace(' ', ""));
    let view = View::read(batch.value()).unwrap();
    assert_eq!((view.events(), view.first(), view.last()), (2, events[0].seq, events[1].seq));
    assert_eq!(view.previous(), seq(0x0006_4459_4164_2239));
}

#[test]
fn a_batch_reads_back_as_its_frames() {
    let large = commit(&did(1), 3, 70_000);
    let frames =
        [active(&did(1)), commit(&did(2), 1, 200), sync(&did(3)), identity(&did(4)), large];
    let events: Vec<_> = frames
        .iter()
        .zip([1_u64 << 40, (1 << 40) + 1, (1 << 40) + 9, SEQ_MAX - 1, SEQ_MAX])
        .map(|(frame, number)| numbered(number, frame.clone(), 1))
        .collect();
    let batch = Batch::write(Seq::ZERO, &events).unwrap();
    let view = View::read(batch.value()).unwrap();
    let wire = split(view.wire(0..events.len()));
    assert_eq!(wire.len(), events.len());
    for (position, event) in events.iter().enumerate() {
        let mut frame = Vec::new();
        event.frame.write_with(event.seq, &mut frame);
        assert_eq!(wire[position], frame);
        assert_eq!(seq_of(&frame), event.seq.get());
        assert_eq!(split(view.wire(position..position + 1)), [frame]);
        let indexed = view.event(position);
        assert_eq!((indexed.seq, indexed.kind), (event.seq, kind_code(event.frame.kind())));
        assert_eq!(batch.wire_from(position), view.wire(position..events.len()));
    }
}

#[test]
fn bytes_that_are_no_batch_are_refused() {
    let events = [numbered(5, active(&did(1)), 1), numbered(9, active(&did(1)), 1)];
    let fine = Batch::write(Seq::ZERO, &events).unwrap().value().to_vec();
    assert!(View::read(&fine).is_some());
    let check = |place: usize, byte: u8| {
        let mut bad = fine.clone();
        bad[place] = byte;
        assert!(View::read(&bad).is_none(), "byte {place} = {byte}");
    };
    check(0, 2); // Another version.
    check(1, 1); // Reserved.
    check(7, 0); // No events.
    check(4, 0xff); // More than there is room for.
    check(8, 0xff); // A batch before that ends beyond 2^53.
    check(15, 5); // A batch before that ends where this one begins.
    check(16 + 7, 10); // A seq that does not rise.
    check(16 + 21, 0xff); // A seq beyond 2^53.
    check(16 + 11, 1); // The first event does not begin at the beginning.
    check(16 + 21 + 8, 0xff); // An event beyond the end.
    for cut in 0..HEADER_BYTES + 2 * INDEX_BYTES + 1 {
        assert!(View::read(&fine[..cut]).is_none(), "cut at {cut}");
    }
    assert!(Batch::write(Seq::ZERO, &[]).is_none());
}

proptest! {
    /// The first event after a cursor is the one a walk over all of them finds; a cursor inside
    /// the span of an event resumes at the whole event.
    #[test]
    fn the_position_after_a_cursor_is_the_first_greater_seq(
        spans in prop::collection::vec(1u64..6, 1..20),
        cursor in 0u64..120,
    ) {
        let mut number = 3;
        let mut events = Vec::new();
        for span in spans {
            number += span;
            events.push(numbered(number, active(&did(1)), 1));
        }
        let batch = Batch::write(Seq::ZERO, &events).unwrap();
        let naive = events.iter().position(|event| event.seq.get() > cursor);
        let expected = naive.unwrap_or(events.len());
        prop_assert_eq!(batch.view().position_after(seq(cursor)), expected);
    }

    /// No bytes make reading a batch panic.
    #[test]
    fn reading_any_bytes_is_safe(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(view) = View::read(&bytes) {
            for position in 0..view.events() {
                prop_assert!(!view.wire(position..position + 1).is_empty());
            }
        }
    }
}
