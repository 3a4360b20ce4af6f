//! AddOffsetsToTxn: positions of a group are going to be part of a transaction (KIP-98; semantics TX-7).

use crate::code;
use crate::dispatch::Call;
use crate::transactions::{Claim, ask};
use exactlog::wire::{Protocol, Transactional};
use exactlog_wire::messages::add_offsets_to_txn::{Request, Response};

/// From which version on a fenced producer is told PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH.
const NEWER_CODES: i16 = 2;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let error_code = add(call, &request).await.err().unwrap_or(code::NONE);
    Response { error_code, ..Response::default() }
}

async fn add(call: &Call<'_>, request: &Request) -> Result<(), i16> {
    let Request { transactional_id, producer_id, producer_epoch, group_id } = request;
    let claim = Claim { transactional_id, producer_id: *producer_id, producer_epoch: *producer_epoch };
    let sender = claim.sender(call, Protocol::V1, call.version >= NEWER_CODES)?;
    ask(call, Transactional::AddOffsets { sender, group: group_id.to_string() }).await.map(|_| ())
}
