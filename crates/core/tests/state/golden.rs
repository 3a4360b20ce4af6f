//! The bytes of every kind of command, written down by hand: this is what journals hold.
//!
//! If a test here fails, the layout changed: give the kind a new version, keep reading the old one, and add new
//! bytes beside these. Never edit bytes that a release has written. docs/FORMAT.md says the same in words.

use crate::common::*;
use bytes::Bytes;
use exactlog_core::batch::{Batch, BatchBuilder, ProducerStamp, TimestampType};
use exactlog_core::codec;
use exactlog_core::command::*;
use exactlog_core::ids::{DedupId, MemberId, Partition, ProducerId, TimerId, TopicId};

/// The time of every command here: 0x0102030405060708 ms.
const TIME_MS: i64 = 0x0102_0304_0506_0708;
const TIME: &str = "08 07 06 05 04 03 02 01";
const NO_BATCHES: &str = "00 00 00 00";

/// Topic 7, partition 3, as every field of that type has it.
const PARTITION: &str = "07 00 00 00  03 00 00 00";

fn partition() -> Partition {
    part(TopicId(7), 3)
}

/// Time and number of batches, and what follows.
fn plain(fields: &[&str]) -> Vec<u8> {
    bytes(&[&[TIME, NO_BATCHES], fields].concat())
}

