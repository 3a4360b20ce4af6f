//! Durations, counted in buckets: what a Prometheus histogram is made of.
//!
//! Invariants
//!   * counting takes no lock; a reading is as of about one moment, and its count is that of its buckets

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds: 1, 2.5 and 5 of each power of ten, from 10 us to 10 s.
const BOUNDS_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// How long something takes, counted in buckets between 10 us and 10 s.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By the first bound that isn't below; the last one is for what takes longer than all of them.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// What a [`Histogram`] has counted.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Distribution {
    /// Upper bounds in seconds, and how many took at most so long.
    pub buckets: Vec<(f64, u64)>,
    /// How many in all.
    pub count: u64,
    /// How long all of them took together, in seconds.
    pub sum_seconds: f64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        self.observe_many(took, 1);
    }

    /// Counts several that took the same time each.
    pub fn observe_many(&self, took: Duration, count: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        self.sum_us.fetch_add(us.saturating_mul(count), Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> Distribution {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_US.len());
        for (nth, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            buckets.extend(BOUNDS_US.get(nth).map(|bound| (*bound as f64 / 1e6, count)));
        }
        Distribution { buckets, count, sum_seconds: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

impl Distribution {
    /// Adds what another one of the same buckets has counted.
    pub(crate) fn add(&mut self, other: &Distribution) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|((_, count), (_, more))| *count += more);
        self.count += other.count;
        self.sum_seconds += other.sum_seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_first_bucket_that_is_long_enough() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().count, 0);
        histogram.observe(Duration::from_micros(10));
        histogram.observe_many(Duration::from_micros(11), 3);
        histogram.observe(Duration::from_secs(11));
        let read = histogram.read();
        assert_eq!((read.buckets[0], read.buckets[1]), ((1e-5, 1), (2.5e-5, 4)));
        assert_eq!(read.buckets.last(), Some(&(10.0, 4)), "one took longer than all bounds");
        assert_eq!(read.count, 5);
        assert!((read.sum_seconds - 11.000_043).abs() < 1e-9, "{}", read.sum_seconds);
    }
}
