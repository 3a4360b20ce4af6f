//! Power losses and process kills.

use super::*;

#[test]
fn what_was_synced_is_in_every_image() {
    let disk = SimDisk::new();
    let content: Vec<u8> = (0..10_000u32).map(|i| (i / 7) as u8).collect();
    put_durably(&disk, "f", &content);
    assert_eq!(contents_after_power_loss(&disk, "f"), [Some(content)]);
}

#[test]
fn unsynced_sectors_survive_each_for_itself() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", &[1; 1536]);
    write(&*file, &[2; 1536], 0);
    let contents = contents_after_power_loss(&disk, "f");
    // Three sectors, each old or new as a whole.
    assert_eq!(contents.len(), 8);
    for content in contents {
        let content = content.unwrap();
        assert!(content.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]));
    }
    let lost = disk.power_loss(&mut Survival::AllLost);
    assert_eq!(lost.read_file("f").unwrap(), [1; 1536]);
    let kept = disk.power_loss(&mut Survival::AllKept);
    assert_eq!(kept.read_file("f").unwrap(), [2; 1536]);
}

#[test]
fn an_unsynced_growth_comes_back_short_or_long_with_zeros() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", &[1; 512]);
    write(&*file, &[2; 600], 512);
    let contents = contents_after_power_loss(&disk, "f");
    let tail = |tail: &[u8]| Some([&[1; 512], tail].concat());
    let zeros_then_new = [[0; 512].as_slice(), &[2; 88]].concat();
    let new_then_zeros = [[2; 512].as_slice(), &[0; 88]].concat();
    for wanted in [&[][..], &[0; 512], &[2; 512], &[0; 600], &[2; 600], &zeros_then_new, &new_then_zeros] {
        assert!(contents.contains(&tail(wanted)), "{} bytes", wanted.len());
    }
    assert_eq!(contents.len(), 7);
}

#[test]
fn a_short_write_into_the_last_sector_can_be_lost() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", b"abc");
    write(&*file, b"def", 3);
    let wanted = [&b"abc"[..], b"abc\0\0\0", b"abcdef"].map(|content| Some(content.to_vec()));
    assert_eq!(contents_after_power_loss(&disk, "f"), wanted);
}

#[test]
fn an_allocated_length_is_lost_without_a_sync() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", b"abc");
    file.allocate(4096).unwrap();
    assert_eq!(disk.power_loss(&mut Survival::AllLost).read_file("f").unwrap(), b"abc");
    file.sync().unwrap();
    let image = disk.power_loss(&mut Survival::AllLost);
    assert_eq!(image.read_file("f").unwrap().len(), 4096);
}

#[test]
fn an_unsynced_cut_may_not_have_happened() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", &[1; 1024]);
    file.truncate(512).unwrap();
    assert_eq!(contents_after_power_loss(&disk, "f"), [Some(vec![1; 512]), Some(vec![1; 1024])]);
    // Written again behind the cut: old, zeros or new.
    write(&*file, &[2; 512], 512);
    let contents = contents_after_power_loss(&disk, "f");
    for (tail, len) in [(1, 512), (0, 512), (2, 512), (0, 0)] {
        assert!(contents.contains(&Some([vec![1; 512], vec![tail; len]].concat())), "{tail} {len}");
    }
    file.sync().unwrap();
    assert_eq!(contents_after_power_loss(&disk, "f"), [Some([[1; 512], [2; 512]].concat())]);
}

#[test]
fn a_created_name_is_lost_without_a_directory_sync() {
    let disk = SimDisk::new();
    put(&disk, "f", b"abc").sync().unwrap();
    assert_eq!(contents_after_power_loss(&disk, "f"), [None, Some(b"abc".to_vec())]);
    disk.sync_dir("").unwrap();
    assert_eq!(contents_after_power_loss(&disk, "f"), [Some(b"abc".to_vec())]);
}

