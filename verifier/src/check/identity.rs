//! `#identity`: somebody noticed that a DID document may have changed.

use protocol::frame::{HostKind, IdentityFrame, Kind, Outgoing};
use protocol::reject::Reject;

use super::{Case, Known, Stop, envelope, speaker};
use crate::options::Handles;
use crate::verdict::{Accepted, Identity};

/// An `#identity` that is well-formed.
#[derive(Debug)]
pub struct IdentityClaim {
    outgoing: Outgoing,
}

/// Fields and `time`.
pub(super) fn begin(case: &Case<'_>) -> Result<IdentityClaim, Reject> {
    let frame = IdentityFrame::decode(case.frame).map_err(envelope::field_reject)?;
    envelope::same_did(case, frame.did)?;
    envelope::time(frame.time)?;
    let is_ours = case.kind == HostKind::Event(Kind::Identity);
    let keeps_handle = case.handles == Handles::Pass || frame.handle.is_none();
    let outgoing = if is_ours && keeps_handle {
        Outgoing::from_host(case.frame, Kind::Identity).map_err(envelope::field_reject)?
    } else {
        let handle = frame.handle.filter(|_| keeps_handle);
        Outgoing::identity(case.did, handle, frame.time)
    };
    Ok(IdentityClaim { outgoing })
}

impl IdentityClaim {
    /// Passes from the DID's current or last known host, whatever the document says; from any
    /// other if a fetch shows that something changed.
    pub(super) fn settle(&self, case: &Case<'_>, known: &Known<'_>) -> Result<Accepted, Stop> {
        let frames = vec![self.outgoing.clone()];
        if case.prior.is_some_and(|account| account.host == case.host) {
            return Ok(case.accepted(frames, case.account()));
        }
        let identity = speaker::document(known)?;
        if identity.pds.as_ref() == Some(case.name) {
            return Ok(case.accepted(frames, case.account()));
        }
        if known.before.is_some_and(|before| differs(before, identity)) {
            let unmoved = Accepted { account: None, ..case.accepted(frames, case.account()) };
            return Ok(unmoved);
        }
        Err(speaker::convict(case, known, identity, Reject::IdentityUnchanged))
    }
}

/// Whether the documents say different things; when they were fetched is not one of them.
fn differs(before: &Identity, after: &Identity) -> bool {
    before.key != after.key
        || before.pds != after.pds
        || before.handle != after.handle
        || before.tombstoned != after.tombstoned
}
