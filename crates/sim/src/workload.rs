//! What a run does: seeded options, and seeded commands that fit what the log holds.
//!
//! Invariants:
//!   * everything follows from the seed and from what the generator is shown of the log
//!   * commands are mostly valid; a fixed share is wrong on purpose (stale epochs, gaps, failing conditions), and
//!     retries are sent byte by byte as they were

mod table;

use bytes::Bytes;
use exactlog_core::batch::{Batch, BatchBuilder, Compression, ProducerStamp, TimestampType};
use exactlog_core::codec;
use exactlog_core::command::{
    AtCap, CleanupPolicy, Command, Commit, CommitToken, Condition, ConfigChange, Dedup, DedupScope,
    GroupOffsets, Mark, NewTimer, OffsetCommit, OffsetMetadata, Protocol, TimerCommand, TimerEffects,
    TopicCompression, TopicConfig, TopicDurability, TransactionSender, Transactional,
};
use exactlog_core::ids::{DedupId, Partition, ProducerId, TimerId, TopicId};
use exactlog_storage::journal::{BLOCK_BYTES, FILE_HEADER_BYTES, FRAME_HEADER_BYTES};
use exactlog_storage::shard::{Durability, Options, Submission};

use crate::model::{Model, Standing};
use crate::rng::Random;
use std::time::Duration;

/// The options of a run, drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When an acknowledged command is safe.
    pub durability: Durability,
    /// Size of a journal file.
    pub journal_file_bytes: u64,
    /// How many journal files are kept.
    pub journal_files: u64,
    /// Size of the tail cache.
    pub tail_cache_bytes: u64,
    /// After how many of 12 groups something is done in the background: a flush, a checkpoint, a spare file.
    pub maintenance: u64,
    /// Whether the first command after each open is `Open`, as the journal's owner promises. Some runs don't, so
    /// that nothing hides behind that command's sync.
    pub submits_open: bool,
    /// How often the log is opened.
    pub lives: u64,
    /// Most groups of one life.
    pub groups: u64,
    /// Most commands of one group.
    pub commands: u64,
    /// Whether bodies may be larger than what the journal copies (16 KiB).
    pub large_bodies: bool,
    /// Whether payloads are made of journal bytes: of whole groups that are in some file, or of forged ones.
    pub journal_payloads: bool,
    /// In how many of 8 groups an operation fails.
    pub faults: u64,
    /// Whether every second life ends in a torn tail, and the one behind it is killed (a fixed course).
    pub torn_tails: bool,
    /// Whether it is mostly about old records: few partitions, small segments, many checkpoints, and nothing that
    /// fails.
    pub cleans: bool,
    /// How many ids of events are kept in memory.
    pub memory_entries: u64,
}

impl Plan {
    /// Draws the options.
    #[must_use]
    pub fn draw(random: &mut Random) -> Plan {
        let torn_tails = random.chance(1, 6);
        let sizes = [12, 16, 16, 32, 64];
        let large_bodies = random.chance(1, 8);
        let size_kib = if large_bodies { 64 } else { sizes[random.below(5) as usize] };
        // To the shard they are the same but for what its frames say.
        let weak = match size_kib {
            16 => Durability::Os,
            _ => Durability::Interval(Duration::from_secs(1)),
        };
        let cleans = !torn_tails && !large_bodies && random.chance(1, 4);
        let plan = Plan {
            durability: if random.chance(1, 3) { weak } else { Durability::Fsync },
            journal_file_bytes: size_kib * 1024,
            journal_files: 2 + random.below(6),
            tail_cache_bytes: [0, 2048, 1 << 20][random.below(3) as usize],
            maintenance: [0, 0, 2, 6, 12][random.below(5) as usize],
            submits_open: random.chance(3, 4),
            lives: if torn_tails { 5 } else { 1 + random.below(4) },
            groups: 2 + random.below(9),
            commands: 1 + random.below(6),
            large_bodies,
            journal_payloads: random.chance(1, 5),
            faults: if random.chance(1, 3) { 1 + random.below(3) } else { 0 },
            torn_tails,
            cleans,
            memory_entries: 200_000,
        };
        // Mostly about ids of events: so few stay in memory that nearly all of them are on disk.
        if !cleans && !torn_tails && !large_bodies && random.chance(1, 3) {
            let (groups, lives) = (8 + random.below(14), 1 + random.below(3));
            let memory_entries = [0, 2, 5][random.below(3) as usize];
            return Plan { groups, lives, commands: 4, memory_entries, ..plan };
        }
        match cleans {
            true => {
                let (groups, lives) = (10 + random.below(14), 1 + random.below(2));
                Plan {
                    groups,
                    lives,
                    commands: 6,
                    maintenance: 12,
                    faults: 0,
                    journal_payloads: false,
                    ..plan
                }
            }
            false => plan,
        }
    }

    /// Whether nearly all ids of events are on disk.
    #[must_use]
    pub fn goes_to_disk(&self) -> bool {
        self.memory_entries < 1_000
    }

