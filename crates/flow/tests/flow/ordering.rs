//! The order of each key, whatever fails: against the obvious model.

use crate::common::{House, ended, until};
use exactlog::Event;
use exactlog_flow::{Class, Context, Failure, Processor, Retry};
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

async fn check(plans: Vec<Plan>, batch: usize, concurrency: usize, partitions: u32, restarts: bool) {
    let mut house = House::new(partitions);
    let events = plans.iter().enumerate().map(|(n, plan)| Event::new(vec![plan.key], n.to_string()));
    house.send(events);
    let plans = Arc::new(plans);
    let ended_in: Arc<Mutex<Vec<usize>>> = Arc::default();
    let expected_done = plans.iter().filter(|plan| !is_dead(plan)).count();
    let mut left = plans.len() as u64;
    let start = |house: &House| {
        let (done, plans, ended_in) = (house.topic("done"), plans.clone(), ended_in.clone());
        let processor = Processor::new(&house.log, "billing").topic(&house.orders);
        processor.batch(batch).concurrency(concurrency).retry(Retry::default()).start(
            move |event: Context| {
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
            },
        )
    };
    if restarts {
        let running = start(&house).unwrap();
        until(&running, |metrics| metrics.counts.read > 0).await;
        running.stop().await.unwrap();
        let group = exactlog_flow::inspect(&house.log, "billing").unwrap();
        left -= group.counts.ended();
        house = house.reopen();
    }
    let running = start(&house).unwrap();
    ended(&running, left).await;
    running.stop().await.unwrap();

    let group = exactlog_flow::inspect(&house.log, "billing").unwrap();
    assert_eq!(group.counts.read, plans.len() as u64);
    assert_eq!((group.counts.done_total(), group.waiting.len()), (expected_done as u64, 0));
    let done: Vec<usize> = house.values("done").iter().map(|value| value.parse().unwrap()).collect();
    let dead: Vec<usize> = house.values("dlq.orders").iter().map(|value| value.parse().unwrap()).collect();
    for (name, found, is_dead_one) in [("done", &done, false), ("dead", &dead, true)] {
        let mut sorted = found.clone();
        sorted.sort_unstable();
        let expected: Vec<usize> =
            (0..plans.len()).filter(|nth| is_dead(&plans[*nth]) == is_dead_one).collect();
        assert_eq!(sorted, expected, "{name}");
    }
    // What a key's events did, and its dead letters, are in the order in which they were sent.
    let mut last: BTreeMap<(bool, u8), usize> = BTreeMap::new();
    for (is_dead_one, nth) in done.iter().map(|nth| (false, *nth)).chain(dead.iter().map(|nth| (true, *nth)))
    {
        let before = last.insert((is_dead_one, plans[nth].key), nth);
        assert!(before.is_none_or(|before| before < nth), "{nth} behind {before:?}");
    }
    // And so they ended: none overtook an earlier one of its key.
    let mut last: BTreeMap<u8, usize> = BTreeMap::new();
    for nth in &*ended_in.lock() {
        let before = last.insert(plans[*nth].key, *nth);
        assert!(before.is_none_or(|before| before < *nth), "{nth} ended behind {before:?}");
    }
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(plans, batch, concurrency, partitions, restarts));
    }
}
