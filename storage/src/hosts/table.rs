//! The sequencer's own table of hosts.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use protocol::host::HostName;
use protocol::ids::{Epoch, HostId, HostSeq, Micros};

use super::{Host, Start};
use crate::Error;
use crate::gaps::HostGap;
use crate::sequencer::watermark::Watermark;

/// The sequencer's own table. Owned by its thread; readers see the
/// [`Mirror`](super::Mirror).
pub(crate) struct Table {
    rows: BTreeMap<HostId, Row>,
    names: HashMap<HostName, HostId>,
    /// The last number that was given to a host; each is given once.
    last: HostId,
}

/// A host, and what the sequencer keeps beside it.
pub(crate) struct Row {
    pub(crate) host: Host,
    pub(crate) watermark: Watermark,
    /// What reconciliation owes; has a row of its own.
    pub(crate) owed: Option<HostGap>,
}

impl Table {
    /// Takes over the rows that the store held at start, and the last number that was given out.
    pub(crate) fn load(
        hosts: Vec<Host>,
        owed: Vec<(HostId, HostGap)>,
        last: HostId,
    ) -> Result<Self, Error> {
        let mut table = Self { rows: BTreeMap::new(), names: HashMap::new(), last };
        for host in hosts {
            table.last = table.last.max(host.id);
            table.insert(host);
        }
        for (id, gap) in owed {
            table.row(id)?.owed = Some(gap);
        }
        Ok(table)
    }

    /// The host of this name, added if it is not there.
    pub(crate) fn add(
        &mut self,
        name: &HostName,
        start: Start,
        level: u8,
        now: Micros,
    ) -> Result<&Host, Error> {
        let id = match self.names.get(name) {
            Some(id) => *id,
            None => {
                let next = self.last.0.checked_add(1).ok_or(Error::Impossible("2^32 hosts"))?;
                self.last = HostId(next);
                let host = Host::added(self.last, name.clone(), start, now);
                self.insert(Host { level, ..host });
                self.last
            }
        };
        Ok(&self.row(id)?.host)
    }

    /// Forgets a host. Others that were names of it stand for themselves again, and are named.
    pub(crate) fn remove(&mut self, id: HostId) -> Result<(Row, Vec<HostId>), Error> {
        let row = self.rows.remove(&id).ok_or(Error::UnknownHost(id))?;
        self.names.remove(&row.host.name);
        let mut freed = Vec::new();
        for (other, row) in &mut self.rows {
            if row.host.alias_of == Some(id) {
                row.host.alias_of = None;
                freed.push(*other);
            }
        }
        Ok((row, freed))
    }

    /// The last number that was given to a host.
    pub(crate) fn last(&self) -> HostId {
        self.last
    }

    /// The host of this number.
    pub(crate) fn row(&mut self, id: HostId) -> Result<&mut Row, Error> {
        self.rows.get_mut(&id).ok_or(Error::UnknownHost(id))
    }

    /// The host of this number, if it is still there: what was on its way when it was removed says
    /// nothing to anybody. A number that was never given is an error.
    pub(crate) fn find(&mut self, id: HostId) -> Result<Option<&mut Row>, Error> {
        match self.rows.get_mut(&id) {
            None if id > self.last || id == HostId::NOBODY => Err(Error::UnknownHost(id)),
            found => Ok(found),
        }
    }

    pub(crate) fn get(&self, id: HostId) -> Option<&Host> {
        self.rows.get(&id).map(|row| &row.host)
    }

    fn insert(&mut self, host: Host) {
        self.names.insert(host.name.clone(), host.id);
        let watermark = Watermark::new(host.epoch, host.cursor);
        self.rows.insert(host.id, Row { host, watermark, owed: None });
    }
}

impl Row {
    /// The host's sequence starts anew: what was settled of it says nothing about what comes.
    pub(crate) fn reset(&mut self, epoch: Epoch) {
        self.watermark = Watermark::new(epoch, HostSeq::ZERO);
        self.host.epoch = epoch;
        self.host.cursor = HostSeq::ZERO;
        self.host.start = Start::Oldest;
    }
}
