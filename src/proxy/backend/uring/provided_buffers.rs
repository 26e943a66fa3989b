//! The buffers into which a thread receives, and which of them the kernel may pick.
//!
//! ```text
//!   reserve --provide--> the kernel's --filled--> unsent bytes of a direction --release--> reserve
//!   (a stack)            (a queue)
//! ```
//!
//! The kernel uses provided buffers in turn, so few are provided: then those of a bulk transfer stay in the cache. If more
//! receives complete in one pass of the loop than there were buffers, more are provided, and fewer again after a while.

use std::io;

use super::buffers::BufferRing;
use super::ring::{Leak, Ring};
use crate::proxy::chunk::CHUNK_SIZE;

/// All buffers: 4 MiB. As many receives can complete in one pass.
const BUFFERS: u16 = 64;

/// Fewest provided buffers.
const MIN_PROVIDED: usize = 4;

/// Passes after which one buffer less is provided.
const SHRINK_INTERVAL: u32 = 256;

/// Buffers that sends may occupy until their sink has room. The others are for receives.
const MAX_SENDING: usize = BUFFERS as usize / 2;

/// The buffers of a thread.
pub(super) struct ProvidedBuffers {
    buffers: BufferRing,
    /// The one that was used last is on top.
    reserve: Vec<u16>,
    /// Buffers that the kernel may fill.
    provided: usize,
    /// How many should be provided.
    target: usize,
    passes: u32,
}

/// A buffer that the kernel has filled. It goes back by [`ProvidedBuffers::release`].
pub(in crate::proxy) struct Filled {
    buffer: u16,
    length: usize,
}

impl Filled {
    /// Bytes in it.
    pub(super) fn length(&self) -> usize {
        self.length
    }
}

impl ProvidedBuffers {
    /// # Errors
    /// As io_uring_register(2), and out of memory.
    pub(super) fn new(ring: &Ring) -> io::Result<Self> {
        let mut buffers = Self {
            buffers: BufferRing::new_empty(ring, usize::from(BUFFERS), CHUNK_SIZE)?,
            reserve: (0..BUFFERS).rev().collect(),
            provided: 0,
            target: MIN_PROVIDED,
            passes: 0,
        };
        buffers.provide();
        Ok(buffers)
    }

    /// Takes a buffer that the kernel has filled with `length` bytes.
    pub(super) fn take(&mut self, buffer: u16, length: usize) -> Filled {
        self.provided = self.provided.saturating_sub(1);
        self.provide();
        Filled { buffer, length }
    }

    /// The bytes in a buffer.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        self.buffers.filled(filled.buffer, filled.length)
    }

    /// Returns a buffer to the reserve.
    pub(super) fn release(&mut self, filled: Filled) {
        self.reserve.push(filled.buffer);
        self.provide();
    }

    /// Whether a send may occupy its buffer until its sink has room.
    pub(super) fn is_ample(&self) -> bool {
        self.reserve.len() + self.provided >= MAX_SENDING
    }

    /// A receive found no buffer.
    pub(super) fn on_shortage(&mut self) {
        self.target = (2 * self.target).min(usize::from(BUFFERS));
        self.passes = 0;
        self.provide();
    }

    /// Another pass of the loop starts.
    pub(super) fn on_pass(&mut self) {
        self.passes += 1;
        if self.passes == SHRINK_INTERVAL {
            self.passes = 0;
            self.target = (self.target - 1).max(MIN_PROVIDED);
        }
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
        self.buffers.leak();
    }
}
