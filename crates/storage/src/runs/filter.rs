//! The filter of a run: says of most keys that it doesn't have that it doesn't.
//!
//! A Bloom filter in lines of 64 bytes, the size of a cache line: all bits of a key lie in one line, so a look-up of a
//! key that isn't there costs one access to memory (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom
//! Filters, 2007). With 24 bits and 11 probes for each key about one of 18,000 other keys passes.
//!
//! Invariants
//!   * a key that was added passes always
//!   * the same keys give the same bits, in whatever order they came

use super::format::LINE_BYTES;
use exactlog_core::state::{MarkKey, ScopeKey};

/// Bits of the filter for each key.
pub(super) const BITS_PER_KEY: u64 = 24;

/// Bits that a key sets, at most.
const PROBES: u32 = 11;

const WORDS: usize = LINE_BYTES / 8;

/// A key as the filters of all runs take it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashed {
    line: u64,
    bits: [u64; 2],
}

impl Hashed {
    pub(super) fn of(key: &MarkKey) -> Hashed {
        let scope = match key.scope {
            ScopeKey::Topic(topic) => u64::from(topic.0),
            ScopeKey::Named(number) => 1 << 32 | u64::from(number),
        };
        let id = u128::from_le_bytes(key.id.0);
        let line = mix(mix(mix(scope) ^ id as u64) ^ (id >> 64) as u64);
        let first = mix(line ^ 0x5851_f42d_4c95_7f2d);
        Hashed { line, bits: [first, mix(first)] }
    }

    /// Word and bit of each probe: nine bits of the hash each, seven probes from each half.
    fn probes(self) -> impl Iterator<Item = (usize, u64)> {
        const OF_A_HALF: u32 = 7;
        (0..PROBES).map(move |nth| {
            let bit = self.bits[(nth / OF_A_HALF) as usize] >> (9 * (nth % OF_A_HALF)) & 511;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }
}

/// Spreads each bit over all (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[derive(Debug)]
pub(super) struct Filter {
    lines: Vec<[u64; WORDS]>,
}

impl Filter {
    /// How many lines so many keys get.
    pub(super) fn lines_for(keys: u64) -> u64 {
        (keys * BITS_PER_KEY).div_ceil(LINE_BYTES as u64 * 8).max(1)
    }

    /// A filter that nothing passes.
    pub(super) fn new(lines: u64) -> Filter {
        Filter { lines: vec![[0; WORDS]; lines as usize] }
    }

    pub(super) fn add(&mut self, key: Hashed) {
        let at = self.line_of(key);
        key.probes().for_each(|(word, bit)| self.lines[at][word] |= bit);
    }

    pub(super) fn passes(&self, key: Hashed) -> bool {
        let line = &self.lines[self.line_of(key)];
        key.probes().all(|(word, bit)| line[word] & bit != 0)
    }

    fn line_of(&self, key: Hashed) -> usize {
        ((u128::from(key.line) * self.lines.len() as u128) >> 64) as usize
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.lines.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Filter {
        let line = |bytes: &[u8]| {
            let mut words = [0; WORDS];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                let mut eight = [0; 8];
                eight.copy_from_slice(bytes);
                *word = u64::from_le_bytes(eight);
            }
            words
        };
        Filter { lines: bytes.chunks_exact(LINE_BYTES).map(line).collect() }
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.lines.len() * LINE_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exactlog_core::ids::{DedupId, TopicId};

    fn key(number: u64, topic: u32) -> Hashed {
        // Like ids that somebody counts: they differ in few bits.
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        Hashed::of(&MarkKey { scope: ScopeKey::Topic(TopicId(topic)), id: DedupId(id) })
    }

    #[test]
    fn what_was_added_passes_and_of_others_fewer_than_one_in_ten_thousand() {
        const KEYS: u64 = 200_000;
        let mut filter = Filter::new(Filter::lines_for(KEYS));
        (0..KEYS).for_each(|number| filter.add(key(number, 1)));
        assert!((0..KEYS).all(|number| filter.passes(key(number, 1))));
        let others = (KEYS..KEYS + 1_000_000).map(|number| key(number, 1));
        let others = others.chain((0..1_000_000).map(|number| key(number, 2)));
        let passed = others.filter(|other| filter.passes(*other)).count();
        // 5.4e-5 is what theory says: 107 of two million.
        println!("{passed} of 2,000,000 others pass");
        assert!((50..200).contains(&passed), "{passed} of 2,000,000 others pass");
        let again = Filter::decode(&filter.encode());
        assert_eq!(again.lines, filter.lines);
        assert_eq!(filter.bytes() * 8 / KEYS, BITS_PER_KEY);
    }

    #[test]
    fn a_filter_of_one_key_has_a_line() {
        assert_eq!(Filter::lines_for(1), 1);
        let mut filter = Filter::new(1);
        assert!(!filter.passes(key(1, 1)), "nothing passes an empty one");
        filter.add(key(1, 1));
        assert!(filter.passes(key(1, 1)));
    }
}
