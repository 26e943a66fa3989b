//! Memory that the kernel accesses asynchronously (mmap(2)). A mapping has its own pages, so the kernel never sees
//! other data in them, and it can be leaked.

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::slice;

/// Bytes of a page.
pub const PAGE: usize = 4_096;

/// Bytes of a huge page on most machines. Elsewhere only an alignment.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed pages, unmapped on drop.
#[derive(Debug)]
pub struct Mmap {
    start: NonNull<u8>,
    length: usize,
    /// The whole mapping, which may start earlier and end later.
    mapping: (NonNull<u8>, usize),
}

// SAFETY: the pages belong to the process, and the only pointer to them moves with the value.
unsafe impl Send for Mmap {}

impl Mmap {
    /// Maps at least `length` bytes, page-aligned.
    ///
    /// # Errors
    /// As mmap(2): out of memory.
    pub fn new(length: usize) -> io::Result<Self> {
        let mut memory = Self::map(length.next_multiple_of(PAGE).max(PAGE))?;
        memory.touch();
        Ok(memory)
    }

    /// Like [`Self::new`], but the kernel allocates each page when it is first used.
    ///
    /// # Errors
    /// As mmap(2): out of memory.
    pub fn on_demand(length: usize) -> io::Result<Self> {
        Self::map(length.next_multiple_of(PAGE).max(PAGE))
    }

    /// Like [`Self::new`], in huge pages if available (madvise(2), `MADV_HUGEPAGE`). The kernel counts references of a
    /// huge page once, and those of its 512 small pages each.
    ///
    /// # Errors
    /// As mmap(2): out of memory.
    pub fn huge(length: usize) -> io::Result<Self> {
        let length = length.next_multiple_of(HUGE_PAGE).max(HUGE_PAGE);
        let mut memory = Self::map(length + HUGE_PAGE)?;
        let before = memory.start.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: starts less than a huge page before the next boundary and ends within the mapping.
        memory.start = unsafe { memory.start.add(before) };
        memory.length = length;
        // SAFETY: a mapped range. A failure is harmless, since small pages work as well.
        unsafe { libc::madvise(memory.start.as_ptr().cast(), length, libc::MADV_HUGEPAGE) };
        memory.touch();
        Ok(memory)
    }

    /// Makes the kernel allocate all pages now.
    fn touch(&mut self) {
        if let Some(bytes) = self.part_mut(0, self.length) {
            bytes.fill(0);
        }
    }

    fn map(length: usize) -> io::Result<Self> {
        // SAFETY: a private anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            length,
            mapping: (start, length),
        })
    }

    /// The start of the memory.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// `length` bytes from `start` on; `None` if out of bounds. Parts that the kernel writes meanwhile must not be
    /// borrowed.
    #[inline]
    pub fn part(&self, start: usize, length: usize) -> Option<&[u8]> {
        (start.checked_add(length)? <= self.length).then(|| {
            // SAFETY: inside the mapping, which is readable for the lifetime of `self`.
            unsafe { slice::from_raw_parts(self.start.as_ptr().add(start), length) }
        })
    }

    /// Like [`Self::part`], writable.
    #[inline]
    pub fn part_mut(&mut self, start: usize, length: usize) -> Option<&mut [u8]> {
        (start.checked_add(length)? <= self.length).then(|| {
            // SAFETY: inside the mapping, which is writable. `&mut self` makes this the only reference.
            unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(start), length) }
        })
    }

    /// Like [`Self::part`], for sends whose memory the kernel may read after the call returns.
    #[inline]
    pub fn pages(&self, start: usize, length: usize) -> Option<Pages<'_>> {
        self.part(start, length).map(Pages)
    }

    /// Never unmaps the memory, since the kernel may still use it.
    pub fn leak(self) {
        mem::forget(self);
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        let (start, length) = self.mapping;
        // SAFETY: exactly the mapped range, and no reference outlives `self`. Unmapping a whole mapping cannot fail.
        unsafe { libc::munmap(start.as_ptr().cast(), length) };
    }
}

/// Bytes in pages of a [`Mmap`]. The kernel may read them after a send has returned. The pages never contain other
/// data: dropping the mapping unmaps them and does not reuse them.
#[derive(Debug, Clone, Copy)]
pub struct Pages<'a>(&'a [u8]);

impl<'a> Pages<'a> {
    /// The current contents.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Pieces of `most` bytes. The last may be shorter.
    #[inline]
    pub fn pieces(self, most: usize) -> impl Iterator<Item = Self> {
        self.0.chunks(most.max(1)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_mapping_has_the_requested_length_and_alignment() {
        let mut memory = Mmap::huge(3 << 20).unwrap();
        assert_eq!(memory.as_ptr() as usize % HUGE_PAGE, 0);
        let last = memory.part_mut((4 << 20) - 1, 1).unwrap();
        assert_eq!(last, [0]);
        last[0] = 1;
        assert!(memory.part(4 << 20, 1).is_none());
    }

    #[test]
    fn mapping_is_whole_zeroed_writable_pages() {
        let mut memory = Mmap::new(PAGE + 1).unwrap();
        assert_eq!(memory.part(0, 2 * PAGE).unwrap(), [0; 2 * PAGE]);
        assert_eq!(memory.as_ptr() as usize % PAGE, 0);
        memory.part_mut(PAGE, 1).unwrap()[0] = 7;
        assert_eq!(memory.part(PAGE - 1, 3).unwrap(), [0, 7, 0]);
        assert!(memory.part(2 * PAGE, 1).is_none());
        assert!(memory.part_mut(1, usize::MAX).is_none());
    }
}
