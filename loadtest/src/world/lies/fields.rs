//! Events of the four kinds with a required field missing, or a field of a wrong type or syntax.

use std::time::Duration;

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::{Lie, Scene, Truth, bent};
use super::{Specimen, Step};
use crate::wire::{Frame, Value};
use crate::world::World;
use crate::world::account::datetime;
use crate::world::repo::Draft;

/// Of `#commit`.
const LIES: &[Lie] = &[
    ("rev_missing", Reject::FieldMissing, |_, draft| draft.without("rev")),
    ("time_missing", Reject::FieldMissing, |_, draft| draft.without("time")),
    ("commit_field_missing", Reject::FieldMissing, |_, draft| draft.without("commit")),
    ("ops_missing", Reject::FieldMissing, |_, draft| draft.without("ops")),
    ("blocks_missing", Reject::FieldMissing, |_, draft| draft.without_blocks()),
    ("rev_is_a_number", Reject::FieldType, |_, draft| draft.with("rev", Value::Int(7))),
    ("time_is_a_number", Reject::FieldType, |_, draft| draft.with("time", Value::Int(7))),
    ("time_is_null", Reject::FieldType, |_, draft| draft.with("time", Value::Null)),
    ("blocks_are_text", Reject::FieldType, |_, draft| draft.with("blocks", "text".into())),
    ("blocks_are_null", Reject::FieldType, |_, draft| draft.with("blocks", Value::Null)),
    ("commit_is_text", Reject::FieldType, |truth, draft| {
        draft.with("commit", Value::text(truth.commit.cid))
    }),
    ("commit_is_null", Reject::FieldType, |_, draft| draft.with("commit", Value::Null)),
    ("ops_are_a_map", Reject::FieldType, |_, draft| draft.with("ops", Value::Map(vec![]))),
    ("ops_are_null", Reject::FieldType, |_, draft| draft.with("ops", Value::Null)),
    ("since_is_a_number", Reject::FieldType, |_, draft| draft.with("since", Value::Int(7))),
    ("prev_data_is_text", Reject::FieldType, |_, draft| draft.with("prevData", "text".into())),
    ("raw_cid_in_prev_data", Reject::CidUnsupported, |truth, draft| {
        with_prev_data(truth, draft, |cid| cid[1] = CODEC_RAW)
    }),
    ("sha2_512_in_prev_data", Reject::CidUnsupported, |truth, draft| {
        with_prev_data(truth, draft, |cid| cid[2] = HASH_SHA2_512)
    }),
    ("raw_cid_in_commit", Reject::CidUnsupported, |truth, draft| {
        let mut cid = truth.commit.cid.to_bytes().to_vec();
        cid[1] = CODEC_RAW;
        draft.with("commit", Value::Link(cid))
    }),
    ("cid_version_0_in_commit", Reject::CidUnsupported, |truth, draft| {
        // A CIDv0 is a bare multihash.
        let cid = truth.commit.cid.to_bytes()[2..].to_vec();
        draft.with("commit", Value::Link(cid))
    }),
    // No reader can say where a CID of an unknown version ends: such a frame is not CBOR.
    ("cid_version_7_in_prev_data", Reject::FrameMalformed, |truth, draft| {
        with_prev_data(truth, draft, |cid| cid[0] = 7)
    }),
    ("rev_is_no_tid", Reject::RevSyntax, |_, draft| draft.with("rev", "yesterday".into())),
    ("rev_is_empty", Reject::RevSyntax, |_, draft| draft.with("rev", "".into())),
    ("rev_of_12_characters", Reject::RevSyntax, |truth, draft| {
        let rev = truth.commit.rev.to_string();
        draft.with("rev", rev[..12].into())
    }),
    ("rev_of_14_characters", Reject::RevSyntax, |truth, draft| {
        draft.with("rev", Value::text(format_args!("{}2", truth.commit.rev)))
    }),
    ("rev_in_capitals", Reject::RevSyntax, |truth, draft| {
        draft.with("rev", Value::Text(truth.commit.rev.to_string().to_uppercase()))
    }),
    ("rev_with_the_high_bit", Reject::RevSyntax, |truth, draft| {
        let rev = truth.commit.rev.to_string();
        draft.with("rev", Value::text(format_args!("k{}", &rev[1..])))
    }),
    ("time_is_no_datetime", Reject::TimeSyntax, |_, draft| draft.with("time", "noon".into())),
    ("time_is_empty", Reject::TimeSyntax, |_, draft| draft.with("time", "".into())),
    ("time_without_zone", Reject::TimeSyntax, |_, draft| {
        draft.with("time", "2025-01-01T00:00:00.000".into())
    }),
    ("time_of_an_unknown_zone", Reject::TimeSyntax, |_, draft| {
        draft.with("time", "2025-01-01T00:00:00-00:00".into())
    }),
    ("time_in_small_letters", Reject::TimeSyntax, |_, draft| {
        draft.with("time", "2025-01-01t00:00:00z".into())
    }),
    ("time_of_a_13th_month", Reject::TimeSyntax, |_, draft| {
        draft.with("time", "2025-13-01T00:00:00Z".into())
    }),
    ("time_of_65_characters", Reject::TimeSyntax, |_, draft| {
        let fraction = "1".repeat(65 - "2025-01-01T00:00:00.Z".len());
        draft.with("time", Value::Text(format!("2025-01-01T00:00:00.{fraction}Z")))
    }),
];

