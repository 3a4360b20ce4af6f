//! The idempotent producer: the lines ID-1 to ID-17 of the semantics, and the table 6.1.

use crate::common::*;
use exactlog_core::batch::{Batch, ProducerStamp};
use exactlog_core::command::{Command, ConfigChange};
use exactlog_core::ids::{Partition, ProducerId};
use exactlog_core::reply::{Refusal, Reply};
use proptest::prelude::*;

const DAY_MS: i64 = 86_400_000;
const MAX: i32 = i32::MAX;

const FENCED: i16 = 47;
const OUT_OF_ORDER: i16 = 45;
const DUPLICATE: i16 = 46;

/// A log with one partition and one producer without a name.
fn one() -> (Log, Partition, (ProducerId, i16)) {
    let mut log = Log::default();
    let partition = log.partition("t");
    let producer = log.producer(None);
    (log, partition, producer)
}

fn code(log: &mut Log, partition: Partition, batch: Batch) -> i16 {
    log.refused(&append(partition, batch)).kafka_code()
}

fn is_duplicate_at(log: &mut Log, partition: Partition, batch: Batch, offset: u64) -> bool {
    let end = log.end(partition);
    let applied = log.apply(&append(partition, batch));
    assert_eq!(applied.placements.len(), 0, "a duplicate is placed nowhere");
    assert_eq!(log.end(partition), end);
    matches!(applied.reply, Reply::Appended { base_offset, duplicate: true, .. } if base_offset == offset)
}

#[test]
fn id_1_ids_are_new_also_after_a_restart_and_start_at_epoch_0() {
    let mut log = Log::default();
    let mut given = Vec::new();
    for round in 0..20 {
        let (id, epoch) = log.producer((round % 3 == 0).then_some(format!("p{round}")).as_deref());
        assert_eq!(epoch, 0);
        assert!(!given.contains(&id), "{id} was given out twice");
        given.push(id);
        log.restart();
    }
}

#[test]
fn id_1_an_id_that_was_never_given_out_is_refused_since_it_may_be_given_out_later() {
    let mut log = Log::default();
    let partition = log.partition("t");
    // A producer that got its id from another log, say, would otherwise make a newcomer's batches duplicates.
    for id in [ProducerId(1), ProducerId(i64::MAX)] {
        let refusal = log.refused(&append(partition, produced((id, 0), 0, 3)));
        assert_eq!(refusal, Refusal::UnknownProducer { producer: id });
    }
    let producer = log.producer(None);
    assert_eq!(producer, (ProducerId(1), 0));
    let reply = log.reply(&append(partition, produced(producer, 0, 3)));
    assert!(matches!(reply, Reply::Appended { duplicate: false, .. }), "{reply:?}");
}

#[test]
fn id_2_the_last_five_batches_are_remembered_with_sequences_offset_and_timestamp() {
    let (mut log, partition, producer) = one();
    for index in 0..8i32 {
        log.time_ms = 1000 + index as i64;
        log.append(partition, produced_at(producer, index * 2, 2, 50 + index as i64));
    }
    let window = &log.state.partition(partition).unwrap().producers[&producer.0];
    assert_eq!((window.producer_epoch, window.time_ms), (0, 1007));
    let remembered: Vec<_> = window
        .batches
        .iter()
        .map(|it| (it.first_sequence, it.last_sequence, it.base_offset, it.timestamp_ms))
        .collect();
    let expected: Vec<_> = (3..8).map(|it| (it * 2, it * 2 + 1, it as u64 * 2, 50 + it as i64)).collect();
    assert_eq!(remembered, expected);
}

#[test]
fn id_3_the_next_sequence_is_accepted_and_no_other() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 3));
    assert_eq!(log.append(partition, produced(producer, 3, 2)), 3);
    assert_eq!(code(&mut log, partition, produced(producer, 6, 1)), OUT_OF_ORDER);
    assert_eq!(log.append(partition, produced(producer, 5, 1)), 5);
}

