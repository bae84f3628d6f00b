//! The fuzz targets, on good seeds and on mutations of them.

use proptest::prelude::*;
use protocol::frame::{Kind, fuzz_frame};
use protocol::fuzz_words;
use protocol::keys::{Curve, SigningKey, fuzz_keys};
use protocol::ws::{Header, Opcode, fuzz_ws};

use crate::fields::{account_fields, commit_fields, identity_fields, sync_fields};
use crate::loose::{Whims, frame};
use crate::property;

/// Runs a target on seeds as they are, cut, and with bytes changed.
fn check(target: fn(&[u8]), seeds: Vec<Vec<u8>>) {
    seeds.iter().for_each(|seed| target(seed));
    let changes = prop::collection::vec((any::<u16>(), any::<u8>()), 0..4);
    let cases = (prop::sample::select(seeds), changes, any::<Option<u16>>());
    property::check(4000, cases, |(mut bytes, changes, cut)| {
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(usize::from(cut) % 1000);
        }
        target(&bytes);
        Ok(())
    });
}

#[test]
fn exercise_fuzz_frame() {
    let mut seeds = vec![
        frame(Kind::Commit.name(), &commit_fields(), &mut Whims::none()),
        frame(Kind::Sync.name(), &sync_fields(), &mut Whims::none()),
        frame(Kind::Identity.name(), &identity_fields(), &mut Whims::none()),
        frame(Kind::Account.name(), &account_fields(), &mut Whims::none()),
        protocol::frame::info("OutdatedCursor", "gone"),
        protocol::frame::error("FutureCursor", "not yet"),
    ];
    seeds.push(frame("#commit", &commit_fields(), &mut Whims(vec![2; 40])));
    check(fuzz_frame, seeds);
}

#[test]
fn exercise_fuzz_ws() {
    let seeds = [(125, None), (300, Some([1, 2, 3, 4])), (70_000, None)].map(|(len, mask)| {
        let mut bytes = Vec::new();
        Header { fin: true, opcode: Opcode::Binary, mask, len }.write(&mut bytes);
        bytes.extend(0..150);
        bytes
    });
    check(fuzz_ws, seeds.into());
}

#[test]
fn exercise_fuzz_words() {
    let seeds = [
        "did:plc:32rstgho2rbvpp5wrwqp5fub",
        "did:web:localhost%3A2583",
        "app.bsky.feed.post/3n2s2zaiqn222",
        "3n2s2ynjiyk2k",
        "2026-11-21T02:37:17.492Z",
        "1985-04-12T23:20:50.123+01:45",
        "https://PDS.example.com:443/",
        "http://localhost:2583",
        "127.0.0.1:4100",
    ];
    check(fuzz_words, seeds.map(|seed| seed.as_bytes().to_vec()).into());
}

#[test]
fn exercise_fuzz_keys() {
    let mut seeds = Vec::new();
    for curve in [Curve::K256, Curve::P256] {
        let key = SigningKey::from_secret(curve, &[7; 32]).unwrap();
        let digest = [9; 32];
        let (_, point) = key.public_key().to_compressed();
        seeds.push([point.as_slice(), &digest, &key.sign(&digest)].concat());
        seeds.push(key.public_key().to_multikey().into_bytes());
        seeds.push(key.public_key().to_did_key().into_bytes());
    }
    check(fuzz_keys, seeds);
}
