//! Walking over the keys of a table, in their order, as of one moment.
//!
//! ```text
//!   next -> [ready] -> Some(entry)
//!            empty  -> one page: up to 256 keys of the index, their records in the order of their places -> [ready]
//! ```
//!
//! Invariants
//!   * keys ascend, each comes once, and all are of the view's position
//!   * a page keeps about 1 MiB of records, or one that is larger, whatever its keys have
//!   * a batch that can't be read is one item for each of its keys, the walk goes on behind; another error is the last

use crate::error::Error;
use crate::table::{Entry, OpenBatch, Table, read_record};
use crate::view::ReadView;
use bytes::Bytes;
use exactlog_core::partitioner::partition_for_key;
use exactlog_core::state::{self, TablePlace};
use std::iter::FusedIterator;
use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeTo};
use std::sync::Arc;

/// Which keys of a table: all of them (`..`), from one on (`a..`), below one (`..b`), both (`a..b`), or those that
/// begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    from: Bound<Bytes>,
    to: Bound<Bytes>,
}

impl KeyRange {
    /// The keys that begin like this.
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        let prefix = prefix.into();
        // The least that lies behind all of them: none if they are all of the highest byte.
        let last = prefix.iter().rposition(|byte| *byte < u8::MAX);
        let to = last.map(|last| {
            let mut behind = prefix[..=last].to_vec();
            behind[last] += 1;
            Bound::Excluded(behind.into())
        });
        KeyRange { from: Bound::Included(prefix), to: to.unwrap_or(Bound::Unbounded) }
    }

    fn ends_before(&self, key: &[u8]) -> bool {
        match &self.to {
            Bound::Included(to) => key > &to[..],
            Bound::Excluded(to) => key >= &to[..],
            Bound::Unbounded => false,
        }
    }
}

impl From<RangeFull> for KeyRange {
    fn from(_: RangeFull) -> KeyRange {
        KeyRange { from: Bound::Unbounded, to: Bound::Unbounded }
    }
}

impl<K: Into<Bytes>> From<Range<K>> for KeyRange {
    fn from(range: Range<K>) -> KeyRange {
        KeyRange { from: Bound::Included(range.start.into()), to: Bound::Excluded(range.end.into()) }
    }
}

impl<K: Into<Bytes>> From<RangeFrom<K>> for KeyRange {
    fn from(range: RangeFrom<K>) -> KeyRange {
        KeyRange { from: Bound::Included(range.start.into()), to: Bound::Unbounded }
    }
}

impl<K: Into<Bytes>> From<RangeTo<K>> for KeyRange {
    fn from(range: RangeTo<K>) -> KeyRange {
        KeyRange { from: Bound::Unbounded, to: Bound::Excluded(range.end.into()) }
    }
}

/// The entries of a table in the order of their keys. Made by [`Table::scan`] and [`ReadView::scan`].
#[derive(Debug)]
#[must_use = "it reads nothing before it is asked for entries"]
pub struct Scan {
    view: ReadView,
    table: Table,
    /// The index as the view has it; an error that is still to be told, or nothing any more.
    index: Result<Arc<state::Table>, Option<Error>>,
    keys: KeyRange,
    ready: std::vec::IntoIter<Entry>,
}

/// A key of a page, and where its record is.
struct Found {
    key: Bytes,
    partition: u32,
    place: TablePlace,
}

/// Most keys of a page.
const PAGE_KEYS: usize = 256;
/// Bytes of records after which a page is full.
const PAGE_BYTES: usize = 1024 * 1024;

impl Scan {
    pub(crate) fn new(view: ReadView, table: &Table, keys: KeyRange) -> Scan {
        let index = view.index_of(table).cloned().map_err(Some);
        Scan { view, table: table.clone(), index, keys, ready: Vec::new().into_iter() }
    }

    /// The position that it shows.
    pub fn csn(&self) -> u64 {
        self.view.csn()
    }

    fn page(&self, index: &state::Table) -> Vec<Found> {
        let partitions = self.table.topic().partitions();
        let from = match &self.keys.from {
            Bound::Included(key) => Bound::Included(&key[..]),
            Bound::Excluded(key) => Bound::Excluded(&key[..]),
            Bound::Unbounded => Bound::Unbounded,
        };
        let keys = index.from(from).take_while(|(key, _)| !self.keys.ends_before(key)).take(PAGE_KEYS);
        let found = keys.map(|(key, place)| {
            let partition = partition_for_key(key, partitions.max(1));
            Found { key: Bytes::copy_from_slice(key), partition, place }
        });
        found.collect()
    }

