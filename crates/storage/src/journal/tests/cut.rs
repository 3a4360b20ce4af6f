//! Tests of taking commands back, and of beginning anew at an lsn.

use super::*;

/// A command of another term, told apart by its id.
fn other(lsn: u64, term: u32) -> Frame {
    Frame { term, ..frame(lsn, 1_000 + lsn, vec![9; 100]) }
}

fn append_others(open: &mut Open, count: u64) {
    for _ in 0..count {
        let lsn = open.journal.last_lsn() + 1;
        open.journal.append(&[other(lsn, 7)]).unwrap();
    }
    open.journal.sync().unwrap();
}

/// What is read back after a cut behind `after` and `count` others.
fn expected(after: u64, count: u64) -> Vec<u64> {
    (1..=after).chain((after + 1..=after + count).map(|lsn| 1_000 + lsn)).collect()
}

#[test]
fn commands_of_a_later_term_stand_where_others_were_taken_back() {
    // 40 groups of three: within a group, at its end, at the end of a file, in an earlier file, nothing, everything.
    for after in [119, 118, 117, 89, 45, 46, 20, 2, 1, 0] {
        let disk = MemoryDisk::new();
        let mut first = open(&disk);
        for _ in 0..40 {
            first.commit(3);
        }
        first.journal.cut(after).unwrap();
        assert_eq!((first.journal.last_lsn(), first.journal.durable_lsn()), (after, after));
        assert_eq!(first.read_all(), up_to(after), "behind {after}");
        append_others(&mut first, 5);
        assert_eq!(first.read_all(), expected(after, 5));
        drop(first);
        let second = open(&disk);
        assert_eq!(second.ids(), expected(after, 5));
        assert!(second.opened.term > 7, "the terms of others count");
        assert_eq!(second.read_all(), expected(after, 5));
    }
}

#[test]
fn a_cut_at_the_border_of_two_files_keeps_the_first() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    for _ in 0..40 {
        first.commit(3);
    }
    let files = first.journal.files();
    first.journal.cut(files[0].last_lsn).unwrap();
    let after = first.journal.files();
    assert_eq!(after[0], files[0]);
    assert_eq!((after.len(), after[1].first_lsn), (2, files[0].last_lsn + 1));
    assert_eq!(open(&disk).ids(), up_to(files[0].last_lsn));
}

#[test]
fn a_cut_that_takes_nothing_back_changes_nothing() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(3);
    let names = disk.names();
    for after in [3, 4, u64::MAX] {
        first.journal.cut(after).unwrap();
    }
    assert_eq!((disk.names(), first.journal.last_lsn()), (names, 3));
}

#[test]
fn a_journal_can_be_cut_again_and_again() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(9);
    for after in [6, 8, 3, 3, 5] {
        first.journal.cut(after).unwrap();
        append_others(&mut first, 3);
    }
    let expected: Vec<u64> = [1, 2, 3].into_iter().chain(1_004..=1_008).collect();
    assert_eq!(first.read_all(), expected);
    drop(first);
    assert_eq!(open(&disk).ids(), expected);
}

#[test]
fn what_was_recycled_can_not_be_taken_back() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    for _ in 0..40 {
        first.commit(3);
    }
    let first_lsn = first.journal.files()[1].first_lsn;
    first.journal.recycle(first_lsn - 1).unwrap();
    let error = first.journal.cut(first_lsn - 2).unwrap_err();
    assert!(matches!(error, StorageError::Recycled { first_lsn: found } if found == first_lsn), "{error}");
    // All that is left can be: a checkpoint holds what was before.
    first.journal.cut(first_lsn - 1).unwrap();
    append_others(&mut first, 2);
    drop(first);
    let applied_lsn = first_lsn - 1;
    let start = Start { applied_lsn, needed_lsn: applied_lsn, checkpoints_found: 1, ..Start::default() };
    let second = try_open_with(&disk, config(), &start).unwrap();
    assert_eq!(second.ids(), [1_000 + first_lsn, 1_001 + first_lsn]);
}

