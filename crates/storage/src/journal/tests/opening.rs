//! Opening: clean, unclean, cut, rewritten, recycled.

use super::*;

#[test]
fn a_journal_that_was_closed_opens_clean_with_everything_in_it() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    for _ in 0..29 {
        first.commit(2);
    }
    first.journal.seal(true).unwrap();
    first.journal.sync().unwrap();
    let second = open(&disk);
    assert_eq!(second.ids(), up_to(58));
    assert!(second.opened.clean && second.opened.cut.is_none());
    assert_eq!((second.opened.last_lsn, second.opened.proven_lsn, second.opened.term), (58, 58, 1));
    assert!(second.opened.moved.is_empty());
    assert_eq!(second.read_all(), up_to(58));
}

#[test]
fn every_open_goes_on_in_a_new_generation() {
    let disk = MemoryDisk::new();
    for round in 1..=5 {
        let mut open = open(&disk);
        assert_eq!(open.journal.generation(), round);
        assert_eq!(open.ids(), up_to(2 * round - 2));
        open.commit(2);
        assert_eq!(open.read_all(), up_to(2 * round));
    }
}

#[test]
fn the_term_rises_unless_the_journal_was_closed() {
    let disk = MemoryDisk::new();
    let mut journal = open(&disk);
    assert_eq!(journal.opened.term, 1);
    journal.commit(1);
    let mut journal = open(&disk);
    assert_eq!(journal.opened.term, 2);
    journal.journal.seal(true).unwrap();
    let journal = open(&disk);
    assert_eq!(journal.opened.term, 2);
    drop(journal);
    assert_eq!(open(&disk).opened.term, 3, "the last one wrote nothing, not even a seal");
}

#[test]
fn frames_above_the_stated_durable_lsn_are_written_again() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(3);
    first.write(2);
    first.write(2);
    let second = open(&disk);
    assert_eq!((second.opened.last_lsn, second.opened.proven_lsn), (7, 3));
    assert_eq!(second.journal.durable_lsn(), 7);
    let moved: Vec<u64> = second.opened.moved.iter().map(|placed| placed.lsn).collect();
    assert_eq!(moved, [4, 5, 6, 7]);
    assert!(second.opened.moved.iter().all(|placed| placed.generation == 2));
    let reader = second.journal.reader();
    for placed in &second.opened.moved {
        let body = reader.read_at(2, placed.bodies_at, placed.bodies_len).unwrap();
        assert_eq!(body, vec![placed.lsn as u8; 100]);
    }
    assert_eq!(second.read_all(), up_to(7));
    disk.lose_power();
    assert_eq!(open(&disk).ids(), up_to(7));
}

#[test]
fn a_tail_torn_at_any_byte_of_the_newest_group_is_cut_to_whole_commands() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(2);
    let placed = first.write(3);
    let name = generation(1);
    let whole = disk.read(&name);
    let end = placed[2].end().at;
    for at in 8192..12288 {
        let torn = disk.copy();
        let mut bytes = whole.clone();
        bytes[at..12288].fill(0);
        torn.put(&name, bytes);
        let survivors = 2 + placed.iter().filter(|placed| placed.end().at <= at as u64).count() as u64;
        let mut second = open(&torn);
        assert_eq!(second.ids(), up_to(survivors), "torn at byte {at}");
        let nothing_left = at == 8192;
        let whole_group = at as u64 >= end;
        assert_eq!(second.opened.cut.is_none(), nothing_left || whole_group, "torn at byte {at}");
        second.commit(2);
        let third = open(&torn);
        assert_eq!(third.ids(), up_to(survivors + 2), "torn at byte {at}");
    }
}

#[test]
fn a_cut_is_reported_once_and_the_journal_goes_on_behind_it() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(2);
    let placed = first.write(3);
    disk.flip(&generation(1), placed[1].bodies_at as usize + 5, 0x10);
    let mut second = open(&disk);
    assert_eq!(second.ids(), up_to(3));
    let cut = second.opened.cut.clone().unwrap();
    assert_eq!((cut.position, cut.after_lsn, cut.certain), (placed[1].head_at - 48, 3, true));
    assert_eq!(cut.file, generation(1));
    second.commit(4);
    let mut third = open(&disk);
    assert_eq!(third.ids(), up_to(7));
    assert_eq!(third.opened.cut, None);
    third.commit(1);
    assert_eq!(open(&disk).ids(), up_to(8));
}

