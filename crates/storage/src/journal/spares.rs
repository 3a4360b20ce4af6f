//! Files to write into: prepared in the background, given up by the journal, or made on the spot.
//!
//! Not here: which files the journal gives up (its owner says below which lsn).
//!
//! Invariants:
//!   * a spare is ready only after the directory sync that made its name durable, and only if no other name leads
//!     to the same file (rule R6): else a power loss could bring the old name back, with the new content
//!   * a file gets the name of a journal file only after its header is durable (rule R1)
//!   * the file in reserve is allocated, and used by nothing but a roll that was told it may
//!   * unfinished files of an earlier process are only ever removed, since a handle of that process may still write
//!     to them: in the background, because that takes long, or before anything is said to find no room
//!   * directory operations happen one at a time; after a failed directory sync none is tried again, since entries
//!     that were lost with it would look durable

use super::format::round_up;
use super::names::Name;
use super::{BLOCK_BYTES, names};
use crate::disk::{Disk, File, Mode};
use crate::error::{StorageError, out_of_space};
use exactlog_core::mutants::{Mutant, on};
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Size of the writes that fill a new spare with zeros. Zeroing in larger writes makes the page cache hold large
/// folios, which cost every later small write three times as much (measured: 1,258 against 475 ns).
const ZERO_WRITE_BYTES: usize = 64 << 10;

/// Prepares files in the background, so that the writer never waits for one.
#[derive(Clone, Debug)]
pub struct Spares {
    pool: Arc<Pool>,
}

impl Spares {
    pub(super) fn new(pool: &Arc<Pool>) -> Spares {
        Spares { pool: Arc::clone(pool) }
    }

    /// Makes one spare: allocated, filled with zeros, durable, under a durable name.
    ///
    /// A full disk is `DiskFull`, and nothing is left behind. A failed directory sync also ends the journal. Once the
    /// journal was dropped, this fails.
    pub fn prepare(&self) -> Result<(), StorageError> {
        self.pool.prepare()
    }

    /// Removes what an earlier process left unfinished. Opening doesn't wait for that: 64 MiB that are in the page
    /// cache take about 45 ms.
    pub fn remove_unfinished(&self) -> Result<(), StorageError> {
        self.pool.remove_unfinished().map(|_| ())
    }

    /// Removes them, for the space. A name that comes back after a crash is found by the next open.
    pub fn remove_all(&self) -> Result<(), StorageError> {
        let directory = self.pool.directory.lock();
        directory.usable()?;
        self.pool.remove_unfinished()?;
        loop {
            let Some(path) = self.pool.state.lock().ready.pop() else { return Ok(()) };
            self.pool.unlink(&path)?;
        }
    }

    /// Keeps one file in reserve: allocated, for a roll on a full disk ([`FileJournal::append_from_reserve`]). A spare
    /// becomes it if there is no room for another file.
    ///
    /// `DiskFull` if there is no spare either.
    ///
    /// [`FileJournal::append_from_reserve`]: super::FileJournal::append_from_reserve
    pub fn keep_reserve(&self) -> Result<(), StorageError> {
        self.pool.keep_reserve()
    }

    /// Whether a file is kept in reserve.
    pub fn has_reserve(&self) -> bool {
        self.pool.state.lock().reserve.is_some()
    }

    /// Leaves nothing unfinished in the directory, for a journal that is closed: what an earlier process left goes. The
    /// file in reserve becomes a spare, so that the next open finds its space still kept; if there is a spare for that,
    /// it goes, too.
    ///
    /// Not durable: what comes back after a crash is found by the next open.
    pub fn settle(&self) -> Result<(), StorageError> {
        self.pool.settle()
    }

    /// How many are ready.
    pub fn ready(&self) -> usize {
        self.pool.state.lock().ready.len()
    }
}

/// The spares, and how to make files.
#[derive(Debug)]
pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    file_bytes: u64,
    state: Mutex<State>,
    /// Held during a name change and the directory sync that follows.
    directory: Mutex<Directory>,
}

#[derive(Debug)]
struct State {
    /// Paths. The last one is used first: it is the one most likely still in memory.
    ready: Vec<String>,
    next_number: u64,
    /// Path of the file that is kept for a roll on a full disk.
    reserve: Option<String>,
    /// Paths of spares that an earlier process didn't finish, or kept in reserve. Their numbers aren't used again.
    unfinished: Vec<String>,
}

#[derive(Debug, Default)]
struct Directory {
    failed: Option<StorageError>,
}

/// A file to write into, not yet under the name of a journal file.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) path: String,
    pub(super) file: Arc<dyn File>,
    pub(super) len: u64,
}

