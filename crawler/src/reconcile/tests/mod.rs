//! Whole passes, against a host that is made of a map and a ledger that is made of another.

mod faults;
mod passes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::account::{Account, Conduct, Local, Repo, Upstream};
use protocol::car;
use protocol::cid::Cid;
use protocol::commit::{self, Commit};
use protocol::did::Did;
use protocol::fetch::{Answer, Fetch, FetchError, Get};
use protocol::host::{HostName, HostRules};
use protocol::host_state::HostState;
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::keys::{Curve, SigningKey};
use protocol::reject::Reject;
use protocol::tid::Tid;
use serde_json::{Value, json};

use super::*;

const HOST: HostId = HostId(1);
const THERE: HostId = HostId(2);
const START: Micros = Micros(1_795_219_200_000_000);

/// What the host has of an account.
#[derive(Clone)]
struct Theirs {
    rev: Tid,
    block: Vec<u8>,
    /// What its listing says instead.
    listed: Option<(String, String)>,
    status: Option<&'static str>,
    /// Its listing says nothing of its status.
    silent: bool,
}

/// How the host misbehaves.
#[derive(Default)]
struct Faults {
    /// Methods that it does not know.
    hidden: BTreeSet<&'static str>,
    /// Its listing goes in a circle.
    circle: bool,
    /// Its listing has no end, and names nobody that is known.
    endless: bool,
    /// So many answers say 503 first.
    busy: u32,
    /// So many requests in all are answered; then it is away.
    answers: Option<u32>,
    /// `getRepoStatus` fails.
    status_fails: bool,
    /// Accounts of which nothing can be had.
    broken: BTreeSet<String>,
}

#[derive(Default)]
struct State {
    // The host.
    theirs: BTreeMap<String, Theirs>,
    page: usize,
    faults: Faults,
    calls: BTreeMap<String, u32>,
    // The ledger.
    accounts: BTreeMap<Did, Account>,
    excused: BTreeMap<Did, Excused>,
    row: Option<Row>,
    owed: Option<Owed>,
    owed_accounts: BTreeSet<Did>,
    /// What was submitted, with what became of it.
    findings: Vec<(Did, Option<Tid>, Option<Upstream>, Found)>,
    /// Whose findings do not hold.
    refused: BTreeMap<Did, Reject>,
    /// Nothing is read from the stream.
    is_behind: bool,
    /// What the stream brings when it is looked at next.
    arriving: Option<(Did, Account)>,
    later: Duration,
    stopped: bool,
}

#[derive(Clone)]
struct World {
    state: Arc<Mutex<State>>,
    began: Instant,
}

