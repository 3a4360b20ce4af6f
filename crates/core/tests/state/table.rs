//! Keyed tables: an index that is exactly what somebody would have who folded the topic, and what is refused.

use crate::common::commands::TABLE;
use crate::common::*;
use bytes::Bytes;
use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::*;
use exactlog_core::ids::{DedupId, Partition, ProducerId, TopicId};
use exactlog_core::partitioner::partition_for_key;
use exactlog_core::reply::{Refusal, Reply};
use exactlog_core::state::{TableLimits, TablePlace};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

const PARTITIONS: u32 = 3;

/// Keys of which some lie in each partition.
const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Puts (a value) and deletions, as one batch for each partition, in the order of the writes.
fn writes(table: TopicId, partitions: u32, of: &[(&str, Option<&str>)]) -> Vec<TableWrites> {
    let in_partition = |index| {
        let of: Vec<_> =
            of.iter().filter(|(key, _)| partition_for_key(key.as_bytes(), partitions) == index).collect();
        let mut builder = BatchBuilder::new(64);
        let mut writes = Vec::new();
        for (key, value) in of {
            builder.append(0, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
            writes.push(TableWrite { key: Bytes::copy_from_slice(key.as_bytes()), deletes: value.is_none() });
        }
        (!writes.is_empty()).then(|| TableWrites {
            partition: part(table, index),
            writes,
            batch: builder.finish(None),
        })
    };
    (0..partitions).filter_map(in_partition).collect()
}

fn version_is(table: TopicId, key: &str, version: Option<u64>) -> Condition {
    Condition::KeyVersion { table, key: Bytes::copy_from_slice(key.as_bytes()), version }
}

/// A log with a table, a topic beside it, and a producer.
struct World {
    log: Log,
    table: TopicId,
    beside: Partition,
    producer: (ProducerId, i16),
    number: u64,
}

impl World {
    fn new(partitions: u32) -> World {
        let mut log = Log::default();
        let table = log.table("table", partitions);
        let beside = log.partition("beside");
        let producer = log.producer(Some("p"));
        World { log, table, beside, producer, number: 0 }
    }

    fn commit(&self, of: &[(&str, Option<&str>)]) -> Commit {
        let partitions = self.log.state.topics[&self.table].partitions.len() as u32;
        let table_writes = writes(self.table, partitions, of);
        Commit { table_writes, ..commit_of(token(self.producer, self.number + 1), &[(self.beside, 1)]) }
    }

    /// Commits it; the lsn.
    fn write(&mut self, of: &[(&str, Option<&str>)]) -> u64 {
        let lsn = self.log.commit(&self.commit(of)).lsn;
        self.number += 1;
        lsn
    }

    fn version(&self, key: &str) -> Option<u64> {
        self.log.state.table_place(self.table, key.as_bytes()).map(|(_, place)| place.version)
    }

    fn keys(&self) -> Vec<&[u8]> {
        let table = self.log.state.tables.get(self.table).expect("the test has made it");
        table.iter().map(|(key, _)| key).collect()
    }
}

#[test]
fn em_1_what_a_commit_writes_to_a_table_is_there_with_its_other_parts() {
    let mut world = World::new(PARTITIONS);
    let commit = world.commit(&[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))]);
    let applied = world.log.apply(&Command::Commit(Box::new(commit.clone())));
    let Reply::Committed(committed) = &applied.reply else { panic!("{:?}", applied.reply) };
    // The batch beside it, and one for each partition that a key is in.
    assert_eq!(applied.placements.len(), 1 + commit.table_writes.len());
    let batches = Command::Commit(Box::new(commit)).batches().len();
    assert!(applied.placements.iter().map(|it| it.index as usize).eq(0..batches));
    assert_eq!(world.keys(), [b"a", b"b"]);
    let (at, place) = world.log.state.table_place(world.table, b"a").unwrap();
    // Of the two writes of "a" the second one counts.
    let end = world.log.end(at);
    assert_eq!(place.version, committed.lsn);
    assert!(place.offset < end && place.offset >= 1, "{place:?} of {end}");
    // A retry gets the first answer, and writes nothing.
    let again = world.commit(&[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))]);
    assert!(world.log.commit(&again).duplicate);
    assert_eq!(world.log.end(at), end);
}

