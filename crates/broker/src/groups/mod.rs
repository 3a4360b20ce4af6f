//! Groups of consumers, as Kafka's clients know them: who waits for whom, and until when.
//!
//! What is decided is decided in [`classic`], or in [`consumer`] for the groups of KIP-848; here both get their clock,
//! and answers find those who wait. Offsets are the log's.
//!
//! Invariants
//!   * nobody knows of a group but this node: after a restart its members join anew, and their offsets are there
//!   * a commit of offsets has its place in the log's order before the group goes on to its next generation or epoch
//!   * a group is of one kind at a time: it can become one of the other while it has no members

mod classic;
pub(crate) mod consumer;
mod deadlines;

use crate::code::{GROUP_ID_NOT_FOUND, INCONSISTENT_GROUP_PROTOCOL, Refused};
use crate::node::{Node, uuid};
use crate::options::NodeOptions;
use crate::uptime::Uptime;
pub(crate) use classic::{
    Answer, Claim, DescribedMember, Description, GroupState, Join, Joined, JoinedMember, Leaving, Sync,
    Synced,
};
use classic::{Coordinator, Settings, Ticket};
use consumer::{Beaten, Heartbeat, TopicPartition, Topics};
use exactlog::{Log, Partition, TopicId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// The groups of a node.
#[derive(Debug)]
pub(crate) struct Groups {
    inner: Mutex<Inner>,
    /// Something happened that may be due earlier than what was waited for.
    changed: Notify,
    uptime: Uptime,
}

#[derive(Debug)]
struct Inner {
    coordinator: Coordinator,
    consumers: consumer::Coordinator,
    topics: Arc<Topics>,
    /// What `topics` were made from.
    known: Vec<(TopicId, u32)>,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    next_ticket: u64,
}

/// Who wants to commit offsets, and of which partitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) group: &'a str,
    pub(crate) claim: Claim<'a>,
    pub(crate) partitions: &'a [TopicPartition],
    /// Whether it is TxnOffsetCommit.
    pub(crate) is_transactional: bool,
    /// Whether the request is of a version that knows of member epochs (OffsetCommit from 9 on).
    pub(crate) knows_member_epochs: bool,
}

/// One group in a list of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) group: String,
    /// Empty: none yet.
    pub(crate) protocol_type: String,
    /// Kafka's name for it.
    pub(crate) state: &'static str,
    /// Kafka's name for the protocol that its members follow.
    pub(crate) kind: &'static str,
}

/// The kind of groups whose members assign themselves.
pub(crate) const CLASSIC: &str = "classic";
/// The kind of groups whose members get their assignment from the node; and what members of both do.
const CONSUMER: &str = "consumer";

impl Inner {
    /// A group without members becomes a classic one, if it was none.
    fn join(&mut self, now_ms: i64, join: Join, fresh_suffix: u128, ticket: Ticket) {
        match self.consumers.state(&join.group) {
            Some(consumer::GroupState::Empty) => _ = self.consumers.delete(&join.group),
            Some(_) => return self.coordinator.refuse_join(join, INCONSISTENT_GROUP_PROTOCOL, ticket),
            None => {}
        }
        self.coordinator.join(now_ms, join, fresh_suffix, ticket);
    }

    /// The other way round; only by who joins.
    fn heartbeat(&mut self, now_ms: i64, log: &Log, heartbeat: Heartbeat) -> Result<Beaten, Refused> {
        let (group, joins) = (heartbeat.group.clone(), heartbeat.member_epoch == consumer::JOINS);
        let refused =
            (GROUP_ID_NOT_FOUND, format!("group {group:?} isn't a consumer group: it is a classic one"));
        match self.coordinator.state(&group) {
            GroupState::Dead => {}
            GroupState::Empty if joins => {}
            _ => return Err(refused),
        }
        self.refresh(log);
        let beaten = self.consumers.heartbeat(now_ms, heartbeat, random(), &self.topics)?;
        self.coordinator.delete(&group);
        Ok(beaten)
    }

    fn refresh(&mut self, log: &Log) {
        let Some(changed) = log.changed_topics(&self.known) else { return };
        self.known = changed.iter().map(|(_, id, partitions)| (*id, *partitions)).collect();
        let topic = |(name, id, partitions): (String, TopicId, u32)| {
            let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
            (name, consumer::Topic { id: wire_id(id), partitions })
        };
        self.topics = Arc::new(changed.into_iter().map(topic).collect());
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        let both = [self.coordinator.next_deadline_ms(), self.consumers.next_deadline_ms()];
        both.into_iter().flatten().min()
    }
}

