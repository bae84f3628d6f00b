//! The whole fake network in one piece: a world, the hosts that send its events, the directory
//! that vouches for them, and the oracle that knows what consumers must see of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use protocol::did::Did;
use protocol::ids::Micros;
use tokio::time::{Instant, MissedTickBehavior};

use crate::dns::Dns;
use crate::hosts::{self, Host};
use crate::oracle::Oracle;
use crate::plc::{Fault, Plc};
use crate::wire::Frame;
use crate::world::account::Account;
use crate::world::lies::{Deed, Directory, Expect, HostAnswer, RelayDeed, Specimen, Step};
use crate::world::migration::Migration;
use crate::world::{self, Event, World};

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the world comes from. With `port` zero the hosts' names, and so the documents (but
    /// no frame of a `did:plc`), differ from run to run.
    pub seed: u64,
    /// Number of hosts.
    pub hosts: usize,
    /// The first host's port, the others follow; zero: any free ones.
    pub port: u16,
    /// See [`world::Options::accounts_per_host`].
    pub accounts_per_host: usize,
    /// See [`world::Options::records_per_account`].
    pub records_per_account: usize,
    /// See [`world::Options::web_accounts`].
    pub web_accounts: bool,
    /// When the world starts.
    pub start: Micros,
}

impl Default for Options {
    fn default() -> Self {
        let world = world::Options::default();
        Self {
            seed: world.seed,
            hosts: 3,
            port: 0,
            accounts_per_host: world.accounts_per_host,
            records_per_account: world.records_per_account,
            web_accounts: world.web_accounts,
            start: world.start,
        }
    }
}

/// A running fake network.
pub struct Network {
    /// Who lives in it.
    pub world: World,
    /// Its hosts, in the world's order.
    pub hosts: Vec<Host>,
    /// Its directory.
    pub plc: Plc,
    /// Its name server: it says whose the accounts' handles are.
    pub dns: Dns,
    /// What consumers must see of everything sent so far.
    pub oracle: Oracle,
    sent: Arc<AtomicU64>,
    /// The time of the next event when no clock is handed in.
    clock: Micros,
}

