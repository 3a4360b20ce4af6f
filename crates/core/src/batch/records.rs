//! The records of a batch: one strict walk, with or without keeping what it meets.
//!
//! A compressed body is decompressed once, before the walk; control records aren't interpreted.
//!
//! Invariants
//!   * nothing is copied: keys, values and headers are slices of the body, or of what it is decompressed to
//!   * no memory is reserved on the word of a length or count; a count is bounded by the bytes that are left
//!   * lengths are exact: no byte of the body is skipped or read twice
//!   * after an error, or the end, the iterator stays at `None`
//!   * from whatever landmark a walk begins, it meets the same records

use super::varint::{read_varint, read_varlong};
use super::{Batch, BatchError, Compression, RecordFault, TimestampType, compression};
use bytes::Bytes;
use std::ops::Range;
use std::str::Utf8Error;

/// Least bytes of a record: length, attributes, two deltas, two absent fields, no headers.
pub(super) const RECORD_BYTES_LEAST: usize = 7;

/// Least bytes of a record header: an empty key, an absent value.
const RECORD_HEADER_BYTES_LEAST: usize = 2;

/// One record; its bytes are slices of the batch, which they keep in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: u64,
    /// Its time in ms since 1970: what the producer said, or that of the append ([`TimestampType`]).
    pub timestamp_ms: i64,
    /// The key; `None` and empty are different things.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone where the topic is compacted.
    pub value: Option<Bytes>,
    /// In the producer's order; keys may repeat.
    pub headers: Vec<RecordHeader>,
}

/// One header of a record: metadata that travels beside key and value (KIP-82).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The name. UTF-8 by convention, which nothing enforces: see [`RecordHeader::key_str`].
    pub key: Bytes,
    /// The value; `None` and empty are different things.
    pub value: Option<Bytes>,
}

impl RecordHeader {
    /// The name as text.
    pub fn key_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.key)
    }
}

/// Iterator over the records of one batch, in offset order.
#[derive(Clone, Debug)]
pub struct Records {
    batch: Batch,
    /// The records, uncompressed; the error if they can't be had, until it was given out.
    body: Result<Bytes, BatchError>,
    walk: Walk,
}

impl Records {
    /// Length of the records in memory, in bytes: of a compressed batch what it was decompressed to, 0 if that
    /// failed.
    pub fn len_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, Bytes::len)
    }
}

impl Batch {
    /// The records, checked one by one as they are read. A compressed body is decompressed here, to at most
    /// [`compression::RECORDS_BYTES_MAX`] bytes; if it can't be, the only item is the error
    /// ([`BatchError::CodecMissing`], [`BatchError::Compression`]).
    pub fn records(&self) -> Records {
        let body = self.decompressed(compression::RECORDS_BYTES_MAX);
        Records { batch: self.clone(), body, walk: Walk::default() }
    }

    /// The body without its compression; the body itself, not a copy, where it has none.
    ///
    /// # Errors
    /// [`BatchError::CodecMissing`], [`BatchError::Compression`]: also when it would have more than `max_bytes`.
    pub fn decompressed(&self, max_bytes: usize) -> Result<Bytes, BatchError> {
        match self.compression() {
            Compression::None => Ok(self.body().clone()),
            // What compaction leaves of a batch without records has no body that any codec wrote.
            _ if self.record_count() == 0 && self.body().is_empty() => Ok(Bytes::new()),
            codec => compression::decompress(codec, self.body(), max_bytes).map(Bytes::from),
        }
    }

    /// Walks all records once, and notes where some of them begin: the first, and then one every `spacing_bytes` or a
    /// record further. `None` for a compressed batch, and for one without records.
    ///
    /// # Errors
    /// What [`Batch::records`] would find.
    pub fn landmarks(&self, spacing_bytes: usize) -> Result<Option<Landmarks>, BatchError> {
        if self.compression() != Compression::None || self.record_count() == 0 {
            return Ok(None);
        }
        let (mut walk, mut marks) = (Walk::default(), Vec::new());
        let mut due_at = 0;
        while !walk.ended {
            if walk.position >= due_at && walk.index < self.record_count() {
                marks.push(Landmark::of(&walk));
                due_at = walk.position + spacing_bytes;
            }
            walk.next_record(self, &self.body, |_, _| ())?;
        }
        Ok(Some(Landmarks { marks: marks.into() }))
    }