#[test]
fn em_6_a_version_condition_holds_or_refuses_everything_and_names_the_present_version() {
    let mut world = World::new(1);
    let first = world.write(&[("a", Some("1"))]);
    let table = world.table;
    let stale = Commit {
        conditions: vec![version_is(table, "a", Some(first - 1))],
        ..world.commit(&[("a", Some("2")), ("b", Some("2"))])
    };
    let (expected, actual) = (Some(first - 1), Some(first));
    let key = Bytes::from_static(b"a");
    assert_eq!(world.log.commit_refused(&stale), Refusal::KeyVersion { table, key, expected, actual });
    let absent = Commit { conditions: vec![version_is(table, "a", None)], ..stale.clone() };
    let refusal = world.log.commit_refused(&absent);
    assert_eq!(refusal.to_string(), format!("key \"a\" of table {table} has version {first}, not no value"));
    let missing = Commit { conditions: vec![version_is(table, "b", Some(first))], ..stale.clone() };
    assert!(matches!(world.log.commit_refused(&missing), Refusal::KeyVersion { actual: None, .. }));
    let right = vec![version_is(table, "a", Some(first)), version_is(table, "b", None)];
    let right = Commit { conditions: right, ..stale };
    let second = world.log.commit(&right).lsn;
    assert_eq!((world.version("a"), world.version("b")), (Some(second), Some(second)));
}

#[test]
fn em_6_a_key_that_was_deleted_never_gets_an_earlier_version_again() {
    let mut world = World::new(1);
    let first = world.write(&[("a", Some("1"))]);
    world.write(&[("a", None)]);
    assert_eq!(world.version("a"), None);
    world.log.restart();
    let third = world.write(&[("a", Some("1"))]);
    assert!(third > first);
    let stale = Commit {
        conditions: vec![version_is(world.table, "a", Some(first))],
        ..world.commit(&[("a", Some("2"))])
    };
    assert!(matches!(world.log.commit_refused(&stale), Refusal::KeyVersion { .. }));
}

#[test]
fn a_refused_commit_writes_nothing_to_tables_whatever_it_is_refused_for() {
    let mut world = World::new(PARTITIONS);
    world.write(&[("a", Some("1"))]);
    let good = world.commit(&[("a", None), ("b", Some("1"))]);
    let table = world.table;
    let swapped = |index: u32| {
        let mut writes = good.table_writes.clone();
        writes[0].partition.index = index;
        writes
    };
    let right = good.table_writes[0].partition.index;
    let with = |table_writes| Commit { table_writes, ..good.clone() };
    // The first batch is right each time: nothing of it is left.
    let then = |last: TableWrites| with(vec![good.table_writes[0].clone(), last]);
    let first = &good.table_writes[0];
    let one = |key: &[u8], deletes| TableWrite { key: Bytes::copy_from_slice(key), deletes };
    let of = |key: Vec<u8>| {
        let partition = part(table, partition_for_key(&key, PARTITIONS));
        TableWrites { partition, writes: vec![one(&key, false)], batch: records(1) }
    };
    let cases = [
        (with(swapped((right + 1) % PARTITIONS)), "TableKeyPartition"),
        (with(swapped(PARTITIONS)), "UnknownPartition"),
        (then(TableWrites { partition: world.beside, ..first.clone() }), "NoTable"),
        (then(TableWrites { partition: part(TopicId(9), 0), ..first.clone() }), "UnknownTopic"),
        (then(TableWrites { writes: Vec::new(), ..first.clone() }), "Batch"),
        (then(TableWrites { batch: produced(world.producer, 0, 1), ..first.clone() }), "Batch"),
        (then(of(vec![b'k'; 1_025])), "TableKeyLength"),
        (Commit { conditions: vec![version_is(table, "a", None)], ..good.clone() }, "KeyVersion"),
        (Commit { conditions: vec![version_is(world.beside.topic, "a", None)], ..good.clone() }, "NoTable"),
        (Commit { batches: vec![(part(table, 0), records(1))], ..good.clone() }, "TableAsTopic"),
    ];
    for (commit, kind) in cases {
        let refusal = world.log.commit_refused(&commit);
        assert!(format!("{refusal:?}").starts_with(kind), "{refusal:?} instead of {kind}");
        assert!(refusal.kafka_code() > 0 && !refusal.to_string().is_empty());
    }
    world.log.commit(&with(vec![of(vec![b'k'; 1_024])]));
    assert_eq!(world.log.state.tables.keys(), 2);
}

