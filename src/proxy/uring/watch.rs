//! Whether a client is gone although nothing is received from it.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Fd;

use super::means::{Act, Means};
use crate::proxy::slab::Key;
use crate::uring::ring::Completion;

/// How long a connection may wait for its server before its client is watched, in ns, where nothing else happens. A sleep
/// that ends before the kernel's next tick has to program the CPU's timer, which is costly in a virtual machine.
const UNWATCHED: u64 = 20_000_000;

/// Connections that wait for their servers, and whose clients are not watched yet.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Since this turn of the loop.
    fresh: Vec<Key>,
    /// Since the one before.
    old: Vec<Key>,
}

impl Waits {
    /// A connection begins to wait.
    pub(super) fn begun(&mut self, key: Key) {
        if self.fresh.last() != Some(&key) {
            self.fresh.push(key);
        }
    }

    /// All completions of a turn were seen to: one that has waited through it, if any is left.
    pub(super) fn slow(&mut self) -> Option<Key> {
        self.old.pop()
    }

    /// The loop is about to sleep, until `deadline` at the latest; when to wake up for those that wait.
    pub(super) fn turn(&mut self, deadline: u64, now: impl FnOnce() -> u64) -> u64 {
        std::mem::swap(&mut self.old, &mut self.fresh);
        match self.old.is_empty() {
            true => deadline,
            false => deadline.min(now() + UNWATCHED),
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The client has ended, or as below.
    Ended,
    /// Its connection is broken.
    Broken,
}

/// A poll of the client's socket, at most one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Watch {
    until: Option<Until>,
}

impl Watch {
    /// Asks to be told, unless a poll is under way.
    pub(super) fn begin(&mut self, until: Until, client: &TcpStream, key: Key, means: &mut Means) {
        if self.until.is_some() {
            return;
        }
        let poll = match until {
            Until::Ended => opcode::PollAdd::new(Fd(client.as_raw_fd()), libc::POLLRDHUP as u32),
            // Again and again: the client's end is an event (POLLHUP) that is no news.
            Until::Broken => opcode::PollAdd::new(Fd(client.as_raw_fd()), 0).multi(true),
        };
        self.until = Some(until);
        // SAFETY: it points to nothing.
        unsafe { means.ask(&poll.build().user_data(Act::Watch.of(key))) };
    }

    /// What the poll tells; nothing where it was given up.
    pub(super) fn told(&mut self, completion: Completion) -> Option<Until> {
        if !completion.more() {
            self.until = None;
        }
        if completion.errno().is_some() {
            return None;
        }
        match completion.result & i32::from(libc::POLLERR) {
            0 => Some(Until::Ended),
            _ => Some(Until::Broken),
        }
    }

    pub(super) fn is_under_way(self) -> bool {
        self.until.is_some()
    }
}
