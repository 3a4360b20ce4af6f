//! What the real disk promises, tried on a temporary directory.

use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

fn fresh() -> (TempDir, RealDisk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path()).unwrap();
    (dir, disk)
}

fn put(disk: &RealDisk, name: &str, content: &[u8]) -> Arc<dyn File> {
    let file = disk.open(name, Mode::CreateNew).unwrap();
    file.write_at(&[IoSlice::new(content)], 0).unwrap();
    file
}

fn content(disk: &RealDisk, name: &str) -> Vec<u8> {
    mapped::read_whole(&*disk.open(name, Mode::Read).unwrap()).unwrap().to_vec()
}

fn names(disk: &RealDisk, dir: &str) -> Vec<String> {
    disk.list(dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn permissions(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_missing_root_is_made_with_its_parents_for_the_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b");
    let disk = RealDisk::new(&root).unwrap();
    disk.create_dir("c/d").unwrap();
    put(&disk, "c/d/f", b"x");
    for path in ["a", "a/b", "a/b/c", "a/b/c/d"] {
        assert_eq!(permissions(&dir.path().join(path)), 0o700, "{path}");
    }
    assert_eq!(permissions(&root.join("c/d/f")), 0o600);
    assert_eq!(disk.location(), root.display().to_string());
}

#[test]
fn a_root_that_is_a_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("file");
    fs::write(&root, b"").unwrap();
    let error = RealDisk::new(&root).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    assert!(error.to_string().contains(root.to_str().unwrap()), "{error}");
    assert!(RealDisk::new(root.join("below")).is_err());
}

#[test]
fn the_way_to_the_root_may_lead_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("there")).unwrap();
    symlink(dir.path().join("there"), dir.path().join("here")).unwrap();
    let disk = RealDisk::new(dir.path().join("here")).unwrap();
    put(&disk, "f", b"x");
    assert!(dir.path().join("there/f").exists());
}

