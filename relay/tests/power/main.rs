//! Power cuts and sick disks: a relay's files are watched by a shim, and what a cut at any moment
//! would have left of them is rebuilt and opened (docs/testing.md, "Power cuts").

#![allow(clippy::print_stdout, reason = "what a test run did is told")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod disk;
mod journal;
mod recording;
mod sick;
#[path = "../support/mod.rs"]
mod support;
mod survey;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use loadtest::oracle::{Finding, Witness};
use protocol::ids::Micros;
use storage::Durability;

use disk::{Chance, Disk, Fate};
use journal::{Op, Record};
use recording::Recording;
use support::{now, until};
use survey::Survey;

/// I2, I3, I5: whatever the moment, no consumer saw what is lost.
#[tokio::test(flavor = "multi_thread")]
async fn i2_i3_i5_no_power_cut_takes_what_a_consumer_saw() {
    let setup = Setup::read();
    let recording = Recording::make("fsync", setup.seed, setup.length).await;
    the_journal_is_complete(&recording);
    let mut chance = Chance::new(setup.seed);
    let cuts = cuts(&recording.records, setup.cuts, &mut chance);
    let outcome = cut_all(&recording, &cuts, Disk::new(), Durability::Fsync, &mut chance).await;
    outcome.print("fsync");
    assert!(outcome.faults.is_empty(), "{:#?}", outcome.faults);
    assert!(outcome.seen > 0 && outcome.compared > 0, "nothing was compared");

    let few = some(&cuts, STARTS);
    start_after(&recording, &few, "fsync", &mut chance).await;

    // The proof that this finds what it looks for: the same on a disk that does not sync.
    let few = some(&cuts, LYING_CUTS);
    let lied = cut_all(&recording, &few, Disk::lying(), Durability::Fsync, &mut chance).await;
    lied.print("lying");
    let noticed = lied.faults.iter().filter(|fault| fault.contains("lost")).count();
    assert!(noticed > 0, "a disk that does not sync was not noticed: {:?}", lied.faults);
}

/// I3: what a cut takes under `os` leaves a hole in the numbers, whatever the clock says then.
#[tokio::test(flavor = "multi_thread")]
async fn i3_i5_no_number_comes_again_after_a_power_cut_that_took_events() {
    let setup = Setup::read();
    let recording = Recording::make("os", setup.seed, setup.length).await;
    the_journal_is_complete(&recording);
    let mut chance = Chance::new(setup.seed);
    let cuts = cuts(&recording.records, setup.cuts / 2, &mut chance);
    let outcome = cut_all(&recording, &cuts, Disk::new(), Durability::Os, &mut chance).await;
    outcome.print("os");
    assert!(outcome.faults.is_empty(), "{:#?}", outcome.faults);
    let few = some(&cuts, STARTS);
    start_after(&recording, &few, "os", &mut chance).await;
    // The proof that it needs the mark: counted on from the head, numbers would have come again.
    assert!(outcome.again_without_mark > 0, "no cut took anything that a consumer saw");
}

/// What is asked for by the environment: `POWER_CUTS`, `POWER_SECONDS` of load, `POWER_SEED`.
struct Setup {
    cuts: usize,
    length: Duration,
    seed: u64,
}

impl Setup {
    fn read() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a longer run is asked for by the environment"
        )]
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("POWER_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        println!("seed {seed}");
        let cuts = number("POWER_CUTS").map_or(CUTS, |cuts| usize::try_from(cuts).unwrap());
        Self { cuts, length: number("POWER_SECONDS").map_or(LENGTH, Duration::from_secs), seed }
    }
}

/// Nothing has slipped through: what was written down, done again, makes the same folder.
fn the_journal_is_complete(recording: &Recording) {
    let mut disk = Disk::new();
    recording.records.iter().for_each(|record| disk.apply(&record.op));
    let (replayed, real) = (disk.whole(), disk::read(&recording.data()));
    let names = |image: &disk::Image| image.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&replayed), names(&real));
    let differs = real.iter().find(|(path, bytes)| replayed.get(*path) != Some(*bytes));
    assert!(differs.is_none(), "{} differs", differs.unwrap().0);
}

