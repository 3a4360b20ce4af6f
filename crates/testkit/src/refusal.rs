//! Answers that refuse all of a request, as Kafka's brokers make them from the request alone.

use exactlog_wire::messages::{
    Request, Response, add_offsets_to_txn, add_partitions_to_txn, consumer_group_heartbeat, create_topics,
    end_txn, fetch, find_coordinator, heartbeat, init_producer_id, join_group, list_offsets, offset_commit,
    produce, sync_group, txn_offset_commit,
};
use exactlog_wire::value::Records;

macro_rules! apis {
    ($($name:ident = $key:literal),* $(,)?) => {
        /// The requests that a test can let fail, by Kafka's names.
        #[allow(missing_docs, reason = "the names are Kafka's")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Api {
            $($name),*
        }

        impl Api {
            pub(crate) fn key(self) -> i16 {
                match self {
                    $(Api::$name => $key),*
                }
            }

            #[cfg(test)]
            const ALL: &[Api] = &[$(Api::$name),*];

            #[cfg(test)]
            fn empty_request(self) -> Request {
                match self {
                    $(Api::$name => Request::$name(Default::default())),*
                }
            }
        }
    };
}

apis! {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    OffsetCommit = 8,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    SyncGroup = 14,
    CreateTopics = 19,
    InitProducerId = 22,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    TxnOffsetCommit = 28,
    ConsumerGroupHeartbeat = 68,
}

/// The answer that refuses all of a request; nothing: it is none of [`Api`].
pub(crate) fn refusal(request: &Request, error_code: i16) -> Option<Response> {
    Some(match request {
        Request::Produce(request) => of_produce(request, error_code).into(),
        Request::Fetch(request) => of_fetch(request, error_code).into(),
        Request::ListOffsets(request) => of_list_offsets(request, error_code).into(),
        Request::OffsetCommit(request) => of_offset_commit(request, error_code).into(),
        Request::TxnOffsetCommit(request) => of_txn_offset_commit(request, error_code).into(),
        Request::FindCoordinator(request) => of_find_coordinator(request, error_code).into(),
        Request::AddPartitionsToTxn(request) => of_add_partitions(request, error_code).into(),
        Request::CreateTopics(request) => of_create_topics(request, error_code).into(),
        Request::JoinGroup(request) => {
            let member_id = request.member_id.clone();
            join_group::Response { error_code, member_id, ..Default::default() }.into()
        }
        Request::SyncGroup(_) => sync_group::Response { error_code, ..Default::default() }.into(),
        Request::Heartbeat(_) => heartbeat::Response { error_code, ..Default::default() }.into(),
        Request::InitProducerId(_) => {
            let (producer_id, producer_epoch) = (-1, -1);
            init_producer_id::Response { error_code, producer_id, producer_epoch, ..Default::default() }
                .into()
        }
        Request::AddOffsetsToTxn(_) => {
            add_offsets_to_txn::Response { error_code, ..Default::default() }.into()
        }
        Request::EndTxn(_) => {
            let (producer_id, producer_epoch) = (-1, -1);
            end_txn::Response { error_code, producer_id, producer_epoch, ..Default::default() }.into()
        }
        Request::ConsumerGroupHeartbeat(_) => {
            consumer_group_heartbeat::Response { error_code, ..Default::default() }.into()
        }
        _ => return None,
    })
}

fn of_produce(request: &produce::Request, error_code: i16) -> produce::Response {
    let partition = |data: &produce::PartitionProduceData| produce::PartitionProduceResponse {
        index: data.index,
        error_code,
        base_offset: -1,
        ..Default::default()
    };
    let topic = |topic: &produce::TopicProduceData| produce::TopicProduceResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic.partition_data.iter().map(partition).collect(),
    };
    produce::Response { responses: request.topic_data.iter().map(topic).collect(), ..Default::default() }
}

/// Without a session: the client asks for all of it next time. Who has one, and nothing changed, names no topic.
fn of_fetch(request: &fetch::Request, error_code: i16) -> fetch::Response {
    let partition = |wanted: &fetch::FetchPartition| fetch::PartitionData {
        partition_index: wanted.partition,
        error_code,
        high_watermark: -1,
        records: Some(Records::default()),
        ..Default::default()
    };
    let topic = |topic: &fetch::FetchTopic| fetch::FetchableTopicResponse {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(partition).collect(),
    };
    fetch::Response {
        error_code: if request.topics.is_empty() { error_code } else { 0 },
        responses: request.topics.iter().map(topic).collect(),
        ..Default::default()
    }
}

