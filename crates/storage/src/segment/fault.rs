//! What can go wrong with segment files, in the words of the whole crate.
//!
//! Not a policy: who closes a file after a failure is the writer.

use std::io;
use std::sync::Arc;

/// Why the storage engine can't do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum StorageError {
    /// The disk refused a call.
    #[error("{what} {file}: {source}")]
    Io { what: &'static str, file: String, source: Arc<io::Error> },
    /// Bytes aren't what was written.
    #[error("{file} is damaged at byte {position}: {what}")]
    Damaged { file: String, position: u64, what: String },
    /// A file that must be there isn't.
    #[error("{file} is missing; {named_by} names it")]
    Missing { file: String, named_by: String },
}

/// For `map_err`: the disk refused `what` on `file`.
pub(super) fn io_error(what: &'static str, file: &str) -> impl FnOnce(io::Error) -> StorageError {
    move |source| StorageError::Io { what, file: file.to_owned(), source: Arc::new(source) }
}

/// The bytes of `file` at `position` aren't what was written.
pub(super) fn damaged(file: &str, position: u64, what: impl ToString) -> StorageError {
    StorageError::Damaged { file: file.to_owned(), position, what: what.to_string() }
}
