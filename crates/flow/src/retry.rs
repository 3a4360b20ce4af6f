//! When a failed event is tried again.
//!
//! Pure: attempts and a number between 0 and 1 in, waits out.

use crate::error::Error;
use crate::failure::{Class, Failure};
use std::fmt::{self, Debug, Display};
use std::sync::Arc;
use std::time::Duration;

/// What waits while a failed event waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryMode {
    /// The later events of its key: they keep their order behind it, and other keys go on. Without a key it waits
    /// alone. The default.
    #[default]
    Ordered,
    /// Only the event itself: later events of its key overtake it.
    Unordered,
    /// Everything of its partition.
    Blocking,
}

impl Display for RetryMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            RetryMode::Ordered => "ordered",
            RetryMode::Unordered => "unordered",
            RetryMode::Blocking => "blocking",
        })
    }
}

/// How waits are varied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// Not at all. The default.
    #[default]
    None,
    /// Evenly between nothing and the whole wait.
    Full,
}

/// Which failures are tried again, given those of class [`Class::Transient`].
type On = Arc<dyn Fn(&Failure) -> bool + Send + Sync>;

/// How often and when a failed event is tried again.
///
/// `max_attempts` **counts the first try**. The defaults try at once, after 1 s and 2 s later, and then dead-letter:
///
/// ```
/// use exactlog_flow::Retry;
/// use std::time::Duration;
///
/// let at: Vec<u64> = Retry::default().schedule().iter().map(Duration::as_secs).collect();
/// assert_eq!(at, [0, 1, 3]);
/// let at: Vec<u64> = Retry::default().max_attempts(7).schedule().iter().map(Duration::as_secs).collect();
/// assert_eq!(at, [0, 1, 3, 7, 15, 25, 35]);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Retry {
    /// `retry.max.attempts`: tries in all, the first one included. Default 3, at least 1.
    pub max_attempts: u32,
    /// `retry.backoff.initial.ms`: the first wait. Default 1 s.
    pub initial: Duration,
    /// `retry.backoff.multiplier`: what each further wait is longer by. Default 2.0, at least 1.
    pub multiplier: f64,
    /// `retry.backoff.max.ms`: the longest wait. Default 10 s.
    pub max: Duration,
    /// `retry.jitter`. Default none.
    pub jitter: Jitter,
    /// `retry.mode`. Default ordered.
    pub mode: RetryMode,
    /// `retry.parked.max.records`: most events that wait of one key (of one partition if blocking). When there are so
    /// many, the partition isn't read further until there are fewer. Default 1,000.
    pub parked_max_per_key: usize,
    /// Most events that wait of all partitions together that this processor has. Default 100,000.
    pub parked_max: usize,
    on: Option<On>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            max_attempts: 3,
            initial: Duration::from_secs(1),
            multiplier: 2.0,
            max: Duration::from_secs(10),
            jitter: Jitter::None,
            mode: RetryMode::Ordered,
            parked_max_per_key: 1_000,
            parked_max: 100_000,
            on: None,
        }
    }
}

