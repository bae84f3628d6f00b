//! Any schedule of events, answers, commands and time: each ticket comes out once, in order, and
//! rightly; and what we have decided about an account holds.

use proptest::collection::vec;
use proptest::prelude::*;

use protocol::account::Throttle;

use super::*;
use crate::command::Work;
use crate::identity::Resolution;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A host sends an event of an account.
    Send { host: u32, account: usize, what: u8 },
    /// The oldest question is answered.
    Answer(u8),
    /// Directories fall sick, or are well again.
    Sick(bool),
    /// We decide about an account.
    Decide { account: usize, local: Local },
    /// A document of an account is read elsewhere.
    Learn(usize),
    /// Milliseconds pass.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4u32, 0..3usize, any::<u8>())
            .prop_map(|(host, account, what)| Step::Send { host, account, what }),
        3 => any::<u8>().prop_map(Step::Answer),
        2 => (1..20_000u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Sick),
        1 => (0..3usize, 0..4usize).prop_map(|(account, local)| {
            Step::Decide { account, local: LOCALS[local] }
        }),
        1 => (0..3usize).prop_map(Step::Learn),
    ]
}

struct Model {
    bench: Bench,
    repos: Vec<Repo>,
    /// The host that the directory names, by account.
    homes: Vec<u32>,
    questions: VecDeque<Lookup>,
    sent: Vec<(u32, u64, usize)>,
    heard: Vec<(Said, usize)>,
    /// What we have decided, by account.
    locals: [Local; 3],
}

impl Model {
    fn new() -> Self {
        let repos = (1..=3).map(|number| Repo::new(number, Curve::K256)).collect();
        let (questions, sent, heard) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut bench = Bench::new();
        bench.shard.handles = Handles::Verify;
        let locals = [Local::None; 3];
        Self { bench, repos, homes: vec![1, 2, 3], questions, sent, heard, locals }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { host, account, what } => self.send(host, account, what),
            Step::Answer(how) => self.answer(how),
            Step::Sick(is_sick) => self.bench.shard.set_directories_well(!is_sick),
            Step::Decide { account, local } => self.decide(account, local),
            Step::Learn(account) => {
                let repo = &self.repos[account];
                let found = document(repo, self.homes[account], self.bench.now);
                let Found::Document(identity) = found else { panic!("a document") };
                drop(self.bench.command(Work::Learn(vec![*identity])));
            }
            Step::Pass(millis) => {
                self.bench.now = self.bench.now.plus(Duration::from_millis(millis));
                self.bench.shard.tick(self.bench.now);
            }
        }
        self.listen();
    }

    /// Takes effect at once, whatever waits; the events after it are judged by it.
    fn decide(&mut self, account: usize, local: Local) {
        let did = self.repos[account].did.clone();
        let before = self.bench.shard.accounts.get(&did);
        self.bench.decide(&did, local);
        let after = self.bench.shard.accounts.get(&did);
        assert_eq!(after.as_ref().map_or(Local::None, |account| account.local), local);
        assert_eq!(
            after.map(|it| it.upstream),
            before
                .map(|it| it.upstream)
                .or_else(|| { (local != Local::None).then_some(Upstream::ACTIVE) })
        );
        self.locals[account] = local;
    }

    fn send(&mut self, host: u32, account: usize, what: u8) {
        let repo = &mut self.repos[account];
        let did = repo.did.clone();
        let (kind, frame) = match what % 6 {
            0 => (ACCOUNT, account_frame(&did, 1, what & 64 == 0, None)),
            1 => {
                let handle = (what & 64 == 0).then_some("someone.example.com");
                (IDENTITY, identity_frame("#identity", &did, 1, handle))
            }
            2 => (HostKind::LegacyTombstone, identity_frame("#tombstone", &did, 1, None)),
            3 if repo.head.is_some() => (SYNC, repo.sync().frame(1)),
            _ => (COMMIT, write(repo, &format!("r{}", self.sent.len()))),
        };
        self.bench.send(host, kind, &did, frame);
        self.sent.push((host, self.bench.seqs[&host], account));
    }

    fn answer(&mut self, how: u8) {
        let Some(lookup) = self.questions.pop_front() else { return };
        let (did, found) = match lookup {
            Lookup::Document { did, began } => {
                let account = self.account(&did);
                if how >= 240 {
                    self.homes[account] = u32::from(how % 3) + 1;
                }
                let found = match how % 5 {
                    0 => Found::Failed,
                    1 => Found::Missing,
                    _ => document(&self.repos[account], self.homes[account], began),
                };
                (did, found)
            }
            Lookup::Status { did, host, .. } => {
                let status = match how % 4 {
                    0 => Status::None,
                    1 => Status::MethodMissing,
                    2 => Status::NotFound,
                    _ => Status::Of(Upstream::ACTIVE),
                };
                (did, Found::Status(host, status))
            }
            Lookup::Handle { did, handle, .. } => {
                let resolution = match how % 3 {
                    0 => Resolution::Unknown,
                    1 => Resolution::Nothing,
                    _ => Resolution::Did(did.clone()),
                };
                (did, Found::Handle(handle, resolution))
            }
        };
        self.bench.shard.answer(Answer { did, found }, self.bench.now);
    }

    fn listen(&mut self) {
        self.questions.extend(self.bench.asked());
        for said in self.bench.said() {
            let sent = |(host, seq, _): &&(u32, u64, usize)| (*host, *seq) == (said.0, said.1);
            let account = self.sent.iter().find(sent).expect("it was sent").2;
            let decided = self.locals[account] != Local::None;
            let signed = matches!(said.2.as_deref(), Ok([.., Kind::Commit | Kind::Sync]));
            assert!(!(decided && signed), "passed in spite of a decision");
            self.heard.push((said, account));
        }
    }

    fn account(&self, did: &Did) -> usize {
        self.repos.iter().position(|repo| repo.did == *did).expect("one of ours")
    }
}

fn judge(steps: &[Step]) {
    let mut model = Model::new();
    for step in steps {
        model.step(*step);
    }
    // A repeated answer, whatever it is, and time: nobody waits for ever.
    for _ in 0..200 {
        model.step(Step::Answer(0));
        model.step(Step::Pass(5_000));
    }
    let Model { bench, sent, heard, .. } = model;
    assert_eq!((bench.shard.parked.len(), bench.shard.parked.bytes()), (0, 0));
    assert_eq!(bench.shard.parked.next_wake(), None);
    for origin in bench.origins.values() {
        assert_eq!(origin.parked_bytes().load(Ordering::Relaxed), 0);
    }
    assert_eq!(heard.len(), sent.len(), "each ticket comes out once");
    for (host, account) in (1..4).flat_map(|host| (0..3).map(move |account| (host, account))) {
        let theirs = |of: &(u32, u64, usize)| (of.0, of.2) == (host, account);
        let expected: Vec<u64> =
            sent.iter().filter(|it| theirs(it)).map(|(_, seq, _)| *seq).collect();
        let order: Vec<u64> = heard
            .iter()
            .map(|((host, seq, _), account)| (*host, *seq, *account))
            .filter(theirs)
            .map(|(_, seq, _)| seq)
            .collect();
        assert_eq!(order, expected, "host {host}, account {account}");
    }
}

const LOCALS: [Local; 4] =
    [Local::None, Local::Takendown, Local::Suspended, Local::Throttled(Throttle::Operator)];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn each_ticket_comes_out_once_and_in_order(steps in vec(step(), 1..60)) {
        judge(&steps);
    }
}
