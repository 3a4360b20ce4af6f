//! Rounds of a benchmark, told beside those of its limit, which were measured in the same run.
//!
//! Invariants
//!   * a ratio is that of two medians: one disturbed measurement doesn't move it
//!   * what was only tried, as `cargo test` does it, has no ratio

use crate::samples::{Samples, Summary, duration_text};
use std::time::{Duration, Instant};

/// Criterion measures at least so often; what was called less often was tried.
const MEASUREMENTS_MIN: usize = 10;

/// How long rounds of one kind took.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    samples: Samples,
}

impl Rounds {
    /// So many rounds, and how long they took together: what `Bencher::iter_custom` asks for.
    pub fn run(&mut self, iterations: u64, mut round: impl FnMut()) -> Duration {
        let began = Instant::now();
        (0..iterations).for_each(|_| round());
        self.add(iterations, began.elapsed())
    }

    /// So many rounds that time themselves, since there is something to be made ready in between.
    pub fn run_timed(&mut self, iterations: u64, mut round: impl FnMut() -> Duration) -> Duration {
        let elapsed = (0..iterations).map(|_| round()).sum();
        self.add(iterations, elapsed)
    }

    fn add(&mut self, iterations: u64, elapsed: Duration) -> Duration {
        self.samples.push(elapsed.div_f64(iterations.max(1) as f64));
        elapsed
    }

    /// Prints how these rounds stand to those of a limit, if both were measured.
    pub fn tell(&self, name: &str, limit: &Rounds, limit_name: &str) {
        if let Some(text) = self.text(limit) {
            println!("{name}: {text} {limit_name}\n");
        }
    }

    /// `3.52 x` and both medians, or nothing.
    fn text(&self, limit: &Rounds) -> Option<String> {
        let (mine, of_limit) = (self.measured()?, limit.measured()?);
        let ratio = mine.p50.as_secs_f64() / of_limit.p50.as_secs_f64();
        Some(format!("{}, {ratio:.2} x the {} of", duration_text(mine.p50), duration_text(of_limit.p50)))
    }

    fn measured(&self) -> Option<Summary> {
        let summary = self.samples.clone().summary();
        (summary.count >= MEASUREMENTS_MIN).then_some(summary)
    }
}

/// Whether criterion only tries each benchmark once: `cargo test`, or `cargo bench -- --test`. Then small amounts do.
pub fn is_trial() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    has("--test") || !has("--bench")
}

/// One amount, or the other where a benchmark is only tried.
pub fn pick<T>(full: T, trial: T) -> T {
    if is_trial() { trial } else { full }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(of_each: impl IntoIterator<Item = u64>) -> Rounds {
        let mut rounds = Rounds::default();
        for microseconds in of_each {
            rounds.run_timed(4, || Duration::from_micros(microseconds));
        }
        rounds
    }

    #[test]
    fn the_ratio_is_that_of_the_medians_of_a_round() {
        let limit = rounds((0..11).map(|_| 10));
        let disturbed = rounds((0..11).map(|nth| if nth == 3 { 9000 } else { 35 }));
        assert_eq!(disturbed.text(&limit).as_deref(), Some("35.0 µs, 3.50 x the 10.0 µs of"));
    }

    #[test]
    fn what_was_only_tried_has_no_ratio() {
        let (tried, measured) = (rounds([10]), rounds([10; 10]));
        assert_eq!(tried.text(&measured), None);
        assert_eq!(measured.text(&tried), None);
        assert!(measured.text(&measured).is_some());
    }

    #[test]
    fn rounds_are_run_as_often_as_they_are_asked_for() {
        let mut count = 0;
        let mut rounds = Rounds::default();
        rounds.run(7, || count += 1);
        assert_eq!((count, rounds.samples.summary().count), (7, 1));
    }
}
