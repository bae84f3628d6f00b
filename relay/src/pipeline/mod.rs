//! The whole data path on one screen: crawler → verifier → storage → fan-out, and back in order.

mod alias;
mod conduct;
mod entry;
mod governor;
mod hosts;
mod intake;
mod recall;
mod reconcile;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use crawler::{Report, Told};
use metrics_exporter_prometheus::PrometheusHandle;
use protocol::host_state::HostState;
use protocol::ids::{HostId, Micros};
use protocol::tripwire::{Point, Tripwire};
use storage::HostNote;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::conduct::Ledger;
pub use self::hosts::{CrawlError, Hosts, HostsError, status};
use crate::admin::{self, Ports, Token};
use crate::api::{self, Api, Lists};
use crate::config::{self, Serve};
use crate::fanout::{self, Fanout};
use crate::headroom;
use crate::outreach;
use crate::plc_export;
use crate::status::Status;
use crate::{fault, metrics, panics, server};

/// A running relay.
pub struct Relay {
    /// The store.
    pub storage: storage::Handle,
    /// The public address.
    pub address: SocketAddr,
    /// The address of the metrics.
    pub metrics_address: SocketAddr,
    /// The address of the admin API, if it is open.
    pub admin_address: Option<SocketAddr>,
    /// Hosts subscribed to at the start.
    pub hosts_at_start: usize,
    /// The hosts, for those who operate it.
    pub hosts: Arc<Hosts>,
    crawler: crawler::Handle,
    verifier: verifier::Handle,
    panics: std::thread::JoinHandle<()>,
    export: Option<JoinHandle<()>>,
    reports: JoinHandle<()>,
    room: JoinHandle<()>,
    governor: JoinHandle<()>,
    aliases: JoinHandle<()>,
    reconcile: crawler::reconcile::Handle,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    consumers: Fanout,
    admin: std::thread::JoinHandle<()>,
    tripwire: Tripwire,
}

type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

