//! Index files: whatever is in them, the answers are the same.

use super::*;

const EXTENSIONS: [&str; 2] = ["index", "timeindex"];

/// Four segments, of which the first is looked at.
fn log() -> (MemoryDisk, Ends, Vec<Batch>) {
    let batches = batches(28);
    let (disk, log) = written(&batches, SMALL);
    assert!(log.ends().segments.len() >= 4);
    (disk, log.ends(), batches)
}

fn first_index(extension: &str) -> String {
    format!("{DIR}/00000000000000000000.{extension}")
}

/// A new log, so that nothing is in memory, answers as it should; and the file is what it was.
fn assert_healed(disk: &MemoryDisk, ends: &Ends, batches: &[Batch], name: &str, good: &[u8]) {
    assert_reads_as(&open(disk, SMALL, ends).readable(), batches);
    assert_eq!(disk.content(name), good, "{name}");
}

#[test]
fn a_sealed_segment_has_both_indexes_and_a_rebuilt_one_is_equal() {
    let (disk, ends, batches) = log();
    for extension in EXTENSIONS {
        let name = first_index(extension);
        let good = disk.content(&name);
        disk.unlink(&name).unwrap();
        assert_healed(&disk, &ends, &batches, &name, &good);
    }
}

#[test]
fn an_index_with_any_bit_flipped_is_built_again() {
    let (disk, ends, batches) = log();
    for extension in EXTENSIONS {
        let name = first_index(extension);
        let good = disk.content(&name);
        assert!(good.len() > 44, "{name} has an entry");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            disk.put(&name, bad);
            let set = open(&disk, SMALL, &ends).readable();
            assert_eq!(set.read(0, 100_000).unwrap(), batches);
            assert_eq!(disk.content(&name), good, "{name}, bit {bit}");
        }
    }
}

#[test]
fn an_index_that_is_cut_or_longer_is_built_again() {
    let (disk, ends, batches) = log();
    for extension in EXTENSIONS {
        let name = first_index(extension);
        let good = disk.content(&name);
        for len_bytes in 0..good.len() {
            disk.put(&name, good[..len_bytes].to_vec());
            assert_healed(&disk, &ends, &batches, &name, &good);
        }
        for more in [1, 12] {
            disk.put(&name, [&good[..], &vec![0; more]].concat());
            assert_healed(&disk, &ends, &batches, &name, &good);
        }
    }
}

/// With a CRC that holds, so that only the segment can tell.
fn with_crc(mut file: Vec<u8>) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&file[..40]);
    crc.update(&file[44..]);
    file[40..44].copy_from_slice(&crc.finalize().to_le_bytes());
    file
}

#[test]
fn an_index_that_is_whole_but_disagrees_with_the_segment_is_not_believed() {
    let (disk, ends, batches) = log();
    let name = first_index("index");
    let good = disk.content(&name);
    assert!(good.len() >= 44 + 2 * 8);
    for (at, add) in [(44 + 8, 1), (44 + 12, 1), (44 + 12, 61)] {
        let mut bad = good.clone();
        bad[at] = bad[at].wrapping_add(add);
        disk.put(&name, with_crc(bad));
        assert_offsets_read_as(&open(&disk, SMALL, &ends).readable(), &batches);
    }
}

#[test]
fn the_index_of_another_segment_version_or_length_is_not_believed() {
    let (disk, ends, batches) = log();
    for extension in EXTENSIONS {
        let name = first_index(extension);
        let good = disk.content(&name);
        let other = format!("{DIR}/{:020}.{extension}", ends.segments[1].base_offset);
        disk.put(&name, disk.content(&other));
        assert_healed(&disk, &ends, &batches, &name, &good);
        for at in [8, 24] {
            let mut other = good.clone(); // a later version; this segment when it was shorter or longer
            other[at] ^= 3;
            disk.put(&name, with_crc(other));
            assert_healed(&disk, &ends, &batches, &name, &good);
        }
    }
}

#[test]
fn a_segment_that_rolls_after_a_reopen_is_indexed_when_it_is_read() {
    let batches = batches(28);
    let (disk, log) = written(&batches[..3], SMALL);
    let mut log = open(&disk, SMALL, &log.ends());
    append_all(&mut log, &batches[3..]);
    log.sync().unwrap();
    let name = first_index("index");
    assert!(!disk.exists(&name));
    assert_reads_as(&log.readable(), &batches);
    assert!(disk.exists(&name));
    assert_eq!(disk.content(&name), super::indexes::log().0.content(&name));
}

#[test]
fn the_bytes_of_an_index_are_as_the_format_says() {
    let options = Options { segment_bytes: 300, ..SMALL };
    let batches = [batch(258, &[7], 100), batch(259, &[5], 5), batch(260, &[9], 1_000)];
    let disk = MemoryDisk::default();
    let mut log = open(&disk, Options { index_interval_bytes: 100, ..options }, &Ends::default());
    log.skip_to(258).unwrap();
    append_all(&mut log, &batches);
    log.sync().unwrap();
    let len_bytes: [usize; 2] = [batches[0].len_bytes(), batches[1].len_bytes()];
    assert_eq!(len_bytes, [178, 81]);
    let hex = |extension: &str| -> String {
        let file = disk.content(&format!("{DIR}/00000000000000000258.{extension}"));
        file.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let header = concat!(
        "0201000000000000", // base offset 258
        "0301000000000000", // segment bytes 178 + 81
        "0401000000000000", // end offset 260
    );
    let offsets = hex("index");
    assert_eq!(offsets[..32], *"45584c4f47494458010000000200 0000".replace(' ', "")); // EXLOGIDX, 1, 0, 2 entries
    assert_eq!(offsets[32..80], *header);
    assert_eq!(offsets[88..], *"0000000000000000 01000000b2000000".replace(' ', "")); // (0, 0), (1, 178)
    let times = hex("timeindex");
    assert_eq!(times[..32], *"45584c4f47544958010000000100 0000".replace(' ', "")); // EXLOGTIX, 1, 0, 1 entry
    assert_eq!(times[32..80], *header);
    assert_eq!(times[88..], *"0700000000000000 01000000".replace(' ', "")); // (7 ms, 1)
}
