//! Order, then apply: the lines OA-1 to OA-8 of the semantics, as far as they speak of the state alone.

use crate::common::commands::{small_world, steps};
use crate::common::*;
use exactlog_core::command::*;
use exactlog_core::ids::Partition;
use exactlog_core::reply::{Refusal, Reply};
use exactlog_core::state::State;
use proptest::prelude::*;

const DAY_MS: i64 = 86_400_000;

proptest! {
    #[test]
    fn oa_1_replay_and_checkpoint_plus_replay_end_in_the_live_state(
        steps in steps(60),
        checkpoint_at in 0..60usize,
    ) {
        let mut live = small_world();
        let mut replayed = live.clone();
        let mut resumed = live.clone();
        let replies: Vec<_> = steps.iter().map(|step| live.step(step)).collect();
        for (index, step) in steps.iter().enumerate() {
            prop_assert_eq!(&replayed.step(step), &replies[index]);
            if index == checkpoint_at {
                resumed.restart();
            }
            prop_assert_eq!(&resumed.step(step), &replies[index]);
        }
        prop_assert_eq!(&replayed.state, &live.state);
        prop_assert_eq!(&resumed.state, &live.state);
    }

    /// The check itself is in [`Log::apply`], for every refusal of every test. Here it meets all kinds of them.
    #[test]
    fn oa_2_a_refused_command_changes_nothing_but_lsn_and_state_time(steps in steps(80)) {
        let mut log = small_world();
        for (index, step) in steps.iter().enumerate() {
            let lsn = log.state.lsn;
            log.step(step);
            prop_assert_eq!(log.state.lsn, lsn + 1, "step {}", index);
        }
    }

    #[test]
    fn oa_4_state_time_is_the_highest_time_of_any_command(steps in steps(40)) {
        let mut log = small_world();
        let mut highest = log.state.time_ms;
        for step in &steps {
            log.step(step);
            highest = highest.max(step.time_ms);
            prop_assert_eq!(log.state.time_ms, highest);
        }
    }

    #[test]
    fn oa_4_a_tick_before_the_next_deadline_changes_nothing(steps in steps(40)) {
        let mut log = small_world();
        for step in &steps {
            log.step(step);
            if log.state.time_ms < log.state.next_tick_ms() {
                log.time_ms = i64::MIN;
                let mut before = log.state.clone();
                prop_assert_eq!(log.reply(&Command::Tick), ticked(0, 0));
                before.lsn += 1;
                prop_assert_eq!(&log.state, &before);
            }
        }
    }

    /// A deadline too late would let things live on; one that stays behind after a tick would let the writer submit
    /// tick after tick, and an idle log would write.
    #[test]
    fn oa_4_the_next_deadline_is_never_late_and_exact_after_a_tick(steps in steps(40)) {
        let mut log = small_world();
        for step in &steps {
            log.step(step);
            // What is due already is due now.
            let due = first_expiry(&log.state).max(log.state.time_ms);
            prop_assert!(log.state.next_tick_ms() <= due);
        }
        log.reply(&Command::Tick);
        let next = log.state.next_tick_ms();
        prop_assert!(next > log.state.time_ms || next == i64::MAX);
        prop_assert!(next <= first_expiry(&log.state));
    }
}

fn first_expiry(state: &State) -> i64 {
    let idle_ms = state.settings.producer_idle_ms as i64;
    let gone_ms = idle_ms + state.settings.producer_tombstone_ms as i64;
    let partitions = || state.topics.values().flat_map(|topic| &topic.partitions);
    let windows =
        partitions().flat_map(|it| it.producers.values().map(|it| it.time_ms.saturating_add(idle_ms)));
    let tombstones =
        partitions().flat_map(|it| it.tombstones.values().map(|it| it.time_ms.saturating_add(gone_ms)));
    windows.chain(tombstones).min().unwrap_or(i64::MAX)
}

#[test]
fn oa_2_the_same_commands_get_the_same_refusals_again() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let nowhere = part(partition.topic, 9);
    let mut replayed = log.clone();
    for command in [append(nowhere, records(1)), Command::Trim { partition, start: 1 }, Command::Tick] {
        assert_eq!(log.reply(&command), replayed.reply(&command));
    }
    assert_eq!(log.state, replayed.state);
}