impl Debug for Retry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Retry")
            .field("max_attempts", &self.max_attempts)
            .field("initial", &self.initial)
            .field("multiplier", &self.multiplier)
            .field("max", &self.max)
            .field("jitter", &self.jitter)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Retry {
    /// No retry: the first failure is the last.
    pub fn never() -> Retry {
        Retry::default().max_attempts(1)
    }

    /// Sets how often it is tried, the first try included.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Retry {
        self.max_attempts = attempts;
        self
    }

    /// Sets the first wait, what each further one is longer by, and the longest.
    #[must_use]
    pub fn backoff(mut self, initial: Duration, multiplier: f64, max: Duration) -> Retry {
        (self.initial, self.multiplier, self.max) = (initial, multiplier, max);
        self
    }

    /// Sets how waits are varied.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Retry {
        self.jitter = jitter;
        self
    }

    /// Sets what waits meanwhile.
    #[must_use]
    pub fn mode(mut self, mode: RetryMode) -> Retry {
        self.mode = mode;
        self
    }

    /// Sets how many events may wait: of one key, and in all.
    #[must_use]
    pub fn parked_max(mut self, per_key: usize, in_all: usize) -> Retry {
        (self.parked_max_per_key, self.parked_max) = (per_key, in_all);
        self
    }

    /// Tries again only failures of which this is true (`retry.on`, `retry.not.on`). Those that aren't
    /// [`Class::Transient`] never are.
    #[must_use]
    pub fn on(mut self, on: impl Fn(&Failure) -> bool + Send + Sync + 'static) -> Retry {
        self.on = Some(Arc::new(on));
        self
    }

    /// When the attempts are made if all of them fail, from the first one on, without jitter.
    pub fn schedule(&self) -> Vec<Duration> {
        let mut at = Duration::ZERO;
        let mut schedule = vec![at];
        for made in 1..self.max_attempts {
            at = at.saturating_add(self.wait(made));
            schedule.push(at);
        }
        schedule
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.max_attempts == 0 {
            return Err(Error::setting("retry.max.attempts", "0", "at least 1: it counts the first try"));
        }
        if !self.multiplier.is_finite() || self.multiplier < 1.0 {
            return Err(Error::setting("retry.backoff.multiplier", self.multiplier, "at least 1"));
        }
        if self.initial > self.max {
            let initial = format!("{:?}", self.initial);
            return Err(Error::setting("retry.backoff.initial.ms", initial, "at most retry.backoff.max.ms"));
        }
        if self.parked_max_per_key == 0 || self.parked_max == 0 {
            return Err(Error::setting("retry.parked.max.records", "0", "at least 1"));
        }
        Ok(())
    }

    /// How long to wait before the next attempt when so many were made and the last one failed so; `None`: it was the
    /// last. `chance` is between 0 and 1.
    pub(crate) fn next(&self, made: u32, failure: &Failure, chance: f64) -> Option<Duration> {
        let is_retried = failure.class() == Class::Transient && self.on.as_ref().is_none_or(|on| on(failure));
        if !is_retried || made >= self.max_attempts {
            return None;
        }
        let wait = self.wait(made);
        Some(match self.jitter {
            Jitter::None => wait,
            Jitter::Full => wait.mul_f64(chance.clamp(0.0, 1.0)),
        })
    }

    fn wait(&self, made: u32) -> Duration {
        let exponent = i32::try_from(made.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        match Duration::try_from_secs_f64(seconds) {
            Ok(wait) => wait.min(self.max),
            Err(_) => self.max,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn transient() -> Failure {
        Failure::transient("Timeout", "too late")
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry::default().max_attempts(100);
        let wait = |made| retry.next(made, &transient(), 0.5).unwrap().as_millis();
        assert_eq!([1, 2, 3, 4, 5, 6, 99].map(wait), [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
        assert_eq!(retry.next(100, &transient(), 0.5), None, "the hundredth attempt was the last");
    }

    #[test]
    fn full_jitter_lies_between_nothing_and_the_wait() {
        let retry = Retry::default().jitter(Jitter::Full);
        let wait = |chance| retry.next(2, &transient(), chance).unwrap().as_millis();
        assert_eq!([wait(0.0), wait(0.25), wait(1.0)], [0, 500, 2000]);
    }

    #[test]
    fn only_what_may_go_well_is_tried_again() {
        let retry = Retry::default().on(|failure| failure.kind() != "Refused");
        assert!(retry.next(1, &transient(), 0.0).is_some());
        assert_eq!(retry.next(1, &Failure::transient("Refused", ""), 0.0), None);
        for class in [Class::Permanent, Class::Poison, Class::Fatal] {
            assert_eq!(Retry::default().next(1, &Failure::new(class, "Other", ""), 0.0), None, "{class:?}");
        }
        assert_eq!(Retry::never().next(1, &transient(), 0.0), None);
    }

    #[test]
    fn settings_out_of_bounds_are_named() {
        let says = |retry: Retry| retry.check().unwrap_err().to_string();
        assert!(says(Retry::default().max_attempts(0)).contains("retry.max.attempts"));
        let long = Duration::from_secs(20);
        assert!(says(Retry::default().backoff(long, 2.0, Duration::from_secs(10))).contains("initial.ms"));
        assert!(says(Retry::default().backoff(long, 0.5, long)).contains("multiplier is 0.5"));
        assert!(says(Retry::default().backoff(long, f64::NAN, long)).contains("NaN"));
        Retry::default().check().unwrap();
    }
}