#[test]
fn em_9_an_older_epoch_writes_to_no_table() {
    let mut world = World::new(1);
    world.write(&[("a", Some("1"))]);
    let stale = world.commit(&[("a", Some("2"))]);
    world.log.producer(Some("p"));
    assert!(matches!(world.log.commit_refused(&stale), Refusal::CommitFenced { current: 1, .. }));
}

#[test]
fn a_table_is_written_by_table_writes_alone() {
    let mut world = World::new(1);
    let (table, at) = (world.table, part(world.table, 0));
    let refused = |log: &mut Log, command: Command| match log.refused(&command) {
        Refusal::TableAsTopic { topic } => assert_eq!(topic, table),
        other => panic!("{command:?}: {other:?}"),
    };
    refused(&mut world.log, append(at, records(1)));
    refused(&mut world.log, append(at, produced(world.producer, 0, 1)));
    let timer = NewTimer { target: at, due_ms: 5, batch: records(1) };
    refused(&mut world.log, TimerCommand::Set { sender: None, timer: timer.clone() }.into());
    let effects = TimerEffects { set: vec![timer], cancel: Vec::new() };
    let commit = Commit { timers: effects, ..world.commit(&[]) };
    refused(&mut world.log, Command::Commit(Box::new(commit)));
    let ids = vec![DedupId([1; 16])];
    let (sender, batch) = (world.producer, records(1));
    let identified = Dedup::Append { sender, partition: at, config_version: 0, ids, batch };
    refused(&mut world.log, identified.into());
    let transactor = world.log.init("x");
    let batch = transactional(transactor, 0, 1);
    refused(&mut world.log, append_transactional("x", Protocol::V2, at, batch).into());
    assert_eq!(world.log.end(at), 0);
}

#[test]
fn a_table_stays_compacted_keeps_its_partitions_and_is_no_topic_of_the_same_name() {
    let mut world = World::new(2);
    let (table, beside) = (world.table, world.beside.topic);
    let compacted = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
    let both = TopicConfig { cleanup_policy: CleanupPolicy::CompactAndDelete, ..compacted.clone() };
    let create = |name: &str, config: &TopicConfig| Command::CreateTable {
        name: name.to_string(),
        partitions: 2,
        config: config.clone(),
    };
    let refused = |log: &mut Log, command: Command| log.refused(&command).to_string();
    let policy = |policy: &str| {
        format!(
            "a table's cleanup.policy is compact, and can't be {policy}: of each key the last value has to stay"
        )
    };
    assert_eq!(refused(&mut world.log, create("other", &both)), policy("compact,delete"));
    assert_eq!(refused(&mut world.log, create("other", &TopicConfig::default())), policy("delete"));
    assert_eq!(
        refused(&mut world.log, Command::AlterTopic { topic: table, config: both }),
        policy("compact,delete")
    );
    assert_eq!(
        refused(&mut world.log, Command::CreatePartitions { topic: table, partitions: 3 }),
        "table 1 has 2 partitions, and can't get 3: its keys would move"
    );
    let topic =
        |name: &str| Command::CreateTopic { name: name.into(), partitions: 2, config: compacted.clone() };
    let text = refused(&mut world.log, topic("table"));
    assert!(text.ends_with("it is a table, not a plain topic"), "{text}");
    let text = refused(&mut world.log, create("beside", &compacted));
    assert!(text.ends_with("it is a plain topic, not a table"), "{text}");
    assert!(matches!(
        world.log.refused(&Command::Trim { partition: part(table, 0), start: 0 }),
        Refusal::TrimCompacted { .. }
    ));
    let existed = Reply::Topic { topic: table, existed: true };
    assert_eq!(world.log.reply(&create("table", &compacted)), existed);
    let grown = TopicConfig { segment_bytes: 4096, ..compacted.clone() };
    let altered = world.log.reply(&Command::AlterTopic { topic: table, config: grown });
    assert_eq!(altered, Reply::TopicAltered { config_version: 1 });
    let same = Command::CreatePartitions { topic: table, partitions: 2 };
    assert_eq!(world.log.reply(&same), Reply::Partitions { partitions: 2, added: 0 });
    assert!(world.log.state.tables.get(beside).is_none());
}