#[test]
fn an_unlinked_name_comes_back_without_a_directory_sync() {
    let disk = SimDisk::new();
    put_durably(&disk, "f", b"abc");
    disk.unlink("f").unwrap();
    assert_eq!(contents_after_power_loss(&disk, "f"), [None, Some(b"abc".to_vec())]);
    disk.sync_dir("").unwrap();
    assert_eq!(contents_after_power_loss(&disk, "f"), [None]);
}

#[test]
fn the_two_halves_of_a_rename_survive_each_for_itself() {
    let disk = SimDisk::new();
    put_durably(&disk, "a", b"abc");
    disk.rename("a", "b").unwrap();
    let mut found: Vec<_> =
        (0..100).map(|seed| names(&disk.power_loss(&mut Survival::random(seed)))).collect();
    found.sort();
    found.dedup();
    assert_eq!(found, [&[][..], &["a"], &["a", "b"], &["b"]]);
    disk.sync_dir("").unwrap();
    assert_eq!(names(&disk.power_loss(&mut Survival::AllLost)), ["b"]);
}

#[test]
fn two_names_of_one_file_after_a_crash_are_links() {
    let disk = SimDisk::new();
    put_durably(&disk, "a", b"abc");
    disk.rename("a", "b").unwrap();
    let image = (0..100)
        .map(|seed| disk.power_loss(&mut Survival::random(seed)))
        .find(|image| names(image).len() == 2)
        .unwrap();
    let links: Vec<u64> = image.list("").unwrap().into_iter().map(|entry| entry.links).collect();
    assert_eq!(links, [2, 2]);
    // Written through one name, read through the other; renaming one onto the other keeps both.
    write(&*image.open("a", Mode::Write).unwrap(), b"x", 0);
    image.rename("a", "b").unwrap();
    assert_eq!(names(&image), ["a", "b"]);
    assert_eq!(image.read_file("b").unwrap(), b"xbc");
    image.unlink("a").unwrap();
    assert_eq!(image.list("").unwrap()[0].links, 1);
}

#[test]
fn a_directory_is_lost_with_all_in_it_until_its_parent_is_synced() {
    let disk = SimDisk::new();
    disk.create_dir("d/e").unwrap();
    put(&disk, "d/e/f", b"abc").sync().unwrap();
    disk.sync_dir("d/e").unwrap();
    disk.sync_dir("d").unwrap();
    assert_eq!(names(&disk.power_loss(&mut Survival::AllLost)), Vec::<String>::new());
    disk.sync_dir("").unwrap();
    assert_eq!(names(&disk.power_loss(&mut Survival::AllLost)), ["d/e/f"]);
}

#[test]
fn a_process_kill_keeps_the_cache_and_its_dirt() {
    let disk = SimDisk::new();
    let file = put(&disk, "f", b"abc");
    let _guard = disk.lock("first").unwrap();
    let image = disk.process_kill();
    assert_eq!(image.read_file("f").unwrap(), b"abc");
    assert_eq!(names(&image.power_loss(&mut Survival::AllLost)), ["LOCK"]);
    // The two disks are two from here on.
    write(&*file, b"x", 0);
    assert_eq!(image.read_file("f").unwrap(), b"abc");
    image.lock("second").unwrap();
}

#[test]
fn a_file_without_names_is_gone_after_its_process() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", b"abc");
    disk.unlink("f").unwrap();
    disk.sync_dir("").unwrap();
    let mut buf = [0; 3];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 3);
    assert_eq!(names(&disk.process_kill()), Vec::<String>::new());
}