impl Pool {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        file_bytes: u64,
        highest_number: u64,
        unfinished: Vec<String>,
    ) -> Pool {
        let ready = Vec::new();
        let state = Mutex::new(State { ready, next_number: highest_number, reserve: None, unfinished });
        Pool { disk, file_bytes, state, directory: Mutex::default() }
    }

    /// How many spares are ready.
    pub(super) fn ready(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Adds spares whose names are durable.
    pub(super) fn add(&self, paths: impl IntoIterator<Item = String>) {
        self.state.lock().ready.extend(paths);
    }

    /// A file of at least `len` bytes, a spare if one is large enough, for the journal file of this generation; the
    /// one in reserve if that is allowed and there is no spare. `DiskFull` if there is no room for one; then nothing
    /// is left behind.
    pub(super) fn take(&self, generation: u64, len: u64, from_reserve: bool) -> Result<Taken, StorageError> {
        if len <= self.file_bytes {
            let path = {
                let mut state = self.state.lock();
                let spare = state.ready.pop();
                spare.or_else(|| state.reserve.take_if(|_| from_reserve))
            };
            if let Some(path) = path {
                let file = self.disk.open(&path, Mode::Write).map_err(|error| io_at("open", &path, error))?;
                return Ok(Taken { path, file, len: self.file_bytes });
            }
        }
        let len = len.max(self.file_bytes);
        let path = names::new_journal(generation);
        let file = self.create(&path, len)?;
        Ok(Taken { path, file, len })
    }

    /// A short file for the journal of this generation, with room for `len` bytes and some commands more: to open on a
    /// full disk, where the next thing is to free some space.
    pub(super) fn make_short(&self, generation: u64, len: u64) -> Result<Taken, StorageError> {
        /// Which part of a file is enough for commands that free space.
        const PART: u64 = 256;
        let more = (self.file_bytes / PART).max(8 * BLOCK_BYTES);
        let len = round_up(len + more).min(len.max(self.file_bytes));
        let path = names::new_journal(generation);
        let file = self.create(&path, len)?;
        Ok(Taken { path, file, len })
    }

    /// Gives a file its name, durably.
    pub(super) fn install(&self, taken: &Taken, path: &str) -> Result<(), StorageError> {
        let mut directory = self.directory.lock();
        directory.usable()?;
        self.rename(&taken.path, path)?;
        self.sync_names(&mut directory)
    }

    /// Makes spares of files that the journal gave up. They are ready when this returns.
    pub(super) fn recycle(&self, paths: &[String]) -> Result<(), StorageError> {
        if paths.is_empty() {
            return Ok(());
        }
        let mut directory = self.directory.lock();
        directory.usable()?;
        let mut spares = Vec::with_capacity(paths.len());
        for path in paths {
            let spare = names::spare(self.number());
            self.rename(path, &spare)?;
            spares.push(spare);
        }
        if !on(Mutant::R6SpareReusedEarly) {
            self.sync_names(&mut directory)?;
        }
        self.add(spares);
        Ok(())
    }

    /// Removes a name. Not durable; a name that comes back is removed again at the next open.
    pub(super) fn unlink(&self, path: &str) -> Result<(), StorageError> {
        self.disk.unlink(path).map_err(|error| io_at("unlink", path, error))
    }

    /// Removes the unfinished files of an earlier process; whether there were any.
    fn remove_unfinished(&self) -> Result<bool, StorageError> {
        let mut any = false;
        loop {
            let Some(path) = self.state.lock().unfinished.pop() else { return Ok(any) };
            match self.disk.unlink(&path) {
                // By a handle that knows it too: of the journal before this one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| io_at("unlink", &path, error))?,
            }
            any = true;
        }
    }

    /// Makes the names of the journal's directory durable.
    pub(super) fn sync_directory(&self) -> Result<(), StorageError> {
        self.sync_names(&mut self.directory.lock())
    }

    /// The failure of a directory operation in the background, if there was one.
    pub(super) fn failure(&self) -> Option<StorageError> {
        self.directory.lock().failed.clone()
    }

    /// The journal has failed.
    pub(super) fn fail(&self, error: StorageError) {
        self.directory.lock().failed.get_or_insert(error);
    }

    /// No name is changed after this. A handle that outlives the journal could else give a name of the next one to
    /// a file of its own.
    pub(super) fn close(&self) {
        let closed = StorageError::Poisoned { reason: "the journal was closed".into() };
        self.directory.lock().failed.get_or_insert(closed);
    }

    fn keep_reserve(&self) -> Result<(), StorageError> {
        let directory = self.directory.lock();
        directory.usable()?;
        self.remove_unfinished()?;
        if self.state.lock().reserve.is_some() {
            return Ok(());
        }
        // Never the same name twice: the one before may still wait for that of a journal file.
        let path = names::new_spare(self.number());
        let reserve = match self.create(&path, self.file_bytes) {
            Ok(_) => path,
            Err(error @ StorageError::DiskFull { .. }) => self.state.lock().ready.pop().ok_or(error)?,
            Err(error) => return Err(error),
        };
        self.state.lock().reserve = Some(reserve);
        Ok(())
    }

    fn settle(&self) -> Result<(), StorageError> {
        let directory = self.directory.lock();
        directory.usable()?;
        self.remove_unfinished()?;
        let Some(path) = self.state.lock().reserve.take() else { return Ok(()) };
        let is_spare = matches!(names::parse(path.rsplit('/').next().unwrap_or(&path)), Name::Spare(_));
        if !is_spare && self.ready() > 0 {
            return self.unlink(&path);
        }
        let spare = if is_spare { path } else { self.finished(&path)? };
        self.add([spare]);
        Ok(())
    }

    /// A file that was only allocated, under the name of a spare.
    fn finished(&self, path: &str) -> Result<String, StorageError> {
        let spare = names::spare(self.number());
        self.rename(path, &spare)?;
        Ok(spare)
    }

    fn prepare(&self) -> Result<(), StorageError> {
        self.directory.lock().usable()?;
        let number = self.number();
        let (path, spare) = (names::new_spare(number), names::spare(number));
        let file = self.create(&path, self.file_bytes)?;
        if let Err(error) = fill_with_zeros(&*file, self.file_bytes).and_then(|()| file.sync()) {
            self.discard(&path);
            return Err(self.full_or("fill", &path, self.file_bytes, error));
        }
        let mut directory = self.directory.lock();
        // If not, the unfinished file stays: by now its name may be that of a file of the next journal.
        directory.usable()?;
        self.rename(&path, &spare)?;
        self.sync_names(&mut directory)?;
        drop(directory);
        self.add([spare]);
        Ok(())
    }

    fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.next_number += 1;
        state.next_number
    }

    /// Makes and allocates a file under a temporary name. Before there is no room, unfinished files go.
    fn create(&self, path: &str, len: u64) -> Result<Arc<dyn File>, StorageError> {
        match self.try_create(path, len) {
            Err(StorageError::DiskFull { .. }) if self.remove_unfinished()? => self.try_create(path, len),
            created => created,
        }
    }

    fn try_create(&self, path: &str, len: u64) -> Result<Arc<dyn File>, StorageError> {
        let file = match self.disk.open(path, Mode::CreateNew) {
            // Left over from an attempt that failed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.unlink(path)?;
                self.disk.open(path, Mode::CreateNew)
            }
            opened => opened,
        }
        .map_err(|error| self.full_or("create", path, len, error))?;
        if let Err(error) = file.allocate(len) {
            self.discard(path);
            return Err(self.full_or("allocate", path, len, error));
        }
        Ok(file)
    }

    /// Removes a file that couldn't be finished. If that fails too, the next open removes it.
    fn discard(&self, path: &str) {
        if let Err(error) = self.disk.unlink(path) {
            tracing::warn!(path, %error, "an unfinished journal file stays until the next open");
        }
    }

    fn full_or(&self, what: &'static str, path: &str, needed: u64, error: io::Error) -> StorageError {
        if out_of_space(&error) {
            return StorageError::disk_full(&*self.disk, needed);
        }
        io_at(what, path, error)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.disk.rename(from, to).map_err(|error| io_at("rename", from, error))
    }

    fn sync_names(&self, directory: &mut Directory) -> Result<(), StorageError> {
        if on(Mutant::M3NoDirectorySync) {
            return Ok(());
        }
        directory.usable()?;
        self.disk.sync_dir(names::DIRECTORY).map_err(|error| {
            let error = io_at("sync directory", names::DIRECTORY, error);
            directory.failed = Some(error.clone());
            error
        })
    }
}

impl Directory {
    fn usable(&self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

fn fill_with_zeros(file: &dyn File, len: u64) -> io::Result<()> {
    let zeros = [0; ZERO_WRITE_BYTES];
    let mut at = 0;
    while at < len {
        let piece = (len - at).min(ZERO_WRITE_BYTES as u64);
        file.write_at(&[IoSlice::new(&zeros[..piece as usize])], at)?;
        at += piece;
    }
    Ok(())
}

fn io_at(what: &'static str, path: &str, error: io::Error) -> StorageError {
    StorageError::io(what, path, error)
}
