//! A direction of single messages: one multishot receive stays in flight, and completes for each of them.
//!
//! ```text
//!   multishot receive ----> a provided buffer ----> send
//!     |  ^                    | a message before is not sent yet
//!     |  +-- cancelled        v
//!     |      if too many    memory of the direction ----> send, all of it
//!     +-- a full buffer: cancelled, and the next receives are single
//! ```
//!
//! It saves the submission of a receive for each message, and adding and removing the wait for the socket. In return the
//! kernel receives while a message is being sent, so it starts only after [`EXPECTED`] messages in a row, and ends once the
//! source sends more than that: bulk data has single receives, which are as large as possible. A cancelled receive may
//! complete a few dozen more times, as the kernel fills up to 32 buffers in one go (`MULTISHOT_MAX_RETRY`).

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Fd;

use super::{Pump, Receiving, Unsent};
use crate::proxy::backend::uring::operation::Operation;
use crate::proxy::backend::uring::provided_buffers::{Filled, Size};
use crate::proxy::backend::uring::resources::Context;
use crate::proxy::backend::{Backend, Received};
use crate::proxy::relay::{Direction, Step};

/// Messages in a row after which more are expected.
const EXPECTED: u8 = 8;

/// Bytes of messages that may wait for the one before, before the receive is cancelled.
const MOST_QUEUED: usize = 4 << 10;

/// The messages of a source.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Receives in a row that did not fill a small buffer, up to [`EXPECTED`].
    in_a_row: u8,
    /// The multishot receive is being cancelled.
    is_cancelled: bool,
    /// The source failed while bytes were buffered, which are sent first.
    failed: bool,
}

impl Messages {
    /// The source gave a buffer.
    pub(super) fn on_received(&mut self, buffer: &Filled) {
        self.in_a_row = match buffer.length() < Size::Small.bytes() {
            true => (self.in_a_row + 1).min(EXPECTED),
            false => 0,
        };
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }
}

impl Pump {
    /// Whether the source sends single messages, which are copied.
    pub(super) fn expects_messages(&self) -> bool {
        self.messages.in_a_row == EXPECTED && self.size == Size::Small
    }

    /// Starts a multishot receive. None may be in flight.
    pub(super) fn receive_messages(
        &mut self,
        direction: Direction,
        source: &TcpStream,
        context: &mut Context<'_>,
    ) {
        let receive = opcode::RecvMulti::new(Fd(source.as_raw_fd()), self.size.group())
            .build()
            .user_data(Operation::Receive(direction).user_data(context.key));
        self.receiving = Receiving::Repeatedly;
        self.messages.is_cancelled = false;
        // SAFETY: it points to nothing; the kernel picks the buffers, of those that are provided.
        unsafe { context.backend.submit(&receive) };
    }

    /// Records a completion of a multishot receive for the relay, which may have buffered bytes.
    pub(super) fn on_message(
        &mut self,
        received: Option<Received<Filled>>,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        let is_over = context.relay.step(direction) == Step::Over;
        let flow = context.relay.flow(direction);
        match received {
            // The sink is gone.
            Some(Received::Bytes(buffer)) if is_over => context.backend.release(buffer),
            Some(Received::Bytes(buffer)) if flow.buffered() == 0 => {
                flow.filled(buffer.length());
                self.unsent = Unsent::Provided { buffer, sent: 0 };
            }
            Some(Received::Bytes(buffer)) => {
                flow.filled(buffer.length());
                self.queued
                    .extend_from_slice(context.backend.bytes(&buffer));
                context.backend.release(buffer);
            }
            Some(Received::End) => flow.ended(),
            Some(Received::Failed) => self.messages.failed = true,
            None => {}
        }
        let too_many = self.queued.len() > MOST_QUEUED || self.messages.in_a_row < EXPECTED;
        if self.receiving == Receiving::Repeatedly
            && (too_many || is_over)
            && !self.messages.is_cancelled
        {
            self.messages.is_cancelled = true;
            let operation = Operation::Receive(direction);
            context.backend.cancel(operation, context.key);
        }
    }
}
