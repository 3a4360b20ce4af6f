//! The coordinator of wire transactions: one machine for each transactional id (semantics 2.2 and 6.2; KIP-98, KIP-360,
//! KIP-447, KIP-588, KIP-890).
//!
//! ```text
//!   Empty ----> Ongoing ----> Complete ----> Ongoing        Init: any -> Empty, with the next epoch
//!                  \---- timeout, by Tick ---> Complete     idle for long, by Tick: any but Ongoing -> gone
//! ```
//!
//! Not here: what a partition knows of open and aborted transactions ([`stable`](super::stable)).
//!
//! Invariants
//!   * decision, markers, group offsets and the next epoch are one command: there is no state of being about to end
//!   * an id's epoch only rises; behind 32,766 comes a new producer id with epoch 0
//!   * an open transaction has an epoch of at most 32,766, so that its end can raise it
//!   * one marker for each partition with data of the transaction, and none elsewhere
//!   * `transaction_deadlines` has exactly one entry for each id, and it is exact

use super::topic::{Arrival, appended};
use super::window::Verdict;
use super::{Outcome, State, done};
use crate::batch::Control;
use crate::command::{OffsetCommit, Protocol, TRANSACTIONAL_ID_BYTES_MAX, TransactionSender, Transactional};
use crate::ids::{MemberId, Partition, ProducerId, TopicId};
use crate::reply::{Applied, Marker, Refusal, Reply};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The producer of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionalProducer {
    /// Its producer id.
    pub producer: ProducerId,
    /// The current epoch; all lower ones are fenced.
    pub producer_epoch: i16,
    /// Producer id and epoch before the last rise, if that was the same sender's: it may have missed the answer.
    pub last: Option<(ProducerId, i16)>,
    /// How long a transaction may stay open, in ms.
    pub timeout_ms: u32,
    /// When it was last heard of, ms since 1970.
    pub time_ms: i64,
    /// Where it stands.
    pub phase: TransactionPhase,
}

/// Where a transactional id stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionPhase {
    /// Nothing happened in this epoch.
    Empty,
    /// A transaction is open.
    Ongoing(Transaction),
    /// The last transaction has ended.
    Complete {
        /// Whether it was committed; else it is aborted.
        commit: bool,
        /// Whether the end itself has raised the epoch, by [`Protocol::V2`]: its retry comes with the one before.
        raised: bool,
    },
}

/// An open transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The lsn of the command that began it: its identity.
    pub txn_seq: u64,
    /// When it began, ms since 1970.
    pub started_ms: i64,
    /// The newest connection that has added partitions or groups; 0: none said.
    pub connection: u64,
    /// Where it may write. All of them exist.
    pub partitions: BTreeSet<Partition>,
    /// Groups that it may commit offsets of.
    pub groups: BTreeSet<String>,
}

/// The last epoch of an id: Kafka's clients take 32767 for exhausted.
const PRODUCER_EPOCH_MAX: i16 = i16::MAX - 1;

impl TransactionalProducer {
    /// The open transaction.
    pub fn transaction(&self) -> Option<&Transaction> {
        match &self.phase {
            TransactionPhase::Ongoing(transaction) => Some(transaction),
            _ => None,
        }
    }

    fn is_exhausted(&self) -> bool {
        self.producer_epoch >= PRODUCER_EPOCH_MAX
    }
}

impl State {
    pub(super) fn transactional(&mut self, term: u32, request: &Transactional) -> Outcome {
        match request {
            Transactional::Init { transactional_id, timeout_ms, current, newer_codes } => {
                self.init_transactions(term, transactional_id, *timeout_ms, *current, *newer_codes)
            }
            Transactional::AddPartitions { sender, partitions } => self.add_partitions(sender, partitions),
            Transactional::AddOffsets { sender, group } => self.add_offsets(sender, group),
            Transactional::Append { partition, batch, config_version, .. } => {
                let arrival = Arrival { partition: *partition, batch, index: 0, term, txn_seq: 0 };
                self.append_transactional(&arrival, *config_version, request)
            }
            Transactional::CommitOffsets { sender, group, member, offsets } => {
                self.commit_offsets_transactional(sender, group, *member, offsets)
            }
            Transactional::End { sender, commit } => self.end_transaction(term, sender, *commit),
        }
    }