    /// As the shard takes them.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            durability: self.durability,
            journal_file_bytes: self.journal_file_bytes,
            journal_ring_bytes: self.journal_files * self.journal_file_bytes,
            tail_cache_bytes: self.tail_cache_bytes,
            dedup_memory_entries: self.memory_entries,
            ..Options::default()
        }
    }
}

/// What the generator may know of the log's files.
pub struct Files<'a> {
    /// Some content of the journal's directory, for payloads.
    pub recorded: &'a dyn Fn(&mut Random) -> Option<Bytes>,
    /// A group that would be valid in the file that is being written, and states too much.
    pub forged: &'a dyn Fn(&mut Random) -> Option<Bytes>,
}

/// Makes commands.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Random,
    plan: Plan,
    time_ms: i64,
    /// Appends and commits that were sent, to be sent again.
    sent: Vec<Command>,
    names: u64,
}

const SENT_KEPT: usize = 24;
const PRODUCERS: [&str; 3] = ["billing", "orders", "audit"];
const TRANSACTIONAL_IDS: [&str; 2] = ["x", "y"];
const GROUPS: [&str; 2] = ["readers", "writers"];
const SCOPES: [&str; 2] = ["mail", "readers"];
/// So few that most of them are met again.
const IDS: u64 = 8;
const KEYS: [Option<&[u8]>; 4] = [None, Some(b"a"), Some(b"b"), Some(b"c")];

impl Generator {
    /// A generator for one run.
    #[must_use]
    pub fn new(random: Random, plan: Plan) -> Generator {
        Generator { random, plan, time_ms: 1_700_000_000_000, sent: Vec::new(), names: 0 }
    }

    /// The next group, for a log that the model describes. Never empty.
    pub fn group(&mut self, model: &Model, term: u32, files: &Files<'_>) -> Vec<Submission> {
        if self.plan.journal_payloads
            && self.random.chance(1, 3)
            && let Some(submission) = self.journal_payload(model, files)
        {
            return vec![submission];
        }
        let mut scratch = model.clone();
        let room = self.plan.journal_file_bytes - FILE_HEADER_BYTES;
        let (mut group, mut bytes) = (Vec::new(), 0);
        for _ in 0..=self.random.below(self.plan.commands) {
            let command = self.command(&scratch);
            let submission = self.submission(command);
            bytes += frame_len(&submission);
            if bytes > room && !group.is_empty() {
                break;
            }
            scratch.apply(term, submission.time_ms, &submission.command);
            group.push(submission);
        }
        group
    }

    /// What retention asks for.
    pub fn trims(&mut self, due: Vec<(Partition, u64)>) -> Vec<Submission> {
        let trim = |(partition, start)| self.submission(Command::Trim { partition, start });
        due.into_iter().map(trim).collect()
    }

    /// A run of event ids that was written.
    pub fn run_ready(&mut self, command: Command) -> Submission {
        self.submission(command)
    }

    /// The log's time.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// The first command after an open.
    pub fn open(&mut self) -> Submission {
        self.submission(Command::Open)
    }

    fn submission(&mut self, command: Command) -> Submission {
        self.time_ms += self.random.below(50) as i64;
        let again = matches!(
            command,
            Command::Append { .. }
                | Command::Commit(_)
                | Command::Transactional(_)
                | Command::Timer(_)
                | Command::Dedup(_)
        );
        if again {
            if self.sent.len() == SENT_KEPT {
                self.sent.remove(0);
            }
            self.sent.push(command.clone());
        }
        Submission { time_ms: self.time_ms, command }
    }

    fn command(&mut self, model: &Model) -> Command {
        let mut partitions = model.plain_partitions();
        if partitions.is_empty() || model.producers.is_empty() {
            return self.beginning(partitions.is_empty());
        }
        if self.random.chance(1, 40) {
            // What is asked of a topic may be asked of a table, too.
            partitions = model.partitions();
        }
        if self.plan.cleans && self.random.chance(1, 2) {
            return match model.tables.is_empty() || self.random.chance(1, 2) {
                true => self.append(model, &partitions),
                false => self.commit(model, &partitions),
            };
        }
        if self.random.chance(1, 10) {
            return self.table(model, &partitions);
        }
        if self.random.chance(1, 6) {
            return self.timer(model, &partitions);
        }
        // Where ids go to disk there are many.
        let one_in = if self.plan.goes_to_disk() { 2 } else { 6 };
        if self.random.chance(1, one_in) {
            return self.dedup(model, &partitions);
        }
        match self.random.below(100) {
            0..30 => self.append(model, &partitions),
            30..52 => self.transactional(model, &partitions),
            52..66 => self.commit(model, &partitions),
            66..72 => self.again(model, &partitions),
            72..80 => {
                let GroupOffsets { group, member, offsets } = self.offsets(model, &partitions);
                Command::CommitOffsets { group, member, offsets }
            }
            80..84 => self.membership(model),
            84..88 => Command::Trim { partition: self.pick(&partitions), start: self.random.below(12) },
            88..91 => Command::Tick,
            91..95 => Command::InitProducer { name: self.producer_name() },
            95..97 => self.beginning(true),
            97 => {
                let max_message_bytes = [1_024, 1_048_588][self.random.below(2) as usize];
                let segment_ms = 1 + self.random.below(3);
                let config = TopicConfig { segment_ms, max_message_bytes, ..TopicConfig::default() };
                Command::AlterTopic { topic: self.pick(&partitions).topic, config: self.cleanup(config) }
            }
            98 => Command::DeleteTopic { topic: TopicId(self.random.below(8) as u32) },
            _ => self.settings(),
        }
    }

