//! The bytes of a simulated file, in shared pages.
//!
//! Knows nothing of durability: a file has two contents, the cached one and the durable one
//! (see [`inode`](super::inode)).
//!
//! Invariants:
//!   * a clone shares all pages; the list of pages is copied when one of its owners changes, a page when it is written
//!   * there are exactly as many pages as the length needs; a missing page is zeros
//!   * bytes of the last page behind the length are zeros

use std::sync::Arc;

use exactlog_storage::disk::SECTOR_BYTES;

use crate::rng::mix;

/// The unit of sharing, in bytes.
pub(super) const PAGE_BYTES: usize = 4096;
/// Sectors in a page.
pub(super) const PAGE_SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

#[derive(Clone, Default)]
pub(super) struct Content {
    pages: Arc<Vec<Option<Page>>>,
    len: u64,
}

type Page = Arc<[u8; PAGE_BYTES]>;

impl Content {
    /// The length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Cuts, or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len == self.len {
            return;
        }
        let pages = Arc::make_mut(&mut self.pages);
        pages.resize(len.div_ceil(PAGE_BYTES as u64) as usize, None);
        let tail = (len % PAGE_BYTES as u64) as usize;
        if len < self.len
            && tail > 0
            && let Some(Some(page)) = pages.last_mut()
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
        self.len = len;
    }

    /// Reads until `buf` is full or the content ends; the number of bytes read.
    pub(super) fn read(&self, buf: &mut [u8], pos: u64) -> usize {
        let len = self.len.saturating_sub(pos).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let (index, from) = place(pos + done as u64);
            let n = (len - done).min(PAGE_BYTES - from);
            buf[done..done + n].copy_from_slice(&self.page(index)[from..from + n]);
            done += n;
        }
        len
    }

    /// Everything.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.len as usize];
        self.read(&mut all, 0);
        all
    }

    /// Writes `bytes` at `pos`, extending the content if it ends before their end.
    pub(super) fn write(&mut self, bytes: &[u8], pos: u64) {
        let end = pos + bytes.len() as u64;
        if end > self.len {
            self.set_len(end);
        }
        let mut done = 0;
        while done < bytes.len() {
            let (index, from) = place(pos + done as u64);
            let n = (bytes.len() - done).min(PAGE_BYTES - from);
            self.page_mut(index)[from..from + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
    }

    /// Whether a sector has the same bytes here and there; what lies behind a length counts as zeros.
    pub(super) fn same_sector(&self, other: &Content, sector: usize) -> bool {
        let (index, from) = place((sector * SECTOR_BYTES) as u64);
        let (here, there) = (self.page(index), other.page(index));
        std::ptr::eq(here, there) || here[from..from + SECTOR_BYTES] == there[from..from + SECTOR_BYTES]
    }

    /// Takes over the bytes of a sector, as far as they lie below the own length.
    pub(super) fn copy_sector(&mut self, from: &Content, sector: usize) {
        let start = (sector * SECTOR_BYTES) as u64;
        let len = self.len.saturating_sub(start).min(SECTOR_BYTES as u64) as usize;
        if len == 0 {
            return;
        }
        let (index, at) = place(start);
        self.page_mut(index)[at..at + len].copy_from_slice(&from.page(index)[at..at + len]);
    }

    /// Takes over a whole page by sharing it. Both contents must have the same length.
    pub(super) fn share_page(&mut self, from: &Content, index: usize) {
        assert_eq!(self.len, from.len, "pages are shared between contents of the same length");
        Arc::make_mut(&mut self.pages)[index].clone_from(&from.pages[index]);
    }

    /// A hash for each page that isn't all zeros, with the page's index.
    pub(super) fn page_hashes(&self) -> impl Iterator<Item = (usize, u64)> {
        let pages = self.pages.iter().enumerate();
        let filled = pages.filter_map(|(index, page)| Some((index, page.as_ref()?)));
        filled.filter(|(_, page)| ***page != ZERO_PAGE).map(|(index, page)| (index, hash(page)))
    }

    fn page(&self, index: usize) -> &[u8; PAGE_BYTES] {
        match self.pages.get(index) {
            Some(Some(page)) => page,
            _ => &ZERO_PAGE,
        }
    }

    fn page_mut(&mut self, index: usize) -> &mut [u8; PAGE_BYTES] {
        Arc::make_mut(Arc::make_mut(&mut self.pages)[index].get_or_insert_with(|| Arc::new(ZERO_PAGE)))
    }
}

/// The page of a position, and the position in it.
fn place(pos: u64) -> (usize, usize) {
    ((pos / PAGE_BYTES as u64) as usize, (pos % PAGE_BYTES as u64) as usize)
}

/// Four chains of multiplications side by side, since one alone waits for each product.
fn hash(page: &[u8; PAGE_BYTES]) -> u64 {
    let mut lanes = [1u64, 2, 3, 4];
    for words in page.as_chunks::<8>().0.as_chunks::<4>().0 {
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }
    lanes.into_iter().fold(0, |hash, lane| mix(hash ^ lane).wrapping_add(lane))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn content_behaves_as_a_vector_of_bytes(
            steps in prop::collection::vec((0u8..3, 0u64..20_000, 0usize..9000, any::<u8>()), 1..30)
        ) {
            let (mut content, mut model) = (Content::default(), Vec::<u8>::new());
            for (kind, pos, len, byte) in steps {
                let old = (content.clone(), model.clone());
                if kind == 0 {
                    content.set_len(pos);
                    model.resize(pos as usize, 0);
                } else {
                    content.write(&vec![byte; len], pos);
                    let end = pos as usize + len;
                    model.resize(model.len().max(end), 0);
                    model[pos as usize..end].fill(byte);
                }
                prop_assert_eq!(content.to_vec(), model.clone());
                // What was cloned before doesn't see the change.
                prop_assert_eq!(old.0.to_vec(), old.1);
            }
        }
    }
}
