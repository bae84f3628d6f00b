//! Accounts, hosts, and what is kept of both: every row reads, and none contradicts another.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use protocol::account::Local;
use protocol::did::Did;
use protocol::ids::{HostId, Micros, Seq};
use protocol::keys::PublicKey;
use rocksdb::LiveFile;

use crate::accounts::{is_hidden, live_on};
use crate::gaps::HostGap;
use crate::hosts::Host;
use crate::members::Membership;
use crate::store::records::{self, REJECTS_PER_HOST};
use crate::store::{Family, Store, keys};

use super::{Checker, UNREADABLE};

/// What rows of one family say of those of another.
#[derive(Default)]
struct Known {
    /// Earlier formats did not count what is throttled. A conversion that was broken off has
    /// written it down everywhere but in the rows of hosts, and the format stays the old one.
    counts_throttled: bool,
    /// The last number that was given to a host, if that is written down.
    last_host: Option<HostId>,
    /// `None`: its row does not read, which is told once.
    hosts: BTreeMap<HostId, Option<Facts>>,
    decisions: HashMap<Did, Local>,
    hidden: HashSet<Did>,
}

/// A host, and what other rows say of it.
struct Facts {
    host: Host,
    /// Its rows in `host_accounts`.
    accounts: u64,
    /// Those of them that say that they are throttled for being over its limit.
    over: u64,
    /// Its rows in `throttled`.
    throttled: u64,
    /// Accounts that it counts, by their own rows, and how many of those are over its limit.
    live: u64,
    live_over: u64,
    owed: Option<HostGap>,
    /// Rows of its accounts in `gaps`.
    gaps: u64,
}

/// What is wrong with a row, if anything is.
type Judged = Result<(), String>;

impl Checker<'_> {
    pub(super) fn rows(&mut self, store: &Store, families: &[Family], files: &[LiveFile]) {
        let mut known = Known {
            counts_throttled: self.report.format.is_some_and(|format| format >= COUNTS_THROTTLED),
            last_host: self.report.last_host,
            ..Known::default()
        };
        // Those that others are compared with come first.
        let order = [
            Family::Hosts,
            Family::Decisions,
            Family::Hidden,
            Family::Accounts,
            Family::HostAccounts,
            Family::Throttled,
            Family::Gaps,
            Family::Reconcile,
            Family::Identities,
            Family::Rejects,
        ];
        let floor = self.report.floor;
        for family in order.into_iter().filter(|family| families.contains(family)) {
            let mut count = 0;
            self.scan(store, family, files, &mut |checker, key, row| {
                count += 1;
                if let Err(what) = known.row(family, key, row, floor) {
                    checker.find_row(family, key, what);
                }
            });
            self.report.rows.push((family.name(), count));
        }
        for (family, key, what) in known.conclude() {
            self.find_row(family, &key, what);
        }
    }
}

impl Facts {
    fn of(host: Host) -> Self {
        let (accounts, over, throttled, live, live_over, gaps) = (0, 0, 0, 0, 0, 0);
        Self { host, accounts, over, throttled, live, live_over, owed: None, gaps }
    }
}

impl Known {
    fn row(&mut self, family: Family, key: &[u8], row: &[u8], floor: Seq) -> Judged {
        match family {
            Family::Hosts => self.host(key, row),
            Family::Decisions => self.decision(key, row),
            Family::Hidden => self.hide(key, row),
            Family::Accounts => self.account(key, row, floor),
            Family::HostAccounts => self.member(key, row),
            Family::Throttled => self.throttled(key, row),
            Family::Gaps => self.gap(key, row),
            Family::Reconcile => self.reconcile(key, row),
            Family::Identities => identity(key, row),
            Family::Rejects => self.reject(key, row),
            Family::Batches | Family::Meta => unreachable!("they are looked at elsewhere"),
        }
    }

    fn host(&mut self, key: &[u8], row: &[u8]) -> Judged {
        let id = key.try_into().ok().map(|key| HostId(u32::from_be_bytes(key)));
        let id = id.filter(|id| *id != HostId::NOBODY).ok_or(UNREADABLE_KEY)?;
        let host = records::read_host(id, row);
        let facts = host.map(Facts::of);
        let judged = if facts.is_some() { Ok(()) } else { Err(UNREADABLE.to_owned()) };
        self.hosts.insert(id, facts);
        judged
    }

