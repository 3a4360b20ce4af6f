//! From a request to its answer: who asks, whether he may, and which handler it is for.
//!
//! Invariants
//!   * every request of every connection comes through [`handle`]: that is where it is decided who may do what
//!   * what ApiVersions announces is what is served, but for what isn't Kafka's

use crate::apis::*;
use crate::node::Node;
use crate::room::Share;
use exactlog_wire::error::MessageError;
use exactlog_wire::header::RequestHeader;
use exactlog_wire::messages::{self, Request, Response};
use exactlog_wire::schema::Api;
use exactlog_wire::value::Str;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

/// What comes later, whoever waits for it.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a request comes to.
pub(crate) enum Answer {
    Now(Response),
    /// With the room that was taken for what is in it, if any.
    Held(Response, Option<Share>),
    /// When what it has handed in is safe. The next request may be handled before.
    Later(Later<Response>),
    /// None is wanted; whether all went well.
    Silent(Later<bool>),
}

/// Who asks.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where from.
    pub(crate) address: SocketAddr,
    /// Which of the node's addresses he has dialled.
    pub(crate) dialled: SocketAddr,
    /// The number of the connection: connections that come later have larger ones, also after a restart.
    pub(crate) connection: u64,
}

impl Peer {
    pub(crate) fn new(connection: u64, address: SocketAddr, dialled: SocketAddr) -> Peer {
        Peer { address, dialled, connection }
    }
}

/// A request on its way to its handler.
pub(crate) struct Call<'c> {
    pub(crate) node: &'c Arc<Node>,
    pub(crate) peer: &'c Peer,
    /// The version of the request, and of its answer.
    pub(crate) version: i16,
    pub(crate) client_id: Option<&'c Str>,
}

/// The APIs that are served, each with the least version that is announced, and its handler.
macro_rules! served {
    ($($name:ident $(from $least:literal)? => $handler:path),* $(,)?) => {
        /// Key, and first and last version, of all that is served.
        pub(crate) const SERVED: &[(i16, i16, i16)] = &[$({
            type A = messages::$name;
            const LEAST: &[i16] = &[$($least,)? A::VERSIONS.from];
            (A::KEY, LEAST[0], A::VERSIONS.to)
        }),*];

        /// Handles a request. Nothing: it is of an API that isn't served.
        pub(crate) async fn handle(
            node: &Arc<Node>,
            peer: &mut Peer,
            header: &RequestHeader,
            request: Request,
        ) -> Option<Answer> {
            let call = Call { node, peer, version: header.version, client_id: header.client_id.as_ref() };
            Some(match request {
                $(Request::$name(body) => $handler(&call, body).await.into(),)*
                #[allow(unreachable_patterns, reason = "there may be none left")]
                _ => return None,
            })
        }
    };
}

served! {
    // Version 0 to 2 aren't known here, but clients of librdkafka take a node without them for one that is too old.
    Produce from 0 => produce::handle,
    Fetch => fetch::handle,
    ListOffsets => list_offsets::handle,
    Metadata => metadata::handle,
    OffsetCommit => offset_commit::handle,
    OffsetFetch => offset_fetch::handle,
    JoinGroup => join_group::handle,
    Heartbeat => heartbeat::handle,
    LeaveGroup => leave_group::handle,
    SyncGroup => sync_group::handle,
    DescribeGroups => describe_groups::handle,
    ListGroups => list_groups::handle,
    ApiVersions => api_versions::handle,
    CreateTopics => create_topics::handle,
    InitProducerId => init_producer_id::handle,
    DeleteGroups => delete_groups::handle,
    OffsetDelete => offset_delete::handle,
    FindCoordinator => find_coordinator::handle,
    AddPartitionsToTxn => add_partitions_to_txn::handle,
    AddOffsetsToTxn => add_offsets_to_txn::handle,
    EndTxn => end_txn::handle,
    TxnOffsetCommit => txn_offset_commit::handle,
    DescribeProducers => describe_producers::handle,
    DescribeTransactions => describe_transactions::handle,
    ListTransactions => list_transactions::handle,
    DeleteTopics => delete_topics::handle,
    CreatePartitions => create_partitions::handle,
    DeleteRecords => delete_records::handle,
    OffsetForLeaderEpoch => offset_for_leader_epoch::handle,
    DescribeConfigs => describe_configs::handle,
    AlterConfigs => alter_configs::handle,
    IncrementalAlterConfigs => incremental_alter_configs::handle,
    DescribeLogDirs => describe_log_dirs::handle,
    DescribeCluster => describe_cluster::handle,
    ConsumerGroupHeartbeat => consumer_group_heartbeat::handle,
    ConsumerGroupDescribe => consumer_group_describe::handle,
    ListConfigResources => list_config_resources::handle,
    DescribeTopicPartitions => describe_topic_partitions::handle,
    ElectLeaders => elect_leaders::handle,
    AlterPartitionReassignments => alter_partition_reassignments::handle,
    ListPartitionReassignments => list_partition_reassignments::handle,
    DescribeQuorum => describe_quorum::handle,
    NodeHello => node_hello::handle,
    NodeState => node_state::handle,
    NodeChanges => node_changes::handle,
    NodeSubmit => node_submit::handle,
    NodeRead => node_read::handle,
    NodeFind => node_find::handle,
    NodeMarks => node_marks::handle,
    NodeBye => node_bye::handle,
}

impl Answer {
    /// Waits until nothing comes of it any more.
    pub(crate) async fn settle(self) {
        match self {
            Answer::Now(_) | Answer::Held(..) => {}
            Answer::Later(response) => _ = response.await,
            Answer::Silent(outcome) => _ = outcome.await,
        }
    }
}

impl<T: Into<Response>> From<T> for Answer {
    fn from(response: T) -> Answer {
        Answer::Now(response.into())
    }
}

/// Whether a request may wait for something that its client doesn't need any more when it has gone.
pub(crate) fn may_wait(request: &Request) -> bool {
    matches!(
        request,
        Request::Fetch(_) | Request::JoinGroup(_) | Request::SyncGroup(_) | Request::NodeChanges(_)
    )
}

/// A client that asks for ApiVersions in a version that isn't known is answered in version 0, with what there is; then
/// it asks again (KIP-511). Whoever asks for anything else has been told.
pub(crate) fn answer_to_unknown_version(error: &MessageError) -> Option<(i32, Response)> {
    match error {
        MessageError::UnsupportedVersion { api, correlation_id: Some(correlation_id), .. }
            if *api == messages::ApiVersions::NAME =>
        {
            Some((*correlation_id, api_versions::unknown_version().into()))
        }
        _ => None,
    }
}

impl Call<'_> {
    /// The address that this client is told to connect to: the one that is set, or else the one that it has dialled.
    pub(crate) fn advertised(&self) -> (Str, i32) {
        match &self.node.options.advertised {
            Some((host, port)) => (host.as_str().into(), i32::from(*port)),
            None => (
                self.peer.dialled.ip().to_canonical().to_string().into(),
                i32::from(self.peer.dialled.port()),
            ),
        }
    }
}
