//! A disk that can stop at its next sync of the journal, or panic there: for what happens meanwhile.

use bytes::Bytes;
use exactlog_sim::disk::SimDisk;
use exactlog_storage::disk::{Disk, Entry, File, Mode};
use parking_lot::{Condvar, Mutex};
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// A simulated disk behind a gate. A clone is the same disk.
#[derive(Clone, Debug)]
pub(crate) struct GatedDisk {
    pub(crate) disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    shut: bool,
    waiting: bool,
    panics: u32,
}

impl GatedDisk {
    pub(crate) fn new() -> GatedDisk {
        GatedDisk { disk: SimDisk::new(), gate: Arc::default() }
    }

    /// Every write of the journal waits from now on.
    pub(crate) fn shut(&self) {
        self.gate.state.lock().shut = true;
    }

    /// Waits until a write of the journal waits.
    pub(crate) fn wait_until_reached(&self) {
        let mut state = self.gate.state.lock();
        while !state.waiting {
            let timed_out = self.gate.changed.wait_for(&mut state, super::PATIENCE).timed_out();
            assert!(!timed_out, "nobody came to the gate");
        }
    }

    /// Lets all go on.
    pub(crate) fn open_gate(&self) {
        let mut state = self.gate.state.lock();
        state.shut = false;
        state.waiting = false;
        self.gate.changed.notify_all();
    }

    /// The next write of the journal panics.
    #[allow(dead_code)] // Not every test binary that shares this disk needs a panic.
    pub(crate) fn panic_once(&self) {
        self.gate.state.lock().panics = 1;
    }
}

impl Gate {
    fn pass(&self, name: &str) {
        if !name.starts_with("journal/") {
            return;
        }
        let mut state = self.state.lock();
        if std::thread::current().name() != Some("exactlog-writer") {
            return;
        }
        if state.panics > 0 {
            state.panics -= 1;
            drop(state);
            panic!("a planned panic of the disk");
        }
        while state.shut {
            state.waiting = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
    }
}

impl Disk for GatedDisk {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name, mode)?;
        Ok(Arc::new(GatedFile { file, name: name.into(), gate: self.gate.clone() }))
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
struct GatedFile {
    file: Arc<dyn File>,
    name: String,
    gate: Arc<Gate>,
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.file.read_at(buf, pos)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        self.gate.pass(&self.name);
        self.file.write_at(parts, pos)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
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