    fn beginning(&mut self, topic: bool) -> Command {
        if !topic {
            return Command::InitProducer { name: self.producer_name() };
        }
        self.names += self.random.below(2);
        let (names, partitions) = if self.plan.cleans { (1, 1) } else { (u64::MAX, 3) };
        Command::CreateTopic {
            name: format!("topic-{}", self.names.min(names)),
            partitions: 1 + self.random.below(partitions) as u32,
            config: self.topic_config(),
        }
    }

    /// With small segments, or all in one.
    fn topic_config(&mut self) -> TopicConfig {
        let config = match self.random.below(2) {
            0 if !self.plan.cleans => TopicConfig::default(),
            _ => TopicConfig { segment_bytes: 4096, ..TopicConfig::default() },
        };
        self.cleanup(config)
    }

    /// With the time of the append, or of the sender and no later than now; half with neither. Some have a retention,
    /// some are compacted, some don't wait for the disk, some have a codec.
    fn cleanup(&mut self, config: TopicConfig) -> TopicConfig {
        let which = if self.plan.cleans { self.random.below(5) } else { self.random.below(8) };
        let config = match which {
            0 => TopicConfig { retention_ms: Some(self.random.below(200)), ..config },
            1 => TopicConfig { retention_bytes: Some(self.random.below(12_000)), ..config },
            2..5 => {
                let policies = [CleanupPolicy::Compact, CleanupPolicy::CompactAndDelete];
                let cleanup_policy = policies[self.random.below(2) as usize];
                TopicConfig { cleanup_policy, min_cleanable_dirty_permille: 1, ..config }
            }
            // What is stored doesn't depend on it: that is left to who makes batches, and here they come as they are.
            5 => {
                let codec = Compression::ALL[self.random.below(5) as usize];
                let durability = [TopicDurability::Log, TopicDurability::Os][self.random.below(2) as usize];
                TopicConfig { compression: TopicCompression::Codec(codec), durability, ..config }
            }
            7 => TopicConfig { durability: TopicDurability::Os, ..config },
            _ => config,
        };
        match self.random.below(8) {
            0 | 1 => TopicConfig { timestamp_type: TimestampType::LogAppendTime, ..config },
            2 => TopicConfig { timestamp_after_max_ms: Some(self.random.below(3)), ..config },
            3 => {
                let kept = [("flush.ms".to_string(), self.names.to_string())].into_iter().collect();
                TopicConfig { kept, ..config }
            }
            _ => config,
        }
    }

    fn settings(&mut self) -> Command {
        if self.random.chance(1, 3) {
            self.time_ms += self.random.below(3) as i64 * 86_400_000;
            return Command::Tick;
        }
        if self.random.chance(1, 2) {
            let topic = TopicId(1 + self.random.below(3) as u32);
            return Command::CreatePartitions { topic, partitions: 1 + self.random.below(4) as u32 };
        }
        if self.random.chance(1, 2) {
            let retention_ms = [50, 200, 604_800_000][self.random.below(3) as usize];
            return Command::Config(ConfigChange::OffsetRetention { retention_ms });
        }
        let idle_ms = 1 + self.random.below(100);
        if idle_ms <= 25 {
            let kept = [("min.insync.replicas".to_string(), idle_ms.to_string())].into_iter();
            return Command::Config(ConfigChange::KeptSettings(kept.collect()));
        }
        Command::Config(ConfigChange::ProducerExpiration {
            idle_ms,
            tombstone_ms: 1 + self.random.below(200),
        })
    }

    fn append(&mut self, model: &Model, partitions: &[Partition]) -> Command {
        let partition = self.pick(partitions);
        let topic = &model.topics[&partition.topic];
        let end = topic.partitions[partition.index as usize].end;
        let stamp = self.stamp(model, partition);
        let expected_end = self.random.chance(1, 10).then(|| end + self.random.below(2));
        let stale = u32::from(self.random.chance(1, 40));
        let batch = self.batch(stamp);
        Command::Append { partition, config_version: topic.config_version + stale, expected_end, batch }
    }

    /// Who sends: nobody, or a producer with its next sequence, or one with something wrong.
    fn stamp(&mut self, model: &Model, at: Partition) -> Option<ProducerStamp> {
        if self.random.chance(1, 3) {
            return None;
        }
        let mut ids: Vec<_> = model.producers.keys().copied().collect();
        ids.extend(model.unnamed_producers());
        if self.random.chance(1, 30) {
            ids = vec![ProducerId(900)];
        }
        let id = self.pick(&ids);
        let partition = model.partition(at).expect("it was picked among those that exist");
        let named = model.producers.get(&id).map(|producer| producer.producer_epoch);
        let here = || partition.producers.get(&id).map(|known| known.producer_epoch);
        let epoch = named.or_else(here).unwrap_or(0);
        let epoch = match self.random.below(24) {
            0 => epoch + 1,
            1 | 2 => (epoch - 1).max(0),
            _ => epoch,
        };
        let next = partition.next_sequence(id, epoch);
        let base_sequence = match self.random.below(24) {
            0 => next + 1,
            1 => (next - 1).max(0),
            _ => next,
        };
        Some(ProducerStamp { id, epoch, base_sequence })
    }

