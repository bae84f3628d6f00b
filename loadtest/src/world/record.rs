//! Records as the live network's clients write them.

use protocol::cid::Cid;
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::tid::Tid;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::account::datetime;
use crate::wire::Value;

/// A collection and its share of what is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// `app.bsky.feed.like`
    Like,
    /// `app.bsky.feed.post`
    Post,
    /// `app.bsky.graph.follow`
    Follow,
    /// `app.bsky.feed.repost`
    Repost,
    /// `app.bsky.graph.block`
    Block,
    /// A lexicon that no relay has heard of.
    Foreign,
}

/// Shares in a thousand creates.
const SHARES: [(Collection, u32); 6] = [
    (Collection::Like, 560),
    (Collection::Post, 170),
    (Collection::Follow, 130),
    (Collection::Repost, 100),
    (Collection::Block, 30),
    (Collection::Foreign, 10),
];

impl Collection {
    /// Its NSID.
    pub fn nsid(self) -> &'static str {
        match self {
            Self::Like => "app.bsky.feed.like",
            Self::Post => "app.bsky.feed.post",
            Self::Follow => "app.bsky.graph.follow",
            Self::Repost => "app.bsky.feed.repost",
            Self::Block => "app.bsky.graph.block",
            Self::Foreign => "com.example.unknown.thing",
        }
    }

    /// Draws one by the live network's shares.
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let mut point = rng.random_range(0..1000);
        for (collection, share) in SHARES {
            if point < share {
                return collection;
            }
            point -= share;
        }
        Self::Like
    }

    /// A path in this collection, its record key a TID.
    pub(super) fn path(self, rkey: Tid) -> String {
        format!("{}/{rkey}", self.nsid())
    }

    /// Draws a record, as bytes. `about` is the account that it is about.
    pub(super) fn record(self, rng: &mut ChaCha8Rng, about: &Did, time: Micros) -> Vec<u8> {
        let mut record = vec![("$type", Value::from(self.nsid())), ("createdAt", datetime(time))];
        match self {
            Self::Like | Self::Repost => record.push(("subject", strong_ref(rng, about, time))),
            Self::Follow | Self::Block => record.push(("subject", Value::text(about))),
            Self::Post => {
                record.push(("text", Value::Text(draw_text(rng, 20..240))));
                record.push(("langs", Value::List(vec!["en".into()])));
                if rng.random_ratio(2, 5) {
                    let (root, parent) =
                        (strong_ref(rng, about, time), strong_ref(rng, about, time));
                    record.push(("reply", Value::Map(vec![("root", root), ("parent", parent)])));
                }
            }
            Self::Foreign => record.push(("anything", Value::Text(draw_text(rng, 5..400)))),
        }
        Value::Map(record).encode()
    }
}

/// The path of an account's profile: the record that is updated most.
pub(super) const PROFILE: &str = "app.bsky.actor.profile/self";

/// Draws a profile.
pub(super) fn profile(rng: &mut ChaCha8Rng) -> Vec<u8> {
    Value::Map(vec![
        ("$type", "app.bsky.actor.profile".into()),
        ("displayName", Value::Text(draw_text(rng, 4..24))),
        ("description", Value::Text(draw_text(rng, 10..200))),
    ])
    .encode()
}

/// `com.atproto.repo.strongRef` to some post of an account.
fn strong_ref(rng: &mut ChaCha8Rng, of: &Did, time: Micros) -> Value {
    let cid = Cid::cbor(rng.random());
    let age = rng.random_range(0..DAY_MICROS);
    let rkey = Tid::from_micros(Micros(time.0.saturating_sub(age)), rng.random_range(0..1024));
    Value::Map(vec![
        ("cid", Value::text(cid)),
        ("uri", Value::Text(format!("at://{of}/{}", Collection::Post.path(rkey)))),
    ])
}

/// Draws words.
pub(super) fn draw_text(rng: &mut ChaCha8Rng, chars: std::ops::Range<usize>) -> String {
    let length = rng.random_range(chars);
    let mut text = String::with_capacity(length + 10);
    while text.len() < length {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS[rng.random_range(0..WORDS.len())]);
    }
    text
}

const DAY_MICROS: u64 = 24 * 3600 * 1_000_000;

const WORDS: [&str; 24] = [
    "river",
    "of",
    "the",
    "and",
    "water",
    "slowly",
    "bridge",
    "a",
    "morning",
    "boat",
    "we",
    "saw",
    "north",
    "stone",
    "in",
    "light",
    "over",
    "fields",
    "still",
    "rain",
    "to",
    "harbour",
    "wide",
    "\u{1f30a}",
];
