//! Sagas: steps in order, compensations in the reverse of it, each once known.

use crate::common::{House, ended, event, header, until};
use exactlog::Event;
use exactlog_flow::{
    Dedup, Error, Failure, Handler, OnCompensationFailure, Processor, Retry, Saga, SagaInstance, SagaStatus,
    Sagas, Step, StepStatus,
};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Names of what fails (`ship`, `undo charge`), and what was done.
#[derive(Clone, Default)]
struct World {
    broken: Arc<Mutex<BTreeSet<String>>>,
    done: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn broken(names: &[&str]) -> World {
        let world = World::default();
        *world.broken.lock() = names.iter().map(|name| name.to_string()).collect();
        world
    }

    fn act(&self, what: String) -> Result<String, Failure> {
        if self.broken.lock().contains(&what) {
            return Err(Failure::transient("Broken", format!("{what} is broken")));
        }
        self.done.lock().push(what.clone());
        Ok(what)
    }

    fn deed(&self) -> impl Fn(Step) -> std::future::Ready<Result<String, Failure>> + Send + Sync + use<> {
        let world = self.clone();
        move |step: Step| std::future::ready(world.act(step.name().to_string()))
    }

    fn undo(&self) -> impl Fn(Step) -> std::future::Ready<Result<(), Failure>> + Send + Sync + use<> {
        let world = self.clone();
        move |step: Step| {
            let result: Result<String, Failure> = step.result(step.name());
            let done = result.and_then(|result| {
                assert_eq!(result, step.name());
                world.act(format!("undo {result}"))
            });
            std::future::ready(done.map(|_| ()))
        }
    }

    fn saga(&self, house: &House) -> Saga {
        Saga::new(&house.log, "order")
            .unwrap()
            .step("reserve", self.deed())
            .compensate(self.undo())
            .step("look", self.deed())
            .nothing_to_compensate()
            .step("charge", self.deed())
            .compensate(self.undo())
            .step("ship", self.deed())
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().clone()
    }
}

fn processor(house: &House) -> Processor {
    Processor::new(&house.log, "order").topic(&house.orders)
}

fn saga(house: &House, id: &str) -> SagaInstance {
    Sagas::open(&house.log, "order").unwrap().get(id).unwrap().unwrap()
}

fn steps(saga: &SagaInstance) -> Vec<StepStatus> {
    saga.steps.iter().map(|step| step.status).collect()
}

