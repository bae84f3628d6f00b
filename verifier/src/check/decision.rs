//! What we ourselves decide about an account, without an event of its host.

use protocol::account::{Account, Conduct, Hour, Local, Throttle, Upstream};
use protocol::datetime;
use protocol::did::Did;
use protocol::frame::Outgoing;
use protocol::ids::{Epoch, HostId, HostSeq, Micros};

use crate::verdict::Decided;

/// The account after a decision, and what consumers are told. `None`: nothing changes.
///
/// An account that no host has spoken for can be taken down as well: it is then held without one.
pub fn decide(did: &Did, prior: Option<&Account>, local: Local, now: Micros) -> Option<Decided> {
    let mut decided = changed(did, prior, local, now)?;
    // Who was throttled for breaks and is not any more begins anew.
    decided.account.conduct.broken = Hour::default();
    Some(decided)
}

/// The account once it is one too many for its host's limit. Any other decision of ours stands.
pub fn over_quota(did: &Did, prior: &Account, now: Micros) -> Option<Decided> {
    let is_free = prior.local == Local::None;
    is_free.then(|| changed(did, Some(prior), OVER_QUOTA, now)).flatten()
}

/// The account once there is room for it within its host's limit.
pub fn within_quota(did: &Did, prior: &Account, now: Micros) -> Option<Decided> {
    let is_over = prior.local == OVER_QUOTA;
    is_over.then(|| changed(did, Some(prior), Local::None, now)).flatten()
}

/// Nothing but our decision changes: what an account has done counts on, or its host could have it
/// forgotten by going over its limit.
fn changed(did: &Did, prior: Option<&Account>, local: Local, now: Micros) -> Option<Decided> {
    if prior.map_or(Local::None, |account| account.local) == local {
        return None;
    }
    let unknown = unheard();
    let before = prior.unwrap_or(&unknown);
    let account = Account { local, ..before.clone() };
    let frame = told(did, prior, &account, now);
    // I13: what it sent meanwhile was dropped.
    let owed = (local == Local::None).then(|| account.home()).flatten();
    Some(Decided { did: did.clone(), frame, was: before.home(), account, owed })
}

/// What consumers are told, if what we publish of an account changes.
///
/// Section 6: "the relay emits one itself whenever that status changes for another reason".
pub(super) fn told(
    did: &Did,
    prior: Option<&Account>,
    account: &Account,
    now: Micros,
) -> Option<Outgoing> {
    let before = prior.map_or((true, None), Account::published);
    (account.published() != before).then(|| announced(did, account, now))
}

/// What we publish of an account.
pub(super) fn announced(did: &Did, account: &Account, now: Micros) -> Outgoing {
    let (active, status) = account.published();
    Outgoing::account(did, active, status, &datetime::format(now))
}

/// An account that no host has spoken for.
fn unheard() -> Account {
    Account {
        host: HostId::NOBODY,
        epoch: Epoch::default(),
        host_seq: HostSeq::ZERO,
        local: Local::None,
        upstream: Upstream::ACTIVE,
        conduct: Conduct::default(),
        repo: None,
    }
}

/// The decision that its host's limit makes about an account.
pub(super) const OVER_QUOTA: Local = Local::Throttled(Throttle::Quota);

#[cfg(test)]
mod tests {
    use protocol::ids::Seq;

    use super::*;

    const NOW: Micros = Micros(1_795_219_200_000_000);

    fn account(local: Local, active: bool, status: Option<&str>) -> Account {
        Account {
            host: HostId(3),
            epoch: Epoch(1),
            host_seq: HostSeq::new(9).expect("small"),
            local,
            upstream: Upstream { active, status: status.map(Into::into) },
            conduct: Conduct::default(),
            repo: None,
        }
    }

    /// What is emitted, if anything is; and the host that is owed a look.
    fn check(prior: Option<Account>, local: Local, expected: Option<(Option<&str>, Option<u32>)>) {
        let did = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").expect("a DID");
        let decided = decide(&did, prior.as_ref(), local, NOW);
        let found = decided.map(|decided| {
            assert_eq!(decided.account.local, local);
            assert_eq!(decided.was, prior.as_ref().and_then(Account::home));
            (decided.frame, decided.owed.map(|host| host.0))
        });
        let expected = expected.map(|(text, owed)| {
            let frame = text.map(|text| match text {
                "active" => Outgoing::account(&did, true, None, &datetime::format(NOW)),
                status => Outgoing::account(&did, false, Some(status), &datetime::format(NOW)),
            });
            (frame, owed)
        });
        let bytes = |frame: &Outgoing| {
            let mut out = Vec::new();
            frame.write_with(Seq::new(1).expect("small"), &mut out);
            out
        };
        let shown = |it: Option<(Option<Outgoing>, Option<u32>)>| {
            it.map(|(frame, owed)| (frame.as_ref().map(bytes), owed))
        };
        assert_eq!(shown(found), shown(expected), "{prior:?}, {local:?}");
    }

    #[test]
    fn a_decision_is_told_if_what_we_publish_changes() {
        use Local::{None as Nothing, Suspended, Takendown};
        const THROTTLED: Local = Local::Throttled(Throttle::Operator);
        let active = |local| Some(account(local, true, None));
        check(active(Nothing), Nothing, None);
        check(active(Nothing), Takendown, Some((Some("takendown"), None)));
        check(active(Nothing), Suspended, Some((Some("suspended"), None)));
        check(active(Nothing), THROTTLED, Some((Some("throttled"), None)));
        check(active(Takendown), Takendown, None);
        check(active(Takendown), Suspended, Some((Some("suspended"), None)));
        check(active(Takendown), Nothing, Some((Some("active"), Some(3))));
        check(active(THROTTLED), Nothing, Some((Some("active"), Some(3))));
        let gone = |local| Some(account(local, false, Some("deactivated")));
        check(gone(Nothing), THROTTLED, Some((None, None)));
        check(gone(THROTTLED), Nothing, Some((None, Some(3))));
        check(gone(Nothing), Takendown, Some((Some("takendown"), None)));
        check(gone(Takendown), THROTTLED, Some((Some("deactivated"), None)));
        check(gone(Takendown), Nothing, Some((Some("deactivated"), Some(3))));
        // What no host has spoken for.
        check(None, Nothing, None);
        check(None, Takendown, Some((Some("takendown"), None)));
        let unheard = |local| Some(Account { host: HostId::NOBODY, ..account(local, true, None) });
        check(unheard(Takendown), Nothing, Some((Some("active"), None)));
    }
}
