//! A relay that dies again and again under load, and what is looked at after each death.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadtest::network::{Network, Options};
use loadtest::world::START;
use protocol::did::Did;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::examine::Mover;
use crate::operator::{Desk, TOKEN};
use crate::readers::{Base, Follower, from_zero};
use crate::record::{Read, Record};
use crate::support::{self, PATIENCE, Relay, until};

pub type Shared = Arc<Mutex<Network>>;

/// What is the same in all lives of the relay.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub seed: u64,
    pub durability: &'static str,
    /// Each life has another clock, days off in either direction.
    pub clock_jumps: bool,
    pub cycles: usize,
}

/// How a life of the relay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// By its own hand, at this point.
    At(&'static str),
    /// `kill -9`, at any time.
    Kill,
    /// `kill -9`, before it is ready.
    Early,
}

/// Every way, and how often each point is passed at most before it is the one.
const ENDS: [(End, u64); 18] = [
    (End::At("after-receive"), 150),
    (End::At("after-verify"), 80),
    (End::At("before-commit"), 60),
    (End::At("before-commit"), 20),
    (End::At("in-commit"), 60),
    (End::At("torn-commit"), 60),
    (End::At("torn-commit"), 10),
    (End::At("after-commit"), 60),
    (End::At("before-publish"), 60),
    (End::At("mid-write"), 200),
    (End::At("shutdown-crawler"), 1),
    (End::At("shutdown-verifier"), 1),
    (End::At("shutdown-store"), 1),
    (End::At("shutdown-consumers"), 1),
    (End::Kill, 1),
    (End::Early, 1),
    // Last: there is something to forget by then.
    (End::At("retention-floor"), 1),
    (End::At("retention-drop"), 1),
];

pub struct Trial {
    pub setup: Setup,
    pub network: Shared,
    pub record: Record,
    pub desk: Desk,
    pub live: Follower,
    pub slow: Follower,
    /// What those saw who began at the beginning, since the last examination.
    pub from_zero: Vec<Vec<Read>>,
    pub mover: Mover,
    /// The hosts' cursors as they were last seen.
    pub cursors: Vec<u64>,
    pub dice: Dice,
    folder: tempfile::TempDir,
    base: watch::Sender<Option<String>>,
    pump: JoinHandle<()>,
    pumping: watch::Sender<bool>,
    /// Where hosts, directory and names are.
    network_arguments: Vec<String>,
    /// The furthest that a clock was ahead, in hours.
    ahead_max: u64,
    counts: BTreeMap<End, u32>,
    decisions: u64,
}

/// Draws from a seed.
pub struct Dice(u64);

impl Dice {
    /// A number below this one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % limit
    }
}

impl Trial {
    /// All lives of a relay, one after the other; then everything must be there.
    pub async fn run(setup: Setup) {
        println!("{setup:?}");
        let mut trial = Self::start(setup).await;
        for cycle in 0..setup.cycles {
            let (end, passes) = trial.next_end(cycle);
            let began = Instant::now();
            trial.cycle(end, passes).await;
            println!("{cycle}: {end:?}, {} ms", began.elapsed().as_millis());
        }
        trial.finish().await;
    }

