//! What an account may do only so often: break its chain, and change what its host says of it.
//! Who does it more often is throttled, or not heard.

use std::time::Duration;

use protocol::account::{Account, Hour, Local, Throttle, Upstream};
use protocol::did::Did;
use protocol::ids::{HostSeq, Micros};

use super::Case;
use super::account::DELETED;
use super::decision::{self, decide, within_quota};
use crate::verdict::Decided;

/// The account after a break of its chain, which has passed; whether this one was too many.
///
/// Section 3: "more than 10 breaks and data-changing `#sync`s in an hour: account throttled, lifted
/// by itself after an hour without one". While it is throttled nothing of it passes that could be
/// one, so the last one is the one that threw it over.
pub(super) fn broke(account: &mut Account, now: Micros) -> bool {
    let conduct = &mut account.conduct;
    conduct.breaks = conduct.breaks.saturating_add(1);
    conduct.broken = conduct.broken.with_one_more(now);
    let over = conduct.broken.count > BREAKS_PER_HOUR_MAX;
    if over {
        account.local = Local::Throttled(Throttle::Breaks { until: now.plus(THROTTLED_FOR) });
    }
    over
}

/// How often the account's status has changed once it is `theirs`; `None`: too often.
///
/// Section 6: "At most 10 changes an hour per account." A deletion is heard all the same: what it
/// asks for must not wait, and it is the last word.
pub(super) fn changed(prior: &Account, theirs: &Upstream, now: Micros) -> Option<Hour> {
    if prior.upstream == *theirs {
        return Some(prior.conduct.changed);
    }
    let hour = prior.conduct.changed.with_one_more(now);
    let deleted = !theirs.active && theirs.status.as_deref() == Some(DELETED);
    (deleted || hour.count <= CHANGES_PER_HOUR_MAX).then_some(hour)
}

/// When an account's throttle is to be lifted, if it is of the kind that is lifted by itself.
pub fn lifted_at(local: Local) -> Option<Micros> {
    match local {
        Local::Throttled(Throttle::Breaks { until }) => Some(until),
        _ => None,
    }
}

/// The account without its throttle, if that is over.
pub fn lift(did: &Did, account: &Account, now: Micros) -> Option<Decided> {
    let over = lifted_at(account.local).is_some_and(|until| until <= now);
    over.then(|| decide(did, Some(account), Local::None, now)).flatten()
}

/// The account as one of the commits or syncs of a full host leaves it, without that event: it is
/// new, or was throttled for the limit of the host that it comes from. The event stays to be
/// settled by itself.
pub fn over_limit(case: &Case<'_>) -> Option<Decided> {
    let has_moved = case.host_is_full && case.is_throttled_elsewhere();
    if !case.is_over_limit() && !has_moved {
        return None;
    }
    let account = arrived(case);
    let frame = decision::told(case.did, case.prior, &account, case.now);
    let was = case.prior.and_then(Account::home);
    Some(Decided { did: case.did.clone(), frame, was, account, owed: None })
}

/// The account that was throttled for the limit of the host that it comes from, and is not at its
/// new one, which has room. The event that has shown it is judged once more.
pub fn moved_in(case: &Case<'_>) -> Option<Decided> {
    if case.host_is_full || !case.is_throttled_elsewhere() {
        return None;
    }
    let decided = within_quota(case.did, &arrived(case), case.now)?;
    Some(Decided { was: case.prior.and_then(Account::home), ..decided })
}

/// The account at the host that speaks for it, none of whose events was applied to it.
fn arrived(case: &Case<'_>) -> Account {
    Account { host_seq: HostSeq::ZERO, ..case.account() }
}

/// Honest accounts break theirs when their host loses a commit or is restored from a backup: once
/// in a while, not ten times an hour.
const BREAKS_PER_HOUR_MAX: u8 = 10;
/// "At most 10 changes an hour per account."
const CHANGES_PER_HOUR_MAX: u8 = 10;
/// "Lifted by itself after an hour without one."
const THROTTLED_FOR: Duration = Duration::from_secs(3600);
