//! One file or directory of the simulated disk: what the cache shows, and what a power loss would leave.
//!
//! Knows no paths and no faults: those are in [`tree`](super::tree) and [`fault`](super::fault).
//!
//! Invariants of a file:
//!   * cached and durable content differ only in dirty sectors, in lost ones, by an unsynced cut, or in length
//!   * a sector is dirty (the next sync writes it) or lost (a failed sync called it clean, no sync writes it again)
//!     or neither
//!   * a durable length above the cached one means that a cut is unsynced
//!
//! Invariants of a directory:
//!   * the cached and the durable map differ only in dirty names, or in names that a failed sync gave up

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exactlog_storage::disk::SECTOR_BYTES;

use super::choices::Choices;
use super::content::{Content, PAGE_SECTORS};
use super::sectors::Sectors;

/// Names a file or directory, as an inode number does. Never used twice.
pub(super) type InodeId = u64;

#[derive(Clone)]
pub(super) enum Inode {
    File(FileInode),
    Directory(Directory),
}

#[derive(Clone, Default)]
pub(super) struct FileInode {
    durable: Content,
    cached: Content,
    dirty: Sectors,
    lost: Sectors,
    /// The lowest length that the file was cut to since its last sync, if that is below what was there.
    cut: Option<u64>,
}

#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) durable: BTreeMap<Arc<str>, InodeId>,
    pub(super) cached: BTreeMap<Arc<str>, InodeId>,
    dirty: BTreeSet<Arc<str>>,
}

impl FileInode {
    /// A file whose content is durable already.
    pub(super) fn durable(content: Content) -> FileInode {
        FileInode { durable: content.clone(), cached: content, ..FileInode::default() }
    }

    /// What a reader sees.
    pub(super) fn cached(&self) -> &Content {
        &self.cached
    }

    /// Whether a power loss would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.dirty.is_empty()
            && self.lost.is_empty()
            && self.cut.is_none()
            && self.cached.len() == self.durable.len()
    }

    pub(super) fn write(&mut self, bytes: &[u8], pos: u64) {
        if bytes.is_empty() {
            return;
        }
        self.cached.write(bytes, pos);
        let first = pos as usize / SECTOR_BYTES;
        let last = (pos as usize + bytes.len() - 1) / SECTOR_BYTES;
        for sector in first..=last {
            self.dirty.insert(sector);
            self.lost.remove(sector);
        }
    }

    /// Cuts the file or extends it with zeros. The length is durable with the next sync.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.cached.len() {
            if len < self.durable.len() {
                self.cut = Some(self.cut.map_or(len, |cut| cut.min(len)));
            }
            let sectors = (len as usize).div_ceil(SECTOR_BYTES);
            self.dirty.cut(sectors);
            self.lost.cut(sectors);
        }
        self.cached.set_len(len);
    }

    /// Makes everything durable but lost sectors, which nobody remembers.
    pub(super) fn sync(&mut self) {
        self.apply_cut();
        self.durable.set_len(self.cached.len());
        let mut shared = None;
        for sector in self.dirty.iter() {
            let page = sector / PAGE_SECTORS;
            if self.lost.any_in(page * PAGE_SECTORS, (page + 1) * PAGE_SECTORS) {
                self.durable.copy_sector(&self.cached, sector);
            } else if shared != Some(page) {
                self.durable.share_page(&self.cached, page);
                shared = Some(page);
            }
        }
        self.dirty.clear();
    }

    /// A sync that failed: part of the dirty sectors reached the disk, and the others are called clean all the same.
    /// Length and cut aren't given up: they belong to the metadata, which a later sync writes again.
    pub(super) fn fail_sync(&mut self, choices: &mut dyn Choices) {
        if self.cut.is_some() && choices.survives() {
            self.apply_cut();
        }
        self.settle_len(choices);
        for sector in std::mem::take(&mut self.dirty).iter() {
            if self.can_settle(sector)
                && !self.durable.same_sector(&self.cached, sector)
                && choices.survives()
            {
                self.durable.copy_sector(&self.cached, sector);
            }
            if !self.durable.same_sector(&self.cached, sector) {
                self.lost.insert(sector);
            }
        }
    }

    /// The kernel writes part of what is dirty on its own. Nothing is lost, all the rest stays dirty.
    pub(super) fn write_back(&mut self, choices: &mut dyn Choices) {
        if self.cut.is_some() {
            // Nothing that was written behind a cut can be on the disk for good as long as the cut isn't.
            if !choices.survives() {
                return;
            }
            self.apply_cut();
        }
        self.settle(choices);
    }

    /// What is left after a power loss, and the cache that a reboot starts with.
    pub(super) fn lose_power(&mut self, choices: &mut dyn Choices) {
        if self.cut.is_some() && choices.survives() {
            self.apply_cut();
        }
        self.settle(choices);
        *self = FileInode::durable(std::mem::take(&mut self.durable));
    }

    /// Part of the lost sectors leaves the cache: what is read next is the disk's. Those that survive stay readable.
    pub(super) fn evict(&mut self, choices: &mut dyn Choices) {
        for sector in self.lost.clone().iter() {
            if !choices.survives() {
                self.cached.copy_sector(&self.durable, sector);
                self.lost.remove(sector);
            }
        }
    }

    /// Changes the cached and the durable content alike, without dirt: damage, done by a test.
    pub(super) fn damage(&mut self, change: impl Fn(&mut Content)) {
        change(&mut self.cached);
        change(&mut self.durable);
        let sectors = (self.cached.len() as usize).div_ceil(SECTOR_BYTES);
        self.dirty.cut(sectors);
        self.lost.cut(sectors);
    }

    /// Moves a chosen part of length and dirty sectors to the disk; what moved is clean.
    fn settle(&mut self, choices: &mut dyn Choices) {
        self.settle_len(choices);
        for sector in self.dirty.clone().iter() {
            if (sector * SECTOR_BYTES) as u64 >= self.durable.len() {
                break;
            }
            if !self.durable.same_sector(&self.cached, sector) && choices.survives() {
                self.durable.copy_sector(&self.cached, sector);
            }
            if self.durable.same_sector(&self.cached, sector) {
                self.dirty.remove(sector);
            }
        }
    }

    /// Chooses the durable length of a file that grew: the old one, the new one, or a sector's end in between.
    fn settle_len(&mut self, choices: &mut dyn Choices) {
        let (old, new) = (self.durable.len(), self.cached.len());
        if new <= old {
            return;
        }
        let sector_bytes = SECTOR_BYTES as u64;
        let between = (new - 1) / sector_bytes - old / sector_bytes;
        let picked = choices.pick(between + 2);
        let len = match picked {
            0 => old,
            _ if picked > between => new,
            _ => (old / sector_bytes + picked) * sector_bytes,
        };
        self.durable.set_len(len);
    }

    /// Whether a sector can reach the disk before length and cut do.
    fn can_settle(&self, sector: usize) -> bool {
        let (start, end) = ((sector * SECTOR_BYTES) as u64, ((sector + 1) * SECTOR_BYTES) as u64);
        start < self.durable.len() && self.cut.is_none_or(|cut| end <= cut)
    }

    fn apply_cut(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.durable.set_len(cut.min(self.durable.len()));
        }
    }
}

