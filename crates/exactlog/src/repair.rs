//! Looking for what is wrong with a closed log's directory, and doing what loses nothing.
//!
//! Not here: how (`exactlog_storage::repair`), and restoring backups.

use crate::error::Error;
use crate::log::{Builder, take_lock};
use crate::read_only::existing_log;
use exactlog_storage::disk::Disk;
use exactlog_storage::repair::{self, Finding};
use std::path::Path;
use std::sync::Arc;

/// What was done, and what is left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// What was found and done.
    pub done: Vec<Finding>,
    /// What is wrong still: nothing can be done about it without losing records.
    pub left: Vec<Finding>,
}

impl Builder {
    /// Looks through the directory of a log that nobody has open, all of it, and says what is wrong and what can be
    /// done about it. Writes nothing. What somebody who has it open changes meanwhile is taken for damage.
    ///
    /// # Errors
    /// [`Error::NoLog`]; [`StorageError::Version`](crate::StorageError::Version) of what a newer release has written;
    /// and when something can't be read.
    pub fn examine(self, directory: impl AsRef<Path>) -> Result<Vec<Finding>, Error> {
        self.check()?;
        let disk = self.existing(directory.as_ref())?;
        Ok(repair::examine(&disk, &self.options)?)
    }

    /// Does about what is wrong what loses no record, as far as it is wanted: index files are made again, a checkpoint
    /// that can't be read is set aside if the rest makes the same state, files that were never finished are removed.
    /// It never guesses: what would lose records is left, and named.
    ///
    /// # Errors
    /// As [`examine`](Builder::examine), and [`StorageError::InUse`](crate::StorageError::InUse).
    pub fn repair(
        self,
        directory: impl AsRef<Path>,
        wanted: impl Fn(&Finding) -> bool,
    ) -> Result<Repaired, Error> {
        self.check()?;
        let disk = self.existing(directory.as_ref())?;
        let _lock = take_lock(&*disk)?;
        let (done, left) = repair::repair(&disk, &self.options, wanted)?;
        Ok(Repaired { done, left })
    }

    fn existing(&self, directory: &Path) -> Result<Arc<dyn Disk>, Error> {
        match &self.disk {
            Some(disk) => Ok(disk.clone()),
            None => Ok(Arc::new(existing_log(directory)?)),
        }
    }
}
