//! The next round runs while the commit of the one before is written (PR-1, PR-2): what it goes by, and what becomes
//! of it if that commit is refused.

use crate::common::{ended, event, until};
use exactlog::{AtCap, Durability, Event, Log, Topic, TopicOptions};
use exactlog_flow::{Context, Failure, Processor, Retry, RetryMode};
use exactlog_sim::gate::GatedDisk;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A log behind a gate, whose topic `orders` has these events, and a topic for what comes of them.
fn house(events: impl IntoIterator<Item = Event>) -> (Arc<GatedDisk>, Log, Topic, Topic) {
    let disk = Arc::new(GatedDisk::default());
    let log = Log::builder().disk(Arc::new(disk.layer())).open("gated").unwrap();
    let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    let payments = log.create_topic("payments", TopicOptions::default()).unwrap();
    let producer = log.producer("shop").unwrap();
    events.into_iter().for_each(|event| _ = producer.blocking_send(&orders, event).unwrap());
    (disk, log, orders, payments)
}

fn values(log: &Log, topic: &Topic) -> Vec<String> {
    let view = log.read_view();
    view.records(topic).map(|record| record.unwrap().value_str().unwrap().to_string()).collect()
}

/// What handlers were called for, in order.
type Calls = Arc<Mutex<Vec<String>>>;

fn four() -> [Event; 4] {
    [event("k", "1", "id-1"), event("l", "2", "id-2"), event("k", "1 again", "id-1"), event("l", "3", "id-3")]
}

/// Notes what it is called for, and pays that. The first call for 1 ends like this, and the commit of its round waits
/// at the gate; the first one for 3, which is of another round, opens it.
fn handler<F>(
    (disk, calls, payments): (&Arc<GatedDisk>, &Calls, &Topic),
    first: F,
) -> impl Fn(Context) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> + Send + Sync + 'static
where
    F: Fn() -> Result<(), Failure> + Clone + Send + Sync + 'static,
{
    let (disk, calls, payments) = (disk.clone(), calls.clone(), payments.clone());
    move |context| {
        let (disk, calls, payments) = (disk.clone(), calls.clone(), payments.clone());
        let first = first.clone();
        Box::pin(async move {
            let value = context.value_str()?.to_owned();
            let is_first_call = !calls.lock().contains(&value);
            calls.lock().push(value.clone());
            match &*value {
                "1" if is_first_call => {
                    let ended = first();
                    disk.shut();
                    ended?;
                }
                "3" if is_first_call => {
                    disk.wait_until_reached();
                    disk.open_gate();
                }
                _ => {}
            }
            context.send(&payments, Event::new("k", value))
        })
    }
}

#[tokio::test]
async fn a_copy_of_what_is_being_committed_is_left_out() {
    let (disk, log, orders, payments) = house(four());
    let calls = Calls::default();
    let handler = handler((&disk, &calls, &payments), || Ok(()));
    let running = Processor::new(&log, "billing").topic(&orders).batch(2).start(handler).unwrap();
    let counts = ended(&running, 4).await;
    assert_eq!((counts.done_total(), counts.duplicate, counts.read), (3, 1, 4));
    assert_eq!(*calls.lock(), ["1", "2", "3"]);
    running.stop().await.unwrap();
    assert_eq!(values(&log, &log.open_topic("payments").unwrap()), ["1", "2", "3"]);
    assert_eq!(log.lag("billing", &orders), 0);
}

