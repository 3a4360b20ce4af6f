//! The disk of the operating system: a directory, through rustix.
//!
//! Not a cache and not a policy: every call is one system call or a loop of one, and nothing is retried but what was
//! interrupted or came back short. For Linux and macOS.
//!
//! Invariants:
//!   * every name is resolved part by part from a handle of the root, and no part may be a symbolic link
//!   * directories are made with mode 0700, files with 0600; handles aren't inherited by child processes
//!   * a sync that failed isn't repeated (only an interrupted one is): what it left behind is unknown
//!   * the lock file is never removed, since a name that comes and goes could be locked by two processes at once

use std::fmt;
use std::fs;
use std::io;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs as sys;
use rustix::io::{Errno, retry_on_intr};

use super::around::{Bounce, Direct};
use super::{Disk, Entry, File, Mode, name, transfer, zero_fill};
use crate::mapped;

/// The lock file, in the root.
const LOCK_NAME: &str = "LOCK";
/// What is read of the lock file for a message, in bytes at most.
const LOCK_OWNER_BYTES_MAX: usize = 4096;

const DIRECTORY_MODE: u32 = 0o700;
const DIRECTORY_FLAGS: sys::OFlags = sys::OFlags::RDONLY
    .union(sys::OFlags::DIRECTORY)
    .union(sys::OFlags::NOFOLLOW)
    .union(sys::OFlags::CLOEXEC);
/// `NONBLOCK` changes nothing for files, but a pipe under a file's name can't hang the open.
const FILE_FLAGS: sys::OFlags =
    sys::OFlags::NOFOLLOW.union(sys::OFlags::CLOEXEC).union(sys::OFlags::NONBLOCK);

/// A directory of the operating system. Clones share the handle of the root.
#[derive(Clone)]
pub struct RealDisk {
    root: Arc<Root>,
    mapping: bool,
    bounce: Arc<Bounce>,
}

struct Root {
    path: PathBuf,
    handle: OwnedFd,
}