#[test]
fn a_group_behind_a_hole_is_cut_with_it_if_nothing_stated_it_durable() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(1);
    let hole = first.write(2);
    first.write(2);
    disk.flip(&generation(1), hole[0].head_at as usize, 1);
    let mut second = open(&disk);
    assert_eq!(second.ids(), [1]);
    assert!(second.opened.cut.as_ref().is_some_and(|cut| cut.certain && cut.after_lsn == 1));
    second.commit(1);
    assert_eq!(open(&disk).ids(), [1, 2]);
}

#[test]
fn a_checkpoint_says_where_parsing_begins() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    let mut placed = Vec::new();
    for _ in 0..20 {
        placed.extend(first.commit(3));
    }
    first.journal.seal(false).unwrap();
    for place in &placed {
        let applied_lsn = place.lsn;
        for applied_at in [Some(place.end()), None, Some(Position { generation: 99, at: 5000 })] {
            let start = Start { applied_lsn, applied_at, needed_lsn: applied_lsn / 2, checkpoints_found: 1 };
            let second = try_open_with(&disk.copy(), config(), &start).unwrap();
            assert_eq!(second.ids(), (applied_lsn + 1..=60).collect::<Vec<_>>());
            assert_eq!(second.opened.proven_lsn, 60);
            assert_eq!(second.read_all(), up_to(60));
        }
    }
}

#[test]
fn a_clean_journal_is_opened_without_reading_what_lies_before_the_checkpoint_or_behind_the_seal() {
    let disk = MemoryDisk::new();
    let config = Config { file_bytes: 16 << 20, ring_bytes: 64 << 20, ..config() };
    let mut first = try_open_with(&disk, config, &Start::default()).unwrap();
    let mut end = None;
    for _ in 0..1000 {
        end = first.write(1).last().map(Placed::end);
    }
    first.journal.sync().unwrap();
    first.journal.seal(true).unwrap();
    first.journal.sync().unwrap();
    let start = Start { applied_lsn: 1000, applied_at: end, needed_lsn: 1000, checkpoints_found: 1 };
    let read = disk.bytes_read();
    let second = try_open_with(&disk, config, &start).unwrap();
    assert!(second.opened.clean);
    assert!(disk.bytes_read() - read <= 5 << 20, "{} bytes were read", disk.bytes_read() - read);
}

#[test]
fn a_place_behind_a_seal_is_never_stated_as_an_end() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(2);
    let whole = disk.read(&generation(1));
    first.journal.seal(false).unwrap();
    let behind_the_seal = first.journal.position();
    let start =
        Start { applied_lsn: 2, applied_at: Some(behind_the_seal), needed_lsn: 0, checkpoints_found: 1 };
    try_open_with(&disk, config(), &start).unwrap().commit(1);
    // The seal never reached the disk.
    disk.put(&generation(1), whole);
    assert_eq!(open(&disk).ids(), up_to(3));
}

#[test]
fn a_recycled_file_shows_nothing_of_its_earlier_use() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    for _ in 0..31 {
        first.commit(1);
    }
    first.journal.recycle(15).unwrap();
    for _ in 0..15 {
        first.commit(1);
    }
    // The journal is now in the middle of its first file, used again: stale groups follow the newest one.
    assert_eq!(first.journal.generation(), 4);
    let start = Start { applied_lsn: 15, applied_at: None, needed_lsn: 15, checkpoints_found: 1 };
    let second = try_open_with(&disk, config(), &start).unwrap();
    assert_eq!(second.ids(), (16..=46).collect::<Vec<_>>());
    let cut = second.opened.cut.unwrap();
    assert_eq!((cut.after_lsn, cut.certain), (46, false), "stale bytes may as well be a torn group");
}

#[test]
fn a_spare_with_a_second_name_is_removed_and_never_written() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(1);
    first.commit(1);
    let kept = disk.read(&generation(1));
    disk.link(&generation(1), &names::spare(1));
    let second = open(&disk);
    assert_eq!(second.ids(), [1, 2]);
    assert_eq!(disk.read(&generation(1)), kept);
    assert!(!disk.names().contains(&names::spare(1)));
}

