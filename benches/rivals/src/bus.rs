//! Fan-out within the process: what one publisher sends, every subscriber gets, or what is lost.

use crate::Plan;
use crate::rivals::Result;
use exactlog::{Durability, Event, Log, Start, TopicOptions};
use exactlog_benches::samples::number_text;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

const VALUE_BYTES: usize = 1024;

/// As large as its documentation calls large: 64 Mi of payloads.
const BROADCAST_SLOTS: usize = 65_536;

/// What subscribers got, together.
struct Delivered {
    received: u64,
    lost: u64,
    elapsed: Duration,
}

pub(crate) fn run(plan: &Plan) -> Result<()> {
    println!("\n**Fan-out, one publisher as fast as it can, 1 KiB a record**\n");
    println!("| | subscribers | delivered/s, together | lost | survives |\n|---|---:|---:|---:|---|");
    for subscribers in [1, 4] {
        let count = plan.pick(1_000_000, 20_000);
        let ours = exactlog(plan, subscribers, count)?;
        let theirs = tokio_broadcast(subscribers, count)?;
        for (name, delivered, survives) in [
            ("exactlog (`Durability::Os`)", &ours, "kill -9, and can be read again"),
            ("tokio::broadcast, 65,536 slots", &theirs, "nothing"),
        ] {
            let rate = delivered.received as f64 / delivered.elapsed.as_secs_f64();
            let lost = 100.0 * delivered.lost as f64 / (delivered.received + delivered.lost) as f64;
            println!("| {name} | {subscribers} | {} | {lost:.1} % | {survives} |", number_text(rate));
        }
    }
    Ok(())
}

fn exactlog(plan: &Plan, subscribers: usize, count: u64) -> Result<Delivered> {
    let directory = tempfile::tempdir_in(&plan.directory)?;
    let log = Log::builder().durability(Durability::Os).open(directory.path())?;
    let topic = log.create_topic("bus", TopicOptions::default())?;
    let producer = log.producer("bus")?;
    let consumers = (0..subscribers)
        .map(|number| log.consumer(&format!("s{number}")).start(Start::Earliest).assign([(&topic, 0)]))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let value = bytes::Bytes::from(vec![7; VALUE_BYTES]);
    let began = Instant::now();
    let received = std::thread::scope(|scope| -> Result<u64> {
        let topic = &topic;
        let subscribers: Vec<_> = consumers
            .into_iter()
            .map(|mut consumer| {
                scope.spawn(move || -> Result<u64> {
                    let mut received = 0;
                    while received < count {
                        let batch = consumer.blocking_next()?.ok_or("the log was closed")?;
                        received += batch.records().len() as u64;
                        let next = batch.records().last().ok_or("a batch without records")?.offset + 1;
                        drop(batch);
                        // An ack would be a command of its own: what a bus without groups doesn't need.
                        consumer.seek(topic, 0, next)?;
                    }
                    Ok(received)
                })
            })
            .collect();
        let mut last = None;
        for _ in 0..count {
            last = Some(producer.blocking_submit(topic, Event::unkeyed(value.clone()))?);
        }
        last.map(|ticket| ticket.wait()).transpose()?;
        subscribers.into_iter().map(|it| it.join().map_err(|_| "a subscriber panicked")?).sum()
    })?;
    Ok(Delivered { received, lost: 0, elapsed: began.elapsed() })
}

fn tokio_broadcast(subscribers: usize, count: u64) -> Result<Delivered> {
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let (sender, _) = broadcast::channel::<bytes::Bytes>(BROADCAST_SLOTS);
    let value = bytes::Bytes::from(vec![7; VALUE_BYTES]);
    let began = Instant::now();
    let tasks: Vec<_> = (0..subscribers)
        .map(|_| {
            let mut receiver = sender.subscribe();
            runtime.spawn(async move {
                let (mut received, mut lost) = (0, 0);
                loop {
                    match receiver.recv().await {
                        Ok(_) => received += 1,
                        Err(broadcast::error::RecvError::Lagged(missed)) => lost += missed,
                        Err(broadcast::error::RecvError::Closed) => return (received, lost),
                    }
                }
            })
        })
        .collect();
    for _ in 0..count {
        sender.send(value.clone())?;
    }
    drop(sender);
    let (mut received, mut lost) = (0, 0);
    for task in tasks {
        let (of_one, missed) = runtime.block_on(task)?;
        received += of_one;
        lost += missed;
    }
    Ok(Delivered { received, lost, elapsed: began.elapsed() })
}
