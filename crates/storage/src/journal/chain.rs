//! What lies in the journal's directory, and which of the files form the chain.
//!
//! Only headers are read here; `scan.rs` reads what they frame. Nothing is written.
//!
//! Invariants:
//!   * the chain ends in the newest file with a valid header and leads down by what each header names (rule R3)
//!   * it is walked down as far as its files exist (rule R7); a named file that is missing is refused, unless
//!     everything that is needed lies above it
//!   * a file under the name of another one never counts

use super::files::Readable;
use super::format::{FILE_HEADER_BYTES, FileHeader, HeaderFault};
use super::names::{self, Name};
use super::{BLOCK_BYTES, Config, FORMAT_VERSION, Start};
use crate::disk::{Disk, File, Mode};
use crate::error::StorageError;
use exactlog_core::mutants::{Mutant, on};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The entries of the directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) journals: BTreeMap<u64, Candidate>,
    pub(super) spares: Vec<Spare>,
    /// Paths of files that were to become journal files.
    pub(super) unfinished_journals: Vec<String>,
    /// Paths of files that were to become spares, or were kept in reserve.
    pub(super) unfinished_spares: Vec<String>,
    /// The highest number in the name of a spare, finished or not; 0 if there is none.
    pub(super) highest_spare: u64,
    /// What doesn't count, with the reason.
    pub(super) ignored: Vec<String>,
}

/// A file with the name of a journal file.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: String,
    /// Number of names that lead to the file.
    pub(super) links: u64,
    pub(super) len: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) header: Result<FileHeader, HeaderFault>,
}

/// A file with the name of a spare.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: String,
    pub(super) links: u64,
    pub(super) len: u64,
}

/// One file of the chain.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) header: FileHeader,
    pub(super) file: Arc<Readable>,
    /// Up to where it counts: what its successor states, or the length of the last one in whole blocks.
    pub(super) end: u64,
}

impl Found {
    /// Lists the directory and reads the headers. Refuses versions and shards that aren't ours.
    pub(super) fn look(disk: &dyn Disk, config: &Config) -> Result<Found, StorageError> {
        let entries = match disk.list(names::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
            listed => listed.map_err(|error| StorageError::io("list", names::DIRECTORY, error))?,
        };
        let mut found = Found::default();
        for entry in entries {
            let path = names::path(&entry.name);
            let name = if entry.is_dir { Name::Other } else { names::parse(&entry.name) };
            match name {
                Name::Journal(generation) => {
                    let mut candidate = Candidate::read(disk, path, entry.links)?;
                    candidate.check(generation, config)?;
                    found.journals.insert(generation, candidate);
                }
                Name::Spare(number) => {
                    found.highest_spare = found.highest_spare.max(number);
                    found.spares.push(Spare { path, links: entry.links, len: entry.len });
                }
                Name::NewSpare(number) => {
                    found.highest_spare = found.highest_spare.max(number);
                    found.unfinished_spares.push(path);
                }
                Name::Temporary => found.unfinished_journals.push(path),
                Name::Other => found.ignored.push(format!("{path}: not a file of the journal")),
            }
        }
        Ok(found)
    }

    /// The highest generation in a name, 0 if there is none.
    pub(super) fn newest_generation(&self) -> u64 {
        self.journals.keys().next_back().copied().unwrap_or(0)
    }

    /// The highest term that any header states, also outside the chain (rule R10).
    pub(super) fn highest_term(&self) -> u32 {
        if on(Mutant::R10HeaderTermIgnored) {
            return 0;
        }
        let headers = self.journals.values().filter_map(|candidate| candidate.header.ok());
        headers.map(|header| header.term).max().unwrap_or(0)
    }

    /// Judges the files whose headers don't count. One that is newer than the newest valid header lost its own to
    /// damage, and is refused (rule R5). An older one is only needed if the chain names it, which refuses it then.
    pub(super) fn judge_headers(&mut self) -> Result<(), StorageError> {
        let mut newest = true;
        for candidate in self.journals.values().rev() {
            let Err(fault) = &candidate.header else {
                newest = false;
                continue;
            };
            if newest && !on(Mutant::R5BadHeaderIgnored) {
                candidate.judge_newest(fault)?;
            }
            self.ignored.push(format!("{}: {fault}", candidate.path));
        }
        Ok(())
    }

