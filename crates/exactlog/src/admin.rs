//! What a person asks of a log: topics, groups and producers with their numbers, and moving a group.
//!
//! Not here: sending and receiving. Everything is a copy of the state as of one moment.
//!
//! Invariants
//!   * lag counts records, exactly: what lies between a group's position and the end, and would be shown
//!   * a group is only moved while it has no members

use crate::error::Error;
use crate::lag::Unread;
use crate::log::Log;
use crate::topic::Topic;
use bytes::Bytes;
use exactlog_core::codec;
use exactlog_core::command::{
    Command, ConfigChange, Dedup, OffsetCommit, OffsetMetadata, TimerCommand, Transactional,
};
use exactlog_core::ids::{MemberId, Partition, ProducerId, TopicId};
use exactlog_core::reply::{Refusal, Reply};
use exactlog_core::state::{Group, State};
use exactlog_storage::error::StorageError;
use exactlog_storage::journal::Cursor;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The whole log, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDetails {
    /// Position of the last command.
    pub lsn: u64,
    /// Time of the last command, ms since 1970.
    pub time_ms: i64,
    /// Term of the commands that would be written now.
    pub term: u32,
    /// How often it was opened for writing.
    pub open_number: u64,
    /// What decides about commands (see the semantics level in the glossary).
    pub semantics_level: u32,
    /// Bytes that the files of the journal take.
    pub journal_bytes: u64,
    /// Batches that are only in the journal so far.
    pub unflushed_batches: u64,
}

/// One partition, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDetails {
    /// Its index.
    pub partition: u32,
    /// First offset that can be read.
    pub start: u64,
    /// Offset that the next record gets.
    pub end: u64,
    /// Leader epoch of its last record; 0: none.
    pub leader_epoch: u32,
    /// Producers whose sequences are remembered.
    pub producers: u64,
    /// Records that consumers get: exact, without markers, aborted records, and what was compacted.
    pub records: u64,
}

/// A group, its members and its positions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDetails {
    /// Its name.
    pub name: String,
    /// Rises with each change of members or owners.
    pub generation: u64,
    /// Its members.
    pub members: Vec<MemberDetails>,
    /// Its positions: each partition of a topic that it subscribes to or has committed in.
    pub positions: Vec<GroupPosition>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDetails {
    /// The member.
    pub member: MemberId,
    /// Names of the topics that it subscribes to.
    pub topics: Vec<String>,
    /// How many partitions it owns.
    pub partitions: u64,
}

/// Where a group stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupPosition {
    /// Name of the topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset that isn't consumed; `None`: it never committed here.
    pub committed: Option<u64>,
    /// When it committed, ms since 1970.
    pub committed_ms: Option<i64>,
    /// First offset of the partition that can be read.
    pub start: u64,
    /// Offset that the next record of the partition gets.
    pub end: u64,
    /// Records that it has not consumed and that would be shown: as [`Log::lag`].
    pub lag: u64,
    /// How long ago the first of them happened, in ms; 0 if there is none.
    pub lag_ms: u64,
    /// Who owns the partition.
    pub owner: Option<MemberId>,
}

/// A named producer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerDetails {
    /// Its name.
    pub name: String,
    /// Its id.
    pub producer: ProducerId,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Number of its last commit; 0: none.
    pub last_number: u64,
    /// Its cursor, if a commit set one: see [`Transaction::set_cursor`](crate::Transaction::set_cursor).
    pub cursor: Option<Bytes>,
}

/// Where a group is to stand in a partition.
#[derive(Clone, Debug)]
pub struct SeekTo {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The first offset to be consumed.
    pub offset: u64,
}

/// One command of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandDetails {
    /// Its position.
    pub lsn: u64,
    /// The term in which it was ordered.
    pub term: u32,
    /// Its time, ms since 1970.
    pub time_ms: i64,
    /// Which command.
    pub kind: &'static str,
    /// Bytes that it takes.
    pub bytes: u64,
    /// What it says, as `name=value` with a space between.
    pub text: String,
}