    async fn start(setup: Setup) -> Self {
        let options = Options {
            seed: setup.seed,
            hosts: 3,
            accounts_per_host: 10,
            records_per_account: 20,
            start: START,
            ..Options::default()
        };
        let mut network = Network::start(&options).await.unwrap();
        let reserved: Vec<Did> =
            network.world.accounts()[..4].iter().map(|account| account.did.clone()).collect();
        for (index, did) in reserved.iter().enumerate() {
            network.world.reserve(did);
            let event = network.world.write(index, START);
            network.send(event);
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let network_arguments = vec![
            "--allow-insecure-hosts".to_owned(),
            format!("--plc-url={}", network.plc.url()),
            format!("--dns-server={}", network.dns.address()),
            "--plc-rate=10000".to_owned(),
            "--handles=pass".to_owned(),
            "--verifier-threads=2".to_owned(),
        ];
        let (base, lives) = watch::channel(None);
        let cursors = vec![0; network.hosts.len()];
        let network = Arc::new(Mutex::new(network));
        let (pumping, pump_on) = watch::channel(false);
        let pump = tokio::spawn(pump(Arc::clone(&network), pump_on));
        let followed: Base = lives;
        let mut trial = Self {
            setup,
            network,
            record: Record::new(reserved[..3].iter().map(Did::to_string).collect()),
            desk: Desk::new(&reserved[..3]),
            live: Follower::start("live", followed.clone(), 0),
            slow: Follower::start("slow", followed, SLOW_PACE_US),
            from_zero: Vec::new(),
            mover: Mover::new(reserved[3].clone()),
            cursors,
            dice: Dice(setup.seed),
            folder,
            base,
            pump,
            pumping,
            network_arguments,
            ahead_max: 0,
            counts: BTreeMap::new(),
            decisions: 0,
        };
        trial.first_life().await;
        trial
    }

    /// The hosts become known, and the accounts that things are decided about.
    async fn first_life(&mut self) {
        let names: Vec<String> =
            self.network.lock().await.hosts.iter().map(|host| host.name().to_owned()).collect();
        let hosts = format!("--host={}", names.join(","));
        let relay = self.relay(&["--backfill", &hosts], None);
        self.base.send_replace(Some(relay.base()));
        let (live, slow) = (&self.live, &self.slow);
        until("the first events", async || live.count() >= 4 && slow.count() >= 4).await;
        self.stall(true).await;
        relay.kill();
        self.base.send_replace(None);
        self.examine(None).await;
        self.pumping.send_replace(true);
    }

    /// Each way in turn, in another order each time but for the last two.
    fn next_end(&self, cycle: usize) -> (End, u64) {
        let round = cycle / ENDS.len();
        let mut order: Vec<usize> = (0..ENDS.len() - 2).collect();
        let mut dice = Dice(self.setup.seed ^ ((round as u64) << 32));
        for index in (1..order.len()).rev() {
            order.swap(index, usize::try_from(dice.below(index as u64 + 1)).unwrap());
        }
        order.extend([ENDS.len() - 2, ENDS.len() - 1]);
        ENDS[order[cycle % ENDS.len()]]
    }

    async fn cycle(&mut self, end: End, passes: u64) {
        let is_retention = matches!(end, End::At("retention-floor" | "retention-drop"));
        let mut arguments = Vec::new();
        let clock = if is_retention {
            // Everybody has everything that will be forgotten.
            self.drain().await;
            self.ahead_max += 2;
            arguments.push("--retention=1m".to_owned());
            Some(format!("clock=+{}h", self.ahead_max))
        } else {
            self.clock()
        };
        if let End::At(point) = end {
            let times = self.dice.below(passes) + 1;
            arguments.push(format!("--fault=crash={point}*{times}"));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if end == End::Early {
            self.early(&arguments, clock.as_deref()).await;
        } else {
            let relay = self.relay(&arguments, clock.as_deref());
            self.live_and_die(relay, end).await;
        }
        *self.counts.entry(end).or_default() += 1;
        let floor = self.record.floor;
        // Now and then the next life begins where this one ended, without a look in between.
        if is_retention || end == End::Early || self.dice.below(4) > 0 {
            self.examine(clock.as_deref()).await;
        }
        assert!(!is_retention || self.record.floor > floor, "{end:?}: the floor did not stay");
    }

    /// The wall clock of the next life.
    fn clock(&mut self) -> Option<String> {
        if !self.setup.clock_jumps {
            return None;
        }
        let hours = self.dice.below(24 * 15);
        if hours < 24 * 5 {
            return Some(format!("clock=-{}h", 24 * 5 - hours));
        }
        let ahead = hours - 24 * 5;
        self.ahead_max = self.ahead_max.max(ahead);
        Some(format!("clock=+{ahead}h"))
    }

    /// One that is killed while it starts.
    async fn early(&mut self, arguments: &[&str], clock: Option<&str>) {
        let all = self.arguments(arguments, clock);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut child = support::command(&self.data(), &all).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(self.dice.below(EARLY_MS))).await;
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
    }

    async fn live_and_die(&mut self, mut relay: Relay, end: End) {
        let head = head(&relay).await;
        self.stall(false).await;
        self.base.send_replace(Some(relay.base()));
        let random = self.dice.below(u64::MAX);
        let desk = self.desk.clone();
        let decisions =
            tokio::spawn(desk.work(relay.admin.clone(), Arc::clone(&self.network), random));
        let reading = tokio::spawn(from_zero(relay.base(), head));
        match end {
            End::At(point) if point.starts_with("shutdown") => {
                tokio::time::sleep(Duration::from_millis(100 + self.dice.below(400))).await;
                relay.ask_to_stop();
            }
            End::At(_) => {}
            End::Kill | End::Early => {
                tokio::time::sleep(Duration::from_millis(self.dice.below(800))).await;
                relay.kill_here();
            }
        }
        let status = self.ended(&mut relay, end).await;
        self.stall(true).await;
        self.base.send_replace(None);
        let log = relay.rest_of_log();
        assert_eq!(status.signal(), Some(SIGKILL), "{end:?}: {status}\n{}", log.join("\n"));
        if let End::At(point) = end {
            let is_proof = |line: &&String| {
                line.contains("killed on purpose") && line.contains(&format!("\"{point}\""))
            };
            assert!(log.iter().any(|line| is_proof(&line)), "{point}:\n{}", log.join("\n"));
        }
        let errors: Vec<_> = log.iter().filter(|line| line.contains("\"ERROR\"")).collect();
        assert!(errors.is_empty(), "{errors:?}");
        self.decisions += decisions.await.unwrap();
        let (read, findings) = reading.await.unwrap();
        self.must_be_none(end, &findings);
        self.from_zero.push(read);
    }

    async fn ended(&self, relay: &mut Relay, end: End) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = relay.try_ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "{end:?} does not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A life in which everything arrives that was sent, while nothing more is.
    async fn drain(&mut self) {
        self.pumping.send_replace(false);
        self.slow.set_pace_us(0);
        let clock = self.clock();
        let relay = self.relay(&[], clock.as_deref());
        self.stall(false).await;
        self.base.send_replace(Some(relay.base()));
        let (live, slow, network) = (&self.live, &self.slow, &self.network);
        until("everything is settled and seen", async || {
            let cursors = crate::examine::cursors(&relay).await;
            let network = network.lock().await;
            let is_settled =
                network.hosts.iter().all(|host| cursors.get(host.name()) == Some(&host.seq()));
            drop(network);
            let head = head(&relay).await;
            is_settled && live.cursor() == head && slow.cursor() == head
        })
        .await;
        self.stall(true).await;
        relay.kill();
        self.base.send_replace(None);
        self.slow.set_pace_us(SLOW_PACE_US);
        self.examine(clock.as_deref()).await;
        self.pumping.send_replace(true);
    }

    async fn finish(mut self) {
        self.drain().await;
        self.pump.abort();
        let network = self.network.lock().await;
        let findings = network.oracle.judge(&self.record.witness);
        assert!(findings.is_empty(), "{} findings: {}", findings.len(), findings[0]);
        for follower in [&self.live, &self.slow] {
            assert!(follower.is_complete(&self.record), "a follower lacks the end");
        }
        for (end, count) in &self.counts {
            println!("{count} × {end:?}");
        }
        println!(
            "{} events, {} decisions, {} migrations, seed {}",
            self.record.len(),
            self.decisions,
            self.mover.moves,
            self.setup.seed
        );
        assert!(self.decisions > 0, "no decision was answered");
    }

    /// Starts the relay, with the hosts as they are.
    pub fn relay(&self, arguments: &[&str], clock: Option<&str>) -> Relay {
        let all = self.arguments(arguments, clock);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Relay::start_with(&self.data(), &all)
    }

    /// The folder of all lives.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn arguments(&self, arguments: &[&str], clock: Option<&str>) -> Vec<String> {
        let mut all = self.network_arguments.clone();
        let token = self.folder.path().join("token");
        all.push(format!("--admin-token-file={}", token.display()));
        all.push(format!("--durability={}", self.setup.durability));
        if !arguments.iter().any(|argument| argument.starts_with("--retention")) {
            all.push("--retention=1000days".to_owned());
        }
        all.extend(clock.map(|clock| format!("--fault={clock}")));
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all
    }