#[test]
fn names_that_came_back_after_recycling_are_ignored_and_removed() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    for _ in 0..17 {
        first.commit(1);
    }
    first.journal.recycle(15).unwrap();
    let start = Start { applied_lsn: 15, applied_at: None, needed_lsn: 15, checkpoints_found: 1 };
    // The oldest file's name now leads to the newest file: as a second name, and as a name of some other file.
    for second_name in [true, false] {
        let disk = disk.copy();
        if second_name {
            disk.link(&generation(2), &generation(1));
        } else {
            let header = disk.read(&generation(2))[..4096].to_vec();
            disk.put(&generation(1), [header, vec![0; 60 << 10]].concat());
        }
        let second = try_open_with(&disk, config(), &start).unwrap();
        assert_eq!(second.ids(), [16, 17]);
        let reason = "the file of generation 2 under another one's name";
        assert_eq!(second.opened.ignored, [format!("{}: {reason}", generation(1))]);
        assert!(!disk.names().contains(&generation(1)));
    }
}

#[test]
fn spares_found_at_open_are_used_and_those_of_another_size_removed() {
    let disk = MemoryDisk::new();
    disk.put(&names::spare(1), vec![0; 64 << 10]);
    disk.put(&names::spare(2), vec![0xEE; 64 << 10]);
    disk.put(&names::spare(3), vec![0; 4096]);
    disk.put(&names::new_spare(4), vec![0; 100]);
    disk.put("journal/README", vec![]);
    let mut journal = open(&disk);
    assert_eq!(disk.count(Op::Create), 0);
    assert_eq!(journal.journal.spares().ready(), 1);
    assert_eq!(journal.opened.ignored, ["journal/README: not a file of the journal"]);
    journal.commit(2);
    let again = open(&disk);
    assert_eq!(again.ids(), [1, 2]);
    again.journal.spares().remove_unfinished().unwrap();
    assert_eq!(disk.names().len(), 3, "{:?}", disk.names());
}

#[test]
fn the_term_is_above_every_header_also_outside_the_chain() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(1);
    first.commit(1);
    assert_eq!(open(&disk).opened.term, 2);
    // Damage cuts off the only command of the second file, which nothing stated durable there.
    disk.flip(&generation(2), 4096 + 48, 1);
    let third = open(&disk);
    assert_eq!(third.opened.term, 3, "also above that of the file that no longer counts");
    assert_eq!(third.ids(), [1]);
    assert_eq!(third.journal.files().iter().map(|file| file.generation).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_file_size_that_was_lowered_still_takes_what_is_written_again() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.write(1);
    first.journal.append(&[frame(2, 2, vec![1; 40_000])]).unwrap();
    let lower = Config { file_bytes: 16 * KIB, ..config() };
    let mut second = try_open_with(&disk, lower, &Start::default()).unwrap();
    assert_eq!(second.ids(), [1, 2]);
    second.commit(1);
    assert_eq!(second.read_all(), [1, 2, 3]);
    let third = try_open_with(&disk, lower, &Start::default()).unwrap();
    assert_eq!(third.ids(), [1, 2, 3]);
}

#[test]
fn a_full_disk_at_open_changes_nothing() {
    let disk = MemoryDisk::new();
    open(&disk).commit(2);
    disk.limit_room(Some(0));
    let error = try_open(&disk).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    assert_eq!(disk.names(), [generation(1)]);
    disk.limit_room(None);
    assert_eq!(open(&disk).ids(), [1, 2]);
}

#[test]
fn every_failed_operation_of_open_leaves_a_journal_that_opens() {
    for op in
        [Op::Create, Op::Allocate, Op::Write, Op::Sync, Op::Rename, Op::SyncDirectory, Op::Read, Op::Unlink]
    {
        for nth in 1.. {
            let disk = MemoryDisk::new();
            let mut first = open(&disk);
            first.commit(2);
            first.write(2);
            drop(first);
            disk.put(&names::new_journal(9), vec![]);
            disk.fail(op, nth, 5);
            let failed = try_open(&disk);
            if disk.cancel_failure() {
                assert!(failed.is_ok());
                assert!(nth > 1, "{op:?} never happened");
                break;
            }
            assert!(!failed.unwrap_err().is_refusal(), "{op:?} {nth}");
            disk.kill();
            let found = open(&disk).ids();
            assert!(found == up_to(4) || found == up_to(3) || found == up_to(2), "{op:?} {nth} {found:?}");
        }
    }
}

#[test]
fn settings_outside_their_bounds_are_refused() {
    for file_bytes in [0, 4096, 8192, 12_289, 1 << 32] {
        let error = try_open_with(&MemoryDisk::new(), Config { file_bytes, ..config() }, &Start::default())
            .unwrap_err();
        assert!(matches!(error, StorageError::Setting { value, .. } if value == file_bytes), "{error}");
    }
}
