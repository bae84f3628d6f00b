//! Many light readers on one thread: each counts frames, looks that seqs rise, and, of a sample,
//! how old a commit is when it arrives. Nothing else is decoded, so that a thousand of them leave
//! the machine to the relay.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use protocol::frame::{CommitFrame, Peek, peek};
use protocol::ids::Micros;
use protocol::tid::Tid;
use protocol::ws::{Header, Opcode};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

use crate::consumers;

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// `ws://HOST:PORT`.
    pub base: String,
    /// How many readers.
    pub count: usize,
    /// Where each starts; none: live.
    pub cursor: Option<u64>,
    /// One commit in so many tells its age; zero: none does.
    pub sample_every: u64,
    /// Connects, and reads nothing until the end.
    pub stalled: bool,
}

/// Running readers.
pub struct Readers {
    /// The newest seq of each; zero before its first.
    seen: Arc<[AtomicU64]>,
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<anyhow::Result<Outcome>>,
}

/// What all readers of a thread saw.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Each of them.
    pub tallies: Vec<Tally>,
    /// CPU time of the thread.
    pub cpu: Duration,
}

/// What one reader saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub frames: u64,
    /// Bytes of their messages.
    pub bytes: u64,
    /// Seq of the first event.
    pub first: u64,
    /// Seq of the last.
    pub last: u64,
    /// Events whose seq was not greater than the one before.
    pub disorder: u64,
    /// The sampled commits.
    pub ages: Vec<Age>,
    /// What the stream said at its end, and its close code; empty: nothing.
    pub end: String,
}

/// A commit on arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// When it arrived.
    pub at: Micros,
    /// How long ago its revision was made.
    pub age: Duration,
}

impl Readers {
    /// Connects all of them; returns when they are.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let seen: Arc<[AtomicU64]> = (0..options.count).map(|_| AtomicU64::new(0)).collect();
        let (stop, stopped) = watch::channel(false);
        let (ready_tx, ready) = oneshot::channel();
        let shown = Arc::clone(&seen);
        let thread = std::thread::Builder::new()
            .name("readers".into())
            .spawn(move || run(&options, &shown, stopped, ready_tx))
            .context("start the readers' thread")?;
        if ready.await.is_err() {
            let failed = tokio::task::spawn_blocking(move || thread.join()).await?;
            failed.map_err(|_| anyhow::anyhow!("the readers panicked"))??;
            anyhow::bail!("the readers ended at once");
        }
        Ok(Self { seen, stop, thread })
    }

    /// Waits until each has seen this seq. False: not within the patience.
    pub async fn reached(&self, seq: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.seen.iter().all(|seen| seen.load(Ordering::Relaxed) >= seq) {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Ends them, and what they saw.
    pub async fn finish(self) -> anyhow::Result<Outcome> {
        self.stop.send_replace(true);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_| anyhow::anyhow!("the readers panicked"))?
    }
}

fn run(
    options: &Options,
    seen: &Arc<[AtomicU64]>,
    stopped: watch::Receiver<bool>,
    ready: oneshot::Sender<()>,
) -> anyhow::Result<Outcome> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let buffer = Rc::new(RefCell::new(vec![0; BUFFER_BYTES]));
    let tasks = LocalSet::new();
    let tallies = tasks.block_on(&runtime, async {
        let mut readers = Vec::with_capacity(options.count);
        for number in 0..options.count {
            let (socket, read_ahead) = connect(options).await?;
            let reader = Reader {
                socket,
                carry: read_ahead.to_vec(),
                buffer: Rc::clone(&buffer),
                sample_every: options.sample_every,
                seen: Arc::clone(seen),
                number,
                tally: Tally::default(),
            };
            readers.push(tasks.spawn_local(reader.run(stopped.clone(), options.stalled)));
        }
        ready.send(()).map_err(|()| anyhow::anyhow!("nobody waits for the readers"))?;
        let mut tallies = Vec::with_capacity(readers.len());
        for reader in readers {
            tallies.push(reader.await.context("a reader panicked")??);
        }
        anyhow::Ok(tallies)
    })?;
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    let cpu = Duration::new(u64::try_from(cpu.tv_sec)?, u32::try_from(cpu.tv_nsec)?);
    Ok(Outcome { tallies, cpu })
}

async fn connect(options: &Options) -> anyhow::Result<(TcpStream, Bytes)> {
    let receive_bytes = options.stalled.then_some(STALLED_RECEIVE_BYTES);
    let subscription =
        consumers::subscribe_with(&options.base, options.cursor, receive_bytes).await?;
    Ok(subscription.into_parts())
}

