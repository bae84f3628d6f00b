//! `#account`: whether a host serves an account, and what of it is for our consumers to know.

use protocol::account::{Account, Local, Upstream};
use protocol::frame::{AccountFrame, Kind, Outgoing};
use protocol::reject::Reject;

use super::{Case, Known, Stop, envelope, speaker, throttle};
use crate::verdict::Accepted;

/// An `#account` that is well-formed.
#[derive(Debug)]
pub struct AccountClaim {
    upstream: Upstream,
    /// Our own decision, by which `outgoing` was made.
    local: Local,
    outgoing: Outgoing,
}

/// Fields and `time`.
pub(super) fn begin(case: &Case<'_>) -> Result<AccountClaim, Reject> {
    let frame = AccountFrame::decode(case.frame).map_err(envelope::field_reject)?;
    envelope::same_did(case, frame.did)?;
    envelope::time(frame.time)?;
    let upstream = Upstream::from(&frame);
    let local = case.local();
    let (active, status) = emitted(local, &upstream);
    // The host's bytes go out as they are where they say what we would say.
    let outgoing = if active == frame.active && status == frame.status {
        Outgoing::from_host(case.frame, Kind::Account).map_err(envelope::field_reject)?
    } else {
        Outgoing::account(case.did, active, status, frame.time)
    };
    Ok(AccountClaim { upstream, local, outgoing })
}

impl AccountClaim {
    /// Only the current PDS may say it; of a tombstoned DID the last known one, that it is deleted.
    pub(super) fn settle(&self, case: &Case<'_>, known: &Known<'_>) -> Result<Accepted, Stop> {
        let account = said(case, known, &self.upstream, self.local)?;
        Ok(case.accepted(vec![self.outgoing.clone()], account))
    }
}

/// The account once its host has said this of it, if it is for that host to say, and not too often.
pub(super) fn said(
    case: &Case<'_>,
    known: &Known<'_>,
    upstream: &Upstream,
    local: Local,
) -> Result<Account, Stop> {
    if !is_last_word(case, known, upstream) {
        speaker::speaker(case, known)?;
    }
    let mut account = Account { upstream: upstream.clone(), local, ..case.account() };
    if let Some(prior) = case.prior {
        let changed = throttle::changed(prior, upstream, case.now);
        account.conduct.changed = changed.ok_or(Reject::AccountThrottled)?;
    }
    Ok(account)
}

fn is_last_word(case: &Case<'_>, known: &Known<'_>, upstream: &Upstream) -> bool {
    let from_last_host = case.prior.is_some_and(|account| account.host == case.host);
    let deleted = !upstream.active && upstream.status.as_deref() == Some(DELETED);
    from_last_host && deleted && known.identity.is_some_and(|identity| identity.tombstoned)
}

/// The relay's own status of an account: what we decided, else what its host says.
pub(super) fn emitted(local: Local, upstream: &Upstream) -> (bool, Option<&str>) {
    let theirs = upstream.status.as_deref();
    match local {
        Local::None => (upstream.active, theirs),
        Local::Takendown => (false, Some("takendown")),
        Local::Suspended => (false, Some("suspended")),
        Local::Throttled(_) if upstream.active => (false, Some("throttled")),
        Local::Throttled(_) => (false, theirs),
    }
}

/// The status of an account that will not come back.
pub(super) const DELETED: &str = "deleted";

#[cfg(test)]
mod tests {
    use protocol::account::Throttle;
    use protocol::ids::Micros;

    use super::*;

    #[test]
    fn our_own_status_comes_before_the_hosts() {
        let upstream =
            |active, status: Option<&str>| Upstream { active, status: status.map(Into::into) };
        let check = |local, theirs: Upstream, expected: (bool, Option<&str>)| {
            assert_eq!(emitted(local, &theirs), expected, "{local:?}, {theirs:?}");
        };
        check(Local::None, upstream(true, None), (true, None));
        check(Local::None, upstream(true, Some("desynchronized")), (true, Some("desynchronized")));
        check(Local::None, upstream(false, None), (false, None));
        check(Local::None, upstream(false, Some("odd")), (false, Some("odd")));
        check(Local::Takendown, upstream(true, None), (false, Some("takendown")));
        check(Local::Takendown, upstream(false, Some("deleted")), (false, Some("takendown")));
        check(Local::Suspended, upstream(true, None), (false, Some("suspended")));
        check(
            Local::Throttled(Throttle::Breaks { until: Micros(1) }),
            upstream(true, None),
            (false, Some("throttled")),
        );
        check(
            Local::Throttled(Throttle::Breaks { until: Micros(1) }),
            upstream(false, Some("odd")),
            (false, Some("odd")),
        );
        check(
            Local::Throttled(Throttle::Breaks { until: Micros(1) }),
            upstream(false, None),
            (false, None),
        );
    }
}
