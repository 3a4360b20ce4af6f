//! An obvious second implementation, compared with `apply` answer by answer.
//!
//! The model remembers everything: each record ever appended, each commit ever made, each position ever stored. It
//! searches instead of keeping windows, and counts in i64. It shares no code with what it checks, and knows no
//! groups with members, no expiry and no wrap of sequences; those have their own tests.

use crate::common::*;
use exactlog_core::command::*;
use exactlog_core::ids::{Partition, ProducerId};
use exactlog_core::reply::{Refusal, Reply};
use proptest::prelude::*;

const PARTITIONS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    /// Sequence and epoch are near those that the model expects, so that most batches mean something.
    Append {
        partition: usize,
        producer: Option<Stamp>,
        count: u32,
        expected_end: Option<i64>,
    },
    Commit {
        name: usize,
        number_back: u64,
        old_epoch: bool,
        batches: Vec<(usize, u32)>,
        position: Option<Position>,
        end: Option<i64>,
    },
    Positions(Position),
    TakeOver(usize),
    Trim {
        partition: usize,
        before_end: u64,
    },
    Restart,
}

#[derive(Clone, Copy, Debug)]
struct Stamp {
    producer: usize,
    epoch_step: i16,
    sequence_step: i64,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    group: usize,
    partition: usize,
    at: u64,
    reset: bool,
    /// How long the text beside it is.
    text: usize,
}

fn op() -> impl Strategy<Value = Op> {
    let stamp = (
        0..3usize,
        prop_oneof![12 => Just(0i16), 1 => -1..2i16],
        prop_oneof![4 => Just(0i64), 6 => -9..2i64],
    )
        .prop_map(|(producer, epoch_step, sequence_step)| Stamp { producer, epoch_step, sequence_step });
    let position = || {
        let text = prop_oneof![4 => Just(0), 3 => 1..4usize, 1 => Just(4_096), 1 => Just(4_097)];
        (0..2usize, 0..PARTITIONS, 0..30u64, prop::bool::weighted(0.2), text)
            .prop_map(|(group, partition, at, reset, text)| Position { group, partition, at, reset, text })
    };
    let miss = || prop::option::weighted(0.3, prop_oneof![3 => Just(0i64), 1 => -1..2i64]);
    let batches = prop::collection::vec((0..PARTITIONS, 1..4u32), 0..3);
    prop_oneof![
        10 => (0..PARTITIONS, prop::option::weighted(0.9, stamp), 1..4u32, miss()).prop_map(
            |(partition, producer, count, expected_end)| Op::Append { partition, producer, count, expected_end }
        ),
        8 => (0..2usize, prop_oneof![3 => Just(0u64), 2 => 1..9u64], prop::bool::weighted(0.15), batches,
              prop::option::weighted(0.4, position()), miss())
            .prop_map(|(name, number_back, old_epoch, batches, position, end)| Op::Commit {
                name, number_back, old_epoch, batches, position, end
            }),
        4 => position().prop_map(Op::Positions),
        1 => (0..2usize).prop_map(Op::TakeOver),
        1 => (0..PARTITIONS, 0..9u64).prop_map(|(partition, before_end)| Op::Trim { partition, before_end }),
        1 => Just(Op::Restart),
    ]
}

/// What both say, without what only one of them knows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Appended { base_offset: u64, duplicate: bool },
    Committed { base_offsets: Vec<(usize, u64)>, duplicate: bool },
    CommittedBefore,
    Stored,
    Producer { epoch: i16, last_number: u64 },
    Start(u64),
    Refused(&'static str),
}

#[derive(Clone, Copy, Debug)]
struct OldBatch {
    producer: i64,
    epoch: i16,
    first: i64,
    last: i64,
    base_offset: u64,
}

#[derive(Default)]
struct ModelPartition {
    records: u64,
    start: u64,
    batches: Vec<OldBatch>,
}