/// What came of many cuts.
#[derive(Default)]
struct Outcome {
    cuts: usize,
    faults: Vec<String>,
    /// Messages that consumers had at the last cut.
    seen: usize,
    /// Events that were found.
    compared: usize,
    /// Cuts after which a consumer had seen what was lost.
    took: usize,
    /// Cuts after which a number would have been given again by counting on from the head.
    again_without_mark: usize,
    took_ms: u128,
}

impl Outcome {
    fn print(&self, name: &str) {
        let Self { cuts, seen, compared, took, again_without_mark, took_ms, faults } = self;
        println!(
            "{name}: {cuts} cuts in {took_ms} ms, {seen} messages seen, {compared} events found, \
             {took} cuts took something seen, {again_without_mark} numbers again without a mark, \
             {} faults",
            faults.len()
        );
    }
}

/// Rebuilds what each cut leaves, opens it and judges it.
async fn cut_all(
    recording: &Recording,
    cuts: &[usize],
    mut disk: Disk,
    durability: Durability,
    chance: &mut Chance,
) -> Outcome {
    let began = std::time::Instant::now();
    let mut outcome = Outcome::default();
    let mut done = 0;
    for (fate, cut) in FATES.iter().copied().cycle().zip(cuts) {
        for record in &recording.records[done..=*cut] {
            disk.apply(&record.op);
        }
        done = cut + 1;
        let folder = scratch();
        disk::write(&disk.after_power_cut(fate, chance), folder.path());
        // The clock of the next start: right, or days behind.
        let clock = match durability {
            Durability::Fsync => now(),
            Durability::Os => Micros(now().0 - 3 * 86_400_000_000),
        };
        // The next call was under way, and may have had no effect at all.
        let until = recording.records.get(done).map_or(u64::MAX, |next| next.at);
        let seen = recording.seen.partition_point(|seen| seen.at < until);
        let seen = &recording.seen[..seen];
        let about = format!("cut {cut} ({:?}), {fate:?}", recording.records[*cut].op.kind());
        outcome.cuts += 1;
        outcome.seen = seen.len();
        match Survey::of(folder.path(), durability, clock).await {
            Err(error) => outcome.faults.push(format!("{about}: {error:#}")),
            Ok(survey) => {
                let faults = survey.faults(recording, seen, durability == Durability::Fsync);
                outcome.faults.extend(faults.iter().map(|fault| format!("{about}: {fault}")));
                let (last, head) = (seen.last().map_or(0, |seen| seen.seq), survey.window.head);
                outcome.took += usize::from(head.get() < last);
                outcome.again_without_mark += usize::from(head.get() < last);
                outcome.compared += survey.events.len();
            }
        }
    }
    outcome.took_ms = began.elapsed().as_millis();
    outcome
}

