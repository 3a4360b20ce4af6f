//! What a person asks of a log, and moving groups.

use crate::common;
use exactlog::{Error, Event, Log, Refusal, SeekTo, Topic, TopicOptions};
use exactlog_sim::disk::SimDisk;
use std::time::{SystemTime, UNIX_EPOCH};

fn filled(records: u64) -> (tempfile::TempDir, Log, Topic) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let topic = log.create_topic("t", TopicOptions::default().partitions(2)).unwrap();
    let mut producer = log.producer("p").unwrap();
    for number in 0..records {
        let mut transaction = producer.begin();
        transaction
            .send_to(&topic, 1, Event::unkeyed(format!("{number}")).at(1_000 + number as i64))
            .unwrap();
        transaction.blocking_commit().unwrap();
    }
    (directory, log, topic)
}

fn to(topic: &Topic, partition: u32, offset: u64) -> SeekTo {
    SeekTo { topic: topic.clone(), partition, offset }
}

#[test]
fn an_event_goes_to_the_partition_that_the_transaction_names() {
    let (_directory, log, topic) = filled(3);
    assert_eq!((log.bounds(&topic, 0).unwrap(), log.bounds(&topic, 1).unwrap()), ((0, 0), (0, 3)));
    let mut producer = log.producer("p").unwrap();
    let mut transaction = producer.begin();
    let refused = transaction.send_to(&topic, 2, Event::unkeyed("x"));
    assert!(matches!(refused, Err(Error::NoSuchPartition { partition: 2, partitions: 2, .. })));
}

#[test]
fn partitions_and_producers_are_told_with_their_numbers() {
    let (_directory, log, topic) = filled(3);
    log.trim(&topic, 1, 2).unwrap();
    let partitions = log.partitions(&topic).unwrap();
    let numbers: Vec<_> = partitions.iter().map(|it| (it.partition, it.start, it.end)).collect();
    assert_eq!(numbers, [(0, 0, 0), (1, 2, 3)]);
    let producers = log.producers();
    assert_eq!((producers[0].name.as_str(), producers[0].last_number), ("p", 3));
    let details = log.details();
    assert_eq!((details.lsn, details.open_number), (log.metrics().lsn, 1));
    log.delete_topic(&topic).unwrap();
    assert!(matches!(log.partitions(&topic), Err(Error::NoSuchTopic { .. })));
}

#[test]
fn a_group_is_moved_back_and_ahead_with_its_lag() {
    let (_directory, log, topic) = filled(5);
    log.seek_group("g", &[to(&topic, 1, 4)]).unwrap();
    log.seek_group("g", &[to(&topic, 1, 1), to(&topic, 0, 0)]).unwrap();
    let group = log.group("g").unwrap();
    let positions: Vec<_> = group.positions.iter().map(|it| (it.partition, it.committed, it.lag)).collect();
    assert_eq!(positions, [(0, Some(0), 0), (1, Some(1), 4)]);
    log.trim(&topic, 1, 3).unwrap();
    assert_eq!(log.group("g").unwrap().positions[1].lag, 2, "what is trimmed can't be read any more");
    assert_eq!(log.groups().len(), 1);
    assert!(log.group("h").is_none());
}

#[test]
fn lg_12_the_age_of_a_lag_is_that_of_the_first_record_that_is_not_consumed() {
    let log = common::open(&SimDisk::new());
    let topic = common::topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    // The last one lies in the future: it is no age.
    for ago_ms in [7_200_000, 3_600_000, -3_600_000] {
        producer.blocking_send(&topic, Event::new("k", "v").at(now_ms - ago_ms)).unwrap();
    }
    for (offset, lag, least_ms) in [(0, 3, 7_200_000), (1, 2, 3_600_000), (2, 1, 0), (3, 0, 0)] {
        log.seek_group("g", &[to(&topic, 0, offset)]).unwrap();
        let position = log.group("g").unwrap().positions.remove(0);
        assert_eq!(position.lag, lag);
        // The test takes less than an hour.
        let age = position.lag_ms;
        assert!(age >= least_ms && age < least_ms + 3_600_000 && (least_ms > 0 || age == 0), "{age} ms");
    }
}

