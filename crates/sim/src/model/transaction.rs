//! Wire transactions in the model: every one that was ever begun stays in it, with how and when it ended.

use std::collections::BTreeSet;

use exactlog_core::batch::{Batch, Control, ProducerStamp};
use exactlog_core::command::{Protocol, TransactionSender, Transactional};
use exactlog_core::ids::{Partition, ProducerId};
use exactlog_core::reply::Reply;

use super::{Model, Outcome, Stored};

/// The producer of a transactional id.
#[derive(Clone, Debug)]
pub struct Transactor {
    /// Its id.
    pub producer: ProducerId,
    /// Its epoch.
    pub producer_epoch: i16,
    /// What it was before, if the same sender raised it.
    pub last: Option<(ProducerId, i16)>,
    /// How long a transaction may stay open.
    pub timeout_ms: u32,
    /// When it was heard of last.
    pub time_ms: i64,
    /// Where it stands.
    pub phase: Phase,
}

/// Where a transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing happened in this epoch.
    Empty,
    /// This transaction is open.
    Open(u64),
    /// The last one ended so; and whether that has raised the epoch.
    Ended(bool, bool),
}

impl Transactor {
    /// Its open transaction.
    #[must_use]
    pub fn open(&self) -> Option<u64> {
        match self.phase {
            Phase::Open(txn_seq) => Some(txn_seq),
            _ => None,
        }
    }
}

/// A transaction that was begun.
#[derive(Clone, Debug, Default)]
pub struct TransactionMade {
    /// When it began.
    pub started_ms: i64,
    /// Where it may write.
    pub partitions: BTreeSet<Partition>,
    /// Groups that it may commit offsets of.
    pub groups: BTreeSet<String>,
    /// Offsets that it commits.
    pub offsets: Vec<PendingOffset>,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// An offset that waits for the end of its transaction.
#[derive(Clone, Debug)]
pub struct PendingOffset {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: Partition,
    offset: u64,
    lsn: u64,
    metadata: String,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// By this command.
    pub lsn: u64,
    /// Whether it is committed.
    pub commit: bool,
}

const TIMEOUT_MAX_MS: u32 = 900_000;
const ID_EXPIRATION_MS: i64 = 7 * 86_400_000;

impl Model {
    /// Whether a transaction was committed by the first `lsn` commands; nothing while it was open.
    #[must_use]
    pub fn fate_at(&self, txn_seq: u64, lsn: u64) -> Option<bool> {
        let ended = self.transactions.get(&txn_seq)?.ended?;
        (ended.lsn <= lsn).then_some(ended.commit)
    }

    /// The open transactions that have written to a partition, ascending.
    #[must_use]
    pub fn open_in(&self, partition: Partition) -> Vec<u64> {
        let open = self.transactors.values().filter_map(Transactor::open);
        let mut open: Vec<u64> = open.filter(|txn_seq| self.has_data(*txn_seq, partition)).collect();
        open.sort_unstable();
        open
    }

    pub(super) fn open_of(&self, producer: ProducerId) -> Option<u64> {
        self.transactors.values().find(|it| it.producer == producer)?.open()
    }

    /// Where which producers have open data.
    pub(super) fn open_data(&self) -> BTreeSet<(Partition, ProducerId)> {
        let mut all = BTreeSet::new();
        for (transactor, txn_seq) in self.transactors.values().filter_map(|it| Some((it, it.open()?))) {
            let partitions = self.transactions[&txn_seq].partitions.iter();
            let written = partitions.filter(|partition| self.has_data(txn_seq, **partition));
            all.extend(written.map(|partition| (*partition, transactor.producer)));
        }
        all
    }

    pub(super) fn check_transactor(&self, stamp: &ProducerStamp) -> Result<(), &'static str> {
        match self.transactors.values().find(|it| it.producer == stamp.id) {
            Some(it) if stamp.epoch < it.producer_epoch => Err("ProducerFenced"),
            Some(it) if stamp.epoch > it.producer_epoch => Err("ProducerEpochUnknown"),
            _ => Ok(()),
        }
    }

