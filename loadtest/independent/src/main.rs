//! The generator's honest traffic before an implementation that is not ours: `jacquard-repo`.
//!
//! `cargo run --release -- COMMITS SEED`. Each commit is taken as a consumer would take it, from
//! the bytes of its frame, and its ops are undone by the other implementation, which keeps trees in
//! a way of its own. It trusts the hash of each block; ours does not, and tests that elsewhere.
//! Ends with a failure if a commit is refused, or one with another `prevData` is not.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use jacquard_common::types::crypto::PublicKey;
use jacquard_repo::commit::firehose::{FirehoseCommit, validate_v1_0, validate_v1_1};
use jacquard_repo::storage::MemoryBlockStore;
use loadtest::world::{Event, Options, START, World};
use protocol::cbor::{Reader, Rules};
use protocol::did::Did;
use protocol::frame::Kind;
use protocol::ids::Micros;
use smol_str::SmolStr;

type Commit = FirehoseCommit<SmolStr>;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<u64> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let &[commits, seed] = &arguments[..] else { bail!("usage: independent COMMITS SEED") };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut world = World::new(&Options { seed, records_per_account: 150, ..Options::default() });
    let mut keys: HashMap<Did, String> = world
        .accounts()
        .iter()
        .map(|account| (account.did.clone(), key_of(&world.document(account))))
        .collect();
    let mut shapes: BTreeMap<String, u64> = BTreeMap::new();
    let (mut passed, mut refused, mut faults) = (0, 0, Vec::new());
    let mut before = None;
    // A new account's first commit: one in some hundreds, so that none might come by itself.
    let mut births = world.birth(0, START).into_iter();
    for number in 1.. {
        let event =
            births.next().unwrap_or_else(|| world.next_event(Micros(START.0 + number * 1000)));
        if let Some(document) = &event.document {
            keys.insert(event.did.clone(), key_of(document));
        }
        if event.kind != Kind::Commit {
            continue;
        }
        let mut commit = decode(&event)?;
        let key = PublicKey::decode_owned(&keys[&event.did]).context("read the key")?;
        *shapes.entry(shape(&commit)).or_default() += 1;
        match runtime.block_on(judge(&commit, &key)) {
            Ok(()) => passed += 1,
            Err(error) => faults.push(format!("{} {}: {error:#}", event.did, shape(&commit))),
        }
        // The last commit's tree is another account's, or another state of this one.
        if let Some(other) = before.replace(commit.prev_data.clone()).flatten()
            && commit.prev_data.replace(other.clone()).is_some_and(|own| own != other)
        {
            match runtime.block_on(judge(&commit, &key)) {
                Ok(()) => faults.push(format!("{} with another prevData passes", event.did)),
                Err(_) => refused += 1,
            }
        }
        if passed + faults.len() as u64 >= commits {
            break;
        }
    }
    println!("seed {seed}: {passed} commits passed, {refused} damaged ones were refused");
    println!("{shapes:#?}");
    faults.extend(
        SHAPES
            .iter()
            .filter(|shape| !shapes.contains_key(**shape))
            .map(|shape| format!("no commit is of shape '{shape}'")),
    );
    for fault in faults.iter().take(FAULTS_SHOWN) {
        println!("not ok: {fault}");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An account's first commit says nothing about a tree before it.
async fn judge(commit: &Commit, key: &PublicKey<'_>) -> anyhow::Result<()> {
    match &commit.prev_data {
        Some(_) => validate_v1_1(commit, key).await?,
        None => validate_v1_0(commit, None, Arc::new(MemoryBlockStore::new()), key).await?,
    };
    Ok(())
}

/// The payload of a frame, as the other implementation reads it.
fn decode(event: &Event) -> anyhow::Result<Commit> {
    let message = event.frame.with_seq(1);
    let mut reader = Reader::new(&message, Rules::Envelope);
    reader.skip().context("pass by the header")?;
    serde_ipld_dagcbor::from_slice(&message[reader.position()..]).context("read the payload")
}

/// Its actions, each once.
fn shape(commit: &Commit) -> String {
    let mut actions: Vec<String> = commit.ops.iter().map(|op| op.action.to_string()).collect();
    let several = if actions.len() > 1 { "several: " } else { "" };
    actions.sort();
    actions.dedup();
    match (&commit.prev_data, actions.len()) {
        (None, _) => "first".to_owned(),
        (_, 0) => "none".to_owned(),
        _ => format!("{several}{}", actions.join(" ")),
    }
}

fn key_of(document: &serde_json::Value) -> String {
    document["verificationMethod"][0]["publicKeyMultibase"].as_str().unwrap_or_default().to_owned()
}

/// What some hundreds of commits have to hold, or they prove too little.
const SHAPES: [&str; 6] =
    ["first", "create", "delete", "update", "several: create", "several: create delete"];
const FAULTS_SHOWN: usize = 20;
