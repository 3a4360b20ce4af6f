//! A log that a node keeps, without a socket: the same calls, and what becomes of them when answers, connections and
//! nodes are lost (ADR 42; semantics ON-1, ON-2, ON-3).

use crate::common::over::{GRACE, another, connected};
use crate::common::{builder, open, send_all, topic, until, values};
use exactlog::{Error, Event, KeyRange, Log, Refusal, Reserve, Seen, Start, TableOptions, TopicOptions};
use exactlog_sim::disk::SimDisk;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn near(disk: &SimDisk) -> Log {
    builder(disk.clone()).open("simulated").unwrap()
}

#[test]
fn what_is_sent_committed_and_marked_over_it_is_what_the_node_has() {
    let node = near(&SimDisk::new());
    let (log, _link) = connected(node.clone());
    let orders = topic(&log, "orders", 3);
    let invoices = topic(&log, "invoices", 2);
    let table = log.create_table("stock", TableOptions::default()).unwrap();
    send_all(&log, &orders, (0..50).map(|n| format!("order {n}")));
    let mut producer = log.producer("billing").unwrap();
    let mut consumer = log.consumer("billing").subscribe([&orders]).unwrap();
    let mut billed = 0;
    while let Some(batch) = consumer.try_next().unwrap() {
        let mut transaction = producer.begin();
        for order in &batch {
            billed += 1;
            let text = format!("for {}", order.value_str().unwrap());
            transaction.send(&invoices, Event::unkeyed(text)).unwrap();
            transaction.mark("billing", order.value_str().unwrap()).unwrap();
        }
        transaction.put(&table, "billed", billed.to_string()).unwrap();
        transaction.ack(batch);
        transaction.blocking_commit().unwrap();
    }
    assert_eq!(billed, 50);
    let there = |log: &Log| {
        let invoices = log.open_topic("invoices").unwrap();
        let table = log.table("stock").unwrap();
        let mut values = values(log, &invoices);
        values.sort();
        let committed = (0..3).map(|index| log.committed("billing", &orders, index)).collect::<Vec<_>>();
        let seen = matches!(log.seen("billing", "order 7").unwrap(), Seen::Done(_));
        let rows: Vec<_> =
            table.scan(KeyRange::prefix("")).map(|row| row.unwrap().value().to_vec()).collect();
        (values, committed, seen, rows, log.lag("billing", &orders))
    };
    let (here, far) = (there(&node), there(&log));
    assert_eq!(here, far);
    assert_eq!((here.0.len(), here.2, here.4), (50, true, 0));
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_nothing_is_done_twice() {
    let node = near(&SimDisk::new());
    let (log, link) = connected(node.clone());
    let numbers = topic(&log, "numbers", 1);
    let producer = log.producer("p").unwrap();
    for n in 0..20 {
        link.faults.lose_answers.store(1 + n % 3, Ordering::SeqCst);
        producer.blocking_send(&numbers, Event::new("k", n.to_string())).unwrap();
    }
    let mut transactions = log.producer("t").unwrap();
    link.faults.lose_answers.store(2, Ordering::SeqCst);
    let mut transaction = transactions.begin();
    transaction.send(&numbers, Event::new("k", "20")).unwrap();
    transaction.send_after(&numbers, Event::new("k", "later"), Duration::from_secs(3600)).unwrap();
    transaction.blocking_commit().unwrap();
    // Not even what has no name of its own.
    link.faults.lose_answers.store(2, Ordering::SeqCst);
    producer.blocking_send_after(&numbers, Event::new("k", "later"), Duration::from_secs(3600)).unwrap();
    let expected: Vec<String> = (0..=20).map(|n| n.to_string()).collect();
    assert_eq!(values(&node, &numbers), expected);
    assert_eq!(node.metrics().timers.waiting, 2);
}

#[test]
fn a_node_that_is_killed_and_started_again_is_gone_on_with() {
    let mut disk = SimDisk::new();
    let (log, link) = connected(near(&disk));
    let numbers = topic(&log, "numbers", 2);
    let table = log.create_table("sums", TableOptions::default()).unwrap();
    let mut producer = log.producer("p").unwrap();
    for n in 0..30_u64 {
        let mut transaction = producer.begin();
        transaction.send(&numbers, Event::new(format!("k{n}"), n.to_string())).unwrap();
        transaction.put(&table, "last", n.to_string()).unwrap();
        if n % 3 == 0 {
            // Every other one is taken, and the node dies before it has said so; of the others it never hears.
            let is_taken = n % 2 == 0;
            link.faults.lose_answers.store(u64::from(is_taken), Ordering::SeqCst);
            if !is_taken {
                link.stops();
            }
            std::thread::scope(|scope| {
                let committed = scope.spawn(|| transaction.blocking_commit());
                if is_taken {
                    until("the group comes", || link.faults.lose_answers.load(Ordering::SeqCst) == 0);
                    link.stops();
                }
                disk = disk.process_kill();
                link.starts(near(&disk));
                committed.join().unwrap().unwrap();
            });
        } else {
            transaction.blocking_commit().unwrap();
        }
    }
    let mut found: Vec<u64> = values(&log, &numbers).iter().map(|value| value.parse().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (0..30).collect::<Vec<_>>());
    assert_eq!(table.get("last").unwrap().unwrap().value(), b"29");
}

#[test]
fn what_nothing_names_is_unknown_when_the_node_dies_with_it() {
    let disk = SimDisk::new();
    let (log, link) = connected(near(&disk));
    let numbers = topic(&log, "numbers", 1);
    let producer = log.producer("p").unwrap();
    let later = Duration::from_secs(3600);
    link.faults.lose_answers.store(1, Ordering::SeqCst);
    let set = std::thread::scope(|scope| {
        let set = scope.spawn(|| producer.blocking_send_after(&numbers, Event::new("k", "v"), later));
        until("the group comes", || link.faults.lose_answers.load(Ordering::SeqCst) == 0);
        let image = disk.process_kill();
        link.stops();
        link.starts(near(&image));
        set.join().unwrap()
    });
    match set {
        // Asked again before the node was gone: then it is known.
        Ok(_) => {}
        Err(Error::Unknown(_)) => {}
        other => panic!("{other:?}"),
    }
    until("the state is there again", || log.metrics().timers.waiting == 1);
    // And it goes on.
    producer.blocking_send(&numbers, Event::new("k", "after")).unwrap();
    assert_eq!(values(&log, &numbers), ["after"]);
}

#[test]
fn members_share_partitions_over_it_and_those_of_a_process_that_is_gone_leave() {
    let (log, link) = connected(near(&SimDisk::new()));
    let work = topic(&log, "work", 4);
    let mut one = log.consumer("g").subscribe([&work]).unwrap();
    assert_eq!(one.positions().unwrap().len(), 4);
    let second = another(&link);
    let mut two = second.consumer("g").subscribe([&work]).unwrap();
    until("they share", || (one.positions().unwrap().len(), two.positions().unwrap().len()) == (2, 2));
    // It is gone without a word, as a process that is killed.
    std::mem::forget(two);
    std::mem::forget(second);
    link.faults.is_cut.store(true, Ordering::SeqCst);
    std::thread::sleep(GRACE + Duration::from_millis(100));
    link.faults.is_cut.store(false, Ordering::SeqCst);
    link.look();
    // Both were away for too long: whoever is still there is told, and joins anew.
    until("it is told", || matches!(one.positions(), Err(Error::ConsumerFenced { .. })));
    let mut one = log.consumer("g").subscribe([&work]).unwrap();
    until("it has all of them", || one.positions().unwrap().len() == 4);
}

#[test]
fn a_member_that_does_not_come_back_is_fenced_by_its_own_process() {
    let (log, _link) = connected(near(&SimDisk::new()));
    let work = topic(&log, "work", 2);
    let interval = Duration::from_millis(50);
    let mut slow = log.consumer("g").max_poll_interval(interval).subscribe([&work]).unwrap();
    assert_eq!(slow.positions().unwrap().len(), 2);
    let mut other = log.consumer("g").subscribe([&work]).unwrap();
    until("the other has both", || other.positions().unwrap().len() == 2);
    assert!(matches!(slow.positions(), Err(Error::ConsumerFenced { .. })));
}

#[test]
fn who_waits_for_records_is_woken_by_those_that_others_send() {
    let node = near(&SimDisk::new());
    let (log, _link) = connected(node.clone());
    let work = topic(&log, "work", 1);
    let mut consumer = log.consumer("g").start(Start::Latest).subscribe([&work]).unwrap();
    assert!(consumer.try_next().unwrap().is_none());
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || {
            let batch = consumer.blocking_next().unwrap().unwrap();
            batch.records()[0].value_str().unwrap().to_owned()
        });
        node.producer("p").unwrap().blocking_send(&work, Event::new("k", "new")).unwrap();
        assert_eq!(waits.join().unwrap(), "new");
    });
}

