//! What an account's state means to the store: whether it counts on its host, and is hidden.

use protocol::account::{Account, Local, Upstream};
use protocol::ids::HostId;

/// An account's new state, as its shard decided it (I11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountWrite {
    /// The state.
    pub account: Account,
    /// The host that it belonged to before, if we knew it. Whether it was counted there is the
    /// store's own knowledge.
    pub was: Option<HostId>,
}

/// The host on which an account is counted: the one that spoke for it last, if any did, unless it
/// deleted it. Anything short of a deletion can be undone, and still takes up the host's quota.
pub(crate) fn live_on(account: &Account) -> Option<HostId> {
    account.home().filter(|_| !is_deleted(&account.upstream))
}

/// Whether the log leaves out the account's `#commit` and `#sync` frames.
pub(crate) fn is_hidden(account: &Account) -> bool {
    account.local == Local::Takendown || is_deleted(&account.upstream)
}

fn is_deleted(upstream: &Upstream) -> bool {
    !upstream.active && upstream.status.as_deref() == Some("deleted")
}
