//! Replay: events once more, from an offset or a time on, into a handler, beside the groups that read on.
//!
//! ```text
//!   group `replay.<name>`, positions and ends in one commit -> a processor of that group -> its end, or live
//! ```
//!
//! So it is a processor with a group of its own: it can be stopped, killed and started again and goes on where it was,
//! each event once; its ids are marked in a scope of its own; no other group is moved.
//!
//! Invariants
//!   * where it ends is decided when it begins: what comes later is no part of it
//!   * only committed records are replayed

use crate::clock::wall_ms;
use crate::error::Error;
use crate::inspect::table_name;
use crate::parked::RowOf;
use crate::processor::{Processor, ROW_BYTES_MAX};
use bytes::Bytes;
use exactlog::{Log, Record, SeekTo, TableOptions, Topic};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where a replay begins, in each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    /// At the first event that is there.
    Start,
    /// At this offset, or the first one behind it that is there.
    Offset(u64),
    /// At the first event that isn't older, ms since 1970.
    Time(i64),
}

/// Events once more.
///
/// ```
/// # use exactlog::{Event, Log, TopicOptions};
/// # use exactlog_flow::{Context, Failure, Replay};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// # let orders = log.create_topic("orders", TopicOptions::default())?;
/// # let producer = log.producer("shop")?;
/// # producer.blocking_send(&orders, Event::new("order-1", "two chairs"))?;
/// # producer.blocking_send(&orders, Event::new("order-2", "a sofa"))?;
/// let again = log.create_topic("orders-again", TopicOptions::default())?;
/// let replay = Replay::new(&log, "august").topic(&orders);
/// assert_eq!(replay.count()?, 2); // a dry run
/// let running = replay.processor()?.start(move |order: Context| {
///     let again = again.clone();
///     async move { order.forward(&again) } // or rebuild a table: order.is_replay() is true
/// })?;
/// running.ended().await?; // by itself
/// # assert_eq!(log.read_view().records(&log.open_topic("orders-again")?).count(), 2);
/// # Ok(())
/// # }
/// ```
///
/// Begun again under the same name it goes on, with the ends that it had: nothing is replayed twice. What its handler
/// sends carries the headers `replay-id` (its name) and `replay-of` (`topic/partition/offset`).
#[derive(Clone, Debug)]
#[must_use = "count it, or make its processor"]
pub struct Replay {
    log: Log,
    name: String,
    topics: Vec<Topic>,
    from: ReplayFrom,
    speed: Option<f64>,
    is_live: bool,
}

/// What a processor has to know of the replay that it does.
#[derive(Debug)]
pub(crate) struct Plan {
    name: String,
    ends: BTreeMap<String, Vec<u64>>,
    /// Goes on behind its end.
    pub(crate) is_live: bool,
    /// How fast time goes, beside the real one.
    pub(crate) speed: Option<f64>,
    /// The timestamp that was met first, and when.
    since: Mutex<Option<(i64, Instant)>>,
}

/// As the group's table has it.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    begun_ms: i64,
    /// By topic and its id: where it ends in each partition.
    ends: BTreeMap<String, Vec<u64>>,
}

/// The longest wait for an event's turn.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// The key of the row that says where it ends.
const KEY: &str = "replay";

impl Replay {
    /// A replay of this name: its group is `replay.<name>`.
    pub fn new(log: &Log, name: &str) -> Replay {
        let (log, name, topics) = (log.clone(), name.to_string(), Vec::new());
        Replay { log, name, topics, from: ReplayFrom::Start, speed: None, is_live: false }
    }

    /// Adds a topic to replay.
    pub fn topic(mut self, topic: &Topic) -> Replay {
        self.topics.push(topic.clone());
        self
    }

    /// Where it begins. Default: at the first event.
    pub fn from(mut self, from: ReplayFrom) -> Replay {
        self.from = from;
        self
    }

    /// How fast it is, beside how it was: 1.0 leaves as much time between two events as was between them. Default: as
    /// fast as it goes.
    pub fn speed(mut self, times: f64) -> Replay {
        self.speed = Some(times);
        self
    }

    /// Doesn't end, but reads on what comes: a projection is rebuilt and then kept.
    pub fn then_live(mut self) -> Replay {
        self.is_live = true;
        self
    }

