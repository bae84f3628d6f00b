//! What the real PDS sent, through the whole verifier: threads, look-ups, documents and all.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use protocol::fetch::{Answer, Fetch};
use protocol::frame::{self, Outgoing, Peek};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros, Seq};
use protocol::ticket::{Permit, Ticket};
use protocol::tripwire::Tripwire;
use protocol::txt::{Txt, TxtError};
use verifier::{
    Content, Event, Faults, Handle, Handles, Lenience, Options, Origin, Outcome, Outreach, Recall,
    Timing, Verdict,
};

/// Ten minutes after the captures were made.
const NOW: Micros = Micros(1_795_229_250_000_000);

type Said = (u32, u64, Result<Vec<Bytes>, &'static str>);

/// A verifier whose directory answers from the captures, and everything it has said.
struct World {
    handle: Handle,
    said: Arc<(Mutex<Vec<Verdict>>, Condvar)>,
    /// PLC's answers by DID; changed by a test.
    documents: Arc<Mutex<HashMap<String, String>>>,
    origins: HashMap<u32, Arc<Origin>>,
    clock: Arc<Mutex<Micros>>,
}

impl World {
    fn new(runtime: &tokio::runtime::Runtime) -> Self {
        let documents: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let fetch = {
            let documents = Arc::clone(&documents);
            Fetch::new(move |get| {
                let did = get.url.strip_prefix("http://plc/").unwrap().to_owned();
                let document = documents.lock().unwrap().get(&did).cloned();
                let (status, body) = document.map_or((404, String::new()), |body| (200, body));
                let body = body.into();
                async move { Ok(Answer { status, server: None, retry_after: None, body }) }
            })
        };
        let clock = Arc::new(Mutex::new(NOW));
        let options = Options {
            threads: 2,
            clock: {
                let clock = Arc::clone(&clock);
                // Every look at the clock is a millisecond later: what waits comes to its time.
                Arc::new(move || {
                    let mut now = clock.lock().unwrap();
                    *now = now.plus(Duration::from_millis(1));
                    *now
                })
            },
            handles: Handles::Pass,
            rules: HostRules::Insecure,
            plc_urls: vec!["http://plc".into()],
            plc_limits: verifier::identity::PlcLimits { rate: 1_000, concurrency: 10 },
            intake_bytes: 64 << 20,
            accounts_cached_max: 100,
            identities_cached_bytes: 1_000_000,
            timing: Timing {
                refetch_spacing: Duration::from_millis(20),
                retries: [Duration::from_millis(1); 3],
                ..Timing::default()
            },
            on_panic: Arc::new(|panicked| panic!("{panicked:?}")),
            faults: Faults::default(),
            tripwire: Tripwire::default(),
        };
        let said: Arc<(Mutex<Vec<Verdict>>, Condvar)> = Arc::default();
        let out = {
            let said = Arc::clone(&said);
            Arc::new(move |verdicts: Vec<Verdict>| {
                said.0.lock().unwrap().extend(verdicts);
                said.1.notify_all();
            })
        };
        let settled = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let (runtime, recall) = (runtime.handle().clone(), Recall::nothing());
        let txt = Txt::new(|_| async { Err(TxtError::NotFound) });
        let outreach = Outreach { fetch, txt };
        let handle = verifier::start(options, outreach, runtime, recall, settled, out);
        Self { handle, said, documents, origins: HashMap::new(), clock }
    }

    fn document(&self, did: &str, body: String) {
        self.documents.lock().unwrap().insert(did.to_owned(), body);
    }

    fn send(&mut self, host: u32, name: &str, frame: &Bytes) -> u64 {
        let Ok(Peek::Event { kind, seq, did }) = frame::peek(frame) else { panic!("an event") };
        let origin = self.origins.entry(host).or_insert_with(|| {
            let name = HostName::parse(name, HostRules::Insecure).unwrap();
            Arc::new(Origin::new(HostId(host), name, Lenience::Ratchet, true))
        });
        let seq = seq.unwrap();
        let ticket = Ticket {
            host: HostId(host),
            epoch: Epoch(0),
            seq: HostSeq::new(seq).unwrap(),
            prev: HostSeq::ZERO,
            permit: Permit::free(),
        };
        let did = protocol::did::Did::parse(did.unwrap());
        let content = Content::Event { kind, did, frame: frame.clone() };
        let received = *self.clock.lock().unwrap();
        self.handle.submit(Event { origin: Arc::clone(origin), ticket, received, content });
        seq
    }

    /// Waits until `count` tickets have come back; all that was said since the last call.
    fn said(&self, count: usize) -> Vec<Said> {
        let done = |verdicts: &mut Vec<Verdict>| {
            verdicts.iter().filter(|verdict| verdict.ticket.is_some()).count() < count
        };
        let verdicts = self.said.0.lock().unwrap();
        let patience = Duration::from_secs(60);
        let (mut verdicts, timeout) =
            self.said.1.wait_timeout_while(verdicts, patience, done).unwrap();
        assert!(!timeout.timed_out(), "{verdicts:?}");
        std::mem::take(&mut *verdicts).into_iter().filter_map(said).collect()
    }
}

fn said(verdict: Verdict) -> Option<Said> {
    let ticket = verdict.ticket?;
    let seq = ticket.seq.get();
    let what = match verdict.outcome {
        Outcome::Accept(accepted) => {
            Ok(accepted.frames.iter().map(|frame| wire(frame, seq)).collect())
        }
        Outcome::Reject { reject, .. } => Err(reject.name()),
        other => panic!("an event is accepted or dropped: {other:?}"),
    };
    Some((ticket.host.0, seq, what))
}

fn wire(frame: &Outgoing, seq: u64) -> Bytes {
    let mut out = Vec::new();
    frame.write_with(Seq::new(seq).unwrap(), &mut out);
    out.into()
}

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/vectors/pds-captures")
}

