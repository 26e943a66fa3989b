//! Slots whose pages the device reads itself: `MSG_ZEROCOPY`, with word of each on the socket's error queue
//! (Documentation/networking/msg_zerocopy.rst). On loopback the kernel copies all the same, and says so.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use super::{Filled, Handover};
use crate::engine::stats::ZeroCopyStats;
use crate::sys::mmsg::SendBatch;
use crate::sys::zerocopy::Done;

/// By sendmmsg(2) with `MSG_ZEROCOPY`.
pub struct Pinned {
    batch: SendBatch,
    /// Sends the kernel is not known to be done with, and those behind them. It numbers them in this order, by 32 bits.
    held: VecDeque<Send>,
    /// The kernel's number of the first of them.
    first: u32,
    /// The slots of the messages of a call.
    offered: Vec<u64>,
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
            offered: Vec::with_capacity(messages),
            stats: ZeroCopyStats::default(),
        }
    }
}

/// Failed sends that may be reported at once; a number further ahead is none of ours.
const MOST_FAILED: usize = 1_024;

impl Handover for Pinned {
    const COMPLETES: bool = true;

    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize> {
        self.offered.clear();
        let offered = &mut self.offered;
        let pages = slots.map(|slot| {
            offered.push(slot.number);
            slot.pages
        });
        let taken = self.batch.send_pinned(socket, pages)?;
        self.held
            .extend(self.offered.iter().take(taken).map(|&slot| Send {
                slot: Some(slot),
                done: false,
            }));
        Ok(taken)
    }

    fn done(&mut self, sends: Done) {
        for number in sends.numbers() {
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
                self.stats.copied += u64::from(sends.copied);
            }
        }
        while self.held.front().is_some_and(|send| send.done) {
            self.held.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    fn free(&mut self, resolved: u64) -> u64 {
        let first = self.held.iter().find_map(|send| send.slot);
        first.unwrap_or(resolved)
    }

    fn expect(&mut self, messages: usize) {
        self.batch.grow(messages);
    }

    fn stats(&self) -> Option<ZeroCopyStats> {
        Some(self.stats)
    }
}
