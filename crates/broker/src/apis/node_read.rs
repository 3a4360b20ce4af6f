//! NodeRead: batches as they lie in the log.

use crate::dispatch::{Answer, Call};
use crate::processes;
use exactlog::wire::Batch;
use exactlog::{Partition, TopicId};
use exactlog_wire::messages::node_read::{Request, Response};
use exactlog_wire::value::Records;

/// What is asked for at least, in bytes, when there is little room for answers.
const SHORT_BYTES: usize = 64 * 1024;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Answer {
    let most = usize::try_from(request.max_bytes).unwrap_or(0).min(call.node.options.fetch_bytes_max);
    let share = call.node.answers.take_up_to(most, SHORT_BYTES).await;
    let bytes_max = most.min(share.bytes());
    let partition = Partition { topic: TopicId(request.topic as u32), index: request.partition as u32 };
    let offset = u64::try_from(request.offset).unwrap_or(u64::MAX);
    let read = processes::looked_up(call.node, move |host| host.read(partition, offset, bytes_max));
    let response = match read.await {
        Ok(batches) => {
            let records = Records(batches.iter().flat_map(pieces).collect());
            call.node.meters.read(records.len());
            Response { records, ..Response::default() }
        }
        Err((error_code, error_message)) => Response { error_code, error_message, ..Response::default() },
    };
    Answer::Held(response.into(), Some(share))
}

fn pieces(batch: &Batch) -> [bytes::Bytes; 2] {
    [bytes::Bytes::copy_from_slice(batch.header()), batch.body().clone()]
}
