//! The inputs that fuzzing begins with: valid structures, and a few with one thing wrong.
//!
//! Made from what the product itself writes, so they are made anew when a format changes
//! (`cargo run -p exactlog-sim --example corpus`). What fuzzing has found is kept beside them and never made anew.
//!
//! Invariants:
//!   * the same seeds each time; names are unique within a target

use super::input::Output;
use super::recovery::{Name, Operation};
use super::segment::{DIRECTORY, ENDINGS, OPTIONS};
use super::world::{PARTITIONS, batch, worlds};
use super::{command, journal, recovery, segment};
use crate::disk::SimDisk;
use bytes::Bytes;
use exactlog_core::batch::compression::compress;
use exactlog_core::batch::{BatchBuilder, Compression, ProducerStamp};
use exactlog_core::command::*;
use exactlog_core::ids::{DedupId, MemberId, Partition, ProducerId, TimerId, TopicId};
use exactlog_storage::checkpoint::CHECKPOINT_DIR;
use exactlog_storage::segment::PartitionLog;
use exactlog_wire::error::{DecodeError, MessageError};
use exactlog_wire::message::ApiInfo;
use exactlog_wire::messages::{APIS, Request, Response};
use std::sync::Arc;

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Name of the target.
    pub target: &'static str,
    /// Name of the file.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Name and content of a seed.
type Named = (String, Vec<u8>);

/// All seeds.
pub fn seeds() -> Vec<Seed> {
    let all: [(&str, Vec<Named>); 12] = [
        ("record_batch", batches()),
        ("journal_frame", journals()),
        ("command_decode", commands()),
        ("checkpoint", checkpoints()),
        ("segment", segments()),
        ("recovery", scripts()),
        ("gzip", compressed(Compression::Gzip)),
        ("snappy", compressed(Compression::Snappy)),
        ("lz4", compressed(Compression::Lz4)),
        ("zstd", compressed(Compression::Zstd)),
        ("requests", requests()),
        ("responses", responses()),
    ];
    let seed = |target, (name, bytes)| Seed { target, name: format!("seed-{name}"), bytes };
    all.into_iter().flat_map(|(target, seeds)| seeds.into_iter().map(move |it| seed(target, it))).collect()
}

fn batches() -> Vec<Named> {
    let stamp = ProducerStamp { id: ProducerId(4), epoch: 2, base_sequence: i32::MAX };
    let mut several = BatchBuilder::new(0);
    several.append(1_000, Some(b"key"), Some(b"value"), &[(b"header", Some(b"h")), (b"absent", None)]);
    several.append(990, None, None, &[]);
    several.append(i64::MAX, Some(b""), Some(&[7; 200]), &[(b"", Some(b""))]);
    let several = several.finish(Some(stamp));
    let stamped = several.placed_at_append_time(70, 3, 5_000);
    let plain = batch(&Bytes::from_static(b"v"), None);
    let mut compressed = [&plain.header()[..], plain.body()].concat();
    compressed[22] = 4; // the codec, in the low byte of the attributes; the target sets the CRC right
    vec![
        ("plain".into(), [&plain.header()[..], plain.body()].concat()),
        ("several".into(), [&several.header()[..], several.body()].concat()),
        ("append-time".into(), [&stamped.header()[..], stamped.body()].concat()),
        ("compressed".into(), compressed),
    ]
}

/// A request of each API in its newest version, and a few of them one behind the other.
fn requests() -> Vec<Named> {
    let frame = |api: &ApiInfo| {
        let version = api.versions.to;
        let body = smallest(|body| Request::decode(api.key, version, body));
        let header = [&api.key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 7, 0xff, 0xff]].concat();
        let tags: &[u8] = if api.is_flexible(version) { &[0] } else { &[] };
        let rest = [&header[..], tags, &body].concat();
        [&(rest.len() as u32).to_be_bytes()[..], &rest].concat()
    };
    let mut seeds: Vec<Named> = APIS.iter().map(|api| (named(api), frame(api))).collect();
    seeds.push(("several".into(), APIS[..5].iter().flat_map(frame).collect()));
    seeds
}

