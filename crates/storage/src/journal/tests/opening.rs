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
