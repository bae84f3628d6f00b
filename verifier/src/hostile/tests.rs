//! Every attack is called by its name, and every honest extreme passes.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::time::Duration;

use protocol::did::Did;
use protocol::frame::{self, Peek};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq};

use super::*;
use crate::check::{Case, Proof, check, did_reject};
use crate::identity::parse_document;
use crate::options::Handles;
use crate::testing::START;

#[test]
fn every_attack_has_its_name_and_every_honest_extreme_passes() {
    let mut wrong = Vec::new();
    for attack in attacks() {
        let said = judge(&attack.frame);
        if said != attack.expected {
            wrong.push(format!("{}: {said:?}, not {:?}", attack.name, attack.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge(frame: &Bytes) -> Result<(), Reject> {
    let Ok(Peek::Event { kind, did, .. }) = frame::peek(frame) else {
        return Err(Reject::FrameMalformed);
    };
    let did = Did::parse(did.unwrap()).map_err(did_reject)?;
    let document = repo().document("https://pds.example.com");
    let name = HostName::parse("pds.example.com", HostRules::Public).unwrap();
    let case = Case {
        kind,
        did: &did,
        frame,
        host: HostId(1),
        name: &name,
        epoch: Epoch(0),
        seq: HostSeq::new(1).unwrap(),
        received: START,
        proof: Proof::Owed,
        handles: Handles::Pass,
        prior: None,
        synced: None,
        host_is_full: false,
        tombstone_spacing: Duration::from_secs(60),
        now: START.plus(Duration::from_secs(3600)),
    };
    let identity = parse_document(document.as_bytes(), &repo().did, HostRules::Public, START);
    check(&case, &identity.unwrap()).map(drop)
}
