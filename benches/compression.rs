//! A batch of 16 KiB of JSON, compressed and decompressed by each codec; beside copying as many bytes in memory.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't go on says so by panicking")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exactlog_benches::probe::copy_rate;
use exactlog_core::batch::Compression;
use exactlog_core::batch::compression::{compress, decompress};
use std::time::Duration;

const BYTES: usize = 16 * 1024;

fn compression(criterion: &mut Criterion) {
    let plain = events();
    let mut group = criterion.benchmark_group("compression");
    group.throughput(Throughput::Bytes(BYTES as u64));
    group.bench_function("probe: copy in memory", |bencher| {
        bencher.iter_custom(|iterations| {
            Duration::from_secs_f64(iterations as f64 * BYTES as f64 / copy_rate())
        });
    });
    for codec in Compression::ALL.into_iter().filter(|codec| codec.is_available()) {
        let packed = compress(codec, &plain).unwrap();
        let ratio = BYTES as f64 / packed.len() as f64;
        group.bench_function(format!("{codec}: compress, ratio {ratio:.1}"), |bencher| {
            bencher.iter(|| compress(codec, &plain).unwrap());
        });
        group.bench_function(format!("{codec}: decompress"), |bencher| {
            bencher.iter(|| assert_eq!(decompress(codec, &packed, BYTES).unwrap().len(), BYTES));
        });
    }
    group.finish();
}

/// Events as they are: the same fields, other numbers.
fn events() -> Vec<u8> {
    let event = |number: u64| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "{{\"event\":\"order-placed\",\"id\":\"{mixed:016x}\",\"number\":{number},\"items\":{}}}",
            mixed % 20
        )
    };
    (0..).flat_map(|number| event(number).into_bytes()).take(BYTES).collect()
}

criterion_group!(benches, compression);
criterion_main!(benches);
