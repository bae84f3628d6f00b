//! A world from a seed: accounts with keys and repos, and the events that they cause.
//!
//! It has no clock, no socket and no randomness but its seed: the same seed, host names and
//! times give the same bytes.

pub mod account;
pub mod migration;
pub mod record;
pub mod repo;
pub mod shelf;
pub mod traffic;

pub mod lies;

use std::collections::VecDeque;

use protocol::did::Did;
use protocol::frame::Kind;
use protocol::ids::Micros;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::wire::Frame;
use account::{Account, RepoRow};
use record::Collection;

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything comes from.
    pub seed: u64,
    /// Names of the hosts, `localhost:PORT`.
    pub hosts: Vec<String>,
    /// Accounts on each host from the start.
    pub accounts_per_host: usize,
    /// Records of an account at the start, in the mean. Hundreds make proofs, and so frames, as
    /// large as the live network's.
    pub records_per_account: usize,
    /// Whether the first account of each host is its `did:web`.
    pub web_accounts: bool,
    /// When it starts. No event is earlier.
    pub start: Micros,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            hosts: vec!["localhost:4100".to_owned()],
            accounts_per_host: 50,
            records_per_account: 300,
            web_accounts: false,
            start: START,
        }
    }
}

/// 2025-01-01T00:00:00Z: before any clock that runs this, so that no revision is in the future.
pub const START: Micros = Micros(1_735_689_600_000_000);

/// One event, to be appended by its host.
#[derive(Clone, Debug)]
pub struct Event {
    /// The host that sends it: an index into [`Options::hosts`].
    pub host: usize,
    /// The account.
    pub did: Did,
    /// What it is.
    pub kind: Kind,
    /// The frame.
    pub frame: Frame,
    /// Host seqs that nothing stands under, just before this event. Such gaps are normal.
    pub seqs_skipped: u64,
    /// The DID document that must be in place before the event is sent, if it changed.
    pub document: Option<serde_json::Value>,
    /// What the host answers about the account from here on.
    pub row: Option<RepoRow>,
}

/// Accounts, and where their traffic stands.
pub struct World {
    hosts: Vec<String>,
    accounts: Vec<Account>,
    rng: ChaCha8Rng,
    /// The last moment given out. Every event has its own, so that revisions rise.
    clock: Micros,
    /// The rest of an occurrence that is several events, in order.
    pending: VecDeque<Event>,
    /// Accounts from this index on belong to specimens, and no traffic touches them.
    crowd: usize,
}

impl World {
    /// Draws the accounts and their history.
    pub fn new(options: &Options) -> Self {
        assert!(!options.hosts.is_empty(), "a world has a host");
        let mut world = Self {
            hosts: options.hosts.clone(),
            accounts: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(options.seed),
            clock: options.start,
            pending: VecDeque::new(),
            crowd: 0,
        };
        for number in 0..options.accounts_per_host * options.hosts.len() {
            let host = number % options.hosts.len();
            let is_web = options.web_accounts && number < options.hosts.len();
            let did = match is_web {
                true => account::web_did(&options.hosts[host]),
                false => account::draw_plc(&mut world.rng),
            };
            world.accounts.push(Account::new(&mut world.rng, did, number, host));
            world.give_history(number, options.records_per_account);
        }
        world.crowd = world.accounts.len();
        world
    }

    /// All accounts, those of specimens last.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The account of a DID.
    pub fn account(&self, did: &Did) -> Option<&Account> {
        self.accounts.iter().find(|account| account.did == *did)
    }

    /// The hosts' names.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The DID document of an account.
    pub fn document(&self, account: &Account) -> serde_json::Value {
        account.document(&self.hosts)
    }

    /// A new account of the crowd as the reference PDS announces it: four events, the first of
    /// which carries its DID document.
    pub fn birth(&mut self, host: usize, now: Micros) -> Vec<Event> {
        assert_eq!(self.crowd, self.accounts.len(), "specimens are drawn after the crowd");
        let index = self.adopt(host);
        self.crowd += 1;
        self.announce(index, now)
    }

    /// Adds an account without history, of which nothing was sent.
    fn adopt(&mut self, host: usize) -> usize {
        let number = self.accounts.len();
        let did = account::draw_plc(&mut self.rng);
        self.accounts.push(Account::new(&mut self.rng, did, number, host));
        number
    }

    /// Takes an account of the crowd out of its traffic: what it does is up to whoever calls.
    pub fn reserve(&mut self, did: &Did) {
        let account = self.accounts.iter_mut().find(|account| account.did == *did);
        account.expect("an account of this world").is_reserved = true;
    }

    /// The four events of a new account.
    fn announce(&mut self, index: usize, now: Micros) -> Vec<Event> {
        let times = [now; 4].map(|now| self.tick(now));
        let frames = self.accounts[index].birth(times);
        let kinds = [Kind::Identity, Kind::Account, Kind::Commit, Kind::Sync];
        let account = &self.accounts[index];
        let mut events: Vec<Event> =
            kinds.into_iter().zip(frames).map(|(kind, frame)| account.event(kind, frame)).collect();
        events[0].document = Some(account.document(&self.hosts));
        events
    }

    /// Fills a repo with records, so many in the mean, from the days before the world starts.
    fn give_history(&mut self, index: usize, mean: usize) {
        let count = self.rng.random_range(mean / 2..=mean + mean / 2);
        let profile = record::profile(&mut self.rng);
        self.accounts[index].repo.seed(record::PROFILE.to_owned(), &profile);
        for _ in 0..count {
            let time = Micros(self.clock.0 - self.rng.random_range(1..HISTORY_MICROS));
            let collection = Collection::draw(&mut self.rng);
            let about = self.accounts[self.rng.random_range(0..self.accounts.len())].did.clone();
            let record = collection.record(&mut self.rng, &about, time);
            let rkey = protocol::tid::Tid::from_micros(time, repo::CLOCK_ID);
            self.accounts[index].repo.seed(collection.path(rkey), &record);
        }
        let time = self.tick(self.clock);
        let Account { did, key, repo, .. } = &mut self.accounts[index];
        repo.seal(did, key, time);
    }

    /// A moment of its own, not before `now`.
    fn tick(&mut self, now: Micros) -> Micros {
        self.clock = Micros(now.0.max(self.clock.0 + 1));
        self.clock
    }
}

/// History reaches back 400 days.
const HISTORY_MICROS: u64 = 400 * 24 * 3600 * 1_000_000;
