//! One round: the events that end, or are put off, in one commit.
//!
//! Events of one queue (of a key, say) run one behind the other, those of different queues beside each other. What
//! became of each is noted here in the order in which they ended; nothing is written.

use crate::attempt::{self, Handler};
use crate::breaker::{Permit, Went};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::context::Context;
use crate::dedup::{Dedup, Scopes};
use crate::error::Error;
use crate::failure::{Class, Failure};
use crate::ledger::LettersRead;
use crate::outbox::{End, Outbox, Overlay, TableStage};
use crate::owned::{Due, Owned};
use crate::parked::{Queue, Wait, Waiting};
use crate::settings::{Job, Settings};
use crate::trace;
use exactlog::{EventId, Log, Record, Reservation, Reserve, Seen, Table};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::Instrument;

/// An event of a round.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) record: RecordOfRound,
    pub(crate) queue: Queue,
    /// Why it waited, if it did: then it has a row.
    pub(crate) waited: Option<Box<Wait>>,
    /// What it is told apart by, in which scope, if it is.
    pub(crate) id: Option<(usize, EventId)>,
    /// What is wrong with that: it can't be tried.
    unfit: Option<Failure>,
    /// How long its last attempt took.
    pub(crate) took: Duration,
}

/// A record, among those that were read with it: they are given back together.
#[derive(Clone, Debug)]
pub(crate) struct RecordOfRound {
    all: Arc<Vec<Record>>,
    nth: usize,
}

impl RecordOfRound {
    /// All that were read.
    pub(crate) fn all(records: Vec<Record>) -> impl Iterator<Item = RecordOfRound> {
        let (count, all) = (records.len(), Arc::new(records));
        (0..count).map(move |nth| RecordOfRound { all: all.clone(), nth })
    }

    fn alone(record: Record) -> RecordOfRound {
        RecordOfRound { all: Arc::new(vec![record]), nth: 0 }
    }
}

impl Deref for RecordOfRound {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.all[self.nth]
    }
}

/// An event that is to be tried in a round. The record of a row is read when its turn has come: behind one that fails
/// again there may be a thousand.
#[derive(Debug)]
pub(crate) enum Turn {
    Of(Item),
    Row(Due),
}

impl Turn {
    /// Topic, partition and offset.
    pub(crate) fn place(&self) -> (&Arc<str>, u32, u64) {
        match self {
            Turn::Of(item) => item.place(),
            Turn::Row(Due { place, offset, .. }) => (&place.0, place.1, *offset),
        }
    }

    fn queue(&self) -> &Queue {
        match self {
            Turn::Of(item) => &item.queue,
            Turn::Row(due) => &due.queue,
        }
    }
}

impl Item {
    pub(crate) fn new(record: RecordOfRound, queue: Queue, waited: Option<Box<Wait>>, ids: &Ids<'_>) -> Item {
        let (id, unfit) = match ids.of(&record).transpose() {
            Ok(id) => (id, None),
            Err(failure) => (None, Some(failure)),
        };
        Item { record, queue, waited, id, unfit, took: Duration::ZERO }
    }

    pub(crate) fn place(&self) -> (&Arc<str>, u32, u64) {
        (&self.record.topic, self.record.partition, self.record.offset)
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.waited.as_ref().map_or(0, |wait| wait.attempts)
    }
}

/// By what events are told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids<'r> {
    log: &'r Log,
    dedup: Option<&'r Dedup>,
    /// Among what the ids of a topic's events are unique.
    scopes: &'r Scopes,
}

impl<'r> Ids<'r> {
    pub(crate) fn new(log: &'r Log, settings: &'r Settings, scopes: &'r Scopes) -> Ids<'r> {
        Ids { log, dedup: settings.dedup.as_ref(), scopes }
    }

    /// Scope and id of an event, if it has one.
    fn of(&self, record: &Record) -> Option<Result<(usize, EventId), Failure>> {
        let id = self.dedup?.id(record)?;
        let scope = self.scopes.of(&record.topic)?;
        let short = self.log.short_id(id).map(|id| (scope, id));
        Some(short.map_err(|error| Failure::poison("EventId", error)))
    }
}

/// What becomes of an event with the round's commit.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It was processed.
    Done { outcome: &'static str, outbox: Outbox, reservation: Option<Box<Reservation>> },
    /// A copy of it was.
    Duplicate,
    /// It waits. Its outbox is empty, unless its handler asked to be called again.
    Wait { wait: Wait, failure: Option<Failure>, outbox: Outbox },
    /// It is given up. Its outbox is empty, unless its handler has given it up.
    Dead { failure: Failure, attempts: u32, first_failed_ms: i64, outbox: Outbox },
}

impl Verdict {
    /// It waits, and nothing comes of it.
    fn wait(wait: Wait, failure: Option<Failure>) -> Verdict {
        Verdict::Wait { wait, failure, outbox: Outbox::default() }
    }
}

/// What a round has come to.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) settled: Vec<(Item, Verdict)>,
    pub(crate) tables: TableStage,
    pub(crate) overlay: Arc<Overlay>,
    /// Ids of events that are done in it.
    pub(crate) done: DoneIds,
}

