//! Numbers that needn't be more random than this: splitmix64.

use std::hash::{BuildHasher, RandomState};

/// A source of numbers between 0 and 1.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Default for Chance {
    /// Another one for each processor: those that failed together don't try again together.
    fn default() -> Self {
        Chance(RandomState::new().hash_one("chance"))
    }
}

impl Chance {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_spread_between_0_and_1() {
        let mut chance = Chance(1);
        let chances: Vec<f64> = (0..1000).map(|_| chance.next()).collect();
        assert!(chances.iter().all(|chance| (0.0..1.0).contains(chance)));
        let mean = chances.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
