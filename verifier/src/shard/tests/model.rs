//! Any schedule of events, findings, answers, commands and time: each ticket and each finding comes
//! out once, in order, and rightly; revisions only rise; what consumers were told is what we hold;
//! and what we have decided about an account holds.

use proptest::collection::vec;
use proptest::prelude::*;

use protocol::account::Throttle;
use protocol::frame::{AccountFrame, Outgoing};
use protocol::ids::Seq;

use super::*;
use crate::command::Work;
use crate::identity::Resolution;
use crate::intake::Judged;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A host sends an event of an account.
    Send { host: u32, account: usize, what: u8 },
    /// Something of an account is found at a host.
    Find { host: u32, account: usize, what: u8 },
    /// The oldest question is answered.
    Answer(u8),
    /// Directories fall sick, or are well again.
    Sick(bool),
    /// We decide about an account.
    Decide { account: usize, local: Local },
    /// An account is one too many for its host, or is not any more.
    Quota { account: usize, host: u32, throttled: bool },
    /// A document of an account is read elsewhere.
    Learn(usize),
    /// Milliseconds pass.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4u32, 0..3usize, any::<u8>())
            .prop_map(|(host, account, what)| Step::Send { host, account, what }),
        2 => (1..4u32, 0..3usize, any::<u8>())
            .prop_map(|(host, account, what)| Step::Find { host, account, what }),
        3 => any::<u8>().prop_map(Step::Answer),
        2 => (1..20_000u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Sick),
        1 => (0..3usize, 0..4usize).prop_map(|(account, local)| {
            Step::Decide { account, local: LOCALS[local] }
        }),
        1 => (0..3usize, 1..4u32, any::<bool>())
            .prop_map(|(account, host, throttled)| Step::Quota { account, host, throttled }),
        1 => (0..3usize).prop_map(Step::Learn),
    ]
}

struct Model {
    bench: Bench,
    repos: Vec<Repo>,
    /// The host that the directory names, by account.
    homes: Vec<u32>,
    questions: VecDeque<Lookup>,
    /// What was sent or found, in order: where, of which account.
    sent: Vec<(Token, u32, usize)>,
    heard: Vec<Token>,
    /// Findings that are not answered yet.
    waiting: Vec<(Token, Judged)>,
    /// An early commit of each account, once there is one.
    early: [Option<Bytes>; 3],
    /// What we have decided, by account.
    locals: [Local; 3],
    /// What consumers were told last of each account's status.
    told: [(bool, Option<String>); 3],
    /// Each account as the last verdict left it.
    left: [Option<Account>; 3],
}

/// An event, by its host and number there; or a finding, by its number in the order of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Event(u32, u64),
    Finding(usize),
}

