//! A sorted map in pieces, each of which a copy shares until one of both changes it.
//!
//! A state is copied for each checkpoint, while the writer stands still. Of a map with a million entries that copies a
//! few thousand pointers, and later each piece that is written to.
//!
//! Invariants
//!   * every key of a piece is less than every key of the next one; no piece is empty
//!   * a piece is entered under a key that is at most its first one
//!   * two maps are equal if their entries are, however they are cut

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
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

impl<K: Ord + Clone, V: Clone> Pieces<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let below = self.pieces.range::<Q, _>((Bound::Unbounded, Bound::Included(key))).next_back();
        below?.1.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let found = self.bound_of(&key).unwrap_or_else(|| key.clone());
        let bound = found.clone().min(key.clone());
        if bound < found
            && let Some(first) = self.pieces.remove(&found)
        {
            // Below all others: the first piece is entered under it from now on.
            self.pieces.insert(bound.clone(), first);
        }
        let piece = Arc::make_mut(self.pieces.entry(bound).or_default());
        self.len += usize::from(piece.insert(key, value).is_none());
        if piece.len() > ENTRIES_MAX
            && let Some(middle) = piece.keys().nth(ENTRIES_MAX / 2).cloned()
        {
            let upper = piece.split_off(&middle);
            self.pieces.insert(middle, Arc::new(upper));
        }
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let below = self.pieces.range::<Q, _>((Bound::Unbounded, Bound::Included(key))).next_back();
        let bound = below?.0.clone();
        let piece = self.pieces.get_mut::<K>(&bound).filter(|piece| piece.contains_key(key))?;
        let removed = Arc::make_mut(piece).remove(key);
        if piece.is_empty() {
            self.pieces.remove::<K>(&bound);
        }
        self.len -= usize::from(removed.is_some());
        removed
    }

    pub(super) fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    pub(super) fn last(&self) -> Option<(&K, &V)> {
        self.pieces.last_key_value()?.1.last_key_value()
    }

    /// All entries, keys ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pieces.values().flat_map(|piece| piece.iter())
    }

    /// The entries from a key on, ascending.
    pub(super) fn range_from<Q: Ord + ?Sized>(&self, from: Bound<&Q>) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let of_bound = |key: &Q| {
            let below = self.pieces.range::<Q, _>((Bound::Unbounded, Bound::Included(key))).next_back();
            below.map(|(bound, _)| bound)
        };
        let first = match from {
            Bound::Included(key) | Bound::Excluded(key) => of_bound(key),
            Bound::Unbounded => None,
        };
        let pieces = match first {
            Some(first) => self.pieces.range::<K, _>((Bound::Included(first), Bound::Unbounded)),
            None => self.pieces.range::<K, _>(..),
        };
        // What lies before the key can only be in the first piece.
        let is_before = move |key: &K| match from {
            Bound::Included(from) => key.borrow() < from,
            Bound::Excluded(from) => key.borrow() <= from,
            Bound::Unbounded => false,
        };
        pieces.flat_map(|(_, piece)| piece.iter()).skip_while(move |(key, _)| is_before(key))
    }

    /// The key under which the piece is entered that has this key, or would have it: the first one what lies below all.
    fn bound_of(&self, key: &K) -> Option<K> {
        let below = self.pieces.range(..=key).next_back();
        below.or_else(|| self.pieces.first_key_value()).map(|(bound, _)| bound.clone())
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for Pieces<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for Pieces<K, V> {}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for Pieces<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Pieces<K, V> {
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
            let from = [Bound::Unbounded, Bound::Included(&key), Bound::Excluded(&key)][step as usize % 3];
            assert!(pieces.range_from(from).take(9).eq(plain.range((from, Bound::Unbounded)).take(9)));
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