#[test]
fn keys_are_counted_over_all_tables_and_what_needs_no_room_goes_on() {
    let mut world = World::new(1);
    let other = world.log.table("other", 1);
    world.write(&[("a", Some("1")), ("b", Some("1"))]);
    let limits =
        |keys_max, key_bytes_max| Command::Config(ConfigChange::TableLimits { keys_max, key_bytes_max });
    assert_eq!(world.log.reply(&limits(3, 1)), Reply::Configured);
    let to_other = |world: &World, of: &[(&str, Option<&str>)]| Commit {
        table_writes: writes(other, 1, of),
        ..world.commit(&[])
    };
    let two = to_other(&world, &[("c", Some("1")), ("d", Some("1"))]);
    assert_eq!(world.log.commit_refused(&two), Refusal::TablesFull { keys: 2, more: 2, max: 3 });
    world.log.commit(&to_other(&world, &[("c", Some("1"))]));
    world.number += 1;
    world.log.restart();
    // Of a key that comes and goes, or is there, none is left over.
    world.write(&[("d", Some("1")), ("a", Some("2")), ("d", None)]);
    world.write(&[("b", None), ("d", Some("1"))]);
    world.log.reply(&limits(0, 1));
    world.write(&[("a", Some("3"))]);
    assert_eq!(world.log.state.tables.keys(), 3);
    world.log.reply(&Command::DeleteTopic { topic: other });
    assert_eq!((world.log.state.tables.keys(), world.log.state.tables.len()), (2, 1));
    for (keys_max, key_bytes_max) in [(100_000_001, 1), (1, 0), (1, 65_537)] {
        let refusal = world.log.refused(&limits(keys_max, key_bytes_max));
        assert!(matches!(refusal, Refusal::SettingOutOfBounds { .. }), "{refusal:?}");
    }
    assert_eq!(world.log.state.tables.limits(), TableLimits { keys_max: 0, key_bytes_max: 1 });
}

#[test]
fn a_key_over_a_limit_that_was_lowered_can_still_go() {
    let mut world = World::new(1);
    world.write(&[("long", Some("1"))]);
    world.log.reply(&Command::Config(ConfigChange::TableLimits { keys_max: 9, key_bytes_max: 3 }));
    let again = world.commit(&[("long", Some("2"))]);
    assert_eq!(world.log.commit_refused(&again), Refusal::TableKeyLength { bytes: 4, max: 3 });
    world.write(&[("long", None)]);
    assert!(world.keys().is_empty());
}

#[test]
fn a_deleted_table_is_gone_and_its_name_is_free() {
    let mut world = World::new(1);
    world.write(&[("a", Some("1"))]);
    let old = world.table;
    world.log.reply(&Command::DeleteTopic { topic: old });
    let refused = world.log.commit_refused(&Commit {
        table_writes: writes(old, 1, &[("a", Some("2"))]),
        ..commit_of(token(world.producer, 2), &[])
    });
    assert_eq!(refused, Refusal::UnknownTopic { topic: old });
    let new = world.log.table("table", 1);
    assert!(new > old && world.log.state.table_place(new, b"a").is_none());
}