/// The commands that the journal still holds, in their order. Made by [`Log::commands`].
#[derive(Debug)]
#[must_use = "it reads nothing before it is asked for commands"]
pub struct Commands {
    cursor: Option<Cursor>,
}

impl Log {
    /// The whole log, in numbers. Of one that a node keeps what the journal has is 0.
    pub fn details(&self) -> LogDetails {
        let shard = self.inner.hold();
        let state = self.inner.state.read();
        LogDetails {
            lsn: state.lsn,
            time_ms: state.time_ms,
            term: self.inner.term.load(Ordering::Acquire),
            open_number: state.open_number,
            semantics_level: state.semantics_level,
            journal_bytes: shard.as_ref().map_or(0, |shard| shard.journal().used_bytes()),
            unflushed_batches: shard.as_ref().map_or(0, |shard| shard.unflushed_batches() as u64),
        }
    }

    /// The partitions of a topic, as of one moment.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`] if it was deleted meanwhile.
    pub fn partitions(&self, topic: &Topic) -> Result<Vec<PartitionDetails>, Error> {
        let state = self.inner.state.read();
        let found = state.topics.get(&topic.id());
        let found = found.ok_or_else(|| Error::NoSuchTopic { name: topic.name().to_string() })?;
        let details = |(index, partition): (usize, &std::sync::Arc<exactlog_core::state::PartitionState>)| {
            PartitionDetails {
                partition: index as u32,
                start: partition.start,
                end: partition.end,
                leader_epoch: partition.leader_epochs.last().map_or(0, |last| last.leader_epoch),
                producers: partition.producers.len() as u64,
                records: 0,
            }
        };
        let mut found: Vec<PartitionDetails> = found.partitions.iter().enumerate().map(details).collect();
        let at = |index| Partition { topic: topic.id(), index };
        let unread: Vec<Option<Unread>> =
            found.iter().map(|details| Unread::behind(&state, at(details.partition), 0)).collect();
        drop(state);
        for (details, unread) in found.iter_mut().zip(&unread) {
            details.records = unread.as_ref().map_or(0, |unread| unread.records(&self.inner));
        }
        Ok(found)
    }

    /// All groups, by name.
    pub fn groups(&self) -> Vec<GroupDetails> {
        let found: Vec<(GroupDetails, Vec<Unread>)> = {
            let state = self.inner.state.read();
            state.groups.iter().map(|(name, group)| group_details(&state, name, group)).collect()
        };
        found.into_iter().map(|found| self.with_lag(found)).collect()
    }

    /// How long committed offsets are kept that nobody uses (`offsets.retention.ms`).
    pub fn offsets_retention(&self) -> Duration {
        Duration::from_millis(self.inner.state.read().offset_expiry.retention_ms())
    }

    /// Sets how long committed offsets are kept that nobody uses: those of a group without members, and those of topics
    /// that no member of the group reads. Each commit, each change of members and each open of the log begins it anew,
    /// so the time in which the log was closed doesn't count. Default: 7 days.
    ///
    /// # Errors
    /// [`Refusal::SettingOutOfBounds`]: 1 ms to about 100 years.
    pub fn set_offsets_retention(&self, retention: Duration) -> Result<(), Error> {
        let retention_ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        self.inner.command(Command::Config(ConfigChange::OffsetRetention { retention_ms })).map(|_| ())
    }

    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<GroupDetails> {
        let found = {
            let state = self.inner.state.read();
            state.groups.get(name).map(|group| group_details(&state, name, group))
        };
        found.map(|found| self.with_lag(found))
    }

    /// The state isn't held while records are read.
    fn with_lag(&self, (mut details, unread): (GroupDetails, Vec<Unread>)) -> GroupDetails {
        for (position, unread) in details.positions.iter_mut().zip(&unread) {
            position.lag = unread.records(&self.inner);
            position.lag_ms = if position.lag == 0 { 0 } else { unread.age_ms(&self.inner) };
        }
        details
    }

