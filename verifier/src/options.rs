//! What a verifier is made of: settings, times, and the functions that `relay` hands in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use protocol::account::Account;
use protocol::did::Did;
use protocol::host::HostRules;
use protocol::ids::Micros;
use protocol::tripwire::Tripwire;

use crate::containment::OnPanic;
use crate::faults::Faults;
use crate::identity::{Coverage, PlcLimits};
use crate::verdict::Identity;

/// The wall clock.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// Settings.
#[derive(Clone)]
pub struct Options {
    /// Shards, each with a thread of its own; the store settles as many marks.
    pub threads: usize,
    /// What time it is.
    pub clock: Clock,
    /// What becomes of the `handle` of `#identity`.
    pub handles: Handles,
    /// Which names are hosts.
    pub rules: HostRules,
    /// PLC directories without a slash at the end: the first is asked, the next if it fails.
    pub plc_urls: Vec<String>,
    /// How often each of them is asked.
    pub plc_limits: PlcLimits,
    /// The intake budget: half of it, and half of a host's share of it, may wait for look-ups.
    pub intake_bytes: u64,
    /// Accounts in memory, over all shards; about 300 bytes each.
    pub accounts_cached_max: usize,
    /// Bytes of DID documents in memory, over all shards; about 500 each.
    pub identities_cached_bytes: usize,
    /// How long things take and keep.
    pub timing: Timing,
    /// Where a panic of a check is told, with its frame.
    pub on_panic: OnPanic,
    /// Faults that tests provoke.
    pub faults: Faults,
    /// Where tests end the process.
    pub tripwire: Tripwire,
}

/// What becomes of the `handle` field of an `#identity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handles {
    /// It goes out if it resolves to the account, and the account's document names it first.
    #[default]
    Verify,
    /// It goes out as the host said it.
    Pass,
    /// It is left out.
    Strip,
}

/// How long things take and keep; [`Timing::default`] is what protocol.md decides.
#[derive(Clone, Debug)]
pub struct Timing {
    /// An event waits this long for look-ups, then it is `identity_unresolved`.
    pub deadline: Duration,
    /// One request of a look-up at a host.
    pub request: Duration,
    /// One request at a directory that is the only one left to ask: a slow answer is better than
    /// none.
    pub plc_request: Duration,
    /// One request at a directory while there is another to ask.
    pub plc_request_early: Duration,
    /// Between two fetches of a document that is known.
    pub refetch_spacing: Duration,
    /// After a failed fetch of a document, the next ones come this much later.
    pub retries: [Duration; 3],
    /// The first time for which a DID counts as unresolvable; each further one is twice as long.
    pub negative_min: Duration,
    /// The longest time for which a DID counts as unresolvable.
    pub negative_max: Duration,
    /// After an `#identity`, answers that show no change are doubted once in this time; after a
    /// signature that failed, no other one has the document fetched within it.
    pub recheck_spacing: Duration,
    /// A document older than this, or up to a quarter less, is fetched again in the background.
    pub fresh: Duration,
    /// A document older than this is not used.
    pub kept: Duration,
    /// Documents whose changes are pushed to us do not grow old.
    pub coverage: Arc<Coverage>,
    /// An `#identity` waits this long for its handle, then it goes out without one.
    pub handle: Duration,
    /// Between two questions to a host about the status of one account.
    pub status_spacing: Duration,
    /// Between two passed `#sync`s of one account that say the same.
    pub sync_spacing: Duration,
    /// Between the two looks that show that a DID is gone.
    pub tombstone_spacing: Duration,
    /// When too many bytes wait: look-ups older than this are given up.
    pub crowded_deadline: Duration,
    /// How often a host that may not park more is looked at again.
    pub held_recheck: Duration,
}

/// A question to the store about a DID.
pub type RecallOf<T> = Box<dyn Fn(&Did) -> Option<T> + Send + Sync>;

/// The store's copies. Called by shard threads; may block on a disk read.
pub struct Recall {
    /// An account as the last committed batch left it.
    pub account: RecallOf<Account>,
    /// A DID document as it was learnt.
    pub identity: RecallOf<Identity>,
    /// What was decided before this start.
    pub in_force: InForce,
}

/// Our own decisions about accounts as a start finds them.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// How many accounts are taken down, suspended and throttled.
    pub counts: [u64; 3],
    /// Accounts whose throttle ends by itself, and when.
    pub throttled: Vec<(Did, Micros)>,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            deadline: seconds(15),
            request: seconds(5),
            plc_request: seconds(10),
            plc_request_early: Duration::from_millis(2_500),
            refetch_spacing: seconds(10),
            retries: [seconds(1), seconds(3), seconds(10)],
            negative_min: seconds(30),
            negative_max: seconds(3600),
            recheck_spacing: seconds(60),
            fresh: seconds(24 * 3600),
            kept: seconds(7 * 24 * 3600),
            coverage: Arc::default(),
            handle: seconds(2),
            status_spacing: seconds(60),
            sync_spacing: seconds(60),
            tombstone_spacing: seconds(60),
            crowded_deadline: seconds(5),
            held_recheck: Duration::from_millis(50),
        }
    }
}

impl Recall {
    /// A store that holds nothing.
    pub fn nothing() -> Self {
        Self {
            account: Box::new(|_| None),
            identity: Box::new(|_| None),
            in_force: InForce::default(),
        }
    }
}

impl fmt::Debug for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recall")
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("threads", &self.threads)
            .field("handles", &self.handles)
            .field("rules", &self.rules)
            .field("plc_urls", &self.plc_urls)
            .field("plc_limits", &self.plc_limits)
            .field("intake_bytes", &self.intake_bytes)
            .field("accounts_cached_max", &self.accounts_cached_max)
            .field("identities_cached_bytes", &self.identities_cached_bytes)
            .field("timing", &self.timing)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}
