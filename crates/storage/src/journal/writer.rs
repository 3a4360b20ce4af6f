//! The running journal: append, sync, seal, roll, recycle.
//!
//! Not here: opening (`recovery.rs`), when to do any of this (the owner's decision).
//!
//! Invariants:
//!   * before a file gets a successor it is synced, in every mode: a header states only what is durable
//!   * `durable_lsn` is the last lsn written before the newest successful sync began
//!   * after a failure nothing is written; only a full disk at a roll leaves everything as it was

use super::files::{Files, Readable};
use super::format::{FileHeader, Predecessor};
use super::group::{self, Group, Place};
use super::spares::{Pool, Taken};
use super::{
    Config, Cursor, FILE_HEADER_BYTES, Frame, Journal, JournalFile, JournalReader, Placed, Position,
    SEAL_KIND, Spares, names,
};
use crate::error::StorageError;
use exactlog_core::mutants::{Mutant, on};
use parking_lot::Mutex;
use std::hash::{DefaultHasher, Hasher};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A journal in files of one disk. See the module for what it promises.
#[derive(Debug)]
pub struct FileJournal {
    pub(super) config: Config,
    pub(super) pool: Arc<Pool>,
    pub(super) files: Arc<Files>,
    pub(super) nonces: Nonces,
    /// Files before the current one, oldest first.
    pub(super) earlier: Vec<JournalFile>,
    pub(super) current: Arc<Readable>,
    /// Where the next group begins.
    pub(super) at: u64,
    pub(super) term: u32,
    pub(super) last_lsn: u64,
    pub(super) durable_lsn: u64,
    /// Whether anything was written since the last sync.
    pub(super) dirty: bool,
    /// Held while a sync runs.
    pub(super) one_at_a_time: Arc<Mutex<()>>,
    /// Whether the next roll may go into the file that is kept in reserve.
    pub(super) may_use_reserve: bool,
    pub(super) failed: Option<Arc<str>>,
    pub(super) group: Group,
}

impl FileJournal {
    /// Writes one group, in one write; nothing of it is durable before the next [`sync`](Self::sync). Moves to a
    /// new file first if the group doesn't fit, or if its bytes show the file's nonce (rule R8).
    ///
    /// `TooLarge` if the group can't fit in any file, `DiskFull` if there is no room for a new file: then nothing
    /// was written and the journal goes on. Any other failure is final.
    ///
    /// # Panics
    /// If the frames' lsns don't continue the order, or a frame has the kind of a seal.
    pub fn append(&mut self, frames: &[Frame]) -> Result<Vec<Placed>, StorageError> {
        self.usable()?;
        let Some(last) = frames.last() else { return Ok(Vec::new()) };
        for (frame, lsn) in frames.iter().zip(self.last_lsn + 1..) {
            assert_eq!(frame.lsn, lsn, "a frame's lsn must be the next one");
            assert_ne!(frame.kind, SEAL_KIND, "a command can't have the kind of a seal");
        }
        let len = group::len_of(frames)?;
        let limit = self.config.file_bytes - FILE_HEADER_BYTES;
        if len > limit {
            return Err(StorageError::TooLarge { what: "a group of commands", found: len, limit });
        }
        if self.at + len > self.current.len {
            self.roll()?;
        }
        let mut group = std::mem::take(&mut self.group);
        let mut placed = group.build(frames, self.place());
        while group.shows(self.current.nonce) && !on(Mutant::R8NonceInBodyAccepted) {
            self.roll()?;
            placed = group.build(frames, self.place());
        }
        self.term = frames.iter().map(|frame| frame.term).fold(self.term, u32::max);
        self.write(&group)?;
        self.last_lsn = last.lsn;
        group.shrink(self.config.group_bytes);
        self.group = group;
        Ok(placed)
    }

    /// [`append`](Self::append) of what leads to more space: if it needs a new file and there is no room, it gets the
    /// one in reserve ([`Spares::keep_reserve`]).
    pub fn append_from_reserve(&mut self, frames: &[Frame]) -> Result<Vec<Placed>, StorageError> {
        self.with_reserve(|journal| journal.append(frames))
    }

