//! Arbitrary frames and commits through all checks; must not panic, and must not pass unsigned.

use std::time::Duration;

use bytes::Bytes;
use protocol::account::{Account, Conduct, Local, Repo, Upstream};
use protocol::commit::Commit;
use protocol::did::Did;
use protocol::frame::{self, HostKind, Kind, Outgoing, Peek};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::keys::PublicKey;
use protocol::tid::Tid;

use super::{Case, Evidence, Known, Proof, Ruling, begin_found, check};
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

/// Judges bytes as the block that a host gives for an account's newest commit, whatever the account
/// is like and whatever the host says of it.
pub fn fuzz_found(bytes: &[u8]) {
    let commit = Commit::parse(bytes).ok();
    let named = commit.as_ref().and_then(|commit| Did::parse(commit.did).ok());
    let did = named.unwrap_or_else(|| Did::parse(DID).expect("a DID"));
    let rev = commit.as_ref().and_then(|commit| Tid::parse(commit.rev).ok());
    let name = HostName::parse("pds.example.com", HostRules::Public).expect("a host name");
    let identity = Identity {
        did: did.clone(),
        key: PublicKey::from_multikey(KEY).ok(),
        pds: Some(name.clone()),
        handle: None,
        fetched: Micros(u64::MAX),
        tombstoned: false,
    };
    let known = Known { identity: Some(&identity), ..Known::default() };
    let block = Bytes::copy_from_slice(bytes);
    let words = [None, Some(Upstream::ACTIVE), Some(Upstream { active: false, status: None })];
    for prior in priors(rev) {
        for status in &words {
            let case = Case {
                kind: HostKind::Event(Kind::Sync),
                did: &did,
                frame: &block,
                host: HostId(1),
                name: &name,
                epoch: Epoch(0),
                seq: HostSeq::ZERO,
                received: Micros(0),
                proof: Proof::Owed,
                handles: Handles::Pass,
                prior: prior.as_ref(),
                synced: None,
                host_is_full: false,
                tombstone_spacing: Duration::ZERO,
                now: Micros(u64::MAX >> 11),
            };
            let evidence = Evidence { commit: Some(&block), status: status.as_ref() };
            match begin_found(&case, evidence).settle(&case, &known) {
                Ruling::Accept(accepted) | Ruling::Part(accepted, _) => {
                    // I12: nobody has this key's secret.
                    let is_account = |frame: &Outgoing| frame.kind() == Kind::Account;
                    assert!(accepted.frames.iter().all(is_account), "passed unsigned");
                    let held = prior.as_ref().and_then(|prior| prior.repo);
                    assert_eq!(accepted.account.and_then(|account| account.repo), held);
                }
                Ruling::InStep => {
                    let held = prior.as_ref().and_then(|prior| prior.repo);
                    assert!(held.is_some_and(|held| rev.is_some_and(|rev| rev <= held.rev)));
                }
                Ruling::Reject(_) | Ruling::Wait(_) => {}
            }
        }
    }
}

/// Accounts of all kinds: unknown, without a repo, behind, in step; inactive; taken down.
fn priors(rev: Option<Tid>) -> Vec<Option<Account>> {
    let oldest = Tid::from_micros(Micros(0), 0);
    let repo = |rev| Some(Repo { rev, data: [0; 32], commit: [0; 32] });
    let account = |repo| Account {
        host: HostId(1),
        epoch: Epoch(0),
        host_seq: HostSeq::ZERO,
        local: Local::None,
        upstream: Upstream::ACTIVE,
        conduct: Conduct::default(),
        repo,
    };
    let behind = account(repo(oldest));
    let inactive = Upstream { active: false, status: Some("deactivated".into()) };
    vec![
        None,
        Some(account(None)),
        Some(account(repo(rev.unwrap_or(oldest)))),
        Some(Account { upstream: inactive, ..behind.clone() }),
        Some(Account { local: Local::Takendown, ..behind.clone() }),
        Some(behind),
    ]
}

/// An account for what names none.
const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
/// A key whose secret is not here.
const KEY: &str = "zQ3shaLSV165mxEZ9rsQdyJZQHEwYyueT5oQxKNvKrJD9XHTf";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, START, Write, account_frame, identity_frame};
    use protocol::keys::Curve;

    #[test]
    fn commits_cut_and_flipped_are_not_found_to_be_signed() {
        let mut repo = testing::Repo::new(3, Curve::K256);
        repo.commit(&[Write::Create("app.bsky.feed.post/a", "one")]);
        let mut block = repo.sync().blocks.remove(0).1;
        fuzz_found(&block);
        for cut in 0..block.len() {
            fuzz_found(&block[..cut]);
        }
        for at in 0..block.len() {
            for bit in [1, 0x20, 0x80] {
                block[at] ^= bit;
                fuzz_found(&block);
                block[at] ^= bit;
            }
        }
        fuzz_found(&[0; 20_000]);
    }

    #[test]
    fn frames_cut_and_flipped_do_not_panic() {
        let mut repo = testing::Repo::new(3, Curve::K256);
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
