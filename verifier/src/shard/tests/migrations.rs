//! Migrations in every order of events: all end with the new host speaking for the account, with
//! nobody's help.
//!
//! The new host says `#identity`, `#account`, `#sync` and `#commit`, in all 24 orders. Meanwhile
//! the old one goes on committing, deactivates its copy and commits again; the directory changes
//! at some moment before the end, and its replicas some seconds later; answers take their time; the
//! new host's `#sync` is the real PDS's, which is not valid, or one that is. Then the account goes
//! back to where it came from.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// A small generator of numbers (SplitMix64): a seed is a schedule.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What happens at a moment.
enum Happening {
    /// The new host says the next thing in its order.
    New,
    /// The old host says the next thing.
    Old,
    /// The directory names the new host.
    Directory,
    Answer(Lookup),
}

/// What the new host has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Identity,
    Account,
    Sync,
    Commit,
}

/// An account, the hosts that claim it, and who knows what of them.
struct Move {
    bench: Bench,
    dice: Dice,
    /// What is still to happen; the second number keeps the order of what happens at once.
    agenda: BTreeMap<(Micros, u64), Happening>,
    planned: u64,
    old: (u32, Repo),
    new: (u32, Repo),
    words: VecDeque<Word>,
    old_words: VecDeque<&'static str>,
    old_is_active: bool,
    /// When each replica of the directory begins to name the new host.
    moved: Option<Micros>,
    lag: Duration,
    /// The new host does not know `getRepoStatus`.
    is_mute: bool,
    /// Every `#account` that went out, and the commits by host, in order.
    published: Vec<String>,
    commits: Vec<u32>,
    drops: BTreeMap<(u32, &'static str), u32>,
}

impl Move {
    fn settled(seed: u64) -> Self {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        bench.introduce(&mut repo, 1);
        bench.pass(60);
        Self {
            bench,
            dice: Dice(seed),
            agenda: BTreeMap::new(),
            planned: 0,
            old: (1, repo.clone()),
            new: (1, repo),
            words: VecDeque::new(),
            old_words: VecDeque::new(),
            old_is_active: true,
            moved: None,
            lag: Duration::ZERO,
            is_mute: false,
            published: Vec::new(),
            commits: Vec::new(),
            drops: BTreeMap::new(),
        }
    }

    fn plan(&mut self, within: Duration, happening: Happening) {
        let micros = u64::try_from(within.as_micros()).unwrap();
        let at = self.bench.now.plus(Duration::from_micros(self.dice.below(micros + 1)));
        self.planned += 1;
        self.agenda.insert((at, self.planned), happening);
    }

    /// The account moves to `host`, which says `words`; then the new host commits once more.
    fn migrate(&mut self, host: u32, words: [Word; 4], key: u8) {
        let (_, current) = &self.new;
        self.old = (self.new.0, current.clone());
        let mut repo = current.clone();
        repo.key = Repo::new(key, Curve::K256).key;
        // Whose revisions are newer is not settled by who is right.
        repo.later(self.dice.below(20));
        self.old.1.later(self.dice.below(20));
        self.new = (host, repo);
        (self.moved, self.old_is_active) = (None, true);
        self.lag = Duration::from_millis(self.dice.below(2) * self.dice.below(12_000));
        self.is_mute = self.dice.below(4) == 0;
        self.words = words.into();
        self.old_words = ["commit", "deactivated", "commit"].into();

        let span = Duration::from_secs([1, 20, 300][usize::try_from(self.dice.below(3)).unwrap()]);
        (0..4).for_each(|_| self.plan(span, Happening::New));
        (0..3).for_each(|_| self.plan(span, Happening::Old));
        self.plan(span, Happening::Directory);
        self.run();
        // All is said; the questions of before are a minute old. The owner writes a post.
        self.bench.pass(120);
        self.new.1.later(100);
        self.words = [Word::Commit].into();
        self.plan(Duration::ZERO, Happening::New);
        self.run();
    }

