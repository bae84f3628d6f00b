//! The accounts that a shard holds in memory: newer than the store until their mark is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::account::Account;
use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use protocol::tid::Tid;

use crate::check::Status;
use crate::identity::Cache;
use crate::options::Recall;

/// The newest state of one shard's accounts (I11: nobody else changes them).
#[derive(Debug)]
pub(crate) struct Accounts {
    held: Cache<Held>,
    asked: Cache<Asked>,
    recall: Arc<Recall>,
    settled: Arc<[AtomicU64]>,
    shard: usize,
}

#[derive(Debug)]
struct Held {
    /// `None`: the store has none either.
    account: Option<Account>,
    /// The verdict that made it so. Until that is settled the store's copy is older, and this one
    /// may not be forgotten; such copies are bounded by the store's queue.
    mark: u64,
    /// Its last passed `#sync`: the revision, and when.
    synced: Option<(Tid, Micros)>,
    /// When its host's last word about its status came, as far as is remembered.
    told: Micros,
}

/// A question to a host about an account's status.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) host: HostId,
    pub(crate) at: Micros,
    /// `None` while the question is under way.
    pub(crate) status: Option<Status>,
}

impl Accounts {
    pub(crate) fn new(
        accounts_max: usize,
        recall: Arc<Recall>,
        settled: Arc<[AtomicU64]>,
        shard: usize,
    ) -> Self {
        let (held, asked) = (Cache::counted(accounts_max), Cache::counted(ASKED_MAX));
        Self { held, asked, recall, settled, shard }
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// The account as the last verdict left it.
    pub(crate) fn get(&mut self, did: &Did) -> Option<Account> {
        self.held(did).account.clone()
    }

    /// The account's last passed `#sync`, as far as is remembered: its revision, and when.
    pub(crate) fn synced(&mut self, did: &Did) -> Option<(Tid, Micros)> {
        self.held(did).synced
    }

    /// The verdict `mark` has changed the account.
    pub(crate) fn set(&mut self, did: &Did, account: Account, mark: u64) {
        let held = self.held(did);
        // A re-activation is followed by a `#sync`, which may say what the last one said.
        let was_active = held.account.as_ref().is_some_and(|account| account.upstream.active);
        if account.upstream.active && !was_active {
            held.synced = None;
        }
        held.account = Some(account);
        held.mark = mark;
    }

    /// A `#sync` of the account has passed.
    pub(crate) fn note_sync(&mut self, did: &Did, rev: Tid, now: Micros) {
        self.held(did).synced = Some((rev, now));
    }

    /// When the host's last word about the account's status came, as far as is remembered: of an
    /// account that said something a moment ago it is, with as many accounts in memory.
    pub(crate) fn told(&mut self, did: &Did) -> Micros {
        self.held(did).told
    }

    /// Its host's word about its status came at this time, and was taken.
    pub(crate) fn note_told(&mut self, did: &Did, at: Micros) {
        let held = self.held(did);
        held.told = held.told.max(at);
    }

    /// What a host was last asked about the account's status.
    pub(crate) fn asked(&mut self, did: &Did) -> Option<&mut Asked> {
        self.asked.get(did)
    }

    /// A host is asked about the account's status.
    pub(crate) fn note_asked(&mut self, did: &Did, host: HostId, at: Micros) {
        let make = || Asked { host, at, status: None };
        // Questions under way are bounded by the events that wait for them.
        let asked = self.asked.get_or_insert(did, make, |_, asked| asked.status.is_none());
        *asked = make();
    }

    fn held(&mut self, did: &Did) -> &mut Held {
        let recall = &self.recall;
        let settled = &self.settled[self.shard];
        let make = || {
            let account = (recall.account)(did);
            Held { account, mark: 0, synced: None, told: Micros(0) }
        };
        let keep = |_: &Did, held: &Held| held.mark > settled.load(Ordering::Acquire);
        self.held.get_or_insert(did, make, keep)
    }
}

/// Accounts of one shard whose host's answer about their status is remembered; 100 bytes each.
const ASKED_MAX: usize = 10_000;