/// A response of each API in its newest version.
fn responses() -> Vec<Named> {
    let body = |(nth, api): (usize, &ApiInfo)| {
        let (from, to) = (api.versions.from, api.versions.to);
        let body = smallest(|body| Response::decode(api.key, to, body));
        (named(api), [&[nth as u8, (to - from) as u8][..], &body].concat())
    };
    APIS.iter().enumerate().map(body).collect()
}

fn named(api: &ApiInfo) -> String {
    format!("{}-{}", api.name.to_lowercase(), api.versions.to)
}

/// A body without a thing in it: zeros, but where the reader says that null can't be, or that there is too much.
fn smallest<M>(decode: impl Fn(Bytes) -> Result<M, MessageError>) -> Vec<u8> {
    let mut body = vec![0; 1000];
    loop {
        match decode(Bytes::copy_from_slice(&body)) {
            Ok(_) => return body,
            Err(MessageError::Malformed { error: DecodeError::Null { at, .. }, .. }) => body[at] = 1,
            Err(MessageError::Malformed { error: DecodeError::Presence { at, .. }, .. }) => body[at] = 0xff,
            Err(MessageError::Malformed { error: DecodeError::Trailing { at, .. }, .. }) => body.truncate(at),
            Err(error) => panic!("an empty message can be written: {error}"),
        }
    }
}

/// Nothing, little, and more than a block; each also cut and with a byte changed, and one of those twice in a row.
fn compressed(codec: Compression) -> Vec<Named> {
    let words: Vec<u8> = (0..5_000).flat_map(|number| format!("{number} ").into_bytes()).collect();
    let pack = |plain: &[u8]| compress(codec, plain).expect("it is below what readers take");
    let few = pack(&words[..200]);
    let mut changed = few.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 0x10;
    vec![
        ("nothing".into(), pack(b"")),
        ("few".into(), few.clone()),
        ("many".into(), pack(&words)),
        ("repeated".into(), pack(&[0; 300_000])),
        ("cut".into(), few[..few.len() - 5].to_vec()),
        ("changed".into(), changed),
        ("twice".into(), few.repeat(2)),
        ("bomb".into(), bomb(codec)),
    ]
}

/// What expands beyond the limit of the target.
fn bomb(codec: Compression) -> Vec<u8> {
    match codec {
        // Blocks of 128 KiB of one byte, in four bytes each.
        Compression::Zstd => {
            [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38][..], &[0x02, 0x00, 0x10, b'x'].repeat(250)].concat()
        }
        codec => compress(codec, &[0; (1 << 20) + 1]).expect("it is below what readers take"),
    }
}

/// The journals of the worlds: with checksums as they are, and with checksums that follow every change.
fn journals() -> Vec<Named> {
    let mut seeds = Vec::new();
    for (number, world) in worlds().iter().enumerate() {
        let files: Vec<(u64, Vec<u8>)> = world
            .files
            .iter()
            .filter_map(|path| {
                let digits = path.strip_prefix("journal/")?.strip_suffix(".journal")?;
                Some((digits.parse().ok()?, world.disk.read_file(path).ok()?))
            })
            .collect();
        for mode in [0, 1, 3] {
            seeds.push((format!("world-{number}-mode-{mode}"), journal::encode(mode, &files)));
        }
    }
    seeds
}

