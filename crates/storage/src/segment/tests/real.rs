//! The same on the disk of the operating system, with and without mappings.

use super::*;
use crate::disk::RealDisk;

#[test]
fn a_log_on_a_real_disk_is_read_back_also_after_a_reopen_at_older_ends() {
    let batches = batches(60);
    for mapping in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap().with_mapping(mapping);
        let open =
            |ends: &Ends| PartitionLog::open(Arc::new(disk.clone()), DIR.to_owned(), SMALL, ends).unwrap();
        let mut log = open(&Ends::default());
        append_all(&mut log, &batches[..31]);
        log.sync().unwrap();
        let early = log.ends();
        append_all(&mut log, &batches[31..]);
        log.sync().unwrap();
        assert_reads_as(&log.readable(), &batches);
        let held = log.readable().read(0, usize::MAX).unwrap();

        let mut again = open(&early);
        assert!(again.remove_unnamed().unwrap() > 0);
        assert_reads_as(&again.readable(), &batches[..31]);
        append_all(&mut again, &batches[31..]);
        again.sync().unwrap();
        assert_eq!(again.ends(), log.ends());
        assert_reads_as(&open(&again.ends()).readable(), &batches);
        assert_eq!(held, batches, "what a reader holds outlives the names");
    }
}

#[test]
#[ignore]
fn speed() {
    use std::time::Instant;
    let dir = tempfile::tempdir_in("/work/target-segments").unwrap();
    let disk = RealDisk::new(dir.path()).unwrap();
    let open = |ends: &Ends| {
        PartitionLog::open(Arc::new(disk.clone()), DIR.to_owned(), Options::default(), ends).unwrap()
    };
    for (per_batch, value) in [(1usize, 1024usize), (64, 1024), (1000, 100)] {
        let total = 512usize << 20;
        let one = batch(0, &vec![1; per_batch], value);
        let count = total / one.len_bytes();
        let mut log = open(&Ends::default());
        let placed: Vec<Batch> = (0..count).map(|n| one.placed((n * per_batch) as u64, 1)).collect();
        let start = Instant::now();
        for b in &placed {
            log.append(b).unwrap();
        }
        let appended = start.elapsed();
        log.sync().unwrap();
        let synced = start.elapsed();
        let gib = (count * one.len_bytes()) as f64 / (1u64 << 30) as f64;
        println!(
            "{per_batch}x{value}: append {:.2} GiB/s, with sync {:.2} GiB/s",
            gib / appended.as_secs_f64(),
            gib / synced.as_secs_f64()
        );
        for (what, set) in [("written", log.readable()), ("reopened", open(&log.ends()).readable())] {
            for round in 0..3 {
                let start = Instant::now();
                let mut offset = 0;
                let mut n = 0;
                while offset < set.end_offset() {
                    let got = set.read(offset, 1 << 20).unwrap();
                    n += got.len();
                    offset = got.last().unwrap().next_offset();
                }
                assert_eq!(n, count);
                println!("  {what} round {round}: read {:.2} GiB/s", gib / start.elapsed().as_secs_f64());
            }
            let start = Instant::now();
            let mut x = 12345u64;
            for _ in 0..100_000 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let o = (x >> 20) % set.end_offset();
                std::hint::black_box(set.read(o, 1).unwrap());
            }
            println!("  {what} point read {:.2} us", start.elapsed().as_secs_f64() * 10.0);
        }
    }
}
