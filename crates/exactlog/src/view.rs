//! A view of everything as of one position of the log (semantics TX-25).

use crate::error::Error;
use crate::event::Record;
use crate::log::Handle;
use crate::topic::Topic;
use exactlog_core::ids::{Partition, TopicId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Everything as of one position: each transaction wholly or not at all, over all partitions.
///
/// It pins no records: what is trimmed meanwhile answers [`Error::RecordsLost`]. After
/// `read.view.max.ms` (60 s, see [`Builder::read_view_max`](crate::Builder::read_view_max)) it ends.
#[derive(Debug)]
pub struct ReadView {
    inner: Handle,
    csn: u64,
    topics: BTreeMap<TopicId, Arc<exactlog_core::state::Topic>>,
    opened: Instant,
}

impl ReadView {
    pub(crate) fn new(inner: &Handle) -> ReadView {
        let state = inner.state.read();
        ReadView {
            inner: inner.clone(),
            csn: state.lsn,
            topics: state.topics.clone(),
            opened: Instant::now(),
        }
    }

    /// The position that it shows: all that was committed up to it, and nothing later.
    pub fn csn(&self) -> u64 {
        self.csn
    }

    /// The offset behind the last record that it shows.
    ///
    /// # Errors
    /// [`Error::NoSuchPartition`], also for a topic that is newer than the view.
    pub fn end(&self, topic: &Topic, partition: u32) -> Result<u64, Error> {
        let found = self.topics.get(&topic.id()).and_then(|found| found.partitions.get(partition as usize));
        found.map(|found| found.end).ok_or_else(|| Error::NoSuchPartition {
            topic: topic.name().to_string(),
            partition,
            partitions: self.topics.get(&topic.id()).map_or(0, |found| found.partitions.len() as u32),
        })
    }

    /// Records from `offset` on, at most to the view's end; at least one if there is one, then up to `max_bytes`.
    ///
    /// # Errors
    /// [`Error::ViewExpired`], [`Error::RecordsLost`], [`Error::OffsetOutOfRange`] behind the view's end,
    /// [`Error::Closed`].
    pub fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Vec<Record>, Error> {
        self.inner.check_open()?;
        let life = self.inner.read_view_max;
        if self.opened.elapsed() >= life {
            return Err(Error::ViewExpired { max_ms: u64::try_from(life.as_millis()).unwrap_or(u64::MAX) });
        }
        let end = self.end(topic, partition)?;
        let (start, _) = self.inner.bounds(topic, partition)?;
        let name = || topic.name().to_string();
        if offset > end {
            return Err(Error::OffsetOutOfRange { topic: name(), partition, offset, start, end });
        }
        let at = Partition { topic: topic.id(), index: partition };
        let read = match offset < end && offset >= start {
            true => self.inner.read(|reader| reader.read(at, offset, max_bytes)),
            false => Ok(Vec::new()),
        };
        // Asked again behind the read: what is trimmed meanwhile may be gone from the disk.
        let start = self.inner.bounds(topic, partition)?.0.min(end);
        if offset < start {
            return Err(Error::RecordsLost { topic: name(), partition, from: offset, to: start });
        }
        let mut records = Vec::new();
        for batch in read? {
            for record in batch.records() {
                let record = record?;
                if (offset..end).contains(&record.offset) {
                    records.push(Record::of(topic, partition, record));
                }
            }
        }
        Ok(records)
    }
}
