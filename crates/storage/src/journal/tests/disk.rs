//! A small disk in memory that loses what wasn't synced.
//!
//! Sectors that weren't synced reach the disk or don't, each on its own; so do names. After a failed sync pages
//! count as clean whether or not they reached the disk, and may leave the cache later.

use crate::disk::{Disk, Entry, File, Mode, SECTOR_BYTES};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::Arc;

const SECTOR: usize = SECTOR_BYTES;

#[derive(Clone, Debug)]
pub(super) struct MemoryDisk {
    tree: Arc<Mutex<Tree>>,
}

#[derive(Clone, Debug, Default)]
struct Tree {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    dirty_names: BTreeSet<String>,
    /// Operations left until the machine stops.
    until_crash: Option<u64>,
    stopped: bool,
    /// Operations of this kind left until one fails.
    until_failure: Option<(Op, u64, i32)>,
    random: Random,
    /// Whether names that a failed directory sync covered count as durable from then on.
    forgets_names: bool,
    /// Bytes that files may still be given.
    room: Option<u64>,
    done: BTreeMap<Op, u64>,
    bytes_read: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    cache: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    Create,
    Allocate,
    Write,
    Sync,
    Rename,
    Unlink,
    SyncDirectory,
    Read,
}

#[derive(Debug)]
struct MemoryFile {
    tree: Arc<Mutex<Tree>>,
    inode: usize,
}

/// A xorshift generator.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Random(0x2545_F491_4F6C_DD1D)
    }
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

impl MemoryDisk {
    pub(super) fn new() -> MemoryDisk {
        MemoryDisk { tree: Arc::default() }
    }

    /// A disk of its own with the same content.
    pub(super) fn copy(&self) -> MemoryDisk {
        MemoryDisk { tree: Arc::new(Mutex::new(self.tree.lock().clone())) }
    }

    pub(super) fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub(super) fn seed(&self, seed: u64) {
        self.tree.lock().random = Random::new(seed);
    }

    /// After a failed directory sync, names that didn't reach the disk are never written again.
    pub(super) fn forget_names(&self) {
        self.tree.lock().forgets_names = true;
    }

    /// Every later operation fails once this many more were done.
    pub(super) fn crash_after(&self, operations: Option<u64>) {
        self.tree.lock().until_crash = operations;
    }

    pub(super) fn crashed(&self) -> bool {
        self.tree.lock().stopped
    }

    /// The n-th operation of a kind from now on fails, with this error number.
    pub(super) fn fail(&self, op: Op, nth: u64, error_number: i32) {
        self.tree.lock().until_failure = Some((op, nth, error_number));
    }

    /// Whether a planned failure is still to come; cancels it.
    pub(super) fn cancel_failure(&self) -> bool {
        self.tree.lock().until_failure.take().is_some()
    }

    /// How often an operation was done.
    pub(super) fn count(&self, op: Op) -> u64 {
        self.tree.lock().done.get(&op).copied().unwrap_or(0)
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.tree.lock().bytes_read
    }

    pub(super) fn limit_room(&self, room: Option<u64>) {
        self.tree.lock().room = room;
    }

    /// The power goes, and comes back.
    pub(super) fn lose_power(&self) {
        let mut guard = self.tree.lock();
        let tree = &mut *guard;
        for inode in &mut tree.inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                if tree.random.below(2) == 0 {
                    inode.keep(sector);
                }
            }
            inode.cache = inode.durable.clone();
        }
        tree.keep_some_names();
        tree.names = tree.durable_names.clone();
        (tree.stopped, tree.until_crash) = (false, None);
    }

    /// The process dies. Pages that a failed sync left clean may leave the cache.
    pub(super) fn kill(&self) {
        let mut guard = self.tree.lock();
        let tree = &mut *guard;
        let how = tree.random.below(3);
        for inode in &mut tree.inodes {
            for sector in 0..inode.cache.len().div_ceil(SECTOR) {
                let clean = !inode.dirty.contains(&sector);
                if clean && (how == 1 || how == 2 && tree.random.below(2) == 0) {
                    inode.evict(sector);
                }
            }
        }
        (tree.stopped, tree.until_crash) = (false, None);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.tree.lock().names.keys().cloned().collect()
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        let tree = self.tree.lock();
        tree.inodes[tree.names[name]].cache.clone()
    }

    /// Replaces a file's content, durably.
    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut tree = self.tree.lock();
        let inode = match tree.names.get(name) {
            Some(inode) => *inode,
            None => {
                tree.inodes.push(Inode::default());
                let inode = tree.inodes.len() - 1;
                tree.names.insert(name.to_owned(), inode);
                tree.durable_names.insert(name.to_owned(), inode);
                inode
            }
        };
        tree.inodes[inode] = Inode { cache: bytes.clone(), durable: bytes, dirty: BTreeSet::new() };
    }

    pub(super) fn flip(&self, name: &str, at: usize, mask: u8) {
        let mut bytes = self.read(name);
        bytes[at] ^= mask;
        self.put(name, bytes);
    }

    /// Gives a file a second name.
    pub(super) fn link(&self, from: &str, to: &str) {
        let mut tree = self.tree.lock();
        let inode = tree.names[from];
        tree.names.insert(to.to_owned(), inode);
        tree.durable_names.insert(to.to_owned(), inode);
    }

    pub(super) fn remove(&self, name: &str) {
        let mut tree = self.tree.lock();
        tree.names.remove(name);
        tree.durable_names.remove(name);
    }
}

impl Inode {
    fn range(&self, sector: usize) -> std::ops::Range<usize> {
        sector * SECTOR..((sector + 1) * SECTOR).min(self.cache.len())
    }

