//! Timers against the obvious model: a list of what waits, and what came out of it.

use crate::common::*;
use exactlog_core::batch::Batch;
use exactlog_core::command::*;
use exactlog_core::ids::{Partition, TimerId};
use exactlog_core::reply::{Applied, Cancellation, Refusal, Reply};
use proptest::prelude::*;
use proptest::sample::Index;

/// One step; an index says which of the timers ever set.
#[derive(Clone, Debug)]
enum Step {
    Set {
        delay_ms: i64,
    },
    Commit {
        delays_ms: Vec<i64>,
        cancel: Option<Index>,
    },
    Cancel(Index),
    /// The next one that is due, as a shell does it.
    FireNext,
    /// Any one, whether it is due or not.
    Fire(Index),
    /// The oldest payloads.
    Carry {
        count: usize,
    },
    Pass {
        ms: i64,
    },
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    Waits,
    Cancelled,
    Fired,
}

#[derive(Clone, Debug)]
struct Timer {
    due_ms: i64,
    payload: Batch,
    standing: Standing,
}

struct World {
    log: Log,
    target: Partition,
    producer: (exactlog_core::ids::ProducerId, i16),
    commits: u64,
    /// The one at index n has id n + 1.
    timers: Vec<Timer>,
    /// What must be in the target.
    fired: Vec<usize>,
    /// The hidden partition, as its placements say.
    payloads: Vec<Batch>,
}

impl World {
    fn new() -> World {
        let mut log = Log { time_ms: 1_000, ..Log::default() };
        let target = log.partition("t");
        let producer = log.producer(Some("p"));
        let (timers, fired, payloads) = (Vec::new(), Vec::new(), Vec::new());
        World { log, target, producer, commits: 0, timers, fired, payloads }
    }

    fn new_timer(&self, nth: usize, delay_ms: i64) -> NewTimer {
        let batch = built(1, 1_000_000 + (self.timers.len() + nth) as i64, None);
        NewTimer { target: self.target, due_ms: self.log.time_ms + delay_ms, batch }
    }

    fn enter(&mut self, set: &[NewTimer]) {
        for NewTimer { due_ms, batch, .. } in set {
            let standing = Standing::Waits;
            self.timers.push(Timer { due_ms: *due_ms, payload: batch.clone(), standing });
        }
    }

    /// What a command brought into the hidden partition.
    fn store(&mut self, applied: &Applied, batches: &[Batch]) {
        let placed = applied.placements.iter().filter(|it| it.partition == Partition::TIMERS);
        for (placement, batch) in placed.zip(batches) {
            assert_eq!(placement.base_offset, self.payloads.len() as u64);
            self.payloads.push(batch.clone());
        }
    }

    fn waits(&self, timer: TimerId) -> bool {
        self.timers[timer.0 as usize - 1].standing == Standing::Waits
    }

    fn fire(&mut self, timer: TimerId) {
        let nth = timer.0 as usize - 1;
        let Timer { due_ms, payload, standing } = self.timers[nth].clone();
        let reply = self.log.reply(&TimerCommand::Fire { timer, batch: payload }.into());
        let now_ms = self.log.time_ms;
        let expected = match standing {
            Standing::Waits if due_ms <= now_ms => {
                self.timers[nth].standing = Standing::Fired;
                self.fired.push(nth);
                let base_offset = self.fired.len() as u64 - 1;
                Reply::TimerFired { partition: self.target, base_offset, due_ms }
            }
            Standing::Waits => Reply::Refused(Refusal::TimerNotDue { timer, due_ms, now_ms }),
            Standing::Cancelled => {
                Reply::Refused(Refusal::TimerEnded { timer, was: Cancellation::CancelledBefore })
            }
            Standing::Fired => Reply::Refused(Refusal::TimerEnded { timer, was: Cancellation::Fired }),
        };
        assert_eq!(reply, expected);
    }

    /// A commit that sets timers, and may give one up.
    fn commit(&mut self, delays_ms: &[i64], cancel: Option<TimerId>) {
        let set: Vec<NewTimer> =
            delays_ms.iter().enumerate().map(|(nth, ms)| self.new_timer(nth, *ms)).collect();
        let timers = TimerEffects { set: set.clone(), cancel: cancel.into_iter().collect() };
        let commit = Commit { timers, ..commit_of(token(self.producer, self.commits + 1), &[]) };
        let applied = self.log.apply(&Command::Commit(Box::new(commit)));
        if cancel.is_some_and(|timer| !self.waits(timer)) {
            let refused = matches!(applied.reply, Reply::Refused(Refusal::TimerEnded { .. }));
            return assert!(refused, "{:?}", applied.reply);
        }
        let Reply::Committed(committed) = &applied.reply else { panic!("{:?}", applied.reply) };
        let first = (!set.is_empty()).then(|| TimerId(self.timers.len() as u64 + 1));
        assert_eq!(committed.first_timer, first);
        self.commits += 1;
        let batches: Vec<Batch> = set.iter().map(|timer| timer.batch.clone()).collect();
        self.store(&applied, &batches);
        self.enter(&set);
        if let Some(timer) = cancel {
            self.timers[timer.0 as usize - 1].standing = Standing::Cancelled;
        }
    }

