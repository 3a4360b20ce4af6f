//! A sorted map in pieces, each of which a copy shares until one of both changes it.
//!
//! A state is copied for each checkpoint, while the writer stands still. Of a map with a million entries that copies a
//! few thousand pointers, and later each piece that is written to.
//!
//! Invariants
//!   * every key of a piece is less than every key of the next one; no piece is empty
//!   * a piece is entered under a key that is at most its first one
//!   * two maps are equal if their entries are, however they are cut

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Most entries of a piece; a larger one is halved.
const ENTRIES_MAX: usize = 512;

#[derive(Clone)]
pub(super) struct Pieces<K, V> {
    pieces: BTreeMap<K, Arc<BTreeMap<K, V>>>,
    len: usize,
}

impl<K, V> Default for Pieces<K, V> {
    fn default() -> Self {
        Pieces { pieces: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Copy, V: Clone> Pieces<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.pieces.get(&self.bound_of(key)?)?.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let found = self.bound_of(&key).unwrap_or(key);
        let bound = found.min(key);
        if bound < found
            && let Some(first) = self.pieces.remove(&found)
        {
            // Below all others: the first piece is entered under it from now on.
            self.pieces.insert(bound, first);
        }
        let piece = Arc::make_mut(self.pieces.entry(bound).or_default());
        self.len += usize::from(piece.insert(key, value).is_none());
        if piece.len() > ENTRIES_MAX
            && let Some(middle) = piece.keys().nth(ENTRIES_MAX / 2).copied()
        {
            let upper = piece.split_off(&middle);
            self.pieces.insert(middle, Arc::new(upper));
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let bound = self.bound_of(key)?;
        let piece = self.pieces.get_mut(&bound).filter(|piece| piece.contains_key(key))?;
        let removed = Arc::make_mut(piece).remove(key);
        if piece.is_empty() {
            self.pieces.remove(&bound);
        }
        self.len -= usize::from(removed.is_some());
        removed
    }

    pub(super) fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// All entries, keys ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pieces.values().flat_map(|piece| piece.iter())
    }

    /// The key under which the piece is entered that has this key, or would have it: the first one what lies below all.
    fn bound_of(&self, key: &K) -> Option<K> {
        let below = self.pieces.range(..=*key).next_back();
        below.or_else(|| self.pieces.first_key_value()).map(|(bound, _)| *bound)
    }
}

impl<K: Ord + Copy, V: Clone + PartialEq> PartialEq for Pieces<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Copy, V: Clone + Eq> Eq for Pieces<K, V> {}

impl<K: Ord + Copy + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for Pieces<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Copy, V: Clone> FromIterator<(K, V)> for Pieces<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut pieces = Pieces::default();
        entries.into_iter().for_each(|(key, value)| pieces.insert(key, value));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_in_pieces_answers_as_a_plain_one_and_copies_stay_as_they_were() {
        let (mut pieces, mut plain) = (Pieces::default(), BTreeMap::new());
        let mut copies = Vec::new();
        let mut number = 1_u64;
        for step in 0..20_000_u64 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (number >> 33) % 3_000;
            match number >> 62 {
                0 => assert_eq!(pieces.remove(&key), plain.remove(&key)),
                _ => {
                    pieces.insert(key, step);
                    plain.insert(key, step);
                }
            }
            assert_eq!(pieces.get(&key), plain.get(&key));
            assert_eq!((pieces.len(), pieces.first()), (plain.len(), plain.first_key_value()));
            if step % 4_000 == 0 {
                copies.push((pieces.clone(), plain.clone()));
            }
        }
        assert!(pieces.pieces.len() > 4, "it is in several pieces");
        assert!(pieces.pieces.values().all(|piece| !piece.is_empty() && piece.len() <= ENTRIES_MAX));
        copies.push((pieces.clone(), plain));
        for (copy, plain) in &copies {
            assert!(copy.iter().eq(plain.iter()));
        }
        // Cut otherwise, and yet equal.
        assert_eq!(pieces, pieces.iter().map(|(key, value)| (*key, *value)).collect());
    }
}
