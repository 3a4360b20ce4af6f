//! Arbitrary commands over a small world, so that most of them meet something that exists.
//!
//! They are not sensible: that is the point. A few values of every kind lie at the edges of its type.

use super::*;
use exactlog_core::batch::TimestampType;
use exactlog_core::command::{ConfigChange, KEPT_BYTES_MAX, KeptSettings};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// One command with what the journal adds: term and time.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) term: u32,
    pub(crate) time_ms: i64,
    pub(crate) command: Command,
}

impl Log {
    pub(crate) fn step(&mut self, step: &Step) -> Applied {
        (self.term, self.time_ms) = (step.term, step.time_ms);
        self.apply(&step.command)
    }
}

/// The world in which [`command`] has a chance: topics 1 to 3, a table, producers 1 to 4, a group with two members, two
/// transactional ids.
pub(crate) fn small_world() -> Log {
    let mut log = Log::default();
    log.reply(&Command::Open);
    for name in ["a", "b", "c"] {
        log.topic(name, 3);
    }
    for name in [None, Some("p"), Some("q"), None] {
        log.producer(name);
    }
    log.join("g", &[TopicId(1), TopicId(2)]);
    log.join("g", &[TopicId(1)]);
    log.init("x");
    log.init("y");
    assert_eq!(log.table("table", 1), TABLE);
    log
}

/// The table of the small world.
pub(crate) const TABLE: TopicId = TopicId(4);

pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let term = prop_oneof![8 => 0..4u32, 1 => select(vec![i32::MAX as u32, u32::MAX])];
    const DAY_MS: i64 = 86_400_000;
    let time = prop_oneof![8 => 0..90 * DAY_MS, 1 => select(vec![i64::MIN, -1, i64::MAX - 1, i64::MAX])];
    vec((term, time, command()).prop_map(|(term, time_ms, command)| Step { term, time_ms, command }), 1..most)
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => Just(Command::Open),
        2 => (name(), select(vec![0, 1, 3, 7, u32::MAX]), config())
            .prop_map(|(name, partitions, config)| Command::CreateTopic { name, partitions, config }),
        1 => (topic(), config()).prop_map(|(topic, config)| Command::AlterTopic { topic, config }),
        1 => topic().prop_map(|topic| Command::DeleteTopic { topic }),
        3 => option::of(name()).prop_map(|name| Command::InitProducer { name }),
        8 => (partition(), 0..2u32, option::weighted(0.2, small_u64()), any_batch()).prop_map(
            |(partition, config_version, expected_end, batch)| {
                Command::Append { partition, config_version, expected_end, batch }
            }
        ),
        8 => commit().prop_map(|commit| Command::Commit(Box::new(commit))),
        8 => dedup().prop_map(Command::from),
        4 => group_offsets().prop_map(|it| Command::CommitOffsets {
            group: it.group,
            member: it.member,
            offsets: it.offsets,
        }),
        4 => (name(), vec(topic(), 0..4)).prop_map(|(group, topics)| Command::JoinGroup { group, topics }),
        2 => (name(), member(), any::<bool>())
            .prop_map(|(group, member, fenced)| Command::LeaveGroup { group, member, fenced }),
        3 => (name(), member(), vec(partition(), 0..5)).prop_map(|(group, member, partitions)| {
            Command::ReleasePartitions { group, member, partitions }
        }),
        2 => (partition(), small_u64()).prop_map(|(partition, start)| Command::Trim { partition, start }),
        3 => Just(Command::Tick),
        1 => config_change().prop_map(Command::Config),
        2 => (topic(), prop_oneof![8 => 0..5u32, 1 => select(vec![100_001, u32::MAX])])
            .prop_map(|(topic, partitions)| Command::CreatePartitions { topic, partitions }),
        16 => transactional().prop_map(Command::from),
        8 => timer_command().prop_map(Command::from),
        2 => (name(), option::weighted(0.7, vec(partition(), 0..4)))
            .prop_map(|(group, partitions)| Command::DeleteOffsets { group, partitions }),
        2 => (name(), select(vec![0, 1, 3]), config(), any::<bool>()).prop_map(
            |(name, partitions, config, compacted)| {
                let policy = if compacted { CleanupPolicy::Compact } else { config.cleanup_policy };
                let config = TopicConfig { cleanup_policy: policy, ..config };
                Command::CreateTable { name, partitions, config }
            }
        ),
    ]
}

