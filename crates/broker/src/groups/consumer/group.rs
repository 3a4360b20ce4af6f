//! One consumer group: its members, who has which partition, and which one is to have it.
//!
//! ```text
//!   heartbeat: who is it -> what does it say of itself -> has anything changed: group epoch + 1
//!              -> a target assignment of this epoch -> as far as this member can go towards it
//! ```
//!
//! Invariants
//!   * `owners` names who has a partition, or has yet to give it up: for each exactly one member, which knows it too
//!   * `instances` names the members that have an instance id, and only those
//!   * the target assignment is of `target_epoch`, and names members and topics of that time

use super::assignor::{Assignor, Subscriber, Target};
use super::member::Member;
use super::pattern::Pattern;
use super::{
    Beaten, Commit, DescribedMember, DescribedPartitions, Description, FENCED_INSTANCE_ID,
    FENCED_MEMBER_EPOCH, GROUP_MAX_SIZE_REACHED, GroupState, Heartbeat, ILLEGAL_GENERATION, JOINS, LEAVES,
    LEAVES_FOR_NOW, Refused, STALE_MEMBER_EPOCH, Topic, TopicId, TopicPartition, Topics, Turn,
    UNKNOWN_MEMBER_ID, UNRELEASED_INSTANCE_ID, UNSUPPORTED_VERSION,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Group {
    epoch: i32,
    target_epoch: i32,
    target: Target,
    members: BTreeMap<String, Member>,
    /// Member id of each instance id.
    instances: BTreeMap<String, String>,
    owners: BTreeMap<TopicPartition, String>,
    /// What members subscribe by, by its text.
    patterns: BTreeMap<String, Pattern>,
    topics: Arc<Topics>,
    /// Of `topics` those that anybody subscribes to.
    subscribed: BTreeMap<TopicId, Topic>,
}

/// Who sends a heartbeat.
enum Sender {
    New,
    Known,
    /// A static member that has come back under another id: its former one.
    Back(String),
}

/// Heartbeats.
impl Group {
    pub(super) fn heartbeat(&mut self, turn: Turn<'_>, heartbeat: Heartbeat) -> Result<Beaten, Refused> {
        match heartbeat.member_epoch {
            LEAVES | LEAVES_FOR_NOW => self.leave(turn, heartbeat),
            _ => self.stay(turn, heartbeat),
        }
    }

    fn stay(&mut self, turn: Turn<'_>, heartbeat: Heartbeat) -> Result<Beaten, Refused> {
        let sender = self.find_sender(turn, &heartbeat)?;
        let pattern = self.new_pattern(turn, &heartbeat)?;
        let member_id = heartbeat.member_id.clone();
        match sender {
            Sender::New => _ = self.members.insert(member_id.clone(), Member::new()),
            Sender::Back(former_id) => self.replace(turn, &former_id, &member_id),
            Sender::Known => {}
        }
        if let Some(instance_id) = &heartbeat.instance_id {
            // It may have had another.
            self.instances.retain(|_, holder| *holder != member_id);
            self.instances.insert(instance_id.clone(), member_id.clone());
        }
        self.patterns.extend(pattern);
        let member = self.members.entry(member_id.clone()).or_insert_with(Member::new);
        let is_subscription_new = member.update(turn, &heartbeat);
        if self.notice(turn.topics, is_subscription_new) || is_subscription_new || self.epoch == 0 {
            self.epoch += 1;
        }
        if self.target_epoch < self.epoch {
            self.assign();
        }
        let is_told = self.reconcile(turn, &member_id, heartbeat.owned.as_ref());
        let is_told = is_told || heartbeat.member_epoch == JOINS || heartbeat.is_full();
        let member = self.members.get(&member_id).ok_or_else(|| unknown_member(&member_id))?;
        Ok(member.beaten(turn, member_id, is_told))
    }

    fn find_sender(&self, turn: Turn<'_>, heartbeat: &Heartbeat) -> Result<Sender, Refused> {
        let Heartbeat { member_id, member_epoch, instance_id, .. } = heartbeat;
        let max = turn.settings.group_max_size;
        if self.members.len() >= max && !self.members.contains_key(member_id) {
            return Err((GROUP_MAX_SIZE_REACHED, format!("the group has its {max} members (the maximum)")));
        }
        let joins = *member_epoch == JOINS;
        let holder = instance_id.as_ref().and_then(|it| self.instances.get(it));
        match (instance_id, holder) {
            (Some(instance_id), Some(holder)) if joins && holder != member_id => {
                self.check_released(instance_id, holder)?;
                return Ok(Sender::Back(holder.clone()));
            }
            (Some(_), _) if !joins => self.check_instance(heartbeat)?,
            _ => {}
        }
        match self.members.get(member_id) {
            None if joins => Ok(Sender::New),
            None => Err(unknown_member(member_id)),
            Some(member) if member.can_beat(heartbeat) => Ok(Sender::Known),
            Some(member) => Err(fenced(member_id, *member_epoch, member.epoch)),
        }
    }

    fn check_released(&self, instance_id: &str, holder: &str) -> Result<(), Refused> {
        match self.members.get(holder) {
            Some(member) if member.epoch != LEAVES_FOR_NOW => {
                let why = format!("instance id {instance_id:?} is in use: member {holder:?} has it");
                Err((UNRELEASED_INSTANCE_ID, why))
            }
            _ => Ok(()),
        }
    }

    /// That the instance id is this member's.
    fn check_instance(&self, heartbeat: &Heartbeat) -> Result<(), Refused> {
        let Some(instance_id) = &heartbeat.instance_id else { return Ok(()) };
        match self.instances.get(instance_id) {
            None => Err((UNKNOWN_MEMBER_ID, format!("instance id {instance_id:?} is unknown"))),
            Some(holder) if *holder != heartbeat.member_id => {
                let why = format!("instance id {instance_id:?} is member {holder:?} by now");
                Err((FENCED_INSTANCE_ID, why))
            }
            Some(_) => Ok(()),
        }
    }

    /// The regular expression that it subscribes by, if nobody else does yet.
    fn new_pattern(
        &self,
        turn: Turn<'_>,
        heartbeat: &Heartbeat,
    ) -> Result<Option<(String, Pattern)>, Refused> {
        match heartbeat.topic_regex.as_ref().filter(|it| !it.is_empty() && !self.patterns.contains_key(*it)) {
            Some(text) => Ok(Some((text.clone(), Pattern::new(text, turn.topics)?))),
            None => Ok(None),
        }
    }

    /// Gives the place of a static member to its next incarnation, with what it was to have.
    fn replace(&mut self, turn: Turn<'_>, former_id: &str, member_id: &str) {
        // Nobody else has this id, unless it was made up badly.
        self.remove(turn.topics, self.members.contains_key(member_id).then(|| member_id.to_owned()));
        let mut member = self.members.remove(former_id).unwrap_or_else(Member::new);
        member.come_back();
        self.owners.extend(member.held().map(|it| (it, member_id.to_owned())));
        self.members.insert(member_id.to_owned(), member);
        if let Some(target) = self.target.remove(former_id) {
            self.target.insert(member_id.to_owned(), target);
        }
    }

    fn leave(&mut self, turn: Turn<'_>, heartbeat: Heartbeat) -> Result<Beaten, Refused> {
        self.check_instance(&heartbeat)?;
        let Heartbeat { member_id, member_epoch, .. } = heartbeat;
        let Some(member) = self.members.get_mut(&member_id) else { return Err(unknown_member(&member_id)) };
        if member_epoch == LEAVES_FOR_NOW {
            member.revoking.keys().for_each(|it| _ = self.owners.remove(it));
            member.leave_for_now();
        } else {
            self.remove(turn.topics, [member_id.clone()]);
        }
        Ok(Beaten { member_id, member_epoch, heartbeat_interval_ms: 0, assignment: None })
    }

    /// Forgets members that have left or are fenced: what they had is free.
    fn remove(&mut self, topics: &Arc<Topics>, member_ids: impl IntoIterator<Item = String>) {
        let epoch = self.epoch;
        for member_id in member_ids {
            let Some(member) = self.members.remove(&member_id) else { continue };
            member.held().for_each(|it| _ = self.owners.remove(&it));
            member.instance_id.map(|it| self.instances.remove(&it));
            self.target.remove(&member_id);
            self.epoch += 1;
        }
        if self.epoch > epoch {
            self.notice(topics, true);
        }
    }
}

/// Topics, and who is to have what.
impl Group {
    /// Takes over what topics there are and who subscribes to which; whether what is subscribed to has changed.
    fn notice(&mut self, topics: &Arc<Topics>, is_subscription_new: bool) -> bool {
        let are_topics_new = !Arc::ptr_eq(topics, &self.topics);
        if are_topics_new {
            self.topics = topics.clone();
            self.patterns.values_mut().for_each(|pattern| pattern.resolve(topics));
        }
        if !are_topics_new && !is_subscription_new {
            return false;
        }
        let in_use: BTreeSet<&String> =
            self.members.values().filter_map(|it| it.topic_regex.as_ref()).collect();
        self.patterns.retain(|text, _| in_use.contains(text));
        let subscribed = self.members.values().flat_map(|member| self.topics_of(member));
        let subscribed: BTreeMap<TopicId, Topic> = subscribed.map(|topic| (topic.id, topic)).collect();
        let before = std::mem::replace(&mut self.subscribed, subscribed);
        before != self.subscribed
    }

    /// The topics that a member subscribes to, as far as they are there.
    fn topics_of<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = Topic> + 'a {
        let pattern = member.topic_regex.as_ref().and_then(|it| self.patterns.get(it));
        let fitting = pattern.into_iter().flat_map(|pattern| &pattern.topics);
        member.topic_names.iter().chain(fitting).filter_map(|name| self.topics.by_name.get(name)).copied()
    }

    fn assignor(&self) -> Assignor {
        Assignor::preferred(self.members.values().filter_map(|member| member.assignor))
    }

    fn assign(&mut self) {
        let subscriber = |(member_id, member): (&String, &Member)| Subscriber {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            topics: self.topics_of(member).map(|topic| topic.id).collect(),
        };
        let subscribers: Vec<Subscriber> = self.members.iter().map(subscriber).collect();
        let partitions = self.subscribed.values().map(|topic| (topic.id, topic.partitions)).collect();
        self.target = self.assignor().assign(&subscribers, &partitions, &self.target);
        self.target_epoch = self.epoch;
    }

    /// Leads a member towards its part of the target assignment; whether it is to have others now than before.
    fn reconcile(
        &mut self,
        turn: Turn<'_>,
        member_id: &String,
        owned: Option<&BTreeSet<TopicPartition>>,
    ) -> bool {
        let (owners, none) = (&mut self.owners, BTreeSet::new());
        let Some(member) = self.members.get_mut(member_id) else { return false };
        let target = self.target.get(member_id).unwrap_or(&none);
        let (held, assigned) = (member.held().collect::<Vec<_>>(), member.assigned.clone());
        let is_free = |it: &TopicPartition| owners.get(it).is_none_or(|owner| owner == member_id);
        member.reconcile(turn, self.target_epoch, target, is_free, owned);
        held.iter().for_each(|it| _ = owners.remove(it));
        owners.extend(member.held().map(|it| (it, member_id.clone())));
        !member.assigned.keys().eq(assigned.keys())
    }
}

