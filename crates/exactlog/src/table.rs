//! Keyed tables: making one, and what a key has now.
//!
//! ```text
//!   get:  state: key -> place, version    the log: place -> record       two steps, no lock between them
//! ```
//!
//! Not here: writing, which is a part of transactions (`table_writes.rs`), and walking over keys (`scan.rs`).
//!
//! Invariants
//!   * what is shown was the key's value at some moment during the call
//!   * an entry holds its own bytes and no batch

use crate::error::Error;
use crate::event::{Record, Undecodable};
use crate::log::{Handle, Inner, Log};
use crate::scan::{KeyRange, Scan};
use crate::storing;
use crate::topic::Topic;
use crate::unpacking::{record_of, unpack};
use crate::view::ReadView;
use bytes::Bytes;
use exactlog_core::batch::Compression;
use exactlog_core::command::{CleanupPolicy, Command, ConfigChange, TopicCompression, TopicConfig};
use exactlog_core::ids::{Partition, TopicId};
use exactlog_core::reply::{Refusal, Reply};
use exactlog_core::state::{TableLimits, TablePlace, Undecided};
use exactlog_storage::error::StorageError;
use exactlog_storage::index::LookedUp;
use serde::de::DeserializeOwned;

/// A table of an open log: of each key the last value, written by transactions alone. Cheap to clone.
///
/// ```
/// # use exactlog::{Log, TableOptions};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// let stock = log.create_table("stock", TableOptions::default().partitions(3))?;
/// let mut producer = log.producer("shop")?;
///
/// let mut transaction = producer.begin();
/// transaction.put(&stock, "chairs", "12")?;
/// let receipt = transaction.blocking_commit()?;
///
/// let chairs = stock.get("chairs")?.expect("it was put there");
/// assert_eq!((chairs.value_str()?, chairs.version), ("12", receipt.csn));
/// # Ok(())
/// # }
/// ```
///
/// It is a compacted topic as well ([`topic`](Table::topic)): whoever consumes that sees each change, and from its
/// start on at least the last one of each key.
///
/// Reading waits for nothing but the disk, and mostly not for that. There is no async half of it.
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) inner: Handle,
    topic: Topic,
}

/// How a table is created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableOptions {
    /// Number of partitions. Default 1, at most 100,000. It stays, since the keys would move.
    pub partitions: u32,
    /// Settings of the topic, by Kafka's names. `cleanup.policy` is `compact`. Default: those of a topic, with
    /// `segment.bytes` of 16 MiB: only closed segments are compacted.
    pub config: TopicConfig,
}

impl Default for TableOptions {
    fn default() -> Self {
        const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
        let (cleanup_policy, segment_bytes) = (CleanupPolicy::Compact, SEGMENT_BYTES);
        let config = TopicConfig { cleanup_policy, segment_bytes, ..TopicConfig::default() };
        TableOptions { partitions: 1, config }
    }
}

impl TableOptions {
    /// Sets the number of partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets the largest batch in bytes (`max.message.bytes`; 1,024 to 16 MiB, default 1,048,588). A value has to fit
    /// into one.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.config.max_message_bytes = bytes;
        self
    }

    /// Sets the size at which a segment is closed (`segment.bytes`; default 16 MiB).
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.config.segment_bytes = bytes;
        self
    }

    /// Stores what is written in this codec (`compression.type`), as
    /// [`TopicOptions::compression`](crate::TopicOptions::compression).
    #[must_use]
    pub fn compression(mut self, codec: Compression) -> Self {
        self.config.compression = TopicCompression::Codec(codec);
        self
    }
}

/// What a key has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The csn of the transaction that wrote it: it rises with each write of the key, also over a deletion.
    pub version: u64,
    /// Its record in the table's topic.
    pub record: Record,
}

impl Entry {
    /// The key.
    pub fn key(&self) -> &[u8] {
        self.record.key()
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.record.value()
    }

    /// The key as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn key_str(&self) -> Result<&str, Undecodable> {
        self.record.key_str()
    }

    /// The value as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn value_str(&self) -> Result<&str, Undecodable> {
        self.record.value_str()
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// When it isn't.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        self.record.json()
    }
}

