//! Ids of events on disk: moved there by the log itself, looked up from there, over kills, failures and a full disk.

use crate::common::{builder, topic, until};
use exactlog::{Error, Event, EventId, Log, Receipt, Refusal, Reserve, Seen, Sighting, Ticket, Topic};
use exactlog_sim::disk::SimDisk;
use std::time::Duration;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Ids that are kept in memory here.
const IN_MEMORY: u64 = 2_000;

fn open(disk: &SimDisk) -> Log {
    builder(disk.clone()).dedup_memory_entries(IN_MEMORY).open("simulated").unwrap()
}

fn id(number: u64) -> EventId {
    EventId::uuid((u128::from(number) << 64 | 7).to_be_bytes())
}

fn send_ids(log: &Log, topic: &Topic, numbers: std::ops::Range<u64>) -> Vec<Receipt> {
    let producer = log.producer("feed").unwrap();
    let submit = |number| producer.blocking_submit(topic, Event::new("k", "v").id(id(number))).unwrap();
    let tickets: Vec<Ticket> = numbers.map(submit).collect();
    tickets.into_iter().map(|ticket| ticket.wait().unwrap()).collect()
}

fn runs_are_made(log: &Log) {
    until("ids move to disk", || {
        let dedup = log.metrics().dedup;
        dedup.in_memory <= IN_MEMORY && dedup.runs > 0
    });
}

fn assert_all_are_known(log: &Log, topic: &Topic, first: &[Receipt]) {
    let again = send_ids(log, topic, 0..first.len() as u64);
    for (again, first) in again.iter().zip(first) {
        assert_eq!(*again, Receipt { duplicate: true, ..*first });
    }
    assert_eq!(log.seen(topic, id(u64::MAX)).unwrap(), Seen::Absent);
    assert!(matches!(log.seen(topic, id(0)).unwrap(), Seen::Done(_)));
}

#[test]
fn oa_9_ids_that_memory_does_not_hold_are_known_all_the_same_also_after_kills_and_checkpoints() {
    const EVENTS: u64 = 12_000;
    let mut disk = SimDisk::new();
    let mut log = open(&disk);
    let mut t = topic(&log, "t", 2);
    let first = send_ids(&log, &t, 0..EVENTS);
    runs_are_made(&log);
    assert_all_are_known(&log, &t, &first);
    for checkpoints in [false, true] {
        if checkpoints {
            log.checkpoint().unwrap();
        }
        disk = disk.process_kill();
        log = open(&disk);
        t = log.open_topic("t").unwrap();
        let metrics = log.metrics();
        assert_eq!(metrics.dedup_entries, EVENTS);
        assert!(metrics.dedup.in_memory <= IN_MEMORY && metrics.dedup.runs > 0, "{metrics:?}");
        assert_all_are_known(&log, &t, &first);
        assert!(log.metrics().dedup.look_ups >= EVENTS - IN_MEMORY);
    }
    // Few files, whatever many ids they have.
    assert!(log.metrics().dedup.runs <= 9, "{:?}", log.metrics().dedup);
    assert_eq!(log.metrics().dedup.complete_since_ms, None);
}

#[test]
fn em_8_what_is_done_outside_is_done_once_also_when_its_mark_is_on_disk() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 1);
    let Reserve::Reserved(done) = log.blocking_reserve("mail", "order 1", WEEK / 7).unwrap() else {
        panic!("it is new")
    };
    done.blocking_finish().unwrap();
    let Reserve::Reserved(open_still) = log.blocking_reserve("mail", "order 2", WEEK / 7).unwrap() else {
        panic!("it is new")
    };
    send_ids(&log, &t, 0..6_000);
    runs_are_made(&log);
    assert!(matches!(log.blocking_reserve("mail", "order 1", WEEK / 7).unwrap(), Reserve::Done(_)));
    assert!(matches!(log.seen("mail", "order 1").unwrap(), Seen::Done(_)));
    assert!(matches!(log.blocking_reserve("mail", "order 2", WEEK / 7).unwrap(), Reserve::InProgress { .. }));
    open_still.blocking_finish().unwrap();
    assert!(matches!(log.seen("mail", "order 2").unwrap(), Seen::Done(_)));
}

#[test]
fn em_7_ids_on_disk_and_in_memory_are_forgotten_and_stored_once_more_also_after_a_kill() {
    const EVENTS: u64 = 6_000;
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 1);
    assert_eq!(log.forget_id(&t, "text, and there is no key yet").unwrap(), None);
    send_ids(&log, &t, 0..EVENTS);
    runs_are_made(&log);
    let forgotten = [3, 4_000, EVENTS - 1];
    for number in forgotten {
        let Some(Sighting::Record { offset, .. }) = log.forget_id(&t, id(number)).unwrap() else { panic!() };
        assert_eq!(offset, number);
        assert_eq!(log.forget_id(&t, id(number)).unwrap(), None);
        assert_eq!(log.seen(&t, id(number)).unwrap(), Seen::Absent);
    }
    assert_eq!(log.metrics().dedup_entries, EVENTS - 3);
    let Reserve::Reserved(reservation) = log.blocking_reserve("s", "a", WEEK / 7).unwrap() else { panic!() };
    let refused = log.forget_id("s", "a").unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::EventReserved { .. })), "{refused}");
    reservation.blocking_finish().unwrap();
    log.checkpoint().unwrap();
    let again = disk.process_kill();
    drop(log);
    let log = open(&again);
    let t = log.open_topic("t").unwrap();
    let receipts = send_ids(&log, &t, 0..EVENTS);
    let stored: Vec<usize> =
        receipts.iter().enumerate().filter(|(_, it)| !it.duplicate).map(|(nth, _)| nth).collect();
    assert_eq!(stored, forgotten.map(|number| number as usize));
    assert!(matches!(log.seen("s", "a").unwrap(), Seen::Done(_)));
}
