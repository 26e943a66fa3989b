//! Buffers that the kernel picks from by itself (io_uring_setup_buf_ring(3), Linux 5.19).

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::{Abandon, Ring};
use crate::engine::probe::uring::explained;
use crate::sys::region::Region;

/// The only group of buffers in a ring.
pub(crate) const GROUP: u16 = 0;

/// A ring of equal buffers, each either the kernel's to fill or ours to read.
pub(crate) struct Buffers {
    /// The ring itself, shared with the kernel.
    entries: Region,
    memory: Region,
    count: u16,
    stride: usize,
    /// Buffers given to the kernel so far, wrapping.
    tail: u16,
}

impl Buffers {
    /// `count` buffers of `stride` bytes, all of them the kernel's. The count is rounded up to a power of two.
    ///
    /// # Errors
    /// As io_uring_register(2), and out of memory.
    pub(crate) fn new(ring: &Ring, count: usize, stride: usize) -> io::Result<Self> {
        let mut buffers = Self::withheld(ring, count, stride)?;
        for buffer in 0..buffers.count {
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    /// As [`Self::new`], all of them ours until they are given.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn withheld(ring: &Ring, count: usize, stride: usize) -> io::Result<Self> {
        let count = count.clamp(1, 1 << 15).next_power_of_two() as u16;
        let entries = Region::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Region::new(usize::from(count) * stride)?;
        let start = entries.as_ptr() as u64;
        // SAFETY: whole pages that stay mapped until the owner has closed the ring.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(start, count, GROUP, 0)
                .map_err(explained)?;
        }
        Ok(Self {
            entries,
            memory,
            count,
            stride,
            tail: 0,
        })
    }

    /// The first `length` bytes of a buffer that the kernel has filled.
    #[inline]
    pub(crate) fn filled(&self, buffer: u16, length: usize) -> &[u8] {
        let start = usize::from(buffer) * self.stride;
        let part = self.memory.part(start, length.min(self.stride));
        part.unwrap_or_default()
    }

    /// Lets the kernel fill it anew.
    #[inline]
    pub(crate) fn give_back(&mut self, buffer: u16) {
        if buffer >= self.count {
            return;
        }
        let place = usize::from(self.tail & (self.count - 1));
        let base = self.entries.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `place` is below the number of entries, and the kernel reads no entry at or past the tail.
        let entry = unsafe { &mut *base.add(place) };
        entry.set_addr(self.memory.as_ptr() as u64 + u64::from(buffer) * self.stride as u64);
        entry.set_len(self.stride as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, in a field that is none of the three above, and is
        // aligned; the kernel reads it with acquire semantics (io_uring_buf_ring_add(3)).
        unsafe {
            let tail = BufRingEntry::tail(base).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    #[cfg(test)]
    pub(crate) fn overwrite(&mut self, canary: u8) {
        let length = usize::from(self.count) * self.stride;
        self.memory.part_mut(0, length).unwrap().fill(canary);
    }

    #[cfg(test)]
    pub(crate) fn is_all(&self, canary: u8) -> bool {
        let length = usize::from(self.count) * self.stride;
        let bytes = self.memory.part(0, length).unwrap();
        bytes.iter().all(|byte| *byte == canary)
    }
}

impl Abandon for Buffers {
    fn abandon(self) {
        self.entries.abandon();
        self.memory.abandon();
    }
}