impl Network {
    /// Starts the servers and draws the world. Nothing is sent yet.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let mut hosts = Vec::with_capacity(options.hosts);
        for index in 0..options.hosts {
            let port = match options.port {
                0 => 0,
                first => first + u16::try_from(index).context("number of hosts")?,
            };
            hosts.push(Host::start(hosts::Options { port, name: None }).await?);
        }
        let plc = Plc::start().await?;
        let dns = Dns::start().await?;
        let world_options = world::Options {
            seed: options.seed,
            hosts: hosts.iter().map(|host| host.name().to_owned()).collect(),
            accounts_per_host: options.accounts_per_host,
            records_per_account: options.records_per_account,
            web_accounts: options.web_accounts,
            start: options.start,
        };
        // Drawing a large world takes seconds of CPU, for which servers need not wait.
        let world = tokio::task::spawn_blocking(move || World::new(&world_options))
            .await
            .context("draw the world")?;
        let network = Self {
            world,
            hosts,
            plc,
            dns,
            oracle: Oracle::default(),
            sent: Arc::default(),
            clock: options.start,
        };
        for account in network.world.accounts() {
            network.publish(&account.did, account.host, network.world.document(account));
            if let Some(row) = account.row() {
                network.hosts[account.host].set_repo(&account.did, row);
            }
        }
        Ok(network)
    }

    /// Sends one event: its document first, then the frame. The host's seq of it.
    pub fn send(&mut self, event: Event) -> u64 {
        if let Some(document) = event.document {
            self.publish(&event.did, event.host, document);
        }
        let host = &self.hosts[event.host];
        if let Some(row) = event.row {
            host.set_repo(&event.did, row);
        }
        if event.seqs_skipped > 0 {
            host.skip(event.seqs_skipped);
        }
        self.say(event.host, &event.did, &event.frame)
    }

    /// Moves a reserved account to another host, which says all that it has to say of it; what the
    /// old host still says is left to the caller, and must be dropped if the new one was heard.
    pub fn migrate(&mut self, did: &Did, host: usize) -> Migration {
        let migration = self.world.migrate(did, host, self.clock);
        self.publish(did, host, migration.document.clone());
        if let Some(row) = self.world.account(did).and_then(Account::row) {
            self.hosts[host].set_repo(did, row);
        }
        let [account, identity, unsigned, first] = &migration.new;
        for frame in [account, identity] {
            self.say(host, did, frame);
        }
        self.hosts[host].append(unsigned);
        for frame in [first, &migration.later] {
            self.say(host, did, frame);
        }
        migration
    }

    /// A host sends a frame that must pass.
    fn say(&mut self, host: usize, did: &Did, frame: &Frame) -> u64 {
        let seq = self.hosts[host].seq() + 1;
        self.oracle.expect_from(host, seq, did, frame);
        assert_eq!(self.hosts[host].append(frame), seq, "nobody else appends to it");
        self.sent.fetch_add(1, Ordering::Relaxed);
        seq
    }

    /// Sends the crowd's next `count` events, a millisecond of the world's time apart.
    pub fn send_next(&mut self, count: usize) {
        for _ in 0..count {
            self.clock = self.clock.plus(Duration::from_millis(1));
            let event = self.world.next_event(self.clock);
            self.send(event);
        }
    }

    /// Sends the crowd's events at a steady rate for this long, in the clock's time.
    pub async fn pump(&mut self, rate: f64, length: Duration, clock: impl Fn() -> Micros) {
        let start = Instant::now();
        let mut ticks = tokio::time::interval(PUMP_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = 0.0;
        while start.elapsed() < length {
            ticks.tick().await;
            let due = start.elapsed().min(length).as_secs_f64() * rate;
            while sent < due {
                self.clock = Micros(clock().0.max(self.clock.0));
                let event = self.world.next_event(self.clock);
                self.send(event);
                sent += 1.0;
                tokio::task::consume_budget().await;
            }
        }
    }

    /// Events sent so far, to be read while the pump runs.
    pub fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// Draws all specimens that are frames alone, and puts what directory and hosts answer about
    /// their accounts. Nothing of them is sent yet.
    pub fn specimens(&mut self) -> Vec<Specimen> {
        let specimens = self.world.specimens(self.clock);
        specimens.iter().for_each(|specimen| self.vouch(specimen));
        specimens
    }

    /// As [`Network::specimens`], of those that need a relay for themselves.
    pub fn ordeals(&mut self) -> Vec<Specimen> {
        let ordeals = self.world.ordeals(self.clock);
        ordeals.iter().for_each(|ordeal| self.vouch(ordeal));
        ordeals
    }

    /// Sends all of a specimen's frames; the oracle learns of those that must pass.
    ///
    /// # Panics
    /// If it is more than frames.
    pub fn send_specimen(&mut self, specimen: &Specimen) {
        for step in &specimen.steps {
            let left = self.perform(specimen, step);
            assert_eq!(left, None, "{}: frames alone", specimen.name);
        }
    }

    /// Does one step of a specimen; the oracle learns of what must pass. What is the relay's to
    /// do is given back.
    pub fn perform(&mut self, specimen: &Specimen, step: &Step) -> Option<RelayDeed> {
        for expect in &step.expect {
            match expect {
                Expect::Pass(frame) => self.oracle.expect_frame(frame),
                Expect::Announce { active, status } => {
                    self.oracle.expect_account(&specimen.did, *active, *status);
                }
                Expect::Drop(_) => {}
            }
        }
        if step.frame().is_some() {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        match &step.deed {
            Deed::Send { host, frame } => {
                self.hosts[*host].append(frame);
            }
            Deed::SendStale { host, frame } => {
                let host = &self.hosts[*host];
                host.append_as(host.seq(), frame);
            }
            Deed::SendText { host } => self.hosts[*host].append_text("hello"),
            Deed::Directory { did, answer } => self.answer(did, answer),
            Deed::DirectoryHangs { did: Some(did) } => self.plc.set_fault(Fault::Hang, Some(did)),
            Deed::DirectoryHangs { did: None } => self.plc.set_fault(Fault::None, None),
            Deed::Host(answer) => {
                let (host, did) = (&self.hosts[specimen.home], &specimen.did);
                match answer {
                    HostAnswer::Row(row) => host.set_repo(did, row.clone()),
                    HostAnswer::NotFound => host.forget_repo(did),
                    HostAnswer::Status(status) => host.refuse_repo(did, *status),
                }
            }
            Deed::Relay(deed) => return Some(*deed),
        }
        None
    }

    /// What the directory answers about a DID from here on, and the name server about its handle.
    fn answer(&self, did: &Did, answer: &Directory) {
        self.plc.put(did, answer.clone());
        if let Directory::Document(document) = answer {
            self.announce(did, document);
        }
    }

    /// What directory and host answer about a specimen's account at first.
    fn vouch(&self, specimen: &Specimen) {
        self.answer(&specimen.did, &specimen.directory);
        match &specimen.row {
            Some(row) => self.hosts[specimen.home].set_repo(&specimen.did, row.clone()),
            None => self.hosts[specimen.home].forget_repo(&specimen.did),
        }
    }

    fn publish(&self, did: &Did, host: usize, document: serde_json::Value) {
        self.announce(did, &document);
        match did.web_host() {
            Some(_) => self.hosts[host].set_web_document(document),
            None => self.plc.put_document(did, document),
        }
    }

    /// Lets the document's handle resolve.
    fn announce(&self, did: &Did, document: &serde_json::Value) {
        let handle =
            document["alsoKnownAs"][0].as_str().and_then(|name| name.strip_prefix("at://"));
        if let Some(handle) = handle {
            self.dns.put_handle(handle, did);
        }
    }
}

/// Fine enough that a rate of thousands comes in small portions.
const PUMP_TICK: Duration = Duration::from_millis(2);