    /// A sector reaches the disk.
    fn keep(&mut self, sector: usize) {
        let range = self.range(sector);
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.cache[range]);
    }

    /// A sector leaves the cache.
    fn evict(&mut self, sector: usize) {
        for at in self.range(sector) {
            self.cache[at] = self.durable.get(at).copied().unwrap_or(0);
        }
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
        let len = self.cache.len();
        self.durable.resize(len, 0);
    }
}

impl Tree {
    fn operation(&mut self, op: Op) -> io::Result<()> {
        let error = |number| Err(io::Error::from_raw_os_error(number));
        if self.stopped {
            return error(5);
        }
        if let Some(left) = &mut self.until_crash {
            if *left == 0 {
                self.stopped = true;
                return error(5);
            }
            *left -= 1;
        }
        *self.done.entry(op).or_default() += 1;
        if let Some((kind, left, number)) = &mut self.until_failure
            && *kind == op
        {
            *left -= 1;
            if *left == 0 {
                let number = *number;
                self.until_failure = None;
                return error(number);
            }
        }
        Ok(())
    }

    /// What is to happen to a name reaches the disk.
    fn keep_name(&mut self, name: String) {
        match self.names.get(&name) {
            Some(inode) => self.durable_names.insert(name, *inode),
            None => self.durable_names.remove(&name),
        };
    }

    fn keep_some_names(&mut self) {
        for name in std::mem::take(&mut self.dirty_names) {
            if self.random.below(2) == 0 {
                self.keep_name(name);
            }
        }
    }

    fn name_changed(&mut self, name: &str) {
        self.dirty_names.insert(name.to_owned());
    }
}

fn missing() -> io::Error {
    io::Error::from_raw_os_error(2)
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut tree = self.tree.lock();
        let inode = match (mode, tree.names.get(name).copied()) {
            (Mode::CreateNew, Some(_)) => return Err(io::Error::from_raw_os_error(17)),
            (Mode::CreateNew, None) => {
                tree.operation(Op::Create)?;
                tree.inodes.push(Inode::default());
                let inode = tree.inodes.len() - 1;
                tree.names.insert(name.to_owned(), inode);
                tree.name_changed(name);
                inode
            }
            (_, found) => found.ok_or_else(missing)?,
        };
        Ok(Arc::new(MemoryFile { tree: Arc::clone(&self.tree), inode }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let tree = self.tree.lock();
        let entries = tree.names.iter().filter_map(|(name, inode)| {
            Some(Entry {
                name: name.strip_prefix(dir)?.strip_prefix('/')?.to_owned(),
                len: tree.inodes[*inode].cache.len() as u64,
                links: tree.names.values().filter(|other| *other == inode).count() as u64,
                is_dir: false,
            })
        });
        Ok(entries.collect())
    }

    fn create_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut tree = self.tree.lock();
        tree.operation(Op::Rename)?;
        let inode = tree.names.remove(from).ok_or_else(missing)?;
        tree.names.insert(to.to_owned(), inode);
        tree.name_changed(from);
        tree.name_changed(to);
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut tree = self.tree.lock();
        tree.operation(Op::Unlink)?;
        let inode = tree.names.remove(name).ok_or_else(missing)?;
        if !tree.names.values().any(|other| *other == inode) {
            let freed = tree.inodes[inode].cache.len() as u64;
            tree.room = tree.room.map(|room| room + freed);
        }
        tree.name_changed(name);
        Ok(())
    }

    fn remove_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut guard = self.tree.lock();
        if dir.is_empty() {
            return Ok(());
        }
        let done = guard.operation(Op::SyncDirectory);
        if done.is_err() && !guard.stopped && guard.forgets_names {
            guard.keep_some_names();
        }
        done?;
        for name in std::mem::take(&mut guard.dirty_names) {
            guard.keep_name(name);
        }
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.tree.lock().room.unwrap_or(u64::MAX))
    }

    fn lock(&self, _owner: &str) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

impl MemoryFile {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let mut tree = self.tree();
        tree.operation(Op::Read)?;
        let bytes = &tree.inodes[self.inode].cache;
        let from = bytes.len().min(pos as usize);
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        tree.bytes_read += len as u64;
        Ok(len)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        let mut tree = self.tree();
        tree.operation(Op::Write)?;
        let inode = &mut tree.inodes[self.inode];
        let mut at = pos as usize;
        for part in parts {
            let end = at + part.len();
            if inode.cache.len() < end {
                inode.cache.resize(end, 0);
            }
            inode.cache[at..end].copy_from_slice(part);
            inode.dirty.extend(at / SECTOR..end.div_ceil(SECTOR));
            at = end;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.tree();
        let done = guard.operation(Op::Sync);
        let tree = &mut *guard;
        let inode = &mut tree.inodes[self.inode];
        if done.is_err() && !tree.stopped {
            for sector in std::mem::take(&mut inode.dirty) {
                if tree.random.below(2) == 0 {
                    inode.keep(sector);
                }
            }
        }
        done?;
        inode.sync();
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut tree = self.tree();
        tree.operation(Op::Allocate)?;
        if let Some(room) = &mut tree.room {
            *room = room.checked_sub(len).ok_or_else(|| io::Error::from_raw_os_error(28))?;
        }
        let inode = &mut tree.inodes[self.inode];
        if inode.cache.len() < len as usize {
            inode.cache.resize(len as usize, 0);
        }
        Ok(())
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(95))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.tree().inodes[self.inode].cache.len() as u64)
    }

    fn map_sealed(&self) -> io::Result<Bytes> {
        Ok(Bytes::from(self.tree().inodes[self.inode].cache.clone()))
    }
}