/// Time.
impl Group {
    /// When something is due, if nothing happens before.
    pub(super) fn deadline_ms(&self) -> Option<i64> {
        self.members.values().map(Member::deadline_ms).min()
    }

    /// Whether it has no members.
    pub(super) fn is_idle(&self) -> bool {
        self.members.is_empty()
    }

    /// Fences whom nothing was heard of, and who doesn't give up what it is to give up.
    pub(super) fn expire(&mut self, turn: Turn<'_>) {
        let lost = self.members.iter().filter(|(_, member)| member.deadline_ms() <= turn.now_ms);
        let lost: Vec<String> = lost.map(|(member_id, _)| member_id.clone()).collect();
        self.remove(turn.topics, lost);
    }
}

/// Offsets.
impl Group {
    pub(super) fn check_commit(&self, commit: Commit<'_>) -> Result<(), i16> {
        let Commit { member_id, instance_id, member_epoch, partitions, is_transactional, .. } = commit;
        let is_anonymous = member_epoch == -1 && member_id.is_empty() && instance_id.is_none();
        // A client gives partitions up in the background, and hears of its next epoch, while records of these are
        // processed in a transaction. Kafka asks for the epoch alone, and takes them; then the next owner, which has
        // begun at the position before, processes them once more.
        let has_all = |member: &Member| partitions.iter().all(|it| member.assigned_at(it).is_some());
        match self.members.get(member_id) {
            // Its producer doesn't say for whom it commits.
            _ if is_transactional && is_anonymous => Ok(()),
            _ if member_epoch < 0 && self.members.is_empty() => Ok(()),
            None => Err(UNKNOWN_MEMBER_ID),
            Some(_) if !is_transactional && !commit.knows_member_epochs => Err(UNSUPPORTED_VERSION),
            Some(member) => match is_current(member, member_epoch, Some(partitions)) {
                true if is_transactional && !has_all(member) => Err(ILLEGAL_GENERATION),
                true => Ok(()),
                false if is_transactional => Err(ILLEGAL_GENERATION),
                false => Err(STALE_MEMBER_EPOCH),
            },
        }
    }