#[test]
fn what_the_kernel_wrote_back_survives_and_the_rest_stays_dirty() {
    let disk = SimDisk::new();
    let file = put_durably(&disk, "f", &[0; 1024]);
    write(&*file, &[1; 1024], 0);
    disk.write_back(&mut Survival::AllLost);
    assert_eq!(disk.power_loss(&mut Survival::AllLost).read_file("f").unwrap(), [0; 1024]);
    disk.write_back(&mut Survival::AllKept);
    write(&*file, &[2; 1024], 0);
    // The middle version survives, which without the write-back no image would show.
    assert_eq!(disk.power_loss(&mut Survival::AllLost).read_file("f").unwrap(), [1; 1024]);
    file.sync().unwrap();
    assert_eq!(disk.power_loss(&mut Survival::AllLost).read_file("f").unwrap(), [2; 1024]);
}

#[test]
fn a_write_back_in_any_part_is_made_whole_by_the_next_sync() {
    for seed in 0..300 {
        let disk = SimDisk::new();
        let file = put_durably(&disk, "f", &[1; 3000]);
        file.truncate(700).unwrap();
        write(&*file, &[2; 1500], 1400);
        disk.rename("f", "g").unwrap();
        disk.write_back(&mut Survival::random(seed));
        file.truncate(2500).unwrap();
        disk.write_back(&mut Survival::random(seed + 1000));
        let expected = disk.read_file("g").unwrap();
        file.sync().unwrap();
        disk.sync_dir("").unwrap();
        let image = disk.power_loss(&mut Survival::AllLost);
        assert_eq!(
            (names(&image), image.read_file("g").unwrap()),
            (vec!["g".to_owned()], expected),
            "{seed}"
        );
    }
}

#[test]
fn equal_seeds_give_equal_images() {
    let run = |seed: u64| {
        let disk = SimDisk::new();
        disk.create_dir("d").unwrap();
        let mut random = crate::rng::Random::new(seed);
        for i in 0..20u64 {
            let file = put(&disk, &format!("d/{i}"), b"");
            let mut bytes = vec![0; random.below(5000) as usize];
            random.fill(&mut bytes);
            write(&*file, &bytes, random.below(3000));
            if random.chance(1, 2) {
                file.sync().unwrap();
            }
        }
        disk.sync_dir("").unwrap();
        disk.power_loss(&mut Survival::random(seed)).fingerprint()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn the_fingerprint_sees_bytes_lengths_names_and_links_but_not_history() {
    let disk = SimDisk::new();
    put_durably(&disk, "f", &[1; 5000]);
    let first = disk.fingerprint();
    disk.flip_bit("f", 4999, 1).unwrap();
    assert_ne!(disk.fingerprint(), first);
    disk.flip_bit("f", 4999, 1).unwrap();
    assert_eq!(disk.fingerprint(), first);
    let file = disk.open("f", Mode::Write).unwrap();
    file.allocate(5001).unwrap();
    assert_ne!(disk.fingerprint(), first);
    file.truncate(5000).unwrap();
    disk.rename("f", "g").unwrap();
    assert_ne!(disk.fingerprint(), first);
    disk.copy("g", "f").unwrap();
    disk.remove("g").unwrap();
    assert_eq!(disk.fingerprint(), first);
}

#[test]
fn damage_is_durable_and_stays_inside_the_file() {
    let disk = SimDisk::new();
    put_durably(&disk, "f", &[0; 1000]);
    disk.flip_bit("f", 999, 0x80).unwrap();
    disk.overwrite("f", 0, b"xy").unwrap();
    disk.copy("f", "g").unwrap();
    disk.cut("f", 600).unwrap();
    disk.put("h", b"new").unwrap();
    disk.remove("h").unwrap();
    let image = disk.power_loss(&mut Survival::AllLost);
    assert_eq!(image.files(), [("f".to_owned(), 600), ("g".to_owned(), 1000)]);
    assert_eq!(image.read_file("g").unwrap()[999], 0x80);
    assert_eq!(&image.read_file("f").unwrap()[..3], b"xy\0");
    for error in [disk.flip_bit("f", 600, 1), disk.cut("f", 601), disk.overwrite("f", u64::MAX, b"x")] {
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
    assert_eq!(disk.remove("h").unwrap_err().kind(), io::ErrorKind::NotFound);
}
