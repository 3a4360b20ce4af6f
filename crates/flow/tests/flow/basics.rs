//! Reading, committing, stopping.

use crate::common::{House, ended, event};
use exactlog::{Event, TopicOptions};
use exactlog_flow::{Class, Context, Error, Failure, Processor, Retry};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[tokio::test]
async fn each_event_has_its_outputs_once_also_over_restarts() {
    let mut house = House::new(4);
    let mut sent = 0;
    for _ in 0..3 {
        let payments = house.topic("payments");
        house.send((sent..sent + 1000).map(|n| Event::new(format!("order-{}", n % 50), n.to_string())));
        sent += 1000;
        let running = Processor::new(&house.log, "billing")
            .topic(&house.orders)
            .batch(64)
            .start(move |order: Context| {
                let payments = payments.clone();
                async move { order.send(&payments, Event::new(order.key().to_vec(), order.value().to_vec())) }
            })
            .unwrap();
        let counts = ended(&running, 1000).await;
        assert_eq!((counts.read, counts.done["ok"], counts.dead), (1000, 1000, 0));
        running.stop().await.unwrap();
        assert_eq!(house.log.lag("billing", &house.orders), 0);
        house = house.reopen();
    }
    let mut paid: Vec<u32> = house.values("payments").iter().map(|value| value.parse().unwrap()).collect();
    paid.sort_unstable();
    assert_eq!(paid, (0..3000).collect::<Vec<u32>>());
}

#[tokio::test]
async fn a_failed_attempt_leaves_nothing() {
    let house = House::new(1);
    let payments = house.topic("payments");
    house.send([event("a", "1", "id-1")]);
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .retry(Retry::never())
        .start(move |order: Context| {
            let payments = payments.clone();
            async move {
                order.send(&payments, Event::unkeyed("never"))?;
                Err::<(), _>(Failure::permanent("Refused", "no"))
            }
        })
        .unwrap();
    assert_eq!(ended(&running, 1).await.dead, 1);
    running.stop().await.unwrap();
    assert!(house.records("payments").is_empty());
    assert_eq!(house.values("dlq.orders"), ["1"]);
}

#[tokio::test]
async fn a_fatal_failure_stops_it_and_commits_nothing() {
    let house = House::new(1);
    house.send((0..10).map(|n| Event::new("a", n.to_string())));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(async |order: Context| match order.value_str()? {
            "7" => Err(Failure::fatal("Config", "no account")),
            _ => Ok(()),
        })
        .unwrap();
    match running.ended().await {
        Err(Error::Fatal { offset: 7, failure, .. }) => assert_eq!(failure.class(), Class::Fatal),
        other => panic!("{other:?}"),
    }
    assert_eq!(house.log.lag("billing", &house.orders), 10);
}

#[tokio::test]
async fn processors_of_a_group_share_the_work_and_hand_it_over() {
    let house = House::new(6);
    house.send((0..600).map(|n| Event::new(format!("key-{n}"), n.to_string())));
    let payments = house.topic("payments");
    let start = || {
        let payments = payments.clone();
        Processor::new(&house.log, "billing")
            .topic(&house.orders)
            .batch(10)
            .start(move |order: Context| {
                let payments = payments.clone();
                async move { order.send(&payments, Event::new(order.key().to_vec(), order.value().to_vec())) }
            })
            .unwrap()
    };
    let (first, second) = (start(), start());
    tokio::time::sleep(Duration::from_millis(20)).await;
    first.stop().await.unwrap();
    house.send((600..900).map(|n| Event::new(format!("key-{n}"), n.to_string())));
    let third = start();
    while house.log.lag("billing", &house.orders) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    second.stop().await.unwrap();
    third.stop().await.unwrap();
    let mut paid: Vec<u32> = house.values("payments").iter().map(|value| value.parse().unwrap()).collect();
    paid.sort_unstable();
    assert_eq!(paid, (0..900).collect::<Vec<u32>>());
}