#[tokio::test]
async fn what_ran_beside_a_commit_that_is_refused_runs_again() {
    let (disk, log, orders, payments) = house(four());
    let calls = Calls::default();
    let handler = {
        let (log, orders) = (log.clone(), orders.clone());
        let first = move || {
            // Somebody else touches what the group keeps about the partition: the commit is refused.
            let (table, key) = (log.table("flow.billing")?, format!("count/orders.{}/0", orders.id().0));
            let mut producer = log.producer("redrive")?;
            producer.transaction(|transaction| transaction.put_json(&table, key, &NoCounts::default()))?;
            Ok(())
        };
        handler((&disk, &calls, &payments), first)
    };
    let running = Processor::new(&log, "billing").topic(&orders).batch(2).start(handler).unwrap();
    let counts = ended(&running, 4).await;
    assert_eq!((counts.done_total(), counts.duplicate, counts.read), (3, 1, 4));
    assert_eq!(calls.lock()[..4], ["1", "2", "3", "1"], "all of both rounds comes again");
    assert_eq!(calls.lock().iter().filter(|value| **value == "3").count(), 2);
    assert_eq!(running.metrics().refused, 1);
    running.stop().await.unwrap();
    assert_eq!(values(&log, &log.open_topic("payments").unwrap()), ["1", "2", "3"], "each once");
}

/// Two rounds: the first event of the one fails, and the other has one behind it.
fn of_two_keys() -> [Event; 4] {
    [event("k", "1", "id-1"), event("l", "2", "id-2"), event("k", "4", "id-4"), event("l", "3", "id-3")]
}

#[tokio::test]
async fn what_is_being_parked_is_not_overtaken_by_its_key() {
    let (disk, log, orders, payments) = house(of_two_keys());
    let calls = Calls::default();
    let handler = handler((&disk, &calls, &payments), || Err(Failure::transient("Once", "not yet")));
    let processor = Processor::new(&log, "billing").topic(&orders).batch(2);
    let retry = Retry::default().backoff(Duration::from_millis(20), 2.0, Duration::from_secs(1));
    let running = processor.retry(retry).start(handler).unwrap();
    let counts = ended(&running, 4).await;
    assert_eq!((counts.done_total(), counts.read, counts.retried), (4, 4, 1));
    assert_eq!(*calls.lock(), ["1", "2", "3", "1", "4"], "3 ran while the row of 1 was written");
    running.stop().await.unwrap();
    assert_eq!(values(&log, &log.open_topic("payments").unwrap()), ["2", "3", "1", "4"]);
}

#[tokio::test]
async fn what_is_said_to_wait_does_not_if_that_is_refused() {
    let (disk, log, orders, payments) = house(of_two_keys());
    let mut shop = log.producer("shop").unwrap();
    shop.transaction(|transaction| transaction.mark("others", "id-0")).unwrap();
    let week = Duration::from_secs(7 * 86_400);
    let limit_to = move |log: &Log, ids| log.set_dedup_limits(week, ids, AtCap::Refuse).unwrap();
    let calls = Calls::default();
    let handler = {
        let log = log.clone();
        let first = move || {
            // There is no room for the mark of 2.
            limit_to(&log, 1);
            Err(Failure::transient("Once", "not yet"))
        };
        handler((&disk, &calls, &payments), first)
    };
    let running = Processor::new(&log, "billing").topic(&orders).batch(2).start(handler).unwrap();
    while calls.lock().len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    limit_to(&log, 1000);
    let counts = ended(&running, 4).await;
    assert_eq!(
        (counts.done_total(), counts.read, counts.retried),
        (4, 4, 0),
        "its failure was never written"
    );
    assert_eq!(calls.lock()[..4], ["1", "2", "3", "1"], "all of both rounds comes again");
    running.stop().await.unwrap();
    assert_eq!(values(&log, &log.open_topic("payments").unwrap()), ["1", "2", "4", "3"], "each once");
}

/// The row of a partition of which nothing was read.
#[derive(Default, serde::Serialize)]
struct NoCounts {
    read: u64,
    done: std::collections::BTreeMap<String, u64>,
    duplicate: u64,
    dead: u64,
    retried: u64,
}

