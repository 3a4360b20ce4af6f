//! Target `journal_frame`: any bytes as the files of a journal.
//!
//! ```text
//!   mode u8 | (applied lsn u8 | needed lsn u8 | generation u8 | at u16)? | (generation u8 | content) ...
//! ```
//!
//! Bits of the mode: 1, set the checksums of headers right; 2, those of frames too; 4, a checkpoint is given.
//!
//! Checked:
//!   * the journal is opened, or refused by a typed error with every file as it was
//!   * commands come in lsn order without a gap
//!   * what was opened can be appended to, and gives the same commands when it is opened again

use super::input::{Input, Output};
use super::watched::Watched;
use crate::disk::SimDisk;
use crate::rng::Random;
use bytes::Bytes;
use exactlog_core::codec;
use exactlog_core::command::Command;
use exactlog_storage::StorageError;
use exactlog_storage::disk::Disk;
use exactlog_storage::journal::{self, Config, FileJournal, Frame, Level, Opened, Position, Start};

/// Length of new journal files, in bytes.
pub(super) const FILE_BYTES: u64 = 16 << 10;

/// Most journal files in one input.
const FILES_MAX: usize = 4;

const MEND_HEADERS: u8 = 1;
const MEND_FRAMES: u8 = 2;
const WITH_CHECKPOINT: u8 = 4;

// The header of a file (docs/FORMAT.md). Little-endian, at the start of a block of zeros.
const BLOCK: usize = journal::BLOCK_BYTES as usize;
const MAGIC: [u8; 8] = *b"EXLOGJNL";
const VERSION_AT: usize = 8; // u16, a reserved one behind it
const SHARD_AT: usize = 12; // u32
const GENERATION_AT: usize = 16; // u64
const NONCE_AT: usize = 24; // u64
const HEADER_CRC_AT: usize = 72; // u32
const HEADER_END: usize = HEADER_CRC_AT + 4;

// The header of a frame.
const FRAME_CRC_AT: usize = 4; // u32, behind the length of the frame
const KIND_AT: usize = 8; // u8
const FLAGS_AT: usize = 10; // u16
const HEAD_LEN_AT: usize = 24; // u32
const LEFT_AT: usize = 28; // u32
const TIE_AT: usize = 32; // u64
const FRAME_HEADER: usize = journal::FRAME_HEADER_BYTES as usize;
const GROUP_HEAD: u8 = 1;

/// The lsns and heads of commands, in the order in which they came.
type Commands = Vec<(u64, Bytes)>;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let start = if mode & WITH_CHECKPOINT != 0 { start(&mut input) } else { Start::default() };
    let disk = SimDisk::new();
    disk.create_dir("journal").expect("the disk is empty");
    for _ in 0..FILES_MAX {
        if input.is_empty() {
            break;
        }
        let generation = u64::from(input.u8()).max(1);
        let mut content = input.file();
        mend(&mut content, generation, mode);
        disk.put(&journal::file_name(generation), &content).expect("the directory is there");
    }
    check(&disk, &start, mode & WITH_CHECKPOINT != 0);
}

/// The journal files of a disk as this target takes them.
pub(super) fn encode(mode: u8, files: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let start = Output::default().u8(mode);
    files
        .iter()
        .fold(start, |output, (generation, content)| output.u8(*generation as u8).file(content))
        .done()
}

fn start(input: &mut Input<'_>) -> Start {
    let applied_lsn = u64::from(input.u8());
    let needed_lsn = u64::from(input.u8()).min(applied_lsn);
    let place = Position { generation: u64::from(input.u8()), at: u64::from(input.u16()) };
    let applied_at = (place.generation > 0).then_some(place);
    Start { applied_lsn, applied_at, needed_lsn, checkpoints_found: 1 }
}