struct Reader {
    socket: TcpStream,
    /// The beginning of a message.
    carry: Vec<u8>,
    /// Shared by all readers of the thread: used between awaits only.
    buffer: Rc<RefCell<Vec<u8>>>,
    sample_every: u64,
    seen: Arc<[AtomicU64]>,
    number: usize,
    tally: Tally,
}

impl Reader {
    async fn run(
        mut self,
        mut stop: watch::Receiver<bool>,
        stalled: bool,
    ) -> anyhow::Result<Tally> {
        if stalled {
            drop(stop.wait_for(|stop| *stop).await);
            // What was said to it all the while.
            drop(tokio::time::timeout(Duration::from_secs(5), self.read_all()).await);
            return Ok(self.tally);
        }
        tokio::select! {
            result = self.read_all() => result?,
            _ = stop.wait_for(|stop| *stop) => {}
        }
        Ok(self.tally)
    }

    /// Reads until the stream ends.
    async fn read_all(&mut self) -> anyhow::Result<()> {
        loop {
            self.socket.readable().await.context("wait")?;
            let buffer = Rc::clone(&self.buffer);
            let mut buffer = buffer.borrow_mut();
            let kept = self.carry.len();
            if buffer.len() < 2 * kept {
                buffer.resize(2 * kept, 0);
            }
            buffer[..kept].copy_from_slice(&self.carry);
            let read = match self.socket.try_read(&mut buffer[kept..]) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => {
                    self.tally.end.push_str("reset");
                    return Ok(());
                }
            };
            let used = self.take(&buffer[..kept + read])?;
            self.carry.clear();
            self.carry.extend_from_slice(&buffer[used..kept + read]);
            if self.carry.is_empty() && self.carry.capacity() > CARRY_BYTES_MAX {
                self.carry = Vec::new();
            }
        }
    }

    /// Takes whole messages; how many bytes they are.
    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some((header, start)) = Header::parse(&bytes[used..])? {
            let end = used + start + usize::try_from(header.len).context("length")?;
            if bytes.len() < end {
                break;
            }
            self.message(header.opcode, &bytes[used + start..end])?;
            used = end;
        }
        self.seen[self.number].store(self.tally.last, Ordering::Relaxed);
        Ok(used)
    }

    fn message(&mut self, opcode: Opcode, payload: &[u8]) -> anyhow::Result<()> {
        match opcode {
            Opcode::Binary => {}
            Opcode::Close => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.tally.end.push_str(&format!(" {code}"));
                return Ok(());
            }
            _ => return Ok(()),
        }
        let seq = match peek(payload).context("read a frame")? {
            Peek::Event { seq: Some(seq), .. } => seq,
            Peek::Error { error, .. } => {
                self.tally.end.push_str(error.unwrap_or_default());
                return Ok(());
            }
            Peek::Event { .. } | Peek::Info { .. } | Peek::Unknown { .. } => return Ok(()),
        };
        let tally = &mut self.tally;
        tally.frames += 1;
        tally.bytes += payload.len() as u64;
        tally.disorder += u64::from(seq <= tally.last);
        tally.last = seq;
        if tally.first == 0 {
            tally.first = seq;
        }
        if self.sample_every > 0
            && (tally.frames + self.number as u64).is_multiple_of(self.sample_every)
        {
            let message = Bytes::copy_from_slice(payload);
            tally.ages.extend(age(&message));
        }
        Ok(())
    }
}

/// `None`: it is no commit.
fn age(message: &Bytes) -> Option<Age> {
    let commit = CommitFrame::decode(message).ok()?;
    let made = Tid::parse(commit.rev).ok()?.micros();
    let at = Micros::default().plus(SystemTime::now().duration_since(UNIX_EPOCH).ok()?);
    Some(Age { at, age: at.since(made) })
}

/// Checks that each reader got the same events, in order: so many, up to this one.
pub fn check_complete(tallies: &[Tally], frames: u64, last: u64) -> anyhow::Result<()> {
    for (number, tally) in tallies.iter().enumerate() {
        let Tally { frames: got, last: end, disorder, end: said, .. } = tally;
        ensure!(
            (*got, *end, *disorder) == (frames, last, 0),
            "reader {number}: {got} of {frames} events, the last {end} instead of {last}, \
             {disorder} out of order, and at its end '{said}'"
        );
    }
    Ok(())
}

/// Large reads make system calls rare.
const BUFFER_BYTES: usize = 512 << 10;
/// A reader keeps this much for the next message's beginning.
const CARRY_BYTES_MAX: usize = 64 << 10;
/// What the system takes for one that does not read, beside the sender's own buffer.
const STALLED_RECEIVE_BYTES: u32 = 64 << 10;
