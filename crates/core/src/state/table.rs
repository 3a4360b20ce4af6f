//! Keyed tables: of each key the place of its last record (semantics EM-1, EM-4, EM-6, EM-9).
//!
//! ```text
//!   absent ──put──> present(offset, version) ──put──> present(a later offset, a higher version)
//!      ^                      │
//!      └───────delete─────────┘            DeleteTopic: all of them go
//! ```
//!
//! A table is a compacted topic, its *changelog*, and what stands here: an index over it. Values aren't state; they are
//! read where the index says. Compaction keeps the last record of each key, so what is named here can be read.
//!
//! Invariants
//!   * only the table writes of commits append to the changelog, so the index misses none
//!   * a key lies in the partition that its hash names; the number of partitions never changes
//!   * a version is the lsn of the commit that wrote: it rises with each write of a key, also over a deletion
//!   * what a refused commit would have written is nowhere
//!   * the bytes of a table's keys are those of the keys that it has

use super::pieces::Pieces;
use super::topic::{Arrival, check_shape};
use super::{Outcome, State, check_bounds};
use crate::command::{
    CleanupPolicy, Commit, TABLE_KEY_BYTES_MAX, TABLE_KEYS_MAX, TableWrite, TableWrites, TopicConfig,
};
use crate::ids::{Partition, TopicId};
use crate::mutants::{Mutant, on};
use crate::partitioner::partition_for_key;
use crate::reply::{Placement, Refusal};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// All tables, and what bounds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    tables: BTreeMap<TopicId, Arc<Table>>,
    keys: u64,
    limits: TableLimits,
}

/// The index of one table. A copy shares its parts until they are written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    places: Pieces<Arc<[u8]>, TablePlace>,
    key_bytes: u64,
}

/// Where the last record of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePlace {
    /// Its offset in the partition that the key belongs to.
    pub offset: u64,
    /// The lsn of the commit that wrote it.
    pub version: u64,
}

/// How many keys tables may have, and how long these may be; changed by `Config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLimits {
    /// `table.keys.max`: keys of all tables together.
    pub keys_max: u64,
    /// `table.key.max.bytes`.
    pub key_bytes_max: u64,
}

impl Default for TableLimits {
    fn default() -> Self {
        TableLimits { keys_max: TABLE_KEYS_MAX, key_bytes_max: TABLE_KEY_BYTES_MAX }
    }
}

/// A part of [`Tables`] as checkpoints have it. Order and types of the fields are a format (docs/FORMAT.md, "Payload").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePiece(Piece);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Piece {
    Head { limits: TableLimits, tables: Vec<TopicId> },
    Keys { table: TopicId, keys: Vec<(Vec<u8>, TablePlace)> },
}

/// Keys in one part.
const PIECE_KEYS: usize = 1024;

/// Highest `table.keys.max`.
const KEYS_MOST: u64 = 100_000_000;
/// Highest `table.key.max.bytes`: a part stays far below what a section of a checkpoint may have.
const KEY_BYTES_MOST: u64 = 65_536;

impl Table {
    /// How many keys it has.
    pub fn len(&self) -> u64 {
        self.places.len() as u64
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What its keys take together, in bytes.
    pub fn key_bytes(&self) -> u64 {
        self.key_bytes
    }

    /// Where the last record of a key is; `None`: the key isn't there.
    pub fn find(&self, key: &[u8]) -> Option<TablePlace> {
        self.places.get(key).copied()
    }

    /// The keys from one on, ascending, each with its place.
    pub fn from<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = (&'a [u8], TablePlace)> {
        self.places.range_from(from).map(|(key, place)| (&**key, *place))
    }

    /// All keys with their places.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], TablePlace)> {
        self.places.iter().map(|(key, place)| (&**key, *place))
    }

    fn put(&mut self, key: Arc<[u8]>, place: TablePlace) {
        let (len, key_bytes) = (self.places.len(), key.len() as u64);
        self.places.insert(key, place);
        self.key_bytes += key_bytes * (self.places.len() - len) as u64;
    }

    fn delete(&mut self, key: &[u8]) {
        let removed = self.places.remove(key);
        self.key_bytes -= removed.map_or(0, |_| key.len() as u64);
    }
}

impl Tables {
    /// The table of this topic, if that is one.
    pub fn get(&self, topic: TopicId) -> Option<&Arc<Table>> {
        self.tables.get(&topic)
    }

