//! One pass over one host: read, compare, wait for the stream, look again, look after.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::account::Upstream;
use protocol::cid::Cid;
use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use protocol::reject::Reject;
use tokio::time::{Instant, sleep};

use super::ask::{self, Asker, Said, Signed, Trouble};
use super::compare::{Apart, DELETED, Judged, Listed, Terms, Word, is_other, judge};
use super::ledger::{Counts, Excused, Finding, Found, Full, Gone, Held, Known, Ledger, Row};
use super::listing::{Listing, Step};
use super::metrics::{Fate, Metrics};
use super::pace::Timing;
use super::source::{Portion, Seen, Source, turn};

/// A pass over one host.
pub(super) struct Pass<L> {
    pub(super) ledger: Arc<L>,
    pub(super) clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    pub(super) timing: Timing,
    pub(super) metrics: Arc<Metrics>,
    pub(super) asker: Asker,
    pub(super) host: HostId,
    /// Others wait for its place.
    pub(super) crowded: Arc<AtomicBool>,
    /// As it stands in the store.
    pub(super) row: Row,
    pub(super) started: Instant,
    /// Accounts that nothing could be learnt of.
    pub(super) failed: u64,
}

/// Why a pass goes on later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The relay has stopped.
    Gone,
    /// Others wait, and it had its time.
    Crowded,
    /// The host cannot be asked, or its stream does not come to rest.
    Trouble(Trouble),
}

impl From<Gone> for Break {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Trouble> for Break {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// How a listing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Everything was in it.
    Whole,
    /// It had no end, or there is none.
    Unusable,
}

/// A pass that was asked for looks again at what it knows already.
pub(super) const REQUESTED: &str = "requested: ";

impl<L: Ledger> Pass<L> {
    /// The row of a pass that begins.
    pub(super) fn begin(row: Option<Row>, reason: String, now: Micros) -> Row {
        let (before, began) = (row.unwrap_or_default(), now);
        let (ended, after, counts) = (Micros(0), String::new(), Counts::default());
        Row { began, ended, reason, after, counts, ..before }
    }

    /// Over the host's whole listing, from where `row` says.
    pub(super) async fn whole(&mut self, known: &Known) -> Result<(), Break> {
        self.ledger.keep(self.host, self.row.clone()).await?;
        if self.row.after == ABSENT {
            // Who was in the listing is not kept: after a restart nobody can be told to be absent.
            return self.end().await;
        }
        if let Some(after) = self.row.after.strip_prefix(MEMBERS).map(str::to_owned) {
            self.members(Did::parse(&after).ok(), None).await?;
            return self.end().await;
        }
        let is_fresh = self.row.after.is_empty();
        let seen = Seen::new(known.accounts, turn(self.host, self.row.began));
        let mut seen = is_fresh.then_some(seen);
        let mut listing = Source::Listing(Listing::from(self.row.after.clone()));
        match self.go(&mut listing, &mut seen).await? {
            Course::Whole if seen.is_some() => {
                self.row.after = ABSENT.to_owned();
                self.members(None, seen).await?;
            }
            Course::Whole => {}
            // A host that does not list, or not to an end, is asked about each account that we
            // have from it.
            Course::Unusable => {
                self.row.after = MEMBERS.to_owned();
                self.members(None, None).await?;
            }
        }
        self.end().await
    }