#[test]
fn links_inside_the_data_directory_are_refused_with_a_reason() {
    let (dir, disk) = fresh();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), b"secret").unwrap();
    symlink(outside.path(), dir.path().join("d")).unwrap();
    symlink(outside.path().join("f"), dir.path().join("f")).unwrap();
    symlink(outside.path().join("new"), dir.path().join("LOCK")).unwrap();

    let errors = [
        disk.open("f", Mode::Read).unwrap_err(),
        disk.open("f", Mode::Write).unwrap_err(),
        disk.open("d/f", Mode::Read).unwrap_err(),
        disk.open("d/new", Mode::CreateNew).unwrap_err(),
        disk.list("d").unwrap_err(),
        disk.sync_dir("d").unwrap_err(),
        disk.create_dir("d/below").unwrap_err(),
        disk.unlink("d/f").unwrap_err(),
        disk.lock("me").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_file_is_not_opened_as_one() {
    let (dir, disk) = fresh();
    disk.create_dir("d").unwrap();
    assert_eq!(disk.open("d", Mode::Read).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    // A socket stands for everything else that isn't a file.
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    assert!(disk.open("s", Mode::Read).is_err());
}

#[test]
fn each_mode_opens_what_it_says() {
    let (_dir, disk) = fresh();
    for mode in [Mode::Read, Mode::Write] {
        assert_eq!(disk.open("f", mode).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
    put(&disk, "f", b"abc");
    assert_eq!(disk.open("f", Mode::CreateNew).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(disk.open("f", Mode::Read).unwrap().write_at(&[IoSlice::new(b"x")], 0).is_err());
    disk.open("f", Mode::Write).unwrap().write_at(&[IoSlice::new(b"x")], 1).unwrap();
    assert_eq!(content(&disk, "f"), b"axc");
    assert_eq!(disk.open("missing/f", Mode::CreateNew).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn three_thousand_parts_are_one_write() {
    let (_dir, disk) = fresh();
    let parts: Vec<[u8; 7]> = (0..3000u32).map(|i| [i as u8; 7]).collect();
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let file = disk.open("f", Mode::CreateNew).unwrap();
    file.write_at(&slices, 11).unwrap();
    assert_eq!(content(&disk, "f")[11..], parts.concat());
    assert_eq!(file.len().unwrap(), 11 + 21_000);
    file.sync().unwrap();
}

#[test]
fn reads_stop_at_the_end_of_the_file() {
    let (_dir, disk) = fresh();
    let file = put(&disk, "f", b"abcdef");
    let mut buf = [9; 4];
    assert_eq!(file.read_at(&mut buf, 4).unwrap(), 2);
    assert_eq!(&buf, b"ef\x09\x09");
    assert_eq!(file.read_at(&mut buf, 6).unwrap(), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
}

#[test]
fn allocation_extends_with_zeros_and_never_shortens() {
    let (_dir, disk) = fresh();
    let file = put(&disk, "f", b"abc");
    file.allocate(0).unwrap();
    file.allocate(2).unwrap();
    assert_eq!(file.len().unwrap(), 3);
    file.allocate(100_000).unwrap();
    assert_eq!(file.len().unwrap(), 100_000);
    let all = content(&disk, "f");
    assert_eq!(&all[..3], b"abc");
    assert!(all[3..].iter().all(|byte| *byte == 0));
    file.truncate(2).unwrap();
    assert_eq!(content(&disk, "f"), b"ab");
}

#[test]
fn a_file_system_without_allocation_gets_zeros_written() {
    let (_dir, disk) = fresh();
    put(&disk, "f", b"abc");
    let file = disk.real(disk.file("f", sys::OFlags::RDWR).unwrap());
    file.allocate_with(200_000, |_, _| Err(io::ErrorKind::Unsupported.into())).unwrap();
    let all = content(&disk, "f");
    assert_eq!((all.len(), &all[..3]), (200_000, &b"abc"[..]));
    assert!(all[3..].iter().all(|byte| *byte == 0));
    file.allocate_with(10, |_, _| Err(io::ErrorKind::Unsupported.into())).unwrap();
    assert_eq!(file.len().unwrap(), 200_000);
}

#[test]
fn an_allocation_that_fails_half_way_leaves_the_length() {
    let (_dir, disk) = fresh();
    put(&disk, "f", b"abc");
    let file = disk.real(disk.file("f", sys::OFlags::RDWR).unwrap());
    let half_way = |file: &fs::File, len: u64| {
        file.set_len(len / 2)?;
        Err(Errno::NOSPC.into())
    };
    assert_eq!(file.allocate_with(100, half_way).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "f"), b"abc");
}

#[test]
fn a_rename_replaces_and_stays_in_its_directory() {
    let (_dir, disk) = fresh();
    disk.create_dir("d").unwrap();
    put(&disk, "d/a", b"new");
    let old = put(&disk, "d/b", b"old");
    disk.rename("d/a", "d/b").unwrap();
    disk.sync_dir("d").unwrap();
    assert_eq!(names(&disk, "d"), ["b"]);
    assert_eq!(content(&disk, "d/b"), b"new");
    assert_eq!(&mapped::read_whole(&*old).unwrap()[..], b"old");
    assert_eq!(disk.rename("d/a", "d/c").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(disk.rename("d/b", "b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    let (_dir, disk) = fresh();
    let file = put(&disk, "f", b"abc");
    disk.unlink("f").unwrap();
    assert_eq!(names(&disk, ""), Vec::<String>::new());
    file.write_at(&[IoSlice::new(b"def")], 3).unwrap();
    assert_eq!(&mapped::read_whole(&*file).unwrap()[..], b"abcdef");
    assert_eq!(disk.unlink("f").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn hard_links_are_counted_and_renaming_one_onto_the_other_keeps_both() {
    let (dir, disk) = fresh();
    put(&disk, "a", b"abc");
    fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
    disk.create_dir("d").unwrap();
    let file = |name: &str| Entry { name: name.into(), len: 3, links: 2, is_dir: false };
    let d = Entry { name: "d".into(), len: 0, links: 1, is_dir: true };
    assert_eq!(disk.list("").unwrap(), [file("a"), file("b"), d]);
    disk.rename("a", "b").unwrap();
    assert_eq!(names(&disk, ""), ["a", "b", "d"]);
    disk.unlink("a").unwrap();
    assert_eq!(disk.list("").unwrap()[0].links, 1);
}

#[test]
fn directories_are_made_once_and_removed_when_empty() {
    let (_dir, disk) = fresh();
    disk.create_dir("a/b").unwrap();
    disk.create_dir("a/b").unwrap();
    disk.create_dir("").unwrap();
    put(&disk, "f", b"");
    assert_eq!(disk.create_dir("f").unwrap_err().kind(), io::ErrorKind::NotADirectory);
    assert_eq!(disk.remove_dir("a").unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
    disk.remove_dir("a/b").unwrap();
    disk.remove_dir("a").unwrap();
    assert_eq!(disk.list("a").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(disk.sync_dir("a").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_second_lock_fails_with_what_the_holder_wrote() {
    let (dir, first) = fresh();
    let guard = first.lock("pid 17 since noon").unwrap();
    let second = RealDisk::new(dir.path()).unwrap();
    let error = second.lock("me").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(error.to_string(), "pid 17 since noon");
    drop(guard);
    let _guard = second.lock("me").unwrap();
    assert_eq!(content(&first, "LOCK"), b"me");
    assert_eq!(first.lock("you").unwrap_err().to_string(), "me");
}

#[test]
fn free_space_is_told() {
    let (_dir, disk) = fresh();
    assert!(disk.free().unwrap() > 0);
}

#[test]
fn who_asks_whether_the_lock_is_held_keeps_nobody_from_taking_it() {
    let (_dir, disk) = fresh();
    drop(disk.lock("first").unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                disk.is_held().unwrap();
            }
        });
        let refused = (0..5_000).filter(|_| disk.lock("me").is_err()).count();
        done.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(refused, 0);
    });
}

#[test]
fn whether_the_lock_is_held_is_told_without_writing() {
    let (dir, disk) = fresh();
    assert!(!disk.is_held().unwrap());
    assert!(names(&disk, "").is_empty(), "no lock file was made");
    let guard = disk.lock("me").unwrap();
    let other = RealDisk::existing(dir.path()).unwrap();
    assert!(other.is_held().unwrap());
    drop(guard);
    assert!(!other.is_held().unwrap());
    assert_eq!(content(&disk, LOCK_NAME), b"me");
    disk.lock("you").unwrap();
}

#[test]
fn a_root_that_is_to_exist_is_not_made() {
    let (dir, _disk) = fresh();
    let missing = dir.path().join("missing");
    let error = RealDisk::existing(&missing).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(!missing.exists());
}

mod around {
    use super::*;
    use proptest::prelude::*;

    /// What a file holds after these writes, made by `write`; each continues the last or goes back into it.
    fn after(
        writes: &[(usize, Vec<usize>)],
        write: fn(&dyn File, &[IoSlice<'_>], u64) -> io::Result<()>,
    ) -> Vec<u8> {
        let (_dir, disk) = fresh();
        let file = disk.open("f", Mode::CreateNew).unwrap();
        let (mut byte, mut len) = (0_u8, 0);
        for (back, parts) in writes {
            let parts: Vec<Vec<u8>> = parts
                .iter()
                .map(|len| {
                    (0..*len)
                        .map(|_| {
                            byte = byte.wrapping_mul(31).wrapping_add(17);
                            byte
                        })
                        .collect()
                })
                .collect();
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let pos = len - back.min(&len);
            write(&*file, &slices, pos as u64).unwrap();
            len = len.max(pos + parts.iter().map(Vec::len).sum::<usize>());
            assert_eq!(file.len().unwrap(), len as u64);
        }
        file.sync().unwrap();
        content(&disk, "f")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_written_around_the_cache_is_what_a_plain_write_makes(
            writes in prop::collection::vec(
                (prop_oneof![Just(0_usize), 0_usize..70_000], prop::collection::vec(0_usize..900_000, 0..4)),
                1..5,
            ),
        ) {
            let around = after(&writes, |file, parts, pos| file.write_around(parts, pos));
            prop_assert!(around == after(&writes, |file, parts, pos| file.write_at(parts, pos)));
        }
    }

    #[test]
    fn a_piece_longer_than_the_memory_for_it_and_unaligned_at_both_ends_arrives_whole() {
        let (_dir, disk) = fresh();
        let bytes: Vec<u8> = (0..3_500_001_u32).map(|n| (n % 251) as u8).collect();
        let file = put(&disk, "f", b"head");
        file.write_around(&[IoSlice::new(&bytes[..7]), IoSlice::new(&bytes[7..])], 4).unwrap();
        assert_eq!(content(&disk, "f"), [b"head", &bytes[..]].concat());
    }

    #[test]
    fn a_mapping_of_what_was_there_before_stays_as_it_is_and_a_reader_sees_what_follows() {
        let (_dir, disk) = fresh();
        let file = put(&disk, "f", &[1; 5_000]);
        let mapped = disk.open("f", Mode::Read).unwrap().map_sealed().unwrap();
        file.write_around(&[IoSlice::new(&[2; 300_000])], 5_000).unwrap();
        assert_eq!(&*mapped, [1; 5_000]);
        assert_eq!(content(&disk, "f")[5_000..], [2; 300_000]);
    }
}
