//! Findings through the whole verifier: their turn among a host's events, their answer, a stop.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::future::{Future as _, pending};
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use protocol::cid::Cid;
use protocol::commit;
use protocol::did::Did;
use protocol::fetch::{Answer, Fetch};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::keys::{Curve, SigningKey};
use protocol::ticket::{Permit, Ticket};
use protocol::tid::Tid;
use protocol::tripwire::Tripwire;
use protocol::txt::{Txt, TxtError};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use verifier::{
    Command, Content, Event, Faults, Finding, Found, Handle, Handles, Lenience, Options, Origin,
    Outcome, Outreach, Recall, Stopped, Timing, Verdict,
};

const NOW: Micros = Micros(1_795_229_250_000_000);
const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

/// What the directory does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directory {
    Answers,
    Hangs,
}

struct World {
    runtime: Runtime,
    handle: Handle,
    origin: Arc<Origin>,
    /// What the shard says; it waits until that is taken.
    said: Receiver<Vec<Verdict>>,
    /// A document was asked for.
    asked: Receiver<()>,
}

fn key() -> SigningKey {
    SigningKey::from_secret(Curve::K256, &[5; 32]).unwrap()
}

fn document() -> String {
    let key = key().public_key().to_multikey();
    format!(
        r##"{{"id":"{DID}","verificationMethod":[{{"id":"{DID}#atproto","type":"Multikey",
        "controller":"{DID}","publicKeyMultibase":"{key}"}}],"service":[{{"id":"#atproto_pds",
        "type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example.com"}}]}}"##
    )
}

fn block() -> Bytes {
    let did = Did::parse(DID).unwrap();
    commit::sign(&did, Tid::from_micros(NOW, 1), &Cid::of_cbor(&[0xa0]), &key()).into()
}

impl World {
    fn new(directory: Directory) -> Self {
        let runtime = Runtime::new().unwrap();
        let (asked_tx, asked): (SyncSender<()>, _) = sync_channel(100);
        let fetch = Fetch::new(move |_| {
            asked_tx.try_send(()).unwrap();
            async move {
                if directory == Directory::Hangs {
                    pending::<()>().await;
                }
                let body = document().into();
                Ok(Answer { status: 200, server: None, retry_after: None, body })
            }
        });
        let options = Options {
            threads: 1,
            clock: Arc::new(|| NOW),
            handles: Handles::Pass,
            rules: HostRules::Public,
            plc_urls: vec!["http://plc".into()],
            plc_limits: verifier::identity::PlcLimits { rate: 1_000, concurrency: 10 },
            intake_bytes: 64 << 20,
            accounts_cached_max: 100,
            identities_cached_bytes: 1_000_000,
            timing: Timing::default(),
            on_panic: Arc::new(|panicked| panic!("{panicked:?}")),
            faults: Faults::default(),
            tripwire: Tripwire::default(),
        };
        let (tx, said) = sync_channel(0);
        let tx = Mutex::new(tx);
        // Whoever does not listen any more has stopped.
        let out = Arc::new(move |verdicts| drop(tx.lock().unwrap().send(verdicts)));
        let txt = Txt::new(|_| async { Err(TxtError::NotFound) });
        let outreach = Outreach { fetch, txt };
        let settled = Arc::new([AtomicU64::new(0)]);
        let of_runtime = runtime.handle().clone();
        let handle =
            verifier::start(options, outreach, of_runtime, Recall::nothing(), settled, out);
        let name = HostName::parse("pds.example.com", HostRules::Public).unwrap();
        let origin = Arc::new(Origin::new(HostId(1), name, Lenience::Ratchet, true));
        Self { runtime, handle, origin, said, asked }
    }

    fn finding(&self) -> Finding {
        let (origin, did) = (Arc::clone(&self.origin), Did::parse(DID).unwrap());
        Finding { origin, did, commit: Some(block()), status: None, seen: NOW }
    }

    fn find(&self) -> JoinHandle<Result<Found, Stopped>> {
        let (handle, finding) = (self.handle.clone(), self.finding());
        self.runtime.spawn(async move { handle.reconcile(finding).await })
    }