    fn commit(&mut self, model: &Model, partitions: &[Partition]) -> Command {
        let named: Vec<_> = model.producers.keys().copied().collect();
        let id = self.pick(&named);
        let producer = &model.producers[&id];
        let (mut epoch, mut number) = (producer.producer_epoch, producer.last_number() + 1);
        match self.random.below(16) {
            0 => epoch = (epoch - 1).max(0),
            1 => number += 1,
            2 => number = number.saturating_sub(1 + self.random.below(7)),
            3 => epoch += 1,
            _ => {}
        }
        let token = CommitToken { producer: id, producer_epoch: epoch, number };
        let cursor = self.random.chance(1, 2).then(|| self.bytes(20));
        let batches: Vec<_> =
            (0..self.random.below(5)).map(|_| (self.pick(partitions), self.batch(None))).collect();
        let mut offsets = Vec::new();
        if self.random.chance(1, 3) {
            offsets.push(self.offsets(model, partitions));
        }
        let mut conditions = Vec::new();
        if self.random.chance(1, 4) {
            let partition = self.pick(partitions);
            let end = model.partition(partition).map_or(0, |partition| partition.end);
            // The second half fails.
            let offset = end + self.random.below(2);
            conditions.push(Condition::EndOffset { partition, offset });
        }
        let table_writes = self.table_writes(model);
        if !model.tables.is_empty() && self.random.chance(1, 4) {
            conditions.push(self.key_version(model));
        }
        let marks = if self.random.chance(1, 3) { self.marks(model, &batches) } else { Vec::new() };
        let mut timers = TimerEffects::default();
        if self.random.chance(1, 3) {
            timers.set =
                (0..self.random.below(3)).map(|_| self.new_timer(self.time_ms, partitions)).collect();
            timers.cancel = (0..self.random.below(4) / 3).filter_map(|_| self.any_timer(model)).collect();
        }
        Command::Commit(Box::new(Commit {
            token,
            cursor,
            batches,
            offsets,
            conditions,
            marks,
            timers,
            table_writes,
        }))
    }

    fn marks(&mut self, model: &Model, batches: &[(Partition, Batch)]) -> Vec<Mark> {
        let mut marks = Vec::new();
        for _ in 0..=self.random.below(2) {
            let id = self.dedup_id();
            if self.random.chance(1, 3) {
                // Now and then of a batch that isn't there.
                let batch = self.random.below(batches.len() as u64 + 1) as u32;
                marks.push(Mark::Event { id, batch, record: self.random.below(2) as u32 });
                continue;
            }
            let (scope, id, lsn) = self.reservation(model);
            let reservation = self.random.chance(1, 2).then_some(lsn);
            marks.push(Mark::Named { scope: scope.into(), id, reservation });
        }
        if self.random.chance(1, 8) {
            marks.extend(marks.first().cloned());
        }
        marks
    }

    fn dedup_id(&mut self) -> DedupId {
        DedupId([self.random.below(IDS) as u8; 16])
    }

    /// Some reservation: mostly one that is there, also if its lease is over.
    fn reservation(&mut self, model: &Model) -> (String, DedupId, u64) {
        let there = &model.ids.reservations;
        if there.is_empty() || self.random.chance(1, 6) {
            let scope = SCOPES[self.random.below(2) as usize].to_owned();
            return (scope, self.dedup_id(), self.random.below(model.lsn + 1));
        }
        let it = &there[self.random.below(there.len() as u64) as usize];
        let lsn = it.lsn - u64::from(self.random.chance(1, 8));
        (it.scope.clone(), it.id, lsn)
    }

