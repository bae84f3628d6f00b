//! Lies of the envelope: messages that are no frame, or frames of no account.

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::Scene;
use super::{Specimen, Step};
use crate::wire::{Frame, Value};
use crate::world::World;
use crate::world::repo::Draft;

/// A lie: its name, the name of its drop, and what it makes of an honest commit's draft.
type Lie = (&'static str, Reject, fn(Draft) -> Frame);

/// Few of them are malformed: eight malformed frames in a minute end a connection.
const LIES: &[Lie] = &[
    ("frame_with_trailing_byte", Reject::FrameMalformed, |draft| draft.frame().followed_by(&[0])),
    ("frame_with_float", Reject::FrameMalformed, |draft| {
        let half = Value::Encoded(vec![0xf9, 0x38, 0x00]);
        draft.with("weight", half).frame()
    }),
    ("frame_with_key_twice", Reject::FrameMalformed, |draft| {
        let mut fields = draft.payload();
        fields.push(("rev", "3n2s2ynuaqk2k".into()));
        Frame::event("#commit", &Value::Map(fields))
    }),
    ("frame_over_5_mb", Reject::FrameTooBig, |draft| {
        draft.with("filler", Value::Bytes(vec![0; 5_000_000])).frame()
    }),
    ("seq_missing", Reject::SeqMissing, |draft| draft.without("seq").frame()),
    ("seq_is_zero", Reject::SeqMissing, |draft| draft.with("seq", Value::Int(0)).frame()),
    ("repo_is_no_did", Reject::DidSyntax, |draft| {
        draft.with("repo", "nobody.example".into()).frame()
    }),
    ("did_of_unknown_method", Reject::DidMethod, |draft| {
        draft
            .with("repo", "did:key:zQ3shf3Kc3BsnZEPhb9uiQ2nkNa4BmK7UfExfHNfDtCh4qzvJ".into())
            .frame()
    }),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, bend) in LIES {
        let mut scene = Scene::new(world, now);
        let truth = scene.commit_one().draft();
        let steps =
            vec![Step::drop(scene.home, bend(truth.clone()), *reject), scene.pass(truth.frame())];
        specimens.push(scene.finish(name, steps));
    }
}
