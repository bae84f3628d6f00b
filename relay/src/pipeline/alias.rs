//! Two names, one PDS. Both answer `describeServer` with the same DID and list the same accounts,
//! whose DID documents name one of the two: all that comes by the other one would be `wrong_host`.
//!
//! A name is looked at when it calls, and each host that streams once a day.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crawler::admission::describe;
use protocol::did::Did;
use protocol::fetch::{Get, Longer};
use protocol::host::HostName;
use protocol::host_state::HostState;
use protocol::ids::{HostId, Micros};
use serde_json::Value;
use storage::{Host, HostNote};
use tokio::task::JoinHandle;

use super::hosts::Hosts;

/// What a name has to do with the hosts that are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kin {
    /// Nothing, as far as can be seen.
    None,
    /// It is another name of this host: accounts' documents name that one.
    NamedBy(Host),
    /// This host is another name of it: accounts' documents name the one that was looked at.
    Names(Host),
}

/// By which of two names the accounts of one PDS are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// They are two hosts, or nobody can tell.
    Unclear,
    /// By the one that was looked at.
    Here,
    /// By the other one.
    There,
}

impl Hosts {
    /// What the name of a host that calls itself `service` has to do with the hosts that are known.
    /// Without answers: nothing.
    pub(super) async fn kin(&self, name: &HostName, service: &str) -> Kin {
        let others = self.of_service(name, service);
        if others.is_empty() {
            return Kin::None;
        }
        let Some(here) = self.listed(name).await else { return Kin::None };
        for other in others {
            let Some(there) = self.listed(&other.name).await else { continue };
            let named_by = |did: &Did| self.pds(did);
            match judge((name, &here), (&other.name, &there), named_by) {
                Named::Unclear => {}
                Named::Here => return Kin::Names(other),
                Named::There => return Kin::NamedBy(other),
            }
        }
        Kin::None
    }

    /// The hosts, but that of this name and other names of hosts, that call themselves so.
    fn of_service(&self, name: &HostName, service: &str) -> Vec<Host> {
        let mut found = Vec::new();
        self.each_page(|page| {
            let same = page.iter().filter(|host| {
                let is_other = host.name != *name && host.alias_of.is_none();
                is_other && host.service.as_deref() == Some(service) && !self.is_banned(host)
            });
            found.extend(same.take(NAMESAKES_MAX - found.len()).cloned());
        });
        found
    }

    /// The first accounts that a host lists.
    async fn listed(&self, name: &HostName) -> Option<Vec<Did>> {
        let get = Get {
            url: format!("{}/xrpc/com.atproto.sync.listRepos?limit={LISTED_MAX}", name.origin()),
            timeout: LIST_TIMEOUT,
            body_bytes_max: LIST_BYTES_MAX,
            longer: Longer::Refused,
            redirects_max: LIST_REDIRECTS_MAX,
        };
        let answer = self.fetch().get(get).await.ok().filter(|answer| answer.status == 200)?;
        let page: Value = serde_json::from_slice(&answer.body).ok()?;
        let did = |repo: &Value| Did::parse(repo["did"].as_str()?).ok();
        Some(page["repos"].as_array()?.iter().take(LISTED_MAX).filter_map(did).collect())
    }

    /// The PDS that an account's document names, if we have it. A store that fails says so itself.
    fn pds(&self, did: &Did) -> Option<HostName> {
        self.storage().identity(did).ok().flatten().and_then(|identity| identity.pds)
    }

    /// Looks at one host that streams, and refuses whichever of two names is the wrong one.
    async fn look_for_alias(&self, host: &Host) -> Result<(), storage::Error> {
        let Ok(service) = describe(&host.name, self.fetch()).await else { return Ok(()) };
        if host.service.as_deref() != Some(&*service) {
            let note = HostNote::Service { host: host.id, did: Some(service.clone()) };
            self.storage().note_host(note).await?;
        }
        match self.kin(&host.name, &service).await {
            Kin::None => Ok(()),
            Kin::NamedBy(other) => self.refuse_alias(host, &other).await,
            Kin::Names(other) => self.refuse_alias(&other, host).await,
        }
    }
}

/// Looks at the hosts that stream, one after the other, each once a day.
pub(super) fn start(hosts: Arc<Hosts>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut looked = HashMap::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(host) = next(&hosts, &mut looked) else { continue };
            if hosts.look_for_alias(&host).await.is_err() {
                // The store has failed, and the process ends for that.
                return;
            }
        }
    })
}

