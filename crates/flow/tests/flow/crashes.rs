//! A short run on the simulated disk, with a crash after every operation: at each, every event that was read has ended
//! or waits, what that did is there once, and going on ends as a run without a crash does.

use crate::common::{event, until};
use exactlog::{Event, Log, Table, TableOptions, Topic, TopicOptions};
use exactlog_flow::{Context, Failure, GroupState, Handler, Processor, Retry, Running, inspect};
use exactlog_sim::disk::{Point, SimDisk, Survival};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Key, value, id. The value says what becomes of it; `again` fails once.
const ORDERS: [(&str, &str, &str); 12] = [
    ("a", "good", "1"),
    ("b", "again", "2"),
    ("a", "good", "3"),
    ("a", "good", "1"),
    ("b", "good", "4"),
    ("c", "bad", "5"),
    ("c", "good", "6"),
    ("d", "poison", "7"),
    ("b", "good", "4"),
    ("d", "good", "8"),
    ("a", "again", "9"),
    ("a", "good", "10"),
];
const DONE: u64 = 8;
const DUPLICATE: u64 = 2;
const DEAD: u64 = 2;
const STOCK: u64 = 100;

pub(crate) fn open(disk: &SimDisk) -> Log {
    let builder = Log::builder()
        .disk(Arc::new(disk.clone()))
        .journal_file_bytes(1 << 20)
        .journal_ring_bytes(4 << 20)
        .checkpoint_bytes(1 << 20);
    builder.open("log").unwrap()
}

struct Parts {
    orders: Topic,
    done: Topic,
    stock: Table,
}

fn parts(log: &Log) -> Parts {
    Parts {
        orders: log.create_topic("orders", TopicOptions::default().partitions(2)).unwrap(),
        done: log.create_topic("done", TopicOptions::default()).unwrap(),
        stock: log.create_table("stock", TableOptions::default()).unwrap(),
    }
}

fn handler(parts: &Parts) -> impl Handler + use<> {
    let (done, stock) = (parts.done.clone(), parts.stock.clone());
    move |order: Context| {
        let (done, stock) = (done.clone(), stock.clone());
        async move {
            match order.value_str()? {
                "poison" => return Err(Failure::poison("Text", "no order")),
                "bad" => return Err(Failure::transient("Timeout", "never")),
                "again" if order.attempt() == 1 => return Err(Failure::transient("Timeout", "once")),
                _ => {}
            }
            let left: u64 = order.get_json(&stock, "chairs")?.unwrap_or(STOCK);
            order.put_json(&stock, "chairs", &(left - 1))?;
            order.send(&done, Event::new(order.key().to_vec(), order.event_id()))
        }
    }
}

fn start(log: &Log, parts: &Parts) -> Running {
    let backoff = Retry::default().backoff(Duration::from_millis(20), 2.0, Duration::from_secs(1));
    let processor = Processor::new(log, "billing").topic(&parts.orders).batch(1).retry(backoff);
    processor.start(handler(parts)).unwrap()
}

fn ended(log: &Log) -> u64 {
    inspect(log, "billing").map_or(0, |state| state.counts.ended())
}

async fn finish(log: &Log, parts: &Parts) {
    let all = ORDERS.len() as u64;
    let before = ended(log);
    if before < all {
        let running = start(log, parts);
        until(&running, |metrics| before + metrics.counts.ended() >= all).await;
        running.stop().await.unwrap();
    }
}

pub(crate) fn values(log: &Log, topic: &str) -> Vec<String> {
    let Ok(topic) = log.open_topic(topic) else { return Vec::new() };
    let view = log.read_view();
    view.records(&topic).map(|record| record.unwrap().value_str().unwrap().to_string()).collect()
}

/// What has to be so at every moment.
fn check(log: &Log, at: &str) -> GroupState {
    let Ok(state) = inspect(log, "billing") else { return GroupState::default() };
    let orders = log.open_topic("orders").unwrap();
    let counted: BTreeMap<u32, _> = state.partitions.iter().map(|it| (it.partition, it)).collect();
    for partition in 0..orders.partitions() {
        let committed = log.committed("billing", &orders, partition).unwrap_or(0);
        let (read, ends) =
            counted.get(&partition).map_or((0, 0), |it| (it.counts.read, it.counts.ended() + it.waiting));
        assert_eq!((read, ends), (committed, committed), "{at}, partition {partition}: {state:?}");
    }
    let done = values(log, "done");
    assert_eq!(done.len() as u64, state.counts.done_total(), "{at}: {done:?}");
    assert_eq!(values(log, "dlq.orders").len() as u64, state.counts.dead, "{at}");
    let stock: u64 = match log.table("stock").unwrap().get("chairs").unwrap() {
        Some(entry) => entry.json().unwrap(),
        None => STOCK,
    };
    assert_eq!(STOCK - stock, done.len() as u64, "{at}");
    state
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// What crashes at an operation leave: where, and the disk.
pub(crate) fn crashes_at(
    nth: usize,
    point: &Point,
    points: usize,
) -> impl Iterator<Item = (String, SimDisk)> {
    let torn = point.written_bytes().and_then(|bytes| point.torn_kill(bytes / 2));
    let images = [
        ("killed", Some(point.disk.process_kill())),
        ("killed within the write", torn),
        ("power lost", Some(point.disk.power_loss(&mut Survival::AllLost))),
        ("power lost, some kept", Some(point.disk.power_loss(&mut Survival::random(nth as u64)))),
    ];
    let at = move |crash| format!("{crash} at operation {nth} of {points}");
    images.into_iter().filter_map(move |(crash, image)| Some((at(crash), image?)))
}

#[test]
fn a_crash_after_every_operation_loses_nothing_and_doubles_nothing() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let made = parts(&log);
    let producer = log.producer("shop").unwrap();
    for (key, value, id) in ORDERS {
        producer.blocking_send(&made.orders, event(key, value, id)).unwrap();
    }
    disk.record_points(true);
    runtime().block_on(finish(&log, &made));
    let state = check(&log, "without a crash");
    drop((producer, made));
    log.close().unwrap();
    let points = disk.take_points();
    assert!(points.len() > 30, "{}", points.len());
    assert_eq!(state.counts.retried, 4, "each failure but the last is followed by an attempt");

    let (mut crashes, mut waiting, mut half) = (0, 0, 0);
    for (nth, point) in points.iter().enumerate() {
        for (at, image) in crashes_at(nth, point, points.len()) {
            let log = open(&image);
            let state = check(&log, &at);
            waiting += u64::from(!state.waiting.is_empty());
            half += u64::from((1..ORDERS.len() as u64).contains(&state.counts.read));
            let made = parts(&log);
            runtime().block_on(finish(&log, &made));
            let state = check(&log, &at);
            let (counts, read) = (&state.counts, ORDERS.len() as u64);
            let ends = (counts.read, counts.done_total(), counts.duplicate, counts.dead);
            assert_eq!(ends, (read, DONE, DUPLICATE, DEAD), "{at}");
            let mut done = values(&log, "done");
            done.sort();
            assert_eq!(done, ["1", "10", "2", "3", "4", "6", "8", "9"], "{at}");
            drop(made);
            log.close().unwrap();
            crashes += 1;
        }
    }
    println!(
        "{crashes} crashes at {} operations; {half} of them half way, {waiting} while events waited",
        points.len()
    );
    assert!(half > 20 && waiting > 20, "{half}, {waiting}");
}
