//! Short ways to name what went wrong with a segment's file.
//!
//! Not a policy: who closes a file after a failure is the writer.

use crate::error::StorageError;
use std::io;

/// For `map_err`: the disk refused `what` on `file`.
pub(super) fn io_error(what: &'static str, file: &str) -> impl FnOnce(io::Error) -> StorageError {
    move |source| StorageError::io(what, file, source)
}

/// The bytes of `file` at `position` aren't what was written.
pub(super) fn damaged(file: &str, position: u64, what: impl ToString) -> StorageError {
    StorageError::damaged(file, position, what.to_string())
}
