//! An obvious second coordinator, compared with `apply` step by step: who is told what, and what readers of committed
//! records see.
//!
//! The model remembers every transaction ever begun and every record ever written, each with the transaction that wrote
//! it. What is visible, where stability ends and which offset a group has, it finds by looking at all of them.

use crate::common::*;
use exactlog_core::batch::Batch;
use exactlog_core::command::*;
use exactlog_core::ids::{Partition, ProducerId};
use exactlog_core::reply::Reply;
use proptest::prelude::*;

const PARTITIONS: usize = 2;
const NAMES: [&str; 2] = ["x", "y"];

#[derive(Clone, Debug)]
enum Op {
    Init { id: usize, current: Current },
    AddPartition { id: usize, partition: usize, old: bool },
    AddOffsets { id: usize },
    Append { id: usize, partition: usize, count: u32, v2: bool, old: bool, again: bool },
    Plain { partition: usize, count: u32 },
    Offsets { id: usize, partition: usize, v2: bool, at: u64 },
    PlainOffsets { partition: usize, at: u64 },
    End { id: usize, commit: bool, v2: bool, old: bool },
    Pass { ms: i64 },
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Current {
    None,
    Now,
    Last,
}

fn op() -> impl Strategy<Value = Op> {
    let id = || 0..2usize;
    let partition = || 0..PARTITIONS;
    let old = || prop::bool::weighted(0.1);
    let current = prop::sample::select(vec![Current::None, Current::Now, Current::Now, Current::Last]);
    prop_oneof![
        2 => (id(), current).prop_map(|(id, current)| Op::Init { id, current }),
        4 => (id(), partition(), old()).prop_map(|(id, partition, old)| Op::AddPartition { id, partition, old }),
        2 => id().prop_map(|id| Op::AddOffsets { id }),
        9 => (id(), partition(), 1..4u32, any::<bool>(), old(), prop::bool::weighted(0.2)).prop_map(
            |(id, partition, count, v2, old, again)| Op::Append { id, partition, count, v2, old, again }
        ),
        2 => (partition(), 1..3u32).prop_map(|(partition, count)| Op::Plain { partition, count }),
        3 => (id(), partition(), any::<bool>(), 0..20u64)
            .prop_map(|(id, partition, v2, at)| Op::Offsets { id, partition, v2, at }),
        2 => (partition(), 0..20u64).prop_map(|(partition, at)| Op::PlainOffsets { partition, at }),
        6 => (id(), any::<bool>(), any::<bool>(), old())
            .prop_map(|(id, commit, v2, old)| Op::End { id, commit, v2, old }),
        2 => prop::sample::select(vec![1i64, 20_000, 60_000]).prop_map(|ms| Op::Pass { ms }),
        1 => Just(Op::Restart),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

/// One record or marker; its offset is its index.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Record { txn: Option<usize> },
    Marker,
}

#[derive(Clone, Debug)]
struct OldBatch {
    partition: usize,
    producer: (i64, i16),
    first: i32,
    count: u32,
    base: u64,
    txn: usize,
}

struct Txn {
    id: usize,
    fate: Fate,
    started_ms: i64,
    partitions: Vec<usize>,
    offsets_added: bool,
}

struct Position {
    partition: usize,
    at: u64,
    txn: Option<usize>,
}

struct Name {
    producer: i64,
    epoch: i16,
    last: Option<i16>,
    /// How the last transaction of this epoch ended, and whether that has raised the epoch.
    ended: Option<(bool, bool)>,
}

struct Model {
    slots: [Vec<Slot>; PARTITIONS],
    batches: Vec<OldBatch>,
    txns: Vec<Txn>,
    positions: Vec<Position>,
    names: [Name; 2],
    now_ms: i64,
}

/// The codes of refusals, or what else was said.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Code(i16),
    Identity(i64, i16),
    At { base: u64, duplicate: bool },
    Ok,
}

impl Model {
    fn open(&self, id: usize) -> Option<usize> {
        self.txns.iter().rposition(|txn| txn.id == id && txn.fate == Fate::Open)
    }

