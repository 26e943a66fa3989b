//! Whether a client is gone although nothing is received from it any more.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Fd;

use super::means::{Act, Means};
use crate::engine::uring::ring::Completion;
use crate::proxy::slab::Key;

/// A poll that tells so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Watch {
    #[default]
    Not,
    Begun,
    Ended,
}

impl Watch {
    /// Asks for it, once.
    pub(super) fn begin(&mut self, client: &TcpStream, key: Key, means: &mut Means) {
        if *self != Self::Not {
            return;
        }
        // Again and again: its end is a first event (POLLRDHUP) that is no news.
        let poll = opcode::PollAdd::new(Fd(client.as_raw_fd()), 0)
            .multi(true)
            .build()
            .user_data(Act::Watch.of(key));
        *self = Self::Begun;
        // SAFETY: it points to nothing.
        unsafe { means.ask(&poll) };
    }

    /// Whether the client is, by what came of it.
    pub(super) fn is_gone(&mut self, completion: Completion) -> bool {
        if !completion.more() {
            *self = Self::Ended;
        }
        completion.errno().is_none() && completion.result & i32::from(libc::POLLERR) != 0
    }

    pub(super) fn is_under_way(self) -> bool {
        self == Self::Begun
    }
}