fn bytes(hex: &[&str]) -> Vec<u8> {
    let digits: Vec<_> = hex.concat().bytes().filter(|byte| *byte != b' ').collect();
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("hex is ASCII");
        u8::from_str_radix(text, 16).expect("the test has hex digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// Both directions: the command has these bytes, and these bytes are the command.
fn is(kind: u8, command: &Command, head: &[u8], bodies: &[u8]) {
    is_version(kind, 1, command, head, bodies);
}

fn is_version(kind: u8, version: u8, command: &Command, head: &[u8], bodies: &[u8]) {
    let encoded = codec::encode(TIME_MS, command);
    assert_eq!((encoded.kind, encoded.version), (kind, version), "{command:?}");
    assert_eq!(hex(&encoded.head), hex(head), "{command:?}");
    assert_eq!(hex(&encoded.bodies.concat()), hex(bodies), "{command:?}");
    assert!(codec::verify(kind, version, head, bodies));
    let (head, bodies) = (Bytes::copy_from_slice(head), Bytes::copy_from_slice(bodies));
    assert_eq!(codec::decode(kind, version, &head, &bodies), Ok((TIME_MS, command.clone())));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

/// One record "k" -> "v" at time 1000, from producer 5, epoch 2, sequence 9.
fn batch() -> Batch {
    let mut builder = BatchBuilder::new(16);
    builder.append(1000, Some(b"k"), Some(b"v"), &[]);
    builder.finish(Some(ProducerStamp { id: ProducerId(5), epoch: 2, base_sequence: 9 }))
}

/// The header of [`batch`], big-endian as Kafka's.
const BATCH_HEADER: &[&str] = &[
    "00 00 00 00 00 00 00 00", // base offset
    "00 00 00 3a",             // bytes behind this field: 49 of the header, 9 of the body
    "ff ff ff ff",             // leader epoch: none yet
    "02",                      // magic
    "a3 11 15 ee",             // crc-32c, computed by another program
    "00 00",                   // attributes
    "00 00 00 00",             // last offset delta
    "00 00 00 00 00 00 03 e8", // base timestamp
    "00 00 00 00 00 00 03 e8", // max timestamp
    "00 00 00 00 00 00 00 05", // producer id
    "00 02",                   // producer epoch
    "00 00 00 09",             // base sequence
    "00 00 00 01",             // record count
];

/// The body of [`batch`]: length 8, attributes, timestamp delta, offset delta, key, value, no headers.
const BATCH_BODY: &str = "10  00  00  00  02 6b  02 76  00";

#[test]
fn open_is_kind_1() {
    is(1, &Command::Open, &plain(&[]), &[]);
}

fn plain_config(max_message_bytes: u32, segment_bytes: u32, segment_ms: u64) -> TopicConfig {
    TopicConfig { max_message_bytes, segment_bytes, segment_ms, ..TopicConfig::default() }
}

/// Settings that only version 2 has a form for, each with another value.
fn full_config() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy::CompactAndDelete,
        retention_ms: Some(4),
        retention_bytes: Some(5),
        delete_retention_ms: 6,
        min_compaction_lag_ms: 7,
        max_compaction_lag_ms: Some(8),
        min_cleanable_dirty_permille: 9,
        timestamp_type: TimestampType::LogAppendTime,
        timestamp_before_max_ms: Some(10),
        timestamp_after_max_ms: None,
        ..plain_config(1, 2, 3)
    }
}

/// The fields of [`full_config`].
const FULL_CONFIG: &[&str] = &[
    "01 00 00 00",                // max.message.bytes
    "02 00 00 00",                // segment.bytes
    "03 00 00 00 00 00 00 00",    // segment.ms
    "02",                         // cleanup.policy
    "01 04 00 00 00 00 00 00 00", // retention.ms
    "01 05 00 00 00 00 00 00 00", // retention.bytes
    "06 00 00 00 00 00 00 00",    // delete.retention.ms
    "07 00 00 00 00 00 00 00",    // min.compaction.lag.ms
    "01 08 00 00 00 00 00 00 00", // max.compaction.lag.ms
    "09 00 00 00",                // min.cleanable.dirty.ratio
    "01",                         // message.timestamp.type
    "01 0a 00 00 00 00 00 00 00", // message.timestamp.before.max.ms
    "00 00 00 00 00 00 00 00 00", // message.timestamp.after.max.ms
];

#[test]
fn create_topic_and_alter_topic_have_a_version_2_for_what_version_1_cannot_say() {
    let command = Command::CreateTopic { name: "t.1".into(), partitions: 16, config: full_config() };
    let head = plain(&[&["03 00 00 00  74 2e 31", "10 00 00 00"], FULL_CONFIG].concat());
    is_version(2, 2, &command, &head, &[]);
    let command = Command::AlterTopic { topic: TopicId(7), config: full_config() };
    let head = plain(&[&["07 00 00 00"], FULL_CONFIG].concat());
    is_version(3, 2, &command, &head, &[]);
    for (policy, byte) in [(CleanupPolicy::Delete, 0), (CleanupPolicy::Compact, 1)] {
        let config = TopicConfig { cleanup_policy: policy, ..full_config() };
        let head = codec::encode(TIME_MS, &Command::AlterTopic { topic: TopicId(7), config }).head;
        assert_eq!(head[12 + 4 + 16], byte, "{policy}");
    }
}

#[test]
fn create_topic_and_alter_topic_have_a_version_3_for_a_durability_of_their_own() {
    let config = TopicConfig { durability: TopicDurability::Os, ..full_config() };
    let command = Command::CreateTopic { name: "t.1".into(), partitions: 16, config: config.clone() };
    let head = plain(&[&["03 00 00 00  74 2e 31", "10 00 00 00"], FULL_CONFIG, &["01"]].concat());
    is_version(2, 3, &command, &head, &[]);
    let command = Command::AlterTopic { topic: TopicId(7), config };
    let mut head = plain(&[&["07 00 00 00"], FULL_CONFIG, &["01"]].concat());
    is_version(3, 3, &command, &head, &[]);
    // What version 2 has a form for, and what there isn't.
    for durability in [0, 2] {
        *head.last_mut().unwrap() = durability;
        let head = Bytes::copy_from_slice(&head);
        assert!(codec::decode(3, 3, &head, &Bytes::new()).is_err(), "{durability}");
    }
}

#[test]
fn create_topic_and_alter_topic_have_a_version_4_for_a_codec_of_their_own() {
    use exactlog_core::batch::Compression;
    let own = |codec, durability| TopicConfig {
        compression: TopicCompression::Codec(codec),
        durability,
        ..full_config()
    };
    let config = own(Compression::Zstd, TopicDurability::Log);
    let command = Command::CreateTopic { name: "t.1".into(), partitions: 16, config: config.clone() };
    let head = plain(&[&["03 00 00 00  74 2e 31", "10 00 00 00"], FULL_CONFIG, &["00", "04"]].concat());
    is_version(2, 4, &command, &head, &[]);
    let command = Command::CreateTable { name: "t.1".into(), partitions: 16, config };
    is_version(32, 4, &command, &head, &[]);
    let config = own(Compression::None, TopicDurability::Os);
    let command = Command::AlterTopic { topic: TopicId(7), config };
    let head = plain(&[&["07 00 00 00"], FULL_CONFIG, &["01", "00"]].concat());
    is_version(3, 4, &command, &head, &[]);
    // There is no fifth codec and no third durability.
    let end = head.len();
    for (at, byte) in [(end - 1, 5), (end - 2, 2)] {
        let mut head = head.clone();
        head[at] = byte;
        assert!(codec::decode(3, 4, &Bytes::from(head), &Bytes::new()).is_err(), "{byte} at {at}");
    }
    let cut = Bytes::copy_from_slice(&head[..end - 1]);
    assert!(codec::decode(3, 4, &cut, &Bytes::new()).is_err(), "a codec is missing");
}

/// Settings that change nothing, one of which this build doesn't know.
fn kept() -> KeptSettings {
    let set = |(name, value): (&str, &str)| (name.to_string(), value.to_string());
    [("flush.ms", "4"), ("a", "")].map(set).into_iter().collect()
}

const KEPT_BYTES: &[&str] = &[
    "02 00 00 00",                          // how many, by name
    "01 00 00 00  61",                      // a
    "00 00 00 00",                          //   nothing
    "08 00 00 00  66 6c 75 73 68 2e 6d 73", // flush.ms
    "01 00 00 00  34",                      //   4
];

#[test]
fn create_topic_and_alter_topic_have_a_version_5_for_settings_that_change_nothing() {
    let config = TopicConfig { kept: kept(), ..full_config() };
    let command = Command::CreateTopic { name: "t.1".into(), partitions: 16, config: config.clone() };
    let fields = [&["03 00 00 00  74 2e 31", "10 00 00 00"], FULL_CONFIG, &["00", "ff"], KEPT_BYTES].concat();
    is_version(2, 5, &command, &plain(&fields), &[]);
    let command = Command::CreateTable { name: "t.1".into(), partitions: 16, config };
    is_version(32, 5, &command, &plain(&fields), &[]);
    // With a codec and a durability.
    let config = TopicConfig {
        compression: TopicCompression::Codec(exactlog_core::batch::Compression::Zstd),
        durability: TopicDurability::Os,
        kept: kept(),
        ..full_config()
    };
    let head = plain(&[&["07 00 00 00"], FULL_CONFIG, &["01", "04"], KEPT_BYTES].concat());
    is_version(3, 5, &Command::AlterTopic { topic: TopicId(7), config }, &head, &[]);
    // What version 4 has a form for, what isn't in order or there twice, and what there isn't.
    let none = ["00 00 00 00"];
    let twice = ["02 00 00 00", KEPT_BYTES[1], KEPT_BYTES[2], KEPT_BYTES[1], KEPT_BYTES[2]];
    let turned = ["02 00 00 00", KEPT_BYTES[3], KEPT_BYTES[4], KEPT_BYTES[1], KEPT_BYTES[2]];
    for wrong in [&none[..], &twice, &turned] {
        let wrong = [&["07 00 00 00"], FULL_CONFIG, &["01", "04"], wrong].concat();
        assert!(codec::decode(3, 5, &Bytes::from(plain(&wrong)), &Bytes::new()).is_err(), "{wrong:?}");
    }
    let codec_at = 12 + 4 + 83 + 1;
    let mut no_codec = head;
    no_codec[codec_at] = 5;
    assert!(codec::decode(3, 5, &Bytes::from(no_codec), &Bytes::new()).is_err(), "there is no fifth codec");
    let mut version_4 = plain(&[&["07 00 00 00"], FULL_CONFIG, &["01", "ff"]].concat());
    assert!(
        codec::decode(3, 4, &Bytes::from(version_4.clone()), &Bytes::new()).is_err(),
        "version 3 has a form"
    );
    *version_4.last_mut().unwrap() = 4;
    assert!(codec::decode(3, 4, &Bytes::from(version_4), &Bytes::new()).is_ok());
}

#[test]
fn create_partitions_is_kind_30() {
    let command = Command::CreatePartitions { topic: TopicId(7), partitions: 16 };
    is(30, &command, &plain(&["07 00 00 00", "10 00 00 00"]), &[]);
}

#[test]
fn delete_offsets_is_kind_31() {
    let partition = Partition { topic: TopicId(7), index: 2 };
    let command = Command::DeleteOffsets { group: "g".into(), partitions: Some(vec![partition]) };
    is(31, &command, &plain(&["01 00 00 00  67", "01", "01 00 00 00", "07 00 00 00  02 00 00 00"]), &[]);
    let command = Command::DeleteOffsets { group: "g".into(), partitions: None };
    is(31, &command, &plain(&["01 00 00 00  67", "00"]), &[]);
}

#[test]
fn create_topic_is_kind_2() {
    let config = plain_config(0x0001_0002, 0x0003_0004, 0x05);
    let command = Command::CreateTopic { name: "t.1".into(), partitions: 16, config };
    let head = plain(&[
        "03 00 00 00  74 2e 31",   // name
        "10 00 00 00",             // partitions
        "02 00 01 00",             // max.message.bytes
        "04 00 03 00",             // segment.bytes
        "05 00 00 00 00 00 00 00", // segment.ms
    ]);
    is(2, &command, &head, &[]);
}

#[test]
fn alter_topic_is_kind_3() {
    let config = plain_config(1, 2, 3);
    let command = Command::AlterTopic { topic: TopicId(7), config };
    let head = plain(&[
        "07 00 00 00",             // topic
        "01 00 00 00",             // max.message.bytes
        "02 00 00 00",             // segment.bytes
        "03 00 00 00 00 00 00 00", // segment.ms
    ]);
    is(3, &command, &head, &[]);
}

#[test]
fn delete_topic_is_kind_4() {
    is(4, &Command::DeleteTopic { topic: TopicId(7) }, &plain(&["07 00 00 00"]), &[]);
}

#[test]
fn init_producer_is_kind_5() {
    is(5, &Command::InitProducer { name: None }, &plain(&["00"]), &[]);
    let named = Command::InitProducer { name: Some("p".into()) };
    is(5, &named, &plain(&["01", "01 00 00 00  70"]), &[]);
}

#[test]
fn append_is_kind_6() {
    let head = |expected_end: &'static str| {
        let fields = [
            TIME,
            "01 00 00 00", // one batch
            "04 00 00 00", // config version
            expected_end,
            PARTITION,
        ];
        bytes(&[&fields, BATCH_HEADER].concat())
    };
    let append = |expected_end| Command::Append {
        partition: partition(),
        config_version: 4,
        expected_end,
        batch: batch(),
    };
    is(6, &append(None), &head("00  00 00 00 00 00 00 00 00"), &bytes(&[BATCH_BODY]));
    is(6, &append(Some(0x0a0b)), &head("01  0b 0a 00 00 00 00 00 00"), &bytes(&[BATCH_BODY]));
}

