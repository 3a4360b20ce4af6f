//! Planned faults, failed syncs, a full disk, the lock.

use super::*;

#[test]
fn a_fault_hits_the_call_it_was_planned_for_once_or_from_there_on() {
    let disk = SimDisk::new();
    disk.create_dir("d").unwrap();
    let (f, g) = (put(&disk, "f", b""), put(&disk, "d/g", b""));
    disk.add_fault(Fault::once(Some(Call::Sync), 1, Effect::Errno(EIO)));
    let synced: Vec<bool> = (0..4).map(|_| f.sync().is_ok()).collect();
    assert_eq!(synced, [true, false, true, true]);
    assert_eq!(disk.faults_hit(), 1);

    disk.clear_faults();
    disk.add_fault(Fault::persistent(None, 2, Effect::Errno(EIO)).on("d/"));
    f.sync().unwrap();
    g.sync().unwrap();
    g.sync().unwrap();
    assert_eq!(g.sync().unwrap_err().raw_os_error(), Some(EIO));
    assert!(g.map_sealed().is_err());
    f.sync().unwrap();
    assert_eq!(disk.faults_hit(), 3);
    disk.clear_faults();
    g.sync().unwrap();
}

#[test]
fn every_kind_of_call_can_fail_and_then_did_nothing() {
    type Run = fn(&SimDisk) -> io::Result<()>;
    let calls: [(Call, Run); 15] = [
        (Call::Open, |disk| disk.open("new", Mode::CreateNew).map(drop)),
        (Call::Read, |disk| disk.open("f", Mode::Read)?.read_at(&mut [0], 0).map(drop)),
        (Call::Write, |disk| disk.open("f", Mode::Write)?.write_at(&[IoSlice::new(b"x")], 0)),
        (Call::Sync, |disk| disk.open("f", Mode::Write)?.sync()),
        (Call::Allocate, |disk| disk.open("f", Mode::Write)?.allocate(9)),
        (Call::Truncate, |disk| disk.open("f", Mode::Write)?.truncate(1)),
        (Call::Map, |disk| disk.open("f", Mode::Read)?.map_sealed().map(drop)),
        (Call::List, |disk| disk.list("").map(drop)),
        (Call::CreateDir, |disk| disk.create_dir("e")),
        (Call::Rename, |disk| disk.rename("f", "g")),
        (Call::Unlink, |disk| disk.unlink("f")),
        (Call::RemoveDir, |disk| disk.remove_dir("d")),
        (Call::SyncDir, |disk| disk.sync_dir("")),
        (Call::Free, |disk| disk.free().map(drop)),
        (Call::Lock, |disk| disk.lock("me").map(drop)),
    ];
    for (call, run) in calls {
        let disk = SimDisk::new();
        disk.create_dir("d").unwrap();
        put(&disk, "f", b"abc");
        let before = disk.fingerprint();
        disk.add_fault(Fault::once(Some(call), 0, Effect::Kind(io::ErrorKind::TimedOut)));
        assert_eq!(run(&disk).unwrap_err().kind(), io::ErrorKind::TimedOut, "{call:?}");
        assert_eq!(disk.faults_hit(), 1);
        assert_eq!(disk.fingerprint(), before, "{call:?}");
        run(&disk).unwrap();
    }
}

#[test]
fn a_short_write_leaves_its_prefix() {
    let disk = SimDisk::new();
    let file = put(&disk, "f", b"abc");
    disk.add_fault(Fault::once(Some(Call::Write), 0, Effect::Short { bytes: 4, errno: ENOSPC }));
    let error = file.write_at(&[IoSlice::new(b"xy"), IoSlice::new(b"zabc")], 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.read_file("f").unwrap(), b"axyza");
}

#[test]
fn after_a_failed_sync_the_next_one_succeeds_without_writing() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", &[1; 1024]);
    write(&*file, &[2; 512], 0);
    disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)));
    file.sync().unwrap_err();
    write(&*file, &[3; 512], 512);
    file.sync().unwrap();
    // Readable, called durable, and lost.
    let (old, new) = ([[1; 512], [3; 512]].concat(), [[2; 512], [3; 512]].concat());
    assert_eq!(disk.read_file("f").unwrap(), new);
    assert_eq!(contents_after_power_loss(&disk, "f"), [Some(old.clone())]);
    let killed = disk.process_kill();
    killed.evict(&mut Survival::AllKept);
    assert_eq!(killed.read_file("f").unwrap(), new);
    killed.evict(&mut Survival::AllLost);
    assert_eq!(killed.read_file("f").unwrap(), old);
    // Written again it is dirty again, and then it does become durable.
    write(&*file, &[2; 512], 0);
    file.sync().unwrap();
    assert_eq!(contents_after_power_loss(&disk, "f"), [Some(new)]);
}