    /// All tables.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, &Arc<Table>)> {
        self.tables.iter().map(|(topic, table)| (*topic, table))
    }

    /// How many tables there are.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Keys of all tables together.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The limits.
    pub fn limits(&self) -> TableLimits {
        self.limits
    }

    /// Takes the keys out of all tables, for whoever reckons what a state takes; how many these were, and what they
    /// take together, in bytes.
    pub fn take_keys(&mut self) -> (u64, u64) {
        let key_bytes = self.tables.values().map(|table| table.key_bytes).sum();
        self.tables.values_mut().for_each(|table| *table = Arc::default());
        (std::mem::take(&mut self.keys), key_bytes)
    }

    /// Its parts, for a checkpoint; none if it is as in a new log.
    pub fn pieces(&self) -> impl Iterator<Item = TablePiece> + '_ {
        let is_new = self.tables.is_empty() && self.limits == TableLimits::default();
        let tables = self.tables.keys().copied().collect();
        let head = (!is_new).then_some(Piece::Head { limits: self.limits, tables });
        let keys = self.tables.iter().flat_map(|(table, content)| {
            // By number alone, so that equal tables have equal parts.
            let count = content.len().div_ceil(PIECE_KEYS as u64) as usize;
            let mut rest = content.iter();
            (0..count).map(move |_| {
                let owned = |(key, place): (&[u8], TablePlace)| (key.to_vec(), place);
                let cut = usize::from(on(Mutant::K4KeysMissInCheckpoint));
                let keys = rest.by_ref().take(PIECE_KEYS).skip(cut).map(owned).collect();
                Piece::Keys { table: *table, keys }
            })
        });
        head.into_iter().chain(keys).map(TablePiece)
    }

    /// Takes a part back in, in the order in which [`pieces`](Tables::pieces) gave it.
    ///
    /// # Errors
    /// What contradicts the parts before it.
    pub fn restore(&mut self, piece: TablePiece) -> Result<(), String> {
        match piece.0 {
            Piece::Head { limits, tables } if *self == Tables::default() => {
                self.limits = limits;
                self.tables = tables.into_iter().map(|table| (table, Arc::default())).collect();
                Ok(())
            }
            Piece::Head { .. } => Err("what is known of tables begins twice".into()),
            Piece::Keys { table, keys } => self.restore_keys(table, keys),
        }
    }

    fn restore_keys(&mut self, table: TopicId, keys: Vec<(Vec<u8>, TablePlace)>) -> Result<(), String> {
        let found = self.tables.get_mut(&table).ok_or_else(|| format!("keys of no table {table}"))?;
        let content = Arc::make_mut(found);
        let is_full = content.len() % PIECE_KEYS as u64 == 0;
        if !is_full || keys.len() > PIECE_KEYS {
            return Err(format!("{} keys of table {table} behind {}", keys.len(), content.len()));
        }
        let mut last = content.places.last().map(|(key, _)| key.clone());
        for (key, place) in keys {
            let key: Arc<[u8]> = key.into();
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(format!("a key of table {table} out of order"));
            }
            last = Some(key.clone());
            content.put(key, place);
            self.keys += 1;
        }
        Ok(())
    }

    pub(super) fn create(&mut self, topic: TopicId) {
        self.tables.insert(topic, Arc::default());
    }

    /// The topic is gone.
    pub(super) fn forget(&mut self, topic: TopicId) {
        if let Some(table) = self.tables.remove(&topic) {
            self.keys = self.keys.saturating_sub(table.len());
        }
    }

    /// Sets the limits for what is written from here on.
    pub(super) fn set_limits(&mut self, limits: TableLimits) -> Result<(), Refusal> {
        check_bounds("table.keys.max", limits.keys_max, 0, KEYS_MOST)?;
        check_bounds("table.key.max.bytes", limits.key_bytes_max, 1, KEY_BYTES_MOST)?;
        self.limits = limits;
        Ok(())
    }

    /// Whether the keys that a commit brings have room; `last` is the last write of each.
    fn check_keys(&self, last: &BTreeMap<(TopicId, &[u8]), bool>) -> Result<(), Refusal> {
        let (mut new, mut gone) = (0, 0);
        for ((table, key), deletes) in last {
            let is_there = self.get(*table).is_some_and(|table| table.find(key).is_some());
            new += u64::from(!is_there && !deletes);
            gone += u64::from(is_there && *deletes);
        }
        let (keys, max) = (self.keys, self.limits.keys_max);
        // The limit may have been lowered: who needs no room isn't refused for that.
        let more = new.saturating_sub(gone);
        match more > 0 && keys.saturating_add(more) > max {
            true => Err(Refusal::TablesFull { keys, more, max }),
            false => Ok(()),
        }
    }

    /// Writes that were checked, whose records begin at an offset.
    fn write(&mut self, topic: TopicId, base_offset: u64, version: u64, writes: &[TableWrite]) {
        let Some(table) = self.tables.get_mut(&topic) else { return };
        let table = Arc::make_mut(table);
        let before = table.len();
        for (TableWrite { key, deletes }, offset) in writes.iter().zip(base_offset..) {
            match deletes {
                true if on(Mutant::K3DeletedKeyStays) => {}
                true => table.delete(key),
                false => table.put(key[..].into(), TablePlace { offset, version }),
            }
        }
        self.keys = self.keys.saturating_sub(before).saturating_add(table.len());
    }
}

