//! A follower that is cut off and restarted a thousand times: power fails or the process is killed at any operation
//! of its disk, while it pulls, flushes, makes checkpoints, takes over snapshots or is being opened.
//!
//! The leader isn't harmed here; it rolls, recycles and is opened again under other terms.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

#[path = "../../storage/tests/following/mod.rs"]
mod following;

use exactlog_sim::disk::{SimDisk, Survival};
use exactlog_storage::StorageError;
use exactlog_storage::disk::Disk;
use exactlog_storage::follower::Follower;
use exactlog_storage::install::Snapshot;
use following::{Leader, Numbers, assert_same_segments, assert_same_state, options};
use std::sync::Arc;

/// Worlds, and cuts in each.
const WORLDS: u64 = 20;
const CUTS: u64 = 50;

#[derive(Debug, Default)]
struct Counts {
    cuts: u64,
    power_losses: u64,
    cuts_in_open: u64,
    cuts_in_snapshots: u64,
    snapshots: u64,
    states: u64,
    bytes: u64,
}

/// A follower's disk, and what it has promised.
struct World {
    leader: Leader,
    disk: SimDisk,
    numbers: Numbers,
    /// The last lsn that a pull or a snapshot has returned.
    promised_lsn: u64,
    counts: Counts,
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

impl World {
    fn new(seed: u64) -> World {
        let leader = Leader::new(shared(&SimDisk::new()), seed);
        let numbers = Numbers(!seed);
        World { leader, disk: SimDisk::new(), numbers, promised_lsn: 0, counts: Counts::default() }
    }

    fn open(&mut self) -> Result<Follower, StorageError> {
        let numbers = &mut self.numbers;
        let (follower, _) = Follower::open(shared(&self.disk), options(), &mut || numbers.next())?;
        Ok(follower)
    }