    pub(super) fn transactional(&mut self, term: u32, request: &Transactional) -> Outcome {
        match request {
            Transactional::Init { transactional_id, timeout_ms, current, .. } => {
                self.init_transactions(term, transactional_id, *timeout_ms, *current)
            }
            Transactional::AddPartitions { sender, partitions } => {
                self.check_sender(sender)?;
                for partition in partitions {
                    self.find(*partition)?;
                }
                let txn_seq = self.going_on(&sender.transactional_id);
                self.made(txn_seq).partitions.extend(partitions);
                Ok(Reply::InTransaction { txn_seq })
            }
            Transactional::AddOffsets { sender, group } => {
                self.check_sender(sender)?;
                let txn_seq = self.going_on(&sender.transactional_id);
                self.made(txn_seq).groups.insert(group.clone());
                Ok(Reply::InTransaction { txn_seq })
            }
            Transactional::Append { .. } => self.append_transactional(term, request),
            Transactional::CommitOffsets { sender, group, member, offsets } => {
                self.check_sender(sender)?;
                assert!(member.is_none(), "the workload commits without members");
                let open = self.transactors[&sender.transactional_id].open();
                let is_part = open.is_some_and(|it| self.transactions[&it].groups.contains(group));
                if !is_part && sender.protocol == Protocol::V1 {
                    return Err("GroupNotInTransaction");
                }
                let committed = |partition| {
                    let open = self.transactors.values().filter_map(Transactor::open);
                    let pending = open.flat_map(|txn_seq| &self.transactions[&txn_seq].offsets);
                    let pending = pending.filter(|it| it.group == *group && it.partition == partition);
                    let committed = self.groups.get(group).and_then(|it| it.offsets.get(&partition));
                    pending.map(|it| it.offset).chain(committed.map(|it| it.0)).max()
                };
                self.check_positions(offsets, committed)?;
                let (txn_seq, lsn) = (self.going_on(&sender.transactional_id), self.lsn);
                self.made(txn_seq).groups.insert(group.clone());
                for offset in offsets {
                    self.groups.entry(group.clone()).or_default();
                    let made = self.made(txn_seq);
                    made.offsets.retain(|it| it.group != *group || it.partition != offset.partition);
                    made.offsets.push(PendingOffset {
                        group: group.clone(),
                        partition: offset.partition,
                        offset: offset.offset,
                        lsn,
                        metadata: offset.metadata.as_str().to_owned(),
                    });
                }
                Ok(Reply::InTransaction { txn_seq })
            }
            Transactional::End { sender, commit } => self.end_transaction(term, sender, *commit),
        }
    }

    fn init_transactions(
        &mut self,
        term: u32,
        transactional_id: &str,
        timeout_ms: u32,
        current: Option<(ProducerId, i16)>,
    ) -> Outcome {
        if timeout_ms == 0 || timeout_ms > TIMEOUT_MAX_MS {
            return Err("TransactionTimeout");
        }
        let time_ms = self.time_ms;
        let Some(before) = self.transactors.get(transactional_id).cloned() else {
            self.producers_made += 1;
            let producer = ProducerId(self.producers_made);
            let (last, phase) = (None, Phase::Empty);
            let made = Transactor { producer, producer_epoch: 0, last, timeout_ms, time_ms, phase };
            self.transactors.insert(transactional_id.to_owned(), made);
            return Ok(Reply::Transactional { producer, producer_epoch: 0 });
        };
        let (producer, producer_epoch) = (before.producer, before.producer_epoch);
        if current.is_some() && current == before.last {
            return Ok(Reply::Transactional { producer, producer_epoch });
        }
        if current.is_some_and(|current| current != (producer, producer_epoch)) {
            return Err("TransactionFenced");
        }
        if let Some(txn_seq) = before.open() {
            self.finish(term, txn_seq, producer, false, producer_epoch + 1);
        }
        let now = self.transactors.get_mut(transactional_id).expect("it was found");
        *now = Transactor {
            producer_epoch: producer_epoch + 1,
            last: current,
            timeout_ms,
            time_ms,
            phase: Phase::Empty,
            ..before
        };
        Ok(Reply::Transactional { producer, producer_epoch: producer_epoch + 1 })
    }