#[tokio::test]
async fn a_paused_one_reads_nothing_until_it_goes_on() {
    let house = House::new(1);
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(async |_: Context| Ok::<(), Failure>(()));
    let running = running.unwrap();
    running.pause();
    tokio::time::sleep(Duration::from_millis(20)).await;
    house.send([Event::new("a", "1")]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(running.metrics().counts.read, 0);
    running.resume();
    ended(&running, 1).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn it_ends_with_its_log() {
    let house = House::new(1);
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(async |_: Context| Ok::<(), Failure>(()));
    let running = running.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    house.log.close().unwrap();
    running.ended().await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_be_are_named_before_anything_is_made() {
    let house = House::new(1);
    let handler = async |_: Context| Ok::<(), Failure>(());
    let orders = Processor::new(&house.log, "billing").topic(&house.orders);
    let says = |processor: Processor| processor.start(handler).unwrap_err().to_string();
    assert!(says(Processor::new(&house.log, "billing")).contains("\"billing\" has no topic"));
    assert!(says(orders.clone().batch(0)).contains("max.poll.records is 0"));
    assert!(says(orders.clone().concurrency(0)).contains("concurrency is 0"));
    assert!(says(orders.clone().timeout(Duration::ZERO)).contains("handler.timeout.ms is 0"));
    assert!(says(orders.retry(Retry::default().max_attempts(0))).contains("retry.max.attempts is 0"));
    assert_eq!(house.log.topics().len(), 1);
}

#[test]
fn without_a_runtime_it_says_so() {
    let house = House::new(1);
    let started = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(async |_: Context| Ok::<(), Failure>(()));
    assert!(matches!(started, Err(Error::NoRuntime)));
}

#[tokio::test]
async fn an_output_that_is_too_large_is_the_events_failure() {
    let house = House::new(1);
    let small = house.log.create_topic("small", TopicOptions::default().max_message_bytes(1024)).unwrap();
    house.send([event("a", "1", "id-1"), event("b", "2", "id-2")]);
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(move |order: Context| {
            let small = small.clone();
            async move {
                let bytes = if order.value() == b"1" { 2000 } else { 100 };
                order.send(&small, Event::unkeyed(vec![7; bytes]))
            }
        })
        .unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.done_total(), counts.dead, counts.retried), (1, 1, 0), "no retry makes it smaller");
    running.stop().await.unwrap();
    let dead = house.records("dlq.orders");
    assert!(crate::common::header(&dead[0], "__dlq.errors.message").contains("1024"), "{dead:?}");
}

/// A transaction takes 16 MiB: what a whole round hands in may be more, and is committed in several then.
#[tokio::test]
async fn outputs_of_a_round_that_are_too_large_together_are_committed_apart() {
    let house = House::new(1);
    let large = house.log.create_topic("large", TopicOptions::default()).unwrap();
    house.send((0..30).map(|n| Event::new(format!("key-{n}"), n.to_string())));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(move |order: Context| {
            let large = large.clone();
            async move { order.send(&large, Event::new(order.value().to_vec(), vec![7; 1_000_000])) }
        })
        .unwrap();
    let counts = ended(&running, 30).await;
    assert_eq!((counts.done_total(), counts.dead), (30, 0));
    running.stop().await.unwrap();
    assert_eq!(house.records("large").len(), 30);
}

/// One event that hands in more than a transaction takes is dead-lettered, and those beside it aren't.
#[tokio::test]
async fn an_event_that_asks_for_too_much_is_dead_and_no_other() {
    let house = House::new(1);
    let large = house.log.create_topic("large", TopicOptions::default()).unwrap();
    house.send((0..5).map(|n| Event::new(format!("key-{n}"), n.to_string())));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(move |order: Context| {
            let large = large.clone();
            async move {
                let times = if order.value() == b"3" { 20 } else { 1 };
                for _ in 0..times {
                    order.send(&large, Event::new(order.value().to_vec(), vec![7; 1_000_000]))?;
                }
                Ok::<(), Failure>(())
            }
        })
        .unwrap();
    let counts = ended(&running, 5).await;
    assert_eq!((counts.done_total(), counts.dead), (4, 1));
    running.stop().await.unwrap();
    assert_eq!(house.values("dlq.orders"), ["3"]);
    assert_eq!(house.records("large").len(), 4);
}

#[tokio::test]
async fn a_context_that_outlives_its_attempt_takes_nothing() {
    let house = House::new(1);
    let payments = house.topic("payments");
    let late = Arc::new(parking_lot::Mutex::new(None));
    let kept = late.clone();
    house.send([Event::new("a", "1")]);
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(move |order: Context| {
            *kept.lock() = Some(order.clone());
            async move { Ok::<(), Failure>(()) }
        })
        .unwrap();
    ended(&running, 1).await;
    running.stop().await.unwrap();
    let context: Context = late.lock().take().unwrap();
    let error = context.send(&payments, Event::unkeyed("late")).unwrap_err();
    assert!(error.to_string().contains("orders-0 offset 0 is over"), "{error}");
}

#[tokio::test]
async fn different_keys_run_beside_each_other_and_one_key_in_order() {
    let house = House::new(1);
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    house.send((0..40).map(|n| Event::new(format!("key-{}", n % 8), n.to_string())));
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let (running_now, most_now, seen) = (now.clone(), most.clone(), order.clone());
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .concurrency(4)
        .start(move |event: Context| {
            let (now, most, seen) = (running_now.clone(), most_now.clone(), seen.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                seen.lock().push((event.key_str()?.to_string(), event.record().offset));
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<(), Failure>(())
            }
        })
        .unwrap();
    ended(&running, 40).await;
    running.stop().await.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 4);
    let order = order.lock();
    for key in 0..8 {
        let key = format!("key-{key}");
        let offsets: Vec<u64> = order.iter().filter(|it| it.0 == key).map(|it| it.1).collect();
        assert!(offsets.is_sorted() && offsets.len() == 5, "{key}: {offsets:?}");
    }
}