#[tokio::test(start_paused = true)]
async fn all_steps_are_done_each_in_a_commit_of_its_own() {
    let house = House::new(2);
    let world = World::default();
    house.send([event("a", "chairs", "1"), event("b", "tables", "2"), event("a", "chairs", "1")]);
    let running = processor(&house).start(world.saga(&house)).unwrap();
    let counts = ended(&running, 3).await;
    assert_eq!((counts.done["completed"], counts.duplicate, counts.read), (2, 1, 3));
    let metrics = running.metrics();
    assert!(metrics.commits >= 4, "{metrics:?}");
    running.stop().await.unwrap();
    let saga = saga(&house, "1");
    assert_eq!((saga.status, steps(&saga)), (SagaStatus::Completed, vec![StepStatus::Done; 4]));
    assert_eq!(saga.steps[2].result, Some("charge".into()));
    assert_eq!((saga.topic.as_str(), saga.failure.as_ref(), saga.version), ("orders", None, 1));
    assert_eq!(world.done().len(), 8);
    let mut ids = Vec::new();
    let all = |saga: SagaInstance| {
        ids.push(saga.id);
        true
    };
    Sagas::open(&house.log, "order").unwrap().each(all).unwrap();
    assert_eq!(
        (ids, Sagas::names(&house.log)),
        (vec!["1".to_string(), "2".into()], vec!["order".to_string()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_for_good_undoes_those_before_it_in_reverse() {
    let house = House::new(1);
    let world = World::broken(&["ship"]);
    house.send([event("a", "chairs", "1")]);
    let begin = Instant::now();
    let running = processor(&house).start(world.saga(&house)).unwrap();
    let counts = ended(&running, 1).await;
    assert_eq!(begin.elapsed().as_millis() / 1000, 3, "three attempts before anything is undone");
    assert_eq!((counts.done["compensated"], counts.dead, counts.retried), (1, 0, 2));
    running.stop().await.unwrap();
    assert_eq!(world.done(), ["reserve", "look", "charge", "undo charge", "undo reserve"]);
    let saga = saga(&house, "1");
    assert_eq!(saga.status, SagaStatus::Compensated);
    use StepStatus::{Compensated, Done, Failed};
    assert_eq!(steps(&saga), [Compensated, Done, Compensated, Failed]);
    let failure = saga.failure.unwrap();
    assert_eq!((failure.step.as_str(), failure.kind.as_str()), ("ship", "Broken"));
    assert!(house.records("dlq.orders").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_a_panic_and_a_timeout_are_compensated_too() {
    let house = House::new(1);
    let world = World::default();
    house.send([event("a", "permanent", "1"), event("b", "panic", "2"), event("c", "slow", "3")]);
    let saga_of = world.saga(&house).step("last", |step: Step| async move {
        match step.value_str()? {
            "permanent" => Err(Failure::permanent("Refused", "no")),
            "panic" => panic!("at the last step"),
            _ => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(())
            }
        }
    });
    let Err(error) = processor(&house).start(saga_of.clone()) else {
        panic!("`ship` says nothing of its undoing")
    };
    assert!(error.to_string().contains("\"ship\" needs compensate(..)"), "{error}");
    // As it is written if nothing is forgotten.
    let saga_of = {
        let undo = world.undo();
        let first = Saga::new(&house.log, "order").unwrap().step("reserve", world.deed()).compensate(undo);
        first.step("last", |step: Step| async move {
            match step.value_str()? {
                "permanent" => Err(Failure::permanent("Refused", "no")),
                "panic" => panic!("at the last step"),
                _ => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Ok(())
                }
            }
        })
    };
    let retry = Retry::default().max_attempts(2);
    let running = processor(&house).retry(retry).start(saga_of).unwrap();
    let counts = ended(&running, 3).await;
    running.stop().await.unwrap();
    assert_eq!((counts.done["compensated"], counts.retried), (3, 2), "permanent isn't tried again");
    let kinds = ["1", "2", "3"].map(|id| saga(&house, id).failure.unwrap().kind);
    assert_eq!(kinds, ["Refused", "panic", "timeout"]);
    assert_eq!(world.done().iter().filter(|it| *it == "undo reserve").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_fails_is_named_the_others_go_on_and_it_can_be_tried_once_more() {
    let house = House::new(1);
    let world = World::broken(&["ship", "undo charge"]);
    house.send([event("a", "chairs", "1"), event("a", "tables", "2")]);
    let running = processor(&house).start(world.saga(&house)).unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.dead, counts.done_total()), (2, 0));
    running.stop().await.unwrap();
    let failed = saga(&house, "1");
    assert_eq!(failed.status, SagaStatus::CompensationFailed);
    use StepStatus::{Compensated, CompensationFailed, Done, Failed};
    assert_eq!(steps(&failed), [Compensated, Done, CompensationFailed, Failed]);
    let names: Vec<&str> = failed.not_compensated().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["charge"]);
    let dead = &house.records("dlq.orders")[0];
    assert_eq!(header(dead, "dlq-error-class"), "CompensationFailed");
    let message = header(dead, "__dlq.errors.message");
    assert!(
        message.contains("charge (Broken: undo charge is broken)") && message.contains("ship"),
        "{message}"
    );

    let sagas = Sagas::open(&house.log, "order").unwrap();
    let Err(Error::Saga { reason, .. }) = sagas.retry_compensation("3") else { panic!("there is no such") };
    assert!(reason.contains("\"3\""), "{reason}");
    world.broken.lock().clear();
    let running = processor(&house).start(world.saga(&house)).unwrap();
    assert_eq!(sagas.retry_compensation("1").unwrap().count().unwrap(), 1);
    assert_eq!(sagas.retry_compensation("1").unwrap().run().await.unwrap().done, 1);
    let counts = until(&running, |metrics| metrics.counts.ended() >= 1).await.counts;
    assert_eq!(counts.done["compensated"], 1);
    running.stop().await.unwrap();
    assert_eq!(
        (saga(&house, "1").status, saga(&house, "2").status),
        (SagaStatus::Compensated, SagaStatus::CompensationFailed)
    );
    let again = world.done().into_iter().filter(|it| it == "undo reserve" || it == "undo charge");
    assert_eq!(
        again.collect::<Vec<_>>(),
        ["undo reserve", "undo reserve", "undo charge"],
        "only what was left"
    );
    let Err(Error::Saga { reason, .. }) = sagas.retry_compensation("1") else { panic!("it has ended") };
    assert!(reason.contains("COMPENSATED"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_undone_if_it_is_to_stop_at_the_first_failure() {
    let house = House::new(1);
    let world = World::broken(&["ship", "undo charge"]);
    house.send([event("a", "chairs", "1")]);
    let stops = || world.saga(&house).on_compensation_failure(OnCompensationFailure::Stop);
    let running = processor(&house).start(stops()).unwrap();
    assert_eq!(ended(&running, 1).await.dead, 1);
    running.stop().await.unwrap();
    assert_eq!(steps(&saga(&house, "1"))[0], StepStatus::Done);
    world.broken.lock().clear();
    let running = processor(&house).start(stops()).unwrap();
    Sagas::open(&house.log, "order").unwrap().retry_compensation("1").unwrap().run().await.unwrap();
    until(&running, |metrics| metrics.counts.ended() >= 1).await;
    running.stop().await.unwrap();
    assert_eq!(world.done()[3..], ["undo charge", "undo reserve"]);
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_takes_too_long_is_compensated() {
    let house = House::new(1);
    let world = World::broken(&["ship"]);
    house.send([event("a", "chairs", "1")]);
    let saga_of = world.saga(&house).timeout(Duration::from_secs(5));
    let retry = Retry::default().max_attempts(100);
    let running = processor(&house).retry(retry).start(saga_of).unwrap();
    assert_eq!(ended(&running, 1).await.done["compensated"], 1);
    running.stop().await.unwrap();
    let failure = saga(&house, "1").failure.unwrap();
    assert_eq!((failure.step.as_str(), failure.kind.as_str()), ("ship", "SagaTimeout"));
    assert!(failure.message.contains("saga.timeout.ms is 5000"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_this_code_does_not_know_loses_nothing() {
    let house = House::new(1);
    let world = World::broken(&["look"]);
    house.send([event("a", "chairs", "1")]);
    let running = processor(&house).start(world.saga(&house)).unwrap();
    until(&running, |metrics| metrics.parked == 1).await;
    running.stop().await.unwrap();
    assert_eq!(saga(&house, "1").status, SagaStatus::Running);

    // Code in which `look` is called otherwise.
    world.broken.lock().clear();
    let renamed = Saga::new(&house.log, "order").unwrap().version(2).step("reserve", world.deed());
    let renamed = renamed.compensate(world.undo()).step("inspect", world.deed());
    let running = processor(&house).start(renamed).unwrap();
    assert_eq!(ended(&running, 1).await.dead, 1);
    running.stop().await.unwrap();
    let dead = &house.records("dlq.orders")[0];
    assert_eq!(header(dead, "dlq-error-class"), "UnknownStep");
    let message = header(dead, "__dlq.errors.message");
    assert!(message.contains("\"order\" \"1\" of version 1 is at step \"look\""), "{message}");

    // And with the code that knows it: as another event of the topic, which takes the place of the one that died.
    let running = processor(&house).start(world.saga(&house)).unwrap();
    let letters = exactlog_flow::DeadLetters::open(&house.log, "dlq.orders").unwrap();
    letters.redrive().to(exactlog_flow::RedriveTo::Origin).run().await.unwrap();
    assert_eq!(ended(&running, 1).await.done["completed"], 1);
    running.stop().await.unwrap();
    assert_eq!(world.done(), ["reserve", "look", "charge", "ship"]);
    assert_eq!(saga(&house, "1").offset, 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_one_under_way_is_a_duplicate_also_without_dedup() {
    let house = House::new(1);
    let world = World::broken(&["charge"]);
    house.send([event("a", "chairs", "1")]);
    let running = processor(&house).without_dedup().start(world.saga(&house)).unwrap();
    until(&running, |metrics| metrics.parked == 1).await;
    house.send([event("b", "chairs", "1")]);
    until(&running, |metrics| metrics.counts.duplicate == 1).await;
    world.broken.lock().clear();
    assert_eq!(ended(&running, 2).await.done["completed"], 1);
    house.send([event("c", "chairs", "1")]);
    assert_eq!(ended(&running, 3).await.duplicate, 2);
    running.stop().await.unwrap();
    assert_eq!(world.done(), ["reserve", "look", "charge", "ship"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_back_between_two_steps() {
    let house = House::new(1);
    let world = World::default();
    house.send([event("a", "chairs", "1")]);
    let begin = Instant::now();
    let leased = processor(&house).dedup(Dedup::default().lease(Duration::from_secs(600)));
    let running = leased.start(world.saga(&house)).unwrap();
    assert_eq!(ended(&running, 1).await.done["completed"], 1);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    running.stop().await.unwrap();
    assert_eq!(world.done(), ["reserve", "look", "charge", "ship"]);
}

#[tokio::test(start_paused = true)]
async fn what_steps_hand_in_becomes_true_with_them_and_says_whose_it_is() {
    let house = House::new(1);
    let (world, payments) = (World::default(), house.topic("payments"));
    house.send([event("a", "good", "1"), event("b", "bad", "2")]);
    let sends = payments.clone();
    let saga_of = Saga::new(&house.log, "order")
        .unwrap()
        .step("charge", move |step: Step| {
            let sent = step.send(&sends, Event::new(step.key().to_vec(), step.idempotency_key()));
            let bad = step.value() == b"bad";
            std::future::ready(sent.and_then(|()| match bad {
                true => Err(Failure::permanent("Refused", "and what was sent is not")),
                false => Ok(()),
            }))
        })
        .compensate(|_| std::future::ready(Ok::<_, Failure>(())))
        .step("ship", world.deed());
    let running = processor(&house).start(saga_of).unwrap();
    let counts = ended(&running, 2).await;
    assert_eq!((counts.done["completed"], counts.done["compensated"]), (1, 1));
    running.stop().await.unwrap();
    let payments = house.records("payments");
    assert_eq!(payments.len(), 1);
    assert_eq!(payments[0].value_str().unwrap(), "1/charge");
    assert_eq!(
        (header(&payments[0], "saga-id"), header(&payments[0], "saga-step")),
        ("1".into(), "charge".into())
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_no_saga() {
    let house = House::new(1);
    house.send([event("a", "chairs", "1")]);
    let saga_of = Saga::new(&house.log, "order").unwrap().step("reserve", |step: Step| async move {
        let order: u64 = step.json()?;
        Ok::<_, Failure>(order)
    });
    let running = processor(&house).start(saga_of).unwrap();
    assert_eq!(ended(&running, 1).await.dead, 1);
    running.stop().await.unwrap();
    assert_eq!(Sagas::open(&house.log, "order").unwrap().get("1").unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn those_that_ended_are_forgotten_after_a_while_but_not_those_that_failed() {
    let house = House::new(1);
    let world = World::broken(&["ship", "undo charge"]);
    let keeps = |house: &House| world.saga(house).retention(Duration::from_secs(60));
    house.send([event("bad", "", "bad")]);
    let running = processor(&house).retry(Retry::never()).start(keeps(&house)).unwrap();
    ended(&running, 1).await;
    world.broken.lock().clear();
    for n in 0..6 {
        house.send([event("a", "", &n.to_string())]);
        ended(&running, n + 2).await;
        tokio::time::sleep(Duration::from_secs(25)).await;
    }
    running.stop().await.unwrap();
    let sagas = Sagas::open(&house.log, "order").unwrap();
    let is_there = |id: &str| sagas.get(id).unwrap().is_some();
    assert!(["bad", "3", "4", "5"].into_iter().all(is_there));
    assert!(!["0", "1"].into_iter().any(is_there));
    let rows = house.log.table("saga.order").unwrap().len().unwrap();
    assert!(rows <= 1 + 2 * 4, "{rows}");
}

#[test]
fn a_saga_that_makes_no_sense_is_refused_at_its_start() {
    let house = House::new(1);
    let world = World::default();
    let empty = Saga::new(&house.log, "order").unwrap();
    let said = |saga: &Saga| saga.check().unwrap_err().to_string();
    assert_eq!(said(&empty), "saga \"order\": it has no step");
    let twice = empty.step("a", world.deed()).compensate(world.undo()).step("a", world.deed());
    assert_eq!(said(&twice), "saga \"order\": two of its steps are called \"a\"");
}