    /// The coordinator of a transactional id.
    pub fn transactional_producer(&self, transactional_id: &str) -> Option<&TransactionalProducer> {
        self.transactional.get(transactional_id).map(|entry| &**entry)
    }

    /// The open transactions, by transactional id.
    pub fn open_transactions(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.transactional.iter().filter_map(|(id, entry)| Some((id.as_str(), entry.transaction()?)))
    }

    fn init_transactions(
        &mut self,
        term: u32,
        transactional_id: &str,
        timeout_ms: u32,
        current: Option<(ProducerId, i16)>,
        newer_codes: bool,
    ) -> Outcome {
        let bytes = transactional_id.len();
        if !(1..=TRANSACTIONAL_ID_BYTES_MAX).contains(&bytes) {
            return Err(Refusal::TransactionalIdLength { bytes, max: TRANSACTIONAL_ID_BYTES_MAX });
        }
        let max_ms = self.settings.transaction_timeout_max_ms;
        if !(1..=max_ms).contains(&timeout_ms) {
            return Err(Refusal::TransactionTimeout { timeout_ms, max_ms });
        }
        let Some(entry) = self.transactional.get(transactional_id).cloned() else {
            let entry = TransactionalProducer {
                producer: self.new_producer_id()?,
                producer_epoch: 0,
                last: None,
                timeout_ms,
                time_ms: self.time_ms,
                phase: TransactionPhase::Empty,
            };
            return self.is_now(transactional_id, entry, Vec::new());
        };
        let now = (entry.producer, entry.producer_epoch);
        let is_retry = current.is_some() && current == entry.last;
        // An epoch that the timeout has raised to the end is nobody's.
        if is_retry && entry.producer_epoch <= PRODUCER_EPOCH_MAX {
            return done(Reply::Transactional { producer: now.0, producer_epoch: now.1 });
        }
        if let Some((_, sent)) = current.filter(|current| *current != now && !is_retry) {
            let (transactional_id, current) = (transactional_id.to_string(), now.1);
            return Err(Refusal::TransactionFenced { transactional_id, sent, current, newer_codes });
        }
        let raised = self.raised(&entry)?;
        let markers = self.finish(term, &entry, false, entry.producer_epoch.saturating_add(1));
        let next = TransactionalProducer {
            // Whoever else has this epoch missed nothing: it is fenced.
            last: current.map(|current| if is_retry { current } else { now }),
            timeout_ms,
            phase: TransactionPhase::Empty,
            ..raised
        };
        self.is_now(transactional_id, next, markers)
    }

    fn add_partitions(&mut self, sender: &TransactionSender, partitions: &[Partition]) -> Outcome {
        let mut entry = self.entry_of(sender)?.clone();
        for partition in partitions {
            self.find(*partition)?;
        }
        let transaction = self.going_on(&mut entry);
        transaction.connection = transaction.connection.max(sender.connection);
        transaction.partitions.extend(partitions);
        self.in_transaction(&sender.transactional_id, entry)
    }

    fn add_offsets(&mut self, sender: &TransactionSender, group: &str) -> Outcome {
        let mut entry = self.entry_of(sender)?.clone();
        self.check_group_name(group)?;
        let transaction = self.going_on(&mut entry);
        transaction.connection = transaction.connection.max(sender.connection);
        transaction.groups.insert(group.to_string());
        self.in_transaction(&sender.transactional_id, entry)
    }

