//! How the journal goes on after it was read: in a new file, made whole before it counts.
//!
//! (`open` of the model, its part "where to go on".)
//!
//! Invariants:
//!   * the new file holds its header and every kept frame above the highest stated durable lsn before it gets its
//!     name; only the name ends its predecessor (rule R1)
//!   * the predecessor is the file that holds the highest proven lsn (rule R3), and it ends directly behind that
//!     command, not behind seals (rule R4): seals are written without a sync
//!   * files are removed only after the new one is durable, and only files outside its chain (rule R7)

use super::chain::{Found, Link};
use super::files::{Files, Readable};
use super::format::{FRAME_HEADER, FileHeader, FrameHeader, Predecessor};
use super::group::{self, Group, Place};
use super::scan::{PIECE_BYTES, Scanned, Unproven};
use super::spares::{Pool, Taken};
use super::walk::Window;
use super::writer::{FileJournal, Nonces};
use super::{Config, FILE_HEADER_BYTES, Frame, JournalFile, Opened, Placed, names};
use crate::disk::{Disk, Mode};
use crate::error::StorageError;
use exactlog_core::mutants::{Mutant, on};
use smallvec::smallvec;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Everything that reading the journal has found.
pub(super) struct Renewal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: Config,
    pub(super) found: Found,
    pub(super) chain: Vec<Link>,
    pub(super) scanned: Scanned,
    pub(super) nonces: Nonces,
}

/// The file that the journal goes on in.
struct Next {
    current: Readable,
    /// How many files of the chain count.
    kept_files: usize,
    at: u64,
    moved: Vec<Placed>,
}

impl Renewal {
    /// Makes the new file and clears the directory of what no longer counts.
    pub(super) fn run(mut self) -> Result<(FileJournal, Opened), StorageError> {
        let pool = self.pool()?;
        let term = self.term();
        let in_place = !self.needs_new_file();
        let next = if in_place { self.go_on_in_place()? } else { self.new_file(&pool, term)? };
        let (first_lsn, generation) = (self.first_lsn(&next), next.current.generation);
        let earlier = self.earlier(next.kept_files);
        self.clear(&pool, generation, &earlier)?;
        let Scanned { last_lsn, durable_lsn, clean, cut, .. } = self.scanned;
        let proven_lsn = durable_lsn.min(last_lsn);
        let opened = Opened {
            last_lsn,
            proven_lsn,
            term,
            clean,
            cut,
            ignored: self.found.ignored,
            moved: next.moved,
            first_lsn,
        };
        let durable_lsn = if in_place && !on(Mutant::M10GoesOnInCutFile) { proven_lsn } else { last_lsn };
        let files = Files {
            by_generation: BTreeMap::new().into(),
            durable_lsn: AtomicU64::new(durable_lsn),
            verify: self.config.verify,
        };
        for link in self.chain.into_iter().take(next.kept_files) {
            files.by_generation.write().insert(link.header.generation, link.file);
        }
        let current = files.add(next.current);
        let journal = FileJournal {
            config: self.config,
            pool,
            files: Arc::new(files),
            nonces: self.nonces,
            earlier,
            current,
            at: next.at,
            term,
            last_lsn,
            durable_lsn,
            dirty: false,
            one_at_a_time: Arc::default(),
            may_use_reserve: false,
            failed: None,
            group: Group::default(),
        };
        Ok((journal, opened))
    }

    /// The spares that were found and may be used (rule R6). The directory is made if it isn't there.
    fn pool(&self) -> Result<Arc<Pool>, StorageError> {
        let made = self.disk.create_dir(names::DIRECTORY).and_then(|()| {
            // Also if it was there: an earlier process may have made it without getting to this sync.
            if on(Mutant::M3NoDirectorySync) { Ok(()) } else { self.disk.sync_dir("") }
        });
        made.map_err(|error| StorageError::io("make directory", names::DIRECTORY, error))?;
        let (disk, unfinished) = (Arc::clone(&self.disk), self.found.unfinished_spares.clone());
        let pool = Pool::new(disk, self.config.file_bytes, self.found.highest_spare, unfinished);
        for path in &self.found.unfinished_journals {
            pool.unlink(path)?;
        }
        let mut room = self.config.ring_files().saturating_sub(self.chain.len() + 1).max(1);
        let mut usable = Vec::new();
        for spare in &self.found.spares {
            // A second name is what a power loss leaves of a rename: the file may still be a journal file.
            let shared = spare.links > 1 && !on(Mutant::R6SpareReusedEarly);
            if shared || spare.len != self.config.file_bytes || room == 0 {
                pool.unlink(&spare.path)?;
            } else {
                room -= 1;
                usable.push(spare.path.clone());
            }
        }
        if !usable.is_empty() && !on(Mutant::R6SpareReusedEarly) {
            pool.sync_directory()?;
        }
        pool.add(usable);
        Ok(Arc::new(pool))
    }

