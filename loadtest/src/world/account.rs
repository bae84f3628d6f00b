//! Accounts: a DID, a handle, a key and a document from the seed; a repo that grows.

use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::{Curve, SigningKey};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::Event;
use super::repo::Repo;
use super::shelf::Shelf;
use crate::wire::{Frame, Value};

/// One simulated account.
pub struct Account {
    /// Its DID.
    pub did: Did,
    /// Its handle.
    pub handle: String,
    /// Its host: an index into the world's hosts.
    pub host: usize,
    /// The curve of its key.
    pub curve: Curve,
    /// What its host says of it.
    pub standing: Standing,
    /// Its records and commits.
    pub repo: Repo,
    pub(super) key: SigningKey,
    /// Invariant: with a spent one no `#sync` repeats a rev again; a relay passes such a repeat
    /// once a minute only, whatever the time between them was in this world.
    pub(super) sync_spent: bool,
    /// How often its standing changed; relays limit that.
    pub(super) standing_changes: u32,
    /// The crowd's traffic passes it by.
    pub(super) is_reserved: bool,
}

/// What a host says of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Active.
    Active,
    /// Its owner put it to rest.
    Deactivated,
    /// Its host took it down.
    Takendown,
    /// Gone.
    Deleted,
}

impl Standing {
    /// Whether it may commit.
    pub fn is_active(self) -> bool {
        self == Self::Active
    }

    /// As it stands in `#account` and `getRepoStatus`.
    pub fn status(self) -> Option<&'static str> {
        match self {
            Self::Active => None,
            Self::Deactivated => Some("deactivated"),
            Self::Takendown => Some("takendown"),
            Self::Deleted => Some("deleted"),
        }
    }
}

/// What a host answers about an account when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoRow {
    /// CID of the newest commit, as text.
    pub head: String,
    /// Its revision.
    pub rev: String,
    /// What the host says of the account.
    pub standing: Standing,
    /// What it holds of the account, of which the other fields may be out of date.
    pub shelf: Shelf,
}

impl Account {
    /// A new account with an empty repo that no host has sent anything of.
    pub(super) fn new(rng: &mut ChaCha8Rng, did: Did, number: usize, host: usize) -> Self {
        // As on the live network: nine in ten keys are K-256.
        let curve = if rng.random_ratio(9, 10) { Curve::K256 } else { Curve::P256 };
        Self {
            did,
            handle: format!("user{number}.test"),
            host,
            curve,
            standing: Standing::Active,
            repo: Repo::default(),
            key: draw_key(rng, curve),
            sync_spent: false,
            standing_changes: 0,
            is_reserved: false,
        }
    }

    /// Gives it another key, of this curve.
    pub(super) fn set_curve(&mut self, rng: &mut ChaCha8Rng, curve: Curve) {
        self.curve = curve;
        self.key = draw_key(rng, curve);
    }

    /// Its DID document, as the PLC directory gives it or a `did:web` host serves it.
    pub fn document(&self, hosts: &[String]) -> serde_json::Value {
        document(&self.did, &self.handle, &self.key.public_key().to_multikey(), &hosts[self.host])
    }

    /// What its host answers when asked about it.
    pub fn row(&self) -> Option<RepoRow> {
        let head = self.repo.head()?;
        Some(RepoRow {
            head: head.commit.to_string(),
            rev: head.rev.to_string(),
            standing: self.standing,
            shelf: self.repo.shelf(),
        })
    }

    /// `#identity`, as its host sends it.
    pub fn identity_frame(&self, time: Micros) -> Frame {
        let payload = Value::Map(vec![
            ("did", Value::text(&self.did)),
            ("seq", Value::Seq),
            ("time", datetime(time)),
            ("handle", Value::text(&self.handle)),
        ]);
        Frame::event("#identity", &payload)
    }

    /// `#account`, as its host sends it.
    pub fn account_frame(&self, time: Micros) -> Frame {
        account_frame(&self.did, self.standing.is_active(), self.standing.status(), time)
    }

    /// The four frames with which the reference PDS announces a new account: `#identity`,
    /// `#account`, an empty first `#commit`, and a `#sync` of the same rev.
    pub(super) fn birth(&mut self, times: [Micros; 4]) -> [Frame; 4] {
        let commit = self.repo.commit(&self.did, &self.key, times[2], &[]);
        self.sync_spent = true;
        [
            self.identity_frame(times[0]),
            self.account_frame(times[1]),
            commit.draft().frame(),
            self.repo.sync_frame(&self.did, times[3]).expect("it has just committed"),
        ]
    }

    /// An event of this account from its host.
    pub(super) fn event(&self, kind: protocol::frame::Kind, frame: Frame) -> Event {
        Event {
            host: self.host,
            did: self.did.clone(),
            kind,
            frame,
            seqs_skipped: 0,
            document: None,
            row: self.row(),
        }
    }
}

/// `#account` with any status.
pub fn account_frame(did: &Did, active: bool, status: Option<&str>, time: Micros) -> Frame {
    let mut payload = vec![
        ("did", Value::text(did)),
        ("seq", Value::Seq),
        ("time", datetime(time)),
        ("active", Value::Bool(active)),
    ];
    if let Some(status) = status {
        payload.push(("status", Value::from(status)));
    }
    Frame::event("#account", &Value::Map(payload))
}

/// A DID document with one Multikey and one PDS.
pub fn document(did: &Did, handle: &str, multikey: &str, host: &str) -> serde_json::Value {
    let suite = match multikey.starts_with("zQ3s") {
        true => "https://w3id.org/security/suites/secp256k1-2019/v1",
        false => "https://w3id.org/security/suites/ecdsa-2019/v1",
    };
    json!({
        "@context": [
            "https://www.w3.org/ns/did/v1",
            "https://w3id.org/security/multikey/v1",
            suite,
        ],
        "id": did.to_string(),
        "alsoKnownAs": [format!("at://{handle}")],
        "verificationMethod": [{
            "id": format!("{did}#atproto"),
            "type": "Multikey",
            "controller": did.to_string(),
            "publicKeyMultibase": multikey,
        }],
        "service": [{
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": format!("http://{host}"),
        }],
    })
}

/// A `did:plc` drawn from the seed.
pub(super) fn draw_plc(rng: &mut ChaCha8Rng) -> Did {
    let mut key = [0u8; 16];
    rng.fill(&mut key);
    // The store's form of a did:plc: a tag byte and 120 bits.
    key[0] = 1;
    Did::from_key(&key).expect("any 120 bits are a did:plc")
}

/// The `did:web` of a host, which serves its document itself.
pub(super) fn web_did(host: &str) -> Did {
    Did::parse(&format!("did:web:{}", host.replace(':', "%3A"))).expect("a host's name is a DID")
}

/// The text of a time on the wire.
pub(super) fn datetime(time: Micros) -> Value {
    Value::Text(protocol::datetime::format(time))
}

pub(super) fn draw_key(rng: &mut ChaCha8Rng, curve: Curve) -> SigningKey {
    loop {
        let mut secret = [0u8; 32];
        rng.fill(&mut secret);
        // Fewer than one in 2^32 texts of 32 bytes are no key, so this ends at once.
        if let Ok(key) = SigningKey::from_secret(curve, &secret) {
            return key;
        }
    }
}
