//! Groups: the lines GR-2, GR-4, GR-7, GR-9 and GR-10 of the semantics, as far as embedded groups go.

use crate::common::*;
use exactlog_core::command::*;
use exactlog_core::ids::{MemberId, Partition, TopicId};
use exactlog_core::reply::{Refusal, Reply};
use exactlog_core::state::Group;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const GROUP: &str = "g";

/// Something that happens to the group.
#[derive(Clone, Debug)]
enum Event {
    /// A member joins; bit i of the mask: it subscribes to topic i.
    Join(u8),
    Leave(usize),
    /// A member releases what it is told to give up: all of it, or only one partition.
    Release(usize, bool),
    /// A member releases what nobody has asked it for.
    ReleaseUnasked(usize),
    Open,
    DeleteTopic(usize),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..8u8).prop_map(Event::Join),
        3 => (0..9usize).prop_map(Event::Leave),
        8 => (0..9usize, any::<bool>()).prop_map(|(member, all)| Event::Release(member, all)),
        1 => (0..9usize).prop_map(Event::ReleaseUnasked),
        1 => Just(Event::Open),
        1 => (0..3usize).prop_map(Event::DeleteTopic),
        1 => Just(Event::Restart),
    ]
}

/// The checker of ownership intervals: who works on which partition, as the members themselves see it.
///
/// A member begins when the state says that a partition is its own, and ends when it has said so or is gone.
struct Members {
    log: Log,
    topics: Vec<TopicId>,
    working: BTreeMap<Partition, MemberId>,
}

impl Members {
    fn new(partitions: [u32; 3]) -> Members {
        let mut log = Log::default();
        let names = ["a", "b", "c"];
        let topics = std::iter::zip(names, partitions).map(|(name, count)| log.topic(name, count)).collect();
        Members { log, topics, working: BTreeMap::new() }
    }

    fn group(&self) -> Group {
        self.log.state.groups.get(GROUP).map(|group| Group::clone(group)).unwrap_or_default()
    }

    fn member(&self, choice: usize) -> Option<MemberId> {
        let members: Vec<_> = self.group().members.keys().copied().collect();
        (!members.is_empty()).then(|| members[choice % members.len()])
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Join(mask) => {
                let existing = |it: &TopicId| self.log.state.topics.contains_key(it);
                let topics: Vec<_> = (0..3)
                    .filter(|bit| mask >> bit & 1 == 1)
                    .map(|bit| self.topics[bit])
                    .filter(existing)
                    .collect();
                self.log.join(GROUP, &topics);
            }
            Event::Leave(choice) => {
                let Some(member) = self.member(*choice) else { return };
                let leave = Command::LeaveGroup { group: GROUP.to_string(), member, fenced: true };
                self.working.retain(|_, owner| *owner != member);
                assert!(matches!(self.log.reply(&leave), Reply::Group { .. }));
            }
            Event::Release(choice, all) => {
                let Some(member) = self.member(*choice) else { return };
                let told = self.told_to_give_up(member);
                self.release(member, &told[..if *all { told.len() } else { told.len().min(1) }]);
            }
            Event::ReleaseUnasked(choice) => {
                let Some(member) = self.member(*choice) else { return };
                let before = self.group();
                let kept = before.owned_by(member).filter(|it| !it.1).map(|it| it.0);
                let command = release(member, &kept.collect::<Vec<_>>());
                assert_eq!(self.log.reply(&command), Reply::Group { generation: before.generation });
                assert_eq!(self.group(), before);
            }
            Event::Open => {
                self.working.clear();
                self.log.reply(&Command::Open);
            }
            Event::DeleteTopic(index) => {
                let topic = self.topics[*index];
                if matches!(self.log.reply(&Command::DeleteTopic { topic }), Reply::TopicDeleted) {
                    self.working.retain(|partition, _| partition.topic != topic);
                }
            }
            Event::Restart => self.log.restart(),
        }
    }

    fn told_to_give_up(&self, member: MemberId) -> Vec<Partition> {
        self.group().owned_by(member).filter(|it| it.1).map(|it| it.0).collect()
    }

    fn release(&mut self, member: MemberId, partitions: &[Partition]) {
        self.working.retain(|partition, _| !partitions.contains(partition));
        assert!(matches!(self.log.reply(&release(member, partitions)), Reply::Group { .. }));
    }

    /// Members look at the state and begin with what is theirs; nobody else may be at it.
    fn look(&mut self) -> Result<(), TestCaseError> {
        let group = self.group();
        for (partition, owner) in &group.owners {
            let before = *self.working.entry(*partition).or_insert(owner.member);
            prop_assert_eq!(before, owner.member, "{} has a second owner", partition);
            prop_assert!(group.members.contains_key(&owner.member));
        }
        // Nothing was taken from anybody either without asking: its commits would be refused.
        for (partition, member) in &self.working {
            prop_assert_eq!(group.owners.get(partition).map(|it| it.member), Some(*member));
        }
        Ok(())
    }

    /// Every member gives up what it was told to. That asks nobody for more.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for member in self.group().members.into_keys() {
            let told = self.told_to_give_up(member);
            self.release(member, &told);
            self.look()?;
            prop_assert_eq!(self.told_to_give_up(member), vec![]);
        }
        prop_assert!(self.group().owners.values().all(|owner| !owner.revoking));
        Ok(())
    }

    /// At rest each partition that somebody subscribes to has an owner who does, and no other has one.
    fn check_at_rest(&self) -> Result<(), TestCaseError> {
        let group = self.group();
        let mut expected = BTreeSet::new();
        for topic in group.members.values().flat_map(|member| &member.topics) {
            let count = self.log.state.topics[topic].partitions.len() as u32;
            expected.extend((0..count).map(|index| part(*topic, index)));
        }
        prop_assert_eq!(group.owners.keys().copied().collect::<BTreeSet<_>>(), expected);
        for (partition, owner) in &group.owners {
            prop_assert!(group.members[&owner.member].topics.contains(&partition.topic));
        }
        let mut subscriptions: Vec<_> = group.members.values().map(|member| &member.topics).collect();
        subscriptions.dedup();
        if subscriptions.len() == 1 {
            let (least, most) = loads(&group);
            prop_assert!(most <= least + 1, "loads {} to {}", least, most);
        }
        Ok(())
    }
}