#[test]
fn parts_of_a_table_follow_from_its_content_and_are_taken_back_in_order_only() {
    let mut world = World::new(1);
    let names: Vec<String> = (0..2_500).map(|number| format!("key-{number:05}")).collect();
    let of: Vec<_> = names.iter().map(|name| (name.as_str(), Some("v"))).collect();
    world.write(&of);
    for gone in of.chunks(7) {
        world.write(&[(gone[0].0, None)]);
    }
    let tables = world.log.state.tables.clone();
    // A state that came to the same keys on another way has the same parts.
    let read = round_trip(&world.log.state).tables;
    assert_eq!(read, tables);
    assert!(read.pieces().eq(tables.pieces()));
    let kept = of.iter().enumerate().filter(|(nth, _)| nth % 7 != 0);
    let key_bytes: u64 = kept.clone().map(|(_, (key, _))| key.len() as u64).sum();
    assert_eq!(tables.clone().take_keys(), (kept.count() as u64, key_bytes));
    let pieces: Vec<_> = tables.pieces().collect();
    assert_eq!(pieces.len(), 1 + 3, "a head, and 1,024 keys in a part");
    let restore = |order: &[usize]| {
        let mut read = exactlog_core::state::Tables::default();
        order.iter().try_for_each(|nth| read.restore(pieces[*nth].clone())).map(|()| read)
    };
    assert_eq!(restore(&[0, 1, 2, 3]).unwrap(), tables);
    for wrong in [&[1, 0][..], &[0, 0], &[0, 2, 1], &[0, 1, 1], &[0, 1, 3, 2]] {
        assert!(restore(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(
        exactlog_core::state::Tables::default().pieces().count(),
        0,
        "nothing of a log without tables"
    );
}

#[test]
fn keys_come_in_order_from_any_one_on() {
    let mut world = World::new(1);
    let names: Vec<String> = (0..1_500).map(|number| format!("{:04}", number * 7 % 1_500)).collect();
    world.write(&names.iter().map(|name| (name.as_str(), Some("v"))).collect::<Vec<_>>());
    let table = world.log.state.tables.get(world.table).unwrap();
    let from = |from| table.from(from).map(|(key, _)| key.to_vec()).collect::<Vec<_>>();
    let sorted: Vec<Vec<u8>> = (0..1_500).map(|number| format!("{number:04}").into_bytes()).collect();
    assert_eq!(from(Bound::Unbounded), sorted);
    assert_eq!(from(Bound::Included(b"0700")), sorted[700..]);
    assert_eq!(from(Bound::Excluded(b"0700")), sorted[701..]);
    assert_eq!(from(Bound::Included(b"0700x")), sorted[701..]);
    assert!(from(Bound::Excluded(b"1499")).is_empty());
}

/// A step of the comparison below.
#[derive(Clone, Debug)]
enum Step {
    /// Writes, and a condition on a key: a version so much below the present one; `None`: that it isn't there.
    Commit {
        writes: Vec<(usize, Option<u8>)>,
        condition: Option<(usize, Option<u64>)>,
    },
    /// The last commit is sent once more.
    Again,
    Limit {
        keys_max: u64,
    },
    Restart,
    /// The table is deleted, and made anew.
    Anew,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..KEYS.len(), proptest::option::weighted(0.7, any::<u8>()));
    let condition = (0..KEYS.len(), proptest::option::weighted(0.8, 0..2u64));
    let step = prop_oneof![
        12 => (proptest::collection::vec(write, 0..5), proptest::option::weighted(0.4, condition))
            .prop_map(|(writes, condition)| Step::Commit { writes, condition }),
        2 => Just(Step::Again),
        1 => (0..9u64).prop_map(|keys_max| Step::Limit { keys_max }),
        1 => Just(Step::Restart),
        1 => Just(Step::Anew),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn em_9_a_table_is_the_fold_of_what_was_committed_over_restarts(steps in steps()) {
        let mut world = World::new(PARTITIONS);
        // Key to value and version; and the records of each partition in order, as a reader gets them.
        let mut model: BTreeMap<String, (String, u64)> = BTreeMap::new();
        let mut stored: BTreeMap<Partition, Vec<(String, Option<String>)>> = BTreeMap::new();
        let (mut keys_max, mut last) = (1_000_000, None);
        for step in steps {
            match step {
                Step::Commit { writes, condition } => {
                    let texts: Vec<(&str, Option<String>)> =
                        writes.iter().map(|(key, value)| (KEYS[*key], value.map(|it| it.to_string()))).collect();
                    let of: Vec<_> = texts.iter().map(|(key, value)| (*key, value.as_deref())).collect();
                    let (mut after, lsn) = (model.clone(), world.log.state.lsn + 1);
                    for (key, value) in &texts {
                        match value {
                            Some(value) => drop(after.insert(key.to_string(), (value.clone(), lsn))),
                            None => drop(after.remove(*key)),
                        }
                    }
                    let present = |key: usize| model.get(KEYS[key]).map(|(_, version)| *version);
                    let holds = condition.is_none_or(|(key, back)| match (back, present(key)) {
                        (Some(back), Some(_)) => back == 0,
                        (None, None) => true,
                        _ => false,
                    });
                    let fits = after.len() <= model.len() || after.len() as u64 <= keys_max;
                    let conditions = condition.map(|(key, back)| {
                        version_is(world.table, KEYS[key], back.map(|back| present(key).unwrap_or(1) - back.min(1)))
                    });
                    let commit = Commit { conditions: conditions.into_iter().collect(), ..world.commit(&of) };
                    match world.log.reply(&Command::Commit(Box::new(commit.clone()))) {
                        Reply::Committed(_) => {
                            prop_assert!(holds && fits);
                            world.number += 1;
                            model = after;
                            for (key, value) in texts {
                                let at = part(world.table, partition_for_key(key.as_bytes(), PARTITIONS));
                                stored.entry(at).or_default().push((key.to_string(), value));
                            }
                            last = Some(commit);
                        }
                        Reply::Refused(Refusal::KeyVersion { .. }) => prop_assert!(!holds),
                        Reply::Refused(Refusal::TablesFull { .. }) => prop_assert!(holds && !fits),
                        other => panic!("{other:?}"),
                    }
                }
                Step::Again => {
                    if let Some(commit) = &last {
                        prop_assert!(world.log.commit(commit).duplicate);
                    }
                }
                Step::Limit { keys_max: max } => {
                    keys_max = max;
                    world.log.reply(&Command::Config(ConfigChange::TableLimits { keys_max, key_bytes_max: 9 }));
                }
                Step::Restart => world.log.restart(),
                Step::Anew => {
                    world.log.reply(&Command::DeleteTopic { topic: world.table });
                    world.table = world.log.table("table", PARTITIONS);
                    (model, stored) = (BTreeMap::new(), BTreeMap::new());
                }
            }
            let state = &world.log.state;
            let table = state.tables.get(world.table).unwrap();
            prop_assert_eq!(table.len(), model.len() as u64);
            prop_assert_eq!(state.tables.keys(), model.len() as u64);
            prop_assert_eq!(table.key_bytes(), model.keys().map(|key| key.len() as u64).sum::<u64>());
            for ((key, (value, version)), (found, _)) in model.iter().zip(table.iter()) {
                prop_assert_eq!(key.as_bytes(), found);
                let (at, TablePlace { offset, version: kept }) = state.table_place(world.table, found).unwrap();
                prop_assert_eq!(kept, *version);
                prop_assert_eq!(&stored[&at][offset as usize], &(key.clone(), Some(value.clone())));
            }
        }
    }
}

#[test]
fn the_table_of_the_small_world_is_one() {
    assert!(commands::small_world().state.tables.get(TABLE).is_some());
}
