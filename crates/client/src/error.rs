//! What can go wrong when a node is asked: each names the address, and the API where there is one.

use crate::code::Code;
use exactlog_wire::error::{DecodeError, FrameError, Stranger};
use exactlog_wire::messages::ApiVersions;
use exactlog_wire::schema::{Api, Versions};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why a node didn't do what it was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// It isn't an address.
    #[error("{address:?} isn't HOST:PORT")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nothing answers there.
    #[error("no connection to {address}: {source}")]
    Connect {
        /// Where.
        address: Arc<str>,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{api} to {address}: {source}")]
    Io {
        /// To whom.
        address: Arc<str>,
        /// What was asked.
        api: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The node ended the connection instead of answering.
    #[error("{address} ended the connection without an answer to {api}")]
    Ended {
        /// Who.
        address: Arc<str>,
        /// What was asked.
        api: &'static str,
    },
    /// No answer came in time.
    #[error("{address} hasn't answered {api} within {waited:?}")]
    Timeout {
        /// Who.
        address: Arc<str>,
        /// What was asked.
        api: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// There is no version that both have.
    #[error("{address} has {api} in {}, and {} would be needed", range(*theirs), range(Some(*ours)))]
    Version {
        /// Who.
        address: Arc<str>,
        /// What was to be asked.
        api: &'static str,
        /// The versions that are known here, or the one that was wanted.
        ours: Versions,
        /// The versions of the node; `None`: it doesn't have it.
        theirs: Option<Versions>,
    },
    /// A request that is longer than a frame can be.
    #[error("{api} to {address} would be longer than a frame can be")]
    TooLong {
        /// To whom.
        address: Arc<str>,
        /// What was to be asked.
        api: &'static str,
    },
    /// An answer with a length that can't be one, or is beyond the limit.
    #[error("{address} answers {api} with a frame: {source}")]
    Frame {
        /// Who.
        address: Arc<str>,
        /// What was asked.
        api: &'static str,
        /// The length, and the limit.
        source: FrameError,
    },
    /// Whoever answers there isn't a node.
    #[error("{address} {stranger}")]
    Stranger {
        /// Who.
        address: Arc<str>,
        /// What he speaks.
        stranger: Stranger,
    },
    /// An answer that can't be read.
    #[error("{address} answers {api} version {version}: {source}")]
    Answer {
        /// Who.
        address: Arc<str>,
        /// What was asked.
        api: &'static str,
        /// In which version.
        version: i16,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// An answer to another request than the one whose turn it is.
    #[error("{address} answers request {found}, and {expected} ({api}) is the next one")]
    Order {
        /// Who.
        address: Arc<str>,
        /// What was asked.
        api: &'static str,
        /// The number of the request whose answer is due.
        expected: i32,
        /// The number in the answer.
        found: i32,
    },
    /// An answer was waited for although nothing was asked.
    #[error("nothing was asked of {address} that isn't answered")]
    NothingAsked {
        /// Who.
        address: Arc<str>,
    },
    /// The node says no.
    #[error("{address} answers {api} with {code}{}", behind(message.as_deref()))]
    Refused {
        /// Who.
        address: Arc<str>,
        /// What was asked.
        api: &'static str,
        /// Kafka's code.
        code: Code,
        /// What the node says besides.
        message: Option<String>,
    },
}

impl Error {
    /// Kafka's code, if a node has given one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// What the node says besides its code.
    pub fn message(&self) -> Option<&str> {
        match self {
            Error::Refused { message, .. } => message.as_deref(),
            _ => None,
        }
    }

    /// Whether no node answers at the address: nothing has got there, but for the question which versions it has.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Stranger { .. } => true,
            Error::Timeout { api, .. } => *api == ApiVersions::NAME,
            _ => false,
        }
    }

    /// Whether the connection is of no use any more; what was asked may have been done.
    pub fn is_broken(&self) -> bool {
        matches!(
            self,
            Error::Io { .. }
                | Error::Ended { .. }
                | Error::Frame { .. }
                | Error::Stranger { .. }
                | Error::Order { .. }
        )
    }

    /// Whether asking once more may help: nothing answered, the connection broke, time was up, or the node says so.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Io { .. } | Error::Ended { .. } | Error::Timeout { .. } => true,
            Error::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }
}

/// `version 3`, `versions 3 to 7`, `no version`.
fn range(versions: Option<Versions>) -> impl fmt::Display {
    match versions {
        None => "no version".to_string(),
        Some(Versions { from, to }) if from == to => format!("version {from}"),
        Some(Versions { from, to }) => format!("versions {from} to {to}"),
    }
}

fn behind(message: Option<&str>) -> String {
    message.filter(|message| !message.is_empty()).map_or_else(String::new, |message| format!(": {message}"))
}