/// The group has gone on without a processor that is still at an event which had waited: no position says so, since
/// that lies behind it, and yet its commit is refused.
#[tokio::test]
async fn who_was_away_for_too_long_commits_nothing() {
    let house = House::new(2);
    let payments = house.topic("payments");
    let mut producer = house.log.producer("shop").unwrap();
    let mut transaction = producer.begin();
    for partition in 0..2 {
        transaction.send_to(&house.orders, partition, Event::new(partition.to_string(), "order")).unwrap();
    }
    transaction.blocking_commit().unwrap();
    let retry = Retry::default().backoff(Duration::from_millis(1), 1.0, Duration::from_millis(1));
    let start = |hangs: bool| {
        let payments = payments.clone();
        let processor = Processor::new(&house.log, "billing").topic(&house.orders).retry(retry.clone());
        let processor = processor.max_poll_interval(Duration::from_millis(50));
        let running = processor.start(move |order: Context| {
            let payments = payments.clone();
            async move {
                match order.attempt() {
                    1 => return Err(Failure::transient("Timeout", "at first")),
                    _ if hangs => tokio::time::sleep(Duration::from_millis(600)).await,
                    _ => {}
                }
                order.send(&payments, Event::new(order.key().to_vec(), "payment"))
            }
        });
        running.unwrap()
    };
    let away = start(true);
    crate::common::until(&away, |metrics| metrics.counts.retried == 2).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let other = start(false);
    let refused = crate::common::until(&away, |metrics| metrics.refused + metrics.fenced > 0).await;
    assert_eq!(refused.counts.done_total(), 0);
    let ends = || exactlog_flow::inspect(&house.log, "billing").unwrap().counts.ended();
    while ends() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    away.stop().await.unwrap();
    other.stop().await.unwrap();
    let mut keys: Vec<String> =
        house.records("payments").iter().map(|it| it.key_str().unwrap().to_string()).collect();
    keys.sort();
    assert_eq!(keys, ["0", "1"], "each was paid once");
    let counts = exactlog_flow::inspect(&house.log, "billing").unwrap().counts;
    assert_eq!((counts.read, counts.ended()), (2, 2));
}