fn commands() -> Vec<Named> {
    let encode = |commands: &[Command]| {
        let one = |(at, command): (usize, &Command)| command::encode(1, 1_000 + at as i64, command);
        commands.iter().enumerate().flat_map(one).collect::<Vec<u8>>()
    };
    let appends = encode(&[begin(), append(0), append(1), append(1), append(0)].concat());
    let groups = encode(&[begin(), group()].concat());
    let settings = encode(&[begin(), append(0), settings()].concat());
    let transactions = encode(&[begin(), transactions()].concat());
    let ids = encode(&[begin(), ids()].concat());
    let timers = encode(&[begin(), timers()].concat());
    let tables = encode(&[begin(), tables()].concat());
    vec![
        ("appends".into(), appends),
        ("groups".into(), groups),
        ("metadata".into(), encode(&[begin(), metadata()].concat())),
        ("settings".into(), settings),
        ("timers".into(), timers),
        ("transactions".into(), transactions),
        ("ids".into(), ids),
        ("tables".into(), tables),
    ]
}

/// Sent twice, reserved, finished, marked; and forgotten at a cap and when their time is over.
fn ids() -> Vec<Command> {
    let scope = || "s".to_owned();
    let id = |number| DedupId([number; 16]);
    let send = |number| Dedup::Append {
        sender: (ProducerId(2), 0),
        partition: PARTITIONS[0],
        config_version: 0,
        ids: vec![id(number)],
        batch: batch(&Bytes::from_static(b"v"), None),
    };
    let token = CommitToken { producer: ProducerId(2), producer_epoch: 0, number: 1 };
    let marks = vec![
        Mark::Event { id: id(3), batch: 0, record: 0 },
        Mark::Named { scope: scope().into(), id: id(4), reservation: Some(9) },
        Mark::Named { scope: scope().into(), id: id(5), reservation: None },
    ];
    let batches = vec![(PARTITIONS[1], batch(&Bytes::from_static(b"v"), None))];
    let (cursor, offsets, conditions, timers) = (None, Vec::new(), Vec::new(), TimerEffects::default());
    let commit =
        Commit { token, cursor, batches, offsets, conditions, marks, timers, table_writes: Vec::new() };
    let limits = |entries_max, at_cap| ConfigChange::DedupLimits { ttl_ms: 500, entries_max, at_cap };
    vec![
        Command::Config(ConfigChange::DedupKey { key: [9; 16] }),
        send(1).into(),
        send(1).into(),
        send(2).into(),
        Dedup::Reserve { scope: scope(), id: id(4), lease_ms: 100 }.into(),
        Dedup::Reserve { scope: scope(), id: id(6), lease_ms: 1 }.into(),
        Command::Commit(Box::new(commit)),
        Dedup::Finish { scope: scope(), id: id(6), reservation: 10 }.into(),
        Dedup::Release { scope: scope(), id: id(4), reservation: 9 }.into(),
        Command::Config(limits(2, AtCap::Refuse)),
        send(7).into(),
        Command::Config(limits(2, AtCap::Shorten)),
        send(7).into(),
        Dedup::Forget { scope: DedupScope::Topic(PARTITIONS[0].topic), id: id(7) }.into(),
        Dedup::Forget { scope: DedupScope::Named(scope()), id: id(4) }.into(),
        send(7).into(),
        Command::Tick,
    ]
}

