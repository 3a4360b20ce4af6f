//! How many events are taken up in a time: evenly. Who had nothing to do may take what a tenth of a second brings at
//! once, and who was busy (handlers may be slow) what the whole time does.

use crate::error::Error;
use std::time::Duration;
use tokio::time::Instant;

/// At most so many events in so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttle {
    pub(crate) events: u32,
    pub(crate) per: Duration,
}

impl Throttle {
    pub(crate) fn check(&self) -> Result<(), Error> {
        const DAY: Duration = Duration::from_secs(86_400);
        if self.events == 0 {
            return Err(Error::setting("throttle.events", "0", "at least 1"));
        }
        if self.per < Duration::from_millis(1) || self.per > DAY {
            return Err(Error::setting("throttle.period.ms", format!("{:?}", self.per), "1 ms to a day"));
        }
        Ok(())
    }

    fn of_one(&self) -> Duration {
        (self.per / self.events).max(Duration::from_nanos(1))
    }
}

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Tap {
    of_one: Duration,
    per: Duration,
    /// What was let through is paid for up to here.
    paid: Instant,
}

impl Tap {
    /// The first event needn't wait.
    pub(crate) fn new(throttle: Throttle, now: Instant) -> Tap {
        let of_one = throttle.of_one();
        Tap { of_one, per: throttle.per, paid: now.checked_sub(of_one).unwrap_or(now) }
    }

    /// How many may be taken up now, and if none, when one may.
    pub(crate) fn room(&mut self, now: Instant) -> (usize, Option<Instant>) {
        self.forget(now, self.per);
        let saved = now.saturating_duration_since(self.paid);
        let room = saved.as_nanos() / self.of_one.as_nanos();
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        (room, (room == 0).then(|| self.paid + self.of_one))
    }

    /// So many are taken up.
    pub(crate) fn take(&mut self, events: usize) {
        self.paid += self.of(events);
    }

    /// So many of them weren't.
    pub(crate) fn give_back(&mut self, events: usize) {
        self.paid = self.paid.checked_sub(self.of(events)).unwrap_or(self.paid);
    }

    /// There was nothing to do since then: that isn't caught up with.
    pub(crate) fn idle(&mut self, since: Instant, now: Instant) {
        const AT_ONCE: Duration = Duration::from_millis(100);
        if now.saturating_duration_since(since) >= AT_ONCE {
            self.forget(now, AT_ONCE);
        }
    }

    fn forget(&mut self, now: Instant, all_but: Duration) {
        if let Some(oldest) = now.checked_sub(all_but.max(self.of_one)) {
            self.paid = self.paid.max(oldest);
        }
    }

    fn of(&self, events: usize) -> Duration {
        self.of_one.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(events: u32, per: Duration) -> (Tap, Instant) {
        let now = Instant::now() + Duration::from_secs(1000);
        (Tap::new(Throttle { events, per }, now), now)
    }

    #[test]
    fn one_comes_at_once_and_each_other_in_its_time() {
        let (mut tap, begin) = tap(3, Duration::from_secs(60));
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(tap.room(at(0)), (1, None));
        tap.take(1);
        assert_eq!(tap.room(at(0)), (0, Some(at(20))));
        assert_eq!(tap.room(at(19)), (0, Some(at(20))));
        assert_eq!(tap.room(at(20)), (1, None));
        tap.take(1);
        tap.idle(at(40), at(3600));
        assert_eq!(tap.room(at(3600)), (1, None), "an idle hour brings no more");
        tap.take(1);
        assert_eq!(tap.room(at(7200)), (3, None), "who was busy may take three a minute");
        tap.take(3);
        tap.give_back(2);
        assert_eq!(tap.room(at(7200)), (2, None));
    }

    #[test]
    fn at_a_high_rate_a_tenth_of_a_second_comes_together() {
        let (mut tap, begin) = tap(5000, Duration::from_secs(1));
        let at = |ms| begin + Duration::from_millis(ms);
        let (first, _) = tap.room(at(0));
        tap.take(first);
        assert_eq!(tap.room(at(10)), (50, None));
        tap.idle(at(10), at(60_000));
        assert_eq!(tap.room(at(60_000)), (500, None));
        tap.take(700);
        assert_eq!(tap.room(at(60_000)), (0, Some(at(60_000) + Duration::from_micros(40_200))));
        // What was room a minute ago is used now.
        tap.idle(at(60_000), at(120_000));
        assert_eq!(tap.room(at(120_000)), (500, None));
        tap.idle(at(120_000), at(180_000));
        tap.take(500);
        assert_eq!(tap.room(at(180_000)), (0, Some(at(180_000) + Duration::from_micros(200))));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |events, per| Throttle { events, per }.check().map_err(|error| error.to_string());
        assert!(check(0, Duration::from_secs(1)).unwrap_err().contains("throttle.events"));
        assert!(check(1, Duration::ZERO).unwrap_err().contains("throttle.period.ms"));
        assert!(check(u32::MAX, Duration::from_millis(1)).is_ok());
    }
}
