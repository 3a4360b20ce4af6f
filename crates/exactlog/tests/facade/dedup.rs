//! Ids of events through the facade: sent twice, marked, reserved; over kills, failures and at the cap.

use crate::common::{after_kill, builder, open, topic, until, values, within_patience};
use exactlog::{
    AtCap, Error, Event, EventId, Log, Partition, Producer, Receipt, Refusal, Reservation, Reserve, Seen,
    Sighting, StorageError, Ticket, Topic, TopicOptions,
};
use exactlog_sim::disk::{Call, EIO, Effect, Fault, SimDisk, Survival};
use exactlog_sim::gate::GatedDisk;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(600);

fn event(id: &str, value: &str) -> Event {
    Event::new("k", value.to_string()).id(id)
}

fn submit(producer: &Producer, topic: &Topic, id: &str) -> Ticket {
    producer.blocking_submit(topic, event(id, id)).unwrap()
}

fn receipt(partition: u32, offset: u64, duplicate: bool) -> Receipt {
    Receipt { partition, offset, duplicate }
}

fn reserved(log: &Log, scope: &str, id: &str, lease: Duration) -> Reservation {
    match log.blocking_reserve(scope, id, lease).unwrap() {
        Reserve::Reserved(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}

fn is_in_progress(log: &Log, id: &str) -> bool {
    matches!(log.blocking_reserve("s", id, LEASE).unwrap(), Reserve::InProgress { .. })
}

#[test]
fn the_first_event_of_an_id_is_stored_and_repeats_are_told_where_also_after_a_kill() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 3);
    let other = topic(&log, "other", 1);
    let producer = log.producer("p").unwrap();
    let first = producer.blocking_send(&t, event("a", "first")).unwrap();
    assert!(!first.duplicate);
    let again = producer.blocking_send(&t, Event::new("another key", "again").id("a")).unwrap();
    assert_eq!(again, Receipt { duplicate: true, ..first });
    assert_eq!(producer.blocking_send(&other, event("a", "elsewhere")).unwrap(), receipt(0, 0, false));
    let sighting = |topic: &Topic, receipt: Receipt| Sighting::Record {
        partition: Partition { topic: topic.id(), index: receipt.partition },
        offset: receipt.offset,
    };
    for checkpoints in [false, true] {
        if checkpoints {
            log.checkpoint().unwrap();
        }
        let (_, log) = after_kill(&disk);
        let t = log.open_topic("t").unwrap();
        let producer = log.producer("p").unwrap();
        assert_eq!(
            producer.blocking_send(&t, event("a", "again")).unwrap(),
            Receipt { duplicate: true, ..first }
        );
        assert_eq!(log.seen(&t, "a").unwrap(), Seen::Done(sighting(&t, first)));
        assert_eq!(log.seen(&t, "b").unwrap(), Seen::Absent);
        assert_eq!(values(&log, &t), ["first"]);
        assert_eq!(log.metrics().dedup_hits, 1);
    }
    assert_eq!(log.metrics().dedup_entries, 2);
}

#[test]
fn repeats_among_new_events_leave_order_and_places_as_they_are() {
    let disk = GatedDisk::default();
    let log = builder(disk.layer()).open("simulated").unwrap();
    let t = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    let other = log.producer("other").unwrap();
    producer.blocking_send(&t, event("b", "b")).unwrap();
    producer.blocking_send(&t, event("d", "d")).unwrap();
    // What is sent while a write waits goes as one batch.
    disk.shut();
    let plug = producer.blocking_submit(&t, Event::new("k", "plug")).unwrap();
    disk.wait_until_reached();
    let ids = ["a", "b", "c", "a", "d", "e"];
    let tickets: Vec<Ticket> = ids.iter().map(|id| submit(&producer, &t, id)).collect();
    let plain = producer.blocking_submit(&t, Event::new("k", "plain")).unwrap();
    let more: Vec<Ticket> = ["f", "e"].iter().map(|id| submit(&producer, &t, id)).collect();
    let others: Vec<Ticket> = ["g", "c"].iter().map(|id| submit(&other, &t, id)).collect();
    disk.open_gate();
    let wait = |tickets: Vec<Ticket>| tickets.into_iter().map(|it| it.wait().unwrap()).collect::<Vec<_>>();
    assert_eq!(plug.wait().unwrap(), receipt(0, 2, false));
    let wanted = [
        receipt(0, 3, false),
        receipt(0, 0, true),
        receipt(0, 4, false),
        receipt(0, 3, true),
        receipt(0, 1, true),
        receipt(0, 5, false),
    ];
    assert_eq!(wait(tickets), wanted);
    assert_eq!(plain.wait().unwrap(), receipt(0, 6, false));
    let more = wait(more);
    assert_eq!(more, [receipt(0, 7, false), receipt(0, 5, true)]);
    assert_eq!(wait(others), [receipt(0, 8, false), receipt(0, 4, true)]);
    assert_eq!(values(&log, &t), ["b", "d", "plug", "a", "c", "e", "plain", "f", "g"]);
    let metrics = log.metrics();
    assert_eq!((metrics.dedup_hits, metrics.records_in), (5, 9));
}