    fn append_transactional(&mut self, term: u32, request: &Transactional) -> Outcome {
        let Transactional::Append { transactional_id, protocol, partition, config_version, batch, .. } =
            request
        else {
            unreachable!("it was matched before")
        };
        let at = *partition;
        let topic = self.topics.get(&at.topic).ok_or("UnknownTopic")?;
        if topic.config_version != *config_version {
            return Err("ConfigChanged");
        }
        let found = self.find(at)?;
        let start_offset = found.start;
        let stamp = batch.producer().ok_or("Batch")?;
        let known = self.transactors.get(transactional_id);
        let transactor = known.filter(|it| it.producer == stamp.id).ok_or("TransactionalIdMapping")?;
        self.check_transactor(&stamp)?;
        if let Some((base_offset, timestamp_ms)) = self.judge(found, &stamp, batch)? {
            return Ok(Reply::Appended { base_offset, timestamp_ms, start_offset, duplicate: true });
        }
        let is_part = transactor.open().is_some_and(|it| self.transactions[&it].partitions.contains(&at));
        if !is_part && *protocol == Protocol::V1 {
            return Err("PartitionNotInTransaction");
        }
        self.check_batch(at, batch)?;
        let txn_seq = self.going_on(transactional_id);
        self.made(txn_seq).partitions.insert(at);
        let base_offset = self.store(term, at, batch, Some(txn_seq));
        let timestamp_ms = self.shown_ms(at, batch);
        Ok(Reply::Appended { base_offset, timestamp_ms, start_offset, duplicate: false })
    }

    fn end_transaction(&mut self, term: u32, sender: &TransactionSender, commit: bool) -> Outcome {
        let raises = sender.protocol == Protocol::V2;
        let known = self.transactors.get(&sender.transactional_id);
        if let Some(known) = known
            && raises
            && known.last == Some((sender.producer, sender.producer_epoch))
            && let Phase::Ended(outcome, true) = known.phase
        {
            let (producer, producer_epoch) = (known.producer, known.producer_epoch);
            let same = outcome == commit;
            return if same {
                Ok(Reply::Transactional { producer, producer_epoch })
            } else {
                Err("TransactionState")
            };
        }
        self.check_sender(sender)?;
        let mut now = self.transactors[&sender.transactional_id].clone();
        let (producer, epoch) = (now.producer, now.producer_epoch);
        match (now.phase, raises) {
            (Phase::Open(txn_seq), _) => {
                self.finish(term, txn_seq, producer, commit, epoch + i16::from(raises));
            }
            (Phase::Ended(outcome, _), false) if outcome == commit => {
                return Ok(Reply::Transactional { producer, producer_epoch: epoch });
            }
            (_, true) if !commit => {}
            _ => return Err("TransactionState"),
        }
        (now.phase, now.time_ms) = (Phase::Ended(commit, raises), self.time_ms);
        if raises {
            (now.last, now.producer_epoch) = (Some((producer, epoch)), epoch + 1);
        }
        let producer_epoch = now.producer_epoch;
        self.transactors.insert(sender.transactional_id.clone(), now);
        Ok(Reply::Transactional { producer, producer_epoch })
    }