    fn step(&mut self, step: &Step) {
        let any = |index: &Index, timers: &[Timer]| {
            (!timers.is_empty()).then(|| TimerId(index.index(timers.len()) as u64 + 1))
        };
        match step {
            Step::Set { delay_ms } => {
                let timer = self.new_timer(0, *delay_ms);
                let command = TimerCommand::Set { sender: Some(self.producer), timer: timer.clone() };
                let applied = self.log.apply(&command.into());
                assert_eq!(applied.reply, Reply::TimerSet { timer: TimerId(self.timers.len() as u64 + 1) });
                self.store(&applied, std::slice::from_ref(&timer.batch));
                self.enter(&[timer]);
            }
            Step::Commit { delays_ms, cancel } => {
                let cancel = cancel.as_ref().and_then(|index| any(index, &self.timers));
                self.commit(delays_ms, cancel);
            }
            Step::Cancel(index) => {
                let Some(timer) = any(index, &self.timers) else { return };
                let entry = &mut self.timers[timer.0 as usize - 1];
                let expected = match entry.standing {
                    Standing::Waits => Cancellation::Cancelled,
                    Standing::Cancelled => Cancellation::CancelledBefore,
                    Standing::Fired => Cancellation::Fired,
                };
                if entry.standing == Standing::Waits {
                    entry.standing = Standing::Cancelled;
                }
                let reply = self.log.reply(&TimerCommand::Cancel { timer }.into());
                assert_eq!(reply, Reply::TimerCancelled(expected));
            }
            Step::FireNext => {
                let next = self.log.state.timers.waiting().next().map(|(timer, it)| (timer, it.due_ms));
                if let Some((timer, _)) = next.filter(|(_, due_ms)| *due_ms <= self.log.time_ms) {
                    self.fire(timer);
                }
            }
            Step::Fire(index) => {
                if let Some(timer) = any(index, &self.timers) {
                    self.fire(timer);
                }
            }
            Step::Carry { count } => {
                let mut oldest: Vec<(u64, TimerId)> =
                    self.log.state.timers.waiting().map(|(timer, it)| (it.payload_offset, timer)).collect();
                oldest.sort_unstable();
                let payloads: Vec<(TimerId, Batch)> = oldest
                    .iter()
                    .take(*count)
                    .map(|(offset, timer)| (*timer, self.payloads[*offset as usize].clone()))
                    .collect();
                let batches: Vec<Batch> = payloads.iter().map(|(_, batch)| batch.clone()).collect();
                let applied = self.log.apply(&TimerCommand::Carry { payloads }.into());
                assert_eq!(applied.reply, Reply::TimersCarried);
                self.store(&applied, &batches);
            }
            Step::Pass { ms } => self.log.time_ms += ms,
            Step::Restart => self.log.restart(),
        }
    }

    /// What is seen of the state is what the model says.
    fn check(&self) {
        let timers = &self.log.state.timers;
        let waiting = |it: &&(usize, &Timer)| it.1.standing == Standing::Waits;
        let mut expected: Vec<(i64, TimerId)> = self
            .timers
            .iter()
            .enumerate()
            .filter(|it| waiting(&it))
            .map(|(nth, timer)| (timer.due_ms, TimerId(nth as u64 + 1)))
            .collect();
        expected.sort_unstable();
        let found: Vec<(i64, TimerId)> = timers.waiting().map(|(id, timer)| (timer.due_ms, id)).collect();
        assert_eq!(found, expected);
        assert_eq!(timers.next_due_ms(), expected.first().map_or(i64::MAX, |(due_ms, _)| *due_ms));
        assert_eq!(self.log.end(self.target), self.fired.len() as u64);

        // Every payload that is needed is there, under the offset that the state says, and nothing before the oldest.
        let mut oldest = self.payloads.len() as u64;
        let mut live_bytes = 0;
        for (id, timer) in timers.waiting() {
            let payload = &self.timers[id.0 as usize - 1].payload;
            assert_eq!(&self.payloads[timer.payload_offset as usize], payload);
            oldest = oldest.min(timer.payload_offset);
            live_bytes += payload.len_bytes() as u64;
        }
        let bounds = self.log.state.partition(Partition::TIMERS).map_or((0, 0), |it| (it.start, it.end));
        assert_eq!(bounds, (oldest, self.payloads.len() as u64));
        let held_bytes: usize = self.payloads[oldest as usize..].iter().map(Batch::len_bytes).sum();
        assert_eq!((timers.live_bytes(), timers.held_bytes()), (live_bytes, held_bytes as u64));
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let delay = || -50..400i64;
    let step = prop_oneof![
        6 => delay().prop_map(|delay_ms| Step::Set { delay_ms }),
        2 => (proptest::collection::vec(delay(), 0..4), proptest::option::of(any::<Index>()))
            .prop_map(|(delays_ms, cancel)| Step::Commit { delays_ms, cancel }),
        2 => any::<Index>().prop_map(Step::Cancel),
        6 => Just(Step::FireNext),
        2 => any::<Index>().prop_map(Step::Fire),
        1 => (0..4usize).prop_map(|count| Step::Carry { count }),
        4 => (0..200i64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn em_10_timers_do_what_the_model_says_over_restarts(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        // In the end everything that waits fires, in its order, and the hidden partition is empty.
        world.log.time_ms += 10_000;
        for _ in 0..world.timers.len() {
            world.step(&Step::FireNext);
        }
        world.check();
        prop_assert!(world.log.state.timers.is_empty());
        prop_assert!(world.timers.iter().all(|timer| timer.standing != Standing::Waits));
        let mut once = world.fired.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), world.fired.len());
    }
}
