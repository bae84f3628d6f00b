//! Every host as of the last commit, for readers of any thread.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use hashbrown::HashMap;
use protocol::host::HostName;
use protocol::ids::HostId;

use super::Host;

/// Every host as of the last commit, for readers of any thread. A lock is held for lines only.
#[derive(Default)]
pub(crate) struct Mirror(RwLock<Mirrored>);

#[derive(Default)]
struct Mirrored {
    hosts: BTreeMap<HostId, Host>,
    names: HashMap<HostName, HostId>,
    /// [`Host::open_accounts`], for those who look at it with every event.
    counts: HashMap<HostId, Arc<AtomicU64>>,
    /// Names of hosts that an operator refuses, as patterns.
    domain_bans: Arc<[String]>,
}

impl Mirror {
    /// Of what the store held at start.
    pub(crate) fn load(hosts: &[Host], domain_bans: Vec<String>) -> Self {
        let mirror = Self::default();
        mirror.show(hosts.iter());
        mirror.show_domain_bans(Arc::from(domain_bans));
        mirror
    }

    pub(crate) fn by_name(&self, name: &HostName) -> Option<Host> {
        let mirrored = self.0.read().expect("no holder of this lock panics");
        mirrored.names.get(name).and_then(|id| mirrored.hosts.get(id)).cloned()
    }

    pub(crate) fn by_id(&self, id: HostId) -> Option<Host> {
        self.0.read().expect("no holder of this lock panics").hosts.get(&id).cloned()
    }

    pub(crate) fn page(&self, after: Option<HostId>, limit: usize) -> Vec<Host> {
        let mirrored = self.0.read().expect("no holder of this lock panics");
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        mirrored
            .hosts
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, host)| host.clone())
            .collect()
    }

    pub(crate) fn domain_bans(&self) -> Arc<[String]> {
        Arc::clone(&self.0.read().expect("no holder of this lock panics").domain_bans)
    }

    pub(crate) fn show_domain_bans(&self, bans: Arc<[String]>) {
        self.0.write().expect("no holder of this lock panics").domain_bans = bans;
    }

    /// A host's live accounts but those over its limit: kept up to date with every commit.
    pub(crate) fn account_count(&self, id: HostId) -> Arc<AtomicU64> {
        let mut mirrored = self.0.write().expect("no holder of this lock panics");
        let Mirrored { hosts, counts, .. } = &mut *mirrored;
        let accounts = hosts.get(&id).map_or(0, Host::open_accounts);
        Arc::clone(counts.entry(id).or_insert_with(|| Arc::new(AtomicU64::new(accounts))))
    }

    /// Shows these hosts as they are.
    pub(crate) fn show<'a>(&self, hosts: impl Iterator<Item = &'a Host>) {
        let mut mirrored = self.0.write().expect("no holder of this lock panics");
        for host in hosts {
            if let Some(count) = mirrored.counts.get(&host.id) {
                count.store(host.open_accounts(), Ordering::Relaxed);
            }
            if mirrored.hosts.insert(host.id, host.clone()).is_none() {
                mirrored.names.insert(host.name.clone(), host.id);
            }
        }
    }

    /// Shows no longer what was removed.
    pub(crate) fn forget(&self, ids: impl Iterator<Item = HostId>) {
        let mut mirrored = self.0.write().expect("no holder of this lock panics");
        let Mirrored { hosts, names, counts, .. } = &mut *mirrored;
        for id in ids {
            let Some(host) = hosts.remove(&id) else { continue };
            names.remove(&host.name);
            if let Some(count) = counts.remove(&id) {
                count.store(0, Ordering::Relaxed);
            }
        }
    }
}
