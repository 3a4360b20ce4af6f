//! OffsetCommit: how far a group has come, and what its client keeps beside that (semantics GR-2, GR-5 to GR-7).

use crate::code;
use crate::dispatch::Call;
use crate::groups::{self, Claim, topic_partition};
use exactlog::wire::{Command, OFFSET_METADATA_BYTES_MAX, OffsetCommit, OffsetMetadata, is_legal_group_name};
use exactlog::{Error, Partition, Refusal};
use exactlog_wire::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitResponsePartition, OffsetCommitResponseTopic, Request, Response,
};
use exactlog_wire::value::{Str, Uuid};
use std::collections::BTreeMap;

/// From which version on members of consumer groups can commit.
const MEMBER_EPOCHS: i16 = 9;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    // Named twice, the last one counts, as in Kafka: some clients commit what they have had record by record.
    let (mut offsets, mut topics) = (BTreeMap::new(), Vec::new());
    for topic in &request.topics {
        let found = call.node.topic(&topic.name, topic.topic_id);
        let unknown = match topic.topic_id == Uuid::default() {
            true => code::UNKNOWN_TOPIC_OR_PARTITION,
            false => code::UNKNOWN_TOPIC_ID,
        };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let checked = found.as_ref().ok_or(unknown).and_then(|topic| check(topic, wanted));
            let taken = checked.map(|offset| offsets.insert(offset.partition, offset));
            partitions.push((wanted.partition_index, taken.err()));
        }
        topics.push((topic.name.clone(), topic.topic_id, partitions));
    }
    let committed = match offsets.is_empty() {
        true => Ok(()),
        false => commit(call, &request, offsets.into_values().collect()).await,
    };
    response(topics, committed.err().unwrap_or(code::NONE))
}

/// A position that can be committed, whoever commits it.
fn check(topic: &exactlog::Topic, wanted: &OffsetCommitRequestPartition) -> Result<OffsetCommit, i16> {
    let index = u32::try_from(wanted.partition_index).ok().filter(|index| *index < topic.partitions());
    let index = index.ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let metadata = metadata_of(wanted.committed_metadata.as_ref())?;
    let partition = Partition { topic: topic.id(), index };
    let offset = u64::try_from(wanted.committed_offset).map_err(|_| code::OFFSET_OUT_OF_RANGE)?;
    // A client says where it has come to, and it may have gone back, or ahead of what is there.
    Ok(OffsetCommit { partition, offset, reset: true, metadata })
}

/// What is kept beside an offset; null is as none.
pub(crate) fn metadata_of(sent: Option<&Str>) -> Result<OffsetMetadata, i16> {
    let text = sent.map(|text| &**text).unwrap_or_default();
    match text.len() > OFFSET_METADATA_BYTES_MAX {
        true => Err(code::OFFSET_METADATA_TOO_LARGE),
        false => Ok(OffsetMetadata::from(text)),
    }
}

async fn commit(call: &Call<'_>, request: &Request, offsets: Vec<OffsetCommit>) -> Result<(), i16> {
    let group = &*request.group_id;
    if !is_legal_group_name(group) {
        return Err(code::INVALID_GROUP_ID);
    }
    let claim = Claim {
        generation: request.generation_id_or_member_epoch,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
    };
    let partitions: Vec<_> = offsets.iter().map(|offset| topic_partition(offset.partition)).collect();
    let knows_member_epochs = call.version >= MEMBER_EPOCHS;
    let commit = groups::Commit {
        group,
        claim,
        partitions: &partitions,
        is_transactional: false,
        knows_member_epochs,
    };
    let command = Command::CommitOffsets { group: group.to_string(), member: None, offsets };
    let handed_in = call.node.groups.committing(commit, || call.node.log.hand_in(command));
    let handed_in = handed_in.map_err(|error_code| match error_code {
        // The group may have been there before this node was: its members join anew when they are told so. That there
        // is no group, as Kafka says from version 9 on, is the end for some of them.
        code::GROUP_ID_NOT_FOUND if call.version < MEMBER_EPOCHS => code::ILLEGAL_GENERATION,
        code::GROUP_ID_NOT_FOUND => code::UNKNOWN_MEMBER_ID,
        error_code => error_code,
    })?;
    let replied = match handed_in {
        Ok(asked) => asked.reply().await,
        Err(error) => Err(error),
    };
    replied.map(|_| ()).map_err(|error| match error {
        // Its members are consumers of the process that has the log.
        Error::Refused(Refusal::GroupNotEmpty { .. }) => code::UNKNOWN_MEMBER_ID,
        error => error.kafka_code(),
    })
}

/// The partitions of a topic, each with what it was refused with before anything was asked of the log.
type Checked = (Str, Uuid, Vec<(i32, Option<i16>)>);

fn response(topics: Vec<Checked>, otherwise: i16) -> Response {
    let partition = |(partition_index, refused): (i32, Option<i16>)| OffsetCommitResponsePartition {
        partition_index,
        error_code: refused.unwrap_or(otherwise),
    };
    let topic = |(name, topic_id, partitions): Checked| OffsetCommitResponseTopic {
        name,
        topic_id,
        partitions: partitions.into_iter().map(partition).collect(),
    };
    Response { topics: topics.into_iter().map(topic).collect(), ..Response::default() }
}
