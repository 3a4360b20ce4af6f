//! All files and directories of a simulated disk, reached by name.
//!
//! A tree is the whole state of the medium and its cache, without the process that uses it: open files, faults and
//! locks are in [`SimDisk`](super::SimDisk). That makes it the unit that a crash copies.
//!
//! Invariants:
//!   * a clone costs one pointer per inode and shares everything
//!   * names are resolved through the cached maps; the durable ones matter only when power is lost
//!   * a file's names all lie in one directory, since a rename doesn't leave its directory

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use exactlog_storage::disk::{Entry, parts, split};

use super::choices::Choices;
use super::content::{Content, PAGE_BYTES};
use super::inode::{Directory, FileInode, Inode, InodeId};
use crate::rng::mix;

const ROOT: InodeId = 0;

#[derive(Clone)]
pub(super) struct Tree {
    inodes: BTreeMap<InodeId, Arc<Inode>>,
    next: InodeId,
    /// Size of the medium in bytes, if it is bounded.
    pub(super) capacity: Option<u64>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let root = Arc::new(Inode::Directory(Directory::default()));
        Tree { inodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, capacity: None }
    }

    /// The directory `name`.
    pub(super) fn directory(&self, name: &str) -> io::Result<InodeId> {
        let mut at = ROOT;
        for part in parts(name)? {
            at = *self.directory_at(at).cached.get(part).ok_or_else(|| missing(name))?;
            if !matches!(*self.inodes[&at], Inode::Directory(_)) {
                return Err(error(io::ErrorKind::NotADirectory, name));
            }
        }
        Ok(at)
    }

    /// The directory that `name` lies in, the last part, and what it leads to.
    pub(super) fn find<'a>(&self, name: &'a str) -> io::Result<(InodeId, &'a str, Option<InodeId>)> {
        let (dir, last) = split(name)?;
        let dir = self.directory(dir)?;
        Ok((dir, last, self.directory_at(dir).cached.get(last).copied()))
    }

    /// The file `name`.
    pub(super) fn file_named(&self, name: &str) -> io::Result<InodeId> {
        let id = self.find(name)?.2.ok_or_else(|| missing(name))?;
        match *self.inodes[&id] {
            Inode::File(_) => Ok(id),
            Inode::Directory(_) => Err(error(io::ErrorKind::IsADirectory, name)),
        }
    }

    /// Panics if there is no such file: an id only comes from a name or an open file, which both keep the file.
    pub(super) fn file(&self, id: InodeId) -> &FileInode {
        match &*self.inodes[&id] {
            Inode::File(file) => file,
            Inode::Directory(_) => unreachable!("inode {id} was found as a file"),
        }
    }

    /// As [`Tree::file`], copied first if an image shares it.
    pub(super) fn file_mut(&mut self, id: InodeId) -> &mut FileInode {
        match self.inode_mut(id) {
            Inode::File(file) => file,
            Inode::Directory(_) => unreachable!("inode {id} was found as a file"),
        }
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<InodeId> {
        let (dir, last, old) = self.find(name)?;
        if old.is_some() {
            return Err(error(io::ErrorKind::AlreadyExists, name));
        }
        let id = self.add(Inode::File(FileInode::default()));
        self.directory_mut(dir).set(last, Some(id));
        Ok(id)
    }

    /// Puts a file with durable content under a durable name, replacing what is there.
    pub(super) fn install(&mut self, name: &str, content: Content) -> io::Result<()> {
        let (dir, last, old) = self.find(name)?;
        if old.is_some() {
            self.file_named(name)?;
        }
        let id = self.add(Inode::File(FileInode::durable(content)));
        self.directory_mut(dir).set_durable(last, Some(id));
        Ok(())
    }

    /// Takes a file's name away for good.
    pub(super) fn uninstall(&mut self, name: &str) -> io::Result<()> {
        self.file_named(name)?;
        let (dir, last, _) = self.find(name)?;
        self.directory_mut(dir).set_durable(last, None);
        Ok(())
    }

    pub(super) fn create_dir(&mut self, name: &str) -> io::Result<()> {
        let mut at = ROOT;
        for part in parts(name)? {
            at = match self.directory_at(at).cached.get(part) {
                Some(id) => *id,
                None => {
                    let id = self.add(Inode::Directory(Directory::default()));
                    self.directory_mut(at).set(part, Some(id));
                    id
                }
            };
            if !matches!(*self.inodes[&at], Inode::Directory(_)) {
                return Err(error(io::ErrorKind::NotADirectory, name));
            }
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (dir, from_last, _) = self.find(from)?;
        let (to_dir, to_last) = split(to)?;
        if split(from)?.0 != to_dir {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{from} and {to} lie in two directories"),
            ));
        }
        let id = self.file_named(from)?;
        let old = self.directory_at(dir).cached.get(to_last).copied();
        if old == Some(id) {
            // POSIX: two names of one file, so nothing happens.
            return Ok(());
        }
        if old.is_some() {
            self.file_named(to)?;
        }
        let directory = self.directory_mut(dir);
        directory.set(from_last, None);
        directory.set(to_last, Some(id));
        Ok(())
    }

    pub(super) fn unlink(&mut self, name: &str) -> io::Result<()> {
        self.file_named(name)?;
        let (dir, last, _) = self.find(name)?;
        self.directory_mut(dir).set(last, None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, name: &str) -> io::Result<()> {
        let (parent, last, _) = self.find(name)?;
        let dir = self.directory(name)?;
        if !self.directory_at(dir).cached.is_empty() {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, name));
        }
        self.directory_mut(parent).set(last, None);
        Ok(())
    }

    pub(super) fn list(&self, name: &str) -> io::Result<Vec<Entry>> {
        let names = &self.directory_at(self.directory(name)?).cached;
        let mut links: BTreeMap<InodeId, u64> = BTreeMap::new();
        for id in names.values() {
            *links.entry(*id).or_default() += 1;
        }
        let entry = |(name, id): (&Arc<str>, &InodeId)| match &*self.inodes[id] {
            Inode::File(file) => {
                Entry { name: name.to_string(), len: file.cached().len(), links: links[id], is_dir: false }
            }
            Inode::Directory(_) => Entry { name: name.to_string(), len: 0, links: 1, is_dir: true },
        };
        Ok(names.iter().map(entry).collect())
    }

    /// The directory behind an id that [`Tree::directory`] gave.
    pub(super) fn directory_mut(&mut self, id: InodeId) -> &mut Directory {
        match self.inode_mut(id) {
            Inode::Directory(directory) => directory,
            Inode::File(_) => unreachable!("inode {id} was found as a directory"),
        }
    }

    /// Applies `change` to every file and directory for which a power loss would change something.
    pub(super) fn change_unsettled(&mut self, mut change: impl FnMut(&mut Inode)) {
        for inode in self.inodes.values_mut() {
            let settled = match &**inode {
                Inode::File(file) => file.is_settled(),
                Inode::Directory(directory) => directory.is_settled(),
            };
            if !settled {
                change(Arc::make_mut(inode));
            }
        }
    }

    pub(super) fn lose_power(&mut self, choices: &mut dyn Choices) {
        self.change_unsettled(|inode| match inode {
            Inode::File(file) => file.lose_power(choices),
            Inode::Directory(directory) => directory.lose_power(choices),
        });
    }

    /// Forgets the files that no name leads to, now or after a power loss, and that aren't `open`.
    pub(super) fn collect(&mut self, open: impl Fn(InodeId) -> bool) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut left = vec![ROOT];
        while let Some(id) = left.pop() {
            if let Inode::Directory(directory) = &*self.inodes[&id] {
                let named = directory.cached.values().chain(directory.durable.values());
                left.extend(named.filter(|id| reached.insert(**id)));
            }
        }
        self.inodes.retain(|id, _| reached.contains(id) || open(*id));
    }

    /// The bytes that a file of this length takes: whole pages, holes included.
    pub(super) fn taken(len: u64) -> u64 {
        len.next_multiple_of(PAGE_BYTES as u64)
    }

    /// The bytes taken by all files that have a name or are `open`.
    pub(super) fn used(&self, open: impl Fn(InodeId) -> bool) -> u64 {
        let mut named = BTreeSet::new();
        self.visit(&mut |_, id, _| {
            named.insert(id);
        });
        let kept = self.inodes.iter().filter(|(id, _)| named.contains(id) || open(**id));
        kept.map(|(_, inode)| match &**inode {
            Inode::File(file) => Tree::taken(file.cached().len()),
            Inode::Directory(_) => 0,
        })
        .sum()
    }

    /// Calls `visitor` with path, id and inode of everything that has a name, in the order of the names.
    pub(super) fn visit(&self, visitor: &mut dyn FnMut(&str, InodeId, &Inode)) {
        self.visit_below("", ROOT, visitor);
    }

    fn visit_below(&self, path: &str, dir: InodeId, visitor: &mut dyn FnMut(&str, InodeId, &Inode)) {
        for (name, id) in &self.directory_at(dir).cached {
            let path = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
            let inode = &*self.inodes[id];
            visitor(&path, *id, inode);
            if matches!(inode, Inode::Directory(_)) {
                self.visit_below(&path, *id, visitor);
            }
        }
    }

    /// A hash of all names, lengths and bytes that a reader sees, and of which names lead to one file.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = 0;
        let mut add = |number: u64| hash = mix(hash ^ number).wrapping_add(number);
        let mut seen = BTreeMap::new();
        self.visit(&mut |path, id, inode| {
            path.bytes().for_each(|byte| add(u64::from(byte)));
            let count = seen.len() as u64;
            add(*seen.entry(id).or_insert(count));
            let Inode::File(file) = inode else { return add(u64::MAX) };
            add(file.cached().len());
            for (index, hash) in file.cached().page_hashes() {
                add(index as u64);
                add(hash);
            }
        });
        hash
    }

    fn add(&mut self, inode: Inode) -> InodeId {
        let id = self.next;
        self.next += 1;
        self.inodes.insert(id, Arc::new(inode));
        id
    }

    fn directory_at(&self, id: InodeId) -> &Directory {
        match &*self.inodes[&id] {
            Inode::Directory(directory) => directory,
            Inode::File(_) => unreachable!("inode {id} was found as a directory"),
        }
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        let inode = self.inodes.get_mut(&id).expect("a name or an open file keeps its inode");
        Arc::make_mut(inode)
    }
}

fn missing(name: &str) -> io::Error {
    error(io::ErrorKind::NotFound, name)
}

fn error(kind: io::ErrorKind, name: &str) -> io::Error {
    io::Error::new(kind, format!("{name}: {kind}"))
}
