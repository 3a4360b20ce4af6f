//! Tables in the model: of each table a map from keys to where and when they were written last, filled from the records
//! themselves, as somebody who reads the table's topic would do it.

use exactlog_core::batch::Batch;
use exactlog_core::command::{CleanupPolicy, TableWrites, TopicConfig};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::partitioner::partition_for_key;
use std::collections::{BTreeMap, BTreeSet};

use super::{Model, Outcome};

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where its last record is.
    pub at: Partition,
    /// That record's offset.
    pub offset: u64,
    /// The commit that wrote it.
    pub lsn: u64,
}

/// The keys of a table.
pub type Keys = BTreeMap<Vec<u8>, Written>;

impl Model {
    pub(super) fn create_table(&mut self, name: &str, partitions: u32, config: &TopicConfig) -> Outcome {
        if config.cleanup_policy != CleanupPolicy::Compact {
            return Err("TablePolicy");
        }
        let known = self.topics.iter().find(|(_, topic)| topic.name == name).map(|(id, _)| *id);
        if known.is_some_and(|id| !self.tables.contains_key(&id)) {
            return Err("TopicExists");
        }
        let made = self.create_topic(name, partitions, config)?;
        if known.is_none() {
            self.tables.insert(TopicId(self.topics_made), Keys::new());
        }
        Ok(made)
    }

    pub(super) fn check_version(
        &self,
        table: TopicId,
        key: &[u8],
        version: Option<u64>,
    ) -> Result<(), &'static str> {
        if !self.topics.contains_key(&table) {
            return Err("UnknownTopic");
        }
        let keys = self.tables.get(&table).ok_or("NoTable")?;
        match keys.get(key).map(|written| written.lsn) == version {
            true => Ok(()),
            false => Err("KeyVersion"),
        }
    }

    pub(super) fn check_table_writes(&self, writes: &[TableWrites]) -> Result<(), &'static str> {
        let (keys_max, key_bytes_max) = self.table_limits.unwrap_or((1_000_000, 1_024));
        let mut after = self.tables.clone();
        for TableWrites { partition, writes, batch } in writes {
            if !self.topics.contains_key(&partition.topic) {
                return Err("UnknownTopic");
            }
            let keys = after.get_mut(&partition.topic).ok_or("NoTable")?;
            self.find(*partition)?;
            if batch.producer().is_some() || writes.len() as u32 != batch.record_count() {
                return Err("Batch");
            }
            let partitions = self.topics[&partition.topic].partitions.len() as u32;
            for write in writes {
                if !write.deletes && write.key.len() as u64 > key_bytes_max {
                    return Err("TableKeyLength");
                }
                if partition_for_key(&write.key, partitions) != partition.index {
                    return Err("TableKeyPartition");
                }
            }
            self.check_fits(*partition, batch)?;
            fold(keys, *partition, 0, 0, batch);
        }
        let count =
            |tables: &BTreeMap<TopicId, Keys>| tables.values().map(|keys| keys.len() as u64).sum::<u64>();
        match count(&after) > count(&self.tables) && count(&after) > keys_max {
            true => Err("TablesFull"),
            false => Ok(()),
        }
    }

    pub(super) fn apply_table_writes(&mut self, term: u32, writes: &[TableWrites]) {
        for TableWrites { partition, batch, .. } in writes {
            let base_offset = self.store(term, *partition, batch, None);
            let lsn = self.lsn;
            let keys = self.tables.get_mut(&partition.topic).expect("it was checked");
            fold(keys, *partition, base_offset, lsn, batch);
        }
    }

    /// All partitions of plain topics.
    #[must_use]
    pub fn plain_partitions(&self) -> Vec<Partition> {
        let tables: BTreeSet<_> = self.tables.keys().collect();
        self.partitions().into_iter().filter(|partition| !tables.contains(&partition.topic)).collect()
    }
}

/// Brings the records of a batch into the keys of a table.
fn fold(keys: &mut Keys, at: Partition, base_offset: u64, lsn: u64, batch: &Batch) {
    for (record, offset) in batch.records().zip(base_offset..) {
        let record = record.expect("the workload makes readable batches");
        let key = record.key.expect("a record of a table has a key").to_vec();
        match record.value {
            Some(_) => drop(keys.insert(key, Written { at, offset, lsn })),
            None => drop(keys.remove(&key)),
        }
    }
}