#[test]
fn id_3_sequence_0_follows_2_to_the_31_minus_1() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, MAX - 1, 2));
    assert_eq!(log.state.partition(partition).unwrap().next_sequence(producer.0, 0), Some(0));
    assert_eq!(code(&mut log, partition, produced(producer, 1, 1)), OUT_OF_ORDER);
    assert_eq!(log.append(partition, produced(producer, 0, 2)), 2);
    assert!(is_duplicate_at(&mut log, partition, produced(producer, MAX - 1, 2), 0));
    assert!(is_duplicate_at(&mut log, partition, produced(producer, 0, 2), 2));
}

#[test]
fn id_3_a_batch_may_straddle_the_wrap() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, MAX - 4, 3));
    let straddling = produced(producer, MAX - 1, 4);
    assert_eq!(straddling.last_sequence(), 1);
    assert_eq!(log.append(partition, straddling.clone()), 3);
    assert!(is_duplicate_at(&mut log, partition, straddling, 3));
    assert_eq!(log.append(partition, produced(producer, 2, 1)), 7);
    // A part of it, at or below the last sequence, was appended; a part of it that goes beyond was not.
    assert_eq!(code(&mut log, partition, produced(producer, MAX, 2)), DUPLICATE);
    assert_eq!(code(&mut log, partition, produced(producer, MAX, 6)), OUT_OF_ORDER);
}

#[test]
fn id_3_older_and_newer_are_distances_modulo_2_to_the_31() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 1));
    assert_eq!(code(&mut log, partition, produced(producer, MAX, 1)), DUPLICATE, "one below 0");
    assert_eq!(code(&mut log, partition, produced(producer, MAX, 2)), DUPLICATE);
    assert_eq!(code(&mut log, partition, produced(producer, (1 << 30) + 1, 1)), DUPLICATE, "just older");
    assert_eq!(code(&mut log, partition, produced(producer, 1 << 30, 1)), OUT_OF_ORDER, "just newer");
    assert_eq!(code(&mut log, partition, produced(producer, 2, 1)), OUT_OF_ORDER);
}

#[test]
fn id_4_a_higher_epoch_begins_at_sequence_0() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 3));
    let bumped = (producer.0, 1);
    let refusal = log.refused(&append(partition, produced(bumped, 3, 1)));
    let expected = Refusal::OutOfOrderSequence { producer: producer.0, partition, sent: 3, expected: 0 };
    assert_eq!(refusal, expected);
    assert_eq!(log.append(partition, produced(bumped, 0, 3)), 3);
    assert!(is_duplicate_at(&mut log, partition, produced(bumped, 0, 3), 3), "the window restarts");
    let window = &log.state.partition(partition).unwrap().producers[&producer.0];
    assert_eq!((window.producer_epoch, window.batches.len()), (1, 1));
}

#[test]
fn id_4_a_partition_that_knows_no_epoch_of_the_id_accepts_any_sequence() {
    let (mut log, partition, producer) = one();
    assert_eq!(log.append(partition, produced((producer.0, 9), 77, 1)), 0);
    assert_eq!(log.append(partition, produced((producer.0, 9), 78, 1)), 1);
}

#[test]
fn id_4_a_higher_epoch_after_a_tombstone_begins_at_0_too() {
    let (mut log, partition, producer) = with_tombstone();
    assert_eq!(code(&mut log, partition, produced((producer.0, 1), 3, 1)), OUT_OF_ORDER);
    assert_eq!(log.append(partition, produced((producer.0, 1), 0, 1)), 3);
}

#[test]
fn id_5_a_lower_epoch_is_fenced_with_47_whatever_its_sequence() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced((producer.0, 3), 0, 3));
    for sequence in [0, 1, 3, 9] {
        assert_eq!(code(&mut log, partition, produced((producer.0, 2), sequence, 3)), FENCED);
    }
}

#[test]
fn id_5_the_epoch_of_a_name_fences_in_partitions_that_never_saw_it() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let old = log.producer(Some("p"));
    let new = log.producer(Some("p"));
    assert_eq!(new, (old.0, old.1 + 1));
    let refusal = log.refused(&append(partition, produced(old, 0, 1)));
    assert_eq!(refusal, Refusal::ProducerFenced { producer: old.0, sent: 0, current: 1 });
    let refusal = log.refused(&append(partition, produced((old.0, 2), 0, 1)));
    assert_eq!(refusal, Refusal::ProducerEpochUnknown { producer: old.0, sent: 2, current: 1 });
    assert_eq!(log.append(partition, produced(new, 0, 1)), 0);
}