    /// The chain, oldest first.
    pub(super) fn chain(&self, start: &Start) -> Result<Vec<Link>, StorageError> {
        let newest = self.journals.values().rev().find_map(|file| Some((file, file.header.ok()?)));
        let Some((candidate, header)) = newest else {
            return if start.checkpoints_found == 0 && start.applied_lsn == 0 {
                Ok(Vec::new())
            } else {
                let named_by = format!("the checkpoint of lsn {}", start.applied_lsn);
                Err(StorageError::Missing { file: format!("{}/*.journal", names::DIRECTORY), named_by })
            };
        };
        candidate.check_len(&header)?;
        let mut chain = vec![candidate.link(header, candidate.len - candidate.len % BLOCK_BYTES)];
        let mut oldest = (candidate, header);
        while let Some((next, header, end)) = self.predecessor(oldest, start)? {
            chain.push(next.link(header, end));
            oldest = (next, header);
        }
        let (candidate, header) = oldest;
        if header.first_lsn > start.needed_lsn + 1 {
            let what = format!("begins at lsn {}, lsn {} is needed", header.first_lsn, start.needed_lsn + 1);
            return Err(StorageError::damaged(candidate.path.as_str(), 0, what));
        }
        chain.reverse();
        Ok(chain)
    }

    /// The file that a header names, with the end that it states.
    fn predecessor(
        &self,
        (candidate, header): (&Candidate, FileHeader),
        start: &Start,
    ) -> Result<Option<(&Candidate, FileHeader, u64)>, StorageError> {
        let Some(named) = header.predecessor else { return Ok(None) };
        let enough = header.first_lsn <= start.needed_lsn + 1;
        if enough && on(Mutant::R7FoundFilesRecycled) {
            return Ok(None);
        }
        match self.journals.get(&named.generation).map(|file| (file, file.header)) {
            Some((file, Ok(_))) if named.end > file.len => {
                let what = format!("{} states an end of {}, the file ends here", candidate.path, named.end);
                Err(StorageError::damaged(file.path.as_str(), file.len, what))
            }
            Some((_, Ok(older))) if older.first_lsn > header.first_lsn => {
                let what =
                    format!("names a predecessor that begins at lsn {}, behind its own", older.first_lsn);
                Err(StorageError::damaged(candidate.path.as_str(), 0, what))
            }
            Some((file, Ok(older))) => Ok(Some((file, older, named.end))),
            _ if enough => Ok(None),
            Some((file, Err(fault))) => Err(StorageError::damaged(file.path.as_str(), 0, fault.to_string())),
            None => {
                let file = names::journal(named.generation);
                Err(StorageError::Missing { file, named_by: candidate.path.clone() })
            }
        }
    }
}

impl Candidate {
    fn read(disk: &dyn Disk, path: String, links: u64) -> Result<Candidate, StorageError> {
        let failed = |what| {
            let path = path.clone();
            move |error| StorageError::io(what, path, error)
        };
        let file = disk.open(&path, Mode::Read).map_err(failed("open"))?;
        let len = file.len().map_err(failed("read the length of"))?;
        let mut block = [0; FILE_HEADER_BYTES as usize];
        let read = file.read_at(&mut block, 0).map_err(failed("read"))?;
        let header = FileHeader::decode(&block[..read]);
        Ok(Candidate { path, links, len, file, header })
    }

    /// Refuses a version that this build doesn't know, and another shard's file. A file under the name of another
    /// one doesn't count: after a directory sync that failed, a name from before the file was recycled can come
    /// back.
    fn check(&mut self, generation: u64, config: &Config) -> Result<(), StorageError> {
        match self.header {
            Err(HeaderFault::Version(found)) => {
                Err(StorageError::Version { file: self.path.clone(), found, supported: FORMAT_VERSION })
            }
            Ok(header) if header.shard != config.shard => {
                let what = format!("a file of shard {}, expected shard {}", header.shard, config.shard);
                Err(StorageError::damaged(self.path.as_str(), 0, what))
            }
            Ok(header) if header.generation != generation => {
                self.header = Err(HeaderFault::Generation(header.generation));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Of a file newer than the newest valid header. A file gets its name only after its header and its length are
    /// durable, so no crash leaves it like this: what it held is unknown, and may have been acknowledged.
    fn judge_newest(&self, fault: &HeaderFault) -> Result<(), StorageError> {
        // Under two names nothing is lost: the other one counts.
        if matches!(fault, HeaderFault::Generation(_)) && self.links > 1 {
            return Ok(());
        }
        Err(StorageError::damaged(self.path.as_str(), 0, fault.to_string()))
    }

    /// The newest file has no successor that states where it ends: if it was cut, its header tells.
    fn check_len(&self, header: &FileHeader) -> Result<(), StorageError> {
        let stated = u64::from(header.len_blocks) * BLOCK_BYTES;
        if self.len >= stated {
            return Ok(());
        }
        let what = format!("the file ends here, its header states a length of {stated} B");
        Err(StorageError::damaged(self.path.as_str(), self.len, what))
    }

    fn link(&self, header: FileHeader, end: u64) -> Link {
        let file = Readable::new(self.path.clone(), Arc::clone(&self.file), &header, self.len, end);
        Link { header, file: Arc::new(file), end }
    }
}