/// The next host that is due. `looked` holds those that were looked at within a day, so at most
/// all of them.
fn next(hosts: &Hosts, looked: &mut HashMap<HostId, Micros>) -> Option<Host> {
    let now = hosts.now();
    looked.retain(|_, at| now.since(*at) < LOOK_AGAIN_AFTER);
    let mut found = None;
    hosts.each_page(|page| {
        let is_due =
            |host: &&Host| host.state == HostState::Streaming && !looked.contains_key(&host.id);
        if found.is_none() {
            found = page.iter().find(is_due).cloned();
        }
    });
    looked.extend(found.iter().map(|host| (host.id, now)));
    found
}

/// Whether two names are one PDS, by the accounts that they list, and which name its accounts'
/// documents say.
fn judge(
    (here, listed_here): (&HostName, &[Did]),
    (there, listed_there): (&HostName, &[Did]),
    named_by: impl Fn(&Did) -> Option<HostName>,
) -> Named {
    let known: HashSet<&Did> = listed_there.iter().collect();
    let common: Vec<&Did> = listed_here.iter().filter(|did| known.contains(did)).collect();
    // Accounts come and go between the two answers.
    let least = listed_here.len().min(listed_there.len());
    if common.is_empty() || common.len() * 10 < least * 9 {
        return Named::Unclear;
    }
    let (mut by_here, mut by_there) = (0, 0);
    for pds in common.into_iter().filter_map(named_by) {
        by_here += usize::from(pds == *here);
        by_there += usize::from(pds == *there);
    }
    match by_here.cmp(&by_there) {
        std::cmp::Ordering::Less => Named::There,
        std::cmp::Ordering::Equal => Named::Unclear,
        std::cmp::Ordering::Greater => Named::Here,
    }
}

/// Hosts of one service that are compared: more than two names of one PDS are rare.
const NAMESAKES_MAX: usize = 8;
/// Accounts of each that are compared: two hosts have none in common but those that have moved.
const LISTED_MAX: usize = 100;
/// 100 accounts are 20 kB.
const LIST_BYTES_MAX: usize = 256 << 10;
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// An old name often redirects to the new one, as it may for `describeServer`.
const LIST_REDIRECTS_MAX: u8 = 3;
/// At 3,000 hosts all are looked at within two hours; each look is one request, most of the time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_AGAIN_AFTER: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use protocol::host::HostRules;

    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text, HostRules::Public).unwrap()
    }

    fn dids(numbers: impl IntoIterator<Item = u8>) -> Vec<Did> {
        let did = |number| Did::parse(&format!("did:web:u{number}.example.com")).unwrap();
        numbers.into_iter().map(did).collect()
    }

    fn check(here: &[Did], there: &[Did], named: impl Fn(&Did) -> Option<HostName>, to_be: Named) {
        let (old, new) = (name("old.host.dev"), name("new.host.dev"));
        assert_eq!(judge((&new, here), (&old, there), named), to_be);
    }

    #[test]
    fn of_two_names_with_the_same_accounts_the_one_that_documents_say_is_the_hosts() {
        let all = dids(0..20);
        check(&all, &all, |_| Some(name("old.host.dev")), Named::There);
        check(&all, &all, |_| Some(name("new.host.dev")), Named::Here);
        // One that is unknown, or was just moved, changes nothing.
        let first = &all[0];
        check(&all, &all, |did| (did != first).then(|| name("old.host.dev")), Named::There);
        // Pages that differ by who has just come.
        check(&dids(0..20), &dids(1..21), |_| Some(name("old.host.dev")), Named::There);
        check(&dids(0..3), &dids(0..20), |_| Some(name("old.host.dev")), Named::There);
    }

    #[test]
    fn hosts_with_other_accounts_or_with_documents_that_say_nothing_are_two() {
        let old = |_: &Did| Some(name("old.host.dev"));
        check(&dids(0..20), &dids(20..40), old, Named::Unclear);
        check(&dids(0..20), &dids(10..30), old, Named::Unclear);
        check(&[], &dids(0..20), old, Named::Unclear);
        check(&[], &[], old, Named::Unclear);
        check(&dids(0..20), &dids(0..20), |_| None, Named::Unclear);
        check(&dids(0..20), &dids(0..20), |_| Some(name("a.third.dev")), Named::Unclear);
    }
}
