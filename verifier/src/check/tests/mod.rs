//! One case for each name, each beside a truth that passes.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod commit;
mod finding;
mod handles;
mod others;
mod proof;
mod speaker;

use protocol::account::{Conduct, Local, Repo as RepoState};
use protocol::cid::{Cid, Codec};
use protocol::commit::Commit as SignedCommit;
use protocol::host::HostRules;
use protocol::ids::Seq;
use protocol::keys::{self, Curve};
use protocol::tid::Tid;

use super::*;
use crate::identity::parse_document;
use crate::testing::{
    Commit, Repo, START, Write, account_frame, identity_frame, map, record, text, value,
};

const PDS: &str = "https://pds.example.com";

/// What an event is judged against. All of it is handed in: checks are pure (I9).
struct World {
    repo: Repo,
    prior: Option<Account>,
    proof: Proof,
    handles: Handles,
    name: HostName,
    key_of: Repo,
    now: Micros,
    synced: Option<Tid>,
    status: Option<Status>,
    received: Micros,
    fetched: Micros,
    seq: u64,
    host_is_full: bool,
}

impl World {
    fn empty(curve: Curve) -> Self {
        Self {
            repo: Repo::new(7, curve),
            prior: None,
            proof: Proof::Owed,
            handles: Handles::Pass,
            name: HostName::parse("pds.example.com", HostRules::Public).unwrap(),
            key_of: Repo::new(7, curve),
            now: START.plus(Duration::from_secs(60)),
            synced: None,
            status: None,
            received: START,
            fetched: START,
            seq: 2,
            host_is_full: false,
        }
    }

    /// Holds an account with 300 records.
    fn settled() -> Self {
        let mut world = Self::empty(Curve::K256);
        let paths: Vec<String> = (0..300).map(path).collect();
        let writes: Vec<_> = paths.iter().map(|path| Write::Create(path, "old")).collect();
        writes.chunks(100).for_each(|writes| drop(world.repo.commit(writes)));
        world.remember();
        world
    }

    /// The account as it is after the repo's newest commit.
    fn remember(&mut self) {
        let (rev, data) = self.repo.head.unwrap();
        let repo = Some(RepoState { rev, data: data.digest, commit: [0; 32] });
        let (host, epoch) = (HostId(1), Epoch(0));
        let host_seq = HostSeq::new(1).unwrap();
        let (local, upstream) = (Local::None, Upstream::ACTIVE);
        let conduct = Conduct::default();
        self.prior = Some(Account { host, epoch, host_seq, local, upstream, conduct, repo });
    }

    fn identity(&self) -> Identity {
        let document = self.key_of.document(PDS);
        let document = document.replace(&self.key_of.did.to_string(), &self.repo.did.to_string());
        parse_document(document.as_bytes(), &self.repo.did, HostRules::Public, self.fetched)
            .unwrap()
    }

    fn judge_as(&self, kind: HostKind, frame: &Bytes, identity: &Identity) -> Ruling {
        let known = Known {
            identity: Some(identity),
            before: Some(identity),
            status: self.status.as_ref(),
            ..Known::default()
        };
        self.judge_knowing(kind, frame, &known)
    }

    fn judge_knowing(&self, kind: HostKind, frame: &Bytes, known: &Known<'_>) -> Ruling {
        let case = Case {
            kind,
            did: &self.repo.did,
            frame,
            host: HostId(1),
            name: &self.name,
            epoch: Epoch(0),
            seq: HostSeq::new(self.seq).unwrap(),
            received: self.received,
            proof: self.proof,
            handles: self.handles,
            prior: self.prior.as_ref(),
            synced: self.synced,
            host_is_full: self.host_is_full,
            tombstone_spacing: Duration::from_secs(60),
            now: self.now,
        };
        match begin(&case, &mut Room::default()) {
            Ok(claim) => claim.settle(&case, known),
            Err(reject) => Ruling::Reject(reject),
        }
    }

    fn judge(&self, kind: Kind, frame: &Bytes) -> Result<Accepted, Reject> {
        match self.judge_as(HostKind::Event(kind), frame, &self.identity()) {
            Ruling::Accept(accepted) => Ok(*accepted),
            Ruling::Reject(reject) => Err(reject),
            other => panic!("{other:?}"),
        }
    }

    fn commit(&self, commit: &Commit) -> Result<Accepted, Reject> {
        self.judge(Kind::Commit, &commit.frame(2))
    }
}

fn path(number: usize) -> String {
    format!("app.bsky.feed.post/3k{number:06}")
}

fn wire(accepted: &Accepted, at: usize) -> Vec<u8> {
    let mut out = Vec::new();
    accepted.frames[at].write_with(Seq::new(2).unwrap(), &mut out);
    out
}

/// A commit of one create and one delete, changed by `lie`, gives `expected`.
fn check(lie: impl FnOnce(&mut World, &mut Commit), expected: Result<(), Reject>) {
    let mut world = World::settled();
    let path = path(40);
    let mut commit =
        world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1"), Write::Delete(&path)]);
    lie(&mut world, &mut commit);
    assert_eq!(world.commit(&commit).map(drop), expected);
}

fn drops(reject: Reject, lie: impl FnOnce(&mut World, &mut Commit)) {
    check(lie, Err(reject));
}

fn passes(lie: impl FnOnce(&mut World, &mut Commit)) {
    check(lie, Ok(()));
}