    /// All named producers, by name.
    pub fn producers(&self) -> Vec<ProducerDetails> {
        let state = self.inner.state.read();
        let details = |(name, id): (&String, &ProducerId)| {
            let producer = state.producers.get(id)?;
            Some(ProducerDetails {
                name: name.clone(),
                producer: *id,
                producer_epoch: producer.producer_epoch,
                last_number: producer.last_number,
                cursor: producer.cursor.clone().map(Bytes::from),
            })
        };
        state.producer_names.iter().filter_map(details).collect()
    }

    /// The first record, in the order of offsets, with this time (ms since 1970) or a later one: its offset and time;
    /// `None` if there is none.
    ///
    /// # Errors
    /// [`Error::NoSuchPartition`], and whatever reading can answer.
    pub fn first_at_or_after(
        &self,
        topic: &Topic,
        partition: u32,
        timestamp_ms: i64,
    ) -> Result<Option<(u64, i64)>, Error> {
        self.bounds(topic, partition)?;
        let at = Partition { topic: topic.id(), index: partition };
        Ok(self.inner.read(|reader| reader.first_at_or_after(at, timestamp_ms))?)
    }

    /// The first of the records with the greatest time: its offset and time (ms since 1970); `None` if there is none.
    ///
    /// # Errors
    /// As [`first_at_or_after`](Log::first_at_or_after).
    pub fn newest(&self, topic: &Topic, partition: u32) -> Result<Option<(u64, i64)>, Error> {
        self.bounds(topic, partition)?;
        let at = Partition { topic: topic.id(), index: partition };
        let greatest_ms = self.inner.read(|reader| reader.greatest_timestamp_ms(at))?;
        let first = self.first_at_or_after(topic, partition, i64::MIN)?;
        let Some((mut found, greatest_ms)) = first.zip(greatest_ms) else { return Ok(None) };
        // The greatest time may be that of a marker, or of what was compacted away: then it is looked for between.
        let (mut asked_ms, mut above_ms) = (greatest_ms, i128::from(greatest_ms) + 1);
        while i128::from(found.1) + 1 < above_ms {
            match self.first_at_or_after(topic, partition, asked_ms)? {
                Some(later) => found = later,
                None => above_ms = i128::from(asked_ms),
            }
            asked_ms = i128::midpoint(i128::from(found.1) + 1, above_ms) as i64;
        }
        self.first_at_or_after(topic, partition, found.1)
    }

    /// Moves a group that has no members, ahead or back; a group that doesn't exist is made. All positions or none.
    ///
    /// # Errors
    /// [`Error::GroupActive`] names the members; a refusal names a position behind the end of its partition, or a name
    /// that no group can have.
    pub fn seek_group(&self, group: &str, positions: &[SeekTo]) -> Result<(), Error> {
        self.inner.check_group_name(group)?;
        self.check_inactive(group)?;
        let offset = |to: &SeekTo| OffsetCommit {
            partition: Partition { topic: to.topic.id(), index: to.partition },
            offset: to.offset,
            reset: true,
            metadata: OffsetMetadata::default(),
        };
        for SeekTo { topic, partition, offset } in positions {
            let (start, end) = self.bounds(topic, *partition)?;
            // What isn't there yet can't be meant, though the log of a node takes it of Kafka's clients.
            if *offset > end {
                let (group, partition) =
                    (group.to_string(), Partition { topic: topic.id(), index: *partition });
                return Err(Refusal::OffsetOutOfRange { group, partition, sent: *offset, start, end }.into());
            }
        }
        let offsets = positions.iter().map(offset).collect();
        let command = Command::CommitOffsets { group: group.to_string(), member: None, offsets };
        match self.inner.command(command) {
            // Somebody joined meanwhile.
            Err(Error::Refused(Refusal::GroupNotEmpty { .. })) => self.check_inactive(group),
            done => done.map(|_| ()),
        }
    }