#[test]
fn a_feed_that_is_read_twice_by_several_producers_at_once_is_stored_once() {
    const EVENTS: u64 = 5_000;
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 3);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let producer = log.producer(name).unwrap();
            let t = &t;
            scope.spawn(move || {
                let send = |n: u64| {
                    let event = Event::new(format!("key {}", n % 7), n.to_string());
                    // One in ten has none, and is sent by each.
                    let event = if n % 10 == 3 { event } else { event.id(format!("event {n}")) };
                    producer.blocking_submit(t, event).unwrap()
                };
                let tickets: Vec<Ticket> = (0..EVENTS).map(send).collect();
                tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
            });
        }
    });
    let mut numbers: Vec<u64> = values(&log, &t).iter().map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    let copies = |n: u64| if n % 10 == 3 { 3 } else { 1 };
    let wanted: Vec<u64> = (0..EVENTS).flat_map(|n| (0..copies(n)).map(move |_| n)).collect();
    assert!(numbers == wanted, "{} records instead of {}", numbers.len(), wanted.len());
    assert_eq!(log.metrics().dedup_hits, 2 * (EVENTS - EVENTS / 10));
}

#[test]
fn records_of_one_key_keep_their_order_whatever_repeats_are_between_them() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 2);
    let producer = log.producer("p").unwrap();
    let mut tickets = Vec::new();
    for n in 0..3_000u64 {
        let event = Event::new(format!("key {}", n % 5), n.to_string());
        let event = match n % 4 {
            0 => event,
            1 => event.id(format!("{}", n / 40)), // ten of each, of which nine repeat
            _ => event.id(format!("new {n}")),
        };
        tickets.push(producer.blocking_submit(&t, event).unwrap());
    }
    for (n, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(ticket.wait().unwrap().duplicate, n % 4 == 1 && n % 40 != 1, "{n}");
    }
    for partition in 0..2 {
        let records: Vec<u64> = log
            .read_view()
            .records(&t)
            .map(Result::unwrap)
            .filter(|record| record.partition == partition)
            .map(|record| record.value_str().unwrap().parse().unwrap())
            .collect();
        assert!(records.is_sorted() && !records.is_empty());
    }
}

#[test]
fn headers_times_and_compression_survive_that_repeats_are_left_out() {
    let disk = GatedDisk::default();
    let log = builder(disk.layer()).open("simulated").unwrap();
    let t = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    producer.set_compression(exactlog::Compression::Lz4).unwrap();
    producer.blocking_send(&t, event("a", "a")).unwrap();
    disk.shut();
    let plug = producer.blocking_submit(&t, Event::new("k", "plug")).unwrap();
    disk.wait_until_reached();
    let long = "long ".repeat(100);
    let full = Event::new("k", long.clone()).header("h", "v").header("g", "").at(17).id("b");
    let tickets = [submit(&producer, &t, "a"), producer.blocking_submit(&t, full).unwrap()];
    disk.open_gate();
    plug.wait().unwrap();
    tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    let record = log.read_view().records(&t).last().unwrap().unwrap();
    assert_eq!((record.value_str().unwrap(), record.timestamp_ms), (&*long, 17));
    assert_eq!((record.header("h"), record.header("g")), (Some(&b"v"[..]), Some(&b""[..])));
}