fn release(member: MemberId, partitions: &[Partition]) -> Command {
    Command::ReleasePartitions { group: GROUP.to_string(), member, partitions: partitions.to_vec() }
}

fn loads(group: &Group) -> (usize, usize) {
    let loads: Vec<_> = group.members.keys().map(|member| group.owned_by(*member).count()).collect();
    (*loads.iter().min().expect("there are members"), *loads.iter().max().expect("there are members"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn gr_4_intervals_of_one_partition_never_overlap_and_all_comes_to_rest(
        partitions in [1..9u32, 1..9u32, 1..9u32],
        events in prop::collection::vec(event(), 1..40),
    ) {
        let mut members = Members::new(partitions);
        let mut generation = 0;
        for event in &events {
            let before = members.group();
            members.happen(event);
            members.look()?;
            let after = members.group();
            let changed = before.members.keys().ne(after.members.keys()) || before.owners != after.owners;
            prop_assert!(after.generation >= generation);
            prop_assert!(!changed || after.generation > before.generation, "{:?}", event);
            generation = after.generation;
        }
        members.settle()?;
        members.check_at_rest()?;
    }

    /// The same with all members at the same topics: there the loads are even at rest, however it came about.
    #[test]
    fn gr_4_members_with_equal_subscriptions_end_within_one_of_each_other(
        partitions in [1..20u32, 1..20u32, 1..20u32],
        events in prop::collection::vec(event(), 1..40),
    ) {
        let mut members = Members::new(partitions);
        for event in events {
            let event = match event {
                Event::Join(_) => Event::Join(7),
                other => other,
            };
            members.happen(&event);
            members.look()?;
        }
        members.settle()?;
        members.check_at_rest()?;
    }

    #[test]
    fn gr_4_a_join_moves_few_partitions_and_a_leave_only_those_of_the_one_that_left(
        partitions in 1..200u32,
        count in 1..12usize,
        leaver in 0..12usize,
    ) {
        let mut members = Members::new([partitions, 1, 1]);
        for _ in 0..count {
            members.happen(&Event::Join(1));
            members.settle()?;
        }
        members.happen(&Event::Join(1));
        let moving = members.group().owners.values().filter(|owner| owner.revoking).count();
        let fair = partitions as usize / (count + 1);
        prop_assert!(moving <= fair + 1, "{} of {} partitions move", moving, partitions);
        members.look()?;
        members.settle()?;
        members.check_at_rest()?;

        let before = members.group();
        members.happen(&Event::Leave(leaver));
        let after = members.group();
        for (partition, owner) in &before.owners {
            let moved = after.owners[partition] != *owner;
            prop_assert!(!moved || !after.members.contains_key(&owner.member), "{} moved", partition);
        }
        members.settle()?;
        members.check_at_rest()?;
    }
}

#[test]
fn gr_4_a_partition_passes_on_only_after_its_owner_released_it() {
    let mut log = Log::default();
    let topic = log.topic("t", 2);
    let a = log.join(GROUP, &[topic]);
    let b = log.join(GROUP, &[topic]);
    let owners = |log: &Log| -> Vec<_> {
        log.state.groups[GROUP].owners.values().map(|owner| (owner.member, owner.revoking)).collect()
    };
    assert_eq!(owners(&log), [(a, true), (a, false)]);
    log.append(part(topic, 0), records(9));
    let commit = |member, at| commit_offsets(GROUP, Some(member), &[offset(part(topic, 0), at)]);
    assert_eq!(log.reply(&commit(a, 1)), Reply::OffsetsCommitted, "it works on until it has released");
    assert!(matches!(log.refused(&commit(b, 2)), Refusal::NotOwned { .. }));
    log.reply(&release(b, &[part(topic, 0)]));
    assert_eq!(owners(&log), [(a, true), (a, false)], "only the owner releases");
    log.reply(&release(a, &[part(topic, 0)]));
    assert_eq!(owners(&log), [(b, false), (a, false)]);
    let refusal = log.refused(&commit(a, 2));
    assert_eq!(refusal, Refusal::NotOwned { group: GROUP.into(), partition: part(topic, 0), member: a });
    assert_eq!(refusal.kafka_code(), 22);
    assert_eq!(log.reply(&commit(b, 2)), Reply::OffsetsCommitted);
}

/// Room that one move makes may allow another, in a topic that was looked at before.
#[test]
fn gr_4_a_heavy_member_is_relieved_by_one_that_got_room_itself() {
    let mut members = Members::new([6, 6, 1]);
    let mut loads = Vec::new();
    for mask in [3, 1, 2] {
        members.happen(&Event::Join(mask));
        members.settle().expect("ownership holds");
        let group = members.group();
        loads = group.members.keys().map(|member| group.owned_by(*member).count()).collect();
    }
    // The first had both topics; the second took all of the one, which left 6 and 6, and the third half of the
    // other. Only then could the second give one back.
    assert_eq!(loads, [4, 5, 3]);
}

#[test]
fn gr_4_only_one_generation_s_members_commit() {
    let mut log = Log::default();
    let topic = log.topic("t", 1);
    let partition = part(topic, 0);
    log.append(partition, records(9));
    let a = log.join(GROUP, &[topic]);
    let leave = Command::LeaveGroup { group: GROUP.into(), member: a, fenced: true };
    log.reply(&leave);
    let refusal = log.refused(&commit_offsets(GROUP, Some(a), &[offset(partition, 1)]));
    assert_eq!(refusal, Refusal::UnknownMember { group: GROUP.into(), member: a });
    assert_eq!(refusal.kafka_code(), 25);
    assert!(matches!(log.refused(&leave), Refusal::UnknownMember { .. }));
    let none = "none".to_string();
    assert!(matches!(
        log.refused(&Command::LeaveGroup { group: none, member: a, fenced: false }),
        Refusal::UnknownMember { .. }
    ));
}

#[test]
fn gr_2_only_members_commit_while_there_are_any() {
    let mut log = Log::default();
    let topic = log.topic("t", 1);
    let plain = commit_offsets(GROUP, None, &[offset(part(topic, 0), 0)]);
    assert_eq!(log.reply(&plain), Reply::OffsetsCommitted);
    let a = log.join(GROUP, &[]);
    assert_eq!(log.refused(&plain), Refusal::GroupNotEmpty { group: GROUP.into(), members: 1 });
    log.reply(&Command::LeaveGroup { group: GROUP.into(), member: a, fenced: false });
    assert_eq!(log.reply(&plain), Reply::OffsetsCommitted);
}

#[test]
fn gr_7_a_committed_offset_keeps_the_leader_epoch_of_the_record_before_it() {
    let mut log = Log { term: 4, ..Log::default() };
    let partition = log.partition("t");
    log.append(partition, records(2));
    log.term = 9;
    log.append(partition, records(2));
    let epochs: Vec<_> = (0..=4)
        .map(|at| {
            log.reply(&commit_offsets(GROUP, None, &[offset(partition, at)]));
            log.state.committed_offset(GROUP, partition).unwrap().leader_epoch
        })
        .collect();
    assert_eq!(epochs, [0, 4, 4, 9, 9]);
}

#[test]
fn gr_9_an_offset_moves_back_only_by_an_explicit_reset() {
    let mut log = Log::default();
    let partition = log.partition("t");
    log.append(partition, records(9));
    log.reply(&commit_offsets(GROUP, None, &[offset(partition, 5)]));
    let refusal = log.refused(&commit_offsets(GROUP, None, &[offset(partition, 4)]));
    assert_eq!(refusal, Refusal::OffsetRegress { group: GROUP.into(), partition, sent: 4, committed: 5 });
    log.reply(&commit_offsets(GROUP, None, &[offset(partition, 5)]));
    let reset = OffsetCommit { partition, offset: 2, reset: true, metadata: OffsetMetadata::default() };
    assert_eq!(log.reply(&commit_offsets(GROUP, None, &[reset])), Reply::OffsetsCommitted);
    let committed = log.state.committed_offset(GROUP, partition).unwrap();
    assert_eq!((committed.offset, committed.lsn), (2, log.state.lsn));
}

#[test]
fn gr_6_what_stands_beside_an_offset_goes_with_it_and_the_next_one_takes_its_place() {
    let mut log = Log::default();
    let partition = log.partition("t");
    log.append(partition, records(9));
    let with = |at, text: &str| OffsetCommit { metadata: text.into(), ..offset(partition, at) };
    let text = |log: &Log| {
        log.state.committed_offset(GROUP, partition).map(|it| (it.offset, it.metadata.as_str().to_string()))
    };
    log.reply(&commit_offsets(GROUP, None, &[with(3, "half of the ü")]));
    assert_eq!(text(&log), Some((3, "half of the ü".into())));
    log.restart();
    assert_eq!(text(&log), Some((3, "half of the ü".into())));
    log.reply(&commit_offsets(GROUP, None, &[with(3, "")]));
    assert_eq!(text(&log), Some((3, String::new())));
    // The limit counts bytes, and what is over it changes nothing.
    let longest = "ü".repeat(OFFSET_METADATA_BYTES_MAX / 2);
    log.reply(&commit_offsets(GROUP, None, &[with(4, &longest)]));
    let over = with(5, &format!("{longest}."));
    let refusal = log.refused(&commit_offsets(GROUP, None, std::slice::from_ref(&over)));
    assert_eq!(refusal, Refusal::OffsetMetadataTooLarge { partition, bytes: 4_097, max: 4_096 });
    assert_eq!(refusal.kafka_code(), 12);
    let message = "metadata of 4097 bytes beside the offset at 1-0 is over offset.metadata.max.bytes = 4096";
    assert_eq!(refusal.to_string(), message);
    assert_eq!(text(&log), Some((4, longest)));
    // In an embedded transaction as well.
    let mut commit = commit_of(token(log.producer(Some("p")), 1), &[]);
    commit.offsets = vec![GroupOffsets { group: GROUP.into(), member: None, offsets: vec![over] }];
    assert_eq!(log.commit_refused(&commit), refusal);
    commit.offsets[0].offsets = vec![with(6, "of a transaction")];
    log.commit(&commit);
    assert_eq!(text(&log), Some((6, "of a transaction".into())));
    log.restart();
    assert_eq!(text(&log), Some((6, "of a transaction".into())));
}

#[test]
fn gr_9_one_command_can_not_move_an_offset_back_by_naming_it_twice() {
    let mut log = Log::default();
    let partition = log.partition("t");
    log.append(partition, records(9));
    let twice = [offset(partition, 5), offset(partition, 3)];
    assert_eq!(log.refused(&commit_offsets(GROUP, None, &twice)), Refusal::PartitionTwice { partition });
    let producer = log.producer(Some("p"));
    let part_of =
        |at| GroupOffsets { group: GROUP.into(), member: None, offsets: vec![offset(partition, at)] };
    let mut commit = commit_of(token(producer, 1), &[]);
    commit.offsets = vec![part_of(5), part_of(3)];
    assert_eq!(log.commit_refused(&commit), Refusal::PartitionTwice { partition });
    commit.offsets[1].group = "other".into();
    log.commit(&commit);
}

#[test]
fn gr_9_all_positions_of_a_command_are_stored_or_none() {
    let mut log = Log::default();
    let topic = log.topic("t", 2);
    log.append(part(topic, 0), records(9));
    let refusal =
        log.refused(&commit_offsets(GROUP, None, &[offset(part(topic, 0), 5), offset(part(topic, 1), 1)]));
    assert!(matches!(refusal, Refusal::OffsetOutOfRange { sent: 1, end: 0, .. }));
    assert_eq!(refusal.kafka_code(), 1);
    assert_eq!(log.state.committed_offset(GROUP, part(topic, 0)), None);
}

/// As Kafka: a tool may move a group ahead of what is there, and a client commits what another partition of that name
/// had before it was made anew. What an embedded commit stores has been consumed, so it can't be ahead.
#[test]
fn gr_9_from_level_3_on_a_position_may_lie_behind_the_end() {
    let mut log = Log::default();
    let partition = log.partition("t");
    log.append(partition, records(2));
    let producer = log.producer(Some("p"));
    let mut embedded = commit_of(token(producer, 1), &[]);
    let positions = vec![offset(partition, 9)];
    embedded.offsets =
        vec![GroupOffsets { group: "embedded".into(), member: None, offsets: positions.clone() }];
    let plain = commit_offsets(GROUP, None, &positions);
    for level in [1, 2] {
        log.reply(&Command::Config(ConfigChange::SemanticsLevel { level }));
        assert!(matches!(log.refused(&plain), Refusal::OffsetOutOfRange { sent: 9, end: 2, .. }), "{level}");
    }
    let level = SEMANTICS_LEVEL_OFFSETS_AHEAD;
    log.reply(&Command::Config(ConfigChange::SemanticsLevel { level }));
    assert_eq!(log.reply(&plain), Reply::OffsetsCommitted);
    assert_eq!(log.state.committed_offset(GROUP, partition).unwrap().offset, 9);
    assert!(matches!(log.commit_refused(&embedded), Refusal::OffsetOutOfRange { sent: 9, end: 2, .. }));
    log.append(partition, records(3));
    log.restart();
    assert_eq!(log.state.committed_offset(GROUP, partition).unwrap().offset, 9);
}

#[test]
fn gr_9_offsets_survive_their_members_an_open_and_a_restart_but_not_their_topic() {
    let mut log = Log::default();
    let (kept, deleted) = (log.partition("kept"), log.partition("deleted"));
    for partition in [kept, deleted] {
        log.append(partition, records(9));
    }
    let member = log.join(GROUP, &[kept.topic, deleted.topic]);
    log.reply(&commit_offsets(GROUP, Some(member), &[offset(kept, 5), offset(deleted, 6)]));
    log.reply(&Command::DeleteTopic { topic: deleted.topic });
    assert_eq!(log.state.committed_offset(GROUP, deleted), None);
    let group = &log.state.groups[GROUP];
    assert_eq!(group.members[&member].topics, [kept.topic]);
    assert_eq!(group.owners.keys().collect::<Vec<_>>(), [&kept]);
    log.reply(&Command::Open);
    log.restart();
    assert_eq!(log.state.committed_offset(GROUP, kept).unwrap().offset, 5);

    // A new topic of the same name is another topic.
    let again = log.partition("deleted");
    assert_ne!(again, deleted);
    assert_eq!(log.state.committed_offset(GROUP, again), None);
}

#[test]
fn gr_9_deleting_a_topic_makes_no_new_generation_where_nobody_subscribes_to_it() {
    let mut log = Log::default();
    let (a, b) = (log.partition("a"), log.partition("b"));
    log.reply(&commit_offsets(GROUP, None, &[offset(b, 0)]));
    log.join(GROUP, &[a.topic]);
    let generation = log.state.groups[GROUP].generation;
    log.reply(&Command::DeleteTopic { topic: b.topic });
    assert_eq!(log.state.groups[GROUP].generation, generation);
    assert_eq!(log.state.committed_offset(GROUP, b), None);
}

#[test]
fn gr_10_open_fences_all_members_of_earlier_opens() {
    let mut log = Log::default();
    let partition = log.partition("t");
    log.append(partition, records(9));
    assert_eq!(log.reply(&Command::Open), Reply::Opened { number: 1 });
    let old = log.join(GROUP, &[partition.topic]);
    let generation = log.state.groups[GROUP].generation;
    assert_eq!(log.state.groups[GROUP].members[&old].open_number, 1);
    log.restart();

    assert_eq!(log.reply(&Command::Open), Reply::Opened { number: 2 });
    let group = &log.state.groups[GROUP];
    assert!(group.members.is_empty() && group.owners.is_empty());
    assert!(group.generation > generation);
    let refusal = log.refused(&commit_offsets(GROUP, Some(old), &[offset(partition, 1)]));
    assert!(matches!(refusal, Refusal::UnknownMember { .. }), "a late commit: {refusal}");

    // Consumption goes on at once: nobody has to release anything.
    let new = log.join(GROUP, &[partition.topic]);
    assert_ne!(new, old);
    assert_eq!(log.state.groups[GROUP].members[&new].open_number, 2);
    let commit = commit_offsets(GROUP, Some(new), &[offset(partition, 1)]);
    assert_eq!(log.reply(&commit), Reply::OffsetsCommitted);
}

#[test]
fn gr_10_a_member_that_is_fenced_while_a_hand_over_waits_can_not_commit_later() {
    let mut log = Log::default();
    let topic = log.topic("t", 1);
    log.append(part(topic, 0), records(9));
    let slow = log.join(GROUP, &[topic]);
    let (b, c) = (log.join(GROUP, &[topic]), log.join(GROUP, &[topic]));
    log.reply(&Command::LeaveGroup { group: GROUP.into(), member: slow, fenced: true });
    let owner = log.state.groups[GROUP].owners[&part(topic, 0)];
    assert!([b, c].contains(&owner.member) && !owner.revoking);
    let late = commit_offsets(GROUP, Some(slow), &[offset(part(topic, 0), 1)]);
    assert!(matches!(log.refused(&late), Refusal::UnknownMember { .. }));
}

#[test]
fn gr_10_joining_a_topic_that_does_not_exist_makes_no_group() {
    let mut log = Log::default();
    assert_eq!(log.refused(&join(GROUP, &[TopicId(9)])), Refusal::UnknownTopic { topic: TopicId(9) });
    assert!(matches!(log.refused(&join("..", &[])), Refusal::IllegalName { .. }));
    assert!(log.state.groups.is_empty());
}

/// A command, once its group's name is known.
type Naming = Box<dyn Fn(&str) -> Command>;

/// All commands that bring a group into being, each with a name of its own to be given.
fn naming(log: &mut Log, partition: Partition) -> [Naming; 5] {
    let commit = commit_of(token(log.producer(Some("p")), 1), &[]);
    let (producer, epoch) = log.init("x");
    let sender = move || sender("x", (producer, epoch), Protocol::V2);
    let offsets = move || vec![offset(partition, 0)];
    [
        Box::new(move |group| commit_offsets(group, None, &offsets())),
        Box::new(move |group| {
            let positions = GroupOffsets { group: group.into(), member: None, offsets: offsets() };
            Command::Commit(Box::new(Commit { offsets: vec![positions], ..commit.clone() }))
        }),
        Box::new(move |group| Transactional::AddOffsets { sender: sender(), group: group.into() }.into()),
        Box::new(move |group| {
            let (sender, group, member) = (sender(), group.into(), None);
            Transactional::CommitOffsets { sender, group, member, offsets: offsets() }.into()
        }),
        Box::new(|group| join(group, &[])),
    ]
}

#[test]
fn oa_8_names_of_groups_are_free_text_from_level_2_on_and_as_those_of_topics_before() {
    let mut log = Log::default();
    let partition = log.partition("t");
    let commands = naming(&mut log, partition);
    let longest = "ü".repeat(124) + "x";
    let free = ["two words", "a/b", "..", "ü", "it's \"quoted\"", " ", "\u{a0}", &longest];
    let never = ["", " ", "  ", "\u{3000}", "a\nb", "\0", "\u{7f}", "\u{85}", &format!("{longest}x")];
    for name in free.iter().chain(&never) {
        for command in &commands {
            let refusal = log.refused(&command(name));
            assert_eq!(refusal, Refusal::IllegalName { name: name.to_string() }, "{name:?}");
            assert_eq!(refusal.kafka_code(), 17);
        }
    }
    let level = SEMANTICS_LEVEL_GROUP_NAMES;
    log.reply(&Command::Config(ConfigChange::SemanticsLevel { level }));
    assert_eq!(log.state.groups.len(), 0);
    for name in never {
        for command in &commands {
            let refusal = log.refused(&command(name));
            assert_eq!(refusal, Refusal::IllegalGroupName { name: name.to_string() }, "{name:?}");
            assert_eq!(refusal.kafka_code(), 24);
        }
    }
    let taken: Vec<&str> = free.into_iter().filter(|name| !name.trim().is_empty()).collect();
    for (name, command) in taken.iter().zip(commands.iter().cycle()) {
        let reply = log.reply(&command(name));
        assert!(!matches!(reply, Reply::Refused(_)), "{name:?}: {reply:?}");
    }
    log.restart();
    assert!(log.state.groups.contains_key("two words"));
    // Of everything else the names are as ever.
    let create =
        Command::CreateTopic { name: "two words".into(), partitions: 1, config: TopicConfig::default() };
    assert!(matches!(log.refused(&create), Refusal::IllegalName { .. }));
    let producer = Command::InitProducer { name: Some("two words".into()) };
    assert!(matches!(log.refused(&producer), Refusal::IllegalName { .. }));
}

fn delete(partitions: Option<&[Partition]>) -> Command {
    Command::DeleteOffsets { group: GROUP.into(), partitions: partitions.map(<[_]>::to_vec) }
}

#[test]
fn gr_9_a_group_without_members_forgets_the_positions_that_are_named_or_all_of_them_and_itself() {
    let mut log = Log::default();
    let topic = log.topic("t", 3);
    let all = [0, 1].map(|index| offset(part(topic, index), 0));
    log.reply(&commit_offsets(GROUP, None, &all));
    let named = [part(topic, 0), part(topic, 2), part(topic, 0)];
    assert_eq!(log.reply(&delete(Some(&named))), Reply::OffsetsDeleted { positions: 1 });
    let left: Vec<_> = log.state.groups[GROUP].offsets.keys().copied().collect();
    assert_eq!(left, [part(topic, 1)], "and a partition without a position, or of no topic, is passed over");
    assert_eq!(log.reply(&delete(Some(&[part(TopicId(9), 0)]))), Reply::OffsetsDeleted { positions: 0 });
    assert_eq!(log.reply(&delete(None)), Reply::OffsetsDeleted { positions: 1 });
    assert!(log.state.groups.is_empty());
    let refusal = log.refused(&delete(None));
    assert_eq!(refusal, Refusal::UnknownGroup { group: GROUP.into() });
    assert_eq!(refusal.kafka_code(), 69);
}

#[test]
fn gr_4_no_position_is_taken_from_under_a_member_or_an_open_transaction() {
    let mut log = Log::default();
    let topic = log.topic("t", 2);
    let partition = part(topic, 0);
    log.append(partition, records(3));
    let member = log.join(GROUP, &[topic]);
    log.reply(&commit_offsets(GROUP, Some(member), &[offset(partition, 2)]));
    for partitions in [None, Some(&[partition][..])] {
        let refusal = log.refused(&delete(partitions));
        assert_eq!(refusal, Refusal::GroupNotEmpty { group: GROUP.into(), members: 1 });
    }
    log.reply(&Command::LeaveGroup { group: GROUP.into(), member, fenced: false });
    let producer = log.init("x");
    let sender = sender("x", producer, Protocol::V2);
    let offsets = vec![offset(partition, 3)];
    let pending =
        Transactional::CommitOffsets { sender: sender.clone(), group: GROUP.into(), member: None, offsets };
    log.reply(&pending.into());
    for partitions in [None, Some(&[partition][..])] {
        let refusal = log.refused(&delete(partitions));
        assert_eq!(refusal, Refusal::UnstableOffset { group: GROUP.into(), partition });
    }
    assert_eq!(log.reply(&delete(Some(&[part(topic, 1)]))), Reply::OffsetsDeleted { positions: 0 });
    log.reply(&Transactional::End { sender, commit: true }.into());
    assert_eq!(log.state.committed_offset(GROUP, partition).map(|it| it.offset), Some(3));
    assert_eq!(log.reply(&delete(None)), Reply::OffsetsDeleted { positions: 1 });
}
