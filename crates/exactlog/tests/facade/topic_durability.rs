//! Topics whose events don't wait for the disk, in a log whose other events do.

use crate::common::{builder, open, topic, values};
use exactlog::{Event, Log, Topic, TopicConfig, TopicDurability, TopicOptions};
use exactlog_sim::disk::{SimDisk, Survival};

/// A topic whose events are safe with the operating system, and one as the log.
fn weak_and_strong(log: &Log) -> (Topic, Topic) {
    let options = TopicOptions::default().durability(TopicDurability::Os);
    (log.create_topic("weak", options).unwrap(), topic(log, "strong", 1))
}

fn send(log: &Log, topic: &Topic, value: &str) {
    log.producer("p").unwrap().blocking_send(topic, Event::new("k", value.to_string())).unwrap();
}

/// What the next process finds after a power loss that takes all that was not synced: of the weak topic, and the other.
fn after_a_power_loss(disk: &SimDisk) -> (Vec<String>, Vec<String>) {
    let log = open(&disk.power_loss(&mut Survival::AllLost));
    let of = |name: &str| values(&log, &log.open_topic(name).unwrap());
    (of("weak"), of("strong"))
}

#[test]
fn re_8_events_of_a_topic_with_the_system_survive_the_process_and_not_the_power() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let (weak, _) = weak_and_strong(&log);
    let producer = log.producer("p").unwrap();
    let before = log.metrics().durable_lsn;
    let ids = Event::new("k", "with an id").id("1");
    producer.blocking_send(&weak, Event::new("k", "plain")).unwrap();
    producer.blocking_send(&weak, ids).unwrap();
    assert!(log.metrics().durable_lsn <= before + 1, "nothing but the producer's name was synced");
    assert_eq!(after_a_power_loss(&disk), (vec![], vec![]));
    let killed = builder(disk.process_kill()).open("simulated").unwrap();
    let found = values(&killed, &killed.open_topic("weak").unwrap());
    assert_eq!(found, ["plain", "with an id"]);
    log.close().unwrap();
    assert_eq!(after_a_power_loss(&disk).0, ["plain", "with an id"], "closing syncs");
}

#[test]
fn id_7_what_waits_for_the_disk_takes_along_what_came_before_it() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let (weak, strong) = weak_and_strong(&log);
    let producer = log.producer("p").unwrap();
    producer.blocking_send(&weak, Event::new("k", "first")).unwrap();
    let ticket = producer.blocking_submit(&weak, Event::new("k", "second")).unwrap();
    producer.blocking_send(&strong, Event::new("k", "third")).unwrap();
    ticket.wait().unwrap();
    assert_eq!(after_a_power_loss(&disk), (vec!["first".into(), "second".into()], vec!["third".into()]));
}

#[test]
fn re_8_transactions_are_as_safe_as_the_log_whatever_their_topics_say() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let (weak, strong) = weak_and_strong(&log);
    let mut producer = log.producer("p").unwrap();
    let send = |transaction: &mut exactlog::Transaction<'_>| {
        transaction.send(&weak, Event::new("k", "x"))?;
        transaction.send(&strong, Event::new("k", "y"))
    };
    producer.transaction(send).unwrap();
    assert_eq!(after_a_power_loss(&disk), (vec!["x".into()], vec!["y".into()]));
    producer.transaction(|transaction| transaction.send(&weak, Event::new("k", "z"))).unwrap();
    assert_eq!(after_a_power_loss(&disk).0, ["x", "z"]);
}

#[test]
fn the_durability_of_a_topic_can_be_changed_and_outlives_checkpoints() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let (weak, strong) = weak_and_strong(&log);
    let with = |durability| TopicConfig { durability, ..TopicConfig::default() };
    let weak = log.alter_topic(&weak, with(TopicDurability::Log)).unwrap();
    let strong = log.alter_topic(&strong, with(TopicDurability::Os)).unwrap();
    send(&log, &weak, "kept");
    log.checkpoint().unwrap();
    log.close().unwrap();

    let disk = disk.process_kill();
    let log = open(&disk);
    for (topic, durability) in [(&weak, TopicDurability::Log), (&strong, TopicDurability::Os)] {
        assert_eq!(log.open_topic(topic.name()).unwrap().config().durability, durability);
    }
    let producer = log.producer("p").unwrap();
    producer.blocking_send(&strong, Event::new("k", "lost")).unwrap();
    assert_eq!(after_a_power_loss(&disk), (vec!["kept".into()], vec![]));
    producer.blocking_send(&weak, Event::new("k", "kept, too")).unwrap();
    assert_eq!(after_a_power_loss(&disk), (vec!["kept".into(), "kept, too".into()], vec!["lost".into()]));
}
