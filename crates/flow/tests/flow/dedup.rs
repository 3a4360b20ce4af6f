//! Copies: each event once, and never none at all.

use crate::common::{House, ended, event};
use exactlog::{Event, Seen};
use exactlog_flow::{Context, Dedup, DedupBy, Failure, Processor, Retry, RetryMode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Counts calls, and fails so many of them first.
fn counting(calls: &Arc<AtomicU32>, failures: u32) -> impl exactlog_flow::Handler + use<> {
    let calls = calls.clone();
    move |_: Context| {
        let nth = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            match nth < failures {
                true => Err(Failure::transient("Timeout", nth)),
                false => Ok(()),
            }
        }
    }
}

#[tokio::test]
async fn every_event_three_times_has_one_effect() {
    let mut house = House::new(2);
    let copies = (0..100).flat_map(|n| (0..3).map(move |_| event(&format!("k{n}"), "v", &format!("id-{n}"))));
    house.send(copies);
    let calls = Arc::new(AtomicU32::new(0));
    let running = Processor::new(&house.log, "billing").topic(&house.orders).batch(7);
    let running = running.start(counting(&calls, 0)).unwrap();
    let counts = ended(&running, 300).await;
    assert_eq!((counts.done_total(), counts.duplicate), (100, 200));
    running.stop().await.unwrap();
    // A copy that comes a restart later is one, too.
    house = house.reopen();
    house.send([event("k5", "v", "id-5"), event("k5", "v", "id-new")]);
    let running = Processor::new(&house.log, "billing").topic(&house.orders);
    let running = running.start(counting(&calls, 0)).unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.done_total(), counts.duplicate), (1, 1));
    running.stop().await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 101);
}

#[tokio::test]
async fn em_7_an_event_that_is_forgotten_is_processed_once_more() {
    let house = House::new(1);
    house.send([event("a", "v", "id-1"), event("b", "v", "id-2")]);
    let calls = Arc::new(AtomicU32::new(0));
    let running = Processor::new(&house.log, "billing").topic(&house.orders);
    let running = running.start(counting(&calls, 0)).unwrap();
    ended(&running, 2).await;
    assert!(house.log.forget_id("billing", "id-1").unwrap().is_some());
    assert_eq!(house.log.seen("billing", "id-1").unwrap(), Seen::Absent);
    house.send([event("a", "v", "id-1"), event("b", "v", "id-2"), event("a", "v", "id-1")]);
    let counts = ended(&running, 5).await;
    assert_eq!((counts.done_total(), counts.duplicate), (3, 2));
    running.stop().await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

/// An id that the log doesn't take is a mistake of that event, and of no other; no id at all is none.
#[tokio::test(start_paused = true)]
async fn an_event_whose_id_is_too_long_is_a_dead_letter() {
    let house = House::new(1);
    let (long, longest) = ("i".repeat(1025), "i".repeat(1024));
    house.send([event("a", "1", &long), event("a", "2", &longest), event("a", "3", ""), event("a", "4", "")]);
    let calls = Arc::new(AtomicU32::new(0));
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let running = processor.dedup(Dedup::by_header("message-id")).start(counting(&calls, 0)).unwrap();
    let counts = ended(&running, 4).await;
    assert_eq!((counts.dead, counts.done_total(), counts.duplicate), (1, 3, 0));
    running.stop().await.unwrap();
    let letters = house.records("dlq.orders");
    assert_eq!(letters[0].value(), b"1");
    let message = String::from_utf8_lossy(letters[0].header("__dlq.errors.message").unwrap());
    assert!(message.contains("1025") && message.contains("1024"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_failed_left_no_mark_and_a_later_copy_is_processed() {
    let house = House::new(1);
    house.send([event("a", "1", "id-1"), event("b", "1", "id-1")]);
    let calls = Arc::new(AtomicU32::new(0));
    let running = Processor::new(&house.log, "billing").topic(&house.orders).batch(1).retry(Retry::never());
    let running = running.start(counting(&calls, 1)).unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.dead, counts.done_total(), counts.duplicate), (1, 1, 0));
    running.stop().await.unwrap();
}

/// The first copy waits for its retry, the second one (of another key) goes well meanwhile: the first is a copy then.
#[tokio::test(start_paused = true)]
async fn a_copy_that_overtakes_the_retry_wins() {
    let house = House::new(1);
    house.send([event("a", "1", "id-1"), event("b", "1", "id-1")]);
    let calls = Arc::new(AtomicU32::new(0));
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let running = processor.retry(Retry::default().mode(RetryMode::Unordered));
    let running = running.start(counting(&calls, 1)).unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.retried, counts.done_total(), counts.duplicate), (1, 1, 1));
    running.stop().await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn two_copies_that_run_at_the_same_time_have_one_effect() {
    let house = House::new(1);
    let payments = house.topic("payments");
    house.send([event("a", "1", "id-1"), event("b", "2", "id-1")]);
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(move |order: Context| {
            let payments = payments.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                order.send(&payments, Event::unkeyed(order.value().to_vec()))
            }
        })
        .unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.done_total(), counts.duplicate), (1, 1));
    running.stop().await.unwrap();
    assert_eq!(house.records("payments").len(), 1);
}

