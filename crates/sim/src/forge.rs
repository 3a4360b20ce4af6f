//! Journal bytes for payloads: whole groups as they lie in some file, and groups made up for the file that is being
//! written, with its nonce and its generation.
//!
//! A sender who reads the log's directory could send these. The layout is written down here a second time
//! (docs/FORMAT.md), so that a change of it in the engine is noticed.

use bytes::Bytes;
use exactlog_storage::journal::{self, BLOCK_BYTES, FILE_HEADER_BYTES};

use crate::disk::SimDisk;
use crate::rng::Random;

/// Where a file header has the file's nonce.
const FILE_NONCE_AT: usize = 24;
const FRAME_HEADER: usize = 48;
/// The first frame of a group.
const GROUP_HEAD: u16 = 1;

/// One to three blocks of some journal file.
pub fn recorded(disk: &SimDisk, random: &mut Random) -> Option<Bytes> {
    let files: Vec<_> = disk.files().into_iter().filter(|(name, _)| name.starts_with("journal/")).collect();
    let (name, _) = files.get(random.below(files.len() as u64) as usize)?;
    let content = disk.read_file(name).ok()?;
    let written = content.chunks(BLOCK_BYTES as usize).filter(|block| block.iter().any(|byte| *byte != 0));
    let blocks = written.count() as u64;
    let first = random.below(blocks) * BLOCK_BYTES;
    let last = (first + (1 + random.below(3)) * BLOCK_BYTES).min(content.len() as u64);
    // The last one in part: padding that is cut off can't be told from padding that is there.
    let len = (last - first).saturating_sub(random.below(2) * 2048);
    Some(Bytes::copy_from_slice(&content[first as usize..(first + len) as usize]))
}

/// A group of one command that states every lsn up to its own durable, in one block.
pub fn forged(
    disk: &SimDisk,
    generation: u64,
    next_lsn: u64,
    term: u32,
    random: &mut Random,
) -> Option<Bytes> {
    let content = disk.read_file(&journal::file_name(generation)).ok()?;
    let header = content.get(..FILE_HEADER_BYTES as usize)?;
    let nonce: [u8; 8] = header[FILE_NONCE_AT..FILE_NONCE_AT + 8].try_into().ok()?;
    let lsn = next_lsn + 1 + random.below(3);
    let mut head = [0; 24];
    random.fill(&mut head);
    let mut group = vec![0; FRAME_HEADER];
    let len = (FRAME_HEADER + head.len()) as u32;
    group[0..4].copy_from_slice(&len.to_le_bytes());
    group[8] = 13; // a command without bodies
    group[9] = 1;
    group[10..12].copy_from_slice(&GROUP_HEAD.to_le_bytes());
    group[12..16].copy_from_slice(&term.to_le_bytes());
    group[16..24].copy_from_slice(&lsn.to_le_bytes());
    group[24..28].copy_from_slice(&(head.len() as u32).to_le_bytes());
    group[32..40].copy_from_slice(&nonce);
    group[40..48].copy_from_slice(&lsn.to_le_bytes());
    let mut seed = crc32fast::Hasher::new();
    seed.update(&nonce);
    seed.update(&generation.to_le_bytes());
    let mut crc = crc32fast::Hasher::new_with_initial(seed.finalize());
    crc.update(&group[0..4]);
    crc.update(&group[8..]);
    crc.update(&head);
    let crc = crc.finalize();
    group[4..8].copy_from_slice(&crc.to_le_bytes());
    group.extend_from_slice(&head);
    group.resize(BLOCK_BYTES as usize, 0);
    Some(group.into())
}
