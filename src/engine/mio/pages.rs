//! Slots whose pages go to the receiver themselves: vmsplice(2) into a pipe, splice(2) from there into the socket.
//!
//! Nothing is copied before the receiver reads, not even on loopback, so a slot is what the receiver will read for as long
//! as it has not: it may be written to again only when the receiver's credit says that it is done with it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use super::{Filled, Handover};
use crate::engine::stats::ZeroCopyStats;
use crate::sys::pipe::Pipe;

/// By vmsplice(2) and splice(2).
pub struct Pages {
    pipe: Pipe,
    /// Slots the receiver may not have read yet: number, and how many datagrams had been sent with it.
    held: VecDeque<(u64, u64)>,
    /// Datagrams the receiver is done with.
    seen: u64,
    stats: ZeroCopyStats,
}

impl Pages {
    /// For slots of up to `bytes`, `slots` in all.
    ///
    /// # Errors
    /// As pipe(2), and where the user's share of pipe pages is used up.
    pub fn new(bytes: usize, slots: usize) -> io::Result<Self> {
        Ok(Self {
            pipe: Pipe::for_message(bytes)?,
            held: VecDeque::with_capacity(slots),
            seen: 0,
            stats: ZeroCopyStats::default(),
        })
    }
}

impl Handover for Pages {
    const BY_PAGE: bool = true;

    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize> {
        let mut taken = 0;
        for Filled { number, end, pages } in slots {
            match self.pipe.lend(pages, socket) {
                Ok(()) => {}
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
            // A slot that goes as several messages is held until the last of them is read.
            if self.held.back().is_none_or(|&(last, _)| last != number) {
                self.held.push_back((number, end));
            }
            taken += 1;
        }
        self.stats.messages += taken as u64;
        Ok(taken)
    }

    fn free(&mut self, resolved: u64) -> u64 {
        while let Some(&(_, end)) = self.held.front()
            && end <= self.seen
        {
            self.held.pop_front();
        }
        self.held.front().map_or(resolved, |&(number, _)| number)
    }

    fn acknowledge(&mut self, seen: u64) {
        self.seen = self.seen.max(seen);
    }

    fn stats(&self) -> Option<ZeroCopyStats> {
        Some(self.stats)
    }
}
