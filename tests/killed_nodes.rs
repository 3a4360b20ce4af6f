//! A node that is killed again and again while clients of Kafka's protocol write: each record of an idempotent producer
//! is there once and in its order, however often it was sent, and each transaction wholly or not at all. What was
//! acknowledged is there. The processes are real, so is the disk (semantics ID-6, ID-9, ID-13, TX-10).

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod processes;
mod wire_clients;

use exactlog::{Log, TopicOptions};
use exactlog_sim::rng::Random;
use exactlog_wire::messages::{AddPartitionsToTxn, EndTxn, Produce, add_partitions_to_txn, end_txn};
use processes::each_record;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire_clients::{Client, World, batch, produce_of, start};

const KILLS: u64 = 25;
const PRODUCERS: i32 = 3;
/// Acknowledgements between two kills.
const ACKS: u64 = 200;
/// Batches of a producer that are on their way.
const IN_FLIGHT: usize = 5;

/// Sends `0`, `1`, `2`, .. with a producer id, several at a time; after each kill again what has no answer. How many it
/// has sent.
fn idempotent(world: &World, partition: i32) -> u64 {
    let mut client = Client::connect(world);
    let producer = loop {
        match client.producer(None) {
            Ok(producer) => break producer,
            Err(_) => client = Client::connect(world),
        }
    };
    let (mut next, mut unanswered) = (0, VecDeque::new());
    let request =
        |number: i32| produce_of("plain", partition, None, &batch(&[&number.to_string()], producer, number));
    loop {
        let step = (|| {
            while unanswered.len() < IN_FLIGHT && !world.ends.load(Ordering::Acquire) {
                unanswered.push_back(next);
                next += 1;
                client.send::<Produce>(9, &request(next - 1))?;
            }
            let Some(number) = unanswered.front() else { return Ok(true) };
            let response = client.receive::<Produce>(9)?;
            let placed = &response.responses[0].partition_responses[0];
            // Repeats that lie behind more than five others are known, but not where they are.
            assert!([0, 46].contains(&placed.error_code), "{number}: {placed:?}");
            unanswered.pop_front();
            world.acks.fetch_add(1, Ordering::AcqRel);
            io::Result::Ok(false)
        })();
        match step {
            Ok(true) => return next as u64,
            Ok(false) => {}
            Err(_) => {
                client = Client::connect(world);
                let mut again = |number: &i32| client.send::<Produce>(9, &request(*number));
                // Where that fails, too, so does the next step.
                let _ = unanswered.iter().try_for_each(&mut again);
            }
        }
    }
}

/// Writes a number into both partitions by a transaction, then the next one. Those whose end was acknowledged, and how
/// many there were.
fn transactional(world: &World) -> (Vec<u64>, u64) {
    let (mut committed, mut number) = (Vec::new(), 0);
    while !world.ends.load(Ordering::Acquire) {
        let mut client = Client::connect(world);
        let Ok(producer) = client.producer(Some("pairs")) else { continue };
        let mut sequence = 0;
        while !world.ends.load(Ordering::Acquire) {
            number += 1;
            match pair(&mut client, producer, sequence, number) {
                Ok(()) => committed.push(number),
                Err(_) => break,
            }
            sequence += 1;
            world.acks.fetch_add(1, Ordering::AcqRel);
        }
    }
    (committed, number)
}

fn pair(client: &mut Client, producer: (i64, i16), sequence: i32, number: u64) -> io::Result<()> {
    let (producer_id, producer_epoch) = producer;
    let adds = add_partitions_to_txn::Request {
        v3_and_below_transactional_id: "pairs".into(),
        v3_and_below_producer_id: producer_id,
        v3_and_below_producer_epoch: producer_epoch,
        v3_and_below_topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
            name: "pairs".into(),
            partitions: vec![0, 1],
        }],
        ..Default::default()
    };
    let added = client.ask::<AddPartitionsToTxn>(3, &adds)?;
    let codes = added.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
    assert!(codes.clone().all(|it| it.partition_error_code == 0), "{added:?}");
    for partition in [0, 1] {
        let batch = batch(&[&number.to_string()], producer, sequence).in_transaction();
        let response = client.ask::<Produce>(9, &produce_of("pairs", partition, Some("pairs"), &batch))?;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "{response:?}");
    }
    let end = end_txn::Request {
        transactional_id: "pairs".into(),
        producer_id,
        producer_epoch,
        committed: !number.is_multiple_of(4),
    };
    assert_eq!(client.ask::<EndTxn>(3, &end)?.error_code, 0);
    Ok(())
}

#[test]
fn what_killed_nodes_have_acknowledged_is_there_once_and_transactions_wholly() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let log = Log::open(&data).unwrap();
    log.create_topic("plain", TopicOptions::default().partitions(PRODUCERS as u32)).unwrap();
    log.create_topic("pairs", TopicOptions::default().partitions(2)).unwrap();
    log.close().unwrap();
    let (node, address) = start(&data);
    let world = Arc::new(World::new(address));
    let mut random = Random::new(2026);
    let (sent, (committed, begun), node) = std::thread::scope(|scope| {
        let mut node = node;
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|partition| {
                let world = &world;
                scope.spawn(move || idempotent(world, partition))
            })
            .collect();
        let pairs = scope.spawn(|| transactional(&world));
        for _ in 0..KILLS {
            let until = world.acks.load(Ordering::Acquire) + ACKS;
            while world.acks.load(Ordering::Acquire) < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            node.kill(&mut random, Duration::from_millis(3));
            let address;
            (node, address) = start(&data);
            *world.address.lock().unwrap() = address;
        }
        world.ends.store(true, Ordering::Release);
        let sent: Vec<u64> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        (sent, pairs.join().unwrap(), node)
    });
    node.kill(&mut random, Duration::ZERO);

    let log = Log::open(&data).unwrap();
    let plain = log.open_topic("plain").unwrap();
    let mut found: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    each_record(&log, &plain, |record| {
        found.entry(record.partition).or_default().push(record.value_str().unwrap().parse().unwrap());
    });
    for (partition, sent) in (0..).zip(&sent) {
        let expected: Vec<u64> = (0..*sent).collect();
        assert_eq!(found[&partition], expected, "each once, in the order in which they were sent");
    }
    let pairs = log.open_topic("pairs").unwrap();
    let mut halves: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for record in log.read_view().records(&pairs) {
        let record = record.unwrap();
        halves.entry(record.value_str().unwrap().parse().unwrap()).or_default().push(record.partition);
    }
    for (number, partitions) in &mut halves {
        partitions.sort_unstable();
        assert_eq!(*partitions, [0, 1], "transaction {number}");
        assert!(!number.is_multiple_of(4), "{number} was to be aborted");
    }
    let lost: Vec<&u64> =
        committed.iter().filter(|number| !number.is_multiple_of(4) && !halves.contains_key(number)).collect();
    assert!(lost.is_empty(), "acknowledged, and not there: {lost:?}");
    println!(
        "{KILLS} kills: {} records, each once; {begun} transactions, {} of them acknowledged, {} there",
        sent.iter().sum::<u64>(),
        committed.len(),
        halves.len()
    );
}