/// The id of a topic as members are told it.
pub(crate) fn wire_id(topic: TopicId) -> consumer::TopicId {
    consumer::TopicId(u128::from_be_bytes(uuid(topic).0))
}

/// A partition as members are told it.
pub(crate) fn topic_partition(partition: Partition) -> TopicPartition {
    let index = i32::try_from(partition.index).unwrap_or(i32::MAX);
    TopicPartition { topic: wire_id(partition.topic), index }
}

impl Groups {
    pub(crate) fn new(options: &NodeOptions, uptime: Uptime) -> Groups {
        let ms = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        let initial_rebalance_delay_ms = ms(options.initial_rebalance_delay);
        let classic = Settings {
            initial_rebalance_delay_ms,
            session_timeout_min_ms: ms(options.session_timeout_min),
            session_timeout_max_ms: ms(options.session_timeout_max),
            ..Settings::default()
        };
        let consumer = consumer::Settings {
            heartbeat_interval_ms: ms(options.consumer_heartbeat_interval),
            session_timeout_ms: ms(options.consumer_session_timeout),
            ..consumer::Settings::default()
        };
        let inner = Inner {
            coordinator: Coordinator::new(classic),
            consumers: consumer::Coordinator::new(consumer),
            topics: Arc::default(),
            known: Vec::new(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
        };
        Groups { inner: Mutex::new(inner), changed: Notify::new(), uptime }
    }

    /// Joins a group, which is answered when its other members have joined.
    pub(crate) async fn join(&self, join: Join) -> Option<Joined> {
        let suffix = random();
        match self.wait(|inner, now_ms, ticket| inner.join(now_ms, join, suffix, ticket)).await {
            Some(Answer::Joined(joined)) => Some(joined),
            _ => None,
        }
    }

    /// Waits for a member's part of what the leader has assigned.
    pub(crate) async fn sync(&self, sync: Sync) -> Option<Synced> {
        match self.wait(|inner, now_ms, ticket| inner.coordinator.sync(now_ms, sync, ticket)).await {
            Some(Answer::Synced(synced)) => Some(synced),
            _ => None,
        }
    }

    async fn wait(&self, ask: impl FnOnce(&mut Inner, i64, Ticket)) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.with(|inner, now_ms| {
            inner.next_ticket += 1;
            let ticket = inner.next_ticket;
            inner.waiting.insert(ticket, answer);
            ask(inner, now_ms, Ticket(ticket));
        });
        answered.await.ok()
    }

    pub(crate) fn heartbeat(&self, group: &str, claim: Claim<'_>) -> i16 {
        self.with(|inner, now_ms| inner.coordinator.heartbeat(now_ms, group, claim))
    }

    pub(crate) fn leave(&self, group: &str, members: &[Leaving]) -> Vec<i16> {
        self.with(|inner, now_ms| inner.coordinator.leave(now_ms, group, members))
    }

    /// ConsumerGroupHeartbeat.
    ///
    /// # Errors
    /// The code that it is refused with, and why.
    pub(crate) fn consumer_heartbeat(&self, log: &Log, heartbeat: Heartbeat) -> Result<Beaten, Refused> {
        self.with(|inner, now_ms| inner.heartbeat(now_ms, log, heartbeat))
    }

    /// Does something for a member that may commit for its group, before the group can go on.
    ///
    /// # Errors
    /// The code that it is refused with.
    pub(crate) fn committing<T>(&self, commit: Commit<'_>, work: impl FnOnce() -> T) -> Result<T, i16> {
        let Commit { group, claim, partitions, is_transactional, knows_member_epochs } = commit;
        let by_epoch = consumer::Commit {
            member_id: claim.member_id,
            instance_id: claim.instance_id,
            member_epoch: claim.generation,
            partitions,
            is_transactional,
            knows_member_epochs,
        };
        self.with(|inner, now_ms| {
            match inner.consumers.check_commit(group, by_epoch) {
                Some(checked) => checked?,
                None => inner.coordinator.check_commit(now_ms, group, claim, is_transactional)?,
            }
            Ok(work())
        })
    }