    /// The open transaction, which begins now if there is none.
    fn going_on(&mut self, id: usize) -> usize {
        self.open(id).unwrap_or_else(|| {
            let started_ms = self.now_ms;
            let txn = Txn { id, fate: Fate::Open, started_ms, partitions: vec![], offsets_added: false };
            self.txns.push(txn);
            self.txns.len() - 1
        })
    }

    fn finish(&mut self, txn: usize, fate: Fate) {
        self.txns[txn].fate = fate;
        for slots in &mut self.slots {
            if slots.iter().any(|slot| matches!(slot, Slot::Record { txn: of } if *of == Some(txn))) {
                slots.push(Slot::Marker);
            }
        }
    }

    fn init(&mut self, id: usize, current: Option<i16>) -> Answer {
        let open = self.open(id);
        let name = &mut self.names[id];
        if current.is_some() && current == name.last {
            return Answer::Identity(name.producer, name.epoch);
        }
        if current.is_some_and(|current| current != name.epoch) {
            return Answer::Code(90);
        }
        name.last = current;
        name.epoch += 1;
        name.ended = None;
        let answer = Answer::Identity(name.producer, name.epoch);
        open.into_iter().for_each(|txn| self.finish(txn, Fate::Aborted));
        answer
    }

    fn add(&mut self, id: usize, old: bool, add: impl FnOnce(&mut Txn)) -> Answer {
        if old {
            return Answer::Code(90);
        }
        let txn = self.going_on(id);
        add(&mut self.txns[txn]);
        Answer::Ok
    }

    fn append(&mut self, id: usize, partition: usize, batch: (i16, i32, u32), v2: bool) -> Answer {
        let (epoch, first, count) = batch;
        if epoch != self.names[id].epoch {
            return Answer::Code(47);
        }
        let producer = (self.names[id].producer, epoch);
        let mine = |it: &&OldBatch| it.partition == partition && it.producer == producer;
        let (kept, all) = {
            let all: Vec<&OldBatch> = self.batches.iter().filter(mine).collect();
            let kept = all.iter().rev().take(5).find(|it| it.first == first && it.count == count);
            (kept.map(|it| (it.base, it.txn)), all.last().map_or(0, |it| it.first + it.count as i32))
        };
        if let Some((base, txn)) = kept {
            return match self.txns[txn].fate {
                Fate::Aborted => Answer::Code(45),
                _ => Answer::At { base, duplicate: true },
            };
        }
        if first + (count as i32) <= all {
            return Answer::Code(46);
        }
        if first != all {
            return Answer::Code(45);
        }
        let part = self.open(id).is_some_and(|txn| self.txns[txn].partitions.contains(&partition));
        if !part && !v2 {
            return Answer::Code(120);
        }
        let txn = self.going_on(id);
        self.txns[txn].partitions.push(partition);
        let base = self.slots[partition].len() as u64;
        self.slots[partition].extend((0..count).map(|_| Slot::Record { txn: Some(txn) }));
        self.batches.push(OldBatch { partition, producer, first, count, base, txn });
        Answer::At { base, duplicate: false }
    }

    fn offsets(&mut self, id: usize, partition: usize, at: u64, v2: bool) -> Answer {
        let part = self.open(id).is_some_and(|txn| self.txns[txn].offsets_added);
        if !part && !v2 {
            return Answer::Code(120);
        }
        if at > self.slots[partition].len() as u64 {
            return Answer::Code(1);
        }
        let txn = self.going_on(id);
        self.txns[txn].offsets_added = true;
        self.positions.push(Position { partition, at, txn: Some(txn) });
        Answer::Ok
    }

