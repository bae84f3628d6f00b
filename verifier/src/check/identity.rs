//! `#identity`: somebody noticed that a DID document may have changed.

use protocol::frame::{HostKind, IdentityFrame, Kind, Outgoing};
use protocol::handle;
use protocol::reject::Reject;

use super::{Case, Hearing, Known, Need, Stop, decision, envelope, speaker};
use crate::options::Handles;
use crate::verdict::Accepted;

/// An `#identity` that is well-formed.
#[derive(Debug)]
pub struct IdentityClaim {
    /// As its host sent it, or with what is left out of it.
    outgoing: Outgoing,
    /// The handle that is verified before it goes out.
    said: Option<Said>,
}

/// What a host said of a handle.
#[derive(Debug)]
struct Said {
    handle: String,
    time: String,
}

/// What becomes of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    LeftOut,
    Invalid,
}

/// Fields and `time`.
pub(super) fn begin(case: &Case<'_>) -> Result<IdentityClaim, Reject> {
    let frame = IdentityFrame::decode(case.frame).map_err(envelope::field_reject)?;
    envelope::same_did(case, frame.did)?;
    envelope::time(frame.time)?;
    let is_ours = case.kind == HostKind::Event(Kind::Identity);
    let keeps_handle = case.handles != Handles::Strip || frame.handle.is_none();
    let outgoing = if is_ours && keeps_handle {
        Outgoing::from_host(case.frame, Kind::Identity).map_err(envelope::field_reject)?
    } else {
        let handle = frame.handle.filter(|_| keeps_handle);
        Outgoing::identity(case.did, handle, frame.time)
    };
    let said = frame.handle.filter(|_| case.handles == Handles::Verify);
    let said = said.map(|handle| Said { handle: handle.to_owned(), time: frame.time.to_owned() });
    Ok(IdentityClaim { outgoing, said })
}

impl IdentityClaim {
    /// Passes from the DID's current or last known host, whatever the document says; from any
    /// other if a fetch shows that something changed.
    pub(super) fn settle(&self, case: &Case<'_>, known: &Known<'_>) -> Result<Accepted, Stop> {
        if case.prior.is_some_and(|account| account.host == case.host) {
            return Ok(case.accepted(self.frames(case, known)?, case.account()));
        }
        let identity = speaker::document(known)?;
        if identity.pds.as_ref() == Some(case.name) {
            let (mut frames, account) = (self.frames(case, known)?, case.account());
            if case.is_over_limit() {
                frames.extend(decision::told(case.did, None, &account, case.now));
            }
            return Ok(case.accepted(frames, account));
        }
        if known.before.is_some_and(|before| before.differs_from(identity)) {
            let frames = self.frames(case, known)?;
            return Ok(Accepted { account: None, ..case.accepted(frames, case.account()) });
        }
        Err(speaker::convict(case, known, identity, Reject::IdentityUnchanged))
    }

    /// What goes out. Only an event that passes has its handle looked at.
    fn frames(&self, case: &Case<'_>, known: &Known<'_>) -> Result<Vec<Outgoing>, Stop> {
        let Some(said) = &self.said else { return Ok(vec![self.outgoing.clone()]) };
        let fate = fate(&said.handle, case, known).map_err(Stop::Wait)?;
        Ok(vec![match fate {
            Fate::Kept => self.outgoing.clone(),
            Fate::LeftOut => Outgoing::identity(case.did, None, &said.time),
            Fate::Invalid => Outgoing::identity(case.did, Some(handle::INVALID), &said.time),
        }])
    }
}

/// Protocol.md section 5: "kept if it is the *first* valid `at://` entry of `alsoKnownAs` and
/// resolves back to the DID; `handle.invalid` only if the document's own first handle fails
/// definitively by both methods; else left out".
fn fate(said: &str, case: &Case<'_>, known: &Known<'_>) -> Result<Fate, Need> {
    if matches!(known.handle, Hearing::Closed) {
        return Ok(Fate::LeftOut);
    }
    let Some(identity) = known.identity else { return Err(Need::HandleDocument) };
    let first = identity.handle.as_deref();
    let agrees = first.is_some_and(|first| first.eq_ignore_ascii_case(said));
    // The host may know of a change that a document from before does not show.
    if !agrees && identity.fetched < case.received {
        return Err(Need::HandleDocument);
    }
    let Some(first) = first else { return Ok(Fate::LeftOut) };
    match known.handle {
        Hearing::Heard(handle, resolution) if handle == first => {
            Ok(match resolution.is_of(case.did) {
                Some(true) if agrees => Fate::Kept,
                Some(false) => Fate::Invalid,
                _ => Fate::LeftOut,
            })
        }
        _ => Err(Need::Handle),
    }
}
