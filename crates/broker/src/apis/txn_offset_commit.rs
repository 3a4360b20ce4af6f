//! TxnOffsetCommit: positions that become a group's when the transaction commits (KIP-98, KIP-447, KIP-890; semantics
//! TX-14, TX-21, TX-22).
//!
//! As in Kafka a position may move back: its sender is the one that may, by its epoch. Behind the end of its partition
//! there is none.

use super::offset_commit::metadata_of;
use crate::code;
use crate::dispatch::Call;
use crate::groups;
use crate::transactions::{Claim, refused};
use exactlog::wire::{OffsetCommit, Protocol, Transactional};
use exactlog_wire::messages::txn_offset_commit::{
    Request, Response, TxnOffsetCommitRequestPartition, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use std::collections::BTreeMap;

/// From which version on clients know TRANSACTION_ABORTABLE (KIP-890).
const ABORTABLE: i16 = 4;
/// From which version on it brings its group into the transaction (KIP-890).
const ADDS_GROUP: i16 = 5;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    if request.group_id.is_empty() {
        return response(&request, |_, _| code::INVALID_GROUP_ID);
    }
    // Of a partition that is named twice the last position counts.
    let (mut offsets, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for topic in &request.topics {
        for wanted in &topic.partitions {
            match check(call, &topic.name, wanted) {
                Ok(offset) => _ = offsets.insert(offset.partition, offset),
                Err(error_code) => _ = refused.insert((&*topic.name, wanted.partition_index), error_code),
            }
        }
    }
    let of_rest = match offsets.is_empty() {
        true => code::NONE,
        false => commit(call, &request, offsets.into_values().collect()).await.err().unwrap_or(code::NONE),
    };
    response(&request, |topic, index| refused.get(&(topic, index)).copied().unwrap_or(of_rest))
}

fn check(
    call: &Call<'_>,
    topic: &str,
    wanted: &TxnOffsetCommitRequestPartition,
) -> Result<OffsetCommit, i16> {
    let partition =
        call.node.partition(topic, wanted.partition_index).map_err(|(error_code, _)| error_code)?;
    let metadata = metadata_of(wanted.committed_metadata.as_ref())?;
    let offset = u64::try_from(wanted.committed_offset).map_err(|_| code::OFFSET_OUT_OF_RANGE)?;
    Ok(OffsetCommit { partition, offset, reset: true, metadata })
}

async fn commit(call: &Call<'_>, request: &Request, offsets: Vec<OffsetCommit>) -> Result<(), i16> {
    let claim = Claim {
        transactional_id: &request.transactional_id,
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    let protocol = if call.version >= ADDS_GROUP { Protocol::V2 } else { Protocol::V1 };
    let sender = claim.sender(call, protocol, call.version >= ABORTABLE)?;
    let group = request.group_id.to_string();
    let partitions: Vec<_> = offsets.iter().map(|offset| groups::topic_partition(offset.partition)).collect();
    let command = Transactional::CommitOffsets { sender, group, member: None, offsets };
    let member = groups::Claim {
        generation: request.generation_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
    };
    let commit = groups::Commit {
        group: &request.group_id,
        claim: member,
        partitions: &partitions,
        is_transactional: true,
        // They are told of a stale epoch as of a generation.
        knows_member_epochs: false,
    };
    let handed_in = call.node.groups.committing(commit, || call.node.log.hand_in(command.into()))?;
    let replied = match handed_in {
        Ok(asked) => asked.reply().await,
        Err(error) => Err(error),
    };
    replied.map(|_| ()).map_err(|error| refused(&error)).map_err(|error_code| match error_code {
        // In every version, as for a batch.
        code::PRODUCER_FENCED => code::INVALID_PRODUCER_EPOCH,
        error_code => error_code,
    })
}

fn response(request: &Request, code_of: impl Fn(&str, i32) -> i16) -> Response {
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|wanted| TxnOffsetCommitResponsePartition {
                partition_index: wanted.partition_index,
                error_code: code_of(&topic.name, wanted.partition_index),
            })
            .collect(),
    });
    Response { topics: topics.collect(), ..Response::default() }
}
