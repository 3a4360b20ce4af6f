//! A round as one transaction, and what is known of its partitions when that has committed.
//!
//! Invariants
//!   * every event of the round is in it once: its effects, or its row, or its dead letter
//!   * it is refused if somebody else has touched one of the partitions since they were loaded

use crate::counts::Counts;
use crate::dead_letter::{Death, dead_letter};
use crate::dedup::Scopes;
use crate::error::Error;
use crate::failure::Failure;
use crate::ledger::LettersRead;
use crate::lines::{self, Line};
use crate::outbox::{Forwarded, Outbox, Output};
use crate::owned::{Owned, Partition, Place};
use crate::parked::{Queue, Wait, Waiting, row};
use crate::request::reply_of_death;
use crate::round::{DoneIds, Item, Round, Verdict};
use crate::settings::Settings;
use exactlog::{
    Batch, EventId, Log, Producer, Record, Seen, Table, Topic, TopicId, Transaction, UnreadableBatch,
};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where a round is written to.
pub(crate) struct Committer<'c> {
    pub(crate) log: &'c Log,
    pub(crate) settings: &'c Settings,
    pub(crate) table: &'c Table,
    pub(crate) scopes: &'c Scopes,
    /// The dead-letter topic of each topic.
    pub(crate) dead_letters: &'c BTreeMap<Arc<str>, Topic>,
    pub(crate) now_ms: i64,
}

/// A record that waits from now on, or doesn't any more.
#[derive(Debug)]
struct RowChange {
    place: Place,
    offset: u64,
    waits: Option<(Queue, Wait)>,
}

/// What a commit changes of what is known.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    rows: Vec<RowChange>,
    /// Few, and most of what is asked for is the last.
    counts: Vec<(Place, Counts)>,
    attempts: Vec<Attempted>,
}

/// One attempt, or a death, for whoever counts them.
#[derive(Debug)]
pub(crate) enum Attempted {
    Took(Duration),
    /// Another one follows on the attempt of this number.
    Retried(u32),
    Died(String),
}

/// A round that was handed in.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) changes: Changes,
    /// What is to be said if it commits.
    pub(crate) lines: Vec<Line>,
    /// Ids of events that are done in it.
    pub(crate) done: Arc<DoneIds>,
    /// Of what the next round goes by, it changes ids and rows and nothing else: that can run beside it.
    pub(crate) is_plain: bool,
}