#[test]
fn id_6_duplicate_returns_original_offset_timestamp_and_the_start() {
    let (mut log, partition, producer) = one();
    log.append(partition, records(4));
    let batch = produced_at(producer, 0, 2, 1234);
    let first = log.reply(&append(partition, batch.clone()));
    log.append(partition, records(4));
    let again = log.reply(&append(partition, batch));
    let appended =
        |duplicate| Reply::Appended { base_offset: 4, timestamp_ms: 1234, start_offset: 0, duplicate };
    assert_eq!(first, appended(false));
    assert_eq!(again, appended(true));
    assert_eq!(log.end(partition), 10);
}

#[test]
fn id_6_a_duplicate_is_known_before_conditions_and_limits_are_looked_at() {
    let (mut log, partition, producer) = one();
    let batch = produced(producer, 0, 1000);
    let command = |config_version| Command::Append {
        partition,
        config_version,
        expected_end: Some(0),
        batch: batch.clone(),
    };
    log.reply(&command(0));
    let config = exactlog_core::command::TopicConfig { max_message_bytes: 1024, ..Default::default() };
    log.reply(&Command::AlterTopic { topic: partition.topic, config });
    // Neither does the partition end at 0 any more, nor would the batch be small enough; but it is in the log.
    assert!(matches!(log.reply(&command(1)), Reply::Appended { base_offset: 0, duplicate: true, .. }));
}

#[test]
fn id_6_only_the_exact_batch_is_a_duplicate() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 3));
    assert_eq!(code(&mut log, partition, produced(producer, 0, 2)), DUPLICATE);
    assert_eq!(code(&mut log, partition, produced(producer, 1, 2)), DUPLICATE);
    assert_eq!(code(&mut log, partition, produced(producer, 0, 4)), OUT_OF_ORDER);
}

#[test]
fn id_8_older_than_the_five_is_46_never_45() {
    let (mut log, partition, producer) = one();
    for index in 0..6 {
        log.append(partition, produced(producer, index * 3, 3));
    }
    assert_eq!(code(&mut log, partition, produced(producer, 0, 3)), DUPLICATE);
    for index in 1..6 {
        assert!(is_duplicate_at(&mut log, partition, produced(producer, index * 3, 3), index as u64 * 3));
    }
}

#[test]
fn id_8_a_batch_that_goes_beyond_the_last_sequence_is_45() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 10));
    assert_eq!(code(&mut log, partition, produced(producer, 5, 5)), DUPLICATE);
    assert_eq!(code(&mut log, partition, produced(producer, 5, 6)), OUT_OF_ORDER);
}

/// Such a batch is compressed, so its count is the sender's word. Told 46, the client would take it for appended.
#[test]
fn id_8_a_batch_that_comes_round_to_below_the_last_sequence_goes_beyond_it_all_the_same() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 10));
    let stamp = ProducerStamp { id: producer.0, epoch: 0, base_sequence: 8 };
    let batch = compressed(MAX as u32, Some(stamp));
    assert_eq!(batch.last_sequence(), 6, "both ends lie at or below 9");
    assert_eq!(code(&mut log, partition, batch), OUT_OF_ORDER);
}

#[test]
fn id_9_a_gap_is_45_and_appends_nothing() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 3));
    let refusal = log.refused(&append(partition, produced(producer, 4, 1)));
    let expected = Refusal::OutOfOrderSequence { producer: producer.0, partition, sent: 4, expected: 3 };
    assert_eq!(refusal, expected);
    assert_eq!(refusal.kafka_code(), OUT_OF_ORDER);
    assert_eq!(log.end(partition), 3);
}

/// What the network does with one request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    RequestLost,
    ReplyLost,
    Answered,
    AnsweredThenRestart,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::RequestLost),
        Just(Fate::ReplyLost),
        Just(Fate::Answered),
        Just(Fate::AnsweredThenRestart)
    ]
}