    pub(super) fn check_fetch(
        &self,
        member_id: &str,
        member_epoch: i32,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<(), i16> {
        let member = self.members.get(member_id).ok_or(UNKNOWN_MEMBER_ID)?;
        is_current(member, member_epoch, partitions).then_some(()).ok_or(STALE_MEMBER_EPOCH)
    }

    /// Whether anybody subscribes to a topic.
    pub(super) fn subscribed_topics(&self) -> BTreeSet<String> {
        let patterns = self.members.values().filter_map(|it| self.patterns.get(it.topic_regex.as_ref()?));
        let by_name = self.members.values().flat_map(|it| &it.topic_names);
        by_name.chain(patterns.flat_map(|pattern| &pattern.topics)).cloned().collect()
    }
}

/// What there is to say about it.
impl Group {
    pub(super) fn state(&self) -> GroupState {
        match self.members.is_empty() {
            true => GroupState::Empty,
            false if self.epoch > self.target_epoch => GroupState::Assigning,
            false if self.members.values().all(|it| it.is_reconciled(self.target_epoch)) => {
                GroupState::Stable
            }
            false => GroupState::Reconciling,
        }
    }

    pub(super) fn describe(&self) -> Description {
        Description {
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor: self.assignor(),
            members: self.members.iter().map(|(id, member)| self.described(id, member)).collect(),
        }
    }