    fn append_transactional(
        &mut self,
        arrival: &Arrival<'_>,
        config_version: u32,
        request: &Transactional,
    ) -> Outcome {
        let Transactional::Append { transactional_id, protocol, newer_codes, batch, .. } = request else {
            unreachable!("it was matched before")
        };
        let partition = arrival.partition;
        let state = self.find_at_version(partition, config_version)?;
        let stamp = super::topic::check_transactional_shape(batch)?;
        let entry = self.transactional.get(transactional_id).ok_or_else(|| {
            let (transactional_id, producer) = (transactional_id.clone(), stamp.id);
            Refusal::TransactionalIdMapping { transactional_id, producer }
        })?;
        let fenced = || {
            let (sent, current) = (stamp.epoch, entry.producer_epoch);
            Refusal::ProducerFenced { producer: stamp.id, sent, current }
        };
        if stamp.id != entry.producer {
            // An id that was given up is fenced, also for a batch that was late.
            let given_up = entry.last.is_some_and(|last| last.0 == stamp.id);
            let (transactional_id, producer) = (transactional_id.clone(), stamp.id);
            return Err(match given_up {
                true => fenced(),
                false => Refusal::TransactionalIdMapping { transactional_id, producer },
            });
        }
        self.check_producer_epoch(&stamp)?;
        if let Verdict::Duplicate(original) = state.judge(partition, &stamp, batch)? {
            return done(original.repeated(state.start));
        }
        let is_part = entry.transaction().is_some_and(|it| it.partitions.contains(&partition));
        if !is_part && *protocol == Protocol::V1 {
            let (transactional_id, newer_codes) = (transactional_id.clone(), *newer_codes);
            return Err(Refusal::PartitionNotInTransaction { transactional_id, partition, newer_codes });
        }
        // Its marker needs an offset too.
        self.check_room(arrival, batch.record_count() as u64 + 1)?;

        let start_offset = state.start;
        let mut entry = TransactionalProducer::clone(entry);
        let transaction = self.going_on(&mut entry);
        transaction.partitions.insert(partition);
        let txn_seq = transaction.txn_seq;
        self.enter(transactional_id, entry);
        let placement = self.place_batch(&Arrival { txn_seq, ..*arrival });
        self.partition_mut(partition).open_at(stamp.id, txn_seq, placement.base_offset);
        Ok(appended(placement, batch, start_offset))
    }

    fn commit_offsets_transactional(
        &mut self,
        sender: &TransactionSender,
        group: &str,
        member: Option<(MemberId, u64)>,
        offsets: &[OffsetCommit],
    ) -> Outcome {
        let mut entry = self.entry_of(sender)?.clone();
        let is_part = entry.transaction().is_some_and(|it| it.groups.contains(group));
        if !is_part && sender.protocol == Protocol::V1 {
            return Err(Refusal::GroupNotInTransaction {
                transactional_id: sender.transactional_id.clone(),
                group: group.to_string(),
                newer_codes: sender.newer_codes,
            });
        }
        self.check_pending_offsets(group, member, offsets)?;
        let transaction = self.going_on(&mut entry);
        transaction.groups.insert(group.to_string());
        let txn_seq = transaction.txn_seq;
        self.store_pending_offsets(group, txn_seq, offsets);
        self.in_transaction(&sender.transactional_id, entry)
    }

    fn end_transaction(&mut self, term: u32, sender: &TransactionSender, commit: bool) -> Outcome {
        use TransactionPhase::{Complete, Empty, Ongoing};
        let transactional_id = &sender.transactional_id;
        let state_error =
            |what| Err(Refusal::TransactionState { transactional_id: transactional_id.clone(), what });
        if let Some(entry) = self.transactional.get(transactional_id)
            && sender.protocol == Protocol::V2
            && entry.last == Some((sender.producer, sender.producer_epoch))
            && let Complete { commit: outcome, raised: true } = entry.phase
        {
            // The end itself has raised the epoch, and the sender doesn't know.
            let (producer, producer_epoch) = (entry.producer, entry.producer_epoch);
            return match outcome == commit {
                true => done(Reply::Transactional { producer, producer_epoch }),
                false => state_error("the transaction has ended otherwise"),
            };
        }
        let entry = self.entry_of(sender)?.clone();
        let (producer, producer_epoch) = (entry.producer, entry.producer_epoch);
        match (&entry.phase, sender.protocol) {
            (Ongoing(transaction), Protocol::V1) => {
                let (sent, current) = (sender.connection, transaction.connection);
                if sent != 0 && sent < current {
                    let transactional_id = transactional_id.clone();
                    return Err(Refusal::OlderConnection { transactional_id, sent, current });
                }
            }
            (Ongoing(_), Protocol::V2) => {}
            (Complete { commit: outcome, .. }, Protocol::V1) if *outcome == commit => {
                return done(Reply::Transactional { producer, producer_epoch });
            }
            (Complete { .. }, Protocol::V1) => return state_error("the transaction has ended otherwise"),
            (Empty, Protocol::V1) => return state_error("no transaction is open"),
            (Empty | Complete { .. }, Protocol::V2) if commit => {
                return state_error("no transaction is open");
            }
            // By the second protocol every abort ends the epoch, also where nothing was written.
            (Empty | Complete { .. }, Protocol::V2) => {}
        }
        let by_protocol = match sender.protocol {
            Protocol::V1 => TransactionalProducer { time_ms: self.time_ms, ..entry.clone() },
            Protocol::V2 => {
                let last = Some((producer, producer_epoch));
                TransactionalProducer { last, ..self.raised(&entry)? }
            }
        };
        let shown_epoch = match sender.protocol {
            Protocol::V1 => producer_epoch,
            Protocol::V2 => producer_epoch.saturating_add(1),
        };
        let markers = self.finish(term, &entry, commit, shown_epoch);
        let raised = sender.protocol == Protocol::V2;
        let next = TransactionalProducer { phase: Complete { commit, raised }, ..by_protocol };
        self.is_now(transactional_id, next, markers)
    }