#[test]
fn em_7_a_transaction_s_mark_is_there_exactly_if_it_is() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    let attempt = |producer: &mut Producer, wrong: bool| {
        let mut transaction = producer.begin();
        transaction.mark("s", "order 1").unwrap();
        transaction.send(&t, Event::new("k", "effect")).unwrap();
        if wrong {
            transaction.expect_end(&t, 0, 99);
        }
        transaction.blocking_commit()
    };
    drop(producer.begin().mark("s", "order 1"));
    assert_eq!(log.seen("s", "order 1").unwrap(), Seen::Absent);
    assert!(matches!(attempt(&mut producer, true), Err(Error::Refused(Refusal::EndOffset { .. }))));
    assert_eq!(log.seen("s", "order 1").unwrap(), Seen::Absent, "failure leaves it free");
    let first = attempt(&mut producer, false).unwrap();
    let second = |log: &Log| {
        let mut producer = log.producer("p").unwrap();
        let Err(Error::Refused(Refusal::EventSeen { sighting, .. })) = attempt(&mut producer, false) else {
            panic!()
        };
        assert_eq!(sighting, Sighting::Command { lsn: first.csn });
        assert_eq!(values(log, &t), ["effect"]);
    };
    second(&log);
    log.checkpoint().unwrap();
    let (_, log) = after_kill(&disk);
    second(&log);
    assert_eq!(log.seen("other", "order 1").unwrap(), Seen::Absent);
}

#[test]
fn em_1_records_positions_and_marks_of_a_transaction_appear_together() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let (orders, invoices) = (topic(&log, "orders", 1), topic(&log, "invoices", 1));
    let mut producer = log.producer("p").unwrap();
    for _ in 0..2 {
        // The second copy has no id for the log: its consumer knows one.
        producer.blocking_send(&orders, Event::new("k", "order").header("message-id", "7")).unwrap();
    }
    let mut consumer = log.consumer("billing").max_poll_records(1).subscribe([&orders]).unwrap();
    let (mut done, mut repeats) = (0, 0);
    while let Some(batch) = consumer.try_next().unwrap() {
        let record = (&batch).into_iter().next().unwrap();
        let id = record.header("message-id").unwrap().to_vec();
        let mut transaction = producer.begin();
        transaction.mark("billing", id.clone()).unwrap();
        transaction.send(&invoices, Event::new("k", "invoice")).unwrap();
        transaction.ack(batch);
        match transaction.blocking_commit() {
            Ok(_) => done += 1,
            Err(Error::Refused(Refusal::EventSeen { .. })) => {
                repeats += 1;
                consumer.try_next().unwrap().unwrap().blocking_ack().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(values(&log, &invoices).len(), 1);
    }
    assert_eq!((done, repeats, log.lag("billing", &orders)), (1, 1, 0));
}

#[test]
fn a_transaction_with_an_event_whose_id_its_topic_has_seen_is_refused_whole() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = log.create_topic("t", TopicOptions::default().partitions(2).max_message_bytes(4096)).unwrap();
    let mut producer = log.producer("p").unwrap();
    producer.blocking_send(&t, event("a", "a")).unwrap();
    let mut transaction = producer.begin();
    transaction.send_to(&t, 1, event("b", "b")).unwrap();
    transaction.send_to(&t, 0, Event::unkeyed("x")).unwrap();
    transaction.send_to(&t, 0, event("a", "again")).unwrap();
    assert!(matches!(transaction.blocking_commit(), Err(Error::Refused(Refusal::EventSeen { .. }))));
    let mut transaction = producer.begin();
    // Several batches of a partition: the id is that of the last record.
    let large = "x".repeat(3000);
    transaction.send_to(&t, 1, Event::unkeyed(large.clone())).unwrap();
    transaction.send_to(&t, 1, Event::unkeyed(large)).unwrap();
    transaction.send_to(&t, 1, event("b", "b")).unwrap();
    transaction.blocking_commit().unwrap();
    let place = Sighting::Record { partition: Partition { topic: t.id(), index: 1 }, offset: 2 };
    assert_eq!(log.seen(&t, "b").unwrap(), Seen::Done(place));
    assert_eq!(producer.blocking_send(&t, event("b", "b")).unwrap(), receipt(1, 2, true));
}

