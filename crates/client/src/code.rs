//! Kafka's codes for what can become of a request, by its names (kafka.apache.org/protocol, "Error Codes").

use exactlog_wire::code;
use std::fmt;

/// What a node answers in a field `error_code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub i16);

macro_rules! named {
    ($($name:ident)*) => {
        #[allow(missing_docs, reason = "the names are Kafka's")]
        impl Code {
            $(pub const $name: Code = Code(code::$name);)*
        }
    };
}

named! {
    NONE
    OFFSET_OUT_OF_RANGE
    UNKNOWN_TOPIC_OR_PARTITION
    NOT_LEADER_OR_FOLLOWER
    REQUEST_TIMED_OUT
    NETWORK_EXCEPTION
    COORDINATOR_LOAD_IN_PROGRESS
    COORDINATOR_NOT_AVAILABLE
    NOT_COORDINATOR
    NOT_ENOUGH_REPLICAS_AFTER_APPEND
    ILLEGAL_GENERATION
    UNKNOWN_MEMBER_ID
    UNSUPPORTED_VERSION
    TOPIC_ALREADY_EXISTS
    NOT_CONTROLLER
    DUPLICATE_SEQUENCE_NUMBER
    CONCURRENT_TRANSACTIONS
    NON_EMPTY_GROUP
    GROUP_ID_NOT_FOUND
    GROUP_SUBSCRIBED_TO_TOPIC
    UNKNOWN_TOPIC_ID
    TRANSACTIONAL_ID_NOT_FOUND
    FENCED_MEMBER_EPOCH
    STALE_MEMBER_EPOCH
}

impl Code {
    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        code::known(self.0).map_or("UNKNOWN_CODE", |known| known.name)
    }

    /// Whether Kafka's clients try again when they are told so. That a topic isn't known is among these, since it may
    /// be new: [`Cluster`](crate::Cluster) doesn't wait for that.
    pub fn is_retriable(self) -> bool {
        code::known(self.0).is_some_and(|known| known.is_retriable)
    }

    /// Whether what was asked may have been done all the same.
    pub fn leaves_open(self) -> bool {
        matches!(
            self,
            Code::REQUEST_TIMED_OUT | Code::NETWORK_EXCEPTION | Code::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        )
    }

    /// Whether it says that another node has to be asked.
    pub fn says_elsewhere(self) -> bool {
        let elsewhere = [
            Code::NOT_LEADER_OR_FOLLOWER,
            Code::COORDINATOR_NOT_AVAILABLE,
            Code::NOT_COORDINATOR,
            Code::NOT_CONTROLLER,
        ];
        elsewhere.contains(&self)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_kafka_s_names() {
        assert!(Code(3).is_retriable() && !Code(1).is_retriable());
        assert_eq!(Code(3).to_string(), "UNKNOWN_TOPIC_OR_PARTITION (3)");
        assert_eq!(Code(999).to_string(), "UNKNOWN_CODE (999)");
        assert!(!Code(999).is_retriable());
        assert_eq!(Code::TRANSACTIONAL_ID_NOT_FOUND.name(), "TRANSACTIONAL_ID_NOT_FOUND");
    }
}
