//! A PLC directory's `/export`: one JSON object a line, one operation each, in the order in which
//! the directory took them (web.plc.directory/spec/v0.1/did-plc). An operation is the whole state
//! of its DID from then on, so it says as much as the document that is made from it.

use std::borrow::Cow;
use std::collections::HashMap;

use protocol::datetime;
use protocol::did::Did;
use protocol::host::HostRules;
use protocol::ids::Micros;
use protocol::keys::PublicKey;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::document::{ENTRIES_MAX, handle_of, pds_of};
use crate::verdict::Identity;

/// A line of the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Whose operation.
    pub did: Did,
    /// Names the operation within its DID.
    pub cid: String,
    /// When the directory took it.
    pub created: Micros,
    /// Its number, if the directory numbers its operations.
    pub seq: Option<u64>,
    /// A recovery operation, which comes later in the export, has undone it.
    pub nullified: bool,
    /// What the DID's document says from then on, fetched when the operation was taken; `None`: it
    /// is an operation of a kind or a shape that is not known here.
    pub identity: Option<Identity>,
}

/// A line that is none of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a line of an export")]
pub struct ExportError;

/// Reads a line.
pub fn parse(line: &[u8], rules: HostRules) -> Result<Exported, ExportError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(ExportError);
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(|_| ExportError)?;
    let did = Did::parse(&line.did).map_err(|_| ExportError)?;
    let created = datetime::parse(&line.created).map_err(|_| ExportError)?;
    let is_plc = did.web_host().is_none();
    if !is_plc || line.cid.is_empty() || line.cid.len() > CID_CHARS_MAX {
        return Err(ExportError);
    }
    let identity = serde_json::from_str::<Operation<'_>>(line.operation.get()).ok();
    let identity = identity.and_then(|operation| operation.identity(&did, rules, created));
    let (cid, seq, nullified) = (line.cid.into_owned(), line.seq, line.nullified);
    Ok(Exported { did, cid, created, seq, nullified, identity })
}

/// A line; an export by number has no `nullified`.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    did: Cow<'a, str>,
    #[serde(borrow)]
    operation: &'a RawValue,
    #[serde(borrow)]
    cid: Cow<'a, str>,
    #[serde(default)]
    nullified: bool,
    #[serde(borrow, rename = "createdAt")]
    created: Cow<'a, str>,
    seq: Option<u64>,
}

/// What is signed by the DID's owner. Other fields (`prev`, `sig`, `rotationKeys`) are the
/// directory's to check.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Operation<'a> {
    #[serde(rename = "plc_operation", rename_all = "camelCase")]
    State {
        #[serde(borrow)]
        verification_methods: HashMap<Cow<'a, str>, Cow<'a, str>>,
        #[serde(borrow)]
        also_known_as: Vec<Cow<'a, str>>,
        #[serde(borrow)]
        services: HashMap<Cow<'a, str>, Service<'a>>,
    },
    /// As DIDs were made until 2023.
    #[serde(rename = "create", rename_all = "camelCase")]
    Create {
        #[serde(borrow)]
        signing_key: Cow<'a, str>,
        #[serde(borrow)]
        handle: Cow<'a, str>,
        #[serde(borrow)]
        service: Cow<'a, str>,
    },
    #[serde(rename = "plc_tombstone")]
    Tombstone {},
}

#[derive(Deserialize)]
struct Service<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    endpoint: Cow<'a, str>,
}

impl Operation<'_> {
    /// As the directory makes a document of it.
    fn identity(&self, did: &Did, rules: HostRules, fetched: Micros) -> Option<Identity> {
        let nothing = Identity {
            did: did.clone(),
            key: None,
            pds: None,
            handle: None,
            fetched,
            tombstoned: false,
        };
        Some(match self {
            Self::State { verification_methods, also_known_as, services } => Identity {
                key: verification_methods
                    .get("atproto")
                    .and_then(|key| PublicKey::from_did_key(key).ok()),
                pds: services
                    .get("atproto_pds")
                    .filter(|service| service.r#type == "AtprotoPersonalDataServer")
                    .and_then(|service| pds_of(&service.endpoint, rules)),
                handle: also_known_as.iter().take(ENTRIES_MAX).find_map(|name| handle_of(name)),
                ..nothing
            },
            Self::Create { signing_key, handle, service } => Identity {
                key: PublicKey::from_did_key(signing_key).ok(),
                pds: pds_of(&with_scheme(service), rules),
                handle: handle_of(&with_at(handle)),
                ..nothing
            },
            Self::Tombstone {} => Identity { tombstoned: true, ..nothing },
        })
    }
}

