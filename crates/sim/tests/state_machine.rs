//! The model against the shard, step by step, with crashes and retries as steps; a failing sequence shrinks.
//!
//! What the enumeration doesn't do: a command is cut off by a crash, and sent again byte by byte until it is
//! answered. It must then be in the log exactly once.
#![allow(clippy::unwrap_used)]

use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp};
use exactlog_core::command::{
    Command, Commit, CommitToken, Dedup, GroupOffsets, OffsetCommit, OffsetMetadata, TimerEffects,
    TopicConfig,
};
use exactlog_core::ids::{DedupId, Partition, ProducerId};
use exactlog_sim::check::{self, Owed};
use exactlog_sim::disk::{SimDisk, Survival};
use exactlog_sim::ledger::Ledger;
use exactlog_storage::shard::{Options, Shard, Submission};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

/// A command, as far as it doesn't depend on what the log holds.
#[derive(Clone, Debug)]
enum Op {
    CreateTopic,
    InitProducer,
    Append {
        partition: usize,
        len: usize,
    },
    Sequenced {
        partition: usize,
        len: usize,
    },
    /// With an id instead of a sequence.
    WithId {
        partition: usize,
        len: usize,
    },
    Commit {
        partitions: Vec<usize>,
        len: usize,
        ack: bool,
    },
    Trim {
        partition: usize,
    },
}

#[derive(Clone, Debug)]
enum Step {
    Group(Vec<Op>),
    Idle,
    Checkpoint,
    CloseAndOpen,
    KillAndOpen,
    LosePowerAndOpen(u64),
    /// The command is cut off after so many operations of the disk, by a kill or a power loss, and sent again.
    CutOff {
        op: Op,
        after: u64,
        power: Option<u64>,
    },
}

/// Topic and producer exist; what else there is only the shard's own model knows.
#[derive(Clone, Debug)]
struct Reference;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::CreateTopic),
        1 => Just(Op::InitProducer),
        4 => (0..4usize, 0..5000usize).prop_map(|(partition, len)| Op::Append { partition, len }),
        5 => identified(),
        1 => (0..4usize).prop_map(|partition| Op::Trim { partition }),
    ]
}

/// A command that can be sent again.
fn identified() -> impl Strategy<Value = Op> {
    let commit = (prop::collection::vec(0..4usize, 0..4), 0..3000usize, any::<bool>());
    prop_oneof![
        (0..4usize, 0..5000usize).prop_map(|(partition, len)| Op::Sequenced { partition, len }),
        (0..4usize, 0..5000usize).prop_map(|(partition, len)| Op::WithId { partition, len }),
        commit.prop_map(|(partitions, len, ack)| Op::Commit { partitions, len, ack }),
    ]
}

impl ReferenceStateMachine for Reference {
    type State = Reference;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Reference> {
        Just(Reference).boxed()
    }

    fn transitions(_: &Reference) -> BoxedStrategy<Step> {
        prop_oneof![
            8 => prop::collection::vec(op(), 1..4).prop_map(Step::Group),
            2 => Just(Step::Idle),
            2 => Just(Step::Checkpoint),
            1 => Just(Step::CloseAndOpen),
            1 => Just(Step::KillAndOpen),
            1 => any::<u64>().prop_map(Step::LosePowerAndOpen),
            4 => (identified(), 0..8u64, any::<Option<u64>>())
                .prop_map(|(op, after, power)| Step::CutOff { op, after, power }),
        ]
        .boxed()
    }

    fn apply(state: Reference, _: &Step) -> Reference {
        state
    }
}

struct Log {
    disk: SimDisk,
    shard: Option<Shard>,
    ledger: Ledger,
    opens: u64,
    last_term: u32,
    /// The lsn of the last checkpoint of this open.
    checkpoint_lsn: Option<u64>,
}

impl Log {
    fn new() -> Log {
        let (disk, ledger) = (SimDisk::new(), Ledger::new());
        let mut log = Log { disk, shard: None, ledger, opens: 0, last_term: 0, checkpoint_lsn: None };
        log.open(0, 0, false);
        log.group(&[Op::CreateTopic, Op::InitProducer]);
        log
    }

