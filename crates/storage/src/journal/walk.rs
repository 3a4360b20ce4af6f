//! Walks the frames of one journal file in order.
//!
//! Used by recovery, which decides what a bad frame means, and by the cursor, for which every bad frame is damage.
//!
//! Invariants:
//!   * a frame is handed out only if header, head and content are right and its lsn is the next one
//!   * lengths are checked against the end of the file before anything of that length is read
//!   * after a group's last frame the walk goes on at the next block; padding is never looked at

use super::files::Readable;
use super::format::{FRAME_HEADER, FRAME_HEADER_BYTES, FrameHeader, round_up};
use super::{BLOCK_BYTES, Placed, ReadFrame, Verify};
use crate::error::StorageError;
use bytes::Bytes;
use std::fmt;

/// A walk through one file.
#[derive(Debug)]
pub(super) struct Walk {
    window: Window,
    verify: Verify,
    at: u64,
    last_lsn: u64,
    group: Group,
}

/// Where in a group the walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Behind the last frame of one, or at the very start.
    Between,
    /// This many frames of it are still to come.
    Inside { head_lsn: u64, left: u32 },
    /// The walk began in the middle of a file: perhaps in a group, perhaps behind its last frame.
    Unknown,
}

/// What lies at the walk's position.
#[derive(Debug)]
pub(super) enum Step {
    /// A command. `durable` is what its group states, if it is the group's first.
    Command { frame: ReadFrame, durable: Option<u64> },
    /// A seal.
    Seal { clean: bool, durable: u64 },
    /// The end that was given.
    End,
    /// Nothing that counts. The walk stays here.
    Bad(Fault),
}

/// Why a frame doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Empty,
    Room(u64),
    Length { len: u32, head_len: u32, room: u64 },
    Place,
    Nonce { found: u64, expected: u64 },
    Group { found: u64, expected: u64 },
    Left { found: u32, expected: u32 },
    Lsn { found: u64, expected: u64 },
    Level,
    Seal,
    Checksum { found: u32, computed: u32 },
    Content,
    End(u64),
}

impl Walk {
    /// From the first group of a file.
    pub(super) fn from_start(file: &Readable, verify: Verify, piece_bytes: u64) -> Walk {
        let (at, last_lsn) = (super::FILE_HEADER_BYTES, file.first_lsn - 1);
        Walk { window: Window::new(piece_bytes), verify, at, last_lsn, group: Group::Between }
    }

    /// From directly behind the frame of `last_lsn`.
    pub(super) fn from_frame(at: u64, last_lsn: u64, verify: Verify, piece_bytes: u64) -> Walk {
        Walk { window: Window::new(piece_bytes), verify, at, last_lsn, group: Group::Unknown }
    }

    /// What comes next is read from the file anew.
    pub(super) fn forget_what_was_read(&mut self) {
        self.window = Window::new(self.window.piece_bytes);
    }

    /// Where the walk is: at the start of a frame, or behind the last one that counts.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The lsn of the last command that was handed out.
    pub(super) fn last_lsn(&self) -> u64 {
        self.last_lsn
    }

    /// Whether frames of the current group are missing.
    pub(super) fn in_group(&self) -> bool {
        matches!(self.group, Group::Inside { .. })
    }

    /// The next thing below `end`, in the file that the walk began in.
    pub(super) fn step(&mut self, file: &Readable, end: u64) -> Result<Step, StorageError> {
        if self.at == end {
            return Ok(Step::End);
        }
        if self.group == Group::Unknown {
            match self.frame(file, end)? {
                Step::Bad(_) => self.group = Group::Between,
                step => return Ok(step),
            }
        }
        if self.group == Group::Between && round_up(self.at) != self.at {
            let next = round_up(self.at);
            if next > end {
                return Ok(Step::Bad(Fault::End(end)));
            }
            self.at = next;
            if next == end {
                return Ok(Step::End);
            }
        }
        match self.frame(file, end)? {
            Step::Bad(fault) if self.group == Group::Between => self.skip_seal(file, end, fault),
            step => Ok(step),
        }
    }