/// One that fires, one that is carried, one that is cancelled by the commit that sets others, one that gets stuck.
fn timers() -> Vec<Command> {
    let payload = |value: &'static str| batch(&Bytes::from_static(value.as_bytes()), None);
    let timer =
        |index: usize, due_ms, value| NewTimer { target: PARTITIONS[index], due_ms, batch: payload(value) };
    let set = |timer| Command::from(TimerCommand::Set { sender: Some((ProducerId(2), 0)), timer });
    let commit = Commit {
        token: CommitToken { producer: ProducerId(2), producer_epoch: 0, number: 1 },
        cursor: None,
        batches: vec![(PARTITIONS[0], payload("now"))],
        offsets: Vec::new(),
        conditions: Vec::new(),
        timers: TimerEffects { set: vec![timer(0, 5, "d"), timer(1, 9_000, "e")], cancel: vec![TimerId(3)] },
        marks: Vec::new(),
        table_writes: Vec::new(),
    };
    vec![
        set(timer(0, 5, "a")),
        set(timer(1, 1_008, "b")),
        set(timer(1, 9_000, "c")),
        TimerCommand::Fire { timer: TimerId(1), batch: payload("a") }.into(),
        TimerCommand::Fire { timer: TimerId(1), batch: payload("a") }.into(),
        TimerCommand::Carry { payloads: vec![(TimerId(2), payload("b"))] }.into(),
        Command::Commit(Box::new(commit)),
        TimerCommand::Cancel { timer: TimerId(3) }.into(),
        Command::Config(ConfigChange::TimerLimits { count_max: 3, delay_max_ms: 10 }),
        set(timer(0, 9_000, "f")),
        Command::Config(ConfigChange::OffsetRetention { retention_ms: 5 }),
        Command::DeleteTopic { topic: TopicId(1) },
        TimerCommand::Fire { timer: TimerId(4), batch: payload("d") }.into(),
    ]
}

/// Keys that are put, put again under a condition and deleted; what is refused of a table; and its end.
fn tables() -> Vec<Command> {
    let table = TopicId(2);
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
    let create = |name: &str, config: &TopicConfig| Command::CreateTable {
        name: name.into(),
        partitions: 1,
        config: config.clone(),
    };
    let writes = |keys: &[(&'static str, bool)]| {
        let mut builder = BatchBuilder::new(0);
        for (key, deletes) in keys {
            builder.append(1_000, Some(key.as_bytes()), (!deletes).then_some(b"v"), &[]);
        }
        let write = |(key, deletes): &(&'static str, bool)| TableWrite {
            key: Bytes::from_static(key.as_bytes()),
            deletes: *deletes,
        };
        let writes = keys.iter().map(write).collect();
        TableWrites { partition: Partition { topic: table, index: 0 }, writes, batch: builder.finish(None) }
    };
    let commit = |number, conditions, table_writes| {
        let token = CommitToken { producer: ProducerId(2), producer_epoch: 0, number };
        let (offsets, marks, timers) = (Vec::new(), Vec::new(), TimerEffects::default());
        let (cursor, batches) = (None, vec![(PARTITIONS[0], batch(&Bytes::from_static(b"v"), None))]);
        let commit = Commit { token, cursor, batches, offsets, conditions, marks, timers, table_writes };
        Command::Commit(Box::new(commit))
    };
    let has = |key: &'static str, version| Condition::KeyVersion {
        table,
        key: Bytes::from_static(key.as_bytes()),
        version,
    };
    let append = Command::Append {
        partition: Partition { topic: table, index: 0 },
        config_version: 0,
        expected_end: None,
        batch: batch(&Bytes::from_static(b"v"), None),
    };
    vec![
        create("k", &config),
        create("k", &config),
        create("t", &config),
        create("l", &TopicConfig::default()),
        commit(1, vec![has("a", None)], vec![writes(&[("a", false), ("b", false), ("a", false)])]),
        commit(2, vec![has("a", Some(9))], vec![writes(&[("b", true)]), writes(&[("c", false)])]),
        commit(3, vec![has("b", Some(9))], vec![writes(&[("a", true)])]),
        Command::Config(ConfigChange::TableLimits { keys_max: 2, key_bytes_max: 1 }),
        commit(3, Vec::new(), vec![writes(&[("d", false)])]),
        append,
        Command::CreatePartitions { topic: table, partitions: 3 },
        Command::DeleteTopic { topic: table },
    ]
}