    fn options() -> Options {
        Options {
            journal_file_bytes: 32 << 10,
            journal_ring_bytes: 128 << 10,
            tail_cache_bytes: 4096,
            ..Options::default()
        }
    }

    fn open(&mut self, lowest: u64, highest: u64, closing: bool) {
        self.opens += 1;
        self.checkpoint_lsn = None;
        let image = self.disk.process_kill();
        let (shard, report) = check::open(&self.disk, &Log::options(), self.opens).unwrap().unwrap();
        let owed = Owed { lowest, highest, last_term: self.last_term, closing, untouched: true };
        let lsn = check::recovered(&shard, &report, &self.ledger, &owed, &image).unwrap();
        self.ledger.cut(lsn);
        self.last_term = shard.term();
        self.shard = Some(shard);
        self.run(vec![Command::Open]);
    }

    fn submissions(&self, commands: Vec<Command>) -> Vec<Submission> {
        let time_ms = 1_700_000_000_000 + self.ledger.last_lsn() as i64;
        commands.into_iter().map(|command| Submission { time_ms, command }).collect()
    }

    /// Executes commands, each answered as the model says.
    fn run(&mut self, commands: Vec<Command>) {
        let group = self.submissions(commands);
        let shard = self.shard.as_mut().unwrap();
        let before = self.ledger.last_lsn();
        let promised = self.ledger.submit(shard.term(), &group);
        let applied = shard.execute(&group).unwrap();
        for (applied, promised) in applied.iter().zip(promised) {
            let expected = promised.expected.unwrap();
            assert!(expected.is_met_by(&applied.reply), "{:?}, expected {expected:?}", applied.reply);
        }
        self.ledger.show(before + 1).unwrap();
        self.ledger.compare_with_model().unwrap();
    }

    fn group(&mut self, ops: &[Op]) {
        for op in ops {
            // One by one, since what a command is depends on what those before it did.
            let command = self.command(op);
            self.run(vec![command]);
        }
    }

    fn cut_off(&mut self, op: &Op, after: u64, power: Option<u64>) {
        let command = self.command(op);
        let group = self.submissions(vec![command.clone()]);
        let before = self.ledger.last_lsn();
        let mut shard = self.shard.take().unwrap();
        self.ledger.submit(shard.term(), &group);
        self.disk.set_stop_after(self.disk.ops() + after);
        let answered = shard.execute(&group).is_ok();
        drop(shard);
        self.crash(power);
        let highest = self.ledger.last_lsn();
        self.open(if answered { highest } else { before }, highest, false);
        // Whoever didn't get the answer asks again, twice to be sure.
        self.run(vec![command.clone()]);
        self.run(vec![command]);
    }

    fn crash(&mut self, power: Option<u64>) {
        self.disk = match power {
            None => self.disk.process_kill(),
            Some(seed) => self.disk.power_loss(&mut Survival::random(seed)),
        };
    }