/// A legacy `service` may be a bare host.
fn with_scheme(service: &str) -> String {
    match service.starts_with("http://") || service.starts_with("https://") {
        true => service.to_owned(),
        false => format!("https://{service}"),
    }
}

/// A legacy `handle` is bare, or has one scheme or another.
fn with_at(handle: &str) -> String {
    let bare = ["at://", "http://", "https://"].iter().find_map(|it| handle.strip_prefix(it));
    format!("at://{}", bare.unwrap_or(handle))
}

/// Reads arbitrary bytes as a line; must not panic, and what it says is of one DID.
pub fn fuzz_export(bytes: &[u8]) {
    for rules in [HostRules::Public, HostRules::Insecure] {
        let Ok(exported) = parse(bytes, rules) else { continue };
        let Some(identity) = exported.identity else { continue };
        assert_eq!((&identity.did, identity.fetched), (&exported.did, exported.created));
        assert!(!identity.tombstoned || (identity.key.is_none() && identity.pds.is_none()));
    }
}

/// The directory takes operations of at most a few thousand bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
const CID_CHARS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use protocol::host::HostName;
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::parse_document;
    use crate::testing::Repo;

    const CREATED: &str = "2023-03-01T12:30:45.123Z";

    fn did() -> Did {
        Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub").unwrap()
    }

    fn key() -> PublicKey {
        Repo::new(3, protocol::keys::Curve::P256).key.public_key()
    }

    /// As the directory writes a line.
    fn line(operation: &Value) -> String {
        json!({
            "did": did().to_string(),
            "operation": operation,
            "cid": "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
            "nullified": false,
            "createdAt": CREATED,
        })
        .to_string()
    }

    fn operation() -> Value {
        json!({
            "sig": "8Wj9Cf74dZFNKx7oucZSHbBDFOMJ3xx9lkvj5rT9xMErssWYl1D9n4PeGC0mNml7xDG7uoQqZ1JWo",
            "prev": null,
            "type": "plc_operation",
            "services": {
                "atproto_pds": {
                    "type": "AtprotoPersonalDataServer",
                    "endpoint": "https://pds.example.com",
                },
                "atproto_labeler": {
                    "type": "AtprotoLabeler",
                    "endpoint": "https://l.example.com",
                },
            },
            "alsoKnownAs":
                ["https://x.example.com", "at://Someone.Example.com", "at://b.example.com"],
            "rotationKeys": ["did:key:zQ3shhCGUqDKjStzuDxPkTxN6ujddP4RkEKJJouJGRRkaLGbg"],
            "verificationMethods": {
                "atproto": key().to_did_key(),
                "atproto_label": "did:key:zQ3x",
            },
        })
    }

    fn read(operation: &Value) -> Option<Identity> {
        parse(line(operation).as_bytes(), HostRules::Public).unwrap().identity
    }

    #[test]
    fn a_line_says_whose_which_and_when() {
        let exported = parse(line(&operation()).as_bytes(), HostRules::Public).unwrap();
        assert_eq!(exported.did, did());
        assert!(exported.cid.starts_with("bafyrei") && !exported.nullified);
        assert_eq!(exported.created, datetime::parse(CREATED).unwrap());
        assert_eq!(exported.seq, None);
        let numbered = line(&operation())
            .replace(r#""nullified":false"#, r#""type":"sequenced_op","seq":48213"#);
        let numbered = parse(numbered.as_bytes(), HostRules::Public).unwrap();
        assert_eq!(numbered, Exported { seq: Some(48213), ..exported.clone() });
        let nullified = line(&operation()).replace("false", "true");
        let nullified = parse(nullified.as_bytes(), HostRules::Public).unwrap();
        assert_eq!(nullified, Exported { nullified: true, ..exported });
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let whole = line(&operation());
        let check = |from: &str, to: &str| {
            assert!(whole.contains(from), "{from}");
            let changed = whole.replace(from, to);
            assert_eq!(parse(changed.as_bytes(), HostRules::Public), Err(ExportError), "{to}");
        };
        (0..whole.len()).for_each(|cut| {
            assert_eq!(parse(&whole.as_bytes()[..cut], HostRules::Public), Err(ExportError));
        });
        check("did:plc:32rstgho2rbvpp5wrwqp5fub", "did:plc:short");
        check("did:plc:32rstgho2rbvpp5wrwqp5fub", "did:web:example.com");
        check(CREATED, "yesterday");
        check("bafyrei", &"b".repeat(CID_CHARS_MAX));
        check(r#""operation""#, r#""operations""#);
        check("null", &format!("\"{}\"", "x".repeat(LINE_BYTES_MAX)));
    }

    /// The document that the directory makes of [`operation`] with these changes.
    fn document(operation: &Value) -> String {
        let method = |(id, key): (&String, &Value)| {
            let multibase = key.as_str().unwrap().strip_prefix("did:key:").unwrap_or("");
            json!({
                "id": format!("{}#{id}", did()),
                "type": "Multikey",
                "controller": did().to_string(),
                "publicKeyMultibase": multibase,
            })
        };
        let service = |(id, service): (&String, &Value)| {
            json!({
                "id": format!("#{id}"),
                "type": service["type"],
                "serviceEndpoint": service["endpoint"],
            })
        };
        let entries = |name: &str| operation[name].as_object().unwrap().clone();
        json!({
            "id": did().to_string(),
            "alsoKnownAs": operation["alsoKnownAs"],
            "verificationMethod":
                entries("verificationMethods").iter().map(method).collect::<Vec<_>>(),
            "service": entries("services").iter().map(service).collect::<Vec<_>>(),
        })
        .to_string()
    }

    #[test]
    fn an_operation_says_what_the_document_made_of_it_says() {
        let check = |pointer: &str, value: Value| {
            let mut operation = operation();
            *operation.pointer_mut(pointer).unwrap() = value.clone();
            let created = datetime::parse(CREATED).unwrap();
            for rules in [HostRules::Public, HostRules::Insecure] {
                let of_document =
                    parse_document(document(&operation).as_bytes(), &did(), rules, created);
                let exported = parse(line(&operation).as_bytes(), rules).unwrap();
                assert_eq!(exported.identity, of_document.ok(), "{pointer} {value}");
            }
        };
        check("/alsoKnownAs", json!([]));
        check("/alsoKnownAs", json!(["at://no", "at://a.test", "at://b.example.com"]));
        check("/verificationMethods", json!({}));
        check("/verificationMethods/atproto", json!("did:key:zQ3x"));
        check("/verificationMethods/atproto", json!(key().to_multikey()));
        check("/services", json!({}));
        check("/services/atproto_pds/type", json!("Other"));
        for endpoint in [
            "https://pds.example.com/",
            "http://localhost:2583",
            "https://pds.example.com/path",
            "pds.example.com",
            "wss://pds.example.com",
            "",
        ] {
            check("/services/atproto_pds/endpoint", json!(endpoint));
        }
        let identity = read(&operation()).unwrap();
        assert_eq!(identity.key, Some(key()));
        assert_eq!(identity.pds, HostName::parse("pds.example.com", HostRules::Public).ok());
        assert_eq!(identity.handle.as_deref(), Some("someone.example.com"));
    }

    #[test]
    fn a_legacy_create_is_an_operation() {
        let create = |handle: &str, service: &str| {
            let operation = json!({
                "type": "create",
                "signingKey": key().to_did_key(),
                "recoveryKey": "did:key:zDnaeh2hdZTRrPF3oEHmmKYTGWKFqmAcSdoJjVbbYBFJrYZ9n",
                "handle": handle,
                "service": service,
                "prev": null,
                "sig": "x",
            });
            let identity = read(&operation).unwrap();
            assert_eq!(identity.key, Some(key()));
            (identity.handle, identity.pds.map(|pds| pds.to_string()))
        };
        let expected = || (Some("a.example.com".to_owned()), Some("pds.example.com".to_owned()));
        assert_eq!(create("a.example.com", "https://pds.example.com"), expected());
        assert_eq!(create("at://a.example.com", "pds.example.com"), expected());
        assert_eq!(create("https://A.example.com", "https://pds.example.com/"), expected());
        assert_eq!(create("no", "http://pds.example.com"), (None, None));
    }

    #[test]
    fn a_tombstone_leaves_nothing() {
        let identity = read(&json!({"type": "plc_tombstone", "prev": "b", "sig": "x"})).unwrap();
        assert!(identity.tombstoned && identity.key.is_none() && identity.pds.is_none());
    }

    #[test]
    fn an_operation_of_another_shape_says_nothing() {
        let check = |operation: Value| assert_eq!(read(&operation), None, "{operation}");
        check(json!({}));
        check(json!({"type": "plc_merge"}));
        check(json!([]));
        check(json!({"type": "create", "signingKey": 5, "handle": "x", "service": "y"}));
        let mut odd = operation();
        odd["alsoKnownAs"] = json!("at://a.example.com");
        check(odd);
    }

    #[test]
    fn damaged_lines_do_not_panic() {
        let whole = line(&operation());
        (0..whole.len()).for_each(|at| {
            let mut damaged = whole.clone().into_bytes();
            damaged[at] = damaged[at].wrapping_add(1);
            fuzz_export(&damaged);
        });
        fuzz_export(format!(r#"{{"operation":{}"#, "[".repeat(60_000)).as_bytes());
    }
}
