//! DID documents that vouch for nobody, or do so in an odd form.

use protocol::ids::Micros;
use protocol::keys::Curve;
use protocol::reject::Reject;
use serde_json::{Value, json};

use super::scene::Scene;
use super::{Deed, Directory, Specimen, Step};
use crate::world::World;
use crate::world::account::account_frame;

/// A document: what it shows, the drop of its account's commits, and what is done to it.
type Lie = (&'static str, Reject, fn(&mut Value));

const LIES: &[Lie] = &[
    ("document_without_methods", Reject::IdentityNoKey, |document| {
        cut(document, "verificationMethod");
    }),
    ("document_with_methods_in_a_map", Reject::IdentityNoKey, |document| {
        document["verificationMethod"] = json!({"0": document["verificationMethod"][0]});
    }),
    ("document_with_another_keys_id", Reject::IdentityNoKey, |document| {
        document["verificationMethod"][0]["id"] = json!("#atproto_label");
    }),
    ("document_with_a_key_of_another_did", Reject::IdentityNoKey, |document| {
        let id = json!("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#atproto");
        document["verificationMethod"][0]["id"] = id;
    }),
    ("document_with_a_key_of_another_controller", Reject::IdentityNoKey, |document| {
        let controller = json!("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa");
        document["verificationMethod"][0]["controller"] = controller;
    }),
    ("document_with_a_key_without_controller", Reject::IdentityNoKey, |document| {
        cut(&mut document["verificationMethod"][0], "controller");
    }),
    ("document_with_a_key_of_unknown_type", Reject::IdentityNoKey, |document| {
        document["verificationMethod"][0]["type"] = json!("JsonWebKey2020");
    }),
    ("document_with_a_key_that_is_none", Reject::IdentityNoKey, |document| {
        document["verificationMethod"][0]["publicKeyMultibase"] = json!("zQ3sh");
    }),
    ("document_without_services", Reject::IdentityNoPds, |document| cut(document, "service")),
    ("document_with_another_services_id", Reject::IdentityNoPds, |document| {
        document["service"][0]["id"] = json!("#atproto_labeler");
    }),
    ("document_with_another_services_type", Reject::IdentityNoPds, |document| {
        document["service"][0]["type"] = json!("AtprotoLabeler");
    }),
    ("document_with_an_endpoint_that_is_no_url", Reject::IdentityNoPds, |document| {
        document["service"][0]["serviceEndpoint"] = json!("localhost");
    }),
    ("document_with_an_endpoint_of_another_scheme", Reject::IdentityNoPds, |document| {
        replace(document, |endpoint| endpoint.replace("http", "ftp"));
    }),
    ("document_with_an_endpoint_with_a_path", Reject::IdentityNoPds, |document| {
        replace(document, |endpoint| format!("{endpoint}/pds"));
    }),
    ("document_with_an_endpoint_with_a_query", Reject::IdentityNoPds, |document| {
        replace(document, |endpoint| format!("{endpoint}?a=b"));
    }),
    ("document_with_an_endpoint_with_a_user", Reject::IdentityNoPds, |document| {
        replace(document, |endpoint| endpoint.replace("//", "//admin@"));
    }),
    ("document_with_endpoints_in_a_list", Reject::IdentityNoPds, |document| {
        document["service"][0]["serviceEndpoint"] =
            json!([document["service"][0]["serviceEndpoint"]]);
    }),
    ("document_with_another_hosts_endpoint", Reject::WrongHost, |document| {
        document["service"][0]["serviceEndpoint"] = json!("http://localhost:1");
    }),
];

/// Documents that look odd and vouch.
type Truth = (&'static str, fn(&mut Value));

const TRUTHS: &[Truth] = &[
    ("document_with_a_short_key_id", |document| {
        document["verificationMethod"][0]["id"] = json!("#atproto");
    }),
    ("document_with_a_long_service_id", |document| {
        let id = document["id"].as_str().unwrap_or_default().to_owned();
        document["service"][0]["id"] = json!(format!("{id}#atproto_pds"));
    }),
    ("document_with_an_endpoint_with_a_slash", |document| {
        replace(document, |endpoint| format!("{endpoint}/"));
    }),
    ("document_with_an_endpoint_in_capitals", |document| {
        replace(document, str::to_ascii_uppercase);
    }),
    ("document_without_handle", |document| cut(document, "alsoKnownAs")),
    ("document_with_unknown_fields", |document| {
        document["authentication"] = json!([]);
        document["service"][0]["priority"] = json!(1);
    }),
    ("document_with_entries_that_are_none_in_front", |document| {
        for list in ["verificationMethod", "service", "alsoKnownAs"] {
            let entries = document[list].as_array_mut().into_iter();
            entries.for_each(|entries| entries.insert(0, json!(7)));
        }
    }),
    ("document_with_other_keys_and_services_in_front", |document| {
        let mut method = document["verificationMethod"][0].clone();
        method["id"] = json!("#atproto_label");
        let mut foreign = document["verificationMethod"][0].clone();
        foreign["controller"] = json!("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa");
        let mut service = document["service"][0].clone();
        service["type"] = json!("AtprotoLabeler");
        let methods = document["verificationMethod"].as_array_mut().into_iter();
        methods.for_each(|methods| drop(methods.splice(0..0, [method.clone(), foreign.clone()])));
        let services = document["service"].as_array_mut().into_iter();
        services.for_each(|services| services.insert(0, service.clone()));
    }),
    ("document_with_a_second_key_behind", |document| {
        let mut second = document["verificationMethod"][0].clone();
        second["publicKeyMultibase"] = json!("zQ3shf3Kc3BsnZEPhb9uiQ2nkNa4BmK7UfExfHNfDtCh4qzvJ");
        let methods = document["verificationMethod"].as_array_mut().into_iter();
        methods.for_each(|methods| methods.push(second.clone()));
    }),
];

/// Their neighbouring truths are [`TRUTHS`]: a document is not fetched again at once.
pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, bend) in LIES {
        let mut scene = Scene::new(world, now);
        let commit = scene.commit_one().draft().frame();
        let directory = bent(&scene, *bend);
        let steps = vec![scene.drop(commit, *reject)];
        specimens.push(scene.finish_with(name, directory, steps));
    }
    for (name, bend) in TRUTHS {
        let mut scene = Scene::new(world, now);
        let directory = bent(&scene, *bend);
        let steps = vec![scene.pass_one(), scene.pass_one()];
        specimens.push(scene.finish_with(name, directory, steps));
    }
    specimens.extend([Curve::K256, Curve::P256].map(|curve| legacy_key(world, now, curve)));
}

