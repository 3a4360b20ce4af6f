//! Durations that were measured, and how they are told.

use std::time::Duration;

/// Durations of one kind of event.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    nanoseconds: Vec<u64>,
}

impl Samples {
    /// Adds one.
    pub fn push(&mut self, duration: Duration) {
        self.nanoseconds.push(duration.as_nanos() as u64);
    }

    /// Adds all of another collection.
    pub fn extend(&mut self, other: Samples) {
        self.nanoseconds.extend(other.nanoseconds);
    }

    /// The summary; all zero if there are none.
    pub fn summary(mut self) -> Summary {
        self.nanoseconds.sort_unstable();
        let last = self.nanoseconds.len().saturating_sub(1);
        let at = |index: usize| Duration::from_nanos(self.nanoseconds.get(index).copied().unwrap_or(0));
        Summary { p50: at(last / 2), p99: at(last * 99 / 100), max: at(last), count: self.nanoseconds.len() }
    }
}

/// What is said of many durations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Half of them are not longer.
    pub p50: Duration,
    /// All but one in a hundred are not longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
    /// How many there are.
    pub count: usize,
}

/// A duration with two or three digits: `9.8 µs`, `131 µs`, `2.3 ms`.
pub fn duration_text(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos() as f64;
    let (value, unit) = match nanoseconds {
        ..1e3 => (nanoseconds, "ns"),
        ..1e6 => (nanoseconds / 1e3, "µs"),
        ..1e9 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// A number with two or three digits and its thousands as a letter: `7.4 k`, `1.55 M`.
pub fn number_text(number: f64) -> String {
    match number {
        ..1e3 => digits(number),
        ..1e6 => format!("{} k", digits(number / 1e3)),
        ..1e9 => format!("{} M", digits(number / 1e6)),
        _ => format!("{} G", digits(number / 1e9)),
    }
}

/// Bytes in binary units: `1.5 GiB`.
pub fn bytes_text(bytes: u64) -> String {
    let bytes = bytes as f64;
    const KIB: f64 = 1024.0;
    let (value, unit) = match bytes {
        ..1048576.0 => (bytes / KIB, "KiB"),
        ..1073741824.0 => (bytes / (KIB * KIB), "MiB"),
        _ => (bytes / (KIB * KIB * KIB), "GiB"),
    };
    format!("{} {unit}", digits(value))
}

fn digits(value: f64) -> String {
    let decimals = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_were_measured() {
        let mut samples = Samples::default();
        (1..=101).rev().for_each(|us| samples.push(Duration::from_micros(us)));
        let summary = samples.summary();
        assert_eq!(summary.p50, Duration::from_micros(51));
        assert_eq!(summary.p99, Duration::from_micros(100));
        assert_eq!((summary.max, summary.count), (Duration::from_micros(101), 101));
        assert_eq!(Samples::default().summary().p99, Duration::ZERO);
    }

    #[test]
    fn numbers_keep_three_digits_at_most_before_they_change_their_unit() {
        assert_eq!(duration_text(Duration::from_nanos(131_400)), "131 µs");
        assert_eq!(duration_text(Duration::from_micros(2_340)), "2.34 ms");
        assert_eq!(number_text(10_800_000.0), "10.8 M");
        assert_eq!(bytes_text(3 << 29), "1.50 GiB");
    }
}
