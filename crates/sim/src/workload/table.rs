//! What a run does with tables: makes them, writes to them under conditions, and deletes them.

use bytes::Bytes;
use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::{
    CleanupPolicy, Command, Condition, ConfigChange, TableWrite, TableWrites, TopicConfig,
};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::partitioner::partition_for_key;

use super::Generator;
use crate::model::Model;

/// Of tables: short ones, so few that most are met again, and a longer one.
const TABLE_KEYS: [&[u8]; 6] = [b"", b"a", b"b", b"c", b"d", b"a longer one"];

impl Generator {
    /// Mostly writes to tables; else what makes one, or the limits of all.
    pub(super) fn table(&mut self, model: &Model, partitions: &[Partition]) -> Command {
        let make = if model.tables.is_empty() { 4 } else { 1 };
        if self.random.below(8) < make {
            self.names += self.random.below(2);
            let plain = self.random.chance(1, 12);
            let name =
                if plain { format!("topic-{}", self.names) } else { format!("table-{}", self.names % 3) };
            let cleanup_policy = match self.random.below(16) {
                0 => CleanupPolicy::CompactAndDelete,
                _ => CleanupPolicy::Compact,
            };
            let config = TopicConfig { cleanup_policy, ..self.topic_config() };
            let most = if self.plan.cleans { 1 } else { 3 };
            return Command::CreateTable { name, partitions: 1 + self.random.below(most) as u32, config };
        }
        let tables: Vec<TopicId> = model.tables.keys().copied().collect();
        if !tables.is_empty() && self.random.chance(1, 12) {
            let topic = self.pick(&tables);
            return match self.random.below(3) {
                0 => Command::DeleteTopic { topic },
                _ => Command::CreatePartitions { topic, partitions: 2 + self.random.below(4) as u32 },
            };
        }
        if self.random.chance(1, 8) {
            return Command::Config(ConfigChange::TableLimits {
                keys_max: [3, 6, 1_000_000, 1_000_000][self.random.below(4) as usize],
                key_bytes_max: [1, 1_024, 1_024][self.random.below(3) as usize],
            });
        }
        self.commit(model, partitions)
    }

    pub(super) fn table_writes(&mut self, model: &Model) -> Vec<TableWrites> {
        let tables: Vec<TopicId> = model.tables.keys().copied().collect();
        if tables.is_empty() || self.random.chance(1, 3) {
            return Vec::new();
        }
        let mut all = Vec::new();
        for _ in 0..=self.random.below(2) {
            let table = self.pick(&tables);
            let count = model.topics[&table].partitions.len() as u32;
            let index = self.random.below(u64::from(count)) as u32;
            // Now and then keys of other partitions, too.
            let any = self.random.chance(1, 30);
            let keys: Vec<_> =
                TABLE_KEYS.into_iter().filter(|key| any || partition_for_key(key, count) == index).collect();
            if keys.is_empty() {
                continue;
            }
            let (mut builder, mut writes) = (BatchBuilder::new(0), Vec::new());
            for _ in 0..=self.random.below(4) {
                let key = self.pick(&keys);
                let len = self.value_len();
                let value = (!self.random.chance(1, 4)).then(|| self.bytes(len));
                builder.append(self.time_ms, Some(key), value.as_deref(), &[]);
                writes.push(TableWrite { key: Bytes::from_static(key), deletes: value.is_none() });
            }
            let partition = Partition { topic: table, index };
            all.push(TableWrites { partition, writes, batch: builder.finish(None) });
        }
        all
    }

    /// Half of the time what holds.
    pub(super) fn key_version(&mut self, model: &Model) -> Condition {
        let tables: Vec<TopicId> = model.tables.keys().copied().collect();
        let (table, key) = (self.pick(&tables), self.pick(&TABLE_KEYS));
        let version = model.tables[&table].get(key).map(|written| written.lsn);
        let version = match self.random.below(4) {
            0 => version.map_or(Some(1), |version| Some(version - 1)),
            1 => None,
            _ => version,
        };
        Condition::KeyVersion { table, key: Bytes::from_static(key), version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Expected;
    use crate::workload::tests::{NO_FILES, assert_met, beginning};
    use exactlog_core::reply::Reply;

    #[test]
    fn a_workload_writes_tables_in_all_the_ways_that_there_are() {
        let mut met = std::collections::BTreeMap::new();
        for seed in 0..200 {
            let (mut generator, mut model) = beginning(seed);
            for _ in 0..40 {
                for submission in generator.group(&model, 1, &NO_FILES) {
                    let keys = |model: &Model| model.tables.values().map(|keys| keys.len()).sum::<usize>();
                    let before = keys(&model);
                    let answer = model.apply(1, submission.time_ms, &submission.command);
                    let after = keys(&model);
                    let writes =
                        matches!(&submission.command, Command::Commit(it) if !it.table_writes.is_empty());
                    let what = match answer {
                        Expected::Refused(kind) => kind,
                        Expected::Reply(Reply::Committed(_)) if writes && after > before => "keys come",
                        Expected::Reply(Reply::Committed(_)) if writes && after < before => "keys go",
                        Expected::Reply(Reply::Committed(_)) if writes => "values change",
                        Expected::Reply(Reply::TopicDeleted) if after < before => "a table goes",
                        _ => continue,
                    };
                    *met.entry(what).or_insert(0) += 1;
                }
            }
        }
        let wanted = [
            "keys come",
            "keys go",
            "values change",
            "a table goes",
            "KeyVersion",
            "TablesFull",
            "TableKeyLength",
            "TableKeyPartition",
            "TableAsTopic",
            "TablePolicy",
            "TablePartitions",
        ];
        assert_met(&wanted, &met);
    }
}
