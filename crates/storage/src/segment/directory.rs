//! The directory of one partition: makes it and its files, and makes their names durable.
//!
//! It doesn't know which files count, and removes none but those that it is about to make anew.
//!
//! Invariants
//!   * a created file is a new one: what had its name before is unlinked, never written
//!   * a name whose creation or sync failed is made anew before it is synced again

use super::fault::io_error;
use super::{FileId, names};
use crate::disk::{Disk, File, Mode};
use crate::error::StorageError;
use std::io;
use std::sync::Arc;

/// Where the files of one partition are.
#[derive(Debug)]
pub(super) struct Directory {
    disk: Arc<dyn Disk>,
    name: String,
    own_name: OwnName,
    /// Whether files were created since their names were last synced.
    has_new_names: bool,
}

/// What is known about the name of the directory itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnName {
    /// It may be missing, or not be durable.
    Unknown,
    /// Making it or syncing its parents has failed.
    Suspect,
    /// It is there and durable.
    Durable,
}

impl Directory {
    /// `is_durable` says that a checkpoint names files in it; otherwise it is made with the first file.
    pub(super) fn new(disk: Arc<dyn Disk>, name: String, is_durable: bool) -> Directory {
        let own_name = if is_durable { OwnName::Durable } else { OwnName::Unknown };
        Directory { disk, name, own_name, has_new_names: false }
    }

    /// The disk that it is on.
    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The same, to keep.
    pub(super) fn shared_disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// Name of the segment's file.
    pub(super) fn log_name(&self, id: FileId) -> String {
        names::log(&self.name, id)
    }

    /// Creates the segment's file, in place of whatever has its name.
    pub(super) fn create(&mut self, id: FileId) -> Result<Arc<dyn File>, StorageError> {
        self.make()?;
        let name = self.log_name(id);
        self.has_new_names = true;
        match self.disk.open(&name, Mode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Left by a crash, or by a failed write: either way no published end and no checkpoint names it.
                self.disk.unlink(&name).map_err(io_error("unlink", &name))?;
                self.disk.open(&name, Mode::CreateNew).map_err(io_error("create", &name))
            }
            opened => opened.map_err(io_error("create", &name)),
        }
    }

    /// Opens the file of a segment to write on behind its logical end.
    pub(super) fn open(&self, id: FileId) -> Result<Arc<dyn File>, StorageError> {
        let name = self.log_name(id);
        self.disk.open(&name, Mode::Write).map_err(io_error("open", &name))
    }

    /// Removes the file of a segment that was begun and never counted.
    pub(super) fn unlink(&self, id: FileId) -> io::Result<()> {
        self.disk.unlink(&self.log_name(id))
    }

    /// Makes the names of created files durable. After an error they must be created anew.
    pub(super) fn sync_names(&mut self) -> Result<(), StorageError> {
        match std::mem::take(&mut self.has_new_names) {
            true => self.disk.sync_dir(&self.name).map_err(io_error("sync directory", &self.name)),
            false => Ok(()),
        }
    }

    /// Unlinks what looks like a segment's file and isn't of one that `is_named` knows; the number of files.
    pub(super) fn remove_unnamed(&self, is_named: impl Fn(FileId) -> bool) -> Result<usize, StorageError> {
        let entries = match self.disk.list(&self.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            listed => listed.map_err(io_error("list", &self.name))?,
        };
        let mut removed = 0;
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let is_kept = match names::kind(&entry.name) {
                names::Kind::OfSegment(id) => is_named(id),
                names::Kind::Temporary => false,
                names::Kind::Foreign => true,
            };
            if !is_kept {
                let name = format!("{}/{}", self.name, entry.name);
                self.disk.unlink(&name).map_err(io_error("unlink", &name))?;
                removed += 1;
            }
        }
        if removed > 0 {
            self.disk.sync_dir(&self.name).map_err(io_error("sync directory", &self.name))?;
        }
        Ok(removed)
    }

    fn make(&mut self) -> Result<(), StorageError> {
        if self.own_name == OwnName::Durable {
            return Ok(());
        }
        if self.own_name == OwnName::Suspect {
            self.unmake()?;
        }
        self.own_name = OwnName::Suspect;
        self.disk.create_dir(&self.name).map_err(io_error("create directory", &self.name))?;
        for dir in self.path() {
            self.disk.sync_dir(parent(dir)).map_err(io_error("sync directory", parent(dir)))?;
        }
        self.own_name = OwnName::Durable;
        Ok(())
    }
    /// Removes the directory, and its parents as far as they are empty: a sync that failed can't be repeated on the
    /// same name. What isn't empty stays; then all that is left is to sync its name once more.
    fn unmake(&self) -> Result<(), StorageError> {
        for dir in self.path() {
            match self.disk.remove_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => break,
                removed => removed.map_err(io_error("remove directory", dir))?,
            }
        }
        Ok(())
    }

    /// The directory, its parent, and so on, without the root.
    fn path(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.name.as_str()), |dir| Some(parent(dir)))
            .take_while(|dir| !dir.is_empty())
    }
}

fn parent(dir: &str) -> &str {
    dir.rsplit_once('/').map_or("", |(parent, _)| parent)
}
