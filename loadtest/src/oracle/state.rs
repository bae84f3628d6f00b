//! What a relay must answer about an account, after each event of it that has passed.

use protocol::car;
use protocol::cid::Link;
use protocol::did::Did;
use protocol::frame::{AccountFrame, CommitFrame, SyncFrame};
use serde_json::{Value, json};

/// What one event changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing of what is answered.
    #[default]
    Nothing,
    /// A commit or a sync: the newest revision, and its commit.
    Repo(Head),
    /// What its host says.
    Upstream(bool, Option<String>),
    /// What the relay's operator has decided.
    Local(Decision),
}

/// The newest commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its revision.
    pub rev: String,
    /// Its CID.
    pub commit: String,
}

/// What a relay's operator decides about an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    #[default]
    None,
    /// It is taken down.
    Takendown,
    /// It is suspended.
    Suspended,
}

/// An account as a relay must hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    active: bool,
    status: Option<String>,
    local: Decision,
    head: Option<Head>,
}

impl Change {
    /// Of a message as a host sends it.
    pub(super) fn of(message: &[u8], kind: protocol::frame::Kind) -> Self {
        use protocol::frame::Kind;
        match kind {
            Kind::Commit => CommitFrame::decode(message).map_or(Self::Nothing, |frame| {
                Self::Repo(Head { rev: frame.rev.to_owned(), commit: frame.commit.to_string() })
            }),
            Kind::Sync => SyncFrame::decode(message).ok().and_then(of_sync).unwrap_or_default(),
            Kind::Account => AccountFrame::decode(message).map_or(Self::Nothing, |frame| {
                Self::Upstream(frame.active, frame.status.map(str::to_owned))
            }),
            Kind::Identity => Self::Nothing,
        }
    }
}

fn of_sync(frame: SyncFrame<'_>) -> Option<Change> {
    let (Link::Sha256(commit), _) = car::read(frame.blocks).ok()? else { return None };
    Some(Change::Repo(Head { rev: frame.rev.to_owned(), commit: commit.to_string() }))
}

impl Decision {
    /// Its name in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Takendown => "takendown",
            Self::Suspended => "suspended",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Takendown, Self::Suspended].into_iter().find(|it| it.name() == name)
    }
}

impl Default for State {
    /// An account that was heard of, and of which nothing else is known.
    fn default() -> Self {
        Self { active: true, status: None, local: Decision::None, head: None }
    }
}

impl State {
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Nothing => {}
            Change::Repo(head) => self.head = Some(head.clone()),
            Change::Upstream(active, status) => {
                (self.active, self.status) = (*active, status.clone());
            }
            Change::Local(decision) => self.local = *decision,
        }
    }

    /// What the operator has decided.
    pub fn local(&self) -> Decision {
        self.local
    }

    /// Whether it counts as active, and its status.
    pub fn published(&self) -> (bool, Option<&str>) {
        match self.local {
            Decision::None => (self.active, self.status.as_deref()),
            decision => (false, Some(decision.name())),
        }
    }

    /// The answer of `getRepoStatus`.
    pub fn repo_status(&self, did: &Did) -> Value {
        let (active, status) = self.published();
        let mut answer = json!({ "did": did.to_string(), "active": active });
        if let Some(status) = status {
            answer["status"] = json!(status);
        }
        if let (true, Some(head)) = (active, &self.head) {
            answer["rev"] = json!(head.rev);
        }
        answer
    }

    /// The answer of `getLatestCommit`, or the name of its error.
    pub fn latest_commit(&self) -> Result<Value, &'static str> {
        match (self.published(), &self.head) {
            ((true, _), Some(head)) => Ok(json!({ "cid": head.commit, "rev": head.rev })),
            ((true, _), None) | ((_, Some("deleted")), _) => Err("RepoNotFound"),
            ((_, Some("takendown")), _) => Err("RepoTakendown"),
            ((_, Some("suspended")), _) => Err("RepoSuspended"),
            _ => Err("RepoDeactivated"),
        }
    }

    /// The revision that operators are shown, whatever the account's status.
    pub fn rev(&self) -> Option<&str> {
        self.head.as_ref().map(|head| head.rev.as_str())
    }
}