impl Model {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.shard.handles = Handles::Verify;
        full(&mut bench, FULL);
        Self {
            bench,
            repos: (1..=3).map(|number| Repo::new(number, Curve::K256)).collect(),
            homes: vec![1, 2, 3],
            questions: VecDeque::new(),
            sent: Vec::new(),
            heard: Vec::new(),
            waiting: Vec::new(),
            early: [const { None }; 3],
            locals: [Local::None; 3],
            told: [const { (true, None) }; 3],
            left: [const { None }; 3],
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { host, account, what } => self.send(host, account, what),
            Step::Find { host, account, what } => self.find(host, account, what),
            Step::Answer(how) => self.answer(how),
            Step::Sick(is_sick) => self.bench.shard.set_directories_well(!is_sick),
            Step::Decide { account, local } => self.decide(account, local),
            Step::Quota { account, host, throttled } => self.quota(account, host, throttled),
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

    /// Only what is at that host, and nobody else has decided about, changes.
    fn quota(&mut self, account: usize, host: u32, throttled: bool) {
        let did = self.repos[account].did.clone();
        let before = self.bench.shard.accounts.get(&did);
        self.bench.quota(&did, host, throttled);
        let after = self.bench.shard.accounts.get(&did);
        let expected = before.map(|before| match (before.local, throttled) {
            (other, _) if before.home() != Some(HostId(host)) => other,
            (Local::None, true) => OVER,
            (OVER, false) => Local::None,
            (other, _) => other,
        });
        assert_eq!(after.map(|after| after.local), expected);
        if let Some(local @ (Local::None | OVER)) = expected {
            self.locals[account] = local;
        }
    }

    fn find(&mut self, host: u32, account: usize, what: u8) {
        let repo = &mut self.repos[account];
        let did = repo.did.clone();
        if what % 4 == 3 {
            // The stream has lost it.
            write(repo, &format!("f{}", self.sent.len()));
        }
        let head = repo.head.map(|_| Bytes::from(repo.sync().blocks[0].1.clone()));
        let early = self.early[account].get_or_insert_with(|| head.clone().unwrap_or_default());
        let commit = match what % 4 {
            0 => None,
            1 => Some(early.clone()),
            _ => head,
        };
        let status = match what / 4 % 3 {
            0 => None,
            1 => Some(Upstream::ACTIVE),
            _ => Some(Upstream { active: false, status: Some("deactivated".into()) }),
        };
        let ago = if what >= 128 { Duration::from_secs(3) } else { Duration::ZERO };
        let seen = Micros(self.bench.now.0 - u64::try_from(ago.as_micros()).unwrap());
        let origin = self.bench.origin(host);
        let judged = self.bench.report(Finding { origin, did, commit, status, seen });
        let token = Token::Finding(self.sent.len());
        self.sent.push((token, host, account));
        self.waiting.push((token, judged));
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
        self.sent.push((Token::Event(host, self.bench.seqs[&host]), host, account));
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
        for Verdict { ticket, done, outcome, .. } in self.bench.shard.take_verdicts() {
            let token = match (ticket, done) {
                (Some(ticket), _) => Some(Token::Event(ticket.host.0, ticket.seq.get())),
                (None, Some(done)) => done.send(()).ok().map(|()| self.answered()),
                (None, None) => None,
            };
            self.heard.extend(token);
            match outcome {
                Outcome::Accept(accepted) => {
                    let account = self.account(&accepted.did);
                    self.hear(account, token, &accepted.frames, accepted.account);
                }
                Outcome::Decided(decided) => {
                    let account = self.account(&decided.did);
                    let frames: Vec<_> = decided.frame.into_iter().collect();
                    self.hear(account, None, &frames, Some(decided.account));
                }
                Outcome::Reject { .. } | Outcome::Learnt(_) | Outcome::Silence => {}
            }
        }
    }

    /// A finding whose verdict was just committed.
    fn answered(&mut self) -> Token {
        let is_committed =
            |(_, judged): &mut (Token, Judged)| judged.committed.try_recv() == Ok(());
        let at = self.waiting.iter_mut().position(is_committed).expect("somebody waits for it");
        let (token, mut judged) = self.waiting.swap_remove(at);
        judged.judged.try_recv().expect("it was judged before");
        token
    }

    /// Something goes out, or is held from now on.
    fn hear(
        &mut self,
        account: usize,
        token: Option<Token>,
        frames: &[Outgoing],
        after: Option<Account>,
    ) {
        for frame in frames {
            let mut bytes = Vec::new();
            frame.write_with(Seq::new(1).unwrap(), &mut bytes);
            if frame.kind() == Kind::Account {
                let frame = AccountFrame::decode(&bytes).unwrap();
                self.told[account] = (frame.active, frame.status.map(str::to_owned));
            }
        }
        let is_signed = |frame: &Outgoing| matches!(frame.kind(), Kind::Commit | Kind::Sync);
        let signed = frames.iter().any(is_signed);
        let decided = self.locals[account] != Local::None;
        assert!(!(decided && signed), "passed in spite of a decision");
        let Some(after) = after else { return };
        if after.local != self.locals[account] {
            assert!(self.is_by_limit(account, &after), "{:?}, then {after:?}", self.left[account]);
            self.locals[account] = after.local;
        }
        let (active, status) = after.published();
        assert_eq!(self.told[account], (active, status.map(str::to_owned)), "told otherwise");
        let is_commit = frames.iter().any(|frame| frame.kind() == Kind::Commit);
        if let Some(before) = &self.left[account] {
            let (old, new) = (before.repo.map(|it| it.rev), after.repo.map(|it| it.rev));
            assert!(if is_commit { old < new } else { old <= new }, "{old:?}, then {new:?}");
            if before.host == after.host && !matches!(token, Some(Token::Event(..))) {
                assert_eq!((before.epoch, before.host_seq), (after.epoch, after.host_seq));
            }
        }
        self.left[account] = Some(after);
    }

    /// Whether the limit of its host, which it is new at, has decided about an account.
    fn is_by_limit(&self, account: usize, after: &Account) -> bool {
        let is_full = after.host == HostId(FULL);
        let before = self.left[account].as_ref();
        match before.map_or(Local::None, |before| before.local) {
            Local::None => {
                let is_new = before.is_none_or(|before| before.home().is_none());
                is_new && is_full && after.local == OVER
            }
            OVER => {
                let has_moved = before.is_some_and(|before| before.host != after.host);
                has_moved && !is_full && after.local == Local::None
            }
            _ => false,
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
    let Model { bench, sent, heard, waiting, .. } = model;
    assert_eq!((bench.shard.parked.len(), bench.shard.parked.bytes()), (0, 0));
    assert_eq!(bench.shard.parked.next_wake(), None);
    for origin in bench.origins.values() {
        assert_eq!(origin.parked_bytes().load(Ordering::Relaxed), 0);
        assert_eq!(origin.parked_events().load(Ordering::Relaxed), 0);
    }
    assert!(waiting.is_empty(), "each finding is answered");
    assert_eq!(heard.len(), sent.len(), "each ticket and each finding comes out once");
    for (host, account) in (1..4).flat_map(|host| (0..3).map(move |account| (host, account))) {
        let theirs: Vec<Token> = sent
            .iter()
            .filter(|(_, of_host, of_account)| (*of_host, *of_account) == (host, account))
            .map(|(token, ..)| *token)
            .collect();
        let order: Vec<Token> =
            heard.iter().filter(|token| theirs.contains(token)).copied().collect();
        assert_eq!(order, theirs, "host {host}, account {account}");
    }
}

/// A host that has as many accounts as it may have.
const FULL: u32 = 3;
const OVER: Local = Local::Throttled(Throttle::Quota);
const LOCALS: [Local; 4] =
    [Local::None, Local::Takendown, Local::Suspended, Local::Throttled(Throttle::Operator)];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..Default::default()
    })]

    // I4: events and findings of one account leave in the order in which they came.
    #[test]
    fn each_ticket_and_each_finding_comes_out_once_and_in_order(steps in vec(step(), 1..60)) {
        judge(&steps);
    }
}
