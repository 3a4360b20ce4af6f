//! ListPartitionReassignments: no replicas are ever being moved, since there is one node (KIP-455).

use crate::dispatch::Call;
use exactlog_wire::messages::list_partition_reassignments::{Request, Response};

pub(crate) async fn handle(_call: &Call<'_>, _request: Request) -> Response {
    Response::default()
}