    /// Until nothing is left to happen and nobody waits.
    fn run(&mut self) {
        loop {
            self.listen();
            let planned = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = [planned, self.bench.shard.next_wake()].into_iter().flatten().min()
            else {
                return;
            };
            self.bench.now = at.max(self.bench.now);
            self.bench.shard.tick(self.bench.now);
            if planned == Some(at) {
                let (_, happening) = self.agenda.pop_first().unwrap();
                self.happen(happening);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::New => self.say_new(),
            Happening::Old => self.say_old(),
            Happening::Directory => self.moved = Some(self.bench.now),
            Happening::Answer(lookup) => self.answer(lookup),
        }
    }

    fn say_new(&mut self) {
        let (host, repo) = &mut self.new;
        let (host, did) = (*host, repo.did.clone());
        let (kind, frame) = match self.words.pop_front().unwrap() {
            Word::Identity => (IDENTITY, identity_frame("#identity", &did, 1, None)),
            Word::Account => (ACCOUNT, account_frame(&did, 1, true, None)),
            Word::Commit => {
                let name = format!("n{}", self.planned);
                (COMMIT, write(repo, &name))
            }
            Word::Sync if self.dice.below(2) == 0 => {
                // The old host's commit under a fresh revision, as the real PDS has it.
                let mut sync = self.old.1.sync();
                sync.rev = Tid::from_micros(self.bench.now, 1).to_string();
                (SYNC, sync.frame(1))
            }
            Word::Sync => {
                repo.commit(&[]);
                (SYNC, repo.sync().frame(1))
            }
        };
        self.bench.send(host, kind, &did, frame);
    }

    fn say_old(&mut self) {
        let (host, repo) = &mut self.old;
        let (host, did) = (*host, repo.did.clone());
        let (kind, frame) = match self.old_words.pop_front().unwrap() {
            "commit" => {
                let name = format!("o{}", self.planned);
                (COMMIT, write(repo, &name))
            }
            status => {
                self.old_is_active = false;
                (ACCOUNT, account_frame(&did, 1, false, Some(status)))
            }
        };
        self.bench.send(host, kind, &did, frame);
    }

    fn answer(&mut self, lookup: Lookup) {
        let (did, found) = match lookup {
            Lookup::Document { did, began } => {
                // A replica lags behind by its own time.
                let lag = self.lag.mul_f64(f64::from(u8::from(self.dice.below(2) == 0)));
                let moved = self.moved.is_some_and(|moved| moved.plus(lag) <= began);
                let (host, repo) = if moved { &self.new } else { &self.old };
                (did, document(repo, *host, began))
            }
            Lookup::Status { did, host, .. } => {
                let deactivated = Upstream { active: false, status: Some("deactivated".into()) };
                let status = if host == HostId(self.new.0) {
                    match self.is_mute {
                        true => Status::MethodMissing,
                        false => Status::Of(Upstream::ACTIVE),
                    }
                } else if self.old_is_active {
                    Status::Of(Upstream::ACTIVE)
                } else {
                    Status::Of(deactivated)
                };
                (did, Found::Status(host, status))
            }
            Lookup::Handle { .. } => unreachable!("no handle is said"),
        };
        self.bench.shard.answer(Answer { did, found }, self.bench.now);
    }

    fn listen(&mut self) {
        for lookup in self.bench.asked() {
            self.plan(Duration::from_millis(2_000), Happening::Answer(lookup));
        }
        for verdict in self.bench.shard.take_verdicts() {
            let Some(ticket) = verdict.ticket else { continue };
            let host = ticket.host.0;
            match verdict.outcome {
                Outcome::Accept(accepted) => self.publish(host, &accepted),
                Outcome::Reject { reject, .. } => {
                    *self.drops.entry((host, reject.name())).or_default() += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn publish(&mut self, host: u32, accepted: &Accepted) {
        for frame in &accepted.frames {
            let mut bytes = Vec::new();
            frame.write_with(protocol::ids::Seq::new(1).unwrap(), &mut bytes);
            match frame.kind() {
                Kind::Account => {
                    let frame = protocol::frame::AccountFrame::decode(&bytes).unwrap();
                    self.published.push(frame.status.unwrap_or("active").to_owned());
                }
                Kind::Commit => self.commits.push(host),
                Kind::Identity | Kind::Sync => {}
            }
        }
    }

    /// The new host speaks for the account, consumers know that it is active, and have all of it.
    fn check_moved(&mut self) {
        let (host, repo) = &self.new;
        let account = self.bench.shard.accounts.get(&repo.did).unwrap();
        assert_eq!(account.host, HostId(*host));
        assert_eq!(account.upstream, Upstream::ACTIVE);
        assert_eq!(account.local, Local::None);
        assert_eq!(account.repo.map(|held| held.rev), repo.head.map(|(rev, _)| rev));
        assert_eq!(self.published.last().map_or("active", |status| status), "active");
        assert_eq!(self.commits.last(), Some(host));
        // Once the new host has been heard the old one is not.
        let first = self.commits.iter().position(|by| by == host).unwrap();
        assert!(self.commits[first..].iter().all(|by| by == host), "{:?}", self.commits);
    }

    /// What the old host says from here on is of the wrong host, and changes nothing.
    fn check_the_old_host_has_nothing_to_say(&mut self) {
        let before = self.bench.shard.accounts.get(&self.new.1.did).unwrap();
        self.drops.clear();
        self.old.1.later(10_000);
        self.old_words = ["commit", "deactivated", "deleted"].into();
        (0..3).for_each(|_| self.plan(Duration::from_secs(30), Happening::Old));
        self.run();
        assert_eq!(self.drops, BTreeMap::from([((self.old.0, "wrong_host"), 3)]));
        assert_eq!(self.bench.shard.accounts.get(&self.new.1.did), Some(before));
        self.drops.clear();
        self.commits.clear();
    }
}

fn orders() -> Vec<[Word; 4]> {
    let words = [Word::Identity, Word::Account, Word::Sync, Word::Commit];
    let mut orders = Vec::new();
    for a in words {
        for b in words {
            for c in words {
                for d in words {
                    let order = [a, b, c, d];
                    if words.iter().all(|word| order.contains(word)) {
                        orders.push(order);
                    }
                }
            }
        }
    }
    orders
}

// I12: what waits or comes of a removed host takes no account back to a number that nobody has.
#[test]
fn what_is_on_its_way_of_a_removed_host_is_settled_in_silence() {
    let mut bench = Bench::new();
    let (mut repo, mut other) = (Repo::new(1, Curve::K256), Repo::new(2, Curve::K256));
    let (did, unknown) = (repo.did.clone(), other.did.clone());
    bench.introduce(&mut repo, 1);
    // It has been added again, under another number, and speaks for the account.
    let name = HostName::parse("pds1.example.com", HostRules::Public).unwrap();
    let again = Origin::new(HostId(4), name, Lenience::Ratchet, false);
    bench.origins.insert(4, Arc::new(again));
    let frame = write(&mut other, "a");
    bench.send(1, COMMIT, &unknown, frame);
    let mut missed = bench.find(1, &unknown, findings::head(&other), None);
    bench.origin(1).retire();
    let frame = write(&mut repo, "b");
    bench.send(4, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(4, 1, Kind::Commit)]);
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &did, frame);
    bench.send(1, ACCOUNT, &did, account_frame(&did, 4, false, None));
    assert_eq!(bench.said(), [(1, 3, Err("silence")), (1, 4, Err("silence"))]);
    let judged = bench.find(1, &did, findings::head(&repo), None);
    let refused = findings::refused(Reject::WrongHost);
    assert_eq!(bench.found(judged), findings::frames(&[], refused));
    assert_eq!(bench.held(&did).host, HostId(4));
    // What waits, too: those of an account that is not held.
    bench.land_document(&other, 1);
    assert_eq!(bench.said(), [(1, 2, Err("silence"))]);
    assert_eq!(missed.judged.try_recv(), Ok(refused));
    assert_eq!(bench.shard.accounts.get(&unknown), None);
}

#[test]
fn every_order_of_a_migration_ends_at_the_new_host() {
    let orders = orders();
    assert_eq!(orders.len(), 24);
    let mut healed = 0;
    let mut unheard = 0;
    for (number, order) in orders.iter().enumerate() {
        for round in 0..SCHEDULES {
            let seed = u64::try_from(number).unwrap() * 1_000 + round;
            let back = orders[usize::try_from(seed).unwrap() * 7 % orders.len()];
            let migrations = || {
                let mut account = Move::settled(seed);
                account.migrate(2, *order, 9);
                account.check_moved();
                healed += u32::from(account.published.contains(&"deactivated".to_owned()));
                unheard += u32::from(account.drops.keys().any(|(host, _)| *host == 2));
                account.check_the_old_host_has_nothing_to_say();
                account.migrate(1, back, 10);
                account.check_moved();
                account.check_the_old_host_has_nothing_to_say();
            };
            let outcome = catch_unwind(AssertUnwindSafe(migrations));
            assert!(outcome.is_ok(), "seed {seed}: {order:?}, back {back:?}");
        }
    }
    // The schedules are not all the same story.
    assert!(healed > 50, "{healed} of the old hosts' deactivations were believed");
    assert!(unheard > 50, "{unheard} of the new hosts were not believed at first");
}

/// Schedules for each order: some 0.3 ms a signature, a dozen of them a migration.
const SCHEDULES: u64 = 20;
