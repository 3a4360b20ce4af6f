//! A set of sector numbers of one file: those that are dirty, or lost.
//!
//! Invariants:
//!   * the last word isn't zero, so that equal sets are equal vectors and emptiness is a look at the length

/// Sector numbers, as bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sectors {
    words: Vec<u64>,
}

impl Sectors {
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
    }

    pub(super) fn insert(&mut self, sector: usize) {
        let index = sector / 64;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        self.words[index] |= 1 << (sector % 64);
    }

    pub(super) fn remove(&mut self, sector: usize) {
        if let Some(word) = self.words.get_mut(sector / 64) {
            *word &= !(1 << (sector % 64));
        }
        self.trim();
    }

    /// Removes all sectors from number `end` on.
    pub(super) fn cut(&mut self, end: usize) {
        self.words.truncate(end.div_ceil(64));
        if !end.is_multiple_of(64) && self.words.len() == end / 64 + 1 {
            self.words[end / 64] &= (1 << (end % 64)) - 1;
        }
        self.trim();
    }

    /// Whether any of `from..to` is in the set.
    pub(super) fn any_in(&self, from: usize, to: usize) -> bool {
        (from..to)
            .any(|sector| self.words.get(sector / 64).is_some_and(|word| word >> (sector % 64) & 1 == 1))
    }

    /// The numbers in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn sectors_behave_as_a_set_of_numbers(steps in prop::collection::vec((0u8..8, 0usize..300), 1..60)) {
            let (mut set, mut model) = (Sectors::default(), BTreeSet::new());
            for (kind, number) in steps {
                match kind {
                    0 => {
                        set.cut(number);
                        model.split_off(&number);
                    }
                    1 | 2 => {
                        set.remove(number);
                        model.remove(&number);
                    }
                    _ => {
                        set.insert(number);
                        model.insert(number);
                    }
                }
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert_eq!(set.any_in(number, number + 5), model.range(number..number + 5).next().is_some());
            }
        }
    }
}
