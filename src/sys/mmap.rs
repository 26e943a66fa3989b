//! Memory that the kernel reads or writes behind the program's back (mmap(2)): it has pages of its own, so that
//! nothing else is found in them, and it can be given up without being freed.

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::slice;

/// Bytes of a page.
pub const PAGE: usize = 4_096;

/// Bytes of a huge page on most machines; elsewhere this is only an alignment.
const HUGE_PAGE: usize = 2 << 20;

/// Pages of zeros, unmapped when dropped.
#[derive(Debug)]
pub struct Mmap {
    start: NonNull<u8>,
    length: usize,
    /// What is mapped, which may begin before it and end behind it.
    mapping: (NonNull<u8>, usize),
}

// SAFETY: the pages belong to the process, and the only pointer to them moves with the value.
unsafe impl Send for Mmap {}

impl Mmap {
    /// At least `length` bytes, beginning at a page.
    ///
    /// # Errors
    /// As mmap(2): out of memory.
    pub fn new(length: usize) -> io::Result<Self> {
        let mut region = Self::map(length.next_multiple_of(PAGE).max(PAGE))?;
        region.touch();
        Ok(region)
    }

    /// As [`Self::new`], in huge pages where the kernel has some (madvise(2), `MADV_HUGEPAGE`). To the kernel each of
    /// them is one page with one count of its users, where small ones are 512.
    ///
    /// # Errors
    /// As mmap(2): out of memory.
    pub fn huge(length: usize) -> io::Result<Self> {
        let length = length.next_multiple_of(HUGE_PAGE).max(HUGE_PAGE);
        let mut region = Self::map(length + HUGE_PAGE)?;
        let before = region.start.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: it begins less than a huge page before the next boundary, and ends one behind `length`.
        region.start = unsafe { region.start.add(before) };
        region.length = length;
        // SAFETY: a mapped range. That there are none is no error worth telling: small pages do as well.
        unsafe { libc::madvise(region.start.as_ptr().cast(), length, libc::MADV_HUGEPAGE) };
        region.touch();
        Ok(region)
    }

    /// Has the kernel find a page for every part of it now.
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

    /// Where it begins.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// `length` bytes from `start` on; `None` when that is not all inside. Whoever lets the kernel write to other
    /// parts meanwhile has no reference to those.
    #[inline]
    pub fn part(&self, start: usize, length: usize) -> Option<&[u8]> {
        (start.checked_add(length)? <= self.length).then(|| {
            // SAFETY: inside the mapping, which is readable for as long as `self` lives.
            unsafe { slice::from_raw_parts(self.start.as_ptr().add(start), length) }
        })
    }

    /// As [`Self::part`], to be written.
    #[inline]
    pub fn part_mut(&mut self, start: usize, length: usize) -> Option<&mut [u8]> {
        (start.checked_add(length)? <= self.length).then(|| {
            // SAFETY: inside the mapping, which is writable; `&mut self` makes it the only reference.
            unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(start), length) }
        })
    }

    /// As [`Self::part`], to be handed to the kernel, which may read it after the call that hands it over.
    #[inline]
    pub fn pages(&self, start: usize, length: usize) -> Option<Pages<'_>> {
        self.part(start, length).map(Pages)
    }

    /// Never frees it: the kernel may still be using it.
    pub fn leak(self) {
        mem::forget(self);
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        let (start, length) = self.mapping;
        // SAFETY: exactly what was mapped, and no reference outlives `self`. It cannot fail for a whole mapping.
        unsafe { libc::munmap(start.as_ptr().cast(), length) };
    }
}

/// Bytes in pages of a [`Mmap`]. The kernel may go on reading them after a send has returned: nothing else is ever found in
/// these pages, since they are unmapped, not used again, when the region is dropped.
#[derive(Debug, Clone, Copy)]
pub struct Pages<'a>(&'a [u8]);

impl<'a> Pages<'a> {
    /// What is in them now.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Pieces of `most` bytes, the last one perhaps shorter.
    #[inline]
    pub fn pieces(self, most: usize) -> impl Iterator<Item = Self> {
        self.0.chunks(most.max(1)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_one_is_as_long_as_asked_for_and_aligned() {
        let mut region = Mmap::huge(3 << 20).unwrap();
        assert_eq!(region.as_ptr() as usize % HUGE_PAGE, 0);
        let last = region.part_mut((4 << 20) - 1, 1).unwrap();
        assert_eq!(last, [0]);
        last[0] = 1;
        assert!(region.part(4 << 20, 1).is_none());
    }

    #[test]
    fn it_is_whole_pages_of_zeros_that_can_be_written() {
        let mut region = Mmap::new(PAGE + 1).unwrap();
        assert_eq!(region.part(0, 2 * PAGE).unwrap(), [0; 2 * PAGE]);
        assert_eq!(region.as_ptr() as usize % PAGE, 0);
        region.part_mut(PAGE, 1).unwrap()[0] = 7;
        assert_eq!(region.part(PAGE - 1, 3).unwrap(), [0, 7, 0]);
        assert!(region.part(2 * PAGE, 1).is_none());
        assert!(region.part_mut(1, usize::MAX).is_none());
    }
}
