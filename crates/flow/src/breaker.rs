//! A circuit breaker, with the names, defaults and rules of resilience4j's.
//!
//! ```text
//!   CLOSED -> OPEN             as many of the last calls failed, or were slow, as the threshold says
//!   OPEN -> HALF_OPEN          when the wait is over
//!   HALF_OPEN -> CLOSED | OPEN when all of the permitted calls have ended
//!   DISABLED, FORCED_OPEN, METRICS_ONLY: by hand
//! ```
//!
//! Pure but for a lock: times come in. It is volatile, and begins CLOSED.
//!
//! Invariants
//!   * in HALF_OPEN never more calls are on their way, or counted, than are permitted
//!   * a call that began before the state changed doesn't count in the new one

use crate::error::Error;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt::{self, Debug, Display};
use std::sync::Arc;
use std::time::Duration;

/// What a breaker does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are made and counted.
    Closed,
    /// No call is made.
    Open,
    /// A few calls are made, to see.
    HalfOpen,
    /// Calls are made and not counted, until somebody says otherwise.
    Disabled,
    /// No call is made, until somebody says otherwise.
    ForcedOpen,
    /// Calls are made and counted, and it never opens, until somebody says otherwise.
    MetricsOnly,
}

impl BreakerState {
    /// All of them.
    pub const ALL: [BreakerState; 6] = [
        BreakerState::Closed,
        BreakerState::Open,
        BreakerState::HalfOpen,
        BreakerState::Disabled,
        BreakerState::ForcedOpen,
        BreakerState::MetricsOnly,
    ];
}

impl Display for BreakerState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            BreakerState::Closed => "CLOSED",
            BreakerState::Open => "OPEN",
            BreakerState::HalfOpen => "HALF_OPEN",
            BreakerState::Disabled => "DISABLED",
            BreakerState::ForcedOpen => "FORCED_OPEN",
            BreakerState::MetricsOnly => "METRICS_ONLY",
        })
    }
}

/// Of which calls the rates are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlidingWindow {
    /// The last so many calls.
    CountBased(usize),
    /// The calls of the last so many seconds.
    TimeBased(u32),
}

/// The settings of a breaker.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// `failureRateThreshold`, in percent. Default 50.
    pub failure_rate_threshold: f32,
    /// `slidingWindowType` and `slidingWindowSize`. Default the last 100 calls.
    pub sliding_window: SlidingWindow,
    /// `minimumNumberOfCalls` before there are rates. Default 100.
    pub minimum_number_of_calls: usize,
    /// `waitDurationInOpenState`. Default 60 s.
    pub wait_duration_in_open_state: Duration,
    /// `permittedNumberOfCallsInHalfOpenState`. Default 10.
    pub permitted_number_of_calls_in_half_open_state: usize,
    /// `slowCallRateThreshold`, in percent. Default 100.
    pub slow_call_rate_threshold: f32,
    /// `slowCallDurationThreshold`: what takes longer is slow. Default 60 s.
    pub slow_call_duration_threshold: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig {
            failure_rate_threshold: 50.0,
            sliding_window: SlidingWindow::CountBased(100),
            minimum_number_of_calls: 100,
            wait_duration_in_open_state: Duration::from_secs(60),
            permitted_number_of_calls_in_half_open_state: 10,
            slow_call_rate_threshold: 100.0,
            slow_call_duration_threshold: Duration::from_secs(60),
        }
    }
}

impl BreakerConfig {
    fn check(&self) -> Result<(), Error> {
        let percent = |name, value: f32| match value > 0.0 && value <= 100.0 {
            true => Ok(()),
            false => Err(Error::setting(name, value, "more than 0 and at most 100 percent")),
        };
        percent("breaker.failure-rate-threshold", self.failure_rate_threshold)?;
        percent("breaker.slow-call-rate-threshold", self.slow_call_rate_threshold)?;
        let positive = |name, value: usize| match value {
            0 => Err(Error::setting(name, 0, "at least 1")),
            _ => Ok(()),
        };
        positive("breaker.minimum-number-of-calls", self.minimum_number_of_calls)?;
        positive(
            "breaker.permitted-number-of-calls-in-half-open-state",
            self.permitted_number_of_calls_in_half_open_state,
        )?;
        positive(
            "breaker.sliding-window-size",
            match self.sliding_window {
                SlidingWindow::CountBased(calls) => calls,
                SlidingWindow::TimeBased(seconds) => seconds as usize,
            },
        )
    }
}