#[test]
fn oa_4_a_step_back_revives_nothing() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let producer = log.producer(None);
    log.append(partition, produced(producer, 0, 1));
    log.time_ms = DAY_MS;
    assert_eq!(log.reply(&Command::Tick), ticked(1, 0));
    log.time_ms = 0;
    let refusal = log.refused(&append(partition, produced(producer, 0, 1)));
    assert_eq!(refusal.kafka_code(), 46, "the window is gone and stays gone: {refusal}");
    assert_eq!(log.state.time_ms, DAY_MS);
}

#[test]
fn oa_4_a_step_back_expires_nothing_earlier_either() {
    let mut log = Log { time_ms: 10 * DAY_MS, ..Log::default() };
    let partition = log.partition("t");
    let producer = log.producer(None);
    log.time_ms = 0;
    log.append(partition, produced(producer, 0, 1));
    log.time_ms = 11 * DAY_MS - 1;
    assert_eq!(log.reply(&Command::Tick), ticked(0, 0));
    log.time_ms = 11 * DAY_MS;
    assert_eq!(log.reply(&Command::Tick), ticked(1, 0));
}

#[test]
fn oa_4_the_next_deadline_is_that_of_the_longest_idle_producer() {
    let mut log = Log::default();
    assert_eq!(log.state.next_deadline_ms(), i64::MAX, "nothing can expire in an empty log");
    let (one, two) = (log.partition("one"), log.partition("two"));
    let (a, b) = (log.producer(None), log.producer(None));
    log.time_ms = 1000;
    log.append(one, produced(a, 0, 1));
    log.time_ms = 5000;
    log.append(two, produced(b, 0, 1));
    assert_eq!(log.state.next_deadline_ms(), 1000 + DAY_MS);
    log.time_ms = 1000 + DAY_MS;
    assert_eq!(log.reply(&Command::Tick), ticked(1, 0));
    assert_eq!(log.state.next_deadline_ms(), 5000 + DAY_MS);
    log.time_ms = 5000 + DAY_MS;
    assert_eq!(log.reply(&Command::Tick), ticked(1, 0));
    assert_eq!(log.state.next_deadline_ms(), 1000 + 31 * DAY_MS);
    log.time_ms = 5000 + 31 * DAY_MS;
    assert_eq!(log.reply(&Command::Tick), ticked(0, 2));
    assert_eq!(log.state.next_deadline_ms(), i64::MAX);
}

#[test]
fn oa_4_at_the_end_of_time_nothing_is_idle_for_a_moment_only() {
    let mut log = Log { time_ms: i64::MAX, ..Log::default() };
    let partition = log.partition("t");
    let producer = log.producer(None);
    log.append(partition, produced(producer, 0, 1));
    assert_eq!(log.reply(&Command::Tick), ticked(0, 0));
}

#[test]
fn oa_7_another_config_version_is_config_changed_and_the_repeat_applies() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let config = TopicConfig { segment_ms: 1, ..TopicConfig::default() };
    let altered = log.reply(&Command::AlterTopic { topic: partition.topic, config: config.clone() });
    assert_eq!(altered, Reply::TopicAltered { config_version: 1 });
    assert_eq!(log.refused(&append(partition, records(1))), Refusal::ConfigChanged { sent: 0, current: 1 });
    let again = Command::Append { partition, config_version: 1, expected_end: None, batch: records(1) };
    assert!(matches!(log.reply(&again), Reply::Appended { base_offset: 0, .. }));

    // Settings that are equal are no change: nobody has to repeat anything.
    let same = log.reply(&Command::AlterTopic { topic: partition.topic, config });
    assert_eq!(same, Reply::TopicAltered { config_version: 1 });
}

#[test]
fn oa_7_config_changed_comes_before_whatever_the_old_settings_would_say() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let config = TopicConfig { max_message_bytes: 1024, ..TopicConfig::default() };
    log.reply(&Command::AlterTopic { topic: partition.topic, config });
    let large = append(partition, records(1000));
    assert!(matches!(log.refused(&large), Refusal::ConfigChanged { .. }));
}