/// A way to break another kind: its name, the name of its drop, and what it does to the payload.
type Bend = (&'static str, Reject, fn(&mut Vec<(&'static str, Value)>));

const SYNC: &[Bend] = &[
    ("sync_without_rev", Reject::FieldMissing, |fields| without(fields, "rev")),
    ("sync_without_time", Reject::FieldMissing, |fields| without(fields, "time")),
    ("sync_without_blocks", Reject::FieldMissing, |fields| without(fields, "blocks")),
    ("sync_without_did", Reject::DidSyntax, |fields| without(fields, "did")),
    ("sync_rev_is_bytes", Reject::FieldType, |fields| {
        with(fields, "rev", Value::Bytes(b"3n2s2ynuaqk2k".to_vec()));
    }),
    ("sync_time_is_null", Reject::FieldType, |fields| with(fields, "time", Value::Null)),
    ("sync_blocks_are_text", Reject::FieldType, |fields| with(fields, "blocks", "car".into())),
    ("sync_did_is_bytes", Reject::DidSyntax, |fields| {
        with(fields, "did", Value::Bytes(b"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".to_vec()));
    }),
    ("sync_rev_is_no_tid", Reject::RevSyntax, |fields| with(fields, "rev", "today".into())),
    ("sync_time_is_no_datetime", Reject::TimeSyntax, |fields| with(fields, "time", "".into())),
];

const IDENTITY: &[Bend] = &[
    ("identity_without_time", Reject::FieldMissing, |fields| without(fields, "time")),
    ("identity_without_did", Reject::DidSyntax, |fields| without(fields, "did")),
    ("identity_time_is_a_number", Reject::FieldType, |fields| with(fields, "time", Value::Int(1))),
    ("identity_handle_is_a_number", Reject::FieldType, |fields| {
        with(fields, "handle", Value::Int(1));
    }),
    ("identity_time_is_no_datetime", Reject::TimeSyntax, |fields| with(fields, "time", "x".into())),
];

const ACCOUNT: &[Bend] = &[
    ("account_without_active", Reject::FieldMissing, |fields| without(fields, "active")),
    ("account_without_time", Reject::FieldMissing, |fields| without(fields, "time")),
    ("account_without_did", Reject::DidSyntax, |fields| without(fields, "did")),
    ("account_active_is_text", Reject::FieldType, |fields| with(fields, "active", "yes".into())),
    ("account_active_is_null", Reject::FieldType, |fields| with(fields, "active", Value::Null)),
    ("account_active_is_one", Reject::FieldType, |fields| with(fields, "active", Value::Int(1))),
    ("account_status_is_a_number", Reject::FieldType, |fields| {
        with(fields, "status", Value::Int(1));
    }),
    ("account_time_is_no_datetime", Reject::TimeSyntax, |fields| with(fields, "time", "x".into())),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, bend) in LIES {
        specimens.push(bent(world, now, name, *reject, bend));
    }
    // Five minutes are allowed; some may pass before it is sent.
    let soon = now.plus(Duration::from_secs(15 * 60));
    for (name, time) in [("rev_in_2200", FAR_FUTURE), ("rev_ahead_15_minutes", soon)] {
        specimens.push(rev_in_the_future(world, now, name, time));
    }
    for bend in SYNC {
        let (mut scene, fields) = sync(world, now);
        let truth = scene.commit_one().draft().frame();
        specimens.push(bent_fields(scene, "#sync", fields, *bend, Some(truth)));
    }
    for bend in IDENTITY {
        let (scene, fields) = identity(world, now);
        specimens.push(bent_fields(scene, "#identity", fields, *bend, None));
    }
    for bend in ACCOUNT {
        let (scene, fields) = account(world, now);
        specimens.push(bent_fields(scene, "#account", fields, *bend, None));
    }
}

