//! InitProducerId: who a producer is from now on (semantics ID-1, TX-3 to TX-5).

use crate::code;
use crate::dispatch::Call;
use exactlog::ProducerId;
use exactlog::wire::{Command, Reply, Transactional};
use exactlog_wire::messages::init_producer_id::{Request, Response};

/// From which version on a fenced producer is told PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH.
const NEWER_CODES: i16 = 4;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let refused = |error_code| Response { error_code, producer_epoch: -1, ..Response::default() };
    let current = match (request.producer_id, request.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return refused(code::INVALID_REQUEST),
        (id, epoch) => Some((ProducerId(id), epoch)),
    };
    let command = match request.transactional_id {
        None => Command::InitProducer { name: None },
        Some(id) if id.is_empty() => return refused(code::INVALID_REQUEST),
        Some(id) => Transactional::Init {
            transactional_id: id.to_string(),
            timeout_ms: u32::try_from(request.transaction_timeout_ms).unwrap_or(0),
            current,
            newer_codes: call.version >= NEWER_CODES,
        }
        .into(),
    };
    match call.node.log.ask(command).await {
        Ok(Reply::Producer { producer, producer_epoch, .. })
        | Ok(Reply::Transactional { producer, producer_epoch }) => {
            Response { producer_id: producer.0, producer_epoch, ..Response::default() }
        }
        Ok(_) => unreachable!("it answers with a producer or a refusal"),
        Err(error) => refused(error.kafka_code()),
    }
}