/// Most payloads are alike, so that one timer is fired with what another was set with.
fn timer_command() -> impl Strategy<Value = TimerCommand> {
    let payload = || prop_oneof![8 => (1..3u32).prop_map(records), 1 => any_batch()];
    let sender = option::of(((1..5i64).prop_map(ProducerId), epoch()));
    prop_oneof![
        4 => (sender, new_timer()).prop_map(|(sender, timer)| TimerCommand::Set { sender, timer }),
        1 => timer().prop_map(|timer| TimerCommand::Cancel { timer }),
        4 => (timer(), payload()).prop_map(|(timer, batch)| TimerCommand::Fire { timer, batch }),
        1 => vec((timer(), payload()), 0..4).prop_map(|payloads| TimerCommand::Carry { payloads }),
    ]
}

fn new_timer() -> impl Strategy<Value = NewTimer> {
    let due = prop_oneof![8 => 0..90 * 86_400_000i64, 1 => select(vec![i64::MIN, -1, i64::MAX])];
    let payload = prop_oneof![8 => (1..3u32).prop_map(records), 1 => any_batch()];
    (partition(), due, payload).prop_map(|(target, due_ms, batch)| NewTimer { target, due_ms, batch })
}

fn timer() -> impl Strategy<Value = TimerId> {
    prop_oneof![12 => 1..12u64, 1 => select(vec![0, u64::MAX])].prop_map(TimerId)
}

fn transactional() -> impl Strategy<Value = Transactional> {
    let current = option::of((transactional_producer(), epoch()));
    let timeout = prop_oneof![8 => Just(60_000u32), 1 => select(vec![0, 1, u32::MAX])];
    let member = option::of((member(), small_u64()));
    prop_oneof![
        2 => (transactional_id(), timeout, current, any::<bool>()).prop_map(
            |(transactional_id, timeout_ms, current, newer_codes)| {
                Transactional::Init { transactional_id, timeout_ms, current, newer_codes }
            }
        ),
        3 => (transaction_sender(), vec(partition(), 0..4))
            .prop_map(|(sender, partitions)| Transactional::AddPartitions { sender, partitions }),
        2 => (transaction_sender(), name())
            .prop_map(|(sender, group)| Transactional::AddOffsets { sender, group }),
        8 => (transaction_sender(), partition(), 0..2u32, sequence(), 1..4u32, any_batch(), 0..8u32).prop_map(
            |(sender, partition, config_version, base_sequence, count, any, which)| {
                let TransactionSender { transactional_id, protocol, newer_codes, .. } = sender;
                let id = (sender.producer, sender.producer_epoch);
                let batch = if which == 0 { any } else { super::transactional(id, base_sequence, count) };
                Transactional::Append { transactional_id, protocol, newer_codes, partition, config_version, batch }
            }
        ),
        3 => (transaction_sender(), group_offsets(), member).prop_map(|(sender, it, member)| {
            Transactional::CommitOffsets { sender, group: it.group, member, offsets: it.offsets }
        }),
        4 => (transaction_sender(), any::<bool>())
            .prop_map(|(sender, commit)| Transactional::End { sender, commit }),
    ]
}

fn transaction_sender() -> impl Strategy<Value = TransactionSender> {
    let protocol = select(vec![Protocol::V1, Protocol::V2]);
    let connection = prop_oneof![8 => 0..4u64, 1 => Just(u64::MAX)];
    (transactional_id(), transactional_producer(), epoch(), protocol, any::<bool>(), connection).prop_map(
        |(transactional_id, producer, producer_epoch, protocol, newer_codes, connection)| TransactionSender {
            transactional_id,
            producer,
            producer_epoch,
            protocol,
            newer_codes,
            connection,
        },
    )
}

fn transactional_id() -> impl Strategy<Value = String> {
    select(vec!["x", "x", "x", "y", "", "any text ✓"]).prop_map(str::to_string)
}

/// The transactional id `x` of the small world has producer 5, and `y` producer 6.
fn transactional_producer() -> impl Strategy<Value = ProducerId> {
    prop_oneof![8 => Just(5i64), 4 => Just(6), 1 => 1..8i64, 1 => select(vec![-1, i64::MAX])]
        .prop_map(ProducerId)
}

