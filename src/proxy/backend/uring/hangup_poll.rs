//! A poll that notices when a client hangs up while nothing is received from it.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Fd;

use super::io::Context;
use super::operation::Operation;
use super::ring::Completion;
use crate::proxy::slab::Key;

/// How long a connection waits for its server before its client is polled, in ns, unless other events come first. A sleep
/// that ends before the kernel's next tick programs the CPU's timer, which is costly in a virtual machine.
const GRACE: u64 = 20_000_000;

/// Connections that wait for their server and whose client is not polled yet. A poll of each client would cost a tenth of a
/// connection's CPU, so a connection whose server is there in the next pass of the loop has none.
#[derive(Debug, Default)]
pub(super) struct WaitingConnections {
    /// Since this pass of the loop.
    new: Vec<Key>,
    /// Since the pass before.
    old: Vec<Key>,
}

impl WaitingConnections {
    /// A connection starts to wait.
    pub(super) fn add(&mut self, key: Key) {
        if self.new.last() != Some(&key) {
            self.new.push(key);
        }
    }

    /// The thread is about to sleep until `deadline`: when it has to wake up for those that wait.
    pub(super) fn before_sleep(&mut self, deadline: u64, now: impl FnOnce() -> u64) -> u64 {
        std::mem::swap(&mut self.old, &mut self.new);
        match self.old.is_empty() {
            true => deadline,
            false => deadline.min(now() + GRACE),
        }
    }

    /// The next one that has waited for a whole pass.
    pub(super) fn next_slow(&mut self) -> Option<Key> {
        self.old.pop()
    }
}

/// What a poll notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HangUp {
    /// The client ended its side of the connection, or [`Self::Broken`].
    Ended,
    /// The connection is broken.
    Broken,
}

/// A poll of a client's socket; at most one is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HangUpPoll {
    is_in_flight: bool,
}

impl HangUpPoll {
    /// Starts a poll, unless one is in flight.
    pub(super) fn start(&mut self, until: HangUp, client: &TcpStream, context: &mut Context<'_>) {
        if self.is_in_flight {
            return;
        }
        let poll = match until {
            HangUp::Ended => opcode::PollAdd::new(Fd(client.as_raw_fd()), libc::POLLRDHUP as u32),
            // Multishot, as POLLHUP completes it too and does not mean that the connection is broken.
            HangUp::Broken => opcode::PollAdd::new(Fd(client.as_raw_fd()), 0).multi(true),
        };
        let user_data = Operation::HangUpPoll.user_data(context.key);
        let poll = poll.build().user_data(user_data);
        self.is_in_flight = true;
        // SAFETY: it points to nothing.
        unsafe { context.backend.submit(&poll) };
    }

    /// What a completion means; `None` if the poll was cancelled.
    pub(super) fn on_completed(&mut self, completion: Completion) -> Option<HangUp> {
        self.is_in_flight = completion.more();
        if completion.errno().is_some() {
            return None;
        }
        match completion.result & i32::from(libc::POLLERR) {
            0 => Some(HangUp::Ended),
            _ => Some(HangUp::Broken),
        }
    }

    pub(super) fn is_in_flight(self) -> bool {
        self.is_in_flight
    }
}
