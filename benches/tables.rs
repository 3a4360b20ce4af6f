//! A keyed table of 100,000 keys: 1,000 puts in a transaction, 1,000 gets, and a scan of a 16th of its keys; beside the
//! same in a `HashMap` and a `BTreeMap`, which keep nothing. What is read has been written into segments.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use exactlog::{Durability, Log, Producer, Table, TableOptions};
use exactlog_benches::beside::{Rounds, pick};
use exactlog_benches::numbers::{Numbers, spread};
use exactlog_benches::value::Values;
use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::time::Duration;

const AT_ONCE: u64 = 1000;
const VALUE_BYTES: usize = 100;

fn tables(criterion: &mut Criterion) {
    let keys = pick(100_000, 2000);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = Log::builder().durability(Durability::Os).open(directory.path()).unwrap();
    let table = log.create_table("measured", TableOptions::default()).unwrap();
    let mut producer = log.producer("writer").unwrap();
    let mut values = Values::new(VALUE_BYTES);
    for from in (0..keys).step_by(AT_ONCE as usize) {
        put(&mut producer, &table, from..from + AT_ONCE, &mut values);
    }
    assert_eq!(table.len().unwrap(), keys);
    let mut group = criterion.benchmark_group("tables");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(AT_ONCE));
    written(&mut group, &mut producer, &table, keys);
    log.checkpoint().unwrap();
    read(&mut group, &table, keys);
    scanned(&mut group, &table, keys);
    group.finish();
}

fn put(producer: &mut Producer, table: &Table, numbers: impl Iterator<Item = u64>, values: &mut Values) {
    let mut transaction = producer.begin();
    for number in numbers {
        transaction.put(table, spread(number).to_vec(), values.take()).unwrap();
    }
    transaction.blocking_commit().unwrap();
}

/// What a table is compared with: it owns its keys and values, too.
fn map_of<M: FromIterator<([u8; 16], Vec<u8>)>>(keys: u64) -> M {
    let mut values = Values::new(VALUE_BYTES);
    (0..keys).map(|number| (spread(number), values.take().to_vec())).collect()
}

fn written(group: &mut BenchmarkGroup<'_, WallTime>, producer: &mut Producer, table: &Table, keys: u64) {
    let (mut in_map, mut in_table) = (Rounds::default(), Rounds::default());
    let (mut numbers, mut values) = (Numbers::below(keys), Values::new(VALUE_BYTES));
    let mut map: HashMap<[u8; 16], Vec<u8>> = map_of(keys);
    group.bench_function("limit: insert into a HashMap", |bencher| {
        bencher.iter_custom(|count| {
            in_map.run(count, || {
                for _ in 0..AT_ONCE {
                    black_box(&mut map).insert(spread(numbers.take()), values.take().to_vec());
                }
            })
        });
    });
    group.bench_function("put, 1,000 in a transaction", |bencher| {
        bencher.iter_custom(|count| {
            in_table.run(count, || {
                put(producer, table, (0..AT_ONCE).map(|_| numbers.take()), &mut values);
            })
        });
    });
    in_table.tell("put", &in_map, "a HashMap");
}

fn read(group: &mut BenchmarkGroup<'_, WallTime>, table: &Table, keys: u64) {
    let (mut in_map, mut in_table) = (Rounds::default(), Rounds::default());
    let mut numbers = Numbers::below(keys);
    let map: HashMap<[u8; 16], Vec<u8>> = map_of(keys);
    group.bench_function("limit: get from a HashMap", |bencher| {
        bencher.iter_custom(|count| {
            in_map.run(count, || {
                for _ in 0..AT_ONCE {
                    // A table hands out a copy as well.
                    let value = black_box(&map)[&spread(numbers.take())].clone();
                    assert_eq!(black_box(value).len(), VALUE_BYTES);
                }
            })
        });
    });
    group.bench_function("get", |bencher| {
        bencher.iter_custom(|count| {
            in_table.run(count, || {
                for _ in 0..AT_ONCE {
                    let entry = table.get(spread(numbers.take())).unwrap().unwrap();
                    assert_eq!(entry.value().len(), VALUE_BYTES);
                }
            })
        });
    });
    in_table.tell("get", &in_map, "a HashMap");
}

fn scanned(group: &mut BenchmarkGroup<'_, WallTime>, table: &Table, keys: u64) {
    let (mut in_map, mut in_table) = (Rounds::default(), Rounds::default());
    let map: BTreeMap<[u8; 16], Vec<u8>> = map_of(keys);
    // Of keys that are spread evenly a 16th.
    let mut end = [0; 16];
    end[0] = 0x10;
    let keys = map.range(..end).count();
    group.throughput(Throughput::Elements(keys as u64));
    group.bench_function("limit: walk over a BTreeMap", |bencher| {
        bencher.iter_custom(|count| {
            in_map.run(count, || {
                let some = black_box(&map).range(..end);
                let copies = some.map(|(key, value)| (*key, value.clone()));
                assert_eq!(copies.map(black_box).count(), keys);
            })
        });
    });
    group.bench_function("scan", |bencher| {
        bencher.iter_custom(|count| {
            in_table.run(count, || {
                let values = table.scan(..end.to_vec()).map(|entry| entry.unwrap().value().len());
                assert_eq!(values.sum::<usize>(), keys * VALUE_BYTES);
            })
        });
    });
    in_table.tell("scan", &in_map, "a BTreeMap");
}

criterion_group!(benches, tables);
criterion_main!(benches);
