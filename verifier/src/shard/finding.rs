//! What reconciliation found takes its turn as an event does.

use bytes::Bytes;
use protocol::frame::{HostKind, Kind};

use super::Shard;
use crate::arrival::Arrival;
use crate::check::Evidence;
use crate::finding::{Errand, Finding};
use protocol::ids::Micros;

impl Shard {
    /// Behind what came of the account from this host before (I4).
    pub(crate) fn finding(&mut self, errand: Box<Errand>, now: Micros) {
        let did = errand.finding.did.clone();
        self.enter(&did, Arrival::Finding(errand), now);
    }

    /// What may be believed of it: a status only if nothing newer was heard.
    pub(super) fn evidence<'a>(&mut self, finding: &'a Finding) -> Evidence<'a> {
        let is_news = self.accounts.told(&finding.did) <= finding.seen;
        let status = finding.status.as_ref().filter(|_| is_news);
        Evidence { commit: finding.commit.as_ref(), status }
    }
}

impl Finding {
    /// What it is judged as.
    pub(super) const KIND: HostKind = HostKind::Event(Kind::Sync);

    /// The bytes that somebody has to look into if its check panics.
    pub(super) fn bytes(&self) -> &Bytes {
        static NOTHING: Bytes = Bytes::new();
        self.commit.as_ref().unwrap_or(&NOTHING)
    }
}
