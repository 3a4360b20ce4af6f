//! What a front end can say of wire transactions without asking for anything.

use crate::common::*;
use crate::wire_transactions::Wire;
use exactlog::wire::{ActiveProducer, TransactionPhase};
use exactlog::{Error, Partition, Refusal};
use exactlog_sim::disk::SimDisk;

#[test]
fn tx_26_a_transactional_id_is_told_as_it_stood_when_it_was_asked_for() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    assert_eq!(log.transactional_id("one"), None);
    assert_eq!(log.transactional_ids(), []);
    let mut wire = Wire::new(&log, "one", 60_000);
    Wire::new(&log, "another", 30_000);
    let empty = log.transactional_id("one").unwrap();
    wire.append(&topic, 0, "v").unwrap();
    let open = log.transactional_id("one").unwrap();
    assert_eq!(
        (&empty.phase, empty.producer, empty.timeout_ms),
        (&TransactionPhase::Empty, wire.producer, 60_000)
    );
    let partitions = open.transaction().unwrap().partitions.iter().copied().collect::<Vec<_>>();
    assert_eq!(partitions, [Partition { topic: topic.id(), index: 0 }]);
    let ids = log.transactional_ids();
    assert_eq!(ids.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["another", "one"]);
    assert_eq!(ids[1].1, open);
}

#[test]
fn tx_26_the_producers_of_a_partition_are_told_with_their_open_transactions() {
    let log = open(&SimDisk::new());
    let topic = topic(&log, "t", 1);
    let at = Partition { topic: topic.id(), index: 0 };
    assert_eq!(log.active_producers(at).unwrap(), []);
    send_all(&log, &topic, ["before".into()]);
    let mut wire = Wire::new(&log, "one", 60_000);
    wire.append(&topic, 0, "v").unwrap();
    wire.append(&topic, 0, "w").unwrap();
    let of_wire = |wire: &Wire| {
        log.active_producers(at).unwrap().into_iter().find(|it| it.producer == wire.producer).unwrap()
    };
    let expected = ActiveProducer {
        producer: wire.producer,
        producer_epoch: 0,
        last_sequence: 1,
        last_timestamp_ms: 1_000,
        coordinator_epoch: None,
        transaction_start: Some(1),
    };
    assert_eq!(of_wire(&wire), expected);
    wire.end(true).unwrap();
    let ended = of_wire(&wire);
    assert!(ended.coordinator_epoch.is_some());
    assert_eq!(ended.transaction_start, None);
    let nowhere = Partition { index: 1, ..at };
    let refused = log.active_producers(nowhere).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::UnknownPartition { .. })), "{refused}");
}

#[test]
fn tx_27_connections_are_numbered_upwards_over_opens_and_kills() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let mut last = 0;
    let mut check = |log: &exactlog::Log| {
        for _ in 0..3 {
            let next = log.next_connection();
            assert!(next > last, "{next} behind {last}");
            last = next;
        }
    };
    check(&log);
    check(&log.clone());
    let (disk, log) = after_kill(&disk);
    check(&log);
    log.close().unwrap();
    check(&open(&disk));
}
