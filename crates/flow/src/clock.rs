//! The time that a processor goes by: the wall clock when it started, and the runtime's clock from then on.
//!
//! So a wall clock that is set moves no retry of a running processor, and a paused runtime is virtual time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    begin: Instant,
    begin_ms: i64,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { begin: Instant::now(), begin_ms: wall_ms() }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.begin_ms.saturating_add(ms(self.begin.elapsed()))
    }

    /// When it is so late, by the runtime's clock.
    pub(crate) fn instant(&self, at_ms: i64) -> Instant {
        let behind = u64::try_from(at_ms.saturating_sub(self.begin_ms)).unwrap_or(0);
        self.begin + Duration::from_millis(behind)
    }
}

/// The wall clock's time now, ms since 1970.
pub(crate) fn wall_ms() -> i64 {
    ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(at_ms) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => at_ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(rfc3339(1_790_000_000_007), "2026-09-21T14:13:20.007Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