#[test]
fn refusals_ids_and_reservations_are_those_of_the_node() {
    let (log, _link) = connected(near(&SimDisk::new()));
    let feed = topic(&log, "feed", 1);
    let refused = log.create_topic("feed", TopicOptions::default().partitions(2));
    assert!(matches!(refused, Err(Error::Refused(Refusal::TopicExists { .. }))), "{refused:?}");
    let refused = log.create_topic("__timers-mine", TopicOptions::default());
    assert!(matches!(refused, Err(Error::ReservedName { .. })), "{refused:?}");
    let producer = log.producer("p").unwrap();
    assert!(!producer.blocking_send(&feed, Event::new("k", "v").id("e1")).unwrap().duplicate);
    let again = producer.blocking_send(&feed, Event::new("k", "v").id("e1")).unwrap();
    assert!(again.duplicate);
    let lease = Duration::from_secs(60);
    let Reserve::Reserved(reservation) = log.blocking_reserve("mail", "m1", lease).unwrap() else { panic!() };
    assert!(matches!(log.blocking_reserve("mail", "m1", lease).unwrap(), Reserve::InProgress { .. }));
    reservation.blocking_finish().unwrap();
    assert!(matches!(log.blocking_reserve("mail", "m1", lease).unwrap(), Reserve::Done(_)));
    // A newer producer of the name fences the older one.
    let newer = log.producer("p").unwrap();
    newer.blocking_send(&feed, Event::new("k", "w")).unwrap();
    let fenced = producer.blocking_send(&feed, Event::new("k", "x"));
    assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
}

