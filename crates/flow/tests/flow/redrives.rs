//! Dead letters that are put back: each once, to whom it may concern.

use crate::common::{House, ended, header, until};
use exactlog::{Event, TopicOptions};
use exactlog_flow::{
    Context, DeadLetters, EntryState, Failure, Handler, Processor, RedriveTo, Retry, inspect,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Fails for odd numbers until it is told that all is well.
fn odd_fails(is_well: &Arc<AtomicBool>, done: &Arc<Mutex<Vec<u64>>>) -> impl Handler + use<> {
    let (is_well, done) = (is_well.clone(), done.clone());
    move |event: Context| {
        let (is_well, done) = (is_well.clone(), done.clone());
        async move {
            let number: u64 = event.value_str()?.parse()?;
            if number % 2 == 1 && !is_well.load(Ordering::SeqCst) {
                let kind = if number % 4 == 1 { "Timeout" } else { "Closed" };
                return Err(Failure::permanent(kind, "not now"));
            }
            done.lock().push(number);
            Ok(())
        }
    }
}

async fn with_dead(house: &House, numbers: u64, is_well: &Arc<AtomicBool>, done: &Arc<Mutex<Vec<u64>>>) {
    house.send((0..numbers).map(|n| Event::new(format!("key-{}", n % 7), n.to_string()).header("shop", "1")));
    let processor = Processor::new(&house.log, "billing").topic(&house.orders).retry(Retry::never());
    let running = processor.start(odd_fails(is_well, done)).unwrap();
    assert_eq!(ended(&running, numbers).await.dead, numbers / 2);
    running.stop().await.unwrap();
}

fn letters(house: &House) -> DeadLetters {
    DeadLetters::open(&house.log, "dlq.orders").unwrap()
}

#[tokio::test]
async fn to_the_group_each_is_processed_once_and_nobody_else_sees_it() {
    let house = House::new(3);
    let (is_well, done) = (Arc::default(), Arc::default());
    with_dead(&house, 40, &is_well, &done).await;
    assert_eq!(letters(&house).depth().unwrap(), 20);
    assert_eq!(letters(&house).redrive().count().unwrap(), 20);
    is_well.store(true, Ordering::SeqCst);

    // While the group runs: it notices by itself.
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let running = processor.start(odd_fails(&is_well, &done)).unwrap();
    let redriven = letters(&house).redrive().run().await.unwrap();
    assert_eq!((redriven.done, redriven.skipped_count), (20, 0));
    ended(&running, 20).await;
    running.stop().await.unwrap();

    let mut done = done.lock().clone();
    done.sort_unstable();
    assert_eq!(done, (0..40).collect::<Vec<u64>>());
    let state = inspect(&house.log, "billing").unwrap();
    assert_eq!((state.counts.read, state.counts.done_total(), state.counts.dead), (40, 40, 0));
    assert_eq!(house.records("orders").len(), 40, "no other group sees it");
    assert_eq!(letters(&house).depth().unwrap(), 0);
    assert_eq!(letters(&house).redrive().run().await.unwrap().done, 0);
}

#[tokio::test]
async fn what_dies_again_is_a_new_entry_that_counts() {
    let house = House::new(1);
    let (is_well, done) = (Arc::default(), Arc::default());
    with_dead(&house, 2, &is_well, &done).await;
    letters(&house).redrive().run().await.unwrap();
    let running = Processor::new(&house.log, "billing").topic(&house.orders).retry(Retry::never());
    let running = running.start(odd_fails(&is_well, &done)).unwrap();
    assert_eq!(ended(&running, 1).await.dead, 1);
    running.stop().await.unwrap();
    let (mut states, mut again) = (Vec::new(), None);
    letters(&house)
        .all(|entry| {
            states.push(entry.state);
            again = Some(entry);
            true
        })
        .unwrap();
    assert_eq!(states, [EntryState::Redriven, EntryState::Dead]);
    let again = again.unwrap();
    assert_eq!(again.redrives, 1);
    assert_eq!(header(&again.record, "dlq-redriven-from"), "dlq.orders/0/0");
    assert_eq!(header(&again.record, "shop"), "1");
    let origin = again.origin.unwrap();
    assert_eq!((&*origin.topic, origin.offset, origin.group.as_deref()), ("orders", 1, Some("billing")));
}

#[tokio::test]
async fn to_the_topic_it_is_a_new_event_with_the_id_of_the_old_one() {
    let house = House::new(1);
    with_dead(&house, 8, &Arc::default(), &Arc::default()).await;
    let redriven =
        letters(&house).redrive().to(RedriveTo::Origin).error_class("Timeout").run().await.unwrap();
    assert_eq!(redriven.done, 2);
    let records = house.records("orders");
    assert_eq!(records.len(), 10);
    for (record, origin) in records[8..].iter().zip([1, 5]) {
        assert_eq!(record.value_str().unwrap(), origin.to_string());
        assert_eq!(header(record, "message-id"), format!("orders/0/{origin}"));
        let names: Vec<String> =
            record.headers.iter().map(|it| String::from_utf8_lossy(&it.key).into_owned()).collect();
        assert_eq!(names, ["shop", "message-id", "dlq-redrive-count", "dlq-redriven-from"]);
    }
    assert_eq!(letters(&house).depth().unwrap(), 2, "those of the other class");
}

#[tokio::test]
async fn what_was_discarded_is_not_put_back() {
    let house = House::new(1);
    with_dead(&house, 8, &Arc::default(), &Arc::default()).await;
    assert_eq!(letters(&house).discard().error_class("Closed").run().await.unwrap().done, 2);
    assert_eq!(letters(&house).discard().entry(0, 0).run().await.unwrap().done, 1);
    let elsewhere = house.topic("elsewhere");
    assert_eq!(letters(&house).redrive().to(RedriveTo::Topic(elsewhere)).run().await.unwrap().done, 1);
    assert_eq!(house.values("elsewhere"), ["5"]);
    assert_eq!(letters(&house).oldest_ms().unwrap(), None);
}

#[tokio::test]
async fn what_cannot_go_back_stays_and_says_why() {
    let house = House::new(1);
    with_dead(&house, 2, &Arc::default(), &Arc::default()).await;
    let dlq = house.log.open_topic("dlq.orders").unwrap();
    house.log.producer("p").unwrap().blocking_send(&dlq, Event::unkeyed("of nobody")).unwrap();
    house.log.delete_topic(&house.orders).unwrap();
    house.log.create_topic("orders", TopicOptions::default()).unwrap();
    let redriven = letters(&house).redrive().run().await.unwrap();
    assert_eq!((redriven.done, redriven.skipped_count), (0, 2));
    let reasons: Vec<&str> = redriven.skipped.iter().map(|(_, _, reason)| &**reason).collect();
    assert_eq!(
        reasons,
        ["topic \"orders\" was deleted and made anew since", "it doesn't say where it comes from"]
    );
    assert_eq!(letters(&house).depth().unwrap(), 2);
}

/// Two at the same time, and one that is ended in the middle: together they put each back once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redrives_at_the_same_time_put_each_back_once() {
    let house = House::new(2);
    with_dead(&house, 2000, &Arc::default(), &Arc::default()).await;
    let target = house.topic("target");
    let redrive = || letters(&house).redrive().to(RedriveTo::Topic(target.clone()));
    let mut rounds = 0;
    let ended = redrive().progress(move |_| {
        rounds += 1;
        rounds < 2
    });
    let ended = ended.run().await.unwrap().done;
    assert!((1..1000).contains(&ended), "{ended}");
    let (first, second) = (tokio::spawn(redrive().run()), tokio::spawn(redrive().run()));
    // They fence each other's producer; what one can't do the other does.
    let _ = (first.await.unwrap(), second.await.unwrap());
    redrive().run().await.unwrap();
    let mut values: Vec<u64> = house.values("target").iter().map(|value| value.parse().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..2000).filter(|n| n % 2 == 1).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_rate_spreads_them_over_time() {
    let house = House::new(1);
    with_dead(&house, 40, &Arc::default(), &Arc::default()).await;
    let target = house.topic("target");
    let begin = std::time::Instant::now();
    let redriven =
        letters(&house).redrive().to(RedriveTo::Topic(target)).rate(100).most(15).run().await.unwrap();
    assert_eq!(redriven.done, 15);
    assert!(begin.elapsed().as_millis() >= 50, "{:?}", begin.elapsed());
}

/// A processor that is paused by too much that waits goes on reading when that was processed, also over refusals.
#[tokio::test(start_paused = true)]
async fn a_full_partition_is_read_again_after_a_redrive_has_changed_it() {
    let house = House::new(1);
    let (is_well, done) = (Arc::default(), Arc::default());
    with_dead(&house, 20, &is_well, &done).await;
    letters(&house).redrive().run().await.unwrap();
    is_well.store(true, Ordering::SeqCst);
    house.send((20..60).map(|n| Event::new("key-1", n.to_string())));
    let processor = Processor::new(&house.log, "billing").topic(&house.orders);
    let processor = processor.batch(3).retry(Retry::default().parked_max(1, 2));
    let running = processor.start(odd_fails(&is_well, &done)).unwrap();
    until(&running, |metrics| metrics.counts.ended() >= 50).await;
    running.stop().await.unwrap();
}

/// A letter whose headers are most of it, or whose value is: it is about as large as a transaction may be.
fn large(number: usize, header_bytes: usize, value_bytes: usize) -> Event {
    Event::new("key", "v".repeat(value_bytes))
        .header("__dlq.errors.topic", "orders")
        .header("__dlq.errors.partition", "0")
        .header("__dlq.errors.offset", number.to_string())
        .header("__dlq.errors.group", "billing")
        .header("large", "x".repeat(header_bytes))
}

#[tokio::test]
async fn large_headers_make_small_transactions() {
    let house = House::new(1);
    let (dlq, target) = (house.topic("dlq.orders"), house.topic("target"));
    let producer = house.log.producer("dead").unwrap();
    for number in 0..100 {
        producer.send(&dlq, large(number, 300_000, 1)).await.unwrap();
    }
    let redriven = letters(&house).redrive().to(RedriveTo::Topic(target)).run().await.unwrap();
    assert_eq!((redriven.done, redriven.skipped_count), (100, 0));
    assert_eq!(house.records("target").len(), 100);
}

#[tokio::test]
async fn what_is_too_large_is_skipped_and_keeps_nothing_else_back() {
    let house = House::new(1);
    let most = TopicOptions::default().max_message_bytes(16 << 20);
    let dlq = house.log.create_topic("dlq.orders", most).unwrap();
    let target =
        house.log.create_topic("target", TopicOptions::default().max_message_bytes(1 << 20)).unwrap();
    let producer = house.log.producer("dead").unwrap();
    for (number, bytes) in [10, 3 << 20, 15 << 20, 10, 10].into_iter().enumerate() {
        producer.send(&dlq, large(number, 1, bytes)).await.unwrap();
    }
    let redriven = letters(&house).redrive().to(RedriveTo::Topic(target)).run().await.unwrap();
    let skipped: Vec<u64> = redriven.skipped.iter().map(|(_, offset, _)| *offset).collect();
    assert_eq!((redriven.done, skipped), (3, vec![1, 2]));
}

#[tokio::test]
async fn what_is_too_large_to_wait_is_skipped_and_what_is_behind_it_waits() {
    let house = House::new(1);
    with_dead(&house, 4, &Arc::default(), &Arc::default()).await;
    let most = TopicOptions::default().max_message_bytes(16 << 20);
    let dlq = house.log.create_topic("dlq.large", most).unwrap();
    let producer = house.log.producer("dead").unwrap();
    // As a row of its group's table it is larger than it is.
    for (number, bytes) in [(1, 15 << 20), (3, 10)] {
        producer.send(&dlq, large(number, 1, bytes)).await.unwrap();
    }
    let redriven = DeadLetters::open(&house.log, "dlq.large").unwrap().redrive().run().await.unwrap();
    assert_eq!((redriven.done, redriven.skipped_count, redriven.skipped[0].1), (1, 1, 0), "{redriven:?}");
}

#[tokio::test]
async fn two_letters_of_one_death_make_one_event_that_waits() {
    let house = House::new(1);
    with_dead(&house, 8, &Arc::default(), &Arc::default()).await;
    let dlq = house.log.open_topic("dlq.orders").unwrap();
    let producer = house.log.producer("dead").unwrap();
    producer.send(&dlq, large(1, 1, 1)).await.unwrap();
    let of_one =
        |entry: &exactlog_flow::DeadEntry| entry.origin.as_ref().is_some_and(|origin| origin.offset == 1);
    let redriven = letters(&house).redrive().filter(of_one).run().await.unwrap();
    assert_eq!((redriven.done, redriven.skipped_count), (1, 1), "{redriven:?}");
    let state = inspect(&house.log, "billing").unwrap();
    assert_eq!((state.waiting.len(), state.counts.dead), (1, 3));
}

/// What is put back to where it is read is left for the next run: this one ends.
#[tokio::test]
async fn a_redrive_into_its_own_topic_ends() {
    let house = House::new(1);
    with_dead(&house, 8, &Arc::default(), &Arc::default()).await;
    let dlq = house.log.open_topic("dlq.orders").unwrap();
    let redriven = letters(&house).redrive().to(RedriveTo::Topic(dlq)).run().await.unwrap();
    assert_eq!((redriven.done, house.records("dlq.orders").len()), (4, 8));
}

/// Repairs what died of a timeout, and sends it to `mended`.
fn mend(house: &House) -> impl Handler + use<> {
    let mended = house.topic("mended");
    move |event: Context| {
        let mended = mended.clone();
        async move {
            match event.dead_entry().error_class.as_deref() {
                Some("Timeout") => {
                    event.send(&mended, Event::new(event.key().to_vec(), event.value().to_vec()))
                }
                class => Err(Failure::permanent("Hopeless", format!("{class:?}"))),
            }
        }
    }
}

#[tokio::test]
async fn a_processor_of_dead_letters_ends_each_once_and_leaves_those_it_cannot_help() {
    let house = House::new(3);
    let (is_well, done) = (Arc::default(), Arc::default());
    with_dead(&house, 40, &is_well, &done).await;
    // One is put back before: there is nothing to be done about it any more.
    let first = house.records("dlq.orders").into_iter().find(|it| header(it, "dlq-error-class") == "Timeout");
    let first = first.unwrap();
    let one = letters(&house).redrive().entry(first.partition, first.offset).to(RedriveTo::Origin);
    assert_eq!(one.run().await.unwrap().done, 1);

    let processor = || Processor::new(&house.log, "mending").dead_letters(&letters(&house));
    assert!(processor().describe().contains("stays in dlq.orders"), "{}", processor().describe());
    let running = processor().start(mend(&house)).unwrap();
    let counts = ended(&running, 20).await;
    running.stop().await.unwrap();
    assert_eq!((counts.read, counts.done_total(), counts.duplicate, counts.dead), (20, 9, 1, 10));

    let mut mended: Vec<u64> = house.values("mended").iter().map(|text| text.parse().unwrap()).collect();
    mended.sort_unstable();
    let repaired: u64 = first.value_str().unwrap().parse().unwrap();
    let timeouts: Vec<u64> = (0..40).filter(|number| number % 4 == 1 && *number != repaired).collect();
    assert_eq!(mended, timeouts, "each once");
    assert_eq!(letters(&house).depth().unwrap(), 10, "the others stay");
    letters(&house)
        .each(|entry| {
            assert_eq!(entry.error_class.as_deref(), Some("Closed"), "as they were");
            true
        })
        .unwrap();
    assert!(house.log.open_topic("dlq.dlq.orders").is_err(), "no dead letters of dead letters");
    assert_eq!(letters(&house).redrive().run().await.unwrap().done, 10, "and can be put back");
}

#[tokio::test]
async fn of_a_redrive_and_a_processor_of_dead_letters_at_the_same_time_one_has_each() {
    let house = House::new(4);
    let (is_well, done) = (Arc::default(), Arc::default());
    with_dead(&house, 800, &is_well, &done).await;
    let elsewhere = house.topic("elsewhere");
    let processor = Processor::new(&house.log, "mending").dead_letters(&letters(&house)).batch(7);
    let running = processor.start(mend(&house)).unwrap();
    let redrive = letters(&house).redrive().error_class("Timeout").to(RedriveTo::Topic(elsewhere));
    // A few at a time, so that they meet.
    let redriven = redrive.rate(2000).run().await.unwrap();
    let counts = ended(&running, 400).await;
    running.stop().await.unwrap();
    assert_eq!((counts.read, counts.dead), (400, 200));
    assert_eq!((counts.done_total() + redriven.done, counts.duplicate), (200, redriven.done));
    let mut all: Vec<u64> = ["mended", "elsewhere"]
        .iter()
        .flat_map(|topic| house.values(topic))
        .map(|text| text.parse().unwrap())
        .collect();
    all.sort_unstable();
    assert_eq!(all, (0..800).filter(|number| number % 4 == 1).collect::<Vec<u64>>());
}
