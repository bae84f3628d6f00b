//! Places for hosts that are looked at because somebody asks: some in all, a few for each asker.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The places that are taken, by the network of who asked.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<IpAddr, usize>>);

/// Free again when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    network: IpAddr,
}

impl Places {
    /// Takes one, if there is one.
    pub(super) fn take(&self, network: IpAddr) -> Option<Place<'_>> {
        let mut taken = self.taken();
        let own = taken.get(&network).copied().unwrap_or(0);
        if own >= PLACES_PER_NETWORK_MAX || taken.values().sum::<usize>() >= PLACES_MAX {
            return None;
        }
        taken.insert(network, own + 1);
        Some(Place { places: self, network })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        match taken.get(&self.network) {
            Some(1) | None => drop(taken.remove(&self.network)),
            Some(own) => {
                let own = own - 1;
                taken.insert(self.network, own);
            }
        }
    }
}

/// Each one holds a request to a host that nobody has checked yet, for fifteen seconds at most.
const PLACES_MAX: usize = 16;
/// Who wants to shut others out needs as many networks as there are places for these.
const PLACES_PER_NETWORK_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: usize) -> IpAddr {
        [10, 0, 0, u8::try_from(number).unwrap()].into()
    }

    #[test]
    fn a_storm_from_one_network_leaves_room_for_others() {
        let places = Places::default();
        let storm: Vec<_> = (0..100).filter_map(|_| places.take(network(0))).collect();
        assert_eq!(storm.len(), PLACES_PER_NETWORK_MAX);
        assert!(places.take(network(1)).is_some());
        drop(storm);
        assert!(places.taken().is_empty());
        assert!(places.take(network(0)).is_some());
    }

    #[test]
    fn there_are_so_many_in_all() {
        let places = Places::default();
        let all: Vec<_> = (0..100).filter_map(|number| places.take(network(number))).collect();
        assert_eq!(all.len(), PLACES_MAX);
        assert!(places.take(network(200)).is_none());
        drop(all);
        assert!(places.take(network(200)).is_some());
    }
}
