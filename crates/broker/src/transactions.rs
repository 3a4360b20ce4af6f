//! What the APIs of transactions share: who asks for something about one, and how it is told where one stands (KIP-98,
//! KIP-664; semantics TX-7, TX-27).

use crate::code;
use crate::dispatch::Call;
use exactlog::wire::{Protocol, Reply, TransactionPhase, TransactionSender, Transactional};
use exactlog::{Error, ProducerId, Refusal};

/// Whom a request says that it is from.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'r> {
    pub(crate) transactional_id: &'r str,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
}

impl Claim<'_> {
    /// The sender of a command. A transactional id has at least one character.
    pub(crate) fn sender(
        self,
        call: &Call<'_>,
        protocol: Protocol,
        newer_codes: bool,
    ) -> Result<TransactionSender, i16> {
        if self.transactional_id.is_empty() {
            return Err(code::INVALID_REQUEST);
        }
        Ok(TransactionSender {
            transactional_id: self.transactional_id.into(),
            producer: ProducerId(self.producer_id),
            producer_epoch: self.producer_epoch,
            protocol,
            newer_codes,
            connection: if call.node.options.fences_older_connections { call.peer.connection } else { 0 },
        })
    }
}

/// Asks the log; what a client is told if it says no.
pub(crate) async fn ask(call: &Call<'_>, request: Transactional) -> Result<Reply, i16> {
    call.node.log.ask(request.into()).await.map_err(|error| refused(&error))
}

/// What a client is told.
pub(crate) fn refused(error: &Error) -> i16 {
    match error {
        // The only names in these requests that the log judges are those of groups; so it is told by a log that
        // hasn't risen yet.
        Error::Refused(Refusal::IllegalName { .. }) => code::INVALID_GROUP_ID,
        error => error.kafka_code(),
    }
}

/// Kafka's names of where a transactional id may stand. Those of being about to end are none here: decision and end are
/// one step.
pub(crate) const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// Where a transactional id stands.
pub(crate) fn state(phase: &TransactionPhase) -> &'static str {
    match phase {
        TransactionPhase::Empty => "Empty",
        TransactionPhase::Ongoing(_) => "Ongoing",
        TransactionPhase::Complete { commit: true, .. } => "CompleteCommit",
        TransactionPhase::Complete { commit: false, .. } => "CompleteAbort",
    }
}