    /// Everything that is due on the leader's side between two steps of the follower.
    fn lead(&mut self) {
        for _ in 0..self.numbers.below(6) {
            self.leader.step();
        }
        match self.numbers.below(60) {
            0 => self.leader.reopen(true),
            1 => self.leader.reopen(false),
            2..5 => self.leader.checkpoint(),
            // The follower is behind by more than the journal holds.
            5 => {
                for _ in 0..3 {
                    (0..25).for_each(|_| self.leader.step());
                    self.leader.checkpoint();
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, follower: &mut Follower) -> Result<(), StorageError> {
        match self.numbers.below(20) {
            0..2 => follower.flush().map(drop),
            2..4 => follower.checkpoint(),
            4 => follower.idle(),
            _ => self.pull(follower, true),
        }
    }

    fn pull(&mut self, follower: &mut Follower, may_stop: bool) -> Result<(), StorageError> {
        let most_bytes = 1 + self.numbers.below(30_000) as usize;
        match follower.pull(&self.leader.shard.journal().reader(), most_bytes) {
            Ok(pulled) => {
                assert_eq!(pulled.up_to_lsn, follower.last_lsn());
                self.promised_lsn = pulled.up_to_lsn;
                self.counts.states += u64::from(assert_same_state(&self.leader, follower));
                Ok(())
            }
            Err(StorageError::Recycled { .. }) => self.catch_up(follower, may_stop),
            Err(error) => Err(error),
        }
    }

    fn catch_up(&mut self, follower: &mut Follower, may_stop: bool) -> Result<(), StorageError> {
        if may_stop && self.numbers.chance(2) {
            // Most of the operations of a run lie elsewhere.
            self.disk.set_stop_after(self.disk.ops() + self.numbers.below(60));
        }
        let snapshot = Snapshot::take(&mut self.leader.shard).unwrap();
        let numbers = &mut self.numbers;
        let taken = follower.catch_up(&snapshot, &mut || numbers.next());
        self.counts.cuts_in_snapshots += u64::from(taken.is_err());
        assert!(taken?);
        self.promised_lsn = snapshot.lsn();
        self.counts.snapshots += 1;
        assert!(assert_same_state(&self.leader, follower));
        Ok(())
    }

    /// Runs until the disk stops, and leaves the disk as the crash does.
    fn run_into_a_cut(&mut self, mut follower: Follower) {
        self.disk.set_stop_after(self.disk.ops() + self.numbers.below(80));
        while !self.disk.is_stopped() {
            self.lead();
            if let Err(error) = self.step(&mut follower) {
                assert!(self.disk.is_stopped(), "{error}");
            }
        }
        drop(follower);
        self.crash();
    }

    fn crash(&mut self) {
        self.counts.cuts += 1;
        self.disk = if self.numbers.chance(3) {
            self.disk.process_kill()
        } else {
            self.counts.power_losses += 1;
            match self.numbers.below(4) {
                0 => self.disk.power_loss(&mut Survival::AllLost),
                1 => self.disk.power_loss(&mut Survival::AllKept),
                _ => self.disk.power_loss(&mut Survival::random(self.numbers.next())),
            }
        };
    }

    /// Opens what a crash has left, now and then with another crash on the way, and compares.
    fn restart(&mut self) -> Follower {
        while self.numbers.chance(4) {
            self.disk.set_stop_after(self.disk.ops() + self.numbers.below(25));
            let opened = self.open();
            assert!(opened.is_ok() || self.disk.is_stopped(), "{opened:?}");
            self.counts.cuts_in_open += u64::from(opened.is_err());
            drop(opened);
            self.crash();
        }
        let follower = self.open().unwrap();
        let lsn = follower.last_lsn();
        assert!(lsn >= self.promised_lsn, "lsn {lsn}, {} was promised", self.promised_lsn);
        assert!(lsn <= self.leader.last_lsn());
        self.counts.states += u64::from(assert_same_state(&self.leader, &follower));
        follower
    }

    /// The process was killed, and power fails at any operation of the open that follows.
    fn lose_power_in_open(&mut self, killed: &SimDisk) {
        for op in 0.. {
            self.disk = killed.process_kill();
            self.disk.set_stop_after(self.disk.ops() + op);
            let done = self.open().is_ok();
            self.disk = self.disk.power_loss(&mut Survival::AllLost);
            let follower = self.open().unwrap();
            assert!(follower.last_lsn() >= self.promised_lsn);
            assert!(assert_same_state(&self.leader, &follower));
            if done {
                break;
            }
        }
    }

    /// Brings the follower level with the leader and compares everything.
    fn compare(&mut self, follower: &mut Follower) {
        while follower.last_lsn() < self.leader.last_lsn() {
            self.pull(follower, false).unwrap();
        }
        assert!(assert_same_state(&self.leader, follower));
        self.leader.checkpoint();
        follower.checkpoint().unwrap();
        self.counts.bytes += assert_same_segments(&*self.leader.disk, &self.disk);
    }
}

#[test]
fn oa_1_a_follower_is_cut_off_and_restarted_a_thousand_times_without_a_difference() {
    let mut total = Counts::default();
    for seed in 0..WORLDS {
        let mut world = World::new(seed);
        let mut follower = world.open().unwrap();
        while world.counts.cuts < CUTS {
            world.run_into_a_cut(follower);
            follower = world.restart();
            if world.numbers.chance(10) {
                world.compare(&mut follower);
            }
        }
        world.compare(&mut follower);
        total.add(&world.counts);
    }
    println!("{total:?}, 0 differences");
    assert!(total.cuts >= WORLDS * CUTS && total.power_losses > 500, "{total:?}");
    assert!(total.snapshots > 20 && total.cuts_in_snapshots > 100 && total.cuts_in_open > 50, "{total:?}");
    assert!(total.states > 2_000 && total.bytes > 1_000_000, "{total:?}");
}

/// The follower holds a part of what a snapshot has; the leader no longer has the commands in between.
fn left_behind(seed: u64) -> World {
    let mut world = World::new(seed);
    let mut follower = world.open().unwrap();
    (0..10).for_each(|_| world.leader.step());
    world.pull(&mut follower, false).unwrap();
    follower.checkpoint().unwrap();
    world.pull(&mut follower, false).unwrap();
    drop(follower);
    for _ in 0..3 {
        (0..15).for_each(|_| world.leader.step());
        world.leader.checkpoint();
    }
    world
}

/// Takes a snapshot over and goes on, until it is done or the disk stops; the last lsn that was promised.
fn take_over(world: &mut World, follower: &mut Follower) -> u64 {
    let mut promised_lsn = follower.last_lsn();
    let numbers = &mut world.numbers;
    let snapshot = Snapshot::take(&mut world.leader.shard).unwrap();
    if follower.catch_up(&snapshot, &mut || numbers.next()).is_ok() {
        promised_lsn = snapshot.lsn();
        for _ in 0..2 {
            world.leader.step();
            let pulled = follower.pull(&world.leader.shard.journal().reader(), usize::MAX);
            promised_lsn = pulled.map_or(promised_lsn, |pulled| pulled.up_to_lsn);
        }
    }
    promised_lsn
}

#[test]
fn a_snapshot_is_taken_over_whole_or_not_at_all_wherever_it_is_cut() {
    let mut world = left_behind(3);
    let before = world.disk.clone();
    let (mut kept, mut taken) = (0, 0);
    for op in 0.. {
        world.disk = before.process_kill();
        let mut follower = world.open().unwrap();
        let from_lsn = follower.last_lsn();
        world.disk.set_stop_after(world.disk.ops() + op);
        let promised_lsn = take_over(&mut world, &mut follower);
        drop(follower);
        let stopped = world.disk.clone();
        let survivals = [Survival::AllLost, Survival::AllKept, Survival::random(op), Survival::random(!op)];
        let lost = survivals.into_iter().map(|mut survival| stopped.power_loss(&mut survival));
        for disk in lost.chain([stopped.process_kill()]) {
            world.disk = disk;
            world.promised_lsn = promised_lsn;
            let mut follower = world.restart();
            if follower.last_lsn() == from_lsn {
                kept += 1
            } else {
                taken += 1
            }
            world.compare(&mut follower);
        }
        world.promised_lsn = promised_lsn;
        world.lose_power_in_open(&stopped);
        if !stopped.is_stopped() {
            break;
        }
    }
    println!("{kept} disks opened as they were, {taken} with what was taken over");
    assert!(kept > 50 && taken > 50 && world.counts.cuts_in_open > 20, "{kept}, {taken}, {:?}", world.counts);
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.cuts += other.cuts;
        self.power_losses += other.power_losses;
        self.cuts_in_open += other.cuts_in_open;
        self.cuts_in_snapshots += other.cuts_in_snapshots;
        self.snapshots += other.snapshots;
        self.states += other.states;
        self.bytes += other.bytes;
    }
}
