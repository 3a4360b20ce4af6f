//! What is wrong with bytes that should have been a message.
//!
//! Each names the field that was being read, what was found and what the limit was; a position is in bytes from the
//! start of the frame, behind its length.

use std::fmt;
use thiserror::Error;

/// Why bytes aren't the message that they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message ends inside a value.
    #[error("{field} at byte {at} needs {needed} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Where, in bytes.
        at: usize,
        /// Bytes that the value takes.
        needed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// A length or a count that can't be one.
    #[error("{field} at byte {at} says a length of {length}")]
    Length {
        /// What was being read.
        field: &'static str,
        /// Where, in bytes.
        at: usize,
        /// What it says.
        length: i64,
    },
    /// More elements than the rest of the message could hold.
    #[error("{field} at byte {at} says {count} elements of at least {least} bytes, {left} bytes are left")]
    Count {
        /// What was being read.
        field: &'static str,
        /// Where, in bytes.
        at: usize,
        /// Elements that it announces.
        count: u64,
        /// What each takes at least, in bytes.
        least: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Elements that would take much more memory than the message has bytes.
    #[error(
        "{field} at byte {at} would take {needed} bytes of memory, {left} of the message's share are left"
    )]
    Memory {
        /// What was being read.
        field: &'static str,
        /// Where, in bytes.
        at: usize,
        /// Bytes of memory.
        needed: usize,
        /// Bytes of memory that the message may still take.
        left: usize,
    },
    /// A null where none may be.
    #[error("{field} at byte {at} is null, which it can't be in version {version}")]
    Null {
        /// What was being read.
        field: &'static str,
        /// Where, in bytes.
        at: usize,
        /// The version of the message.
        version: i16,
    },
    /// A number in more bytes than its kind has.
    #[error("{field} at byte {at} isn't a number of at most 5 bytes and 32 bits")]
    Varint {
        /// What was being read.
        field: &'static str,
        /// Where, in bytes.
        at: usize,
    },
    /// A string that isn't one.
    #[error("{field} at byte {at} isn't UTF-8")]
    Utf8 {
        /// What was being read.
        field: &'static str,
        /// Where, in bytes.
        at: usize,
    },
    /// A byte that says neither that there is a value nor that there is none.
    #[error("{field} at byte {at} says {found}, which is neither null (-1) nor a value (1)")]
    Presence {
        /// What was being read.
        field: &'static str,
        /// Where, in bytes.
        at: usize,
        /// What it says.
        found: i8,
    },
    /// Tagged fields that don't ascend (KIP-482).
    #[error("tag {tag} at byte {at} follows tag {before}")]
    TagOrder {
        /// The later one.
        tag: u32,
        /// Where, in bytes.
        at: usize,
        /// The one before it.
        before: u32,
    },
    /// Bytes behind the end of a message, or of a tagged field.
    #[error("{left} bytes are left behind {field}, at byte {at}")]
    Trailing {
        /// What was read.
        field: &'static str,
        /// Where it has ended, in bytes.
        at: usize,
        /// Bytes behind it.
        left: usize,
    },
}

/// Why bytes aren't a message of a known API and version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// No API of this number is known.
    #[error("no API has the key {key}")]
    UnknownApi {
        /// The number.
        key: i16,
    },
    /// The API is known and this version of it isn't.
    #[error("{api} is served in versions {from} to {to}, not in {version}")]
    UnsupportedVersion {
        /// Name of the API.
        api: &'static str,
        /// The version that was asked for.
        version: i16,
        /// Oldest that is served.
        from: i16,
        /// Newest that is served.
        to: i16,
        /// What the answer to a request has to carry, so that the client finds it.
        correlation_id: Option<i32>,
    },
    /// The bytes aren't that message.
    #[error("{api} in version {version}: {error}")]
    Malformed {
        /// Name of the API.
        api: &'static str,
        /// The version of the message.
        version: i16,
        /// What is wrong.
        error: DecodeError,
    },
    /// Less than a header.
    #[error("a request begins with 8 bytes, {bytes} were sent")]
    NoHeader {
        /// Length of the frame.
        bytes: usize,
    },
}

/// Who doesn't speak Kafka's protocol, known by the first bytes that he sends where a length should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// `HTTP`, with which every answer of such a server begins.
    Http,
    /// An alert of TLS (RFC 8446, section 6): so such a server answers bytes that it can't read.
    Tls,
}

impl Stranger {
    /// All of them.
    pub const ALL: [Stranger; 2] = [Stranger::Http, Stranger::Tls];

    /// What he speaks.
    pub fn name(self) -> &'static str {
        match self {
            Stranger::Http => "HTTP",
            Stranger::Tls => "TLS",
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "answers in {}, not in Kafka's protocol", self.name())
    }
}

/// A length before a frame that isn't one, or that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a frame announces {announced} bytes; 1 to {max} are taken")]
pub struct FrameError {
    /// The length that was sent.
    pub announced: i32,
    /// The largest that is taken, in bytes.
    pub max: u32,
}

impl FrameError {
    /// Who sends such a length, if that is known: he didn't mean one. Both would be frames of more than 300 MiB.
    pub fn stranger(self) -> Option<Stranger> {
        /// An alert, of SSL 3.0 to TLS 1.3, with a length below 256.
        const ALERT: u8 = 0x15;
        match self.announced.to_be_bytes() {
            [b'H', b'T', b'T', b'P'] => Some(Stranger::Http),
            [ALERT, 3, 0..=4, 0] => Some(Stranger::Tls),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_something_else_is_known_by_his_first_bytes() {
        let stranger = |bytes: [u8; 4]| {
            FrameError { announced: i32::from_be_bytes(bytes), max: 100 * 1024 * 1024 }.stranger()
        };
        assert_eq!(stranger(*b"HTTP"), Some(Stranger::Http));
        assert_eq!(stranger([0x15, 3, 0, 0]), Some(Stranger::Tls));
        assert_eq!(stranger([0x15, 3, 3, 0]), Some(Stranger::Tls));
        for other in [*b"GET ", *b"http", [0x15, 3, 5, 0], [0x16, 3, 1, 0], [0x7f; 4], [0xff; 4]] {
            assert_eq!(stranger(other), None, "{other:?}");
        }
    }
}