/// Counters and gauges of a breaker, as of one moment. Counters start at 0 with the breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreakerMetrics {
    /// `exactlog_breaker_state`.
    pub state: BreakerState,
    /// Calls that succeeded (`exactlog_breaker_calls_total`, as the next three).
    pub successful: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that failed for a reason that says nothing of what is called.
    pub ignored: u64,
    /// Calls that weren't made.
    pub not_permitted: u64,
    /// `exactlog_breaker_failure_rate`, in percent; `None`: too few calls.
    pub failure_rate: Option<f32>,
    /// `exactlog_breaker_slow_call_rate`, in percent; `None`: too few calls.
    pub slow_call_rate: Option<f32>,
}

/// A circuit breaker. A clone is the same one: processors that call the same service share it.
///
/// While it is open a processor reads nothing and tries nothing, no attempt is lost and nothing dies. Failures of class
/// [`Transient`](crate::Class::Transient) count, others say nothing of what is called.
///
/// ```
/// use exactlog_flow::{Breaker, BreakerConfig, BreakerState};
///
/// let bank = Breaker::new("bank", BreakerConfig::default()).unwrap();
/// assert_eq!(bank.metrics().state, BreakerState::Closed);
/// bank.force_open(); // maintenance
/// assert_eq!(bank.metrics().state.to_string(), "FORCED_OPEN");
/// bank.close();
/// ```
#[derive(Clone)]
pub struct Breaker {
    name: Arc<str>,
    config: Arc<BreakerConfig>,
    machine: Arc<Mutex<Machine>>,
}

impl Debug for Breaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Breaker {{ {}, {} }}", self.name, self.machine.lock().state)
    }
}

/// One call.
#[derive(Clone, Copy, Debug)]
struct Call {
    is_failed: bool,
    is_slow: bool,
}

#[derive(Debug)]
struct Machine {
    state: BreakerState,
    /// How often the state has changed.
    era: u64,
    /// When it goes to HALF_OPEN.
    open_until_ms: i64,
    /// Of HALF_OPEN: calls that were permitted.
    permitted: usize,
    /// When they were made, in seconds, and how they went.
    calls: VecDeque<(i64, Call)>,
    failed_calls: usize,
    slow_calls: usize,
    successful: u64,
    failed: u64,
    ignored: u64,
    not_permitted: u64,
}

/// A call that may be made. Dropped without a word it didn't happen.
#[derive(Debug)]
pub(crate) struct Permit {
    breaker: Breaker,
    era: u64,
    is_open: bool,
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    Well,
    Badly,
    /// It says nothing.
    Ignored,
}

impl Breaker {
    /// A breaker of this name.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(name: impl Into<String>, config: BreakerConfig) -> Result<Breaker, Error> {
        config.check()?;
        let machine = Machine {
            state: BreakerState::Closed,
            era: 0,
            open_until_ms: 0,
            permitted: 0,
            calls: VecDeque::new(),
            failed_calls: 0,
            slow_calls: 0,
            successful: 0,
            failed: 0,
            ignored: 0,
            not_permitted: 0,
        };
        let machine = Arc::new(Mutex::new(machine));
        Ok(Breaker { name: name.into().into(), config: Arc::new(config), machine })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its counters.
    pub fn metrics(&self) -> BreakerMetrics {
        let machine = self.machine.lock();
        let (failure_rate, slow_call_rate) = machine.rates(&self.config).unzip();
        BreakerMetrics {
            state: machine.state,
            successful: machine.successful,
            failed: machine.failed,
            ignored: machine.ignored,
            not_permitted: machine.not_permitted,
            failure_rate,
            slow_call_rate,
        }
    }