    fn end(&mut self, id: usize, commit: bool, v2: bool, epoch: i16) -> Answer {
        let open = self.open(id);
        let name = &mut self.names[id];
        if v2
            && Some(epoch) == name.last
            && open.is_none()
            && let Some((outcome, true)) = name.ended
        {
            return match outcome == commit {
                true => Answer::Identity(name.producer, name.epoch),
                false => Answer::Code(48),
            };
        }
        if epoch != name.epoch {
            return Answer::Code(90);
        }
        let ok = match (open, v2) {
            (Some(_), _) => true,
            (None, true) => !commit,
            (None, false) => {
                return match name.ended.is_some_and(|(outcome, _)| outcome == commit) {
                    true => Answer::Identity(name.producer, name.epoch),
                    false => Answer::Code(48),
                };
            }
        };
        if !ok {
            return Answer::Code(48);
        }
        name.ended = Some((commit, v2));
        if v2 {
            name.last = Some(name.epoch);
            name.epoch += 1;
        }
        let answer = Answer::Identity(name.producer, name.epoch);
        let fate = if commit { Fate::Committed } else { Fate::Aborted };
        open.into_iter().for_each(|txn| self.finish(txn, fate));
        answer
    }

    fn pass(&mut self) {
        for id in [0, 1] {
            if let Some(txn) = self.open(id)
                && self.now_ms - self.txns[txn].started_ms >= i64::from(TIMEOUT_MS)
            {
                let name = &mut self.names[id];
                name.last = Some(name.epoch);
                name.epoch += 1;
                name.ended = Some((false, false));
                self.finish(txn, Fate::Aborted);
            }
        }
    }

    fn fate(&self, txn: Option<usize>) -> Fate {
        txn.map_or(Fate::Committed, |txn| self.txns[txn].fate)
    }

    fn last_stable(&self, partition: usize) -> u64 {
        let slots = &self.slots[partition];
        let open = |slot: &Slot| matches!(slot, Slot::Record { txn } if self.fate(*txn) == Fate::Open);
        slots.iter().position(open).unwrap_or(slots.len()) as u64
    }

    /// The offsets of all records that are committed.
    fn committed(&self, partition: usize) -> Vec<u64> {
        let shown = |slot: &Slot| matches!(slot, Slot::Record { txn } if self.fate(*txn) == Fate::Committed);
        let slots = self.slots[partition].iter().zip(0u64..);
        slots.filter(|(slot, _)| shown(slot)).map(|(_, offset)| offset).collect()
    }

    /// Of all positions that count the one that was said last.
    fn position(&self, partition: usize) -> Option<u64> {
        let counts = |it: &&Position| it.partition == partition && self.fate(it.txn) == Fate::Committed;
        self.positions.iter().rev().find(counts).map(|it| it.at)
    }

    fn is_pending(&self, partition: usize) -> bool {
        self.positions.iter().any(|it| it.partition == partition && self.fate(it.txn) == Fate::Open)
    }
}

/// What stands beside a position: nothing beside every other one.
fn text_of(at: u64) -> String {
    if at.is_multiple_of(2) { String::new() } else { format!("at {at}") }
}

struct Pair {
    log: Log,
    model: Model,
    partitions: [Partition; PARTITIONS],
    /// What became part of each partition, as the shell has it.
    stored: [Vec<Batch>; PARTITIONS],
}

impl Pair {
    fn new() -> Pair {
        let mut log = Log::default();
        let topic = log.topic("t", PARTITIONS as u32);
        let name = |log: &mut Log, id| {
            let (producer, epoch) = log.init(id);
            Name { producer: producer.0, epoch, last: None, ended: None }
        };
        let names = [name(&mut log, NAMES[0]), name(&mut log, NAMES[1])];
        let model = Model {
            slots: Default::default(),
            batches: vec![],
            txns: vec![],
            positions: vec![],
            names,
            now_ms: 0,
        };
        Pair { log, model, partitions: [part(topic, 0), part(topic, 1)], stored: Default::default() }
    }