#[test]
fn commit_is_kind_7() {
    let other = Partition { topic: TopicId(7), index: 4 };
    let commit = Commit {
        token: CommitToken { producer: ProducerId(5), producer_epoch: 2, number: 6 },
        cursor: Some(Bytes::from_static(b"\x01\x02")),
        batches: vec![(partition(), batch()), (other, batch())],
        offsets: vec![GroupOffsets {
            group: "g".into(),
            member: Some(MemberId(11)),
            offsets: vec![OffsetCommit {
                partition: partition(),
                offset: 12,
                reset: true,
                metadata: OffsetMetadata::default(),
            }],
        }],
        conditions: vec![
            Condition::EndOffset { partition: partition(), offset: 13 },
            Condition::GroupOffset { group: "g".into(), partition: partition(), offset: Some(14) },
            Condition::GroupOffset { group: "g".into(), partition: partition(), offset: None },
        ],
        marks: Vec::new(),
        timers: TimerEffects::default(),
        table_writes: Vec::new(),
    };
    let fields = [
        TIME,
        "02 00 00 00",                 // two batches
        "05 00 00 00 00 00 00 00",     // token: producer
        "02 00 00 00",                 // token: epoch, in the lower 16 bits
        "06 00 00 00 00 00 00 00",     // token: number
        "01  02 00 00 00  01 02",      // cursor
        "01 00 00 00",                 // one group
        "01 00 00 00  67",             // its name
        "01  0b 00 00 00 00 00 00 00", // its member
        "01 00 00 00",                 // one position
        PARTITION,
        "0c 00 00 00 00 00 00 00  01", // its offset, and that it is a reset
        "03 00 00 00",                 // three conditions
        "00",                          // end offset
        PARTITION,
        "0d 00 00 00 00 00 00 00",
        "01", // group offset
        "01 00 00 00  67",
        PARTITION,
        "01  0e 00 00 00 00 00 00 00",
        "01", // group offset, none
        "01 00 00 00  67",
        PARTITION,
        "00  00 00 00 00 00 00 00 00",
        PARTITION, // first batch
    ];
    let second = ["07 00 00 00  04 00 00 00"];
    let head = bytes(&[&fields[..], BATCH_HEADER, &second, BATCH_HEADER].concat());
    is(7, &Command::Commit(Box::new(commit)), &head, &bytes(&[BATCH_BODY, BATCH_BODY]));
}

