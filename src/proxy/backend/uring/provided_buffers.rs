//! The buffers into which a thread receives, and which of them the kernel may pick.
//!
//! ```text
//!   reserve --provide--> the kernel's --filled--> unsent bytes of a direction --release--> reserve
//!   (a stack)            (a queue)
//! ```
//!
//! There are two sizes, each a buffer group of the ring. Bulk transfers take large buffers, one at a time. Messages take small
//! ones, of which thousands can be filled in one pass of the loop.
//!
//! The kernel uses provided buffers in turn, so few are provided: then those of a bulk transfer stay in the cache. If more
//! receives complete in one pass of the loop than there were buffers, more are provided, and fewer again after a while.

use std::{io, mem};

use super::buffers::BufferRing;
use super::ring::{Leak, Ring};
use crate::proxy::chunk::CHUNK_SIZE;

/// A size of buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Size {
    /// [`SMALL`] bytes.
    Small,
    /// [`CHUNK_SIZE`] bytes.
    Large,
}

impl Size {
    /// Bytes of a buffer.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Small => SMALL,
            Self::Large => CHUNK_SIZE,
        }
    }

    /// The buffer group of the ring.
    pub(super) fn group(self) -> u16 {
        match self {
            Self::Small => 0,
            Self::Large => 1,
        }
    }

    /// All buffers of this size: 16 and 4 MiB, of which the pages that were filled occupy memory. As many receives can
    /// complete in one pass.
    fn count(self) -> u16 {
        match self {
            Self::Small => 4_096,
            Self::Large => 64,
        }
    }
}

/// Bytes of a small buffer. Not a power of two: with a stride of a page, the first bytes of all buffers would share a few sets
/// of the cache.
const SMALL: usize = (4 << 10) + 64;

/// Fewest provided buffers of a size.
const MIN_PROVIDED: usize = 4;

/// Passes after which an eighth of the buffers of a size is no longer provided, if twice the number filled in any pass is left.
const SHRINK_INTERVAL: u32 = 256;

/// The buffers of a thread.
pub(super) struct ProvidedBuffers {
    small: Group,
    large: Group,
    passes: u32,
}

/// The buffers of one size.
struct Group {
    buffers: BufferRing,
    count: usize,
    /// The one that was used last is on top.
    reserve: Vec<u16>,
    /// Buffers that the kernel may fill.
    provided: usize,
    /// How many should be provided.
    target: usize,
    /// Buffers filled in this pass of the loop, and most in a pass since the last [`Self::shrink`].
    filled: usize,
    most_filled: usize,
}

/// A buffer that the kernel has filled. It goes back by [`ProvidedBuffers::release`].
pub(in crate::proxy) struct Filled {
    size: Size,
    buffer: u16,
    length: usize,
}

impl Filled {
    /// Bytes in it.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Whether it has no room left.
    pub(super) fn is_full(&self) -> bool {
        self.length >= self.size.bytes()
    }
}

impl ProvidedBuffers {
    /// # Errors
    /// As io_uring_register(2), and out of memory.
    pub(super) fn new(ring: &Ring) -> io::Result<Self> {
        Ok(Self {
            small: Group::new(ring, Size::Small)?,
            large: Group::new(ring, Size::Large)?,
            passes: 0,
        })
    }

    /// Takes a buffer that the kernel has filled with `length` bytes.
    pub(super) fn take(&mut self, size: Size, buffer: u16, length: usize) -> Filled {
        self.group_mut(size).on_filled();
        Filled {
            size,
            buffer,
            length,
        }
    }

    /// The bytes in a buffer.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        let group = self.group(filled.size);
        group.buffers.filled(filled.buffer, filled.length)
    }

    /// Returns a buffer to the reserve.
    pub(super) fn release(&mut self, filled: Filled) {
        self.group_mut(filled.size).release(filled.buffer);
    }

    /// Whether a send may occupy this buffer until its sink has room.
    pub(super) fn is_ample(&self, filled: &Filled) -> bool {
        self.group(filled.size).is_ample()
    }

    /// A receive found no buffer.
    pub(super) fn on_shortage(&mut self, size: Size) {
        self.passes = 0;
        self.group_mut(size).on_shortage();
    }

    /// Another pass of the loop starts.
    pub(super) fn on_pass(&mut self) {
        self.small.on_pass();
        self.large.on_pass();
        self.passes += 1;
        if self.passes == SHRINK_INTERVAL {
            self.passes = 0;
            self.small.shrink();
            self.large.shrink();
        }
    }

    fn group(&self, size: Size) -> &Group {
        match size {
            Size::Small => &self.small,
            Size::Large => &self.large,
        }
    }

    fn group_mut(&mut self, size: Size) -> &mut Group {
        match size {
            Size::Small => &mut self.small,
            Size::Large => &mut self.large,
        }
    }
}

impl Group {
    fn new(ring: &Ring, size: Size) -> io::Result<Self> {
        let count = size.count();
        let mut group = Self {
            buffers: BufferRing::new_empty(ring, size.group(), usize::from(count), size.bytes())?,
            count: usize::from(count),
            reserve: (0..count).rev().collect(),
            provided: 0,
            target: MIN_PROVIDED,
            filled: 0,
            most_filled: 0,
        };
        group.provide();
        Ok(group)
    }

    fn on_filled(&mut self) {
        self.filled += 1;
        self.provided = self.provided.saturating_sub(1);
        self.provide();
    }

    fn on_pass(&mut self) {
        self.most_filled = self.most_filled.max(mem::take(&mut self.filled));
    }

    fn release(&mut self, buffer: u16) {
        self.reserve.push(buffer);
        self.provide();
    }

    /// Sends may occupy half of the buffers until their sink has room. The others are for receives.
    fn is_ample(&self) -> bool {
        self.reserve.len() + self.provided >= self.count / 2
    }

    fn on_shortage(&mut self) {
        self.target = (2 * self.target).min(self.count);
        self.provide();
    }

    fn shrink(&mut self) {
        let needed = (2 * mem::take(&mut self.most_filled)).clamp(MIN_PROVIDED, self.count);
        self.target = (self.target - self.target.div_ceil(8))
            .max(needed)
            .min(self.target);
    }

    fn provide(&mut self) {
        while self.provided < self.target
            && let Some(buffer) = self.reserve.pop()
        {
            self.buffers.provide(buffer);
            self.provided += 1;
        }
    }
}

impl Leak for ProvidedBuffers {
    fn leak(self) {
        self.small.buffers.leak();
        self.large.buffers.leak();
    }
}