    /// How many events it would replay now, if it were begun: nothing is changed.
    ///
    /// # Errors
    /// What reading can answer.
    pub fn count(&self) -> Result<u64, Error> {
        let view = self.log.read_view();
        let mut count = 0;
        for topic in &self.topics {
            for partition in 0..topic.partitions() {
                let (from, end) = self.range(topic, partition)?;
                for record in view.records_from(topic, partition, from) {
                    let record = record?;
                    if record.partition != partition || record.offset >= end {
                        break;
                    }
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    /// Begins it, or goes on with it: a processor of its group, to be set up and started. It ends by itself behind the
    /// last event that was there when the replay was begun, when nothing of it waits for a retry.
    ///
    /// # Errors
    /// [`Error::NoTopic`], [`Error::Setting`], [`Error::OtherReplay`], and what the log says to a new table or commit.
    pub fn processor(self) -> Result<Processor, Error> {
        let group = format!("replay.{}", self.name);
        if self.topics.is_empty() {
            return Err(Error::NoTopic { group });
        }
        if let Some(speed) = self.speed.filter(|speed| !speed.is_finite() || *speed <= 0.0) {
            return Err(Error::setting("replay.speed", speed, "more than 0"));
        }
        let options = TableOptions::default().max_message_bytes(ROW_BYTES_MAX);
        let table = self.log.create_table(&table_name(&group), options)?;
        let begun: Begun = match table.get(KEY)? {
            Some(entry) => RowOf { table: table.name(), key: KEY }.json(entry.value())?,
            None => {
                let (begun, positions) = self.begin()?;
                let mut producer = self.log.producer(&format!("flow.{group}"))?;
                let mut transaction = producer.begin();
                transaction.expect_version(&table, KEY, None);
                transaction.put_json(&table, KEY, &begun)?;
                transaction.seek_group(&group, &positions)?;
                transaction.blocking_commit()?;
                begun
            }
        };
        let asked: Vec<String> = self.topics.iter().map(key_of).collect();
        if !asked.iter().all(|key| begun.ends.contains_key(key)) || begun.ends.len() != asked.len() {
            let begun = begun.ends.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(Error::OtherReplay { name: self.name, begun, asked: asked.join(", ") });
        }
        let Replay { log, name, topics, speed, is_live, .. } = self;
        let plan = Plan { name, ends: begun.ends, is_live, speed, since: Mutex::default() };
        Ok(Processor::of_replay(&log, &group, topics, plan))
    }

    fn begin(&self) -> Result<(Begun, Vec<SeekTo>), Error> {
        let (mut ends, mut positions) = (BTreeMap::new(), Vec::new());
        for topic in &self.topics {
            let mut of_topic = Vec::new();
            for partition in 0..topic.partitions() {
                let (offset, end) = self.range(topic, partition)?;
                of_topic.push(end);
                positions.push(SeekTo { topic: topic.clone(), partition, offset });
            }
            ends.insert(key_of(topic), of_topic);
        }
        Ok((Begun { begun_ms: wall_ms(), ends }, positions))
    }

    /// The first offset of a partition, and the one behind the last.
    fn range(&self, topic: &Topic, partition: u32) -> Result<(u64, u64), Error> {
        let (start, end) = self.log.bounds(topic, partition)?;
        let from = match self.from {
            ReplayFrom::Start => start,
            ReplayFrom::Offset(offset) => offset.clamp(start, end),
            ReplayFrom::Time(at_ms) => {
                let found = self.log.first_at_or_after(topic, partition, at_ms)?;
                found.map_or(end, |(offset, _)| offset.clamp(start, end))
            }
        };
        Ok((from, end))
    }
}

/// A topic that was deleted and made anew is another one.
fn key_of(topic: &Topic) -> String {
    format!("{}.{}", topic.name(), topic.id().0)
}

impl Plan {
    /// Where it ends, in each partition of these topics; nowhere if it goes on live.
    pub(crate) fn ends<'p>(
        &'p self,
        topics: &'p BTreeMap<Arc<str>, Topic>,
    ) -> impl Iterator<Item = (&'p Topic, u32, u64)> {
        let topics = topics.values().filter(|_| !self.is_live);
        topics.flat_map(|topic| {
            let ends = self.ends.get(&key_of(topic)).into_iter().flatten();
            ends.zip(0..).map(move |(end, partition)| (topic, partition, *end))
        })
    }

    /// What is said of everything that comes of a record.
    pub(crate) fn headers(&self, record: &Record) -> Vec<(&'static str, Bytes)> {
        let of = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        vec![("replay-id", self.name.clone().into()), ("replay-of", of.into())]
    }

    /// Waits until it is an event's turn, at the speed that was asked for.
    pub(crate) async fn wait(&self, timestamp_ms: i64) {
        let Some(speed) = self.speed else { return };
        let (first_ms, begin) = *self.since.lock().get_or_insert_with(|| (timestamp_ms, Instant::now()));
        let behind = Duration::from_millis(u64::try_from(timestamp_ms.saturating_sub(first_ms)).unwrap_or(0));
        let behind = Duration::try_from_secs_f64(behind.as_secs_f64() / speed).unwrap_or(LONGEST);
        let at = begin + behind.min(LONGEST);
        tokio::time::sleep_until(at).await;
    }
}
