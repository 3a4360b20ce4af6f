//! Comparison with another implementation of the format, the crate `kafka-protocol`.
//!
//! It gets only bytes that our decoder has accepted: it reserves memory on the word of counts from outside.

use super::properties::{Sample, build, sample, stamp};
use super::{around, whole};
use crate::batch::*;
use bytes::BytesMut;
use kafka_protocol::records::{
    Compression as TheirCompression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn decoded_by_them(batch: &Batch) -> Vec<TheirRecord> {
    RecordBatchDecoder::decode(&mut whole(batch)).expect("they accept what we accept").records
}

/// The oracle keeps headers in a map: of equal names it has the last.
fn same(batch: &Batch, ours: &Record, theirs: &TheirRecord) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.offset, theirs.offset as u64);
    prop_assert_eq!(ours.timestamp_ms, theirs.timestamp);
    prop_assert_eq!(&ours.key, &theirs.key);
    prop_assert_eq!(&ours.value, &theirs.value);
    let our_headers: BTreeMap<_, _> =
        ours.headers.iter().map(|header| (header.key_str().unwrap().to_owned(), &header.value)).collect();
    let their_headers: BTreeMap<_, _> =
        theirs.headers.iter().map(|(name, value)| (name.to_string(), value)).collect();
    prop_assert_eq!(our_headers, their_headers);
    prop_assert_eq!(batch.leader_epoch(), theirs.partition_leader_epoch);
    prop_assert_eq!(batch.producer().map_or(-1, |stamp| stamp.id.0), theirs.producer_id);
    prop_assert_eq!(batch.producer().map_or(-1, |stamp| stamp.epoch), theirs.producer_epoch);
    Ok(())
}

/// Its times are sums of 64 bits that panic on overflow in debug builds, so they stay away from the ends.
fn near(mut samples: Vec<Sample>) -> Vec<Sample> {
    for sample in &mut samples {
        sample.timestamp_ms >>= 2;
    }
    samples
}

proptest! {
    #[test]
    fn another_decoder_reads_the_same_from_a_built_batch(
        samples in vec(sample(), 1..8).prop_map(near),
        stamp in stamp().prop_map(without_wrap),
        base in 0..1_u64 << 62,
    ) {
        let batch = build(&samples, stamp).placed(base, 4);
        let theirs = decoded_by_them(&batch);
        prop_assert_eq!(theirs.len(), samples.len());
        for (ours, theirs) in batch.records().zip(&theirs) {
            same(&batch, &ours.unwrap(), theirs)?;
        }
    }

    #[test]
    fn a_batch_of_another_encoder_passes_every_check(
        samples in vec(sample(), 1..8).prop_map(near),
        stamp in stamp().prop_map(without_wrap),
        base in 0..1_u64 << 62,
    ) {
        let batch = build(&samples, stamp).placed(base, 4);
        let records = decoded_by_them(&batch);
        let options = RecordEncodeOptions { version: 2, compression: TheirCompression::None };
        let mut bytes = BytesMut::new();
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();

        let theirs = Batch::parse(bytes.freeze()).unwrap();
        prop_assert_eq!(theirs.check_client(usize::MAX), Ok(()));
        prop_assert_eq!(theirs.max_timestamp_ms(), batch.max_timestamp_ms());
        prop_assert_eq!(theirs.producer(), batch.producer());
        for (theirs, record) in theirs.records().zip(&records) {
            same(&batch, &theirs.unwrap(), record)?;
        }
    }

    #[test]
    fn another_decoder_agrees_on_changed_records_that_we_accept(
        samples in vec(sample(), 1..4).prop_map(near),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut body = build(&samples, None).body().to_vec();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let Ok(batch) = around(&body, samples.len() as i32) else { return Ok(()) };
        let Ok(ours) = batch.records().collect::<Result<Vec<_>, _>>() else { return Ok(()) };
        // The one thing in which it is stricter: names of headers must be UTF-8.
        let names_are_text = ours.iter().flat_map(|record| &record.headers).all(|header| header.key_str().is_ok());
        let times_may_have_wrapped = ours.iter().any(|record| record.timestamp_ms.unsigned_abs() > 1 << 62);
        if names_are_text && !times_may_have_wrapped {
            for (ours, theirs) in ours.iter().zip(&decoded_by_them(&batch)) {
                same(&batch, ours, theirs)?;
            }
        }
    }
}

/// Its sequences don't wrap at 2^31 as they should.
fn without_wrap(stamp: Option<ProducerStamp>) -> Option<ProducerStamp> {
    stamp.map(|stamp| ProducerStamp { base_sequence: stamp.base_sequence >> 1, ..stamp })
}
