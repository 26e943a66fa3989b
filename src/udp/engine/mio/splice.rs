//! Sends that pass pages to the receiver: vmsplice(2) into a pipe, splice(2) from the pipe into the socket.
//!
//! The kernel copies nothing before the receiver reads, not even on loopback. Sender and receiver share the pages of a
//! slot until then, so a slot is free only when the receiver's credit shows that it was read.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use super::{Filled, SendMethod};
use crate::sys::pipe::Pipe;
use crate::udp::engine::stats::ZeroCopyStats;

/// Sends with vmsplice(2) and splice(2).
pub struct SpliceSend {
    pipe: Pipe,
    /// Slots that the receiver may not have read: slot number, and datagrams sent up to the end of the slot.
    in_use: VecDeque<(u64, u64)>,
    /// Datagrams that the receiver has read.
    seen: u64,
    stats: ZeroCopyStats,
}

impl SpliceSend {
    /// For up to `slots` slots of `bytes` bytes.
    ///
    /// # Errors
    /// As pipe(2), or the user's limit of pipe pages is reached.
    pub fn new(bytes: usize, slots: usize) -> io::Result<Self> {
        Ok(Self {
            pipe: Pipe::for_message(bytes)?,
            in_use: VecDeque::with_capacity(slots),
            seen: 0,
            stats: ZeroCopyStats::default(),
        })
    }
}

impl SendMethod for SpliceSend {
    const BY_PAGE: bool = true;

    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize> {
        let mut taken = 0;
        for Filled {
            number, end, pages, ..
        } in slots
        {
            match self.pipe.send_pages(pages, socket) {
                Ok(()) => {}
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
            // A slot sent as several messages stays in use until the last is read.
            if self.in_use.back().is_none_or(|&(last, _)| last != number) {
                self.in_use.push_back((number, end));
            }
            taken += 1;
        }
        self.stats.messages += taken as u64;
        Ok(taken)
    }

    fn free(&mut self, resolved: u64) -> u64 {
        while let Some(&(_, end)) = self.in_use.front()
            && end <= self.seen
        {
            self.in_use.pop_front();
        }
        self.in_use.front().map_or(resolved, |&(number, _)| number)
    }

    fn acknowledge(&mut self, seen: u64) {
        self.seen = self.seen.max(seen);
    }

    fn stats(&self) -> Option<ZeroCopyStats> {
        Some(self.stats)
    }
}