/// The payload bent, then as it was.
fn bent_fields(
    scene: Scene<'_>,
    kind: &str,
    fields: Vec<(&'static str, Value)>,
    (name, reject, bend): Bend,
    and_then: Option<Frame>,
) -> Specimen {
    let mut lie = fields.clone();
    bend(&mut lie);
    let mut steps = vec![
        scene.drop(Frame::event(kind, &Value::Map(lie)), reject),
        scene.pass(Frame::event(kind, &Value::Map(fields))),
    ];
    steps.extend(and_then.map(|frame| scene.pass(frame)));
    scene.finish(name, steps)
}

/// An account with a commit that nobody was sent, and the payload of its `#sync`.
fn sync(world: &mut World, now: Micros) -> (Scene<'_>, Vec<(&'static str, Value)>) {
    let mut scene = Scene::new(world, now);
    let head = scene.account().repo.head().expect("it has history").clone();
    let time = scene.tick();
    let did = scene.account().did.to_string();
    let fields = super::syncs::payload(did, head.rev.to_string(), head.block, time);
    (scene, fields)
}

fn identity(world: &mut World, now: Micros) -> (Scene<'_>, Vec<(&'static str, Value)>) {
    let mut scene = Scene::new(world, now);
    let time = scene.tick();
    let account = scene.account();
    let fields = vec![
        ("did", Value::text(&account.did)),
        ("seq", Value::Seq),
        ("time", datetime(time)),
        ("handle", Value::text(&account.handle)),
    ];
    (scene, fields)
}

fn account(world: &mut World, now: Micros) -> (Scene<'_>, Vec<(&'static str, Value)>) {
    let mut scene = Scene::new(world, now);
    let time = scene.tick();
    let fields = vec![
        ("did", Value::text(&scene.account().did)),
        ("seq", Value::Seq),
        ("time", datetime(time)),
        ("active", Value::Bool(true)),
    ];
    (scene, fields)
}

fn rev_in_the_future(world: &mut World, now: Micros, name: &'static str, time: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let write = scene.create();
    let lie = scene.forge(std::slice::from_ref(&write), Some(time));
    let truth = scene.commit(&[write]);
    let drop = scene.drop(lie.draft().frame(), Reject::RevInFuture);
    let steps: Vec<Step> = vec![drop, scene.pass(truth.draft().frame())];
    scene.finish(name, steps)
}

fn with_prev_data(truth: &Truth<'_>, draft: Draft, change: fn(&mut Vec<u8>)) -> Draft {
    let before = truth.commit.before.as_ref().expect("it has history");
    let mut cid = before.data.to_bytes().to_vec();
    change(&mut cid);
    draft.with("prevData", Value::Link(cid))
}

fn without(fields: &mut Vec<(&'static str, Value)>, name: &str) {
    fields.retain(|(key, _)| *key != name);
}

fn with(fields: &mut Vec<(&'static str, Value)>, name: &'static str, value: Value) {
    without(fields, name);
    fields.push((name, value));
}

/// The second byte of a CIDv1 is its codec, the third its hash.
pub(super) const CODEC_RAW: u8 = 0x55;
pub(super) const HASH_SHA2_512: u8 = 0x13;
/// 2200-01-01: later than any clock that runs this.
const FAR_FUTURE: Micros = Micros(7_258_118_400_000_000);
