//! `make faults`: what a sick PLC directory costs the accounts that the relay knows.
//!
//! 2,000 events/s and a new account with every hundred, while the directory hangs, answers
//! 503, is 5 s slow, or comes and goes; beside a run without a fault, and with a second directory.
//! The relay is a child process, so that its memory is its own. Prints tables; writes JSON to the
//! file that is named as the only argument.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use loadtest::consumers::{self, Event, Received, Subscription, decode};
use loadtest::network::{Network, Options};
use loadtest::plc::{Fault, Plc};
use loadtest::report::{Report, Spread, count_f64};
use loadtest::world::{self, World};
use protocol::did::Did;
use protocol::tripwire::Tripwire;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, sleep};

#[path = "bench/child.rs"]
mod child;

use child::{Relay, now, print};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let reports = runtime.block_on(run())?;
    if let Some(path) = std::env::args_os().nth(1) {
        let all: Vec<Value> = reports.iter().map(Report::json).collect();
        let text = serde_json::to_string_pretty(&Value::from(all))?;
        std::fs::write(&path, text).context("write the JSON")?;
    }
    Ok(())
}

async fn run() -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    let hang = Fault::Hang;
    let slow = Fault::Delay(Duration::from_secs(5));
    let alone = [
        ("no fault", Weather::Steady(Fault::None)),
        ("the directory hangs", Weather::Steady(hang)),
        ("well again", Weather::Steady(Fault::None)),
        ("it answers 503", Weather::Steady(Fault::Status(503))),
        ("it is 5 s slow", Weather::Steady(slow)),
        ("it hangs every other 2 s", Weather::Flapping(hang)),
        ("well again, at last", Weather::Steady(Fault::None)),
    ];
    let mut stage = Stage::start(false).await?;
    for (title, weather) in alone {
        reports.push(stage.phase(title, weather).await?);
    }
    stage.end("one directory").await?;
    let mut stage = Stage::start(true).await?;
    for (title, weather) in [
        ("two directories, no fault", Weather::Steady(Fault::None)),
        ("two directories, the first hangs", Weather::Steady(hang)),
        ("two directories, the first is 5 s slow", Weather::Steady(slow)),
    ] {
        reports.push(stage.phase(title, weather).await?);
    }
    stage.end("two directories").await?;
    Ok(reports)
}

/// What the first directory does during a phase.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Steady(Fault),
    Flapping(Fault),
}

/// A network, a relay on it, and a consumer that notes what arrives.
struct Stage {
    network: Network,
    mirror: Option<Plc>,
    /// The accounts that the relay knows; all others are new.
    known: HashSet<Did>,
    /// The world that new accounts come from: they say that they are there, and nothing more.
    strangers: World,
    folder: tempfile::TempDir,
    relay: Relay,
    log: Arc<Mutex<Log>>,
}

/// Events by name: when they were sent, and what came of them.
#[derive(Default)]
struct Log {
    sent: HashMap<String, (Instant, bool)>,
    known: Vec<Duration>,
    newborn: Vec<Duration>,
}

/// What is looked at while a phase runs.
#[derive(Default)]
struct Highest {
    parked_bytes: f64,
    waiting: f64,
    resident_bytes: u64,
}

impl Stage {
    async fn start(has_mirror: bool) -> anyhow::Result<Self> {
        let options = Options {
            hosts: 10,
            accounts_per_host: 100,
            records_per_account: 50,
            web_accounts: false,
            start: now(),
            ..Options::default()
        };
        let network = Network::start(&options).await?;
        let mirror = if has_mirror { Some(Plc::start().await?) } else { None };
        for account in network.world.accounts() {
            let document = network.world.document(account);
            mirror.iter().for_each(|it| it.put_document(&account.did, document.clone()));
        }
        let folder = tempfile::tempdir()?;
        let mirror_url = mirror.as_ref().map(Plc::url);
        let more = mirror_url.as_deref().map_or_else(Vec::new, |url| vec!["--plc-url", url]);
        let relay = Relay::start(folder.path(), &network, &more)?;
        let log: Arc<Mutex<Log>> = Arc::default();
        let mut subscription = consumers::subscribe(&relay.base, None).await?;
        let noting = Arc::clone(&log);
        tokio::spawn(async move { while note(&mut subscription, &noting).await {} });
        // Everybody speaks once.
        let known: HashSet<Did> =
            network.world.accounts().iter().map(|account| account.did.clone()).collect();
        let times = now();
        for account in network.world.accounts() {
            network.hosts[account.host].append(&account.account_frame(times));
        }
        let strangers = World::new(&world::Options {
            seed: 99,
            hosts: network.world.hosts().to_vec(),
            accounts_per_host: 1,
            records_per_account: 1,
            web_accounts: false,
            start: now(),
        });
        let stage = Self { network, mirror, known, strangers, folder, relay, log };
        let all = count_f64(stage.known.len());
        let began = Instant::now();
        while stage.relay.metric("mainstem_verifier_passed_total{kind=\"account\"}").await? < all {
            ensure!(began.elapsed() < PATIENCE, "the known accounts did not pass");
            sleep(Duration::from_millis(100)).await;
        }
        Ok(stage)
    }

