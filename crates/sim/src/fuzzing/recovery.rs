//! Target `recovery`: a data directory that a shard has made, damaged by a small script, and opened.
//!
//! ```text
//!   world u8 | (operation u8 | arguments) ...
//! ```
//!
//! No operation can make a right checksum by accident of the fuzzer, so what is recovered must be what was written:
//! the state after some command of the history, and no record that isn't the one appended. (Batches don't say which
//! partition they belong to, in Kafka's format as in ours, so segments aren't copied over each other.)
//!
//! Checked:
//!   * the shard is opened or refused by a typed error; a panic that was caught counts as one
//!   * its state is that of the history at the lsn that it names
//!   * a record that can be read is right; one that can't is a typed error
//!   * commands can be executed, and a second and third open find the same state

use super::input::{Input, Output};
use super::watched::Watched;
use super::world::{PARTITIONS, World, batch, options, worlds};
use crate::disk::SimDisk;
use crate::rng::Random;
use bytes::Bytes;
use exactlog_core::command::Command;
use exactlog_core::ids::Partition;
use exactlog_core::reply::Reply;
use exactlog_storage::StorageError;
use exactlog_storage::checkpoint::state_hash;
use exactlog_storage::disk::Disk;
use exactlog_storage::index::Reader;
use exactlog_storage::shard::{RecoveryReport, Shard, Submission};

/// Most operations of one script.
const OPERATIONS_MAX: usize = 16;

/// Most reads of one partition.
const STEPS_MAX: usize = 100;

/// No file grows beyond this, in bytes.
const FILE_BYTES_MAX: usize = 48 << 10;

/// What this target appends.
const APPENDED: Bytes = Bytes::from_static(b"appended");

const SECTOR: usize = exactlog_storage::disk::SECTOR_BYTES;

/// What a script can do. `file` counts through the files that the world was made with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation<'a> {
    /// Flips bits of one byte; the position is taken modulo the length.
    Flip { file: u8, at: u16, mask: u8 },
    /// Cuts to a length.
    Cut { file: u8, len: u16 },
    /// Removes.
    Remove { file: u8 },
    /// Copies one file over another, or under a new name.
    Copy { from: u8, to: Name },
    /// Overwrites bytes, and extends the file if they reach behind it.
    Write { file: u8, at: u16, bytes: &'a [u8] },
    /// Makes a sector zero, as one that was never written.
    Zero { file: u8, sector: u8 },
    /// Copies a sector from the same place of another file, as one that was left over from an earlier use.
    Stale { from: u8, to: u8, sector: u8 },
    /// Puts a file of these bytes.
    Put { to: Name, bytes: &'a [u8] },
}

/// A name in the directory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    File(u8),
    Journal(u8),
    Spare(u8),
    NewJournal(u8),
    Checkpoint(u8),
    NewCheckpoint(u8),
    Log(u8),
    Index(u8),
    Foreign(u8),
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let world = &worlds()[usize::from(input.u8()) % worlds().len()];
    let disk = world.disk.process_kill();
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        carry_out(&disk, world, read(&mut input));
    }
    check(&disk, world);
}

/// A script as this target takes it.
pub(super) fn encode(world: u8, operations: &[Operation<'_>]) -> Vec<u8> {
    operations.iter().fold(Output::default().u8(world), |output, operation| write(output, *operation)).done()
}

fn read<'a>(input: &mut Input<'a>) -> Operation<'a> {
    match input.u8() % 8 {
        0 => Operation::Flip { file: input.u8(), at: input.u16(), mask: input.u8().max(1) },
        1 => Operation::Cut { file: input.u8(), len: input.u16() },
        2 => Operation::Remove { file: input.u8() },
        3 => Operation::Copy { from: input.u8(), to: read_name(input) },
        4 => Operation::Write { file: input.u8(), at: input.u16(), bytes: counted(input) },
        5 => Operation::Zero { file: input.u8(), sector: input.u8() },
        6 => Operation::Stale { from: input.u8(), to: input.u8(), sector: input.u8() },
        _ => Operation::Put { to: read_name(input), bytes: counted(input) },
    }
}

fn counted<'a>(input: &mut Input<'a>) -> &'a [u8] {
    let len = input.u8();
    input.take(usize::from(len))
}

fn read_name(input: &mut Input<'_>) -> Name {
    let (kind, number) = (input.u8(), input.u8());
    match kind % 9 {
        0 => Name::File(number),
        1 => Name::Journal(number),
        2 => Name::Spare(number),
        3 => Name::NewJournal(number),
        4 => Name::Checkpoint(number),
        5 => Name::NewCheckpoint(number),
        6 => Name::Log(number),
        7 => Name::Index(number),
        _ => Name::Foreign(number),
    }
}

