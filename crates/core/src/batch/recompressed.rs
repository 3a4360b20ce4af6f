//! The same records in another codec (`compression.type` of a topic).
//!
//! Invariants
//!   * the records are the same bytes, once decompressed: keys, values, headers, times and deltas
//!   * of the header length, codec and CRC are new; offsets, times, producer, sequence and other attributes stay
//!   * what comes out can be read: the records were walked

use super::header::*;
use super::{BATCH_BYTES_MAX, Batch, BatchError, Compression, CompressionFault, compression};
use bytes::Bytes;

impl Batch {
    /// The batch with its records in this codec; the batch itself, not a copy, if it has that one already. Its length
    /// may be another one: limits are to be checked anew.
    ///
    /// # Errors
    /// [`BatchError::CodecMissing`]; [`BatchError::Compression`] if the records can't be decompressed, or are larger
    /// than what readers take; whatever is wrong with the records themselves.
    pub fn recompressed(&self, codec: Compression) -> Result<Batch, BatchError> {
        if self.compression() == codec {
            return Ok(self.clone());
        }
        let plain = self.with_body(Compression::None, self.decompressed(compression::RECORDS_BYTES_MAX)?)?;
        plain.check_records()?;
        match codec {
            Compression::None => Ok(plain),
            codec => self.with_body(codec, compression::compress(codec, plain.body())?.into()),
        }
    }

    fn with_body(&self, codec: Compression, body: Bytes) -> Result<Batch, BatchError> {
        let max_bytes = BATCH_BYTES_MAX - HEADER_BYTES;
        if body.len() > max_bytes {
            let fault = CompressionFault::TooLarge { max_bytes };
            return Err(BatchError::Compression { compression: codec, fault });
        }
        let mut header = self.header;
        let attributes = self.attributes() & !CODEC_BITS | u16::from(codec.id());
        set(&mut header, ATTRIBUTES_AT, attributes.to_be_bytes());
        set(&mut header, LENGTH_AT, ((LENGTH_LEAST + body.len()) as i32).to_be_bytes());
        let crc = crc_of(&header, &body);
        set(&mut header, CRC_AT, crc.to_be_bytes());
        Batch::from_verified_parts(header, body)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, ProducerStamp};
    use super::*;
    use crate::ids::ProducerId;
    use proptest::prelude::*;

    fn codecs() -> impl Iterator<Item = Compression> {
        Compression::ALL.into_iter().filter(|codec| codec.is_available())
    }

    fn batch(values: &[Vec<u8>], codec: Compression) -> Batch {
        let mut builder = BatchBuilder::new(0);
        for (at, value) in values.iter().enumerate() {
            let key = (at % 3 != 0).then(|| format!("k{at}"));
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"a", Some(value)), (b"empty", None)];
            let time_ms = 1_000 - 7 * at as i64;
            builder.append(time_ms, key.as_ref().map(String::as_bytes), Some(value), &headers[at % 3..]);
        }
        let stamp = ProducerStamp { id: ProducerId(7), epoch: 3, base_sequence: 40 };
        let batch = builder.finish_compressed(Some(stamp), codec).unwrap();
        batch.in_transaction().placed(100, 9)
    }

    /// The fields of a header that no codec may change.
    fn kept(batch: &Batch) -> Vec<u8> {
        let header = batch.header();
        let attributes = (batch.attributes() & !CODEC_BITS).to_be_bytes();
        let parts = [&header[..LENGTH_AT], &header[BEHIND_LENGTH_AT..CRC_AT], &attributes];
        [&parts.concat()[..], &header[ATTRIBUTES_AT + 2..]].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn nothing_but_the_codec_changes(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
        ) {
            for (from, to) in codecs().flat_map(|from| codecs().map(move |to| (from, to))) {
                let before = batch(&values, from);
                let after = before.recompressed(to).unwrap();
                prop_assert_eq!(after.compression(), to);
                let bytes = Bytes::from([&after.header()[..], after.body()].concat());
                prop_assert_eq!(&Batch::parse(bytes).unwrap(), &after);
                prop_assert_eq!(kept(&after), kept(&before), "{} to {}", from, to);
                let plain = |batch: &Batch| batch.decompressed(usize::MAX / 2).unwrap();
                prop_assert_eq!(plain(&after), plain(&before));
                // Whoever sends it again sends the same bytes.
                prop_assert_eq!(before.recompressed(to).unwrap(), after);
            }
        }

        #[test]
        fn a_codec_adds_no_more_than_it_says(
            chunks in prop::collection::vec((any::<[u8; 4]>(), 0_usize..300, any::<u64>()), 0..400),
        ) {
            // Short repeats between noise are what costs a codec most.
            let mut plain = Vec::new();
            for (repeated, noise, mut seed) in chunks {
                plain.extend(repeated);
                plain.extend((0..noise).map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 56) as u8
                }));
                plain.extend(repeated);
            }
            for codec in codecs() {
                let added = compression::compress(codec, &plain).unwrap().len().saturating_sub(plain.len());
                prop_assert!(added <= codec.bytes_added_max(plain.len()), "{codec}: {added} of {}", plain.len());
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let Some(codec) = codecs().find(|codec| *codec != Compression::None) else { return };
        let good = batch(&[b"value".to_vec()], codec);
        let cut = good.with_body(codec, good.body().slice(..good.body().len() - 3)).unwrap();
        let error = cut.recompressed(Compression::None).unwrap_err();
        assert!(
            matches!(error, BatchError::Compression { compression, .. } if compression == codec),
            "{error}"
        );
        // It decompresses, but what comes out isn't what the header says.
        let other = batch(&[b"a".to_vec(), b"b".to_vec()], Compression::None);
        let packed = compression::compress(codec, other.body()).unwrap();
        let wrong = good.with_body(codec, packed.into()).unwrap();
        for to in codecs().filter(|to| *to != codec) {
            assert!(wrong.recompressed(to).is_err(), "{to}");
        }
        assert_eq!(wrong.recompressed(codec).unwrap(), wrong, "what has the codec isn't looked at");
    }
}