impl Relay {
    /// Starts every stage, from the last to the first: whatever comes in finds its way out.
    #[expect(clippy::too_many_lines, reason = "wiring: a straight story without branches")]
    pub async fn start(config: &Serve, recorder: PrometheusHandle) -> anyhow::Result<Self> {
        let (listed, rules) = (config.host_names()?, hosts::Rules::of(config)?);
        let token = config.admin_token_file.as_deref().map(Token::read).transpose()?;
        let clock = fault::clock(&config.faults, clock());
        let tripwire = fault::tripwire(&config.faults, &config.data_dir);
        let (stop, stopped) = watch::channel(false);

        // 4. Out.
        let listener = bind(config.listen)?;
        let metrics_listener = bind(config.metrics_listen)?;
        let admin = token.map(|token| bind(config.admin_listen).map(|socket| (socket, token)));
        let admin = admin.transpose()?;
        let address = listener.local_addr()?;
        let metrics_address = metrics_listener.local_addr()?;
        let admin_address = admin.as_ref().map(|(socket, _)| socket.local_addr()).transpose()?;

        // 3. Order and keep.
        let options = storage_options(config, Arc::clone(&clock), tripwire.clone());
        let storage = tokio::task::spawn_blocking(|| storage::open(options))
            .await
            .context("open the store")?
            .with_context(|| format!("open the store in {}", config.data_dir.display()))?;
        let room =
            headroom::Options { dir: config.data_dir.clone(), bytes: config.disk_headroom.0 };
        let room = tokio::task::spawn_blocking(move || headroom::Watcher::new(room))
            .await
            .context("look for room on the disk")?;
        let consumers = Fanout::start(
            storage.log(),
            fanout::Options { tripwire: tripwire.clone(), ..fanout_options(config) },
            metrics::Fanout::register(),
            stopped.clone(),
        )
        .context("start the threads for replays")?;

        // 2. Check.
        let dialer = outreach::dialer(&outreach::Options {
            rules: config.rules(),
            ca_file: config.ca_file.as_deref(),
            dns_servers: &config.dns_servers,
            trusted_urls: &config.trusted_urls(),
        })?;
        let fetch = outreach::fetcher(Arc::clone(&dialer), &config.user_agent())?;
        let (log, now) = (storage.clone(), Arc::clone(&clock));
        let ledger = Ledger::default();
        let conduct = ledger.clone();
        let (on_panic, panics) = panics::start(&config.data_dir)?;
        let timing = verifier::Timing::default();
        let verifier = verifier::start(
            verifier::Options {
                tripwire: tripwire.clone(),
                ..verifier_options(config, Arc::clone(&clock), timing.clone(), on_panic)
            },
            verifier::Outreach { fetch: fetch.clone(), txt: outreach::txt(&dialer) },
            tokio::runtime::Handle::current(),
            recall::recall(&storage),
            storage.settled(),
            Arc::new(move |verdicts: Vec<verifier::Verdict>| {
                let now = now();
                verdicts.iter().for_each(|verdict| note_conduct(&conduct, verdict, now));
                log.submit(
                    verdicts.into_iter().map(|verdict| entry::entry(verdict, now)).collect(),
                );
            }),
        );

        let coverage = Arc::clone(&timing.coverage);
        let export = config.plc_export.as_ref().map(|url| {
            let options = plc_export::Options {
                url: url.clone(),
                from: config.plc_export_from.into(),
                interval: config.plc_export_interval,
                rules: config.rules(),
                fetch: fetch.clone(),
                clock: Arc::clone(&clock),
                verifier: verifier.clone(),
                storage: storage.clone(),
                headroom: room.headroom(),
                coverage,
            };
            plc_export::start(options)
        });

        // 1. In.
        let (reports_tx, reports_rx) = mpsc::channel(REPORTS_MAX);
        let options = crawler_options(config, dialer, Arc::clone(&clock), tripwire.clone())?;
        let crawler = crawler::start(options, reports_tx);
        let reports = tokio::spawn(forward_reports(reports_rx, storage.clone(), ledger.clone()));
        let stages = hosts::Stages {
            storage: storage.clone(),
            crawler: crawler.clone(),
            verifier: verifier.clone(),
            fetch: fetch.clone(),
            headroom: room.headroom(),
            clock: Arc::clone(&clock),
        };
        let hosts = Arc::new(Hosts::new(stages, rules));
        let stages = reconcile::Stages {
            storage: storage.clone(),
            crawler: crawler.clone(),
            verifier: verifier.clone(),
            hosts: Arc::clone(&hosts),
        };
        let timing = config.reconcile.timing();
        let reconcile = reconcile::start(stages, fetch, Arc::clone(&clock), timing);
        hosts.reconciled_by(reconcile.clone());
        let (fanout, all) = (consumers.clone(), Arc::clone(&hosts));
        let status = Status::start(storage.clone(), fanout, all, stopped.clone());
        let api = Api {
            storage: storage.clone(),
            status,
            lists: Lists::new(storage.clone()),
            fanout: consumers.clone(),
            crawler: crawler.clone(),
            hosts: Arc::clone(&hosts),
            rules: config.rules(),
            proxies: config.trusted_proxies.clone().into(),
            headroom: room.headroom(),
            clock,
        };
        let room = room.start(crawler.clone(), storage.clone());
        let listener = TcpListener::from_std(listener)?;
        let serving = tokio::spawn(server::serve(listener, api::router(api), stopped.clone()));
        let ports = Ports {
            recorder,
            fanout: consumers.clone(),
            storage: storage.clone(),
            headroom: config.disk_headroom.0,
            verifier: verifier.clone(),
            hosts: Arc::clone(&hosts),
            metrics_listener,
            admin,
        };
        let admin = admin::start(ports, stopped)?;
        for name in listed {
            let start = if config.backfill { storage::Start::Oldest } else { storage::Start::Live };
            hosts.list(name, start).await.context("add a listed host")?;
        }
        let hosts_at_start = hosts.subscribe_all().await;
        let governor = governor::start(Arc::clone(&hosts), ledger);
        let aliases = alias::start(Arc::clone(&hosts));
        Ok(Self {
            storage,
            address,
            metrics_address,
            admin_address,
            hosts_at_start,
            hosts,
            crawler,
            verifier,
            panics,
            export,
            reports,
            room,
            governor,
            aliases,
            reconcile,
            stop,
            serving,
            consumers,
            admin,
            tripwire,
        })
    }