impl Log {
    /// Creates a table, or returns the one of this name if its options are equal.
    ///
    /// # Errors
    /// A topic or table of this name with other options: each difference is named. [`Refusal::TablePolicy`] for
    /// another `cleanup.policy`. Illegal names and sizes.
    pub fn create_table(&self, name: &str, options: TableOptions) -> Result<Table, Error> {
        self.check_topic_name(name)?;
        let TableOptions { partitions, config } = options;
        storing::check_setting(&config)?;
        let command = Command::CreateTable { name: name.to_string(), partitions, config };
        match self.inner.command(command)?.reply {
            Reply::Topic { topic, .. } => {
                let topic = self.inner.topic(topic);
                let topic = topic.ok_or_else(|| Error::NoSuchTable { name: name.to_string() })?;
                Ok(Table { inner: self.inner.clone(), topic })
            }
            _ => unreachable!("CreateTable answers with a topic or a refusal"),
        }
    }

    /// The table of this name.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`]: it never creates one. [`Refusal::NoTable`] if it is a plain topic. [`Error::Closed`].
    pub fn table(&self, name: &str) -> Result<Table, Error> {
        self.inner.check_open()?;
        let state = self.inner.state.read();
        let found = state.topic_named(name);
        let (id, topic) = found.ok_or_else(|| Error::NoSuchTable { name: name.to_string() })?;
        if state.tables.get(id).is_none() {
            return Err(Error::Refused(Refusal::NoTable { topic: id }));
        }
        let topic = Topic::new(id, topic, &self.inner.partition_counts);
        Ok(Table { inner: self.inner.clone(), topic })
    }

    /// All tables, by name.
    pub fn tables(&self) -> Vec<Table> {
        let state = self.inner.state.read();
        let counts = &self.inner.partition_counts;
        let tables = state.topic_names.values().filter(|id| state.tables.get(**id).is_some());
        let handle = |id: &TopicId| Some(Topic::new(*id, state.topics.get(id)?, counts));
        let handles = tables.filter_map(handle);
        handles.map(|topic| Table { inner: self.inner.clone(), topic }).collect()
    }

    /// How many keys tables may have, and how long these may be.
    pub fn table_limits(&self) -> TableLimits {
        self.inner.state.read().tables.limits()
    }

    /// Sets these limits, for good. Keys that are there already stay.
    ///
    /// # Errors
    /// [`Refusal::SettingOutOfBounds`] names the bounds: at most 100,000,000 keys, of 1 to 65,536 bytes.
    pub fn set_table_limits(&self, limits: TableLimits) -> Result<(), Error> {
        let TableLimits { keys_max, key_bytes_max } = limits;
        self.inner.command(Command::Config(ConfigChange::TableLimits { keys_max, key_bytes_max })).map(|_| ())
    }
}