impl Committer<'_> {
    /// Hands it in with the positions of the batch.
    pub(crate) async fn submit(
        &self,
        producer: &mut Producer,
        owned: &Owned,
        mut letters: LettersRead,
        mut round: Round,
        unreadable: Vec<UnreadableBatch>,
        batch: Option<Batch<'_>>,
    ) -> Result<Submitted, Error> {
        let is_plain = unreadable.is_empty() && letters.is_empty() && round.is_plain();
        let mut transaction = producer.begin();
        let mut changes = Changes::default();
        let mut sent_ids = FxHashSet::default();
        round.tables.fill(&round.overlay, &mut transaction)?;
        // Keys ended beside each other; what comes of them is in the order of their events.
        let by_place =
            |(one, _): &(Item, _), (other, _): &(Item, _)| place(&one.record).cmp(&place(&other.record));
        if !round.settled.is_sorted_by(|one, other| by_place(one, other).is_le()) {
            round.settled.sort_by(by_place);
        }
        let lines: Vec<Line> = match lines::are_wanted() {
            true => round.settled.iter().filter_map(|(item, verdict)| Line::of(item, verdict)).collect(),
            false => Vec::new(),
        };
        let mut settled = round.settled.into_iter().peekable();
        while let Some((first, _)) = settled.peek() {
            let place: Place = (first.record.topic.clone(), first.record.partition);
            let found = owned.partitions.get(&place);
            let is_there =
                |(Item { record, .. }, _): &_| record.partition == place.1 && record.topic == place.0;
            while let Some((item, verdict)) = settled.next_if(is_there) {
                let Some(partition) = found else { continue };
                if matches!(verdict, Verdict::Done { .. }) {
                    letters.end(&item.record);
                }
                self.add(&mut transaction, partition, &mut changes, &mut sent_ids, item, verdict)?;
            }
        }
        for batch in &unreadable {
            self.bury_batch(&mut transaction, owned, &mut changes, batch)?;
        }
        for (place, added) in &changes.counts {
            let Some(partition) = owned.partitions.get(place) else { continue };
            let mut counts = partition.counts.clone();
            counts.add(added);
            transaction.expect_version(self.table, partition.counts_key.clone(), partition.version);
            transaction.put_json(self.table, partition.counts_key.clone(), &counts)?;
        }
        letters.fill(self.log, &mut transaction)?;
        if let Some(batch) = batch {
            transaction.ack(batch);
        }
        transaction.submit().await?;
        Ok(Submitted { changes, lines, done: Arc::new(round.done), is_plain })
    }

    fn add(
        &self,
        transaction: &mut Transaction<'_>,
        partition: &Partition,
        changes: &mut Changes,
        sent_ids: &mut FxHashSet<(TopicId, EventId)>,
        item: Item,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let Item { record, queue, waited, id, took, .. } = item;
        changes.attempts.extend((!took.is_zero()).then_some(Attempted::Took(took)));
        let counts = changes.counts_of(&record.topic, record.partition);
        counts.read += u64::from(waited.is_none());
        let has_ended = !matches!(verdict, Verdict::Wait { .. });
        match verdict {
            Verdict::Done { outcome, outbox, reservation } => {
                counts.done(outcome);
                self.hand_in(transaction, sent_ids, outbox)?;
                match (reservation, id) {
                    (Some(reservation), _) => transaction.finish(*reservation)?,
                    (None, Some((scope, id))) => transaction.mark(self.scopes.name(scope), id)?,
                    (None, None) => {}
                }
            }
            Verdict::Duplicate => counts.duplicate += 1,
            Verdict::Wait { wait, failure, outbox } => {
                if wait.waiting == Waiting::Parked {
                    counts.retried += 1;
                    changes.attempts.push(Attempted::Retried(wait.attempts));
                }
                self.hand_in(transaction, sent_ids, outbox)?;
                let bytes = row(&record, &wait, failure.as_ref(), self.now_ms);
                transaction.put(self.table, partition.row_key(record.offset), bytes)?;
                let place = (record.topic.clone(), record.partition);
                let waits = Some((queue.apart(), wait));
                changes.rows.push(RowChange { place, offset: record.offset, waits });
            }
            Verdict::Dead { failure, attempts, first_failed_ms, outbox } => {
                counts.dead += 1;
                self.hand_in(transaction, sent_ids, outbox)?;
                if let Some((table, key, reply)) =
                    reply_of_death(self.log, &record, &self.settings.group, &failure)
                {
                    transaction.put(&table, key, reply)?;
                }
                let (group, handler) = (&self.settings.group, &self.settings.name);
                let (failed_ms, topic_id) = (self.now_ms, partition.topic.id().0);
                let failure = &failure;
                let death = Death { group, handler, attempts, failure, failed_ms, first_failed_ms, topic_id };
                self.bury(transaction, changes, &record, &death)?;
            }
        }
        if has_ended && waited.is_some() {
            transaction.delete(self.table, partition.row_key(record.offset))?;
            let place = (record.topic.clone(), record.partition);
            changes.rows.push(RowChange { place, offset: record.offset, waits: None });
        }
        Ok(())
    }

    fn hand_in(
        &self,
        transaction: &mut Transaction<'_>,
        sent_ids: &mut FxHashSet<(TopicId, EventId)>,
        outbox: Outbox,
    ) -> Result<(), Error> {
        let Some(handed) = outbox.into_handed() else { return Ok(()) };
        for output in handed.outputs {
            self.send(transaction, sent_ids, output)?;
        }
        for Forwarded { topic, record } in handed.forwarded {
            transaction.forward(&topic, &record)?;
        }
        for timer in handed.cancelled {
            if self.log.timer(timer)?.is_some() {
                transaction.cancel(timer);
            }
        }
        Ok(())
    }

    /// An output whose id its topic has seen, or has in this commit, is left out: the first one won.
    fn send(
        &self,
        transaction: &mut Transaction<'_>,
        sent_ids: &mut FxHashSet<(TopicId, EventId)>,
        output: Output,
    ) -> Result<(), Error> {
        let Output { topic, partition, event, delay } = output;
        if let Some(id) = &event.id
            && (!sent_ids.insert((topic.id(), id.clone()))
                || matches!(self.log.seen(&topic, id.clone())?, Seen::Done(_)))
        {
            return Ok(());
        }
        match (partition, delay) {
            (None, None) => transaction.send(&topic, event)?,
            (Some(partition), _) => transaction.send_to(&topic, partition, event)?,
            (None, Some(delay)) => transaction.send_after(&topic, event, delay)?,
        }
        Ok(())
    }

    /// A batch whose records can't be had is dead as a whole, with its bytes as they are stored.
    fn bury_batch(
        &self,
        transaction: &mut Transaction<'_>,
        owned: &Owned,
        changes: &mut Changes,
        batch: &UnreadableBatch,
    ) -> Result<(), Error> {
        let place: Place = (batch.topic.clone(), batch.partition);
        let Some(partition) = owned.partitions.get(&place) else { return Ok(()) };
        let counts = changes.counts_of(&batch.topic, batch.partition);
        counts.read += batch.to - batch.from;
        counts.dead += batch.to - batch.from;
        let record = Record {
            topic: batch.topic.clone(),
            partition: batch.partition,
            offset: batch.from,
            timestamp_ms: self.now_ms,
            key: None,
            value: Some(batch.raw.clone()),
            headers: Vec::new(),
        };
        let death = Death {
            group: &self.settings.group,
            handler: &self.settings.name,
            attempts: 0,
            failure: &Failure::poison("UnreadableBatch", batch),
            failed_ms: self.now_ms,
            first_failed_ms: self.now_ms,
            topic_id: partition.topic.id().0,
        };
        self.bury(transaction, changes, &record, &death)
    }

    fn bury(
        &self,
        transaction: &mut Transaction<'_>,
        changes: &mut Changes,
        record: &Record,
        death: &Death<'_>,
    ) -> Result<(), Error> {
        if self.settings.letters.contains(&*record.topic) {
            // A dead letter stays where it is.
            return Ok(());
        }
        changes.attempts.push(Attempted::Died(death.failure.kind().to_string()));
        let Some(topic) = self.dead_letters.get(&record.topic) else {
            return Err(exactlog::Error::NoSuchTopic { name: record.topic.to_string() }.into());
        };
        let partition = record.partition % topic.partitions();
        let headers = self.settings.dead_letter.headers;
        match transaction.forward_to(topic, partition, &dead_letter(record, death, headers, true)) {
            // The event itself is never shortened.
            Err(exactlog::Error::EventTooLarge { .. }) => {
                transaction.forward_to(topic, partition, &dead_letter(record, death, headers, false))?;
            }
            buried => buried?,
        }
        Ok(())
    }
}

