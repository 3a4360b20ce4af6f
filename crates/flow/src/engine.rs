//! The loop of a processor: take what is due and what is new, run it, commit it, and wait.
//!
//! ```text
//!   follow the assignment -> rows that are due, new records -> round -> commit -> ..
//!                                                               ^          |
//!              refused: less is taken, and what others have changed is loaded <--/
//! ```
//!
//! While a commit is written, the next round runs already, if nothing but ids and rows of the one before can matter to
//! it: it counts those as done, and goes behind these. It is committed when the one before has been, and given up if
//! that is refused; then what waits is loaded again.
//!
//! Invariants
//!   * between two commits nothing is kept but what can be made again from the log
//!   * a round is committed behind all that came before it, or not at all

use crate::chance::Chance;
use crate::clock::Clock;
use crate::commit::{Attempted, Committer, Submitted};
use crate::dedup::Scopes;
use crate::error::Error;
use crate::failure::Failure;
use crate::ledger::{Ledger, LettersRead};
use crate::meters::Meters;
use crate::owned::{Due, Owned, Partition, Place};
use crate::parked::{Queue, Waiting};
use crate::retry::RetryMode;
use crate::round::{Doomed, Ids, Item, RecordOfRound, Runner, Turn};
use crate::running::{Order, Shared};
use crate::settings::Job;
use crate::throttle::Tap;
use exactlog::{
    Batch, CommitReceipt, Consumer, KeyRange, Log, Producer, Record, Refusal, Start, Table, Topic,
    UnreadableBatch,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a processor that has nothing to do looks whether it was given other partitions.
const LOOK: Duration = Duration::from_millis(500);
/// How often a commit of one event may be refused before that counts as its failure.
const REFUSED_MAX: u32 = 10;
/// First and longest pause while the disk is full.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long rounds may run beside the commit of the one before, until all is settled once: only then are partitions
/// given up, and is seen what others have changed.
const BESIDE: Duration = Duration::from_millis(100);

/// A processor at work.
pub(crate) struct Engine {
    core: Core,
    consumer: Consumer,
    producer: Producer,
    orders: watch::Receiver<Order>,
    on_its_way: Option<OnItsWay>,
}

/// A round whose commit was handed in.
struct OnItsWay {
    submitted: Submitted,
    first: (Arc<str>, u32, u64),
    is_alone: bool,
    handled_us: u64,
    /// What has become of it: the csn of its commit.
    outcome: Option<Result<u64, exactlog::Error>>,
}

/// What doesn't belong to the consumer, whose batches borrow it.
struct Core {
    log: Log,
    job: Job,
    table: Table,
    topics: BTreeMap<Arc<str>, Topic>,
    dead_letters: BTreeMap<Arc<str>, Topic>,
    /// What became of those dead letters that are read.
    ledgers: BTreeMap<Arc<str>, (Topic, Ledger)>,
    scopes: Scopes,
    start: Start,
    owned: Owned,
    /// Partitions that aren't read at the moment, since too much of them waits.
    paused: BTreeSet<Place>,
    clock: Clock,
    /// What may be taken up, if there is a limit.
    tap: Option<Tap>,
    chance: Chance,
    shared: Arc<Shared>,
    meters: Arc<Meters>,
    /// Batches that can't be taken apart: dead letters of the commit that goes over them.
    unreadable: Vec<UnreadableBatch>,
    /// Most events of a round: fewer after one was refused, to find the one that it was refused for.
    limit: usize,
    refused: u32,
    doomed: Option<Doomed>,
    pause: Duration,
    /// Until then a round may run beside a commit.
    beside_until: Instant,
}

/// What is handed to a new engine.
pub(crate) struct Parts {
    pub(crate) log: Log,
    pub(crate) job: Job,
    pub(crate) table: Table,
    pub(crate) topics: Vec<Topic>,
    pub(crate) dead_letters: BTreeMap<Arc<str>, Topic>,
    pub(crate) ledgers: BTreeMap<Arc<str>, (Topic, Ledger)>,
    pub(crate) start: Start,
    pub(crate) producer: Producer,
    pub(crate) shared: Arc<Shared>,
}

impl Engine {
    pub(crate) fn new(parts: Parts, orders: watch::Receiver<Order>) -> Result<Engine, Error> {
        let Parts { log, job, table, topics, dead_letters, ledgers, start, producer, shared } = parts;
        let name = |topic: &Topic| -> Arc<str> { topic.name().into() };
        let scope = |topic: &Topic| job.settings.scope(topic.name()).map(|it| (name(topic), it));
        let meters = Arc::new(Meters::new(&log, &job, dead_letters.values().cloned().collect(), &shared));
        log.add_metrics(&meters);
        let core = Core {
            scopes: Scopes::new(topics.iter().filter_map(scope)),
            topics: topics.iter().map(|topic| (name(topic), topic.clone())).collect(),
            limit: job.settings.batch_max,
            tap: job.settings.throttle.map(|throttle| Tap::new(throttle, Instant::now())),
            log,
            job,
            table,
            dead_letters,
            ledgers,
            start,
            owned: Owned::default(),
            paused: BTreeSet::new(),
            unreadable: Vec::new(),
            clock: Clock::start(),
            chance: Chance::default(),
            shared,
            meters,
            refused: 0,
            doomed: None,
            pause: PAUSE,
            beside_until: Instant::now(),
        };
        let consumer = core.subscribe()?;
        Ok(Engine { core, consumer, producer, orders, on_its_way: None })
    }

    /// Works until it is told to stop, or the log is closed.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        loop {
            let order = *self.orders.borrow_and_update();
            let worked = match order {
                Order::Stop => self.settle().await.map(|_| false),
                order => self.round(order).await,
            };
            let error = match worked {
                Ok(true) => continue,
                Ok(false) => return Ok(()),
                Err(error) => error,
            };
            // What was handed in before has an outcome of its own.
            let earlier = self.settle().await.err();
            for error in earlier.into_iter().chain([error]) {
                match error {
                    Error::Log(exactlog::Error::Closed) => return Ok(()),
                    Error::Log(error) => self.recover(error).await?,
                    error => return Err(error),
                }
            }
        }
    }

    /// Waits for what becomes of the commit that is on its way. False: it was refused.
    async fn settle(&mut self) -> Result<bool, Error> {
        self.core.settle(&mut self.producer, &mut self.on_its_way).await
    }

    /// Waits for something to do, and does it. False: a replay has come to its end.
    async fn round(&mut self, order: Order) -> Result<bool, Error> {
        if order == Order::Run
            && let Some(room) = self.core.room_beside(self.on_its_way.as_ref())
        {
            return self.round_beside(room).await.map(|()| true);
        }
        self.settle().await?;
        let Engine { core, consumer, producer, orders, on_its_way } = self;
        core.beside_until = Instant::now() + BESIDE;
        core.follow(consumer)?;
        if core.has_replayed()? {
            return Ok(false);
        }
        let (room, opens) = core.room();
        let reads = order == Order::Run && room > 0;
        let due = if reads { core.due(room) } else { Vec::new() };
        let look = Instant::now() + LOOK;
        let next_due = match reads {
            true => core.owned.next_due_ms().map(|due_ms| core.clock.instant(due_ms)),
            false => opens,
        };
        consumer.set_max_poll_records(room.saturating_sub(due.len()).max(1));
        let since = Instant::now();
        let batch = match (due.is_empty(), due.len() >= room) {
            (false, true) => None,
            (false, false) => consumer.try_next()?,
            (true, _) => tokio::select! {
                biased;
                _ = orders.changed() => return Ok(true),
                batch = consumer.next(), if reads => match batch? {
                    Some(batch) => Some(batch),
                    None => return Err(exactlog::Error::Closed.into()),
                },
                () = tokio::time::sleep_until(next_due.map_or(look, |due| due.min(look))) => {
                    core.has_waited(since);
                    return Ok(true);
                }
            },
        };
        core.has_waited(since);
        core.work(producer, on_its_way, due, batch).await.map(|()| true)
    }

    /// Runs what is there while the commit of the round before is written, or waits for that.
    async fn round_beside(&mut self, room: usize) -> Result<(), Error> {
        let Engine { core, consumer, producer, on_its_way, .. } = self;
        if on_its_way.as_ref().is_some_and(|it| it.submitted.changes.moves_rows()) {
            core.hold_back(consumer)?;
        }
        consumer.set_max_poll_records(room);
        match consumer.try_next()? {
            None => core.settle(producer, on_its_way).await.map(|_| ()),
            batch => core.work(producer, on_its_way, Vec::new(), batch).await,
        }
    }

    /// What can be gone on after.
    async fn recover(&mut self, error: exactlog::Error) -> Result<(), Error> {
        use exactlog::Error as Log;
        match error {
            Log::ConsumerFenced { .. } => {
                tracing::warn!(event = "consumer.fenced", group = %self.core.job.settings.group, "joining anew");
                self.consumer = self.core.subscribe()?;
                self.core.paused.clear();
                self.core.shared.update(|metrics| metrics.fenced += 1);
            }
            Log::RecordsLost { topic, partition, from, to } => {
                // What was trimmed before it was read is gone: it is said, and reading goes on.
                tracing::error!(event = "group.lost_records", %topic, partition, from, to, "trimmed unread");
                self.core.shared.update(|metrics| metrics.lost += to - from);
            }
            Log::UnreadableBatch(batch) => self.core.unreadable(*batch),
            error if error.is_retriable() || is_about_room(&error) => {
                let pause = self.core.pause;
                tracing::warn!(event = "processor.waits", %error, ?pause, "the log takes nothing at the moment");
                self.core.pause = (2 * pause).min(PAUSE_MAX);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = self.orders.changed() => {}
                }
            }
            error => return Err(error.into()),
        }
        Ok(())
    }
}