    /// Forgets the positions of a group that has no members, in these partitions: its consumers begin there as those of
    /// a new group do. How many positions there were; a partition without one is passed over.
    ///
    /// # Errors
    /// [`Error::GroupActive`] names the members; a refusal a group that doesn't exist, and a position that an open wire
    /// transaction is about to commit.
    pub fn delete_offsets(&self, group: &str, partitions: &[(Topic, u32)]) -> Result<u64, Error> {
        let of = |(topic, index): &(Topic, u32)| Partition { topic: topic.id(), index: *index };
        self.forget(group, Some(partitions.iter().map(of).collect()))
    }

    /// Forgets a group that has no members, with all its positions; how many those were.
    ///
    /// # Errors
    /// As [`delete_offsets`](Log::delete_offsets).
    pub fn delete_group(&self, group: &str) -> Result<u64, Error> {
        self.forget(group, None)
    }

    fn forget(&self, group: &str, partitions: Option<Vec<Partition>>) -> Result<u64, Error> {
        self.check_inactive(group)?;
        match self.inner.command(Command::DeleteOffsets { group: group.to_string(), partitions }) {
            Ok(applied) => match applied.reply {
                Reply::OffsetsDeleted { positions } => Ok(positions),
                _ => unreachable!("DeleteOffsets answers with a number or a refusal"),
            },
            Err(error) => {
                // Somebody joined meanwhile.
                self.check_inactive(group)?;
                Err(error)
            }
        }
    }

    fn check_inactive(&self, group: &str) -> Result<(), Error> {
        let state = self.inner.state.read();
        let members: Vec<MemberId> =
            state.groups.get(group).map(|group| group.members.keys().copied().collect()).unwrap_or_default();
        match members.is_empty() {
            true => Ok(()),
            false => Err(Error::GroupActive { group: group.to_string(), members }),
        }
    }

    /// The commands of the journal from a position on, up to what is durable. What lies below the journal's first is
    /// left out: checkpoints stand for it.
    pub fn commands(&self, from_lsn: u64) -> Result<Commands, Error> {
        let reader = self.inner.only_here("reading the journal")?.lock().journal().reader();
        let cursor = match reader.cursor(from_lsn) {
            Err(StorageError::Recycled { first_lsn }) => reader.cursor(first_lsn),
            cursor => cursor,
        };
        match cursor {
            // A journal without a command.
            Err(StorageError::Recycled { .. }) => Ok(Commands { cursor: None }),
            cursor => Ok(Commands { cursor: Some(cursor?) }),
        }
    }
}

impl Iterator for Commands {
    type Item = Result<CommandDetails, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let cursor = self.cursor.as_mut()?;
        match cursor.next() {
            Ok(Some(frame)) => {
                let bytes = frame.len_bytes();
                let decoded = codec::decode(frame.kind, frame.version, &frame.head, &frame.bodies);
                let details = decoded.map(|(time_ms, command)| CommandDetails {
                    lsn: frame.lsn,
                    term: frame.term,
                    time_ms,
                    kind: command.kind_name(),
                    bytes,
                    text: text_of(&command),
                });
                let damaged = |error| {
                    let file = exactlog_storage::journal::file_name(frame.placed.generation);
                    StorageError::damaged(file, frame.placed.head_at, format!("lsn {}: {error}", frame.lsn))
                };
                Some(details.map_err(|error| Error::Storage(damaged(error))))
            }
            Ok(None) => None,
            Err(error) => {
                self.cursor = None;
                Some(Err(Error::Storage(error)))
            }
        }
    }
}

