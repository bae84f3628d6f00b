//! What hosts hold, asked of themselves over HTTP, simulated or real; and how a mirror differs.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use super::{Held, Mirror, Repo, fetch};
use crate::client;

/// Every account of some hosts, as they hold it.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    accounts: BTreeMap<String, Held>,
}

/// How a mirror differs from the truth about one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The account.
    pub did: String,
    /// What differs.
    pub what: What,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The mirror has never heard of it.
    Unknown,
    /// No host has it, and the mirror holds it for active.
    Gone,
    /// Its status: the host's, the mirror's.
    Status(Option<String>, Option<String>),
    /// Its revision: the host's, the mirror's.
    Rev(String, Option<String>),
    /// Its newest commit or the root of its tree, under the same revision.
    Head,
    /// So many records are not the same, under the same root.
    Records(usize),
}

impl Truth {
    /// Asks the host at this base URL for all of its accounts, those that this says are its own.
    pub async fn add_host(
        &mut self,
        base: &str,
        is_home: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let mut cursor = String::new();
        loop {
            let url =
                format!("{base}/xrpc/com.atproto.sync.listRepos?limit={PAGE}&cursor={cursor}");
            // Some hosts take an empty cursor for a malformed one.
            let page = client::get(url.trim_end_matches("&cursor=")).await?;
            ensure!(page.status == 200, "listRepos: {} {:?}", page.status, page.body);
            let page = page.json();
            let repos = page["repos"].as_array().context("a page of accounts")?;
            for listed in repos {
                let did = listed["did"].as_str().context("a listed DID")?;
                if is_home(did) {
                    let held = held(base, did, listed).await?;
                    self.accounts.insert(did.to_owned(), held);
                }
            }
            match page["cursor"].as_str().filter(|_| !repos.is_empty()) {
                Some(next) => cursor = next.to_owned(),
                None => return Ok(()),
            }
        }
    }

    /// How a mirror differs; what an inactive account holds is nobody's to ask.
    pub fn differences(&self, mirror: &Mirror) -> Vec<Difference> {
        let mut all = Vec::new();
        for (did, held) in &self.accounts {
            let what = match mirror.accounts().get(did) {
                None => Some(What::Unknown),
                Some(seen) => difference(held, seen),
            };
            all.extend(what.map(|what| Difference { did: did.clone(), what }));
        }
        let is_here = |held: &Held| !held.inactive && held.repo.is_some();
        let strangers = mirror.accounts().iter();
        for (did, _) in
            strangers.filter(|(did, it)| !self.accounts.contains_key(*did) && is_here(it))
        {
            all.push(Difference { did: did.clone(), what: What::Gone });
        }
        all
    }

    /// All accounts by DID.
    pub fn accounts(&self) -> &BTreeMap<String, Held> {
        &self.accounts
    }
}

fn difference(truth: &Held, seen: &Held) -> Option<What> {
    if (truth.inactive, &truth.status) != (seen.inactive, &seen.status) {
        return Some(What::Status(truth.status.clone(), seen.status.clone()));
    }
    // Without a repo it is inactive, and has none to be had.
    let repo = truth.repo.as_ref()?;
    let seen = seen.repo.as_ref();
    let rev = seen.map(|it: &Repo| it.rev.clone());
    let Some(seen) = seen.filter(|it| it.rev == repo.rev) else {
        return Some(What::Rev(repo.rev.clone(), rev));
    };
    if (seen.commit, seen.data) != (repo.commit, repo.data) {
        return Some(What::Head);
    }
    let missing = repo.records.iter().filter(|(path, cid)| seen.records.get(*path) != Some(cid));
    let extra = seen.records.keys().filter(|path| !repo.records.contains_key(*path));
    let count = missing.count() + extra.count();
    (count > 0).then_some(What::Records(count))
}

/// An account as its host has it.
async fn held(base: &str, did: &str, listed: &serde_json::Value) -> anyhow::Result<Held> {
    let inactive = listed["active"] == serde_json::Value::Bool(false);
    let status = listed["status"].as_str().map(str::to_owned);
    let repo = match inactive {
        true => None,
        false => Some(fetch(base, did).await?.with_context(|| format!("{did} has no repo"))?),
    };
    Ok(Held { inactive, status, repo, owed: false })
}

const PAGE: usize = 500;
