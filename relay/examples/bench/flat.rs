//! As fast as it goes: from the hosts' first event, and from the log.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use loadtest::consumers::{self, Received, Subscription};
use loadtest::network::Network;
use loadtest::readers::{Options, Readers};
use loadtest::report::{Report, count_f64};
use protocol::car;
use protocol::commit::Commit;
use protocol::frame::CommitFrame;
use protocol::keys::{Curve, PublicKey, SigningKey};
use sha2::{Digest as _, Sha256};

use super::child::Relay;
use super::{live, raw};

/// The relay reads all hosts from their first event as fast as it can.
pub(crate) async fn flat_out(
    relay: &Relay,
    network: &Network,
    report: &mut Report,
) -> anyhow::Result<Vec<Bytes>> {
    let expected = usize::try_from(network.oracle.frames())?;
    let mut subscription = consumers::subscribe(&relay.base, Some(0)).await?;
    let start = relay.usage()?;
    let began = Instant::now();
    let mut messages = Vec::with_capacity(expected);
    while messages.len() < expected {
        messages.push(next(&mut subscription).await?);
    }
    let (end, wall) = (relay.usage()?, began.elapsed());
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    let events = count_f64(expected);
    report.add("frame, mean", count_f64(bytes) / events, "bytes");
    report.add(CPU_PER_EVENT, end.cpu.as_secs_f64() * 1e6 / events, "us");
    report.add("CPU before the first event", start.cpu.as_secs_f64() * 1e3, "ms");
    report.add("events", events / wall.as_secs_f64(), "1/s");
    report.add("cores in use", (end.cpu - start.cpu).as_secs_f64() / wall.as_secs_f64(), "");
    report.add("resident memory", count_f64(usize::try_from(end.resident_bytes >> 20)?), "MiB");
    let commits = relay.metric(&format!("{COMMITS}_count")).await?;
    report.add("events of a commit, mean", events / commits.max(1.0), "");
    Ok(messages)
}

/// What nobody can leave out: of a commit its signature and a hash of its blocks; of an event
/// three copies (in from the socket, into the log, out to a socket) and its share of an fsync.
/// Their sum in µs.
pub(crate) fn unavoidable(
    network: &Network,
    messages: &[Bytes],
    report: &mut Report,
) -> anyhow::Result<f64> {
    let commits: Vec<CommitFrame<'_>> = messages
        .iter()
        .filter_map(|message| CommitFrame::decode(message).ok())
        .take(PRIMITIVES_MAX)
        .collect();
    let mut keys = HashMap::new();
    for account in network.world.accounts() {
        let document = network.world.document(account);
        let key = document["verificationMethod"][0]["publicKeyMultibase"].as_str();
        let key = PublicKey::from_multikey(key.context("the document has a key")?)?;
        keys.insert(account.did.to_string(), key);
    }
    let mut signed = Vec::new();
    for commit in &commits {
        let (root, blocks) = car::read(commit.blocks).context("read a CAR")?;
        let block = blocks.get_link(&root).context("find the commit")?;
        let inner = Commit::parse(block).context("parse the commit")?;
        if let Some(key) = keys.get(commit.repo) {
            signed.push((key, inner.unsigned_digest, inner.signature));
        }
    }
    let micros_each = |began: Duration, count: usize| {
        (raw::thread_cpu() - began).as_secs_f64() * 1e6 / count_f64(count)
    };
    let began = raw::thread_cpu();
    let valid = signed.iter().filter(|(key, digest, sig)| key.verify(digest, sig).is_ok()).count();
    let signature = micros_each(began, signed.len());
    ensure!(valid * 100 >= signed.len() * 99, "{valid} of {} signatures verify", signed.len());
    let began = raw::thread_cpu();
    for commit in &commits {
        black_box(Sha256::digest(commit.blocks));
    }
    let hash = micros_each(began, commits.len());
    let began = raw::thread_cpu();
    let mut place = vec![0; messages.iter().map(Bytes::len).max().unwrap_or(0)];
    for message in messages {
        for _ in 0..COPIES {
            black_box(&mut place)[..message.len()].copy_from_slice(message);
        }
    }
    let copies = micros_each(began, messages.len());
    let fsync = fsync_share(report)?;
    report.add("unavoidable: signature, this mix of keys", signature, "us");
    report.add("unavoidable: SHA-256 of the blocks", hash, "us");
    report.add("unavoidable: three copies", copies, "us");
    report.add("unavoidable: CPU of an fsync, a commit's share", fsync, "us");
    for (name, curve) in [("K-256", Curve::K256), ("P-256", Curve::P256)] {
        report.add(format!("signature {name}"), one_signature(curve)?, "us");
    }
    let cpu = report.get(CPU_PER_EVENT).context("CPU per event")?;
    let sum = signature + hash + copies + fsync;
    report.add("ratio to signature and hash", cpu / (signature + hash), "x");
    report.add("ratio to the sum of all four", cpu / sum, "x");
    Ok(sum)
}

