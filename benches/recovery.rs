//! Opening a log that was killed with 64 MiB to replay, beside reading as many bytes of its journal and their checksum;
//! and one that was closed, beside a bare `fdatasync` of the same run.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{Criterion, SamplingMode, Throughput, criterion_group};
use exactlog::{Builder, Event, Log, TopicOptions};
use exactlog_benches::beside::{Rounds, pick};
use exactlog_benches::probe::SyncProbe;
use exactlog_benches::value::Values;
use std::fs::File;
use std::hint::black_box;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const VALUE_BYTES: u64 = 1024;

/// The first argument of the process that is killed; a directory and a number of records follow.
const KILLED: &str = "killed";

fn main() {
    if let [_, first, directory, records] = &std::env::args().collect::<Vec<_>>()[..]
        && first == KILLED
    {
        let _log = write(Path::new(directory), records.parse().unwrap());
        std::process::abort();
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}

fn recovery(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let records = pick(64 << 20, 1 << 20) / VALUE_BYTES;
    let (killed, closed) = (directory.path().join("killed"), directory.path().join("closed"));
    write(&closed, records).close().unwrap();
    let arguments = [KILLED, killed.to_str().unwrap(), &records.to_string()];
    let ended = Command::new(std::env::current_exe().unwrap()).args(arguments).status().unwrap();
    assert_eq!(ended.code(), None, "the process that was to be killed ended by itself");

    let mut group = criterion.benchmark_group("recovery");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let mut syncing = Rounds::default();
    let mut probe = SyncProbe::new(directory.path()).unwrap();
    group.bench_function("limit: fdatasync of 4 KiB", |bencher| {
        bencher.iter_custom(|count| syncing.run(count, || probe.step().unwrap()));
    });
    let mut opening = Rounds::default();
    group.bench_function("open what was closed", |bencher| {
        bencher.iter_custom(|count| opening.run_timed(count, || open_closed(&closed, records)));
    });
    opening.tell("open what was closed", &syncing, "one fdatasync");

    group.throughput(Throughput::Bytes(records * VALUE_BYTES));
    let mut reading = Rounds::default();
    group.bench_function("limit: read as many bytes, and their checksum", |bencher| {
        bencher.iter_custom(|count| reading.run(count, || read(&killed, records * VALUE_BYTES)));
    });
    let copy = directory.path().join("copy");
    let mut replaying = Rounds::default();
    group.bench_function("open what was killed", |bencher| {
        bencher.iter_custom(|count| replaying.run_timed(count, || open_killed(&killed, &copy, records)));
    });
    replaying.tell("open what was killed", &reading, "reading as many bytes and their checksum");
    group.finish();
}

/// Smaller journal files than those of a default log, so that there is less to be copied for each opening.
fn builder() -> Builder {
    Log::builder().journal_file_bytes(16 << 20)
}

/// Writes a log; all of it is acknowledged.
fn write(directory: &Path, records: u64) -> Log {
    let log = builder().open(directory).unwrap();
    let topic = log.create_topic("written", TopicOptions::default().partitions(8)).unwrap();
    let producer = log.producer("written").unwrap();
    let mut values = Values::new(VALUE_BYTES as usize);
    let mut last = None;
    for _ in 0..records {
        last = Some(producer.blocking_submit(&topic, Event::unkeyed(values.take())).unwrap());
    }
    last.unwrap().wait().unwrap();
    log
}

fn open_closed(closed: &Path, records: u64) -> Duration {
    let began = Instant::now();
    let log = builder().open(closed).unwrap();
    let elapsed = began.elapsed();
    assert!(log.recovery().clean);
    check(&log, records);
    log.close().unwrap();
    elapsed
}

/// Opening writes: each time begins with what was left.
fn open_killed(killed: &Path, copy: &Path, records: u64) -> Duration {
    copy_tree(killed, copy);
    let began = Instant::now();
    let log = builder().open(copy).unwrap();
    let elapsed = began.elapsed();
    assert!(!log.recovery().clean && log.recovery().replayed_commands > 0);
    check(&log, records);
    log.close().unwrap();
    std::fs::remove_dir_all(copy).unwrap();
    elapsed
}

fn check(log: &Log, records: u64) {
    let topic = log.open_topic("written").unwrap();
    let bounds = (0..topic.partitions()).map(|index| log.bounds(&topic, index).unwrap());
    assert_eq!(bounds.map(|(start, end)| end - start).sum::<u64>(), records);
}

/// Reads the first so many bytes of a journal, 1 MiB at a time.
fn read(killed: &Path, bytes: u64) {
    let (mut piece, mut left) = (vec![0; 1 << 20], bytes as usize);
    for path in files_of(&killed.join("journal")) {
        let mut file = File::open(path).unwrap();
        while left > 0 {
            let room = piece.len().min(left);
            match file.read(&mut piece[..room]) {
                Ok(0) => break,
                Ok(read) => {
                    black_box(crc32c::crc32c(&piece[..read]));
                    left -= read;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}"),
            }
        }
    }
    assert_eq!(left, 0, "the journal has fewer bytes than were written");
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Copies and syncs, so that opening doesn't wait for the copy to reach the disk.
fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for path in files_of(from) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
            File::open(&target).unwrap().sync_all().unwrap();
        }
    }
}

criterion_group!(benches, recovery);