#[derive(Default)]
struct ModelName {
    epoch: i16,
    /// Every commit: its epoch, and the base offsets.
    commits: Vec<(i16, Vec<(usize, u64)>)>,
    /// How many commits there were when the epoch ended.
    ends: Vec<usize>,
}

#[derive(Default)]
struct Model {
    partitions: [ModelPartition; PARTITIONS],
    names: [ModelName; 2],
    /// All positions of a group and partition with the length of the text beside them, the valid one last.
    positions: Vec<(usize, usize, u64, usize)>,
}

impl Model {
    /// The stamp that a step leads to: the model's own idea of what comes next, moved by the step.
    fn stamp(&self, partition: usize, step: Stamp) -> (i64, i16, i64) {
        let producer = step.producer as i64 + 1;
        let newest = self.partitions[partition].batches.iter().rfind(|it| it.producer == producer);
        let (epoch, next) = newest.map_or((1, 0), |it| (it.epoch, it.last + 1));
        ((producer), (epoch + step.epoch_step).max(0), (next + step.sequence_step).max(0))
    }

    fn append(
        &mut self,
        partition: usize,
        stamp: Option<(i64, i16, i64)>,
        count: u32,
        expected_end: Option<u64>,
    ) -> Answer {
        let it = &mut self.partitions[partition];
        if let Some((producer, epoch, first)) = stamp {
            let last = first + i64::from(count) - 1;
            let all: Vec<_> = it.batches.iter().filter(|it| it.producer == producer).collect();
            if let Some(newest) = all.last() {
                let same: Vec<_> = all.iter().filter(|it| it.epoch == epoch).collect();
                let window = &same[same.len().saturating_sub(5)..];
                if epoch < newest.epoch {
                    return Answer::Refused("fenced");
                }
                if epoch > newest.epoch && first != 0 {
                    return Answer::Refused("gap");
                }
                if epoch == newest.epoch {
                    if let Some(hit) = window.iter().find(|it| (it.first, it.last) == (first, last)) {
                        return Answer::Appended { base_offset: hit.base_offset, duplicate: true };
                    }
                    if last <= newest.last {
                        return Answer::Refused("older");
                    }
                    if first != newest.last + 1 {
                        return Answer::Refused("gap");
                    }
                }
            }
        }
        if expected_end.is_some_and(|expected| expected != it.records) {
            return Answer::Refused("end");
        }
        let base_offset = it.records;
        it.records += u64::from(count);
        if let Some((producer, epoch, first)) = stamp {
            let last = first + i64::from(count) - 1;
            it.batches.push(OldBatch { producer, epoch, first, last, base_offset });
        }
        Answer::Appended { base_offset, duplicate: false }
    }

    fn position_fault(&self, position: Position) -> Option<&'static str> {
        if position.text > 4_096 {
            return Some("text");
        }
        if position.at > self.partitions[position.partition].records {
            return Some("range");
        }
        let now = self.committed(position.group, position.partition).map_or(0, |it| it.0);
        (position.at < now && !position.reset).then_some("regress")
    }

    fn committed(&self, group: usize, partition: usize) -> Option<(u64, usize)> {
        self.positions.iter().rfind(|it| (it.0, it.1) == (group, partition)).map(|it| (it.2, it.3))
    }

    fn store(&mut self, position: Position) {
        self.positions.push((position.group, position.partition, position.at, position.text));
    }

    /// What is known of a commit with this epoch and number, if it isn't the next one.
    fn known(&self, name: usize, epoch: i16, number: u64) -> Option<Answer> {
        let name = &self.names[name];
        let index = usize::try_from(number).expect("tests count to few") - 1;
        let kept_from = name.commits.len().saturating_sub(5);
        if let Some((_, base_offsets)) =
            name.commits.get(index).filter(|it| it.0 == epoch && index >= kept_from)
        {
            return Some(Answer::Committed { base_offsets: base_offsets.clone(), duplicate: true });
        }
        if epoch == name.epoch {
            return (index < name.commits.len()).then_some(Answer::CommittedBefore);
        }
        if name.epoch - epoch > 5 {
            return Some(Answer::Refused("forgotten"));
        }
        match index < name.ends[epoch as usize] {
            true => Some(Answer::CommittedBefore),
            false => Some(Answer::Refused("fenced")),
        }
    }

    fn commit(
        &mut self,
        name: usize,
        epoch: i16,
        number: u64,
        batches: &[(usize, u32)],
        position: Option<Position>,
        end: Option<u64>,
    ) -> Answer {
        if let Some(known) = self.known(name, epoch, number) {
            return known;
        }
        if end.is_some_and(|end| end != self.partitions[0].records) {
            return Answer::Refused("end");
        }
        if let Some(fault) = position.and_then(|position| self.position_fault(position)) {
            return Answer::Refused(fault);
        }
        let mut base_offsets: Vec<(usize, u64)> = Vec::new();
        for (partition, count) in batches {
            if base_offsets.iter().all(|it| it.0 != *partition) {
                base_offsets.push((*partition, self.partitions[*partition].records));
            }
            self.partitions[*partition].records += u64::from(*count);
        }
        if let Some(position) = position {
            self.store(position);
        }
        self.names[name].commits.push((epoch, base_offsets.clone()));
        Answer::Committed { base_offsets, duplicate: false }
    }
}