fn place(record: &Record) -> (&str, u32, u64) {
    (&record.topic, record.partition, record.offset)
}

impl Changes {
    /// What ended in this commit, and how.
    pub(crate) fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        self.counts.iter().for_each(|(_, counts)| sum.add(counts));
        sum
    }

    /// What is counted of a partition.
    fn counts_of(&mut self, topic: &Arc<str>, partition: u32) -> &mut Counts {
        let is_it = |((of, index), _): &(Place, Counts)| *index == partition && of == topic;
        let at = self.counts.iter().rposition(is_it).unwrap_or_else(|| {
            self.counts.push(((topic.clone(), partition), Counts::default()));
            self.counts.len() - 1
        });
        &mut self.counts[at].1
    }

    /// What there is to count beside.
    pub(crate) fn attempts(&self) -> &[Attempted] {
        &self.attempts
    }

    /// Whether records wait from now on, or don't any more.
    pub(crate) fn moves_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// What waits if it commits. That is known before it has: see [`Changes::forget`].
    pub(crate) fn apply_rows(&self, owned: &mut Owned) {
        for RowChange { place, offset, waits } in &self.rows {
            let Some(partition) = owned.partitions.get_mut(place) else { continue };
            match waits {
                Some((queue, wait)) => partition.lane.set(*offset, queue.clone(), wait.clone()),
                None => partition.lane.remove(*offset),
            }
        }
    }

    /// It hasn't committed: what was said to wait is loaded again.
    pub(crate) fn forget(&self, owned: &mut Owned) {
        self.rows.iter().for_each(|row| _ = owned.partitions.remove(&row.place));
    }

    /// It has committed at this csn.
    pub(crate) fn apply_counts(&self, owned: &mut Owned, csn: u64) {
        for (place, added) in &self.counts {
            let Some(partition) = owned.partitions.get_mut(place) else { continue };
            partition.counts.add(added);
            partition.version = Some(csn);
            debug_assert_eq!(
                partition.counts.ended() + partition.lane.len() as u64,
                partition.counts.read,
                "every event that was read has ended or waits: {place:?}"
            );
        }
    }
}