#[test]
fn a_full_disk_refuses_a_cut_and_changes_nothing() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(3);
    disk.limit_room(Some(0));
    let error = first.journal.cut(1).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    disk.limit_room(None);
    first.commit(1);
    assert_eq!(first.read_all(), up_to(4));
}

#[test]
fn a_cursor_that_was_beyond_the_cut_never_yields_what_was_taken_back() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(9);
    let mut cursor = first.journal.reader().cursor(8).unwrap();
    assert_eq!(id_of(&cursor.next().unwrap().unwrap()), 8);
    first.journal.cut(4).unwrap();
    append_others(&mut first, 6);
    while let Ok(Some(frame)) = cursor.next() {
        assert_eq!(id_of(&frame), 1_000 + frame.lsn);
    }
}

/// Wherever power fails: either everything is still there, or what was not taken back and a prefix of the others.
#[test]
fn a_cut_happens_whole_or_not_at_all_wherever_power_fails() {
    let mut outcomes = [0, 0];
    for seed in 0..400 {
        let disk = MemoryDisk::new();
        disk.seed(seed);
        let mut random = Random::new(seed);
        let mut first = open(&disk);
        for _ in 0..1 + random.below(40) {
            first.commit(3);
        }
        let last = first.journal.last_lsn();
        let after = random.below(last);
        disk.crash_after(Some(random.below(14)));
        let cut = first.journal.cut(after).is_ok();
        let mut synced = 0;
        for count in 0..3 {
            let frame = other(after + 1 + count, 7);
            let written = cut && first.journal.append(&[frame]).and_then(|_| first.journal.sync()).is_ok();
            synced += u64::from(written);
        }
        drop(first);
        disk.crash_after(None);
        if random.below(2) == 0 {
            disk.lose_power()
        } else {
            disk.kill()
        }
        let ids = open(&disk).ids();
        if ids == up_to(last) && !cut {
            outcomes[0] += 1;
        } else {
            let others = ids.len() as u64 - after;
            assert_eq!(ids, expected(after, others), "seed {seed}");
            assert!(others >= synced && others <= 3, "seed {seed}: {others} of {synced}");
            outcomes[1] += 1;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 40), "{outcomes:?}");
}

#[test]
fn a_journal_that_was_begun_anew_goes_on_behind_the_state_that_was_taken_over() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(30);
    drop(first);
    for _ in 0..2 {
        FileJournal::begin_at(disk.shared(), config(), 101, 9, &mut || 5).unwrap();
    }
    let start = Start { applied_lsn: 100, needed_lsn: 100, checkpoints_found: 1, ..Start::default() };
    let mut second = try_open_with(&disk, config(), &start).unwrap();
    assert!(second.ids().is_empty() && second.opened.term > 9);
    assert_eq!(second.journal.last_lsn(), 100);
    second.commit(2);
    drop(second);
    assert_eq!(try_open_with(&disk, config(), &start).unwrap().ids(), [101, 102]);
    // The checkpoint of before, or none, would leave a gap: that is refused.
    let before = Start { applied_lsn: 20, needed_lsn: 20, checkpoints_found: 1, ..Start::default() };
    for start in [before, Start::default()] {
        let error = try_open_with(&disk, config(), &start).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }
    let error = FileJournal::begin_at(disk.shared(), config(), 0, 9, &mut || 5).unwrap_err();
    assert!(matches!(error, StorageError::Setting { .. }), "{error}");
}

#[test]
fn what_a_cut_leaves_is_durable_even_if_it_was_not_synced_before() {
    let disk = MemoryDisk::new();
    let mut first = open(&disk);
    first.commit(3);
    for _ in 0..3 {
        first.write(1);
    }
    first.journal.cut(5).unwrap();
    drop(first);
    disk.lose_power();
    assert_eq!(open(&disk).ids(), up_to(5));
}