fn of_list_offsets(request: &list_offsets::Request, error_code: i16) -> list_offsets::Response {
    let partition = |wanted: &list_offsets::ListOffsetsPartition| {
        let partition_index = wanted.partition_index;
        list_offsets::ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() }
    };
    let topic = |topic: &list_offsets::ListOffsetsTopic| list_offsets::ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(partition).collect(),
    };
    list_offsets::Response { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
}

fn of_offset_commit(request: &offset_commit::Request, error_code: i16) -> offset_commit::Response {
    let partition = |wanted: &offset_commit::OffsetCommitRequestPartition| {
        let partition_index = wanted.partition_index;
        offset_commit::OffsetCommitResponsePartition { partition_index, error_code }
    };
    let topic = |topic: &offset_commit::OffsetCommitRequestTopic| offset_commit::OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(partition).collect(),
    };
    offset_commit::Response { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
}

fn of_txn_offset_commit(
    request: &txn_offset_commit::Request,
    error_code: i16,
) -> txn_offset_commit::Response {
    let partition = |wanted: &txn_offset_commit::TxnOffsetCommitRequestPartition| {
        let partition_index = wanted.partition_index;
        txn_offset_commit::TxnOffsetCommitResponsePartition { partition_index, error_code }
    };
    let topic = |topic: &txn_offset_commit::TxnOffsetCommitRequestTopic| {
        let partitions = topic.partitions.iter().map(partition).collect();
        txn_offset_commit::TxnOffsetCommitResponseTopic { name: topic.name.clone(), partitions }
    };
    txn_offset_commit::Response { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
}

fn of_find_coordinator(request: &find_coordinator::Request, error_code: i16) -> find_coordinator::Response {
    let coordinator = |key: &exactlog_wire::value::Str| find_coordinator::Coordinator {
        key: key.clone(),
        node_id: -1,
        port: -1,
        error_code,
        ..Default::default()
    };
    find_coordinator::Response {
        error_code,
        node_id: -1,
        port: -1,
        coordinators: request.coordinator_keys.iter().map(coordinator).collect(),
        ..Default::default()
    }
}

/// In the form of all versions: that of another one isn't written.
fn of_add_partitions(request: &add_partitions_to_txn::Request, code: i16) -> add_partitions_to_txn::Response {
    let partition = |index: &i32| add_partitions_to_txn::AddPartitionsToTxnPartitionResult {
        partition_index: *index,
        partition_error_code: code,
    };
    let topics = |topics: &[add_partitions_to_txn::AddPartitionsToTxnTopic]| {
        let topic = |topic: &add_partitions_to_txn::AddPartitionsToTxnTopic| {
            add_partitions_to_txn::AddPartitionsToTxnTopicResult {
                name: topic.name.clone(),
                results_by_partition: topic.partitions.iter().map(partition).collect(),
            }
        };
        topics.iter().map(topic).collect()
    };
    let result = |transaction: &add_partitions_to_txn::AddPartitionsToTxnTransaction| {
        add_partitions_to_txn::AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id.clone(),
            topic_results: topics(&transaction.topics),
        }
    };
    add_partitions_to_txn::Response {
        results_by_transaction: request.transactions.iter().map(result).collect(),
        results_by_topic_v3_and_below: topics(&request.v3_and_below_topics),
        ..Default::default()
    }
}

fn of_create_topics(request: &create_topics::Request, error_code: i16) -> create_topics::Response {
    let topic = |topic: &create_topics::CreatableTopic| create_topics::CreatableTopicResult {
        name: topic.name.clone(),
        error_code,
        ..Default::default()
    };
    create_topics::Response { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exactlog_wire::code;
    use exactlog_wire::message::encode_response;
    use exactlog_wire::messages::APIS;

    /// Who has a session and asks for what has changed names no topic.
    #[test]
    fn a_fetch_without_topics_is_refused_too() {
        let request = fetch::Request { session_id: 7, session_epoch: 3, ..Default::default() };
        assert_eq!(of_fetch(&request, code::KAFKA_STORAGE_ERROR).error_code, code::KAFKA_STORAGE_ERROR);
    }

    /// An empty request of each API in each version has a refusal, and that can be written.
    #[test]
    fn whatever_can_be_let_fail_has_a_refusal_in_every_version() {
        for api in Api::ALL {
            let info = APIS.iter().find(|info| info.key == api.key()).unwrap();
            assert_eq!(info.name, format!("{api:?}"));
            for version in info.versions.from..=info.versions.to {
                let response = refusal(&api.empty_request(), code::REQUEST_TIMED_OUT).unwrap();
                assert_eq!(response.key(), info.key);
                encode_response(version, 1, &response).unwrap();
            }
        }
    }
}
