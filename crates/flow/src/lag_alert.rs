//! Who is told when a group falls behind, and when it has caught up: for each partition once.
//!
//! ```text
//!   below -> above for a while -> raised -> at or below the clearing limit for a while -> below
//! ```
//!
//! Invariants
//!   * one event when it crosses, not one for each look
//!   * what falls back before its time is over begins anew

use crate::clock::ms;
use crate::error::Error;
use exactlog::{GroupPosition, Log};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// When a group is too far behind. Records are counted as [`Log::lag`] does: exactly those that it would be shown.
///
/// ```
/// # use exactlog::Log;
/// # use exactlog_flow::{LagAlert, LagChange};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), exactlog_flow::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let log = Log::open(directory.path()).unwrap();
/// let watch = LagAlert::default().start(&log, |lag| match lag.change {
///     LagChange::Raised => println!("{} is {} records behind in {}", lag.group, lag.records, lag.topic),
///     LagChange::Cleared => println!("{} has caught up in {}", lag.group, lag.topic),
/// })?;
/// # drop(watch);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "start it"]
pub struct LagAlert {
    records: u64,
    hold: Duration,
    clear_ratio: f64,
    every: Duration,
}

impl Default for LagAlert {
    fn default() -> Self {
        let (hold, every) = (Duration::from_secs(60), Duration::from_secs(5));
        LagAlert { records: 10_000, hold, clear_ratio: 0.8, every }
    }
}

/// What has become of a group's lag in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagChange {
    /// It was above the limit for long enough.
    Raised,
    /// It was at or below the clearing limit for long enough.
    Cleared,
}

/// A group's lag in a partition has crossed a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LagEvent {
    /// What has become of it.
    pub change: LagChange,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Records that the group has not consumed.
    pub records: u64,
    /// How long ago the first of them happened.
    pub age: Duration,
}

/// An alert that runs. Dropped it ends.
#[derive(Debug)]
#[must_use = "dropped, nobody is told"]
pub struct LagWatch(JoinHandle<()>);

impl Drop for LagWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl LagAlert {
    /// More records than this are too many (`lag.alert.records`). Default 10,000.
    pub fn records(mut self, records: u64) -> LagAlert {
        self.records = records;
        self
    }

    /// For how long it has to be so (`lag.alert.for.ms`), to be raised or to be cleared. Default a minute.
    pub fn hold(mut self, hold: Duration) -> LagAlert {
        self.hold = hold;
        self
    }

    /// It is cleared at this part of the limit (`lag.alert.clear.ratio`). Default 0.8.
    pub fn clear_ratio(mut self, ratio: f64) -> LagAlert {
        self.clear_ratio = ratio;
        self
    }

    /// How often it is looked at (`lag.alert.interval.ms`). Default 5 s.
    pub fn every(mut self, every: Duration) -> LagAlert {
        self.every = every;
        self
    }

    /// Watches all groups of a log, on the runtime that this is called on. `tell` is called with each crossing, and a
    /// `tracing` event says it, too: `lag.alert` or `lag.cleared`.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::NoRuntime`].
    pub fn start(self, log: &Log, tell: impl Fn(&LagEvent) + Send + 'static) -> Result<LagWatch, Error> {
        if !(0.0..=1.0).contains(&self.clear_ratio) {
            return Err(Error::setting("lag.alert.clear.ratio", self.clear_ratio, "between 0 and 1"));
        }
        if self.every.is_zero() {
            return Err(Error::setting("lag.alert.interval.ms", "0", "at least 1"));
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let _entered = runtime.enter();
        let (log, mut watched) = (log.clone(), Watched::new(self.clone()));
        Ok(LagWatch(runtime.spawn(async move {
            let mut looks = tokio::time::interval(self.every);
            let begin = Instant::now();
            loop {
                looks.tick().await;
                for event in watched.look(&log, begin.elapsed()) {
                    event.trace();
                    tell(&event);
                }
            }
        })))
    }

    fn clears_at(&self) -> u64 {
        (self.records as f64 * self.clear_ratio) as u64
    }
}

impl LagEvent {
    fn trace(&self) {
        let LagEvent { change, group, topic, partition, records, age } = self;
        let age_ms = ms(*age);
        match change {
            LagChange::Raised => {
                tracing::warn!(
                    event = "lag.alert",
                    group,
                    topic,
                    partition,
                    records,
                    age_ms,
                    "a group is behind"
                );
            }
            LagChange::Cleared => {
                tracing::info!(
                    event = "lag.cleared",
                    group,
                    topic,
                    partition,
                    records,
                    age_ms,
                    "it has caught up"
                );
            }
        }
    }
}

/// Where a group is in a partition. Times are since the watch began.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    is_raised: bool,
    /// Since when it is on the other side.
    crossing: Option<Duration>,
}

#[derive(Debug)]
struct Watched {
    alert: LagAlert,
    levels: HashMap<(String, String, u32), Level>,
}

impl Watched {
    fn new(alert: LagAlert) -> Watched {
        Watched { alert, levels: HashMap::new() }
    }

    fn look(&mut self, log: &Log, now: Duration) -> Vec<LagEvent> {
        let mut events = Vec::new();
        let groups = log.groups();
        for group in &groups {
            for position in group.positions.iter().filter(|it| it.committed.is_some()) {
                let GroupPosition { topic, partition, lag, lag_ms, .. } = position;
                let level = self.levels.entry((group.name.clone(), topic.clone(), *partition)).or_default();
                events.extend(level.step(&self.alert, *lag, now).map(|change| LagEvent {
                    change,
                    group: group.name.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                    records: *lag,
                    age: Duration::from_millis(*lag_ms),
                }));
            }
        }
        let is_there = |group: &str, topic: &str, partition: u32| {
            let found = groups.iter().find(|it| it.name == group);
            found.is_some_and(|it| {
                it.positions.iter().any(|at| at.topic == topic && at.partition == partition)
            })
        };
        self.levels.retain(|(group, topic, partition), _| is_there(group, topic, *partition));
        events
    }
}

impl Level {
    fn step(&mut self, alert: &LagAlert, records: u64, now: Duration) -> Option<LagChange> {
        let crosses = match self.is_raised {
            false => records > alert.records,
            true => records <= alert.clears_at(),
        };
        if !crosses {
            self.crossing = None;
            return None;
        }
        let since = *self.crossing.get_or_insert(now);
        if now.saturating_sub(since) < alert.hold {
            return None;
        }
        *self = Level { is_raised: !self.is_raised, crossing: None };
        Some(if self.is_raised { LagChange::Raised } else { LagChange::Cleared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_above_the_limit_after_its_time_once_and_cleared_below_the_other() {
        let (alert, mut level) = (LagAlert::default(), Level::default());
        let steps = [
            (0, 10_000, None),
            (120, 10_000, None),
            (121, 10_001, None),
            (180, 10_001, None),
            (181, 10_001, Some(LagChange::Raised)),
            (182, 50_000, None),
            (400, 8_001, None),
            (401, 8_000, None),
            (430, 8_001, None),
            (431, 8_000, None),
            (490, 0, None),
            (491, 0, Some(LagChange::Cleared)),
            (492, 0, None),
            (493, 20_000, None),
            (530, 10_000, None),
            (553, 20_000, None),
            (612, 20_000, None),
            (613, 20_000, Some(LagChange::Raised)),
        ];
        for (at, records, expected) in steps {
            assert_eq!(level.step(&alert, records, Duration::from_secs(at)), expected, "{records} at {at} s");
        }
    }
}
