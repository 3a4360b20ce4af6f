//! A disk that takes a look whenever a journal file is synced: what others see while a group isn't durable yet.
//!
//! Everything is passed on to the simulated disk.

use bytes::Bytes;
use exactlog_sim::disk::SimDisk;
use exactlog_storage::disk::{Disk, Entry, File, Mode};
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

/// What a look gives: the end of a partition, and the lsn of the state.
type Sight = (u64, u64);

type Look = Box<dyn Fn() -> Sight + Send>;

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct WatchedDisk {
    inner: SimDisk,
    watch: Arc<Watch>,
}

#[derive(Default)]
struct Watch {
    look: Mutex<Option<Look>>,
    seen: Mutex<Vec<Sight>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl WatchedDisk {
    /// Around a simulated disk; nothing is looked at yet.
    pub(crate) fn new(inner: SimDisk) -> WatchedDisk {
        WatchedDisk { inner, watch: Arc::default() }
    }

    /// From now on looks before each sync of a journal file.
    pub(crate) fn look_at_each_sync(&self, look: impl Fn() -> Sight + Send + 'static) {
        *self.watch.look.lock().unwrap() = Some(Box::new(look));
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Vec<Sight> {
        self.watch.seen.lock().unwrap().clone()
    }
}

impl Disk for WatchedDisk {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(name, mode)?;
        let watch = name.starts_with("journal/").then(|| self.watch.clone());
        Ok(Arc::new(WatchedFile { inner, watch }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.inner.unlink(name)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn free(&self) -> io::Result<u64> {
        self.inner.free()
    }

    fn lock(&self, owner: &str) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        self.inner.lock(owner)
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn File>,
    watch: Option<Arc<Watch>>,
}

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.inner.read_at(buf, pos)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        self.inner.write_at(parts, pos)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(watch) = &self.watch {
            let sight = watch.look.lock().unwrap().as_ref().map(|look| look());
            watch.seen.lock().unwrap().extend(sight);
        }
        self.inner.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn map_sealed(&self) -> io::Result<Bytes> {
        self.inner.map_sealed()
    }
}
