//! Reads the chain when the journal is opened: tells a torn tail from damage.
//!
//! (`open` of the model, its part "parse".) Nothing is written. Sectors of one unsynced group reach the disk in any
//! order, so "valid frames follow" proves nothing; what decides is the highest lsn that anything states durable.
//!
//! Invariants:
//!   * below the end that a successor states every frame counts: a bad one is damage
//!   * in the last file a bad frame at or below the stated durable lsn is damage; above it the tail is cut
//!   * behind the end of the last file every block is looked at, for groups that state a higher durable lsn
//!   * commands are handed out in lsn order, each once, only those above the checkpoint's lsn

use super::chain::Link;
use super::files::Readable;
use super::format::{FRAME_HEADER, FRAME_HEADER_BYTES, FrameHeader, Seed};
use super::walk::{Fault, Step, Walk};
use super::{BLOCK_BYTES, Config, Cut, FILE_HEADER_BYTES, ReadFrame, Start};
use crate::disk::{File, read_buffer};
use crate::error::StorageError;
use exactlog_core::mutants::{Mutant, on};
use std::collections::VecDeque;

/// How much of a file is read at once, in bytes.
pub(super) const PIECE_BYTES: u64 = 4 << 20;

static ZERO_BLOCK: &[u8] = &[0; BLOCK_BYTES as usize];

/// Takes the commands above the checkpoint.
pub(super) type Visit<'a> = &'a mut dyn FnMut(ReadFrame) -> Result<(), StorageError>;

/// What the chain holds.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) last_lsn: u64,
    /// The highest lsn stated durable, by the checkpoint, a header, a group or a seal.
    pub(super) durable_lsn: u64,
    /// The highest term of a frame.
    pub(super) term: u32,
    pub(super) clean: bool,
    pub(super) cut: Option<Cut>,
    /// Frames above the durable lsn, in lsn order.
    pub(super) unproven: VecDeque<Unproven>,
    /// Directly behind the last frame at or below the durable lsn: index of the file, position.
    pub(super) proven_end: Option<(usize, u64)>,
    /// Behind the last valid group of the last file, seals included.
    pub(super) tail_at: u64,
}

impl Scanned {
    /// What there is before anything was read: the lsn of a checkpoint, which is durable.
    pub(super) fn nothing(applied_lsn: u64, term: u32) -> Scanned {
        Scanned {
            last_lsn: applied_lsn,
            durable_lsn: applied_lsn,
            term,
            clean: false,
            cut: None,
            unproven: VecDeque::new(),
            proven_end: None,
            tail_at: FILE_HEADER_BYTES,
        }
    }
}

/// Where a frame above the durable lsn lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unproven {
    pub(super) lsn: u64,
    /// Index in the chain.
    pub(super) file: usize,
    /// Where its header begins.
    pub(super) at: u64,
    pub(super) len: u64,
}

/// Reads the chain from the checkpoint's lsn on.
pub(super) fn scan(
    chain: &[Link],
    config: &Config,
    start: &Start,
    visit: Visit<'_>,
) -> Result<Scanned, StorageError> {
    let mut scan = Scan::new(chain, config, start);
    let Some((first, mut walk)) = scan.begin() else { return Ok(scan.scanned) };
    for (index, link) in chain.iter().enumerate().skip(first) {
        if index > first {
            walk = Walk::from_start(&link.file, config.verify, PIECE_BYTES);
        }
        if let Some(predecessor) = link.header.predecessor
            && !on(Mutant::R3PredecessorUnproven)
        {
            scan.raise(predecessor.last_lsn);
        }
        let fault = scan.read(index, &mut walk, &mut *visit)?;
        match chain.get(index + 1) {
            Some(successor) if !on(Mutant::M11PredecessorEndForgotten) => {
                scan.close(link, successor, &walk, fault)?;
            }
            Some(_) => {}
            None => scan.finish_again(index, &mut walk, fault, &mut *visit)?,
        }
    }
    Ok(scan.scanned)
}

struct Scan<'a> {
    chain: &'a [Link],
    config: &'a Config,
    start: &'a Start,
    scanned: Scanned,
}

