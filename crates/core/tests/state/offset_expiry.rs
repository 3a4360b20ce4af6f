//! Offsets that nobody uses any more: line GR-6 of the semantics.

use crate::common::*;
use exactlog_core::command::*;
use exactlog_core::ids::{MemberId, Partition, TopicId};
use exactlog_core::reply::{Refusal, Reply};
use proptest::prelude::*;
use std::collections::BTreeMap;

const RETENTION_MS: i64 = 1_000;

fn retention(retention_ms: u64) -> Command {
    Command::Config(ConfigChange::OffsetRetention { retention_ms })
}

fn leave(group: &str, member: MemberId) -> Command {
    Command::LeaveGroup { group: group.to_string(), member, fenced: false }
}

/// How many offsets a `Tick` at this time forgets.
fn expired_at(log: &mut Log, time_ms: i64) -> u64 {
    log.time_ms = time_ms;
    match log.reply(&Command::Tick) {
        Reply::Ticked { offsets, .. } => offsets,
        other => panic!("{other:?}"),
    }
}

/// A log with a topic of two partitions, opened at 0.
fn opened() -> (Log, TopicId) {
    let mut log = Log::default();
    log.reply(&Command::Open);
    log.reply(&retention(RETENTION_MS as u64));
    let topic = log.topic("t", 2);
    (log, topic)
}

#[test]
fn gr_6_an_offset_without_members_goes_when_its_time_is_over_and_not_before() {
    let (mut log, topic) = opened();
    log.time_ms = 10;
    log.reply(&commit_offsets("g", None, &[offset(part(topic, 0), 0)]));
    log.time_ms = 500;
    log.reply(&commit_offsets("g", None, &[offset(part(topic, 1), 0)]));
    assert_eq!(expired_at(&mut log, 1_009), 0);
    assert_eq!(log.state.next_tick_ms(), 1_010);
    log.restart();
    assert_eq!(expired_at(&mut log, 1_010), 1);
    assert_eq!(log.state.committed_offset("g", part(topic, 0)), None);
    assert_eq!(log.state.committed_offset("g", part(topic, 1)).map(|it| it.time_ms), Some(500));
    assert_eq!(expired_at(&mut log, 1_500), 1);
    assert!(log.state.groups.is_empty(), "the group goes with its last offset");
    assert_eq!(log.state.next_tick_ms(), i64::MAX);
}

#[test]
fn gr_6_by_default_it_is_seven_days_and_the_setting_has_bounds() {
    const WEEK_MS: i64 = 7 * 24 * 3_600_000;
    let mut log = Log::default();
    let at = log.partition("t");
    log.reply(&commit_offsets("g", None, &[offset(at, 0)]));
    assert_eq!(expired_at(&mut log, WEEK_MS - 1), 0);
    for (retention_ms, is_legal) in [(0, false), (1, true), (u64::MAX, false)] {
        let refused = matches!(
            log.reply(&retention(retention_ms)),
            Reply::Refused(Refusal::SettingOutOfBounds { setting: "offsets.retention.ms", .. })
        );
        assert_eq!(refused, !is_legal, "{retention_ms}");
    }
    log.reply(&retention(WEEK_MS as u64));
    assert_eq!(expired_at(&mut log, WEEK_MS), 1);
}

#[test]
fn gr_6_what_a_member_reads_stays_and_counts_from_when_it_leaves() {
    let (mut log, read) = opened();
    let other = log.partition("other");
    let member = log.join("g", &[read, other.topic]);
    log.reply(&commit_offsets("g", Some(member), &[offset(part(read, 0), 0), offset(other, 0)]));
    assert_eq!(expired_at(&mut log, 5_000), 0);
    log.reply(&leave("g", member));
    let member = log.join("g", &[read]);
    assert_eq!(expired_at(&mut log, 5_999), 0, "it was read until 5,000");
    assert_eq!(expired_at(&mut log, 6_000), 1);
    assert_eq!(log.state.committed_offset("g", other), None, "no member reads its topic any more");
    assert!(log.state.committed_offset("g", part(read, 0)).is_some());
    log.time_ms = 7_000;
    log.reply(&leave("g", member));
    assert_eq!(expired_at(&mut log, 7_999), 0);
    assert_eq!(expired_at(&mut log, 8_000), 1);
    assert!(log.state.groups.is_empty());
}

#[test]
fn gr_6_the_time_in_which_the_log_was_closed_does_not_count() {
    let (mut log, topic) = opened();
    log.reply(&commit_offsets("g", None, &[offset(part(topic, 0), 0)]));
    log.restart();
    log.time_ms = 10 * RETENTION_MS;
    log.reply(&Command::Open);
    assert_eq!(expired_at(&mut log, 11 * RETENTION_MS - 1), 0);
    assert_eq!(expired_at(&mut log, 11 * RETENTION_MS), 1);
}

#[test]
fn gr_6_an_offset_stays_while_a_transaction_is_about_to_commit_another() {
    let (mut log, topic) = opened();
    let at = part(topic, 0);
    log.reply(&commit_offsets("g", None, &[offset(at, 0)]));
    let producer = log.init("x");
    let sender = |producer| sender("x", producer, Protocol::V2);
    let pending = |producer| {
        let (group, offsets) = ("g".to_string(), vec![offset(at, 0)]);
        Command::from(Transactional::CommitOffsets { sender: sender(producer), group, member: None, offsets })
    };
    assert!(matches!(log.reply(&pending(producer)), Reply::InTransaction { .. }));
    assert_eq!(expired_at(&mut log, 3 * RETENTION_MS), 0);
    log.identity(Transactional::End { sender: sender(producer), commit: false });
    assert!(log.state.next_tick_ms() <= log.time_ms, "it is overdue");
    assert_eq!(expired_at(&mut log, 3 * RETENTION_MS), 1);
}