impl Table {
    /// The topic that holds its changes: to consume it, to see its settings, to alter or delete it.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.topic.name()
    }

    /// How many keys it has.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`] when it was deleted, [`Error::Closed`].
    pub fn len(&self) -> Result<u64, Error> {
        self.look(|table| table.len())
    }

    /// Whether it has no key.
    ///
    /// # Errors
    /// As [`len`](Table::len).
    pub fn is_empty(&self) -> Result<bool, Error> {
        self.look(|table| table.is_empty())
    }

    /// The version of a key: the csn of the transaction that wrote it last; `None`: it isn't there. It reads no file.
    ///
    /// # Errors
    /// As [`len`](Table::len).
    pub fn version(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, Error> {
        self.look(|table| table.find(key.as_ref()).map(|place| place.version))
    }

    /// What a key has; `None`: it isn't there. What was committed before the call is seen. Read
    /// [through a transaction](crate::Transaction::get) where what is written depends on it.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`] when it was deleted, [`Error::UnreadableBatch`], and what reading can answer.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>, Error> {
        let key = key.as_ref();
        let mut tried = None;
        loop {
            let Some((at, place)) = self.place(key)? else { return Ok(None) };
            let read = read_record(&self.inner, &self.topic, at.index, place.offset);
            match read.and_then(|record| self.entry(key, at.index, place, record)) {
                Ok(entry) => return Ok(Some(entry)),
                // It was written again meanwhile, and this record may be compacted away.
                Err(_) if tried != Some(place) => tried = Some(place),
                Err(error) => return Err(error),
            }
        }
    }

    /// Its entries in the order of their keys, as of now: all (`..`), from a key on, below a key, or those whose keys
    /// [begin alike](KeyRange::prefix). Everything comes from one [`ReadView`], which
    /// [expires](crate::Builder::read_view_max).
    pub fn scan(&self, keys: impl Into<KeyRange>) -> Scan {
        ReadView::new(&self.inner).scan(self, keys)
    }

    fn place(&self, key: &[u8]) -> Result<Option<(Partition, TablePlace)>, Error> {
        self.inner.check_open()?;
        let state = self.inner.state.read();
        match state.tables.get(self.topic.id()) {
            Some(_) => Ok(state.table_place(self.topic.id(), key)),
            None => Err(self.is_gone()),
        }
    }

    fn look<T>(&self, look: impl FnOnce(&exactlog_core::state::Table) -> T) -> Result<T, Error> {
        self.inner.check_open()?;
        let state = self.inner.state.read();
        state.tables.get(self.topic.id()).map(|table| look(table)).ok_or_else(|| self.is_gone())
    }

    pub(crate) fn is_gone(&self) -> Error {
        Error::NoSuchTable { name: self.name().to_string() }
    }

    /// The entry of a key whose place is known; an error if the record there is another one.
    pub(crate) fn entry(
        &self,
        key: &[u8],
        partition: u32,
        place: TablePlace,
        record: Option<Record>,
    ) -> Result<Entry, Error> {
        match record {
            Some(record) if record.key() == key && record.value.is_some() => {
                Ok(Entry { version: place.version, record: apart(record) })
            }
            _ => {
                let file = format!("the records of {}-{partition}", self.name());
                let what = "the record isn't the one that the table has a key for".to_string();
                Err(Error::Storage(StorageError::damaged(&file, place.offset, what)))
            }
        }
    }
}

/// The record at an offset; `None`: there is none.
pub(crate) fn read_record(
    inner: &Inner,
    topic: &Topic,
    partition: u32,
    offset: u64,
) -> Result<Option<Record>, Error> {
    let found = inner.look_up(topic, partition, offset)?;
    let (_, undecided) = inner.undecided(topic, partition, offset, found.batch.next_offset())?;
    record_of(topic, partition, &found, &undecided, offset)
}

/// A batch that is open for reading single records, one after another.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    partition: u32,
    found: LookedUp,
    undecided: Undecided,
    /// Its records that are shown, if it is compressed: it would be decompressed for each of them.
    unpacked: Option<Vec<Record>>,
}

impl OpenBatch {
    /// The batch that an offset is in, or the next one behind it.
    pub(crate) fn at(inner: &Inner, topic: &Topic, partition: u32, offset: u64) -> Result<OpenBatch, Error> {
        let found = inner.look_up(topic, partition, offset)?;
        let offsets = found.batch.base_offset()..found.batch.next_offset();
        let (_, undecided) = inner.undecided(topic, partition, offsets.start, offsets.end)?;
        let unpacked = match found.batch.compression() {
            Compression::None => None,
            _ => {
                let batches = std::slice::from_ref(&found.batch);
                let unpacked =
                    unpack(topic, partition, batches, &undecided, offsets, usize::MAX, usize::MAX)?;
                Some(unpacked.records)
            }
        };
        Ok(OpenBatch { partition, found, undecided, unpacked })
    }

    /// Whether an offset lies in it.
    pub(crate) fn holds(&self, partition: u32, offset: u64) -> bool {
        let batch = &self.found.batch;
        partition == self.partition && (batch.base_offset()..batch.next_offset()).contains(&offset)
    }

    /// The record at an offset; `None`: there is none, or it isn't shown.
    pub(crate) fn record(&self, topic: &Topic, offset: u64) -> Result<Option<Record>, Error> {
        match &self.unpacked {
            Some(records) => {
                let nth = records.binary_search_by_key(&offset, |record| record.offset);
                Ok(nth.ok().map(|nth| records[nth].clone()))
            }
            None => record_of(topic, self.partition, &self.found, &self.undecided, offset),
        }
    }
}

/// The record with bytes of its own: as it was read they are a part of its batch, all of which they keep in memory.
fn apart(record: Record) -> Record {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    Record { key: record.key.as_ref().map(copy), value: record.value.as_ref().map(copy), ..record }
}