#[test]
fn what_only_the_process_that_keeps_the_log_can_do_is_an_error_of_its_own() {
    let (log, _link) = connected(near(&SimDisk::new()));
    let errors =
        [log.checkpoint().unwrap_err(), log.clean().unwrap_err(), log.commands(1).map(|_| ()).unwrap_err()];
    for error in errors {
        assert!(matches!(error, Error::NotOverConnection { .. }), "{error}");
    }
    assert_eq!(log.details().lsn, log.metrics().lsn);
    let host = exactlog::far::Host::new(&log);
    assert!(matches!(host.greet(GRACE), Err(exactlog::far::HostError::Refused(_))), "it isn't passed on");
}

#[test]
fn a_log_over_it_is_closed_while_its_node_is_away() {
    let (log, link) = connected(near(&SimDisk::new()));
    let work = topic(&log, "work", 1);
    let producer = log.producer("p").unwrap();
    link.faults.is_cut.store(true, Ordering::SeqCst);
    let waits = std::thread::spawn(move || producer.blocking_send(&work, Event::new("k", "v")));
    until("it is tried", || !waits.is_finished());
    std::thread::sleep(Duration::from_millis(50));
    log.close().unwrap();
    let sent = waits.join().unwrap();
    assert!(matches!(sent, Err(Error::Unknown(_) | Error::Closed)), "{sent:?}");
}

#[test]
fn all_of_it_holds_for_logs_that_tests_open() {
    // The rest of the suite runs on such a log with EXACTLOG_FACADE=far: it isn't one by chance.
    let log = open(&SimDisk::new());
    let is_far = matches!(log.checkpoint(), Err(Error::NotOverConnection { .. }));
    assert_eq!(is_far, crate::common::is_far());
}
