//! Groups as a node tells them: members of both kinds of groups, committed offsets, and lag.
//!
//! Lag is exact: what lies behind a position is fetched and counted, up to [`COUNTED_BYTES_CLOSELY`] of a partition;
//! the rest counts as offsets.

use super::reading::Counted;
use super::{COUNTED_BYTES_CLOSELY, EARLIEST, LATEST, Node, Seen, offset_of};
use crate::failure::Failure;
use crate::open::now_ms;
use crate::place::{GroupFacts, MemberFacts, Place, PositionFacts};
use exactlog::Bytes;
use exactlog_client::{Code, Refused, To};
use exactlog_wire::messages::{
    ConsumerGroupDescribe, DescribeGroups, ListGroups, OffsetFetch, consumer_group_describe, describe_groups,
    list_groups, offset_fetch,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The state of a classic group that isn't there.
const DEAD: &str = "Dead";
/// Up to this version one group is asked for, and topics go by their names.
const ONE_GROUP: i16 = 7;

/// A member, and the partitions that it has.
#[derive(Debug)]
struct Member {
    id: String,
    topics: Vec<String>,
    has: Vec<(String, u32)>,
}

/// What is told of a group besides its offsets.
#[derive(Debug)]
struct Described {
    generation: Option<u64>,
    members: Vec<Member>,
}

impl Node {
    /// The names of all groups.
    pub(super) fn listed_groups(&self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for node in self.node_ids()? {
            let request = list_groups::Request::default();
            names.extend(self.ask::<ListGroups, _>(To::Node(node), &request, |response| {
                Refused::check(response.error_code, None)?;
                Ok(response.groups.into_iter().map(|group| group.group_id.to_string()))
            })?);
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn group_facts(&self, name: &str) -> Result<Option<GroupFacts>, Failure> {
        let described = match self.described_classic(name)? {
            Some(described) => Some(described),
            None => self.described_consumers(name)?,
        };
        let Some(described) = described else { return Ok(None) };
        let committed = self.committed_offsets(name)?;
        let owner = |member: &Member| {
            let id = json!(member.id);
            member.has.iter().map(move |spot| (spot.clone(), id.clone())).collect::<Vec<_>>()
        };
        let mut owners: BTreeMap<(String, u32), Value> = described.members.iter().flat_map(owner).collect();
        let subscribed = described.members.iter().flat_map(|member| member.topics.iter().map(String::as_str));
        let topics: BTreeSet<&str> =
            subscribed.chain(committed.keys().map(|(topic, _)| topic.as_str())).collect();
        let mut positions = Vec::new();
        for topic in topics {
            // One that isn't there may still be subscribed to.
            let Some(topic) = self.find(topic)? else { continue };
            let starts = self.offsets(&topic.name, 0..topic.partitions, EARLIEST, Seen::All)?;
            let ends = self.offsets(&topic.name, 0..topic.partitions, LATEST, Seen::All)?;
            let shown_ends = self.offsets(&topic.name, 0..topic.partitions, LATEST, Seen::Committed)?;
            for partition in 0..topic.partitions {
                let at = (topic.name.to_string(), partition);
                let committed = committed.get(&at).copied();
                let start = offset_of(&starts, partition);
                let to = offset_of(&shown_ends, partition).max(start);
                let unread = committed.unwrap_or_default().clamp(start, to)..to;
                let Counted { records, is_exact, first_ms } =
                    self.count(&topic.name, partition, unread, COUNTED_BYTES_CLOSELY)?;
                let age =
                    |first_ms: i64| u64::try_from(now_ms().saturating_sub(first_ms)).unwrap_or_default();
                positions.push(PositionFacts {
                    topic: topic.name.clone(),
                    partition,
                    committed,
                    committed_ms: None,
                    start,
                    end: offset_of(&ends, partition),
                    lag: records,
                    is_exact,
                    lag_ms: first_ms.map_or(0, age),
                    owner: owners.remove(&at).unwrap_or_default(),
                });
            }
        }
        let member = |member: &Member| MemberFacts {
            id: json!(member.id),
            topics: member.topics.clone(),
            partitions: member.has.len() as u64,
        };
        let members = described.members.iter().map(member).collect();
        Ok(Some(GroupFacts { name: name.to_string(), generation: described.generation, members, positions }))
    }

    /// Of a group whose members are assigned by the node (KIP-848); `None`: there is no such group.
    fn described_consumers(&self, name: &str) -> Result<Option<Described>, Failure> {
        let request = consumer_group_describe::Request { group_ids: vec![name.into()], ..Default::default() };
        self.ask::<ConsumerGroupDescribe, _>(To::Group(name), &request, |mut response| {
            let group = response.groups.pop().unwrap_or_default();
            if Code(group.error_code) == Code::GROUP_ID_NOT_FOUND {
                return Ok(None);
            }
            Refused::check(group.error_code, group.error_message.as_ref())?;
            let member = |member: &consumer_group_describe::Member| Member {
                id: member.member_id.to_string(),
                topics: member.subscribed_topic_names.iter().map(ToString::to_string).collect(),
                has: member
                    .assignment
                    .topic_partitions
                    .iter()
                    .flat_map(|topic| {
                        topic.partitions.iter().map(|index| (topic.topic_name.to_string(), *index as u32))
                    })
                    .collect(),
            };
            let members = group.members.iter().map(member).collect();
            Ok(Some(Described { generation: u64::try_from(group.group_epoch).ok(), members }))
        })
    }

    /// Of a group whose members assign themselves, or that has none; `None`: it isn't one.
    fn described_classic(&self, name: &str) -> Result<Option<Described>, Failure> {
        let request = describe_groups::Request { groups: vec![name.into()], ..Default::default() };
        self.ask::<DescribeGroups, _>(To::Group(name), &request, |mut response| {
            let group = response.groups.pop().unwrap_or_default();
            // Up to version 5 that there is none is a state.
            if Code(group.error_code) == Code::GROUP_ID_NOT_FOUND || &*group.group_state == DEAD {
                return Ok(None);
            }
            Refused::check(group.error_code, group.error_message.as_ref())?;
            let member = |member: &describe_groups::DescribedGroupMember| Member {
                id: member.member_id.to_string(),
                topics: subscription(member.member_metadata.clone()).unwrap_or_default(),
                has: assignment(member.member_assignment.clone()).unwrap_or_default(),
            };
            Ok(Some(Described { generation: None, members: group.members.iter().map(member).collect() }))
        })
    }

    /// What a group has committed, by topic and partition.
    pub(crate) fn committed_offsets(&self, group: &str) -> Result<BTreeMap<(String, u32), u64>, Failure> {
        let told = self.committed_with_metadata(group, false)?;
        Ok(told.into_iter().map(|(place, (offset, _))| (place, offset)).collect())
    }

    /// The same, each with the text that stands beside it. `stable`: refused while transactions that commit here are
    /// open (KIP-447), for who goes on from there.
    #[allow(clippy::type_complexity, reason = "a map from a place to what was committed there")]
    pub(crate) fn committed_with_metadata(
        &self,
        group: &str,
        stable: bool,
    ) -> Result<BTreeMap<(String, u32), (u64, String)>, Failure> {
        let request = offset_fetch::Request {
            group_id: group.into(),
            topics: None,
            require_stable: stable,
            ..Default::default()
        };
        self.ask_up_to::<OffsetFetch, _>(ONE_GROUP, To::Group(group), &request, true, |response| {
            Refused::check(response.error_code, None)?;
            let mut committed = BTreeMap::new();
            for topic in &response.topics {
                for it in &topic.partitions {
                    Refused::check(it.error_code, None)?;
                    let Ok(offset) = u64::try_from(it.committed_offset) else { continue };
                    let text = it.metadata.as_deref().unwrap_or_default().to_string();
                    committed.insert((topic.name.to_string(), it.partition_index as u32), (offset, text));
                }
            }
            Ok(committed)
        })
    }
}

/// The topics of a member's subscription, as consumers of classic groups write it: version, then names.
fn subscription(mut bytes: Bytes) -> Option<Vec<String>> {
    _ = take(&mut bytes, 2)?;
    let count = number(&mut bytes)?;
    (0..count).map(|_| text(&mut bytes)).collect()
}

/// The partitions of a member's assignment: version, then topics, each with its partitions.
fn assignment(mut bytes: Bytes) -> Option<Vec<(String, u32)>> {
    _ = take(&mut bytes, 2)?;
    let (topics, mut partitions) = (number(&mut bytes)?, Vec::new());
    for _ in 0..topics {
        let topic = text(&mut bytes)?;
        for _ in 0..number(&mut bytes)? {
            partitions.push((topic.clone(), number(&mut bytes)?));
        }
    }
    Some(partitions)
}

fn take(bytes: &mut Bytes, len: usize) -> Option<Bytes> {
    (bytes.len() >= len).then(|| bytes.split_to(len))
}

fn number(bytes: &mut Bytes) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(take(bytes, 4)?.first_chunk().copied()?)).ok()
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let len = u16::from_be_bytes(take(bytes, 2)?.first_chunk().copied()?);
    String::from_utf8(take(bytes, len.into())?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_of_classic_groups_say_is_read_and_nothing_is_made_of_less() {
        let told = b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\x02\0\0\0\0\0\0\0\x02".to_vec();
        let whole = assignment(told.clone().into());
        assert_eq!(whole, Some(vec![("orders".to_string(), 0), ("orders".to_string(), 2)]));
        for len in 0..told.len() {
            assert_eq!(assignment(told[..len].to_vec().into()), None, "{len} bytes");
        }
        let told = b"\0\0\0\0\0\x02\0\x01a\0\x01b\xff\xff\xff\xff".to_vec();
        assert_eq!(subscription(told.into()), Some(vec!["a".to_string(), "b".to_string()]));
        // A count that no message could hold makes no room.
        assert_eq!(subscription(b"\0\0\x7f\xff\xff\xff".to_vec().into()), None);
    }
}
