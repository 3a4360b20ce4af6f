//! A map from keys of marks to places: what is asked for most.
//!
//! It is the standard library's: most ids that are asked for are absent, and that says a byte for each of many that lie
//! together, so nothing else has to be fetched.
//!
//! Invariants
//!   * nobody can go through it: the order in it isn't known outside, and two maps are equal if they find the same
//!   * it is the same in every process: what spreads the keys is a [number of theirs](spread), and nothing drawn

use super::marks::{MarkKey, Place, spread};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MarkMap(HashMap<SpreadKey, Place, BuildHasherDefault<SpreadHasher>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SpreadKey(MarkKey);

impl Hash for SpreadKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(spread(&self.0));
    }
}

/// Takes a number that is spread already.
#[derive(Clone, Copy, Debug, Default)]
struct SpreadHasher(u64);

impl Hasher for SpreadHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a SpreadKey is one number");
    }

    fn write_u64(&mut self, spread: u64) {
        self.0 = spread;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl MarkMap {
    /// What a key leads to.
    pub(super) fn find(&self, key: &MarkKey) -> Option<Place> {
        self.0.get(&SpreadKey(*key)).copied()
    }

    /// Adds a key; whether it wasn't there. One that was leads elsewhere now.
    pub(super) fn add(&mut self, key: MarkKey, place: Place) -> bool {
        self.0.insert(SpreadKey(key), place).is_none()
    }

    /// Takes a key out, if it is there.
    pub(super) fn remove(&mut self, key: &MarkKey) {
        self.0.remove(&SpreadKey(*key));
    }
}
