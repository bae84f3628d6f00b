//! What a consumer must see, known from the world alone, and the judgement of what it saw; and what
//! a relay must answer about accounts and hosts while it has said so much.
//!
//! Frames are remembered by fingerprint: a long run fits in memory, and equality of all bytes
//! but `seq` is still what is judged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use protocol::did::Did;
use protocol::frame::AccountFrame;

use crate::consumers::{Event, decode};
use crate::wire::{Frame, Value};

mod state;

use state::Change;
pub use state::{Decision, Head, State};

/// Per account, the frames that must pass, in order.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    accounts: BTreeMap<String, Vec<Mark>>,
    /// By host: what must pass of it, in its order.
    hosts: BTreeMap<usize, Vec<Sent>>,
    frames: u64,
}

/// A frame that a host has sent.
#[derive(Clone, Debug)]
struct Sent {
    /// Under this number of its host.
    seq: u64,
    did: String,
    /// Its place among the account's frames.
    index: usize,
}

/// A frame, remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    print: u64,
    /// Of an `#account` as relays make them: the same with the time taken out.
    timeless: Option<u64>,
    /// What a relay answers of the account from here on.
    change: Change,
    /// For people: kind and revision or time.
    label: Box<str>,
}

/// Takes a consumer's messages one by one.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    accounts: BTreeMap<String, Vec<Mark>>,
    seq: Option<u64>,
    frames: u64,
    findings: Vec<Finding>,
}

/// Something wrong with what a consumer saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A seq that is not greater than the one before.
    SeqNotRising {
        /// The seq before.
        before: u64,
        /// This one.
        seq: u64,
    },
    /// A message that is no event.
    Undecodable {
        /// What it seems to be.
        what: String,
    },
    /// A frame that must pass did not come.
    Missing(Place),
    /// A frame came that nobody sent, or that had to be dropped, or whose bytes differ.
    Extra(Place),
    /// A frame came again.
    Repeated(Place),
    /// A frame came after one that its host sent later.
    OutOfOrder(Place),
}

/// A frame of an account, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The account.
    pub did: String,
    /// Kind and revision or time.
    pub label: String,
}

impl Oracle {
    /// A frame that must pass, after the others of its account.
    pub fn expect(&mut self, did: &Did, frame: &Frame) {
        let mark = Mark::new(&frame.with_seq(1).into(), frame);
        self.accounts.entry(did.to_string()).or_default().push(mark);
        self.frames += 1;
    }

    /// As [`Oracle::expect`], of a frame that a host sends under this number.
    pub fn expect_from(&mut self, host: usize, seq: u64, did: &Did, frame: &Frame) {
        self.expect(did, frame);
        let did = did.to_string();
        let index = self.accounts[&did].len() - 1;
        self.hosts.entry(host).or_default().push(Sent { seq, did, index });
    }

    /// As [`Oracle::expect`], of the account that the frame names.
    ///
    /// # Panics
    /// If the frame is no event of an account.
    pub fn expect_frame(&mut self, frame: &Frame) {
        let message = frame.with_seq(1).into();
        let Ok(Event::Frame { did: Some(did), .. }) = decode(&message) else {
            panic!("only events pass: {:?}", decode(&message));
        };
        self.accounts.entry(did).or_default().push(Mark::new(&message, frame));
        self.frames += 1;
    }

    /// An `#account` of the relay's own making, whatever its time.
    pub fn expect_account(&mut self, did: &Did, active: bool, status: Option<&str>) {
        let did = did.to_string();
        let print = print(&account(&did, active, status, ANY_TIME));
        let label = format!("Account {active} {status:?} at any time").into();
        let change = Change::Nothing;
        self.accounts.entry(did).or_default().push(Mark { print, timeless: None, change, label });
        self.frames += 1;
    }

    /// A decision of the relay's operator, which it tells its consumers by an `#account`, and
    /// which stands from there on.
    pub fn expect_decision(&mut self, did: &Did, decision: Decision) {
        let mut state = self.state(did, usize::MAX).unwrap_or_default();
        let change = Change::Local(decision);
        state.apply(&change);
        let (active, status) = state.published();
        self.expect_account(did, active, status);
        let marks = self.accounts.get_mut(&did.to_string());
        marks.and_then(|marks| marks.last_mut()).expect("it was just expected").change = change;
    }

    /// An account after so many of its frames have passed; `None`: none has.
    pub fn state(&self, did: &Did, frames: usize) -> Option<State> {
        let marks = self.accounts.get(&did.to_string())?;
        let passed = &marks[..marks.len().min(frames)];
        let mut state = State::default();
        passed.iter().for_each(|mark| state.apply(&mark.change));
        (!passed.is_empty()).then_some(state)
    }

    /// Frames of an account that must pass.
    pub fn frames_of(&self, did: &Did) -> usize {
        self.accounts.get(&did.to_string()).map_or(0, Vec::len)
    }

    /// The greatest cursor that a relay may hold of a host while its log is what the witness saw:
    /// the number before the first frame that is not in the log, and which that is. `None`:
    /// everything is.
    pub fn cursor_max(&self, host: usize, witness: &Witness) -> Option<(u64, Place)> {
        let sent = self.hosts.get(&host)?;
        let missing = sent.iter().find(|sent| witness.frames_of(&sent.did) <= sent.index)?;
        let label = self.accounts[&missing.did][missing.index].label.to_string();
        Some((missing.seq - 1, Place { did: missing.did.clone(), label }))
    }

    /// Frames that must pass.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// What is wrong with what a consumer saw from the beginning to the end. Empty: nothing.
    pub fn judge(&self, witness: &Witness) -> Vec<Finding> {
        self.compare(witness, |expected, _| expected)
    }