/// Scopes and ids of events.
pub(crate) type DoneIds = FxHashSet<(usize, EventId)>;

impl Round {
    /// How many were taken up: others went behind one that waits, and weren't.
    pub(crate) fn started(&self) -> usize {
        let is_blocked = |verdict: &Verdict| match verdict {
            Verdict::Wait { wait, .. } => wait.waiting == Waiting::Blocked,
            _ => false,
        };
        self.settled.iter().filter(|(_, verdict)| !is_blocked(verdict)).count()
    }

    /// Whether it reads and writes no table, and nothing was reserved for its events.
    pub(crate) fn is_plain(&self) -> bool {
        let is_reserved = |verdict: &Verdict| matches!(verdict, Verdict::Done { reservation: Some(_), .. });
        self.tables.is_empty() && !self.settled.iter().any(|(_, verdict)| is_reserved(verdict))
    }
}

/// An event that is known to fail, since its commit was refused.
#[derive(Debug)]
pub(crate) struct Doomed {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) failure: Failure,
}

impl Doomed {
    pub(crate) fn is(&self, place: (&Arc<str>, u32, u64)) -> bool {
        (&self.topic, self.partition, self.offset) == place
    }
}

/// How an attempt ended.
enum Ended {
    Handled {
        context: Context,
        result: Result<(), Failure>,
        reservation: Option<Box<Reservation>>,
        took: Duration,
    },
    /// A copy was processed before, or it is a dead letter that something became of.
    Seen,
    /// It can't be tried now: a copy is being processed, or the circuit breaker is open.
    Later { until_ms: i64 },
    /// The log can't say.
    Log(exactlog::Error),
}

type Attempt = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// What a round goes by.
pub(crate) struct Runner<'r> {
    pub(crate) log: &'r Log,
    pub(crate) job: &'r Job,
    pub(crate) clock: Clock,
    pub(crate) chance: &'r mut Chance,
    pub(crate) doomed: Option<&'r Doomed>,
    pub(crate) owned: &'r Owned,
    pub(crate) table: &'r Table,
    pub(crate) letters: &'r LettersRead,
    pub(crate) ids: Ids<'r>,
    /// Ids of events that are done if the commit in front of it is.
    pub(crate) before: Option<Arc<DoneIds>>,
}

