//! The order of each key, whatever fails: against the obvious model.

use crate::common::{House, ended, until};
use exactlog::Event;
use exactlog_flow::{Class, Context, Failure, Processor, Retry, Running, inspect};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What an event does: so many failures of this class, then it goes well.
#[derive(Clone, Copy, Debug)]
struct Plan {
    key: u8,
    failures: u32,
    class: Class,
    waits: bool,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let class =
        prop_oneof![4 => Just(Class::Transient), 1 => Just(Class::Permanent), 1 => Just(Class::Poison)];
    let failures = prop_oneof![3 => Just(0_u32), 1 => 1..5_u32];
    let plan = (0..5_u8, failures, class, any::<bool>());
    prop::collection::vec(
        plan.prop_map(|(key, failures, class, waits)| Plan { key, failures, class, waits }),
        1..60,
    )
}

/// How it has to end.
fn is_dead(plan: &Plan) -> bool {
    plan.failures > 0 && (plan.class != Class::Transient || plan.failures >= 3)
}

/// A group whose handler goes by the plans. What ended well is noted, committed or not.
struct Group {
    plans: Arc<Vec<Plan>>,
    ended_in: Arc<Mutex<Vec<usize>>>,
    batch: usize,
    concurrency: usize,
}

impl Group {
    fn new(house: &House, plans: Vec<Plan>, batch: usize, concurrency: usize) -> Group {
        house.send(plans.iter().enumerate().map(|(n, plan)| Event::new(vec![plan.key], n.to_string())));
        Group { plans: Arc::new(plans), ended_in: Arc::default(), batch, concurrency }
    }

    fn start(&self, house: &House) -> Running {
        let (done, plans, ended_in) = (house.topic("done"), self.plans.clone(), self.ended_in.clone());
        let processor = Processor::new(&house.log, "billing").topic(&house.orders).retry(Retry::default());
        let started =
            processor.batch(self.batch).concurrency(self.concurrency).start(move |event: Context| {
                let (done, plans, ended_in) = (done.clone(), plans.clone(), ended_in.clone());
                async move {
                    let nth: usize = event.value_str()?.parse().unwrap();
                    let plan = plans[nth];
                    if plan.waits {
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                    if event.attempt() <= plan.failures {
                        return Err(Failure::new(plan.class, "Planned", nth));
                    }
                    ended_in.lock().push(nth);
                    event.send(&done, Event::new(event.key().to_vec(), event.value().to_vec()))
                }
            });
        started.unwrap()
    }

    /// Each event has ended once and as it was planned, and the events of a key in the order in which they were sent.
    fn check(&self, house: &House) {
        let plans = &self.plans;
        let state = inspect(&house.log, "billing").unwrap();
        let expected_done = plans.iter().filter(|plan| !is_dead(plan)).count();
        assert_eq!(state.counts.read, plans.len() as u64);
        assert_eq!((state.counts.done_total(), state.waiting.len()), (expected_done as u64, 0));
        for (topic, is_dead_one) in [("done", false), ("dlq.orders", true)] {
            let mut found: Vec<usize> =
                house.values(topic).iter().map(|value| value.parse().unwrap()).collect();
            let mut last: BTreeMap<u8, usize> = BTreeMap::new();
            for nth in &found {
                let before = last.insert(plans[*nth].key, *nth);
                assert!(before.is_none_or(|before| before < *nth), "{topic}: {nth} behind {before:?}");
            }
            found.sort_unstable();
            let expected: Vec<usize> =
                (0..plans.len()).filter(|nth| is_dead(&plans[*nth]) == is_dead_one).collect();
            assert_eq!(found, expected, "{topic}");
        }
    }
}

async fn alone(plans: Vec<Plan>, batch: usize, concurrency: usize, partitions: u32, restarts: bool) {
    let mut house = House::new(partitions);
    let mut left = plans.len() as u64;
    let group = Group::new(&house, plans, batch, concurrency);
    if restarts {
        let running = group.start(&house);
        until(&running, |metrics| metrics.counts.read > 0).await;
        running.stop().await.unwrap();
        left -= inspect(&house.log, "billing").unwrap().counts.ended();
        house = house.reopen();
    }
    let running = group.start(&house);
    ended(&running, left).await;
    running.stop().await.unwrap();
    group.check(&house);
    // So they were processed, too: none overtook an earlier one of its key.
    let mut last: BTreeMap<u8, usize> = BTreeMap::new();
    for nth in &*group.ended_in.lock() {
        let before = last.insert(group.plans[*nth].key, *nth);
        assert!(before.is_none_or(|before| before < *nth), "{nth} ended behind {before:?}");
    }
}

/// Processors come and go while events wait: partitions change hands with what waits of them.
async fn handed_over(plans: Vec<Plan>, batch: usize, partitions: u32, stops: Vec<u64>) {
    let house = House::new(partitions);
    let all = plans.len() as u64;
    let group = Group::new(&house, plans, batch, 4);
    let ended = || inspect(&house.log, "billing").map_or(0, |state| state.counts.ended());
    let mut running = vec![group.start(&house), group.start(&house)];
    for stop in stops {
        let enough = ended() + stop;
        while ended() < enough.min(all) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.push(group.start(&house));
        running.remove(0).stop().await.unwrap();
    }
    while ended() < all {
        assert!(running.iter().all(|it| !it.has_ended()), "one has ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for running in running {
        running.stop().await.unwrap();
    }
    group.check(&house);
}

fn in_virtual_time(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn every_event_ends_once_and_keys_keep_their_order(
        plans in plans(),
        batch in 1..20_usize,
        concurrency in 1..6_usize,
        partitions in 1..3_u32,
        restarts in any::<bool>(),
    ) {
        in_virtual_time(alone(plans, batch, concurrency, partitions, restarts));
    }

    #[test]
    fn partitions_change_hands_and_every_event_ends_once_all_the_same(
        plans in plans(),
        batch in 1..20_usize,
        partitions in 1..5_u32,
        stops in prop::collection::vec(0..20_u64, 0..4),
    ) {
        in_virtual_time(handed_over(plans, batch, partitions, stops));
    }
}