#[test]
fn oa_7_limits_of_the_topic_are_checked_in_apply() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let config = TopicConfig { max_message_bytes: 1024, ..TopicConfig::default() };
    log.reply(&Command::AlterTopic { topic: partition.topic, config });
    let batch = records(1000);
    let bytes = batch.len_bytes() as u64;
    let large = Command::Append { partition, config_version: 1, expected_end: None, batch };
    assert_eq!(log.refused(&large), Refusal::BatchTooLarge { bytes, max: 1024 });
    assert_eq!(log.refused(&large).kafka_code(), 10);
}

#[test]
fn oa_8_a_state_begins_at_the_first_level_and_only_config_raises_it() {
    assert_eq!(State::default().semantics_level, SEMANTICS_LEVEL_FIRST);
    assert_eq!(SEMANTICS_LEVEL_FIRST, 1, "journals were written that begin at this level");
    let mut log = Log::default();
    let level = |level| Command::Config(ConfigChange::SemanticsLevel { level });
    for known in SEMANTICS_LEVEL_FIRST..=SEMANTICS_LEVEL {
        assert_eq!(log.reply(&level(known)), Reply::Configured);
        assert_eq!(log.state.semantics_level, known);
    }
    let current = SEMANTICS_LEVEL;
    for sent in [current - 1, current + 1, u32::MAX] {
        let refusal = Refusal::SemanticsLevel { sent, current, max: SEMANTICS_LEVEL };
        assert_eq!(log.refused(&level(sent)), refusal);
    }
    log.restart();
    assert_eq!(log.state.semantics_level, SEMANTICS_LEVEL);
}

#[test]
fn lg_1_a_placed_batch_differs_in_base_offset_and_leader_epoch_only() {
    let mut log = Log { term: 7, ..Log::default() };
    let partition = log.partition("t");
    log.append(partition, records(3));
    let sent = records(2);
    let applied = log.apply(&append(partition, sent.clone()));
    let placement = applied.placements[0];
    assert_eq!((placement.base_offset, placement.next_offset, placement.leader_epoch), (3, 5, 7));
    let placed = sent.placed(placement.base_offset, placement.leader_epoch);
    let (before, after) = (sent.header(), placed.header());
    assert_eq!(after[0..8], 3u64.to_be_bytes());
    assert_eq!(after[LEADER_EPOCH_AT..][..4], 7u32.to_be_bytes());
    assert_eq!(after[8..LEADER_EPOCH_AT], before[8..LEADER_EPOCH_AT]);
    assert_eq!(after[LEADER_EPOCH_AT + 4..], before[LEADER_EPOCH_AT + 4..]);
    assert_eq!(placed.body().as_ptr(), sent.body().as_ptr(), "the body is the caller's");
}

#[test]
fn lg_1_offsets_are_dense_and_a_refusal_consumes_none() {
    let mut log = Log::default();
    let partition = log.partition("t");
    assert_eq!(log.append(partition, records(3)), 0);
    log.refused(&Command::Append { partition, config_version: 0, expected_end: Some(9), batch: records(5) });
    assert_eq!(log.append(partition, records(1)), 3);
    assert_eq!(log.end(partition), 4);
}

#[test]
fn lg_1_what_a_client_wrote_as_base_offset_and_leader_epoch_is_not_believed() {
    let mut log = Log { term: 1, ..Log::default() };
    let partition = log.partition("t");
    let applied = log.apply(&append(partition, records(1).placed(1000, 50)));
    assert_eq!((applied.placements[0].base_offset, applied.placements[0].leader_epoch), (0, 1));
}

