//! What the batches of records say, for tokens that ask: a record doesn't carry it.

use crate::failure::Failure;
use exactlog::{BatchDetails, Error, ReadView, Topic, TopicId};
use std::collections::BTreeMap;

/// The batch that was met last in each partition: it is looked up once for all of its records.
#[derive(Debug)]
pub(crate) struct Batches {
    /// Nothing is looked up that nobody wants.
    are_wanted: bool,
    last: BTreeMap<(TopicId, u32), BatchDetails>,
}

impl Batches {
    pub(crate) fn new(are_wanted: bool) -> Batches {
        Batches { are_wanted, last: BTreeMap::new() }
    }

    /// The batch of the record at an offset; `None`: nobody wants it, or it was trimmed meanwhile.
    pub(crate) fn of(
        &mut self,
        view: &ReadView,
        topic: &Topic,
        partition: u32,
        offset: u64,
    ) -> Result<Option<BatchDetails>, Failure> {
        if !self.are_wanted {
            return Ok(None);
        }
        let place = (topic.id(), partition);
        let holds = |batch: &&BatchDetails| (batch.base_offset..batch.next_offset).contains(&offset);
        if let Some(batch) = self.last.get(&place).filter(holds) {
            return Ok(Some(*batch));
        }
        let found = match view.batch(topic, partition, offset) {
            Err(Error::RecordsLost { .. }) => None,
            found => found?,
        };
        if let Some(found) = found {
            self.last.insert(place, found);
        }
        Ok(found)
    }
}