impl Runner<'_> {
    /// Runs all of them.
    pub(crate) async fn run(mut self, turns: Vec<Turn>, blocked: Vec<Item>) -> Result<Round, Error> {
        let done = DoneIds::with_capacity_and_hasher(turns.len(), Default::default());
        let settled = Vec::with_capacity(turns.len() + blocked.len());
        let mut round = Round { done, settled, ..Round::default() };
        for item in blocked {
            round.settled.push((item, Verdict::wait(Wait::blocked(), None)));
        }
        let mut asked = self.ask(&turns)?;
        let mut chains = Chains::new(turns);
        let mut running: JoinSet<(usize, Item, Ended)> = JoinSet::new();
        loop {
            while running.len() < self.job.settings.concurrency {
                let Some(nth) = chains.ready.pop_front() else { break };
                let Some(turn) = chains.turns[nth].take() else { continue };
                let Some(item) = self.item(turn)? else { continue };
                let seen = asked.get(nth).copied().flatten();
                if let Some((item, ended)) = self.start(nth, item, seen, &round, &mut running) {
                    self.settle(nth, item, ended, &mut chains, &mut round)?;
                }
            }
            let Some(joined) = running.join_next().await else { return Ok(round) };
            // Others may have marked some of them meanwhile.
            asked.clear();
            let (nth, item, ended) = joined.map_err(|_| Error::Aborted)?;
            self.settle(nth, item, ended, &mut chains, &mut round)?;
        }
    }

    /// What is known of the ids of new events, all asked for at once.
    fn ask(&self, turns: &[Turn]) -> Result<Vec<Option<Seen>>, Error> {
        let mut of_scopes: BTreeMap<usize, (Vec<usize>, Vec<&EventId>)> = BTreeMap::new();
        for (nth, turn) in turns.iter().enumerate() {
            if let Turn::Of(Item { id: Some((scope, id)), .. }) = turn {
                let (places, ids) = of_scopes.entry(*scope).or_default();
                places.push(nth);
                ids.push(id);
            }
        }
        let mut asked = vec![None; turns.len()];
        for (scope, (places, ids)) in of_scopes {
            for (nth, seen) in places.into_iter().zip(self.log.seen_all(self.ids.scopes.name(scope), ids)?) {
                asked[nth] = Some(seen);
            }
        }
        Ok(asked)
    }

    fn item(&self, turn: Turn) -> Result<Option<Item>, Error> {
        let Due { place, offset, queue, wait } = match turn {
            Turn::Of(item) => return Ok(Some(item)),
            Turn::Row(due) => due,
        };
        let Some(partition) = self.owned.partitions.get(&place) else { return Ok(None) };
        let Some(record) = partition.waiting(self.table, offset, self.clock.now_ms())? else {
            return Ok(None);
        };
        let record = RecordOfRound::alone(record);
        Ok(Some(Item::new(record, queue, Some(Box::new(wait)), &self.ids)))
    }

    /// Begins an attempt. If that ends without waiting for anything, it is how it ended; otherwise it goes on beside
    /// the others.
    fn start(
        &self,
        nth: usize,
        item: Item,
        seen: Option<Seen>,
        round: &Round,
        running: &mut JoinSet<(usize, Item, Ended)>,
    ) -> Option<(Item, Ended)> {
        if let Some(ended) = self.known(&item, seen, round) {
            return Some((item, ended));
        }
        let breaker = self.job.settings.breaker.as_ref();
        let permit = match breaker.map(|breaker| breaker.permit(self.clock.now_ms())).transpose() {
            Ok(permit) => permit,
            Err(until_ms) => return Some((item, Ended::Later { until_ms })),
        };
        let mut attempt = self.attempt(&item, round, permit);
        let mut task = std::task::Context::from_waker(Waker::noop());
        match attempt.as_mut().poll(&mut task) {
            Poll::Ready(ended) => Some((item, ended)),
            Poll::Pending => {
                // Polled again there at once, so that whatever it waits for knows whom to wake.
                running.spawn(async move {
                    let ended = attempt.await;
                    (nth, item, ended)
                });
                None
            }
        }
    }

    /// What is known of an event without trying it.
    fn known(&self, item: &Item, seen: Option<Seen>, round: &Round) -> Option<Ended> {
        if self.letters.has_ended(&item.record) {
            return Some(Ended::Seen);
        }
        let id @ (scope, short) = item.id.as_ref()?;
        if round.done.contains(id) || self.before.as_ref().is_some_and(|before| before.contains(id)) {
            return Some(Ended::Seen);
        }
        match seen.map_or_else(|| self.log.seen(self.ids.scopes.name(*scope), short.clone()), Ok) {
            Ok(Seen::Absent | Seen::Reserved { .. }) => None,
            Ok(Seen::Done(_)) => Some(Ended::Seen),
            Err(error) => Some(Ended::Log(error)),
        }
    }

    fn attempt(&self, item: &Item, round: &Round, permit: Option<Permit>) -> Attempt {
        let (settings, clock, number) = (&self.job.settings, self.clock, item.attempts() + 1);
        let overlay = round.overlay.clone();
        let context = Context::new(item.record.clone(), settings.clone(), number, clock, overlay);
        let (handler, settings) = (self.job.handler.clone(), settings.clone());
        let doomed = self.doomed.filter(|doomed| doomed.is(item.place())).map(|doomed| &doomed.failure);
        if let Some(failure) = item.unfit.as_ref().or(doomed) {
            let result = Err(failure.clone());
            return Box::pin(async move {
                let (context, result) = recovered(&*handler, &settings, number, context, result).await;
                Ended::Handled { context, result, reservation: None, took: Duration::ZERO }
            });
        }
        let lease = settings.dedup.as_ref().and_then(|dedup| dedup.lease);
        let reserve = lease.zip(item.id.as_ref());
        let reserve = reserve.map(|(lease, (scope, id))| {
            (self.log.clone(), self.ids.scopes.name(*scope).to_string(), id.clone(), lease)
        });
        Box::pin(async move {
            let reservation = match reserve {
                None => None,
                Some((log, scope, id, lease)) => match Box::pin(log.reserve(&scope, id, lease)).await {
                    Ok(Reserve::Reserved(reservation)) => Some(Box::new(reservation)),
                    Ok(Reserve::InProgress { until_ms }) => return Ended::Later { until_ms },
                    Ok(Reserve::Done(_)) => return Ended::Seen,
                    Err(error) => return Ended::Log(error),
                },
            };
            if let Some(plan) = &settings.replay {
                Box::pin(plan.wait(context.record().timestamp_ms)).await;
            }
            let begin = tokio::time::Instant::now();
            let (span, exported) = trace::span(&settings, context.record(), context.trace(), number);
            let context = context.in_trace(exported);
            let attempt = attempt::run(&*handler, context.clone(), begin, settings.timeout);
            let result = attempt.instrument(span.clone()).await;
            trace::end(&span, &result);
            drop(span);
            let took = begin.elapsed();
            if let Some(permit) = permit {
                permit.end(went(&result), took, clock.now_ms());
            }
            let (context, result) = match result {
                Ok(()) => (context, result),
                // What is rare is apart: the attempt itself is made for each event, and so it is small.
                Err(_) => Box::pin(recovered(&*handler, &settings, number, context, result)).await,
            };
            Ended::Handled { context, result, reservation, took }
        })
    }

    fn settle(
        &mut self,
        nth: usize,
        mut item: Item,
        ended: Ended,
        chains: &mut Chains,
        round: &mut Round,
    ) -> Result<(), Error> {
        let verdict = match ended {
            Ended::Log(error) => return Err(error.into()),
            Ended::Seen => Verdict::Duplicate,
            Ended::Later { until_ms } => {
                let (waiting, attempts) = (Waiting::Held, item.attempts());
                let first_failed_ms = item.waited.as_ref().and_then(|wait| wait.first_failed_ms);
                let wait = Wait { waiting, attempts, due_ms: until_ms, first_failed_ms };
                Verdict::wait(wait, None)
            }
            Ended::Handled { context, result: Ok(()), reservation, took } => {
                item.took = took;
                let mut outbox = context.finish();
                let is_copy = matches!(outbox.end(), End::Duplicate);
                if is_copy || item.id.as_ref().is_some_and(|id| round.done.contains(id)) {
                    Verdict::Duplicate
                } else if !round.tables.take(&mut outbox, &round.overlay) {
                    // It was computed from what isn't so any more.
                    chains.again(nth, item);
                    return Ok(());
                } else {
                    let verdict = self.handed_in(&item, outbox, reservation);
                    if matches!(verdict, Verdict::Done { .. }) {
                        round.done.extend(item.id.clone());
                    }
                    verdict
                }
            }
            Ended::Handled { context, result: Err(failure), took, .. } => {
                item.took = took;
                context.finish();
                self.failed(&item, failure)?
            }
        };
        let waits = matches!(verdict, Verdict::Wait { .. });
        let others_wait = waits && !matches!(item.queue, Queue::Alone(_));
        round.settled.push((item, verdict));
        match others_wait {
            false => chains.go_on(nth),
            // Those that have rows stay behind it as they are.
            true => {
                let blocked = |turn| match turn {
                    Turn::Of(item) if item.waited.is_none() => {
                        Some((item, Verdict::wait(Wait::blocked(), None)))
                    }
                    _ => None,
                };
                round.settled.extend(chains.behind(nth).filter_map(blocked));
            }
        }
        Ok(())
    }

    /// What becomes of an event whose handler has succeeded: what that has said.
    fn handed_in(&self, item: &Item, outbox: Outbox, reservation: Option<Box<Reservation>>) -> Verdict {
        match outbox.end().clone() {
            End::Done(outcome) => Verdict::Done { outcome, outbox, reservation },
            End::Duplicate => Verdict::Duplicate,
            End::Again { after, failure } => {
                let due_ms = self.clock.now_ms().saturating_add(up_to_ms(after));
                let wait = Wait { waiting: Waiting::Held, attempts: 0, due_ms, first_failed_ms: None };
                Verdict::Wait { wait, failure, outbox }
            }
            End::Dead(failure) => {
                let (attempts, first_failed_ms) = (item.attempts() + 1, self.first_failed_ms(item));
                Verdict::Dead { failure, attempts, first_failed_ms, outbox }
            }
        }
    }

    fn failed(&mut self, item: &Item, failure: Failure) -> Result<Verdict, Error> {
        if failure.class() == Class::Fatal {
            let Record { topic, partition, offset, .. } = &*item.record;
            let (topic, partition, offset) = (topic.clone(), *partition, *offset);
            return Err(Error::Fatal { topic, partition, offset, failure });
        }
        let (made, now_ms) = (item.attempts() + 1, self.clock.now_ms());
        let first_failed_ms = self.first_failed_ms(item);
        let retry = &self.job.settings.retry;
        Ok(match retry.next(made, &failure, self.chance.next()) {
            Some(pause) => {
                let due_ms = now_ms.saturating_add(up_to_ms(pause));
                let (waiting, first_failed_ms) = (Waiting::Parked, Some(first_failed_ms));
                let wait = Wait { waiting, attempts: made, due_ms, first_failed_ms };
                Verdict::wait(wait, Some(failure))
            }
            None => Verdict::Dead { failure, attempts: made, first_failed_ms, outbox: Outbox::default() },
        })
    }

    fn first_failed_ms(&self, item: &Item) -> i64 {
        let before = item.waited.as_ref().and_then(|wait| wait.first_failed_ms);
        before.unwrap_or_else(|| self.clock.now_ms())
    }
}

