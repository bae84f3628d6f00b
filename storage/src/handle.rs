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
use crate::gaps::{AccountGap, HostGap};
use crate::hosts::{Host, HostNote, Mirror, Start, Table};
use crate::log::hidden::Hidden;
use crate::log::{Log, Span};
use crate::metrics::Metrics;
use crate::retention::Retention;
use crate::sequencer::entry::{Entry, Message};
use crate::sequencer::pending::Pending;
use crate::sequencer::{Sequencer, clock, mark};
use crate::store::records::{ExportRow, IdentityRow, RejectRow};
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
    let Found { head, clock: last, floor, mark, begin, hosts, owed, hidden } = store.found()?;
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
        Hidden::load(hidden),
        Span { begin, floor, head, given },
        options.tail_bytes,
        failure.clone(),
        Arc::clone(&metrics),
    );
    let mirror = Arc::new(Mirror::default());
    mirror.show(hosts.iter());
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
        hosts: Table::load(hosts, owed)?,
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

    /// Adds a host; one of this name that is there already is the answer, as it is.
    pub async fn add_host(&self, name: HostName, start: Start) -> Result<Host, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::AddHost { name, start, reply }).await?;
        self.answered(answer).await
    }

    /// Notes a fact about a host. A reset and a ban are committed when this returns; the others
    /// are written with the next commit.
    pub async fn note_host(&self, note: HostNote) -> Result<(), Error> {
        if !note.is_urgent() {
            return self.send(Message::Note { note, reply: None }).await;
        }
        let (reply, answer) = oneshot::channel();
        self.send(Message::Note { note, reply: Some(reply) }).await?;
        self.answered(answer).await?
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

    /// The live accounts of a host, kept up to date with every commit.
    pub fn account_count(&self, id: HostId) -> Arc<AtomicU64> {
        self.0.mirror.account_count(id)
    }

    /// Accounts that this relay has decided about, in the order of their keys, after this one. May
    /// wait for the disk.
    pub fn decisions(&self, after: Option<&Did>, limit: usize) -> Result<Vec<(Did, Local)>, Error> {
        let mut from = after.map(keys::account).unwrap_or_default();
        if after.is_some() {
            // The next key that there could be.
            from.push(0);
        }
        let rows = self.checked(self.0.store.range(Family::Decisions, &from, None, limit))?;
        let read = |KeyAndRow { key, row }: &KeyAndRow| {
            let decision = Did::from_key(key).zip(records::read_decision(row));
            decision.ok_or_else(|| Family::Decisions.corrupt_at(key, UNREADABLE))
        };
        self.checked(rows.iter().map(read).collect())
    }

    /// Accounts in the order of their keys, after this one. May wait for the disk.
    pub fn accounts(
        &self,
        after: Option<&Did>,
        limit: usize,
    ) -> Result<Vec<(Did, Account)>, Error> {
        let mut from = after.map(keys::account).unwrap_or_default();
        if after.is_some() {
            // The next key that there could be.
            from.push(0);
        }
        let rows = self.checked(self.0.store.range(Family::Accounts, &from, None, limit))?;
        let read = |KeyAndRow { key, row }: &KeyAndRow| {
            let account = Did::from_key(key).zip(records::read_account(row));
            account.ok_or_else(|| Family::Accounts.corrupt_at(key, UNREADABLE))
        };
        self.checked(rows.iter().map(read).collect())
    }

    /// The last rejects of a host, newest first. May wait for the disk.
    pub fn rejects(&self, host: HostId) -> Result<Vec<RejectRow>, Error> {
        let range = (keys::reject(host, 0), keys::reject(host, u8::MAX));
        let read = |row: &KeyAndRow| records::read_reject(&row.row);
        let mut rejects = self.read_range(Family::Rejects, range, usize::from(u8::MAX), read)?;
        rejects.sort_by_key(|reject| std::cmp::Reverse(reject.number));
        Ok(rejects)
    }

    /// What reconciliation owes of a host. May wait for the disk.
    pub fn gap(&self, host: HostId) -> Result<Option<HostGap>, Error> {
        self.read(Family::Gaps, &keys::gap_host(host), records::read_host_gap)
    }

    /// Accounts of a host that are owed by themselves. May wait for the disk.
    pub fn account_gaps(&self, host: HostId, limit: usize) -> Result<Vec<AccountGap>, Error> {
        self.read_range(Family::Gaps, keys::gap_accounts(host), limit, |KeyAndRow { key, row }| {
            records::read_account_gap(keys::gap_account_did(key)?, row)
        })
    }

    /// What is owed of one account by itself. May wait for the disk.
    pub fn account_gap(&self, host: HostId, did: &Did) -> Result<Option<AccountGap>, Error> {
        let read = |row: &[u8]| records::read_account_gap(did.clone(), row);
        self.read(Family::Gaps, &keys::gap_account(host, did), read)
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

    fn read<T>(
        &self,
        family: Family,
        key: &[u8],
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let row = self.checked(self.0.store.get(family, key))?;
        let value = row.map(|row| read(&row).ok_or_else(|| family.corrupt_at(key, UNREADABLE)));
        self.checked(value.transpose())
    }

    fn read_range<T>(
        &self,
        family: Family,
        (from, to): ([u8; 5], [u8; 5]),
        limit: usize,
        read: impl Fn(&KeyAndRow) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.checked(self.0.store.range(family, &from, Some(&to), limit))?;
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