impl Core {
    fn subscribe(&self) -> Result<Consumer, Error> {
        let builder = self.log.consumer(&self.job.settings.group).start(self.start);
        let interval = self.job.settings.max_poll_interval;
        let builder = builder.max_poll_records(self.limit).max_poll_interval(interval);
        let mut consumer = builder.subscribe(self.topics.values())?;
        if let Some(plan) = &self.job.settings.replay {
            for (topic, partition, end) in plan.ends(&self.topics) {
                consumer.set_end(topic, partition, Some(end))?;
            }
        }
        Ok(consumer)
    }

    /// Whether a replay has come to its end: all of it is consumed, and nothing waits, whoever has it.
    fn has_replayed(&self) -> Result<bool, Error> {
        let Some(plan) = &self.job.settings.replay else { return Ok(false) };
        if plan.is_live || self.owned.len() > 0 {
            return Ok(false);
        }
        let group = &*self.job.settings.group;
        let is_done = |(topic, partition, end): (&Topic, u32, u64)| {
            self.log.committed(group, topic, partition).unwrap_or(0) >= end
        };
        if !plan.ends(&self.topics).all(is_done) {
            return Ok(false);
        }
        let mut waiting = self.table.scan(KeyRange::prefix("wait/"));
        Ok(waiting.next().transpose()?.is_none())
    }

