//! What `replay` and `topic repartition` have in common: bytes stay as they are, codecs stay or are chosen, and tables
//! are no targets.

use crate::common::{Place, lines};
use exactlog::{Bytes, Compression, Event, Log, RecordHeader};
use serde_json::json;

/// CRC-32C, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

/// A batch of one record, as another client may send it: the name of its header is any bytes.
fn batch_with_header(name: &[u8]) -> Vec<u8> {
    let field = |bytes: &[u8]| [&[2 * bytes.len() as u8], bytes].concat();
    // Attributes, two deltas, key, value, one header.
    let record = [&[0, 0, 0][..], &field(b"k"), &field(b"v"), &[2], &field(name), &field(b"\xfe")].concat();
    let mut behind_crc = vec![0, 0, 0, 0, 0, 0];
    behind_crc.extend([5_i64.to_be_bytes(), 5_i64.to_be_bytes(), (-1_i64).to_be_bytes()].concat());
    behind_crc.extend([0xff; 2 + 4]);
    behind_crc.extend(1_i32.to_be_bytes());
    behind_crc.extend(field(&record));
    let mut batch = vec![0; 8];
    batch.extend((4 + 1 + 4 + behind_crc.len() as i32).to_be_bytes());
    batch.extend([0xff, 0xff, 0xff, 0xff, 2]);
    batch.extend(crc(&behind_crc).to_be_bytes());
    batch.extend(behind_crc);
    batch
}

#[test]
fn a_header_whose_name_is_no_text_is_copied_as_it_is() {
    const NAME: &[u8] = b"\xff\x00name";
    let place = Place::with_topic(1);
    let log = Log::open(&place.data).unwrap();
    let t = log.open_topic("t").unwrap();
    log.append_batch(&t, 0, batch_with_header(NAME).into()).unwrap();
    log.close().unwrap();
    place.run(&["topic", "repartition", "t", "--into", "u", "-p", "2", "--execute"]).good();
    place.run(&["topic", "create", "v"]).good();
    place.run(&["replay", "t", "--from", "start", "--into", "v", "--execute"]).good();
    let log = Log::open(&place.data).unwrap();
    let header = RecordHeader { key: NAME.into(), value: Some(Bytes::from_static(b"\xfe")) };
    for topic in ["t", "u", "v"] {
        let topic = log.open_topic(topic).unwrap();
        let records: Vec<_> = log.read_view().records(&topic).map(Result::unwrap).collect();
        assert_eq!(records.len(), 1, "{topic:?}");
        assert_eq!(
            (records[0].key(), records[0].value(), records[0].timestamp_ms),
            (&b"k"[..], &b"v"[..], 5)
        );
        assert_eq!(records[0].headers, std::slice::from_ref(&header), "{topic:?}");
    }
}

/// One partition in zstd and one without compression, with twice the bytes in the first.
fn in_two_codecs(place: &Place) {
    let log = Log::open(&place.data).unwrap();
    let t = log.open_topic("t").unwrap();
    let mut producer = log.producer("p").unwrap();
    for (partition, codec, count) in [(0, Compression::Zstd, 200), (1, Compression::None, 100)] {
        producer.set_compression(codec).unwrap();
        let mut transaction = producer.begin();
        for number in 0..count {
            let event = Event::new(format!("{number}"), "the same again and again").at(number);
            transaction.send_to(&t, partition, event).unwrap();
        }
        transaction.blocking_commit().unwrap();
    }
    log.close().unwrap();
}

fn codecs(place: &Place, topic: &str) -> Vec<String> {
    let written = place.run(&["consume", topic, "-q", "-f", "%a{compression}\\n"]).good();
    let mut all: Vec<String> = written.lines().map(ToString::to_string).collect();
    all.dedup();
    all
}

#[test]
fn a_copy_is_compressed_as_its_source_is_or_as_it_was_asked_for() {
    let place = Place::with_topic(2);
    in_two_codecs(&place);
    assert_eq!(codecs(&place, "t"), ["zstd", "none"]);
    let repartition = |into: &str, more: &[&str]| {
        let all = [&["topic", "repartition", "t", "--into", into, "-p", "1", "--execute"], more].concat();
        place.run(&all).good();
        codecs(&place, into)
    };
    // Both are in each transaction; most of its bytes were compressed.
    assert_eq!(repartition("as-most", &[]), ["zstd"]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        assert_eq!(repartition(codec, &["--compression", codec]), [codec]);
    }
    place.run(&["topic", "create", "again"]).good();
    let replay = ["replay", "t", "--from", "start", "--into", "again", "--execute", "--compression", "lz4"];
    place.run(&replay).good();
    assert_eq!(codecs(&place, "again"), ["lz4"]);
    assert_eq!((place.records("t"), place.records("as-most"), place.records("again")), (300, 300, 300));
    place.run(&["replay", "t", "--from", "start", "--into", "again", "--compression", "rar"]).fails(2, "rar");
}

#[test]
fn a_table_is_no_target_and_is_not_repartitioned_but_its_changes_are_replayed() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t", "-k", "chair"], lines(0..3)).good();
    crate::tables::put(&place, &[("chair", "12"), ("table", "3")]);
    for execute in [&[][..], &["--execute"]] {
        for (verb, name, way_out) in [
            (&["replay", "t", "--from", "start", "--into", "tally"][..], "\"tally\" is a table", "table put"),
            (
                &["topic", "repartition", "tally", "--into", "u", "-p", "2"],
                "\"tally\" is a table",
                "table scan",
            ),
        ] {
            let refused = place.run(&[verb, execute].concat());
            refused.fails(1, name);
            refused.fails(1, way_out);
        }
    }
    place.run(&["topic", "repartition", "t", "--into", "tally", "-p", "1"]).fails(1, "\"tally\" exists");
    assert_eq!(place.run(&["consume", "tally", "-q", "-f", "%k=%v\\n"]).good(), "chair=12\ntable=3\n");
    place.run(&["topic", "create", "u"]).good();
    let done = ["replay", "tally", "--from", "start", "--into", "u", "--execute", "--format", "json"];
    assert_eq!(place.run(&done).json()["copied"], json!(2));
    assert_eq!(place.run(&["consume", "u", "-q", "-f", "%k=%v\\n"]).good(), "chair=12\ntable=3\n");
}
