//! A direction through a pipe: the ring polls the sockets, and this thread splices.
//!
//! ```text
//!   poll ----> splice, to a pipe ----> splice, to the sink ----> all sent: the next chunk
//!     ^             | no more data          ^ | no room
//!     +-------------+                       +-+ poll
//! ```
//!
//! The ring's own splice always runs on a worker thread: see the figures in [`crate::proxy::backend::uring`].

use std::io::ErrorKind;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::opcode;
use io_uring::types::Fd;

use super::{Pump, Receiving, Sending};
use crate::proxy::backend::uring::operation::Operation;
use crate::proxy::backend::uring::resources::Context;
use crate::proxy::pipes::PipeFill;
use crate::proxy::relay::{Direction, Readable};

impl Pump {
    /// Whether system calls on the sockets do not wait from now on.
    pub(in crate::proxy::backend::uring) fn set_nonblocking(&mut self, nonblocking: bool) {
        self.nonblocking = nonblocking;
    }

    pub(in crate::proxy::backend::uring) fn is_nonblocking(&self) -> bool {
        self.nonblocking
    }

    /// Fills a pipe from the source.
    pub(super) fn fill(
        &mut self,
        direction: Direction,
        source: &TcpStream,
        most: usize,
        context: &mut Context<'_>,
    ) {
        match context.backend.pipes.fill(source.as_fd(), most) {
            Ok(PipeFill::Bytes(pipe, bytes)) => {
                (self.pipe, self.is_likely) = (Some(pipe), false);
                context.relay.flow(direction).filled(bytes);
                // Or the pipe was short of slots. A poll finds out, and costs no call of its own.
                if bytes < most {
                    context.relay.flow(direction).source_empty();
                }
            }
            Ok(PipeFill::End) => context.relay.flow(direction).ended(),
            Ok(PipeFill::NoPipe) => context.relay.flow(direction).no_pipe(),
            Err(error) => match error.kind() {
                // A poll has just reported the opposite.
                ErrorKind::WouldBlock if mem::take(&mut self.is_likely) => {
                    context.relay.flow(direction).readable(Readable::Doubtful);
                }
                ErrorKind::WouldBlock => context.relay.flow(direction).source_empty(),
                ErrorKind::Interrupted => {}
                _ => context.relay.source_failed(direction),
            },
        }
    }

    /// Drains the pipe to the sink.
    pub(super) fn drain(
        &mut self,
        direction: Direction,
        sink: &TcpStream,
        most: usize,
        context: &mut Context<'_>,
    ) {
        let drained = match &self.pipe {
            Some(pipe) => pipe.drain(sink.as_fd(), most),
            None => Err(ErrorKind::BrokenPipe.into()),
        };
        if context.relay.flow(direction).on_drained(drained).is_some()
            && context.relay.flow(direction).buffered() == 0
        {
            self.release(0, context.backend);
        }
    }

    /// Starts a poll that completes when the socket is ready for `operation`, or has ended or failed.
    pub(super) fn poll(
        &mut self,
        operation: Operation,
        socket: &TcpStream,
        context: &mut Context<'_>,
    ) {
        let events = match operation {
            Operation::Send(_) => {
                self.sending = Sending::Polling;
                libc::POLLOUT
            }
            _ => {
                self.receiving = Receiving::Polling;
                libc::POLLIN
            }
        };
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), events as u32)
            .build()
            .user_data(operation.user_data(context.key));
        // SAFETY: it points to nothing.
        unsafe { context.backend.submit(&poll) };
    }
}