    /// Makes calls again, with nothing counted.
    pub fn close(&self) {
        self.go_to(BreakerState::Closed);
    }

    /// Makes no call until [`close`](Breaker::close).
    pub fn force_open(&self) {
        self.go_to(BreakerState::ForcedOpen);
    }

    /// Makes all calls and counts none, until [`close`](Breaker::close).
    pub fn disable(&self) {
        self.go_to(BreakerState::Disabled);
    }

    /// Makes all calls and counts them, until [`close`](Breaker::close).
    pub fn metrics_only(&self) {
        self.go_to(BreakerState::MetricsOnly);
    }

    fn go_to(&self, state: BreakerState) {
        self.machine.lock().change(&self.name, state);
    }

    /// How many calls may be made now: `None`: any number; 0: none, until the time is there, if there is one.
    pub(crate) fn room(&self, now_ms: i64) -> (Option<usize>, Option<i64>) {
        let mut machine = self.machine.lock();
        machine.wake(&self.name, now_ms);
        match machine.state {
            BreakerState::Open => (Some(0), Some(machine.open_until_ms)),
            BreakerState::ForcedOpen => (Some(0), None),
            BreakerState::HalfOpen => {
                let most = self.config.permitted_number_of_calls_in_half_open_state;
                (Some(most - machine.permitted), None)
            }
            _ => (None, None),
        }
    }

    /// Asks for a call. The answer no has a time at which to ask again.
    pub(crate) fn permit(&self, now_ms: i64) -> Result<Permit, i64> {
        /// How soon to ask again where nobody knows.
        const LATER_MS: i64 = 500;
        let mut machine = self.machine.lock();
        machine.wake(&self.name, now_ms);
        let most = self.config.permitted_number_of_calls_in_half_open_state;
        match machine.state {
            BreakerState::HalfOpen if machine.permitted < most => machine.permitted += 1,
            BreakerState::Closed | BreakerState::Disabled | BreakerState::MetricsOnly => {}
            BreakerState::Open => {
                machine.not_permitted += 1;
                return Err(machine.open_until_ms);
            }
            BreakerState::HalfOpen | BreakerState::ForcedOpen => {
                machine.not_permitted += 1;
                return Err(now_ms + LATER_MS);
            }
        }
        Ok(Permit { breaker: self.clone(), era: machine.era, is_open: true })
    }
}