    /// A block that holds nothing valid, but behind it the next lsn: only a seal can have been there, which carries
    /// no command and is written without a sync. A file is written by one process in lsn order, so a group that
    /// continues the order is the next one.
    fn skip_seal(&mut self, file: &Readable, end: u64, fault: Fault) -> Result<Step, StorageError> {
        let here = self.at;
        if here + BLOCK_BYTES >= end {
            return Ok(Step::Bad(fault));
        }
        self.at = here + BLOCK_BYTES;
        let step = self.frame(file, end)?;
        if matches!(step, Step::Bad(_)) {
            self.at = here;
            return Ok(Step::Bad(fault));
        }
        Ok(step)
    }

    fn frame(&mut self, file: &Readable, end: u64) -> Result<Step, StorageError> {
        let header = match self.header(file, end)? {
            Ok(header) => header,
            Err(fault) => return Ok(Step::Bad(fault)),
        };
        let durable = header.is_group_head().then_some(header.durable);
        if header.is_seal() {
            let behind = round_up(self.at + u64::from(header.len));
            if behind > end {
                return Ok(Step::Bad(Fault::End(end)));
            }
            self.at = behind;
            self.group = Group::Between;
            return Ok(Step::Seal { clean: header.is_clean(), durable: header.durable });
        }
        let frame = self.window.shared(file, self.at, u64::from(header.len), end)?;
        let head = frame.slice(FRAME_HEADER..FRAME_HEADER + header.head_len as usize);
        let bodies = frame.slice(FRAME_HEADER + header.head_len as usize..);
        let Some(level) = header.level() else { return Ok(Step::Bad(Fault::Level)) };
        if !(self.verify)(header.kind, header.version, &head, &bodies) {
            return Ok(Step::Bad(Fault::Content));
        }
        let head_at = self.at + FRAME_HEADER_BYTES;
        let placed = Placed {
            lsn: header.lsn,
            generation: file.generation,
            head_at,
            bodies_at: head_at + head.len() as u64,
            bodies_len: bodies.len() as u64,
        };
        self.at += u64::from(header.len);
        self.last_lsn = header.lsn;
        let head_lsn = if header.is_group_head() { header.lsn } else { header.tie };
        self.group =
            if header.left == 0 { Group::Between } else { Group::Inside { head_lsn, left: header.left } };
        let FrameHeader { lsn, term, kind, version, .. } = header;
        let frame = ReadFrame { lsn, term, kind, version, level, head, bodies, placed };
        Ok(Step::Command { frame, durable })
    }

    /// The header at the walk's position, if it and its head are right there.
    fn header(&mut self, file: &Readable, end: u64) -> Result<Result<FrameHeader, Fault>, StorageError> {
        let room = end - self.at;
        if room < FRAME_HEADER_BYTES {
            return Ok(Err(Fault::Room(room)));
        }
        let mut bytes = [0; FRAME_HEADER];
        bytes.copy_from_slice(self.window.bytes(file, self.at, FRAME_HEADER_BYTES, end)?);
        if bytes == [0; FRAME_HEADER] {
            return Ok(Err(Fault::Empty));
        }
        let header = FrameHeader::decode(&bytes);
        if let Some(fault) = self.misplaced(file, &header, room) {
            return Ok(Err(fault));
        }
        let covered = FRAME_HEADER_BYTES + u64::from(header.head_len);
        let head = &self.window.bytes(file, self.at, covered, end)?[FRAME_HEADER..];
        let computed = file.seed.checksum(&bytes, head);
        if header.crc != computed {
            return Ok(Err(Fault::Checksum { found: header.crc, computed }));
        }
        Ok(Ok(header))
    }

