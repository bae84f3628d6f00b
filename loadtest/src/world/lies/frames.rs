//! Lies of the envelope: messages that are no frame, or that claim no number of their own; and what
//! is passed over in silence.

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::Scene;
use super::{Specimen, Step};
use crate::wire::{Frame, Value};
use crate::world::World;
use crate::world::repo::Draft;

/// A lie: its name, and what it makes of an honest commit's draft.
type Lie = (&'static str, fn(Draft) -> Frame);

/// At most seven on each of two hosts, with those of other files: eight malformed frames in a
/// minute end a connection.
const MALFORMED: &[Lie] = &[
    ("frame_with_trailing_byte", |draft| draft.frame().followed_by(&[0])),
    ("frame_with_float", |draft| {
        draft.with("weight", Value::Encoded(vec![0xf9, 0x38, 0x00])).frame()
    }),
    ("frame_with_key_twice", |draft| {
        let mut fields = draft.payload();
        fields.push(("rev", "3n2s2ynuaqk2k".into()));
        Frame::event("#commit", &Value::Map(fields))
    }),
    ("frame_with_an_indefinite_list", |draft| {
        draft.with("list", Value::Encoded(vec![0x9f, 0xff])).frame()
    }),
    ("frame_with_another_tag", |draft| {
        draft.with("tagged", Value::Encoded(vec![0xd8, 43, 0x41, 0])).frame()
    }),
    ("frame_nested_33_deep", |draft| draft.with("deep", nested(32)).frame()),
    ("frame_without_payload", |_| {
        let header = Value::Map(vec![("op", Value::Int(1)), ("t", "#commit".into())]);
        Frame::raw(header.encode())
    }),
    ("frame_without_op", |draft| {
        let header = Value::Map(vec![("t", "#commit".into())]);
        Frame::from_parts(&header, &Value::Map(draft.payload()))
    }),
    ("frame_with_a_list_for_payload", |draft| {
        let header = Value::Map(vec![("op", Value::Int(1)), ("t", "#commit".into())]);
        let values = draft.payload().into_iter().map(|(_, value)| value).collect();
        Frame::from_parts(&header, &Value::List(values))
    }),
    ("frame_empty", |_| Frame::raw(Vec::new())),
];

/// A lie with another name than that of a malformed frame.
type Named = (&'static str, Reject, fn(Draft) -> Frame);

const LIES: &[Named] = &[
    ("frame_over_5_mb", Reject::FrameTooBig, |draft| {
        draft.with("filler", Value::Bytes(vec![0; 5_000_000])).frame()
    }),
    ("seq_missing", Reject::SeqMissing, |draft| draft.without("seq").frame()),
    ("seq_is_zero", Reject::SeqMissing, |draft| draft.with("seq", Value::Int(0)).frame()),
    ("seq_is_2_to_the_53", Reject::SeqMissing, |draft| {
        draft.with("seq", Value::Int(1 << 53)).frame()
    }),
    ("seq_is_negative", Reject::SeqMissing, |draft| {
        // -1 is the byte 0x20.
        draft.with("seq", Value::Encoded(vec![0x20])).frame()
    }),
    ("seq_is_text", Reject::SeqMissing, |draft| draft.with("seq", "12".into()).frame()),
    ("seq_is_null", Reject::SeqMissing, |draft| draft.with("seq", Value::Null).frame()),
];

/// Frames of a later protocol: they move the cursor on, and nothing comes of them.
const PASSED_OVER: &[Lie] = &[
    ("unknown_kind", |draft| Frame::event("#later", &Value::Map(draft.payload()))),
    ("unknown_kind_without_hash", |draft| Frame::event("commit", &Value::Map(draft.payload()))),
    ("unknown_op", |draft| {
        let header = Value::Map(vec![("op", Value::Int(2)), ("t", "#commit".into())]);
        Frame::from_parts(&header, &Value::Map(draft.payload()))
    }),
    ("info_of_another_name", |_| {
        Frame::event("#info", &Value::Map(vec![("name", "Maintenance".into())]))
    }),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (index, (name, bend)) in MALFORMED.iter().enumerate() {
        let home = index % world.hosts().len();
        let scene = Scene::at(world, now, home, RECORDS);
        let drop = |scene: &Scene<'_>, frame| scene.drop(frame, Reject::FrameMalformed);
        specimens.push(specimen(scene, name, *bend, drop));
    }
    for (name, reject, bend) in LIES {
        let drop = |scene: &Scene<'_>, frame| scene.drop(frame, *reject);
        specimens.push(specimen(Scene::new(world, now), name, *bend, drop));
    }
    for (name, bend) in PASSED_OVER {
        let silence = |scene: &Scene<'_>, frame| Step::silence(scene.home, frame);
        specimens.push(specimen(Scene::new(world, now), name, *bend, silence));
    }
}

fn specimen(
    mut scene: Scene<'_>,
    name: &'static str,
    bend: fn(Draft) -> Frame,
    judged: impl Fn(&Scene<'_>, Frame) -> Step,
) -> Specimen {
    let truth = scene.commit_one().draft();
    let steps = vec![judged(&scene, bend(truth.clone())), scene.pass(truth.frame())];
    scene.finish(name, steps)
}

/// A list in a list, so many times.
pub(super) fn nested(depth: usize) -> Value {
    (1..depth).fold(Value::List(Vec::new()), |inner, _| Value::List(vec![inner]))
}

/// History enough for a tree of two layers.
const RECORDS: usize = 20;