fn write(output: Output, operation: Operation<'_>) -> Output {
    match operation {
        Operation::Flip { file, at, mask } => output.u8(0).u8(file).u16(at).u8(mask),
        Operation::Cut { file, len } => output.u8(1).u8(file).u16(len),
        Operation::Remove { file } => output.u8(2).u8(file),
        Operation::Copy { from, to } => write_name(output.u8(3).u8(from), to),
        Operation::Write { file, at, bytes } => {
            output.u8(4).u8(file).u16(at).u8(bytes.len() as u8).bytes(bytes)
        }
        Operation::Zero { file, sector } => output.u8(5).u8(file).u8(sector),
        Operation::Stale { from, to, sector } => output.u8(6).u8(from).u8(to).u8(sector),
        Operation::Put { to, bytes } => write_name(output.u8(7), to).u8(bytes.len() as u8).bytes(bytes),
    }
}

fn write_name(output: Output, name: Name) -> Output {
    let (kind, number) = match name {
        Name::File(number) => (0, number),
        Name::Journal(number) => (1, number),
        Name::Spare(number) => (2, number),
        Name::NewJournal(number) => (3, number),
        Name::Checkpoint(number) => (4, number),
        Name::NewCheckpoint(number) => (5, number),
        Name::Log(number) => (6, number),
        Name::Index(number) => (7, number),
        Name::Foreign(number) => (8, number),
    };
    output.u8(kind).u8(number)
}

/// Files that an earlier operation has removed are missing: then nothing happens.
fn carry_out(disk: &SimDisk, world: &World, operation: Operation<'_>) {
    let path = |file: u8| world.files[usize::from(file) % world.files.len()].clone();
    let change = |file: u8, change: &dyn Fn(&mut Vec<u8>)| {
        let name = path(file);
        if let Ok(mut content) = disk.read_file(&name) {
            change(&mut content);
            content.truncate(FILE_BYTES_MAX);
            put(disk, &name, &content);
        }
    };
    match operation {
        Operation::Flip { file, at, mask } => change(file, &|content| {
            if !content.is_empty() {
                let at = usize::from(at) % content.len();
                content[at] ^= mask;
            }
        }),
        Operation::Cut { file, len } => change(file, &|content| content.truncate(usize::from(len))),
        Operation::Remove { file } => drop(disk.remove(&path(file))),
        Operation::Copy { from, to } => {
            let (from, to) = (path(from), to.path(world));
            if let Ok(content) = disk.read_file(&from)
                && !are_segments(&from, &to)
            {
                put(disk, &to, &content);
            }
        }
        Operation::Write { file, at, bytes } => change(file, &|content| {
            let (from, to) = (usize::from(at), usize::from(at) + bytes.len());
            content.resize(content.len().max(to), 0);
            content[from..to].copy_from_slice(bytes);
        }),
        Operation::Zero { file, sector } => change(file, &|content| sector_of(content, sector).fill(0)),
        Operation::Stale { from, to, .. } if are_segments(&path(from), &path(to)) => {}
        Operation::Stale { from, to, sector } => {
            let mut stale = disk.read_file(&path(from)).unwrap_or_default();
            let stale = sector_of(&mut stale, sector);
            change(to, &|content| {
                let sector = sector_of(content, sector);
                let len = sector.len().min(stale.len());
                sector[..len].copy_from_slice(&stale[..len]);
            });
        }
        Operation::Put { to, bytes } => put(disk, &to.path(world), bytes),
    }
}

impl Name {
    fn path(self, world: &World) -> String {
        match self {
            Name::File(file) => world.files[usize::from(file) % world.files.len()].clone(),
            Name::Journal(number) => format!("journal/{number:020}.journal"),
            Name::Spare(number) => format!("journal/spare-{number:020}"),
            Name::NewJournal(number) => format!("journal/new-{number}.tmp"),
            Name::Checkpoint(number) => format!("checkpoint/{number:020}.checkpoint"),
            Name::NewCheckpoint(number) => format!("checkpoint/{number:020}.checkpoint.tmp"),
            Name::Log(number) => format!("topics/1-0/{number:020}.log"),
            Name::Index(number) => format!("topics/1-0/{number:020}.index"),
            Name::Foreign(number) => format!("journal/foreign-{number}"),
        }
    }
}

fn are_segments(one: &str, other: &str) -> bool {
    one.ends_with(".log") && other.ends_with(".log")
}

