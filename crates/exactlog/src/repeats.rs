//! Events with ids on their way: which of a batch were stored before, and the batch without them.
//!
//! ```text
//!   batch with ids -> AppendIdentified -> appended
//!                          ^          \-> some were seen -> those are left out, and told where their originals are
//!                          +------------------ the rest ----------------+
//! ```
//!
//! Invariants
//!   * the order of what is left stays
//!   * each event of the batch is answered by its own place, or by that of its original

use crate::error::Error;
use exactlog_core::batch::{Batch, BatchBuilder, BatchError};
use exactlog_core::ids::DedupId;
use exactlog_core::reply::{SeenEvent, Sighting};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Where events of a batch were stored before, for the tickets: by their index when they were gathered, ascending. Set
/// before the batch is answered.
#[derive(Debug, Default)]
pub(crate) struct Repeats(OnceLock<Vec<Repeat>>);

#[derive(Clone, Copy, Debug)]
struct Repeat {
    index: u32,
    partition: u32,
    offset: u64,
}

impl Repeats {
    /// Partition and offset of an event, and whether it is a repeat, of a batch that begins at this offset.
    pub(crate) fn place_of(&self, index: u32, partition: u32, base_offset: u64) -> (u32, u64, bool) {
        let repeats = self.0.get().map_or(&[][..], Vec::as_slice);
        match repeats.binary_search_by_key(&index, |repeat| repeat.index) {
            Ok(at) => (repeats[at].partition, repeats[at].offset, true),
            Err(before) => (partition, base_offset + u64::from(index) - before as u64, false),
        }
    }
}

/// The ids of an open batch.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    ids: Vec<DedupId>,
    by_id: HashMap<DedupId, u32>,
    told: Arc<Repeats>,
}

impl Gathering {
    /// The index of an event of this id that is in the batch already.
    pub(crate) fn index_of(&self, id: DedupId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn add(&mut self, id: DedupId) {
        self.by_id.insert(id, self.ids.len() as u32);
        self.ids.push(id);
    }

    pub(crate) fn told(&self) -> &Arc<Repeats> {
        &self.told
    }

    pub(crate) fn seal(self) -> Identified {
        let indexes = (0..self.ids.len() as u32).collect();
        Identified { ids: self.ids, indexes, repeats: Vec::new(), told: self.told }
    }
}

/// The ids of a batch that is sealed.
#[derive(Debug)]
pub(crate) struct Identified {
    /// Of the records that are left.
    pub(crate) ids: Vec<DedupId>,
    /// Their indexes when they were gathered.
    indexes: Vec<u32>,
    repeats: Vec<Repeat>,
    told: Arc<Repeats>,
}

impl Identified {
    /// Leaves out the records that were seen. The batch without them; none: it has no others.
    pub(crate) fn leave_out(
        &mut self,
        batch: &Batch,
        seen: &[SeenEvent],
        finish: impl FnOnce(BatchBuilder) -> Result<Batch, BatchError>,
    ) -> Result<Option<Batch>, Error> {
        let mut seen = seen.iter().peekable();
        let mut rest = BatchBuilder::new(batch.len_bytes());
        let (mut ids, mut indexes) = (Vec::new(), Vec::new());
        let mut records = (self.ids.len() > seen.len()).then(|| batch.records());
        for (nth, (id, index)) in self.ids.iter().zip(&self.indexes).enumerate() {
            let record = records.as_mut().and_then(Iterator::next).transpose()?;
            let found = seen.next_if(|seen| seen.index as usize == nth).map(|seen| seen.sighting);
            if let Some(Sighting::Record { partition, offset }) = found {
                self.repeats.push(Repeat { index: *index, partition: partition.index, offset });
            } else if let Some(record) = record {
                let headers: Vec<(&[u8], Option<&[u8]>)> =
                    record.headers.iter().map(|it| (&it.key[..], it.value.as_deref())).collect();
                rest.append(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
                ids.push(*id);
                indexes.push(*index);
            }
        }
        (self.ids, self.indexes) = (ids, indexes);
        if rest.is_empty() {
            return Ok(None);
        }
        Ok(Some(finish(rest)?))
    }

    /// To be called before the batch is answered.
    pub(crate) fn tell(mut self) {
        self.repeats.sort_by_key(|repeat| repeat.index);
        let _ = self.told.0.set(self.repeats);
    }
}
