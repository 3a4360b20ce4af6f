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

/// Kafka's record batch v2 with a sound checksum, compressed by nobody.
fn unreadable(records: i32) -> Vec<u8> {
    let body = [0xee; 40];
    let mut behind_crc: Vec<u8> = 1_i16.to_be_bytes().to_vec(); // gzip
    behind_crc.extend((records - 1).to_be_bytes());
    behind_crc.extend([1000_i64, 1000, -1].iter().flat_map(|it| it.to_be_bytes())); // times, producer id
    behind_crc.extend((-1_i16).to_be_bytes());
    behind_crc.extend((-1_i32).to_be_bytes());
    behind_crc.extend(records.to_be_bytes());
    behind_crc.extend(body);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend((4 + 1 + 4 + behind_crc.len() as i32).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c::crc32c(&behind_crc).to_be_bytes());
    batch.extend(behind_crc);
    batch
}

/// A batch that can't be decompressed stands between two events: it is dead with its bytes, and they are processed.
#[tokio::test]
async fn a_batch_that_cannot_be_taken_apart_is_one_dead_letter() {
    let house = House::new(1);
    house.send([Event::new("a", "1")]);
    house.log.append_batch(&house.orders, 0, unreadable(3).into()).unwrap();
    house.send([Event::new("a", "2")]);
    let processor = || Processor::new(&house.log, "billing").topic(&house.orders).batch(1);
    let handler = async |_: Context| Ok::<(), Failure>(());
    let running = processor().start(handler).unwrap();
    let counts = ended(&running, 5).await;
    assert_eq!((counts.read, counts.done_total(), counts.dead), (5, 2, 3));
    running.stop().await.unwrap();
    let dead = house.records("dlq.orders");
    assert_eq!((dead.len(), header(&dead[0], "dlq-error-class")), (1, "UnreadableBatch".to_string()));
    assert_eq!(header(&dead[0], "__dlq.errors.offset"), "1");
    assert!(dead[0].value().ends_with(&[0xee; 40]), "as it is stored");
    // It isn't said again.
    let running = processor().start(handler).unwrap();
    house.send([Event::new("a", "3")]);
    assert_eq!(ended(&running, 1).await.dead, 0);
    running.stop().await.unwrap();
}

/// A dead-letter topic that takes nothing of this size stops the processor, and says which.
#[tokio::test]
async fn a_dead_letter_that_has_no_room_stops_it_and_loses_nothing() {
    let house = House::new(1);
    house.log.create_topic("dlq.orders", TopicOptions::default().max_message_bytes(2048)).unwrap();
    house.send([Event::new("a", vec![b'x'; 3000])]);
    let running = Processor::new(&house.log, "billing")
        .topic(&house.orders)
        .start(async |_: Context| Err::<(), _>(Failure::permanent("Closed", "no")))
        .unwrap();
    let error = running.ended().await.unwrap_err().to_string();
    assert!(error.contains("dlq.orders") && error.contains("2048"), "{error}");
    assert_eq!(house.log.lag("billing", &house.orders), 1);
}