/// The log under test and the model, side by side.
struct Pair {
    log: Log,
    model: Model,
    partitions: Vec<Partition>,
    names: Vec<ProducerId>,
}

impl Pair {
    fn new() -> Pair {
        let mut log = Log::default();
        let topic = log.topic("t", PARTITIONS as u32);
        let partitions = (0..PARTITIONS as u32).map(|index| part(topic, index)).collect();
        // Producers 1 to 3 have no name, so their epochs are the clients' own.
        for id in 1..=3 {
            assert_eq!(log.producer(None).0, ProducerId(id));
        }
        let names = ["p", "q"].map(|name| log.producer(Some(name)).0).to_vec();
        Pair { log, model: Model::default(), partitions, names }
    }

    /// The answers of the model and of the log.
    fn run(&mut self, op: &Op) -> (Answer, Answer) {
        let (expected, command) = match op {
            Op::Append { partition, producer, count, expected_end } => {
                let stamp = producer.map(|step| self.model.stamp(*partition, step));
                let expected_end = self.near_end(*partition, *expected_end);
                let batch = match stamp {
                    Some((id, epoch, first)) => produced((ProducerId(id), epoch), first as i32, *count),
                    None => records(*count),
                };
                let command = Command::Append {
                    partition: self.partitions[*partition],
                    config_version: 0,
                    expected_end,
                    batch,
                };
                (self.model.append(*partition, stamp, *count, expected_end), command)
            }
            Op::Commit { .. } => self.commit(op),
            Op::Positions(position) => {
                let command = commit_offsets(GROUPS[position.group], None, &[self.position(*position)]);
                let answer = match self.model.position_fault(*position) {
                    Some(fault) => Answer::Refused(fault),
                    None => {
                        self.model.store(*position);
                        Answer::Stored
                    }
                };
                (answer, command)
            }
            Op::TakeOver(name) => {
                let model = &mut self.model.names[*name];
                model.ends.push(model.commits.len());
                model.epoch += 1;
                let answer = Answer::Producer { epoch: model.epoch, last_number: model.commits.len() as u64 };
                (answer, Command::InitProducer { name: Some(["p", "q"][*name].into()) })
            }
            Op::Trim { partition, before_end } => {
                let it = &mut self.model.partitions[*partition];
                let start = it.records.saturating_sub(*before_end);
                it.start = it.start.max(start);
                (Answer::Start(it.start), Command::Trim { partition: self.partitions[*partition], start })
            }
            Op::Restart => {
                self.log.restart();
                return (Answer::Stored, Answer::Stored);
            }
        };
        let reply = self.log.reply(&command);
        (expected, answer(reply))
    }