impl Directory {
    /// Sets or removes a name. It is durable with the next sync.
    pub(super) fn set(&mut self, name: &str, inode: Option<InodeId>) {
        let name: Arc<str> = name.into();
        match inode {
            Some(inode) => self.cached.insert(name.clone(), inode),
            None => self.cached.remove(&name),
        };
        self.dirty.insert(name);
    }

    /// Sets or removes a name for good.
    pub(super) fn set_durable(&mut self, name: &str, inode: Option<InodeId>) {
        self.set(name, inode);
        self.dirty.remove(name);
        settle_name(&self.cached, &mut self.durable, name);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.cached == self.durable
    }

    pub(super) fn sync(&mut self) {
        for name in std::mem::take(&mut self.dirty) {
            settle_name(&self.cached, &mut self.durable, &name);
        }
    }

    /// A sync that failed and gave up the names that didn't reach the disk: no later sync writes them.
    pub(super) fn fail_sync(&mut self, choices: &mut dyn Choices) {
        self.write_back(choices);
        self.dirty.clear();
    }

    /// Part of the dirty names reaches the disk. Each name of its own: after a rename without a sync both names may
    /// lead to the file, or none.
    pub(super) fn write_back(&mut self, choices: &mut dyn Choices) {
        let Directory { durable, cached, dirty } = self;
        dirty.retain(|name| {
            if cached.get(name) != durable.get(name) {
                if !choices.survives() {
                    return true;
                }
                settle_name(cached, durable, name);
            }
            false
        });
    }

    pub(super) fn lose_power(&mut self, choices: &mut dyn Choices) {
        self.write_back(choices);
        self.dirty.clear();
        self.cached.clone_from(&self.durable);
    }
}

fn settle_name(cached: &BTreeMap<Arc<str>, InodeId>, durable: &mut BTreeMap<Arc<str>, InodeId>, name: &str) {
    match cached.get(name) {
        Some(inode) => durable.insert(name.into(), *inode),
        None => durable.remove(name),
    };
}
