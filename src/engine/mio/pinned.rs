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
    /// Sends the kernel is not known to be done with, and those behind them. It numbers them in this order, by 32 bits.
    held: VecDeque<Send>,
    /// The kernel's number of the first of them.
    first: u32,
    stats: ZeroCopyStats,
}

#[derive(Debug, Clone, Copy)]
struct Send {
    /// The slot; `None` where a send failed after it had got its number.
    slot: Option<u64>,
    done: bool,
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

    /// Takes in what the kernel is done with.
    fn collect(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        zerocopy::completions(socket, |done| {
            for number in done.numbers() {
                let place = number.wrapping_sub(self.first) as usize;
                if place > self.held.len() + MOST_FAILED {
                    continue;
                }
                // A send that failed late, like one that a firewall drops, has used its number up.
                while self.held.len() <= place {
                    self.held.push_back(Send {
                        slot: None,
                        done: true,
                    });
                }
                if let Some(send) = self.held.get_mut(place)
                    && send.slot.is_some()
                {
                    send.done = true;
                    self.stats.messages += 1;
                    self.stats.copied += u64::from(done.copied);
                }
            }
        })?;
        while self.held.front().is_some_and(|send| send.done) {
            self.held.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        Ok(())
    }
}

/// Failed sends that may be reported at once; a number further ahead is none of ours.
const MOST_FAILED: usize = 1_024;

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
        let mut offered = 0;
        let bytes = slots.inspect(|_| offered += 1).map(|slot| slot.bytes);
        let outcome = self.batch.send(socket, bytes, libc::MSG_ZEROCOPY);
        let taken = *outcome.as_ref().unwrap_or(&0);
        self.held.extend((number..).take(taken).map(|slot| Send {
            slot: Some(slot),
            done: false,
        }));
        if taken < offered {
            // One failed, and may have had a number: that must be known before the next gets one.
            self.collect(socket)?;
        }
        outcome
    }

    fn free(&mut self, socket: BorrowedFd<'_>, resolved: u64) -> io::Result<u64> {
        if !self.held.is_empty() {
            self.collect(socket)?;
        }
        let first = self.held.iter().find_map(|send| send.slot);
        Ok(first.unwrap_or(resolved))
    }

    fn stats(&self) -> Option<ZeroCopyStats> {
        Some(self.stats)
    }
}
