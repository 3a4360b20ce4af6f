//! Settings of topics that decide in `apply`: whose time records have, what may be trimmed, how many partitions
//! there are; and the plan of retention against the obvious one.

use crate::common::*;
use exactlog_core::batch::TimestampType;
use exactlog_core::command::*;
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::plan::compaction::{Choice, choose};
use exactlog_core::plan::{SealedSegment, SealedSegments, retention};
use exactlog_core::reply::{Refusal, Reply};
use exactlog_core::state::PartitionState;
use proptest::prelude::*;

fn with(log: &mut Log, config: TopicConfig) -> Partition {
    match log.reply(&Command::CreateTopic { name: "t".to_string(), partitions: 1, config }) {
        Reply::Topic { topic, .. } => part(topic, 0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lg_5_the_time_of_the_append_is_that_of_the_log_also_for_a_retry() {
    let config = TopicConfig { timestamp_type: TimestampType::LogAppendTime, ..TopicConfig::default() };
    let mut log = Log { time_ms: 5_000, ..Log::default() };
    let partition = with(&mut log, config);
    let producer = log.producer(None);
    let batch = produced_at(producer, 0, 3, 77);
    let applied = log.apply(&append(partition, batch.clone()));
    let placed = applied.placements[0].placed(&batch);
    assert_eq!(placed.timestamp_type(), TimestampType::LogAppendTime);
    let times: Vec<i64> = placed.records().map(|record| record.unwrap().timestamp_ms).collect();
    assert_eq!(times, [5_000; 3]);
    assert_eq!(placed.body(), batch.body(), "the records are the sender's");
    let reply =
        |duplicate| Reply::Appended { base_offset: 0, timestamp_ms: 5_000, start_offset: 0, duplicate };
    assert_eq!(applied.reply, reply(false));
    log.time_ms = 9_000;
    log.restart();
    assert_eq!(log.reply(&append(partition, batch)), reply(true));
    // A clock that goes back doesn't take the log's time back.
    log.time_ms = 1_000;
    let applied = log.apply(&append(partition, produced_at(producer, 3, 1, 77)));
    assert_eq!(applied.placements[0].append_time_ms, Some(9_000));
}

#[test]
fn lg_5_a_time_outside_the_topic_s_bounds_is_32_and_none_is_no_time() {
    let config = TopicConfig {
        timestamp_before_max_ms: Some(1_000),
        timestamp_after_max_ms: Some(100),
        ..TopicConfig::default()
    };
    let mut log = Log { time_ms: 10_000, ..Log::default() };
    let partition = with(&mut log, config.clone());
    for time_ms in [9_000, 10_000, 10_100, -1] {
        log.append(partition, built(1, time_ms, None));
    }
    for timestamp_ms in [8_999, 10_101, 0, i64::MIN, i64::MAX] {
        let refusal = log.refused(&append(partition, built(1, timestamp_ms, None)));
        assert_eq!(refusal, Refusal::Timestamp { timestamp_ms, least: 9_000, greatest: 10_100 });
        assert_eq!(refusal.kafka_code(), 32);
    }
    let producer = log.producer(Some("p"));
    let mut commit = commit_of(token(producer, 1), &[]);
    commit.batches = vec![(partition, built(1, 8_999, None))];
    assert!(matches!(log.commit_refused(&commit), Refusal::Timestamp { .. }));
    // The time of the append needs no bounds.
    let config = TopicConfig { timestamp_type: TimestampType::LogAppendTime, ..config };
    log.reply(&Command::AlterTopic { topic: partition.topic, config });
    let append =
        Command::Append { partition, config_version: 1, expected_end: None, batch: built(1, 0, None) };
    assert!(matches!(log.reply(&append), Reply::Appended { timestamp_ms: 10_000, .. }));
}

#[test]
fn lg_4_what_is_only_compacted_is_not_trimmed_and_what_is_deleted_too_is() {
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
    let mut log = Log::default();
    let partition = with(&mut log, config.clone());
    log.append(partition, records(3));
    let refusal = log.refused(&Command::Trim { partition, start: 2 });
    assert_eq!((refusal.kafka_code(), refusal), (44, Refusal::TrimCompacted { topic: partition.topic }));
    let config = TopicConfig { cleanup_policy: CleanupPolicy::CompactAndDelete, ..config };
    log.reply(&Command::AlterTopic { topic: partition.topic, config });
    assert_eq!(log.reply(&Command::Trim { partition, start: 2 }), Reply::Trimmed { start_offset: 2 });
}

#[test]
fn partitions_are_added_once_and_none_is_taken_away() {
    let mut log = Log::default();
    let topic = log.topic("t", 2);
    log.append(part(topic, 1), records(3));
    let create = |partitions| Command::CreatePartitions { topic, partitions };
    assert_eq!(log.reply(&create(4)), Reply::Partitions { partitions: 4, added: 2 });
    assert_eq!(log.reply(&create(4)), Reply::Partitions { partitions: 4, added: 0 });
    assert_eq!((log.end(part(topic, 1)), log.append(part(topic, 3), records(1))), (3, 0));
    let fewer = log.refused(&create(3));
    assert_eq!(fewer.kafka_code(), 37);
    assert_eq!(fewer, Refusal::FewerPartitions { topic, sent: 3, current: 4 });
    for partitions in [0, TOPIC_PARTITIONS_MAX + 1] {
        assert!(matches!(log.refused(&create(partitions)), Refusal::PartitionCount { .. }));
    }
    let unknown = Command::CreatePartitions { topic: TopicId(9), partitions: 4 };
    assert_eq!(log.refused(&unknown), Refusal::UnknownTopic { topic: TopicId(9) });
    log.restart();
    assert_eq!(log.reply(&create(5)), Reply::Partitions { partitions: 5, added: 1 });
}

#[test]
fn gr_4_new_partitions_are_shared_by_the_groups_that_read_the_topic_and_nobody_else_notices() {
    let mut log = Log::default();
    let (topic, other) = (log.topic("t", 1), log.topic("other", 1));
    let member = log.join("g", &[topic]);
    log.join("elsewhere", &[other]);
    let generations =
        |log: &Log| [log.state.groups["g"].generation, log.state.groups["elsewhere"].generation];
    let [before, elsewhere] = generations(&log);
    log.reply(&Command::CreatePartitions { topic, partitions: 3 });
    assert_eq!(generations(&log), [before + 1, elsewhere]);
    let owned: Vec<_> = log.state.groups["g"].owned_by(member).collect();
    assert_eq!(owned, [0, 1, 2].map(|index| (part(topic, index), false)));
    log.reply(&Command::CreatePartitions { topic, partitions: 3 });
    assert_eq!(generations(&log), [before + 1, elsewhere], "a repeat changes nothing");
}

fn segments() -> impl Strategy<Value = Vec<SealedSegment>> {
    let one = (1..10u64, 1..1_000u64, -1..2_000i64, prop::option::weighted(0.2, 0..3u64));
    prop::collection::vec(one, 0..8).prop_map(|rows| {
        let mut next = 0;
        let segment = |(records, bytes, max_timestamp_ms, clean_records)| {
            let base_offset = next;
            next += records;
            let first_timestamp_ms = max_timestamp_ms;
            SealedSegment {
                base_offset,
                next_offset: next,
                bytes,
                max_timestamp_ms,
                first_timestamp_ms,
                clean_records,
            }
        };
        rows.into_iter().map(segment).collect()
    })
}

proptest! {
    /// The obvious plan: the longest prefix that may go, each segment looked at on its own.
    #[test]
    fn lg_4_retention_takes_the_longest_prefix_that_is_too_old_or_too_much_and_nothing_behind_a_bound(
        segments in segments(),
        open_bytes in 0..2_000u64,
        checkpointed in 0..60u64,
        stable in 0..60u64,
        ages in prop::option::of(0..2_000u64),
        sizes in prop::option::of(0..4_000u64),
        start in 0..40u64,
    ) {
        let state = PartitionState { end: stable, ..PartitionState::default() };
        let config = TopicConfig { retention_ms: ages, retention_bytes: sizes, ..TopicConfig::default() };
        let sealed = SealedSegments::new(segments.clone(), open_bytes, checkpointed, &state);
        let now_ms = 2_000;
        let mut wanted = None;
        for count in 1..=segments.len() {
            let prefix = &segments[..count];
            let rest: u64 = segments[count..].iter().map(|it| it.bytes).sum::<u64>() + open_bytes;
            let old = ages.is_some_and(|age| prefix.iter().all(|it| {
                let has_time = it.max_timestamp_ms >= 0;
                it.clean_records == Some(0) || has_time && it.max_timestamp_ms < now_ms - age as i64
            }));
            let much = sizes.is_some_and(|size| rest >= size);
            let end = prefix.last().unwrap().next_offset;
            if (old || much) && end <= checkpointed.min(stable) {
                wanted = Some(end);
            }
        }
        let wanted = wanted.filter(|end| *end > start);
        prop_assert_eq!(retention::new_start(&config, &sealed, start, now_ms), wanted);
        let compacted = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..config };
        prop_assert_eq!(retention::new_start(&compacted, &sealed, start, now_ms), None);
    }
}

/// Segments of 100 bytes and 10 offsets, each with the time of its records; the first ones are clean.
fn chosen(
    config: &TopicConfig,
    clean: usize,
    times_ms: &[i64],
    limit: u64,
    asked: bool,
) -> Option<(usize, usize)> {
    let segment = |(at, time_ms): (usize, &i64)| SealedSegment {
        base_offset: at as u64 * 10,
        next_offset: at as u64 * 10 + 10,
        bytes: 100,
        max_timestamp_ms: *time_ms,
        first_timestamp_ms: *time_ms,
        clean_records: (at < clean).then_some(3),
    };
    let segments = times_ms.iter().enumerate().map(segment).collect();
    let state = PartitionState { end: 1_000, ..PartitionState::default() };
    let sealed = SealedSegments::new(segments, 0, limit, &state);
    choose(config, &sealed, 10_000, asked).map(|Choice { clean, all }| (clean, all))
}

#[test]
fn lg_8_what_is_compacted_follows_from_shares_ages_and_bounds() {
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
    let plain = |clean, count: usize| chosen(&config, clean, &vec![0; count], 1_000, false);
    assert_eq!(plain(0, 0), None);
    assert_eq!(plain(0, 1), Some((0, 1)));
    assert_eq!(plain(2, 4), Some((2, 4)), "half of it is dirty");
    assert_eq!(plain(3, 5), None, "less than half of it is");
    assert_eq!(plain(3, 3), None);
    assert_eq!(chosen(&config, 3, &[0; 5], 1_000, true), Some((3, 5)), "somebody asks");
    assert_eq!(chosen(&config, 3, &[0; 3], 1_000, true), Some((3, 3)), "for what was kept for a while");
    assert_eq!(
        chosen(&config, 0, &[0; 5], 39, false),
        Some((0, 3)),
        "a segment lies behind the bound or not"
    );
    assert_eq!(chosen(&config, 0, &[0; 5], 9, false), None);
    let greedy = TopicConfig { min_cleanable_dirty_permille: 0, ..config.clone() };
    assert_eq!(chosen(&greedy, 9, &[0; 10], 1_000, false), Some((9, 10)));
    let young = TopicConfig { min_compaction_lag_ms: 1_000, ..config.clone() };
    assert_eq!(chosen(&young, 0, &[8_999, 9_000, 9_001, 0], 1_000, false), Some((0, 2)));
    assert_eq!(chosen(&young, 0, &[9_001, 0], 1_000, true), None);
    let late = TopicConfig { max_compaction_lag_ms: Some(1_000), ..config.clone() };
    assert_eq!(chosen(&late, 3, &[0, 0, 0, 9_000], 1_000, false), None);
    assert_eq!(chosen(&late, 3, &[0, 0, 0, 8_999], 1_000, false), Some((3, 4)));
    assert_eq!(chosen(&late, 3, &[0, 0, 0, -1], 1_000, false), None, "without a time it is never late");
    let deleted = TopicConfig { cleanup_policy: CleanupPolicy::Delete, ..config };
    assert_eq!(chosen(&deleted, 0, &[0; 3], 1_000, true), None);
}
