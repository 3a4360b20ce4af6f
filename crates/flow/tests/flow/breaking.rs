//! A circuit breaker in front of a handler, in virtual time.

use crate::common::{House, ended, until};
use exactlog::Event;
use exactlog_flow::{Breaker, BreakerConfig, BreakerState, Context, Failure, Processor, SlidingWindow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

fn breaker() -> Breaker {
    let mut config = BreakerConfig::default();
    config.sliding_window = SlidingWindow::CountBased(10);
    config.minimum_number_of_calls = 10;
    config.permitted_number_of_calls_in_half_open_state = 3;
    Breaker::new("bank", config).unwrap()
}

/// The bank is down for some minutes: all states are gone through, nothing dies but what failed three times before the
/// breaker opened, and then everything is processed in the order of its keys.
#[tokio::test(start_paused = true)]
async fn while_it_is_open_no_attempt_is_lost() {
    let house = House::new(2);
    house.send((0..200).map(|n| Event::new(format!("key-{}", n % 20), n.to_string())));
    let (is_down, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let (down, called) = (is_down.clone(), calls.clone());
    let done = house.topic("done");
    let breaker = breaker();
    let processor = Processor::new(&house.log, "billing").topic(&house.orders).breaker(&breaker);
    let running = processor
        .start(move |order: Context| {
            let (done, is_down) = (done.clone(), down.load(Ordering::SeqCst));
            called.fetch_add(1, Ordering::SeqCst);
            async move {
                match is_down {
                    true => Err(Failure::transient("Refused", "the bank is closed")),
                    false => order.send(&done, Event::new(order.key().to_vec(), order.value().to_vec())),
                }
            }
        })
        .unwrap();
    let metrics = until(&running, |metrics| metrics.held > 0).await;
    assert_eq!(breaker.metrics().state, BreakerState::Open);
    assert_eq!((calls.load(Ordering::SeqCst), metrics.counts.dead), (10, 0), "the eleventh wasn't made");
    // A minute later three probes fail, and it opens again.
    until(&running, |_| calls.load(Ordering::SeqCst) >= 13 && breaker.metrics().state == BreakerState::Open)
        .await;
    assert_eq!(calls.load(Ordering::SeqCst), 13);
    is_down.store(false, Ordering::SeqCst);
    let counts = ended(&running, 200).await;
    assert_eq!((counts.done_total(), counts.dead), (200, 0));
    assert_eq!(breaker.metrics().state, BreakerState::Closed);
    running.stop().await.unwrap();
    for key in 0..20 {
        let numbers: Vec<u32> = house
            .records("done")
            .iter()
            .filter(|record| record.key() == format!("key-{key}").as_bytes())
            .map(|record| record.value_str().unwrap().parse().unwrap())
            .collect();
        assert!(numbers.is_sorted() && numbers.len() == 10, "{key}: {numbers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_says_nothing_of_the_bank() {
    let house = House::new(1);
    house.send((0..30).map(|n| Event::new(format!("key-{n}"), "no number")));
    let breaker = breaker();
    let running = Processor::new(&house.log, "billing").topic(&house.orders).breaker(&breaker);
    let running = running.start(async |order: Context| order.json::<u32>().map(|_| ())).unwrap();
    assert_eq!(ended(&running, 30).await.dead, 30);
    running.stop().await.unwrap();
    let metrics = breaker.metrics();
    assert_eq!((metrics.state, metrics.failed, metrics.ignored), (BreakerState::Closed, 0, 30));
}

#[tokio::test(start_paused = true)]
async fn forced_open_it_waits_until_it_is_closed_by_hand() {
    let house = House::new(1);
    house.send([Event::new("a", "1")]);
    let breaker = breaker();
    breaker.force_open();
    let running = Processor::new(&house.log, "billing").topic(&house.orders).breaker(&breaker);
    let running = running.start(async |_: Context| Ok::<(), Failure>(())).unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(running.metrics().counts.read, 0);
    breaker.close();
    ended(&running, 1).await;
    running.stop().await.unwrap();
}
