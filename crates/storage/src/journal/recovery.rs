//! Opens a journal: look at the directory, follow the chain, read it, go on in a new file.
//!
//! (`open` of the model.) Nothing is written before everything was read and judged, so a refusal leaves the
//! directory as it was.

use super::chain::Found;
use super::renewal::Renewal;
use super::writer::{FileJournal, Nonces};
use super::{Config, Opened, ReadFrame, Start, names, scan};
use crate::disk::Disk;
use crate::error::StorageError;
use std::sync::Arc;

impl FileJournal {
    /// Opens the journal of a directory, or begins one.
    ///
    /// `frame` gets every command above `start.applied_lsn`, in lsn order. The places that it sees are those in
    /// the files as they were; [`Opened::moved`] has the new places of the frames that were written again.
    /// `random` feeds the nonces of new files.
    ///
    /// Refuses, with file and position, what no crash can leave behind: `Damaged`, `Version`, `Missing`. After an
    /// error nothing that counts has changed, and open may be tried again.
    ///
    /// The caller holds the directory's lock, has dropped or retired any earlier `FileJournal` of the directory,
    /// writes one command next (which states that the log was opened), and syncs it.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: Config,
        start: &Start,
        random: &mut dyn FnMut() -> u64,
        frame: &mut dyn FnMut(ReadFrame) -> Result<(), StorageError>,
    ) -> Result<(FileJournal, Opened), StorageError> {
        config.check()?;
        if start.applied_lsn >= names::NUMBER_LIMIT {
            let (value, bounds) = (start.applied_lsn, "below 2^63");
            return Err(StorageError::Setting { name: "applied lsn", value, bounds });
        }
        if start.needed_lsn > start.applied_lsn {
            let (value, bounds) = (start.needed_lsn, "at most the checkpoint's lsn");
            return Err(StorageError::Setting { name: "needed lsn", value, bounds });
        }
        let mut found = Found::look(&*disk, &config)?;
        found.judge_headers()?;
        let chain = found.chain(start)?;
        let scanned = scan::scan(&chain, &config, start, frame)?;
        let nonces = Nonces::new(random);
        Renewal { disk, config, found, chain, scanned, nonces }.run()
    }

    /// Hands out the commands above the checkpoint as far as they are whole. Writes nothing.
    ///
    /// # Errors
    /// When something can't be read, and what `frame` answers but for refusals: these end it, as damage does.
    pub(crate) fn read_whole_part(
        disk: &dyn Disk,
        config: &Config,
        start: &Start,
        frame: &mut dyn FnMut(ReadFrame) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let chain = Found::look(disk, config)?.chain(start);
        match chain.and_then(|chain| scan::scan(&chain, config, start, frame)) {
            Err(error) if !error.is_refusal() => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins the journal of a directory anew: its first command will be that of `first_lsn`, its term is at least
    /// `term`. Whatever the directory held counts no longer, once this has returned.
    ///
    /// Only for a directory that has taken over the state at `first_lsn - 1` from elsewhere: [`FileJournal::open`]
    /// never begins anywhere but at lsn 1 by itself, it refuses a checkpoint without its journal.
    ///
    /// The caller holds the directory's lock, has dropped or retired any earlier `FileJournal` of the directory, and
    /// makes sure that the journal is opened next with a checkpoint of `first_lsn - 1`. May be repeated until then.
    pub fn begin_at(
        disk: Arc<dyn Disk>,
        config: Config,
        first_lsn: u64,
        term: u32,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), StorageError> {
        config.check()?;
        if first_lsn == 0 || first_lsn >= names::NUMBER_LIMIT {
            let bounds = "at least 1, below 2^63";
            return Err(StorageError::Setting { name: "first lsn", value: first_lsn, bounds });
        }
        let found = Found::look(&*disk, &config)?;
        let scanned = scan::Scanned::nothing(first_lsn - 1, term);
        let nonces = Nonces::new(random);
        Renewal { disk, config, found, chain: Vec::new(), scanned, nonces }.run().map(|_| ())
    }
}