#[test]
fn lg_1_leader_epochs_only_rise_also_when_a_term_goes_back() {
    let mut log = Log { term: 5, ..Log::default() };
    let partition = log.partition("t");
    log.append(partition, records(2));
    log.term = 3;
    let applied = log.apply(&append(partition, records(2)));
    assert_eq!(applied.placements[0].leader_epoch, 5, "the header agrees with the list of epochs");
    log.term = 6;
    log.append(partition, records(2));
    let state = log.state.partition(partition).unwrap();
    let epochs: Vec<_> = state.leader_epochs.iter().map(|it| (it.leader_epoch, it.start_offset)).collect();
    assert_eq!(epochs, [(5, 0), (6, 4)]);
    assert_eq!((0..6).map(|at| state.leader_epoch_at(at)).collect::<Vec<_>>(), [5, 5, 5, 5, 6, 6]);
}

#[test]
fn lg_1_a_term_that_no_header_can_show_is_refused() {
    let mut log = Log { term: i32::MAX as u32, ..Log::default() };
    let partition = log.partition("t");
    let producer = log.producer(Some("p"));
    let applied = log.apply(&append(partition, records(1)));
    let placed = records(1).placed(applied.placements[0].base_offset, applied.placements[0].leader_epoch);
    assert_eq!(placed.leader_epoch(), i32::MAX);
    log.term += 1;
    let refusal = Refusal::LeaderEpochsExhausted { term: log.term, max: i32::MAX as u32 };
    assert_eq!(log.refused(&append(partition, records(1))), refusal);
    assert_eq!(log.commit_refused(&commit_of(token(producer, 1), &[(partition, 1)])), refusal);
}

#[test]
fn lg_1_the_last_offset_that_the_format_holds_is_given_out_and_none_behind_it() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let last = i64::MAX as u64;
    set_end(&mut log, partition, last - 3);
    let applied = log.apply(&append(partition, records(3)));
    let placement = applied.placements[0];
    assert_eq!((placement.base_offset, placement.next_offset), (last - 3, last));
    assert_eq!(records(3).placed(placement.base_offset, placement.leader_epoch).next_offset(), last);
    let refusal = Refusal::OffsetsExhausted { partition, end: last, records: 1 };
    assert_eq!(log.refused(&append(partition, records(1))), refusal);
}

fn set_end(log: &mut Log, partition: Partition, end: u64) {
    use std::sync::Arc;
    let topic = log.state.topics.get_mut(&partition.topic).expect("the test has made the topic");
    Arc::make_mut(&mut Arc::make_mut(topic).partitions[partition.index as usize]).end = end;
}

#[test]
fn lg_4_the_start_offset_only_rises_and_never_beyond_the_end() {
    let mut log = Log::default();
    let partition = log.partition("t");
    log.append(partition, records(5));
    assert_eq!(log.reply(&Command::Trim { partition, start: 3 }), Reply::Trimmed { start_offset: 3 });
    assert_eq!(log.reply(&Command::Trim { partition, start: 1 }), Reply::Trimmed { start_offset: 3 });
    let refusal = log.refused(&Command::Trim { partition, start: 6 });
    assert_eq!(refusal, Refusal::TrimOutOfRange { partition, sent: 6, end: 5 });
    assert_eq!(refusal.kafka_code(), 1);
    assert_eq!(log.reply(&Command::Trim { partition, start: 5 }), Reply::Trimmed { start_offset: 5 });
    assert_eq!(log.append(partition, records(1)), 5);
}

#[test]
fn lg_4_trim_forgets_leader_epochs_below_the_record_before_the_start() {
    let mut log = Log::default();
    let partition = log.partition("t");
    for term in 1..=1000 {
        log.term = term;
        log.append(partition, records(10));
        let start = log.end(partition) - 5;
        log.reply(&Command::Trim { partition, start });
    }
    let state = log.state.partition(partition).unwrap();
    assert_eq!(state.leader_epochs.len(), 1, "an epoch that no readable record has is forgotten");
    assert_eq!(state.leader_epoch_at(state.start), 1000);

    // The start is the first offset of an epoch: the record before it still shows the earlier one.
    log.term = 1001;
    log.append(partition, records(1));
    log.reply(&Command::Trim { partition, start: 10_000 });
    log.reply(&commit_offsets("g", None, &[offset(partition, 10_000)]));
    assert_eq!(log.state.committed_offset("g", partition).unwrap().leader_epoch, 1000);
}
