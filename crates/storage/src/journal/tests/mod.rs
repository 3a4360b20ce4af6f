//! Tests of the journal, by topic: the running journal, opening, damage, bytes, and random crashes.

mod bytes;
mod crashes;
mod cut;
mod damage;
mod disk;
mod opening;
mod running;

use super::*;
use disk::{MemoryDisk, Op, Random};
use smallvec::smallvec;

pub(super) const KIB: u64 = 1024;

/// Commands as the tests write them: an id, and the CRC-32C of the body.
fn verify(_kind: u8, _version: u8, head: &[u8], bodies: &[u8]) -> bool {
    let Some(stated) = head.get(8..12) else { return false };
    stated == crc32c::crc32c(bodies).to_le_bytes()
}

fn config() -> Config {
    Config { file_bytes: 64 * KIB, ring_bytes: 8 * 64 * KIB, ..Config::new(3, verify) }
}

fn frame(lsn: u64, id: u64, body: Vec<u8>) -> Frame {
    let mut head = id.to_le_bytes().to_vec();
    head.extend(crc32c::crc32c(&body).to_le_bytes());
    Frame { lsn, term: 1, kind: 1, version: 0, level: Level::Fsync, head, bodies: smallvec![body.into()] }
}

fn id_of(frame: &ReadFrame) -> u64 {
    u64::from_le_bytes(frame.head[..8].try_into().unwrap())
}

/// What opening a journal gave.
struct Open {
    journal: FileJournal,
    opened: Opened,
    frames: Vec<ReadFrame>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.opened.fmt(f)
    }
}

impl Open {
    fn ids(&self) -> Vec<u64> {
        self.frames.iter().map(id_of).collect()
    }

    /// Appends commands with small bodies whose ids are their lsns, one group, no sync.
    fn write(&mut self, count: u64) -> Vec<Placed> {
        let frames: Vec<Frame> = (0..count).map(|index| self.next_frame(index)).collect();
        self.journal.append(&frames).unwrap()
    }

    /// The same, and a sync.
    fn commit(&mut self, count: u64) -> Vec<Placed> {
        let placed = self.write(count);
        self.journal.sync().unwrap();
        placed
    }

    fn next_frame(&self, index: u64) -> Frame {
        let lsn = self.journal.last_lsn() + 1 + index;
        frame(lsn, lsn, vec![lsn as u8; 100])
    }

    fn read_all(&self) -> Vec<u64> {
        let mut cursor = self.journal.reader().cursor(1).unwrap();
        std::iter::from_fn(|| cursor.next().unwrap()).map(|frame| id_of(&frame)).collect()
    }
}

fn try_open_with(disk: &MemoryDisk, config: Config, start: &Start) -> Result<Open, StorageError> {
    let mut frames = Vec::new();
    let mut random = Random::new(disk.count(Op::Write) + 77);
    let (journal, opened) =
        FileJournal::open(disk.shared(), config, start, &mut || random.next(), &mut |frame| {
            frames.push(frame);
            Ok(())
        })?;
    Ok(Open { journal, opened, frames })
}

fn try_open(disk: &MemoryDisk) -> Result<Open, StorageError> {
    try_open_with(disk, config(), &Start::default())
}

fn open(disk: &MemoryDisk) -> Open {
    try_open(disk).unwrap()
}

fn up_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

fn generation(number: u64) -> String {
    names::journal(number)
}
