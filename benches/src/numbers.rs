//! Numbers that are spread as random ones are, and are the same in each run.

/// A sequence of numbers below a bound.
#[derive(Clone, Debug)]
pub struct Numbers {
    state: u64,
    below: u64,
}

impl Numbers {
    /// Those below `below`, which is at least 1 and at most 2³².
    pub fn below(below: u64) -> Numbers {
        assert!((1..=1 << 32).contains(&below), "{below} isn't a bound from 1 to 2^32");
        Numbers { state: 0x2545_f491_4f6c_dd1d, below }
    }

    /// The next one.
    pub fn take(&mut self) -> u64 {
        // Knuth's MMIX; the upper half is the better one.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 32) * self.below) >> 32
    }
}

/// 16 bytes that belong to this number, no two numbers have the same, spread as those of a random UUID are.
pub fn spread(number: u64) -> [u8; 16] {
    // The finisher of splitmix64, which is one to one.
    let mix = |number: u64| {
        let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ number >> 31
    };
    let (first, second) =
        (mix(number.wrapping_add(0x9e37_79b9)), mix(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_stay_below_their_bound_and_come_everywhere() {
        let mut numbers = Numbers::below(10);
        let seen: BTreeSet<u64> = (0..1000).map(|_| numbers.take()).collect();
        assert_eq!(seen, (0..10).collect());
    }

    #[test]
    fn no_two_numbers_are_spread_to_the_same_bytes() {
        assert_eq!((0..10_000).map(spread).collect::<BTreeSet<_>>().len(), 10_000);
    }
}