    /// Aborts transactions whose time is up, and forgets ids that nobody used for long.
    pub(super) fn expire_transactions(&mut self, term: u32) -> (Vec<Marker>, u64, u64) {
        let (mut markers, mut aborted, mut forgotten) = (Vec::new(), 0, 0);
        let due = self.transaction_deadlines.range(..=(self.time_ms, ProducerId(i64::MAX)));
        let due: Vec<ProducerId> = due.map(|(_, producer)| *producer).collect();
        for producer in due {
            let transactional_id = self.transactional_ids[&producer].clone();
            let entry = self.transactional[&transactional_id].clone();
            // Ages, not deadlines, are compared: at the end of time a deadline is cut short.
            if let Some(transaction) = entry.transaction() {
                if self.time_ms.saturating_sub(transaction.started_ms) < i64::from(entry.timeout_ms) {
                    continue;
                }
                // No new id is needed here: 32767 fences everybody, and the next `Init` gives one.
                let producer_epoch = entry.producer_epoch.saturating_add(1);
                markers.append(&mut self.finish(term, &entry, false, producer_epoch));
                let next = TransactionalProducer {
                    producer_epoch,
                    last: Some((entry.producer, entry.producer_epoch)),
                    time_ms: self.time_ms,
                    phase: TransactionPhase::Complete { commit: false, raised: false },
                    ..TransactionalProducer::clone(&entry)
                };
                self.enter(&transactional_id, next);
                aborted += 1;
            } else if self.time_ms.saturating_sub(entry.time_ms) >= self.settings.transactional_id_idle_ms() {
                self.transaction_deadlines.remove(&(self.deadline_of(&entry), producer));
                self.transactional_ids.remove(&producer);
                self.transactional.remove(&transactional_id);
                forgotten += 1;
            }
        }
        (markers, aborted, forgotten)
    }

    /// Settings changed: all deadlines are other ones.
    pub(super) fn renew_transaction_deadlines(&mut self) {
        let entries = self.transactional.values();
        self.transaction_deadlines = entries.map(|entry| (self.deadline_of(entry), entry.producer)).collect();
    }

    /// No transaction writes to a topic that is gone.
    pub(super) fn forget_topic_in_transactions(&mut self, topic: TopicId) {
        for entry in self.transactional.values_mut() {
            let concerned = |it: &Transaction| it.partitions.iter().any(|at| at.topic == topic);
            if entry.transaction().is_some_and(concerned)
                && let TransactionPhase::Ongoing(transaction) = &mut Arc::make_mut(entry).phase
            {
                transaction.partitions.retain(|partition| partition.topic != topic);
            }
        }
    }

    /// The producer of a transactional id if it is the sender, in its current epoch.
    fn entry_of(&self, sender: &TransactionSender) -> Result<&TransactionalProducer, Refusal> {
        let TransactionSender { transactional_id, producer, producer_epoch, newer_codes, .. } = sender;
        let entry = self.transactional.get(transactional_id);
        let Some(entry) = entry.filter(|entry| entry.producer == *producer) else {
            let (transactional_id, producer) = (transactional_id.clone(), *producer);
            return Err(Refusal::TransactionalIdMapping { transactional_id, producer });
        };
        if entry.producer_epoch != *producer_epoch {
            return Err(Refusal::TransactionFenced {
                transactional_id: transactional_id.clone(),
                sent: *producer_epoch,
                current: entry.producer_epoch,
                newer_codes: *newer_codes,
            });
        }
        Ok(entry)
    }

