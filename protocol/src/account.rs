//! What we hold of an account: who spoke for it last, its statuses, the state of its repo.

use std::sync::Arc;

use crate::ids::{Epoch, HostId, HostSeq};
use crate::tid::Tid;

/// The newest state of one account. Owned by the verifier's shard of its DID (I11); the store
/// keeps the copy that a batch committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The host that the last applied event came from; [`HostId::NOBODY`] if there was none, and
    /// all that we hold is our own decision.
    pub host: HostId,
    /// That host's epoch then.
    pub epoch: Epoch,
    /// Host seq of the last applied event of *any* kind.
    pub host_seq: HostSeq,
    /// What we ourselves decided about the account.
    pub local: Local,
    /// What the host says about it.
    pub upstream: Upstream,
    /// The repo, once a commit or sync has passed.
    pub repo: Option<Repo>,
}

impl Account {
    /// The host that spoke for it last, if one did.
    pub fn home(&self) -> Option<HostId> {
        (self.host != HostId::NOBODY).then_some(self.host)
    }

    /// What the relay says of the account: active or not, and the status. Our own decision goes
    /// before the host's, but for a throttle of what is inactive anyway (protocol.md section 6).
    pub fn published(&self) -> (bool, Option<&str>) {
        let upstream = (self.upstream.active, self.upstream.status.as_deref());
        match self.local {
            Local::None => upstream,
            Local::Takendown => (false, Some("takendown")),
            Local::Suspended => (false, Some("suspended")),
            Local::Throttled if self.upstream.active => (false, Some("throttled")),
            Local::Throttled => upstream,
        }
    }
}

/// Our own decision about an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Local {
    /// Nothing.
    #[default]
    None,
    /// Taken down by this relay.
    Takendown,
    /// Suspended by this relay.
    Suspended,
    /// Over a limit; lifted by itself.
    Throttled,
}

/// What the account's host says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The host's `active`.
    pub active: bool,
    /// The host's `status`, known or not, at most [`STATUS_CHARS_MAX`] characters.
    pub status: Option<Arc<str>>,
}

/// The state of a repo after its newest commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repo {
    /// Revision of the newest commit.
    pub rev: Tid,
    /// SHA-256 of the MST's root node (its CID is always dag-cbor, sha-256).
    pub data: [u8; 32],
    /// SHA-256 of the commit block.
    pub commit: [u8; 32],
}

impl Upstream {
    /// An active account without a status.
    pub const ACTIVE: Self = Self { active: true, status: None };
}

/// Longer statuses are left out.
pub const STATUS_CHARS_MAX: usize = 64;
