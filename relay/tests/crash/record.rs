//! What the log was found to be, and whether what anybody read is a part of it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use loadtest::consumers::{Event, decode};
use loadtest::oracle::Witness;
use protocol::frame::Kind;

/// An event as it was read: its seq, and a fingerprint of all of its bytes.
pub type Read = (u64, u64);

/// The log as the examinations found it, from its first event on. What was found once may never
/// change again, and never be gone but below the floor.
pub struct Record {
    /// Accounts that are taken down now and then.
    decided: BTreeSet<String>,
    entries: Vec<Entry>,
    /// The first entry that the last examination found.
    pub floor: usize,
    pub witness: Witness,
}

struct Entry {
    seq: u64,
    print: u64,
    /// The account whose takedown hides it: a `#commit` or a `#sync` of one that is taken down now
    /// and then.
    hideable: Option<String>,
}

/// Where somebody stands in the record who reads it from some place on.
#[derive(Clone, Copy, Default)]
pub struct Place(usize);

/// A message's seq and fingerprint; `None` if it is no event.
pub fn read(message: &Bytes) -> Option<Read> {
    let Ok(Event::Frame { seq, .. }) = decode(message) else { return None };
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    Some((seq, hasher.finish()))
}

impl Record {
    pub fn new(decided: BTreeSet<String>) -> Self {
        Self { decided, entries: Vec::new(), floor: 0, witness: Witness::default() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The newest seq.
    pub fn head(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq)
    }

    /// Takes the whole log as it is read while these accounts are hidden. What is wrong.
    pub fn take(&mut self, log: &[Bytes], hidden: &BTreeSet<String>) -> Vec<String> {
        let mut findings = Vec::new();
        let mut at = match log.first().and_then(read) {
            // Hidden ones at the floor are not there to be found.
            Some((seq, _)) => self.entries.partition_point(|entry| entry.seq < seq),
            None => 0,
        };
        while at > self.floor && self.entries[at - 1].is_hidden(hidden) {
            at -= 1;
        }
        if at < self.floor || (at > self.entries.len()) {
            findings.push(format!("the log begins at {at}, and has begun at {}", self.floor));
        }
        self.floor = at;
        for message in log {
            let Some((seq, print)) = read(message) else {
                findings.push(format!("not an event: {:?}", decode(message)));
                continue;
            };
            while self.entries.get(at).is_some_and(|entry| entry.is_hidden(hidden)) {
                at += 1;
            }
            match self.entries.get(at) {
                Some(entry) if (entry.seq, entry.print) == (seq, print) => {}
                Some(entry) if entry.seq == seq => {
                    findings.push(format!("I3: seq {seq} was used again with other content"));
                }
                Some(entry) if entry.seq > seq => {
                    findings.push(format!("{seq} was not there, or should be hidden"));
                }
                Some(entry) => findings.push(format!("I2: {} is gone; {seq} is not", entry.seq)),
                None => {
                    self.witness.see(message);
                    let hideable = hideable(message).filter(|did| self.decided.contains(did));
                    self.entries.push(Entry { seq, print, hideable });
                }
            }
            if !findings.is_empty() {
                return findings;
            }
            at += 1;
        }
        let rest = &self.entries[at.min(self.entries.len())..];
        if let Some(entry) = rest.iter().find(|entry| !entry.is_hidden(hidden)) {
            findings.push(format!("I2: everything from {} on is gone", entry.seq));
        }
        findings
    }

    /// The place of the first event that a reader from zero got.
    pub fn place_of(&self, first: Read) -> Place {
        Place(self.entries.partition_point(|entry| entry.seq < first.0))
    }

    /// Goes on with what a consumer has read from its place on. What is wrong. What a takedown
    /// hides may be there or not: that depends on when it was read.
    pub fn follow(&self, place: &mut Place, read: &[Read]) -> Result<(), String> {
        for (seq, print) in read {
            loop {
                let Some(entry) = self.entries.get(place.0) else {
                    return Err(format!("I2: saw {seq}, which is not in the log"));
                };
                place.0 += 1;
                if entry.seq == *seq && entry.print == *print {
                    break;
                }
                if entry.seq == *seq {
                    return Err(format!("I3: seq {seq} was used again with other content"));
                }
                if entry.hideable.is_none() || entry.seq > *seq {
                    return Err(format!("missed {}: came to {seq}", entry.seq));
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is left from a place on.
    pub fn is_end(&self, place: Place) -> bool {
        self.entries[place.0..].iter().all(|entry| entry.hideable.is_some())
    }
}

impl Entry {
    fn is_hidden(&self, hidden: &BTreeSet<String>) -> bool {
        self.hideable.as_ref().is_some_and(|did| hidden.contains(did))
    }
}

fn hideable(message: &Bytes) -> Option<String> {
    match decode(message) {
        Ok(Event::Frame { kind: Kind::Commit | Kind::Sync, did, .. }) => did,
        _ => None,
    }
}