/// By both protocols: one that is aborted, one that commits offsets, one whose time is up.
fn transactions() -> Vec<Command> {
    let producer = ProducerId(3);
    let sender = |producer_epoch, protocol| TransactionSender {
        transactional_id: "x".into(),
        producer,
        producer_epoch,
        protocol,
        newer_codes: true,
        connection: 1,
    };
    let append = |epoch, base_sequence, protocol| Transactional::Append {
        transactional_id: "x".into(),
        protocol,
        newer_codes: true,
        partition: PARTITIONS[0],
        config_version: 0,
        batch: batch(&Bytes::from_static(b"v"), Some(ProducerStamp { id: producer, epoch, base_sequence }))
            .in_transaction(),
    };
    let (current, newer_codes) = (None, true);
    let offsets = vec![OffsetCommit {
        partition: PARTITIONS[0],
        offset: 1,
        reset: false,
        metadata: OffsetMetadata::default(),
    }];
    let limits = ConfigChange::TransactionLimits { timeout_max_ms: 10, id_expiration_ms: 5 };
    vec![
        Transactional::Init { transactional_id: "x".into(), timeout_ms: 1, current, newer_codes }.into(),
        Transactional::AddPartitions { sender: sender(0, Protocol::V1), partitions: PARTITIONS.to_vec() }
            .into(),
        append(0, 0, Protocol::V1).into(),
        Transactional::AddOffsets { sender: sender(0, Protocol::V1), group: "g".into() }.into(),
        Transactional::End { sender: sender(0, Protocol::V1), commit: false }.into(),
        append(0, 1, Protocol::V2).into(),
        Transactional::CommitOffsets {
            sender: sender(0, Protocol::V2),
            group: "g".into(),
            member: None,
            offsets,
        }
        .into(),
        Transactional::End { sender: sender(0, Protocol::V2), commit: true }.into(),
        append(1, 0, Protocol::V2).into(),
        Command::Tick,
        Command::Config(limits),
        Command::Tick,
    ]
}

fn begin() -> Vec<Command> {
    vec![
        Command::Open,
        Command::CreateTopic { name: "t".into(), partitions: 2, config: TopicConfig::default() },
        Command::InitProducer { name: None },
        Command::InitProducer { name: Some("p".into()) },
    ]
}

/// An append with a sequence, and a commit that hasn't one.
fn append(sequence: i32) -> Vec<Command> {
    let stamp = ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: sequence };
    let batch = |stamp| batch(&Bytes::from_static(b"v"), stamp);
    let partition = PARTITIONS[0];
    let token = CommitToken {
        producer: ProducerId(2),
        producer_epoch: 0,
        number: 1 + sequence.unsigned_abs() as u64,
    };
    let offsets =
        vec![OffsetCommit { partition, offset: 1, reset: false, metadata: OffsetMetadata::default() }];
    let commit = Commit {
        token,
        cursor: Some(Bytes::from_static(b"c")),
        batches: vec![(PARTITIONS[1], batch(None)), (PARTITIONS[1], batch(None))],
        offsets: vec![GroupOffsets { group: "h".into(), member: None, offsets }],
        conditions: vec![Condition::EndOffset { partition, offset: 1 + sequence.unsigned_abs() as u64 }],
        marks: Vec::new(),
        timers: TimerEffects::default(),
        table_writes: Vec::new(),
    };
    vec![
        Command::Append { partition, config_version: 0, expected_end: None, batch: batch(Some(stamp)) },
        Command::Commit(Box::new(commit)),
    ]
}

fn group() -> Vec<Command> {
    let (group, topics) = (|| "g".to_owned(), vec![TopicId(1)]);
    vec![
        Command::JoinGroup { group: group(), topics: topics.clone() },
        Command::JoinGroup { group: group(), topics },
        Command::ReleasePartitions { group: group(), member: MemberId(5), partitions: PARTITIONS.to_vec() },
        Command::CommitOffsets {
            group: group(),
            member: Some(MemberId(5)),
            offsets: vec![OffsetCommit {
                partition: PARTITIONS[0],
                offset: 0,
                reset: true,
                metadata: OffsetMetadata::default(),
            }],
        },
        Command::LeaveGroup { group: group(), member: MemberId(5), fenced: true },
        Command::DeleteTopic { topic: TopicId(1) },
    ]
}

