//! The running journal: append, sync, roll, recycle, cursor, failures.

use super::*;
use crate::disk::Disk;

#[test]
fn a_fresh_directory_begins_at_lsn_one_and_term_one() {
    let disk = MemoryDisk::new();
    let open = open(&disk);
    assert_eq!((open.opened.last_lsn, open.opened.term, open.opened.first_lsn), (0, 1, 1));
    assert_eq!(open.journal.position(), Position { generation: 1, at: 4096 });
    assert_eq!(disk.names(), [generation(1)]);
}

#[test]
fn handles_can_be_given_to_other_threads() {
    fn sendable<T: Send>() {}
    fn shareable<T: Send + Sync + Clone>() {}
    sendable::<FileJournal>();
    sendable::<Cursor>();
    shareable::<JournalReader>();
    shareable::<Spares>();
    shareable::<StorageError>();
}

#[test]
fn a_reader_and_the_writer_agree_while_files_are_recycled() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let reader = open.journal.reader();
    let last = 600;
    let (mut cursor, mut read) = (reader.cursor(1).unwrap(), 0);
    let follower = std::thread::spawn(move || {
        while cursor.next_lsn() <= last {
            match cursor.next() {
                Ok(Some(frame)) => {
                    assert_eq!(id_of(&frame), frame.lsn);
                    read += 1;
                }
                Ok(None) => std::thread::yield_now(),
                Err(StorageError::Recycled { first_lsn }) => {
                    cursor = reader.cursor(first_lsn).unwrap_or(cursor)
                }
                Err(error) => panic!("{error}"),
            }
        }
        read
    });
    for lsn in 1..=last {
        open.commit(1);
        if lsn % 50 == 0 {
            open.journal.recycle(lsn - 40).unwrap();
        }
    }
    assert!(follower.join().unwrap() > 0);
}

#[test]
fn frames_of_a_group_lie_back_to_back_and_groups_begin_at_blocks() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let placed = open.write(2);
    assert_eq!(placed[0].head_at, 4096 + 48);
    assert_eq!(placed[0].end().at + 48, placed[1].head_at);
    assert_eq!(open.write(1)[0].head_at, 2 * 4096 + 48);
    assert_eq!(open.journal.position().at, 3 * 4096);
}

#[test]
fn what_a_placement_names_is_what_was_written() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let large: Vec<u8> = (0..40_000u32).map(|index| index as u8).collect();
    let frames = [frame(1, 7, vec![1; 10]), frame(2, 8, large.clone()), frame(3, 9, vec![])];
    let placed = open.journal.append(&frames).unwrap();
    let reader = open.journal.reader();
    for (frame, placed) in frames.iter().zip(&placed) {
        let head = reader.read_at(placed.generation, placed.head_at, placed.head_len()).unwrap();
        assert_eq!(head, frame.head);
        let bodies = reader.read_at(placed.generation, placed.bodies_at, placed.bodies_len).unwrap();
        assert_eq!(bodies, frame.bodies[0]);
    }
    let error = reader.read_at(1, 4096, 1 << 40).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
}

#[test]
fn a_sync_makes_everything_written_before_it_durable() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    open.write(2);
    assert_eq!((open.journal.last_lsn(), open.journal.durable_lsn()), (2, 0));
    open.journal.sync().unwrap();
    assert_eq!((open.journal.durable_lsn(), open.journal.reader().durable_lsn()), (2, 2));
    let syncs = disk.count(Op::Sync);
    open.journal.sync().unwrap();
    assert_eq!(disk.count(Op::Sync), syncs, "nothing was written since");
}

#[test]
fn a_group_that_does_not_fit_goes_to_a_new_file() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    for _ in 0..40 {
        open.commit(3);
    }
    let files = open.journal.files();
    assert_eq!(files.iter().map(|file| file.generation).collect::<Vec<_>>(), [1, 2, 3]);
    for pair in files.windows(2) {
        assert_eq!(pair[0].last_lsn + 1, pair[1].first_lsn);
    }
    assert_eq!(open.journal.used_bytes(), 3 * 64 * KIB);
    assert_eq!(open.read_all(), up_to(120));
}