    /// Loads what the group keeps about partitions that this processor was given, and forgets others.
    fn follow(&mut self, consumer: &mut Consumer) -> Result<(), Error> {
        let positions = consumer.positions()?;
        let is_owned: BTreeSet<Place> =
            positions.into_iter().map(|(topic, index, _)| (topic, index)).collect();
        self.owned.partitions.retain(|place, _| is_owned.contains(place));
        // A redrive, or a processor that had the partition before, may have changed what waits.
        let table = &self.table;
        let mut changed = Vec::new();
        for (place, partition) in &self.owned.partitions {
            if table.version(&partition.counts_key)? != partition.version {
                changed.push(place.clone());
            }
        }
        for place in changed {
            self.owned.partitions.remove(&place);
        }
        self.paused.retain(|place| is_owned.contains(place));
        for place in is_owned {
            self.load(place)?;
        }
        self.hold_back(consumer)?;
        let (parked, blocked) = (self.owned.count(Waiting::Parked), self.owned.count(Waiting::Blocked));
        let (held, oldest_ms) = (self.owned.count(Waiting::Held), self.owned.oldest_ms());
        let now_ms = self.clock.now_ms();
        self.shared.update(|metrics| {
            (metrics.parked, metrics.blocked, metrics.held) = (parked, blocked, held);
            metrics.oldest_waiting_ms =
                oldest_ms.map_or(0, |since| u64::try_from(now_ms - since).unwrap_or(0));
        });
        Ok(())
    }

