//! A clock that a test lets go ahead: what was to come is due, and nothing goes back by it.

use crate::common::*;
use crate::wire_transactions::Wire;
use exactlog::{Clock, Event, Reserve, Seen, TopicOptions};
use exactlog_sim::disk::SimDisk;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const MS_OF_AN_HOUR: i64 = 3_600_000;

#[test]
fn what_was_to_come_is_due() {
    let log = open(&SimDisk::new());
    let (topic, shop) = (topic(&log, "t", 1), log.producer("shop").unwrap());
    shop.blocking_send_after(&topic, Event::new("k", "reminder"), 2 * HOUR).unwrap();
    let Reserve::Reserved(_lease) = log.blocking_reserve("job", "a", HOUR).unwrap() else {
        panic!("nobody had it")
    };
    let mut wire = Wire::new(&log, "copier", 60_000);
    wire.append(&topic, 0, "open").unwrap();
    log.skip_time(Duration::from_secs(30));
    assert!(matches!(log.blocking_reserve("job", "a", HOUR).unwrap(), Reserve::InProgress { .. }));
    assert_eq!(log.metrics().open_transactions, 1);
    log.skip_time(HOUR);
    until("the transaction timed out", || log.metrics().open_transactions == 0);
    assert_eq!(log.seen("job", "a").unwrap(), Seen::Absent);
    assert!(values(&log, &topic).is_empty(), "neither the reminder nor what was aborted");
    log.skip_time(HOUR);
    until("the reminder is delivered", || values(&log, &topic) == ["reminder"]);
}

#[test]
fn records_get_old_and_what_is_written_then_is_of_then() {
    let log = builder(SimDisk::new()).cleanup_interval(HOUR).open("simulated").unwrap();
    let options = TopicOptions::default().partitions(1).retention(24 * HOUR).segment_bytes(1024 * 1024);
    let topic = log.create_topic("t", options).unwrap();
    let filler = "x".repeat(500_000);
    send_all(&log, &topic, (0..4).map(|_| filler.clone()));
    log.skip_time(2 * HOUR);
    send_all(&log, &topic, ["new".to_string()]);
    let times: Vec<i64> = log.read_view().records(&topic).map(|it| it.unwrap().timestamp_ms).collect();
    assert!(times[4] - times[3] >= 2 * MS_OF_AN_HOUR, "{times:?}");
    // What is in files is looked at every hour, and so by it, too. The file in which both meet stays.
    log.checkpoint().unwrap();
    log.checkpoint().unwrap();
    log.skip_time(23 * HOUR);
    until("the older ones have gone", || log.bounds(&topic, 0).unwrap().0 >= 2);
    assert_eq!(values(&log, &topic).last().unwrap(), "new");
}

/// Killed and opened with the same clock time goes on; with the system's it stands still, and goes back in no case.
#[test]
fn a_log_that_is_opened_again_goes_on_by_the_same_clock() {
    let (disk, clock) = (SimDisk::new(), Clock::default());
    let log = builder(disk.clone()).clock(&clock).open("simulated").unwrap();
    let topic = topic(&log, "t", 1);
    log.skip_time(10 * HOUR);
    assert_eq!(clock.ahead(), 10 * HOUR);
    log.producer("shop").unwrap().blocking_send_after(&topic, Event::new("k", "reminder"), HOUR).unwrap();
    let killed = disk.process_kill();

    let log = builder(killed.clone()).clock(&clock).open("simulated").unwrap();
    assert!(values(&log, &topic).is_empty(), "the ten hours don't pass a second time");
    log.skip_time(HOUR);
    until("the reminder is delivered", || values(&log, &topic) == ["reminder"]);
    let delivered_ms = log.read_view().records(&topic).next().unwrap().unwrap().timestamp_ms;

    let log = open(&killed.process_kill());
    send_all(&log, &topic, ["later".to_string()]);
    let begin_ms = delivered_ms - 11 * MS_OF_AN_HOUR;
    let last_ms = log.read_view().records(&topic).last().unwrap().unwrap().timestamp_ms;
    assert!(last_ms < begin_ms + MS_OF_AN_HOUR, "a record has the time of its producer: {last_ms}");
    assert!(matches!(log.blocking_reserve("job", "a", HOUR).unwrap(), Reserve::Reserved(_)));
}
