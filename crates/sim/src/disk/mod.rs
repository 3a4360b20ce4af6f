//! The simulated disk: the real one's interface over memory, which tells what a crash would leave.
//!
//! Not a file system: no permissions, no links between directories, no times. Everything that
//! [`exactlog_storage::disk`] doesn't promise breaks here, as far as [`Choices`] says so: unsynced sectors are lost
//! one by one, unsynced lengths come back short or long with zeros, unsynced names appear or don't, each for itself.
//!
//! Invariants:
//!   * an image ([`SimDisk::power_loss`], [`SimDisk::process_kill`]) is independent of its origin and shares its pages
//!   * what was synced is in every image; what a failed sync gave up is in none unless it had reached the disk
//!   * the same calls with the same seeds give the same images

mod choices;
mod content;
mod damage;
mod fault;
mod file;
mod inode;
mod point;
mod sectors;
mod state;
mod tree;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use exactlog_storage::disk::{Disk, Entry, File, Mode};
use parking_lot::Mutex;

pub use choices::{Choices, Survival};
pub use fault::{Call, EIO, ENOSPC, Effect, Fault};
pub use point::{Point, What};

use content::Content;
use file::SimFile;
use inode::Inode;
use state::{State, Stop};
use tree::Tree;

/// What an unbounded disk says is free: 1 TiB.
const FREE_UNBOUNDED_BYTES: u64 = 1 << 40;

/// A disk in memory. A clone is the same disk; for a copy see [`SimDisk::process_kill`].
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

impl SimDisk {
    /// An empty disk without bounds, faults or stop.
    #[must_use]
    pub fn new() -> SimDisk {
        SimDisk::with_tree(Tree::new())
    }

    fn with_tree(tree: Tree) -> SimDisk {
        SimDisk { shared: Arc::new(Shared { state: Mutex::new(State::new(tree)) }) }
    }

    /// The disk after power was lost now and came back: a new disk with nothing but durable content. This one isn't
    /// changed, and can give other images. Faults, stop, points and lock aren't taken over; the capacity is.
    #[must_use]
    pub fn power_loss(&self, choices: &mut dyn Choices) -> SimDisk {
        let mut tree = self.shared.state.lock().tree.clone();
        tree.lose_power(choices);
        tree.collect(|_| false);
        SimDisk::with_tree(tree)
    }

    /// The disk after the process was killed now: a new disk with the same cache and the same dirt, and free locks.
    /// To let what a failed sync gave up leave the cache too, see [`SimDisk::evict`].
    #[must_use]
    pub fn process_kill(&self) -> SimDisk {
        let mut tree = self.shared.state.lock().tree.clone();
        tree.collect(|_| false);
        SimDisk::with_tree(tree)
    }

    /// Writes part of what is dirty to the medium, as a kernel does now and then. All the rest stays dirty.
    ///
    /// With it, a sector that is written twice without a sync can survive a later power loss as first written.
    pub fn write_back(&self, choices: &mut dyn Choices) {
        self.shared.state.lock().tree.change_unsettled(|inode| match inode {
            Inode::File(file) => file.write_back(choices),
            Inode::Directory(directory) => directory.write_back(choices),
        });
    }

    /// Takes sectors that a failed sync called clean out of the cache, so that the next read shows the medium's.
    /// Those that survive stay readable.
    pub fn evict(&self, choices: &mut dyn Choices) {
        self.shared.state.lock().tree.change_unsettled(|inode| {
            if let Inode::File(file) = inode {
                file.evict(choices);
            }
        });
    }