/// A client with five batches in flight, as Kafka's: it sends a batch again until it is answered, in any order.
struct Pipeline {
    log: Log,
    partition: Partition,
    batches: Vec<Batch>,
    unanswered: Vec<usize>,
    /// Which batch lies where, in the order of the log.
    held: Vec<(usize, u64)>,
}

impl Pipeline {
    fn new(first_sequence: i32, counts: &[u32]) -> Pipeline {
        let (log, partition, producer) = one();
        let mut sequence = first_sequence;
        let mut batches = Vec::new();
        for count in counts {
            batches.push(produced(producer, sequence, *count));
            sequence = (i64::from(sequence) + i64::from(*count)).rem_euclid(1 << 31) as i32;
        }
        let unanswered = (0..batches.len()).collect();
        Pipeline { log, partition, batches, unanswered, held: Vec::new() }
    }

    fn send(&mut self, choice: usize, fate: Fate) -> Result<(), TestCaseError> {
        // The first batch goes alone: to a partition that doesn't know the id any sequence is the first.
        let oldest = match self.unanswered.first() {
            Some(0) => 0,
            Some(oldest) => *oldest,
            None => return Ok(()),
        };
        let window = if oldest == 0 { 1 } else { 5 };
        let in_flight: Vec<_> = self.unanswered.iter().copied().filter(|it| *it < oldest + window).collect();
        let index = in_flight[choice % in_flight.len()];
        if matches!(fate, Fate::RequestLost) {
            return Ok(());
        }
        let applied = self.log.apply(&append(self.partition, self.batches[index].clone()));
        if let Some(placement) = applied.placements.first() {
            self.held.push((index, placement.base_offset));
        }
        if matches!(fate, Fate::AnsweredThenRestart) {
            self.log.restart();
        }
        match applied.reply {
            Reply::Appended { base_offset, .. } => {
                let held = self.held.iter().find(|it| it.0 == index);
                prop_assert_eq!(held.map(|it| it.1), Some(base_offset), "an answer names the one original");
                if !matches!(fate, Fate::ReplyLost) {
                    self.unanswered.retain(|it| *it != index);
                }
            }
            // Out of order: an earlier one is still missing. It stays in flight.
            Reply::Refused(refusal) => prop_assert_eq!(refusal.kafka_code(), OUT_OF_ORDER, "{}", refusal),
            other => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn id_9_five_in_flight_with_losses_retries_and_restarts_are_held_once_and_in_order(
        first_sequence in prop_oneof![Just(0), MAX - 20..=MAX],
        counts in prop::collection::vec(1..5u32, 1..16),
        network in prop::collection::vec((0..5usize, fate()), 0..80),
    ) {
        let mut pipeline = Pipeline::new(first_sequence, &counts);
        for (choice, fate) in network {
            pipeline.send(choice, fate)?;
        }
        while !pipeline.unanswered.is_empty() {
            pipeline.send(0, Fate::Answered)?;
        }
        let order: Vec<_> = pipeline.held.iter().map(|it| it.0).collect();
        prop_assert_eq!(order, (0..counts.len()).collect::<Vec<_>>());
        let end: u64 = counts.iter().map(|it| u64::from(*it)).sum();
        prop_assert_eq!(pipeline.log.end(pipeline.partition), end);
    }
}

/// One batch of three records, then a day of nothing.
fn with_tombstone() -> (Log, Partition, (ProducerId, i16)) {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 3));
    log.time_ms = DAY_MS;
    assert_eq!(log.reply(&Command::Tick), ticked(1, 0));
    (log, partition, producer)
}

