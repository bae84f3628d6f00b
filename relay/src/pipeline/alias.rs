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
    /// Without answers: nothing; and a host that an account's document names is no other name of
    /// anything, whatever it and others answer.
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
                Named::Here if self.is_another_name(&other.name, name) => return Kin::Names(other),
                Named::There if self.is_another_name(name, &other.name) => {
                    return Kin::NamedBy(other);
                }
                _ => {}
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

    /// Whether the documents of all accounts that came by this name say the other one. What is
    /// listed is the host's to choose, and of its accounts some are an attacker's: here a single
    /// other one is enough to keep it.
    fn is_another_name(&self, name: &HostName, of: &HostName) -> bool {
        let Some(host) = self.storage().host_by_name(name) else { return true };
        // A store that fails says so itself.
        let members = self.storage().members(host.id, None, MEMBERS_MAX);
        members.is_ok_and(|members| {
            let mut dids = members.iter().map(|member| &member.did);
            members.len() < MEMBERS_MAX && dids.all(|did| self.pds(did).as_ref() == Some(of))
        })
    }

    /// The first accounts that a host lists, but those that are not active: who has moved away is
    /// still listed by the host of before.
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
        Some(page["repos"].as_array()?.iter().take(LISTED_MAX).filter_map(active).collect())
    }

    /// The PDS that an account's document names, if we have it. A store that fails says so itself.
    fn pds(&self, did: &Did) -> Option<HostName> {
        self.storage().identity(did).ok().flatten().and_then(|identity| identity.pds)
    }

    /// Looks at one host that streams, and refuses whichever of two names is the wrong one.
    async fn look_for_alias(self: &Arc<Self>, host: &Host) -> Result<(), storage::Error> {
        let Ok(service) = describe(&host.name, self.fetch()).await else { return Ok(()) };
        if host.service.as_deref() != Some(&*service) {
            let note = HostNote::Service { host: host.id, did: Some(service.clone()) };
            self.storage().note_host(note).await?;
        }
        match self.kin(&host.name, &service).await {
            Kin::None => Ok(()),
            Kin::NamedBy(other) => self.refuse_alias(host.id, other.id).await,
            Kin::Names(other) => self.refuse_alias(other.id, host.id).await,
        }
    }
}

/// Looks at the hosts that stream, one after the other, each once a day.
pub(super) fn start(hosts: Arc<Hosts>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut round = Round::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let page = hosts.storage().hosts(round.after, HOSTS_PER_LOOK);
            let Some(host) = round.next(page, hosts.now()) else { continue };
            if hosts.look_for_alias(&host).await.is_err() {
                // The store has failed, and the process ends for that.
                return;
            }
        }
    })
}

/// Which hosts were looked at.
#[derive(Debug, Default)]
struct Round {
    /// The last one that was passed.
    after: Option<HostId>,
    /// When each was looked at, within a day: at most all of them.
    looked: HashMap<HostId, Micros>,
}

impl Round {
    /// The first of a page, which begins after `after`, that is due.
    fn next(&mut self, page: Vec<Host>, now: Micros) -> Option<Host> {
        let is_last = page.len() < HOSTS_PER_LOOK;
        for host in page {
            self.after = Some(host.id);
            if host.state == HostState::Streaming && !self.looked.contains_key(&host.id) {
                self.looked.insert(host.id, now);
                return Some(host);
            }
        }
        if is_last {
            self.after = None;
            self.looked.retain(|_, at| now.since(*at) < LOOK_AGAIN_AFTER);
        }
        None
    }
}

/// The account of a row of `listRepos`, unless it says that it is not active.
fn active(repo: &Value) -> Option<Did> {
    Did::parse(repo["did"].as_str()?).ok().filter(|_| repo["active"].as_bool() != Some(false))
}

/// Whether two names are one PDS, by the accounts that they list, and which name its accounts'
/// documents say. A name that the document of any account on its own list says is no other name:
/// anybody can list whom he likes, and move an account of another host to his own.
fn judge(
    (here, listed_here): (&HostName, &[Did]),
    (there, listed_there): (&HostName, &[Did]),
    named_by: impl Fn(&Did) -> Option<HostName>,
) -> Named {
    let known: HashSet<&Did> = listed_there.iter().collect();
    let common = listed_here.iter().filter(|did| known.contains(did)).count();
    // Accounts come and go between the two answers.
    let most = listed_here.len().max(listed_there.len());
    if common == 0 || common * 10 < most * 9 {
        return Named::Unclear;
    }
    let names = |host: &HostName, listed: &[Did]| {
        listed.iter().filter(|did| named_by(did).as_ref() == Some(host)).count()
    };
    let (by_here, by_there) = (names(here, listed_here), names(there, listed_there));
    match (by_here * 2 > common, by_there * 2 > common) {
        (true, _) if by_there == 0 => Named::Here,
        (_, true) if by_here == 0 => Named::There,
        _ => Named::Unclear,
    }
}

/// Hosts of one service that are compared: more than two names of one PDS are rare.
const NAMESAKES_MAX: usize = 8;
/// Accounts of each that are compared: two hosts have none in common but those that have moved.
const LISTED_MAX: usize = 100;
/// Accounts of a name that may be refused: one with more is a host. Their documents are read, a
/// few milliseconds in all.
const MEMBERS_MAX: usize = 1_000;
/// 100 accounts are 20 kB.
const LIST_BYTES_MAX: usize = 256 << 10;
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// An old name often redirects to the new one, as it may for `describeServer`.
const LIST_REDIRECTS_MAX: u8 = 3;
/// At 3,000 hosts all are looked at within two hours; each look is one request, most of the time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Hosts that are passed at once to find one that is due.
const HOSTS_PER_LOOK: usize = 1_000;
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
    }

    /// He moves an account of an honest host to his own, which calls itself by the honest one's DID
    /// and lists that account alone, or the honest one's whole list.
    #[test]
    fn an_account_that_has_moved_away_does_not_make_its_old_host_another_name() {
        let (all, moved) = (dids(0..20), dids(0..1));
        let by = |is_his: bool| Some(name(if is_his { "new.host.dev" } else { "old.host.dev" }));
        let evil = |did: &Did| by(*did == moved[0]);
        check(&moved, &all, evil, Named::Unclear);
        check(&all, &all, evil, Named::Unclear);
        // Most of what the honest one lists first are his accounts.
        let honest = &all[19];
        let most = |did: &Did| by(did != honest);
        check(&all, &all, most, Named::Unclear);
        check(&all[..19], &all, most, Named::Unclear);
        // His list is shorter, and what he leaves out is honest.
        check(&dids(0..3), &all, |_| Some(name("new.host.dev")), Named::Unclear);
    }

    #[test]
    fn an_account_that_is_not_active_is_not_compared() {
        let listed = |active: Value| {
            super::active(&serde_json::json!({
                "did": "did:web:u1.example.com", "active": active,
            }))
        };
        assert!(listed(Value::Bool(true)).is_some());
        assert!(listed(Value::Null).is_some());
        assert!(listed(Value::Bool(false)).is_none());
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