    /// What is wrong with what was seen from the beginning on, while more is to come.
    pub fn judge_so_far(&self, witness: &Witness) -> Vec<Finding> {
        self.compare(witness, |expected, seen| &expected[..expected.len().min(seen.len())])
    }

    /// Compares each account's frames with that part of what must pass which has to be there.
    fn compare(
        &self,
        witness: &Witness,
        due: for<'a> fn(&'a [Mark], &[Mark]) -> &'a [Mark],
    ) -> Vec<Finding> {
        let mut findings = witness.findings.clone();
        let dids: HashSet<&String> = self.accounts.keys().chain(witness.accounts.keys()).collect();
        let mut dids: Vec<_> = dids.into_iter().collect();
        dids.sort_unstable();
        for did in dids {
            let expected = self.accounts.get(did).map_or(&[][..], Vec::as_slice);
            let seen = witness.accounts.get(did).map_or(&[][..], Vec::as_slice);
            let expected = due(expected, seen);
            if expected != seen {
                compare(did, expected, seen, &mut findings);
            }
        }
        findings
    }
}

impl Mark {
    fn new(message: &Bytes, frame: &Frame) -> Self {
        let (change, label) = describe(message);
        Self { print: print(frame), timeless: timeless(message, frame), change, label }
    }

    /// The print by which it is one of these, if it is.
    fn known_as(&self, prints: &HashSet<u64>) -> Option<u64> {
        [Some(self.print), self.timeless].into_iter().flatten().find(|print| prints.contains(print))
    }
}

impl Witness {
    /// Takes one message. `#info` frames are not judged.
    pub fn see(&mut self, message: &Bytes) {
        let Some((seq, frame)) = Frame::split(message) else {
            let event = decode(message);
            if !matches!(event, Ok(Event::Info { .. })) {
                self.findings.push(Finding::Undecodable { what: format!("{event:?}") });
            }
            return;
        };
        if let Some(before) = self.seq.filter(|before| *before >= seq) {
            self.findings.push(Finding::SeqNotRising { before, seq });
        }
        self.seq = Some(seq);
        self.frames += 1;
        match decode(message) {
            Ok(Event::Frame { did: Some(did), .. }) => {
                self.accounts.entry(did).or_default().push(Mark::new(message, &frame));
            }
            event => self.findings.push(Finding::Undecodable { what: format!("{event:?}") }),
        }
    }

    /// Events of an account that were seen.
    pub fn frames_of(&self, did: &str) -> usize {
        self.accounts.get(did).map_or(0, Vec::len)
    }

    /// Events seen.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The last seq seen: the cursor to resume from.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }
}

/// Compares one account's frames. Equal frames may stand on both sides more than once: the n-th
/// seen is the n-th expected.
fn compare(did: &str, expected: &[Mark], seen: &[Mark], findings: &mut Vec<Finding>) {
    let place = |mark: &Mark| Place { did: did.to_owned(), label: mark.label.to_string() };
    let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, mark) in expected.iter().enumerate().rev() {
        places.entry(mark.print).or_default().push(index);
    }
    let known: HashSet<u64> = expected.iter().map(|mark| mark.print).collect();
    let mut found = vec![false; expected.len()];
    let mut latest = None;
    for mark in seen {
        let known_as = mark.known_as(&known);
        match known_as.and_then(|print| places.get_mut(&print)).and_then(Vec::pop) {
            Some(index) => {
                found[index] = true;
                if latest.is_some_and(|latest| index < latest) {
                    findings.push(Finding::OutOfOrder(place(mark)));
                }
                latest = latest.max(Some(index));
            }
            None if known_as.is_some() => findings.push(Finding::Repeated(place(mark))),
            None => findings.push(Finding::Extra(place(mark))),
        }
    }
    for (mark, found) in expected.iter().zip(found) {
        if !found {
            findings.push(Finding::Missing(place(mark)));
        }
    }
}

/// All bytes but the seq, and where the seq stands, as a number.
fn print(frame: &Frame) -> u64 {
    let mut hasher = DefaultHasher::new();
    frame.hash(&mut hasher);
    hasher.finish()
}

/// The print of an `#account` without its time, if it has no more than what a relay writes.
fn timeless(message: &Bytes, frame: &Frame) -> Option<u64> {
    let AccountFrame { did, active, status, time } = AccountFrame::decode(message).ok()?;
    let rebuilt = |time| account(did, active, status, time);
    (rebuilt(time) == *frame).then(|| print(&rebuilt(ANY_TIME)))
}

fn account(did: &str, active: bool, status: Option<&str>, time: &str) -> Frame {
    let mut payload = vec![
        ("did", Value::from(did)),
        ("seq", Value::Seq),
        ("time", Value::from(time)),
        ("active", Value::Bool(active)),
    ];
    payload.extend(status.map(|status| ("status", Value::from(status))));
    Frame::event("#account", &Value::Map(payload))
}

fn describe(message: &Bytes) -> (Change, Box<str>) {
    match decode(message) {
        Ok(Event::Frame { kind, rev, time, .. }) => {
            let stamp = rev.or(time).unwrap_or_default();
            (Change::of(message, kind), format!("{kind:?} {stamp}").into_boxed_str())
        }
        other => (Change::Nothing, format!("{other:?}").into_boxed_str()),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SeqNotRising { before, seq } => write!(f, "seq {seq} came after {before}"),
            Self::Undecodable { what } => write!(f, "not an event: {what}"),
            Self::Missing(place) => write!(f, "missing: {place}"),
            Self::Extra(place) => write!(f, "extra: {place}"),
            Self::Repeated(place) => write!(f, "repeated: {place}"),
            Self::OutOfOrder(place) => write!(f, "out of order: {place}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.did, self.label)
    }
}

/// In the place of a time that nobody can know before.
const ANY_TIME: &str = "";
