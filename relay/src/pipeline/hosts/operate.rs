//! What operators do with hosts. Each is committed when it returns, and acts on running tasks at
//! once.

use std::sync::Arc;

use crawler::Resume;
use crawler::allowance::Standing;
use protocol::host::HostName;
use protocol::host_state::HostState;
use storage::{Host, HostNote, Override, Start};

use super::Hosts;
use crate::domains::Domain;

/// Why an operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// There is no such host, or no such ban.
    #[error("not known here")]
    NotFound,
    /// Not a host's name, not a domain, or not a limit.
    #[error("{0}")]
    Invalid(String),
    /// It, or its domain, is banned.
    #[error("the host or its domain is banned")]
    Banned,
    /// More than this are not taken.
    #[error("too many: at most {0}")]
    TooMany(usize),
    /// The store does not take it.
    #[error("the store failed: {0}")]
    Store(#[from] storage::Error),
}

impl Hosts {
    /// The host of this name.
    pub fn find(&self, name: &str) -> Result<Host, HostsError> {
        self.known(&self.parse(name)?)
    }

    fn known(&self, name: &HostName) -> Result<Host, HostsError> {
        self.storage.host_by_name(name).ok_or(HostsError::NotFound)
    }

    /// Adds a host, fully grown since an operator vouches for it, or finds it as it is. Of one that
    /// was refused as another name of a host, this is tried again.
    pub async fn add(self: &Arc<Self>, name: &str, start: Start) -> Result<Host, HostsError> {
        let name = self.parse(name)?;
        self.change(|hosts| async move {
            if hosts.is_domain_banned(&name) {
                return Err(HostsError::Banned);
            }
            let mut host = hosts.admit(name, start, Standing::grown(hosts.now())).await?;
            if host.banned {
                return Err(HostsError::Banned);
            }
            if host.alias_of.take().is_some() {
                hosts.storage.note_host(HostNote::Alias { host: host.id, of: None }).await?;
            }
            hosts.subscribe(&host);
            Ok(host)
        })
        .await
    }

