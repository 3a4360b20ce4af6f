//! Whoever uses the log can name every type that it hands out or takes, from `exactlog` alone.
//!
//! Nothing here runs: it compiles. Functions are named with their whole signatures, and structures are taken apart
//! without `..`, so that a type that is added to one of them has to be named here as well. That types of the crate
//! itself can be named is seen to by the lint `unnameable_types`.

use exactlog::disk::{Disk, Entry as DirectoryEntry, File, Mode, RealDisk};
use exactlog::{
    AtCap, Batch, BatchError, Builder, Bytes, Cancellation, Cleaned, CleanupPolicy, CommitReceipt,
    CommitToken, Compacted, Compression, CompressionFault, Consumer, ConsumerBuilder, Cut, DedupId,
    DedupLimits, DedupScope, DueCompaction, Durability, Entry, Error, Event, EventId, JsonError,
    KeptSettings, KeyRange, Log, MemberId, Metrics, Outcome, Partition, Producer, ProducerId, ReadView,
    Receipt, Record, RecordFault, RecordHeader, RecordStream, Records, RecoveryReport, Refusal, Reservation,
    Reserve, Scan, Scope, Seen, SeenEvent, Sighting, Start, StorageError, Stream, Table, TableLimits,
    TableOptions, Ticket, TimerDetails, TimerFailure, TimerId, TimerLimits, TimerMetrics, TimestampType,
    Topic, TopicCompression, TopicConfig, TopicDurability, TopicId, TopicOptions, Transaction, Undecodable,
    UnreadableBatch,
};
use std::sync::Arc;
use std::time::Duration;

type Done<T> = Result<T, Error>;