/// With a lease the second copy doesn't run beside the first one: it waits, and finds it done.
#[tokio::test]
async fn a_lease_keeps_copies_apart() {
    let house = House::new(1);
    house.send([event("a", "1", "id-1"), event("b", "2", "id-1")]);
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (now_in, most_in) = (now.clone(), most.clone());
    let running = Processor::new(&house.log, "mailer")
        .topic(&house.orders)
        .dedup(Dedup::default().lease(Duration::from_millis(200)))
        .start(move |_: Context| {
            let (now, most) = (now_in.clone(), most_in.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<(), Failure>(())
            }
        })
        .unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.done_total(), counts.duplicate, counts.retried), (1, 1, 0), "no attempt was lost");
    running.stop().await.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

/// hookdeck/outpost#36: the mark is set, the process dies before the effect. Here the lease ends, and it runs.
#[tokio::test]
async fn a_reservation_whose_owner_died_delays_the_event_and_loses_it_never() {
    let house = House::new(1);
    house.send([event("a", "1", "id-1")]);
    let lease = Duration::from_millis(300);
    let reserved = house.log.blocking_reserve("mailer", "id-1", lease).unwrap();
    // As after a kill: nobody finishes or releases it.
    std::mem::forget(reserved);
    assert!(matches!(house.log.seen("mailer", "id-1").unwrap(), Seen::Reserved { .. }));
    let calls = Arc::new(AtomicU32::new(0));
    let running =
        Processor::new(&house.log, "mailer").topic(&house.orders).dedup(Dedup::default().lease(lease));
    let running = running.start(counting(&calls, 0)).unwrap();
    let counts = ended(&running, 1).await;
    assert_eq!((counts.done_total(), calls.load(Ordering::SeqCst)), (1, 1));
    running.stop().await.unwrap();
    assert!(matches!(house.log.seen("mailer", "id-1").unwrap(), Seen::Done(_)));
}

#[tokio::test]
async fn ids_come_from_where_one_says() {
    let house = House::new(1);
    house.send([
        Event::new("a", "1").header("order-id", "7"),
        Event::new("b", "2").header("order-id", "7"),
        Event::new("a", "3").header("order-id", "8"),
        Event::new("c", "4"),
    ]);
    let by_length = Dedup::by(|record| Some(exactlog::EventId::from(record.value().len().to_string())));
    for (group, dedup, done) in [
        ("none", None, 4),
        ("usual", Some(Dedup::default()), 4),
        ("header", Some(Dedup::by_header("order-id")), 3),
        ("key", Some(Dedup::by_key().scope(DedupBy::Topic)), 3),
        ("function", Some(by_length), 1),
    ] {
        let processor = Processor::new(&house.log, group).topic(&house.orders);
        let processor = match dedup {
            Some(dedup) => processor.dedup(dedup),
            None => processor.without_dedup(),
        };
        let running = processor.start(counting(&Arc::default(), 0)).unwrap();
        assert_eq!(ended(&running, 4).await.done_total(), done, "{group}");
        running.stop().await.unwrap();
    }
}

/// An output with an id that its topic has seen is left out: the first one won. The commit isn't refused for it.
#[tokio::test]
async fn an_output_is_stored_once_by_its_id() {
    let house = House::new(1);
    let payments = house.topic("payments");
    house.send((0..6).map(|n| Event::new(format!("k{n}"), n.to_string())));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .batch(2)
        .start(move |order: Context| {
            let payments = payments.clone();
            async move { order.send(&payments, Event::unkeyed(order.value().to_vec()).id("payment-1")) }
        })
        .unwrap();
    assert_eq!(ended(&running, 6).await.done_total(), 6);
    running.stop().await.unwrap();
    assert_eq!(house.values("payments"), ["0"]);
}

/// The log remembers no more ids for the moment: that is no event's fault, and none dies of it.
#[tokio::test(start_paused = true)]
async fn when_no_more_ids_are_remembered_it_waits_until_there_is_room() {
    let house = House::new(1);
    let limits = house.log.dedup_limits();
    let ttl = Duration::from_millis(limits.ttl_ms);
    house.log.set_dedup_limits(ttl, 5, limits.at_cap).unwrap();
    house.send((0..20).map(|n| event(&format!("k{n}"), "v", &format!("id-{n}"))));
    let running = Processor::new(&house.log, "billing").topic(&house.orders).batch(2);
    let running = running.start(counting(&Arc::default(), 0)).unwrap();
    assert_eq!(ended(&running, 4).await.done_total(), 4);
    // Long enough for many attempts, of virtual time.
    tokio::time::sleep(Duration::from_secs(120)).await;
    house.log.set_dedup_limits(ttl, 1000, limits.at_cap).unwrap();
    let counts = ended(&running, 20).await;
    assert_eq!((counts.done_total(), counts.dead, counts.retried), (20, 0, 0));
    running.stop().await.unwrap();
}
