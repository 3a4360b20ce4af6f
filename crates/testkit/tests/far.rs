//! The log of a node from another process, over its socket: what a client's own half has to get over. The node crashes,
//! loses its power, has no room, and skips time (semantics ON-1, ON-2).

#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use exactlog::{Error, Event, Log, StorageError, TableOptions, TopicOptions};
use exactlog_client::{LogOptions, connect};
use exactlog_testkit::TestBroker;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Short, so that what is gone leaves soon.
fn options() -> LogOptions {
    LogOptions { grace: Duration::from_millis(500), ..LogOptions::default() }
}

async fn log_of(broker: &TestBroker) -> Log {
    let address = broker.bootstrap();
    spawn_blocking(move || options().connect(&address)).await.unwrap().unwrap()
}

fn values(log: &Log, topic: &str) -> Vec<String> {
    let topic = log.open_topic(topic).unwrap();
    log.read_view().records(&topic).map(|record| record.unwrap().value_str().unwrap().to_owned()).collect()
}

/// Reads `in`, writes `out` and a row, all in one commit, until so many have come. It joins anew when it is fenced.
fn pass_on(log: &Log, wanted: usize) -> Result<(), Error> {
    let (from, to) = (log.open_topic("in")?, log.open_topic("out")?);
    let table = log.table("sums")?;
    let mut producer = log.producer("passer")?;
    let mut passed = 0;
    while passed < wanted {
        let mut consumer = log.consumer("passer").subscribe([&from])?;
        let fenced = loop {
            if passed >= wanted {
                break Ok(());
            }
            let batch = match consumer.blocking_next_for(Duration::from_millis(100)) {
                Ok(Some(batch)) if batch.is_empty() => {
                    passed = log.bounds(&to, 0)?.1 as usize;
                    continue;
                }
                Ok(Some(batch)) => batch,
                Ok(None) => return Err(Error::Closed),
                Err(error) => break Err(error),
            };
            let mut transaction = producer.begin();
            for record in &batch {
                transaction.send(&to, Event::new("k", record.value().to_vec()))?;
            }
            let last = batch.records().last().unwrap().value().to_vec();
            transaction.put(&table, "last", last)?;
            transaction.ack(batch);
            match transaction.blocking_commit() {
                Ok(_) => passed = log.bounds(&to, 0)?.1 as usize,
                Err(error) => break Err(error),
            }
        };
        match fenced {
            Ok(()) | Err(Error::ConsumerFenced { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn set_up(log: &Log) {
    for topic in ["in", "out"] {
        log.create_topic(topic, TopicOptions::default()).unwrap();
    }
    log.create_table("sums", TableOptions::default()).unwrap();
}

fn send(log: &Log, numbers: std::ops::Range<u64>) {
    let producer = log.producer("feeder").unwrap();
    let topic = log.open_topic("in").unwrap();
    for n in numbers {
        producer.blocking_send(&topic, Event::new("k", n.to_string())).unwrap();
    }
}

async fn is_exact_over(crashes: u64, power_losses: bool) {
    let mut broker = TestBroker::start().await.unwrap();
    let log = log_of(&broker).await;
    const EVENTS: u64 = 600;
    {
        let log = log.clone();
        spawn_blocking(move || set_up(&log)).await.unwrap();
    }
    let (feeding, passing) = (log.clone(), log_of(&broker).await);
    let feeder = spawn_blocking(move || send(&feeding, 0..EVENTS));
    let passer = spawn_blocking(move || pass_on(&passing, EVENTS as usize));
    for crash in 0..crashes {
        tokio::time::sleep(Duration::from_millis(5 + 7 * (crash % 5))).await;
        match power_losses {
            true => broker.power_loss_and_restart(crash).await.unwrap(),
            false => broker.crash_and_restart().await.unwrap(),
        }
    }
    feeder.await.unwrap();
    passer.await.unwrap().unwrap();
    let expected: Vec<String> = (0..EVENTS).map(|n| n.to_string()).collect();
    let near = broker.log().clone();
    assert_eq!(values(&near, "in"), expected);
    assert_eq!(values(&near, "out"), expected);
    let far = spawn_blocking(move || values(&log, "out")).await.unwrap();
    assert_eq!(far, expected);
    let row = near.table("sums").unwrap().get("last").unwrap().unwrap();
    assert_eq!(row.value_str().unwrap(), (EVENTS - 1).to_string());
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_passed_on_once_over_twenty_crashes_of_the_node() {
    is_exact_over(20, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_passed_on_once_over_ten_power_losses_of_the_node() {
    is_exact_over(10, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_with_its_numbers_and_gone_on_after() {
    let broker = TestBroker::start().await.unwrap();
    let log = log_of(&broker).await;
    let near = log.clone();
    spawn_blocking(move || set_up(&near)).await.unwrap();
    broker.fill_disk();
    let full = log.clone();
    let refused = spawn_blocking(move || {
        let topic = full.open_topic("in").unwrap();
        let producer = full.producer("feeder")?;
        for n in 0..64 {
            producer.blocking_send(&topic, Event::new("k", vec![n; 512 * 1024]))?;
        }
        Ok::<_, Error>(())
    });
    let refused = refused.await.unwrap().unwrap_err();
    assert!(matches!(refused, Error::Storage(StorageError::DiskFull { .. })), "{refused}");
    assert!(refused.is_retriable());
    broker.free_disk();
    let again = log.clone();
    spawn_blocking(move || send(&again, 0..3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_by_the_clock_of_the_node() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let broker = TestBroker::start().await.unwrap();
    let log = log_of(&broker).await;
    let waiting = log.clone();
    let waits = spawn_blocking(move || {
        set_up(&waiting);
        let topic = waiting.open_topic("in").unwrap();
        let mut consumer = waiting.consumer("g").subscribe([&topic]).unwrap();
        waiting.producer("p").unwrap().blocking_send_after(&topic, Event::new("k", "later"), DAY).unwrap();
        let nothing = consumer.blocking_next_for(Duration::from_millis(50)).unwrap().unwrap();
        assert!(nothing.is_empty());
        consumer
    });
    let mut consumer = waits.await.unwrap();
    broker.skip_time(DAY);
    let value = spawn_blocking(move || {
        let batch = consumer.blocking_next().unwrap().unwrap();
        batch.records()[0].value_str().unwrap().to_owned()
    });
    assert_eq!(value.await.unwrap(), "later");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_processes_share_a_node_and_none_is_taken_for_another() {
    let broker = TestBroker::start().await.unwrap();
    let log = log_of(&broker).await;
    spawn_blocking(move || set_up(&log)).await.unwrap();
    let mut tasks = Vec::new();
    for process in 0..16_u64 {
        let log = log_of(&broker).await;
        tasks.push(spawn_blocking(move || {
            let topic = log.open_topic("in").unwrap();
            let mut producer = log.producer(&format!("p{process}")).unwrap();
            for n in 0..20 {
                let mut transaction = producer.begin();
                transaction.send(&topic, Event::new("k", format!("{process}-{n}"))).unwrap();
                transaction.mark("seen", format!("{process}-{n}")).unwrap();
                let receipt = transaction.blocking_commit().unwrap();
                // What was committed is there for whoever has committed it.
                let (_, offset) = receipt.base_offsets[0];
                let record = log.record(&topic, 0, offset).unwrap().unwrap();
                assert_eq!(record.value_str().unwrap(), format!("{process}-{n}"));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let found = values(broker.log(), "in");
    assert_eq!((found.len(), found.iter().collect::<BTreeSet<_>>().len()), (320, 320));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_node_of_this_kind_is_named() {
    let nobody = spawn_blocking(|| connect("127.0.0.1:1")).await.unwrap().unwrap_err();
    assert!(matches!(&nobody, Error::Connection { peer, .. } if peer == "127.0.0.1:1"), "{nobody}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || drop(listener.accept()));
    let refused = spawn_blocking(move || connect(&address)).await.unwrap().unwrap_err();
    assert!(matches!(&refused, Error::Connection { .. }), "{refused}");
    other.join().unwrap();
}
