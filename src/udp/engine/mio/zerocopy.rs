//! Sends whose pages the device reads: `MSG_ZEROCOPY`, with completions on the error queue
//! (Documentation/networking/msg_zerocopy.rst). Loopback copies and reports the copy.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use super::{Filled, SendMethod};
use crate::sys::mmsg::SendBatch;
use crate::sys::zerocopy::Done;
use crate::udp::engine::stats::ZeroCopyStats;

/// Sends with sendmmsg(2) and `MSG_ZEROCOPY`.
pub struct ZeroCopySend {
    batch: SendBatch,
    /// Sends from the oldest incomplete one on. The kernel numbers sends in this order, modulo 2^32.
    sends: VecDeque<Send>,
    /// The kernel's number of the oldest send.
    first: u32,
    /// Slot numbers of the messages of one call.
    offered: Vec<u64>,
    stats: ZeroCopyStats,
}

#[derive(Debug, Clone, Copy)]
struct Send {
    /// The slot; `None` if the send failed after it had received a number.
    slot: Option<u64>,
    done: bool,
}

impl ZeroCopySend {
    /// Sends up to `messages` per call, from up to `slots` slots. The socket must have `SO_ZEROCOPY` set.
    pub fn new(messages: usize, slots: usize) -> Self {
        Self {
            batch: SendBatch::new(messages),
            sends: VecDeque::with_capacity(slots),
            first: 0,
            offered: Vec::with_capacity(messages),
            stats: ZeroCopyStats::default(),
        }
    }
}

/// Most failed sends before one is reported. A higher number is invalid and ignored.
const MOST_FAILED: usize = 1_024;

impl SendMethod for ZeroCopySend {
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
        let taken = self.batch.send_zerocopy(socket, pages)?;
        self.sends
            .extend(self.offered.iter().take(taken).map(|&slot| Send {
                slot: Some(slot),
                done: false,
            }));
        Ok(taken)
    }

    fn done(&mut self, done: Done) {
        for number in done.numbers() {
            let index = number.wrapping_sub(self.first) as usize;
            if index > self.sends.len() + MOST_FAILED {
                continue;
            }
            // A send that fails late, for example in a firewall, has consumed a number.
            while self.sends.len() <= index {
                self.sends.push_back(Send {
                    slot: None,
                    done: true,
                });
            }
            if let Some(send) = self.sends.get_mut(index)
                && send.slot.is_some()
            {
                send.done = true;
                self.stats.messages += 1;
                self.stats.copied += u64::from(done.copied);
            }
        }
        while self.sends.front().is_some_and(|send| send.done) {
            self.sends.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    fn is_waiting(&self) -> bool {
        !self.sends.is_empty()
    }

    fn free(&mut self, resolved: u64) -> u64 {
        let first = self.sends.iter().find_map(|send| send.slot);
        first.unwrap_or(resolved)
    }

    fn expect(&mut self, messages: usize) {
        self.batch.grow(messages);
    }

    fn stats(&self) -> Option<ZeroCopyStats> {
        Some(self.stats)
    }
}
