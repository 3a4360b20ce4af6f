//! NodeFind: records by their time.

use crate::dispatch::Call;
use crate::processes;
use exactlog::{Partition, TopicId};
use exactlog_wire::messages::node_find::{Request, Response};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let Request { topic, partition, timestamp_ms, wants_greatest } = request;
    let partition = Partition { topic: TopicId(topic as u32), index: partition as u32 };
    let found = processes::looked_up(call.node, move |host| match wants_greatest {
        true => host.greatest_timestamp_ms(partition).map(|found| found.map(|found_ms| (0, found_ms))),
        false => host.first_at_or_after(partition, timestamp_ms),
    });
    match found.await {
        Ok(found) => {
            let (offset, timestamp_ms) = found.unwrap_or((0, 0));
            Response { is_found: found.is_some(), offset: offset as i64, timestamp_ms, ..Response::default() }
        }
        Err((error_code, error_message)) => Response { error_code, error_message, ..Response::default() },
    }
}