#[test]
fn em_8_one_of_two_copies_runs_and_a_failed_one_lets_the_next_run() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let first = reserved(&log, "s", "mail 1", LEASE);
    assert!(is_in_progress(&log, "mail 1"));
    drop(first);
    until("the dropped reservation is released", || log.seen("s", "mail 1").unwrap() == Seen::Absent);
    let second = reserved(&log, "s", "mail 1", LEASE);
    second.blocking_release().unwrap();
    assert_eq!(log.metrics().dedup_released, 2);
    let third = reserved(&log, "s", "mail 1", LEASE);
    let number = third.number();
    assert!(
        matches!(log.seen("s", "mail 1").unwrap(), Seen::Reserved { reservation, .. } if reservation == number)
    );
    third.blocking_finish().unwrap();
    let (_, log) = after_kill(&disk);
    let done = log.blocking_reserve("s", "mail 1", LEASE).unwrap();
    assert!(matches!(done, Reserve::Done(Sighting::Command { lsn }) if lsn == number), "{done:?}");
}

#[test]
fn em_8_of_many_threads_with_one_event_exactly_one_does_it() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let mut counts = [0; 3];
    let answers = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| match log.blocking_reserve("s", "once", LEASE).unwrap() {
                    Reserve::Reserved(reservation) => {
                        reservation.blocking_finish().unwrap();
                        0
                    }
                    Reserve::InProgress { .. } => 1,
                    Reserve::Done(_) => 2,
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<usize>>()
    });
    answers.into_iter().for_each(|answer| counts[answer] += 1);
    assert_eq!((counts[0], counts.iter().sum::<u32>()), (1, 8), "{counts:?}");
}

#[test]
fn em_8_a_killed_owner_s_lease_ends_by_itself_and_what_it_says_later_is_refused() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let late = reserved(&log, "s", "a", Duration::from_millis(30));
    within_patience("the lease ends", {
        let log = log.clone();
        move || until("the lease ends", || log.metrics().dedup_reserved == 0)
    });
    assert_eq!(log.seen("s", "a").unwrap(), Seen::Absent);
    let second = reserved(&log, "s", "a", LEASE);
    let error = late.blocking_finish().unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::ReservationLapsed { .. })), "{error}");
    second.blocking_finish().unwrap();

    std::mem::forget(reserved(&log, "s", "b", Duration::from_millis(200)));
    let (_, log) = after_kill(&disk);
    within_patience("the lease of a killed process ends", move || {
        until("it ends", || log.seen("s", "b").unwrap() == Seen::Absent);
        reserved(&log, "s", "b", LEASE).blocking_finish().unwrap();
    });
}

#[test]
fn em_8_a_transaction_finishes_a_reservation_or_releases_it() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    for (id, wrong) in [("a", true), ("b", false)] {
        let mut transaction = producer.begin();
        transaction.finish(reserved(&log, "s", id, LEASE)).unwrap();
        transaction.send(&t, Event::new("k", id)).unwrap();
        if wrong {
            transaction.expect_end(&t, 0, 99);
        }
        assert_eq!(transaction.blocking_commit().is_err(), wrong);
    }
    until("the refused one's is released", || log.seen("s", "a").unwrap() == Seen::Absent);
    assert!(matches!(log.seen("s", "b").unwrap(), Seen::Done(_)));
    let mut transaction = producer.begin();
    transaction.finish(reserved(&log, "s", "c", LEASE)).unwrap();
    transaction.abort();
    until("the aborted one's is released", || log.seen("s", "c").unwrap() == Seen::Absent);
}

#[test]
fn at_the_cap_new_events_are_refused_or_the_window_gets_shorter_and_says_so() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 1);
    let producer = log.producer("p").unwrap();
    let week = Duration::from_secs(7 * 24 * 3600);
    log.set_dedup_limits(week, 2, AtCap::Refuse).unwrap();
    assert_eq!(log.dedup_limits().entries_max, 2);
    producer.blocking_send(&t, event("a", "a")).unwrap();
    producer.blocking_send(&t, event("b", "b")).unwrap();
    let error = producer.blocking_send(&t, event("c", "c")).unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::DedupFull { max: 2, .. })), "{error}");
    assert!(producer.blocking_send(&t, event("a", "a")).unwrap().duplicate);
    producer.blocking_send(&t, Event::new("k", "plain")).unwrap();
    assert_eq!(log.metrics().dedup_window_ms, week.as_millis() as u64);
    log.set_dedup_limits(week, 2, AtCap::Shorten).unwrap();
    producer.blocking_send(&t, event("c", "c")).unwrap();
    let metrics = log.metrics();
    assert!(metrics.dedup_entries <= 2 && metrics.dedup_window_ms < week.as_millis() as u64, "{metrics:?}");
    let error = log.set_dedup_limits(Duration::ZERO, 2, AtCap::Refuse).unwrap_err();
    assert!(error.to_string().contains("dedup.ttl.ms"), "{error}");
}