#[test]
fn a_group_that_fills_a_file_exactly_fits_and_a_larger_one_is_refused() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let room = 60 * KIB as usize - 48 - 12;
    let error = open.journal.append(&[frame(1, 1, vec![5; room + 1])]).unwrap_err();
    assert!(matches!(error, StorageError::TooLarge { found: 65536, limit: 61440, .. }), "{error}");
    open.journal.append(&[frame(1, 1, vec![5; room])]).unwrap();
    open.journal.append(&[frame(2, 2, vec![6; room])]).unwrap();
    open.journal.sync().unwrap();
    assert_eq!(open.journal.position(), Position { generation: 2, at: 64 * KIB });
    open.journal.seal(true).unwrap();
    assert_eq!(open.read_all(), [1, 2]);
}

#[test]
fn a_failed_sync_ends_the_journal_and_is_never_repeated() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    open.commit(2);
    open.write(1);
    disk.fail(Op::Sync, 1, 5);
    assert!(matches!(open.journal.sync(), Err(StorageError::Io { what: "sync", .. })));
    let syncs = disk.count(Op::Sync);
    assert!(matches!(open.journal.sync(), Err(StorageError::Poisoned { .. })));
    assert!(matches!(open.journal.append(&[frame(4, 4, vec![])]), Err(StorageError::Poisoned { .. })));
    assert!(matches!(open.journal.seal(true), Err(StorageError::Poisoned { .. })));
    assert!(matches!(open.journal.recycle(1), Err(StorageError::Poisoned { .. })));
    assert_eq!(disk.count(Op::Sync), syncs);
    assert_eq!(open.journal.durable_lsn(), 2);
    assert_eq!(open.read_all(), [1, 2], "reads go on");
}

#[test]
fn every_failed_operation_of_a_roll_ends_the_journal_or_changes_nothing() {
    for op in [Op::Create, Op::Allocate, Op::Write, Op::Sync, Op::Rename, Op::SyncDirectory] {
        for error_number in [5, 28] {
            let disk = MemoryDisk::new();
            let mut open = open(&disk);
            open.journal.append(&[frame(1, 1, vec![1; 50_000])]).unwrap();
            disk.fail(op, 1, error_number);
            let next = [frame(2, 2, vec![2; 50_000])];
            let error = open.journal.append(&next).unwrap_err();
            if error_number == 28 && matches!(op, Op::Create | Op::Allocate) {
                assert!(matches!(error, StorageError::DiskFull { needed: 65536, .. }), "{error}");
                assert_eq!(open.journal.last_lsn(), 1);
                open.journal.append(&next).unwrap();
            } else {
                assert!(matches!(error, StorageError::Io { .. }), "{op:?} {error}");
                let again = open.journal.append(&next).unwrap_err();
                assert!(matches!(again, StorageError::Poisoned { .. }), "{op:?} {again}");
            }
            let reopened = super::open(&disk);
            assert!(matches!(reopened.opened.last_lsn, 1 | 2), "{op:?}");
        }
    }
}

#[test]
fn a_full_disk_at_a_roll_leaves_the_journal_as_it_was() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    open.journal.append(&[frame(1, 1, vec![1; 50_000])]).unwrap();
    disk.limit_room(Some(1000));
    let large = [frame(2, 2, vec![2; 50_000])];
    for _ in 0..3 {
        let error = open.journal.append(&large).unwrap_err();
        assert!(matches!(error, StorageError::DiskFull { needed: 65536, free: 1000, .. }), "{error}");
    }
    assert_eq!(disk.names(), [generation(1)], "no unfinished file is left");
    open.journal.append(&[frame(2, 2, vec![3; 100])]).unwrap();
    open.journal.sync().unwrap();
    disk.limit_room(None);
    open.journal.append(&[frame(3, 3, vec![2; 50_000])]).unwrap();
    open.journal.sync().unwrap();
    assert_eq!(open.read_all(), [1, 2, 3]);
}