    /// The open transaction of an entry, which begins now if there is none.
    fn going_on<'e>(&self, entry: &'e mut TransactionalProducer) -> &'e mut Transaction {
        entry.time_ms = self.time_ms;
        if entry.transaction().is_none() {
            entry.phase = TransactionPhase::Ongoing(Transaction {
                txn_seq: self.lsn,
                started_ms: self.time_ms,
                connection: 0,
                partitions: BTreeSet::new(),
                groups: BTreeSet::new(),
            });
        }
        match &mut entry.phase {
            TransactionPhase::Ongoing(transaction) => transaction,
            _ => unreachable!("it was begun above"),
        }
    }

    /// The entry with its next epoch, or with a new id if there is none.
    fn raised(&mut self, entry: &TransactionalProducer) -> Result<TransactionalProducer, Refusal> {
        let (producer, producer_epoch) = match entry.is_exhausted() {
            true => (self.new_producer_id()?, 0),
            false => (entry.producer, entry.producer_epoch + 1),
        };
        Ok(TransactionalProducer { producer, producer_epoch, time_ms: self.time_ms, ..entry.clone() })
    }

    /// Ends the open transaction, if there is one, everywhere but in its own entry.
    fn finish(
        &mut self,
        term: u32,
        entry: &TransactionalProducer,
        commit: bool,
        shown_epoch: i16,
    ) -> Vec<Marker> {
        let Some(transaction) = entry.transaction() else { return Vec::new() };
        let control = Control {
            producer: entry.producer,
            producer_epoch: shown_epoch,
            // What a batch can't show it shows as the highest.
            coordinator_epoch: i32::try_from(term).unwrap_or(i32::MAX),
            commit,
            time_ms: self.time_ms,
        };
        let mut markers = Vec::new();
        for partition in &transaction.partitions {
            let idle_ms = self.settings.producer_idle_ms as i64;
            let state = self.partition_mut(*partition);
            if let Some(marker) = state.close(*partition, term, control) {
                markers.push(marker);
                // While it was open, the window had no deadline.
                let window = state.producers.get(&entry.producer);
                let deadline = window.map_or(i64::MAX, |window| window.time_ms.saturating_add(idle_ms));
                self.next_deadline_ms = self.next_deadline_ms.min(deadline);
            }
        }
        for group in &transaction.groups {
            self.settle_pending_offsets(group, transaction.txn_seq, commit);
        }
        markers
    }

    fn in_transaction(&mut self, transactional_id: &str, entry: TransactionalProducer) -> Outcome {
        let txn_seq = entry.transaction().map_or(0, |transaction| transaction.txn_seq);
        self.enter(transactional_id, entry);
        done(Reply::InTransaction { txn_seq })
    }

    fn is_now(
        &mut self,
        transactional_id: &str,
        entry: TransactionalProducer,
        markers: Vec<Marker>,
    ) -> Outcome {
        let (producer, producer_epoch) = (entry.producer, entry.producer_epoch);
        self.enter(transactional_id, entry);
        Ok(Applied { markers, ..Applied::only(Reply::Transactional { producer, producer_epoch }) })
    }

    /// Enters what an id is now, with its deadline.
    fn enter(&mut self, transactional_id: &str, entry: TransactionalProducer) {
        let (producer, deadline) = (entry.producer, self.deadline_of(&entry));
        if let Some(before) = self.transactional.insert(transactional_id.to_string(), Arc::new(entry)) {
            self.transaction_deadlines.remove(&(self.deadline_of(&before), before.producer));
            if before.producer != producer {
                self.transactional_ids.remove(&before.producer);
            }
        }
        self.transaction_deadlines.insert((deadline, producer));
        self.transactional_ids.entry(producer).or_insert_with(|| transactional_id.to_string());
    }

    /// When `Tick` has something to do about an id: abort its transaction, or forget it.
    fn deadline_of(&self, entry: &TransactionalProducer) -> i64 {
        match entry.transaction() {
            Some(transaction) => transaction.started_ms.saturating_add(i64::from(entry.timeout_ms)),
            None => entry.time_ms.saturating_add(self.settings.transactional_id_idle_ms()),
        }
    }
}
