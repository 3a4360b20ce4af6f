//! The transaction index of a full segment: which aborted transactions end in it (KIP-98).
//!
//! ```text
//!   entries, 34 B each, big-endian as Kafka's, without a header:
//!   version i16 = 0 | producer id i64 | first offset i64 | last offset i64 | last stable offset i64
//! ```
//!
//! It is Kafka's file, for whoever reads the segments as Kafka's. Readers here don't need it: the state knows the same.
//! It is made from the state, once a segment is full and has an entry; what a reader of the segments alone would make
//! of the batches has the same bytes.
//!
//! Invariants
//!   * a file is complete before it gets its name; never synced, never trusted
//!   * one that holds more is left alone: the state forgets what is trimmed

use super::index_file::write_whole;
use super::{FileId, names};
use crate::disk::{Disk, Mode};
use crate::mapped::read_whole;
use exactlog_core::state::AbortedTransaction;
use std::io;

const VERSION: i16 = 0;
const ENTRY_BYTES: usize = 2 + 4 * 8;
const _: () = assert!(ENTRY_BYTES == 34);

/// Writes the file unless what it has to hold is there, at its end.
pub(super) fn ensure(
    disk: &dyn Disk,
    dir: &str,
    id: FileId,
    entries: &[AbortedTransaction],
) -> io::Result<()> {
    let name = names::transaction_index(dir, id);
    let content = encode(entries);
    let found = match disk.open(&name, Mode::Read) {
        Ok(file) => Some(read_whole(&*file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match found {
        Some(found) if is_whole(&found, entries) => Ok(()),
        _ => write_whole(disk, &name, &content),
    }
}

/// Whether a file holds what it has to, at its end.
pub(super) fn is_whole(found: &[u8], entries: &[AbortedTransaction]) -> bool {
    found.len().is_multiple_of(ENTRY_BYTES) && found.ends_with(&encode(entries))
}

fn encode(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut content = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        content.extend_from_slice(&VERSION.to_be_bytes());
        content.extend_from_slice(&entry.producer.0.to_be_bytes());
        for offset in [entry.first_offset, entry.last_offset, entry.last_stable_offset] {
            content.extend_from_slice(&offset.to_be_bytes());
        }
    }
    content
}