    /// What is asked about ids: of events that are sent, and of what is done outside.
    fn dedup(&mut self, model: &Model, partitions: &[Partition]) -> Command {
        let draw = self.random.below(20);
        // Where ids go to disk, mostly what marks them.
        let what = if self.plan.goes_to_disk() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 5, 9, 9, 9, 13, 15, 17, 18, 17][draw as usize]
        } else {
            draw
        };
        match what {
            0..5 => self.append_identified(model, partitions),
            5..9 => {
                let scope = SCOPES[self.random.below(2) as usize].to_owned();
                let most_ms = if self.random.chance(1, 3) { 60 } else { 3_000 };
                let lease_ms = self.random.below(most_ms);
                Dedup::Reserve { scope, id: self.dedup_id(), lease_ms }.into()
            }
            9..13 => {
                let (scope, id, reservation) = self.reservation(model);
                Dedup::Finish { scope, id, reservation }.into()
            }
            13..15 => {
                let (scope, id, reservation) = self.reservation(model);
                Dedup::Release { scope, id, reservation }.into()
            }
            15..17 => {
                // Short of the end of what was marked just now, or behind it.
                let quarters = self.random.below(6) as i64;
                self.time_ms += quarters * (model.ids.ttl_ms() / 4) as i64;
                Command::Tick
            }
            17 => {
                let topic = DedupScope::Topic(self.pick(partitions).topic);
                let named = DedupScope::Named(SCOPES[self.random.below(2) as usize].to_owned());
                let scope = if self.random.chance(2, 3) { topic } else { named };
                let ids = if self.plan.goes_to_disk() { 6 * IDS } else { IDS };
                Dedup::Forget { scope, id: DedupId([self.random.below(ids) as u8; 16]) }.into()
            }
            _ => self.dedup_setting(),
        }
    }

    fn append_identified(&mut self, model: &Model, partitions: &[Partition]) -> Command {
        let partition = self.pick(partitions);
        let named: Vec<_> = model.producers.keys().copied().collect();
        let producer = self.pick(&named);
        let epoch = model.producers[&producer].producer_epoch - i16::from(self.random.chance(1, 16));
        let config_version = model.topics[&partition.topic].config_version;
        let batch = self.batch(None);
        let first = self.random.below(if self.plan.goes_to_disk() { 6 * IDS } else { IDS }) as u8;
        // Different ones; now and then one too many.
        let count = batch.record_count() as u8 + u8::from(self.random.chance(1, 16));
        let ids = (first..first + count).map(|number| DedupId([number; 16])).collect();
        let sender = (producer, epoch.max(0));
        Dedup::Append { sender, partition, config_version, ids, batch }.into()
    }

    fn dedup_setting(&mut self) -> Command {
        Command::Config(match self.random.below(8) {
            0 => ConfigChange::DedupKey { key: [self.random.below(200) as u8; 16] },
            _ => ConfigChange::DedupLimits {
                // A bucket is a 168th of it: several marks lie in one of a long TTL alone.
                ttl_ms: match self.plan.goes_to_disk() {
                    true => [400, 100_000, 604_800_000, 604_800_000],
                    false => [100, 400, 100_000, 604_800_000],
                }[self.random.below(4) as usize],
                entries_max: match self.plan.goes_to_disk() {
                    true => [12, 1_000_000, 1_000_000, 1_000_000],
                    false => [4, 8, 1_000_000, 1_000_000],
                }[self.random.below(4) as usize],
                at_cap: if self.random.chance(1, 2) { AtCap::Refuse } else { AtCap::Shorten },
            },
        })
    }

    /// Mostly timers that come due while the run lasts, fired by a shell that is now and then wrong or late.
    fn timer(&mut self, model: &Model, partitions: &[Partition]) -> Command {
        match self.random.below(16) {
            0..6 => {
                let named: Vec<_> = model.producers.iter().map(|(id, it)| (*id, it.producer_epoch)).collect();
                let stale = i16::from(self.random.chance(1, 16));
                let sender = self.random.chance(1, 2).then(|| self.pick(&named));
                let sender = sender.map(|(id, epoch)| (id, (epoch - stale).max(0)));
                TimerCommand::Set { sender, timer: self.new_timer(self.time_ms, partitions) }.into()
            }
            6 => match self.any_timer(model) {
                Some(timer) => TimerCommand::Cancel { timer }.into(),
                None => TimerCommand::Cancel { timer: TimerId(1 + self.random.below(3)) }.into(),
            },
            7 => self.carry(model).into(),
            8 if self.random.chance(1, 4) => Command::Config(ConfigChange::TimerLimits {
                count_max: [4, 40, 1_000_000][self.random.below(3) as usize],
                delay_max_ms: 1 + self.random.below(2_000),
            }),
            _ => self.fire(model).into(),
        }
    }

    fn new_timer(&mut self, now_ms: i64, partitions: &[Partition]) -> NewTimer {
        let due_ms = now_ms + self.random.below(300) as i64 - 20;
        NewTimer { target: self.pick(partitions), due_ms, batch: self.batch(None) }
    }

    /// Mostly one that hasn't ended.
    fn any_timer(&mut self, model: &Model) -> Option<TimerId> {
        let all = 1..=model.timers.len() as u64;
        let mut timers: Vec<TimerId> = model.live_timers().map(|(timer, _)| timer).collect();
        if timers.is_empty() || self.random.chance(1, 12) {
            timers = all.map(TimerId).collect();
        }
        (!timers.is_empty()).then(|| self.pick(&timers))
    }

    fn fire(&mut self, model: &Model) -> TimerCommand {
        let next = model.live_timers().filter(|(_, timer)| timer.standing == Standing::Waits);
        let next = next.min_by_key(|(timer, made)| (made.due_ms, *timer)).map(|(timer, _)| timer);
        let next = next.filter(|_| self.random.chance(3, 4));
        let Some(timer) = next.or_else(|| self.any_timer(model)) else {
            return TimerCommand::Fire { timer: TimerId(1), batch: self.batch(None) };
        };
        let made = &model.timers[timer.0 as usize - 1];
        let batch = match self.random.below(24) {
            0 => self.batch(None),
            // As it was read.
            _ => made.payload.placed(made.payload_offset, 1),
        };
        // Mostly once it is due.
        if made.due_ms > self.time_ms && made.due_ms < self.time_ms + 400 && self.random.chance(4, 5) {
            self.time_ms = made.due_ms;
        }
        TimerCommand::Fire { timer, batch }
    }

    /// The oldest payloads, as the log carries them.
    fn carry(&mut self, model: &Model) -> TimerCommand {
        let mut oldest: Vec<_> = model.live_timers().collect();
        oldest.sort_by_key(|(_, timer)| timer.payload_offset);
        let count = self.random.below(3) as usize;
        let payloads = oldest.into_iter().take(count).map(|(id, timer)| (id, timer.payload.clone()));
        TimerCommand::Carry { payloads: payloads.collect() }
    }

    /// What a transactional producer asks for: mostly what comes next, by either protocol.
    fn transactional(&mut self, model: &Model, partitions: &[Partition]) -> Command {
        let transactional_id = TRANSACTIONAL_IDS[self.random.below(2) as usize].to_owned();
        let known = model.transactors.get(&transactional_id);
        let Some(known) = known.filter(|_| self.random.chance(15, 16)) else {
            let current = known.map(|known| (known.producer, known.producer_epoch));
            let current = current.filter(|_| self.random.chance(1, 2));
            let timeout_ms = 1 + self.random.below(4000) as u32;
            return Transactional::Init { transactional_id, timeout_ms, current, newer_codes: true }.into();
        };
        let protocol = if self.random.chance(1, 2) { Protocol::V1 } else { Protocol::V2 };
        let stale = i16::from(self.random.chance(1, 20)).min(known.producer_epoch);
        let sender = TransactionSender {
            transactional_id,
            producer: known.producer,
            producer_epoch: known.producer_epoch - stale,
            protocol,
            newer_codes: true,
            connection: 0,
        };
        let partition = self.pick(partitions);
        match self.random.below(16) {
            0 | 1 => {
                let partitions = (0..self.random.below(3)).map(|_| self.pick(partitions)).collect();
                Transactional::AddPartitions { sender, partitions }
            }
            2 => Transactional::AddOffsets { sender, group: self.group_name() },
            3..6 => {
                let GroupOffsets { group, offsets, .. } = self.offsets(model, partitions);
                let sender = TransactionSender { protocol: Protocol::V2, ..sender };
                Transactional::CommitOffsets { sender, group, member: None, offsets }
            }
            6..13 => {
                let found = model.partition(partition).expect("it was picked among those that exist");
                let (id, epoch) = (sender.producer, sender.producer_epoch);
                let next = found.next_sequence(id, epoch) + i32::from(self.random.chance(1, 24));
                let stamp = ProducerStamp { id, epoch, base_sequence: next };
                let config_version = model.topics[&partition.topic].config_version;
                let TransactionSender { transactional_id, newer_codes, .. } = sender;
                let batch = self.batch(Some(stamp)).in_transaction();
                // What the first protocol has to add first, the second one adds by writing.
                let protocol = if self.random.chance(3, 4) { Protocol::V2 } else { protocol };
                Transactional::Append {
                    transactional_id,
                    protocol,
                    newer_codes,
                    partition,
                    config_version,
                    batch,
                }
            }
            _ => Transactional::End { sender, commit: self.random.chance(3, 4) },
        }
        .into()
    }

    fn group_name(&mut self) -> String {
        GROUPS[self.random.below(2) as usize].to_owned()
    }

    /// A retry, byte by byte.
    fn again(&mut self, model: &Model, partitions: &[Partition]) -> Command {
        if self.sent.is_empty() {
            return self.append(model, partitions);
        }
        // Mostly a fresh one, which is still remembered.
        let back = self.random.below(6).min(self.random.below(self.sent.len() as u64)) as usize;
        self.sent[self.sent.len() - 1 - back].clone()
    }

    fn offsets(&mut self, model: &Model, partitions: &[Partition]) -> GroupOffsets {
        let group = GROUPS[self.random.below(2) as usize].to_owned();
        let member = model.groups.get(&group).and_then(|group| group.member.as_ref()).map(|(id, _)| *id);
        let member = if self.random.chance(1, 10) { None } else { member };
        let offsets = (0..1 + self.random.below(2)).map(|_| {
            let partition = self.pick(partitions);
            let end = model.partition(partition).map_or(0, |partition| partition.end);
            let offset = end.saturating_sub(self.random.below(3)) + self.random.below(9) / 8;
            OffsetCommit {
                partition,
                offset,
                reset: self.random.chance(1, 10),
                metadata: self.metadata(model.lsn + u64::from(partition.index)),
            }
        });
        GroupOffsets { group, member, offsets: offsets.collect() }
    }

    /// Mostly none, and sometimes around the longest that there may be. By the place of the command, so that nothing
    /// else of a workload depends on it.
    fn metadata(&self, nth: u64) -> OffsetMetadata {
        let len = match nth % 12 {
            0..9 => 0,
            9 | 10 => 1 + nth % 40,
            _ => 4_095 + nth / 12 % 3,
        };
        let most = (self.plan.journal_file_bytes - FILE_HEADER_BYTES) / 8;
        OffsetMetadata::from("m".repeat(len.min(most) as usize).as_str())
    }

    fn membership(&mut self, model: &Model) -> Command {
        let group = GROUPS[self.random.below(2) as usize].to_owned();
        if self.random.chance(1, 5) {
            let all = model.partitions();
            let some = (0..self.random.below(3)).map(|_| self.pick(&all)).collect();
            return Command::DeleteOffsets { group, partitions: self.random.chance(2, 3).then_some(some) };
        }
        match model.groups.get(&group).and_then(|group| group.member.as_ref()) {
            Some((member, _)) => Command::LeaveGroup { group, member: *member, fenced: false },
            None => Command::JoinGroup { group, topics: model.topics.keys().copied().collect() },
        }
    }

    fn producer_name(&mut self) -> Option<String> {
        let named = self.random.chance(7, 8);
        named.then(|| PRODUCERS[self.random.below(3) as usize].to_owned())
    }

    fn batch(&mut self, stamp: Option<ProducerStamp>) -> Batch {
        let mut builder = BatchBuilder::new(0);
        for _ in 0..=self.random.below(3) {
            let len = self.value_len();
            let value = self.bytes(len);
            let key = KEYS[self.random.below(4) as usize];
            let value = (key.is_none() || !self.random.chance(1, 8)).then_some(value);
            builder.append(self.time_ms, key, value.as_deref(), &[]);
        }
        builder.finish(stamp)
    }

    /// From nothing to several blocks, often close to the edge of a sector or a block.
    fn value_len(&mut self) -> usize {
        let random = &mut self.random;
        if self.plan.cleans {
            // A segment is full after a few batches.
            return 200 + random.below(700) as usize;
        }
        let room = self.plan.journal_file_bytes - FILE_HEADER_BYTES;
        let len = match random.below(40) {
            0..20 => random.below(60),
            20..28 => 1 + random.below(500),
            28..32 => 400 + random.below(200),
            32..35 => 3800 + random.below(400),
            35..38 => random.below(4000),
            38 => 4096 + random.below(4000),
            _ if self.plan.large_bodies => 14_000 + random.below(20_000),
            _ => 0,
        };
        let most = if self.plan.large_bodies { 34_000 } else { room / 8 };
        len.min(most) as usize
    }

    fn bytes(&mut self, len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        self.random.fill(&mut bytes);
        bytes.into()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len() as u64) as usize]
    }

    /// An append whose value holds whole blocks of a journal, each at the start of a block of the file.
    fn journal_payload(&mut self, model: &Model, files: &Files<'_>) -> Option<Submission> {
        let partition = *model.partitions().first()?;
        let config_version = model.topics[&partition.topic].config_version;
        let blocks = if self.random.chance(1, 2) {
            (files.recorded)(&mut self.random)?
        } else {
            (files.forged)(&mut self.random)?
        };
        let room = self.plan.journal_file_bytes - FILE_HEADER_BYTES;
        let mut padding = 0;
        // The length of the padding changes the length of the length that stands before it.
        for _ in 0..3 {
            let mut value = vec![b'x'; padding];
            value.extend_from_slice(&blocks);
            let mut builder = BatchBuilder::new(0);
            builder.append(self.time_ms, None, Some(&value), &[]);
            let batch = builder.finish(None);
            let command = Command::Append { partition, config_version, expected_end: None, batch };
            let submission = Submission { time_ms: self.time_ms, command };
            let len = frame_len(&submission);
            if len > room {
                return None;
            }
            // The value ends one byte before the frame does: behind it is the number of the record's headers.
            let blocks_at = len - 1 - blocks.len() as u64;
            match blocks_at % BLOCK_BYTES {
                0 => return Some(submission),
                rest => padding = (padding + (BLOCK_BYTES - rest) as usize) % BLOCK_BYTES as usize,
            }
        }
        None
    }
}

