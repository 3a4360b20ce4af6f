//! Events once more, each once, beside the groups that read on.

use crate::common::{House, ended, header, until};
use exactlog::Event;
use exactlog_flow::{Context, Error, Failure, Handler, Replay, ReplayFrom, Retry, Running};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn numbers(range: std::ops::Range<i64>) -> impl Iterator<Item = Event> {
    range.map(|n| Event {
        timestamp_ms: Some(1_000_000 + 1_000 * n),
        ..Event::new(format!("k{}", n % 5), n.to_string())
    })
}

fn forwards(house: &House) -> impl Handler + use<> {
    let again = house.log.open_topic("again").or_else(|_| {
        house
            .log
            .create_topic("again", exactlog::TopicOptions::default().partitions(house.orders.partitions()))
    });
    let again = again.unwrap();
    move |event: Context| {
        let again = again.clone();
        async move {
            assert!(event.is_replay());
            event.forward(&again)
        }
    }
}

async fn to_its_end(running: Running) {
    running.ended().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_that_was_there_comes_once_more_and_no_other_group_moves() {
    let house = House::new(3);
    house.send(numbers(0..50));
    let replay = || Replay::new(&house.log, "august").topic(&house.orders);
    assert_eq!(replay().count().unwrap(), 50);
    let processor = replay().processor().unwrap();
    // What comes later is no part of it.
    house.send(numbers(50..60));
    to_its_end(processor.start(forwards(&house)).unwrap()).await;
    let (records, again) = (house.records("orders"), house.records("again"));
    assert_eq!(again.len(), 50);
    for record in &again {
        let of = header(record, "replay-of");
        assert_eq!(header(record, "replay-id"), "august");
        let original =
            records.iter().find(|it| format!("orders/{}/{}", it.partition, it.offset) == of).unwrap();
        assert_eq!((&original.key, &original.value), (&record.key, &record.value));
        assert_eq!((original.timestamp_ms, original.partition), (record.timestamp_ms, record.partition));
    }
    assert_eq!(house.log.lag("replay.august", &house.orders), 10);
    let groups: Vec<String> = house.log.groups().into_iter().map(|group| group.name).collect();
    assert_eq!(groups, ["replay.august"]);

    // Done is done.
    to_its_end(replay().processor().unwrap().start(forwards(&house)).unwrap()).await;
    assert_eq!(house.records("again").len(), 50);
    let Err(error) = replay().topic(&house.topic("other")).processor() else { panic!("it has other topics") };
    assert!(matches!(&error, Error::OtherReplay { name, .. } if name == "august"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn it_begins_at_an_offset_or_a_time() {
    let house = House::new(1);
    house.send(numbers(0..20));
    let from = |name: &str, from| Replay::new(&house.log, name).topic(&house.orders).from(from);
    assert_eq!(from("a", ReplayFrom::Offset(15)).count().unwrap(), 5);
    assert_eq!(from("a", ReplayFrom::Time(1_012_001)).count().unwrap(), 7);
    assert_eq!(from("a", ReplayFrom::Time(9_000_000)).count().unwrap(), 0);
    let replay = from("b", ReplayFrom::Time(1_012_000));
    assert_eq!(replay.count().unwrap(), 8);
    to_its_end(replay.processor().unwrap().start(forwards(&house)).unwrap()).await;
    assert_eq!(house.values("again"), (12..20).map(|n| n.to_string()).collect::<Vec<_>>());
    // Nothing at all is an end, too.
    let replay = from("c", ReplayFrom::Offset(20));
    to_its_end(replay.processor().unwrap().start(forwards(&house)).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn stopped_and_started_again_it_goes_on_where_it_was_and_ends_where_it_was_to() {
    let house = House::new(2);
    house.send(numbers(0..40));
    let replay = |house: &House| Replay::new(&house.log, "slow").topic(&house.orders);
    let fails_at_7 = |event: Context| async move {
        match event.value() == b"7" && event.attempt() < 3 {
            true => Err(Failure::transient("Later", "not yet")),
            false => Ok(()),
        }
    };
    let running = replay(&house).processor().unwrap().batch(5).start(fails_at_7).unwrap();
    until(&running, |metrics| metrics.parked == 1).await;
    running.stop().await.unwrap();
    house.send(numbers(40..50));
    let house = house.reopen();
    let begin = Instant::now();
    let running = replay(&house).processor().unwrap().start(fails_at_7).unwrap();
    to_its_end(running).await;
    assert!(begin.elapsed() >= Duration::from_secs(1), "it waits for what is to be tried again");
    let state = exactlog_flow::inspect(&house.log, "replay.slow").unwrap();
    assert_eq!((state.counts.read, state.counts.done_total(), state.counts.retried), (40, 40, 2));
}

#[tokio::test(start_paused = true)]
async fn time_goes_as_fast_as_one_says() {
    let house = House::new(1);
    house.send(numbers(0..11));
    for (name, speed, millis) in [("real", 1.0, 10_000), ("double", 2.0, 5_000), ("half", 0.5, 20_000)] {
        let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let handled = times.clone();
        let replay = Replay::new(&house.log, name).topic(&house.orders).speed(speed);
        let handler = move |_: Context| {
            handled.lock().push(Instant::now());
            std::future::ready(Ok::<_, Failure>(()))
        };
        to_its_end(replay.processor().unwrap().start(handler).unwrap()).await;
        let times = times.lock();
        assert_eq!((times.len(), (times[10] - times[0]).as_millis()), (11, millis), "{name}");
    }
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let replay = Replay::new(&house.log, "wrong").topic(&house.orders).speed(speed);
        assert!(matches!(replay.processor(), Err(Error::Setting { name: "replay.speed", .. })));
    }
    assert!(matches!(Replay::new(&house.log, "none").processor(), Err(Error::NoTopic { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_projection_is_rebuilt_and_then_kept() {
    let house = House::new(1);
    house.send(numbers(0..10));
    let replay = Replay::new(&house.log, "live").topic(&house.orders).then_live();
    let running = replay.processor().unwrap().retry(Retry::never()).start(forwards(&house)).unwrap();
    ended(&running, 10).await;
    house.send(numbers(10..15));
    ended(&running, 15).await;
    assert!(!running.has_ended());
    running.stop().await.unwrap();
    assert_eq!(house.records("again").len(), 15);
}