#[test]
fn id_11_a_tombstone_keeps_epoch_and_last_sequence() {
    let (mut log, partition, producer) = with_tombstone();
    let state = log.state.partition(partition).unwrap();
    assert!(state.producers.is_empty());
    let tombstone = state.tombstones[&producer.0];
    assert_eq!((tombstone.producer_epoch, tombstone.last_sequence, tombstone.time_ms), (0, 2, 0));
    log.restart();
    assert_eq!(code(&mut log, partition, produced(producer, 0, 3)), DUPLICATE, "at or below");
    assert_eq!(code(&mut log, partition, produced(producer, 4, 1)), OUT_OF_ORDER, "gap");
    assert_eq!(code(&mut log, partition, produced(producer, 2, 2)), OUT_OF_ORDER, "overlap");
    assert_eq!(log.append(partition, produced(producer, 3, 1)), 3, "in sequence");
    let state = log.state.partition(partition).unwrap();
    assert!(state.tombstones.is_empty(), "a window or a tombstone, never both");
    assert_eq!(state.producers.len(), 1);
}

#[test]
fn id_11_a_tombstone_fences_lower_epochs() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced((producer.0, 4), 0, 1));
    log.time_ms = DAY_MS;
    log.reply(&Command::Tick);
    assert_eq!(code(&mut log, partition, produced((producer.0, 3), 1, 1)), FENCED);
}

#[test]
fn id_11_without_a_tombstone_any_sequence_is_accepted() {
    let (mut log, partition, producer) = with_tombstone();
    log.time_ms = 31 * DAY_MS - 1;
    assert_eq!(log.reply(&Command::Tick), ticked(0, 0));
    assert_eq!(code(&mut log, partition, produced(producer, 0, 3)), DUPLICATE, "to the last moment");
    log.time_ms += 1;
    assert_eq!(log.reply(&Command::Tick), ticked(0, 1));
    assert_eq!(log.append(partition, produced(producer, 500, 1)), 3);
}

#[test]
fn id_12_a_producer_expires_when_idle_for_the_whole_time_and_by_tick_only() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 3));
    log.time_ms = DAY_MS - 1;
    assert_eq!(log.reply(&Command::Tick), ticked(0, 0));
    log.time_ms = 20 * DAY_MS;
    log.reply(&Command::Trim { partition, start: 0 });
    assert!(is_duplicate_at(&mut log, partition, produced(producer, 0, 3), 0), "no tick, no expiry");
    assert_eq!(log.reply(&Command::Tick), ticked(1, 0));
}

#[test]
fn id_12_the_clock_is_the_command_s_never_the_record_s() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced_at(producer, 0, 1, 500 * DAY_MS));
    assert_eq!(log.state.next_deadline_ms(), DAY_MS);
    log.time_ms = DAY_MS;
    assert_eq!(log.reply(&Command::Tick), ticked(1, 0));
}

#[test]
fn id_12_each_append_starts_the_idle_time_anew() {
    let (mut log, partition, producer) = one();
    for index in 0..5 {
        log.time_ms = index * (DAY_MS - 1);
        log.append(partition, produced(producer, index as i32, 1));
        assert_eq!(log.reply(&Command::Tick), ticked(0, 0));
    }
}

#[test]
fn id_12_a_shorter_expiration_counts_from_the_next_tick_on() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 1));
    log.time_ms = 500;
    let change = ConfigChange::ProducerExpiration { idle_ms: 400, tombstone_ms: 1000 };
    assert_eq!(log.reply(&Command::Config(change)), Reply::Configured);
    assert!(log.state.next_deadline_ms() <= 500);
    assert_eq!(log.reply(&Command::Tick), ticked(1, 0));
    assert_eq!(log.state.next_deadline_ms(), 1400);
    for (idle_ms, tombstone_ms) in [(0, 1), (1, 0), (u64::MAX, 1), (1, u64::MAX)] {
        let change = ConfigChange::ProducerExpiration { idle_ms, tombstone_ms };
        assert_eq!(log.refused(&Command::Config(change)).kafka_code(), 40);
    }
}

#[test]
fn id_13_all_five_window_entries_survive_a_restart() {
    let (mut log, partition, producer) = one();
    for index in 0..5 {
        log.append(partition, produced_at(producer, index * 2, 2, 70 + index as i64));
    }
    for index in 0..5 {
        let mut restarted = log.clone();
        restarted.restart();
        let reply = restarted.reply(&append(partition, produced(producer, index * 2, 2)));
        let expected = Reply::Appended {
            base_offset: index as u64 * 2,
            timestamp_ms: 70 + index as i64,
            start_offset: 0,
            duplicate: true,
        };
        assert_eq!(reply, expected);
    }
}

