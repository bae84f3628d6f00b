//! The way into the store: open it, submit to it, ask it, stop it.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError, bounded};
use protocol::account::{Account, Local};
use protocol::did::Did;
use protocol::host::HostName;
use protocol::ids::{HostId, Micros, Seq};
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;

use crate::failure::Failure;
use crate::hosts::{Host, HostNote, Mirror, Start, Table};
use crate::log::hidden::Hidden;
use crate::log::{Log, Span};
use crate::metrics::Metrics;
use crate::retention::Retention;
use crate::sequencer::entry::{Command, Entry, Message};
use crate::sequencer::pending::Pending;
use crate::sequencer::{Sequencer, clock, mark};
use crate::store::records::{ExportRow, IdentityRow, REJECTS_PER_HOST, RejectRow};
use crate::store::{Family, Found, KeyAndRow, Sizes, Store, UNREADABLE, guard, keys, records};
use crate::{Error, Options, remedy};

/// The store. Cheap to clone; when the last one is gone, what was submitted is committed.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    queue: Sender<Message>,
    store: Arc<Store>,
    log: Log,
    mirror: Arc<Mirror>,
    settled: Arc<[AtomicU64]>,
    failure: Failure,
    /// Its other end goes with the sequencer.
    alive: watch::Receiver<()>,
    threads: Mutex<Option<Threads>>,
    dir: PathBuf,
    /// Held while a backup is made.
    backup: Mutex<()>,
}

struct Threads {
    sequencer: JoinHandle<Result<(), Error>>,
    retention: JoinHandle<()>,
    /// Dropped to end the retention thread.
    stop_retention: Sender<()>,
}

/// Opens the store, or makes it, and starts its threads.
pub fn open(options: Options) -> Result<Handle, Error> {
    let store = Arc::new(open_store(&options)?);
    let found = store.found()?;
    let Found { head, clock: last, floor, mark, begin, .. } = found;
    let now = (options.clock)();
    let given = mark::given(head, mark);
    clock::check(now, given, last, options.accept_clock)?;
    let begin = match begin {
        Some(begin) => begin,
        None => {
            // The first seq is the clock's or greater, so it comes after this.
            let begin = Seq::new(now.0.saturating_sub(1)).ok_or(Error::SeqExhausted(head))?;
            store.begin(begin)?;
            begin
        }
    };

    let (metrics, failure) = (Arc::new(Metrics::register()), Failure::none_yet());
    let log = Log::new(
        Arc::clone(&store),
        Hidden::load(found.hidden),
        Span { begin, floor, head, given },
        options.tail_bytes,
        failure.clone(),
        Arc::clone(&metrics),
    );
    let mirror = Arc::new(Mirror::load(&found.hosts, found.domain_bans));
    let settled: Arc<[AtomicU64]> = (0..options.shards).map(|_| AtomicU64::new(0)).collect();
    let (queue, messages) = bounded(QUEUE_MESSAGES_MAX);
    let (watching, alive) = watch::channel(());
    let sequencer = Sequencer {
        queue: messages,
        store: Arc::clone(&store),
        log: log.clone(),
        mirror: Arc::clone(&mirror),
        settled: Arc::clone(&settled),
        clock: Arc::clone(&options.clock),
        commit_interval: options.commit_interval,
        durability: options.durability,
        metrics: Arc::clone(&metrics),
        head: given,
        mark,
        hosts: Table::load(found.hosts, found.owed, found.last_host)?,
        islands: 0,
        pending: Pending::empty(options.shards),
        committed: Micros(0),
        tripwire: options.tripwire.clone(),
        _alive: watching,
    };
    let retention = Retention {
        store: Arc::clone(&store),
        log: log.clone(),
        clock: Arc::clone(&options.clock),
        retention: options.retention,
        retention_bytes: options.retention_bytes,
        sequencer: queue.clone(),
        metrics,
        tripwire: options.tripwire,
    };
    let threads = Mutex::new(Some(start(sequencer, retention, &failure)?));
    let (dir, backup) = (options.dir, Mutex::default());
    Ok(Handle(Arc::new(Inner {
        queue,
        store,
        log,
        mirror,
        settled,
        failure,
        alive,
        threads,
        dir,
        backup,
    })))
}