/// The two types of before Multikey: the point alone, without a prefix for its curve.
fn legacy_key(world: &mut World, now: Micros, curve: Curve) -> Specimen {
    let mut scene = Scene::with_curve(world, now, Some(curve));
    let (name, method) = match curve {
        Curve::K256 => ("document_with_a_legacy_k256_key", "EcdsaSecp256k1VerificationKey2019"),
        Curve::P256 => ("document_with_a_legacy_p256_key", "EcdsaSecp256r1VerificationKey2019"),
    };
    let (_, point) = scene.account().key.public_key().to_compressed();
    let mut document = scene.world.document(scene.account());
    document["verificationMethod"][0]["type"] = json!(method);
    document["verificationMethod"][0]["publicKeyMultibase"] = json!(format!("z{}", base58(&point)));
    let steps = vec![scene.pass_one(), scene.pass_one()];
    scene.finish_with(name, Directory::Document(document), steps)
}

/// Bitcoin's base58, without leading zeros, which no compressed point has.
fn base58(bytes: &[u8]) -> String {
    let mut digits: Vec<u32> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += *digit << 8;
            *digit = carry % 58;
            carry /= 58;
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    let char = |digit: &u32| char::from(BASE58[usize::try_from(*digit).expect("below 58")]);
    digits.iter().rev().map(char).collect()
}

fn bent(scene: &Scene<'_>, bend: fn(&mut Value)) -> Directory {
    let mut document = scene.world.document(scene.account());
    bend(&mut document);
    Directory::Document(document)
}

/// What a directory says at first: what it shows, the drop, and the answer.
type Unvouched = (&'static str, Reject, fn(Value) -> Directory);

const UNVOUCHED: &[Unvouched] = &[
    ("document_without_key", Reject::IdentityNoKey, |mut document| {
        document["verificationMethod"] = json!([]);
        Directory::Document(document)
    }),
    ("document_without_pds", Reject::IdentityNoPds, |mut document| {
        document["service"] = json!([]);
        Directory::Document(document)
    }),
    ("did_tombstoned", Reject::IdentityTombstoned, |_| Directory::Tombstoned),
    // These take as long as a relay asks again.
    ("did_not_registered", Reject::IdentityUnresolved, |_| Directory::Missing),
    ("document_of_another_did", Reject::IdentityUnresolved, |mut document| {
        document["id"] = json!("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa");
        Directory::Document(document)
    }),
    ("document_is_a_list", Reject::IdentityUnresolved, |document| {
        Directory::Document(json!([document]))
    }),
];

/// An account for which the directory does not vouch; then it does, its host says so, and the
/// same commit passes.
pub(super) fn add_ordeals(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, first) in UNVOUCHED {
        let mut scene = Scene::new(world, now);
        let commit = scene.commit_one().draft().frame();
        let time = scene.tick();
        let identity = scene.account().identity_frame(time);
        let (did, vouched) = (scene.account().did.clone(), scene.vouched());
        let directory = first(scene.world.document(scene.account()));
        let steps = vec![
            scene.drop(commit.clone(), *reject),
            Step::set(Deed::Directory { did, answer: vouched }),
            scene.pass(identity),
            scene.pass(commit),
        ];
        specimens.push(scene.finish_with(name, directory, steps));
    }
    specimens.push(last_word(world, now));
}

/// The DID is gone, and its last host says so: that is heard, and nothing else of it.
fn last_word(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, did) = (scene.pass_one(), scene.account().did.clone());
    let (answer, noticed) = (Directory::Tombstoned, scene.tick());
    let noticed = scene.account().identity_frame(noticed);
    let mut account = |active, status| account_frame(&did, active, status, scene.tick());
    let (active, deleted) = (account(true, None), account(false, Some("deleted")));
    let (elsewhere, home) = (scene.elsewhere(), scene.home);
    let steps = vec![
        first,
        Step::set(Deed::Directory { did: did.clone(), answer }),
        // From a stranger, it waits for the document; so the others find it.
        Step::pass(elsewhere, noticed),
        Step::drop(home, active, Reject::IdentityTombstoned),
        Step::pass(home, deleted),
    ];
    scene.finish("tombstoned_and_deleted_by_its_host", steps)
}

fn cut(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(field);
    }
}

fn replace(document: &mut Value, change: impl FnOnce(&str) -> String) {
    let endpoint = &mut document["service"][0]["serviceEndpoint"];
    *endpoint = json!(change(endpoint.as_str().unwrap_or_default()));
}

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