    fn commit(&mut self, op: &Op) -> (Answer, Command) {
        let Op::Commit { name, number_back, old_epoch, batches, position, end } = op else {
            unreachable!("called for commits only")
        };
        let model = &self.model.names[*name];
        let number = (model.commits.len() as u64 + 1).saturating_sub(*number_back).max(1);
        let epoch = if *old_epoch { (model.epoch - 1).max(0) } else { model.epoch };
        let end = self.near_end(0, *end);
        let mut commit = commit_of(token((self.names[*name], epoch), number), &[]);
        commit.batches = batches.iter().map(|(it, count)| (self.partitions[*it], records(*count))).collect();
        commit.offsets = Vec::from_iter(position.map(|position| GroupOffsets {
            group: GROUPS[position.group].into(),
            member: None,
            offsets: vec![self.position(position)],
        }));
        commit.conditions =
            Vec::from_iter(end.map(|offset| Condition::EndOffset { partition: self.partitions[0], offset }));
        let answer = self.model.commit(*name, epoch, number, batches, *position, end);
        (answer, Command::Commit(Box::new(commit)))
    }

    fn near_end(&self, partition: usize, miss: Option<i64>) -> Option<u64> {
        miss.map(|miss| self.model.partitions[partition].records.saturating_add_signed(miss))
    }

    fn position(&self, position: Position) -> OffsetCommit {
        OffsetCommit {
            partition: self.partitions[position.partition],
            offset: position.at,
            reset: position.reset,
            metadata: "x".repeat(position.text).as_str().into(),
        }
    }

    fn check_same(&self) -> Result<(), TestCaseError> {
        for (index, model) in self.model.partitions.iter().enumerate() {
            let state = self.log.state.partition(self.partitions[index]).expect("it was made");
            prop_assert_eq!((state.start, state.end), (model.start, model.records));
            for (group, name) in GROUPS.iter().enumerate() {
                let committed = self.log.state.committed_offset(name, self.partitions[index]);
                let committed = committed.map(|it| (it.offset, it.metadata.as_str().len()));
                prop_assert_eq!(committed, self.model.committed(group, index));
            }
        }
        Ok(())
    }
}

const GROUPS: [&str; 2] = ["g", "h"];

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Appended { base_offset, duplicate, .. } => Answer::Appended { base_offset, duplicate },
        Reply::Committed(it) => Answer::Committed {
            base_offsets: it.base_offsets.iter().map(|it| (it.0.index as usize, it.1)).collect(),
            duplicate: it.duplicate,
        },
        Reply::CommittedBefore => Answer::CommittedBefore,
        Reply::OffsetsCommitted => Answer::Stored,
        Reply::Producer { producer_epoch, last_number, .. } => {
            Answer::Producer { epoch: producer_epoch, last_number }
        }
        Reply::Trimmed { start_offset } => Answer::Start(start_offset),
        Reply::Refused(refusal) => Answer::Refused(match refusal {
            Refusal::ProducerFenced { .. } | Refusal::CommitFenced { .. } => "fenced",
            Refusal::OutOfOrderSequence { .. } => "gap",
            Refusal::DuplicateSequence { .. } => "older",
            Refusal::EndOffset { .. } => "end",
            Refusal::OffsetOutOfRange { .. } => "range",
            Refusal::OffsetRegress { .. } => "regress",
            Refusal::OffsetMetadataTooLarge { .. } => "text",
            Refusal::CommitForgotten { .. } => "forgotten",
            other => panic!("the model makes no command that is refused with {other:?}"),
        }),
        other => panic!("the model makes no command that is answered with {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn oa_3_apply_answers_as_the_obvious_model_does(ops in prop::collection::vec(op(), 1..120)) {
        let mut pair = Pair::new();
        for (index, op) in ops.iter().enumerate() {
            let (expected, actual) = pair.run(op);
            prop_assert_eq!(expected, actual, "step {}: {:?}", index, op);
            pair.check_same()?;
        }
    }
}