#[test]
fn a_commit_of_nothing_is_kind_7_too() {
    let token = CommitToken { producer: ProducerId(5), producer_epoch: -1, number: 6 };
    let fields = [
        "05 00 00 00 00 00 00 00",
        "ff ff 00 00", // a negative epoch keeps to its 16 bits
        "06 00 00 00 00 00 00 00",
        "00",          // no cursor
        "00 00 00 00", // no groups
        "00 00 00 00", // no conditions
    ];
    is(7, &Command::Commit(Box::new(commit_of(token, &[]))), &plain(&fields), &[]);
}

#[test]
fn commit_offsets_is_kind_8() {
    let command = commit_offsets("g", None, &[offset(partition(), 12)]);
    let head = plain(&[
        "01 00 00 00  67",             // group
        "00  00 00 00 00 00 00 00 00", // no member
        "01 00 00 00",                 // one position
        PARTITION,
        "0c 00 00 00 00 00 00 00  00", // its offset, and that it is no reset
    ]);
    is(8, &command, &head, &[]);
}

/// Two positions, of which only the second has metadata.
fn with_metadata() -> Vec<OffsetCommit> {
    let other = OffsetCommit { reset: true, metadata: "at 5".into(), ..offset(partition(), 13) };
    vec![offset(partition(), 12), other]
}

/// The fields of [`with_metadata`].
const WITH_METADATA: &[&str] = &[
    "02 00 00 00", // two positions
    PARTITION,
    "0c 00 00 00 00 00 00 00  00",
    "00 00 00 00", // no metadata
    PARTITION,
    "0d 00 00 00 00 00 00 00  01",
    "04 00 00 00  61 74 20 35", // metadata
];

#[test]
fn commit_offsets_has_a_version_2_for_metadata() {
    let command = commit_offsets("g", None, &with_metadata());
    let group = ["01 00 00 00  67", "00  00 00 00 00 00 00 00 00"];
    let head = plain(&[&group, WITH_METADATA].concat());
    is_version(8, 2, &command, &head, &[]);

    let request = Transactional::CommitOffsets {
        sender: golden_sender(),
        group: "g".into(),
        member: None,
        offsets: with_metadata(),
    };
    let head = plain(&[SENDER, &group, WITH_METADATA, &["00 00 00 00 00 00 00 00"]].concat());
    is_version(19, 2, &request.into(), &head, &[]);
}

#[test]
fn a_commit_has_a_version_3_for_metadata_with_or_without_sections() {
    let positions = GroupOffsets { group: "g".into(), member: None, offsets: with_metadata() };
    let commit = Commit { offsets: vec![positions], ..commit_of(token((ProducerId(5), 2), 6), &[]) };
    let fields = [
        "05 00 00 00 00 00 00 00", // token: producer
        "02 00 00 00",             // token: epoch
        "06 00 00 00 00 00 00 00", // token: number
        "00",                      // no cursor
        "01 00 00 00",             // one group
        "01 00 00 00  67",
        "00  00 00 00 00 00 00 00 00",
    ];
    let behind = ["00 00 00 00", "00"]; // no conditions, no sections
    let head = plain(&[&fields, WITH_METADATA, &behind].concat());
    is_version(7, 3, &Command::Commit(Box::new(commit.clone())), &head, &[]);

    let timers = TimerEffects { set: Vec::new(), cancel: vec![TimerId(3)] };
    let behind =
        ["00 00 00 00", "01", "02  10 00 00 00", "00 00 00 00", "01 00 00 00", "03 00 00 00 00 00 00 00"];
    let head = plain(&[&fields, WITH_METADATA, &behind].concat());
    is_version(7, 3, &Command::Commit(Box::new(Commit { timers, ..commit })), &head, &[]);
}