#[test]
fn recycled_files_become_spares_and_are_written_again() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    for _ in 0..40 {
        open.commit(1);
    }
    let files = open.journal.files();
    assert_eq!(files.len(), 3);
    assert_eq!(open.journal.recycle(files[1].last_lsn - 1).unwrap(), 1);
    assert_eq!(open.journal.spares().ready(), 1);
    assert_eq!(open.journal.recycle(u64::MAX).unwrap(), 1, "the current file stays");
    let created = disk.count(Op::Create);
    for _ in 0..30 {
        open.commit(1);
    }
    assert_eq!(disk.count(Op::Create), created, "no new file was needed");
    let first = open.journal.files()[0].first_lsn;
    let mut cursor = open.journal.reader().cursor(first).unwrap();
    let ids: Vec<u64> = std::iter::from_fn(|| cursor.next().unwrap()).map(|frame| id_of(&frame)).collect();
    assert_eq!(ids, (first..=70).collect::<Vec<_>>());
}

#[test]
fn beyond_the_ring_recycled_files_are_removed() {
    let disk = MemoryDisk::new();
    let config = Config { ring_bytes: 3 * 64 * KIB, ..config() };
    let mut open = try_open_with(&disk, config, &Start::default()).unwrap();
    for _ in 0..80 {
        open.commit(1);
    }
    assert_eq!(open.journal.files().len(), 6);
    assert_eq!(open.journal.recycle(u64::MAX).unwrap(), 5);
    assert_eq!(open.journal.spares().ready(), 2);
    assert_eq!(disk.names().len(), 3);
}

#[test]
fn a_prepared_spare_is_allocated_durable_and_used_by_the_next_roll() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let spares = open.journal.spares();
    std::thread::spawn(move || spares.prepare().unwrap()).join().unwrap();
    assert_eq!(open.journal.spares().ready(), 1);
    disk.lose_power();
    assert!(disk.names().iter().any(|name| name.starts_with("journal/spare-")));
    disk.limit_room(Some(0));
    for _ in 0..20 {
        open.commit(1);
    }
    assert_eq!(open.journal.generation(), 2);
    assert!(matches!(open.journal.spares().prepare(), Err(StorageError::DiskFull { .. })));
    assert!(open.journal.failure().is_none(), "a spare that can't be made is no failure of the journal");
}

#[test]
fn spares_are_no_longer_prepared_once_the_journal_was_dropped() {
    let disk = MemoryDisk::new();
    let spares = open(&disk).journal.spares();
    let error = spares.prepare().unwrap_err();
    assert!(matches!(error, StorageError::Poisoned { .. }), "{error}");
    assert_eq!(disk.names(), [generation(1)]);
}

/// A journal that was killed while it kept a file in reserve and made a spare, opened again.
fn open_beside_unfinished_files(disk: &MemoryDisk) -> (Open, Vec<String>) {
    let mut first = open(disk);
    first.journal.spares().keep_reserve().unwrap();
    disk.put(&names::new_spare(7), vec![1; 64 << 10]);
    first.commit(3);
    std::mem::forget(first);
    let open = open(disk);
    let mut unfinished = disk.names();
    unfinished.retain(|name| name.ends_with(".tmp"));
    assert_eq!(unfinished.len(), 2, "opening doesn't wait for their removal");
    (open, unfinished)
}

#[test]
fn what_an_earlier_process_left_unfinished_is_removed_later_and_its_names_are_not_given_again() {
    let disk = MemoryDisk::new();
    let (mut open, unfinished) = open_beside_unfinished_files(&disk);
    let spares = open.journal.spares();
    let ready = spares.ready();
    spares.prepare().unwrap();
    assert!(unfinished.iter().all(|name| disk.names().contains(name)));
    // One is gone already: a handle of the journal before knows it too.
    disk.unlink(&unfinished[0]).unwrap();
    spares.keep_reserve().unwrap();
    assert_eq!((spares.has_reserve(), spares.ready()), (true, ready + 1));
    assert!(unfinished.iter().all(|name| !disk.names().contains(name)));
    spares.remove_unfinished().unwrap();
    assert!(spares.has_reserve(), "only what an earlier process left is removed");
    open.commit(1);
    assert_eq!(open.read_all(), up_to(4));
}