fn commit() -> impl Strategy<Value = Commit> {
    let token = (1..5i64, epoch(), prop_oneof![8 => 0..6u64, 1 => Just(u64::MAX)]).prop_map(
        |(producer, producer_epoch, number)| CommitToken {
            producer: ProducerId(producer),
            producer_epoch,
            number,
        },
    );
    let cursor = option::weighted(0.3, select(vec![0usize, 3, 256, 257]))
        .prop_map(|len| len.map(|len| Bytes::from(vec![7; len])));
    let plain = prop_oneof![6 => (1..4u32).prop_map(records), 1 => any_batch()];
    let batches = vec((partition(), plain), 0..4);
    let conditions = vec(condition(), 0..2);
    let marks = prop_oneof![3 => Just(Vec::new()), 1 => vec(mark(), 1..4)];
    let timers = prop_oneof![
        2 => Just(TimerEffects::default()),
        1 => (vec(new_timer(), 0..3), vec(timer(), 0..2)).prop_map(|(set, cancel)| TimerEffects { set, cancel }),
    ];
    let tables = prop_oneof![2 => Just(Vec::new()), 1 => vec(table_writes(), 1..3)];
    (token, cursor, batches, vec(group_offsets(), 0..2), conditions, marks, timers, tables).prop_map(
        |(token, cursor, batches, offsets, conditions, marks, timers, table_writes)| Commit {
            token,
            cursor,
            batches,
            offsets,
            conditions,
            marks,
            timers,
            table_writes,
        },
    )
}

/// Mostly to the table of the small world, which has one partition; sometimes with other records than writes.
fn table_writes() -> impl Strategy<Value = TableWrites> {
    let write = (table_key(), any::<bool>()).prop_map(|(key, deletes)| TableWrite { key, deletes });
    let place = prop_oneof![6 => Just(part(TABLE, 0)), 1 => partition()];
    let batch = option::weighted(0.1, any_batch());
    (place, vec(write, 0..4), batch).prop_map(|(partition, writes, batch)| {
        let batch = batch.unwrap_or_else(|| records(writes.len().max(1) as u32));
        TableWrites { partition, writes, batch }
    })
}

fn table_key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => select(vec!["", "a", "b", "c"]).prop_map(|key| Bytes::from_static(key.as_bytes())),
        1 => select(vec![1_024, 1_025, 65_537]).prop_map(|len| Bytes::from(vec![b'k'; len])),
    ]
}

fn mark() -> impl Strategy<Value = Mark> {
    prop_oneof![
        1 => (dedup_id(), select(vec![0, 1, 2, u32::MAX]), select(vec![0, 1, 2, u32::MAX]))
            .prop_map(|(id, batch, record)| Mark::Event { id, batch, record }),
        2 => (name(), dedup_id(), option::weighted(0.3, small_lsn()))
            .prop_map(|(scope, id, reservation)| Mark::Named { scope: scope.into(), id, reservation }),
    ]
}

/// A request about one of a few ids.
fn dedup() -> impl Strategy<Value = Dedup> {
    let lease = prop_oneof![8 => 1..1000u64, 1 => Just(0), 1 => Just(u64::MAX)];
    prop_oneof![
        4 => ((1..5i64, epoch()), partition(), 0..2u32, identified()).prop_map(
            |((producer, epoch), partition, config_version, (ids, batch))| {
                let sender = (ProducerId(producer), epoch);
                Dedup::Append { sender, partition, config_version, ids, batch }
            }
        ),
        2 => (name(), dedup_id(), lease)
            .prop_map(|(scope, id, lease_ms)| Dedup::Reserve { scope, id, lease_ms }),
        2 => (name(), dedup_id(), small_lsn())
            .prop_map(|(scope, id, reservation)| Dedup::Finish { scope, id, reservation }),
        1 => (name(), dedup_id(), small_lsn())
            .prop_map(|(scope, id, reservation)| Dedup::Release { scope, id, reservation }),
        1 => run_ready().prop_map(Dedup::RunReady),
        1 => (dedup_scope(), dedup_id()).prop_map(|(scope, id)| Dedup::Forget { scope, id }),
    ]
}

fn dedup_scope() -> impl Strategy<Value = DedupScope> {
    prop_oneof![
        partition().prop_map(|partition| DedupScope::Topic(partition.topic)),
        name().prop_map(DedupScope::Named),
    ]
}

