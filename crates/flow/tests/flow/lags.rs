//! Who falls behind is told of once, and when it has caught up.

use crate::common::House;
use exactlog::{Event, Start};
use exactlog_flow::{Error, LagAlert, LagChange, LagEvent};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

fn consume(house: &House, records: usize) {
    let consumer = house.log.consumer("billing").start(Start::Earliest).max_poll_records(records);
    let mut consumer = consumer.subscribe([&house.orders]).unwrap();
    consumer.blocking_next().unwrap().unwrap().blocking_ack().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_alert_is_raised_at_10001_records_and_cleared_at_8000() {
    let house = House::new(1);
    let producer = house.log.producer("shop").unwrap();
    let send = |count: usize| {
        let tickets: Vec<_> = (0..count)
            .map(|n| producer.blocking_submit(&house.orders, Event::unkeyed(n.to_string())).unwrap())
            .collect();
        tickets.into_iter().for_each(|ticket| _ = ticket.wait().unwrap());
    };
    send(10_001);
    consume(&house, 1);
    let told: Arc<Mutex<Vec<LagEvent>>> = Arc::default();
    let watch = LagAlert::default()
        .start(&house.log, {
            let told = told.clone();
            move |event| told.lock().push(event.clone())
        })
        .unwrap();
    let minutes = async |minutes: u64| tokio::time::sleep(Duration::from_secs(60 * minutes + 6)).await;
    minutes(10).await;
    assert_eq!(house.log.lag("billing", &house.orders), 10_000);
    assert!(told.lock().is_empty(), "not at 10,000");
    send(1);
    minutes(10).await;
    let raised = told.lock().clone();
    assert_eq!(raised.len(), 1, "once: {raised:?}");
    let LagEvent { change, group, topic, partition, records, .. } = &raised[0];
    assert_eq!((*change, group.as_str(), topic.as_str()), (LagChange::Raised, "billing", "orders"));
    assert_eq!((*partition, *records), (0, 10_001));
    consume(&house, 2_000);
    assert_eq!(house.log.lag("billing", &house.orders), 8_001);
    minutes(10).await;
    assert_eq!(told.lock().len(), 1, "not at 8,001");
    consume(&house, 1);
    minutes(2).await;
    let cleared = told.lock().clone();
    assert_eq!((cleared.len(), cleared[1].change, cleared[1].records), (2, LagChange::Cleared, 8_000));
    drop(watch);
    consume(&house, 10_000);
    send(20_000);
    minutes(10).await;
    assert_eq!(told.lock().len(), 2, "nobody watches any more");
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let house = House::new(1);
    let refused = |alert: LagAlert| match alert.start(&house.log, |_| {}) {
        Err(Error::Setting { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(LagAlert::default().clear_ratio(1.1)), "lag.alert.clear.ratio");
    assert_eq!(refused(LagAlert::default().clear_ratio(f64::NAN)), "lag.alert.clear.ratio");
    assert_eq!(refused(LagAlert::default().every(Duration::ZERO)), "lag.alert.interval.ms");
}