/// What a command takes in a group, in bytes.
#[must_use]
pub fn frame_len(submission: &Submission) -> u64 {
    let encoded = codec::encode(submission.time_ms, &submission.command);
    let bodies: usize = encoded.bodies.iter().map(Bytes::len).sum();
    FRAME_HEADER_BYTES + (encoded.head.len() + bodies) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Expected, Transactor};
    use exactlog_core::reply::Reply;

    /// A log has no files yet, or they aren't looked at.
    pub(super) const NO_FILES: Files<'static> = Files { recorded: &|_| None, forged: &|_| None };

    /// What a seed begins with, without payloads made of files.
    pub(super) fn beginning(seed: u64) -> (Generator, Model) {
        let mut random = Random::new(seed);
        let plan = Plan { journal_payloads: false, ..Plan::draw(&mut random) };
        (Generator::new(random, plan), Model::default())
    }

    /// Asserts that each of these was met several times.
    pub(super) fn assert_met(wanted: &[&str], met: &std::collections::BTreeMap<&str, u64>) {
        let rare: Vec<_> = wanted.iter().filter(|what| met.get(*what).copied().unwrap_or(0) < 10).collect();
        assert!(rare.is_empty(), "{rare:?} of {met:?}");
    }

    #[test]
    fn a_workload_commits_aborts_and_times_out_transactions_with_data_and_offsets() {
        let (mut committed, mut aborted, mut wide, mut offsets, mut timed_out, mut open) = (0, 0, 0, 0, 0, 0);
        for seed in 0..200 {
            let (mut generator, mut model) = beginning(seed);
            for _ in 0..40 {
                for submission in generator.group(&model, 1, &NO_FILES) {
                    let answer = model.apply(1, submission.time_ms, &submission.command);
                    let Expected::Reply(Reply::Ticked { transactions, .. }) = answer else { continue };
                    timed_out += transactions;
                }
            }
            let partitions = |txn_seq: u64| {
                let with_data = |stored: &&Vec<crate::model::Stored>| {
                    stored.iter().any(|stored| stored.txn_seq == Some(txn_seq))
                };
                model.stored.values().filter(with_data).count()
            };
            for (txn_seq, made) in model.transactions.iter().filter(|(txn_seq, _)| partitions(**txn_seq) > 0)
            {
                let commit = made.ended.map(|ended| ended.commit);
                committed += u64::from(commit == Some(true));
                aborted += u64::from(commit == Some(false));
                offsets += u64::from(commit == Some(true) && !made.offsets.is_empty());
                wide += u64::from(partitions(*txn_seq) > 1);
            }
            open += model.transactors.values().filter_map(Transactor::open).count();
        }
        let least = [committed, aborted, wide, offsets, timed_out].into_iter().min();
        assert!(
            least > Some(10) && open > 10,
            "{committed} committed, {aborted} aborted, {wide} in several partitions, {offsets} with offsets, \
             {timed_out} timed out, {open} open"
        );
    }

    #[test]
    fn a_workload_meets_ids_again_and_lets_leases_and_windows_end() {
        let mut met = std::collections::BTreeMap::new();
        for seed in 0..200 {
            let (mut generator, mut model) = beginning(seed);
            for _ in 0..40 {
                for submission in generator.group(&model, 1, &NO_FILES) {
                    let before = (model.ids.marks.len(), model.ids.reservations.len());
                    let answer = model.apply(1, submission.time_ms, &submission.command);
                    let after = (model.ids.marks.len(), model.ids.reservations.len());
                    let what = match (&submission.command, answer) {
                        (Command::Tick, _) if after.0 < before.0 => "marks end",
                        (Command::Tick, _) if after.1 < before.1 => "leases end",
                        (Command::Commit(commit), Expected::Reply(Reply::Committed(it)))
                            if !commit.marks.is_empty() && !it.duplicate =>
                        {
                            "a commit marks"
                        }
                        (_, Expected::Refused(kind)) => kind,
                        (Command::Dedup(_), Expected::Reply(Reply::Appended { .. })) => "sent",
                        (_, Expected::Reply(Reply::Reserved { .. })) => "reserved",
                        (_, Expected::Reply(Reply::Finished)) => "finished",
                        (_, Expected::Reply(Reply::Released)) => "released",
                        (_, Expected::Reply(Reply::Forgotten { sighting: Some(_) })) => "forgotten",
                        _ => continue,
                    };
                    *met.entry(what).or_insert(0) += 1;
                }
            }
        }
        let wanted = [
            "marks end",
            "leases end",
            "a commit marks",
            "sent",
            "reserved",
            "finished",
            "released",
            "forgotten",
            "EventsSeen",
            "EventSeen",
            "EventReserved",
            "ReservationLapsed",
            "DedupFull",
            "EventTwice",
            "MarkWithoutRecord",
        ];
        assert_met(&wanted, &met);
    }

    #[test]
    fn a_workload_fires_cancels_carries_and_strands_timers() {
        let (mut fired, mut cancelled, mut stuck, mut carried, mut early, mut twice, mut of_commits) =
            (0, 0, 0, 0, 0, 0, 0);
        for seed in 0..250 {
            let (mut generator, mut model) = beginning(seed);
            for _ in 0..40 {
                for submission in generator.group(&model, 1, &NO_FILES) {
                    let moves = matches!(&submission.command, Command::Timer(command)
                        if matches!(&**command, TimerCommand::Carry { payloads } if !payloads.is_empty()));
                    match model.apply(1, submission.time_ms, &submission.command) {
                        Expected::Reply(Reply::TimersCarried) => carried += u64::from(moves),
                        Expected::Reply(Reply::TimerFailed(_)) => stuck += 1,
                        Expected::Reply(Reply::Committed(committed)) => {
                            of_commits += u64::from(committed.first_timer.is_some());
                        }
                        Expected::Refused("TimerNotDue") => early += 1,
                        Expected::Refused("TimerEnded") => twice += 1,
                        _ => {}
                    }
                }
            }
            let of = |standing| model.timers.iter().filter(|timer| timer.standing == standing).count();
            fired += of(Standing::Fired);
            cancelled += of(Standing::Cancelled);
        }
        let least = [fired as u64, cancelled as u64, stuck, carried, early, twice, of_commits];
        assert!(
            least.iter().all(|count| *count > 10),
            "{fired} fired, {cancelled} cancelled, {stuck} stuck, {carried} carried, {early} too early, \
             {twice} of ended ones, {of_commits} of commits"
        );
    }
}
