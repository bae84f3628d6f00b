//! Arbitrary frames through all checks; must not panic, and must not pass unsigned.

use std::time::Duration;

use bytes::Bytes;
use protocol::did::Did;
use protocol::frame::{self, Kind, Peek};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::keys::PublicKey;

use super::{Case, Proof, check};
use crate::options::Handles;
use crate::verdict::Identity;

/// Checks bytes as a frame of the account that they name, under every rule of leniency.
pub fn fuzz_check(bytes: &[u8]) {
    let Ok(Peek::Event { kind, did: Some(did), .. }) = frame::peek(bytes) else { return };
    let Ok(did) = Did::parse(did) else { return };
    let name = HostName::parse("pds.example.com", HostRules::Public).expect("a host name");
    let identity = Identity {
        did: did.clone(),
        key: PublicKey::from_multikey(KEY).ok(),
        pds: Some(name.clone()),
        handle: None,
        fetched: Micros(u64::MAX),
        tombstoned: false,
    };
    let frame = Bytes::copy_from_slice(bytes);
    for proof in [Proof::Owed, Proof::NotYet, Proof::Lenient] {
        let case = Case {
            kind,
            did: &did,
            frame: &frame,
            host: HostId(1),
            name: &name,
            epoch: Epoch(0),
            seq: HostSeq::ZERO,
            received: Micros(0),
            proof,
            handles: Handles::Pass,
            prior: None,
            synced: None,
            host_is_full: false,
            tombstone_spacing: Duration::ZERO,
            now: Micros(u64::MAX >> 11),
        };
        if let Ok(accepted) = check(&case, &identity) {
            let signed = |kind| matches!(kind, Kind::Commit | Kind::Sync);
            // I12: nobody has this key's secret.
            assert!(!accepted.frames.iter().any(|frame| signed(frame.kind())), "passed unsigned");
        }
    }
}

/// A key whose secret is not here.
const KEY: &str = "zQ3shaLSV165mxEZ9rsQdyJZQHEwYyueT5oQxKNvKrJD9XHTf";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Repo, START, Write, account_frame, identity_frame};
    use protocol::keys::Curve;

    #[test]
    fn frames_cut_and_flipped_do_not_panic() {
        let mut repo = Repo::new(3, Curve::K256);
        let first: Vec<String> = (0..20).map(|at| format!("app.bsky.feed.post/r{at}")).collect();
        let writes: Vec<_> = first.iter().map(|path| Write::Create(path, "one")).collect();
        let frames = [
            repo.commit(&writes).frame(1),
            repo.commit(&[Write::Update(&first[3], "two"), Write::Delete(&first[4])]).frame(2),
            repo.sync().frame(3),
            account_frame(&repo.did, 4, false, Some("deactivated")),
            identity_frame("#identity", &repo.did, 5, Some("a.example.com")),
            identity_frame("#tombstone", &repo.did, 6, None),
        ];
        assert!(START > Micros(0));
        for frame in frames {
            for cut in (0..frame.len()).step_by(frame.len() / 40 + 1) {
                fuzz_check(&frame[..cut]);
            }
            let mut frame = frame.to_vec();
            for at in (0..frame.len()).step_by(frame.len() / 400 + 1) {
                for bit in [1, 0x20, 0x80] {
                    frame[at] ^= bit;
                    fuzz_check(&frame);
                    frame[at] ^= bit;
                }
            }
        }
    }
}