    /// How many operations were done. Operations change something: `CreateNew`, write, sync, allocate, truncate,
    /// rename, unlink, create_dir, remove_dir, sync_dir.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.shared.state.lock().ops
    }

    /// Ends the run after operation `op`, counted from 0: every later call fails with "simulated crash".
    pub fn set_stop_after(&self, op: u64) {
        self.shared.state.lock().stop = Some(Stop { op, cut_bytes: None });
    }

    /// Ends the run within operation `op`: if it is a write of more than `cut_bytes`, only that prefix gets into the
    /// cache and the write itself fails; else as [`SimDisk::set_stop_after`].
    pub fn set_stop_in_write(&self, op: u64, cut_bytes: u64) {
        self.shared.state.lock().stop = Some(Stop { op, cut_bytes: Some(cut_bytes) });
    }

    /// Whether the run was ended by a stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.state.lock().stopped
    }

    /// Whether a [`Point`] is kept after each operation and each change of the marker.
    pub fn record_points(&self, recording: bool) {
        self.shared.state.lock().recording = recording;
    }

    /// Sets the number that is kept with each point, say that of the last acknowledgement. A change is a point of
    /// its own: a crash right after an acknowledgement finds the same disk but owes more.
    pub fn set_marker(&self, marker: u64) {
        self.shared.state.lock().set_marker(marker);
    }

    /// The points since recording began or this was called last.
    #[must_use]
    pub fn take_points(&self) -> Vec<Point> {
        std::mem::take(&mut self.shared.state.lock().points)
    }

    /// Plans a fault. Its calls are counted from now on.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.state.lock().plan.add(fault);
    }

    /// Forgets all planned faults, not the number of hits.
    pub fn clear_faults(&self) {
        self.shared.state.lock().plan.clear();
    }

    /// How many calls were failed by a fault.
    #[must_use]
    pub fn faults_hit(&self) -> u64 {
        self.shared.state.lock().plan.hits()
    }

    /// What of the dirty sectors reaches the medium when a sync fails; [`Survival::AllLost`] at first. As on Linux,
    /// the others stay readable but are clean: a later sync succeeds without writing them.
    pub fn set_failed_sync(&self, survival: Survival) {
        self.shared.state.lock().failed_sync = survival;
    }

    /// Whether a failed sync of a directory gives up names too, so that a later one doesn't write them. At first
    /// it doesn't: the names stay dirty.
    pub fn set_failed_sync_dir_loses_names(&self, loses: bool) {
        self.shared.state.lock().failed_sync_dir_loses_names = loses;
    }

    /// Bounds the medium, in bytes. Files take whole pages of 4 KiB, holes included, as long as they have a name or
    /// are open. Writes that extend a file write what fits and then fail with `ENOSPC`.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.shared.state.lock().tree.capacity = capacity_bytes;
    }

    /// A hash of all names, lengths and bytes that a reader sees. Equal disks have equal fingerprints, on every
    /// platform.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.shared.state.lock().tree.fingerprint()
    }
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("files", &self.files()).finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.state.lock();
        let inode = if mode == Mode::CreateNew {
            let what = || What::Create { name: name.into() };
            state.operate_whole(Call::Open, name, what, |state| state.tree.create(name))?
        } else {
            state.call(Call::Open, name)?;
            state.tree.file_named(name)?
        };
        *state.open.entry(inode).or_default() += 1;
        drop(state);
        let writable = mode != Mode::Read;
        Ok(Arc::new(SimFile { shared: self.shared.clone(), inode, name: name.into(), writable }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut state = self.shared.state.lock();
        state.call(Call::List, dir)?;
        state.tree.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let what = || What::CreateDir { dir: dir.into() };
        self.shared.state.lock().operate_whole(Call::CreateDir, dir, what, |state| state.tree.create_dir(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let what = || What::Rename { from: from.into(), to: to.into() };
        self.shared.state.lock().operate_whole(Call::Rename, from, what, |state| state.tree.rename(from, to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let what = || What::Unlink { name: name.into() };
        self.shared.state.lock().operate_whole(Call::Unlink, name, what, |state| state.tree.unlink(name))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let what = || What::RemoveDir { dir: dir.into() };
        self.shared.state.lock().operate_whole(Call::RemoveDir, dir, what, |state| state.tree.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.shared.state.lock().sync_dir(dir)
    }

    fn free(&self) -> io::Result<u64> {
        let mut state = self.shared.state.lock();
        state.call(Call::Free, "")?;
        Ok(state.free().unwrap_or(FREE_UNBOUNDED_BYTES))
    }

    fn lock(&self, owner: &str) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        let mut state = self.shared.state.lock();
        state.call(Call::Lock, LOCK_NAME)?;
        if let Some(holder) = &state.lock {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, holder.clone()));
        }
        // The file is there for whoever lists the root. It is durable at once and no operation: nobody relies on it.
        let mut content = Content::default();
        content.write(owner.as_bytes(), 0);
        state.tree.install(LOCK_NAME, content)?;
        state.lock = Some(owner.to_owned());
        Ok(Box::new(Lock { shared: self.shared.clone() }))
    }

    fn location(&self) -> String {
        "simulated disk".to_owned()
    }
}

/// The lock file, in the root.
const LOCK_NAME: &str = "LOCK";

/// Holds the lock of a simulated disk until it is dropped.
struct Lock {
    shared: Arc<Shared>,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.shared.state.lock().lock = None;
    }
}
