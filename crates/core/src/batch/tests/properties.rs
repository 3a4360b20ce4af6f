//! Properties of the batch format: what is written is read back, and no bytes whatever make it panic.

use super::{around, built_golden, forged, whole};
use crate::batch::header::*;
use crate::batch::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// What a test appends: the model of one record.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sample {
    fn headers(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect()
    }

    fn as_record(&self, offset: u64) -> Record {
        let header = |(name, value): &(String, Option<Vec<u8>>)| RecordHeader {
            key: Bytes::from(name.clone()),
            value: value.clone().map(Bytes::from),
        };
        Record {
            offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.clone().map(Bytes::from),
            value: self.value.clone().map(Bytes::from),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

pub(super) fn sample() -> impl Strategy<Value = Sample> {
    let timestamp_ms = prop_oneof![any::<i64>(), 1_700_000_000_000_i64..1_700_000_100_000];
    let key = option::of(vec(any::<u8>(), 0..100));
    // Around 64 and 8192 bytes the length of a length changes.
    let value = option::of(prop_oneof![vec(any::<u8>(), 0..150), vec(any::<u8>(), 8100..8300)]);
    let headers = vec((".{0,8}", option::of(vec(any::<u8>(), 0..80))), 0..4);
    (timestamp_ms, key, value, headers).prop_map(|(timestamp_ms, key, value, headers)| Sample {
        timestamp_ms,
        key,
        value,
        headers,
    })
}

pub(super) fn build(samples: &[Sample], stamp: Option<ProducerStamp>) -> Batch {
    let mut builder = BatchBuilder::new(0);
    for sample in samples {
        builder.append(
            sample.timestamp_ms,
            sample.key.as_deref(),
            sample.value.as_deref(),
            &sample.headers(),
        );
    }
    builder.finish(stamp)
}

pub(super) fn stamp() -> impl Strategy<Value = Option<ProducerStamp>> {
    option::of(
        (0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX).prop_map(|(id, epoch, base_sequence)| ProducerStamp {
            id: ProducerId(id),
            epoch,
            base_sequence,
        }),
    )
}

/// Everything that may be done with a batch from outside. None of it may panic; the two walks must agree.
fn use_in_every_way(bytes: Bytes) -> Result<(), TestCaseError> {
    let _ = Batch::announced_len(&bytes);
    let Ok(batch) = Batch::parse(bytes) else { return Ok(()) };
    let _ = format!("{batch:?}");
    let _ = (batch.last_offset(), batch.next_offset(), batch.last_sequence(), batch.producer());
    let records: Result<Vec<_>, _> = batch.records().collect();
    prop_assert_eq!(records.as_ref().err().cloned(), batch.check_records().err());
    if batch.compression() == Compression::None && batch.record_count() > 0 {
        prop_assert_eq!(records.as_ref().err().cloned(), batch.landmarks(16).err());
    }
    if batch.check_client(usize::MAX).is_ok() && batch.compression() == Compression::None {
        prop_assert_eq!(records.map(|records| records.len()), Ok(batch.record_count() as usize));
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_record_is_found_by_its_offset_from_any_landmark(
        samples in vec((sample(), any::<bool>()), 1..40),
        base_offset in 0..1_u64 << 40,
        spacing_bytes in prop_oneof![Just(0_usize), 1..300_usize, Just(100_000)],
    ) {
        let (samples, keep): (Vec<Sample>, Vec<bool>) = samples.into_iter().unzip();
        let whole = build(&samples, None).placed(base_offset, 1);
        let cleaned = whole.cleaned(&keep, None).unwrap();
        for batch in [whole, cleaned] {
            let records: Vec<Record> = batch.records().map(Result::unwrap).collect();
            let landmarks = batch.landmarks(spacing_bytes).unwrap();
            prop_assert_eq!(landmarks.is_none(), records.is_empty());
            for offset in base_offset.saturating_sub(1)..=batch.next_offset() {
                let expected = records.iter().find(|record| record.offset == offset).cloned();
                prop_assert_eq!(&batch.record_at(offset, None).unwrap(), &expected);
                prop_assert_eq!(&batch.record_at(offset, landmarks.as_ref()).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn what_is_appended_is_read_back(samples in vec(sample(), 1..20), stamp in stamp(), base in 0..1_u64 << 62) {
        let batch = build(&samples, stamp).placed(base, 4);
        prop_assert_eq!(&Batch::parse(whole(&batch)), &Ok(batch.clone()));
        prop_assert_eq!(batch.producer(), stamp);
        prop_assert_eq!(batch.max_timestamp_ms(), samples.iter().map(|sample| sample.timestamp_ms).max().unwrap());
        prop_assert_eq!(batch.check_client(batch.len_bytes()), Ok(()));
        let read: Vec<_> = batch.records().collect::<Result<_, _>>().unwrap();
        let expected: Vec<_> = (base..).zip(&samples).map(|(offset, sample)| sample.as_record(offset)).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn a_record_lengthens_the_batch_by_exactly_what_was_asked(samples in vec(sample(), 1..20)) {
        let mut builder = BatchBuilder::new(0);
        prop_assert!(builder.is_empty());
        for (index, sample) in (0..).zip(&samples) {
            let (before, headers) = (builder.len_bytes(), sample.headers());
            let (key, value) = (sample.key.as_deref(), sample.value.as_deref());
            let (key_len, value_len) = (key.map(<[u8]>::len), value.map(<[u8]>::len));
            let added = builder.record_len_bytes(sample.timestamp_ms, key_len, value_len, &headers);
            prop_assert_eq!(builder.append(sample.timestamp_ms, key, value, &headers), index);
            prop_assert_eq!(builder.len_bytes(), before + added);
            prop_assert_eq!(builder.record_count(), index + 1);
        }
        let len_bytes = builder.len_bytes();
        prop_assert_eq!(builder.finish(None).len_bytes(), len_bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        use_in_every_way(bytes.into())?;
    }

    #[test]
    fn random_headers_with_right_length_and_crc_never_panic(
        random in prop::array::uniform32(any::<u8>()),
        from in ATTRIBUTES_AT..HEADER_BYTES,
    ) {
        // Replaces some fields from `from` on, which random bytes alone would hardly ever get past the CRC.
        let batch = forged(&built_golden(), |header| {
            let to = HEADER_BYTES.min(from + 4 + usize::from(random[0] % 28));
            header[from..to].copy_from_slice(&random[..to - from]);
        });
        if let Ok(batch) = batch {
            use_in_every_way(whole(&batch))?;
        }
    }

    #[test]
    fn random_records_in_a_sound_batch_never_panic(body in vec(any::<u8>(), 7..120), records in 1..8_i32) {
        if let Ok(batch) = around(&body, records) {
            use_in_every_way(whole(&batch))?;
        }
    }

    #[test]
    fn changed_records_in_a_sound_batch_never_panic(
        samples in vec(sample(), 1..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let batch = build(&samples, None);
        let mut body = batch.body().to_vec();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(batch) = around(&body, samples.len() as i32) {
            use_in_every_way(whole(&batch))?;
        }
    }
}
