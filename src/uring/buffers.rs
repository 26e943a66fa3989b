//! Provided buffers: the kernel picks the buffer of each receive (io_uring_setup_buf_ring(3), Linux 5.19).

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::{Leak, Ring};
use super::setup::explain_build_error;
use crate::sys::mmap::Mmap;

/// The buffer group of a ring that has only one.
pub(crate) const GROUP: u16 = 0;

/// A ring of equal buffers. At any time each buffer belongs either to the kernel, to be filled, or to the program.
pub(crate) struct BufferRing {
    /// The ring entries, shared with the kernel.
    entries: Mmap,
    memory: Mmap,
    count: u16,
    stride: usize,
    /// Buffers provided since the start, modulo 2^16.
    tail: u16,
}

impl BufferRing {
    /// Creates `count` buffers of `stride` bytes and provides all of them. The count is rounded up to a power of two.
    ///
    /// # Errors
    /// As io_uring_register(2), and out of memory.
    pub(crate) fn new(ring: &Ring, count: usize, stride: usize) -> io::Result<Self> {
        let mut buffers = Self::build(ring, GROUP, count, stride, Mmap::new)?;
        for buffer in 0..buffers.count {
            buffers.provide(buffer);
        }
        Ok(buffers)
    }

    /// Like [`Self::new`], but for the buffer group `group`, and provides no buffer yet. Pages are allocated when they are first used.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn new_empty(
        ring: &Ring,
        group: u16,
        count: usize,
        stride: usize,
    ) -> io::Result<Self> {
        Self::build(ring, group, count, stride, Mmap::on_demand)
    }

    fn build(
        ring: &Ring,
        group: u16,
        count: usize,
        stride: usize,
        map: impl Fn(usize) -> io::Result<Mmap>,
    ) -> io::Result<Self> {
        let count = count.clamp(1, 1 << 15).next_power_of_two() as u16;
        let entries = Mmap::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = map(usize::from(count) * stride)?;
        let start = entries.as_ptr() as u64;
        // SAFETY: whole pages that stay mapped until the owner has closed the ring.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(start, count, group, 0)
                .map_err(explain_build_error)?;
        }
        Ok(Self {
            entries,
            memory,
            count,
            stride,
            tail: 0,
        })
    }

    /// The first `length` bytes of a filled buffer.
    #[inline]
    pub(crate) fn filled(&self, buffer: u16, length: usize) -> &[u8] {
        let start = usize::from(buffer) * self.stride;
        let part = self.memory.part(start, length.min(self.stride));
        part.unwrap_or_default()
    }

    /// Gives a buffer to the kernel, to be filled again.
    #[inline]
    pub(crate) fn provide(&mut self, buffer: u16) {
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
        // SAFETY: the tail lies in the first entry, in a field that none of the three setters above writes, and is
        // aligned. The kernel reads it with acquire semantics (io_uring_buf_ring_add(3)).
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

impl Leak for BufferRing {
    fn leak(self) {
        self.entries.leak();
        self.memory.leak();
    }
}