impl RealDisk {
    /// Opens the directory `root`, making it and its parents with mode 0700 if missing; what was made is durable.
    ///
    /// The path up to and with `root` may lead through symbolic links, what lies inside may not. A root that isn't
    /// a directory or can't be read is an error that names it.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<RealDisk> {
        let path = root.into();
        make_root(&path).map_err(|error| named(&path, error))?;
        RealDisk::at(path)
    }

    fn at(path: PathBuf) -> io::Result<RealDisk> {
        let flags = DIRECTORY_FLAGS.difference(sys::OFlags::NOFOLLOW);
        let handle = retry_on_intr(|| sys::open(&path, flags, sys::Mode::empty()))
            .map_err(|errno| named(&path, errno.into()))?;
        Ok(RealDisk { root: Arc::new(Root { path, handle }), mapping: true, bounce: Arc::default() })
    }

    /// Opens the directory `root` without making or changing anything.
    ///
    /// # Errors
    /// As [`RealDisk::new`]; a root that isn't there is [`io::ErrorKind::NotFound`].
    pub fn existing(root: impl Into<PathBuf>) -> io::Result<RealDisk> {
        RealDisk::at(root.into())
    }

    /// Whether somebody holds the lock of the directory at this moment. Nothing is written.
    ///
    /// To ask is to share the lock for a moment; whoever takes it for himself in that very moment tries again.
    pub fn is_held(&self) -> io::Result<bool> {
        let file = match self.file(LOCK_NAME, sys::OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match retry_on_intr(|| sys::flock(&file, sys::FlockOperation::NonBlockingLockShared)) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether [`File::map_sealed`] maps (the default) or reads a copy.
    #[must_use]
    pub fn with_mapping(self, mapping: bool) -> RealDisk {
        RealDisk { mapping, ..self }
    }

    /// A handle of the directory `dir`, found without following a link.
    fn directory(&self, dir: &str) -> io::Result<OwnedFd> {
        let open = |at: &OwnedFd, part: &str| {
            retry_on_intr(|| sys::openat(at, part, DIRECTORY_FLAGS, sys::Mode::empty()))
                .map_err(|errno| self.explain(at, part, dir, errno))
        };
        let mut at = open(&self.root.handle, ".")?;
        for part in name::parts(dir)? {
            at = open(&at, part)?;
        }
        Ok(at)
    }

    /// The handle of the directory that `name` lies in, and its last part.
    fn parent<'a>(&self, name: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (dir, last) = name::split(name)?;
        Ok((self.directory(dir)?, last))
    }

    /// Opens a file and makes sure that it is one.
    fn file(&self, name: &str, flags: sys::OFlags) -> io::Result<fs::File> {
        let (dir, last) = self.parent(name)?;
        let mode = sys::Mode::RUSR | sys::Mode::WUSR;
        let handle = retry_on_intr(|| sys::openat(&dir, last, flags | FILE_FLAGS, mode))
            .map_err(|errno| self.explain(&dir, last, name, errno))?;
        let file = fs::File::from(handle);
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        if !kind.is_file() {
            return Err(self.refused(name, "neither a file nor a directory"));
        }
        Ok(file)
    }

    fn real(&self, file: fs::File) -> RealFile {
        RealFile { file, mapping: self.mapping, direct: Direct::default(), bounce: self.bounce.clone() }
    }

    /// Says so if `part` is a symbolic link, which the error of the system alone doesn't (it is `ELOOP` or `ENOTDIR`).
    fn explain(&self, at: &OwnedFd, part: &str, name: &str, errno: Errno) -> io::Error {
        if errno == Errno::LOOP || errno == Errno::NOTDIR {
            let stat = sys::statat(at, part, sys::AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| sys::FileType::from_raw_mode(stat.st_mode).is_symlink()) {
                return self
                    .refused(name, &format!("{part:?} is a symbolic link, and none is followed there"));
            }
        }
        errno.into()
    }

    fn refused(&self, name: &str, why: &str) -> io::Error {
        let text = format!("{name:?} in data directory {}: {why}", self.root.path.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    }
}

impl fmt::Debug for RealDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealDisk").field("root", &self.root.path).field("mapping", &self.mapping).finish()
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        let flags = match mode {
            Mode::Read => sys::OFlags::RDONLY,
            Mode::Write => sys::OFlags::RDWR,
            Mode::CreateNew => sys::OFlags::RDWR | sys::OFlags::CREATE | sys::OFlags::EXCL,
        };
        Ok(Arc::new(self.real(self.file(name, flags)?)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let at = self.directory(dir)?;
        let mut entries = Vec::new();
        for found in sys::Dir::read_from(&at)? {
            let found = found?;
            let file_name = found.file_name();
            if file_name == c"." || file_name == c".." {
                continue;
            }
            match sys::statat(&at, file_name, sys::AtFlags::SYMLINK_NOFOLLOW) {
                // A name that isn't UTF-8 isn't ours. It is shown, but can't be opened.
                Ok(stat) => entries.push(entry(file_name.to_string_lossy().into_owned(), &stat)),
                // Unlinked since it was read.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut at = self.directory("")?;
        for part in name::parts(dir)? {
            match sys::mkdirat(&at, part, sys::Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            at = retry_on_intr(|| sys::openat(&at, part, DIRECTORY_FLAGS, sys::Mode::empty()))
                .map_err(|errno| self.explain(&at, part, dir, errno))?;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (dir, last) = self.parent(from)?;
        let (to_dir, to_last) = name::split(to)?;
        if name::split(from)?.0 != to_dir {
            return Err(
                self.refused(from, &format!("can't be renamed to {to:?}, which is in another directory"))
            );
        }
        Ok(sys::renameat(&dir, last, &dir, to_last)?)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let (dir, last) = self.parent(name)?;
        Ok(sys::unlinkat(&dir, last, sys::AtFlags::empty())?)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let (parent, last) = self.parent(dir)?;
        Ok(sys::unlinkat(&parent, last, sys::AtFlags::REMOVEDIR)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_directory(&self.directory(dir)?)
    }

    fn free(&self) -> io::Result<u64> {
        let stat = retry_on_intr(|| sys::fstatvfs(&self.root.handle))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, owner: &str) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        /// Somebody may only be asking whether it is held: what that takes, many times over.
        const TRIES: u32 = 50;
        let file = self.file(LOCK_NAME, sys::OFlags::RDWR | sys::OFlags::CREATE)?;
        let mut tries = 1;
        loop {
            match retry_on_intr(|| sys::flock(&file, sys::FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if tries < TRIES => std::thread::sleep(Duration::from_millis(1)),
                Err(Errno::WOULDBLOCK) => {
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, holder(&file)?));
                }
                Err(errno) => return Err(errno.into()),
            }
            tries += 1;
        }
        file.set_len(0)?;
        file.write_all_at(owner.as_bytes(), 0)?;
        Ok(Box::new(Lock { _file: file }))
    }

    fn location(&self) -> String {
        self.root.path.display().to_string()
    }
}

/// Holds the lock of a data directory until it is dropped.
#[derive(Debug)]
struct Lock {
    // The lock belongs to the open file: closing it releases the lock.
    _file: fs::File,
}

/// What the holder of the lock wrote into it.
fn holder(file: &fs::File) -> io::Result<String> {
    let mut owner = vec![0; LOCK_OWNER_BYTES_MAX];
    let read_bytes = transfer::read_full(&mut owner, 0, |some, pos| file.read_at(some, pos))?;
    owner.truncate(read_bytes);
    if owner.is_empty() {
        // The holder is between taking the lock and writing its name.
        return Ok("a process that hasn't written its name yet".to_owned());
    }
    Ok(String::from_utf8_lossy(&owner).into_owned())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("data directory {}: {error}", path.display()))
}

/// Makes the root and its missing parents, each durable in the one above it.
fn make_root(root: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        root.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    for path in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Ok(()) => {}
            // Made by another process in the meantime; if it is no directory, opening it tells.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = DIRECTORY_FLAGS.difference(sys::OFlags::NOFOLLOW);
        sync_directory(&retry_on_intr(|| sys::open(above, flags, sys::Mode::empty()))?)?;
    }
    Ok(())
}

// The fields of `stat` have other types on other systems, where these casts aren't idle.
#[allow(clippy::unnecessary_cast)]
fn entry(name: String, stat: &sys::Stat) -> Entry {
    let is_dir = sys::FileType::from_raw_mode(stat.st_mode).is_dir();
    if is_dir {
        return Entry { name, len: 0, links: 1, is_dir };
    }
    Entry { name, len: u64::try_from(stat.st_size).unwrap_or(0), links: stat.st_nlink as u64, is_dir }
}

/// An open file of a [`RealDisk`].
#[derive(Debug)]
struct RealFile {
    file: fs::File,
    mapping: bool,
    direct: Direct,
    bounce: Arc<Bounce>,
}

impl RealFile {
    /// [`File::allocate`] with the system call handed in, so that a file system without it can be tested.
    fn allocate_with(
        &self,
        len: u64,
        reserve: impl FnOnce(&fs::File, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let old_len = self.len()?;
        let result = match reserve(&self.file, len) {
            // Holes below the old length aren't filled: the engine's files have none.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => zero_fill(self, old_len, len),
            result => result,
        };
        if result.is_err() {
            // Both ways may have got half way. Giving that back is an attempt only: the error counts.
            let _ = self.truncate(old_len);
        }
        result
    }
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        transfer::read_full(buf, pos, |some, pos| self.file.read_at(some, pos))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        transfer::write_all(parts, pos, |some, pos| Ok(rustix::io::pwritev(&self.file, some, pos)?))
    }

    fn write_around(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        self.direct.write(&self.file, &self.bounce, parts, pos)
    }

    fn sync(&self) -> io::Result<()> {
        // `fdatasync`, and `F_FULLFSYNC` on macOS, where `fsync` doesn't reach the medium. Repeats an interrupted call.
        self.file.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.allocate_with(len, reserve)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn map_sealed(&self) -> io::Result<Bytes> {
        if self.mapping { mapped::map_whole(&self.file) } else { mapped::read_whole(self) }
    }
}

/// `fsync`, or on macOS what reaches the medium.
fn sync_directory(handle: &OwnedFd) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    if retry_on_intr(|| sys::fcntl_fullfsync(handle)).is_ok() {
        return Ok(());
    }
    Ok(retry_on_intr(|| sys::fsync(handle))?)
}

/// Reserves the blocks of `0..len` and sets the length to at least `len`; [`io::ErrorKind::Unsupported`] if the
/// file system can't.
#[cfg(target_os = "linux")]
fn reserve(file: &fs::File, len: u64) -> io::Result<()> {
    match retry_on_intr(|| sys::fallocate(file, sys::FallocateFlags::empty(), 0, len)) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// There is no call for it here that also sets the length.
#[cfg(not(target_os = "linux"))]
fn reserve(_: &fs::File, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests;