    async fn phase(&mut self, title: &str, weather: Weather) -> anyhow::Result<Report> {
        *lock(&self.log) = Log::default();
        let before = self.relay.metrics().await?;
        let reads_before = self.reads();
        let mut highest = Highest::default();
        let cpu_before = self.relay.usage()?.cpu;
        let (began, sent, births) = self.pump(weather, &mut highest).await?;
        let length = began.elapsed();
        // As long as an event waits for a look-up, and a little.
        let patience = Instant::now() + DRAIN;
        while Instant::now() < patience && lock(&self.log).sent.values().any(|(_, known)| *known) {
            self.look(&mut highest).await?;
            sleep(LOOK).await;
        }
        self.network.plc.set_fault(Fault::None, None);
        let (after, reads) = (self.relay.metrics().await?, self.reads() - reads_before);
        let cpu = (self.relay.usage()?.cpu - cpu_before).as_secs_f64();
        let log = std::mem::take(&mut *lock(&self.log));
        let lost = log.sent.values().filter(|(_, known)| *known).count();
        let mut report = Report::new(format!("{title}: {PHASE_SECONDS} s"));
        let arrived = count_f64(log.known.len() + log.newborn.len());
        report.add("events sent", count_f64(sent) / length.as_secs_f64(), "1/s");
        report.add("commits and syncs delivered", arrived / length.as_secs_f64(), "1/s");
        report.add("known accounts' events not delivered", count_f64(lost), "");
        report.add_spread("latency of known accounts", Spread::of_millis(log.known), "ms");
        report.add("new accounts", count_f64(births), "");
        report.add_spread("latency of new accounts", Spread::of_millis(log.newborn), "ms");
        report.add("parked, at most", highest.parked_bytes / 1024.0, "KiB");
        report.add("parked, limit", 32.0 * 1024.0, "KiB");
        report.add("look-ups that wait their turn, at most", highest.waiting, "");
        report.add("requests to the directories", count_f64(usize::try_from(reads)?), "");
        let resident = usize::try_from(highest.resident_bytes >> 20)?;
        report.add("resident memory, at most", count_f64(resident), "MiB");
        report.add("CPU per event", cpu * 1e6 / count_f64(sent), "us");
        for (name, value) in &after {
            let drops = name.starts_with("mainstem_verifier_dropped_total");
            let by = value - before.get(name).copied().unwrap_or_default();
            if drops && by > 0.0 {
                let reason = name.split('"').nth(1).unwrap_or_default();
                report.add(format!("dropped as {reason}"), by, "");
            }
        }
        print(&format!("{}\n", report.table()))?;
        Ok(report)
    }