impl State {
    /// Where the last record of a key of a table is.
    pub fn table_place(&self, table: TopicId, key: &[u8]) -> Option<(Partition, TablePlace)> {
        let place = self.tables.get(table)?.find(key)?;
        let partitions = self.topics.get(&table)?.partitions.len() as u32;
        let index = partition_for_key(key, partitions.max(1));
        Some((Partition { topic: table, index }, place))
    }

    pub(super) fn create_table(&mut self, name: &str, partitions: u32, config: &TopicConfig) -> Outcome {
        check_table_config(config)?;
        self.create_topic(name, partitions, config, true)
    }

    pub(super) fn check_version(
        &self,
        table: TopicId,
        key: &[u8],
        expected: Option<u64>,
    ) -> Result<(), Refusal> {
        let actual = self.find_table(table)?.find(key).map(|place| place.version);
        match actual == expected || on(Mutant::K2VersionIgnored) {
            true => Ok(()),
            false => Err(Refusal::KeyVersion { table, key: key.to_vec().into(), expected, actual }),
        }
    }

    fn find_table(&self, topic: TopicId) -> Result<&Table, Refusal> {
        self.find_topic(topic)?;
        self.tables.get(topic).map(|table| &**table).ok_or(Refusal::NoTable { topic })
    }

    /// Everything that can refuse what a commit writes to tables.
    pub(super) fn check_table_writes(&self, term: u32, writes: &[TableWrites]) -> Result<(), Refusal> {
        if writes.is_empty() {
            return Ok(());
        }
        let records: u64 = writes.iter().map(|it| u64::from(it.batch.record_count())).sum();
        let mut last = BTreeMap::new();
        for TableWrites { partition, writes, batch } in writes {
            let topic = partition.topic;
            self.find_table(topic)?;
            self.find(*partition)?;
            check_shape(batch)?;
            if batch.producer().is_some() {
                return Err(Refusal::Batch {
                    what: "carries a producer id inside a commit, whose token replaces it",
                });
            }
            if writes.len() as u64 != u64::from(batch.record_count()) {
                return Err(Refusal::Batch {
                    what: "has another number of records than of writes to a table",
                });
            }
            for write in writes {
                self.check_key(*partition, write)?;
                last.insert((topic, &write.key[..]), write.deletes);
            }
            self.check_place(&Arrival { partition: *partition, batch, index: 0, term, txn_seq: 0 }, records)?;
        }
        self.tables.check_keys(&last)
    }

    fn check_key(&self, partition: Partition, write: &TableWrite) -> Result<(), Refusal> {
        let Partition { topic: table, index: sent } = partition;
        let (bytes, max) = (write.key.len() as u64, self.tables.limits.key_bytes_max);
        // A key that was written under a higher limit can still go.
        if bytes > max && !write.deletes {
            return Err(Refusal::TableKeyLength { bytes, max });
        }
        let partitions = self.topics.get(&table).map_or(1, |topic| topic.partitions.len() as u32);
        match partition_for_key(&write.key, partitions.max(1)) {
            right if right == sent => Ok(()),
            right => Err(Refusal::TableKeyPartition { table, key: write.key.clone(), sent, right }),
        }
    }

    /// What was checked before. `first_index` is that of the first batch in the command.
    pub(super) fn apply_table_writes(
        &mut self,
        term: u32,
        writes: &[TableWrites],
        first_index: u32,
    ) -> SmallVec<[Placement; 1]> {
        let (version, mut placements) = (self.lsn, SmallVec::new());
        for (TableWrites { partition, writes, batch }, index) in writes.iter().zip(first_index..) {
            let arrival = Arrival { partition: *partition, batch, index, term, txn_seq: 0 };
            let placement = self.place_batch(&arrival);
            self.tables.write(partition.topic, placement.base_offset, version, writes);
            placements.push(placement);
        }
        placements
    }

    /// The mistake [`Mutant::K1WriteOfRefusedCommit`]: keys are written before the rest is checked.
    pub(super) fn write_refused(&mut self, commit: &Commit) {
        let version = self.lsn;
        for TableWrites { partition, writes, .. } in &commit.table_writes {
            let end = self.partition(*partition).map(|found| found.end);
            end.into_iter().for_each(|end| self.tables.write(partition.topic, end, version, writes));
        }
    }
}

/// What a topic's settings must be for a table.
pub(super) fn check_table_config(config: &TopicConfig) -> Result<(), Refusal> {
    match config.cleanup_policy {
        CleanupPolicy::Compact => Ok(()),
        policy => Err(Refusal::TablePolicy { policy }),
    }
}