    /// Whether the hosts send nothing.
    async fn stall(&self, stalled: bool) {
        let network = self.network.lock().await;
        network.hosts.iter().for_each(|host| host.set_stalled(stalled));
    }

    pub fn must_be_none(&self, after: impl std::fmt::Debug, findings: &[String]) {
        let first: Vec<_> = findings.iter().take(20).collect();
        assert!(
            findings.is_empty(),
            "seed {}, after {after:?}: {} findings: {first:#?}",
            self.setup.seed,
            findings.len()
        );
    }
}

/// The newest seq of the log.
pub async fn head(relay: &Relay) -> u64 {
    let head = relay.metric("mainstem_storage_head_seq").await;
    #[expect(clippy::cast_possible_truncation, reason = "a seq is exact in a float")]
    let head = head as u64;
    head
}

/// Sends the crowd's events at a steady rate whenever it may.
async fn pump(network: Shared, on: watch::Receiver<bool>) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(PUMP_TICK);
    let mut due = 0.0;
    loop {
        ticks.tick().await;
        if !*on.borrow() {
            continue;
        }
        due += RATE * PUMP_TICK.as_secs_f64();
        let mut network = network.lock().await;
        while due >= 1.0 {
            let event = network.world.next_event(START.plus(start.elapsed()));
            network.send(event);
            due -= 1.0;
        }
    }
}

const SIGKILL: i32 = 9;
const RATE: f64 = 250.0;
const PUMP_TICK: Duration = Duration::from_millis(10);
/// At least half of the rate.
const SLOW_PACE_US: u64 = 4_000;
/// A start takes about as long.
const EARLY_MS: u64 = 200;