fn open_store(options: &Options) -> Result<Store, Error> {
    let Options { dir, in_memory, durability, retention_bytes, compression, .. } = options;
    if in_memory.is_none() {
        guard::before_opening(dir, *durability)?;
    }
    Store::open(dir, in_memory.clone(), Sizes::of(*retention_bytes), *compression)
}

fn start(sequencer: Sequencer, retention: Retention, failure: &Failure) -> Result<Threads, Error> {
    let spawn_error = |source| Error::Io { what: "start a thread", source: Arc::new(source) };
    let sequencer_failure = failure.clone();
    let sequencer = thread::Builder::new()
        .name("sequencer".to_owned())
        .spawn(move || sequencer.run(sequencer_failure))
        .map_err(spawn_error)?;
    let (stop_retention, stop) = bounded(0);
    let retention_failure = failure.clone();
    let retention = thread::Builder::new()
        .name("retention".to_owned())
        .spawn(move || retention.run(&stop, &retention_failure))
        .map_err(spawn_error)?;
    Ok(Threads { sequencer, retention, stop_retention })
}

impl Handle {
    /// Hands entries to the sequencer, in the order in which they must be logged. Blocks while the
    /// queue is full. Once the store has failed they go nowhere: [`Handle::failed`] has resolved.
    pub fn submit(&self, entries: Vec<Entry>) {
        drop(self.0.queue.send(Message::Entries(entries)));
    }

