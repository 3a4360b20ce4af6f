//! The journal: every command in one order, on disk before anything relies on it.
//!
//! A journal is a chain of files of fixed size. Frames (one command each) are written in groups, one write per
//! group; a sync makes what was written durable. Each group states the *durable lsn*, the last one written before
//! the newest successful sync began: that tells a torn tail from damage when the journal is opened again.
//!
//! In reading order: [`FileJournal`] (`writer.rs`), the bytes (`format.rs`, `group.rs`), reading them back
//! (`walk.rs`, `cursor.rs`), opening (`recovery.rs` on top of `chain.rs`, `scan.rs`), taking commands back (`cut.rs`),
//! files to write into (`spares.rs`). The format, and the ten rules of open and recovery, are in docs/FORMAT.md.
//!
//! It doesn't know what a command means, when to sync, or when a file is no longer needed: its owner decides.
//!
//! Invariants:
//!   * no process appends to a file that an earlier one made
//!   * after a failed write, sync or rename nothing is written any more; nothing is ever synced a second time
//!   * bytes inside the length of a valid frame are never taken for frames

mod chain;
mod cursor;
mod cut;
mod files;
mod format;
mod group;
mod names;
mod recovery;
mod renewal;
mod scan;
mod spares;
mod syncing;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

pub use cursor::Cursor;
pub use files::JournalReader;
pub use format::{BLOCK_BYTES, FILE_HEADER_BYTES, FORMAT_VERSION, FRAME_HEADER_BYTES, SEAL_KIND};
pub use spares::Spares;
pub use syncing::Syncing;
pub use writer::FileJournal;

use crate::error::StorageError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

/// Decides whether a frame's content is whole: decodes the head and checks the CRC-32C of each batch body.
/// Arguments: kind, version, head, bodies.
///
/// A kind or version that it doesn't know must pass: whoever decodes the command then refuses it by name. To call
/// it damaged would let recovery cut off commands that a newer version wrote.
pub type Verify = fn(kind: u8, version: u8, head: &[u8], bodies: &[u8]) -> bool;

/// How durable a command is when it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// On disk.
    Fsync,
    /// On disk within an interval.
    Interval,
    /// With the operating system: survives the process, not the power.
    Os,
}

/// A command to be written.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its place in the order; one more than that of the frame before it.
    pub lsn: u64,
    /// The term under which it was ordered.
    pub term: u32,
    /// Which command; never [`SEAL_KIND`].
    pub kind: u8,
    /// Version of the command's encoding.
    pub version: u8,
    /// How durable it is when it is acknowledged.
    pub level: Level,
    /// What the frame's checksum covers.
    pub head: Vec<u8>,
    /// What checksums inside the head cover.
    pub bodies: SmallVec<[Bytes; 1]>,
}

/// A place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Generation of the file.
    pub generation: u64,
    /// Byte position in that file.
    pub at: u64,
}

/// Where a frame lies. Positions are in bytes, in the file of that generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The frame's lsn.
    pub lsn: u64,
    /// Generation of the file.
    pub generation: u64,
    /// Where the head begins.
    pub head_at: u64,
    /// Where the bodies begin, directly behind the head.
    pub bodies_at: u64,
    /// Length of all bodies together, in bytes.
    pub bodies_len: u64,
}

impl Placed {
    /// Directly behind the frame. This, not [`Journal::position`], is what a checkpoint records for
    /// [`Start::applied_at`].
    pub fn end(&self) -> Position {
        Position { generation: self.generation, at: self.bodies_at + self.bodies_len }
    }

    /// Length of the head in bytes.
    pub fn head_len(&self) -> u64 {
        self.bodies_at - self.head_at
    }
}

/// A command as it was read, its checksum and its content verified.
#[derive(Clone, Debug)]
pub struct ReadFrame {
    /// Its place in the order.
    pub lsn: u64,
    /// The term under which it was ordered.
    pub term: u32,
    /// Which command.
    pub kind: u8,
    /// Version of the command's encoding.
    pub version: u8,
    /// How durable it was when it was acknowledged.
    pub level: Level,
    /// The head. A slice of a larger piece of the file, as `bodies` is: copy what is kept for long.
    pub head: Bytes,
    /// All bodies, one behind the other.
    pub bodies: Bytes,
    /// Where it lies.
    pub placed: Placed,
}

impl ReadFrame {
    /// Directly behind the frame.
    pub fn end(&self) -> Position {
        self.placed.end()
    }

    /// The same command, to be written to another journal under the same lsn and term.
    pub fn to_frame(&self) -> Frame {
        Frame {
            lsn: self.lsn,
            term: self.term,
            kind: self.kind,
            version: self.version,
            level: self.level,
            head: self.head.to_vec(),
            bodies: smallvec![self.bodies.clone()],
        }
    }

    /// What it takes in a journal file without the padding of its group, in bytes.
    pub fn len_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES + self.placed.head_len() + self.placed.bodies_len
    }
}

/// Name of the journal file of a generation, relative to the root of the disk.
pub fn file_name(generation: u64) -> String {
    names::journal(generation)
}