    /// The term rises at every open that doesn't find a clean seal: the newest group, if its sectors are all zero,
    /// can't be told from one that was never written, so its lsns may name other commands now.
    fn term(&self) -> u32 {
        let highest = self.found.highest_term().max(self.scanned.term);
        highest.saturating_add(u32::from(!self.scanned.clean)).max(1)
    }

    /// Rule R2: always. (Otherwise only with a planted mistake.)
    fn needs_new_file(&self) -> bool {
        let Scanned { last_lsn, durable_lsn, cut, .. } = &self.scanned;
        if self.chain.is_empty() {
            true
        } else if on(Mutant::M10GoesOnInCutFile) {
            false
        } else if on(Mutant::R2NoNewGeneration) {
            cut.is_some() || last_lsn > durable_lsn
        } else {
            true
        }
    }

    fn new_file(&mut self, pool: &Pool, term: u32) -> Result<Next, StorageError> {
        let proven_lsn = self.scanned.durable_lsn.min(self.scanned.last_lsn);
        let (kept_files, predecessor) = self.predecessor(proven_lsn);
        let generation = self.found.newest_generation() + 1;
        if generation >= names::NUMBER_LIMIT {
            let found = generation;
            return Err(StorageError::TooLarge {
                what: "a generation",
                found,
                limit: names::NUMBER_LIMIT - 1,
            });
        }
        let kept = self.read_unproven()?;
        let mut group = Group::default();
        let (nonce, moved) = loop {
            let nonce = self.nonces.draw();
            let place = Place { generation, nonce, at: FILE_HEADER_BYTES, durable_lsn: proven_lsn };
            let moved = if kept.is_empty() { Vec::new() } else { group.build(&kept, place) };
            if !group.shows(nonce) {
                break (nonce, moved);
            }
        };
        let first_lsn = proven_lsn + 1;
        let end = FILE_HEADER_BYTES + group::len_of(&kept)?;
        let taken = match pool.take(generation, end, false) {
            Err(StorageError::DiskFull { .. }) if !self.chain.is_empty() => {
                pool.make_short(generation, end)?
            }
            taken => taken?,
        };
        let (shard, len_blocks) = (self.config.shard, FileHeader::blocks(taken.len)?);
        let header = FileHeader { shard, generation, nonce, first_lsn, term, len_blocks, predecessor };
        let path = names::journal(generation);
        write_whole(pool, &taken, &path, &header.encode(), &group)?;
        if let (Some(link), Some(predecessor)) = (self.chain[..kept_files].last(), predecessor) {
            link.file.set_end(predecessor.end);
        }
        let current = Readable::new(path, taken.file, &header, taken.len, end);
        Ok(Next { current, kept_files, at: end, moved })
    }

    /// How many files of the chain stay, and what the new header says of the last of them.
    fn predecessor(&self, proven_lsn: u64) -> (usize, Option<Predecessor>) {
        let mut kept = self.chain.len();
        if !on(Mutant::R3PredecessorUnproven) {
            kept -= self.chain.iter().rev().take_while(|link| link.header.first_lsn > proven_lsn).count();
        }
        // The oldest file that is left out begins directly behind the proven lsn, since the lsn before a header's
        // first counts as proven: what it says of its own predecessor is what the new header has to say.
        if let Some(left_out) = self.chain.get(kept) {
            return (kept, left_out.header.predecessor);
        }
        let Some(link) = self.chain.last() else { return (0, None) };
        let index = kept - 1;
        let mut end = match self.scanned.proven_end {
            Some((file, end)) if file == index => end,
            _ => FILE_HEADER_BYTES,
        };
        if on(Mutant::R4EndBehindSeals) {
            let unproven = self.scanned.unproven.iter().find(|frame| frame.file == index);
            end = end.max(unproven.map_or(self.scanned.tail_at, |frame| frame.at));
        }
        (kept, Some(Predecessor { generation: link.header.generation, end, last_lsn: proven_lsn }))
    }

    /// The frames that are written again. They are verified again, too: after a failed sync a page can leave the
    /// cache between two reads, and what is read then is what the disk has.
    fn read_unproven(&self) -> Result<Vec<Frame>, StorageError> {
        let mut frames = Vec::with_capacity(self.scanned.unproven.len());
        let mut window = Window::new(PIECE_BYTES);
        let mut in_file = usize::MAX;
        for unproven in &self.scanned.unproven {
            if in_file != unproven.file {
                (window, in_file) = (Window::new(PIECE_BYTES), unproven.file);
            }
            let file = &self.chain[unproven.file].file;
            let frame = read_again(&mut window, file, unproven, self.config.verify)?;
            frames.push(frame.ok_or_else(|| {
                let what = format!("lsn {} changed while the journal was opened", unproven.lsn);
                StorageError::damaged(file.name.as_str(), unproven.at, what)
            })?);
        }
        Ok(frames)
    }