    /// Aborts what was open for too long, and forgets ids that nobody used: how many of each.
    pub(super) fn expire_transactions(&mut self, term: u32) -> (u64, u64) {
        let (mut aborted, mut forgotten) = (0, 0);
        // The engine goes by the deadlines; of equal ones by the producers.
        let mut due: Vec<(i64, ProducerId, String)> = Vec::new();
        for (id, it) in &self.transactors {
            let deadline = match it.open() {
                Some(txn_seq) => self.transactions[&txn_seq].started_ms + i64::from(it.timeout_ms),
                None => it.time_ms + ID_EXPIRATION_MS,
            };
            if deadline <= self.time_ms {
                due.push((deadline, it.producer, id.clone()));
            }
        }
        due.sort();
        for (_, producer, id) in due {
            let mut now = self.transactors[&id].clone();
            let Some(txn_seq) = now.open() else {
                self.transactors.remove(&id);
                forgotten += 1;
                continue;
            };
            let epoch = now.producer_epoch;
            self.finish(term, txn_seq, producer, false, epoch + 1);
            (now.last, now.producer_epoch) = (Some((producer, epoch)), epoch + 1);
            (now.phase, now.time_ms) = (Phase::Ended(false, false), self.time_ms);
            self.transactors.insert(id, now);
            aborted += 1;
        }
        (aborted, forgotten)
    }

    fn check_sender(&self, sender: &TransactionSender) -> Result<(), &'static str> {
        match self.transactors.get(&sender.transactional_id) {
            Some(it) if it.producer != sender.producer => Err("TransactionalIdMapping"),
            Some(it) if it.producer_epoch != sender.producer_epoch => Err("TransactionFenced"),
            Some(_) => Ok(()),
            None => Err("TransactionalIdMapping"),
        }
    }

    /// The open transaction, which begins now if there is none.
    fn going_on(&mut self, transactional_id: &str) -> u64 {
        let (lsn, started_ms) = (self.lsn, self.time_ms);
        let transactor = self.transactors.get_mut(transactional_id).expect("the sender was checked");
        transactor.time_ms = started_ms;
        transactor.open().unwrap_or_else(|| {
            transactor.phase = Phase::Open(lsn);
            self.transactions.insert(lsn, TransactionMade { started_ms, ..TransactionMade::default() });
            lsn
        })
    }

    fn made(&mut self, txn_seq: u64) -> &mut TransactionMade {
        self.transactions.get_mut(&txn_seq).expect("it was begun")
    }

    fn has_data(&self, txn_seq: u64, partition: Partition) -> bool {
        let mut stored = self.stored.get(&partition).into_iter().flatten();
        stored.any(|stored| stored.txn_seq == Some(txn_seq))
    }

    /// Markers where there is data, and the offsets.
    fn finish(&mut self, term: u32, txn_seq: u64, producer: ProducerId, commit: bool, producer_epoch: i16) {
        let (lsn, time_ms) = (self.lsn, self.time_ms);
        let made = self.made(txn_seq);
        made.ended = Some(Ended { lsn, commit });
        let TransactionMade { partitions, groups, offsets, .. } = made.clone();
        for partition in partitions {
            if !self.has_data(txn_seq, partition) {
                continue;
            }
            let coordinator_epoch = term as i32;
            let control = Control { producer, producer_epoch, coordinator_epoch, commit, time_ms };
            let found = self.partition_mut(partition).expect("those of deleted topics are gone");
            let batch = Batch::control(&control).placed(found.end, term);
            found.end += 1;
            self.stored.entry(partition).or_default().push(Stored { lsn, batch, txn_seq: None });
        }
        for pending in offsets.into_iter().filter(|_| commit) {
            let group = self.groups.entry(pending.group).or_default();
            if group.offsets.get(&pending.partition).is_none_or(|(_, lsn, _)| *lsn < pending.lsn) {
                group.offsets.insert(pending.partition, (pending.offset, pending.lsn, pending.metadata));
            }
        }
        for name in groups {
            let waits = self.transactors.values().filter_map(Transactor::open).any(|other| {
                other != txn_seq && self.transactions[&other].offsets.iter().any(|it| it.group == name)
            });
            let empty = self.groups.get(&name).is_some_and(|group| {
                group.generation == 0 && group.member.is_none() && group.offsets.is_empty()
            });
            if empty && !waits {
                self.groups.remove(&name);
            }
        }
    }
}