    fn sender(&self, id: usize, old: bool, v2: bool) -> TransactionSender {
        let name = &self.model.names[id];
        let epoch = name.epoch - i16::from(old);
        let protocol = if v2 { Protocol::V2 } else { Protocol::V1 };
        sender(NAMES[id], (ProducerId(name.producer), epoch), protocol)
    }

    /// Both do it; the answers are the same.
    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        // An epoch before the first is none.
        let old_of = |id: usize, old: bool| old && self.model.names[id].epoch > 0;
        let op = match op.clone() {
            Op::AddPartition { id, partition, old } => {
                Op::AddPartition { id, partition, old: old_of(id, old) }
            }
            Op::Append { id, partition, count, v2, old, again } => {
                Op::Append { id, partition, count, v2, old: old_of(id, old), again }
            }
            Op::End { id, commit, v2, old } => Op::End { id, commit, v2, old: old_of(id, old) },
            op => op,
        };
        let (command, expected) = match op {
            Op::Restart => {
                self.log.restart();
                return Ok(());
            }
            Op::Pass { ms } => {
                self.model.now_ms += ms;
                self.log.time_ms += ms;
                self.model.pass();
                (Command::Tick, Answer::Ok)
            }
            Op::Init { id, current } => {
                let name = &self.model.names[id];
                let epoch = match current {
                    Current::None => None,
                    Current::Now => Some(name.epoch),
                    Current::Last => Some(name.epoch - 1),
                };
                let current = epoch.map(|epoch| (ProducerId(name.producer), epoch));
                (init(NAMES[id], current).into(), self.model.init(id, epoch))
            }
            Op::AddPartition { id, partition, old } => {
                let (sender, partitions) = (self.sender(id, old, false), vec![self.partitions[partition]]);
                let expected = self.model.add(id, old, |txn| txn.partitions.push(partition));
                (Transactional::AddPartitions { sender, partitions }.into(), expected)
            }
            Op::AddOffsets { id } => {
                let sender = self.sender(id, false, false);
                let expected = self.model.add(id, false, |txn| txn.offsets_added = true);
                (Transactional::AddOffsets { sender, group: "g".into() }.into(), expected)
            }
            Op::Append { id, partition, count, v2, old, again } => {
                let sender = self.sender(id, old, v2);
                let producer = (sender.producer.0, sender.producer_epoch);
                let mine = |it: &&OldBatch| it.partition == partition && it.producer == producer;
                let newest = self.model.batches.iter().rfind(mine);
                let (first, count) = match newest {
                    Some(newest) if again => (newest.first, newest.count),
                    Some(newest) => (newest.first + newest.count as i32, count),
                    None => (0, count),
                };
                let batch = transactional((sender.producer, sender.producer_epoch), first, count);
                let request =
                    append_transactional(NAMES[id], sender.protocol, self.partitions[partition], batch);
                (request.into(), self.model.append(id, partition, (sender.producer_epoch, first, count), v2))
            }
            Op::Plain { partition, count } => {
                let slots = &mut self.model.slots[partition];
                let base = slots.len() as u64;
                slots.extend((0..count).map(|_| Slot::Record { txn: None }));
                (append(self.partitions[partition], records(count)), Answer::At { base, duplicate: false })
            }
            Op::Offsets { id, partition, v2, at } => {
                let position = OffsetCommit {
                    partition: self.partitions[partition],
                    offset: at,
                    reset: true,
                    metadata: text_of(at).as_str().into(),
                };
                let sender = self.sender(id, false, v2);
                let request = Transactional::CommitOffsets {
                    sender,
                    group: "g".into(),
                    member: None,
                    offsets: vec![position],
                };
                (request.into(), self.model.offsets(id, partition, at, v2))
            }
            Op::PlainOffsets { partition, at } => {
                let position = OffsetCommit {
                    partition: self.partitions[partition],
                    offset: at,
                    reset: true,
                    metadata: text_of(at).as_str().into(),
                };
                let expected = match at <= self.model.slots[partition].len() as u64 {
                    true => {
                        self.model.positions.push(Position { partition, at, txn: None });
                        Answer::Ok
                    }
                    false => Answer::Code(1),
                };
                (commit_offsets("g", None, &[position]), expected)
            }
            Op::End { id, commit, v2, old } => {
                let sender = self.sender(id, old, v2);
                let epoch = sender.producer_epoch;
                (Transactional::End { sender, commit }.into(), self.model.end(id, commit, v2, epoch))
            }
        };
        let applied = self.log.apply(&command);
        for placement in &applied.placements {
            let batch = match &command {
                Command::Append { batch, .. } => batch,
                Command::Transactional(request) => match &**request {
                    Transactional::Append { batch, .. } => batch,
                    other => panic!("{other:?} places nothing"),
                },
                other => panic!("{other:?} places nothing"),
            };
            let batch = batch.placed(placement.base_offset, placement.leader_epoch);
            self.stored[placement.partition.index as usize].push(batch);
        }
        for marker in &applied.markers {
            self.stored[marker.partition.index as usize].push(marker.batch());
        }
        let answer = match applied.reply {
            Reply::Refused(refusal) => Answer::Code(refusal.kafka_code()),
            Reply::Transactional { producer, producer_epoch } => Answer::Identity(producer.0, producer_epoch),
            Reply::Appended { base_offset: base, duplicate, .. } => Answer::At { base, duplicate },
            _ => Answer::Ok,
        };
        prop_assert_eq!(answer, expected, "{:?}", op);
        self.compare()
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        for (index, at) in self.partitions.iter().enumerate() {
            let state = self.log.state.partition(*at).expect("the test has made it");
            let (lso, end) = (self.model.last_stable(index), self.model.slots[index].len() as u64);
            prop_assert_eq!((state.last_stable_offset(), state.end), (lso, end));
            let committed = self.model.committed(index);
            // Up to the end, as a view reads, and up to the last stable offset, as others do; from anywhere.
            for (from, to) in [(0, end), (0, lso), (lso / 2, lso), (end / 2, end)] {
                let undecided = state.undecided_between(from, to);
                let batches = self.stored[index].iter().filter(|it| it.next_offset() > from);
                let shown = batches.filter(|it| it.base_offset() < to && undecided.shows(it));
                let shown: Vec<u64> = shown.flat_map(|it| it.base_offset()..it.next_offset()).collect();
                let expected = committed.iter().copied().filter(|offset| *offset < to);
                let first = shown.first().copied().unwrap_or(0);
                let expected: Vec<u64> = expected.filter(|offset| *offset >= first.min(from)).collect();
                let missed: Vec<_> =
                    expected.iter().filter(|it| **it >= from && !shown.contains(it)).collect();
                prop_assert!(missed.is_empty(), "{from}..{to} misses {missed:?}");
                let wrong: Vec<_> = shown.iter().filter(|it| !committed.contains(it)).collect();
                prop_assert!(wrong.is_empty(), "{from}..{to} shows {wrong:?}");
            }
            let committed = self.log.state.committed_offset("g", *at);
            let committed = committed.map(|it| (it.offset, it.metadata.as_str().to_string()));
            let expected = self.model.position(index).map(|at| (at, text_of(at)));
            prop_assert_eq!(committed, expected);
            prop_assert_eq!(self.log.state.stable_offset("g", *at).is_err(), self.model.is_pending(index));
        }
        let open = self.model.txns.iter().filter(|txn| txn.fate == Fate::Open);
        let deadline = open.clone().map(|txn| txn.started_ms + i64::from(TIMEOUT_MS)).min();
        prop_assert_eq!(self.log.state.open_transactions().count(), open.count());
        if let Some(deadline) = deadline {
            prop_assert_eq!(self.log.state.next_deadline_ms(), deadline, "it is exact");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn tx_2_the_coordinator_answers_as_the_model_and_readers_see_what_it_says(
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut pair = Pair::new();
        for op in &ops {
            pair.step(op)?;
        }
    }
}
