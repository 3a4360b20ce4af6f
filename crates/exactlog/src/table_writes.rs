//! What a transaction writes to tables, and what of them it has read.
//!
//! Invariants
//!   * of a key the transaction's last write counts, and is the only one that becomes a record
//!   * what was read through the transaction and not written by it before has to be the same when it commits

use crate::error::Error;
use crate::event::Event;
use crate::log::Inner;
use crate::producer::{append, event_bytes};
use crate::table::Table;
use crate::topic::Topic;
use crate::transaction::Transaction;
use bytes::Bytes;
use exactlog_core::batch::{BatchBuilder, BatchError, Compression};
use exactlog_core::command::{Condition, TableWrite, TableWrites};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::partitioner::partition_for_key;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a transaction does with tables.
#[derive(Debug, Default)]
pub(crate) struct TableEffects {
    written: BTreeMap<TopicId, (Topic, BTreeMap<Bytes, Option<Bytes>>)>,
    /// Versions of what was read, as it was read first.
    read: BTreeMap<(TopicId, Bytes), Option<u64>>,
}

/// What a write takes in a command besides its record, and a condition besides its key, in bytes.
const WRITE_BYTES: usize = 32;

impl TableEffects {
    /// Whether nothing is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// What was written of a key.
    fn find(&self, table: TopicId, key: &[u8]) -> Option<&Option<Bytes>> {
        self.written.get(&table)?.1.get(key)
    }

    /// That what was read is still the same.
    pub(crate) fn take_conditions(&mut self) -> impl Iterator<Item = Condition> + use<> {
        let read = std::mem::take(&mut self.read).into_iter();
        read.map(|((table, key), version)| Condition::KeyVersion { table, key, version })
    }

    /// The batches, table by table and partition by partition, keys ascending in each.
    pub(crate) fn take_writes(
        &mut self,
        inner: &Inner,
        codec: Compression,
    ) -> Result<Vec<TableWrites>, BatchError> {
        let timestamp_ms = inner.clock.wall_ms();
        let mut all = Vec::new();
        for (id, (topic, keys)) in std::mem::take(&mut self.written) {
            let max = topic.batch_bytes_max();
            let mut partitions: BTreeMap<u32, Vec<Filling>> = BTreeMap::new();
            for (key, value) in keys {
                let index = partition_for_key(&key, topic.partitions());
                let deletes = value.is_none();
                let event = Event { key: Some(key.clone()), value, ..Event::default() };
                let bytes = event_bytes(&event);
                let batches = partitions.entry(index).or_default();
                if batches.last().is_none_or(|batch| batch.builder.len_bytes() + bytes > max) {
                    batches.push(Filling { builder: BatchBuilder::new(bytes.max(256)), writes: Vec::new() });
                }
                let batch = batches.last_mut().expect("one was just made");
                append(&mut batch.builder, &event, timestamp_ms);
                batch.writes.push(TableWrite { key, deletes });
            }
            for (index, batch) in
                partitions.into_iter().flat_map(|(index, all)| all.into_iter().map(move |it| (index, it)))
            {
                let partition = Partition { topic: id, index };
                let Filling { builder, writes } = batch;
                let batch = inner.finish(id, builder, None, codec)?;
                all.push(TableWrites { partition, writes, batch });
            }
        }
        Ok(all)
    }
}

/// A batch that is being filled.
struct Filling {
    builder: BatchBuilder,
    writes: Vec<TableWrite>,
}

impl Transaction<'_> {
    /// Gives a key of a table a value, if the transaction commits. Of several writes of a key the last one counts.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`], [`Error::TransactionTooLarge`]; the transaction stays as it was. Keys that are too
    /// long, or too many, refuse the commit: [`Refusal::TableKeyLength`](crate::Refusal::TableKeyLength),
    /// [`Refusal::TablesFull`](crate::Refusal::TablesFull).
    pub fn put(
        &mut self,
        table: &Table,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<(), Error> {
        self.write(table, key.into(), Some(value.into()))
    }

    /// As [`put`](Transaction::put), with a value as JSON.
    ///
    /// # Errors
    /// As [`put`](Transaction::put), and [`Error::Unencodable`] when the value can't be written as JSON.
    pub fn put_json(
        &mut self,
        table: &Table,
        key: impl Into<Bytes>,
        value: &impl Serialize,
    ) -> Result<(), Error> {
        let json = serde_json::to_vec(value);
        let json = json.map_err(|error| Error::Unencodable { reason: error.to_string() })?;
        self.put(table, key, json)
    }

    /// Takes a key out of a table, if the transaction commits. It needn't be there.
    ///
    /// # Errors
    /// As [`put`](Transaction::put).
    pub fn delete(&mut self, table: &Table, key: impl Into<Bytes>) -> Result<(), Error> {
        self.write(table, key.into(), None)
    }

    /// The value of a key as this transaction sees it: what it has written itself, or else what the table has now, and
    /// then the transaction commits only if the key isn't written by others until then
    /// ([`Refusal::KeyVersion`](crate::Refusal::KeyVersion); begin again). So of two that read a value and write what
    /// follows from it, one is refused: no update is lost. [`Table::get`] reads without such a condition.
    ///
    /// # Errors
    /// As [`Table::get`], and [`Error::TransactionTooLarge`].
    pub fn get(&mut self, table: &Table, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        let (id, key) = (table.topic().id(), key.into());
        if let Some(written) = self.tables.find(id, &key) {
            return Ok(written.clone());
        }
        let found = table.get(&key)?;
        if !self.tables.read.contains_key(&(id, key.clone())) {
            self.bytes = self.total_with(key.len() + WRITE_BYTES)?;
            self.tables.read.insert((id, key), found.as_ref().map(|entry| entry.version));
        }
        Ok(found.and_then(|entry| entry.record.value))
    }

    /// Commits only if the key's last write is this one then ([`Entry::version`](field@crate::Entry::version)); `None`:
    /// the key isn't there.
    pub fn expect_version(&mut self, table: &Table, key: impl Into<Bytes>, version: Option<u64>) {
        let (table, key) = (table.topic().id(), key.into());
        self.conditions.push(Condition::KeyVersion { table, key, version });
    }

    fn write(&mut self, table: &Table, key: Bytes, value: Option<Bytes>) -> Result<(), Error> {
        let topic = table.topic();
        let event = Event { key: Some(key.clone()), value, ..Event::default() };
        self.inner().check_codec(topic.id())?;
        let bytes = event_bytes(&event);
        topic.check_bytes(bytes)?;
        // What it has written of the key before stays counted: a little too much, never too little.
        self.bytes = self.total_with(bytes + key.len() + WRITE_BYTES)?;
        let written = self.tables.written.entry(topic.id());
        written.or_insert_with(|| (topic.clone(), BTreeMap::new())).1.insert(key, event.value);
        Ok(())
    }
}