/// A run that hardly any state would take.
fn run_ready() -> impl Strategy<Value = RunReady> {
    let replaces = vec(0..4u64, 0..3);
    (any::<i64>(), 0..4u64, 0..4u64, small_lsn(), any::<u64>(), replaces).prop_map(
        |(end_ms, run, entries, up_to, digest, replaces)| RunReady {
            end_ms,
            run,
            entries,
            up_to,
            digest,
            replaces,
        },
    )
}

/// Ids and the records that they are of; sometimes they don't belong together.
fn identified() -> impl Strategy<Value = (Vec<DedupId>, Batch)> {
    prop_oneof![
        6 => vec(dedup_id(), 1..4).prop_map(|ids| {
            let batch = records(ids.len() as u32);
            (ids, batch)
        }),
        1 => (vec(dedup_id(), 0..4), any_batch()),
    ]
}

fn dedup_id() -> impl Strategy<Value = DedupId> {
    (0..8u8).prop_map(|number| DedupId([number; 16]))
}

fn small_lsn() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1..60u64, 1 => select(vec![0, u64::MAX])]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        (partition(), small_u64()).prop_map(|(partition, offset)| Condition::EndOffset { partition, offset }),
        (name(), partition(), option::of(small_u64()))
            .prop_map(|(group, partition, offset)| Condition::GroupOffset { group, partition, offset }),
        (prop_oneof![4 => Just(TABLE), 1 => topic()], table_key(), option::of(small_lsn()))
            .prop_map(|(table, key, version)| Condition::KeyVersion { table, key, version }),
    ]
}

fn group_offsets() -> impl Strategy<Value = GroupOffsets> {
    let position = (partition(), small_u64(), any::<bool>(), metadata())
        .prop_map(|(partition, offset, reset, metadata)| OffsetCommit { partition, offset, reset, metadata });
    (name(), option::of(member()), vec(position, 0..4)).prop_map(|(group, member, offsets)| GroupOffsets {
        group,
        member,
        offsets,
    })
}

fn metadata() -> impl Strategy<Value = OffsetMetadata> {
    let long = |bytes| Just("m".repeat(bytes));
    let short = Just("at 5 ü".to_string());
    let text = prop_oneof![8 => Just(String::new()), 3 => short, 1 => long(4_096), 1 => long(4_097)];
    text.prop_map(|text| OffsetMetadata::from(text.as_str()))
}

pub(crate) fn any_batch() -> impl Strategy<Value = Batch> {
    let stamp = option::weighted(0.8, (prop_oneof![8 => 1..5i64, 1 => Just(i64::MAX)], epoch(), sequence()))
        .prop_map(|stamp| {
            stamp.map(|(id, epoch, base_sequence)| ProducerStamp { id: ProducerId(id), epoch, base_sequence })
        });
    let count = prop_oneof![8 => 1..4u32, 1 => select(vec![0, 1 << 30, (1 << 30) + 1, i32::MAX as u32])];
    (count, stamp, prop_oneof![8 => Just(0u16), 1 => select(vec![TRANSACTIONAL, CONTROL])]).prop_map(
        |(count, stamp, bits)| {
            if bits == 0 && (1..4).contains(&count) {
                return built(count, 0, stamp);
            }
            let count = count.max(1);
            changed(&compressed(count, stamp), |header| {
                header[ATTRIBUTES_AT..][..2].copy_from_slice(&(GZIP | bits).to_be_bytes());
            })
        },
    )
}

fn config_change() -> impl Strategy<Value = ConfigChange> {
    let time = || prop_oneof![4 => 1..100_000_000u64, 1 => Just(0), 1 => Just(u64::MAX)];
    prop_oneof![
        any::<i64>().prop_map(|time_ms| ConfigChange::AcceptTime { time_ms }),
        select(vec![0, 1, 2, u32::MAX]).prop_map(|level| ConfigChange::SemanticsLevel { level }),
        any::<[u8; 16]>().prop_map(|key| ConfigChange::DedupKey { key }),
        (time(), prop_oneof![4 => 1..8u64, 1 => Just(0), 1 => Just(u64::MAX)], any::<bool>()).prop_map(
            |(ttl_ms, entries_max, shorten)| {
                let at_cap = if shorten { AtCap::Shorten } else { AtCap::Refuse };
                ConfigChange::DedupLimits { ttl_ms, entries_max, at_cap }
            }
        ),
        (any::<u32>(), time()).prop_map(|(timeout_max_ms, id_expiration_ms)| {
            ConfigChange::TransactionLimits { timeout_max_ms, id_expiration_ms }
        }),
        (select(vec![0, 3, 1_000_000, u64::MAX]), time())
            .prop_map(|(count_max, delay_max_ms)| { ConfigChange::TimerLimits { count_max, delay_max_ms } }),
        time().prop_map(|retention_ms| ConfigChange::OffsetRetention { retention_ms }),
        (select(vec![0, 2, 1_000_000, u64::MAX]), select(vec![0, 1, 1_024, u64::MAX]))
            .prop_map(|(keys_max, key_bytes_max)| ConfigChange::TableLimits { keys_max, key_bytes_max }),
        (time(), time())
            .prop_map(|(idle_ms, tombstone_ms)| ConfigChange::ProducerExpiration { idle_ms, tombstone_ms }),
        kept().prop_map(ConfigChange::KeptSettings),
    ]
}