#[test]
fn an_active_group_is_not_moved_and_its_members_are_named() {
    let (_directory, log, topic) = filled(5);
    let mut consumer = log.consumer("g").subscribe([&topic]).unwrap();
    consumer.try_next().unwrap().unwrap().blocking_ack().unwrap();
    let group = log.group("g").unwrap();
    let member = group.members[0].member;
    assert_eq!((group.members.len(), group.members[0].partitions), (1, 2));
    assert_eq!(group.positions[1].owner, Some(member));
    let refused = log.seek_group("g", &[to(&topic, 1, 0)]).unwrap_err();
    assert!(matches!(&refused, Error::GroupActive { members, .. } if members[..] == [member]), "{refused}");
    assert!(refused.to_string().contains(&format!("1 member (member {member})")), "{refused}");
    assert_eq!(log.committed("g", &topic, 1), Some(5));
}

#[test]
fn positions_that_are_not_there_move_nothing() {
    let (_directory, log, topic) = filled(5);
    let refused = log.seek_group("g", &[to(&topic, 0, 0), to(&topic, 1, 6)]);
    assert!(matches!(refused, Err(Error::Refused(Refusal::OffsetOutOfRange { sent: 6, end: 5, .. }))));
    let refused = log.seek_group("g", &[to(&topic, 2, 0)]);
    assert!(matches!(refused, Err(Error::NoSuchPartition { .. })));
    let nameless = log.seek_group(" ", &[]);
    assert!(matches!(nameless, Err(Error::Refused(Refusal::IllegalGroupName { .. }))));
    assert!(log.group("g").is_none());
}

#[test]
fn groups_of_clients_of_a_node_are_shown_and_moved_by_any_name() {
    let (_directory, log, topic) = filled(5);
    let name = "two words/ü";
    let refused = log.seek_group(name, &[to(&topic, 1, 1)]);
    assert!(matches!(refused, Err(Error::Refused(Refusal::IllegalName { .. }))), "no node has had this log");
    log.raise_semantics_level().unwrap();
    log.seek_group(name, &[to(&topic, 1, 1)]).unwrap();
    assert_eq!(log.committed(name, &topic, 1), Some(1));
    assert!(log.group(name).is_some());
    log.seek_group(name, &[to(&topic, 1, 0)]).unwrap();
    assert_eq!(log.committed(name, &topic, 1), Some(0));
    // Once is enough, and it says nothing of topics.
    let before = log.details().lsn;
    log.raise_semantics_level().unwrap();
    assert_eq!((log.details().lsn, log.details().semantics_level), (before, 3));
    assert!(matches!(log.create_topic("two words", TopicOptions::default()), Err(Error::IllegalName { .. })));
}

#[test]
fn the_first_record_of_a_time_is_found() {
    let (_directory, log, topic) = filled(5);
    assert_eq!(log.first_at_or_after(&topic, 1, 1_003).unwrap(), Some((3, 1_003)));
    assert_eq!(log.first_at_or_after(&topic, 1, 0).unwrap(), Some((0, 1_000)));
    assert_eq!(log.first_at_or_after(&topic, 1, 1_005).unwrap(), None);
    assert!(matches!(log.first_at_or_after(&topic, 9, 0), Err(Error::NoSuchPartition { .. })));
}

#[test]
fn the_commands_of_the_journal_are_told_in_their_order() {
    let (_directory, log, topic) = filled(2);
    log.seek_group("g", &[to(&topic, 1, 1)]).unwrap();
    let commands: Vec<_> = log.commands(1).unwrap().collect::<Result<_, _>>().unwrap();
    let kinds: Vec<_> = commands.iter().map(|command| command.kind).collect();
    assert_eq!(kinds, ["Open", "Config", "CreateTopic", "InitProducer", "Commit", "Commit", "CommitOffsets"]);
    let lsns: Vec<_> = commands.iter().map(|command| command.lsn).collect();
    assert_eq!(lsns, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(commands[1].text, "change=DedupKey", "the key itself isn't told");
    assert_eq!(commands[2].text, "topic=t partitions=2");
    assert_eq!(commands[6].text, "group=g position=1-1@1(reset)");
    assert_eq!(log.commands(6).unwrap().count(), 2);
    assert_eq!(log.commands(8).unwrap().count(), 0);
}
