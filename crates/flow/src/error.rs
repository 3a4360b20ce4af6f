//! What can go wrong with a processor itself. What goes wrong with an event is a [`Failure`](crate::Failure).

use crate::failure::Failure;
use std::fmt::Display;
use std::sync::Arc;
use thiserror::Error;

/// Why a processor wasn't started, or ended.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The log.
    #[error("{0}")]
    Log(#[from] exactlog::Error),
    /// A setting that is out of bounds.
    #[error("{name} is {value}; it has to be {bound}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        bound: &'static str,
    },
    /// A processor needs something to read.
    #[error("the processor of group {group:?} has no topic")]
    NoTopic {
        /// Its group.
        group: String,
    },
    /// It runs on a tokio runtime, and there is none.
    #[error("a processor is started on a tokio runtime: from a task, or within `Runtime::enter`")]
    NoRuntime,
    /// A handler said that nothing can be processed. What it was working on was not committed and comes again.
    #[error("a handler gave up at {topic}-{partition} offset {offset}: {failure}")]
    Fatal {
        /// Name of the event's topic.
        topic: Arc<str>,
        /// Its partition.
        partition: u32,
        /// Its offset.
        offset: u64,
        /// What the handler said.
        failure: Failure,
    },
    /// What a group keeps about an event can't be understood. It is left as it is.
    #[error("the row {key:?} of table {table:?} can't be understood: {reason}")]
    Row {
        /// The table.
        table: String,
        /// The row's key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A saga that can't be started, or whose compensation can't be tried once more.
    #[error("saga {saga:?}: {reason}")]
    Saga {
        /// Its name.
        saga: String,
        /// What is wrong.
        reason: String,
    },
    /// A replay that was begun with other topics.
    #[error("replay {name:?} was begun of {begun}; {asked} is another one, and needs another name")]
    OtherReplay {
        /// Its name.
        name: String,
        /// What it was begun of.
        begun: String,
        /// What it was asked for now.
        asked: String,
    },
    /// Spans that a collector didn't take (feature `otel`).
    #[error("the last spans weren't exported: {reason}")]
    Export {
        /// Why.
        reason: String,
    },
    /// The runtime that a processor ran on was shut down, or its task was aborted. Nothing is lost: what wasn't
    /// committed comes again.
    #[error("the task of the processor was aborted")]
    Aborted,
    /// The attempt that an output belongs to is over: it was handed in by something that outlived its handler.
    #[error("the attempt at {topic}-{partition} offset {offset} is over, and takes no more outputs")]
    AttemptOver {
        /// Name of the event's topic.
        topic: Arc<str>,
        /// Its partition.
        partition: u32,
        /// Its offset.
        offset: u64,
    },
}

impl Error {
    pub(crate) fn setting(name: &'static str, value: impl Display, bound: &'static str) -> Error {
        Error::Setting { name, value: value.to_string(), bound }
    }

    /// Whether starting the processor again may help without anybody changing anything.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Log(error) => error.is_retriable(),
            Error::Aborted => true,
            _ => false,
        }
    }
}