/// Something that happens to one of two groups, after so many ms.
#[derive(Clone, Debug)]
enum Event {
    Commit { group: usize, topic: usize },
    Join { group: usize, topics: usize },
    Leave { group: usize },
    Open,
    DeleteTopic,
    Tick,
    Restart,
}

fn event() -> impl Strategy<Value = (i64, Event)> {
    let (group, topic) = (0..2usize, 0..2usize);
    let event = prop_oneof![
        4 => (group.clone(), topic).prop_map(|(group, topic)| Event::Commit { group, topic }),
        3 => (group.clone(), 0..4usize).prop_map(|(group, topics)| Event::Join { group, topics }),
        3 => group.prop_map(|group| Event::Leave { group }),
        1 => Just(Event::Open),
        1 => Just(Event::DeleteTopic),
        8 => Just(Event::Tick),
        1 => Just(Event::Restart),
    ];
    (prop_oneof![Just(0), 1..400i64, Just(RETENTION_MS)], event)
}

/// What is known of a group: its members with their topics, when they changed, and its offsets with their times.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    members: Vec<(MemberId, Vec<TopicId>)>,
    changed_ms: i64,
    offsets: BTreeMap<Partition, i64>,
}

proptest! {
    /// Of random histories, exactly what the rule says is forgotten, and no `Tick` that wasn't announced forgets.
    #[test]
    fn gr_6_random_histories_forget_what_the_rule_says(events in prop::collection::vec(event(), 1..60)) {
        let (mut log, kept) = opened();
        let mut topics = vec![kept, log.topic("u", 1)];
        let mut known: BTreeMap<&str, Known> = BTreeMap::new();
        let mut opened_ms = 0;
        for (later_ms, event) in events {
            log.time_ms += later_ms;
            let now_ms = log.time_ms;
            let name = |group: usize| ["g", "h"][group];
            match event {
                Event::Commit { group, topic } => {
                    let name = name(group);
                    let at = part(topics[topic.min(topics.len() - 1)], 0);
                    let member = known.get(name).and_then(|it| it.members.first()).map(|(member, _)| *member);
                    let command = commit_offsets(name, member, &[offset(at, 0)]);
                    if log.reply(&command) == Reply::OffsetsCommitted {
                        known.entry(name).or_default().offsets.insert(at, now_ms);
                    }
                }
                Event::Join { group, topics: chosen } => {
                    let name = name(group);
                    let chosen = (0..topics.len()).filter(|bit| chosen >> bit & 1 == 1);
                    let topics: Vec<_> = chosen.map(|bit| topics[bit]).collect();
                    let member = log.join(name, &topics);
                    let group = known.entry(name).or_default();
                    group.members.push((member, topics));
                    group.changed_ms = now_ms;
                }
                Event::Leave { group } => {
                    let name = name(group);
                    let Some(group) = known.get_mut(name).filter(|it| !it.members.is_empty()) else { continue };
                    let (member, _) = group.members.remove(0);
                    group.changed_ms = now_ms;
                    log.reply(&leave(name, member));
                }
                Event::Open => {
                    log.reply(&Command::Open);
                    known.values_mut().for_each(|it| it.members.clear());
                    opened_ms = now_ms;
                }
                Event::DeleteTopic if topics.len() > 1 => {
                    let topic = topics.remove(1);
                    log.reply(&Command::DeleteTopic { topic });
                    for group in known.values_mut() {
                        group.offsets.retain(|at, _| at.topic != topic);
                        group.members.iter_mut().for_each(|(_, topics)| topics.retain(|it| *it != topic));
                    }
                }
                Event::DeleteTopic => {}
                Event::Restart => log.restart(),
                Event::Tick => {
                    let announced = log.state.next_tick_ms() <= now_ms;
                    let before = known.clone();
                    for group in known.values_mut() {
                        let since_ms = group.changed_ms.max(opened_ms);
                        let members = &group.members;
                        group.offsets.retain(|at, time_ms| {
                            members.iter().any(|(_, topics)| topics.contains(&at.topic))
                                || (*time_ms).max(since_ms) + RETENTION_MS > now_ms
                        });
                    }
                    known.retain(|_, group| {
                        !group.members.is_empty()
                            || !group.offsets.is_empty()
                            || group.changed_ms.max(opened_ms) + RETENTION_MS > now_ms
                    });
                    prop_assert!(announced || before == known, "nobody would have ticked");
                    log.reply(&Command::Tick);
                }
            }
            let found: BTreeMap<_, _> = log.state.groups.iter().map(|(name, group)| {
                let offsets = group.offsets.iter().map(|(at, it)| (*at, it.time_ms)).collect();
                (name.as_str(), (group.members.len(), offsets))
            }).collect();
            let expected: BTreeMap<_, (usize, BTreeMap<Partition, i64>)> =
                known.iter().map(|(name, it)| (*name, (it.members.len(), it.offsets.clone()))).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
