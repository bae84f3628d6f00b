//! Frames whose check panicked, kept in the data folder for a person to look into: of each the
//! bytes as the host sent them, and a note beside them.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use protocol::datetime;
use serde_json::{Value, json};
use tracing::error;
use verifier::{OnPanic, Panicked};

/// Starts the thread that keeps them in `data/panics`, and gives what it is told through. It ends
/// when that is dropped.
pub fn start(data: &Path) -> anyhow::Result<(OnPanic, JoinHandle<()>)> {
    let metrics = Metrics::register();
    let folder = Folder::open(data.join("panics"));
    metrics.kept(&folder);
    let (tx, rx) = sync_channel(WAITING_MAX);
    let lost = metrics.lost.clone();
    let keeper = Keeper { folder, metrics, quiet: Quiet::default() };
    let thread = std::thread::Builder::new()
        .name("panics".to_owned())
        .spawn(move || keeper.run(&rx))
        .context("start a thread")?;
    Ok((told_through(tx, lost), thread))
}

/// A panic that finds no room is counted and forgotten: a shard does not wait for a disk.
fn told_through(tx: SyncSender<Panicked>, lost: Counter) -> OnPanic {
    Arc::new(move |panicked| match tx.try_send(panicked) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => lost.increment(1),
    })
}

struct Keeper {
    folder: Folder,
    metrics: Metrics,
    quiet: Quiet,
}

impl Keeper {
    fn run(mut self, rx: &Receiver<Panicked>) {
        while let Ok(panicked) = rx.recv() {
            let kept = self.folder.keep(&panicked);
            let file = match &kept {
                Ok(Some(file)) => {
                    self.metrics.written.increment(1);
                    self.metrics.kept(&self.folder);
                    file.display().to_string()
                }
                // What was kept of this place shows the same; but somebody must know.
                Ok(None) | Err(_) if self.quiet.is_over() => {
                    self.metrics.lost.increment(1);
                    match &kept {
                        Err(error) => format!("not kept: {error}"),
                        _ => "not kept: enough are".to_owned(),
                    }
                }
                Ok(None) | Err(_) => {
                    self.metrics.lost.increment(1);
                    continue;
                }
            };
            error!(
                did = %panicked.did,
                host = %panicked.name,
                seq = %panicked.seq,
                place = panicked.place,
                message = panicked.message,
                file,
                "a check panicked"
            );
        }
    }
}

/// What is in the folder. Operators take out what they have seen; that is noticed at the next
/// start.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    frames: usize,
    bytes: u64,
    /// How many of them by the place in the code.
    places: HashMap<String, usize>,
}