    fn decision(&mut self, key: &[u8], row: &[u8]) -> Judged {
        let did = Did::from_key(key).ok_or(UNREADABLE_KEY)?;
        let local = records::read_decision(row).ok_or(UNREADABLE)?;
        self.decisions.insert(did, local);
        Ok(())
    }

    fn hide(&mut self, key: &[u8], row: &[u8]) -> Judged {
        let did = Did::from_key(key).ok_or(UNREADABLE_KEY)?;
        records::read_seq(row).ok_or(UNREADABLE)?;
        self.hidden.insert(did);
        Ok(())
    }

    fn account(&mut self, key: &[u8], row: &[u8], floor: Seq) -> Judged {
        let did = Did::from_key(key).ok_or(UNREADABLE_KEY)?;
        // Whatever is wrong with it, it is there.
        let decision = self.decisions.remove(&did);
        let is_in_hidden = self.hidden.remove(&did);
        let account = records::read_account(row).ok_or(UNREADABLE)?;
        if let Some(home) = account.home().filter(|home| !self.was_given(*home)) {
            return Err(format!("host {home} is not in hosts"));
        }
        if let Some(id) = live_on(&account).filter(|id| self.hosts.contains_key(id)) {
            let is_over = Membership::of(Micros(0), account.local).throttled;
            self.note(id, |facts| {
                facts.live += 1;
                facts.live_over += u64::from(is_over);
            })?;
        }
        // A row of version 1 was written when there were no rows of decisions.
        let is_decided = account.local != Local::None && row.first() != Some(&1);
        if decision != is_decided.then_some(account.local) {
            let row = decision.map_or_else(|| "none".to_owned(), |local| format!("{local:?}"));
            return Err(format!("our decision is {:?}, in decisions is {row}", account.local));
        }
        match (is_hidden(&account), is_in_hidden) {
            (false, true) => Err("it is in hidden, and must be seen".to_owned()),
            // Once the floor has passed it, the row in `hidden` goes.
            (true, false) if floor == Seq::ZERO => {
                Err("it must be hidden, and is not in hidden".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn member(&mut self, key: &[u8], row: &[u8]) -> Judged {
        let (id, _) = keys::host_account_of(key).ok_or(UNREADABLE_KEY)?;
        let membership = records::read_membership(row);
        let is_over = membership.is_some_and(|membership| membership.throttled);
        self.note(id, |facts| {
            facts.accounts += 1;
            facts.over += u64::from(is_over);
        })?;
        membership.map(drop).ok_or_else(|| UNREADABLE.to_owned())
    }

    fn throttled(&mut self, key: &[u8], row: &[u8]) -> Judged {
        let (id, _) = keys::throttled_account(key).ok_or(UNREADABLE_KEY)?;
        self.note(id, |facts| facts.throttled += 1)?;
        if row.is_empty() { Ok(()) } else { Err(UNREADABLE.to_owned()) }
    }

    fn reconcile(&mut self, key: &[u8], row: &[u8]) -> Judged {
        let of_account = keys::excused_account(key).map(|(id, _)| id);
        let id = of_account.or_else(|| host_at(key, 1)).ok_or(UNREADABLE_KEY)?;
        if of_account.is_none() && key != keys::reconcile(id) {
            return Err(UNREADABLE_KEY.to_owned());
        }
        let reads = match of_account {
            Some(_) => records::read_excused(row).is_some(),
            None => records::read_reconcile(row).is_some(),
        };
        self.note(id, |_| ())?;
        if reads { Ok(()) } else { Err(UNREADABLE.to_owned()) }
    }

    /// Whether this is or was the number of a host: accounts outlive a host that is removed.
    fn was_given(&self, id: HostId) -> bool {
        self.hosts.contains_key(&id) || self.last_host.is_some_and(|last| id <= last)
    }

    fn gap(&mut self, key: &[u8], row: &[u8]) -> Judged {
        let id = keys::gap_host_id(key).ok_or(UNREADABLE_KEY)?;
        if key == keys::gap_host(id) {
            let gap = records::read_host_gap(row).ok_or(UNREADABLE)?;
            return self.note(id, |facts| facts.owed = Some(gap));
        }
        let did = keys::gap_account_did(key).ok_or(UNREADABLE_KEY)?;
        if key != keys::gap_account(id, &did) {
            return Err(UNREADABLE_KEY.to_owned());
        }
        records::read_account_gap(did, row).ok_or(UNREADABLE)?;
        self.note(id, |facts| facts.gaps += 1)
    }

    fn reject(&mut self, key: &[u8], row: &[u8]) -> Judged {
        let id = host_at(key, 0).ok_or(UNREADABLE_KEY)?;
        let &[place] = key.get(4..).ok_or(UNREADABLE_KEY)? else {
            return Err(UNREADABLE_KEY.to_owned());
        };
        let reject = records::read_reject(row).ok_or(UNREADABLE)?;
        let mut rejects = u64::MAX;
        self.note(id, |facts| rejects = facts.host.rejects)?;
        if reject.number >= rejects {
            return Err(format!("it is number {}, of {rejects}", reject.number));
        }
        if reject.number % u64::from(REJECTS_PER_HOST) != u64::from(place) {
            return Err(format!("number {} is at place {place}", reject.number));
        }
        Ok(())
    }

    /// Notes something of a host that must be there.
    fn note(&mut self, id: HostId, note: impl FnOnce(&mut Facts)) -> Judged {
        let facts = self.hosts.get_mut(&id).ok_or_else(|| format!("host {id} is not in hosts"))?;
        facts.as_mut().map(note);
        Ok(())
    }

    /// What only all rows together tell.
    fn conclude(self) -> Vec<(Family, Vec<u8>, String)> {
        let mut found = Vec::new();
        let ids: BTreeSet<HostId> = self.hosts.keys().copied().collect();
        let read = self.hosts.into_iter().filter_map(|(id, facts)| Some((id, facts?)));
        for (id, facts) in read {
            let mut find = |what| found.push((Family::Hosts, keys::host(id).to_vec(), what));
            let Facts { host, accounts, over, throttled, live, live_over, owed, gaps } = facts;
            if host.accounts != accounts {
                find(format!("it says {}, and host_accounts has {accounts}", host.accounts));
            }
            if live != accounts {
                find(format!("{live} rows of accounts are its own, {accounts} in host_accounts"));
            }
            let counts = [over, throttled, live_over];
            if self.counts_throttled && counts != [host.throttled; 3] {
                find(format!(
                    "it says that {} are over its limit, and host_accounts has {over}, throttled \
                     {throttled}, accounts {live_over}",
                    host.throttled
                ));
            }
            if self.last_host.is_some_and(|last| id > last) {
                find("its number was not given out by what meta says".to_owned());
            }
            if host.alias_of.is_some_and(|of| !ids.contains(&of)) {
                find("the host that it is another name of is not in hosts".to_owned());
            }
            let owed = owed.map_or(0, |owed| u64::from(owed.accounts));
            if owed != gaps {
                let what = format!("it says that {owed} accounts are owed, and {gaps} rows are");
                found.push((Family::Gaps, keys::gap_host(id).to_vec(), what));
            }
        }
        let no_account = "there is no row in accounts";
        for did in self.decisions.into_keys() {
            found.push((Family::Decisions, keys::account(&did), no_account.to_owned()));
        }
        for did in self.hidden {
            found.push((Family::Hidden, keys::account(&did), no_account.to_owned()));
        }
        found
    }
}

fn identity(key: &[u8], row: &[u8]) -> Judged {
    let did = Did::from_key(key).ok_or(UNREADABLE_KEY)?;
    let identity = records::read_identity(&did, row).ok_or(UNREADABLE)?;
    match identity.key.map(|(curve, point)| PublicKey::from_compressed(curve, &point)) {
        Some(Err(_)) => Err("its key is no point of its curve".to_owned()),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn host_at(key: &[u8], at: usize) -> Option<HostId> {
    Some(HostId(u32::from_be_bytes(key.get(at..at + 4)?.try_into().ok()?)))
}

/// The format from which on hosts' rows say how many of their accounts are throttled.
const COUNTS_THROTTLED: u32 = 4;
const UNREADABLE_KEY: &str = "its key does not read as what was written";
