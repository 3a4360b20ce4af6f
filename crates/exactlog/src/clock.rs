//! The time that commands carry (semantics OA-4).
//!
//! Stamps follow the wall clock by slewing, from a monotonic clock anchored at open. They never go back, and a wall
//! clock that jumps ahead is not followed until somebody confirms it: nothing expires because a clock was set wrong.
//!
//! ```text
//!   wall ahead by up to 60 s:   caught up at half speed      wall behind: time runs at half speed until they meet
//!   wall ahead by more:         not followed, `held` is set, time goes on at the monotonic rate
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a log takes for the time: the system's clocks, or as far ahead of them as a test has
/// [skipped](crate::Log::skip_time). Clones are one clock: a test gives it to the next
/// [`Builder`](crate::Builder::clock), so that time doesn't go back when it opens the log again.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// How far it is ahead of the system's clocks, in ms.
    pub fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed).unsigned_abs())
    }

    pub(crate) fn skip(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let add = |ahead: i64| Some(ahead.saturating_add(ms).min(AHEAD_MAX_MS));
        // It never fails, since there is always a sum.
        let _ = self.ahead_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    pub(crate) fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// The wall clock, ms since 1970.
    pub(crate) fn wall_ms(&self) -> i64 {
        wall_ms().saturating_add(self.ahead_ms())
    }

    /// The wall clock as of the system's last tick (on Linux 1 to 10 ms ago), in a quarter of the time.
    pub(crate) fn ticked_wall_ms(&self) -> i64 {
        ticked_wall_ms().saturating_add(self.ahead_ms())
    }
}

/// No test goes further ahead than a thousand years.
const AHEAD_MAX_MS: i64 = 1000 * 365 * 24 * 3600 * 1000;

/// The wall clock of the system, ms since 1970.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(target_os = "linux")]
fn ticked_wall_ms() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// There is no such clock.
#[cfg(not(target_os = "linux"))]
fn ticked_wall_ms() -> i64 {
    wall_ms()
}

/// Largest step ahead that is followed while running, in ms.
const STEP_MAX_MS: i64 = 60_000;

/// Largest step ahead that is followed at open, in ms (`time.max.forward.ms`).
const OPEN_STEP_MAX_MS: i64 = 7 * 24 * 3600 * 1000;

/// Makes stamps out of readings of a monotonic and a wall clock, both in ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamper {
    stamp_ms: i64,
    monotonic_ms: i64,
    held: bool,
}

impl Stamper {
    /// Anchors the stamps at open. `state_ms` is the time of the last command; 0: a new log.
    pub(crate) fn new(state_ms: i64, monotonic_ms: i64, wall_ms: i64) -> Stamper {
        let held = state_ms > 0 && wall_ms - state_ms > OPEN_STEP_MAX_MS;
        let stamp_ms = if held { state_ms } else { wall_ms.max(state_ms) };
        Stamper { stamp_ms, monotonic_ms, held }
    }

    /// The stamp for now.
    pub(crate) fn stamp(&mut self, monotonic_ms: i64, wall_ms: i64) -> i64 {
        let elapsed = (monotonic_ms - self.monotonic_ms).max(0);
        self.monotonic_ms = self.monotonic_ms.max(monotonic_ms);
        let ahead = wall_ms - (self.stamp_ms + elapsed);
        if ahead > STEP_MAX_MS {
            self.held = true;
        } else if self.held && ahead <= 0 {
            self.held = false;
        }
        let slew = if self.held { 0 } else { ahead.clamp(-(elapsed / 2), elapsed / 2) };
        self.stamp_ms += elapsed + slew;
        self.stamp_ms
    }

    /// Whether a step of the wall clock waits for a confirmation.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Follows the wall clock to where it is now.
    pub(crate) fn accept(&mut self, wall_ms: i64) {
        self.stamp_ms = self.stamp_ms.max(wall_ms);
        self.held = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oa_4_a_step_back_of_the_wall_clock_never_moves_the_stamp_back() {
        let mut stamper = Stamper::new(0, 0, 1_000_000);
        let mut last = 0;
        for step in 1..1000 {
            let stamp = stamper.stamp(step * 10, 1_000_000 - 3_600_000 + step * 10);
            assert!(stamp >= last);
            last = stamp;
        }
        assert!(last > 1_000_000, "time goes on, at a slower rate");
        assert!(last < 1_000_000 + 9_990);
    }

    #[test]
    fn oa_4_a_step_ahead_is_held_until_it_is_accepted() {
        let mut stamper = Stamper::new(0, 0, 1_000_000);
        assert_eq!(stamper.stamp(100, 1_000_100), 1_000_100);
        let year = 365 * 24 * 3600 * 1000;
        assert_eq!(stamper.stamp(200, 1_000_200 + year), 1_000_200);
        assert!(stamper.is_held());
        assert_eq!(stamper.stamp(300, 1_000_300 + year), 1_000_300);
        stamper.accept(1_000_300 + year);
        assert!(!stamper.is_held());
        assert_eq!(stamper.stamp(400, 1_000_400 + year), 1_000_400 + year);
    }

    #[test]
    fn oa_4_a_small_step_ahead_is_slewed_to() {
        let mut stamper = Stamper::new(0, 0, 1_000_000);
        assert_eq!(stamper.stamp(100, 1_000_100 + 10_000), 1_000_150);
        assert_eq!(stamper.stamp(20_200, 1_020_200 + 10_000), 1_030_200);
    }

    #[test]
    fn oa_4_a_wall_clock_days_ahead_at_open_is_held() {
        let eight_days = 8 * 24 * 3600 * 1000;
        assert!(Stamper::new(1_000, 0, 1_000 + eight_days).is_held());
        assert!(!Stamper::new(0, 0, eight_days).is_held());
        assert!(!Stamper::new(1_000, 0, 1_000 + eight_days / 2).is_held());
    }

    #[test]
    fn oa_4_an_open_before_the_last_command_goes_on_at_its_time() {
        let mut stamper = Stamper::new(5_000_000, 0, 1_000_000);
        assert_eq!(stamper.stamp(0, 1_000_000), 5_000_000);
    }
}