    /// The record at an offset, if there is one: found from the last of its batch's landmarks in front of it, or from
    /// the first record. A compressed body is decompressed, as for [`Batch::records`].
    ///
    /// The caller vouches that the landmarks are those of these very bytes.
    ///
    /// # Errors
    /// As the items of [`Batch::records`], as far as is read.
    pub fn record_at(
        &self,
        offset: u64,
        landmarks: Option<&Landmarks>,
    ) -> Result<Option<Record>, BatchError> {
        let Some(wanted) = offset.checked_sub(self.base_offset()) else { return Ok(None) };
        let body = self.decompressed(compression::RECORDS_BYTES_MAX)?;
        let mut walk = landmarks.map_or_else(Walk::default, |landmarks| landmarks.before(wanted));
        let mut headers = Vec::new();
        while let Some(spans) = walk.next_record(self, &body, |key, value| headers.push((key, value)))? {
            let delta = u64::from(spans.offset_delta);
            if delta >= wanted {
                let headers = headers.into_iter().map(|(key, value)| header_of(&body, key, value)).collect();
                return Ok((delta == wanted).then(|| spans.into_record(self, &body, headers)));
            }
            headers.clear();
        }
        Ok(None)
    }

    /// Walks all records without keeping any: whether [`Batch::records`] would be free of errors.
    pub(super) fn check_records(&self) -> Result<(), BatchError> {
        let body = self.decompressed(compression::RECORDS_BYTES_MAX)?;
        let mut walk = Walk::default();
        while walk.next_record(self, &body, |_, _| ())?.is_some() {}
        Ok(())
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let body = match &self.body {
            Ok(body) => body,
            Err(error) => {
                let error = error.clone();
                let ended = std::mem::replace(&mut self.walk.ended, true);
                return (!ended).then_some(Err(error));
            }
        };
        let mut headers = Vec::new();
        let spans =
            self.walk.next_record(&self.batch, body, |key, value| headers.push(header_of(body, key, value)));
        match spans.transpose()? {
            Ok(spans) => Some(Ok(spans.into_record(&self.batch, body, headers))),
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::iter::FusedIterator for Records {}

/// Where some records of one batch begin ([`Batch::landmarks`]): a single one is found without reading all that lie in
/// front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landmarks {
    /// In order; the first is the first record's.
    marks: Box<[Landmark]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Landmark {
    /// In the body; a batch is shorter than 2 GiB.
    position: u32,
    index: u32,
    next_delta: u32,
}

impl Landmark {
    fn of(walk: &Walk) -> Landmark {
        Landmark { position: walk.position as u32, index: walk.index, next_delta: walk.next_delta }
    }
}

impl Landmarks {
    /// What they take in memory, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.marks.len() * size_of::<Landmark>()
    }

    /// A walk that begins in front of the record with this offset delta.
    fn before(&self, delta: u64) -> Walk {
        match self.behind(delta).checked_sub(1).map(|last| self.marks[last]) {
            Some(Landmark { position, index, next_delta }) => {
                Walk { position: position as usize, index, next_delta, ended: false }
            }
            None => Walk::default(),
        }
    }

    /// The first one behind this offset delta. Records of a batch are mostly of one size, so it is looked for where it
    /// would be then: halving all of them touches memory that nothing else needs.
    fn behind(&self, delta: u64) -> usize {
        const AROUND: usize = 8;
        let is_before = |mark: &Landmark| u64::from(mark.next_delta) <= delta;
        let Some(last) = self.marks.last() else { return 0 };
        let guess =
            (delta.min(last.next_delta.into()) as usize * self.marks.len()) / (last.next_delta as usize + 1);
        let (from, to) = (guess.saturating_sub(AROUND), (guess + AROUND).min(self.marks.len()));
        let is_near = is_before(&self.marks[from]) && self.marks.get(to).is_none_or(|mark| !is_before(mark));
        match is_near {
            true => from + self.marks[from..to].partition_point(is_before),
            false => self.marks.partition_point(is_before),
        }
    }
}

/// Where the walk over the records of one batch stands.
#[derive(Clone, Debug, Default)]
struct Walk {
    position: usize,
    index: u32,
    /// Least offset delta that the next record may have.
    next_delta: u32,
    ended: bool,
}

/// Where in the body the parts of one record lie.
struct RecordSpans {
    timestamp_delta_ms: i64,
    offset_delta: u32,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

impl RecordSpans {
    #[inline]
    fn into_record(self, batch: &Batch, body: &Bytes, headers: Vec<RecordHeader>) -> Record {
        Record {
            offset: batch.base_offset() + u64::from(self.offset_delta),
            timestamp_ms: match batch.timestamp_type() {
                // Wraps as the builder does, and as Kafka does.
                TimestampType::CreateTime => batch.base_timestamp_ms().wrapping_add(self.timestamp_delta_ms),
                TimestampType::LogAppendTime => batch.max_timestamp_ms(),
            },
            key: self.key.map(|key| body.slice(key)),
            value: self.value.map(|value| body.slice(value)),
            headers,
        }
    }
}

fn header_of(body: &Bytes, key: Range<usize>, value: Option<Range<usize>>) -> RecordHeader {
    RecordHeader { key: body.slice(key), value: value.map(|value| body.slice(value)) }
}

impl Walk {
    /// Reads the next record, handing each header to `on_header`; `None` once the body ends as it should.
    #[inline]
    fn next_record(
        &mut self,
        batch: &Batch,
        body: &Bytes,
        on_header: impl FnMut(Range<usize>, Option<Range<usize>>),
    ) -> Result<Option<RecordSpans>, BatchError> {
        if self.ended {
            return Ok(None);
        }
        self.ended = true; // whatever returns early below is the end
        if self.index == batch.record_count() {
            return match body.len() - self.position {
                0 => Ok(None),
                extra_bytes => Err(BatchError::BytesBehindRecords { extra_bytes }),
            };
        }
        let spans = self
            .read_record(batch, body, on_header)
            .map_err(|fault| BatchError::Record { index: self.index, fault })?;
        self.index += 1;
        self.next_delta = spans.offset_delta + 1;
        self.ended = false;
        Ok(Some(spans))
    }

    #[inline]
    fn read_record(
        &mut self,
        batch: &Batch,
        body: &Bytes,
        mut on_header: impl FnMut(Range<usize>, Option<Range<usize>>),
    ) -> Result<RecordSpans, RecordFault> {
        let mut reader = Reader { bytes: body, position: self.position };
        let record = reader.span()?;
        self.position = record.end;
        let mut reader = Reader { bytes: &body[..record.end], position: record.start };
        reader.skip_attributes()?;
        let timestamp_delta_ms = reader.varlong()?;
        let offset_delta = self.check_offset_delta(batch, reader.varint()?)?;
        let key = reader.nullable_span()?;
        let value = reader.nullable_span()?;
        for _ in 0..reader.header_count()? {
            let key = reader.span()?;
            on_header(key, reader.nullable_span()?);
        }
        match reader.left_bytes() {
            0 => Ok(RecordSpans { timestamp_delta_ms, offset_delta, key, value }),
            extra_bytes => Err(RecordFault::TrailingBytes { extra_bytes }),
        }
    }

    /// Deltas count up from 0 without gaps. Only a batch with fewer records than offsets, which compaction has
    /// been at, has gaps; there they rise and leave room for the records to come.
    fn check_offset_delta(&self, batch: &Batch, found: i32) -> Result<u32, RecordFault> {
        let records_behind = i64::from(batch.record_count()) - 1 - i64::from(self.index);
        let least = i64::from(self.next_delta);
        let greatest = i64::from(batch.last_offset_delta()) - records_behind;
        match u32::try_from(found) {
            Ok(delta) if (least..=greatest).contains(&i64::from(delta)) => Ok(delta),
            _ => Err(RecordFault::OffsetDelta { found, least, greatest }),
        }
    }
}

/// Reads fields in order; `bytes` ends where the record does, so that nothing is read beyond it.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn left_bytes(&self) -> usize {
        self.bytes.len() - self.position
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, RecordFault> {
        let (value, len) = read_varint(&self.bytes[self.position..])?;
        self.position += len;
        Ok(value)
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, RecordFault> {
        let (value, len) = read_varlong(&self.bytes[self.position..])?;
        self.position += len;
        Ok(value)
    }

    /// None of a record's attribute bits has a meaning, and readers ignore them, as Kafka's do.
    fn skip_attributes(&mut self) -> Result<(), RecordFault> {
        if self.left_bytes() == 0 {
            return Err(RecordFault::Truncated);
        }
        self.position += 1;
        Ok(())
    }

    /// A length, then so many bytes.
    #[inline]
    fn span(&mut self) -> Result<Range<usize>, RecordFault> {
        let length = self.varint()?;
        self.take(length)
    }

    /// As `span`, where the length -1 stands for absent.
    #[inline]
    fn nullable_span(&mut self) -> Result<Option<Range<usize>>, RecordFault> {
        match self.varint()? {
            -1 => Ok(None),
            length => self.take(length).map(Some),
        }
    }

    #[inline]
    fn take(&mut self, length: i32) -> Result<Range<usize>, RecordFault> {
        let left_bytes = self.left_bytes();
        match usize::try_from(length) {
            Ok(len) if len <= left_bytes => {
                let start = self.position;
                self.position += len;
                Ok(start..self.position)
            }
            _ => Err(RecordFault::Length { length, left_bytes }),
        }
    }

    fn header_count(&mut self) -> Result<usize, RecordFault> {
        let count = self.varint()?;
        let left_bytes = self.left_bytes();
        match usize::try_from(count) {
            Ok(headers) if headers <= left_bytes / RECORD_HEADER_BYTES_LEAST => Ok(headers),
            _ => Err(RecordFault::HeaderCount { count, left_bytes }),
        }
    }
}
