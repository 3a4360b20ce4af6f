//! What a group has counted and what of it waits, read from its table: while it runs or not.

use crate::counts::{Counts, parse_counts_key};
use crate::error::Error;
use crate::parked::{Parsed, RowOf, Waiting, parse_row, parse_row_key};
use exactlog::{KeyRange, Log, Record};

/// A group as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupState {
    /// All partitions together.
    pub counts: Counts,
    /// By topic and partition.
    pub partitions: Vec<PartitionCounts>,
    /// Events that wait, by topic, partition and offset.
    pub waiting: Vec<WaitingEvent>,
}

/// What a group has counted of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionCounts {
    /// Name of the topic.
    pub topic: String,
    /// Its id: a topic that was deleted and made anew is another one.
    pub topic_id: u32,
    /// The partition.
    pub partition: u32,
    /// How its records ended.
    pub counts: Counts,
    /// How many of them wait.
    pub waiting: u64,
}

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitingEvent {
    /// The event, at its place in its topic.
    pub record: Record,
    /// Why it waits.
    pub waiting: Waiting,
    /// Attempts that were made.
    pub attempts: u32,
    /// When it is tried next, ms since 1970, if no earlier event of its key waits.
    pub due_ms: i64,
    /// When it failed first, ms since 1970.
    pub first_failed_ms: Option<i64>,
    /// Its last failure: kind and text.
    pub error: Option<String>,
}

/// The name of a group's table.
pub(crate) fn table_name(group: &str) -> String {
    format!("flow.{group}")
}

/// What a group has counted, of all partitions together.
pub(crate) fn counts_of(log: &Log, group: &str) -> Result<Counts, Error> {
    let table = log.table(&table_name(group))?;
    let mut counts = Counts::default();
    for entry in log.read_view().scan(&table, KeyRange::prefix("count/")) {
        let entry = entry?;
        let key = String::from_utf8_lossy(entry.key());
        let of_partition: Counts = RowOf { table: table.name(), key: &key }.json(entry.value())?;
        counts.add(&of_partition);
    }
    Ok(counts)
}

/// What a group has counted and what of it waits, as of now.
///
/// ```
/// # use exactlog::Log;
/// # let directory = tempfile::tempdir().unwrap();
/// # let log = Log::open(directory.path()).unwrap();
/// let unknown = exactlog_flow::inspect(&log, "billing").unwrap_err();
/// assert_eq!(unknown.to_string(), "table \"flow.billing\" doesn't exist; create_table makes it");
/// ```
///
/// # Errors
/// [`exactlog::Error::NoSuchTable`]: no processor of this group was ever started. [`Error::Row`].
pub fn inspect(log: &Log, group: &str) -> Result<GroupState, Error> {
    let table = log.table(&table_name(group))?;
    let view = log.read_view();
    let mut state = GroupState::default();
    for entry in view.scan(&table, KeyRange::prefix("count/")) {
        let entry = entry?;
        let key = String::from_utf8_lossy(entry.key());
        let row_of = RowOf { table: table.name(), key: &key };
        let (topic, topic_id, partition) =
            parse_counts_key(&key).ok_or_else(|| row_of.wrong("its key names no partition"))?;
        let counts: Counts = row_of.json(entry.value())?;
        state.counts.add(&counts);
        let topic = topic.to_string();
        state.partitions.push(PartitionCounts { topic, topic_id, partition, counts, waiting: 0 });
    }
    for entry in view.scan(&table, KeyRange::prefix("wait/")) {
        let entry = entry?;
        let key = String::from_utf8_lossy(entry.key());
        let row_of = RowOf { table: table.name(), key: &key };
        let (topic, topic_id, partition, offset) =
            parse_row_key(&key).ok_or_else(|| row_of.wrong("its key names no record"))?;
        let Parsed { record, wait, error } =
            parse_row(&row_of, (&topic.into(), partition, offset), entry.value(), i64::MAX)?;
        let known =
            state.partitions.iter_mut().find(|it| (it.topic_id, it.partition) == (topic_id, partition));
        known.into_iter().for_each(|it| it.waiting += 1);
        state.waiting.push(WaitingEvent {
            record,
            waiting: wait.waiting,
            attempts: wait.attempts,
            due_ms: wait.due_ms,
            first_failed_ms: wait.first_failed_ms,
            error,
        });
    }
    Ok(state)
}
