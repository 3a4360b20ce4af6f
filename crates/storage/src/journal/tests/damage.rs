//! Damage: every byte class, every sector, and files that are missing or in each other's place.

use super::format::{FileHeader, Predecessor};
use super::*;
use std::ops::Range;

/// What opening a damaged journal comes to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Everything is there.
    Exact,
    /// Less is there, and `Opened` says so.
    Reported,
    /// Less is there, and nothing says so.
    Silent,
    Refused {
        file: String,
        position: u64,
    },
}

fn verdict(disk: &MemoryDisk, last_lsn: u64) -> Verdict {
    match try_open_with(disk, small(), &Start::default()) {
        Ok(open) if open.ids() == up_to(last_lsn) => Verdict::Exact,
        Ok(open) => {
            assert_eq!(open.ids(), up_to(open.opened.last_lsn), "a prefix");
            if open.opened.cut.is_some() { Verdict::Reported } else { Verdict::Silent }
        }
        Err(StorageError::Damaged { file, position, .. }) => Verdict::Refused { file, position },
        Err(StorageError::Version { file, .. }) => Verdict::Refused { file, position: 0 },
        Err(StorageError::Missing { named_by, .. }) => Verdict::Refused { file: named_by, position: 0 },
        Err(error) => panic!("{error}"),
    }
}

fn small() -> Config {
    Config { file_bytes: 16 * KIB, ring_bytes: 128 * KIB, ..config() }
}

/// Two files. The first holds lsns 1 to 6 in three groups; the second 7 and 8, and 9 to 11 in the newest group. A
/// seal lies between those two, and nothing says that the newest is durable; or, if `sealed`, a seal behind it does.
fn two_files(sealed: bool) -> (MemoryDisk, Vec<Placed>) {
    let disk = MemoryDisk::new();
    let mut open = try_open_with(&disk, small(), &Start::default()).unwrap();
    let mut placed = Vec::new();
    for _ in 0..4 {
        placed.extend(open.commit(2));
    }
    if !sealed {
        open.journal.seal(false).unwrap();
    }
    placed.extend(open.commit(3));
    if sealed {
        open.journal.seal(false).unwrap();
    }
    (disk, placed)
}

/// The frames' bytes, header to body.
fn frame_range(placed: &Placed) -> Range<u64> {
    placed.head_at - 48..placed.end().at
}

/// Where a bad frame makes the walk stop: at the frame's own header.
fn frame_at(placed: &[Placed], generation: u64, at: u64) -> Option<&Placed> {
    placed.iter().find(|placed| placed.generation == generation && frame_range(placed).contains(&at))
}

#[test]
fn every_flipped_byte_is_harmless_refused_with_its_place_or_a_reported_cut() {
    for sealed in [false, true] {
        let (disk, placed) = two_files(sealed);
        let newest_group = if sealed { u64::MAX } else { 9 };
        for number in [1, 2] {
            let name = generation(number);
            for at in 0..16 * KIB {
                let damaged = disk.copy();
                damaged.flip(&name, at as usize, 1 << (at % 8));
                let verdict = verdict(&damaged, 11);
                let expected = match frame_at(&placed, number, at) {
                    _ if at < 4096 => Verdict::Refused { file: name.clone(), position: 0 },
                    None => Verdict::Exact, // padding, seals, and what was never written
                    Some(frame) if frame.lsn >= newest_group => Verdict::Reported,
                    Some(frame) => {
                        Verdict::Refused { file: name.clone(), position: frame_range(frame).start }
                    }
                };
                assert_eq!(verdict, expected, "{name} byte {at}, sealed: {sealed}");
            }
        }
    }
}

