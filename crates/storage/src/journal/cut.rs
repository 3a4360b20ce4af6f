//! Takes the newest commands back: what a journal of several copies does when another one was chosen.
//!
//! ```text
//!   before:  file 7 [1 2 3 4 5 6]  file 8 [7 8 9]
//!   cut(4):  file 7 [1 2 3 4|     ]                file 9: header "5 on, file 7 ends behind 4"
//! ```
//!
//! Not here: which commands may be taken back. The owner knows that none of them was acknowledged or is in a
//! checkpoint, drops the state that they made and opens the log again.
//!
//! Invariants:
//!   * nothing that was written is written over: the header of a new file ends its predecessor, as it does at open
//!   * before the new file has its name all commands count, afterwards none of those that were taken back does
//!   * the end lies directly behind a command, not behind seals (rule R4)

use super::files::Readable;
use super::format::{FileHeader, Predecessor};
use super::scan::PIECE_BYTES;
use super::walk::{Step, Walk};
use super::writer::FileJournal;
use super::{FILE_HEADER_BYTES, JournalFile, names};
use crate::error::StorageError;
use bytes::Bytes;

impl FileJournal {
    /// Takes the commands above `after_lsn` back, durably; nothing happens if there are none. The journal goes on
    /// with `after_lsn + 1`, in a new file.
    ///
    /// Readers and cursors of before must be asked for again: what they have in hand may not count any more.
    ///
    /// # Errors
    /// [`StorageError::Recycled`] if the command of `after_lsn` is gone, `Damaged` if the way to it can't be read,
    /// `DiskFull` if there is no room for a file: then nothing has changed. Any other failure is final.
    pub fn cut(&mut self, after_lsn: u64) -> Result<(), StorageError> {
        self.usable()?;
        if after_lsn >= self.last_lsn {
            return Ok(());
        }
        self.sync()?;
        let files = self.files();
        let kept = files.partition_point(|file| file.first_lsn <= after_lsn);
        let predecessor = match files[..kept].last() {
            Some(file) => Some(self.end_behind(file, after_lsn)?),
            None => self.named_by(&files[0], after_lsn)?,
        };
        let taken = self.take_file()?;
        self.begin_file(taken, after_lsn + 1, predecessor)?;
        self.earlier = files[..kept].to_vec();
        if let (Some(last), Some(predecessor)) = (self.earlier.last_mut(), predecessor) {
            last.last_lsn = after_lsn;
            if let Some(file) = self.files.find(last.generation) {
                file.set_end(predecessor.end);
            }
        }
        (self.last_lsn, self.durable_lsn) = (after_lsn, after_lsn);
        self.publish(self.at);
        self.give_back(&files[kept..])
    }

    /// The end of a file directly behind the command of `lsn`, which it holds.
    fn end_behind(&self, file: &JournalFile, lsn: u64) -> Result<Predecessor, StorageError> {
        let generation = file.generation;
        let file = self.files.find(generation).ok_or_else(|| self.files.recycled())?;
        let end = file.end();
        let mut walk = Walk::from_start(&file, self.files.verify, PIECE_BYTES);
        loop {
            let why = match walk.step(&file, end)? {
                Step::Command { frame, .. } if frame.lsn == lsn => {
                    return Ok(Predecessor { generation, end: frame.end().at, last_lsn: lsn });
                }
                Step::Command { .. } | Step::Seal { .. } => continue,
                Step::End => format!("it ends with lsn {}, expected lsn {lsn}", walk.last_lsn()),
                Step::Bad(fault) => fault.to_string(),
            };
            return Err(StorageError::damaged(file.name.as_str(), walk.at(), why));
        }
    }

    /// What the oldest file says of the one before it, which has to end with `after_lsn`: nothing of the files that
    /// are here is kept, so the new file has to say the same.
    fn named_by(&self, oldest: &JournalFile, after_lsn: u64) -> Result<Option<Predecessor>, StorageError> {
        if after_lsn + 1 != oldest.first_lsn {
            return Err(self.files.recycled());
        }
        let file = self.files.find(oldest.generation).ok_or_else(|| self.files.recycled())?;
        Ok(read_header(&file)?.predecessor)
    }

    /// Gives back the room of files that count no longer. One that somebody is reading is removed, not used again.
    fn give_back(&mut self, files: &[JournalFile]) -> Result<(), StorageError> {
        let kept = self.earlier.len() + 1 + self.pool.ready();
        let mut room = self.config.ring_files().saturating_sub(kept);
        let mut spares = Vec::new();
        for file in files {
            let path = names::journal(file.generation);
            let unread = self.files.take_out(file.generation);
            if unread && room > 0 && file.len_bytes == self.config.file_bytes {
                room -= 1;
                spares.push(path);
            } else {
                self.final_if_failed(self.pool.unlink(&path))?;
            }
        }
        self.final_if_failed(self.pool.recycle(&spares))
    }
}

fn read_header(file: &Readable) -> Result<FileHeader, StorageError> {
    let block = file.read(0, FILE_HEADER_BYTES, Bytes::new())?;
    let header = FileHeader::decode(&block);
    header.map_err(|fault| StorageError::damaged(file.name.as_str(), 0, fault.to_string()))
}