    /// What is wrong with a header before its checksum is known: cheap, and keeps garbage from naming lengths.
    fn misplaced(&self, file: &Readable, header: &FrameHeader, room: u64) -> Option<Fault> {
        if !header.fits(room) {
            return Some(Fault::Length { len: header.len, head_len: header.head_len, room });
        }
        let expected = if header.is_seal() { self.last_lsn } else { self.last_lsn + 1 };
        if header.lsn != expected {
            return Some(Fault::Lsn { found: header.lsn, expected });
        }
        if header.is_seal() && (!header.is_group_head() || u64::from(header.len) != FRAME_HEADER_BYTES) {
            return Some(Fault::Seal);
        }
        match self.group {
            Group::Between => not_a_group_head(file, header),
            Group::Inside { .. } if header.is_group_head() => Some(Fault::Place),
            Group::Inside { head_lsn, .. } if header.tie != head_lsn => {
                Some(Fault::Group { found: header.tie, expected: head_lsn })
            }
            Group::Inside { left, .. } if header.left != left - 1 => {
                Some(Fault::Left { found: header.left, expected: left - 1 })
            }
            Group::Inside { .. } => None,
            Group::Unknown if header.is_group_head() || header.tie > self.last_lsn => Some(Fault::Place),
            Group::Unknown => None,
        }
    }
}

fn not_a_group_head(file: &Readable, header: &FrameHeader) -> Option<Fault> {
    if !header.is_group_head() {
        return Some(Fault::Place);
    }
    (header.tie != file.nonce).then_some(Fault::Nonce { found: header.tie, expected: file.nonce })
}

/// A bounded piece of a file, moved along as the walk goes. It doesn't hold the file: between two steps of a
/// cursor the file may be given up.
#[derive(Debug)]
pub(super) struct Window {
    piece_bytes: u64,
    piece: Bytes,
    start: u64,
}

impl Window {
    pub(super) fn new(piece_bytes: u64) -> Window {
        Window { piece_bytes, piece: Bytes::new(), start: 0 }
    }

    /// The bytes from `at`. The caller has checked that they end at or below `end`, which bounds what is read.
    pub(super) fn bytes(
        &mut self,
        file: &Readable,
        at: u64,
        len: u64,
        end: u64,
    ) -> Result<&[u8], StorageError> {
        let from = self.fill(file, at, len, end)?;
        Ok(&self.piece[from..from + len as usize])
    }

    /// The bytes from `at`, sharing the piece that they lie in.
    pub(super) fn shared(
        &mut self,
        file: &Readable,
        at: u64,
        len: u64,
        end: u64,
    ) -> Result<Bytes, StorageError> {
        let from = self.fill(file, at, len, end)?;
        Ok(self.piece.slice(from..from + len as usize))
    }

    fn fill(&mut self, file: &Readable, at: u64, len: u64, end: u64) -> Result<usize, StorageError> {
        let held = self.start..self.start + self.piece.len() as u64;
        if at < held.start || at + len > held.end {
            let wanted = len.max(self.piece_bytes.min(end - at));
            let old = std::mem::take(&mut self.piece);
            self.piece = file.read(at, wanted, old)?;
            self.start = at;
        }
        Ok((at - self.start) as usize)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Empty => write!(f, "nothing was written here"),
            Fault::Room(room) => write!(f, "{room} B are left, a frame header has {FRAME_HEADER_BYTES} B"),
            Fault::Length { len, head_len, room } => {
                write!(f, "frame of {len} B with a head of {head_len} B where {room} B are left")
            }
            Fault::Place => write!(f, "a group's first frame and a later one are in each other's place"),
            Fault::Nonce { found, expected } => write!(f, "nonce {found:#018x}, expected {expected:#018x}"),
            Fault::Group { found, expected } => {
                write!(f, "frame of the group of lsn {found}, expected {expected}")
            }
            Fault::Left { found, expected } => {
                write!(f, "{found} frames follow in the group, expected {expected}")
            }
            Fault::Lsn { found, expected } => write!(f, "lsn {found}, expected {expected}"),
            Fault::Level => write!(f, "unknown durability level"),
            Fault::Seal => write!(f, "a seal that isn't a group of its own"),
            Fault::Checksum { found, computed } => {
                write!(f, "frame checksum {found:#010x}, computed {computed:#010x}")
            }
            Fault::Content => write!(f, "the frame's content fails its checksums"),
            Fault::End(end) => write!(f, "the stated end {end} lies inside padding"),
        }
    }
}