#[test]
fn every_zeroed_sector_is_harmless_refused_or_a_loss_within_the_newest_group() {
    for sealed in [false, true] {
        let (disk, placed) = two_files(sealed);
        for number in [1, 2] {
            let name = generation(number);
            for sector in 0..32 {
                let range = sector * 512..(sector + 1) * 512;
                let mut bytes = disk.read(&name);
                let wrote = bytes[range.clone()].iter().any(|byte| *byte != 0);
                bytes[range.clone()].fill(0);
                let damaged = disk.copy();
                damaged.put(&name, bytes);
                let hit: Vec<u64> = placed
                    .iter()
                    .filter(|placed| placed.generation == number)
                    .filter(|placed| {
                        let frame = frame_range(placed);
                        frame.start < range.end as u64 && (range.start as u64) < frame.end
                    })
                    .map(|placed| placed.lsn)
                    .collect();
                match verdict(&damaged, 11) {
                    Verdict::Exact => assert!(hit.is_empty() || !wrote, "{name} sector {sector}"),
                    Verdict::Refused { file, .. } => assert_eq!(file, name),
                    // A whole newest group of zeros can't be told from one that was never written.
                    Verdict::Silent => assert!(!sealed && hit.contains(&9), "{name} sector {sector}"),
                    Verdict::Reported => {
                        assert!(!sealed && hit.iter().all(|lsn| *lsn >= 9), "{name} sector {sector}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_end_that_a_successor_states_within_a_frame_or_its_padding_is_refused() {
    let disk = MemoryDisk::new();
    let mut open = try_open_with(&disk, small(), &Start::default()).unwrap();
    let placed = open.commit(2);
    open.journal.seal(true).unwrap();
    drop(open);
    drop(try_open_with(&disk, small(), &Start::default()).unwrap());
    let name = generation(2);
    let header = FileHeader::decode(&disk.read(&name)[..4096]).unwrap();
    let stated = header.predecessor.unwrap();
    let commands_end = placed[1].end().at;
    let seal = commands_end.next_multiple_of(4096);
    assert_eq!((stated.generation, stated.end), (1, commands_end));
    for end in 4097..=seal + 4096 {
        let damaged = disk.copy();
        let mut bytes = disk.read(&name);
        let wrong = FileHeader { predecessor: Some(Predecessor { end, ..stated }), ..header };
        bytes[..4096].copy_from_slice(&wrong.encode());
        damaged.put(&name, bytes);
        let is_one = [commands_end, seal, seal + 4096].contains(&end);
        match verdict(&damaged, 2) {
            Verdict::Exact => assert!(is_one, "an end of {end}"),
            Verdict::Refused { file, .. } => {
                assert!(!is_one && file == generation(1), "an end of {end}, {file}");
            }
            verdict => panic!("an end of {end}: {verdict:?}"),
        }
    }
}

#[test]
fn a_lost_end_of_the_newest_group_is_reported_even_if_it_is_all_zero() {
    let (disk, placed) = two_files(false);
    let name = generation(2);
    let mut bytes = disk.read(&name);
    bytes[frame_range(&placed[10]).start as usize..].fill(0);
    disk.put(&name, bytes);
    let open = try_open_with(&disk, small(), &Start::default()).unwrap();
    assert_eq!(open.ids(), up_to(10));
    assert!(open.opened.cut.is_some_and(|cut| cut.certain && cut.after_lsn == 10));
}

#[test]
fn files_that_are_missing_or_in_each_others_place_are_refused() {
    let disk = MemoryDisk::new();
    let mut open = try_open_with(&disk, small(), &Start::default()).unwrap();
    for _ in 0..9 {
        open.commit(2);
    }
    let first = generation(1);
    let refused = |change: &dyn Fn(&MemoryDisk)| {
        let disk = disk.copy();
        change(&disk);
        let before = (disk.names(), disk.count(Op::Write), disk.count(Op::Unlink));
        let error = try_open_with(&disk, small(), &Start::default()).unwrap_err();
        assert!(error.is_refusal(), "{error}");
        assert_eq!((disk.names(), disk.count(Op::Write), disk.count(Op::Unlink)), before, "untouched");
        error.to_string()
    };
    let gap = refused(&|disk| disk.remove(&generation(2)));
    assert_eq!(gap, format!("{} is missing; {} names it", generation(2), generation(3)));
    refused(&|disk| disk.remove(&first));
    refused(&|disk| disk.put(&generation(2), vec![]));
    refused(&|disk| disk.put(&generation(2), disk.read(&generation(2))[..8192].to_vec()));
    let renamed = refused(&|disk| {
        disk.put(&generation(4), disk.read(&generation(3)));
        disk.remove(&generation(3));
    });
    assert!(renamed.contains("the file of generation 3 under another one's name"), "{renamed}");
    refused(&|disk| disk.put(&generation(9), disk.read(&first)));
    refused(&|disk| {
        let (second, third) = (disk.read(&generation(2)), disk.read(&generation(3)));
        disk.put(&generation(2), third);
        disk.put(&generation(3), second);
    });
    refused(&|disk| disk.flip(&generation(3), 4096 + 48 + 1, 1));
    let version = refused(&|disk| disk.flip(&first, 8, 3));
    assert!(version.contains("has format version 2; this build reads version 1"), "{version}");
    let error = try_open_with(&disk, Config { shard: 4, ..small() }, &Start::default()).unwrap_err();
    assert!(error.to_string().contains("a file of shard 3, expected shard 4"), "{error}");
}

#[test]
fn an_older_copy_of_the_last_file_is_refused_once_its_lsns_were_stated_durable() {
    let disk = MemoryDisk::new();
    let mut open = try_open_with(&disk, small(), &Start::default()).unwrap();
    for _ in 0..4 {
        open.commit(2);
    }
    let copy = disk.read(&generation(2));
    open.commit(2);
    open.journal.seal(false).unwrap();
    open.journal.sync().unwrap();
    let whole = disk.read(&generation(2));
    // Zeros for what came later, but for the seal.
    let mut mixed = copy.clone();
    mixed[12_288..].copy_from_slice(&whole[12_288..]);
    disk.put(&generation(2), mixed);
    let error = try_open_with(&disk, small(), &Start::default()).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { position: 8192, .. }), "{error}");
    let start = Start { applied_lsn: 10, checkpoints_found: 1, ..Start::default() };
    disk.put(&generation(2), copy);
    let error = try_open_with(&disk, small(), &start).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { position: 8192, .. }), "{error}");
}

#[test]
fn a_checkpoint_without_its_journal_is_refused() {
    let disk = MemoryDisk::new();
    let start = Start { applied_lsn: 5, needed_lsn: 3, applied_at: None, checkpoints_found: 1 };
    let error = try_open_with(&disk, small(), &start).unwrap_err();
    assert!(matches!(error, StorageError::Missing { .. }), "{error}");
    assert!(disk.names().is_empty());
    let mut open = try_open_with(&disk, small(), &Start::default()).unwrap();
    open.commit(2);
    let error = try_open_with(&disk, small(), &start).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
}

#[test]
fn a_newest_file_without_a_header_is_refused_whatever_it_holds() {
    let (disk, _) = two_files(false);
    let whole = disk.read(&generation(2));
    for garbage in
        [vec![], vec![0; 16 << 10], vec![0xA5; 16 << 10], whole[4096..].to_vec(), whole[..4095].to_vec()]
    {
        let disk = disk.copy();
        disk.put(&generation(2), garbage);
        let error = try_open_with(&disk, small(), &Start::default()).unwrap_err();
        let refused =
            matches!(&error, StorageError::Damaged { file, position: 0, .. } if *file == generation(2));
        assert!(refused, "{error}");
    }
}

#[test]
fn a_newest_file_that_was_cut_is_refused_at_every_length() {
    for sealed in [false, true] {
        let (disk, _) = two_files(sealed);
        let whole = disk.read(&generation(2));
        for len in (4096..whole.len()).step_by(509).chain([8192, 12_288, whole.len() - 1]) {
            disk.put(&generation(2), whole[..len].to_vec());
            let error = try_open_with(&disk, small(), &Start::default()).unwrap_err();
            let what = format!("{} is damaged at byte {len}: the file ends here", generation(2));
            assert!(error.to_string().starts_with(&what), "{error}");
        }
        disk.put(&generation(2), whole);
        assert_eq!(verdict(&disk, 11), Verdict::Exact);
    }
}

#[test]
fn groups_inside_a_payload_never_count() {
    // A body that holds, block by block, the groups of an earlier file and one forged for this file's generation.
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    for _ in 0..16 {
        open.commit(1);
    }
    let old = disk.read(&generation(1));
    let mut body = vec![0; 4096 - 60];
    body.extend(&old[4096..8 * 4096]);
    let mut image = group::Group::default();
    let place = group::Place { generation: 2, nonce: 99, at: 0, durable_lsn: 1 << 40 };
    image.build(&[frame(18, 1, vec![])], place);
    image.pieces().iter().for_each(|piece| body.extend(piece.iter()));
    let placed = open.journal.append(&[frame(17, 17, body)]).unwrap();
    open.journal.sync().unwrap();
    assert_eq!(placed[0].generation, 2);
    assert_eq!(super::open(&disk.copy()).ids(), up_to(17));
    disk.flip(&generation(2), placed[0].head_at as usize, 1);
    let reopened = super::open(&disk);
    assert_eq!(reopened.ids(), up_to(16));
    assert_eq!(
        reopened.opened.proven_lsn, 15,
        "what the file's header states; nothing that the payload states"
    );
    assert!(reopened.opened.cut.is_some_and(|cut| cut.certain));
}