    /// Stops in the order of the data's way: stop reading; check what was read; commit it; let
    /// consumers have it; close.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self { storage, crawler, verifier, panics, export, reports, room, .. } = self;
        let Self { governor, aliases, reconcile, stop, serving, .. } = self;
        let Self { consumers, admin, tripwire, .. } = self;
        // It goes on where it was.
        reconcile.stop();
        for task in [room, governor, aliases] {
            task.abort();
        }
        crawler.stop().await;
        tripwire.pass(Point::ShutdownCrawler);
        // What it has read and not noted is read again.
        export.inspect(JoinHandle::abort);
        tokio::task::spawn_blocking(move || verifier.stop()).await.context("stop the verifier")?;
        tripwire.pass(Point::ShutdownVerifier);
        let kept = tokio::task::spawn_blocking(move || panics.join()).await;
        if !matches!(kept, Ok(Ok(()))) {
            tracing::warn!("the keeper of frames did not end in order");
        }
        reports.abort();
        // The log stays readable: what was committed at last still goes out.
        tokio::task::spawn_blocking(move || storage.stop()).await.context("stop the store")??;
        tripwire.pass(Point::ShutdownConsumers);
        stop.send_replace(true);
        consumers.ended(CONSUMERS_END_MAX).await;
        serving.await.context("stop serving")?;
        let admin = tokio::task::spawn_blocking(move || admin.join()).await;
        if !matches!(admin, Ok(Ok(()))) {
            tracing::warn!("the admin port did not end in order");
        }
        Ok(())
    }
}

/// Drops of hostile kinds are held against the host that caused them.
fn note_conduct(ledger: &Ledger, verdict: &verifier::Verdict, now: Micros) {
    if let verifier::Outcome::Reject { reject, host, did, .. } = &verdict.outcome {
        ledger.dropped(*host, did.as_ref(), *reject, now);
    }
}

/// What hosts' tasks report goes into the store; a reset before the first ticket of its epoch.
async fn forward_reports(
    mut reports: mpsc::Receiver<Told>,
    storage: storage::Handle,
    ledger: Ledger,
) {
    while let Some(told) = reports.recv().await {
        let noted = match told.report.clone() {
            Report::State { host, state, reason, at } => {
                tracing::debug!(%host, state = state.name(), %reason, "host");
                note_state(&storage, host, state, reason, at).await
            }
            Report::Meter { host, meter } => {
                storage.note_host(HostNote::Meter { host, meter }).await
            }
            Report::Reset { host, epoch, reason } => {
                tracing::info!(%host, %reason, "host sequence went backwards");
                storage.note_host(HostNote::Reset { host, epoch, reason }).await
            }
            Report::Gap { host, reason } => {
                tracing::info!(%host, %reason, "host has a gap");
                storage.note_host(HostNote::Gap { host, reason }).await
            }
            Report::Dropped { host, reject, excerpt, at } => {
                ledger.dropped(host, None, reject, at);
                // The queue may be full, and waiting for it would hold up this runtime.
                let (storage, entry) =
                    (storage.clone(), entry::frame_reject(host, reject, excerpt, at));
                let submitted =
                    tokio::task::spawn_blocking(move || storage.submit(vec![entry])).await;
                submitted.map_err(|_| storage::Error::Stopped)
            }
        };
        if let Err(error) = noted {
            // The store has failed, and the process ends for that.
            tracing::debug!(%error, "report not taken");
            return;
        }
    }
}

/// The state of a host; what went wrong is kept beyond it.
async fn note_state(
    storage: &storage::Handle,
    host: HostId,
    state: HostState,
    reason: String,
    at: Micros,
) -> Result<(), storage::Error> {
    if matches!(state, HostState::BackingOff | HostState::Refused) {
        let text = reason.clone();
        storage.note_host(HostNote::Error { host, text, at }).await?;
    }
    storage.note_host(HostNote::State { host, state, reason, at }).await
}