fn unfinished(disk: &MemoryDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".tmp")).collect()
}

#[test]
fn a_journal_that_is_closed_leaves_nothing_unfinished() {
    let disk = MemoryDisk::new();
    let (mut open, left) = open_beside_unfinished_files(&disk);
    let spares = open.journal.spares();
    spares.prepare().unwrap();
    spares.keep_reserve().unwrap();
    let ready = spares.ready();
    assert_eq!(unfinished(&disk).len(), 1);
    spares.settle().unwrap();
    assert_eq!(unfinished(&disk), Vec::<String>::new(), "also not {left:?}");
    assert_eq!((spares.has_reserve(), spares.ready()), (false, ready), "there were spares, so none is added");
    spares.settle().unwrap();
    open.commit(1);
    drop(open);
    assert_eq!(super::open(&disk).read_all(), up_to(4));
}

#[test]
fn a_journal_without_a_spare_that_is_closed_keeps_the_space_of_its_reserve_for_the_next_open() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    open.commit(1);
    let spares = open.journal.spares();
    spares.keep_reserve().unwrap();
    assert_eq!((spares.has_reserve(), spares.ready()), (true, 0));
    spares.settle().unwrap();
    assert_eq!((spares.has_reserve(), spares.ready()), (false, 1));
    assert_eq!(unfinished(&disk), Vec::<String>::new());
    drop(open);
    disk.limit_room(Some(0));
    let mut again = super::open(&disk);
    again.commit(1);
    assert_eq!(again.read_all(), up_to(2));
}

#[test]
fn a_spare_that_was_put_in_reserve_is_a_spare_again_when_the_journal_is_closed() {
    let disk = MemoryDisk::new();
    let open = open(&disk);
    let spares = open.journal.spares();
    spares.prepare().unwrap();
    disk.limit_room(Some(0));
    spares.keep_reserve().unwrap();
    assert_eq!((spares.has_reserve(), spares.ready()), (true, 0));
    let names = disk.names();
    spares.settle().unwrap();
    assert_eq!((spares.has_reserve(), spares.ready()), (false, 1));
    assert_eq!(disk.names(), names);
}

#[test]
fn a_full_disk_lets_go_what_an_earlier_process_left_unfinished() {
    let disk = MemoryDisk::new();
    let (mut open, unfinished) = open_beside_unfinished_files(&disk);
    disk.limit_room(Some(0));
    let last = 3 + open.journal.spares().ready() as u64;
    while open.journal.generation() < last {
        open.commit(1);
    }
    assert!(unfinished.iter().all(|name| !disk.names().contains(name)));
}

#[test]
fn a_directory_sync_that_fails_in_the_background_ends_the_journal() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    disk.fail(Op::SyncDirectory, 1, 5);
    assert!(open.journal.spares().prepare().is_err());
    let error = open.journal.append(&[frame(1, 1, vec![])]).unwrap_err();
    assert!(matches!(error, StorageError::Poisoned { .. }), "{error}");
}

#[test]
fn a_cursor_yields_only_what_is_durable_and_goes_on_when_more_is() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let mut cursor = open.journal.reader().cursor(2).unwrap();
    open.write(3);
    assert!(cursor.next().unwrap().is_none());
    open.journal.sync().unwrap();
    assert_eq!(cursor.next().unwrap().unwrap().lsn, 2);
    for _ in 0..50 {
        open.write(1);
        open.journal.seal(false).unwrap();
        open.journal.sync().unwrap();
    }
    let rest: Vec<u64> = std::iter::from_fn(|| cursor.next().unwrap()).map(|frame| frame.lsn).collect();
    assert_eq!(rest, (3..=53).collect::<Vec<_>>());
    assert!(open.journal.files().len() > 5);
    open.commit(1);
    assert_eq!(cursor.next().unwrap().unwrap().lsn, 54);
}