    fn command(&self, op: &Op) -> Command {
        let model = self.ledger.model();
        let partitions = model.partitions();
        let at = |index: &usize| partitions[index % partitions.len()];
        let version = |at: Partition| model.topics[&at.topic].config_version;
        match op {
            Op::CreateTopic => Command::CreateTopic {
                name: format!("topic-{}", model.topics.len()),
                partitions: 2,
                config: TopicConfig { segment_bytes: 8192, ..TopicConfig::default() },
            },
            Op::InitProducer => Command::InitProducer { name: Some("billing".to_owned()) },
            Op::Append { partition, len } => {
                let (partition, batch) = (at(partition), batch(*len, None));
                Command::Append { partition, config_version: version(partition), expected_end: None, batch }
            }
            Op::Sequenced { partition, len } => {
                let partition = at(partition);
                let (id, epoch) = (ProducerId(1), model.producers[&ProducerId(1)].producer_epoch);
                let base_sequence = model.partition(partition).unwrap().next_sequence(id, epoch);
                let stamp = ProducerStamp { id, epoch, base_sequence };
                let batch = batch(*len, Some(stamp));
                Command::Append { partition, config_version: version(partition), expected_end: None, batch }
            }
            Op::WithId { partition, len } => {
                let partition = at(partition);
                let sender = (ProducerId(1), model.producers[&ProducerId(1)].producer_epoch);
                let ids = vec![DedupId(u128::from(model.lsn).to_le_bytes())];
                let (config_version, batch) = (version(partition), batch(*len, None));
                Dedup::Append { sender, partition, config_version, ids, batch }.into()
            }
            Op::Commit { partitions: chosen, len, ack } => {
                let producer = &model.producers[&ProducerId(1)];
                let token = CommitToken {
                    producer: ProducerId(1),
                    producer_epoch: producer.producer_epoch,
                    number: producer.last_number() + 1,
                };
                let batches = chosen.iter().map(|index| (at(index), batch(*len, None))).collect();
                let position = |at: Partition| {
                    let offset = model.partition(at).unwrap().end;
                    let offsets = vec![OffsetCommit {
                        partition: at,
                        offset,
                        reset: false,
                        metadata: OffsetMetadata::default(),
                    }];
                    GroupOffsets { group: "readers".to_owned(), member: None, offsets }
                };
                let offsets = if *ack { vec![position(partitions[0])] } else { Vec::new() };
                let cursor = Some(token.number.to_le_bytes().to_vec().into());
                let (conditions, marks, timers) = (Vec::new(), Vec::new(), TimerEffects::default());
                let commit = Commit {
                    token,
                    cursor,
                    batches,
                    offsets,
                    conditions,
                    marks,
                    timers,
                    table_writes: Vec::new(),
                };
                Command::Commit(Box::new(commit))
            }
            Op::Trim { partition } => {
                let partition = at(partition);
                Command::Trim { partition, start: model.partition(partition).unwrap().end / 2 }
            }
        }
    }
}

fn batch(len: usize, stamp: Option<ProducerStamp>) -> Batch {
    let mut builder = BatchBuilder::new(0);
    builder.append(1_700_000_000_000, None, Some(&vec![b'v'; len]), &[]);
    builder.finish(stamp)
}

struct AgainstTheModel;

impl StateMachineTest for AgainstTheModel {
    type SystemUnderTest = Log;
    type Reference = Reference;

    fn init_test(_: &Reference) -> Log {
        Log::new()
    }

    fn apply(mut log: Log, _: &Reference, step: Step) -> Log {
        let last = log.ledger.last_lsn();
        match step {
            Step::Group(ops) => log.group(&ops),
            Step::Idle => log.shard.as_mut().unwrap().idle().unwrap(),
            Step::Checkpoint => {
                if log.checkpoint_lsn == Some(last) {
                    // A second checkpoint at one lsn makes the shard move on by itself.
                    log.run(vec![Command::Tick]);
                }
                log.shard.as_mut().unwrap().checkpoint().unwrap();
                log.checkpoint_lsn = Some(log.ledger.last_lsn());
            }
            Step::CloseAndOpen => {
                log.shard.take().unwrap().close().unwrap();
                log.crash(None);
                log.open(last, last, true);
            }
            Step::KillAndOpen => {
                log.shard = None;
                log.crash(None);
                log.open(last, last, false);
            }
            Step::LosePowerAndOpen(seed) => {
                log.shard = None;
                log.crash(Some(seed));
                log.open(last, last, false);
            }
            Step::CutOff { op, after, power } => log.cut_off(&op, after, power),
        }
        log
    }

    fn check_invariants(log: &Log, _: &Reference) {
        let shard = log.shard.as_ref().unwrap();
        let lsn = log.ledger.last_lsn();
        check::same_state(&shard.state(), log.ledger.state(lsn)).unwrap();
        check::records(shard, &log.ledger, lsn).unwrap();
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_shard_answers_and_holds_what_the_model_does(sequential 1..40 => AgainstTheModel);
}

#[test]
fn a_lost_answer_is_given_again() {
    let mut log = Log::new();
    for after in 0..6 {
        let op = Op::Commit { partitions: vec![0, 1, 0], len: 600, ack: true };
        log.cut_off(&op, after, None);
        log.cut_off(&Op::Sequenced { partition: 1, len: 10 }, after, Some(after));
        log.cut_off(&Op::WithId { partition: 2, len: 10 }, after, Some(after));
    }
    let model = log.ledger.model();
    assert_eq!(model.producers[&ProducerId(1)].last_number(), 6);
    let stored: usize = model.stored.values().map(Vec::len).sum();
    assert_eq!(stored, 6 * 3 + 6 + 6);
}
