//! A bounded map by DID that forgets what was not asked for lately (second chance).

use std::collections::VecDeque;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use protocol::did::Did;

/// Values by DID, about `max` of them.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    slots: HashMap<Did, Slot<V>>,
    /// Invariant: each key of `slots` once.
    ring: VecDeque<Did>,
    max: usize,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    used: bool,
}

impl<V> Cache<V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: HashMap::new(), ring: VecDeque::new(), max }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn get(&mut self, did: &Did) -> Option<&mut V> {
        let slot = self.slots.get_mut(did)?;
        slot.used = true;
        Some(&mut slot.value)
    }

    /// The value, made if there is none. Making one forgets others, but none that `keep` names:
    /// the caller bounds those.
    pub(crate) fn get_or_insert(
        &mut self,
        did: &Did,
        make: impl FnOnce() -> V,
        keep: impl Fn(&Did, &V) -> bool,
    ) -> &mut V {
        if !self.slots.contains_key(did) {
            self.forget(keep);
            self.ring.push_back(did.clone());
        }
        let slot = match self.slots.entry(did.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Slot { value: make(), used: false }),
        };
        slot.used = true;
        &mut slot.value
    }

    fn forget(&mut self, keep: impl Fn(&Did, &V) -> bool) {
        for _ in 0..LOOKS_MAX {
            if self.slots.len() < self.max {
                return;
            }
            let Some(did) = self.ring.pop_front() else { return };
            let slot = self.slots.get_mut(&did).expect("the ring names slots only");
            if slot.used || keep(&did, &slot.value) {
                slot.used = false;
                self.ring.push_back(did);
            } else {
                self.slots.remove(&did);
            }
        }
    }
}

/// Slots looked at for one insertion: bounds its time. Over `max` by what is kept or was used, the
/// map shrinks again by up to this many with every insertion.
const LOOKS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn did(number: u32) -> Did {
        Did::parse(&format!("did:web:h{number}.example.com")).unwrap()
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut cache = Cache::new(100);
        for number in 0..1000 {
            cache.get_or_insert(&did(number), || number, |_, _| false);
            assert_eq!(cache.get(&did(0)).copied(), Some(0), "after {number}");
        }
        assert!(cache.len() <= 100 + LOOKS_MAX, "{}", cache.len());
    }

    #[test]
    fn what_is_kept_stays_over_the_bound() {
        let mut cache = Cache::new(4);
        for number in 0..20 {
            cache.get_or_insert(&did(number), || number, |_, _| true);
        }
        assert_eq!(cache.len(), 20);
        for number in 20..60 {
            cache.get_or_insert(&did(number), || number, |_, _| false);
        }
        assert!(cache.len() <= 4 + LOOKS_MAX, "{}", cache.len());
    }
}
