//! What the simulated disk loses and what it keeps. Without these, a disk that loses nothing would make every crash
//! test pass.

mod crash;
mod faults;
mod parity;
mod points;

use std::io::IoSlice;
use std::sync::Arc;

use exactlog_storage::disk::{Disk, File, Mode};

use super::*;

fn put(disk: &SimDisk, name: &str, content: &[u8]) -> Arc<dyn File> {
    let file = disk.open(name, Mode::CreateNew).unwrap();
    write(&*file, content, 0);
    file
}

fn put_durably(disk: &SimDisk, name: &str, content: &[u8]) -> Arc<dyn File> {
    let file = put(disk, name, content);
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    file
}

fn write(file: &dyn File, content: &[u8], pos: u64) {
    file.write_at(&[IoSlice::new(content)], pos).unwrap();
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.files().into_iter().map(|(name, _)| name).collect()
}

/// The contents that a file has in 400 random images, each once, sorted. `None` for images without the file.
fn contents_after_power_loss(disk: &SimDisk, name: &str) -> Vec<Option<Vec<u8>>> {
    let image = |seed| disk.power_loss(&mut Survival::random(seed)).read_file(name).ok();
    let mut contents: Vec<_> = (0..400).map(image).collect();
    contents.sort();
    contents.dedup();
    contents
}