#[test]
fn a_cursor_behind_a_placement_goes_on_with_the_next_command() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let mut placed = Vec::new();
    for _ in 0..30 {
        placed.extend(open.commit(3));
    }
    for place in &placed {
        let mut cursor = open.journal.reader().cursor_behind(place.end(), place.lsn + 1).unwrap();
        let next = cursor.next().unwrap();
        assert_eq!(next.map(|frame| frame.lsn), (place.lsn < 90).then_some(place.lsn + 1));
    }
}

#[test]
fn a_cursor_whose_file_was_recycled_says_where_the_journal_begins() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    open.commit(1);
    let mut cursor = open.journal.reader().cursor(1).unwrap();
    cursor.next().unwrap();
    for _ in 0..40 {
        open.commit(1);
    }
    let first_lsn = open.journal.files()[1].first_lsn;
    open.journal.recycle(first_lsn - 1).unwrap();
    assert!(matches!(cursor.next(), Err(StorageError::Recycled { first_lsn: first }) if first == first_lsn));
    let error = open.journal.reader().cursor(1).unwrap_err();
    assert!(matches!(error, StorageError::Recycled { first_lsn: first } if first == first_lsn), "{error}");
    let error = open.journal.reader().read_at(1, 4096, 10).unwrap_err();
    assert!(matches!(error, StorageError::Recycled { .. }), "{error}");
}

#[test]
fn a_cursor_finds_damage_and_names_file_and_position() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let placed = open.commit(3);
    disk.flip(&generation(1), placed[1].bodies_at as usize, 1);
    let mut cursor = open.journal.reader().cursor(1).unwrap();
    assert_eq!(cursor.next().unwrap().unwrap().lsn, 1);
    let at = placed[1].head_at - 48;
    for _ in 0..2 {
        let error = cursor.next().unwrap_err();
        assert!(
            matches!(&error, StorageError::Damaged { file, position, .. }
                if *file == generation(1) && *position == at),
            "{error}"
        );
    }
}

#[test]
fn bytes_that_show_the_nonce_at_a_block_move_the_group_to_a_new_file() {
    // The group begins at byte 8192 of the file. A body of 100 bytes in its second frame begins behind two frame
    // headers, two heads and the first body; the offsets below are those of the nonce in the group.
    for (in_group, body_len, moves) in [
        (4096 + 32, 9_000, true),
        (4096 + 32, 30_000, true),
        (3 * 4096 + 32, 30_000, true),
        (4096 + 31, 9_000, false),
        (4096 + 40, 30_000, false),
        (4096 + 32 + 512, 9_000, false),
    ] {
        let disk = MemoryDisk::new();
        let mut open = open(&disk);
        open.commit(1);
        let nonce = disk.read(&generation(1))[24..32].to_vec();
        let mut body = vec![0xAB; body_len];
        let body_from = 2 * (48 + 12) + 100;
        body[in_group - body_from..][..8].copy_from_slice(&nonce);
        open.journal.append(&[frame(2, 2, vec![1; 100]), frame(3, 3, body)]).unwrap();
        open.journal.sync().unwrap();
        assert_eq!(open.journal.generation() == 2, moves, "{in_group} {body_len}");
        assert_eq!(open.read_all(), [1, 2, 3]);
    }
}

#[test]
fn a_nonce_spread_over_several_parts_is_seen() {
    let disk = MemoryDisk::new();
    let mut open = open(&disk);
    let nonce = disk.read(&generation(1))[24..32].to_vec();
    let mut split = frame(1, 1, Vec::new());
    let from = 4096 + 32 - (48 + 12);
    let mut whole = vec![0; 20_000];
    whole[from..from + 8].copy_from_slice(&nonce);
    split.head[8..].copy_from_slice(&crc32c::crc32c(&whole).to_le_bytes());
    split.bodies = [&whole[..from + 3], &whole[from + 3..from + 4], &whole[from + 4..]]
        .map(Bytes::copy_from_slice)
        .into_iter()
        .collect();
    open.journal.append(&[split]).unwrap();
    open.journal.sync().unwrap();
    assert_eq!(open.journal.generation(), 2);
    assert_eq!(open.read_all(), [1]);
}
