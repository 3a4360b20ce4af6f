//! `Durability::Interval`: acknowledged at once, on disk a little later.

use crate::common::{builder, spare_is_ready, topic, until, values};
use exactlog::{Builder, Durability, Error, Event, Log};
use exactlog_sim::disk::{Call, EIO, Effect, Fault, SimDisk, Survival};
use exactlog_storage::error::StorageError;
use std::time::Duration;

fn within(length: Duration, disk: &SimDisk) -> Builder {
    builder(disk.clone()).durability(Durability::Interval(length))
}

fn send(log: &Log, count: u32) -> Result<(), Error> {
    let (topic, producer) = (topic(log, "t", 1), log.producer("p")?);
    (0..count).try_for_each(|n| producer.blocking_send(&topic, Event::new("k", n.to_string())).map(|_| ()))
}

fn left_after_a_power_loss(disk: &SimDisk) -> usize {
    let log = builder(disk.power_loss(&mut Survival::AllLost)).open("simulated").unwrap();
    let topic = topic(&log, "t", 1);
    values(&log, &topic).len()
}

#[test]
fn re_8_within_an_interval_what_was_acknowledged_is_on_disk() {
    let disk = SimDisk::new();
    let log = within(Duration::from_millis(5), &disk).open("simulated").unwrap();
    for sent in [10, 20] {
        send(&log, 10).unwrap();
        until("all is durable", || {
            let metrics = log.metrics();
            metrics.durable_lsn == metrics.lsn
        });
        assert_eq!(left_after_a_power_loss(&disk), sent);
    }
}

#[test]
fn re_8_before_the_interval_is_over_a_power_loss_takes_what_was_acknowledged() {
    let disk = SimDisk::new();
    let log = within(Duration::from_secs(3600), &disk).open("simulated").unwrap();
    send(&log, 10).unwrap();
    let metrics = log.metrics();
    assert!(metrics.durable_lsn < metrics.lsn, "{metrics:?}");
    assert_eq!(left_after_a_power_loss(&disk), 0);
    log.close().unwrap();
    assert_eq!(left_after_a_power_loss(&disk), 10, "closing syncs");
}

#[test]
fn an_idle_log_neither_syncs_nor_writes() {
    let disk = SimDisk::new();
    let log = within(Duration::from_millis(1), &disk).open("simulated").unwrap();
    send(&log, 10).unwrap();
    until("nothing happens any more", || {
        let before = disk.ops();
        std::thread::sleep(Duration::from_millis(100));
        disk.ops() == before
    });
    assert_eq!(log.metrics().durable_lsn, log.metrics().lsn);
}

#[test]
fn lg_10_a_sync_that_fails_beside_the_writer_ends_writing_until_a_reopen() {
    let disk = SimDisk::new();
    let log = within(Duration::from_millis(5), &disk).open("simulated").unwrap();
    let (topic, producer) = (topic(&log, "t", 1), log.producer("p").unwrap());
    let send = |value: &str| producer.blocking_send(&topic, Event::new("k", value.to_owned()));
    (0..10).for_each(|n| assert!(send(&n.to_string()).is_ok()));
    until("all is durable", || log.metrics().durable_lsn == log.metrics().lsn);
    spare_is_ready(&disk);
    disk.set_failed_sync(Survival::AllLost);
    disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)).on("journal/"));
    send("acknowledged, and lost").unwrap();
    until("the log has failed", || log.metrics().failed);
    let error = send("refused").unwrap_err();
    assert!(matches!(error, Error::Storage(StorageError::Poisoned { .. })), "{error}");
    assert_eq!(values(&log, &topic).len(), 11, "reading goes on");
    disk.evict(&mut Survival::AllLost);
    log.reopen().unwrap();
    assert_eq!(send("after").unwrap().offset, 10);
    assert_eq!(values(&log, &topic).len(), 11);
}

#[test]
fn an_interval_has_bounds() {
    for length in [Duration::ZERO, Duration::from_micros(999), Duration::from_secs(3601)] {
        let error = within(length, &SimDisk::new()).open("simulated").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("interval") && text.contains("1 to 3,600,000"), "{text}");
    }
}
