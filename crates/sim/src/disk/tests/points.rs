//! Numbered operations, stops and recorded points.

use super::*;

#[test]
fn after_a_stop_every_call_fails() {
    let disk = SimDisk::new();
    disk.set_stop_after(2);
    let file = put(&disk, "f", b"abc");
    assert!(!disk.is_stopped());
    file.sync().unwrap();
    assert!(disk.is_stopped());
    let mut buf = [0; 3];
    let errors = [
        file.read_at(&mut buf, 0).unwrap_err(),
        file.write_at(&[IoSlice::new(b"x")], 0).unwrap_err(),
        file.sync().unwrap_err(),
        file.allocate(10).unwrap_err(),
        file.truncate(0).unwrap_err(),
        file.len().unwrap_err(),
        file.map_sealed().unwrap_err(),
        disk.open("f", Mode::Read).unwrap_err(),
        disk.open("g", Mode::CreateNew).unwrap_err(),
        disk.list("").unwrap_err(),
        disk.create_dir("d").unwrap_err(),
        disk.rename("f", "g").unwrap_err(),
        disk.unlink("f").unwrap_err(),
        disk.remove_dir("d").unwrap_err(),
        disk.sync_dir("").unwrap_err(),
        disk.free().unwrap_err(),
        disk.lock("me").unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::Other, "simulated crash"));
    }
    assert_eq!(disk.ops(), 3);
    let image = disk.process_kill();
    assert_eq!(image.read_file("f").unwrap(), b"abc");
    image.open("f", Mode::Read).unwrap();
}

#[test]
fn a_stop_in_a_write_keeps_the_prefix() {
    let disk = SimDisk::new();
    disk.set_stop_in_write(1, 4);
    let file = disk.open("f", Mode::CreateNew).unwrap();
    let parts = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"def")];
    assert_eq!(file.write_at(&parts, 1).unwrap_err().to_string(), "simulated crash");
    assert_eq!(disk.process_kill().read_file("f").unwrap(), b"\0abcd");
}

#[test]
fn one_run_gives_a_point_after_each_operation_and_marker() {
    let disk = SimDisk::new();
    disk.record_points(true);
    let file = put(&disk, "f", b"abc");
    file.sync().unwrap();
    disk.set_marker(7);
    disk.set_marker(7);
    let mut buf = [0; 3];
    file.read_at(&mut buf, 0).unwrap();
    disk.sync_dir("").unwrap();
    let points = disk.take_points();
    let name: Arc<str> = "f".into();
    let seen: Vec<_> = points.iter().map(|point| (point.op, point.what.clone(), point.marker)).collect();
    let wanted = [
        (0, What::Create { name: name.clone() }, 0),
        (1, What::Write { name: name.clone(), pos: 0, len: 3 }, 0),
        (2, What::Sync { name }, 0),
        (2, What::Marker, 7),
        (3, What::SyncDir { dir: "".into() }, 7),
    ];
    assert_eq!(seen, wanted);
    assert!(disk.take_points().is_empty());

    let surviving = |point: &Point| names(&point.disk.power_loss(&mut Survival::AllLost)).len();
    assert_eq!(points.iter().map(surviving).collect::<Vec<_>>(), [0, 0, 0, 0, 1]);
    let lengths: Vec<_> = points.iter().map(|point| point.disk.files()[0].1).collect();
    assert_eq!(lengths, [0, 3, 3, 3, 3]);
}

#[test]
fn a_point_is_what_a_stop_at_its_operation_leaves() {
    let run = |disk: &SimDisk| -> io::Result<()> {
        disk.create_dir("d")?;
        let file = disk.open("d/f", Mode::CreateNew)?;
        for i in 0..5u8 {
            file.write_at(&[IoSlice::new(&[i; 700])], u64::from(i) * 600)?;
            file.sync()?;
        }
        disk.rename("d/f", "d/g")?;
        disk.sync_dir("d")?;
        disk.sync_dir("")
    };
    let recorded = SimDisk::new();
    recorded.record_points(true);
    run(&recorded).unwrap();
    let points = recorded.take_points();
    assert_eq!(points.len() as u64, recorded.ops());
    for point in points {
        let stopped = SimDisk::new();
        stopped.set_stop_after(point.op);
        let _ = run(&stopped);
        assert_eq!(point.disk.fingerprint(), stopped.fingerprint());
        for seed in 0..20 {
            let images = [&point.disk, &stopped]
                .map(|disk| disk.power_loss(&mut Survival::random(seed)).fingerprint());
            assert_eq!(images[0], images[1]);
        }
    }
}

#[test]
fn a_write_point_can_be_torn_at_every_byte() {
    let disk = SimDisk::new();
    put_durably(&disk, "f", &[1; 10]);
    disk.record_points(true);
    write(&*disk.open("f", Mode::Write).unwrap(), &[2; 4], 8);
    disk.sync_dir("").unwrap();
    let points = disk.take_points();
    assert_eq!(points[0].written_bytes(), Some(4));
    for cut_bytes in 0..=4u64 {
        let image = points[0].torn_kill(cut_bytes).unwrap();
        let mut wanted = vec![1; 8];
        wanted.resize(8 + cut_bytes as usize, 2);
        wanted.resize(wanted.len().max(10), 1);
        assert_eq!(image.read_file("f").unwrap(), wanted);
        assert_eq!(image.power_loss(&mut Survival::AllLost).read_file("f").unwrap(), [1; 10]);
    }
    assert!(points[0].torn_kill(5).is_none());
    assert!(points[1].torn_kill(0).is_none());
}
