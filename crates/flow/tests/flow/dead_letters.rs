//! What lies in the dead-letter topic.

use crate::common::{House, ended, header};
use exactlog::{Event, TopicOptions};
use exactlog_flow::{Context, DeadLetter, DlqHeaders, DlqNaming, Failure, Processor};

async fn bury(house: &House, dead_letter: DeadLetter, count: u64) {
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .name("charge")
        .dead_letter(dead_letter)
        .start(async |_: Context| Err::<(), _>(Failure::permanent("Closed", "the account is closed")))
        .unwrap();
    ended(&running, count).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn it_lies_in_the_partition_of_the_same_number_as_it_was() {
    let house = House::new(3);
    house
        .send((0..9).map(|n| Event::new(format!("key-{n}"), n.to_string()).header("shop", "7").at(1000 + n)));
    bury(&house, DeadLetter::default(), 9).await;
    let (dead, sent) = (house.records("dlq.orders"), house.records("orders"));
    assert_eq!(dead.len(), 9);
    for dead in dead {
        let offset: u64 = header(&dead, "__dlq.errors.offset").parse().unwrap();
        let origin = sent.iter().find(|it| (it.partition, it.offset) == (dead.partition, offset)).unwrap();
        assert_eq!((&dead.key, &dead.value), (&origin.key, &origin.value));
        assert_eq!(dead.headers[0], origin.headers[0]);
        assert_eq!(header(&dead, "dlq-original-timestamp"), origin.timestamp_ms.to_string());
        assert_eq!(header(&dead, "dlq-handler"), "charge");
        assert!(dead.timestamp_ms > origin.timestamp_ms, "retention goes by the time of death");
    }
}

#[tokio::test]
async fn topics_are_named_as_others_do() {
    for (naming, name) in [
        (DlqNaming::Kafka, "dlq.orders"),
        (DlqNaming::Spring, "orders-dlt"),
        (DlqNaming::SpringCloudStream, "error.orders.billing"),
        (DlqNaming::Topic("failed".to_string()), "failed"),
    ] {
        let house = House::new(2);
        house.send([Event::new("a", "1")]);
        bury(&house, DeadLetter::default().naming(naming).headers(DlqHeaders::Spring), 1).await;
        let dead = house.records(name);
        assert_eq!(header(&dead[0], "kafka_dlt-original-topic"), "orders");
    }
}

/// An event of the size that its topic just takes becomes a dead letter whole.
#[tokio::test]
async fn the_largest_event_has_room() {
    let house = House::new(1);
    let largest = 1_048_588 - 200;
    house.send([Event::new("a", vec![b'x'; largest])]);
    bury(&house, DeadLetter::default(), 1).await;
    assert_eq!(house.records("dlq.orders")[0].value().len(), largest);
}

/// In a dead-letter topic that is there already and takes less, the text of the error gives way, never the event.
#[tokio::test]
async fn the_message_gives_way_before_the_event() {
    let house = House::new(1);
    let small = TopicOptions::default().max_message_bytes(4096);
    house.log.create_topic("dlq.orders", small).unwrap();
    house.send([Event::new("a", vec![b'x'; 2500])]);
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(async |_: Context| Err::<(), _>(Failure::permanent("Long", "é".repeat(4000))))
        .unwrap();
    ended(&running, 1).await;
    running.stop().await.unwrap();
    let dead = &house.records("dlq.orders")[0];
    assert_eq!((dead.value().len(), header(dead, "__dlq.errors.message").len()), (2500, 0));
}