    fn earlier(&self, kept_files: usize) -> Vec<JournalFile> {
        let proven_lsn = self.scanned.durable_lsn.min(self.scanned.last_lsn);
        let kept = self.chain[..kept_files].iter().enumerate();
        kept.map(|(index, link)| {
            let successor = self.chain[..kept_files].get(index + 1);
            JournalFile {
                generation: link.header.generation,
                first_lsn: link.header.first_lsn,
                last_lsn: successor.map_or(proven_lsn, |next| next.header.first_lsn - 1),
                len_bytes: link.file.len,
            }
        })
        .collect()
    }

    fn first_lsn(&self, next: &Next) -> u64 {
        self.chain[..next.kept_files].first().map_or(next.current.first_lsn, |oldest| oldest.header.first_lsn)
    }

    /// Makes spares of the journal files that no longer count, or removes them.
    fn clear(&self, pool: &Pool, current: u64, earlier: &[JournalFile]) -> Result<(), StorageError> {
        let mut room = self.config.ring_files().saturating_sub(earlier.len() + 1 + pool.ready());
        let mut spares = Vec::new();
        for (generation, candidate) in &self.found.journals {
            let counts = *generation == current || earlier.iter().any(|file| file.generation == *generation);
            if counts {
                continue;
            }
            let shared = candidate.links > 1 && !on(Mutant::R6SpareReusedEarly);
            if shared || candidate.len != self.config.file_bytes || room == 0 {
                pool.unlink(&candidate.path)?;
            } else {
                room -= 1;
                spares.push(candidate.path.clone());
            }
        }
        pool.recycle(&spares)
    }

    /// What rule R2 forbids; only reached with a planted mistake.
    fn go_on_in_place(&mut self) -> Result<Next, StorageError> {
        let link = &self.chain[self.chain.len() - 1];
        let path = link.file.name.clone();
        let file = self
            .disk
            .open(&path, Mode::Write)
            .map_err(|error| StorageError::io("open", path.as_str(), error))?;
        let at = super::format::round_up(self.scanned.tail_at);
        let current = Readable::new(path, file, &link.header, link.file.len, at);
        Ok(Next { current, kept_files: self.chain.len() - 1, at, moved: Vec::new() })
    }
}

/// Header and kept frames, one write, one sync, and only then the name.
fn write_whole(
    pool: &Pool,
    taken: &Taken,
    path: &str,
    header: &[u8; FILE_HEADER_BYTES as usize],
    group: &Group,
) -> Result<(), StorageError> {
    let failed = |what| move |error| StorageError::io(what, taken.path.as_str(), error);
    if on(Mutant::R1NewFileNotWhole) {
        pool.install(taken, path)?;
        taken.file.write_at(&[IoSlice::new(header)], 0).map_err(failed("write"))?;
        taken.file.sync().map_err(failed("sync"))?;
        taken.file.write_at(&group.pieces(), FILE_HEADER_BYTES).map_err(failed("write"))?;
        return taken.file.sync().map_err(failed("sync"));
    }
    taken.file.write_at(&group.pieces_behind(header), 0).map_err(failed("write"))?;
    taken.file.sync().map_err(failed("sync"))?;
    pool.install(taken, path)
}

/// Reads a frame a second time; `None` if it isn't what it was.
fn read_again(
    window: &mut Window,
    file: &Readable,
    unproven: &Unproven,
    verify: super::Verify,
) -> Result<Option<Frame>, StorageError> {
    let bytes = window.shared(file, unproven.at, unproven.len, file.len)?;
    let mut header_bytes = [0; FRAME_HEADER];
    header_bytes.copy_from_slice(&bytes[..FRAME_HEADER]);
    let header = FrameHeader::decode(&header_bytes);
    let same = header.lsn == unproven.lsn && u64::from(header.len) == unproven.len;
    if !same || !header.fits(unproven.len) {
        return Ok(None);
    }
    let bodies_from = FRAME_HEADER + header.head_len as usize;
    let (head, bodies) = (&bytes[FRAME_HEADER..bodies_from], bytes.slice(bodies_from..));
    let Some(level) = header.level() else { return Ok(None) };
    let whole = file.seed.checksum(&header_bytes, head) == header.crc
        && verify(header.kind, header.version, head, &bodies);
    let FrameHeader { lsn, term, kind, version, .. } = header;
    let frame = Frame { lsn, term, kind, version, level, head: head.to_vec(), bodies: smallvec![bodies] };
    Ok(whole.then_some(frame))
}