/// Starts the real binary on what some cuts leave: its hosts send on, and a consumer resumes.
async fn start_after(recording: &Recording, cuts: &[usize], durability: &str, chance: &mut Chance) {
    let mut disk = Disk::new();
    let mut done = 0;
    for (fate, cut) in [Fate::Chance, Fate::Names].into_iter().cycle().zip(cuts) {
        for record in &recording.records[done..=*cut] {
            disk.apply(&record.op);
        }
        done = cut + 1;
        let folder = scratch();
        disk::write(&disk.after_power_cut(fate, chance), folder.path());
        let until_cut = recording.records.get(done).map_or(u64::MAX, |next| next.at);
        let seen = recording.seen.partition_point(|seen| seen.at < until_cut);
        let seen = recording.seen[..seen].to_vec();
        let (before, cursor) = (seen.len(), seen.last().map_or(0, |seen| seen.seq));

        let relay = recording.start_on(folder.path(), durability);
        let (consumer, all) = recording::resuming(relay.base(), seen);
        let sent: HashSet<u64> = recording.sent.iter().flatten().map(|sent| sent.1).collect();
        until("everything is delivered", async || {
            let all = all.lock().unwrap();
            let prints: HashSet<u64> = all.iter().map(|seen| seen.print).collect();
            sent.is_subset(&prints)
        })
        .await;
        assert!(relay.terminate().success(), "an orderly stop is a success");
        consumer.abort();
        let all = all.lock().unwrap();
        let mut witness = Witness::default();
        all.iter().for_each(|seen| witness.see(&seen.message));
        let mut findings = recording.network.oracle.judge(&witness);
        // What was lost comes again, under greater numbers.
        findings
            .retain(|finding| durability == "fsync" || !matches!(finding, Finding::Repeated(_)));
        assert!(findings.is_empty(), "cut {cut}, {fate:?}: {:?}", findings.first());
        println!("{durability}: started after {cut}, {fate:?}: {before} seen up to {cursor}");
    }
}

/// After which records to cut: by chance, and just before and after calls of each kind.
fn cuts(records: &[Record], count: usize, chance: &mut Chance) -> Vec<usize> {
    let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut disk = Disk::new();
    for (index, record) in records.iter().enumerate() {
        disk.apply(&record.op);
        if let Some(kind) = record.op.kind_of_file(&disk) {
            kinds.entry(kind).or_default().push(index);
        }
    }
    for (kind, places) in &kinds {
        println!("{kind}: {}", places.len());
    }
    // The load must have made the store do all that it does.
    for kind in MUST_HAPPEN {
        assert!(kinds.contains_key(*kind), "never seen: {kind}");
    }
    let mut cuts = BTreeSet::new();
    while cuts.len() < count / 3 {
        cuts.insert(chance.below(records.len()));
    }
    let mut kinds = kinds.values().cycle();
    while cuts.len() < count {
        let places = kinds.next().expect("endless");
        let place = places[chance.below(places.len())];
        cuts.insert(place);
        cuts.insert(place.saturating_sub(1));
    }
    cuts.into_iter().collect()
}

/// About so many of these, evenly, and not from their very beginning.
fn some(cuts: &[usize], count: usize) -> Vec<usize> {
    let step = cuts.len().div_ceil(count);
    cuts.iter().copied().skip(step / 2).step_by(step).collect()
}

/// A folder in memory, where there is one: what is opened here has been through its disk already.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Op {
    /// What sort of call it is, for people.
    fn kind(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().to_owned()
    }

    /// With the sort of the file that it concerns.
    fn kind_of_file(&self, disk: &Disk) -> Option<String> {
        let path = match self {
            Self::Write { fd, .. } | Self::Sync { fd } | Self::Truncate { fd, .. } => {
                disk.path(*fd)
            }
            Self::Open { path, create: true, .. } => path,
            Self::Rename { to, .. } => to,
            Self::Unlink { path } => path,
            _ => return None,
        };
        let sort = [".log", ".sst", "MANIFEST", "CURRENT", "OPTIONS", "LOG", "dbtmp"];
        let sort = sort.iter().find(|sort| path.contains(*sort));
        let sort = if path.is_empty() { Some(&"folder") } else { sort };
        Some(format!("{} {}", self.kind(), sort?))
    }
}

const FATES: [Fate; 4] = [Fate::Nothing, Fate::Everything, Fate::Chance, Fate::Names];
const MUST_HAPPEN: &[&str] = &[
    "Write .log",
    "Sync .log",
    "Write .sst",
    "Sync .sst",
    "Unlink .sst",
    "Unlink .log",
    "Write MANIFEST",
    "Sync MANIFEST",
    "Rename CURRENT",
    "Sync folder",
];
const CUTS: usize = 60;
const LYING_CUTS: usize = 8;
/// Cuts after which the real binary starts.
const STARTS: usize = 2;
const LENGTH: Duration = Duration::from_secs(6);
