//! redb: a table with the records' numbers as keys, a write transaction for each append.
//!
//! Its weaker durability is weaker than "survives a kill": what it has answered may be in its own memory alone.

use super::{Lives, Result, Rival};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

struct Redb {
    database: Database,
    durability: Durability,
}

pub(super) fn open(directory: &Path, lives: Lives) -> Result<Box<dyn Rival>> {
    let durability = match lives {
        Lives::Kill => Durability::None,
        Lives::PowerLoss => Durability::Immediate,
    };
    Ok(Box::new(Redb { database: Database::create(directory.join("redb"))?, durability }))
}

impl Rival for Redb {
    fn append(&self, first: u64, records: &[u8], record_bytes: usize) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        let mut table = transaction.open_table(RECORDS)?;
        for (number, record) in (first..).zip(records.chunks_exact(record_bytes)) {
            table.insert(number, record)?;
        }
        drop(table);
        transaction.commit()?;
        Ok(())
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        for entry in table.iter()? {
            each(entry?.1.value());
        }
        Ok(())
    }

    fn get(&self, number: u64, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        each(table.get(number)?.ok_or("no such record")?.value());
        Ok(())
    }
}
