//! What a host says of an account beside what we hold of it. Pure.

use std::sync::Arc;

use protocol::account::{Account, Local, Upstream};
use protocol::cid::Cid;
use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use protocol::tid::Tid;

use super::ledger::Held;

/// What a host says of one account, in its listing or when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The account.
    pub(super) did: Did,
    /// What it says.
    pub(super) word: Word,
}

/// What a host says of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It has it.
    Has {
        /// The revision as written; empty: it did not say.
        rev: Box<str>,
        /// The commit as written; empty: it did not say.
        head: Box<str>,
        /// Whether it serves the account; `None`: it did not say.
        active: Option<bool>,
        /// Its status.
        status: Option<Arc<str>>,
    },
    /// It does not know it.
    NotFound,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Nothing: it is the same here, or older than what we hold.
    InStep,
    /// Nothing: this was looked at before.
    Excused,
    /// Nothing: another host speaks for it, and this one says nothing that could change that.
    Elsewhere,
    /// It is to be looked at.
    Apart(Apart),
    /// The host does not know an account that we have from it.
    Missing,
}

/// What is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Apart {
    /// Its repo.
    pub(super) content: bool,
    /// Its status.
    pub(super) status: bool,
}

/// How a host's word is to be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The host.
    pub(super) host: HostId,
    /// What was looked at before is looked at again.
    pub(super) forced: bool,
}

impl Word {
    /// What it says of the account's status, if it does.
    pub(super) fn upstream(&self) -> Option<Upstream> {
        match self {
            Self::Has { active: Some(active), status, .. } => {
                // What an active account has for a status is for its host to know.
                Some(Upstream { active: *active, status: status.clone().filter(|_| !active) })
            }
            Self::Has { active: None, .. } | Self::NotFound => None,
        }
    }
}

/// Compares.
pub(super) fn judge(word: &Word, held: &Held, terms: Terms) -> Judged {
    let Terms { host, forced } = terms;
    // Of an account that only we have said anything about, everything is news.
    let account = held.account.as_ref().filter(|account| account.home().is_some());
    let Word::Has { rev, head, .. } = word else {
        return match account {
            Some(account) if account.home() == Some(host) && !is_deleted(&account.upstream) => {
                Judged::Missing
            }
            _ => Judged::InStep,
        };
    };
    let is_excused = held.excused.as_ref().is_some_and(|excused| {
        !forced
            && excused.missing_since == Micros(0)
            && *excused.rev == **rev
            && *excused.head == **head
    });
    let theirs = word.upstream();
    let is_active = theirs.as_ref().is_none_or(|upstream| upstream.active);
    let Some(account) = account else {
        if is_excused {
            return Judged::Excused;
        }
        return Judged::Apart(Apart { content: is_active, status: !is_active });
    };
    let is_newer = is_newer(account, rev, head);
    if account.home() != Some(host) && !(is_active && is_newer) {
        return Judged::Elsewhere;
    }
    let apart = Apart {
        // Of an inactive account no repo can be had. What we have decided about is not looked at:
        // nothing of it would pass, and what lifts the decision owes the account.
        content: is_active && is_newer && account.local == Local::None,
        status: theirs.is_some_and(|theirs| is_other(&theirs, &account.upstream)),
    };
    match apart {
        Apart { content: false, status: false } => Judged::InStep,
        Apart { content: true, status: false } if is_excused => Judged::Excused,
        apart => Judged::Apart(apart),
    }
}

/// Whether the repo that is named is not the one that we hold, and not an older one.
fn is_newer(account: &Account, rev: &str, head: &str) -> bool {
    let Some(held) = &account.repo else { return true };
    let same_head = head.parse::<Cid>().is_ok_and(|head| head.digest == held.commit);
    match Tid::parse(rev) {
        Ok(rev) if rev < held.rev => false,
        // `getRepoStatus` names no commit.
        Ok(rev) if rev == held.rev => !(same_head || head.is_empty()),
        Ok(_) => true,
        Err(_) => !same_head,
    }
}

/// Whether a host's status of an account is other than the one it had. What an active account has
/// for a status does not count: listings leave it out.
pub(super) fn is_other(theirs: &Upstream, held: &Upstream) -> bool {
    theirs.active != held.active || (!theirs.active && theirs.status != held.status)
}

/// Whether it is gone for good.
pub(super) fn is_deleted(upstream: &Upstream) -> bool {
    !upstream.active && upstream.status.as_deref() == Some(DELETED)
}

/// The status of an account that its host has deleted.
pub(super) const DELETED: &str = "deleted";

#[cfg(test)]
mod tests {
    use protocol::account::{Conduct, Repo, Throttle};
    use protocol::ids::{Epoch, HostSeq};

    use super::super::ledger::Excused;
    use super::*;

    const HERE: HostId = HostId(1);
    const THERE: HostId = HostId(2);
    const OPEN: Terms = Terms { host: HERE, forced: false };
    const BOTH: Judged = Judged::Apart(Apart { content: true, status: true });
    const CONTENT: Judged = Judged::Apart(Apart { content: true, status: false });
    const STATUS: Judged = Judged::Apart(Apart { content: false, status: true });

    fn rev(number: u64) -> Tid {
        Tid::from_bits(number << 10).unwrap()
    }

    fn commit(number: u64) -> Cid {
        Cid::of_cbor(&number.to_be_bytes())
    }