/// Offsets with metadata, in each of the three ways in which they are committed; the last is too long.
fn metadata() -> Vec<Command> {
    let position = |index: usize, text: &str| {
        let (partition, metadata) = (PARTITIONS[index], text.into());
        vec![OffsetCommit { partition, offset: 0, reset: true, metadata }]
    };
    let commit = |offsets| Command::CommitOffsets { group: "m".into(), member: None, offsets };
    let embedded = Commit {
        token: CommitToken { producer: ProducerId(2), producer_epoch: 0, number: 1 },
        cursor: None,
        batches: Vec::new(),
        offsets: vec![GroupOffsets { group: "m".into(), member: None, offsets: position(1, "embedded") }],
        conditions: Vec::new(),
        marks: Vec::new(),
        timers: TimerEffects::default(),
        table_writes: Vec::new(),
    };
    let sender = TransactionSender {
        transactional_id: "y".into(),
        producer: ProducerId(3),
        producer_epoch: 0,
        protocol: Protocol::V2,
        newer_codes: true,
        connection: 1,
    };
    let (group, member, offsets) = ("m".into(), None, position(0, "pending"));
    let (current, newer_codes) = (None, true);
    vec![
        commit(position(0, "plain")),
        Command::Commit(Box::new(embedded)),
        Transactional::Init { transactional_id: "y".into(), timeout_ms: 1, current, newer_codes }.into(),
        Transactional::CommitOffsets { sender, group, member, offsets }.into(),
        commit(position(1, &"m".repeat(OFFSET_METADATA_BYTES_MAX + 1))),
    ]
}

fn settings() -> Vec<Command> {
    let plain = TopicConfig { max_message_bytes: 2_000, ..TopicConfig::default() };
    let (durability, compression) = (TopicDurability::Os, TopicCompression::Codec(Compression::Lz4));
    let alter = |config| Command::AlterTopic { topic: TopicId(1), config };
    let uncompressed = TopicCompression::Codec(Compression::None);
    let kept: KeptSettings = [("flush.messages".to_string(), "1".to_string())].into_iter().collect();
    vec![
        alter(TopicConfig { retention_ms: Some(1), ..plain.clone() }),
        alter(TopicConfig { durability, ..plain.clone() }),
        alter(TopicConfig { compression, ..plain.clone() }),
        alter(TopicConfig { durability, compression: uncompressed, ..plain.clone() }),
        alter(TopicConfig { kept: kept.clone(), ..plain.clone() }),
        Command::Config(ConfigChange::KeptSettings(kept)),
        alter(plain),
        Command::Trim { partition: PARTITIONS[0], start: 1 },
        Command::Config(ConfigChange::ProducerExpiration { idle_ms: 1, tombstone_ms: 1 }),
        Command::Config(ConfigChange::SemanticsLevel { level: SEMANTICS_LEVEL }),
        Command::Config(ConfigChange::AcceptTime { time_ms: 5 }),
        Command::Tick,
        Command::Tick,
    ]
}

fn checkpoints() -> Vec<Named> {
    let mut seeds = Vec::new();
    for (number, world) in worlds().iter().enumerate() {
        let is_checkpoint = |path: &&String| path.starts_with(CHECKPOINT_DIR);
        for (nth, path) in world.files.iter().filter(is_checkpoint).enumerate() {
            let content = world.disk.read_file(path).unwrap_or_default();
            for mend in [0, 1] {
                let bytes = Output::default().u8(mend).bytes(&content).done();
                seeds.push((format!("world-{number}-nth-{nth}-mend-{mend}"), bytes));
            }
        }
    }
    seeds
}