#[test]
fn ids_and_leases_that_make_no_sense_are_refused_by_name() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 1);
    let mut producer = log.producer("p").unwrap();
    let long = "x".repeat(1025);
    for id in ["", &long] {
        let is_refused = |error: Error| assert!(error.to_string().contains("1 to 1024"), "{error}");
        is_refused(producer.blocking_send(&t, event(id, "v")).unwrap_err());
        is_refused(log.seen(&t, id).unwrap_err());
        is_refused(log.blocking_reserve("s", id, LEASE).unwrap_err());
        is_refused(producer.begin().mark("s", id).unwrap_err());
    }
    for lease in [Duration::ZERO, Duration::from_secs(86_401), Duration::MAX] {
        let error = log.blocking_reserve("s", "a", lease).unwrap_err();
        assert!(error.to_string().contains("dedup.lease.ms"), "{error}");
    }
    assert!(log.blocking_reserve("a b", "a", LEASE).is_err());
    assert!(matches!(producer.begin().mark("", "a"), Err(Error::IllegalName { .. })));
    assert!(producer.begin().mark("s", "a").is_ok());
    assert_eq!(values(&log, &t), Vec::<String>::new());
}

#[test]
fn a_fenced_producer_stores_no_event_with_an_id_either() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 1);
    let old = log.producer("p").unwrap();
    let new = log.producer("p").unwrap();
    assert!(matches!(old.blocking_send(&t, event("a", "a")), Err(Error::Fenced { .. })));
    assert!(!new.blocking_send(&t, event("a", "a")).unwrap().duplicate);
}

#[test]
fn what_was_unknown_after_a_failed_sync_is_sent_again_and_stored_once() {
    for nth in 0..3 {
        let disk = SimDisk::new();
        let log = open(&disk);
        let t = topic(&log, "t", 1);
        let producer = log.producer("p").unwrap();
        producer.blocking_send(&t, event("a", "a")).unwrap();
        crate::common::spare_is_ready(&disk);
        disk.set_failed_sync(Survival::random(nth));
        disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)).on("journal/"));
        let error = producer.blocking_send(&t, event("b", "b")).unwrap_err();
        assert!(
            matches!(error, Error::Unknown(_) | Error::Storage(StorageError::Poisoned { .. })),
            "{error}"
        );
        log.reopen().unwrap();
        producer.blocking_send(&t, event("b", "b")).unwrap();
        producer.blocking_send(&t, event("c", "c")).unwrap();
        assert_eq!(values(&log, &t), ["a", "b", "c"]);
    }
}

#[test]
fn looking_at_a_log_shows_what_it_has_seen_and_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path()).unwrap();
    let t = topic(&log, "t", 1);
    log.producer("p").unwrap().blocking_send(&t, event("a", "a")).unwrap();
    log.close().unwrap();
    let looking = Log::builder().open_read_only(directory.path()).unwrap();
    let t = looking.open_topic("t").unwrap();
    assert!(matches!(looking.seen(&t, "a").unwrap(), Seen::Done(_)));
    assert_eq!(looking.seen(&t, EventId::uuid([1; 16])).unwrap(), Seen::Absent);
    assert!(matches!(looking.blocking_reserve("s", "a", LEASE), Err(Error::ReadOnly { .. })));
}

#[tokio::test]
async fn reserving_and_finishing_can_be_awaited() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let t = topic(&log, "t", 1);
    let Reserve::Reserved(reservation) = log.reserve("s", "a", LEASE).await.unwrap() else { panic!() };
    assert!(matches!(log.reserve("s", "a", LEASE).await.unwrap(), Reserve::InProgress { .. }));
    reservation.release().await.unwrap();
    let Reserve::Reserved(reservation) = log.reserve("s", "a", LEASE).await.unwrap() else { panic!() };
    reservation.finish().await.unwrap();
    assert!(matches!(log.reserve("s", "a", LEASE).await.unwrap(), Reserve::Done(_)));
    let producer = log.producer("p").unwrap();
    assert!(!producer.send(&t, event("a", "a")).await.unwrap().duplicate);
    assert!(producer.send(&t, event("a", "a")).await.unwrap().duplicate);
}
