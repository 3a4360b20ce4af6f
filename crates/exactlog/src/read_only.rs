//! Opening a log to look at it: nothing is written into its directory, and nobody is kept out.
//!
//! ```text
//!   directory -> Overlay (writes stay in memory) -> Shard::open, recovery and all -> state, readers; no threads
//! ```
//!
//! Nobody has it open: what is shown is what the next open would find. Somebody has it open: it is what his journal
//! held at that moment, and the newest group of that may not be synced yet. It doesn't follow: open it again for news.
//!
//! Invariants
//!   * no command is ever taken: [`Error::ReadOnly`]
//!   * what is read from a file that is written again meanwhile is never given out
//!   * members of a group are shown if they may live: all of them if somebody has the directory open, else none

use crate::clock::wall_ms;
use crate::error::Error;
use crate::log::{Builder, Log, random_from_system};
use exactlog_core::command::Command;
use exactlog_storage::disk::{Disk, Overlay, RealDisk};
use exactlog_storage::error::StorageError;
use exactlog_storage::shard::{JOURNAL_DIR, Shard, Submission};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often a directory that somebody writes to is looked at until it holds still.
const LOOKS_MAX: u32 = 50;

/// How often one is looked at that nobody seems to write to.
const UNHELD_LOOKS_MAX: u32 = 4;

/// What the writer gets to finish what he does, between two looks.
const PAUSE: Duration = Duration::from_millis(20);

impl Builder {
    /// Opens the log in a directory for reading only, whether or not somebody else has it open. Nothing is written
    /// into the directory, not even the lock, and it needs no right to.
    ///
    /// The log shows one moment, and goes on showing it until somebody who writes there recycles a journal file: from
    /// then on reading answers [`StorageError::Reopened`], and the log has to be opened again. Of what he wrote last he
    /// may not have been told yet that it is on disk.
    ///
    /// What changes the log answers [`Error::ReadOnly`], and so do [`Log::producer`] and consumers that subscribe.
    ///
    /// # Errors
    /// [`Error::NoLog`] if there is none; it makes none. [`StorageError::Damaged`] names file and position.
    pub fn open_read_only(self, directory: impl AsRef<Path>) -> Result<Log, Error> {
        self.check()?;
        let real = existing_log(directory.as_ref())?;
        let below: Arc<dyn Disk> = Arc::new(real.clone());
        let mut looks = 1;
        loop {
            let held = is_held(&real)?;
            let opened = self.clone().look(&below, held);
            match opened {
                // Files come and go under the eyes of who reads them.
                // Whoever made them may have come and gone meanwhile.
                Err(error)
                    if is_fleeting(&error)
                        && looks < LOOKS_MAX
                        && (looks < UNHELD_LOOKS_MAX || held || is_held(&real)?) =>
                {
                    looks += 1;
                    std::thread::sleep(PAUSE);
                }
                opened => return opened,
            }
        }
    }

    fn look(self, below: &Arc<dyn Disk>, held: bool) -> Result<Log, Error> {
        let mut watch = Watch { below: below.clone(), files: journal_files(&**below)? };
        let disk = Arc::new(Overlay::new(below.clone()));
        let opened = Shard::open(disk, self.options.clone(), &mut random_from_system());
        // None went meanwhile, else whatever was found in them says nothing; and those that came count, too.
        watch.check()?;
        let (mut shard, report) = opened?;
        watch.files = journal_files(&**below)?;
        if !held {
            // As the next open would: whoever was a member when the last one ended is none any more.
            let time_ms = wall_ms().max(shard.state().time_ms);
            shard.execute(&[Submission { time_ms, command: Command::Open }])?;
        }
        Ok(Log::looking(shard, report, &self, watch))
    }
}

/// The journal files that a look may read from. Their owner gives them another name before he writes them again, and
/// never uses a name twice: what was read while all of them had their names was what it was taken for.
#[derive(Debug)]
pub(crate) struct Watch {
    below: Arc<dyn Disk>,
    files: BTreeSet<String>,
}

impl Watch {
    /// To be called behind each read.
    ///
    /// # Errors
    /// [`StorageError::Reopened`] if a file has lost its name: what was read may be anything.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        let files = journal_files(&*self.below)?;
        match self.files.iter().find(|file| !files.contains(*file)) {
            Some(gone) => Err(StorageError::Reopened { file: format!("{JOURNAL_DIR}/{gone}") }),
            None => Ok(()),
        }
    }
}

fn journal_files(disk: &dyn Disk) -> Result<BTreeSet<String>, StorageError> {
    let listed = disk.list(JOURNAL_DIR).map_err(|error| StorageError::io("list", JOURNAL_DIR, error))?;
    Ok(listed.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(".journal")).collect())
}

impl Log {
    /// Whether it was opened by [`Builder::open_read_only`].
    pub fn is_read_only(&self) -> bool {
        self.inner.watch.is_some()
    }
}

/// The directory of a log that is there.
pub(crate) fn existing_log(directory: &Path) -> Result<RealDisk, Error> {
    let real = RealDisk::existing(directory).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => no_log(directory),
        _ => Error::Storage(StorageError::io("open the directory", directory.display().to_string(), error)),
    })?;
    if is_log(&real)? { Ok(real) } else { Err(no_log(directory)) }
}

fn no_log(directory: &Path) -> Error {
    Error::NoLog { directory: directory.display().to_string() }
}

/// A directory belongs to a log as soon as it has a journal with a file in it.
fn is_log(disk: &RealDisk) -> Result<bool, Error> {
    match disk.list(JOURNAL_DIR) {
        Ok(files) => Ok(!files.is_empty()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::Storage(StorageError::io("list", JOURNAL_DIR, error))),
    }
}

fn is_held(disk: &RealDisk) -> Result<bool, Error> {
    disk.is_held().map_err(|error| Error::Storage(StorageError::io("look at", "LOCK", error)))
}

/// Whether it may be due to files that come and go.
fn is_fleeting(error: &Error) -> bool {
    match error {
        Error::Storage(StorageError::Io { source, .. }) => source.kind() == ErrorKind::NotFound,
        Error::Storage(
            StorageError::Recycled { .. } | StorageError::Reopened { .. } | StorageError::Poisoned { .. },
        ) => true,
        Error::Storage(error) => error.is_refusal(),
        _ => false,
    }
}