/// What a journal is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which shard the journal belongs to. A file of another shard is refused.
    pub shard: u32,
    /// Size of new journal files. Default: 64 MiB. A multiple of 4096, at least three times that, below 4 GiB.
    pub file_bytes: u64,
    /// The writer's buffer is kept up to this size; the owner gathers groups up to it. Default: 4 MiB.
    pub group_bytes: u64,
    /// How much the journal's files and spares may occupy before recycled files are removed. Default: 1 GiB.
    pub ring_bytes: u64,
    /// Verifies the content of frames.
    pub verify: Verify,
}

impl Config {
    /// The defaults.
    pub fn new(shard: u32, verify: Verify) -> Config {
        Config { shard, file_bytes: 64 << 20, group_bytes: 4 << 20, ring_bytes: 1 << 30, verify }
    }

    fn check(&self) -> Result<(), StorageError> {
        let fits = self.file_bytes.is_multiple_of(BLOCK_BYTES)
            && self.file_bytes >= 3 * BLOCK_BYTES
            && u32::try_from(self.file_bytes).is_ok();
        if fits {
            return Ok(());
        }
        let bounds = "a multiple of 4096, at least 12288, below 4 GiB";
        Err(StorageError::Setting { name: "journal.file.bytes", value: self.file_bytes, bounds })
    }

    /// How many files, journal and spares together, are kept.
    fn ring_files(&self) -> usize {
        usize::try_from(self.ring_bytes / self.file_bytes).unwrap_or(usize::MAX)
    }
}

/// What the checkpoints found at open say. The default is: no checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The newest checkpoint holds the state at this lsn. What it states is durable: a checkpoint syncs first.
    pub applied_lsn: u64,
    /// Directly behind the frame of `applied_lsn` ([`Placed::end`]): parsing may begin there. If it lies exactly on
    /// a block boundary or one frame header behind it, it isn't used.
    pub applied_at: Option<Position>,
    /// Journal files are needed from the lsn behind this one on; at most `applied_lsn`.
    pub needed_lsn: u64,
    /// How many checkpoints were found.
    pub checkpoints_found: usize,
}

/// What opening found.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The last command that counts.
    pub last_lsn: u64,
    /// The highest lsn that anything on disk stated durable. What lies above was written again before open returned.
    pub proven_lsn: u64,
    /// The term for commands from now on.
    pub term: u32,
    /// Whether the journal was closed, and nothing was written behind that.
    pub clean: bool,
    /// What was cut off, if anything was.
    pub cut: Option<Cut>,
    /// Entries of the directory that don't count, each with the reason.
    pub ignored: Vec<String>,
    /// The new places of the frames above `proven_lsn`, in lsn order.
    pub moved: Vec<Placed>,
    /// The first lsn that the journal still holds.
    pub first_lsn: u64,
}

/// The end of an unclean journal, where something follows that doesn't count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: String,
    /// Where what doesn't count begins.
    pub position: u64,
    /// The last lsn that counts.
    pub after_lsn: u64,
    /// Whether it is certain that something of this file was cut: a group in part, or one behind a hole. Otherwise
    /// the bytes may as well be left over from the file's earlier use.
    pub certain: bool,
    /// Why the first frame behind the end doesn't count.
    pub reason: String,
}

/// One journal file that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalFile {
    /// Its generation.
    pub generation: u64,
    /// The first lsn that it can hold.
    pub first_lsn: u64,
    /// The last lsn that it holds; one less than `first_lsn` if it holds none.
    pub last_lsn: u64,
    /// Its size in bytes.
    pub len_bytes: u64,
}

/// What a shard asks of its journal: the seam behind which a replicated one fits.
///
/// Every failure but `TooLarge` and `DiskFull` is final: each later call answers [`StorageError::Poisoned`].
pub trait Journal: Send {
    /// Writes one group. Nothing of it is durable yet. Frames continue the order without a gap.
    fn append(&mut self, frames: &[Frame]) -> Result<Vec<Placed>, StorageError>;
    /// Makes everything that was written durable.
    fn sync(&mut self) -> Result<(), StorageError>;
    /// Writes the durable lsn, without a sync; `clean` if it is the last thing before closing.
    fn seal(&mut self, clean: bool) -> Result<(), StorageError>;
    /// The last lsn written.
    fn last_lsn(&self) -> u64;
    /// The last lsn written before the newest successful sync began.
    fn durable_lsn(&self) -> u64;
    /// Where the next group would begin.
    fn position(&self) -> Position;
    /// Gives files up whose last lsn is at most this one; the number of files given up.
    fn recycle(&mut self, through_lsn: u64) -> Result<usize, StorageError>;
    /// A handle to read with, from any thread.
    fn reader(&self) -> JournalReader;
    /// The durable commands from `lsn` on, in order; [`StorageError::Recycled`] if it is gone.
    fn read_from(&self, lsn: u64) -> Result<Cursor, StorageError>;
    /// Takes the commands above `after_lsn` back, durably: others of a later term are appended in their place.
    fn cut(&mut self, after_lsn: u64) -> Result<(), StorageError>;
}
