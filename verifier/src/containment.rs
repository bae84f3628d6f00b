//! A panic in a check is our bug: it costs its event, and is handed on with the whole frame for a
//! person to look into. Nothing else is lost: checks are pure, so there is no state that one could
//! leave broken, and the shard's other accounts are well.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

use bytes::Bytes;
use protocol::did::Did;
use protocol::frame::HostKind;
use protocol::host::HostName;
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::reject::Reject;

use crate::check::{self, Case, Claim, Evidence, Known, Room, Ruling};
use crate::faults::{Faults, Provoked};

/// Where panics of checks are told; it must not block, as it is called by the shards' threads.
pub type OnPanic = Arc<dyn Fn(Panicked) + Send + Sync>;

/// A check that panicked, with what is needed to look into it.
#[derive(Clone, Debug)]
pub struct Panicked {
    /// The host that sent the event.
    pub host: HostId,
    /// Its name.
    pub name: HostName,
    /// The host's epoch then.
    pub epoch: Epoch,
    /// The host's number of the event.
    pub seq: HostSeq,
    /// Its kind.
    pub kind: HostKind,
    /// Its account.
    pub did: Did,
    /// When its last byte was read.
    pub received: Micros,
    /// When it was judged.
    pub judged: Micros,
    /// The whole frame; of what reconciliation found (whose number is that of the account's last
    /// event) the block of the commit.
    pub frame: Bytes,
    /// What the panic said; at most [`MESSAGE_CHARS_MAX`] characters, since it may quote the frame.
    pub message: String,
    /// Where in the code: file, line, column. Empty if nobody called [`hush`].
    pub place: String,
}

/// Runs the checks of one shard.
pub(crate) struct Containment {
    on_panic: OnPanic,
    provoked: Provoked,
    /// For the next check.
    room: Room,
}

impl Containment {
    pub(crate) fn new(on_panic: OnPanic, faults: &Faults) -> Self {
        Self { on_panic, provoked: Provoked::register(faults), room: Room::default() }
    }

    /// All checks of an event but the look-ups.
    pub(crate) fn begin(&mut self, case: &Case<'_>) -> Result<Claim, Reject> {
        self.provoked.shard(case.did);
        let mut room = mem::take(&mut self.room);
        let check = || {
            self.provoked.check(case.did);
            check::begin(case, &mut room)
        };
        let claim = self.run(case, check).unwrap_or(Err(Reject::VerifierPanic));
        self.room = room;
        claim
    }

    /// The same of a finding.
    pub(crate) fn begin_found(
        &self,
        case: &Case<'_>,
        evidence: Evidence<'_>,
    ) -> Result<Claim, Reject> {
        let check = || {
            self.provoked.check(case.did);
            check::begin_found(case, evidence)
        };
        self.run(case, check).ok_or(Reject::VerifierPanic)
    }

    /// Who says it, and the signature.
    pub(crate) fn settle(&self, claim: &Claim, case: &Case<'_>, known: &Known<'_>) -> Ruling {
        let ruling = self.run(case, || claim.settle(case, known));
        ruling.unwrap_or(Ruling::Reject(Reject::VerifierPanic))
    }

    fn run<T>(&self, case: &Case<'_>, check: impl FnOnce() -> T) -> Option<T> {
        let (message, place) = match contain(check) {
            Ok(result) => return Some(result),
            Err(panic) => panic,
        };
        (self.on_panic)(Panicked {
            host: case.host,
            name: case.name.clone(),
            epoch: case.epoch,
            seq: case.seq,
            kind: case.kind,
            did: case.did.clone(),
            received: case.received,
            judged: case.now,
            frame: case.frame.clone(),
            message,
            place,
        });
        None
    }
}

impl fmt::Debug for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Containment")
    }
}

thread_local! {
    /// Whether a check runs on this thread.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
    /// Where the last check on this thread panicked.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a check; if it panics: what it said and where.
fn contain<T>(check: impl FnOnce() -> T) -> Result<T, (String, String)> {
    CONTAINED.set(true);
    let result = catch_unwind(AssertUnwindSafe(check));
    CONTAINED.set(false);
    result.map_err(|panic| (message(&*panic), PLACE.take()))
}

/// Keeps panics of checks off standard error: a hostile host could make one with every frame.
/// Instead the place is noted for whoever catches it. All other panics are told as before.
//
// A hook is the process's; so it is put once, and there is nothing to undo.
pub(crate) fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            if CONTAINED.get() {
                PLACE.set(panic.location().map(ToString::to_string).unwrap_or_default());
            } else {
                before(panic);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Enough for what the standard library says of an index or a slice.
pub const MESSAGE_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_with_its_words_and_its_place() {
        hush();
        assert_eq!(contain(|| 1), Ok(1));
        let (message, place) = contain::<()>(|| panic!("in a check")).unwrap_err();
        assert_eq!(message, "in a check");
        assert!(place.starts_with(file!()), "{place}");
        let long = "\u{e9}".repeat(1000);
        let (message, _) = contain::<()>(|| panic!("{long}")).unwrap_err();
        assert_eq!(message.chars().count(), MESSAGE_CHARS_MAX);
        let (message, _) = contain::<()>(|| std::panic::panic_any(7)).unwrap_err();
        assert_eq!(message, "no message");
    }
}