    fn account(number: u64, status: Option<&str>) -> Account {
        let (active, status) = (status.is_none(), status.map(Arc::from));
        Account {
            host: HERE,
            epoch: Epoch(0),
            host_seq: HostSeq::ZERO,
            local: Local::None,
            upstream: Upstream { active, status },
            conduct: Conduct::default(),
            repo: Some(Repo { rev: rev(number), data: [0; 32], commit: commit(number).digest }),
        }
    }

    fn held(account: Account) -> Held {
        Held { account: Some(account), excused: None }
    }

    fn says(number: u64, status: Option<&str>) -> Word {
        Word::Has {
            rev: rev(number).to_string().into(),
            head: commit(number).to_string().into(),
            active: Some(status.is_none()),
            status: status.map(Arc::from),
        }
    }

    fn silent(rev: &str, head: &str) -> Word {
        Word::Has { rev: rev.into(), head: head.into(), active: None, status: None }
    }

    #[track_caller]
    fn check(word: &Word, held: &Held, expected: Judged) {
        assert_eq!(judge(word, held, OPEN), expected, "{word:?}");
    }

    #[test]
    fn who_moved_on_without_us_is_apart_and_who_is_behind_us_is_not() {
        let ours = held(account(5, None));
        check(&says(5, None), &ours, Judged::InStep);
        check(&says(4, None), &ours, Judged::InStep);
        check(&says(6, None), &ours, CONTENT);
        // After a migration: the revision of one commit, the name of another.
        let (five, six) = (rev(5).to_string(), commit(6).to_string());
        check(&silent(&five, &six), &ours, CONTENT);
        check(&silent(&five, ""), &ours, Judged::InStep);
        check(&silent("", &six), &ours, CONTENT);
        check(&silent("", &commit(5).to_string()), &ours, Judged::InStep);
        check(&silent("nonsense", "nonsense"), &ours, CONTENT);
        check(&says(5, None), &held(Account { repo: None, ..account(5, None) }), CONTENT);
    }

    #[test]
    fn a_status_is_apart_where_it_says_something_else() {
        let gone = held(account(5, Some("deactivated")));
        check(&says(5, Some("deactivated")), &gone, Judged::InStep);
        check(&says(5, Some("takendown")), &gone, STATUS);
        check(&says(5, None), &gone, STATUS);
        check(&says(6, None), &gone, BOTH);
        let ours = held(account(5, None));
        check(&says(5, Some("deactivated")), &ours, STATUS);
        // Its repo cannot be had.
        check(&says(6, Some("deactivated")), &ours, STATUS);
        check(&says(6, Some("deactivated")), &gone, Judged::InStep);
        check(&silent(&rev(5).to_string(), ""), &gone, Judged::InStep);
        let word = Word::Has {
            rev: rev(5).to_string().into(),
            head: "".into(),
            active: Some(true),
            status: Some("desynchronized".into()),
        };
        check(&word, &ours, Judged::InStep);
    }

    #[test]
    fn what_was_looked_at_is_looked_at_again_when_the_listing_changes() {
        let excused = |number: u64| {
            let (rev, head) = (rev(number).to_string(), commit(number).to_string());
            Some(Excused { rev, head, at: Micros(9), missing_since: Micros(0) })
        };
        let ours = Held { excused: excused(6), ..held(account(5, None)) };
        check(&says(6, None), &ours, Judged::Excused);
        check(&says(7, None), &ours, CONTENT);
        check(&says(6, Some("deactivated")), &ours, STATUS);
        let forced = Terms { forced: true, ..OPEN };
        assert_eq!(judge(&says(6, None), &ours, forced), CONTENT);
        let unknown = Held { excused: excused(6), account: None };
        check(&says(6, None), &unknown, Judged::Excused);
        check(&says(7, None), &unknown, CONTENT);
    }

    #[test]
    fn an_account_that_is_not_known_is_news() {
        let unknown = Held::default();
        check(&says(1, None), &unknown, CONTENT);
        check(&says(1, Some("deactivated")), &unknown, STATUS);
        check(&silent("", ""), &unknown, CONTENT);
        // One that only we have spoken of is not known to any host.
        let ours = Account { host: HostId::NOBODY, repo: None, ..account(1, None) };
        check(&says(1, None), &held(ours), CONTENT);
    }

    #[test]
    fn another_hosts_account_is_looked_at_only_if_it_may_have_moved() {
        let theirs = held(Account { host: THERE, ..account(5, None) });
        check(&says(5, None), &theirs, Judged::Elsewhere);
        check(&says(4, None), &theirs, Judged::Elsewhere);
        check(&says(9, Some("deactivated")), &theirs, Judged::Elsewhere);
        check(&says(6, None), &theirs, CONTENT);
        check(&Word::NotFound, &theirs, Judged::InStep);
    }

    #[test]
    fn what_we_have_decided_about_is_followed_by_its_status_only() {
        for local in [Local::Takendown, Local::Suspended, Local::Throttled(Throttle::Quota)] {
            let ours = held(Account { local, ..account(5, None) });
            check(&says(6, None), &ours, Judged::InStep);
            check(&says(6, Some("deleted")), &ours, STATUS);
        }
    }

    #[test]
    fn only_what_we_have_from_the_host_can_be_missing_there() {
        check(&Word::NotFound, &held(account(5, None)), Judged::Missing);
        check(&Word::NotFound, &held(account(5, Some("deactivated"))), Judged::Missing);
        check(&Word::NotFound, &held(account(5, Some("deleted"))), Judged::InStep);
        check(&Word::NotFound, &Held::default(), Judged::InStep);
    }
}
