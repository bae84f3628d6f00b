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

/// "The first valid entry with id ending `#atproto` and matching controller"
/// (atproto.com/specs/did).
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
    pds_of(&service.endpoint, rules)
}

/// The host of a PDS's URL.
pub(super) fn pds_of(endpoint: &str, rules: HostRules) -> Option<HostName> {
    let (scheme, _) = endpoint.split_once("://")?;
    let is_web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    is_web.then(|| HostName::parse(endpoint, rules).ok()).flatten()
}

/// "The first valid `at://` URI is the handle" (atproto.com/specs/did).
fn handle(names: &[&RawValue]) -> Option<String> {
    names
        .iter()
        .filter_map(|name| serde_json::from_str::<String>(name.get()).ok())
        .find_map(|name| handle_of(&name))
}

/// The handle in an `at://` URI.
pub(super) fn handle_of(name: &str) -> Option<String> {
    name.strip_prefix("at://").map(str::to_ascii_lowercase).filter(|name| handle::is_handle(name))
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
pub(super) const ENTRIES_MAX: usize = 100;

/// Reads arbitrary bytes as a document; must not panic.
pub fn fuzz_document(bytes: &[u8]) {
    let did = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").expect("a DID");
    for rules in [HostRules::Public, HostRules::Insecure] {
        if let Ok(identity) = parse(bytes, &did, rules, Micros(1)) {
            assert_eq!(identity.did, did, "a document speaks for its own DID");
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::keys::Curve;

    use super::*;
    use crate::testing::Repo;

    /// The usual document, changed by replacing one text by another.
    fn read(from: &str, to: &str) -> Result<Identity, DocumentError> {
        let repo = Repo::new(5, Curve::K256);
        let text = repo.document("https://pds.example.com");
        assert!(text.contains(from), "{from}");
        parse(text.replace(from, to).as_bytes(), &repo.did, HostRules::Public, Micros(3))
    }

    #[test]
    fn a_document_says_key_host_and_handle() {
        let identity = read("{", "{").unwrap();
        let repo = Repo::new(5, Curve::K256);
        let pds = HostName::parse("pds.example.com", HostRules::Public).ok();
        let handle = Some("someone.example.com".into());
        let key = Some(repo.key.public_key());
        let (did, fetched, tombstoned) = (repo.did, Micros(3), false);
        assert_eq!(identity, Identity { did, key, pds, handle, fetched, tombstoned });
    }

    #[test]
    fn only_a_document_of_this_did_counts() {
        let did = Repo::new(5, Curve::K256).did.to_string();
        let other = Repo::new(6, Curve::K256).did.to_string();
        let id = format!(r#""id":"{did}","also"#);
        let changed = format!(r#""id":"{other}","also"#);
        assert_eq!(read(&id, &changed).unwrap_err(), DocumentError::OtherDid);
        assert_eq!(read("{", "").unwrap_err(), DocumentError::Malformed);
        let spaces = " ".repeat(BODY_BYTES_MAX);
        assert_eq!(read("{", &format!("{spaces}{{")).unwrap_err(), DocumentError::Malformed);
    }

    #[test]
    fn the_key_is_the_first_atproto_method_of_its_own_controller() {
        let has_key = |from: &str, to: &str| read(from, to).unwrap().key.is_some();
        let did = Repo::new(5, Curve::K256).did.to_string();
        let id = format!("{did}#atproto\"");
        assert!(has_key(&id, "#atproto\""));
        assert!(!has_key(&id, "#other\""));
        assert!(!has_key(&id, "did:web:example.com#atproto\""));
        let controller = format!(r#""controller":"{did}""#);
        assert!(!has_key(&controller, r#""controller":"did:web:example.com""#));
        assert!(!has_key("Multikey", "JsonWebKey2020"));
        // Entries of other shapes are passed over.
        let methods = r#""verificationMethod":["#;
        assert!(has_key(methods, r#""verificationMethod":["did:x#y",{"id":5},null,"#));
        assert!(!has_key(methods, r#""verificationMethod":5,"other":["#));
    }

    #[test]
    fn the_host_is_an_https_origin() {
        let pds = |to: &str| {
            let pds = read("https://pds.example.com", to).unwrap().pds;
            pds.map(|pds| pds.to_string())
        };
        let ours = Some("pds.example.com".to_owned());
        assert_eq!(pds("https://pds.example.com/"), ours);
        assert_eq!(pds("HTTPS://PDS.example.com:443"), ours);
        for wrong in [
            "pds.example.com",
            "http://pds.example.com",
            "wss://pds.example.com",
            "https://pds.example.com/path",
            "https://pds.example.com:8443",
            "https://10.0.0.1",
            "",
        ] {
            assert_eq!(pds(wrong), None, "{wrong}");
        }
        assert_eq!(read("AtprotoPersonalDataServer", "Other").unwrap().pds, None);
        assert_eq!(read("#atproto_pds", "#atproto_other").unwrap().pds, None);
    }

    #[test]
    fn the_handle_is_the_first_valid_one() {
        let handle = |to: &str| read(r#""at://someone.example.com""#, to).unwrap().handle;
        assert_eq!(
            handle(r#""https://x","at://no","at://A.example.com""#).unwrap(),
            "a.example.com"
        );
        assert_eq!(handle(r#"5,"at://b.example.com""#).unwrap(), "b.example.com");
        assert_eq!(handle(""), None);
    }

    #[test]
    fn a_deep_document_is_no_document() {
        let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
        fuzz_document(deep.as_bytes());
        let text = Repo::new(5, Curve::K256).document("https://pds.example.com");
        (0..text.len()).for_each(|cut| fuzz_document(&text.as_bytes()[..cut]));
    }
}