fn put(disk: &SimDisk, name: &str, content: &[u8]) {
    if let Some((dir, _)) = name.rsplit_once('/') {
        disk.create_dir(dir).expect("no file has the name of a directory");
    }
    disk.put(name, content).expect("the directory is there");
}

fn sector_of(content: &mut [u8], sector: u8) -> &mut [u8] {
    let from = (usize::from(sector) * SECTOR).min(content.len());
    let to = (from + SECTOR).min(content.len());
    &mut content[from..to]
}

fn check(disk: &SimDisk, world: &World) {
    let before = disk.fingerprint();
    let (mut shard, report) = match open(disk, 1) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(error.is_refusal() || matches!(error, StorageError::TooLarge { .. }), "{error:?}");
            assert_eq!(disk.fingerprint(), before, "refused by {error}, with something written");
            return;
        }
    };
    let lsn = shard.state().lsn;
    assert_eq!(lsn, report.last_lsn);
    assert_eq!(Some(&state_hash(&shard.state())), world.hashes.get(&lsn), "another state at lsn {lsn}");
    check_records(&shard, world, None);
    let appended = append(&mut shard);
    let hash = state_hash(&shard.state());
    // With damaged segments or journal files there is no checkpoint, and everything goes on without one.
    let kept = shard.checkpoint();
    assert!(kept.as_ref().map_or_else(StorageError::is_refusal, |()| true), "{kept:?}");
    drop(shard);
    let (mut again, report) = open(disk, 2).expect("what was opened once is opened again");
    assert_eq!((state_hash(&again.state()), report.last_lsn), (hash, again.state().lsn));
    check_records(&again, world, appended);
    check_appended(&again.reader(), appended);
    again.close().expect("the disk has no faults");
    drop(again);
    let (last, report) = open(disk, 3).expect("what was closed is opened again");
    assert!(report.clean && state_hash(&last.state()) == hash, "{report:?}");
}

/// `time` is which open this is: no two may draw the same nonces.
fn open(disk: &SimDisk, time: u64) -> Result<(Shard, RecoveryReport), StorageError> {
    let mut random = Random::new(u64::MAX - time);
    Shard::open(Watched::over(disk), options(), &mut || random.number())
}

/// Everything that can be read is what was appended; at the place `appended`, what this target has appended itself.
fn check_records(shard: &Shard, world: &World, appended: Option<(Partition, u64)>) {
    let reader = shard.reader();
    for partition in PARTITIONS {
        let (start, end) = reader.bounds(partition);
        let mut offset = start;
        for _ in 0..STEPS_MAX {
            match reader.read(partition, offset, 600) {
                Ok(batches) if batches.is_empty() => break,
                Ok(batches) => {
                    for record in batches.iter().flat_map(|batch| batch.records()) {
                        let record = record.expect("what was appended can be read");
                        assert!(record.offset < end, "{} of {end}", record.offset);
                        let place = (partition, record.offset);
                        let expected =
                            if appended == Some(place) { &APPENDED } else { &world.values[&place] };
                        assert_eq!(record.value.as_ref(), Some(expected), "{partition} {}", record.offset);
                        offset = record.offset + 1;
                    }
                }
                Err(error) => {
                    assert!(!matches!(error, StorageError::Poisoned { .. }), "{error:?}");
                    offset += 1;
                }
            }
        }
        let found = reader.first_at_or_after(partition, 1_000);
        assert!(found.as_ref().map_or_else(StorageError::is_refusal, |_| true), "{found:?}");
    }
}

/// Opens the log for writing and appends a batch, if the topic is there.
fn append(shard: &mut Shard) -> Option<(Partition, u64)> {
    run_command(shard, Command::Open);
    let partition = PARTITIONS[0];
    shard.state().partition(partition)?;
    let batch = batch(&APPENDED, None);
    let append = Command::Append { partition, config_version: 0, expected_end: None, batch };
    let reply = run_command(shard, append);
    let Reply::Appended { base_offset, duplicate: false, .. } = reply else { panic!("{reply:?}") };
    let appended = Some((partition, base_offset));
    check_appended(&shard.reader(), appended);
    appended
}

fn run_command(shard: &mut Shard, command: Command) -> Reply {
    let time_ms = 9_000;
    let applied =
        shard.execute(&[Submission { time_ms, command }]).expect("a recovered shard takes commands");
    applied[0].reply.clone()
}

fn check_appended(reader: &Reader, appended: Option<(Partition, u64)>) {
    let Some((partition, offset)) = appended else { return };
    let batches = reader.read(partition, offset, 1).expect("what was appended after recovery can be read");
    let record = batches[0].records().next().expect("it has a record").expect("it is whole");
    assert_eq!((record.offset, record.value), (offset, Some(APPENDED)));
}