    /// Sends at the rate for the length of a phase; what was sent, new accounts among it.
    async fn pump(
        &mut self,
        weather: Weather,
        highest: &mut Highest,
    ) -> anyhow::Result<(Instant, usize, usize)> {
        let began = Instant::now();
        let mut ticks = interval(Duration::from_millis(2));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sent, mut births, mut host) = (0_u32, 0, 0);
        let mut looked = began;
        while began.elapsed() < Duration::from_secs(PHASE_SECONDS) {
            ticks.tick().await;
            self.network.plc.set_fault(weather.at(began.elapsed()), None);
            while f64::from(sent) < began.elapsed().as_secs_f64() * f64::from(RATE) {
                if sent / NEW_ONE_IN >= births {
                    births += 1;
                    host = (host + 1) % self.network.hosts.len();
                    for event in self.strangers.birth(host, now()) {
                        self.send(event);
                        sent += 1;
                    }
                }
                let event = self.network.world.next_event(now());
                if self.known.contains(&event.did) {
                    self.send(event);
                    sent += 1;
                }
            }
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                self.look(highest).await?;
            }
        }
        Ok((began, usize::try_from(sent)?, usize::try_from(births)?))
    }

    fn send(&self, event: world::Event) {
        let is_known = self.known.contains(&event.did);
        if let Some(document) = event.document {
            self.mirror.iter().for_each(|it| it.put_document(&event.did, document.clone()));
            self.network.plc.put_document(&event.did, document);
        }
        if let Some(row) = event.row {
            self.network.hosts[event.host].set_repo(&event.did, row);
        }
        if let Some(name) = name(&Bytes::from(event.frame.with_seq(1))) {
            lock(&self.log).sent.insert(name, (Instant::now(), is_known));
        }
        self.network.hosts[event.host].append(&event.frame);
    }

    async fn look(&self, highest: &mut Highest) -> anyhow::Result<()> {
        let metrics = self.relay.metrics().await?;
        let parked = metrics.get("mainstem_verifier_parked_bytes").copied().unwrap_or_default();
        let waiting = metrics
            .iter()
            .filter(|(name, _)| {
                name.starts_with("mainstem_verifier_upstream_waiting{upstream=\"plc")
            })
            .map(|(_, value)| value)
            .sum();
        highest.parked_bytes = highest.parked_bytes.max(parked);
        highest.waiting = f64::max(highest.waiting, waiting);
        highest.resident_bytes = highest.resident_bytes.max(self.relay.usage()?.resident_bytes);
        Ok(())
    }

    fn reads(&self) -> u64 {
        self.network.plc.reads_all() + self.mirror.as_ref().map_or(0, Plc::reads_all)
    }

    /// Ends the relay and counts what it noted as missed.
    async fn end(self, title: &str) -> anyhow::Result<()> {
        let Self { relay, folder, .. } = self;
        relay.terminate()?;
        let dir = folder.path().to_owned();
        let (hosts, owed, accounts) =
            tokio::task::spawn_blocking(move || gaps(&dir)).await.context("count the gaps")??;
        let text = format!(
            "{title}: {owed} of {hosts} hosts have a gap record, and {accounts} accounts\n\n"
        );
        print(&text)
    }
}

impl Weather {
    fn at(self, elapsed: Duration) -> Fault {
        match self {
            Self::Steady(fault) => fault,
            Self::Flapping(fault) if (elapsed.as_secs() / 2).is_multiple_of(2) => fault,
            Self::Flapping(_) => Fault::None,
        }
    }
}

/// Hosts, those that are owed something, and accounts that are owed by themselves.
fn gaps(dir: &Path) -> anyhow::Result<(usize, usize, usize)> {
    let storage = storage::open(storage::Options {
        dir: dir.to_owned(),
        in_memory: None,
        durability: storage::Durability::Os,
        commit_interval: Duration::from_millis(3),
        retention: Duration::from_secs(3600),
        retention_bytes: None,
        compression: storage::Compression::None,
        tail_bytes: 2 << 20,
        clock: Arc::new(now),
        accept_clock: false,
        tripwire: Tripwire::default(),
        shards: 1,
    })?;
    let hosts = storage.hosts(None, 1_000);
    let (mut owed, mut accounts) = (0, 0);
    for host in &hosts {
        owed += usize::from(storage.gap(host.id)?.is_some());
        accounts += storage.account_gaps(host.id, 100_000)?.len();
    }
    storage.stop()?;
    Ok((hosts.len(), owed, accounts))
}

/// Notes the next message; whether there may be more.
async fn note(subscription: &mut Subscription, log: &Mutex<Log>) -> bool {
    let Ok(Received::Message(message)) = subscription.next().await else { return false };
    let arrived = Instant::now();
    if let Some(name) = name(&message) {
        let mut log = lock(log);
        if let Some((at, is_known)) = log.sent.remove(&name) {
            let latencies = if is_known { &mut log.known } else { &mut log.newborn };
            latencies.push(arrived.duration_since(at));
        }
    }
    true
}

/// What tells a commit or a sync from all others.
fn name(message: &Bytes) -> Option<String> {
    match decode(message).ok()? {
        Event::Frame { did: Some(did), rev: Some(rev), kind, .. } => {
            Some(format!("{did} {rev} {kind:?}"))
        }
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const RATE: u32 = 2_000;
/// A new account with every so many events.
const NEW_ONE_IN: u32 = 100;
const PHASE_SECONDS: u64 = 20;
/// As long as an event waits for a look-up, and a little.
const DRAIN: Duration = Duration::from_secs(17);
const LOOK: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);