/// What the handler makes of an event whose last attempt has failed, instead of its being dead-lettered.
async fn recovered(
    handler: &dyn Handler,
    settings: &Settings,
    made: u32,
    context: Context,
    result: Result<(), Failure>,
) -> (Context, Result<(), Failure>) {
    let Err(failure) = &result else { return (context, result) };
    if failure.class() == Class::Fatal || settings.retry.next(made, failure, 0.0).is_some() {
        return (context, result);
    }
    match attempt::recover(handler, &context, failure, settings.timeout).await {
        None => (context, result),
        Some((recovered, Ok(()))) => {
            context.finish();
            (recovered, Ok(()))
        }
        Some((_, Err(worse))) if worse.class() == Class::Fatal => (context, Err(worse)),
        Some((_, Err(error))) => {
            let event = context.event_id();
            tracing::error!(event = "recover.failed", id = event, %error, "it is dead-lettered for what it failed of");
            (context, result)
        }
    }
}

/// What an attempt says of whatever the handler calls.
fn went(result: &Result<(), Failure>) -> Went {
    match result {
        Ok(()) => Went::Well,
        Err(failure) if failure.class() == Class::Transient => Went::Badly,
        Err(_) => Went::Ignored,
    }
}

fn up_to_ms(pause: Duration) -> i64 {
    i64::try_from(pause.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// The events of a round, and what runs one behind the other of them.
struct Chains {
    turns: Vec<Option<Turn>>,
    /// The next one of the same queue.
    next: Vec<Option<usize>>,
    /// Those whose turn it is.
    ready: VecDeque<usize>,
}

impl Chains {
    fn new(turns: Vec<Turn>) -> Chains {
        let (mut next, mut ready) = (vec![None; turns.len()], VecDeque::with_capacity(turns.len()));
        let mut last: FxHashMap<(&str, u32, &Queue), usize> = FxHashMap::default();
        last.reserve(turns.len());
        for (nth, turn) in turns.iter().enumerate() {
            let (topic, partition, _) = turn.place();
            let before = match turn.queue() {
                Queue::Alone(_) => None,
                queue => last.insert((topic, partition, queue), nth),
            };
            match before {
                Some(before) => next[before] = Some(nth),
                None => ready.push_back(nth),
            }
        }
        Chains { turns: turns.into_iter().map(Some).collect(), next, ready }
    }

    /// The one behind this one has its turn, before any other.
    fn go_on(&mut self, nth: usize) {
        if let Some(next) = self.next[nth] {
            self.ready.push_front(next);
        }
    }

    /// This one has its turn again.
    fn again(&mut self, nth: usize, item: Item) {
        self.turns[nth] = Some(Turn::Of(item));
        self.ready.push_front(nth);
    }

    /// Takes out all that are behind this one.
    fn behind(&mut self, nth: usize) -> impl Iterator<Item = Turn> + '_ {
        let mut at = self.next[nth];
        std::iter::from_fn(move || {
            let nth = at?;
            at = self.next[nth];
            self.turns[nth].take()
        })
    }
}
