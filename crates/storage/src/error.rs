//! What can go wrong where bytes are kept.
//!
//! Every variant carries the nouns a person needs to act (file, position, found, expected), so that no caller has
//! to parse a sentence. Errors are cheap to clone: one failed sync is told to every waiter.
//!
//! Invariants:
//!   * `Damaged`, `Version`, `Missing` are refusals: nothing was written, nothing was deleted
//!   * `DiskFull` means that nothing was written and the state is as before
//!   * after `Poisoned` only a reopen helps; the operation that failed is never repeated

use crate::disk::Disk;
use std::io;
use std::sync::Arc;

/// An error of the storage engine.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk refused an operation.
    #[error("{what} {file}: {source}")]
    Io {
        /// What was tried: "write", "sync", "rename", ...
        what: &'static str,
        /// The file or directory, relative to the root of the disk.
        file: String,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// Bytes that must be right aren't. Open refuses rather than guesses.
    #[error("{file} is damaged at byte {position}: {what}")]
    Damaged {
        /// The file, relative to the root of the disk.
        file: String,
        /// Byte position in the file.
        position: u64,
        /// What was found and what was expected.
        what: String,
    },
    /// A file of a format that this build can't read.
    #[error("{file} has format version {found}; this build reads version {supported}")]
    Version {
        /// The file, relative to the root of the disk.
        file: String,
        /// The version in the file.
        found: u16,
        /// The newest version that this build reads.
        supported: u16,
    },
    /// A file that another one names isn't there.
    #[error("{file} is missing; {named_by} names it")]
    Missing {
        /// The file that isn't there.
        file: String,
        /// What says that it must be there.
        named_by: String,
    },
    /// No room for what is needed. Nothing was written.
    #[error("disk full: {path} needs {needed} B, {free} B are free")]
    DiskFull {
        /// The directory that is full.
        path: String,
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A write or sync failed earlier. Writes are refused until the log is opened again.
    #[error("refusing writes until the log is reopened: {reason}")]
    Poisoned {
        /// The first failure.
        reason: Arc<str>,
    },
    /// Another process has the directory open.
    #[error("{directory} is in use by {owner}")]
    InUse {
        /// The directory.
        directory: String,
        /// What the owner wrote into the lock file.
        owner: String,
    },
    /// Something is larger than the format or the configuration allows. Nothing was written.
    #[error("{what} of {found} B exceeds the limit of {limit} B")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// What was asked for lay in a journal file that is gone.
    #[error("the journal was recycled up to lsn {first_lsn}")]
    Recycled {
        /// The first lsn that the journal still holds.
        first_lsn: u64,
    },
    /// What was to be read was asked of a handle from before the log was opened again: take a new one.
    #[error("{file} belongs to another open of the log by now")]
    Reopened {
        /// The file, relative to the root of the disk.
        file: String,
    },
    /// Two logs that should hold the same commands don't.
    #[error("the logs differ at lsn {lsn}: {what}")]
    Diverged {
        /// The first lsn at which that was seen; they may differ below it.
        lsn: u64,
        /// What was found and what was expected.
        what: String,
    },
    /// A setting outside its bounds.
    #[error("setting {name} is {value}; it must be {bounds}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: u64,
        /// What is allowed.
        bounds: &'static str,
    },
}

impl StorageError {
    /// An [`StorageError::Io`].
    pub fn io(what: &'static str, file: impl Into<String>, source: io::Error) -> StorageError {
        StorageError::Io { what, file: file.into(), source: Arc::new(source) }
    }

    /// A [`StorageError::DiskFull`], with what the disk says is free.
    pub fn disk_full(disk: &dyn Disk, needed: u64) -> StorageError {
        StorageError::DiskFull { path: disk.location(), needed, free: disk.free().unwrap_or(0) }
    }

    /// A [`StorageError::Damaged`].
    pub fn damaged(file: impl Into<String>, position: u64, what: impl Into<String>) -> StorageError {
        StorageError::Damaged { file: file.into(), position, what: what.into() }
    }

    /// Whether the disk is full, or the quota is used up.
    pub fn is_disk_full(&self) -> bool {
        match self {
            StorageError::DiskFull { .. } => true,
            StorageError::Io { source, .. } => out_of_space(source),
            _ => false,
        }
    }

    /// Whether open refused because of what it found, as opposed to an operation that failed.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            StorageError::Damaged { .. } | StorageError::Version { .. } | StorageError::Missing { .. }
        )
    }
}

/// Whether an operation failed for want of space (ENOSPC) or quota (EDQUOT).
pub fn out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognized_by_its_error_number() {
        let full = StorageError::io("write", "journal/1", io::Error::from_raw_os_error(28));
        assert!(full.is_disk_full());
        let other = StorageError::io("write", "journal/1", io::Error::from_raw_os_error(5));
        assert!(!other.is_disk_full());
    }

    #[test]
    fn messages_carry_file_position_and_values() {
        let error = StorageError::damaged("journal/7", 4096, "lsn 9, expected 8");
        assert_eq!(error.to_string(), "journal/7 is damaged at byte 4096: lsn 9, expected 8");
        assert!(error.is_refusal());
    }
}
