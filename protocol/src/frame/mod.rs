//! Frames of the event streams: peek for routing, decode for checking, splice a seq, encode.
//!
//! A frame is two CBOR maps: a header, `{"t": "#commit", "op": 1}`, and a payload with the fields
//! of its kind (atproto.com/specs/event-stream). What hosts send is read leniently: unsorted keys,
//! integers longer than needed and unknown fields are taken, and [`Outgoing::from_host`] repairs
//! them (protocol.md section 8).

mod decode;
mod encode;
mod peek;
mod splice;

pub use decode::{
    AccountFrame, CommitFrame, FieldError, IdentityFrame, OPS_DECODED_MAX, Op, Room, SyncFrame,
};
pub use encode::{error, info};
pub use peek::{Malformed, Peek, event_time, peek};
pub use splice::{Outgoing, Survey};

use crate::ids::{SEQ_MAX, Seq};

/// A kind of event in our log. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `#commit`
    Commit = 1,
    /// `#sync`
    Sync = 2,
    /// `#identity`
    Identity = 3,
    /// `#account`
    Account = 4,
}

/// A kind of event that a host may send: ours, and the legacy three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKind {
    /// One of ours.
    Event(Kind),
    /// `#handle`: treated as `#identity`.
    LegacyHandle,
    /// `#migrate`: treated as `#identity`.
    LegacyMigrate,
    /// `#tombstone`.
    LegacyTombstone,
}

impl Kind {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Commit, Self::Sync, Self::Identity, Self::Account];

    /// The kind with this number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Its number on disk.
    pub fn number(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Sync => 2,
            Self::Identity => 3,
            Self::Account => 4,
        }
    }

    /// The header's `t`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commit => "#commit",
            Self::Sync => "#sync",
            Self::Identity => "#identity",
            Self::Account => "#account",
        }
    }
}

impl HostKind {
    /// The kind that a header's `t` names.
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "#commit" => Some(Self::Event(Kind::Commit)),
            "#sync" => Some(Self::Event(Kind::Sync)),
            "#identity" => Some(Self::Event(Kind::Identity)),
            "#account" => Some(Self::Event(Kind::Account)),
            "#handle" => Some(Self::LegacyHandle),
            "#migrate" => Some(Self::LegacyMigrate),
            "#tombstone" => Some(Self::LegacyTombstone),
            _ => None,
        }
    }

    /// The header's `t`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event(kind) => kind.name(),
            Self::LegacyHandle => "#handle",
            Self::LegacyMigrate => "#migrate",
            Self::LegacyTombstone => "#tombstone",
        }
    }
}

/// Fuzz target: no frame makes trouble, and what goes out says what came in, canonically.
pub fn fuzz_frame(data: &[u8]) {
    let commit = CommitFrame::decode(data);
    let (sync, identity) = (SyncFrame::decode(data), IdentityFrame::decode(data));
    let account = AccountFrame::decode(data);
    match peek(data) {
        Ok(told @ Peek::Info { name: Some(name), message: Some(message) }) => {
            assert_eq!(peek(&info(name, message)), Ok(told));
        }
        Ok(told @ Peek::Error { error: Some(name), message: Some(message) }) => {
            assert_eq!(peek(&error(name, message)), Ok(told));
        }
        _ => {}
    }
    let Ok(Peek::Event { kind: HostKind::Event(kind), seq, .. }) = peek(data) else { return };
    let Ok(outgoing) = Outgoing::from_host(&bytes::Bytes::copy_from_slice(data), kind) else {
        let decodable = kind != Kind::Commit || commit.is_ok();
        assert!(seq.is_none() || !decodable, "an event with a seq goes out");
        return;
    };
    if let (Kind::Commit, Ok((_, survey))) =
        (kind, CommitFrame::decode_from_host(data, &mut Room::default()))
    {
        let surveyed = Outgoing::from_surveyed(&bytes::Bytes::copy_from_slice(data), survey);
        let both = [surveyed.expect("one walk finds what two find"), outgoing.clone()];
        let [one, two] = both.map(|it| {
            let mut out = Vec::new();
            it.write_with(Seq::ZERO, &mut out);
            (out, it.span(), it.recoded())
        });
        assert_eq!(one, two);
    }
    for seq in [Seq::ZERO, Seq::new(SEQ_MAX).expect("the largest is one")] {
        let mut out = Vec::new();
        outgoing.write_with(seq, &mut out);
        assert_eq!(out.len(), outgoing.len_with(seq));
        let peeked = peek(&out);
        let same_seq =
            matches!(peeked, Ok(Peek::Event { seq: read, .. }) if read == Some(seq.get()));
        assert!(same_seq, "our seq is in it");
        // Which of two wrong fields is named depends on their order.
        match kind {
            Kind::Commit => assert_eq!(CommitFrame::decode(&out).ok(), commit.clone().ok()),
            Kind::Sync => assert_eq!(SyncFrame::decode(&out).ok(), sync.ok()),
            Kind::Identity => assert_eq!(IdentityFrame::decode(&out).ok(), identity.ok()),
            Kind::Account => assert_eq!(AccountFrame::decode(&out).ok(), account.ok()),
        }
        let again = Outgoing::from_host(&out.into(), kind);
        assert!(again.is_ok_and(|again| !again.recoded() && again.span() == outgoing.span()));
    }
}
