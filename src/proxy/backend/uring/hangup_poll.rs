//! A poll that notices when a client hangs up while nothing is received from it.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Fd;

use super::operation::Operation;
use super::resources::Context;
use super::ring::Completion;

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
