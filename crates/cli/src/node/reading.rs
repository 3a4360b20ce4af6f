//! Reading: batches by Fetch, without what isn't shown; and counting them.

use super::{Node, Seen};
use crate::directory::records_of;
use crate::failure::Failure;
use crate::place::{Piece, Reading};
use exactlog::wire::{Batch, HEADER_BYTES};
use exactlog::{Bytes, Error};
use exactlog_client::{Refused, To};
use exactlog_wire::messages::{Fetch, fetch};
use exactlog_wire::value::Records;
use std::collections::BTreeSet;
use std::ops::Range;

/// About how many bytes one fetch returns.
const FETCH_BYTES: i32 = 1 << 20;
/// Up to this version topics go by their names.
const BY_NAME: i16 = 12;

/// What a fetch brought.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Batches with records that are shown, in their order.
    pub(crate) batches: Vec<Batch>,
    /// Bytes of all batches.
    pub(crate) bytes: u64,
    /// Where to go on.
    pub(crate) next: u64,
    pub(crate) start: u64,
    pub(crate) high_watermark: u64,
}

/// How many records are shown behind an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) records: u64,
    pub(crate) is_exact: bool,
    /// Time of the first of them.
    pub(crate) first_ms: Option<i64>,
}

impl Node {
    /// Batches from an offset on. Waits so long for the first byte.
    pub(crate) fn fetch(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        seen: Seen,
        wait_ms: i32,
    ) -> Result<Fetched, Failure> {
        let request = fetch::Request {
            replica_id: -1,
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            isolation_level: seen.isolation_level(),
            session_epoch: -1,
            topics: vec![fetch::FetchTopic {
                topic: topic.into(),
                partitions: vec![fetch::FetchPartition {
                    partition: partition as i32,
                    fetch_offset: offset as i64,
                    partition_max_bytes: FETCH_BYTES,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let to = To::Leader(topic, partition as i32);
        let data = self.ask_up_to::<Fetch, _>(BY_NAME, to, &request, true, |response| {
            Refused::check(response.error_code, None)?;
            let mut partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
            let data = partitions.next().unwrap_or_default();
            Refused::check(data.error_code, None)?;
            Ok(data)
        })?;
        shown(data, offset, seen).map_err(|error| Failure::from(Error::from(error)))
    }

    /// Records from an offset on.
    pub(crate) fn read_piece(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
        how: Reading,
    ) -> Result<Piece, Failure> {
        let seen = if how.uncommitted { Seen::All } else { Seen::Committed };
        let fetched = self.fetch(topic, partition, offset, seen, 0)?;
        let records = records_of(&fetched.batches, (topic, partition), offset, how.batches)?;
        Ok(Piece { records, next: fetched.next })
    }

    /// How many records consumers are shown within offsets of a partition. What lies behind so many bytes counts as
    /// offsets.
    pub(crate) fn count(
        &self,
        topic: &str,
        partition: u32,
        Range { start: from, end: to }: Range<u64>,
        bytes_max: u64,
    ) -> Result<Counted, Failure> {
        let mut counted = Counted { is_exact: true, ..Counted::default() };
        let (mut next, mut bytes) = (from, 0);
        while next < to {
            if bytes >= bytes_max {
                counted.records += to - next;
                counted.is_exact = false;
                break;
            }
            let fetched = self.fetch(topic, partition, next, Seen::Committed, 0)?;
            if fetched.next <= next {
                break;
            }
            bytes += fetched.bytes;
            for batch in &fetched.batches {
                let (records, first_ms) = shown_of(batch, next, to)?;
                counted.records += records;
                counted.first_ms = counted.first_ms.or(first_ms);
            }
            next = fetched.next;
        }
        Ok(counted)
    }
}

/// Records of a batch within offsets, and the time of the first.
fn shown_of(batch: &Batch, from: u64, to: u64) -> Result<(u64, Option<i64>), Failure> {
    // One that lies within isn't taken apart, but for the first time.
    let lies_within = batch.base_offset() >= from && batch.next_offset() <= to;
    let (mut records, mut first_ms) = (0, None);
    for record in batch.records() {
        let record = match record {
            Ok(record) => record,
            // One that can't be taken apart stands for its records.
            Err(_) => return Ok((u64::from(batch.record_count()), Some(batch.max_timestamp_ms()))),
        };
        if !(from..to).contains(&record.offset) {
            continue;
        }
        records += 1;
        first_ms = first_ms.or(Some(record.timestamp_ms));
        if lies_within {
            return Ok((u64::from(batch.record_count()), first_ms));
        }
    }
    Ok((records, first_ms))
}

/// The batches of an answer that are shown (KIP-98): no markers, and of aborted transactions nothing.
fn shown(data: fetch::PartitionData, offset: u64, seen: Seen) -> Result<Fetched, exactlog::BatchError> {
    let positive = |number: i64| u64::try_from(number).unwrap_or_default();
    let mut fetched = Fetched {
        next: offset,
        start: positive(data.log_start_offset),
        high_watermark: positive(data.high_watermark),
        ..Fetched::default()
    };
    let mut aborted = data.aborted_transactions.unwrap_or_default();
    aborted.sort_by_key(|it| std::cmp::Reverse(it.first_offset));
    let mut aborting = BTreeSet::new();
    for batch in batches_of(data.records.unwrap_or_default())? {
        fetched.next = batch.next_offset();
        fetched.bytes += batch.len_bytes() as u64;
        let producer = batch.producer().map(|stamp| stamp.id.0);
        while aborted.last().is_some_and(|it| positive(it.first_offset) <= batch.last_offset()) {
            aborting.extend(aborted.pop().map(|it| it.producer_id));
        }
        if batch.is_control() {
            // The next marker of a producer that has aborted is the one of that.
            producer.map(|producer| aborting.remove(&producer));
            continue;
        }
        let is_aborted = batch.is_transactional() && producer.is_some_and(|it| aborting.contains(&it));
        if batch.next_offset() > offset && !(seen == Seen::Committed && is_aborted) {
            fetched.batches.push(batch);
        }
    }
    Ok(fetched)
}

/// The whole batches of an answer; a node may cut the last one.
fn batches_of(records: Records) -> Result<Vec<Batch>, exactlog::BatchError> {
    let mut bytes: Bytes = match &records.0[..] {
        [one] => one.clone(),
        all => all.concat().into(),
    };
    let mut batches = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let len = Batch::announced_len(&bytes)?;
        if len > bytes.len() {
            break;
        }
        batches.push(Batch::parse(bytes.split_to(len))?);
    }
    Ok(batches)
}
