//! The buffers that a thread receives into, and which of them the kernel may pick from.
//!
//! ```text
//!   reserve --offer--> the kernel's --filled--> in a lane's hand --put down--> reserve
//!   (a stack)          (a queue)
//! ```
//!
//! The kernel goes through what it is offered in turn, so it is offered few: what a bulk flow goes through then stays in the
//! cache. Where more receives are done between two turns than there were buffers on offer, more are offered, and fewer
//! again after a while.

use std::io;

use crate::proxy::lot::BUFFER;
use crate::uring::buffers::BufferRing;
use crate::uring::ring::{Leak, Ring};

/// All there are: 4 MiB. As many receives can be done between two turns.
const BUFFERS: u16 = 64;

/// On offer at least.
const FEWEST: usize = 4;

/// Turns after which one buffer less is offered.
const PATIENCE: u32 = 256;

/// BufferRing that senders may keep until their sink has room. The others are for receives.
const KEPT: usize = BUFFERS as usize / 2;

pub(super) struct Pool {
    buffers: BufferRing,
    /// The one that was used last is on top.
    reserve: Vec<u16>,
    /// The kernel's to fill.
    offered: usize,
    /// How many of them there should be.
    wanted: usize,
    turns: u32,
}

impl Pool {
    /// # Errors
    /// As io_uring_register(2), and out of memory.
    pub(super) fn new(ring: &Ring) -> io::Result<Self> {
        let mut pool = Self {
            buffers: BufferRing::new_empty(ring, usize::from(BUFFERS), BUFFER)?,
            reserve: (0..BUFFERS).rev().collect(),
            offered: 0,
            wanted: FEWEST,
            turns: 0,
        };
        pool.offer();
        Ok(pool)
    }

    /// The kernel has filled one.
    pub(super) fn taken(&mut self) {
        self.offered = self.offered.saturating_sub(1);
        self.offer();
    }

    /// Bytes that are in it.
    pub(super) fn filled(&self, buffer: u16, length: usize) -> &[u8] {
        self.buffers.filled(buffer, length)
    }

    /// Nobody needs it any more.
    pub(super) fn put_down(&mut self, buffer: u16) {
        self.reserve.push(buffer);
        self.offer();
    }

    /// Whether a sender may keep its buffer until its sink has room.
    pub(super) fn is_ample(&self) -> bool {
        self.reserve.len() + self.offered >= KEPT
    }

    /// A receive found none.
    pub(super) fn ran_dry(&mut self) {
        self.wanted = (2 * self.wanted).min(usize::from(BUFFERS));
        self.turns = 0;
        self.offer();
    }

    /// Another turn of the loop.
    pub(super) fn turn(&mut self) {
        self.turns += 1;
        if self.turns == PATIENCE {
            self.turns = 0;
            self.wanted = (self.wanted - 1).max(FEWEST);
        }
    }

    fn offer(&mut self) {
        while self.offered < self.wanted
            && let Some(buffer) = self.reserve.pop()
        {
            self.buffers.provide(buffer);
            self.offered += 1;
        }
    }
}

impl Leak for Pool {
    fn leak(self) {
        self.buffers.leak();
    }
}
