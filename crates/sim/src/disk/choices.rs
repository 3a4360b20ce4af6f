//! Who decides what survives a power loss, a failed sync or an eviction.
//!
//! Not a fault plan: whether and where something fails is in [`fault`](super::fault).
//!
//! Invariants:
//!   * the simulated disk asks in an order that depends on its content alone, so equal answers give equal images
//!   * nothing is asked where every answer gives the same image

use crate::rng::Random;

/// Answers each question of what survives.
pub trait Choices {
    /// A number below `options`, which is at least 2. 0 is always "as little as possible survives", `options - 1`
    /// "everything survives".
    fn pick(&mut self, options: u64) -> u64;

    /// Whether one sector, name or cut survives.
    fn survives(&mut self) -> bool {
        self.pick(2) == 1
    }
}

/// The usual answers.
#[derive(Clone, Debug)]
pub enum Survival {
    /// Nothing survives that wasn't synced.
    AllLost,
    /// Everything survives, as if it had been synced.
    AllKept,
    /// A random part survives; made by [`Survival::random`].
    Random {
        /// Where the answers come from.
        random: Random,
        /// How many of 256 things survive.
        rate: u64,
    },
}

impl Survival {
    /// A random part survives. The size of the part is drawn from the seed too, between 1/8 and 7/8, since half of
    /// everything would be nearly the same size each time.
    #[must_use]
    pub fn random(seed: u64) -> Survival {
        let mut random = Random::new(seed);
        let rate = 32 + random.below(193);
        Survival::Random { random, rate }
    }
}

impl Choices for Survival {
    fn pick(&mut self, options: u64) -> u64 {
        match self {
            Survival::AllLost => 0,
            Survival::AllKept => options - 1,
            Survival::Random { random, rate } if options == 2 => u64::from(random.chance(*rate, 256)),
            // The two ends are the likely answers of reality, and one of thousands in between would hide them.
            Survival::Random { random, .. } => match random.below(3) {
                0 => 0,
                1 => options - 1,
                _ => random.below(options),
            },
        }
    }
}
