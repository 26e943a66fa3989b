//! Slots whose pages the device reads itself: `MSG_ZEROCOPY`, with word of each on the socket's error queue
//! (Documentation/networking/msg_zerocopy.rst). On loopback the kernel copies all the same, and says so.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use super::{Filled, Handover};
use crate::engine::stats::ZeroCopyStats;
use crate::sys::mmsg::SendBatch;
use crate::sys::zerocopy;

/// By sendmmsg(2) with `MSG_ZEROCOPY`.
pub struct Pinned {
    batch: SendBatch,
    /// Slots the kernel has taken and not given back, each with whether it is done with it. They were numbered in
    /// this order, by 32 bits.
    held: VecDeque<(u64, bool)>,
    /// The kernel's number of the first of them.
    first: u32,
    stats: ZeroCopyStats,
}

impl Pinned {
    /// Up to `messages` a call, of `slots` in all. The socket must have `SO_ZEROCOPY` set.
    pub fn new(messages: usize, slots: usize) -> Self {
        Self {
            batch: SendBatch::new(messages),
            held: VecDeque::with_capacity(slots),
            first: 0,
            stats: ZeroCopyStats::default(),
        }
    }
}

impl Handover for Pinned {
    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize> {
        let mut slots = slots.peekable();
        let Some(&Filled { number, .. }) = slots.peek() else {
            return Ok(0);
        };
        let bytes = slots.map(|slot| slot.bytes);
        let taken = self.batch.send(socket, bytes, libc::MSG_ZEROCOPY)?;
        self.held
            .extend((number..).take(taken).map(|number| (number, false)));
        Ok(taken)
    }

    fn free(&mut self, socket: BorrowedFd<'_>, resolved: u64) -> io::Result<u64> {
        if self.held.is_empty() {
            return Ok(resolved);
        }
        zerocopy::completions(socket, |done| {
            for number in done.numbers() {
                let place = number.wrapping_sub(self.first) as usize;
                if let Some((_, free)) = self.held.get_mut(place) {
                    *free = true;
                    self.stats.messages += 1;
                    self.stats.copied += u64::from(done.copied);
                }
            }
        })?;
        while let Some((_, true)) = self.held.front() {
            self.held.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        Ok(self.held.front().map_or(resolved, |&(number, _)| number))
    }

    fn stats(&self) -> Option<ZeroCopyStats> {
        Some(self.stats)
    }
}
