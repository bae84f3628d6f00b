//! The name of a drop never depends on what a cache held, nor on how far a replica lags.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use proptest::prelude::*;

use super::*;

/// What the shard holds of the account's document when the story begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Truth,
    OldKey,
    OldHome,
}

/// The event that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Honest,
    Forged,
    OfStranger,
    AccountOfStranger,
    AccountOfHome,
}

#[derive(Clone, Copy, Debug)]
struct Story {
    held: Held,
    sent: Sent,
    /// An `#identity` came so many seconds before the event, and replicas lag so long behind it.
    announced: Option<(u64, u64)>,
    /// A replica that lags does not know the DID at all, if the account is new.
    is_young: bool,
    /// Answers take so long.
    delay: u64,
}

fn story() -> impl Strategy<Value = Story> {
    let held = prop_oneof![
        Just(Held::Nothing),
        Just(Held::Truth),
        Just(Held::OldKey),
        Just(Held::OldHome)
    ];
    let sent = prop_oneof![
        Just(Sent::Honest),
        Just(Sent::Forged),
        Just(Sent::OfStranger),
        Just(Sent::AccountOfStranger),
        Just(Sent::AccountOfHome)
    ];
    let announced = proptest::option::of((0..15u64, 0..9u64));
    (held, sent, announced, any::<bool>(), 0..3u64).prop_map(
        |(held, sent, announced, is_young, delay)| Story { held, sent, announced, is_young, delay },
    )
}

const HOME: u32 = 1;
const STRANGER: u32 = 2;
const OLD_HOME: u32 = 3;

struct Stage {
    bench: Bench,
    story: Story,
    truth: Repo,
    old: Repo,
    /// Replicas answer with what was, before this time.
    lags_until: Micros,
    questions: Vec<(Micros, Did, Micros)>,
}

impl Stage {
    fn new(story: Story) -> Self {
        let (mut truth, old) = (Repo::new(1, Curve::K256), Repo::new(1, Curve::K256));
        truth.key = Repo::new(9, Curve::P256).key;
        let mut bench = Bench::new();
        let did = truth.did.clone();
        let fetched = bench.now;
        let held = match story.held {
            Held::Nothing => None,
            Held::Truth => Some(document(&truth, HOME, fetched)),
            Held::OldKey => Some(document(&old, HOME, fetched)),
            Held::OldHome => Some(document(&truth, OLD_HOME, fetched)),
        };
        if let Some(held) = held {
            bench.shard.answer(Answer { did, found: held }, fetched);
            bench.said();
        }
        bench.pass(3600);
        let lags_until = bench.now;
        Self { bench, story, truth, old, lags_until, questions: Vec::new() }
    }

    /// What the directory answers now.
    fn answer(&self, began: Micros) -> Found {
        if self.bench.now >= self.lags_until {
            return document(&self.truth, HOME, began);
        }
        match self.story.held {
            Held::Nothing if self.story.is_young => Found::Missing,
            Held::OldHome => document(&self.truth, OLD_HOME, began),
            Held::Nothing | Held::Truth | Held::OldKey => document(&self.old, HOME, began),
        }
    }

    fn second(&mut self) {
        let now = self.bench.now;
        for lookup in self.bench.asked() {
            let Lookup::Document { did, began } = lookup else { panic!("{lookup:?}") };
            let delay = Duration::from_secs(self.story.delay);
            self.questions.push((now.plus(delay), did, began));
        }
        let (due, later) = self.questions.drain(..).partition(|(at, ..)| *at <= now);
        self.questions = later;
        let due: Vec<(Micros, Did, Micros)> = due;
        for (_, did, began) in due {
            let found = self.answer(began);
            self.bench.shard.answer(Answer { did, found }, now);
        }
        self.bench.pass(1);
    }
}

fn judge(story: Story) {
    let mut stage = Stage::new(story);
    let did = stage.truth.did.clone();
    if let Some((seconds_before, lag)) = story.announced {
        let lag = match story.held {
            // A replica that lags behind what we hold contradicts it: nobody can know who is right.
            Held::Truth => 0,
            // The third time, a DID that is not there is asked for after four seconds.
            Held::Nothing if story.is_young => lag.min(4),
            Held::Nothing | Held::OldKey | Held::OldHome => lag,
        };
        stage.lags_until = stage.bench.now.plus(Duration::from_secs(lag));
        let frame = identity_frame("#identity", &did, 1, None);
        stage.bench.send(HOME, IDENTITY, &did, frame);
        (0..seconds_before).for_each(|_| stage.second());
    }
    stage.bench.said();
    let commit = write(&mut stage.truth, "a");
    let forged = || {
        let mut forger = Repo::new(1, Curve::K256);
        forger.key = Repo::new(8, Curve::K256).key;
        write(&mut forger, "a")
    };
    let account = account_frame(&did, 1, true, None);
    let (host, kind, frame, expected) = match story.sent {
        Sent::Honest => (HOME, COMMIT, commit, None),
        Sent::Forged => (HOME, COMMIT, forged(), Some(Reject::SignatureInvalid)),
        Sent::OfStranger => (STRANGER, COMMIT, commit, Some(Reject::WrongHost)),
        Sent::AccountOfStranger => (STRANGER, ACCOUNT, account, Some(Reject::WrongHost)),
        Sent::AccountOfHome => (HOME, ACCOUNT, account, None),
    };
    stage.bench.send(host, kind, &did, frame);
    let seq = stage.bench.seqs[&host];
    (0..20).for_each(|_| stage.second());
    let said = stage.bench.said();
    let (.., what) = said.iter().find(|said| (said.0, said.1) == (host, seq)).expect("a verdict");
    assert_eq!(what.as_ref().err().copied(), expected.map(Reject::name), "{story:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn a_drop_has_the_name_that_the_truth_gives_it(story in story()) {
        judge(story);
    }
}