impl Permit {
    /// The call has ended.
    pub(crate) fn end(mut self, went: Went, took: Duration, now_ms: i64) {
        self.is_open = false;
        let config = &self.breaker.config;
        let mut machine = self.breaker.machine.lock();
        match went {
            Went::Well => machine.successful += 1,
            Went::Badly => machine.failed += 1,
            Went::Ignored => machine.ignored += 1,
        }
        if machine.era != self.era {
            return;
        }
        match went {
            Went::Ignored => machine.release(),
            Went::Well | Went::Badly => {
                let is_slow = took > config.slow_call_duration_threshold;
                machine.count(config, now_ms, Call { is_failed: went == Went::Badly, is_slow });
                machine.judge(&self.breaker.name, config, now_ms);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut machine = self.breaker.machine.lock();
        if self.is_open && machine.era == self.era {
            machine.release();
        }
    }
}

impl Machine {
    fn change(&mut self, name: &str, state: BreakerState) {
        let event = match state {
            BreakerState::Open | BreakerState::ForcedOpen => "breaker.opened",
            BreakerState::HalfOpen => "breaker.half_opened",
            _ => "breaker.closed",
        };
        tracing::warn!(event, breaker = name, from = %self.state, to = %state, "a circuit breaker has changed");
        self.state = state;
        self.era += 1;
        self.permitted = 0;
        self.calls.clear();
        (self.failed_calls, self.slow_calls) = (0, 0);
    }

    /// The wait may be over.
    fn wake(&mut self, name: &str, now_ms: i64) {
        if self.state == BreakerState::Open && now_ms >= self.open_until_ms {
            self.change(name, BreakerState::HalfOpen);
        }
    }

    /// A call that was permitted didn't happen.
    fn release(&mut self) {
        self.permitted = self.permitted.saturating_sub(1);
    }

    fn count(&mut self, config: &BreakerConfig, now_ms: i64, call: Call) {
        if self.state == BreakerState::Disabled {
            return;
        }
        let second = now_ms.div_euclid(1000);
        self.calls.push_back((second, call));
        self.failed_calls += usize::from(call.is_failed);
        self.slow_calls += usize::from(call.is_slow);
        let is_over = |machine: &Machine| match (machine.state, config.sliding_window) {
            (BreakerState::HalfOpen, _) => false,
            (_, SlidingWindow::CountBased(calls)) => machine.calls.len() > calls,
            (_, SlidingWindow::TimeBased(seconds)) => {
                machine.calls.front().is_some_and(|(at, _)| *at <= second - i64::from(seconds))
            }
        };
        while is_over(self) {
            let Some((_, call)) = self.calls.pop_front() else { break };
            self.failed_calls -= usize::from(call.is_failed);
            self.slow_calls -= usize::from(call.is_slow);
        }
    }

    /// Rates of failed and of slow calls, in percent, if there are enough.
    fn rates(&self, config: &BreakerConfig) -> Option<(f32, f32)> {
        let enough = match (self.state, config.sliding_window) {
            (BreakerState::HalfOpen, _) => config.permitted_number_of_calls_in_half_open_state,
            (_, SlidingWindow::CountBased(calls)) => config.minimum_number_of_calls.min(calls),
            (_, SlidingWindow::TimeBased(_)) => config.minimum_number_of_calls,
        };
        let rate = |calls: usize| 100.0 * calls as f32 / self.calls.len() as f32;
        (self.calls.len() >= enough).then(|| (rate(self.failed_calls), rate(self.slow_calls)))
    }

    fn judge(&mut self, name: &str, config: &BreakerConfig, now_ms: i64) {
        let Some((failure_rate, slow_rate)) = self.rates(config) else { return };
        let is_bad =
            failure_rate >= config.failure_rate_threshold || slow_rate >= config.slow_call_rate_threshold;
        match (self.state, is_bad) {
            (BreakerState::Closed | BreakerState::HalfOpen, true) => {
                let wait_ms =
                    i64::try_from(config.wait_duration_in_open_state.as_millis()).unwrap_or(i64::MAX);
                self.open_until_ms = now_ms.saturating_add(wait_ms);
                self.change(name, BreakerState::Open);
            }
            (BreakerState::HalfOpen, false) => self.change(name, BreakerState::Closed),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(sliding_window: SlidingWindow) -> BreakerConfig {
        BreakerConfig {
            sliding_window,
            minimum_number_of_calls: 4,
            wait_duration_in_open_state: Duration::from_secs(5),
            permitted_number_of_calls_in_half_open_state: 2,
            slow_call_duration_threshold: Duration::from_millis(100),
            ..BreakerConfig::default()
        }
    }

    fn call(breaker: &Breaker, now_ms: i64, went: Went) {
        breaker.permit(now_ms).unwrap().end(went, Duration::ZERO, now_ms);
    }

    fn state(breaker: &Breaker) -> BreakerState {
        breaker.metrics().state
    }

    #[test]
    fn it_goes_through_all_states_and_closes_again() {
        let breaker = Breaker::new("bank", config(SlidingWindow::CountBased(4))).unwrap();
        for went in [Went::Well, Went::Badly, Went::Well] {
            call(&breaker, 0, went);
        }
        assert_eq!((breaker.metrics().failure_rate, state(&breaker)), (None, BreakerState::Closed));
        call(&breaker, 10, Went::Badly);
        assert_eq!(state(&breaker), BreakerState::Open, "two of four failed");
        assert_eq!(breaker.permit(5009).unwrap_err(), 5010);
        assert_eq!(breaker.room(5009), (Some(0), Some(5010)));
        // Exactly two probes.
        let (first, second) = (breaker.permit(5010).unwrap(), breaker.permit(5010).unwrap());
        assert_eq!(state(&breaker), BreakerState::HalfOpen);
        assert!(breaker.permit(5010).is_err());
        // One that didn't happen, and one that says nothing, make room for others.
        drop(first);
        second.end(Went::Ignored, Duration::ZERO, 5020);
        call(&breaker, 5030, Went::Well);
        assert_eq!(state(&breaker), BreakerState::HalfOpen);
        call(&breaker, 5040, Went::Well);
        assert_eq!(state(&breaker), BreakerState::Closed);
        let metrics = breaker.metrics();
        assert_eq!(
            (metrics.successful, metrics.failed, metrics.ignored, metrics.not_permitted),
            (4, 2, 1, 2)
        );
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        let breaker = Breaker::new("bank", config(SlidingWindow::CountBased(4))).unwrap();
        (0..4).for_each(|_| call(&breaker, 0, Went::Badly));
        call(&breaker, 5000, Went::Badly);
        call(&breaker, 5000, Went::Well);
        assert_eq!(breaker.room(5000), (Some(0), Some(10_000)));
    }

    #[test]
    fn calls_of_before_do_not_count_in_the_new_state() {
        let breaker = Breaker::new("bank", config(SlidingWindow::CountBased(4))).unwrap();
        let late: Vec<Permit> = (0..4).map(|_| breaker.permit(0).unwrap()).collect();
        (0..4).for_each(|_| call(&breaker, 0, Went::Badly));
        assert_eq!(breaker.room(5000).0, Some(2));
        late.into_iter().for_each(|permit| permit.end(Went::Badly, Duration::ZERO, 5000));
        assert_eq!(state(&breaker), BreakerState::HalfOpen);
        assert_eq!(breaker.metrics().failed, 8, "they are told all the same");
    }

    #[test]
    fn slow_calls_count_and_old_ones_leave_the_window() {
        let breaker = Breaker::new("bank", config(SlidingWindow::TimeBased(10))).unwrap();
        (0..3).for_each(|_| call(&breaker, 1000, Went::Badly));
        (0..6).for_each(|_| call(&breaker, 11_000, Went::Well));
        assert_eq!((breaker.metrics().failure_rate, state(&breaker)), (Some(0.0), BreakerState::Closed));
        for _ in 0..4 {
            breaker.permit(30_000).unwrap().end(Went::Well, Duration::from_millis(101), 30_000);
        }
        assert_eq!(state(&breaker), BreakerState::Open);
    }

    #[test]
    fn by_hand_it_stays_as_it_was_told() {
        let breaker = Breaker::new("bank", config(SlidingWindow::CountBased(4))).unwrap();
        breaker.metrics_only();
        (0..9).for_each(|_| call(&breaker, 0, Went::Badly));
        assert_eq!(
            (breaker.metrics().failure_rate, state(&breaker)),
            (Some(100.0), BreakerState::MetricsOnly)
        );
        breaker.disable();
        (0..9).for_each(|_| call(&breaker, 0, Went::Badly));
        assert_eq!((breaker.metrics().failure_rate, state(&breaker)), (None, BreakerState::Disabled));
        breaker.force_open();
        assert_eq!(breaker.room(1 << 40), (Some(0), None));
        breaker.close();
        assert_eq!(breaker.room(0), (None, None));
    }

    #[test]
    fn settings_out_of_bounds_are_named() {
        let says = |config: BreakerConfig| Breaker::new("b", config).unwrap_err().to_string();
        let default = BreakerConfig::default;
        assert!(says(BreakerConfig { failure_rate_threshold: 0.0, ..default() }).contains("failure-rate"));
        assert!(says(BreakerConfig { slow_call_rate_threshold: 101.0, ..default() }).contains("is 101"));
        let window = SlidingWindow::CountBased(0);
        assert!(says(BreakerConfig { sliding_window: window, ..default() }).contains("window-size is 0"));
    }
}
