//! fjall: a keyspace with the records' numbers as keys.

use super::{Lives, Result, Rival};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

struct Fjall {
    database: Database,
    records: Keyspace,
    mode: PersistMode,
}

pub(super) fn open(directory: &Path, lives: Lives) -> Result<Box<dyn Rival>> {
    let database = Database::builder(directory).open()?;
    let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
    let mode = match lives {
        Lives::Kill => PersistMode::Buffer,
        Lives::PowerLoss => PersistMode::SyncData,
    };
    Ok(Box::new(Fjall { database, records, mode }))
}

impl Rival for Fjall {
    fn append(&self, first: u64, records: &[u8], record_bytes: usize) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(self.mode));
        for (number, record) in (first..).zip(records.chunks_exact(record_bytes)) {
            batch.insert(&self.records, number.to_be_bytes(), record);
        }
        batch.commit()?;
        Ok(())
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        for entry in self.records.iter() {
            each(&entry.into_inner()?.1);
        }
        Ok(())
    }

    fn get(&self, number: u64, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        each(&self.records.get(number.to_be_bytes())?.ok_or("no such record")?);
        Ok(())
    }
}
