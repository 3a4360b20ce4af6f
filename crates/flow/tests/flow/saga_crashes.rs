//! Sagas on the simulated disk, with a crash after every operation: at each, what the log has of a saga's steps is what
//! its row says, and going on ends as a run without a crash does.

use crate::common::{event, until};
use crate::crashes::{crashes_at, open, runtime, values};
use exactlog::{Event, Log, Topic, TopicOptions};
use exactlog_flow::{
    Failure, GroupState, Processor, Retry, Saga, SagaInstance, SagaStatus, Sagas, Step, StepStatus, inspect,
};
use exactlog_sim::disk::SimDisk;
use std::collections::BTreeMap;
use std::time::Duration;

/// Id, what fails of it, and how it ends.
const ORDERS: [(&str, &str, SagaStatus); 5] = [
    ("1", "", SagaStatus::Completed),
    ("2", "ship", SagaStatus::Compensated),
    ("3", "ship, undo charge", SagaStatus::CompensationFailed),
    ("4", "once charge", SagaStatus::Completed),
    ("5", "reserve", SagaStatus::Compensated),
];

struct Parts {
    orders: Topic,
    trail: Topic,
}

fn parts(log: &Log) -> Parts {
    Parts {
        orders: log.create_topic("orders", TopicOptions::default()).unwrap(),
        trail: log.create_topic("trail", TopicOptions::default()).unwrap(),
    }
}

/// Leaves a trail, which is there if what it is about is done.
fn act(
    trail: &Topic,
    what: &'static str,
) -> impl Fn(Step) -> std::future::Ready<Result<(), Failure>> + Send + Sync + use<> {
    let trail = trail.clone();
    move |step: Step| {
        let left = step.send(&trail, Event::new("", format!("{} {what}", step.event_id())));
        let value = String::from_utf8_lossy(step.value());
        let is_broken =
            |it: &str| it == what || (it.strip_prefix("once ") == Some(what) && step.attempt() == 1);
        std::future::ready(match value.split(", ").any(is_broken) {
            true => Err(Failure::transient("Broken", what)),
            false => left,
        })
    }
}

fn saga(log: &Log, parts: &Parts) -> Saga {
    let act = |what| act(&parts.trail, what);
    Saga::new(log, "order")
        .unwrap()
        .step("reserve", act("reserve"))
        .compensate(act("undo reserve"))
        .step("charge", act("charge"))
        .compensate(act("undo charge"))
        .step("ship", act("ship"))
}

async fn finish(log: &Log, parts: &Parts) {
    let ended = || inspect(log, "shop").map_or(0, |state| state.counts.ended());
    let (before, all) = (ended(), ORDERS.len() as u64);
    if before < all {
        let retry =
            Retry::default().max_attempts(2).backoff(Duration::from_millis(5), 1.0, Duration::from_secs(1));
        let processor = Processor::new(log, "shop").topic(&parts.orders).retry(retry);
        let running = processor.start(saga(log, parts)).unwrap();
        until(&running, |metrics| before + metrics.counts.ended() >= all).await;
        running.stop().await.unwrap();
    }
}

fn sagas(log: &Log) -> BTreeMap<String, SagaInstance> {
    let mut found = BTreeMap::new();
    let Ok(sagas) = Sagas::open(log, "order") else { return found };
    let each = |saga: SagaInstance| {
        found.insert(saga.id.clone(), saga);
        true
    };
    sagas.each(each).unwrap();
    found
}

/// What has to be so at every moment.
fn check(log: &Log, at: &str) -> BTreeMap<String, SagaInstance> {
    let sagas = sagas(log);
    let mut trails: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for value in values(log, "trail") {
        let (id, what) = value.split_once(' ').unwrap();
        trails.entry(id.to_string()).or_default().push(what.to_string());
    }
    for (id, saga) in &sagas {
        let done = |it: &&exactlog_flow::SagaStep| {
            use StepStatus::{Compensated, CompensationFailed, Done};
            matches!(it.status, Done | Compensated | CompensationFailed)
        };
        let undone = |it: &&exactlog_flow::SagaStep| it.status == StepStatus::Compensated;
        let mut trail: Vec<String> = saga.steps.iter().filter(done).map(|step| step.name.clone()).collect();
        trail.extend(saga.steps.iter().rev().filter(undone).map(|step| format!("undo {}", step.name)));
        assert_eq!(trails.remove(id).unwrap_or_default(), trail, "{at}: {saga:?}");
    }
    assert!(trails.is_empty(), "{at}: of no saga: {trails:?}");
    let state = inspect(log, "shop").unwrap_or_default();
    let GroupState { counts, waiting, .. } = &state;
    assert_eq!(counts.ended() + waiting.len() as u64, counts.read, "{at}: {state:?}");
    let count = |status| sagas.values().filter(|saga| saga.status == status).count() as u64;
    let done = |outcome: &str| counts.done.get(outcome).copied().unwrap_or_default();
    assert_eq!(count(SagaStatus::Completed), done("completed"), "{at}");
    assert_eq!(count(SagaStatus::Compensated), done("compensated"), "{at}");
    assert_eq!(count(SagaStatus::CompensationFailed), counts.dead, "{at}");
    let under_way: Vec<&str> = sagas
        .values()
        .filter(|saga| matches!(saga.status, SagaStatus::Running | SagaStatus::Compensating))
        .map(|saga| saga.id.as_str())
        .collect();
    let waits = |id: &&str| waiting.iter().any(|it| it.record.header("message-id") == Some(id.as_bytes()));
    assert!(under_way.iter().all(waits), "{at}: {under_way:?} in {waiting:?}");
    sagas
}

#[test]
fn a_crash_between_any_two_operations_leaves_each_saga_where_its_row_says() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let made = parts(&log);
    let producer = log.producer("shop").unwrap();
    for (id, broken, _) in ORDERS {
        producer.blocking_send(&made.orders, event(id, broken, id)).unwrap();
    }
    disk.record_points(true);
    runtime().block_on(finish(&log, &made));
    let is_right = |log: &Log, at: &str| {
        let sagas = check(log, at);
        for (id, _, status) in ORDERS {
            assert_eq!(sagas[id].status, status, "{at}: {:?}", sagas[id]);
        }
    };
    is_right(&log, "without a crash");
    drop((producer, made));
    log.close().unwrap();
    let points = disk.take_points();
    let (mut crashes, mut seen) = (0, BTreeMap::<&str, u32>::new());
    for (nth, point) in points.iter().enumerate() {
        for (at, image) in crashes_at(nth, point, points.len()) {
            let log = open(&image);
            for saga in check(&log, &at).values() {
                *seen.entry(saga.status.name()).or_default() += 1;
            }
            let made = parts(&log);
            runtime().block_on(finish(&log, &made));
            is_right(&log, &at);
            drop(made);
            log.close().unwrap();
            crashes += 1;
        }
    }
    println!("{crashes} crashes at {} operations; sagas found: {seen:?}", points.len());
    assert!(seen.len() == SagaStatus::ALL.len() && crashes > 60, "{crashes}: {seen:?}");
}
