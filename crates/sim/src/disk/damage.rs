//! Looking at a simulated disk from outside, and damaging it.
//!
//! None of these calls is an operation: they are seen by no fault, stop or point, and what they change is durable.
//!
//! Invariants:
//!   * damage changes the cached and the durable bytes alike, and no others

use std::io;

use super::SimDisk;
use super::content::Content;
use super::inode::Inode;

impl SimDisk {
    /// All files, sorted by path, with their length in bytes.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        self.shared.state.lock().tree.visit(&mut |path, _, inode| {
            if let Inode::File(file) = inode {
                files.push((path.to_owned(), file.cached().len()));
            }
        });
        files.sort();
        files
    }

    /// The content of a file, as a reader sees it.
    pub fn read_file(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.shared.state.lock();
        Ok(state.tree.file(state.tree.file_named(name)?).cached().to_vec())
    }

    /// Flips the bits `mask` of one byte. A position behind the end is [`io::ErrorKind::UnexpectedEof`].
    pub fn flip_bit(&self, name: &str, pos: u64, mask: u8) -> io::Result<()> {
        self.change(name, pos.saturating_add(1), |content| {
            let mut byte = [0];
            // The durable content may be shorter.
            if content.read(&mut byte, pos) == 1 {
                content.write(&[byte[0] ^ mask], pos);
            }
        })
    }

    /// Overwrites bytes inside a file. An end behind that of the file is [`io::ErrorKind::UnexpectedEof`].
    pub fn overwrite(&self, name: &str, pos: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(name, pos.saturating_add(bytes.len() as u64), |content| {
            let len = content.len().saturating_sub(pos).min(bytes.len() as u64) as usize;
            if len > 0 {
                content.write(&bytes[..len], pos);
            }
        })
    }

    /// Cuts a file to `len` bytes. A length above that of the file is [`io::ErrorKind::UnexpectedEof`].
    pub fn cut(&self, name: &str, len: u64) -> io::Result<()> {
        self.change(name, len, |content| content.set_len(len.min(content.len())))
    }

    /// Removes a file's name for good.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.shared.state.lock().tree.uninstall(name)
    }

    /// Puts a durable copy of what a reader of `from` sees under the name `to`, replacing what is there.
    pub fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let content = state.tree.file(state.tree.file_named(from)?).cached().clone();
        state.tree.install(to, content)
    }

    /// Puts a durable file under a name, replacing what is there.
    pub fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut content = Content::default();
        content.write(bytes, 0);
        self.shared.state.lock().tree.install(name, content)
    }

    fn change(&self, name: &str, end: u64, change: impl Fn(&mut Content)) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let inode = state.tree.file_named(name)?;
        let len = state.tree.file(inode).cached().len();
        if end > len {
            let text = format!("{name} ends at byte {len}, before byte {end}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        state.tree.file_mut(inode).damage(change);
        Ok(())
    }
}
