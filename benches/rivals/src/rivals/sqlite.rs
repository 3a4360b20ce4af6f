//! SQLite with a write-ahead log: a table with the records' numbers as keys, a transaction for each append. Callers
//! share one connection: it has one writer at a time.

use super::{Lives, Result, Rival};
use rusqlite::{Connection, params};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

struct Sqlite {
    connection: Mutex<Connection>,
}

pub(super) fn open(directory: &Path, lives: Lives) -> Result<Box<dyn Rival>> {
    let connection = Connection::open(directory.join("sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if lives == Lives::Kill { "OFF" } else { "FULL" })?;
    connection.execute_batch("create table records (number integer primary key, record blob not null)")?;
    Ok(Box::new(Sqlite { connection: Mutex::new(connection) }))
}

impl Sqlite {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().expect("nobody panics with the lock")
    }
}

impl Rival for Sqlite {
    fn append(&self, first: u64, records: &[u8], record_bytes: usize) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare_cached("insert into records values (?, ?)")?;
        for (number, record) in (first..).zip(records.chunks_exact(record_bytes)) {
            insert.execute(params![number as i64, record])?;
        }
        drop(insert);
        transaction.commit()?;
        Ok(())
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let connection = self.lock();
        let mut select = connection.prepare("select record from records order by number")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_blob()?);
        }
        Ok(())
    }

    fn get(&self, number: u64, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let connection = self.lock();
        let mut select = connection.prepare_cached("select record from records where number = ?")?;
        select.query_row([number as i64], |row| {
            each(row.get_ref(0)?.as_blob()?);
            Ok(())
        })?;
        Ok(())
    }
}
