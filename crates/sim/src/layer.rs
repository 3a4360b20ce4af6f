//! A disk around a simulated one: it passes everything on, and an [`Observer`] sees calls to files first.
//!
//! Not a fault injector: the simulated disk fails calls itself.
//!
//! Invariants:
//!   * each call reaches the simulated disk once, as it was made, unless the observer panics

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use exactlog_storage::disk::{Disk, Entry, File, Mode};

use crate::disk::SimDisk;

/// Looks at calls before they are passed on, on the thread that makes them. It may wait there, or panic.
pub trait Observer: Debug + Send + Sync + 'static {
    /// A buffer of `buffer_bytes` is about to be filled from `file`.
    fn before_read(&self, _file: &dyn File, _buffer_bytes: usize) {}
    /// The file of this name is about to be written.
    fn before_write(&self, _name: &str) {}
    /// The file of this name is about to be synced.
    fn before_sync(&self, _name: &str) {}
    /// A file is about to be given `len_bytes`.
    fn before_allocate(&self, _len_bytes: u64) {}
}

/// The disk around the simulated one.
#[derive(Debug)]
pub struct Layer {
    disk: SimDisk,
    observer: Arc<dyn Observer>,
}

impl Layer {
    /// Around `disk`, which can still be used without it.
    #[must_use]
    pub fn over(disk: &SimDisk, observer: Arc<dyn Observer>) -> Layer {
        Layer { disk: disk.clone(), observer }
    }
}

impl Disk for Layer {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name, mode)?;
        Ok(Arc::new(LayerFile { file, name: name.into(), observer: self.observer.clone() }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.disk.unlink(name)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }

    fn lock(&self, owner: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.disk.lock(owner)
    }

    fn location(&self) -> String {
        self.disk.location()
    }
}

#[derive(Debug)]
struct LayerFile {
    file: Arc<dyn File>,
    name: Box<str>,
    observer: Arc<dyn Observer>,
}

impl File for LayerFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.observer.before_read(&*self.file, buf.len());
        self.file.read_at(buf, pos)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        self.observer.before_write(&self.name);
        self.file.write_at(parts, pos)
    }

    fn sync(&self) -> io::Result<()> {
        self.observer.before_sync(&self.name);
        self.file.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.observer.before_allocate(len);
        self.file.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn map_sealed(&self) -> io::Result<Bytes> {
        self.file.map_sealed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<String>>);

    impl Observer for Seen {
        fn before_read(&self, file: &dyn File, buffer_bytes: usize) {
            let len = file.len().expect("the disk has no faults");
            self.0.lock().push(format!("read {buffer_bytes} of {len}"));
        }
        fn before_write(&self, name: &str) {
            self.0.lock().push(format!("write {name}"));
        }
        fn before_sync(&self, name: &str) {
            self.0.lock().push(format!("sync {name}"));
        }
        fn before_allocate(&self, len_bytes: u64) {
            self.0.lock().push(format!("allocate {len_bytes}"));
        }
    }

    #[test]
    fn an_observer_sees_a_call_before_the_disk_does_and_the_disk_does_the_rest() {
        let (disk, seen) = (SimDisk::new(), Arc::new(Seen::default()));
        let file = Layer::over(&disk, seen.clone()).open("f", Mode::CreateNew).expect("a new name");
        file.allocate(5).expect("the disk has room");
        file.write_at(&[IoSlice::new(b"abc")], 1).expect("the disk has room");
        file.sync().expect("the disk has no faults");
        let mut buffer = [9; 4];
        assert_eq!(file.read_at(&mut buffer, 0).ok(), Some(4));
        assert_eq!(&buffer, b"\0abc");
        assert_eq!(*seen.0.lock(), ["allocate 5", "write f", "sync f", "read 4 of 5"]);
        assert_eq!(disk.read_file("f").expect("it is there"), b"\0abc\0");
    }
}
