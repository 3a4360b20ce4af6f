//! A disk in memory that keeps only what was synced, and can fail each call that changes something.
//!
//! It is strict about failures: a file on which a write or sync has failed must not be written or synced again, and
//! what a failed sync should have made durable never becomes so by a later one.

use crate::disk::{Disk, Entry, File, Mode};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(super) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Node>,
    durable_names: BTreeMap<String, Node>,
    /// Changes of names that no directory sync has seen yet, oldest first.
    unsynced_names: Vec<(String, Option<Node>)>,
    changes: usize,
    failing: BTreeSet<usize>,
    open_handles: usize,
    open_handles_max: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Dir,
    File(Arc<Mutex<Content>>),
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Range<usize>>,
    has_failed: bool,
}

#[derive(Debug)]
struct Handle {
    disk: MemoryDisk,
    name: String,
    content: Arc<Mutex<Content>>,
}

impl MemoryDisk {
    /// Lets the n-th changes from now on fail, counted from 0: each writes half of what it should, or nothing.
    pub(super) fn fail_changes(&self, changes: impl IntoIterator<Item = usize>) {
        let mut state = self.0.lock();
        state.changes = 0;
        state.failing = changes.into_iter().collect();
    }

    /// How many changes were asked for since [`MemoryDisk::fail_changes`].
    pub(super) fn changes(&self) -> usize {
        self.0.lock().changes
    }

    /// Most handles that were open at a time.
    pub(super) fn open_handles_max(&self) -> usize {
        self.0.lock().open_handles_max
    }

    /// How many handles are open.
    pub(super) fn open_handles(&self) -> usize {
        self.0.lock().open_handles
    }

    /// What a power loss leaves: names and bytes that were synced.
    pub(super) fn after_power_loss(&self) -> MemoryDisk {
        let mut names = BTreeMap::new();
        for (name, node) in &self.0.lock().durable_names {
            if !parent(name).is_empty() && !names.contains_key(parent(name)) {
                continue; // its directory is gone, which sorts before it
            }
            let node = match node {
                Node::Dir => Node::Dir,
                Node::File(content) => file_of(content.lock().durable.clone()),
            };
            names.insert(name.clone(), node);
        }
        let state = State { durable_names: names.clone(), names, ..State::default() };
        MemoryDisk(Arc::new(Mutex::new(state)))
    }

    /// Whether there is such a file.
    pub(super) fn exists(&self, name: &str) -> bool {
        self.file(name).is_ok()
    }

    /// The whole of a file.
    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        self.file(name).unwrap().lock().bytes.clone()
    }

    /// Puts a file there, in place of what has its name.
    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.0.lock();
        let node = file_of(bytes);
        state.durable_names.insert(name.to_owned(), node.clone());
        state.names.insert(name.to_owned(), node);
    }

    fn file(&self, name: &str) -> io::Result<Arc<Mutex<Content>>> {
        match self.0.lock().names.get(name) {
            Some(Node::File(content)) => Ok(Arc::clone(content)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Counts a change; an error if it is to fail.
    fn change(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        let change = state.changes;
        state.changes += 1;
        match state.failing.contains(&change) {
            true => Err(io::Error::other(format!("change {change} fails"))),
            false => Ok(()),
        }
    }

    fn set_name(&self, name: &str, node: Option<Node>) {
        let mut state = self.0.lock();
        match &node {
            Some(node) => state.names.insert(name.to_owned(), node.clone()),
            None => state.names.remove(name),
        };
        state.unsynced_names.push((name.to_owned(), node));
    }

    fn handle(&self, name: &str, content: Arc<Mutex<Content>>) -> Arc<dyn File> {
        let mut state = self.0.lock();
        state.open_handles += 1;
        state.open_handles_max = state.open_handles_max.max(state.open_handles);
        Arc::new(Handle { disk: self.clone(), name: name.to_owned(), content })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.0.lock().open_handles -= 1;
    }
}

fn file_of(bytes: Vec<u8>) -> Node {
    Node::File(Arc::new(Mutex::new(Content { durable: bytes.clone(), bytes, ..Content::default() })))
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        if mode != Mode::CreateNew {
            return Ok(self.handle(name, self.file(name)?));
        }
        if self.0.lock().names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !self.0.lock().names.contains_key(parent(name)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let created = self.change();
        let content = Arc::<Mutex<Content>>::default();
        // A creation that fails may still have made the name.
        self.set_name(name, Some(Node::File(Arc::clone(&content))));
        created?;
        Ok(self.handle(name, content))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let state = self.0.lock();
        if !dir.is_empty() && !matches!(state.names.get(dir), Some(Node::Dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.iter().filter(|(name, _)| parent(name) == dir);
        let entry = |(name, node): (&String, &Node)| Entry {
            name: name.rsplit('/').next().unwrap_or(name).to_owned(),
            len: match node {
                Node::Dir => 0,
                Node::File(content) => content.lock().bytes.len() as u64,
            },
            links: 1,
            is_dir: matches!(node, Node::Dir),
        };
        Ok(inside.map(entry).collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.change()?;
        for (at, _) in dir.match_indices('/').chain([(dir.len(), "")]) {
            if !self.0.lock().names.contains_key(&dir[..at]) {
                self.set_name(&dir[..at], Some(Node::Dir));
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        let content = self.file(from)?;
        self.set_name(from, None);
        self.set_name(to, Some(Node::File(content)));
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.file(name)?;
        self.change()?;
        self.set_name(name, None);
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        if !self.list(dir)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change()?;
        self.set_name(dir, None);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let synced = self.change();
        let mut state = self.0.lock();
        let changes = std::mem::take(&mut state.unsynced_names);
        let (here, elsewhere) = changes.into_iter().partition(|(name, _)| parent(name) == dir);
        state.unsynced_names = elsewhere;
        synced?; // what it should have made durable is forgotten
        let here: Vec<(String, Option<Node>)> = here;
        for (name, node) in here {
            match node {
                Some(node) => state.durable_names.insert(name, node),
                None => state.durable_names.remove(&name),
            };
        }
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, _owner: &str) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

impl File for Handle {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let content = self.content.lock();
        let from = content.bytes.len().min(pos as usize);
        let len = buf.len().min(content.bytes.len() - from);
        buf[..len].copy_from_slice(&content.bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        let changed = self.disk.change();
        let mut content = self.content.lock();
        assert!(!content.has_failed, "{} is written after a failure", self.name);
        content.has_failed = changed.is_err();
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        // A write that fails has written something, and not what it should.
        let written = if changed.is_ok() { all } else { vec![0xEE; all.len() / 2] };
        let range = pos as usize..pos as usize + written.len();
        let len = content.bytes.len().max(range.end);
        content.bytes.resize(len, 0);
        content.bytes[range.clone()].copy_from_slice(&written);
        content.unsynced.push(range);
        changed
    }

    fn sync(&self) -> io::Result<()> {
        let changed = self.disk.change();
        let mut content = self.content.lock();
        assert!(!content.has_failed, "{} is synced after a failure", self.name);
        content.has_failed = changed.is_err();
        for range in std::mem::take(&mut content.unsynced) {
            if changed.is_err() {
                break;
            }
            let len = content.durable.len().max(range.end);
            content.durable.resize(len, 0);
            let bytes = content.bytes[range.clone()].to_vec();
            content.durable[range].copy_from_slice(&bytes);
        }
        changed
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        panic!("{} is truncated, but may be mapped", self.name);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().bytes.len() as u64)
    }

    fn map_sealed(&self) -> io::Result<Bytes> {
        Ok(Bytes::from(self.content.lock().bytes.clone()))
    }
}