#[test]
fn positions_without_metadata_have_one_form() {
    let what = |kind, version, fields: &[&str]| match codec::decode(
        kind,
        version,
        &Bytes::from(plain(fields)),
        &Bytes::new(),
    ) {
        Err(codec::DecodeError::Malformed { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let earlier = "positions that an earlier version has a form for";
    let group = ["01 00 00 00  67", "00  00 00 00 00 00 00 00 00"];
    let position = ["01 00 00 00", PARTITION, "0c 00 00 00 00 00 00 00  00"];
    let empty = [&group[..], &position, &["00 00 00 00"]].concat();
    assert_eq!(what(8, 2, &empty), earlier);
    assert_eq!(what(8, 2, &[&group[..], &["00 00 00 00"]].concat()), earlier);
    assert_eq!(what(19, 2, &[SENDER, &empty, &["00 00 00 00 00 00 00 00"]].concat()), earlier);
    let token = ["05 00 00 00 00 00 00 00", "02 00 00 00", "06 00 00 00 00 00 00 00", "00"];
    assert_eq!(what(7, 3, &[&token[..], &["00 00 00 00", "00 00 00 00", "00"]].concat()), earlier);
    let no_text = [&group[..], &position, &["02 00 00 00  c3 28"]].concat();
    assert_eq!(what(8, 2, &no_text), "text that isn't UTF-8");
    let beyond = [&group[..], &position, &["02 00 00 00  61"]].concat();
    assert_eq!(what(8, 2, &beyond), "a count beyond the bytes left");
}

#[test]
fn join_group_is_kind_9() {
    let head = plain(&["01 00 00 00  67", "02 00 00 00", "07 00 00 00  08 00 00 00"]);
    is(9, &join("g", &[TopicId(7), TopicId(8)]), &head, &[]);
}

#[test]
fn leave_group_is_kind_10() {
    for (fenced, flag) in [(false, "00"), (true, "01")] {
        let command = Command::LeaveGroup { group: "g".into(), member: MemberId(11), fenced };
        is(10, &command, &plain(&["01 00 00 00  67", "0b 00 00 00 00 00 00 00", flag]), &[]);
    }
}

#[test]
fn release_partitions_is_kind_11() {
    let partitions = vec![partition()];
    let command = Command::ReleasePartitions { group: "g".into(), member: MemberId(11), partitions };
    let head = plain(&["01 00 00 00  67", "0b 00 00 00 00 00 00 00", "01 00 00 00", PARTITION]);
    is(11, &command, &head, &[]);
}

#[test]
fn trim_is_kind_12() {
    let head = plain(&[PARTITION, "0f 00 00 00 00 00 00 00"]);
    is(12, &Command::Trim { partition: partition(), start: 15 }, &head, &[]);
}

#[test]
fn tick_is_kind_13() {
    is(13, &Command::Tick, &plain(&[]), &[]);
}

#[test]
fn config_is_kind_14() {
    let accept = Command::Config(ConfigChange::AcceptTime { time_ms: -2 });
    is(14, &accept, &plain(&["00", "fe ff ff ff ff ff ff ff"]), &[]);
    let level = Command::Config(ConfigChange::SemanticsLevel { level: 3 });
    is(14, &level, &plain(&["01", "03 00 00 00"]), &[]);
    let expiration = ConfigChange::ProducerExpiration { idle_ms: 4, tombstone_ms: 5 };
    let head = plain(&["02", "04 00 00 00 00 00 00 00", "05 00 00 00 00 00 00 00"]);
    is(14, &Command::Config(expiration), &head, &[]);
    let kept = Command::Config(ConfigChange::KeptSettings(kept()));
    is(14, &kept, &plain(&[&["22"], KEPT_BYTES].concat()), &[]);
}

/// Transactional id "x", producer 5, epoch 2, the second protocol, newer codes, connection 9.
const SENDER: &[&str] =
    &["01 00 00 00  78", "05 00 00 00 00 00 00 00", "02 00 00 00", "02", "01", "09 00 00 00 00 00 00 00"];

fn golden_sender() -> TransactionSender {
    TransactionSender { connection: 9, ..sender("x", (ProducerId(5), 2), Protocol::V2) }
}

#[test]
fn init_transactions_is_kind_15() {
    let head = plain(&["01 00 00 00  78", "60 ea 00 00", "01", "00"]);
    is(15, &init("x", None).into(), &head, &[]);
    let current = ["01", "05 00 00 00 00 00 00 00", "fe ff 00 00"];
    let head = plain(&[&["01 00 00 00  78", "60 ea 00 00", "01"], &current[..]].concat());
    is(15, &init("x", Some((ProducerId(5), -2))).into(), &head, &[]);
}

#[test]
fn add_partitions_is_kind_16() {
    let request = Transactional::AddPartitions { sender: golden_sender(), partitions: vec![partition()] };
    is(16, &request.into(), &plain(&[SENDER, &["01 00 00 00", PARTITION]].concat()), &[]);
}

#[test]
fn add_offsets_is_kind_17() {
    let request = Transactional::AddOffsets { sender: golden_sender(), group: "g".into() };
    is(17, &request.into(), &plain(&[SENDER, &["01 00 00 00  67"]].concat()), &[]);
}

#[test]
fn append_transactional_is_kind_18() {
    for (protocol, byte) in [(Protocol::V1, "01"), (Protocol::V2, "02")] {
        let request = Transactional::Append {
            transactional_id: "x".into(),
            protocol,
            newer_codes: false,
            partition: partition(),
            config_version: 4,
            batch: batch(),
        };
        let fields = [TIME, "01 00 00 00", "01 00 00 00  78", byte, "00", "04 00 00 00", PARTITION];
        is(18, &request.into(), &bytes(&[&fields[..], BATCH_HEADER].concat()), &bytes(&[BATCH_BODY]));
    }
}

#[test]
fn commit_offsets_transactional_is_kind_19() {
    let request = |member| Transactional::CommitOffsets {
        sender: golden_sender(),
        group: "g".into(),
        member,
        offsets: vec![offset(partition(), 12)],
    };
    let position = ["01 00 00 00", PARTITION, "0c 00 00 00 00 00 00 00  00"];
    let member = ["01 00 00 00  67", "01  0b 00 00 00 00 00 00 00"];
    let head = plain(&[SENDER, &member, &position, &["03 00 00 00 00 00 00 00"]].concat());
    is(19, &request(Some((MemberId(11), 3))).into(), &head, &[]);
    let nobody = ["01 00 00 00  67", "00  00 00 00 00 00 00 00 00"];
    let head = plain(&[SENDER, &nobody, &position, &["00 00 00 00 00 00 00 00"]].concat());
    is(19, &request(None).into(), &head, &[]);
}

#[test]
fn end_transaction_is_kind_20() {
    for (commit, flag) in [(false, "00"), (true, "01")] {
        let request = Transactional::End { sender: golden_sender(), commit };
        is(20, &request.into(), &plain(&[SENDER, &[flag]].concat()), &[]);
    }
}

#[test]
fn transaction_limits_are_a_config() {
    let limits = ConfigChange::TransactionLimits { timeout_max_ms: 4, id_expiration_ms: 5 };
    is(14, &Command::Config(limits), &plain(&["03", "04 00 00 00", "05 00 00 00 00 00 00 00"]), &[]);
}

/// An id: sixteen different bytes.
const ID: &str = "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f";

fn id() -> DedupId {
    DedupId(std::array::from_fn(|index| index as u8))
}

#[test]
fn append_identified_is_kind_21() {
    let request = Dedup::Append {
        sender: (ProducerId(5), 2),
        partition: partition(),
        config_version: 4,
        ids: vec![id(), DedupId([0xff; 16])],
        batch: batch(),
    };
    let fields = [
        TIME,
        "01 00 00 00",             // one batch
        "05 00 00 00 00 00 00 00", // producer
        "02 00 00 00",             // its epoch, in the lower 16 bits
        "04 00 00 00",             // config version
        "02 00 00 00",             // two ids
        ID,
        "ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff",
        PARTITION,
    ];
    is(21, &request.into(), &bytes(&[&fields[..], BATCH_HEADER].concat()), &bytes(&[BATCH_BODY]));
}

#[test]
fn reserve_finish_and_release_are_kinds_22_to_24() {
    let fields = plain(&["01 00 00 00  73", ID, "0a 00 00 00 00 00 00 00"]);
    let (scope, id) = ("s".to_string(), id());
    is(22, &Dedup::Reserve { scope: scope.clone(), id, lease_ms: 10 }.into(), &fields, &[]);
    is(23, &Dedup::Finish { scope: scope.clone(), id, reservation: 10 }.into(), &fields, &[]);
    is(24, &Dedup::Release { scope, id, reservation: 10 }.into(), &fields, &[]);
}

#[test]
fn forget_id_is_kind_33() {
    let of_topic = Dedup::Forget { scope: DedupScope::Topic(TopicId(7)), id: id() };
    is(33, &of_topic.into(), &plain(&["00", "07 00 00 00", ID]), &[]);
    let named = Dedup::Forget { scope: DedupScope::Named("s".into()), id: id() };
    is(33, &named.into(), &plain(&["01", "01 00 00 00  73", ID]), &[]);
}

#[test]
fn run_ready_is_kind_25() {
    let ready = |replaces| RunReady { end_ms: 1, run: 2, entries: 3, up_to: 4, digest: 5, replaces };
    let fields = [
        "01 00 00 00 00 00 00 00",
        "02 00 00 00 00 00 00 00",
        "03 00 00 00 00 00 00 00",
        "04 00 00 00 00 00 00 00",
        "05 00 00 00 00 00 00 00",
    ];
    let of_marks = plain(&[&fields[..], &["00 00 00 00"]].concat());
    is(25, &Dedup::RunReady(ready(Vec::new())).into(), &of_marks, &[]);
    let two = ["02 00 00 00", "07 00 00 00 00 00 00 00", "08 00 00 00 00 00 00 00"];
    let of_runs = plain(&[&fields[..], &two].concat());
    is(25, &Dedup::RunReady(ready(vec![7, 8])).into(), &of_runs, &[]);
}

#[test]
fn a_commit_with_marks_is_kind_7_of_version_2() {
    let marks = vec![
        Mark::Event { id: id(), batch: 1, record: 2 },
        Mark::Named { scope: "s".into(), id: id(), reservation: None },
        Mark::Named { scope: "s".into(), id: id(), reservation: Some(3) },
    ];
    let commit = Commit { marks, ..commit_of(token((ProducerId(5), 2), 6), &[]) };
    let head = plain(&[
        "05 00 00 00 00 00 00 00",      // token: producer
        "02 00 00 00",                  // token: epoch, in the lower 16 bits
        "06 00 00 00 00 00 00 00",      // token: number
        "00  00 00 00 00  00 00 00 00", // no cursor, no positions, no conditions
        "01",                           // one section
        "01  5b 00 00 00",              // marks, 91 bytes
        "03 00 00 00",                  // three of them
        "00",
        ID,
        "01 00 00 00 02 00 00 00", // of an event: batch and record
        "01",
        "01 00 00 00  73",
        ID,
        "00  00 00 00 00 00 00 00 00",
        "01",
        "01 00 00 00  73",
        ID,
        "01  03 00 00 00 00 00 00 00",
    ]);
    is_version(7, 2, &Command::Commit(Box::new(commit)), &head, &[]);
}

#[test]
fn sections_of_a_commit_are_there_once_known_and_not_empty() {
    let fields =
        ["05 00 00 00 00 00 00 00", "02 00 00 00", "06 00 00 00 00 00 00 00", "00 00 00 00 00 00 00 00 00"];
    let what = |sections: &[&str]| {
        let head = Bytes::from(plain(&[&fields, sections].concat()));
        match codec::decode(7, 2, &head, &Bytes::new()) {
            Err(codec::DecodeError::Malformed { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    let mark = |len: &str, kind: &str| {
        ["01", len, "00 00 00", "01 00 00 00", kind, ID, "01 00 00 00 02 00 00 00"].concat()
    };
    let good = mark("1d", "00");
    assert_eq!(what(&["00"]), "no section where some are announced");
    assert_eq!(what(&["01", "01  04 00 00 00", "00 00 00 00"]), "a section without content");
    assert_eq!(what(&["01", "09  00 00 00 00"]), "an unknown section");
    assert_eq!(what(&["02", &good, &good]), "a section that is repeated or out of order");
    assert_eq!(what(&["01", &mark("1c", "00")]), "a section of another length than it says");
    assert_eq!(what(&["01", &mark("1d", "02")]), "an unknown mark");
}

#[test]
fn key_and_limits_of_ids_are_configs() {
    let key = ConfigChange::DedupKey { key: id().0 };
    is(14, &Command::Config(key), &plain(&["15", ID]), &[]);
    for (at_cap, flag) in [(AtCap::Refuse, "00"), (AtCap::Shorten, "01")] {
        let limits = ConfigChange::DedupLimits { ttl_ms: 4, entries_max: 5, at_cap };
        let fields = ["16", "04 00 00 00 00 00 00 00", "05 00 00 00 00 00 00 00", flag];
        is(14, &Command::Config(limits), &plain(&fields), &[]);
    }
}

/// The hidden partition of timers, as an entry names it.
const HIDDEN: &str = "00 00 00 00  00 00 00 00";

#[test]
fn set_timer_is_kind_26() {
    let timer = NewTimer { target: partition(), due_ms: 9, batch: batch() };
    let command = TimerCommand::Set { sender: Some((ProducerId(5), 2)), timer: timer.clone() };
    let fields = [
        TIME,
        "01 00 00 00",             // one batch
        "01",                      // a sender
        "05 00 00 00 00 00 00 00", // its producer id
        "02 00 00 00",             // its epoch
        "09 00 00 00 00 00 00 00", // when it is due
        PARTITION,                 // where the batch is to go
    ];
    is(26, &command.into(), &bytes(&[&fields, BATCH_HEADER].concat()), &bytes(&[BATCH_BODY]));

    let command = TimerCommand::Set { sender: None, timer };
    let fields = [TIME, "01 00 00 00", "00", "09 00 00 00 00 00 00 00", PARTITION];
    is(26, &command.into(), &bytes(&[&fields, BATCH_HEADER].concat()), &bytes(&[BATCH_BODY]));
}

#[test]
fn cancel_timer_is_kind_27() {
    let command = TimerCommand::Cancel { timer: TimerId(0x0102) };
    is(27, &command.into(), &plain(&["02 01 00 00 00 00 00 00"]), &[]);
}

#[test]
fn fire_timer_is_kind_28() {
    let command = TimerCommand::Fire { timer: TimerId(7), batch: batch() };
    let fields = [TIME, "01 00 00 00", "07 00 00 00 00 00 00 00", HIDDEN];
    is(28, &command.into(), &bytes(&[&fields, BATCH_HEADER].concat()), &bytes(&[BATCH_BODY]));
}

#[test]
fn carry_timers_is_kind_29() {
    let payloads = vec![(TimerId(7), batch()), (TimerId(3), batch())];
    let fields = [
        TIME,
        "02 00 00 00",             // two batches
        "02 00 00 00",             // two timers
        "07 00 00 00 00 00 00 00", // the first
        "03 00 00 00 00 00 00 00", // the second
        HIDDEN,
    ];
    let head = bytes(&[&fields, BATCH_HEADER, &[HIDDEN], BATCH_HEADER].concat());
    let bodies = bytes(&[BATCH_BODY, BATCH_BODY]);
    is(29, &TimerCommand::Carry { payloads }.into(), &head, &bodies);
    is(29, &TimerCommand::Carry { payloads: Vec::new() }.into(), &plain(&["00 00 00 00"]), &[]);
}

#[test]
fn a_commit_with_timers_is_version_2_of_kind_7() {
    let other = part(TopicId(8), 0);
    let commit = Commit {
        token: CommitToken { producer: ProducerId(5), producer_epoch: 2, number: 6 },
        cursor: None,
        batches: vec![(partition(), batch())],
        offsets: Vec::new(),
        conditions: Vec::new(),
        timers: TimerEffects {
            set: vec![NewTimer { target: other, due_ms: 9, batch: batch() }],
            cancel: vec![TimerId(3)],
        },
        marks: Vec::new(),
        table_writes: Vec::new(),
    };
    let fields = [
        TIME,
        "02 00 00 00",              // two batches
        "05 00 00 00 00 00 00 00",  // token: producer
        "02 00 00 00",              // token: epoch
        "06 00 00 00 00 00 00 00",  // token: number
        "00",                       // no cursor
        "00 00 00 00  00 00 00 00", // no groups, no conditions
        "01",                       // one section
        "02  18 00 00 00",          // of timers: 24 bytes
        "01 00 00 00",              // one is set
        "09 00 00 00 00 00 00 00",  // when it is due
        "01 00 00 00",              // one is given up
        "03 00 00 00 00 00 00 00",  // which
        PARTITION,
    ];
    // The batch of the timer comes behind the others; its entry says where it is to go.
    let timer = ["08 00 00 00  00 00 00 00"];
    let head = bytes(&[&fields, BATCH_HEADER, &timer, BATCH_HEADER].concat());
    is_version(7, 2, &Command::Commit(Box::new(commit)), &head, &bytes(&[BATCH_BODY, BATCH_BODY]));
}

#[test]
fn timer_limits_are_a_config() {
    let limits = ConfigChange::TimerLimits { count_max: 4, delay_max_ms: 5 };
    let fields = ["1a", "04 00 00 00 00 00 00 00", "05 00 00 00 00 00 00 00"];
    is(14, &Command::Config(limits), &plain(&fields), &[]);
}

#[test]
fn the_retention_of_offsets_is_a_config() {
    let retention = ConfigChange::OffsetRetention { retention_ms: 6 };
    is(14, &Command::Config(retention), &plain(&["1b", "06 00 00 00 00 00 00 00"]), &[]);
}

#[test]
fn a_commit_with_table_writes_is_version_2_of_kind_7() {
    let other = part(TopicId(8), 1);
    let writes = vec![
        TableWrite { key: Bytes::from_static(b"k"), deletes: false },
        TableWrite { key: Bytes::new(), deletes: true },
    ];
    let has = |version| Condition::KeyVersion { table: TopicId(8), key: Bytes::from_static(b"k"), version };
    let commit = Commit {
        conditions: vec![has(Some(9)), has(None)],
        batches: vec![(partition(), batch())],
        table_writes: vec![
            TableWrites { partition: other, writes, batch: batch() },
            TableWrites { partition: other, writes: Vec::new(), batch: batch() },
        ],
        ..commit_of(token((ProducerId(5), 2), 6), &[])
    };
    const TABLE: &str = "08 00 00 00  01 00 00 00";
    let fields = [
        TIME,
        "03 00 00 00",                     // three batches
        "05 00 00 00 00 00 00 00",         // token: producer
        "02 00 00 00",                     // token: epoch
        "06 00 00 00 00 00 00 00",         // token: number
        "00",                              // no cursor
        "00 00 00 00",                     // no groups
        "02 00 00 00",                     // two conditions
        "02  08 00 00 00  01 00 00 00 6b", // on a key's version: table, key
        "01 09 00 00 00 00 00 00 00",      // that it is this one
        "02  08 00 00 00  01 00 00 00 6b", // another
        "00 00 00 00 00 00 00 00 00",      // that the key isn't there
        "01",                              // one section
        "03  17 00 00 00",                 // of writes to tables: 23 bytes
        "02 00 00 00",                     // two batches
        "02 00 00 00",                     // of the first, two records
        "00  01 00 00 00 6b",              // one gives a key a value
        "01  00 00 00 00",                 // one deletes the empty key
        "00 00 00 00",                     // of the second, none: that is refused when it is applied
        PARTITION,
    ];
    // The batches for tables come behind all others.
    let head = [&fields[..], BATCH_HEADER, &[TABLE], BATCH_HEADER, &[TABLE], BATCH_HEADER].concat();
    let bodies = bytes(&[BATCH_BODY, BATCH_BODY, BATCH_BODY]);
    is_version(7, 2, &Command::Commit(Box::new(commit)), &bytes(&head), &bodies);
}

#[test]
fn create_table_is_kind_32_and_table_limits_are_a_config() {
    let config =
        TopicConfig { max_message_bytes: 1, segment_bytes: 2, segment_ms: 3, ..TopicConfig::default() };
    let name = || "t".to_string();
    let plain_settings = "01 00 00 00  02 00 00 00  03 00 00 00 00 00 00 00";
    let create = Command::CreateTable { name: name(), partitions: 4, config: config.clone() };
    is(32, &create, &plain(&["01 00 00 00 74", "04 00 00 00", plain_settings]), &[]);
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, delete_retention_ms: 5, ..config };
    let create = Command::CreateTable { name: name(), partitions: 4, config };
    let fields = [
        "01 00 00 00 74",
        "04 00 00 00",
        plain_settings,
        "01",                         // compact
        "00 00 00 00 00 00 00 00 00", // no retention.ms
        "00 00 00 00 00 00 00 00 00", // no retention.bytes
        "05 00 00 00 00 00 00 00",    // delete.retention.ms
        "00 00 00 00 00 00 00 00",    // min.compaction.lag.ms
        "00 00 00 00 00 00 00 00 00", // no max.compaction.lag.ms
        "f4 01 00 00",                // min.cleanable.dirty.ratio, thousandths
        "00",                         // CreateTime
        "00 00 00 00 00 00 00 00 00", // no bound before
        "00 00 00 00 00 00 00 00 00", // none after
    ];
    is_version(32, 2, &create, &plain(&fields), &[]);
    let limits = ConfigChange::TableLimits { keys_max: 4, key_bytes_max: 5 };
    let fields = ["20", "04 00 00 00 00 00 00 00", "05 00 00 00 00 00 00 00"];
    is(14, &Command::Config(limits), &plain(&fields), &[]);
}
