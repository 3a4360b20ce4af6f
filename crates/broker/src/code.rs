//! What a client is told of what was refused: one of Kafka's codes, and why.

pub(crate) use exactlog_wire::code::*;

/// What was refused, for a client: the code, and why.
pub(crate) type Refused = (i16, String);

/// What the log says, for a client.
pub(crate) fn refused(error: exactlog::Error) -> Refused {
    (error.kafka_code(), error.to_string())
}
