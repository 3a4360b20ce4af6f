//! Why a verb failed: a code to act on, a message, the way out, and the exit code.

use crate::node;
use crate::report::Format;
use exactlog::{Error, StorageError};
use serde_json::json;
use std::io::{self, Write};

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) exit: u8,
    pub(crate) broken_pipe: bool,
    /// Somebody writes there, and has moved what was looked at: looking again helps.
    pub(crate) moved: bool,
    /// Records below this offset of the partition were trimmed before they were read.
    pub(crate) lost_up_to: Option<u64>,
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Failure {
        let (message, exit) = (message.into(), 1);
        Failure { code, message, hint: None, exit, broken_pipe: false, moved: false, lost_up_to: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: 2, ..Failure::new("USAGE", message) }
    }

    /// Standard output can't be written.
    pub(crate) fn output(error: io::Error) -> Failure {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Failure { broken_pipe, ..Failure::new("OUTPUT", format!("write to standard output: {error}")) }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Whoever reads has enough, which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }

    pub(crate) fn print(&self, format: Format) {
        match format {
            Format::Json | Format::Jsonl => {
                let object = json!({"error": {
                    "code": self.code, "message": self.message, "hint": self.hint, "exit": self.exit,
                }});
                let _ = writeln!(io::stdout(), "{object}");
            }
            _ => {
                let mut text = format!("error: {}\n", self.message);
                if let Some(hint) = &self.hint {
                    text.push_str(&format!("hint: {hint}\n"));
                }
                let _ = io::stderr().write_all(text.as_bytes());
            }
        }
    }
}

/// The name under which `exactlog explain` knows an error.
pub(crate) fn code_of(error: &Error) -> &'static str {
    match error {
        Error::NoLog { .. } => "NO_LOG",
        Error::ReadOnly { .. } => "READ_ONLY",
        Error::GroupActive { .. } => "GROUP_ACTIVE",
        Error::IllegalName { .. } => "ILLEGAL_NAME",
        Error::NoSuchTopic { .. } => "NO_SUCH_TOPIC",
        Error::NoSuchTable { .. } => "NO_SUCH_TABLE",
        Error::NoSuchPartition { .. } => "NO_SUCH_PARTITION",
        Error::EventTooLarge { .. } | Error::TransactionTooLarge { .. } => "TOO_LARGE",
        Error::OffsetOutOfRange { .. } => "OFFSET_OUT_OF_RANGE",
        Error::RecordsLost { .. } => "RECORDS_LOST",
        Error::Fenced { .. } | Error::ConsumerFenced { .. } => "FENCED",
        Error::Unknown(_) => "UNKNOWN_OUTCOME",
        Error::Refused(_) | Error::NotOverConnection { .. } => "REFUSED",
        Error::Connection { .. } => "NO_NODE",
        Error::Storage(StorageError::InUse { .. }) => "IN_USE",
        Error::Storage(StorageError::DiskFull { .. }) => "DISK_FULL",
        Error::Storage(StorageError::Setting { .. }) => "SETTING",
        Error::Storage(error) if error.is_disk_full() => "DISK_FULL",
        Error::Storage(error) if error.is_refusal() => "DAMAGED",
        Error::Storage(_) => "DISK",
        _ => "OTHER",
    }
}

/// Whether it may come from somebody who writes there.
fn is_moved(error: &Error) -> bool {
    let error = match error {
        Error::Storage(error) => error,
        error => return matches!(error, Error::RecordsLost { .. }),
    };
    match error {
        StorageError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        StorageError::Recycled { .. } | StorageError::Reopened { .. } => true,
        error => error.is_refusal(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = code_of(&error);
        let lost_up_to = match &error {
            Error::RecordsLost { to, .. } => Some(*to),
            _ => None,
        };
        let no_node = match &error {
            Error::Connection { reason, .. } => node::hint_about_reason(reason),
            _ => "",
        };
        let failure =
            Failure { moved: is_moved(&error), lost_up_to, ..Failure::new(code, error.to_string()) };
        match code {
            "NO_LOG" => Failure { exit: 3, ..failure }
                .hint("--data DIR names the directory; `exactlog topic create` makes a log"),
            "IN_USE" => Failure { exit: 3, ..failure }.hint(
                "stop that process, or wait for it with --timeout 30s; verbs that only read work meanwhile",
            ),
            "NO_NODE" => Failure { exit: 3, ..failure }.hint(no_node),
            "SETTING" => Failure { exit: 2, ..failure }.hint("exactlog config list shows the bounds"),
            "DAMAGED" => {
                failure.hint("nothing was changed; keep a copy of the directory, then restore a backup")
            }
            "DISK_FULL" => failure.hint("free space, or trim and delete topics: that works on a full disk"),
            _ => failure,
        }
    }
}

impl From<exactlog_flow::Error> for Failure {
    fn from(error: exactlog_flow::Error) -> Failure {
        match error {
            exactlog_flow::Error::Log(error) => error.into(),
            error @ exactlog_flow::Error::Saga { .. } => Failure::new("REFUSED", error.to_string()),
            error => Failure::new("OTHER", error.to_string()),
        }
    }
}