fn functions() {
    let _: fn(Builder, Arc<dyn Disk>) -> Builder = Builder::disk;
    let _: fn(Builder, Durability) -> Builder = Builder::durability;
    let _: fn(&Log, &str, TopicOptions) -> Done<Topic> = Log::create_topic;
    let _: fn(&Log, &str) -> Done<Producer> = Log::producer;
    let _: fn(&Log, &str) -> ConsumerBuilder = Log::consumer;
    let _: fn(&Log) -> ReadView = Log::read_view;
    let _: fn(&Log, &Topic, u32, Bytes) -> Done<u64> = Log::append_batch;
    let _: fn(&Log, CommitToken) -> Done<Option<Outcome>> = Log::outcome;
    let _: fn(&Log, &Topic, TopicConfig) -> Done<Topic> = Log::alter_topic;
    let _: fn(&Log) -> Done<Cleaned> = Log::clean;
    let _: fn(&Log, &Topic) -> Done<Vec<Compacted>> = Log::compact;
    let _: fn(&Log, &Topic) -> Done<Vec<DueCompaction>> = Log::compactable;
    let _: fn(&Log) -> Metrics = Log::metrics;
    let _: fn(&Log, &'static str, &'static str) -> Done<Seen> = Log::seen;
    let _: fn(&'static str) -> Scope = Scope::from;
    let _: fn(&Log, &str, String, Duration) -> Done<Reserve> = Log::blocking_reserve;
    let _: fn(Reservation) -> Done<()> = Reservation::blocking_finish;
    let _: fn(&Log) -> DedupLimits = Log::dedup_limits;
    let _: fn(&Log, Duration, u64, AtCap) -> Done<()> = Log::set_dedup_limits;
    let _: fn(&Log) -> &RecoveryReport = Log::recovery;
    let _: fn(&Log, TimerId) -> Done<Cancellation> = Log::cancel;
    let _: fn(&Log, usize) -> Vec<TimerDetails> = Log::timers;
    let _: fn(&Log, TimerLimits) -> Done<()> = Log::set_timer_limits;
    let _: fn(&Log) -> Duration = Log::offsets_retention;
    let _: fn(&Log, Duration) -> Done<()> = Log::set_offsets_retention;
    let _: fn(&Log, &str, TableOptions) -> Done<Table> = Log::create_table;
    let _: fn(&Log, TableLimits) -> Done<()> = Log::set_table_limits;
    let _: fn(&Table, &'static str) -> Done<Option<Entry>> = Table::get;
    let _: fn(&Table, KeyRange) -> Scan = Table::scan;
    let _: fn(&Table) -> &Topic = Table::topic;
    let _: for<'v> fn(&'v ReadView, &Table, KeyRange) -> Scan = ReadView::scan;
    let _: fn(&Metrics) -> TimerMetrics = |metrics| metrics.timers;
    let _: fn(&TimerDetails) -> Option<TimerFailure> = |timer| timer.stuck;
    let _: fn(&Topic) -> TopicId = Topic::id;
    let _: fn(&Topic) -> &TopicConfig = Topic::config;
    let _: fn(&Producer) -> Option<&Bytes> = Producer::cursor;
    let _: fn(&Producer, &Topic, Event) -> Done<Ticket> = Producer::blocking_submit;
    let _: fn(Ticket) -> Done<Receipt> = Ticket::wait;
    let _: for<'p> fn(&'p mut Producer) -> Transaction<'p> = Producer::begin;
    let _: fn(Transaction<'static>) -> Done<CommitReceipt> = Transaction::blocking_commit;
    let _: fn(ConsumerBuilder, Start) -> ConsumerBuilder = ConsumerBuilder::start;
    let _: for<'c> fn(&'c mut Consumer) -> Done<Option<Batch<'c>>> = Consumer::blocking_next;
    let _: fn(Consumer) -> RecordStream = Consumer::into_stream;
    let _: fn(Batch<'static>) -> Done<Vec<Record>> = Batch::blocking_ack;
    let _: for<'v> fn(&'v ReadView, &Topic) -> Records<'v> = ReadView::records;
    let _: fn(&Log, &Topic, u32, u64) -> Done<Option<Record>> = Log::record;
    let _: fn(&Record) -> Result<String, Undecodable> = Record::json::<String>;
    let _: fn(&'static str, &String) -> Result<Event, JsonError> = Event::json;
}

fn is_stream(stream: RecordStream) -> impl Stream<Item = Done<Record>> {
    stream
}

fn is_iterator(records: Records<'_>) -> impl Iterator<Item = Done<Record>> {
    records
}

fn is_scan(scan: Scan) -> impl Iterator<Item = Done<Entry>> {
    scan
}

fn structures(
    report: RecoveryReport,
    receipt: CommitReceipt,
    token: CommitToken,
    record: Record,
    config: TopicConfig,
) {
    let RecoveryReport { checkpoint_lsn, replayed_commands, last_lsn, term, clean, cut, ignored } = report;
    let _: (u64, u64, u64, u32, bool, Vec<String>) =
        (checkpoint_lsn, replayed_commands, last_lsn, term, clean, ignored);
    let Some(Cut { file, position, after_lsn, certain, reason }) = cut else { return };
    let _: (String, u64, u64, bool, String) = (file, position, after_lsn, certain, reason);
    let CommitReceipt { token: _, csn: _, base_offsets, timers } = receipt;
    let _: Vec<TimerId> = timers;
    let _: Option<(Partition, u64)> = base_offsets.first().copied();
    let CommitToken { producer, producer_epoch: _, number: _ } = token;
    let ProducerId(_) = producer;
    let Record { topic: _, partition: _, offset: _, timestamp_ms: _, key, value, headers } = record;
    let _: (Option<Bytes>, Option<Bytes>) = (key, value);
    let Some(RecordHeader { key, value }) = headers.into_iter().next() else { return };
    let _: (Bytes, Option<Bytes>) = (key, value);
    let TopicConfig {
        max_message_bytes: _,
        segment_bytes: _,
        segment_ms: _,
        cleanup_policy,
        retention_ms: _,
        retention_bytes: _,
        delete_retention_ms: _,
        min_compaction_lag_ms: _,
        max_compaction_lag_ms: _,
        min_cleanable_dirty_permille: _,
        timestamp_type,
        timestamp_before_max_ms: _,
        timestamp_after_max_ms: _,
        durability,
        compression,
        kept,
    } = config;
    let kept: KeptSettings = kept;
    let _: Option<&str> = kept.get("");
    let _: (CleanupPolicy, TimestampType) = (cleanup_policy, timestamp_type);
    let _: (TopicDurability, TopicCompression) = (durability, compression);
}

fn more_structures(event: Event, undecodable: Undecodable, partition: Partition, entry: DirectoryEntry) {
    let Event { key, value, headers, timestamp_ms: _, id } = event;
    let _: (Option<Bytes>, Option<Bytes>, Option<EventId>) = (key, value, id);
    let _: Option<(String, Option<Bytes>)> = headers.into_iter().next();
    let Undecodable { topic: _, partition: _, offset: _, part: _, raw, reason: _ } = undecodable;
    let _: Bytes = raw;
    let Partition { topic: TopicId(_), index: _ } = partition;
    let DirectoryEntry { name: _, len: _, links: _, is_dir: _ } = entry;
}

fn unreadable(batch: UnreadableBatch) -> (Bytes, BatchError) {
    let UnreadableBatch { topic: _, partition: _, from: _, to: _, raw, reason } = batch;
    (raw, reason)
}

/// Every type that stands in a variant.
fn errors(error: Error) {
    match error {
        Error::UnreadableBatch(batch) => drop(unreadable(*batch)),
        Error::Refused(Refusal::TopicExists { topic: TopicId(_), .. }) => {}
        Error::Refused(Refusal::UnknownPartition { partition: Partition { .. }, .. }) => {}
        Error::Refused(Refusal::ProducerFenced { producer: ProducerId(_), .. }) => {}
        Error::Refused(Refusal::CommitFenced { token: CommitToken { .. }, .. }) => {}
        Error::Refused(Refusal::TimerEnded { timer: TimerId(_), was: Cancellation::Fired }) => {}
        Error::Refused(Refusal::UnknownMember { member: MemberId(_), .. }) => {}
        Error::Refused(Refusal::EventSeen { scope: DedupScope::Topic(_), id: DedupId(_), sighting }) => {
            let (Sighting::Record { .. } | Sighting::Command { .. }) = sighting;
        }
        Error::Refused(Refusal::EventsSeen { seen }) => {
            let _: Option<SeenEvent> = seen.first().copied();
        }
        Error::Batch(BatchError::CodecMissing { compression: Compression::Zstd }) => {}
        Error::Batch(BatchError::Compression { fault: CompressionFault::Truncated, .. }) => {}
        Error::Batch(BatchError::Record { fault: RecordFault::Truncated, .. }) => {}
        Error::Unknown(StorageError::InUse { .. }) | Error::Storage(StorageError::Io { .. }) => {}
        _ => {}
    }
}

/// Somebody's own disk.
fn disk(real: RealDisk) -> std::io::Result<Arc<dyn File>> {
    real.open("journal/1", Mode::Read)
}

#[test]
fn every_type_of_a_public_signature_or_field_has_a_name_in_exactlog() {
    let _ = (functions, is_stream, is_iterator, is_scan, structures, more_structures, errors, disk);
    functions();
}