impl<'a> Scan<'a> {
    fn new(chain: &'a [Link], config: &'a Config, start: &'a Start) -> Scan<'a> {
        let scanned = Scanned::nothing(start.applied_lsn, 0);
        Scan { chain, config, start, scanned }
    }

    /// Where parsing begins: behind the frame of the checkpoint's lsn if that place can be relied on, else at the
    /// start of the file that holds the lsn behind it.
    fn begin(&mut self) -> Option<(usize, Walk)> {
        let (verify, applied) = (self.config.verify, self.start.applied_lsn);
        if let Some((index, at)) = self.applied_at() {
            self.scanned.proven_end = Some((index, at));
            return Some((index, Walk::from_frame(at, applied, verify, PIECE_BYTES)));
        }
        let index = self.chain.iter().rposition(|link| link.header.first_lsn <= applied + 1)?;
        Some((index, Walk::from_start(&self.chain[index].file, verify, PIECE_BYTES)))
    }

    /// The checkpoint's place, if its file still counts there. A place on a block boundary, or where a seal could
    /// end, may lie behind seals that never reached the disk: the new header must not state it as an end (rule R4).
    fn applied_at(&self) -> Option<(usize, u64)> {
        let place = self.start.applied_at?;
        let applied = self.start.applied_lsn;
        let index = self.chain.iter().position(|link| link.header.generation == place.generation)?;
        let link = &self.chain[index];
        let last = self.chain.get(index + 1).map_or(u64::MAX, |next| next.header.first_lsn - 1);
        let holds = link.header.first_lsn <= applied && applied <= last;
        let inside = place.at > FILE_HEADER_BYTES && place.at <= link.end;
        let behind_a_command = place.at % BLOCK_BYTES > FRAME_HEADER_BYTES;
        (holds && inside && behind_a_command).then_some((index, place.at))
    }

    /// Walks one file. Returns what ended the walk before the file's end.
    fn read(
        &mut self,
        index: usize,
        walk: &mut Walk,
        visit: Visit<'_>,
    ) -> Result<Option<Fault>, StorageError> {
        let link = &self.chain[index];
        let end = if on(Mutant::M11PredecessorEndForgotten) { whole_blocks(&link.file) } else { link.end };
        self.scanned.clean = false;
        loop {
            match walk.step(&link.file, end)? {
                Step::Command { frame, durable } => {
                    self.command(index, &frame, durable);
                    if frame.lsn > self.start.applied_lsn {
                        visit(frame)?;
                    }
                }
                Step::Seal { clean, durable } => {
                    self.raise(durable);
                    self.scanned.clean = clean;
                }
                Step::End => break,
                Step::Bad(fault) => {
                    self.scanned.last_lsn = walk.last_lsn();
                    return Ok(Some(fault));
                }
            }
        }
        self.scanned.last_lsn = walk.last_lsn();
        Ok(None)
    }

    fn command(&mut self, file: usize, frame: &ReadFrame, durable: Option<u64>) {
        self.scanned.clean = false;
        self.scanned.term = self.scanned.term.max(frame.term);
        let at = frame.placed.head_at - FRAME_HEADER_BYTES;
        let len = frame.placed.end().at - at;
        self.scanned.unproven.push_back(Unproven { lsn: frame.lsn, file, at, len });
        self.raise(durable.unwrap_or(0));
    }

    /// Takes note of an lsn that is stated durable: what lies at or below it is proven.
    fn raise(&mut self, durable_lsn: u64) {
        let scanned = &mut self.scanned;
        if !on(Mutant::M9DurableLsnForgotten) {
            scanned.durable_lsn = scanned.durable_lsn.max(durable_lsn);
        }
        while let Some(frame) = scanned.unproven.front()
            && frame.lsn <= scanned.durable_lsn
        {
            scanned.proven_end = Some((frame.file, frame.at + frame.len));
            scanned.unproven.pop_front();
        }
    }

    /// The end of a file that has a successor: everything below the stated end must be there.
    fn close(
        &mut self,
        link: &Link,
        successor: &Link,
        walk: &Walk,
        fault: Option<Fault>,
    ) -> Result<(), StorageError> {
        let stated = successor.header.first_lsn - 1;
        let what = match fault {
            Some(fault) => format!("{fault}, but {} states an end of {}", successor.file.name, link.end),
            None if self.scanned.last_lsn != stated => {
                format!(
                    "ends with lsn {}, but {} states {stated}",
                    self.scanned.last_lsn, successor.file.name
                )
            }
            None => return Ok(()),
        };
        Err(StorageError::damaged(link.file.name.as_str(), walk.at(), what))
    }

    /// As [`finish`](Scan::finish), also beside somebody who writes (when a log is opened to look at it): what states
    /// an lsn durable may have been written after what was read in front of it. So damage is damage only if it is
    /// there when it is read once more, behind that statement.
    fn finish_again(
        &mut self,
        index: usize,
        walk: &mut Walk,
        mut fault: Option<Fault>,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        loop {
            let at = walk.at();
            let finished = self.finish(&self.chain[index], walk, fault);
            if !matches!(finished, Err(StorageError::Damaged { .. })) {
                return finished;
            }
            walk.forget_what_was_read();
            fault = self.read(index, walk, &mut *visit)?;
            if walk.at() == at {
                return finished;
            }
        }
    }

    /// The end of the last file: a torn tail, damage, or simply the end.
    fn finish(&mut self, link: &Link, walk: &Walk, fault: Option<Fault>) -> Result<(), StorageError> {
        let at = walk.at();
        self.scanned.tail_at = at;
        // Behind a clean seal nothing follows: the process that wrote it wrote nothing more, and no other one
        // appends to this file (rule R2).
        let nothing_follows =
            self.scanned.clean && !on(Mutant::R2NoNewGeneration) && !on(Mutant::M10GoesOnInCutFile);
        let mut tail = Tail { certain: walk.in_group(), ..Tail::default() };
        if !nothing_follows {
            tail.look(&link.file, at.next_multiple_of(BLOCK_BYTES), link.end)?;
            self.raise(tail.durable_lsn);
        }
        let Scanned { last_lsn, durable_lsn, clean, .. } = self.scanned;
        let reason = fault.map_or_else(|| "the file ends here".to_owned(), |fault| fault.to_string());
        if last_lsn < durable_lsn && !on(Mutant::M6CutAtInteriorDamage) {
            let what =
                format!("{reason}; expected lsn {}, since lsn {durable_lsn} is stated durable", last_lsn + 1);
            return Err(StorageError::damaged(link.file.name.as_str(), at, what));
        }
        let possible = tail.not_zero && !clean && !on(Mutant::R9CutUnreported);
        if tail.certain || possible {
            let file = link.file.name.clone();
            let certain = tail.certain;
            self.scanned.cut = Some(Cut { file, position: at, after_lsn: last_lsn, certain, reason });
        }
        Ok(())
    }
}

/// What lies behind the last valid group.
#[derive(Debug, Default)]
struct Tail {
    /// Something of this file certainly follows.
    certain: bool,
    /// Something follows: torn, or left over from the file's earlier use.
    not_zero: bool,
    /// The highest lsn that a group there states durable. The statement is true even if the group's frames aren't
    /// whole: it was written by the process that made the sync, and the checksum covers it.
    durable_lsn: u64,
}

impl Tail {
    fn look(&mut self, file: &Readable, from: u64, end: u64) -> Result<(), StorageError> {
        for_each_block(&*file.file, &file.name, from, end, |at, block| {
            // Compared as a whole: looking at one byte after the other took 27 ms for a file of 64 MiB.
            self.not_zero |= block != ZERO_BLOCK;
            let header = frame_header(block);
            if !header.is_group_head() || header.tie != file.nonce {
                return Ok(true);
            }
            self.certain = true;
            if checksum_holds(&*file.file, &file.name, block, at, end, file.seed)? {
                self.durable_lsn = self.durable_lsn.max(header.durable);
            }
            Ok(true)
        })
    }
}

/// Whether the frame at the start of a block has a right checksum. Its head may reach beyond the block.
fn checksum_holds(
    file: &dyn File,
    name: &str,
    block: &[u8],
    at: u64,
    end: u64,
    seed: Seed,
) -> Result<bool, StorageError> {
    let header = frame_header(block);
    if !header.fits(end - at) {
        return Ok(false);
    }
    let bytes = header_bytes(block);
    let covered = FRAME_HEADER + header.head_len as usize;
    if let Some(head) = block.get(FRAME_HEADER..covered) {
        return Ok(seed.checksum(&bytes, head) == header.crc);
    }
    let mut head = vec![0; header.head_len as usize];
    let read = file
        .read_at(&mut head, at + FRAME_HEADER_BYTES)
        .map_err(|error| StorageError::io("read", name, error))?;
    Ok(read == head.len() && seed.checksum(&bytes, &head) == header.crc)
}

/// Shows the blocks from `from` to `end` until `look` says that it has seen enough.
fn for_each_block(
    file: &dyn File,
    name: &str,
    from: u64,
    end: u64,
    mut look: impl FnMut(u64, &[u8]) -> Result<bool, StorageError>,
) -> Result<(), StorageError> {
    let mut piece = read_buffer(PIECE_BYTES.min(end.saturating_sub(from)) as usize);
    let mut at = from;
    while at < end {
        let wanted = PIECE_BYTES.min(end - at) as usize;
        let read =
            file.read_at(&mut piece[..wanted], at).map_err(|error| StorageError::io("read", name, error))?;
        for block in piece[..read].chunks_exact(BLOCK_BYTES as usize) {
            if !look(at, block)? {
                return Ok(());
            }
            at += BLOCK_BYTES;
        }
        if read < wanted {
            let what = format!("{wanted} B are needed from here, the file ends after {read}");
            return Err(StorageError::damaged(name, at, what));
        }
    }
    Ok(())
}

fn frame_header(block: &[u8]) -> FrameHeader {
    FrameHeader::decode(&header_bytes(block))
}

fn header_bytes(block: &[u8]) -> [u8; FRAME_HEADER] {
    let mut bytes = [0; FRAME_HEADER];
    bytes.copy_from_slice(&block[..FRAME_HEADER]);
    bytes
}

fn whole_blocks(file: &Readable) -> u64 {
    file.len - file.len % BLOCK_BYTES
}
