//! A consumer that keeps what the network holds, by the stream alone: it folds the ops of commits,
//! fetches a repo anew where a `#sync` or a break in the chain tells it to, and keeps statuses.
//!
//! What it ends with is compared with what the hosts hold ([`truth`]): whatever differs was lost
//! without anybody being told.

pub mod truth;

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use bytes::Bytes;
use protocol::car;
use protocol::cid::Cid;
use protocol::commit::Commit;
use protocol::frame::{AccountFrame, CommitFrame, HostKind, Kind, Peek, SyncFrame, peek};
use protocol::mst::PartialTree;

use crate::client;

/// Everything that the stream of one relay has told.
pub struct Mirror {
    /// Where repos are fetched, `http://HOST:PORT`: the relay says where they are.
    base: String,
    accounts: BTreeMap<String, Held>,
    tally: Tally,
}

/// What is known of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Whether it is active; an account of which no status was ever told is.
    pub inactive: bool,
    /// Its status.
    pub status: Option<String>,
    /// Its content; `None`: never seen, or deleted.
    pub repo: Option<Repo>,
    /// A fetch of its content is owed: it was refused so far.
    pub owed: bool,
}

/// A repo, by hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// The newest revision.
    pub rev: String,
    /// The newest commit.
    pub commit: Cid,
    /// The root of its tree.
    pub data: Cid,
    /// Records by path.
    pub records: BTreeMap<String, Cid>,
}

/// What it had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commits that continued what it had.
    pub folded: u64,
    /// Commits that were in what it had fetched before.
    pub known: u64,
    /// Commits that did not continue what it had.
    pub breaks: u64,
    /// `#sync`s that told something new.
    pub syncs: u64,
    /// Repos fetched.
    pub fetches: u64,
    /// Fetches that were refused or failed.
    pub refused: u64,
}

