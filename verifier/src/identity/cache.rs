//! A bounded map by DID that forgets what was not asked for lately (second chance).

use std::collections::VecDeque;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use protocol::did::Did;

/// Values by DID, weighing about `weight_max` together.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    slots: HashMap<Did, Slot<V>>,
    /// Invariant: each key of `slots` once.
    ring: VecDeque<Did>,
    weigh: fn(&Did, &V) -> usize,
    /// Invariant: the sum over `slots`.
    weight: usize,
    weight_max: usize,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    weight: usize,
    used: bool,
}

impl<V> Cache<V> {
    /// About `max` values, whatever their size.
    pub(crate) fn counted(max: usize) -> Self {
        Self::weighed(max, |_, _| 1)
    }

    /// Values that weigh so much: bytes, say. The weight is taken when a value is made, and again
    /// by [`Cache::weigh_again`].
    pub(crate) fn weighed(weight_max: usize, weigh: fn(&Did, &V) -> usize) -> Self {
        let (slots, ring) = (HashMap::new(), VecDeque::new());
        Self { slots, ring, weigh, weight: 0, weight_max }
    }

    /// Bytes of one slot beside what its value holds elsewhere: its places in the map and the
    /// ring, whose spare room is a half on average.
    pub(crate) const SLOT_BYTES: usize =
        (size_of::<(Did, Slot<V>)>() + 1 + size_of::<Did>()) * 3 / 2;

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn weight(&self) -> usize {
        self.weight
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
            Entry::Vacant(entry) => {
                let value = make();
                let weight = (self.weigh)(did, &value);
                self.weight += weight;
                entry.insert(Slot { value, weight, used: false })
            }
        };
        slot.used = true;
        &mut slot.value
    }

    /// The value has changed.
    pub(crate) fn weigh_again(&mut self, did: &Did) {
        let Some(slot) = self.slots.get_mut(did) else { return };
        self.weight -= slot.weight;
        slot.weight = (self.weigh)(did, &slot.value);
        self.weight += slot.weight;
    }

    fn forget(&mut self, keep: impl Fn(&Did, &V) -> bool) {
        for look in 1..=LOOKS_MAX {
            if self.weight < self.weight_max {
                return;
            }
            let Some(did) = self.ring.pop_front() else { return };
            let slot = self.slots.get_mut(&did).expect("the ring names slots only");
            // The last one looked at goes although it was used: the bound is a bound.
            let has_chance = slot.used && look < LOOKS_MAX;
            if has_chance || keep(&did, &slot.value) {
                slot.used = false;
                self.ring.push_back(did);
            } else if let Some(slot) = self.slots.remove(&did) {
                self.weight -= slot.weight;
            }
        }
    }
}

/// Slots looked at for one insertion: bounds its time. Over its weight by what is kept, the map
/// shrinks again by up to this many with every insertion.
const LOOKS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn did(number: u32) -> Did {
        Did::parse(&format!("did:web:h{number}.example.com")).unwrap()
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut cache = Cache::counted(100);
        for number in 0..1000 {
            cache.get_or_insert(&did(number), || number, |_, _| false);
            assert_eq!(cache.get(&did(0)).copied(), Some(0), "after {number}");
        }
        assert!(cache.len() <= 100 + LOOKS_MAX, "{}", cache.len());
    }

    #[test]
    fn what_is_kept_stays_over_the_bound() {
        let mut cache = Cache::counted(4);
        for number in 0..20 {
            cache.get_or_insert(&did(number), || number, |_, _| true);
        }
        assert_eq!(cache.len(), 20);
        for number in 20..60 {
            cache.get_or_insert(&did(number), || number, |_, _| false);
        }
        assert!(cache.len() <= 4 + LOOKS_MAX, "{}", cache.len());
    }

    #[test]
    fn values_weigh_what_they_weigh_after_a_change_too() {
        let mut cache: Cache<usize> = Cache::weighed(1_000, |_, weight| *weight);
        for number in 0..200 {
            cache.get_or_insert(&did(number), || 10, |_, _| false);
        }
        assert!(cache.weight() <= 1_000 + 10 && cache.len() >= 90, "{}", cache.len());
        *cache.get(&did(199)).unwrap() = 900;
        cache.weigh_again(&did(199));
        for number in 200..300 {
            cache.get_or_insert(&did(number), || 10, |did, _| *did == self::did(199));
        }
        assert!(cache.weight() <= 1_000 + 10 && cache.len() <= 12, "{}", cache.len());
        *cache.get(&did(199)).unwrap() = 10;
        cache.weigh_again(&did(199));
        assert_eq!(cache.weight(), cache.len() * 10);
    }
}
