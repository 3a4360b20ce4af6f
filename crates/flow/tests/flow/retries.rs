//! Attempts and their times, in virtual time: the runtime's clock stands still until everybody waits.

use crate::common::{House, ended, event, header, until};
use exactlog::Event;
use exactlog_flow::{Context, Failure, Processor, Retry, RetryMode};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

type Attempts = Arc<Mutex<Vec<(String, u32, u128)>>>;

/// A handler that notes its attempts and fails for values that begin with `bad`.
fn failing(attempts: &Attempts) -> impl exactlog_flow::Handler + use<> {
    let (attempts, begin) = (attempts.clone(), Instant::now());
    move |order: Context| {
        let attempts = attempts.clone();
        async move {
            let value = order.value_str()?.to_string();
            attempts.lock().push((value.clone(), order.attempt(), begin.elapsed().as_millis()));
            match value.starts_with("bad") {
                true => Err(Failure::transient("Timeout", "the bank didn't answer")),
                false => Ok(()),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_made_at_0_1_and_3_seconds_then_it_is_dead() {
    let house = House::new(1);
    let attempts = Attempts::default();
    house.send([event("a", "bad", "id-1")]);
    let running = Processor::new(&house.log, "billing").topic(&house.orders);
    let running = running.start(failing(&attempts)).unwrap();
    let counts = ended(&running, 1).await;
    assert_eq!((counts.read, counts.dead, counts.retried), (1, 1, 2));
    running.stop().await.unwrap();
    let attempts: Vec<(u32, u128)> = attempts.lock().iter().map(|it| (it.1, it.2)).collect();
    let first = attempts[0].1;
    assert_eq!(attempts, [(1, first), (2, first + 1000), (3, first + 3000)]);
    let dead = &house.records("dlq.orders")[0];
    assert_eq!(header(dead, "__dlq.errors.delivery.count"), "3");
    assert_eq!(header(dead, "dlq-error-class"), "Timeout");
    assert_eq!(header(dead, "message-id"), "id-1");
    assert!(house.log.table("flow.billing").unwrap().len().unwrap() == 1, "only the counts are left");
}

#[tokio::test(start_paused = true)]
async fn a_retry_survives_a_restart_and_keeps_its_time() {
    let house = House::new(1);
    let attempts = Attempts::default();
    house.send([Event::new("a", "bad"), Event::new("a", "good")]);
    let processor = |house: &House| Processor::new(&house.log, "billing").topic(&house.orders);
    let running = processor(&house).start(failing(&attempts)).unwrap();
    until(&running, |metrics| metrics.blocked >= 1).await;
    assert_eq!(running.metrics().parked, 1);
    running.stop().await.unwrap();
    let house = house.reopen();
    let running = processor(&house).start(failing(&attempts)).unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.read, counts.dead, counts.done["ok"]), (0, 1, 1), "they were read before");
    running.stop().await.unwrap();
    let numbers: Vec<(String, u32)> = attempts.lock().iter().map(|it| (it.0.clone(), it.1)).collect();
    let expected = [("bad", 1), ("bad", 2), ("bad", 3), ("good", 1)].map(|(value, n)| (value.to_string(), n));
    assert_eq!(numbers, expected);
}

#[tokio::test(start_paused = true)]
async fn permanent_and_poison_are_not_tried_again() {
    let house = House::new(1);
    house.send(["permanent", "poison"].map(|value| Event::new(value, value)));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(async |order: Context| match order.value_str()? {
            "permanent" => Err::<(), _>(Failure::permanent("Closed", "the account is closed")),
            _ => Err(order.json::<u32>().unwrap_err().into()),
        })
        .unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.dead, counts.retried), (2, 0));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_timeout_are_failures_like_others() {
    let house = House::new(1);
    house.send(["panic", "slow", "good"].map(|value| Event::new(value, value)));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .timeout(Duration::from_secs(5))
        .start(async |order: Context| match order.value_str()? {
            "panic" => panic!("no such account"),
            "slow" => std::future::pending().await,
            _ => Ok::<(), Failure>(()),
        })
        .unwrap();
    let counts = ended(&running, 3).await;
    assert_eq!((counts.done_total(), counts.dead, counts.retried), (1, 2, 4));
    running.stop().await.unwrap();
    let mut kinds: Vec<(String, String)> = house
        .records("dlq.orders")
        .iter()
        .map(|dead| (header(dead, "dlq-error-class"), header(dead, "__dlq.errors.message")))
        .collect();
    kinds.sort();
    assert_eq!(kinds[0], ("panic".to_string(), "no such account".to_string()));
    assert_eq!(kinds[1].0, "timeout");
}

#[tokio::test(start_paused = true)]
async fn unordered_lets_later_events_of_the_key_go_on() {
    let house = House::new(1);
    let attempts = Attempts::default();
    house.send(["bad", "good-1", "good-2"].map(|value| Event::new("a", value)));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .retry(Retry::default().mode(RetryMode::Unordered))
        .start(failing(&attempts))
        .unwrap();
    ended(&running, 3).await;
    running.stop().await.unwrap();
    let values: Vec<String> = attempts.lock().iter().map(|it| it.0.clone()).collect();
    assert_eq!(values, ["bad", "good-1", "good-2", "bad", "bad"]);
}

#[tokio::test(start_paused = true)]
async fn blocking_lets_nothing_of_the_partition_go_on() {
    let house = House::new(1);
    let attempts = Attempts::default();
    house.send(["bad", "good-1", "good-2"].map(|value| Event::new(value, value)));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .batch(2)
        .retry(Retry::default().mode(RetryMode::Blocking))
        .start(failing(&attempts))
        .unwrap();
    until(&running, |metrics| metrics.parked >= 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(running.metrics().blocked, 1, "the third isn't even read");
    ended(&running, 3).await;
    running.stop().await.unwrap();
    let values: Vec<String> = attempts.lock().iter().map(|it| it.0.clone()).collect();
    assert_eq!(values, ["bad", "bad", "bad", "good-1", "good-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_of_which_too_much_waits_is_read_no_further() {
    let house = House::new(1);
    let attempts = Attempts::default();
    house.send((0..100).map(|n| Event::new("a", if n == 0 { "bad".into() } else { format!("{n}") })));
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .batch(4)
        .retry(Retry::default().parked_max(10, 100))
        .start(failing(&attempts))
        .unwrap();
    let mut most = 0;
    let metrics = until(&running, |metrics| {
        most = most.max(metrics.parked + metrics.blocked);
        metrics.counts.ended() >= 100
    });
    assert_eq!(metrics.await.counts.dead, 1);
    assert!((10..14).contains(&most), "{most}");
    running.stop().await.unwrap();
    let good: Vec<usize> = attempts.lock().iter().filter_map(|it| it.0.parse().ok()).collect();
    assert_eq!(good, (1..100).collect::<Vec<usize>>());
}
