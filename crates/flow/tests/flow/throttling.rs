//! A throttle in front of a handler, in virtual time.

use crate::common::{House, ended};
use exactlog::Event;
use exactlog_flow::{Context, Error, Failure, Processor};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// When each call was made.
type Calls = Arc<Mutex<Vec<Instant>>>;

fn most_in(window: Duration, calls: &[Instant]) -> usize {
    let within = |begin: &Instant| calls.iter().filter(|it| (*begin..*begin + window).contains(it)).count();
    calls.iter().map(within).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn events_are_taken_up_evenly_and_retries_count() {
    let house = House::new(4);
    house.send((0..50).map(|n| Event::new(format!("key-{n}"), n.to_string())));
    let calls = Calls::default();
    let handler = {
        let calls = calls.clone();
        move |event: Context| {
            calls.lock().push(Instant::now());
            let fails = event.attempt() == 1 && event.value() == b"7";
            std::future::ready(match fails {
                true => Err(Failure::transient("Once", "not yet")),
                false => Ok(()),
            })
        }
    };
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let processor = processor.throttle(10, Duration::from_secs(1));
    assert!(processor.describe().contains("throttle     at most 10 events in 1s\n"));
    let begin = Instant::now();
    let running = processor.start(handler).unwrap();
    let counts = ended(&running, 50).await;
    assert_eq!((counts.done_total(), counts.retried), (50, 1));
    // 51 attempts, the first one at once.
    let took = begin.elapsed();
    assert!((Duration::from_millis(5000)..Duration::from_millis(5100)).contains(&took), "{took:?}");
    assert_eq!(most_in(Duration::from_secs(1), &calls.lock()), 10);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_is_not_caught_up_with() {
    let house = House::new(4);
    let calls = Calls::default();
    let called = calls.clone();
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let running = processor
        .throttle(1000, Duration::from_secs(1))
        .start(move |_: Context| {
            called.lock().push(Instant::now());
            std::future::ready(Ok::<(), Failure>(()))
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let mut producer = house.log.producer("shop").unwrap();
    let sent = producer.transaction(|transaction| {
        (0..1000).try_for_each(|n| transaction.send(&house.orders, Event::new(n.to_string(), "v")))
    });
    sent.unwrap();
    ended(&running, 1000).await;
    let at_once = most_in(Duration::from_millis(1), &calls.lock());
    assert!(at_once <= 102, "a tenth of a second is caught up with: {at_once}");
    assert!(most_in(Duration::from_millis(500), &calls.lock()) <= 602);
    running.stop().await.unwrap();
}

/// Its handlers being slow, it may catch up with what they took: a round waits for all of them.
#[tokio::test(start_paused = true)]
async fn slow_handlers_use_what_the_limit_gives_them() {
    let house = House::new(4);
    house.send((0..200).map(|n| Event::new(format!("key-{n}"), n.to_string())));
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let begin = Instant::now();
    let running = processor
        .throttle(20, Duration::from_secs(1))
        .start(async |_: Context| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<(), Failure>(())
        })
        .unwrap();
    ended(&running, 200).await;
    let took = begin.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(13)).contains(&took), "{took:?}");
    running.stop().await.unwrap();
}

/// Of a key that fails one is tried, and those behind it cost nothing.
#[tokio::test(start_paused = true)]
async fn what_goes_behind_a_failing_event_is_not_paid_for() {
    let house = House::new(1);
    house.send((0..100).map(|n| Event::new("key", n.to_string())));
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let begin = Instant::now();
    let running = processor
        .throttle(100, Duration::from_secs(1))
        .start(|event: Context| {
            let fails = event.attempt() < 3 && event.value() == b"0";
            std::future::ready(match fails {
                true => Err(Failure::transient("Twice", "not yet")),
                false => Ok(()),
            })
        })
        .unwrap();
    let counts = ended(&running, 100).await;
    assert_eq!((counts.done_total(), counts.retried), (100, 2));
    // Three seconds until the third attempt, and one for all that were behind it.
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(4500), "{took:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_throttle_that_lets_nothing_through_is_refused() {
    let house = House::new(1);
    let start = |events, per| {
        let processor = Processor::new(&house.log, "billing").topic(&house.orders).throttle(events, per);
        processor.start(async |_: Context| Ok::<(), Failure>(())).unwrap_err()
    };
    let error = start(0, Duration::from_secs(1));
    assert!(
        matches!(error, Error::Setting { .. }) && error.to_string().contains("throttle.events"),
        "{error}"
    );
    let error = start(1, Duration::ZERO);
    assert!(error.to_string().contains("throttle.period.ms"), "{error}");
}
