//! Target `checkpoint`: any bytes as a checkpoint file.
//!
//! ```text
//!   mend u8 | content of the file
//! ```
//!
//! With an odd `mend` the lengths and checksums of header and sections are set right, so that the fuzzer gets to
//! the decoder behind them.
//!
//! Checked:
//!   * the file is a checkpoint or refused by a typed error, and nothing on the disk changes
//!   * a checkpoint that was read is written and read back as the same one

use super::input::Input;
use super::watched::Watched;
use crate::disk::SimDisk;
use exactlog_storage::StorageError;
use exactlog_storage::checkpoint::{self, CHECKPOINT_DIR, CHECKPOINT_VERSION, Image};
use exactlog_storage::disk::Disk;

// Where the fields lie that are set right (docs/FORMAT.md).
const VERSION_AT: usize = 8; // u16
const SECTIONS_AT: usize = VERSION_AT + 4; // u32
const LSN_AT: usize = SECTIONS_AT + 4; // u64
const LEN_AT: usize = LSN_AT + 16; // u64
const CRC_AT: usize = LEN_AT + 8; // u32, a reserved one behind it
const HEADER_BYTES: usize = CRC_AT + 8;
const SECTION_CRC_AT: usize = 8; // u32, a reserved one behind it
const SECTION_HEADER_BYTES: usize = SECTION_CRC_AT + 8;
const MAGIC: [u8; 8] = *b"EXLOGCKP";

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mend = input.u8() & 1 != 0;
    let mut content = input.rest().to_vec();
    if mend {
        mend_all(&mut content);
    }
    let lsn =
        content.get(LSN_AT..LSN_AT + 8).and_then(|lsn| lsn.try_into().ok()).map_or(0, u64::from_le_bytes);
    let disk = SimDisk::new();
    disk.create_dir(CHECKPOINT_DIR).expect("the disk is empty");
    disk.put(&checkpoint::file_name(lsn), &content).expect("the directory is there");
    let before = disk.fingerprint();
    match checkpoint::find(&*Watched::over(&disk)) {
        Ok(found) => {
            assert!(found.damaged.is_empty());
            check(found.newest.expect("the only file counts or is an error"));
        }
        Err(error @ (StorageError::Damaged { .. } | StorageError::Version { .. })) => {
            assert!(!error.to_string().is_empty());
        }
        Err(error) => panic!("a file that can be read gives {error:?}"),
    }
    assert_eq!(disk.fingerprint(), before, "reading writes nothing");
}

fn check(image: Image) {
    assert!(image.flushed_lsn <= image.applied_lsn && image.state.lsn == image.applied_lsn);
    let disk = SimDisk::new();
    image.write(&disk).expect("what was read can be written");
    assert_eq!(checkpoint::find(&disk).expect("what was written can be read").newest, Some(image));
}

/// Sets lengths and checksums right, of as many sections as the file seems to have.
fn mend_all(content: &mut [u8]) {
    if content.len() < HEADER_BYTES {
        return;
    }
    let mut sections = 0u32;
    let mut at = HEADER_BYTES;
    while content.len() - at >= SECTION_HEADER_BYTES {
        let from = at + SECTION_HEADER_BYTES;
        let stated = content[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte));
        let len = stated.min(content.len() - from);
        let crc = crc32fast::hash(&content[from..from + len]);
        content[at..at + SECTION_CRC_AT].copy_from_slice(&(len as u64).to_le_bytes());
        content[at + SECTION_CRC_AT..from].copy_from_slice(&u64::from(crc).to_le_bytes());
        at = from + len;
        sections += 1;
    }
    let len = content.len() as u64;
    content[..VERSION_AT].copy_from_slice(&MAGIC);
    content[VERSION_AT..SECTIONS_AT].copy_from_slice(&u32::from(CHECKPOINT_VERSION).to_le_bytes());
    content[SECTIONS_AT..LSN_AT].copy_from_slice(&sections.to_le_bytes());
    content[LEN_AT..CRC_AT].copy_from_slice(&len.to_le_bytes());
    let crc = crc32fast::hash(&content[..CRC_AT]);
    content[CRC_AT..HEADER_BYTES].copy_from_slice(&u64::from(crc).to_le_bytes());
}
