//! The random numbers of the simulator: SplitMix64.
//!
//! Not for anything secret. Nothing else in this crate draws random numbers, so that one seed fixes a whole run.
//!
//! Invariants:
//!   * the numbers depend on the seed alone: not on the platform, the build or the release

/// What SplitMix64 adds to its state for each number.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A seeded source of random numbers. A clone goes on with the same numbers as the original.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A source whose numbers depend on `seed` alone. Neighbouring seeds give unrelated numbers.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// Any 64-bit number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number below `end`, or 0 if `end` is 0. The bias of the multiplication is below `end` / 2^64.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// True in `part` of `whole` cases.
    pub fn chance(&mut self, part: u64, whole: u64) -> bool {
        self.below(whole) < part
    }

    /// Overwrites `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(size_of::<u64>()) {
            chunk.copy_from_slice(&self.number().to_le_bytes()[..chunk.len()]);
        }
    }

    /// A source of its own: what is drawn from it doesn't move this one any further.
    #[must_use]
    pub fn fork(&mut self) -> Random {
        Random::new(self.number())
    }
}

/// Spreads each bit of `number` over the whole result; a bijection.
#[must_use]
pub fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // The first outputs for seed 1234567 of the reference implementation (prng.di.unimi.it/splitmix64.c).
        let mut random = Random::new(1_234_567);
        let numbers = [random.number(), random.number(), random.number()];
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn numbers_stay_below_their_end_and_reach_both_sides() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| random.below(7)).collect();
        assert!((0..7).all(|number| drawn.contains(&number)));
        assert!(drawn.iter().all(|number| *number < 7));
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn a_fork_does_not_move_its_origin() {
        let (mut a, mut b) = (Random::new(5), Random::new(5));
        let mut fork = a.fork();
        let _ = b.fork();
        fork.number();
        assert_eq!(a.number(), b.number());
    }
}
