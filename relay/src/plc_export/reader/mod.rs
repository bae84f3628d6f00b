//! The place in the export, and what a page brings beyond it. Pure: pages and the time go in.
//!
//! A directory pages by time: `after` is exclusive, and a page may end between operations of one
//! millisecond. So it is read on from a millisecond before the newest operation, and what was read
//! already is known by its CID. At the end of the export it is read on from some seconds before:
//! an operation may become visible after a later one. A directory that numbers its operations pages
//! by number, and needs none of this.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use protocol::datetime;
use protocol::host::HostRules;
use protocol::ids::Micros;
use storage::ExportRow;
use verifier::Identity;
use verifier::identity::{Exported, parse_export};

/// The newest operation read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Its time.
    Created(Micros),
    /// Its number.
    Seq(u64),
}

/// Reads pages in their order.
#[derive(Debug)]
pub struct Reader {
    rules: HostRules,
    position: Position,
    /// Every operation from this time on has been read, up to `until`.
    since: Micros,
    until: Micros,
    overlap: Overlap,
    /// Operations at and shortly before the position, with their CIDs.
    read: BTreeSet<(Micros, String)>,
    /// Lines of the longest page so far: one as long as that is not the last.
    lines_max: usize,
}

/// How far before the newest operation the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overlap {
    /// At the end of the export.
    Seconds,
    /// On the way there.
    Moment,
    /// More operations of one millisecond than a page holds: the rest of them cannot be had.
    None,
}

/// What a page brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The newest state of each DID in it.
    pub identities: Vec<Identity>,
    /// Operations not read before.
    pub operations: usize,
    /// Of these, the undone ones.
    pub nullified: usize,
    /// Lines and operations that could not be read.
    pub malformed: usize,
    /// The time of its newest operation.
    pub newest: Option<Micros>,
    /// There is more to be had at once.
    pub more: bool,
}

impl Reader {
    /// From the beginning of the export.
    pub fn from_beginning(rules: HostRules) -> Self {
        Self::at(rules, Position::Seq(0), Micros(0), Micros(0))
    }

    /// From operations of this time on.
    pub fn from_time(rules: HostRules, now: Micros) -> Self {
        Self::at(rules, Position::Created(now), now, now)
    }

    /// From where it was left.
    pub fn resume(rules: HostRules, row: &ExportRow) -> Self {
        let position = match row.by_seq {
            true => Position::Seq(row.position),
            false => Position::Created(Micros(row.position)),
        };
        Self::at(rules, position, row.since, row.until)
    }

    fn at(rules: HostRules, position: Position, since: Micros, until: Micros) -> Self {
        let (overlap, read) = (Overlap::Moment, BTreeSet::new());
        Self { rules, position, since, until, overlap, read, lines_max: LINES_MIN }
    }

    /// What is to be remembered when the pages so far are in the store.
    pub fn row(&self, url: &str) -> ExportRow {
        let (by_seq, position) = match self.position {
            Position::Created(at) => (false, at.0),
            Position::Seq(seq) => (true, seq),
        };
        ExportRow { url: url.to_owned(), by_seq, position, since: self.since, until: self.until }
    }

    /// The query for the next page.
    pub fn query(&self) -> String {
        let after = match self.position {
            Position::Seq(seq) => seq.to_string(),
            Position::Created(newest) => {
                let overlap = match self.overlap {
                    Overlap::Seconds => OVERLAP,
                    Overlap::Moment => Duration::from_millis(1),
                    Overlap::None => Duration::ZERO,
                };
                let micros = u64::try_from(overlap.as_micros()).expect("seconds");
                datetime::format(Micros(newest.0.saturating_sub(micros)))
            }
        };
        format!("count={COUNT}&after={after}")
    }

    /// Reads a page that was asked for at this time.
    pub fn page(&mut self, body: &[u8], asked: Micros) -> Page {
        let mut page = Page::default();
        let mut places = HashMap::new();
        let (mut lines, mut last_is_whole) = (0, true);
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            lines += 1;
            let exported = parse_export(line, self.rules).ok();
            let exported = exported.filter(|exported| self.is_believable(exported, asked));
            last_is_whole = exported.is_some();
            let Some(exported) = exported else {
                page.malformed += 1;
                continue;
            };
            if !self.take(&exported, &mut page) {
                continue;
            }
            let Some(identity) = exported.identity.filter(|_| !exported.nullified) else {
                continue;
            };
            let place = *places.entry(exported.did).or_insert(page.identities.len());
            match page.identities.get_mut(place) {
                Some(older) => *older = identity,
                None => page.identities.push(identity),
            }
        }
        let is_full = lines >= self.lines_max;
        self.lines_max = self.lines_max.max(lines);
        page.more = is_full || !last_is_whole;
        self.move_on(&page, asked);
        page
    }

    /// A page is of one kind, and nothing in it is from the future.
    fn is_believable(&self, exported: &Exported, asked: Micros) -> bool {
        let has_number = exported.seq.is_some() || !matches!(self.position, Position::Seq(1..));
        has_number && exported.created <= asked.plus(FUTURE_MAX)
    }

    /// Whether an operation has not been read before; then the position moves on to it.
    fn take(&mut self, exported: &Exported, page: &mut Page) -> bool {
        match (self.position, exported.seq) {
            (Position::Seq(newest), Some(seq)) if seq <= newest => return false,
            (Position::Seq(_), Some(seq)) => self.position = Position::Seq(seq),
            _ => {
                if !self.read.insert((exported.created, exported.cid.clone())) {
                    return false;
                }
                let newest = match self.position {
                    Position::Created(newest) => newest.max(exported.created),
                    Position::Seq(_) => exported.created,
                };
                self.position = Position::Created(newest);
            }
        }
        page.operations += 1;
        page.nullified += usize::from(exported.nullified);
        page.malformed += usize::from(exported.identity.is_none());
        page.newest = page.newest.max(Some(exported.created));
        true
    }

    fn move_on(&mut self, page: &Page, asked: Micros) {
        let overlap = u64::try_from(OVERLAP.as_micros()).expect("seconds");
        self.overlap = match (page.more, page.operations, self.overlap) {
            (false, _, _) => Overlap::Seconds,
            (true, 0, Overlap::Seconds) => Overlap::Moment,
            (true, 0, _) => Overlap::None,
            (true, _, _) => Overlap::Moment,
        };
        let until = match page.more {
            true => page.newest.unwrap_or(self.until),
            false => Micros(asked.0.saturating_sub(overlap)),
        };
        self.until = self.until.max(until);
        if let Position::Created(newest) = self.position {
            let from = Micros(newest.0.saturating_sub(overlap));
            self.read = self.read.split_off(&(from, String::new()));
            while self.read.len() > READ_MAX {
                self.read.pop_first();
            }
        }
    }
}

/// Operations of a page, at most: more than a directory gives.
const COUNT: usize = 1_000;
/// A page with fewer lines is the last one, however short the others are.
const LINES_MIN: usize = 4;
/// Far more than it takes to write an operation.
const OVERLAP: Duration = Duration::from_secs(3);
/// A clock may be that wrong; a position in the future would leave out what comes before it.
const FUTURE_MAX: Duration = Duration::from_secs(600);
/// Operations remembered, 100 bytes each: those of [`OVERLAP`], at three full pages a second.
const READ_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