    /// Whether a member of a consumer group may see offsets; `None` for all partitions. Members of others aren't
    /// asked who they are.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH.
    pub(crate) fn check_fetch(
        &self,
        group: &str,
        member_id: &str,
        member_epoch: i32,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<(), i16> {
        let inner = self.inner.lock();
        inner.consumers.check_fetch(group, member_id, member_epoch, partitions).unwrap_or(Ok(()))
    }

    pub(crate) fn list(&self) -> Vec<Listed> {
        let inner = self.inner.lock();
        let classic = inner.coordinator.list().into_iter().map(|it| Listed {
            group: it.group,
            protocol_type: it.protocol_type,
            state: it.state.name(),
            kind: CLASSIC,
        });
        let consumers = inner.consumers.list().into_iter().map(|(group, state)| Listed {
            group,
            protocol_type: CONSUMER.to_owned(),
            state: state.name(),
            kind: CONSUMER,
        });
        classic.chain(consumers).collect()
    }

    pub(crate) fn describe(&self, group: &str) -> Description {
        self.inner.lock().coordinator.describe(group)
    }

    /// A consumer group and its members.
    pub(crate) fn describe_consumer(&self, group: &str) -> Option<consumer::Description> {
        self.inner.lock().consumers.describe(group)
    }

    pub(crate) fn is_consumer(&self, group: &str) -> bool {
        self.inner.lock().consumers.state(group).is_some()
    }

    /// Forgets a group without members; what else it has is the log's to forget.
    pub(crate) fn delete(&self, group: &str) -> i16 {
        self.with(|inner, _| match inner.consumers.delete(group) {
            GROUP_ID_NOT_FOUND => inner.coordinator.delete(group),
            error_code => error_code,
        })
    }

    /// The topics that the members of a group read; `None`: nobody can say.
    ///
    /// # Errors
    /// NON_EMPTY_GROUP: it isn't a group of consumers. GROUP_ID_NOT_FOUND doesn't say that it has no offsets.
    pub(crate) fn subscribed(&self, group: &str) -> Result<Option<BTreeSet<String>>, i16> {
        let inner = self.inner.lock();
        match inner.consumers.subscribed(group) {
            Some(topics) => Ok(Some(topics)),
            None => inner.coordinator.subscribed(group),
        }
    }

    /// Looks at once what is due.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// Everybody who waits is told that the node ends.
    fn shut_down(&self) {
        self.with(|inner, now_ms| {
            inner.coordinator.shut_down(now_ms);
            inner.consumers.shut_down();
        });
    }

    /// What is due by now happens; when to look again.
    fn tick(&self) -> Option<Instant> {
        let due_ms = self.with(|inner, now_ms| {
            inner.coordinator.tick(now_ms);
            inner.consumers.tick(now_ms, &inner.topics);
            inner.next_deadline_ms()
        });
        due_ms.map(|due_ms| self.uptime.instant(due_ms))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner, i64) -> T) -> T {
        let now_ms = self.uptime.now_ms();
        let (done, answers) = {
            let mut inner = self.inner.lock();
            let before_ms = inner.next_deadline_ms();
            let done = work(&mut inner, now_ms);
            let taken = inner.coordinator.take_answers();
            let answers: Vec<_> = taken
                .into_iter()
                .filter_map(|(Ticket(ticket), answer)| Some((inner.waiting.remove(&ticket)?, answer)))
                .collect();
            if inner.next_deadline_ms() != before_ms {
                self.changed.notify_one();
            }
            (done, answers)
        };
        for (waiting, answer) in answers {
            // Who doesn't wait any more has gone: the group learns that by his silence.
            let _ = waiting.send(answer);
        }
        done
    }
}

/// Lets time pass for the groups of a node, until it ends.
pub(crate) async fn keep_time(node: Arc<Node>) {
    loop {
        let due = node.groups.tick();
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = node.stopped() => return node.groups.shut_down(),
            () = node.groups.changed.notified() => {}
            () = due => {}
        }
    }
}

/// A number that nobody guesses.
pub(crate) fn random() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(0));
    half() << 64 | half()
}

/// The names of all groups: of those that have members here, and of those that the log has anything of.
pub(crate) fn names_beside(node: &Node, listed: &[Listed]) -> Vec<(String, usize)> {
    let known: HashSet<&str> = listed.iter().map(|listed| listed.group.as_str()).collect();
    let mut names = node.log.group_names();
    names.retain(|(name, _)| !known.contains(name.as_str()));
    names
}
