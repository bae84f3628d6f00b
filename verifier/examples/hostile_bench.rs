//! What judging hostile frames costs, and the largest honest ones: CPU time of every case, beside
//! the SHA-256 of the same bytes in the same run.
//!
//! `cargo run --release -p verifier --example hostile_bench [FILE]`: a table, and the same as JSON
//! into FILE.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no result")]
#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

#[path = "../src/hostile/mod.rs"]
mod hostile;
#[path = "../src/testing.rs"]
mod testing;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use protocol::cid::Cid;
use protocol::did::Did;
use protocol::frame::{self, Peek};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq};
use protocol::reject::Reject;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use testing::START;
use verifier::check::{Case, Proof, check, did_reject};
use verifier::{Handles, Identity, identity};

fn main() {
    let judge = Judge::new();
    let mut rows = Vec::new();
    let mut dear = 0;
    println!("Hostile frames, CPU time of one thread:");
    println!("{:<52} {:>9} {:>9} {:>9} {:>9}  verdict", "case", "bytes", "sha-256", "peek", "all");
    for attack in hostile::attacks() {
        let said = judge.judge(&attack.frame);
        assert_eq!(said, attack.expected, "{}", attack.name);
        let verdict = said.map_or_else(Reject::name, |()| "passes");
        let sha256 = fastest(|| Cid::of_cbor(black_box(&attack.frame)));
        let peek = fastest(|| frame::peek(black_box(&attack.frame)));
        let all = fastest(|| judge.judge(black_box(&attack.frame)));
        let (name, bytes) = (attack.name, attack.frame.len());
        let over = if all > LIMIT { "  OVER" } else { "" };
        println!("{name:<52} {bytes:>9} {sha256:>9.1?} {peek:>9.1?} {all:>9.1?}  {verdict}{over}");
        dear += u32::from(all > LIMIT);
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        rows.push(json!({
            "case": name,
            "bytes": bytes,
            "sha256_us": micros(sha256),
            "peek_us": micros(peek),
            "all_us": micros(all),
            "verdict": verdict,
        }));
    }
    println!("{dear} of {} over {LIMIT:?} of CPU", rows.len());
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(file, json!({ "hostile": rows }).to_string()).unwrap();
    }
}

/// What a relay does with a frame: the crawler's look, and every check.
struct Judge {
    name: HostName,
    identity: Identity,
}

impl Judge {
    fn new() -> Self {
        let repo = hostile::repo();
        let document = repo.document("https://pds.example.com");
        let identity =
            identity::parse_document(document.as_bytes(), &repo.did, HostRules::Public, START);
        let name = HostName::parse("pds.example.com", HostRules::Public).unwrap();
        Self { name, identity: identity.unwrap() }
    }

    fn judge(&self, frame: &Bytes) -> Result<(), Reject> {
        let Ok(Peek::Event { kind, did, .. }) = frame::peek(frame) else {
            return Err(Reject::FrameMalformed);
        };
        let did = Did::parse(did.unwrap()).map_err(did_reject)?;
        let case = Case {
            kind,
            did: &did,
            frame,
            host: HostId(1),
            name: &self.name,
            epoch: Epoch(0),
            seq: HostSeq::new(1).unwrap(),
            received: START,
            proof: Proof::Owed,
            handles: Handles::Pass,
            prior: None,
            synced: None,
            host_is_full: false,
            tombstone_spacing: Duration::from_secs(60),
            now: START.plus(Duration::from_secs(3600)),
        };
        check(&case, &self.identity).map(drop)
    }
}

/// CPU time of the fastest of some rounds: what else the machine does only adds.
fn fastest<T>(work: impl Fn() -> T) -> Duration {
    let round = |_| {
        let start = cpu();
        black_box(work());
        cpu() - start
    };
    (0..ROUNDS).map(round).min().unwrap()
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

const ROUNDS: usize = 15;
/// For a frame of 2 MB, of which the hash alone is a quarter of it.
const LIMIT: Duration = Duration::from_millis(5);
