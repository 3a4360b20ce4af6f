//! An open file of the simulated disk.
//!
//! Invariants:
//!   * an open file keeps its inode, whatever happens to its names

use std::fmt;
use std::io;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use exactlog_storage::disk::File;

use super::Shared;
use super::fault::Call;
use super::inode::InodeId;
use super::point::What;
use super::state::check_len;

/// "Bad file descriptor" on Linux and macOS: what a write through a handle for reading gives.
const EBADF: i32 = 9;
/// "Invalid argument" on Linux and macOS: what a cut through a handle for reading gives.
const EINVAL: i32 = 22;

pub(super) struct SimFile {
    pub(super) shared: Arc<Shared>,
    pub(super) inode: InodeId,
    /// The name it was opened under, for faults and points.
    pub(super) name: Arc<str>,
    pub(super) writable: bool,
}

impl SimFile {
    fn check_writable(&self, errno: i32) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("name", &self.name)
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(count) = state.open.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.inode);
            }
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let mut state = self.shared.state.lock();
        state.call(Call::Read, &self.name)?;
        Ok(state.tree.file(self.inode).cached().read(buf, pos))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        if parts.iter().all(|part| part.is_empty()) {
            // No system call: neither an operation nor an extension.
            return self.shared.state.lock().check_running();
        }
        self.check_writable(EBADF)?;
        self.shared.state.lock().write(self.inode, &self.name, parts, pos)
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.state.lock().sync(self.inode, &self.name)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.check_writable(EBADF)?;
        self.shared.state.lock().allocate(self.inode, &self.name, len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable(EINVAL)?;
        let what = || What::Truncate { name: self.name.clone(), len };
        self.shared.state.lock().operate_whole(Call::Truncate, &self.name, what, |state| {
            check_len(0, len)?;
            state.tree.file_mut(self.inode).set_len(len);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.shared.state.lock();
        state.check_running()?;
        Ok(state.tree.file(self.inode).cached().len())
    }

    fn map_sealed(&self) -> io::Result<Bytes> {
        let mut state = self.shared.state.lock();
        state.call(Call::Map, &self.name)?;
        Ok(Bytes::from(state.tree.file(self.inode).cached().to_vec()))
    }
}
