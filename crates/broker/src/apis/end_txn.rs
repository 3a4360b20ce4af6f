//! EndTxn: a transaction is committed or aborted (KIP-98, KIP-890; semantics TX-9, TX-10, TX-14).

use crate::dispatch::Call;
use crate::transactions::{Claim, ask};
use exactlog::wire::{Protocol, Reply, Transactional};
use exactlog_wire::messages::end_txn::{Request, Response};

/// From which version on a fenced producer is told PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH.
const NEWER_CODES: i16 = 2;
/// From which version on the end of a transaction raises the epoch (KIP-890).
const RAISES_EPOCH: i16 = 5;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    match end(call, &request).await {
        Ok(Reply::Transactional { producer, producer_epoch }) => {
            Response { producer_id: producer.0, producer_epoch, ..Response::default() }
        }
        Ok(_) => unreachable!("it answers with a producer or a refusal"),
        Err(error_code) => Response { error_code, ..Response::default() },
    }
}

async fn end(call: &Call<'_>, request: &Request) -> Result<Reply, i16> {
    let Request { transactional_id, producer_id, producer_epoch, committed } = request;
    let claim = Claim { transactional_id, producer_id: *producer_id, producer_epoch: *producer_epoch };
    let protocol = if call.version >= RAISES_EPOCH { Protocol::V2 } else { Protocol::V1 };
    let sender = claim.sender(call, protocol, call.version >= NEWER_CODES)?;
    ask(call, Transactional::End { sender, commit: *committed }).await
}