    /// Over the accounts that we have from the host, but for those that were `seen`.
    async fn members(&mut self, after: Option<Did>, seen: Option<Seen>) -> Result<(), Break> {
        let joined_by = self.row.began;
        let mut members = Source::Members { after, joined_by, seen, at_end: false };
        self.go(&mut members, &mut None).await?;
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Break> {
        let counts = self.row.counts;
        let accounts = self.ledger.host(self.host).await?.map_or(0, |known| known.accounts);
        self.row.ended = (self.clock)();
        self.row.full = Full {
            at: self.row.ended,
            listed: counts.listed,
            known: accounts,
            in_step: counts.in_step + counts.repaired,
            behind: counts.behind.saturating_sub(counts.repaired),
        };
        // Who could not be looked at is owed since then.
        self.ledger.settle(self.host, None, self.row.began).await?;
        self.ledger.keep(self.host, self.row.clone()).await?;
        Ok(())
    }

    /// Over single accounts.
    pub(super) async fn single(&mut self) -> Result<(), Break> {
        let now = (self.clock)();
        let owed = self.ledger.owed_accounts(self.host, SINGLE_MAX).await?;
        let mut dids = VecDeque::from(owed);
        let is_second = self.row.second_look > Micros(0) && self.row.second_look <= now;
        if is_second {
            let long_ago = before(now, self.timing.absence);
            dids.extend(self.ledger.missing(self.host, long_ago, SINGLE_MAX).await?);
            self.row.second_look = Micros(0);
        }
        self.go(&mut Source::Single(dids), &mut None).await?;
        if is_second {
            let now = (self.clock)();
            let left = self.ledger.missing(self.host, now, 1).await?;
            if self.row.second_look == Micros(0) && !left.is_empty() {
                self.row.second_look = now.plus(self.timing.absence);
            }
            self.ledger.keep(self.host, self.row.clone()).await?;
        }
        Ok(())
    }

    /// Reads portions ahead of the ones that wait, and looks after each when it is ripe.
    async fn go(&mut self, source: &mut Source, seen: &mut Option<Seen>) -> Result<Course, Break> {
        let mut waiting: VecDeque<Portion> = VecDeque::new();
        let mut course = None;
        loop {
            self.give_way()?;
            if self.is_ripe(waiting.front_mut())? {
                let portion = waiting.pop_front().expect("it is ripe");
                self.look_after(portion, source).await?;
                continue;
            }
            let apart: usize = waiting.iter().map(|portion| portion.apart.len()).sum();
            let has_room = waiting.len() < PORTIONS_MAX && apart < APART_MAX;
            match course {
                None if has_room => {
                    let (portion, ended) = self.read(source, seen).await?;
                    waiting.extend(portion);
                    course = ended;
                }
                Some(course) if waiting.is_empty() => return Ok(course),
                _ => sleep(self.timing.look).await,
            }
        }
    }

    /// Others wait, and the pass had its time: it goes on later, behind the last portion.
    fn give_way(&self) -> Result<(), Break> {
        let is_over = self.started.elapsed() > TURN_MAX;
        if is_over && self.crowded.load(Ordering::Relaxed) { Err(Break::Crowded) } else { Ok(()) }
    }

    /// Whether a portion may be looked after: nobody in it is apart, or the stream has got past
    /// the moment at which it was read, and what the stream brought has had time to arrive.
    fn is_ripe(&self, portion: Option<&mut Portion>) -> Result<bool, Break> {
        let Some(portion) = portion else { return Ok(false) };
        if portion.apart.is_empty() {
            return Ok(true);
        }
        let stream = self.ledger.stream(self.host).ok_or(Break::Gone)?;
        let is_past = portion.guard.is_past(&stream, (self.clock)());
        let age = portion.since.elapsed();
        if !is_past && age > UNRIPE_MAX.max(self.timing.recheck) {
            return Err(Trouble::of("its stream does not come to rest").into());
        }
        Ok(is_past && age >= self.timing.recheck)
    }

    /// The next portion, and how the source has ended, if it has.
    async fn read(
        &mut self,
        source: &mut Source,
        seen: &mut Option<Seen>,
    ) -> Result<(Option<Portion>, Option<Course>), Break> {
        match source {
            Source::Listing(listing) => {
                let asked = (self.clock)();
                let page = match self.asker.page(listing.cursor()).await? {
                    ask::Listing::Page(page) => page,
                    ask::Listing::MethodMissing => return Ok((None, Some(Course::Unusable))),
                };
                let course = match listing.turn(&page) {
                    Step::On => None,
                    Step::End => Some(Course::Whole),
                    Step::Broken => Some(Course::Unusable),
                };
                if let Some(seen) = seen {
                    page.repos.iter().for_each(|listed| seen.insert(&listed.did));
                }
                let mut portion = Portion::new(asked, (self.clock)());
                portion.counts.listed = count(page.repos.len());
                portion.next = course.is_none().then(|| listing.cursor().to_owned());
                self.sort(&mut portion, page.repos).await?;
                Ok((Some(portion), course))
            }
            Source::Single(dids) => {
                let some = dids.drain(..dids.len().min(PORTION_MAX)).collect();
                let course = dids.is_empty().then_some(Course::Whole);
                Ok((Some(self.ask(some).await?), course))
            }
            Source::Members { after, joined_by, seen, at_end } => {
                let page =
                    self.ledger.members(self.host, after.take(), *joined_by, PORTION_MAX).await?;
                (*at_end, *after) = (page.next.is_none(), page.next);
                let is_asked = |did: &Did| seen.as_ref().is_none_or(|seen| seen.is_absent(did));
                let some = page.dids.into_iter().filter(is_asked).collect();
                let course = at_end.then_some(Course::Whole);
                // Where somebody was listed, who was is not known after a restart.
                let place = after.as_ref().filter(|_| seen.is_none());
                let next = place.map(|after| format!("{MEMBERS}{after}"));
                Ok((Some(Portion { next, ..self.ask(some).await? }), course))
            }
        }
    }

    /// Asks about single accounts.
    async fn ask(&mut self, dids: Vec<Did>) -> Result<Portion, Break> {
        let asked = (self.clock)();
        let (mut words, mut failed) = (Vec::with_capacity(dids.len()), Vec::new());
        for did in dids {
            self.give_way()?;
            let word = match self.asker.status(&did).await? {
                Said::Word(word) => word,
                // Then its commit says more.
                Said::MethodMissing => {
                    let (rev, head) = (Box::from(""), Box::from(""));
                    Word::Has { rev, head, active: None, status: None }
                }
                Said::Unusable => {
                    self.metrics.account(Fate::Failed);
                    failed.push(did);
                    continue;
                }
            };
            words.push(Listed { did, word });
        }
        let mut portion = Portion::new(asked, (self.clock)());
        let has = |listed: &&Listed| listed.word != Word::NotFound;
        portion.counts =
            Counts { listed: count(words.iter().filter(has).count()), ..Counts::default() };
        portion.counts.failed = count(failed.len());
        portion.failed = failed;
        self.sort(&mut portion, words).await?;
        Ok(portion)
    }

    /// Compares what the host says with what we hold: who is apart waits for the stream.
    async fn sort(&self, portion: &mut Portion, words: Vec<Listed>) -> Result<(), Break> {
        let dids = words.iter().map(|listed| listed.did.clone()).collect();
        let held = self.ledger.held(self.host, dids).await?;
        let terms = self.terms();
        for (listed, held) in words.into_iter().zip(held) {
            self.found_again(&listed, &held).await?;
            let fate = match judge(&listed.word, &held, terms) {
                Judged::Apart(_) | Judged::Missing => {
                    portion.apart.push(listed);
                    continue;
                }
                Judged::InStep => Fate::InStep,
                Judged::Excused => Fate::Excused,
                Judged::Elsewhere => Fate::Elsewhere,
            };
            self.metrics.account(fate);
            portion.counts.in_step += 1;
            portion.settled.push(listed.did);
        }
        Ok(())
    }

    /// Who was missing, and is there, is not missing any more.
    async fn found_again(&self, listed: &Listed, held: &Held) -> Result<(), Gone> {
        let was_missing = held.excused.as_ref().is_some_and(|it| it.missing_since > Micros(0));
        if was_missing && listed.word != Word::NotFound {
            self.ledger.excuse(self.host, listed.did.clone(), None).await?;
        }
        Ok(())
    }

    fn terms(&self) -> Terms {
        let forced = self.row.is_under_way() && self.row.reason.starts_with(REQUESTED);
        Terms { host: self.host, forced }
    }

    /// Looks after who is still apart, and notes that the portion is done.
    async fn look_after(&mut self, mut portion: Portion, source: &Source) -> Result<(), Break> {
        let is_single = matches!(source, Source::Single(_));
        let began = portion.asked;
        for listed in std::mem::take(&mut portion.apart) {
            self.give_way()?;
            let fate = self.examine(&listed).await?;
            self.metrics.account(fate);
            let counts = &mut portion.counts;
            counts.behind += u64::from(matches!(
                fate,
                Fate::Repaired | Fate::Unverifiable | Fate::Refused | Fate::Failed
            ));
            let count = match fate {
                Fate::CaughtUp | Fate::InStep | Fate::Excused | Fate::Elsewhere => {
                    &mut counts.in_step
                }
                Fate::Repaired => &mut counts.repaired,
                Fate::Unverifiable => &mut counts.unverifiable,
                Fate::Missing => &mut counts.missing,
                Fate::Failed => &mut counts.failed,
                Fate::Refused | Fate::NoRoom => continue,
            };
            *count += 1;
            if fate == Fate::Failed {
                portion.failed.push(listed.did);
            } else {
                portion.settled.push(listed.did);
            }
        }
        self.failed += portion.counts.failed;
        if is_single {
            for did in portion.settled {
                self.ledger.settle(self.host, Some(did), began).await?;
            }
            return Ok(());
        }
        if portion.counts == Counts::default() && portion.next.is_none() {
            return Ok(());
        }
        if !portion.failed.is_empty() {
            // One whose repo cannot be had does not keep all others owed.
            self.ledger.owe(self.host, portion.failed).await?;
        }
        self.row.counts.add(&portion.counts);
        self.row.after = portion.next.unwrap_or_else(|| std::mem::take(&mut self.row.after));
        self.ledger.keep(self.host, self.row.clone()).await?;
        Ok(())
    }

    /// Looks at an account again, in what we hold first, and finds out what its host has.
    async fn examine(&mut self, listed: &Listed) -> Result<Fate, Break> {
        let held = self.held(&listed.did).await?;
        let apart = match judge(&listed.word, &held, self.terms()) {
            Judged::Apart(apart) => apart,
            Judged::Missing => return self.missing(&listed.did, &held).await,
            Judged::InStep | Judged::Excused | Judged::Elsewhere => return Ok(Fate::CaughtUp),
        };
        // What the host says later than this is newer than what it is asked for now.
        let seen = (self.clock)();
        let mut status = None;
        // A listing may be silent; of an inactive account no commit is news without a status.
        let was_active = held.account.as_ref().is_none_or(|account| account.upstream.active);
        if apart.status || !was_active {
            status = match self.asker.status(&listed.did).await? {
                Said::Word(Word::NotFound) => return self.missing(&listed.did, &held).await,
                Said::Word(word) => word.upstream(),
                // The listing is the host's word, too.
                Said::MethodMissing => listed.word.upstream(),
                Said::Unusable => return Ok(Fate::Failed),
            };
        }
        let is_active = status.as_ref().is_none_or(|status| status.active);
        let mut commit = None;
        if apart.content && is_active {
            let ours = held.account.as_ref().and_then(|account| account.repo);
            let ours_cid = ours.map(|repo| Cid::cbor(repo.commit));
            match self.asker.commit(&listed.did, ours_cid).await? {
                // "the fetched commit's own rev ≤ ours, whatever is listed": it is in step.
                Signed::Commit { block, rev } if ours.is_none_or(|ours| rev > ours.rev) => {
                    commit = Some(block);
                }
                Signed::Commit { .. } | Signed::Held => {}
                Signed::NotFound => return self.missing(&listed.did, &held).await,
                Signed::Inactive(upstream) => status = Some(upstream),
                Signed::Unusable => return Ok(Fate::Failed),
            }
        }
        let before = held.account.as_ref().map_or(Upstream::ACTIVE, |it| it.upstream.clone());
        let status = status.filter(|status| is_other(status, &before));
        if commit.is_none() && status.is_none() {
            self.excuse(listed, &held).await?;
            return Ok(Fate::CaughtUp);
        }
        let did = listed.did.clone();
        let finding = Finding { host: self.host, did, commit, status, seen };
        let fate = fate(self.ledger.submit(finding).await?, apart);
        if matches!(fate, Fate::Unverifiable | Fate::Refused) {
            self.excuse(listed, &held).await?;
        }
        Ok(fate)
    }

    async fn held(&self, did: &Did) -> Result<Held, Gone> {
        let mut held = self.ledger.held(self.host, vec![did.clone()]).await?;
        Ok(held.pop().unwrap_or_default())
    }

    /// It needs no look until its listing changes. Only of accounts that we hold: invented ones
    /// must not fill the store.
    async fn excuse(&self, listed: &Listed, held: &Held) -> Result<(), Gone> {
        let Word::Has { rev, head, .. } = &listed.word else { return Ok(()) };
        if held.account.is_none() || head.is_empty() {
            return Ok(());
        }
        let (rev, head) = (rev.to_string(), head.to_string());
        let excused = Excused { rev, head, at: (self.clock)(), missing_since: Micros(0) };
        self.ledger.excuse(self.host, listed.did.clone(), Some(excused)).await
    }

    /// The host does not know an account of ours. Twice, a day apart: then it has deleted it.
    async fn missing(&mut self, did: &Did, held: &Held) -> Result<Fate, Break> {
        if judge(&Word::NotFound, held, self.terms()) != Judged::Missing {
            return Ok(Fate::CaughtUp);
        }
        let now = (self.clock)();
        let before = held.excused.as_ref().map_or(Micros(0), |excused| excused.missing_since);
        if before == Micros(0) {
            let excused = Excused { at: now, missing_since: now, ..Excused::default() };
            self.ledger.excuse(self.host, did.clone(), Some(excused)).await?;
        }
        if before == Micros(0) || now.since(before) < self.timing.absence {
            if self.row.second_look == Micros(0) {
                self.row.second_look = now.plus(self.timing.absence);
                self.ledger.keep(self.host, self.row.clone()).await?;
            }
            return Ok(Fate::Missing);
        }
        let status = Some(Upstream { active: false, status: Some(DELETED.into()) });
        let finding =
            Finding { host: self.host, did: did.clone(), commit: None, status, seen: now };
        let found = self.ledger.submit(finding).await?;
        self.ledger.excuse(self.host, did.clone(), None).await?;
        Ok(fate(found, Apart { content: false, status: true }))
    }
}

/// What became of an account whose finding was judged.
fn fate(found: Found, apart: Apart) -> Fate {
    match found {
        Found::Repaired => Fate::Repaired,
        Found::InStep => Fate::CaughtUp,
        Found::Refused(Reject::SignatureInvalid | Reject::SignatureHighS) if apart.content => {
            Fate::Unverifiable
        }
        // Nobody could say who speaks for it: asked again.
        Found::Refused(Reject::IdentityUnresolved) => Fate::Failed,
        // It would be one too many, or is throttled since.
        Found::Refused(Reject::AccountThrottled) => Fate::NoRoom,
        Found::Refused(_) => Fate::Refused,
    }
}

fn before(now: Micros, duration: Duration) -> Micros {
    Micros(now.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// How far a pass is that has no listing to go by; no host's cursor begins so.
const MEMBERS: &str = "\0members:";
/// Of a pass that is through with the listing, and asks about who was not in it.
const ABSENT: &str = "\0absent";
/// Single accounts of one pass: all that the store may hold of a host by themselves.
const SINGLE_MAX: usize = 10_000;
/// Single accounts that wait for the stream together.
const PORTION_MAX: usize = 100;
/// Portions that wait: at one page a second, those of a minute.
const PORTIONS_MAX: usize = 64;
/// Accounts in them that are apart, 200 bytes each: 1 MB a pass, but for a last page.
const APART_MAX: usize = 5_000;
/// A stream that has not come to rest for so long is left alone.
const UNRIPE_MAX: Duration = Duration::from_hours(1);
/// When others wait, a pass that is not done after this time goes on later.
const TURN_MAX: Duration = Duration::from_mins(10);