/// The events of a capture, in order.
fn frames(name: &str) -> Vec<Bytes> {
    let files = fs::read_dir(captures().join(name)).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
    paths.sort();
    let frames = paths.iter().map(|path| Bytes::from(fs::read(path).unwrap()));
    let frames: Vec<_> =
        frames.filter(|it| matches!(frame::peek(it), Ok(Peek::Event { .. }))).collect();
    assert!(!frames.is_empty(), "{name}");
    frames
}

/// The directory's entry: the document of today, and the operations that led to it.
fn plc(id: &str) -> serde_json::Value {
    let path = captures().join("plc").join(format!("{id}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn all_that_a_real_pds_sends_passes_byte_for_byte() {
    let runtime = runtime();
    let mut world = World::new(&runtime);
    let frames = frames("live");
    for file in fs::read_dir(captures().join("plc")).unwrap() {
        let id = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        let document = plc(&id)["doc"].clone();
        world.document(document["id"].as_str().unwrap(), document.to_string());
    }
    let seqs: Vec<u64> =
        frames.iter().map(|frame| world.send(1, "http://localhost:2583", frame)).collect();
    let mut said = world.said(frames.len());
    said.sort_by_key(|(_, seq, _)| *seq);
    for ((frame, seq), said) in frames.iter().zip(seqs).zip(said) {
        assert_eq!(said, (1, seq, Ok(vec![frame.clone()])));
    }
    // All of it again, after a reconnect.
    for frame in &frames {
        world.send(1, "http://localhost:2583", frame);
    }
    for (_, seq, what) in world.said(frames.len()) {
        assert_eq!(what, Err("already_applied"), "{seq}");
    }
    world.handle.stop();
}

#[test]
fn a_real_migration_is_followed() {
    let runtime = runtime();
    let mut world = World::new(&runtime);
    let entry = plc("3x74pdxkomd4ac4gvzkm3ffd");
    let did = entry["doc"]["id"].as_str().unwrap().to_owned();
    // The document as it was before: the first operation's key and host.
    let first = &entry["audit"][0]["operation"];
    let key = |text: &serde_json::Value| text.as_str().unwrap().replace("did:key:", "");
    let after = entry["doc"].to_string();
    let before = after
        .replace(
            &key(&entry["audit"][1]["operation"]["verificationMethods"]["atproto"]),
            &key(&first["verificationMethods"]["atproto"]),
        )
        .replace("http://localhost:2584", "http://localhost:2583");
    assert_ne!(before, after);

    world.document(&did, before);
    let (old, new) = (frames("migrate-A"), frames("migrate-B"));
    // The old host's last two come after the move: a write that it still took, its deactivation.
    let (old, late) = old.split_at(old.len() - 2);
    for frame in old {
        world.send(1, "http://localhost:2583", frame);
    }
    for (said, frame) in world.said(old.len()).into_iter().zip(old) {
        assert_eq!(said.2, Ok(vec![frame.clone()]));
    }
    world.document(&did, after);
    for frame in &new {
        world.send(2, "http://localhost:2584", frame);
    }
    let said: Vec<_> = world.said(new.len()).into_iter().map(|(.., what)| what).collect();
    assert_eq!(
        said,
        [
            Ok(vec![new[0].clone()]),
            Ok(vec![new[1].clone()]),
            Err("commit_rev_mismatch"),
            Ok(vec![new[3].clone()]),
        ]
    );
    for frame in late {
        world.send(1, "http://localhost:2583", frame);
    }
    let said: Vec<_> = world.said(late.len()).into_iter().map(|(.., what)| what).collect();
    assert_eq!(said, [Err("rev_not_newer"), Err("wrong_host")]);
    world.handle.stop();
}

#[test]
fn a_stop_judges_what_is_queued_and_abandons_what_waits() {
    let runtime = runtime();
    let mut world = World::new(&runtime);
    // Nobody knows these accounts: their events wait, until the stop.
    let frames = frames("live");
    for frame in &frames {
        world.send(1, "http://localhost:2583", frame);
    }
    let said = Arc::clone(&world.said);
    world.handle.clone().stop();
    world.handle.submit(Event {
        origin: Arc::clone(&world.origins[&1]),
        ticket: Ticket {
            host: HostId(1),
            epoch: Epoch(0),
            seq: HostSeq::ZERO,
            prev: HostSeq::ZERO,
            permit: Permit::free(),
        },
        received: NOW,
        content: Content::Passed,
    });
    let verdicts = std::mem::take(&mut *said.0.lock().unwrap());
    for (_, seq, what) in verdicts.into_iter().filter_map(self::said) {
        assert_eq!(what, Err("identity_unresolved"), "{seq}: settled only if judged");
    }
}