#[test]
fn part_of_a_failed_sync_may_have_reached_the_disk() {
    let mut found = Vec::new();
    for seed in 0..60 {
        let disk = SimDisk::new();
        let file = put_durably(&disk, "f", &[1; 1024]);
        write(&*file, &[2; 1024], 0);
        disk.set_failed_sync(Survival::random(seed));
        disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)));
        file.sync().unwrap_err();
        let content = disk.power_loss(&mut Survival::AllKept).read_file("f").unwrap();
        found.push((content[0], content[512]));
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [(1, 1), (1, 2), (2, 1), (2, 2)]);
}

#[test]
fn growth_behind_a_failed_sync_comes_back_as_zeros() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", b"");
    write(&*file, &[2; 700], 0);
    disk.add_fault(Fault::once(Some(Call::Sync), 0, Effect::Errno(EIO)));
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert_eq!(contents_after_power_loss(&disk, "f"), [Some(vec![0; 700])]);
}

#[test]
fn a_failed_directory_sync_keeps_names_dirty_unless_told_otherwise() {
    for loses in [false, true] {
        let disk = SimDisk::new();
        put(&disk, "f", b"").sync().unwrap();
        disk.set_failed_sync_dir_loses_names(loses);
        disk.add_fault(Fault::once(Some(Call::SyncDir), 0, Effect::Errno(EIO)));
        disk.sync_dir("").unwrap_err();
        disk.sync_dir("").unwrap();
        assert_eq!(names(&disk), ["f"]);
        assert_eq!(names(&disk.power_loss(&mut Survival::AllKept)).is_empty(), loses);
    }
}

#[test]
fn a_full_disk_fails_allocation_whole_and_writes_behind_what_fits() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(4 * 4096));
    let file = put(&disk, "f", &[1; 100]);
    assert_eq!(disk.free().unwrap(), 3 * 4096);
    assert_eq!(file.allocate(5 * 4096).unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(file.len().unwrap(), 100);
    file.allocate(2 * 4096).unwrap();
    write(&*file, &[2; 4096], 4096);
    assert_eq!(disk.free().unwrap(), 2 * 4096);
    let error = file.write_at(&[IoSlice::new(&[3; 3 * 4096])], 2 * 4096).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ENOSPC));
    assert_eq!((file.len().unwrap(), disk.free().unwrap()), (4 * 4096, 0));

    // The space comes back when neither a name nor an open file holds it.
    disk.unlink("f").unwrap();
    assert_eq!(disk.free().unwrap(), 0);
    drop(file);
    assert_eq!(disk.free().unwrap(), 4 * 4096);
    assert_eq!(disk.process_kill().free().unwrap(), 4 * 4096);
    disk.set_capacity(None);
    assert!(disk.free().unwrap() > 1 << 30);
}

#[test]
fn a_held_lock_tells_its_holder() {
    let disk = SimDisk::new();
    let guard = disk.lock("pid 17").unwrap();
    let error = disk.clone().lock("me").unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::WouldBlock, "pid 17"));
    disk.process_kill().lock("other").unwrap();
    disk.power_loss(&mut Survival::AllLost).lock("other").unwrap();
    drop(guard);
    let _guard = disk.lock("me").unwrap();
    assert_eq!(disk.read_file("LOCK").unwrap(), b"me");
}

#[test]
fn a_wild_position_is_an_error_and_no_allocation() {
    let disk = SimDisk::new();
    let file = put(&disk, "f", b"");
    for pos in [1 << 40, u64::MAX] {
        assert_eq!(
            file.write_at(&[IoSlice::new(b"x")], pos).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }
    assert!(file.allocate(1 << 60).is_err());
    assert!(file.truncate(1 << 60).is_err());
    assert_eq!(file.read_at(&mut [0], u64::MAX).unwrap(), 0);
    assert_eq!(file.len().unwrap(), 0);
}
