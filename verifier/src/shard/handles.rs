//! The handle of an `#identity` that waits: asked for once, heard of, or given up.

use protocol::did::Did;
use protocol::ids::Micros;

use super::Shard;
use crate::check::{Hearing, Need};
use crate::identity::{Lookup, Progress, Resolution, Wanted};
use crate::parked::Waiting;

/// What a waiting event knows of its account's handle.
#[derive(Debug, Default)]
pub(crate) struct Inquiry {
    asked: Option<String>,
    /// Belongs to `asked`.
    heard: Option<Resolution>,
    closed: bool,
}

impl Inquiry {
    /// What the check is told.
    pub(super) fn hearing(&self) -> Hearing<'_> {
        match (&self.asked, &self.heard) {
            _ if self.closed => Hearing::Closed,
            (Some(handle), Some(resolution)) => Hearing::Heard(handle, resolution),
            _ => Hearing::Open,
        }
    }

    /// An answer; one about another handle than was asked for last is of no use.
    pub(crate) fn hear(&mut self, handle: &str, resolution: &Resolution) {
        if self.asked.as_deref() == Some(handle) {
            self.heard = Some(resolution.clone());
        }
    }
}

impl Shard {
    /// Asks for what the handle needs. When to look again; `None`: it is not waited for any more,
    /// and the event is judged without.
    pub(super) fn inquire(
        &mut self,
        waiting: &mut Waiting,
        need: Need,
        handle: Option<&str>,
        now: Micros,
    ) -> Option<Micros> {
        let until = waiting.since.plus(self.timing.handle);
        let look = match (need, handle) {
            _ if now >= until => None,
            (Need::Handle, Some(handle)) => {
                self.ask_handle(waiting, handle, now);
                Some(until)
            }
            _ => {
                let (since, payer) = (waiting.received, &waiting.origin);
                let wanted = Wanted { since, payer, until: Micros(until.0 - 1) };
                self.demand_newer(&waiting.did, wanted, now).map(|look| look.min(until))
            }
        };
        waiting.inquiry.closed = look.is_none();
        look
    }

    fn ask_handle(&mut self, waiting: &mut Waiting, handle: &str, now: Micros) {
        let inquiry = &mut waiting.inquiry;
        if inquiry.asked.as_deref() == Some(handle) {
            return;
        }
        (inquiry.asked, inquiry.heard) = (Some(handle.to_owned()), None);
        self.lookups.push(Lookup::Handle {
            did: waiting.did.clone(),
            host: waiting.origin.host(),
            handle: handle.to_owned(),
            began: now,
        });
    }

    /// A document from after the event came, if one may come in time: when to look.
    fn demand_newer(&mut self, did: &Did, wanted: Wanted<'_>, now: Micros) -> Option<Micros> {
        match self.directory.demand(did, wanted, now) {
            Progress::Begin => {
                self.lookups.push(Lookup::Document { did: did.clone(), began: now });
                Some(Micros(u64::MAX))
            }
            Progress::UnderWay => Some(Micros(u64::MAX)),
            Progress::At(at) => (at <= wanted.until).then_some(at),
            Progress::Unresolved | Progress::OverBudget => None,
        }
    }
}