    /// Adds many hosts; what became of each.
    pub async fn import(
        self: &Arc<Self>,
        names: Vec<String>,
        start: Start,
    ) -> Result<Vec<(String, Result<Host, HostsError>)>, HostsError> {
        if names.len() > IMPORT_MAX {
            return Err(HostsError::TooMany(IMPORT_MAX));
        }
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            let result = self.add(&name, start).await;
            if let Err(HostsError::Store(error)) = result {
                return Err(error.into());
            }
            results.push((name, result));
        }
        Ok(results)
    }

    /// Ends the host's task and forgets all that is known of the host itself; its accounts stay as
    /// they are. A host of `--host` comes back with the next start.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), HostsError> {
        let name = self.parse(name)?;
        self.change(|hosts| async move {
            let host = hosts.known(&name)?;
            if let Some(origin) = hosts.origin(host.id) {
                origin.retire();
            }
            hosts.stop(host.id).await;
            hosts.storage.remove_host(host.id).await?;
            // Other names of it stand for themselves again.
            hosts.subscribe_missing();
            Ok(())
        })
        .await
    }

    /// Refuses a host.
    pub async fn ban(self: &Arc<Self>, name: &str) -> Result<Host, HostsError> {
        let name = self.parse(name)?;
        self.change(|hosts| async move {
            let host = hosts.known(&name)?;
            // The reason is committed with the ban, which is waited for.
            hosts.end(host.id, HostState::Refused, "banned by the operator").await?;
            hosts.storage.note_host(HostNote::Ban { host: host.id, banned: true }).await?;
            hosts.known(&name)
        })
        .await
    }

    /// Takes a host's ban back; that of its domain stands.
    pub async fn unban(self: &Arc<Self>, name: &str) -> Result<Host, HostsError> {
        let name = self.parse(name)?;
        self.change(|hosts| async move {
            let host = hosts.known(&name)?;
            hosts.storage.note_host(HostNote::Ban { host: host.id, banned: false }).await?;
            let host = hosts.known(&name)?;
            if !hosts.is_refused(&host) {
                hosts.subscribe(&host);
            }
            Ok(host)
        })
        .await
    }

    /// Sets the host's limits; what is left out follows the rule again.
    pub async fn set_override(
        self: &Arc<Self>,
        name: &str,
        allowance: Override,
    ) -> Result<Host, HostsError> {
        self.edit_override(name, move |_| Ok(allowance)).await
    }

    /// Changes the host's limits as they are set at this moment.
    pub async fn edit_override(
        self: &Arc<Self>,
        name: &str,
        edit: impl FnOnce(Override) -> Result<Override, HostsError> + Send + 'static,
    ) -> Result<Host, HostsError> {
        let name = self.parse(name)?;
        self.change(|hosts| async move {
            let host = hosts.known(&name)?;
            let allowance = edit(host.allowance)?;
            let Override { per_second, per_hour, per_day, .. } = allowance;
            if [per_second, per_hour, per_day].contains(&Some(0)) {
                let reason = "a rate is at least 1: to read nothing of a host, ban it".to_owned();
                return Err(HostsError::Invalid(reason));
            }
            hosts.storage.note_host(HostNote::Allowance { host: host.id, allowance }).await?;
            hosts.hand_allowance(host.id);
            hosts.known(&name)
        })
        .await
    }

    /// Forgets where the host's stream is, as if its own sequence had gone backwards: everything of
    /// it is owed to reconciliation. It goes on live or from its oldest event; after a crash before
    /// anything came, from the oldest.
    pub async fn reset_cursor(
        self: &Arc<Self>,
        name: &str,
        start: Resume,
    ) -> Result<Host, HostsError> {
        if matches!(start, Resume::After(_)) {
            // The chain of tickets of a new epoch begins at zero: it would have a hole for ever.
            let reason = "a reset goes on live or from the oldest event".to_owned();
            return Err(HostsError::Invalid(reason));
        }
        let name = self.parse(name)?;
        self.change(|hosts| async move {
            let id = hosts.known(&name)?.id;
            hosts.stop(id).await;
            // Its task may have raised the epoch by itself at the last moment.
            let (epoch, reason) =
                (hosts.known(&name)?.epoch.next(), "reset by the operator".to_owned());
            hosts.storage.note_host(HostNote::Reset { host: id, epoch, reason }).await?;
            let host = hosts.known(&name)?;
            if !hosts.is_refused(&host) {
                hosts.begin(&host, start, HostState::Connecting);
            }
            Ok(host)
        })
        .await
    }

    /// Has the whole host compared with what is held of it, at once. What could not be verified
    /// before is looked at again, too.
    pub async fn reconcile(&self, name: &str) -> Result<Host, HostsError> {
        let host = self.find(name)?;
        let reconciler = self.reconciler().ok_or(storage::Error::Stopped)?;
        let asked = reconciler.request(host.id, "by the operator".to_owned()).await;
        asked.map_err(|_| storage::Error::Stopped)?;
        Ok(host)
    }

    /// The domains whose hosts are refused, in the order of the alphabet.
    pub fn domain_bans(&self) -> Vec<String> {
        self.storage.domain_bans().to_vec()
    }

    /// Refuses all hosts of a domain, known ones and new ones; how many had a task, which is ended.
    pub async fn ban_domain(self: &Arc<Self>, domain: &str) -> Result<usize, HostsError> {
        let domain: Domain = domain.parse().map_err(HostsError::Invalid)?;
        self.change(|hosts| async move {
            let mut bans = hosts.domain_bans();
            if let Err(place) = bans.binary_search_by(|ban| ban.as_str().cmp(domain.as_str())) {
                if bans.len() >= DOMAIN_BANS_MAX {
                    return Err(HostsError::TooMany(DOMAIN_BANS_MAX));
                }
                bans.insert(place, domain.to_string());
                hosts.storage.set_domain_bans(bans).await?;
                hosts.read_bans();
            }
            Ok(hosts.end_all(&domain).await?)
        })
        .await
    }

    /// Takes a ban of a domain back; how many hosts have a task again.
    pub async fn unban_domain(self: &Arc<Self>, domain: &str) -> Result<usize, HostsError> {
        let domain: Domain = domain.parse().map_err(HostsError::Invalid)?;
        self.change(|hosts| async move {
            let mut bans = hosts.domain_bans();
            let place = bans.iter().position(|ban| ban == domain.as_str());
            bans.remove(place.ok_or(HostsError::NotFound)?);
            hosts.storage.set_domain_bans(bans).await?;
            hosts.read_bans();
            Ok(hosts.subscribe_missing())
        })
        .await
    }

    /// Subscribes to every host that nobody refuses (any longer); how many had no task. `changes`
    /// must be held.
    fn subscribe_missing(&self) -> usize {
        let before = self.running().len();
        self.each_page(|page| {
            page.iter().filter(|host| !self.is_refused(host)).for_each(|host| self.subscribe(host));
        });
        self.running().len() - before
    }

    fn parse(&self, name: &str) -> Result<HostName, HostsError> {
        HostName::parse(name.trim(), self.rules.names)
            .map_err(|error| HostsError::Invalid(format!("hostname: {error}")))
    }
}

/// Names of one import: with a sync of the disk for each, some minutes at most.
const IMPORT_MAX: usize = 10_000;
/// A row of the store holds them all.
const DOMAIN_BANS_MAX: usize = 10_000;
