//! The same commits through the running pool: what queues, shards and verdicts add, and how it
//! scales with threads.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use protocol::fetch::{Fetch, FetchError};
use protocol::frame::{HostKind, Kind};
use protocol::host::HostRules;
use protocol::ids::{Epoch, HostId, HostSeq};
use protocol::ticket::{Permit, Ticket};
use protocol::tripwire::Tripwire;
use protocol::txt::{Txt, TxtError};
use verifier::identity::PlcLimits;
use verifier::{
    Content, Event, Faults, Handle, Handles, Identity, Lenience, Options, Origin, Outcome,
    Outreach, Recall, Timing, Verdict,
};

use crate::clock;
use crate::samples::{AccountFrames, host_name, identity_of};
use crate::table::{Table, count_f64};
use crate::testing::START;

/// From the first event's submission to the last one's verdict; documents are recalled.
pub(crate) fn scaling(accounts: &[AccountFrames]) -> Table {
    let threads = [1, 2];
    let titles = threads.map(|threads| format!("{threads} threads"));
    let mut table = Table::new("through the pool, median K256", &titles);
    let rounds = threads.map(|threads| {
        let rounds: Vec<_> = (0..ROUNDS).map(|_| round(accounts, threads)).collect();
        let events = count_f64(accounts.iter().map(|account| account.frames.len()).sum());
        let wall = rounds.iter().map(|(wall, _)| *wall).min().unwrap().as_secs_f64();
        let cpu = rounds.iter().map(|(_, cpu)| *cpu).min().unwrap().as_secs_f64();
        (cpu * 1e6 / events, events / wall)
    });
    table.add("CPU of an event, all threads, µs", rounds.iter().map(|round| round.0).collect());
    table.add("events/s", rounds.iter().map(|round| round.1).collect());
    table.add("speed-up", rounds.iter().map(|round| round.1 / rounds[0].1).collect());
    table
}

fn round(accounts: &[AccountFrames], threads: usize) -> (Duration, Duration) {
    let events: usize = accounts.iter().map(|account| account.frames.len()).sum();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let left = Arc::new((Mutex::new(events), Condvar::new()));
    let handle = start(accounts, threads, runtime.handle().clone(), Arc::clone(&left));
    let origins: Vec<Arc<Origin>> = (1..)
        .take(accounts.len())
        .map(|host| Arc::new(Origin::new(HostId(host), host_name(), Lenience::Ratchet, true)))
        .collect();
    let (wall, cpu) = (Instant::now(), clock::process());
    for at in 0..accounts[0].frames.len() {
        for (account, origin) in accounts.iter().zip(&origins) {
            let ticket = Ticket {
                host: origin.host(),
                epoch: Epoch(0),
                seq: HostSeq::new(u64::try_from(at).unwrap() + 1).unwrap(),
                prev: HostSeq::ZERO,
                permit: Permit::free(),
            };
            let (kind, did) = (HostKind::Event(Kind::Commit), Ok(account.repo.did.clone()));
            let content = Content::Event { kind, did, frame: account.frames[at].clone() };
            handle.submit(Event { origin: Arc::clone(origin), ticket, received: START, content });
        }
    }
    let patience = Duration::from_secs(60);
    let waiting = left.0.lock().unwrap();
    let (left, timeout) = left.1.wait_timeout_while(waiting, patience, |left| *left > 0).unwrap();
    assert!(!timeout.timed_out(), "{left} verdicts are missing");
    let used = (wall.elapsed(), clock::process() - cpu);
    drop(left);
    handle.stop();
    used
}

fn start(
    accounts: &[AccountFrames],
    threads: usize,
    runtime: tokio::runtime::Handle,
    left: Arc<(Mutex<usize>, Condvar)>,
) -> Handle {
    let identities: Vec<Identity> =
        accounts.iter().map(|account| identity_of(&account.repo)).collect();
    let recall = Recall {
        identity: Box::new(move |did| {
            identities.iter().find(|identity| identity.did == *did).cloned()
        }),
        ..Recall::nothing()
    };
    let options = Options {
        threads,
        clock: Arc::new(|| START.plus(Duration::from_secs(3600))),
        handles: Handles::Pass,
        rules: HostRules::Public,
        plc_urls: Vec::new(),
        plc_limits: PlcLimits { rate: 1_000, concurrency: 10 },
        intake_bytes: 64 << 20,
        accounts_cached_max: 1000,
        identities_cached_bytes: 1_000_000,
        timing: Timing::default(),
        on_panic: Arc::new(|_| {}),
        faults: Faults::default(),
        tripwire: Tripwire::default(),
    };
    let outreach = Outreach {
        fetch: Fetch::new(|_| async { Err(FetchError::Timeout) }),
        txt: Txt::new(|_| async { Err(TxtError::NotFound) }),
    };
    let out = Arc::new(move |verdicts: Vec<Verdict>| {
        let accepted =
            verdicts.iter().filter(|it| matches!(it.outcome, Outcome::Accept(_))).count();
        *left.0.lock().unwrap() -= accepted;
        left.1.notify_one();
    });
    let settled = (0..threads).map(|_| AtomicU64::new(0)).collect();
    verifier::start(options, outreach, runtime, recall, settled, out)
}

const ROUNDS: usize = 15;
