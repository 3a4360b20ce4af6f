//! The exactly-once cycle over 8 partitions; beside a bare `fdatasync` of the same run.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{Criterion, criterion_group, criterion_main};
use exactlog::{Durability, Log};
use exactlog_benches::chain::Chain;
use exactlog_benches::probe::SyncProbe;
use exactlog_benches::warm::leave_first_file;

fn transaction(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut probe = SyncProbe::new(directory.path()).unwrap();
    let mut group = criterion.benchmark_group("transaction");
    group.bench_function("probe: fdatasync of 4 KiB", |bencher| bencher.iter(|| probe.step().unwrap()));
    for (name, durability) in [("durable", Durability::Fsync), ("page cache", Durability::Os)] {
        let log = Log::builder().durability(durability).open(directory.path().join(name)).unwrap();
        leave_first_file(&log).unwrap();
        let mut chain = Chain::new(&log, "circle", 100).unwrap();
        let name = format!("8 records, 8 partitions, 8 offsets, {name}");
        group.bench_function(name, |bencher| bencher.iter(|| chain.blocking_step().unwrap()));
        assert!(chain.is_whole());
    }
    group.finish();
}

criterion_group!(benches, transaction);
criterion_main!(benches);