#[test]
fn id_15_producers_without_a_batch_survive_a_restart() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let named = log.producer(Some("p"));
    let unnamed = log.producer(None);
    log.restart();
    assert_eq!(log.producer(Some("p")), (named.0, 1));
    let next = log.producer(None);
    assert!(next.0 > unnamed.0 && next.0 > named.0);
    assert_eq!(log.append(partition, produced(unnamed, 0, 1)), 0);
}

#[test]
fn id_16_trim_does_not_touch_producers() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 3));
    log.reply(&Command::Trim { partition, start: 3 });
    let reply = log.reply(&append(partition, produced(producer, 0, 3)));
    assert!(matches!(reply, Reply::Appended { base_offset: 0, start_offset: 3, duplicate: true, .. }));
}

#[test]
fn id_17_a_client_s_batch_is_checked_before_submission() {
    let limit = 1 << 20;
    let (_, _, producer) = one();
    let good = produced(producer, 0, 3);
    good.check_client(limit).unwrap();

    assert_eq!(good.check_client(good.len_bytes() - 1).unwrap_err().kafka_code(), 10);
    let bits = |bits: u16| {
        changed(&good, |header| header[ATTRIBUTES_AT..][..2].copy_from_slice(&bits.to_be_bytes()))
    };
    assert_eq!(bits(CONTROL).check_client(limit).unwrap_err().kafka_code(), 87);
    assert_eq!(produced(producer, -1, 1).check_client(limit).unwrap_err().kafka_code(), 87);
    assert_eq!(compressed(0, None).record_count(), 0);
    assert_eq!(compressed(0, None).check_client(limit).unwrap_err().kafka_code(), 87);
    let fewer = changed(&good, |header| header[RECORD_COUNT_AT..][..4].copy_from_slice(&2u32.to_be_bytes()));
    assert_eq!(fewer.check_client(limit).unwrap_err().kafka_code(), 87);

    let mut bytes = [&good.header()[..], good.body()].concat();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(Batch::parse(bytes.clone().into()).unwrap_err().kafka_code(), 2);
    *bytes.last_mut().unwrap() ^= 1;
    bytes[16] = 1;
    assert_eq!(Batch::parse(bytes.into()).unwrap_err().kafka_code(), 87);
}

/// `check_client` belongs to the shell; whatever got past it must not harm the state.
#[test]
fn id_17_apply_refuses_what_a_client_may_not_send_too() {
    let (mut log, partition, producer) = one();
    log.append(partition, produced(producer, 0, 1));
    let odd = [
        produced(producer, -1, 1),
        produced(producer, -1, 3),
        produced(producer, i32::MIN, 3),
        produced((producer.0, -1), 0, 1),
        changed(&records(1), |header| header[ATTRIBUTES_AT + 1] = CONTROL as u8),
        changed(&records(1), |header| header[ATTRIBUTES_AT + 1] = TRANSACTIONAL as u8),
        changed(&records(2), |header| header[RECORD_COUNT_AT + 3] = 1),
        compressed(0, Some(ProducerStamp { id: producer.0, epoch: 0, base_sequence: 1 })),
    ];
    for batch in odd {
        assert_eq!(code(&mut log, partition, batch.clone()), 87, "{batch:?}");
    }
    assert_eq!(log.append(partition, produced(producer, 1, 1)), 1);
}

#[test]
fn id_2_producers_of_one_partition_know_nothing_of_another() {
    let mut log = Log::default();
    let topic = log.topic("t", 2);
    let (a, b) = (log.producer(None), log.producer(None));
    log.append(part(topic, 0), produced(a, 0, 3));
    assert_eq!(log.append(part(topic, 1), produced(a, 0, 3)), 0);
    assert_eq!(log.append(part(topic, 0), produced(b, 0, 3)), 3);
    assert!(is_duplicate_at(&mut log, part(topic, 1), produced(a, 0, 3), 0));
}