    /// An event of the account that is wrong in itself.
    fn send(&self, seq: u64) {
        let ticket = Ticket {
            host: HostId(1),
            epoch: Epoch(0),
            seq: HostSeq::new(seq).unwrap(),
            prev: HostSeq::ZERO,
            permit: Permit::free(),
        };
        let kind = protocol::frame::HostKind::Event(protocol::frame::Kind::Commit);
        let (did, frame) = (Ok(Did::parse(DID).unwrap()), Bytes::from_static(b"nothing"));
        let (origin, content) = (Arc::clone(&self.origin), Content::Event { kind, did, frame });
        self.handle.submit(Event { origin, ticket, received: NOW, content });
    }

    /// The next verdict that somebody waits for, or that has a ticket.
    fn next(&self, spare: &mut Vec<Verdict>) -> Verdict {
        loop {
            let is_telling = |it: &Verdict| it.done.is_some() || it.ticket.is_some();
            if let Some(at) = spare.iter().position(is_telling) {
                return spare.remove(at);
            }
            spare.extend(self.said.recv_timeout(PATIENCE).unwrap());
        }
    }

    fn stop(&self) {
        self.handle.clone().stop();
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_finding_is_answered_when_the_store_has_it() {
    let world = World::new(Directory::Answers);
    let found = world.find();
    let verdict = world.next(&mut Vec::new());
    let Outcome::Accept(accepted) = &verdict.outcome else { panic!("{verdict:?}") };
    assert_eq!(accepted.frames.len(), 1);
    assert!(!found.is_finished());
    verdict.done.unwrap().send(()).unwrap();
    assert_eq!(world.runtime.block_on(found).unwrap(), Ok(Found::Repaired));
    // A command about the account is answered in the same way.
    let handle = world.handle.clone();
    let quota = Command::Quota { did: Did::parse(DID).unwrap(), host: HostId(1), throttled: true };
    let answer = world.runtime.spawn(async move { handle.command(quota).await });
    world.next(&mut Vec::new()).done.unwrap().send(()).unwrap();
    assert_eq!(world.runtime.block_on(answer).unwrap(), Ok(()));
    world.stop();
}

// I4: what is queued of the host goes first, and what comes later goes behind.
#[test]
fn a_finding_takes_its_turn_among_the_events_of_its_host() {
    let world = World::new(Directory::Answers);
    world.send(1);
    // The shard waits for us: the rest comes into its queue in this order.
    world.send(2);
    world.send(3);
    let mut found = pin!(world.handle.reconcile(world.finding()));
    assert!(found.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    world.send(4);
    let mut spare = Vec::new();
    let mut order = Vec::new();
    while order.len() < 5 {
        let Verdict { ticket, done, .. } = world.next(&mut spare);
        order.push(ticket.map(|ticket| ticket.seq.get()));
        if let Some(done) = done {
            done.send(()).unwrap();
        }
    }
    assert_eq!(world.runtime.block_on(found), Ok(Found::Repaired));
    assert_eq!(order, [Some(1), Some(2), Some(3), None, Some(4)]);
    world.stop();
}

#[test]
fn a_finding_in_flight_at_a_stop_is_told_so_and_nothing_is_said_of_it() {
    let world = World::new(Directory::Hangs);
    let found = world.find();
    world.asked.recv_timeout(PATIENCE).unwrap();
    world.stop();
    assert_eq!(world.runtime.block_on(found).unwrap(), Err(Stopped));
    assert!(world.said.try_recv().is_err());
    assert_eq!(world.runtime.block_on(world.find()).unwrap(), Err(Stopped), "nor after it");
}

#[test]
fn a_finding_that_the_store_did_not_take_is_told_so() {
    let world = World::new(Directory::Answers);
    let found = world.find();
    drop(world.next(&mut Vec::new()));
    assert_eq!(world.runtime.block_on(found).unwrap(), Err(Stopped));
    world.stop();
}