#[tokio::test]
async fn what_was_committed_is_told_while_the_next_round_still_runs() {
    let (_, log, orders, _) = house([event("k", "1", "id-1"), event("k", "2", "id-2")]);
    let told = Arc::new(Notify::new());
    let handler = {
        let told = told.clone();
        move |context: Context| {
            let told = told.clone();
            async move {
                if context.value() == b"2" {
                    told.notified().await;
                }
                Ok::<(), Failure>(())
            }
        }
    };
    let running = Processor::new(&log, "billing").topic(&orders).batch(1).start(handler).unwrap();
    let counts = ended(&running, 1).await;
    assert_eq!((counts.read, counts.ended()), (1, 1), "the second one waits");
    told.notify_one();
    ended(&running, 2).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_waits_for_the_commit_that_is_on_its_way() {
    let (disk, log, orders, _) = house([event("k", "1", "id-1")]);
    let called = Arc::new(Notify::new());
    let handler = {
        let (disk, called) = (disk.clone(), called.clone());
        move |_: Context| {
            disk.shut();
            called.notify_one();
            async { Ok::<(), Failure>(()) }
        }
    };
    let running = Processor::new(&log, "billing").topic(&orders).start(handler).unwrap();
    let opener = std::thread::spawn(move || {
        disk.wait_until_reached();
        std::thread::sleep(Duration::from_millis(20));
        disk.open_gate();
    });
    called.notified().await;
    running.stop().await.unwrap();
    assert_eq!(log.committed("billing", &orders, 0), Some(1));
    opener.join().unwrap();
}

#[tokio::test]
async fn a_processor_that_is_never_idle_gives_partitions_up() {
    let events = (0..4000).map(|nth| event(&format!("key-{nth}"), "v", &format!("id-{nth}")));
    let disk = GatedDisk::default();
    let log = Log::builder().disk(Arc::new(disk.layer())).open("gated").unwrap();
    let orders = log.create_topic("orders", TopicOptions::default().partitions(4)).unwrap();
    let mut producer = log.producer("shop").unwrap();
    let sent = producer
        .transaction(|transaction| events.into_iter().try_for_each(|event| transaction.send(&orders, event)));
    sent.unwrap();
    let slow = async |_: Context| {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok::<(), Failure>(())
    };
    let processor = || Processor::new(&log, "billing").topic(&orders).batch(8);
    let first = processor().start(slow).unwrap();
    ended(&first, 1).await;
    let second = processor().start(slow).unwrap();
    ended(&second, 1).await;
    assert!(first.metrics().counts.ended() < 3500, "it has had something to do all the time");
    until(&first, |metrics| metrics.counts.ended() + second.metrics().counts.ended() >= 2000).await;
    for running in [first, second] {
        running.stop().await.unwrap();
    }
}

/// Partitions are given up while rounds run beside commits that park something: it held back one that wasn't its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_back_may_be_given_up_meanwhile() {
    const EVENTS: u64 = 40_000;
    let directory = tempfile::tempdir().unwrap();
    let log = Log::builder().durability(Durability::Os).open(directory.path().join("log")).unwrap();
    let orders = log.create_topic("orders", TopicOptions::default().partitions(8)).unwrap();
    let mut producer = log.producer("shop").unwrap();
    let events = (0..EVENTS).map(|nth| event(&format!("key-{}", nth % 400), "v", &format!("id-{nth}")));
    let mut sent = events.collect::<Vec<_>>().into_iter();
    for _ in 0..8 {
        let mut some = sent.by_ref().take(5000);
        producer.transaction(|transaction| some.try_for_each(|it| transaction.send(&orders, it))).unwrap();
    }
    let start = || {
        let retry = Retry::default().backoff(Duration::from_millis(1), 1.0, Duration::from_millis(1));
        let processor = Processor::new(&log, "billing").topic(&orders).batch(64);
        let handler = |event: Context| {
            let fails = event.attempt() == 1 && event.record().offset.is_multiple_of(7);
            std::future::ready(match fails {
                true => Err(Failure::transient("Once", "not yet")),
                false => Ok(()),
            })
        };
        processor.retry(retry.mode(RetryMode::Blocking)).start(handler).unwrap()
    };
    let stays = start();
    while log.lag("billing", &orders) > 0 {
        let comes_and_goes = start();
        tokio::time::sleep(Duration::from_millis(4)).await;
        comes_and_goes.stop().await.expect("it isn't ended by the other");
    }
    stays.stop().await.expect("it isn't ended by the others");
}