    /// Adds a host, whose standing begins now and at this level; one of this name that is there
    /// already is the answer, as it is. Committed when this returns.
    pub async fn add_host(&self, name: HostName, start: Start, level: u8) -> Result<Host, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::AddHost { name, start, level, reply }).await?;
        self.answered(answer).await
    }

    /// Notes a fact about a host. What an operator wants, a reset and a standing are committed when
    /// this returns; the others are written with the next commit.
    pub async fn note_host(&self, note: HostNote) -> Result<(), Error> {
        if !note.is_urgent() {
            return self.send(Message::Note { note, reply: None }).await;
        }
        let (reply, answer) = oneshot::channel();
        self.send(Message::Note { note, reply: Some(reply) }).await?;
        self.answered(answer).await?
    }

    /// Removes a host and everything that is kept of it but the states of its accounts. One of its
    /// name that is added later is another host, with a number of its own. What is on its way of
    /// the removed one is passed over. Committed when this returns.
    pub async fn remove_host(&self, host: HostId) -> Result<(), Error> {
        self.command(Command::RemoveHost { host }).await
    }

    /// Patterns of host names that an operator refuses. What they mean is the relay's.
    pub fn domain_bans(&self) -> Arc<[String]> {
        self.0.mirror.domain_bans()
    }

    /// Replaces the patterns of refused names. Committed when this returns.
    pub async fn set_domain_bans(&self, patterns: Vec<String>) -> Result<(), Error> {
        let is_line = |text: &String| !text.is_empty() && !text.contains('\n');
        let fits = |text: &String| text.len() <= DOMAIN_BAN_BYTES_MAX && is_line(text);
        if patterns.len() > DOMAIN_BANS_MAX || !patterns.iter().all(fits) {
            return Err(Error::Impossible("patterns of names that do not fit"));
        }
        self.command(Command::BanDomains { patterns }).await
    }

    /// Per shard: every entry up to this mark is in the store and can be read back.
    pub fn settled(&self) -> Arc<[AtomicU64]> {
        Arc::clone(&self.0.settled)
    }

    /// The log.
    pub fn log(&self) -> Log {
        self.0.log.clone()
    }

    /// An account's state as of the last commit. May wait for the disk.
    pub fn account(&self, did: &Did) -> Result<Option<Account>, Error> {
        self.read(Family::Accounts, &keys::account(did), records::read_account)
    }

    /// A resolved identity. May wait for the disk.
    pub fn identity(&self, did: &Did) -> Result<Option<IdentityRow>, Error> {
        let read = |row: &[u8]| records::read_identity(did, row);
        self.read(Family::Identities, &keys::account(did), read)
    }

    /// How far the PLC export has been read. May wait for the disk.
    pub fn export(&self) -> Result<Option<ExportRow>, Error> {
        self.read(Family::Meta, keys::META_PLC_EXPORT, records::read_export)
    }

    /// A host by its name.
    pub fn host_by_name(&self, name: &HostName) -> Option<Host> {
        self.0.mirror.by_name(name)
    }

    /// A host by its number.
    pub fn host(&self, id: HostId) -> Option<Host> {
        self.0.mirror.by_id(id)
    }

    /// Hosts in the order in which they were added, after this one.
    pub fn hosts(&self, after: Option<HostId>, limit: usize) -> Vec<Host> {
        self.0.mirror.page(after, limit)
    }

    /// The live accounts of a host that its limit is about, which is all but those that are
    /// throttled for being over it. Kept up to date with every commit.
    pub fn account_count(&self, id: HostId) -> Arc<AtomicU64> {
        self.0.mirror.account_count(id)
    }

    /// Accounts that this relay has decided about, in the order of their keys, after this one. May
    /// wait for the disk.
    pub fn decisions(&self, after: Option<&Did>, limit: usize) -> Result<Vec<(Did, Local)>, Error> {
        self.by_did(Family::Decisions, after, limit, records::read_decision)
    }

    /// Every account, in the order of their keys, after this one. May wait for the disk.
    pub fn accounts(
        &self,
        after: Option<&Did>,
        limit: usize,
    ) -> Result<Vec<(Did, Account)>, Error> {
        self.by_did(Family::Accounts, after, limit, records::read_account)
    }

    /// The last rejects of a host, newest first. May wait for the disk.
    pub fn rejects(&self, host: HostId) -> Result<Vec<RejectRow>, Error> {
        let (from, to) = keys::of_host(host);
        let read = |row: &KeyAndRow| records::read_reject(&row.row);
        let limit = usize::from(REJECTS_PER_HOST);
        let mut rejects = self.read_range(Family::Rejects, &from, &to, limit, read)?;
        rejects.sort_by_key(|reject| std::cmp::Reverse(reject.number));
        Ok(rejects)
    }

    /// Whether commits succeed, as far as is known.
    pub fn is_writable(&self) -> bool {
        !self.0.failure.happened()
    }

    /// Resolves when the store has failed: the process must end (I6).
    pub async fn failed(&self) -> Error {
        self.0.failure.wait().await
    }

    /// Looks whether a flush or a compaction has failed: RocksDB tells it to the next write only,
    /// and perhaps not even to that. May wait for the disk.
    pub async fn probe(&self) {
        if self.checked(self.0.store.background_errors()).unwrap_or(0) == 0 {
            return;
        }
        // A commit of nothing fails with what RocksDB knows: the file and the reason.
        let (done, answer) = oneshot::channel();
        let entry = Entry { done: Some(done), ..Entry::default() };
        let told = self.send(Message::Entries(vec![entry])).await;
        if told.is_ok() {
            drop(tokio::time::timeout(PROBE_MAX, self.answered(answer)).await);
        }
        self.0.failure.report(&Error::Background(remedy::background(&self.0.dir)));
    }

    /// What a backup is made of.
    pub(crate) fn for_backup(&self) -> (&Store, &Path, &Mutex<()>) {
        (&self.0.store, &self.0.dir, &self.0.backup)
    }

    /// Commits everything submitted before, waits for the disk and ends the threads. Blocks. The
    /// files are closed when the last clone of the handle and of its logs is gone.
    pub fn stop(self) -> Result<(), Error> {
        let threads = self.0.threads.lock().expect("no holder of this lock panics").take();
        let Some(threads) = threads else { return Ok(()) };
        drop(threads.stop_retention);
        // Fails only if the sequencer has ended, and then the join below says why.
        drop(self.0.queue.send(Message::Stop));
        let result = threads.sequencer.join().unwrap_or(Err(Error::Panicked));
        let retention = threads.retention.join().map_err(|_| Error::Panicked);
        result.and(retention)
    }

    /// The answer to a message, unless the sequencer ends without one.
    async fn answered<T>(&self, mut answer: oneshot::Receiver<T>) -> Result<T, Error> {
        let mut alive = self.0.alive.clone();
        tokio::select! {
            answer = &mut answer => answer.map_err(|_| Error::Stopped),
            _ended = alive.changed() => answer.try_recv().map_err(|_| Error::Stopped),
        }
    }

    /// Has the sequencer do something, and waits for its commit.
    pub(crate) async fn command(&self, command: Command) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Command { command, reply }).await?;
        self.answered(answer).await?
    }

    async fn send(&self, message: Message) -> Result<(), Error> {
        match self.0.queue.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Error::Stopped),
            Err(TrySendError::Full(message)) => {
                let queue = self.0.queue.clone();
                let sent = spawn_blocking(move || queue.send(message).is_ok()).await;
                if sent.unwrap_or(false) { Ok(()) } else { Err(Error::Stopped) }
            }
        }
    }

    pub(crate) fn read<T>(
        &self,
        family: Family,
        key: &[u8],
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let row = self.checked(self.0.store.get(family, key))?;
        let value = row.map(|row| read(&row).ok_or_else(|| family.corrupt_at(key, UNREADABLE)));
        self.checked(value.transpose())
    }

    /// Rows by DID, after this one.
    fn by_did<T>(
        &self,
        family: Family,
        after: Option<&Did>,
        limit: usize,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<(Did, T)>, Error> {
        let from = after.map_or_else(Vec::new, |after| keys::after(keys::account(after)));
        let rows = self.checked(self.0.store.range(family, &from, None, limit))?;
        let read = |KeyAndRow { key, row }: &KeyAndRow| {
            let found = Did::from_key(key).zip(read(row));
            found.ok_or_else(|| family.corrupt_at(key, UNREADABLE))
        };
        self.checked(rows.iter().map(read).collect())
    }

    pub(crate) fn read_range<T>(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        limit: usize,
        read: impl Fn(&KeyAndRow) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.checked(self.0.store.range(family, from, Some(to), limit))?;
        let read =
            |row: &KeyAndRow| read(row).ok_or_else(|| family.corrupt_at(&row.key, UNREADABLE));
        self.checked(rows.iter().map(read).collect())
    }

    /// I6: what the store cannot read ends the process like what it cannot write.
    fn checked<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| self.0.failure.report(error))
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Retention to be enforced by hand, beside the thread that does it by itself.
    #[cfg(test)]
    pub(crate) fn retention(&self, options: &Options) -> Retention {
        Retention {
            store: Arc::clone(&self.0.store),
            log: self.0.log.clone(),
            clock: Arc::clone(&options.clock),
            retention: options.retention,
            retention_bytes: options.retention_bytes,
            sequencer: self.0.queue.clone(),
            metrics: Arc::new(Metrics::register()),
            tripwire: options.tripwire.clone(),
        }
    }
}

/// RocksDB may hold up writes when it has failed: then the failure is told without its reason.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// Messages in the queue. A verifier sends some dozens of entries in each; the bytes they hold are
/// bounded by the intake budget, whose permits they carry.
const QUEUE_MESSAGES_MAX: usize = 256;
/// Patterns of names that are refused: they are looked through for each new host, and lie in
/// memory, 300 bytes each.
const DOMAIN_BANS_MAX: usize = 10_000;
/// A host's name has at most 253 bytes, and a pattern a few more.
const DOMAIN_BAN_BYTES_MAX: usize = 260;
