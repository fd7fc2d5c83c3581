//! Aligned memory.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A fixed number of zero-initialised `f32`, aligned to 64 bytes (a cache line, an AVX-512 register).
///
/// 64 elements of slack behind the last one may be read (never through the slice), so that a kernel can load a whole
/// register at the end of a row.
pub struct Buffer {
    /// What was allocated; the elements begin at the first aligned place in it.
    block: NonNull<u8>,
    layout: Layout,
    start: NonNull<f32>,
    len: usize,
}

/// Elements that may be read behind the end.
pub(crate) const SLACK: usize = 64;

const ALIGN_BYTES: usize = 64;
const LARGE_PAGE_BYTES: usize = 2 << 20;

impl Buffer {
    /// `len` zeros. Large ones take no memory before they are touched, where the system gives out zeroed pages on demand.
    ///
    /// # Panics
    /// `len` bytes overflow the address space. Memory exhaustion aborts, as everywhere in Rust.
    pub fn zeroed(len: usize) -> Self {
        Self::aligned(len, ALIGN_BYTES)
    }

    /// [`Buffer::zeroed`] in pages of 2 MiB as far as the elements fill them, where the system has such: a map of tens of MiB,
    /// of which a pass reads a few channels of each pixel, otherwise waits for the processor's table of pages.
    ///
    /// # Panics
    /// As [`Buffer::zeroed`].
    pub fn in_large_pages(len: usize) -> Self {
        let bytes = len.saturating_mul(size_of::<f32>());
        if bytes < LARGE_PAGE_BYTES {
            return Self::zeroed(len);
        }
        let buffer = Self::aligned(len, LARGE_PAGE_BYTES);
        let whole = bytes / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES;
        ask_for_large_pages(buffer.start, whole);
        buffer
    }

    fn aligned(len: usize, align: usize) -> Self {
        let layout = Self::layout(len, align);
        // SAFETY: the layout has a size of at least SLACK elements, so it is not zero.
        let Some(block) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        let offset = block.align_offset(align);
        // SAFETY: the layout has room for the alignment in front of the elements.
        let start = unsafe { block.add(offset) }.cast();
        Buffer {
            block,
            layout,
            start,
            len,
        }
    }

    /// Elements, slack and alignment. The latter is not the layout's own: the standard allocator writes zeros by hand where
    /// more alignment is asked of it than it has anyway, and so touches every page.
    fn layout(len: usize, align: usize) -> Layout {
        let bytes = len
            .checked_add(SLACK)
            .and_then(|n| n.checked_mul(size_of::<f32>()))
            .and_then(|n| n.checked_add(align));
        bytes
            .and_then(|b| Layout::from_size_align(b, align_of::<f32>()).ok())
            .expect("a buffer smaller than the address space")
    }
}

/// Asks for large pages in the place of `bytes` from `start` on.
fn ask_for_large_pages(start: NonNull<f32>, bytes: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: the caller owns these bytes. Advice changes nothing that can be read; a system that has no such pages refuses,
    // which costs speed alone.
    unsafe {
        libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer::zeroed(0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated by `aligned` with this layout.
        unsafe { dealloc(self.block.as_ptr(), self.layout) }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised elements are owned by this buffer.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: `len` initialised elements are owned by this buffer, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Buffer::zeroed(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({})", self.len)
    }
}

// SAFETY: a buffer owns its memory alone; sharing gives only `&[f32]`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_promised_places() {
        for len in [0, 1, 1 << 10, 1 << 19, (3 << 19) + 5] {
            for (mut buffer, align) in [
                (Buffer::zeroed(len), ALIGN_BYTES),
                (Buffer::in_large_pages(len), ALIGN_BYTES),
                (Buffer::in_large_pages(len.max(1 << 19)), LARGE_PAGE_BYTES),
            ] {
                assert_eq!(buffer.as_ptr().addr() % align, 0);
                assert!(buffer.iter().all(|v| v.to_bits() == 0));
                buffer.fill(1.0);
                assert_eq!(*buffer.clone(), *buffer);
            }
        }
    }
}