/// One segment, and two; each with every mode.
fn segments() -> Vec<Named> {
    let mut seeds = Vec::new();
    for batches in [3, 30] {
        let disk = SimDisk::new();
        let log = PartitionLog::open(Arc::new(disk.clone()), DIRECTORY.into(), OPTIONS, &Default::default());
        let mut log = log.expect("there is nothing to refuse");
        for number in 0..batches {
            let mut builder = BatchBuilder::new(0);
            let value = "v".repeat(number * 7 % 50);
            builder.append(1_000 + number as i64, None, Some(value.as_bytes()), &[]);
            builder.append(1_000 - number as i64, None, None, &[]);
            log.append(&builder.finish(None).placed(log.next_offset(), 1)).expect("the disk has no faults");
        }
        log.sync().expect("the disk has no faults");
        let mut ends = log.ends();
        ends.segments.truncate(2);
        ends.end_offset = log.ends().segments.get(2).map_or(ends.end_offset, |next| next.base_offset);
        let all =
            ends.segments.iter().flat_map(|it| ENDINGS.map(|ending| segment::name(it.base_offset, ending)));
        let files = all.filter(|name| disk.read_file(name).is_ok()).count();
        for mode in [0, 2, 4, 6] {
            let name = format!("batches-{batches}-files-{files}-mode-{mode}");
            seeds.push((name, segment::encode(mode, &ends, &disk)));
        }
    }
    seeds
}

/// Each world untouched, and each file of each with each kind of damage.
fn scripts() -> Vec<Named> {
    let mut seeds = Vec::new();
    for (number, world) in worlds().iter().enumerate() {
        let mut add = |name: String, operations: &[Operation<'_>]| {
            seeds.push((format!("world-{number}-{name}"), recovery::encode(number as u8, operations)));
        };
        add("whole".into(), &[]);
        for file in 0..world.files.len() as u8 {
            add(format!("file-{file}-flip"), &[Operation::Flip { file, at: 0x1040, mask: 4 }]);
            add(format!("file-{file}-cut"), &[Operation::Cut { file, len: 0x1100 }]);
            add(format!("file-{file}-remove"), &[Operation::Remove { file }]);
            add(format!("file-{file}-zero"), &[Operation::Zero { file, sector: 8 }]);
        }
        let last = world.files.len() as u8 - 1;
        let write = Operation::Write { file: last, at: 0x2000, bytes: b"left over" };
        let stale = Operation::Stale { from: 0, to: last, sector: 9 };
        add("write-and-stale".into(), &[write, stale]);
        add("copy".into(), &[Operation::Copy { from: 0, to: Name::Journal(40) }]);
        let put = |to| Operation::Put { to, bytes: b"EXLOGJNL" };
        let copy = |to| Operation::Copy { from: 0, to };
        let (spare, unfinished) = (copy(Name::Spare(3)), copy(Name::NewJournal(9)));
        add("strangers".into(), &[put(Name::Checkpoint(7)), put(Name::NewCheckpoint(8)), spare, unfinished]);
        add(
            "others".into(),
            &[put(Name::Log(0)), put(Name::Index(0)), put(Name::Foreign(0)), copy(Name::File(1))],
        );
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn seeds_are_few_small_and_named_apart() {
        let seeds = seeds();
        assert!(seeds.len() < 400, "{} seeds", seeds.len());
        let bytes: usize = seeds.iter().map(|seed| seed.bytes.len()).sum();
        assert!(bytes < 512 << 10, "{bytes} bytes");
        let names: BTreeSet<_> = seeds.iter().map(|seed| (seed.target, &seed.name)).collect();
        assert_eq!(names.len(), seeds.len());
    }

    #[test]
    fn every_target_has_seeds_and_takes_them() {
        for target in super::super::TARGETS {
            let seeds = seeds().into_iter().filter(|seed| seed.target == target.name);
            let taken = seeds.map(|seed| (target.run)(&seed.bytes)).count();
            assert!(taken > 2, "{} has {taken} seeds", target.name);
        }
    }
}
