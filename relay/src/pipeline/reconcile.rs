//! Reconciliation between the stages: what it reads of the store and of streams, and how what it
//! finds goes to the shards.

use std::sync::Arc;

use crawler::reconcile::{
    Counts, Excused, Finding, Found, Full, Gone, Held, Known, Ledger, Members, Options, Owed, Row,
    Stream, Timing,
};
use protocol::did::Did;
use protocol::fetch::Fetch;
use protocol::host_state::HostState;
use protocol::ids::{HostId, Micros};
use storage::{Entry, Gap};
use tokio::sync::oneshot;

use super::Clock;
use super::hosts::Hosts;

/// Starts reconciliation over these stages.
pub(super) fn start(
    ledger: Stages,
    fetch: Fetch,
    clock: Clock,
    timing: Timing,
) -> crawler::reconcile::Handle {
    crawler::reconcile::start(Options { ledger: Arc::new(ledger), fetch, clock, timing })
}

/// The stages that reconciliation looks into.
pub(super) struct Stages {
    pub(super) storage: storage::Handle,
    pub(super) crawler: crawler::Handle,
    pub(super) verifier: verifier::Handle,
    pub(super) hosts: Arc<Hosts>,
}

impl Stages {
    /// Reads the store, which may wait for the disk. A read that fails ends the process (I6).
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&storage::Handle) -> Result<T, storage::Error> + Send + 'static,
    ) -> Result<T, Gone> {
        let storage = self.storage.clone();
        let found = tokio::task::spawn_blocking(move || read(&storage)).await;
        found.map_err(|_| Gone)?.map_err(gone)
    }
}

impl Ledger for Stages {
    async fn hosts(&self, after: Option<HostId>, limit: usize) -> Result<Vec<Known>, Gone> {
        self.read(move |storage| {
            let hosts = storage.hosts(after, limit);
            hosts.into_iter().map(|host| known(storage, host)).collect()
        })
        .await
    }

    async fn host(&self, host: HostId) -> Result<Option<Known>, Gone> {
        self.read(move |storage| storage.host(host).map(|host| known(storage, host)).transpose())
            .await
    }

    fn stream(&self, host: HostId) -> Option<Stream> {
        let live = self.crawler.live(host)?;
        // After what was received, so that it is not older.
        let stored = self.storage.host(host)?;
        Some(Stream {
            state: live.state,
            since: live.since,
            caught_up: live.caught_up,
            received: (live.epoch, live.received),
            settled: (stored.epoch, stored.cursor),
        })
    }

    async fn held(&self, host: HostId, dids: Vec<Did>) -> Result<Vec<Held>, Gone> {
        self.read(move |storage| {
            let held = |did: &Did| {
                let (account, excused) = (storage.account(did)?, storage.excused(host, did)?);
                Ok(Held { account, excused: excused.map(excuse_of) })
            };
            dids.iter().map(held).collect()
        })
        .await
    }

    async fn owed_accounts(&self, host: HostId, limit: usize) -> Result<Vec<Did>, Gone> {
        self.read(move |storage| {
            let owed = storage.account_gaps(host, limit)?;
            Ok(owed.into_iter().map(|gap| gap.did).collect())
        })
        .await
    }

    async fn members(
        &self,
        host: HostId,
        after: Option<Did>,
        joined_by: Micros,
        limit: usize,
    ) -> Result<Members, Gone> {
        self.read(move |storage| {
            let page = storage.members(host, after.as_ref(), limit)?;
            let next = page.last().filter(|_| page.len() == limit).map(|last| last.did.clone());
            let old = page.into_iter().filter(|member| member.joined <= joined_by);
            Ok(Members { dids: old.map(|member| member.did).collect(), next })
        })
        .await
    }

