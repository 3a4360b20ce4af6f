//! From topic to topics: what an event leads to is committed together with the fact that it was consumed.
//!
//! The running counts have one home, the topic `counts`. What is in memory is a copy, read back at each start.

use crate::{Failure, Progress, Quake, Topics};
use exactlog::{Event, Log, Topic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The group that consumes `quakes`, and the producer of what it makes of them.
pub(crate) const GROUP: &str = "alerts";

/// Magnitude from which on somebody wants to know.
const ALERT_MAG: f64 = 4.5;

/// Most events of one transaction.
const EVENTS_MAX: usize = 16;

/// How long it waits for events before it looks whether there will be any.
const WAIT: Duration = Duration::from_millis(10);

/// An event of the topic `counts`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) region: String,
    pub(crate) count: u64,
}

/// Processes until all is fed and consumed; the number of events.
pub(crate) fn process(log: &Log, topics: &Topics, progress: &Progress) -> Result<u64, Failure> {
    let mut counts = latest_counts(log, &topics.counts)?;
    let mut consumer = log.consumer(GROUP).max_poll_records(EVENTS_MAX).subscribe([&topics.quakes])?;
    let mut producer = log.producer(GROUP)?;
    let mut events = 0;
    while let Some(batch) = consumer.blocking_next_for(WAIT)? {
        if batch.is_empty() {
            if progress.fed.load(Ordering::Acquire) && log.lag(GROUP, &topics.quakes) == 0 {
                break;
            }
            continue;
        }
        let mut transaction = producer.begin();
        for record in &batch {
            let quake: Quake = record.json()?;
            let region = quake.region();
            if quake.mag >= ALERT_MAG {
                let alert = Event::new(region.to_owned(), record.value().to_vec());
                transaction.send(&topics.alerts, alert.at(record.timestamp_ms))?;
            }
            // Ahead of the commit by these events. If it fails this ends, and the next start reads what was committed.
            let count = counts.entry(region.to_owned()).or_default();
            *count += 1;
            let count = Count { region: region.to_owned(), count: *count };
            let event = Event::json(region.to_owned(), &count)?;
            transaction.send(&topics.counts, event.at(record.timestamp_ms))?;
        }
        events += batch.len() as u64;
        transaction.ack(batch);
        transaction.blocking_commit()?;
        progress.committed();
    }
    Ok(events)
}

/// The last count of each region.
pub(crate) fn latest_counts(log: &Log, topic: &Topic) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for record in log.read_view().records(topic) {
        let Count { region, count } = record?.json()?;
        counts.insert(region, count);
    }
    Ok(counts)
}
