//! Events of accounts whose name is no DID, or none that can be an account.

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::Specimen;
use super::scene::bent;
use crate::wire::Value;
use crate::world::World;

/// A name: what it shows, its drop, and what it makes of the account's own.
type Name = (&'static str, Reject, fn(&str) -> String);

const NAMES: &[Name] = &[
    ("repo_is_no_did", Reject::DidSyntax, |_| "nobody.example".to_owned()),
    ("repo_is_empty", Reject::DidSyntax, |_| String::new()),
    ("did_in_capitals", Reject::DidSyntax, |did| did.replace("did", "DID")),
    ("did_without_id", Reject::DidSyntax, |_| "did:plc:".to_owned()),
    ("did_with_a_trailing_colon", Reject::DidSyntax, |did| format!("{did}:")),
    ("did_with_a_space", Reject::DidSyntax, |did| format!("{did} ")),
    ("did_with_a_fragment", Reject::DidSyntax, |did| format!("{did}#atproto")),
    ("did_of_2049_characters", Reject::DidSyntax, |_| format!("did:web:{}", "a".repeat(2041))),
    ("did_of_unknown_method", Reject::DidMethod, |_| {
        "did:key:zQ3shf3Kc3BsnZEPhb9uiQ2nkNa4BmK7UfExfHNfDtCh4qzvJ".to_owned()
    }),
    ("did_plc_of_23_characters", Reject::DidMethod, |did| did[..did.len() - 1].to_owned()),
    ("did_plc_of_25_characters", Reject::DidMethod, |did| format!("{did}a")),
    ("did_plc_in_capitals", Reject::DidMethod, |did| {
        did.replace(&did[8..], &did[8..].to_uppercase())
    }),
    ("did_plc_with_a_digit_of_no_base32", Reject::DidMethod, |did| {
        format!("{}1", &did[..did.len() - 1])
    }),
    ("did_web_with_a_path", Reject::DidMethod, |_| "did:web:example.com:user".to_owned()),
    ("did_web_of_no_host", Reject::DidMethod, |_| "did:web:exa_mple.com".to_owned()),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, rename) in NAMES {
        specimens.push(bent(world, now, name, *reject, |truth, draft| {
            let did = truth.commit.did.to_string();
            draft.with("repo", Value::Text(rename(&did)))
        }));
    }
}
