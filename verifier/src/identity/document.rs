//! DID documents: the few facts in them that a relay needs.

use protocol::did::Did;
use protocol::handle;
use protocol::host::{HostName, HostRules};
use protocol::ids::Micros;
use protocol::keys::PublicKey;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::verdict::Identity;

/// Bytes that are not a document of this DID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Too long, not JSON, or JSON of another shape.
    #[error("not a DID document")]
    Malformed,
    /// The document's `id` is another one.
    #[error("the document of another DID")]
    OtherDid,
}

/// Reads a document. What is malformed inside an entry of a list makes that entry count for
/// nothing, and the rest is read.
pub fn parse(
    body: &[u8],
    did: &Did,
    rules: HostRules,
    fetched: Micros,
) -> Result<Identity, DocumentError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(DocumentError::Malformed);
    }
    let document: Document<'_> =
        serde_json::from_slice(body).map_err(|_| DocumentError::Malformed)?;
    let text = did.to_string();
    if document.id != text {
        return Err(DocumentError::OtherDid);
    }
    Ok(Identity {
        did: did.clone(),
        key: key(&entries(document.verification_method), &text),
        pds: pds(&entries(document.service), &text, rules),
        handle: handle(&entries(document.also_known_as)),
        fetched,
        tombstoned: false,
    })
}

/// "The first valid entry with id ending `#atproto` and matching controller" (atproto.com/specs/did).
fn key(methods: &[&RawValue], did: &str) -> Option<PublicKey> {
    methods
        .iter()
        .filter_map(|method| serde_json::from_str::<Method>(method.get()).ok())
        .find(|method| is_fragment(&method.id, did, "#atproto") && method.controller == did)
        .and_then(|method| {
            PublicKey::from_method(&method.r#type, method.multibase.as_deref()?).ok()
        })
}

/// "The first entry with id ending `#atproto_pds` and type `AtprotoPersonalDataServer`", an https
/// URL without a path (atproto.com/specs/did).
fn pds(services: &[&RawValue], did: &str, rules: HostRules) -> Option<HostName> {
    let service = services
        .iter()
        .filter_map(|service| serde_json::from_str::<Service>(service.get()).ok())
        .find(|service| {
            is_fragment(&service.id, did, "#atproto_pds")
                && service.r#type == "AtprotoPersonalDataServer"
        })?;
    let (scheme, _) = service.endpoint.split_once("://")?;
    let is_web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    if !is_web {
        return None;
    }
    HostName::parse(&service.endpoint, rules).ok()
}

/// "The first valid `at://` URI is the handle" (atproto.com/specs/did).
fn handle(names: &[&RawValue]) -> Option<String> {
    names
        .iter()
        .filter_map(|name| serde_json::from_str::<String>(name.get()).ok())
        .filter_map(|name| name.strip_prefix("at://").map(str::to_ascii_lowercase))
        .find(|name| handle::is_handle(name))
}

/// Ids inside a document stand alone or behind its DID.
fn is_fragment(id: &str, did: &str, fragment: &str) -> bool {
    id == fragment || id.strip_prefix(did) == Some(fragment)
}

/// A list's entries, unparsed: at most [`ENTRIES_MAX`] are looked at.
fn entries(list: Option<&RawValue>) -> Vec<&RawValue> {
    let mut entries: Vec<&RawValue> =
        list.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default();
    entries.truncate(ENTRIES_MAX);
    entries
}

/// Lists stay unparsed, so that a hostile document costs no more memory than its own bytes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    id: String,
    #[serde(borrow)]
    verification_method: Option<&'a RawValue>,
    #[serde(borrow)]
    service: Option<&'a RawValue>,
    #[serde(borrow)]
    also_known_as: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Method {
    id: String,
    r#type: String,
    controller: String,
    #[serde(rename = "publicKeyMultibase")]
    multibase: Option<String>,
}

#[derive(Deserialize)]
struct Service {
    id: String,
    r#type: String,
    #[serde(rename = "serviceEndpoint")]
    endpoint: String,
}

/// Real documents have one to two kilobytes.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;
const ENTRIES_MAX: usize = 100;

/// Reads arbitrary bytes as a document; must not panic.
pub fn fuzz_document(bytes: &[u8]) {
    let did = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").expect("a DID");
    for rules in [HostRules::Public, HostRules::Insecure] {
        if let Ok(identity) = parse(bytes, &did, rules, Micros(1)) {
            assert_eq!(identity.did, did, "a document speaks for its own DID");
        }
    }
}