/// With what is unread, for each position; how much that is isn't counted yet.
fn group_details(state: &State, name: &str, group: &Group) -> (GroupDetails, Vec<Unread>) {
    let topic_name = |id: &TopicId| state.topics.get(id).map(|topic| topic.name.clone());
    let members = group.members.iter().map(|(member, found)| MemberDetails {
        member: *member,
        topics: found.topics.iter().filter_map(topic_name).collect(),
        partitions: group.owned_by(*member).count() as u64,
    });
    let subscribed = group.members.values().flat_map(|member| member.topics.iter().copied());
    let committed = group.offsets.keys().map(|partition| partition.topic);
    let topics: BTreeSet<TopicId> = subscribed.chain(committed).collect();
    let mut positions = Vec::new();
    for (id, topic) in topics.iter().filter_map(|id| Some((*id, state.topics.get(id)?))) {
        for (partition, index) in topic.partitions.iter().zip(0..) {
            let at = Partition { topic: id, index };
            let committed = group.offsets.get(&at);
            let Some(unread) = Unread::of(state, name, at) else { continue };
            let position = GroupPosition {
                topic: topic.name.clone(),
                partition: index,
                committed: committed.map(|it| it.offset),
                committed_ms: committed.map(|it| it.time_ms),
                start: partition.start,
                end: partition.end,
                lag: 0,
                lag_ms: 0,
                owner: group.owners.get(&at).map(|owner| owner.member),
            };
            positions.push((position, unread));
        }
    }
    positions.sort_by(|(a, _), (b, _)| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let (positions, unread) = positions.into_iter().unzip();
    let (name, generation, members) = (name.to_string(), group.generation, members.collect());
    (GroupDetails { name, generation, members, positions }, unread)
}

/// What a command says, without the records in it.
fn text_of(command: &Command) -> String {
    let mut text = String::new();
    let mut put = |name: &str, value: &dyn std::fmt::Display| {
        let space = if text.is_empty() { "" } else { " " };
        // Writing into a string doesn't fail.
        let _ = write!(text, "{space}{name}={value}");
    };
    match command {
        Command::Open | Command::Tick => {}
        Command::CreateTopic { name, partitions, .. } | Command::CreateTable { name, partitions, .. } => {
            put("topic", name);
            put("partitions", partitions);
        }
        Command::AlterTopic { topic, .. } | Command::DeleteTopic { topic } => put("topic-id", topic),
        Command::InitProducer { name } => put("producer", &name.as_deref().unwrap_or("-")),
        Command::Append { partition, batch, .. } => {
            put("partition", partition);
            put("records", &batch.record_count());
            if let Some(stamp) = batch.producer() {
                put("producer-id", &stamp.id);
                put("producer-epoch", &stamp.epoch);
                put("sequence", &stamp.base_sequence);
            }
        }
        Command::Commit(commit) => {
            let records: u64 = commit.batches.iter().map(|(_, batch)| batch.record_count() as u64).sum();
            put("token", &commit.token);
            put("batches", &commit.batches.len());
            put("records", &records);
            put("positions", &commit.offsets.iter().map(|group| group.offsets.len()).sum::<usize>());
            put("conditions", &commit.conditions.len());
            put("marks", &commit.marks.len());
            if !commit.timers.is_empty() {
                put("timers", &commit.timers.set.len());
                put("cancelled-timers", &commit.timers.cancel.len());
            }
            if !commit.table_writes.is_empty() {
                let writes = || commit.table_writes.iter().flat_map(|it| &it.writes);
                put("puts", &writes().filter(|write| !write.deletes).count());
                put("deletes", &writes().filter(|write| write.deletes).count());
            }
            put("cursor-bytes", &commit.cursor.as_ref().map_or(0, |cursor| cursor.len()));
        }
        Command::CommitOffsets { group, member, offsets } => {
            put("group", group);
            if let Some(member) = member {
                put("member", member);
            }
            for it in offsets {
                let reset = if it.reset { "(reset)" } else { "" };
                put("position", &format_args!("{}@{}{reset}", it.partition, it.offset));
            }
        }
        Command::JoinGroup { group, topics } => {
            put("group", group);
            topics.iter().for_each(|topic| put("topic-id", topic));
        }
        Command::LeaveGroup { group, member, fenced } => {
            put("group", group);
            put("member", member);
            put("fenced", fenced);
        }
        Command::ReleasePartitions { group, member, partitions } => {
            put("group", group);
            put("member", member);
            partitions.iter().for_each(|partition| put("partition", partition));
        }
        Command::Trim { partition, start } => {
            put("partition", partition);
            put("start", start);
        }
        // Who knows the key can make two ids meet.
        Command::Config(ConfigChange::DedupKey { .. }) => put("change", &"DedupKey"),
        Command::Config(change) => put("change", &format_args!("{change:?}")),
        Command::CreatePartitions { topic, partitions } => {
            put("topic-id", topic);
            put("partitions", partitions);
        }
        Command::DeleteOffsets { group, partitions } => {
            put("group", group);
            partitions.iter().flatten().for_each(|partition| put("partition", partition));
        }
        Command::Timer(command) => put_timer(&mut put, command),
        Command::Transactional(request) => put_transactional(&mut put, request),
        Command::Dedup(request) => put_dedup(&mut put, request),
    }
    text
}

/// Takes a name and what stands behind it.
type Put<'a> = &'a mut dyn FnMut(&str, &dyn std::fmt::Display);

fn put_timer(put: Put<'_>, command: &TimerCommand) {
    match command {
        TimerCommand::Set { timer, .. } => {
            put("partition", &timer.target);
            put("records", &timer.batch.record_count());
            put("due-ms", &timer.due_ms);
        }
        TimerCommand::Cancel { timer } | TimerCommand::Fire { timer, .. } => put("timer", timer),
        TimerCommand::Carry { payloads } => {
            payloads.iter().for_each(|(timer, _)| put("timer", timer));
        }
    }
}

fn put_transactional(put: Put<'_>, request: &Transactional) {
    put("request", &request.kind_name());
    match request {
        Transactional::Init { transactional_id, timeout_ms, .. } => {
            put("transactional-id", transactional_id);
            put("timeout-ms", timeout_ms);
        }
        Transactional::AddPartitions { sender, partitions } => {
            put("transactional-id", &sender.transactional_id);
            partitions.iter().for_each(|partition| put("partition", partition));
        }
        Transactional::AddOffsets { sender, group } => {
            put("transactional-id", &sender.transactional_id);
            put("group", group);
        }
        Transactional::Append { transactional_id, partition, batch, .. } => {
            put("transactional-id", transactional_id);
            put("partition", partition);
            put("records", &batch.record_count());
        }
        Transactional::CommitOffsets { sender, group, offsets, .. } => {
            put("transactional-id", &sender.transactional_id);
            put("group", group);
            offsets.iter().for_each(|it| {
                put("position", &format_args!("{}@{}", it.partition, it.offset));
            });
        }
        Transactional::End { sender, commit } => {
            put("transactional-id", &sender.transactional_id);
            put("commit", commit);
        }
    }
}

fn put_dedup(put: Put<'_>, request: &Dedup) {
    match request {
        Dedup::Append { sender: (producer, epoch), partition, ids, .. } => {
            put("partition", partition);
            put("records", &ids.len());
            put("producer-id", producer);
            put("producer-epoch", epoch);
        }
        Dedup::Reserve { scope, id, lease_ms } => {
            put("scope", scope);
            put("id", id);
            put("lease-ms", lease_ms);
        }
        Dedup::Finish { scope, id, reservation } | Dedup::Release { scope, id, reservation } => {
            put("scope", scope);
            put("id", id);
            put("reservation", reservation);
        }
        Dedup::RunReady(ready) => {
            put("run", &ready.run);
            put("ids", &ready.entries);
            put("bucket-end-ms", &ready.end_ms);
            ready.replaces.iter().for_each(|run| put("replaces", run));
        }
        Dedup::Forget { scope, id } => {
            put("scope", scope);
            put("id", id);
        }
    }
}