fn check(disk: &SimDisk, start: &Start, with_checkpoint: bool) {
    let before = disk.fingerprint();
    let (mut journal, opened, commands) = match open(disk, start) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(error.is_refusal() || matches!(error, StorageError::TooLarge { .. }), "{error:?}");
            assert_eq!(disk.fingerprint(), before, "refused by {error}, with something written");
            return;
        }
    };
    let cursor = journal.reader().cursor(start.applied_lsn + 1);
    match cursor.and_then(read_all) {
        Ok(read) => assert_eq!(read, commands, "a cursor reads what recovery handed out"),
        // What lies below the checkpoint's place was not read when the journal was opened.
        Err(error) => assert!(with_checkpoint && error.is_refusal(), "{error:?}"),
    }
    let tick = codec::encode(7, &Command::Tick);
    let frame = Frame {
        lsn: opened.last_lsn + 1,
        term: opened.term,
        kind: tick.kind,
        version: tick.version,
        level: Level::Fsync,
        head: tick.head,
        bodies: Default::default(),
    };
    journal.append(std::slice::from_ref(&frame)).expect("an opened journal takes commands");
    journal.sync().expect("the disk has no faults");
    journal.seal(true).expect("the disk has no faults");
    journal.sync().expect("the disk has no faults");
    drop(journal);
    let (_, again, mut expected) = open(disk, start).expect("what was opened once is opened again");
    assert!(again.clean && again.last_lsn == frame.lsn && again.term == opened.term, "{again:?} {opened:?}");
    assert_eq!(expected.pop(), Some((frame.lsn, Bytes::from(frame.head))));
    assert_eq!(expected, commands, "opened again with the same commands");
}

fn open(disk: &SimDisk, start: &Start) -> Result<(FileJournal, Opened, Commands), StorageError> {
    let config =
        Config { file_bytes: FILE_BYTES, ring_bytes: 4 * FILE_BYTES, ..Config::new(0, codec::verify) };
    let mut random = Random::new(disk.fingerprint());
    let mut commands = Vec::new();
    let (journal, opened) =
        FileJournal::open(Watched::over(disk), config, start, &mut || random.number(), &mut |frame| {
            commands.push((frame.lsn, frame.head));
            Ok(())
        })?;
    let lsns = commands.iter().map(|(lsn, _)| *lsn);
    assert!(lsns.eq(start.applied_lsn + 1..=opened.last_lsn), "lsns with a gap, up to {}", opened.last_lsn);
    assert!(opened.proven_lsn <= opened.last_lsn && opened.term > 0);
    Ok((journal, opened, commands))
}

fn read_all(mut cursor: journal::Cursor) -> Result<Commands, StorageError> {
    let mut commands = Vec::new();
    while let Some(frame) = cursor.next()? {
        commands.push((frame.lsn, frame.head));
    }
    Ok(commands)
}

/// Sets magic, version, generation and checksum of the header right, and the checksums of the frames.
fn mend(content: &mut [u8], generation: u64, mode: u8) {
    if mode & MEND_HEADERS == 0 || content.len() < BLOCK {
        return;
    }
    content[..VERSION_AT].copy_from_slice(&MAGIC);
    content[VERSION_AT..SHARD_AT].copy_from_slice(&u32::from(journal::FORMAT_VERSION).to_le_bytes());
    content[SHARD_AT..GENERATION_AT].fill(0);
    content[GENERATION_AT..NONCE_AT].copy_from_slice(&generation.to_le_bytes());
    let crc = crc32fast::hash(&content[..HEADER_CRC_AT]);
    content[HEADER_CRC_AT..HEADER_END].copy_from_slice(&crc.to_le_bytes());
    content[HEADER_END..BLOCK].fill(0);
    if mode & MEND_FRAMES == 0 {
        return;
    }
    let (header, frames) = content.split_at_mut(BLOCK);
    let nonce = &header[NONCE_AT..NONCE_AT + 8];
    let seed = crc32fast::hash(&[nonce, &generation.to_le_bytes()].concat());
    let mut at = 0;
    while at + FRAME_HEADER <= frames.len() {
        at = match mend_frame(&mut frames[at..], nonce, seed) {
            Some(frame) if frame.left > 0 => at + frame.len,
            Some(frame) => (at + frame.len).next_multiple_of(BLOCK),
            None => (at + 1).next_multiple_of(BLOCK),
        };
    }
}

struct Mended {
    len: usize,
    left: u32,
}

/// `None` if the lengths don't fit.
fn mend_frame(bytes: &mut [u8], nonce: &[u8], seed: u32) -> Option<Mended> {
    let len = u32_at(bytes, 0) as usize;
    let covered = FRAME_HEADER.checked_add(u32_at(bytes, HEAD_LEN_AT) as usize)?;
    if len > bytes.len() || len < covered {
        return None;
    }
    if bytes[FLAGS_AT] & GROUP_HEAD != 0 {
        bytes[TIE_AT..TIE_AT + 8].copy_from_slice(nonce);
    }
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&bytes[..FRAME_CRC_AT]);
    hasher.update(&bytes[KIND_AT..covered]);
    bytes[FRAME_CRC_AT..KIND_AT].copy_from_slice(&hasher.finalize().to_le_bytes());
    Some(Mended { len, left: u32_at(bytes, LEFT_AT) })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}