    async fn missing(&self, host: HostId, since: Micros, limit: usize) -> Result<Vec<Did>, Gone> {
        self.read(move |storage| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = storage.excused_after(host, after.as_ref(), PAGE)?;
                let Some((last, _)) = page.last() else { return Ok(found) };
                after = Some(last.clone());
                let is_due = |row: &storage::Excused| {
                    row.missing_since > Micros(0) && row.missing_since <= since
                };
                found.extend(page.into_iter().filter(|(_, row)| is_due(row)).map(|(did, _)| did));
                if found.len() >= limit {
                    found.truncate(limit);
                    return Ok(found);
                }
            }
        })
        .await
    }

    async fn owe(&self, host: HostId, dids: Vec<Did>) -> Result<(), Gone> {
        let (done, answer) = oneshot::channel();
        let owe = |did| Entry { gap: Some(Gap { host, did: Some(did) }), ..Entry::default() };
        let mut entries: Vec<Entry> = dids.into_iter().map(owe).collect();
        entries.push(Entry { done: Some(done), ..Entry::default() });
        let storage = self.storage.clone();
        // The queue may be full, and waiting for it would hold up this runtime.
        let submitted = tokio::task::spawn_blocking(move || storage.submit(entries)).await;
        submitted.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    async fn keep(&self, host: HostId, row: Row) -> Result<(), Gone> {
        self.storage.put_reconcile_row(host, stored(row)).await.map_err(gone)
    }

    async fn excuse(&self, host: HostId, did: Did, excused: Option<Excused>) -> Result<(), Gone> {
        let done = match excused {
            Some(Excused { rev, head, at, missing_since }) => {
                let excused = storage::Excused { rev, head, at, missing_since };
                self.storage.put_excused(host, did, excused).await
            }
            None => self.storage.drop_excused(host, did).await,
        };
        done.map_err(gone)
    }

    async fn settle(&self, host: HostId, did: Option<Did>, began: Micros) -> Result<(), Gone> {
        self.storage.settle_gap(host, did, began).await.map_err(gone)
    }

    async fn submit(&self, finding: Finding) -> Result<Found, Gone> {
        let Finding { host, did, commit, status, seen } = finding;
        // Removed or banned since.
        let origin = self.hosts.origin(host).ok_or(Gone)?;
        let finding = verifier::Finding { origin, did, commit, status, seen };
        let found = self.verifier.reconcile(finding).await.map_err(|_| Gone)?;
        Ok(match found {
            verifier::Found::Repaired => Found::Repaired,
            verifier::Found::InStep => Found::InStep,
            verifier::Found::Refused(reject) => Found::Refused(reject),
        })
    }
}

fn known(storage: &storage::Handle, host: storage::Host) -> Result<Known, storage::Error> {
    let owed = storage.gap(host.id)?.map(|gap| Owed {
        whole: gap.whole,
        accounts: gap.accounts,
        newest: gap.newest,
        reason: gap.reason,
    });
    Ok(Known {
        id: host.id,
        is_followed: !host.banned && host.state != HostState::Refused,
        accounts: host.accounts,
        row: storage.reconcile_row(host.id)?.map(row_of),
        owed,
        name: host.name,
    })
}

fn excuse_of(row: storage::Excused) -> Excused {
    let storage::Excused { rev, head, at, missing_since } = row;
    Excused { rev, head, at, missing_since }
}

fn row_of(row: storage::ReconcileRow) -> Row {
    Row {
        began: row.began,
        ended: row.ended,
        reason: row.reason,
        after: row.after,
        counts: Counts {
            listed: row.listed,
            in_step: row.in_step,
            behind: row.behind,
            repaired: row.repaired,
            unverifiable: row.unverifiable,
            missing: row.missing,
            failed: row.failed,
        },
        second_look: row.second_look,
        full: Full {
            at: row.last_full,
            listed: row.last_full_listed,
            known: row.last_full_known,
            in_step: row.last_full_in_step,
            behind: row.last_full_behind,
        },
    }
}

fn stored(row: Row) -> storage::ReconcileRow {
    let Row { began, ended, reason, after, counts, second_look, full } = row;
    storage::ReconcileRow {
        began,
        ended,
        reason,
        after,
        listed: counts.listed,
        in_step: counts.in_step,
        behind: counts.behind,
        repaired: counts.repaired,
        unverifiable: counts.unverifiable,
        failed: counts.failed,
        missing: counts.missing,
        second_look,
        last_full: full.at,
        last_full_listed: full.listed,
        last_full_known: full.known,
        last_full_in_step: full.in_step,
        last_full_behind: full.behind,
    }
}

/// The store has stopped, or failed: then the process ends, and says why elsewhere.
fn gone(error: storage::Error) -> Gone {
    tracing::debug!(%error, "reconciliation ends");
    Gone
}

/// Rows read at once.
const PAGE: usize = 1_000;
