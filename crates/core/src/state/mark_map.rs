//! A map from keys of marks to places: what is asked for most, so it is found at one place in memory.
//!
//! Open addressing: a key stands at the slot that its spread number says, or behind it, with no empty slot between.
//! The slots depend on the order in which keys came and went, so nobody goes through them, and two maps are compared by
//! what they find.
//!
//! Invariants
//!   * the number of slots is 0 or a power of two, and a quarter of them at least are empty
//!   * from the slot that a key's number says up to the key there is no empty slot

use super::marks::{self, MarkKey, Place, spread};

/// Slots of a map that has its first key.
const SLOTS_MIN: usize = 8;

#[derive(Clone, Debug, Default)]
pub(super) struct MarkMap {
    slots: Vec<Option<(MarkKey, Place)>>,
    count: usize,
}

impl MarkMap {
    /// What a key leads to; `spread` is [its number](spread).
    pub(super) fn find(&self, key: &MarkKey, spread: u64) -> Option<Place> {
        let mut at = self.first(spread)?;
        while let Some((found, place)) = &self.slots[at] {
            if found == key {
                return Some(*place);
            }
            at = self.next(at);
        }
        None
    }

    /// Adds a key; whether it wasn't there. One that was leads elsewhere now.
    pub(super) fn add(&mut self, key: MarkKey, place: Place, spread: u64) -> bool {
        if 4 * (self.count + 1) > 3 * self.slots.len() {
            self.grow();
        }
        let is_new = self.put(key, place, spread);
        self.count += usize::from(is_new);
        is_new
    }

    /// Takes a key out, if it is there.
    pub(super) fn remove(&mut self, key: &MarkKey, spread: u64) {
        let Some(mut empty) = self.first(spread) else { return };
        loop {
            match &self.slots[empty] {
                None => return,
                Some((found, _)) if found == key => break,
                Some(_) => empty = self.next(empty),
            }
        }
        self.count -= 1;
        // What stands behind it moves up, unless that would be in front of where it belongs.
        let mut at = self.next(empty);
        while let Some((found, _)) = &self.slots[at] {
            let home = self.first(marks::spread(found)).unwrap_or(at);
            if self.distance(home, empty) <= self.distance(home, at) {
                self.slots[empty] = self.slots[at].take();
                empty = at;
            }
            at = self.next(at);
        }
        self.slots[empty] = None;
    }

    fn put(&mut self, key: MarkKey, place: Place, spread: u64) -> bool {
        let mut at = self.first(spread).expect("it has grown for this key");
        loop {
            match &mut self.slots[at] {
                None => {
                    self.slots[at] = Some((key, place));
                    return true;
                }
                Some((found, known)) if *found == key => {
                    *known = place;
                    return false;
                }
                Some(_) => at = self.next(at),
            }
        }
    }

    fn grow(&mut self) {
        let more = (2 * self.slots.len()).max(SLOTS_MIN);
        for (key, place) in std::mem::replace(&mut self.slots, vec![None; more]).into_iter().flatten() {
            self.put(key, place, spread(&key));
        }
    }

    /// The slot that a number says.
    fn first(&self, spread: u64) -> Option<usize> {
        (!self.slots.is_empty()).then(|| spread as usize & (self.slots.len() - 1))
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// How many steps lead from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }
}

impl PartialEq for MarkMap {
    fn eq(&self, other: &MarkMap) -> bool {
        let is_there = |(key, place): &(MarkKey, Place)| other.find(key, spread(key)) == Some(*place);
        self.count == other.count && self.slots.iter().flatten().all(is_there)
    }
}

impl Eq for MarkMap {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DedupId, TopicId};
    use crate::state::ScopeKey;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(number: u8, scope: u32) -> MarkKey {
        MarkKey { scope: ScopeKey::Topic(TopicId(scope)), id: DedupId([number; 16]) }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8, u32, u64),
        Remove(u8, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..60_u8, 0..2_u32, 0..100_u64).prop_map(|(number, scope, at)| Step::Add(number, scope, at)),
            2 => (0..60_u8, 0..2_u32).prop_map(|(number, scope)| Step::Remove(number, scope)),
        ]
    }

    /// Each group that processes a topic marks the same ids. When these stood one behind the other, a mark that another
    /// group had too cost as many steps as there were groups.
    #[test]
    fn ids_that_many_scopes_have_stand_apart() {
        let mut map = MarkMap::default();
        let keys = (0..100).flat_map(|scope| (0..100).map(move |number| key(number, scope)));
        keys.for_each(|key| _ = map.add(key, Place { at: 0, index: 0 }, spread(&key)));
        let steps = |(at, slot): (usize, &Option<(MarkKey, Place)>)| {
            let (key, _) = slot.as_ref()?;
            Some(map.distance(map.first(spread(key))?, at))
        };
        let most = map.slots.iter().enumerate().filter_map(steps).max();
        assert!(most < Some(100), "{most:?}");
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec(step(), 0..300)) {
            let (mut map, mut model) = (MarkMap::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Add(number, scope, at) => {
                        let (key, place) = (key(number, scope), Place { at, index: 0 });
                        let is_new = map.add(key, place, spread(&key));
                        prop_assert_eq!(is_new, model.insert(key, place).is_none());
                    }
                    Step::Remove(number, scope) => {
                        let key = key(number, scope);
                        map.remove(&key, spread(&key));
                        model.remove(&key);
                    }
                }
                for number in 0..60 {
                    for scope in 0..2 {
                        let key = key(number, scope);
                        prop_assert_eq!(map.find(&key, spread(&key)), model.get(&key).copied());
                    }
                }
                prop_assert_eq!(map.count, model.len());
                prop_assert!(4 * map.count <= 3 * map.slots.len());
            }
            // Another order, and the same map.
            let mut other = MarkMap::default();
            model.iter().rev().for_each(|(key, place)| _ = other.add(*key, *place, spread(key)));
            prop_assert_eq!(&map, &other);
            if let Some((first, place)) = model.iter().next() {
                other.add(*first, Place { at: place.at + 1, index: 0 }, spread(first));
                prop_assert_ne!(&map, &other);
                other.remove(first, spread(first));
                prop_assert_ne!(&map, &other);
            }
        }
    }
}