    /// Makes everything that was written durable (`fdatasync`). Costs nothing if nothing was written.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        let one_at_a_time = Arc::clone(&self.one_at_a_time);
        let _alone = one_at_a_time.lock();
        self.usable()?;
        if self.dirty && !on(Mutant::M1NoJournalSync) {
            let synced = self.current.file.sync();
            self.final_if_failed(synced.map_err(|error| self.io("sync", error)))?;
        }
        self.dirty = false;
        self.durable_lsn = self.last_lsn;
        self.publish(self.at);
        Ok(())
    }

    /// Writes a seal: the durable lsn, without a command and without a sync. If it doesn't fit it is skipped, since the
    /// next file's header states as much; one that says `clean` goes into a new file, if there is room for one.
    pub fn seal(&mut self, clean: bool) -> Result<(), StorageError> {
        self.usable()?;
        if self.at + super::BLOCK_BYTES > self.current.len {
            match clean {
                true => match self.with_reserve(FileJournal::roll) {
                    Err(StorageError::DiskFull { .. }) => return Ok(()),
                    rolled => rolled?,
                },
                false => return Ok(()),
            }
        }
        let mut group = std::mem::take(&mut self.group);
        group.build_seal(self.last_lsn, self.term, clean, self.place());
        self.write(&group)?;
        self.group = group;
        Ok(())
    }

    /// Gives up files, oldest first, whose last lsn is at most `through_lsn`; the number of files given up. The
    /// current file stays, and so does everything from the first file on that is being read. They become spares as
    /// long as the ring has room, else they are removed.
    ///
    /// The caller guarantees that no checkpoint on disk needs them, and that this process has made two checkpoints
    /// of its own durable (rule R7).
    pub fn recycle(&mut self, through_lsn: u64) -> Result<usize, StorageError> {
        self.usable()?;
        let old = self.earlier.iter().take_while(|file| file.last_lsn <= through_lsn);
        let given_up: Vec<JournalFile> =
            old.take_while(|file| self.files.give_up(file.generation)).copied().collect();
        self.earlier.drain(..given_up.len());
        let kept = self.earlier.len() + 1 + self.pool.ready();
        let mut room = self.config.ring_files().saturating_sub(kept);
        let mut spares = Vec::new();
        for file in &given_up {
            let path = names::journal(file.generation);
            if room > 0 && file.len_bytes == self.config.file_bytes {
                room -= 1;
                spares.push(path);
            } else {
                self.final_if_failed(self.pool.unlink(&path))?;
            }
        }
        self.final_if_failed(self.pool.recycle(&spares))?;
        Ok(given_up.len())
    }

    /// The last lsn written.
    pub fn last_lsn(&self) -> u64 {
        self.last_lsn
    }

    /// The last lsn of the files that are full.
    pub fn closed_lsn(&self) -> u64 {
        self.earlier.last().map_or(0, |file| file.last_lsn)
    }

    /// The last lsn written before the newest successful sync began.
    pub fn durable_lsn(&self) -> u64 {
        self.durable_lsn
    }

    /// Where the next group would begin, if it fits in the current file.
    pub fn position(&self) -> Position {
        Position { generation: self.current.generation, at: self.at }
    }

    /// Generation of the current file.
    pub fn generation(&self) -> u64 {
        self.current.generation
    }

    /// The files that count, oldest first; the last one is being written.
    pub fn files(&self) -> Vec<JournalFile> {
        let current = JournalFile {
            generation: self.current.generation,
            first_lsn: self.current.first_lsn,
            last_lsn: self.last_lsn,
            len_bytes: self.current.len,
        };
        self.earlier.iter().copied().chain([current]).collect()
    }

    /// What the files that count occupy, in bytes. Spares aren't counted.
    pub fn used_bytes(&self) -> u64 {
        self.earlier.iter().map(|file| file.len_bytes).sum::<u64>() + self.current.len
    }

    /// How many files count.
    pub fn file_count(&self) -> usize {
        self.earlier.len() + 1
    }

    /// A handle to read with, from any thread.
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(&self.files)
    }

    /// A handle to prepare files with, from any thread.
    pub fn spares(&self) -> Spares {
        Spares::new(&self.pool)
    }

    /// Ends it before the directory is opened again: whoever prepares files for it is told off.
    pub fn retire(&self) {
        self.pool.close();
    }

    /// Ends reading from it: the directory was opened again, and its files may be written again from now on.
    pub fn hand_over(&self) {
        self.files.hand_over();
    }

    /// Why the journal refuses writes, if it does.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    fn place(&self) -> Place {
        Place {
            generation: self.current.generation,
            nonce: self.current.nonce,
            at: self.at,
            durable_lsn: self.durable_lsn,
        }
    }

    fn write(&mut self, group: &Group) -> Result<(), StorageError> {
        let written = self.current.file.write_at(&group.pieces(), self.at);
        self.final_if_failed(written.map_err(|error| self.io("write", error)))?;
        self.at += group.len();
        self.dirty = true;
        Ok(())
    }

    fn with_reserve<T>(&mut self, work: impl FnOnce(&mut FileJournal) -> T) -> T {
        self.may_use_reserve = true;
        let result = work(self);
        self.may_use_reserve = false;
        result
    }

    /// Goes on in a new file. (`roll` of the model. There the file has its name before its header is durable; here
    /// the header comes first, as rule R1 asks of recovery's file, so that a name always means a whole header.)
    fn roll(&mut self) -> Result<(), StorageError> {
        // First of all: a full disk changes nothing.
        let taken = self.take_file()?;
        self.sync()?;
        let Position { generation, at: end } = self.position();
        let predecessor = Predecessor { generation, end, last_lsn: self.last_lsn };
        let earlier = self.files();
        self.begin_file(taken, self.last_lsn + 1, Some(predecessor))?;
        self.earlier = earlier;
        Ok(())
    }

    /// A file for the next generation. `DiskFull` changes nothing, any other failure is final.
    pub(super) fn take_file(&mut self) -> Result<Taken, StorageError> {
        let generation = self.current.generation + 1;
        match self.pool.take(generation, self.config.file_bytes, self.may_use_reserve) {
            Err(full @ StorageError::DiskFull { .. }) => Err(full),
            taken => self.final_if_failed(taken),
        }
    }

    /// Makes a file that was taken the current one: header, sync, name. What the header states must be durable.
    pub(super) fn begin_file(
        &mut self,
        taken: Taken,
        first_lsn: u64,
        predecessor: Option<Predecessor>,
    ) -> Result<(), StorageError> {
        let generation = self.current.generation + 1;
        let header = FileHeader {
            shard: self.config.shard,
            generation,
            nonce: self.nonces.draw(),
            first_lsn,
            term: self.term,
            len_blocks: FileHeader::blocks(taken.len)?,
            predecessor,
        };
        let path = names::journal(generation);
        let written = taken.file.write_at(&[IoSlice::new(&header.encode())], 0);
        self.final_if_failed(written.map_err(|error| StorageError::io("write", taken.path.as_str(), error)))?;
        let synced = taken.file.sync();
        self.final_if_failed(synced.map_err(|error| StorageError::io("sync", taken.path.as_str(), error)))?;
        self.final_if_failed(self.pool.install(&taken, &path))?;
        self.current = self.files.add(Readable::new(path, taken.file, &header, taken.len, FILE_HEADER_BYTES));
        self.at = FILE_HEADER_BYTES;
        Ok(())
    }

    /// Shows readers what has become durable: the current file up to here.
    pub(super) fn publish(&self, end: u64) {
        self.current.set_end(end);
        self.files.durable_lsn.store(self.durable_lsn, Ordering::Release);
    }

    fn io(&self, what: &'static str, error: std::io::Error) -> StorageError {
        StorageError::io(what, self.current.name.as_str(), error)
    }

    pub(super) fn usable(&mut self) -> Result<(), StorageError> {
        if self.failed.is_none()
            && let Some(error) = self.pool.failure()
        {
            self.failed = Some(error.to_string().into());
        }
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(StorageError::Poisoned { reason: Arc::clone(reason) }),
        }
    }

    pub(super) fn final_if_failed<T>(&mut self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error) = &result {
            self.failed = Some(error.to_string().into());
        }
        result
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Journal for FileJournal {
    fn append(&mut self, frames: &[Frame]) -> Result<Vec<Placed>, StorageError> {
        FileJournal::append(self, frames)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        FileJournal::sync(self)
    }

    fn seal(&mut self, clean: bool) -> Result<(), StorageError> {
        FileJournal::seal(self, clean)
    }

    fn last_lsn(&self) -> u64 {
        FileJournal::last_lsn(self)
    }

    fn durable_lsn(&self) -> u64 {
        FileJournal::durable_lsn(self)
    }

    fn position(&self) -> Position {
        FileJournal::position(self)
    }

    fn recycle(&mut self, through_lsn: u64) -> Result<usize, StorageError> {
        FileJournal::recycle(self, through_lsn)
    }

    fn reader(&self) -> JournalReader {
        FileJournal::reader(self)
    }

    fn read_from(&self, lsn: u64) -> Result<Cursor, StorageError> {
        FileJournal::reader(self).cursor(lsn)
    }

    fn cut(&mut self, after_lsn: u64) -> Result<(), StorageError> {
        FileJournal::cut(self, after_lsn)
    }
}

/// Where the nonces of new files come from: a keyed hash of a counter, so that knowing one doesn't tell the next.
/// A payload that knew the nonce of a later file could forge groups that outlive the recycling of this one.
#[derive(Debug)]
pub(super) struct Nonces {
    secret: [u64; 2],
    drawn: u64,
}

impl Nonces {
    pub(super) fn new(random: &mut dyn FnMut() -> u64) -> Nonces {
        Nonces { secret: [random(), random()], drawn: 0 }
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        for word in [self.secret[0], self.drawn, self.secret[1]] {
            hasher.write_u64(word);
        }
        hasher.finish()
    }
}