impl Mirror {
    /// An empty one. Repos are fetched at `base`, `http://HOST:PORT`.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into(), accounts: BTreeMap::new(), tally: Tally::default() }
    }

    /// Goes on with another relay, or with one that has moved.
    pub fn set_base(&mut self, base: impl Into<String>) {
        self.base = base.into();
    }

    /// All accounts by DID.
    pub fn accounts(&self) -> &BTreeMap<String, Held> {
        &self.accounts
    }

    /// What it had to do so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes the next message of the stream, and fetches what it tells to fetch.
    pub async fn see(&mut self, message: &Bytes) -> anyhow::Result<()> {
        let Peek::Event { kind: HostKind::Event(kind), did: Some(did), .. } =
            peek(message).context("read a frame")?
        else {
            return Ok(());
        };
        let did = did.to_owned();
        match kind {
            Kind::Commit => self.commit(&did, message)?,
            Kind::Sync => self.sync(&did, message)?,
            Kind::Account => {
                let frame = AccountFrame::decode(message).context("read an #account")?;
                self.account(&did, frame.active, frame.status);
            }
            Kind::Identity => {}
        }
        if self.accounts.get(&did).is_some_and(|held| held.owed && !held.inactive) {
            self.fetch(&did).await?;
        }
        Ok(())
    }

    /// Tries again what could not be fetched; how much still cannot.
    pub async fn settle(&mut self) -> anyhow::Result<usize> {
        let is_owed = |held: &Held| held.owed && !held.inactive;
        let owed = self.accounts.iter().filter(|(_, held)| is_owed(held));
        let owed: Vec<String> = owed.map(|(did, _)| did.clone()).collect();
        for did in &owed {
            self.fetch(did).await?;
        }
        Ok(owed.iter().filter(|did| self.accounts[*did].owed).count())
    }

    fn commit(&mut self, did: &str, message: &Bytes) -> anyhow::Result<()> {
        let frame = CommitFrame::decode(message).context("read a #commit")?;
        let data = data_of(frame.blocks, &frame.commit)?;
        let held = self.accounts.entry(did.to_owned()).or_default();
        let before = held.repo.as_ref();
        if before.is_some_and(|repo| repo.rev.as_str() >= frame.rev) {
            self.tally.known += 1;
            return Ok(());
        }
        let continues = match (before, frame.prev_data) {
            (Some(repo), Some(data)) => repo.data == data,
            (Some(repo), None) => Some(repo.rev.as_str()) == frame.since,
            (None, None) => frame.since.is_none(),
            (None, Some(_)) => false,
        };
        if !continues || held.owed {
            self.tally.breaks += u64::from(!held.owed);
            held.owed = true;
            return Ok(());
        }
        self.tally.folded += 1;
        let mut records = held.repo.take().map(|repo| repo.records).unwrap_or_default();
        for op in frame.ops {
            match op.cid {
                Some(cid) => records.insert(op.path.to_owned(), cid),
                None => records.remove(op.path),
            };
        }
        held.repo = Some(Repo { rev: frame.rev.to_owned(), commit: frame.commit, data, records });
        Ok(())
    }

    fn sync(&mut self, did: &str, message: &Bytes) -> anyhow::Result<()> {
        let frame = SyncFrame::decode(message).context("read a #sync")?;
        let (root, _) = car::read(frame.blocks).context("read the CAR of a #sync")?;
        let commit = root.cid().context("the root of a #sync")?;
        let data = data_of(frame.blocks, &commit)?;
        let held = self.accounts.entry(did.to_owned()).or_default();
        let is_news = held.repo.as_ref().is_none_or(|repo| match repo.rev.as_str() {
            rev if rev == frame.rev => repo.data != data,
            rev => rev < frame.rev,
        });
        self.tally.syncs += u64::from(is_news);
        held.owed |= is_news;
        Ok(())
    }

    fn account(&mut self, did: &str, active: bool, status: Option<&str>) {
        let held = self.accounts.entry(did.to_owned()).or_default();
        (held.inactive, held.status) = (!active, status.map(str::to_owned));
        if status == Some("deleted") {
            (held.repo, held.owed) = (None, false);
        }
    }

    /// Fetches a repo, following where the relay leads; a refusal leaves it owed.
    async fn fetch(&mut self, did: &str) -> anyhow::Result<()> {
        match fetch(&self.base, did).await? {
            Some(repo) => {
                self.tally.fetches += 1;
                let held = self.accounts.entry(did.to_owned()).or_default();
                (held.repo, held.owed) = (Some(repo), false);
            }
            None => self.tally.refused += 1,
        }
        Ok(())
    }
}

/// A repo as it is now; `None`: it is not to be had.
pub(super) async fn fetch(base: &str, did: &str) -> anyhow::Result<Option<Repo>> {
    let url = format!("{base}/xrpc/com.atproto.sync.getRepo?did={did}");
    let answer = client::get_following(&url).await.with_context(|| format!("fetch {did}"))?;
    match answer.status {
        200 => read(&answer.body, did).with_context(|| format!("read the repo of {did}")).map(Some),
        _ => Ok(None),
    }
}

/// A repo from its CAR.
fn read(bytes: &[u8], did: &str) -> anyhow::Result<Repo> {
    let (root, blocks) = car::read(bytes)?;
    let commit = root.cid().context("its root")?;
    let signed = Commit::parse(blocks.get(&commit).context("its commit block")?)?;
    ensure!(signed.did == did, "it is the repo of {}", signed.did);
    let tree = PartialTree::read(&blocks, &signed.data)?;
    ensure!(tree.is_whole(), "a node of its tree is missing");
    let mut records = BTreeMap::new();
    for (path, cid) in tree.records() {
        let path = std::str::from_utf8(path).context("a path")?;
        let cid = cid.cid().context("the CID of a record")?;
        ensure!(blocks.get(&cid).is_some(), "the record at {path} is missing");
        records.insert(path.to_owned(), cid);
    }
    Ok(Repo { rev: signed.rev.to_owned(), commit, data: signed.data, records })
}

/// The root of the tree, as the commit block says.
fn data_of(blocks: &[u8], commit: &Cid) -> anyhow::Result<Cid> {
    let (_, blocks) = car::read(blocks).context("read the CAR of a frame")?;
    let block = blocks.get(commit).context("the commit block of a frame")?;
    Ok(Commit::parse(block).context("read the commit of a frame")?.data)
}
