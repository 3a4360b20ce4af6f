//! A disk that is looked at: reads come from another disk, and whatever is written stays in memory.
//!
//! With it a log is opened, recovery and all, without a byte of its directory being changed. It is no cache: what was
//! not written here is read from below each time, as it is by then. And it is no lock: who writes below goes on.
//!
//! Invariants
//!   * nothing but `open(.., Read)`, `list`, `free` and `location` ever reaches the disk below
//!   * of a file only the pages that were written are in memory; zeros behind the end of the file below take none

use super::{Disk, Entry, File, Mode};
use crate::mapped;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

/// A disk over another one that is only read. See the module.
#[derive(Debug)]
pub struct Overlay {
    below: Arc<dyn Disk>,
    tree: Mutex<Tree>,
}

#[derive(Debug, Default)]
struct Tree {
    /// Files that were made or changed here; `None`: removed here.
    files: BTreeMap<String, Option<Arc<Patched>>>,
    /// Directories that were made here.
    dirs: BTreeSet<String>,
    /// Directories that were removed here.
    gone: BTreeSet<String>,
}

impl Overlay {
    /// Nothing is changed yet.
    pub fn new(below: Arc<dyn Disk>) -> Overlay {
        Overlay { below, tree: Mutex::default() }
    }

    fn is_below(&self, name: &str) -> bool {
        self.below.open(name, Mode::Read).is_ok()
    }
}