    /// Entries from where it goes on; none at the end. An error is that of the first key.
    fn read_page(&mut self, index: &state::Table) -> Result<Vec<Entry>, Error> {
        self.view.check_life()?;
        let page = self.page(index);
        let Some(first) = page.first() else { return Ok(Vec::new()) };
        let mut order: Vec<usize> = (1..page.len()).collect();
        order.sort_unstable_by_key(|nth| (page[*nth].partition, page[*nth].place.offset));
        let mut entries: Vec<Option<Entry>> = page.iter().map(|_| None).collect();
        let (mut bytes, mut open) = (0, None);
        for nth in std::iter::once(0).chain(order) {
            match self.read_entry(&page[nth], &mut open) {
                Ok(entry) => {
                    bytes += entry.key().len() + entry.value().len();
                    entries[nth] = Some(entry);
                }
                Err(error) if nth == 0 => {
                    self.keys.from = Bound::Excluded(first.key.clone());
                    return Err(error);
                }
                // It is told when this key is the first one.
                Err(_) => break,
            }
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        // What was read behind a gap is read again with the next page.
        let entries: Vec<Entry> = entries.into_iter().map_while(|entry| entry).collect();
        self.keys.from = Bound::Excluded(page[entries.len() - 1].key.clone());
        Ok(entries)
    }

    /// `open` is the batch that was read last: places follow each other.
    fn read_entry(&self, found: &Found, open: &mut Option<OpenBatch>) -> Result<Entry, Error> {
        let Found { key, partition, place } = found;
        let (table, offset) = (&self.table, place.offset);
        if !open.as_ref().is_some_and(|batch| batch.holds(*partition, offset)) {
            let batch = OpenBatch::at(self.view.handle(), table.topic(), *partition, offset);
            *open = Some(self.view.of_table(table, batch)?);
        }
        let record = match open {
            Some(batch) => batch.record(table.topic(), offset)?,
            None => None,
        };
        table.entry(key, *partition, *place, record)
    }
}

impl Iterator for Scan {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.ready.next() {
            return Some(Ok(entry));
        }
        let index = match &mut self.index {
            Ok(index) => index.clone(),
            Err(error) => return error.take().map(Err),
        };
        match self.read_page(&index) {
            Ok(entries) => {
                self.ready = entries.into_iter();
                self.ready.next().map(Ok)
            }
            Err(error) => {
                if !matches!(error, Error::UnreadableBatch(_)) {
                    self.index = Err(None);
                }
                Some(Err(error))
            }
        }
    }
}

impl FusedIterator for Scan {}

impl ReadView {
    /// What a key had; `None`: it wasn't there.
    ///
    /// # Errors
    /// [`Error::ViewExpired`]; [`Error::NoSuchTable`] for a table that is newer than the view or was deleted since;
    /// [`Error::UnreadableBatch`], and what reading can answer.
    pub fn get(&self, table: &Table, key: impl AsRef<[u8]>) -> Result<Option<Entry>, Error> {
        self.check_life()?;
        let key = key.as_ref();
        let Some(place) = self.index_of(table)?.find(key) else { return Ok(None) };
        let partition = partition_for_key(key, table.topic().partitions().max(1));
        let record =
            self.of_table(table, read_record(self.handle(), table.topic(), partition, place.offset))?;
        table.entry(key, partition, place, record).map(Some)
    }

    /// The entries of a table in the order of their keys, as the view shows them. Else as [`Table::scan`].
    pub fn scan(&self, table: &Table, keys: impl Into<KeyRange>) -> Scan {
        Scan::new(self.clone(), table, keys.into())
    }

    /// What was read of a table, unless it was deleted meanwhile, and its files with it.
    fn of_table<T>(&self, table: &Table, read: Result<T, Error>) -> Result<T, Error> {
        match self.handle().bounds(table.topic(), 0) {
            Ok(_) => read,
            Err(_) => Err(table.is_gone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_least_key_behind_it() {
        let to = |prefix: &'static [u8]| KeyRange::prefix(prefix).to;
        assert_eq!(to(b"ab"), Bound::Excluded(Bytes::from_static(b"ac")));
        assert_eq!(to(b"a\xff\xff"), Bound::Excluded(Bytes::from_static(b"b")));
        assert_eq!(to(b"\xff"), Bound::Unbounded);
        assert_eq!(to(b""), Bound::Unbounded);
        let range = KeyRange::prefix("a");
        assert!(!range.ends_before(b"a\xff\xff") && range.ends_before(b"b"));
    }
}