    fn load(&mut self, place: Place) -> Result<(), Error> {
        let Some(topic) = self.topics.get(&place.0) else { return Ok(()) };
        if !self.owned.partitions.contains_key(&place) {
            let (mode, now_ms) = (self.job.settings.retry.mode, self.clock.now_ms());
            let partition = Partition::load(&self.log, &self.table, topic, place.1, mode, now_ms)?;
            self.owned.partitions.insert(place, partition);
        }
        Ok(())
    }

    /// Stops reading partitions of which too much waits, and goes on with those of which less does.
    fn hold_back(&mut self, consumer: &mut Consumer) -> Result<(), Error> {
        let retry = &self.job.settings.retry;
        let all_full = self.owned.len() >= retry.parked_max;
        for (place, partition) in &self.owned.partitions {
            let lane = &partition.lane;
            let is_blocking = retry.mode == RetryMode::Blocking && lane.len() > 0;
            let is_full =
                is_blocking || lane.longest() >= retry.parked_max_per_key || (all_full && lane.len() > 0);
            let held = if is_full {
                self.paused.insert(place.clone());
                consumer.pause(&partition.topic, partition.index)
            } else if self.paused.remove(place) {
                consumer.resume(&partition.topic, partition.index)
            } else {
                Ok(())
            };
            match held {
                // It was given up meanwhile, and is forgotten when that is seen.
                Ok(()) | Err(exactlog::Error::NotAssigned { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn due(&self, most: usize) -> Vec<Due> {
        self.owned.due(self.clock.now_ms(), most)
    }

    /// How many events a round may have, and if none, when to ask again.
    fn room(&mut self) -> (usize, Option<Instant>) {
        let (mut room, mut opens) = (self.limit, None);
        if let Some(breaker) = &self.job.settings.breaker {
            let (calls, opens_ms) = breaker.room(self.clock.now_ms());
            room = room.min(calls.unwrap_or(room));
            opens = opens_ms.map(|at_ms| self.clock.instant(at_ms));
        }
        if let Some(tap) = &mut self.tap {
            let (events, flows) = tap.room(Instant::now());
            room = room.min(events);
            opens = opens.max(flows);
        }
        (room, opens)
    }

    /// There was nothing to do since then.
    fn has_waited(&mut self, since: Instant) {
        if let Some(tap) = &mut self.tap {
            tap.idle(since, Instant::now());
        }
    }

    /// How many events may run beside the commit that is on its way; nothing if it is waited for first.
    fn room_beside(&mut self, on_its_way: Option<&OnItsWay>) -> Option<usize> {
        let sent = on_its_way.filter(|it| it.submitted.is_plain)?;
        let is_usual = self.doomed.is_none() && !matches!(sent.outcome, Some(Err(_)));
        let (room, _) = self.room();
        let is_due = self.owned.next_due_ms().is_some_and(|due_ms| due_ms <= self.clock.now_ms());
        (is_usual && room > 0 && Instant::now() < self.beside_until && !is_due).then_some(room)
    }

    /// Runs what is due and what is new, and hands its commit in when the one before is settled.
    async fn work(
        &mut self,
        producer: &mut Producer,
        on_its_way: &mut Option<OnItsWay>,
        due: Vec<Due>,
        mut batch: Option<Batch<'_>>,
    ) -> Result<(), Error> {
        let letters = self.letters(&due, batch.as_ref())?;
        let read: BTreeSet<Place> = match &batch {
            Some(batch) if !self.unreadable.is_empty() => batch.records().iter().map(place_of).collect(),
            _ => BTreeSet::new(),
        };
        let records = batch.as_mut().map_or_else(Vec::new, Batch::take_records);
        let (turns, blocked) = self.turns(due, records)?;
        let first = turns.first().map(Turn::place).or(blocked.first().map(Item::place));
        let Some((topic, partition, offset)) = first else { return Ok(()) };
        let first = (topic.clone(), partition, offset);
        let is_alone = turns.len() + blocked.len() == 1;
        let taken = turns.len();
        if let Some(tap) = &mut self.tap {
            tap.take(taken);
        }
        let (clock, began) = (self.clock, Instant::now());
        let runner = Runner {
            log: &self.log,
            job: &self.job,
            clock,
            chance: &mut self.chance,
            doomed: self.doomed.as_ref(),
            owned: &self.owned,
            table: &self.table,
            letters: &letters,
            ids: Ids::new(&self.log, &self.job.settings, &self.scopes),
            before: on_its_way.as_ref().map(|it| it.submitted.done.clone()),
        };
        let round = {
            let mut run = std::pin::pin!(runner.run(turns, blocked));
            loop {
                let is_open = on_its_way.as_ref().is_some_and(|it| it.outcome.is_none());
                tokio::select! {
                    biased;
                    round = &mut run => break round,
                    outcome = producer.outcome(), if is_open => {
                        if let Some(sent) = on_its_way {
                            sent.ended(outcome, &self.job, &self.shared, &self.meters);
                        }
                    }
                }
            }
        };
        let handled_us = began.elapsed().as_micros() as u64;
        if let (Some(tap), Ok(round)) = (&mut self.tap, &round) {
            tap.give_back(taken.saturating_sub(round.started()));
        }
        if !self.settle(producer, on_its_way).await? {
            // What this round went by isn't so: all of it comes again.
            return Ok(());
        }
        let round = round?;
        if round.settled.is_empty() && batch.is_none() {
            // Somebody else has the partition of what was due.
            return Ok(());
        }
        let committer = Committer {
            log: &self.log,
            settings: &self.job.settings,
            table: &self.table,
            scopes: &self.scopes,
            dead_letters: &self.dead_letters,
            now_ms: clock.now_ms(),
        };
        let goes_over = |it: &UnreadableBatch| read.contains(&(it.topic.clone(), it.partition));
        let (unreadable, rest) = self.unreadable.iter().cloned().partition(goes_over);
        match committer.submit(producer, &self.owned, letters, round, unreadable, batch).await {
            Ok(submitted) => {
                let is_plain = submitted.is_plain;
                submitted.changes.apply_rows(&mut self.owned);
                *on_its_way = Some(OnItsWay { submitted, first, is_alone, handled_us, outcome: None });
                if !is_plain && self.settle(producer, on_its_way).await? {
                    self.unreadable = rest;
                }
            }
            Err(Error::Log(error)) => self.refused(error, first, is_alone)?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Waits for what becomes of the commit that is on its way, and takes it in. False: it was refused.
    async fn settle(
        &mut self,
        producer: &mut Producer,
        on_its_way: &mut Option<OnItsWay>,
    ) -> Result<bool, Error> {
        let Some(mut sent) = on_its_way.take() else { return Ok(true) };
        if sent.outcome.is_none() {
            sent.ended(producer.outcome().await, &self.job, &self.shared, &self.meters);
        }
        let OnItsWay { submitted, first, is_alone, outcome, .. } = sent;
        match outcome.expect("it has just ended") {
            Ok(csn) => {
                submitted.changes.apply_counts(&mut self.owned, csn);
                (self.refused, self.doomed, self.pause) = (0, None, PAUSE);
                self.limit = (self.limit * 2).min(self.job.settings.batch_max);
                Ok(true)
            }
            Err(error) => {
                submitted.changes.forget(&mut self.owned);
                self.refused(error, first, is_alone).map(|()| false)
            }
        }
    }

    /// Its records can't be had: it becomes one dead letter, as it is stored.
    fn unreadable(&mut self, batch: UnreadableBatch) {
        tracing::error!(event = "batch.unreadable", error = %batch, "a stored batch can't be taken apart");
        let is_same = |it: &UnreadableBatch| {
            (&it.topic, it.partition, it.from) == (&batch.topic, batch.partition, batch.from)
        };
        // What is read once more is said once more.
        if !self.unreadable.iter().any(is_same) {
            self.unreadable.push(batch);
        }
    }

    /// What became of the dead letters of these places, if some are.
    fn letters(&self, due: &[Due], batch: Option<&Batch<'_>>) -> Result<LettersRead, Error> {
        let mut letters = LettersRead::default();
        if !self.ledgers.is_empty() {
            for due in due {
                letters.load(&self.ledgers, &due.place)?;
            }
            for record in batch.map_or(&[][..], |batch| batch.records()) {
                letters.load(&self.ledgers, &place_of(record))?;
            }
        }
        Ok(letters)
    }

    /// The events of a round: those to be tried, and new ones that go behind others at once.
    fn turns(&mut self, due: Vec<Due>, records: Vec<Record>) -> Result<(Vec<Turn>, Vec<Item>), Error> {
        let (mut turns, mut blocked) = (Vec::with_capacity(due.len() + records.len()), Vec::new());
        turns.extend(due.into_iter().map(Turn::Row));
        let mode = self.job.settings.retry.mode;
        let mut last: Option<(Arc<str>, u32)> = None;
        for record in RecordOfRound::all(records) {
            let is_last =
                last.as_ref().is_some_and(|it| (&*it.0, it.1) == (&*record.topic, record.partition));
            if !is_last {
                let place = place_of(&record);
                self.load(place.clone())?;
                last = Some(place);
            }
            let queue = Queue::of(mode, &record);
            let waits = last.as_ref().and_then(|place| self.owned.partitions.get(place));
            let waits = waits.is_some_and(|partition| partition.lane.len_of(&queue) > 0);
            let item = Item::new(record, queue, None, &Ids::new(&self.log, &self.job.settings, &self.scopes));
            if waits { blocked.push(item) } else { turns.push(Turn::Of(item)) }
        }
        Ok((turns, blocked))
    }

    /// Nothing of the round was applied, and all of it comes again: less at a time, to find out for which event it was
    /// refused, and if there is just one, that one is known.
    fn refused(
        &mut self,
        error: exactlog::Error,
        (topic, partition, offset): (Arc<str>, u32, u64),
        is_alone: bool,
    ) -> Result<(), Error> {
        let is_about_events = match &error {
            exactlog::Error::Refused(Refusal::UnknownMember { .. } | Refusal::NotOwned { .. }) => false,
            error if is_about_room(error) => false,
            exactlog::Error::Refused(_)
            | exactlog::Error::TransactionTooLarge { .. }
            | exactlog::Error::EventTooLarge { .. } => true,
            _ => false,
        };
        if !is_about_events {
            return Err(error.into());
        }
        let is_known = |it: &Doomed| is_alone && it.is((&topic, partition, offset));
        if !matches!(error, exactlog::Error::Refused(_)) && self.doomed.as_ref().is_some_and(is_known) {
            // Not even its dead letter has room: that needs somebody.
            return Err(error.into());
        }
        self.shared.update(|metrics| metrics.refused += 1);
        tracing::debug!(event = "commit.refused", %error, is_alone, "a round is made anew");
        self.limit = 1;
        self.refused += u32::from(is_alone);
        let is_too_large = !matches!(error, exactlog::Error::Refused(_));
        if is_alone && (is_too_large || self.refused >= REFUSED_MAX) {
            let failure = match is_too_large {
                true => Failure::permanent("TransactionTooLarge", &error),
                false => Failure::transient("Refused", &error),
            };
            self.doomed = Some(Doomed { topic, partition, offset, failure });
        }
        Ok(())
    }
}

impl OnItsWay {
    /// Its outcome is known: if it is committed, whoever counts is told.
    fn ended(
        &mut self,
        outcome: Result<Option<CommitReceipt>, exactlog::Error>,
        job: &Job,
        shared: &Shared,
        meters: &Meters,
    ) {
        self.outcome = Some(outcome.map(|receipt| receipt.expect("it was on its way").csn));
        if !matches!(self.outcome, Some(Ok(_))) {
            return;
        }
        let Submitted { changes, lines, .. } = &self.submitted;
        lines.iter().for_each(|line| line.tell(&job.settings.group, job.settings.retry.max_attempts));
        for attempted in changes.attempts() {
            match attempted {
                Attempted::Took(took) => meters.took(*took),
                Attempted::Retried(attempt) => meters.retried(*attempt),
                Attempted::Died(kind) => meters.dead(kind),
            }
        }
        shared.update(|metrics| {
            metrics.counts.add(&changes.sum());
            metrics.commits += 1;
            metrics.handled_us += self.handled_us;
        });
    }
}

fn place_of(record: &Record) -> Place {
    (record.topic.clone(), record.partition)
}

/// Whether a limit of the log is reached, which is no event's fault: it is waited for, as for a disk that is full.
fn is_about_room(error: &exactlog::Error) -> bool {
    let exactlog::Error::Refused(refusal) = error else { return false };
    matches!(refusal, Refusal::DedupFull { .. } | Refusal::TablesFull { .. } | Refusal::TooManyTimers { .. })
}
