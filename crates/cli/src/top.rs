//! `top`: what happens in a log that somebody has open, or not: topics by their rates, groups by their lag.

use crate::args::{Global, Watching};
use crate::failure::Failure;
use crate::open;
use crate::report::{Column, Report, column, wide};
use crate::watch;
use exactlog::Log;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TOP: &[Column] = &[
    column("topic"),
    column("records_per_second"),
    column("records"),
    column("groups"),
    column("lag"),
    column("lag_seconds"),
    column("slowest_group"),
    wide("partitions"),
];

/// How long two looks are apart if nothing else was said.
const EVERY: Duration = Duration::from_secs(2);

pub(crate) fn run(global: &Global, watching: &Watching) -> Result<Report, Failure> {
    let mut before: Option<(Instant, Ends)> = None;
    let mut look = || {
        let (report, now) = open::looking(global, |log| {
            let now = (Instant::now(), ends(log)?);
            Ok((report(log, &now, before.as_ref()), now))
        })?;
        before = Some(now);
        Ok(report)
    };
    if watching.watch.is_none() {
        // One look has no rates: the second one is shown.
        look()?;
        std::thread::sleep(EVERY);
    }
    watch::run(global, watching, look)
}

/// Where topics end, by their names: all partitions together.
type Ends = BTreeMap<String, u64>;

fn ends(log: &Log) -> Result<Ends, Failure> {
    let end = |topic: &exactlog::Topic| {
        (0..topic.partitions())
            .map(|partition| Ok(log.bounds(topic, partition)?.1))
            .sum::<Result<u64, Failure>>()
    };
    log.topics().iter().map(|topic| Ok((topic.name().to_string(), end(topic)?))).collect()
}

/// What there is now, and what has changed since the look before.
fn report(log: &Log, (now, ends): &(Instant, Ends), before: Option<&(Instant, Ends)>) -> Report {
    let groups = log.groups();
    let mut rows: Vec<(f64, u64, Vec<Value>)> = Vec::new();
    for topic in log.topics() {
        let name = topic.name();
        let end = ends.get(name).copied().unwrap_or(0);
        let rate = before.map(|(at, ends)| {
            let had = ends.get(name).copied().unwrap_or(0);
            end.saturating_sub(had) as f64 / now.duration_since(*at).as_secs_f64().max(1e-3)
        });
        let (mut readers, mut lag, mut lag_ms, mut slowest) = (0, 0, 0, None);
        for group in &groups {
            let of_topic: Vec<_> =
                group.positions.iter().filter(|it| it.topic == name && it.committed.is_some()).collect();
            if of_topic.is_empty() {
                continue;
            }
            readers += 1;
            let behind: u64 = of_topic.iter().map(|it| it.lag).sum();
            if behind > lag {
                slowest = Some(group.name.as_str());
                lag = behind;
            }
            lag_ms = of_topic.iter().map(|it| it.lag_ms).chain([lag_ms]).max().unwrap_or(0);
        }
        let row = vec![
            json!(name),
            json!(rate.map(|rate| (rate * 10.0).round() / 10.0)),
            json!(end),
            json!(readers),
            json!(lag),
            json!(lag_ms as f64 / 1e3),
            json!(slowest),
            json!(topic.partitions()),
        ];
        rows.push((rate.unwrap_or(0.0), lag, row));
    }
    rows.sort_by(|(rate, lag, _), (other_rate, other_lag, _)| {
        other_rate.total_cmp(rate).then(other_lag.cmp(lag))
    });
    // The sum of no numbers is -0.0, and is shown so.
    let total = rows.iter().map(|(rate, ..)| rate).sum::<f64>() + 0.0;
    Report::table("topics", TOP, rows.into_iter().map(|(_, _, row)| row).collect())
        .field("records_per_second", (total * 10.0).round() / 10.0)
        .field("group_count", groups.len())
}