fn storage_options(config: &Serve, clock: Clock, tripwire: Tripwire) -> storage::Options {
    storage::Options {
        dir: config.data_dir.clone(),
        in_memory: None,
        durability: match config.durability {
            config::Durability::Fsync => storage::Durability::Fsync,
            config::Durability::Os => storage::Durability::Os,
        },
        commit_interval: config.commit_interval,
        retention: config.retention,
        retention_bytes: fault::log_bytes(&config.faults)
            .or_else(|| config.retention_bytes.map(|size| size.0)),
        compression: config.compression.into(),
        tail_bytes: usize::try_from(config.tail_bytes.0).unwrap_or(usize::MAX),
        clock,
        accept_clock: config.accept_clock,
        shards: config.verifier_threads(),
        tripwire,
    }
}

fn verifier_options(
    config: &Serve,
    clock: Clock,
    timing: verifier::Timing,
    on_panic: verifier::OnPanic,
) -> verifier::Options {
    verifier::Options {
        threads: config.verifier_threads(),
        clock,
        handles: match config.handles {
            config::Handles::Verify => verifier::Handles::Verify,
            config::Handles::Pass => verifier::Handles::Pass,
            config::Handles::Strip => verifier::Handles::Strip,
        },
        rules: config.rules(),
        plc_urls: config.plc_urls.clone(),
        plc_limits: verifier::identity::PlcLimits {
            rate: config.plc_rate,
            concurrency: config.plc_concurrency,
        },
        intake_bytes: config.intake_bytes.0,
        accounts_cached_max: ACCOUNTS_CACHED_MAX,
        identities_cached_bytes: usize::try_from(config.identity_cache_bytes.0)
            .unwrap_or(usize::MAX),
        timing,
        on_panic,
        faults: fault::of_verifier(&config.faults),
        tripwire: Tripwire::default(),
    }
}

fn fanout_options(config: &Serve) -> fanout::Options {
    fanout::Options {
        consumers_max: config.consumers_max,
        consumers_per_address_max: config.consumers_per_address,
        ..fanout::Options::default()
    }
}

fn crawler_options(
    config: &Serve,
    dialer: Arc<outreach::Dialer>,
    clock: Clock,
    tripwire: Tripwire,
) -> anyhow::Result<crawler::Options> {
    let dial = crawler::Dial::new(move |host| {
        let dialer = Arc::clone(&dialer);
        async move { Ok(dialer.dial_host(&host).await?) }
    });
    Ok(crawler::Options {
        clock,
        dial,
        user_agent: config.user_agent().parse().context("build the user agent")?,
        intake_bytes: config.intake_bytes.0,
        dials_max: DIALS_MAX,
        timing: crawler::Timing::default(),
        tripwire,
    })
}

/// "Now is the wall clock at start plus monotonic time": it never jumps while the process runs.
fn clock() -> Clock {
    let start = Instant::now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let wall = Micros::default().plus(wall);
    Arc::new(move || wall.plus(start.elapsed()))
}

fn bind(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listen = || {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        std::io::Result::Ok(socket)
    };
    listen().with_context(|| format!("listen on {address}"))
}

// What may wait for a directory is a part of what may be in flight.
const _: () = assert!(verifier::HOST_EVENTS_MAX == crawler::limits::HOST_EVENTS_MAX as u64);

/// Handshakes with hosts at once: a start with thousands of hosts neither floods the network nor
/// starves the rest of the process.
const DIALS_MAX: usize = 64;
/// Reports under way; a host's task waits for room.
const REPORTS_MAX: usize = 1_024;
/// About 300 bytes each: 60 MB when every account of a busy day is in memory.
const ACCOUNTS_CACHED_MAX: usize = 200_000;
/// Consumers have this long to take the last batch.
const CONSUMERS_END_MAX: Duration = Duration::from_secs(5);
