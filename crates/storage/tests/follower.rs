//! A follower on real directories: the same state and the same segments as the log that it follows.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

mod following;

use exactlog_storage::StorageError;
use exactlog_storage::disk::{Disk, RealDisk};
use exactlog_storage::follower::{Follower, Pulled};
use exactlog_storage::install::Snapshot;
use exactlog_storage::shard::{Options, Shard};
use following::{Leader, Numbers, assert_same_segments, assert_same_state, options};
use std::path::Path;
use std::sync::Arc;

fn disk(directory: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::new(directory).unwrap())
}

fn open(directory: &Path, numbers: &mut Numbers) -> Follower {
    Follower::open(disk(directory), options(), &mut || numbers.next()).unwrap().0
}

/// Pulls all that there is, from a snapshot if the journal no longer has it; whether one was needed.
fn pull_all(follower: &mut Follower, leader: &mut Leader, numbers: &mut Numbers) -> bool {
    let pulled = follower.pull(&leader.shard.journal().reader(), usize::MAX);
    let recycled = matches!(pulled, Err(StorageError::Recycled { .. }));
    if recycled {
        let snapshot = Snapshot::take(&mut leader.shard).unwrap();
        assert_eq!(snapshot.lsn(), leader.last_lsn(), "a picture is no command");
        assert!(follower.catch_up(&snapshot, &mut || numbers.next()).unwrap());
        assert!(!follower.catch_up(&snapshot, &mut || numbers.next()).unwrap());
    } else {
        pulled.unwrap();
    }
    assert_eq!(follower.last_lsn(), leader.last_lsn());
    assert!(assert_same_state(leader, follower));
    recycled
}

#[test]
fn oa_1_a_follower_has_the_state_and_the_segments_of_its_leader_at_every_lsn() {
    let mut counts = [0; 5];
    for seed in 0..3 {
        let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut numbers = Numbers(seed);
        let mut leader = Leader::new(disk(theirs.path()), seed);
        let mut follower = open(ours.path(), &mut numbers);
        let mut cut_off = 0;
        for _ in 0..500 {
            leader.step();
            match numbers.below(100) {
                0 => leader.reopen(numbers.clone().chance(2)),
                1..4 => leader.checkpoint(),
                4 => cut_off = 150,
                5 => drop(follower.flush().unwrap()),
                6..9 => {
                    follower.checkpoint().unwrap();
                    counts[4] += assert_same_segments(&*disk(theirs.path()), &*disk(ours.path()));
                }
                9..11 => {
                    if numbers.chance(2) {
                        follower.close().unwrap();
                    }
                    drop(follower);
                    follower = open(ours.path(), &mut numbers);
                    counts[0] += 1;
                }
                11..40 if cut_off == 0 => {
                    let reader = leader.shard.journal().reader();
                    match follower.pull(&reader, 1 + numbers.below(20_000) as usize) {
                        Ok(Pulled { frames, .. }) => counts[1] += frames,
                        Err(StorageError::Recycled { .. }) => {
                            counts[2] += u64::from(pull_all(&mut follower, &mut leader, &mut numbers));
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                _ => {}
            }
            cut_off -= u64::from(cut_off > 0);
            counts[3] += u64::from(assert_same_state(&leader, &follower));
        }
        pull_all(&mut follower, &mut leader, &mut numbers);
        leader.checkpoint();
        follower.checkpoint().unwrap();
        counts[4] += assert_same_segments(&*disk(theirs.path()), &*disk(ours.path()));
        let (commits, term) = (leader.accepted_commits, leader.shard.term());
        assert!(commits > 50 && term > 1, "{commits} commits, term {term}");
    }
    let [restarts, frames, snapshots, hashes, bytes] = counts;
    println!(
        "{restarts} restarts, {frames} frames pulled, {snapshots} snapshots, {hashes} states and {bytes} B compared"
    );
    assert!(
        restarts > 10 && frames > 500 && snapshots > 2 && hashes > 1_000 && bytes > 1_000_000,
        "{counts:?}"
    );
}

#[test]
fn a_follower_that_was_cut_off_goes_on_from_the_journal_and_from_a_snapshot_where_that_was_recycled() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut numbers = Numbers(7);
    let mut leader = Leader::new(disk(theirs.path()), 7);
    let mut follower = open(ours.path(), &mut numbers);
    assert!(!pull_all(&mut follower, &mut leader, &mut numbers));
    drop(follower);
    (0..100).for_each(|_| leader.step());
    let mut follower = open(ours.path(), &mut numbers);
    assert!(!pull_all(&mut follower, &mut leader, &mut numbers), "the journal has everything");
    for _ in 0..3 {
        (0..100).for_each(|_| leader.step());
        leader.checkpoint();
    }
    assert!(pull_all(&mut follower, &mut leader, &mut numbers), "the journal was recycled");
    drop(follower);
    let mut follower = open(ours.path(), &mut numbers);
    assert!(assert_same_state(&leader, &follower), "what was taken over is there after a restart");
    (0..50).for_each(|_| leader.step());
    assert!(!pull_all(&mut follower, &mut leader, &mut numbers));
    leader.checkpoint();
    follower.checkpoint().unwrap();
    assert!(assert_same_segments(&*disk(theirs.path()), &*disk(ours.path())) > 10_000);
}

#[test]
fn a_follower_can_take_the_lead() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut numbers = Numbers(8);
    let mut leader = Leader::new(disk(theirs.path()), 8);
    (0..50).for_each(|_| leader.step());
    let mut follower = open(ours.path(), &mut numbers);
    pull_all(&mut follower, &mut leader, &mut numbers);
    drop(follower);
    let (shard, report) = Shard::open(disk(ours.path()), options(), &mut || numbers.next()).unwrap();
    assert_eq!(report.last_lsn, leader.last_lsn());
    assert!(shard.term() > leader.shard.term(), "its commands are told from the old leader's");
}

#[test]
fn a_log_that_is_not_a_part_of_the_leaders_is_refused_and_stays() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut numbers = Numbers(9);
    let mut leader = Leader::new(disk(theirs.path()), 9);
    let mut other = Leader::new(disk(ours.path()), 10);
    (0..20).for_each(|_| other.step());
    let last_lsn = other.last_lsn();
    drop(other);
    let mut follower = open(ours.path(), &mut numbers);
    for _ in 0..2 {
        let error = follower.pull(&leader.shard.journal().reader(), usize::MAX).unwrap_err();
        assert!(matches!(error, StorageError::Diverged { lsn, .. } if lsn == last_lsn), "{error}");
        assert_eq!(follower.last_lsn(), last_lsn);
        while leader.last_lsn() < last_lsn + 5 {
            leader.step();
        }
    }
}

#[test]
fn a_command_that_does_not_fit_into_a_file_of_the_follower_is_refused_and_nothing_is_lost() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut numbers = Numbers(11);
    let mut leader = Leader::new(disk(theirs.path()), 11);
    (0..300).for_each(|_| leader.step());
    let small = Options { journal_file_bytes: 32 * 1024, ..options() };
    let mut follower = Follower::open(disk(ours.path()), small, &mut || numbers.next()).unwrap().0;
    let error = follower.pull(&leader.shard.journal().reader(), usize::MAX).unwrap_err();
    assert!(matches!(error, StorageError::TooLarge { .. }), "{error}");
    assert!(follower.failure().is_none());
    drop(follower);
    let mut follower = open(ours.path(), &mut numbers);
    assert!(!pull_all(&mut follower, &mut leader, &mut numbers));
}
