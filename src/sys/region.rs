//! Memory that the kernel reads or writes behind the program's back (mmap(2)): it has pages of its own, so that
//! nothing else is found in them, and it can be given up without being freed.

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::slice;

/// Bytes of a page.
pub const PAGE: usize = 4_096;

/// Pages of zeros, unmapped when dropped.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages belong to the process, and the only pointer to them moves with the value.
unsafe impl Send for Region {}

impl Region {
    /// At least `length` bytes, beginning at a page.
    ///
    /// # Errors
    /// As mmap(2): out of memory.
    pub fn new(length: usize) -> io::Result<Self> {
        let length = length.next_multiple_of(PAGE).max(PAGE);
        // SAFETY: a private anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
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

    /// Never frees it: the kernel may still be using it.
    pub fn abandon(self) {
        mem::forget(self);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and no reference outlives `self`. It cannot fail for a whole mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_pages_of_zeros_that_can_be_written() {
        let mut region = Region::new(PAGE + 1).unwrap();
        assert_eq!(region.part(0, 2 * PAGE).unwrap(), [0; 2 * PAGE]);
        assert_eq!(region.as_ptr() as usize % PAGE, 0);
        region.part_mut(PAGE, 1).unwrap()[0] = 7;
        assert_eq!(region.part(PAGE - 1, 3).unwrap(), [0, 7, 0]);
        assert!(region.part(2 * PAGE, 1).is_none());
        assert!(region.part_mut(1, usize::MAX).is_none());
    }
}
