//! wal-db: one file, a record for each append. It finds a record by its position, which it has no index for.

use super::{Lives, Result, Rival};
use std::path::Path;
use wal_db::Wal;

struct WalDb {
    wal: Wal,
    lives: Lives,
}

pub(super) fn open(directory: &Path, lives: Lives) -> Result<Box<dyn Rival>> {
    Ok(Box::new(WalDb { wal: Wal::open(directory.join("wal"))?, lives }))
}

impl Rival for WalDb {
    fn append(&self, _first: u64, records: &[u8], record_bytes: usize) -> Result<()> {
        for record in records.chunks_exact(record_bytes) {
            let _position = self.wal.append(record)?;
        }
        if self.lives == Lives::PowerLoss {
            self.wal.sync()?;
        }
        Ok(())
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        for entry in self.wal.iter()? {
            each(entry?.data());
        }
        Ok(())
    }

    fn get(&self, _number: u64, _each: &mut dyn FnMut(&[u8])) -> Result<()> {
        Err("it has no index".into())
    }
}