/// CPU of writing and syncing a commit's bytes, for each of its events.
fn fsync_share(report: &Report) -> anyhow::Result<f64> {
    let events = report.get("events of a commit, mean").context("events of a commit")?;
    let frame = report.get("frame, mean").context("mean frame")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1 MiB")]
    let bytes = vec![7; (events * frame) as usize];
    let mut file = tempfile::tempfile()?;
    let began = raw::thread_cpu();
    for _ in 0..FSYNCS {
        std::io::Write::write_all(&mut file, &bytes)?;
        file.sync_data()?;
    }
    Ok((raw::thread_cpu() - began).as_secs_f64() * 1e6 / f64::from(FSYNCS) / events)
}

fn one_signature(curve: Curve) -> anyhow::Result<f64> {
    let key = SigningKey::from_secret(curve, &[7; 32])?;
    let (public, digest) = (key.public_key(), [9; 32]);
    let signature = key.sign(&digest);
    let began = raw::thread_cpu();
    for _ in 0..SIGNATURES {
        black_box(&public).verify(black_box(&digest), &signature)?;
    }
    Ok((raw::thread_cpu() - began).as_secs_f64() * 1e6 / f64::from(SIGNATURES))
}

/// How fast one consumer is brought up to date.
pub(crate) struct Replay {
    pub(crate) frames_per_second: f64,
    pub(crate) raw_frames_per_second: f64,
}

/// The whole log to one light reader, several times, after one that compares every byte.
pub(crate) async fn replay(
    relay: &Relay,
    messages: &[Bytes],
    folder: &Path,
    report: &mut Report,
) -> anyhow::Result<Replay> {
    let mut subscription = consumers::subscribe(&relay.base, Some(0)).await?;
    for message in messages {
        ensure!(next(&mut subscription).await? == *message, "the replay differs");
    }
    drop(subscription);
    let frames = count_f64(messages.len());
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    let head = live::settled(relay).await?;
    let start = relay.usage()?;
    let (mut best, mut readers_cpu) = (Duration::MAX, Duration::ZERO);
    for _ in 0..REPLAYS {
        let began = Instant::now();
        let readers = Readers::start(Options {
            base: relay.base.clone(),
            count: 1,
            cursor: Some(0),
            sample_every: 0,
            stalled: false,
        })
        .await?;
        ensure!(readers.reached(head, Duration::from_secs(60)).await, "not all was replayed");
        best = best.min(began.elapsed());
        readers_cpu += readers.finish().await?.cpu;
    }
    let cpu = relay.usage()?.cpu - start.cpu;
    let mut raw = Duration::MAX;
    for _ in 0..REPLAYS {
        raw = raw.min(raw::replay(folder, u64::try_from(bytes)?)?);
    }
    let replay = Replay {
        frames_per_second: frames / best.as_secs_f64(),
        raw_frames_per_second: frames / raw.as_secs_f64(),
    };
    let all = frames * f64::from(REPLAYS);
    report.add("frames, best of the replays", replay.frames_per_second, "1/s");
    report.add("pread and write of a flat file, best", replay.raw_frames_per_second, "1/s");
    report.add("CPU per frame, relay", cpu.as_secs_f64() * 1e6 / all, "us");
    report.add("CPU per frame, reader", readers_cpu.as_secs_f64() * 1e6 / all, "us");
    Ok(replay)
}

async fn next(subscription: &mut Subscription) -> anyhow::Result<Bytes> {
    match tokio::time::timeout(Duration::from_secs(30), subscription.next()).await?? {
        Received::Message(message) => Ok(message),
        end => bail!("the stream ended: {end:?}"),
    }
}

pub(crate) const CPU_PER_EVENT: &str = "CPU per event, since the relay's start";
/// A histogram, whose count is that of the commits.
const COMMITS: &str = "mainstem_storage_commit_seconds";
const PRIMITIVES_MAX: usize = 20_000;
const SIGNATURES: u32 = 5_000;
const COPIES: usize = 3;
const FSYNCS: u32 = 100;
const REPLAYS: u32 = 5;