    fn described(&self, member_id: &str, member: &Member) -> DescribedMember {
        let target = self.target.get(member_id);
        DescribedMember {
            member_id: member_id.to_owned(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topic_names: member.topic_names.iter().cloned().collect(),
            topic_regex: member.topic_regex.clone(),
            assignment: self.by_topic(member.assigned.keys()),
            target: self.by_topic(target.into_iter().flatten()),
        }
    }

    /// Topic by topic, without those that aren't there any more.
    fn by_topic<'a>(&self, partitions: impl Iterator<Item = &'a TopicPartition>) -> Vec<DescribedPartitions> {
        let mut topics: Vec<DescribedPartitions> = Vec::new();
        for TopicPartition { topic, index } in partitions {
            match (topics.last_mut().filter(|last| last.topic == *topic), self.topics.names.get(topic)) {
                (Some(last), _) => last.indexes.push(*index),
                (None, Some(name)) => {
                    topics.push(DescribedPartitions {
                        topic: *topic,
                        name: name.clone(),
                        indexes: vec![*index],
                    });
                }
                (None, None) => {}
            }
        }
        topics
    }
}

/// Whether an epoch is good for partitions of a member: its current one, or one that isn't older than the assignment of
/// each of them (KIP-1251).
fn is_current(member: &Member, epoch: i32, partitions: Option<&[TopicPartition]>) -> bool {
    let is_covered = |it: &TopicPartition| member.assigned_at(it).is_some_and(|since| since <= epoch);
    match partitions {
        _ if epoch == member.epoch => true,
        Some(partitions) => epoch < member.epoch && partitions.iter().all(is_covered),
        None => false,
    }
}

fn unknown_member(member_id: &str) -> Refused {
    (UNKNOWN_MEMBER_ID, format!("the group has no member {member_id:?}"))
}

fn fenced(member_id: &str, epoch: i32, current: i32) -> Refused {
    let why =
        format!("member {member_id:?} is at epoch {current}, not {epoch}: it gives up all and joins anew");
    (FENCED_MEMBER_EPOCH, why)
}