impl Tree {
    /// The file, ready to be changed.
    fn patched(&mut self, below: &dyn Disk, name: &str) -> io::Result<Arc<Patched>> {
        match self.files.get(name) {
            Some(Some(file)) => return Ok(file.clone()),
            Some(None) => return Err(not_found(name)),
            None => {}
        }
        let file = Arc::new(Patched::over(below.open(name, Mode::Read)?)?);
        self.files.insert(name.to_string(), Some(file.clone()));
        Ok(file)
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("{name:?} isn't there"))
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Disk for Overlay {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut tree = self.tree.lock();
        let known = tree.files.get(name).cloned();
        match (mode, known) {
            (Mode::Read, None) => self.below.open(name, Mode::Read),
            (Mode::Read | Mode::Write, Some(Some(file))) => Ok(file),
            (Mode::Read | Mode::Write, Some(None)) => Err(not_found(name)),
            (Mode::Write, None) => Ok(tree.patched(&*self.below, name)?),
            (Mode::CreateNew, Some(Some(_))) => Err(ErrorKind::AlreadyExists.into()),
            (Mode::CreateNew, None) if self.is_below(name) => Err(ErrorKind::AlreadyExists.into()),
            (Mode::CreateNew, _) => {
                let file = Arc::new(Patched::new());
                tree.files.insert(name.to_string(), Some(file.clone()));
                Ok(file)
            }
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let tree = self.tree.lock();
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let known = tree.dirs.contains(dir);
        match self.below.list(dir) {
            Ok(_) if tree.gone.contains(dir) && !known => return Err(not_found(dir)),
            Ok(below) => entries.extend(below.into_iter().map(|entry| (entry.name.clone(), entry))),
            Err(error) if error.kind() == ErrorKind::NotFound && known => {}
            Err(error) => return Err(error),
        }
        let inside = |name: &str| (!name.is_empty() && parent(name) == dir).then(|| last(name).to_string());
        for gone in tree.gone.iter().filter_map(|name| inside(name)) {
            entries.remove(&gone);
        }
        for name in tree.dirs.iter().filter_map(|name| inside(name)) {
            entries.insert(name.clone(), Entry { name, len: 0, links: 1, is_dir: true });
        }
        for (name, file) in &tree.files {
            let Some(name) = inside(name) else { continue };
            match file {
                Some(file) => {
                    let entry = Entry { name: name.clone(), len: file.len()?, links: 1, is_dir: false };
                    entries.insert(name, entry);
                }
                None => {
                    entries.remove(&name);
                }
            }
        }
        Ok(entries.into_values().collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let mut above = dir;
        while !above.is_empty() {
            tree.dirs.insert(above.to_string());
            above = parent(above);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if parent(from) != parent(to) {
            let text = format!("{from:?} can't be renamed to {to:?}, which is in another directory");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let mut tree = self.tree.lock();
        let file = tree.patched(&*self.below, from)?;
        if from == to {
            return Ok(());
        }
        tree.files.insert(to.to_string(), Some(file));
        tree.files.insert(from.to_string(), None);
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let exists = match tree.files.get(name) {
            Some(file) => file.is_some(),
            None => self.is_below(name),
        };
        if !exists {
            return Err(not_found(name));
        }
        tree.files.insert(name.to_string(), None);
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        if !self.list(dir)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let mut tree = self.tree.lock();
        tree.dirs.remove(dir);
        tree.gone.insert(dir.to_string());
        Ok(())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    /// What is written here takes none of the space below.
    fn free(&self) -> io::Result<u64> {
        Ok(i64::MAX as u64)
    }

    /// Always free: it keeps nobody out.
    fn lock(&self, _: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn location(&self) -> String {
        self.below.location()
    }
}

fn last(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, last)| last)
}

/// A file whose changes are in memory.
#[derive(Debug)]
struct Patched {
    below: Option<Arc<dyn File>>,
    content: RwLock<Content>,
}

#[derive(Debug, Default)]
struct Content {
    len: u64,
    /// Up to here the file below counts where no page lies over it.
    below_len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
    truncated: bool,
}

impl Patched {
    fn new() -> Patched {
        Patched { below: None, content: RwLock::default() }
    }

    fn over(below: Arc<dyn File>) -> io::Result<Patched> {
        let len = below.len()?;
        let content = RwLock::new(Content { len, below_len: len, ..Content::default() });
        Ok(Patched { below: Some(below), content })
    }

    /// Fills `buf` with what the file below has at `pos`, and zeros behind its end.
    fn read_below(&self, content: &Content, buf: &mut [u8], pos: u64) -> io::Result<()> {
        let there = content.below_len.saturating_sub(pos).min(buf.len() as u64) as usize;
        let (have, rest) = buf.split_at_mut(there);
        let read = match &self.below {
            Some(below) if there > 0 => below.read_at(have, pos)?,
            _ => 0,
        };
        have[read..].fill(0);
        rest.fill(0);
        Ok(())
    }

    fn write_part(&self, content: &mut Content, part: &[u8], mut pos: u64) -> io::Result<()> {
        let mut rest = part;
        while !rest.is_empty() {
            let (number, from) = (pos / PAGE_BYTES as u64, (pos % PAGE_BYTES as u64) as usize);
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - from));
            let page_at = number * PAGE_BYTES as u64;
            if !content.pages.contains_key(&number) {
                let is_blank = page_at >= content.below_len && now.iter().all(|byte| *byte == 0);
                if !is_blank {
                    let mut page = Box::new([0; PAGE_BYTES]);
                    self.read_below(content, &mut page[..], page_at)?;
                    content.pages.insert(number, page);
                }
            }
            if let Some(page) = content.pages.get_mut(&number) {
                page[from..from + now.len()].copy_from_slice(now);
            }
            pos += now.len() as u64;
            content.len = content.len.max(pos);
            rest = later;
        }
        Ok(())
    }
}

impl File for Patched {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let content = self.content.read();
        let len = content.len.saturating_sub(pos).min(buf.len() as u64) as usize;
        let buf = &mut buf[..len];
        self.read_below(&content, buf, pos)?;
        if len == 0 {
            return Ok(0);
        }
        let end = pos + len as u64;
        let first = pos / PAGE_BYTES as u64;
        for (number, page) in content.pages.range(first..end.div_ceil(PAGE_BYTES as u64)) {
            let page_at = number * PAGE_BYTES as u64;
            let (from, to) = (pos.max(page_at), end.min(page_at + PAGE_BYTES as u64));
            let target = &mut buf[(from - pos) as usize..(to - pos) as usize];
            target.copy_from_slice(&page[(from - page_at) as usize..(to - page_at) as usize]);
        }
        Ok(len)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        let mut content = self.content.write();
        let mut at = pos;
        for part in parts {
            self.write_part(&mut content, part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.write();
        content.len = content.len.max(len);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.write();
        let Content { pages, below_len, .. } = &mut *content;
        pages.retain(|number, _| number * (PAGE_BYTES as u64) < len);
        if let Some(page) = pages.get_mut(&(len / PAGE_BYTES as u64)) {
            page[(len % PAGE_BYTES as u64) as usize..].fill(0);
        }
        *below_len = (*below_len).min(len);
        content.len = len;
        content.truncated = true;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.read().len)
    }

    fn map_sealed(&self) -> io::Result<Bytes> {
        let content = self.content.read();
        let untouched = content.pages.is_empty() && !content.truncated && content.len == content.below_len;
        match &self.below {
            Some(below) if untouched => below.map_sealed(),
            _ => {
                drop(content);
                mapped::read_whole(self)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use proptest::prelude::*;

    /// Everything in a directory tree, names and bytes.
    fn content(disk: &dyn Disk, dir: &str) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        for entry in disk.list(dir).unwrap() {
            let name = if dir.is_empty() { entry.name.clone() } else { format!("{dir}/{}", entry.name) };
            if entry.is_dir {
                all.insert(format!("{name}/"), Vec::new());
                all.extend(content(disk, &name));
            } else {
                let file = disk.open(&name, Mode::Read).unwrap();
                let mut bytes = vec![0; file.len().unwrap() as usize];
                assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
                assert_eq!(file.map_sealed().unwrap(), bytes, "{name}");
                all.insert(name, bytes);
            }
        }
        all
    }

    #[derive(Clone, Debug)]
    enum Step {
        Create(u8),
        Write(u8, u16, u16, u8),
        Allocate(u8, u16),
        Truncate(u8, u16),
        Rename(u8, u8),
        Unlink(u8),
        MakeDir(u8),
        RemoveDir(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (file, at) = (0..5u8, 0..20_000u16);
        prop_oneof![
            file.clone().prop_map(Step::Create),
            (file.clone(), at.clone(), 1..9_000u16, 0..3u8)
                .prop_map(|(file, at, len, byte)| Step::Write(file, at, len, byte)),
            (file.clone(), at.clone()).prop_map(|(file, len)| Step::Allocate(file, len)),
            (file.clone(), at).prop_map(|(file, len)| Step::Truncate(file, len)),
            (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
            file.prop_map(Step::Unlink),
            (0..2u8).prop_map(Step::MakeDir),
            (0..2u8).prop_map(Step::RemoveDir),
        ]
    }

    /// What the step answers, as far as two disks have to agree.
    fn run(disk: &dyn Disk, step: &Step) -> Result<(), ErrorKind> {
        let name = |file: &u8| if *file < 3 { format!("f{file}") } else { format!("d0/f{file}") };
        let open = |file: &u8| disk.open(&name(file), Mode::Write);
        let done = match step {
            Step::Create(file) if *file >= 3 => return Ok(()),
            Step::Create(file) => disk.open(&name(file), Mode::CreateNew).map(|_| ()),
            Step::Write(file, at, len, byte) => open(file).and_then(|open| {
                let bytes = vec![*byte; *len as usize];
                let (one, two) = bytes.split_at(bytes.len() / 3);
                open.write_at(&[IoSlice::new(one), IoSlice::new(two)], *at as u64)
            }),
            Step::Allocate(file, len) => open(file).and_then(|open| open.allocate(*len as u64)),
            Step::Truncate(file, len) => open(file).and_then(|open| open.truncate(*len as u64)),
            Step::Rename(from, to) if parent(&name(from)) != parent(&name(to)) => return Ok(()),
            Step::Rename(from, to) => disk.rename(&name(from), &name(to)),
            Step::Unlink(file) => disk.unlink(&name(file)),
            Step::MakeDir(dir) => disk.create_dir(&format!("d{dir}")),
            Step::RemoveDir(dir) => disk.remove_dir(&format!("d{dir}")),
        };
        done.map_err(|error| error.kind())
    }

    fn fill(disk: &dyn Disk) {
        disk.create_dir("d0").unwrap();
        for (name, len) in [("f0", 10_000), ("f1", 0), ("d0/f3", 5_000), ("d0/f4", 4_096)] {
            let file = disk.open(name, Mode::CreateNew).unwrap();
            file.write_at(&[IoSlice::new(&vec![7; len])], 0).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn it_behaves_as_the_disk_below_would_and_leaves_that_as_it_was(
            steps in proptest::collection::vec(step(), 0..40)
        ) {
            let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let below: Arc<dyn Disk> = Arc::new(RealDisk::new(here.path()).unwrap());
            let model = RealDisk::new(there.path()).unwrap();
            fill(&*below);
            fill(&model);
            let before = content(&*below, "");
            let overlay = Overlay::new(below.clone());
            for step in &steps {
                prop_assert_eq!(run(&overlay, step), run(&model, step), "{:?}", step);
                prop_assert_eq!(content(&overlay, ""), content(&model, ""), "{:?}", step);
            }
            prop_assert_eq!(content(&*below, ""), before);
        }
    }

    #[test]
    fn zeros_behind_the_end_take_no_memory() {
        let directory = tempfile::tempdir().unwrap();
        let overlay = Overlay::new(Arc::new(RealDisk::new(directory.path()).unwrap()));
        let file = overlay.open("f", Mode::CreateNew).unwrap();
        crate::disk::zero_fill(&*file, 0, 1 << 26).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 26);
        let tree = overlay.tree.lock();
        assert!(tree.files["f"].as_ref().unwrap().content.read().pages.is_empty());
    }
}