impl Folder {
    /// Counts what is there. What cannot be read counts as full: nothing is overwritten.
    fn open(path: PathBuf) -> Self {
        let mut folder = Self { path, frames: 0, bytes: 0, places: HashMap::new() };
        match folder.count() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                error!(%error, path = %folder.path.display(), "read the kept frames");
                folder.frames = FRAMES_MAX;
            }
        }
        folder
    }

    fn count(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)?.take(ENTRIES_MAX) {
            let entry = entry?;
            self.bytes += entry.metadata()?.len();
            let path = entry.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("frame") => self.frames += 1,
                Some("json") => {
                    if let Some(place) = noted_place(&path) {
                        *self.places.entry(place).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a frame and its note, if there is room: the frame's file.
    fn keep(&mut self, panicked: &Panicked) -> io::Result<Option<PathBuf>> {
        let bytes = panicked.frame.len() as u64;
        let of_place = self.places.get(&panicked.place).copied().unwrap_or(0);
        if of_place >= FRAMES_OF_PLACE_MAX
            || self.frames >= FRAMES_MAX
            || self.bytes + bytes + NOTE_BYTES_MAX > BYTES_MAX
        {
            return Ok(None);
        }
        fs::create_dir_all(&self.path)?;
        let name = format!("{}-{}-{}", panicked.judged.0, panicked.host, panicked.seq);
        let file = self.path.join(format!("{name}.frame"));
        let note = note(panicked, &format!("{name}.frame")).to_string();
        // Counted before it is written: a disk that fails half-way must not be filled.
        self.frames += 1;
        self.bytes += bytes + note.len() as u64;
        *self.places.entry(panicked.place.clone()).or_default() += 1;
        write_new(&file, &panicked.frame)?;
        write_new(&self.path.join(format!("{name}.json")), note.as_bytes())?;
        Ok(Some(file))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(bytes)
}

fn note(panicked: &Panicked, file: &str) -> Value {
    json!({
        "frame": file,
        "bytes": panicked.frame.len(),
        "kind": panicked.kind.name(),
        "did": panicked.did.to_string(),
        "host": panicked.name.as_str(),
        "epoch": panicked.epoch.0,
        "seq": panicked.seq.get(),
        "received": datetime::format(panicked.received),
        "judged": datetime::format(panicked.judged),
        "message": panicked.message,
        "place": panicked.place,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn noted_place(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(NOTE_BYTES_MAX).read_to_string(&mut text).ok()?;
    let note: Value = serde_json::from_str(&text).ok()?;
    Some(note.get("place")?.as_str()?.to_owned())
}

/// Says once a minute that it may be said again.
#[derive(Default)]
struct Quiet {
    until: Option<Instant>,
}

impl Quiet {
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let over = self.until.is_none_or(|until| now >= until);
        if over {
            self.until = Some(now + QUIET);
        }
        over
    }
}

struct Metrics {
    written: Counter,
    lost: Counter,
    kept: Gauge,
    kept_bytes: Gauge,
}

impl Metrics {
    fn register() -> Self {
        describe_counter!(
            "mainstem_relay_panic_frames_total",
            "Frames whose check panicked, by what became of them: written or lost."
        );
        describe_gauge!(
            "mainstem_relay_panic_frames_kept",
            "Frames in the folder panics: a person must look."
        );
        describe_gauge!("mainstem_relay_panic_frames_kept_bytes", "Their bytes, notes included.");
        let frames = |outcome| counter!("mainstem_relay_panic_frames_total", "outcome" => outcome);
        Self {
            written: frames("written"),
            lost: frames("lost"),
            kept: gauge!("mainstem_relay_panic_frames_kept"),
            kept_bytes: gauge!("mainstem_relay_panic_frames_kept_bytes"),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is for reading")]
    fn kept(&self, folder: &Folder) {
        self.kept.set(folder.frames as f64);
        self.kept_bytes.set(folder.bytes as f64);
    }
}

/// Kept of one place in the code: the first ones. So a host that sends the same poison again and
/// again neither pushes out the first one nor takes the room of another bug; and hosts cannot
/// invent places.
const FRAMES_OF_PLACE_MAX: usize = 4;
/// Kept in all. The oldest stay until a person takes them out.
const FRAMES_MAX: usize = 32;
/// A frame has 5 MB at most; most have a thousandth of it.
const BYTES_MAX: u64 = 64 << 20;
/// A note is some 700 bytes long: a DID of 2 KiB and a message of 300 characters at the worst.
const NOTE_BYTES_MAX: u64 = 8 << 10;
/// Of a folder that somebody has filled with something else, no more is looked at.
const ENTRIES_MAX: usize = 1_000;
/// Waiting for the disk; 10 MB at the worst.
const WAITING_MAX: usize = 2;
/// Panics that are not kept are logged this often at most; all are counted.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use protocol::did::Did;
    use protocol::frame::{HostKind, Kind};
    use protocol::host::{HostName, HostRules};
    use protocol::ids::{Epoch, HostId, HostSeq, Micros};

    use super::*;

    fn panicked(seq: u64, place: &str, bytes: usize) -> Panicked {
        Panicked {
            host: HostId(7),
            name: HostName::parse("pds.example.com", HostRules::Public).unwrap(),
            epoch: Epoch(1),
            seq: HostSeq::new(seq).unwrap(),
            kind: HostKind::Event(Kind::Commit),
            did: Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap(),
            received: Micros(1_000_000),
            judged: Micros(2_000_000),
            frame: vec![u8::try_from(seq % 251).unwrap(); bytes].into(),
            message: "index out of \"bounds\"".to_owned(),
            place: place.to_owned(),
        }
    }

    #[test]
    fn a_frame_is_kept_byte_for_byte_with_its_note() {
        let data = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(data.path().join("panics"));
        let file = folder.keep(&panicked(9, "a.rs:1:2", 1000)).unwrap().unwrap();
        assert_eq!(fs::read(&file).unwrap(), vec![9; 1000]);
        let note: Value =
            serde_json::from_slice(&fs::read(file.with_extension("json")).unwrap()).unwrap();
        assert_eq!(note["host"], "pds.example.com");
        assert_eq!(note["did"], "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!((&note["seq"], &note["kind"]), (&json!(9), &json!("#commit")));
        assert_eq!(note["judged"], "1970-01-01T00:00:02.000Z");
        assert_eq!(note["message"], "index out of \"bounds\"");
        assert_eq!(note["frame"], file.file_name().unwrap().to_str().unwrap());
    }

    #[test]
    fn the_first_of_each_place_are_kept_and_a_restart_counts_them() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("panics");
        let mut folder = Folder::open(path.clone());
        let mut seq = 0;
        let mut kept = |folder: &mut Folder, place: &str| {
            seq += 1;
            folder.keep(&panicked(seq, place, 100)).unwrap().is_some()
        };
        let flood: Vec<bool> = (0..6).map(|_| kept(&mut folder, "a.rs:1:1")).collect();
        assert_eq!(flood, [true, true, true, true, false, false]);
        assert!(kept(&mut folder, "b.rs:1:1"), "another bug has its own room");
        let mut folder = Folder::open(path.clone());
        assert_eq!((folder.frames, folder.places["a.rs:1:1"]), (5, 4));
        assert!(!kept(&mut folder, "a.rs:1:1"));
        let more = (0..100).filter(|at| kept(&mut folder, &format!("c.rs:{at}:1"))).count();
        assert_eq!(more, FRAMES_MAX - 5);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2 * FRAMES_MAX);
        assert_eq!(Folder::open(path.clone()).bytes, folder.bytes);
        // The operator has seen them.
        fs::remove_dir_all(&path).unwrap();
        let mut folder = Folder::open(path);
        assert!(kept(&mut folder, "a.rs:1:1"));
    }

    #[test]
    fn large_frames_are_bounded_by_their_bytes() {
        let data = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(data.path().join("panics"));
        folder.bytes = BYTES_MAX - 5_000_000 - NOTE_BYTES_MAX;
        assert!(folder.keep(&panicked(1, "a", 5_000_001)).unwrap().is_none());
        assert!(folder.keep(&panicked(2, "a", 5_000_000)).unwrap().is_some());
        assert!(folder.keep(&panicked(3, "b", 5_000_000)).unwrap().is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_written_loses_frames_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("panics");
        fs::write(&path, "a file where the folder should be").unwrap();
        let mut folder = Folder::open(path);
        assert!(folder.keep(&panicked(1, "a", 10)).is_ok_and(|file| file.is_none()));
        folder.frames = 0;
        assert!(folder.keep(&panicked(1, "a", 10)).is_err());
    }

    #[test]
    fn who_tells_of_a_panic_never_waits() {
        let (tx, rx) = sync_channel(WAITING_MAX);
        let on_panic = told_through(tx, Counter::noop());
        (1..=10).for_each(|seq| on_panic(panicked(seq, "a", 10)));
        drop(on_panic);
        assert_eq!(rx.iter().count(), WAITING_MAX);
    }
}