/// Too many now and then, and too long ones.
fn kept() -> impl Strategy<Value = KeptSettings> {
    let text = || prop_oneof![8 => "[a-z.]{0,9}", 1 => Just("x".repeat(KEPT_BYTES_MAX + 1))];
    prop_oneof![8 => vec((text(), text()), 0..4), 1 => vec(("[a-z]{4}", text()), 60..70)]
        .prop_map(|settings| settings.into_iter().collect())
}

fn config() -> impl Strategy<Value = TopicConfig> {
    let sizes =
        (select(vec![0, 1024, 1_048_588]), select(vec![4096, 1 << 27]), select(vec![0, 1, 604_800_000]));
    let policies = vec![CleanupPolicy::Delete, CleanupPolicy::Compact, CleanupPolicy::CompactAndDelete];
    let times = vec![TimestampType::CreateTime, TimestampType::CreateTime, TimestampType::LogAppendTime];
    let limit = || option::weighted(0.2, small_u64());
    let lags = (small_u64(), option::weighted(0.2, small_u64()), select(vec![0, 500, 1000, 1001]));
    let plain = prop_oneof![2 => Just(true), 1 => Just(false)];
    let kept = option::weighted(0.1, kept()).prop_map(Option::unwrap_or_default);
    (sizes, select(policies), select(times), [limit(), limit(), limit(), limit()], lags, plain, kept)
        .prop_map(
            |((max_message_bytes, segment_bytes, segment_ms), policy, time, limits, lags, plain, kept)| {
                let config = TopicConfig {
                    max_message_bytes,
                    segment_bytes,
                    segment_ms,
                    kept,
                    ..TopicConfig::default()
                };
                if plain {
                    return config;
                }
                let [retention_ms, retention_bytes, timestamp_before_max_ms, timestamp_after_max_ms] = limits;
                TopicConfig {
                    cleanup_policy: policy,
                    retention_ms,
                    retention_bytes,
                    min_compaction_lag_ms: lags.0,
                    max_compaction_lag_ms: lags.1,
                    min_cleanable_dirty_permille: lags.2,
                    timestamp_type: time,
                    timestamp_before_max_ms,
                    timestamp_after_max_ms,
                    ..config
                }
            },
        )
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c", "g", "g", "g", "p", "q", "", "..", "ü", "a b"]).prop_map(str::to_string)
}

fn topic() -> impl Strategy<Value = TopicId> {
    prop_oneof![8 => 1..4u32, 1 => Just(4), 1 => Just(0), 1 => Just(u32::MAX)].prop_map(TopicId)
}

fn partition() -> impl Strategy<Value = Partition> {
    (topic(), prop_oneof![9 => 0..3u32, 1 => Just(u32::MAX)])
        .prop_map(|(topic, index)| Partition { topic, index })
}

fn member() -> impl Strategy<Value = MemberId> {
    // The two members of the small world joined by its lsns 9 and 10.
    prop_oneof![4 => 9..11u64, 2 => 11..60u64, 1 => Just(u64::MAX)].prop_map(MemberId)
}

fn epoch() -> impl Strategy<Value = i16> {
    prop_oneof![8 => 0..3i16, 1 => select(vec![-1, i16::MIN, 32766, i16::MAX])]
}

fn sequence() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..6i32, 1 => select(vec![-1, i32::MIN, i32::MAX - 1, i32::MAX, 1 << 30])]
}

fn small_u64() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..6u64, 1 => select(vec![i64::MAX as u64, u64::MAX])]
}
