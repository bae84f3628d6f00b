//! The vocabulary of specimens: what happens, and what must come of it.

use protocol::account::Local;
use protocol::did::Did;
use protocol::reject::Reject;

use crate::wire::Frame;
use crate::world::account::RepoRow;

/// One thing that happens, and what must come of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happens.
    pub deed: Deed,
    /// What must come of it, consumers' view in this order; nothing, if it is empty.
    pub expect: Vec<Expect>,
}

/// What somebody of the network, or the relay's operator, does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A host sends a frame under its next seq.
    Send {
        /// The host.
        host: usize,
        /// The frame.
        frame: Frame,
    },
    /// A host sends a frame under the seq that it used last.
    SendStale {
        /// The host.
        host: usize,
        /// The frame.
        frame: Frame,
    },
    /// A host sends a WebSocket text message, once: it is not part of its stream.
    SendText {
        /// The host.
        host: usize,
    },
    /// The directory answers so about a DID from here on.
    Directory {
        /// The DID.
        did: Did,
        /// What it answers.
        answer: Directory,
    },
    /// The directory gives no answer about a DID until it does about another, or all again.
    DirectoryHangs {
        /// The DID; `None`: it answers about all.
        did: Option<Did>,
    },
    /// The account's host answers so about it from here on.
    Host(HostAnswer),
    /// Something that the network has no hand in.
    Relay(RelayDeed),
}

/// What happens to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayDeed {
    /// It is killed and starts again, on the same data.
    Restart,
    /// Its operator decides about the specimen's account.
    Decide(Local),
}

/// What must come of a deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Consumers see this frame.
    Pass(Frame),
    /// Consumers see an `#account` of the relay's own making, at whatever time.
    Announce {
        /// Its `active`.
        active: bool,
        /// Its `status`.
        status: Option<&'static str>,
    },
    /// Something is dropped under this name.
    Drop(Reject),
}

/// What a directory knows of a DID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directory {
    /// A document.
    Document(serde_json::Value),
    /// Nothing: 404.
    Missing,
    /// It was: 410.
    Tombstoned,
}

/// What a host answers about an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAnswer {
    /// That it has it.
    Row(RepoRow),
    /// `RepoNotFound`.
    NotFound,
    /// Only a status: a server that fails, or does not know the method.
    Status(u16),
}

impl Step {
    /// A frame that must pass as it is.
    pub fn pass(host: usize, frame: Frame) -> Self {
        Self::pass_as(host, frame.clone(), frame)
    }

    /// A frame that must pass, and that consumers see as another.
    pub fn pass_as(host: usize, frame: Frame, seen: Frame) -> Self {
        Self { deed: Deed::Send { host, frame }, expect: vec![Expect::Pass(seen)] }
    }

    /// A frame that must be dropped.
    pub fn drop(host: usize, frame: Frame, reject: Reject) -> Self {
        Self { deed: Deed::Send { host, frame }, expect: vec![Expect::Drop(reject)] }
    }

    /// A frame of which nothing comes, at once or at all.
    pub fn silence(host: usize, frame: Frame) -> Self {
        Self { deed: Deed::Send { host, frame }, expect: Vec::new() }
    }

    /// A frame for which the relay tells of the account itself.
    pub fn announce(host: usize, frame: Frame, active: bool, status: Option<&'static str>) -> Self {
        let expect = vec![Expect::Announce { active, status }];
        Self { deed: Deed::Send { host, frame }, expect }
    }

    /// A deed of which nothing comes by itself.
    pub fn set(deed: Deed) -> Self {
        Self { deed, expect: Vec::new() }
    }

    /// The frame that is sent, if that is the deed.
    pub fn frame(&self) -> Option<&Frame> {
        match &self.deed {
            Deed::Send { frame, .. } | Deed::SendStale { frame, .. } => Some(frame),
            _ => None,
        }
    }

    /// Frames that consumers must see.
    pub fn passes(&self) -> impl Iterator<Item = &Frame> {
        self.expect.iter().filter_map(|expect| match expect {
            Expect::Pass(frame) => Some(frame),
            _ => None,
        })
    }

    /// Names under which something must be dropped.
    pub fn drops(&self) -> impl Iterator<Item = Reject> {
        self.expect.iter().filter_map(|expect| match expect {
            Expect::Drop(reject) => Some(*reject),
            _ => None,
        })
    }
}