impl World {
    fn new() -> Self {
        let state = State { page: 2, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), began: Instant::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn now(&self) -> Micros {
        START.plus(self.began.elapsed()).plus(self.state().later)
    }

    /// The host has an account at this commit, and says nothing special of it.
    fn theirs(&self, number: u64, rev: u64) {
        self.theirs_with(number, rev, |_| {});
    }

    fn theirs_with(&self, number: u64, rev: u64, change: impl FnOnce(&mut Theirs)) {
        let (did, rev) = (did(number), tid(rev));
        let block = block(&did, rev);
        let mut theirs = Theirs { rev, block, listed: None, status: None, silent: false };
        change(&mut theirs);
        self.state().theirs.insert(did.to_string(), theirs);
    }

    /// We hold an account at this commit.
    fn ours(&self, number: u64, rev: u64) {
        self.ours_with(number, rev, |_| {});
    }

    fn ours_with(&self, number: u64, rev: u64, change: impl FnOnce(&mut Account)) {
        let mut account = account(number, rev);
        change(&mut account);
        self.state().accounts.insert(did(number), account);
    }

    fn owe(&self, newest: Micros) {
        let reason = "OutdatedCursor".to_owned();
        self.state().owed = Some(Owed { whole: true, accounts: 0, newest, reason });
    }

    fn owe_account(&self, number: u64) {
        self.state().owed_accounts.insert(did(number));
    }

    fn start(&self) -> Handle {
        self.start_with(|_| {})
    }

    fn start_with(&self, change: impl FnOnce(&mut Timing)) -> Handle {
        let mut timing = Timing {
            host_interval: Duration::ZERO,
            all_interval: Duration::ZERO,
            recheck: Duration::from_millis(2),
            look: Duration::from_millis(1),
            every: None,
            ..Timing::default()
        };
        change(&mut timing);
        let (host, clock) = (self.clone(), self.clone());
        start(Options {
            ledger: Arc::new(self.clone()),
            fetch: Fetch::new(move |get| {
                let host = host.clone();
                async move { host.answer(&get) }
            }),
            clock: Arc::new(move || clock.now()),
            timing,
        })
    }

    /// A whole pass from its beginning to its end.
    async fn passes(&self) -> Row {
        let handle = self.start();
        self.until("a pass", |state| state.row.as_ref().is_some_and(|row| row.full.at > Micros(0)))
            .await;
        handle.stop();
        self.state().row.clone().unwrap()
    }

    async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition(&self.state()) {
            assert!(Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The accounts that were told of, and what.
    fn told(&self) -> Vec<(u64, Option<u64>, Option<String>)> {
        let told = |(whose, rev, status, _): &(Did, Option<Tid>, Option<Upstream>, Found)| {
            let status = status.as_ref().map(|it| match &it.status {
                Some(status) => status.to_string(),
                None => "active".to_owned(),
            });
            (number(whose), rev.map(|rev| rev.bits() >> 10), status)
        };
        self.state().findings.iter().map(told).collect()
    }

    fn calls(&self, method: &str) -> u32 {
        self.state().calls.get(method).copied().unwrap_or(0)
    }

    // What the host answers.

    fn answer(&self, get: &Get) -> Result<Answer, FetchError> {
        let mut state = self.state();
        let (path, query) = get.url.split_once('?').unwrap();
        let method = path.rsplit('.').next().unwrap().to_owned();
        *state.calls.entry(method.clone()).or_default() += 1;
        if let Some(left) = &mut state.faults.answers {
            *left = left.checked_sub(1).ok_or(FetchError::Timeout)?;
        }
        if state.faults.busy > 0 {
            state.faults.busy -= 1;
            let retry_after = Some(Duration::ZERO);
            return Ok(Answer { retry_after, ..answer(503, Bytes::new()) });
        }
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        if state.faults.hidden.contains(&method[..]) {
            return Ok(refusal(401, "AuthMissing"));
        }
        if method == "listRepos" {
            let json = state.listing(parameter("cursor").unwrap_or_default());
            return Ok(answer(200, json.to_string().into()));
        }
        let did = parameter("did").unwrap().replace("%3A", ":");
        let Some(theirs) = state.theirs.get(&did).cloned() else {
            return Ok(refusal(400, "RepoNotFound"));
        };
        if state.faults.broken.contains(&did) {
            return Ok(answer(500, Bytes::new()));
        }
        let Theirs { rev, block, status, .. } = theirs;
        let cid = Cid::of_cbor(&block);
        let body: Bytes = match (&method[..], status) {
            ("getRepoStatus", _) if state.faults.status_fails => {
                return Ok(answer(500, Bytes::new()));
            }
            ("getRepoStatus", None) => {
                json!({"did": did, "active": true, "rev": rev.to_string()}).to_string().into()
            }
            ("getRepoStatus", Some(status)) => {
                json!({"did": did, "active": false, "status": status}).to_string().into()
            }
            (_, Some("deactivated")) => return Ok(refusal(400, "RepoDeactivated")),
            (_, Some(_)) => return Ok(refusal(400, "RepoTakendown")),
            ("getLatestCommit", None) => {
                json!({"cid": cid.to_string(), "rev": rev.to_string()}).to_string().into()
            }
            ("getBlocks", None) => rootless(&cid, &block),
            ("getRecord" | "getRepo", None) => car::write(&cid, &[(cid, &block)]).into(),
            (method, None) => panic!("nobody asks for {method}"),
        };
        Ok(answer(200, body))
    }
}

impl State {
    fn listing(&self, cursor: &str) -> Value {
        if self.faults.endless {
            let next = cursor.parse::<u64>().unwrap_or(1_000_000) + 1;
            let did = did(next).to_string();
            let row = json!({"did": did, "rev": tid(9).to_string(), "head": "", "active": false});
            return json!({"repos": [row], "cursor": next.to_string()});
        }
        let rows: Vec<(&String, &Theirs)> =
            self.theirs.iter().filter(|(did, _)| did.as_str() > cursor).take(self.page).collect();
        let repos: Vec<Value> = rows
            .iter()
            .map(|(did, theirs)| {
                let (rev, head) = theirs.listed.clone().unwrap_or_else(|| {
                    (theirs.rev.to_string(), Cid::of_cbor(&theirs.block).to_string())
                });
                let active = Some(theirs.status.is_none()).filter(|_| !theirs.silent);
                json!({"did": did, "rev": rev, "head": head, "active": active,
                    "status": theirs.status})
            })
            .collect();
        let last = rows.last().map(|(did, _)| did.to_string());
        match last {
            Some(cursor) => json!({"repos": repos, "cursor": cursor}),
            None if self.faults.circle => {
                let first = self.theirs.keys().next();
                json!({"repos": [{"did": first}], "cursor": first})
            }
            None => json!({"repos": []}),
        }
    }
}

impl Ledger for World {
    async fn hosts(&self, after: Option<HostId>, _: usize) -> Result<Vec<Known>, Gone> {
        let known = self.host(HOST).await?;
        Ok(known.into_iter().filter(|_| after.is_none()).collect())
    }

    async fn host(&self, id: HostId) -> Result<Option<Known>, Gone> {
        let state = self.state();
        if state.stopped {
            return Err(Gone);
        }
        let owed = state.owed.clone().or_else(|| {
            let accounts = u32::try_from(state.owed_accounts.len()).unwrap();
            let (whole, newest, reason) = (false, START, String::new());
            (accounts > 0).then_some(Owed { whole, accounts, newest, reason })
        });
        Ok(Some(Known {
            id,
            name: HostName::parse("pds.example.com", HostRules::Public).unwrap(),
            is_followed: true,
            accounts: u64::try_from(state.accounts.len()).unwrap(),
            row: state.row.clone(),
            owed,
        }))
    }

    fn stream(&self, _: HostId) -> Option<Stream> {
        let now = self.now();
        let mut state = self.state();
        if let Some((did, account)) = state.arriving.take() {
            state.accounts.insert(did, account);
        }
        let seq = (Epoch(0), HostSeq::ZERO);
        let caught_up = if state.is_behind { START } else { now };
        let (state, since) = (HostState::Streaming, START);
        Some(Stream { state, since, caught_up, received: seq, settled: seq })
    }

    async fn held(&self, _: HostId, dids: Vec<Did>) -> Result<Vec<Held>, Gone> {
        let state = self.state();
        let held = |did: &Did| Held {
            account: state.accounts.get(did).cloned(),
            excused: state.excused.get(did).cloned(),
        };
        Ok(dids.iter().map(held).collect())
    }

    async fn owed_accounts(&self, _: HostId, limit: usize) -> Result<Vec<Did>, Gone> {
        Ok(self.state().owed_accounts.iter().take(limit).cloned().collect())
    }

    async fn members(
        &self,
        host: HostId,
        after: Option<Did>,
        _: Micros,
        limit: usize,
    ) -> Result<Members, Gone> {
        let state = self.state();
        let is_here = |account: &Account| {
            account.host == host && account.upstream.status.as_deref() != Some("deleted")
        };
        let all = state.accounts.iter().filter(|(_, account)| is_here(account));
        let left = all.filter(|(did, _)| after.as_ref().is_none_or(|after| *did > after));
        let dids: Vec<Did> = left.map(|(did, _)| did.clone()).take(limit).collect();
        let next = dids.last().filter(|_| dids.len() == limit).cloned();
        Ok(Members { dids, next })
    }

    async fn missing(&self, _: HostId, since: Micros, limit: usize) -> Result<Vec<Did>, Gone> {
        let state = self.state();
        let is_missing = |it: &Excused| (Micros(1)..=since).contains(&it.missing_since);
        let missing = state.excused.iter().filter(|(_, it)| is_missing(it));
        Ok(missing.map(|(did, _)| did.clone()).take(limit).collect())
    }

    async fn owe(&self, _: HostId, dids: Vec<Did>) -> Result<(), Gone> {
        self.state().owed_accounts.extend(dids);
        Ok(())
    }

    async fn keep(&self, _: HostId, row: Row) -> Result<(), Gone> {
        self.state().row = Some(row);
        Ok(())
    }

    async fn excuse(&self, _: HostId, did: Did, excused: Option<Excused>) -> Result<(), Gone> {
        let mut state = self.state();
        match excused {
            Some(excused) => state.excused.insert(did, excused),
            None => state.excused.remove(&did),
        };
        Ok(())
    }

    async fn settle(&self, _: HostId, did: Option<Did>, began: Micros) -> Result<(), Gone> {
        let mut state = self.state();
        match did {
            Some(did) => {
                state.owed_accounts.remove(&did);
            }
            None if state.owed.as_ref().is_none_or(|owed| owed.newest < began) => {
                state.owed = None;
            }
            None => {}
        }
        Ok(())
    }

    async fn submit(&self, finding: Finding) -> Result<Found, Gone> {
        let mut state = self.state();
        let Finding { host, did, commit, status, .. } = finding;
        let news = commit.as_ref().map(|block| Commit::parse(block).unwrap());
        let rev = news.map(|commit| Tid::parse(commit.rev).unwrap());
        let found = match state.refused.get(&did) {
            Some(reject) => Found::Refused(*reject),
            None => {
                let account = state.accounts.entry(did.clone()).or_insert_with(|| account(0, 0));
                account.host = host;
                if let Some(status) = &status {
                    account.upstream = status.clone();
                }
                if let (Some(rev), Some(block)) = (rev, &commit) {
                    let commit = Cid::of_cbor(block).digest;
                    account.repo = Some(Repo { rev, data: [0; 32], commit });
                }
                Found::Repaired
            }
        };
        state.findings.push((did, rev, status, found));
        Ok(found)
    }
}

fn answer(status: u16, body: Bytes) -> Answer {
    Answer { status, server: None, retry_after: None, body }
}

fn refusal(status: u16, name: &str) -> Answer {
    answer(status, json!({"error": name, "message": name}).to_string().into())
}

/// A CAR without roots, as the reference PDS answers `getBlocks`.
fn rootless(cid: &Cid, block: &[u8]) -> Bytes {
    let section = car::write(cid, &[(*cid, block)])[59..].to_vec();
    [&b"\x11\xa2\x65roots\x80\x67version\x01"[..], &section].concat().into()
}

fn did(number: u64) -> Did {
    Did::parse(&format!("did:web:a{number:09}.example.com")).unwrap()
}

fn number(did: &Did) -> u64 {
    did.to_string()[9..18].parse().unwrap()
}

fn tid(number: u64) -> Tid {
    Tid::from_bits(number << 10).unwrap()
}

fn block(did: &Did, rev: Tid) -> Vec<u8> {
    let key = SigningKey::from_secret(Curve::K256, &[7; 32]).unwrap();
    commit::sign(did, rev, &Cid::of_cbor(&rev.bits().to_be_bytes()), &key)
}

fn account(number: u64, rev: u64) -> Account {
    let rev = tid(rev);
    let commit = Cid::of_cbor(&block(&did(number), rev)).digest;
    Account {
        host: HOST,
        epoch: Epoch(0),
        host_seq: HostSeq::ZERO,
        local: Local::None,
        upstream: Upstream::ACTIVE,
        conduct: Conduct::default(),
        repo: (rev.bits() > 0).then_some(Repo { rev, data: [0; 32], commit }),
    }
}

fn inactive(status: &str) -> Upstream {
    Upstream { active: false, status: Some(status.into()) }
}
