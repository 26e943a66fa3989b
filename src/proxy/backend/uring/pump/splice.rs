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

use super::Pump;
use crate::proxy::backend::uring::driver::Uring;
use crate::proxy::backend::uring::operation::Operation;
use crate::proxy::pipes::PipeFill;
use crate::proxy::relay::{Direction, Readable, Relay};
use crate::proxy::slab::Key;

impl Pump {
    /// Whether operations are preceded by a poll from now on.
    pub(in crate::proxy::backend::uring) fn set_nonblocking(&mut self, nonblocking: bool) {
        self.nonblocking = nonblocking;
    }

    pub(in crate::proxy::backend::uring) fn is_nonblocking(&self) -> bool {
        self.nonblocking
    }

    /// Fills a pipe from the source.
    pub(super) fn fill(
        &mut self,
        relay: &mut Relay,
        direction: Direction,
        source: &TcpStream,
        most: usize,
        backend: &mut Uring,
    ) {
        match backend.pipes.fill(source.as_fd(), most) {
            Ok(PipeFill::Bytes(pipe, bytes)) => {
                (self.pipe, self.is_likely) = (Some(pipe), false);
                relay.flow(direction).filled(bytes);
                // Or the pipe was short of slots. A poll finds out, and costs no call of its own.
                if bytes < most {
                    relay.flow(direction).source_empty();
                }
            }
            Ok(PipeFill::End) => relay.flow(direction).ended(),
            Ok(PipeFill::NoPipe) => relay.flow(direction).no_pipe(),
            Err(error) => match error.kind() {
                // A poll has just reported the opposite.
                ErrorKind::WouldBlock if mem::take(&mut self.is_likely) => {
                    relay.flow(direction).readable(Readable::Doubtful);
                }
                ErrorKind::WouldBlock => relay.flow(direction).source_empty(),
                ErrorKind::Interrupted => {}
                _ => relay.source_failed(direction),
            },
        }
    }

    /// Drains the pipe to the sink.
    pub(super) fn drain(
        &mut self,
        relay: &mut Relay,
        direction: Direction,
        sink: &TcpStream,
        most: usize,
        backend: &mut Uring,
    ) {
        let drained = match &self.pipe {
            Some(pipe) => pipe.drain(sink.as_fd(), most),
            None => Err(ErrorKind::BrokenPipe.into()),
        };
        if relay.flow(direction).on_drained(drained).is_some()
            && relay.flow(direction).buffered() == 0
        {
            self.release(0, backend);
        }
    }

    /// Starts a poll that completes when the source has data, has ended or failed.
    pub(super) fn await_source(
        &mut self,
        (key, direction): (Key, Direction),
        source: &TcpStream,
        backend: &mut Uring,
    ) {
        self.is_receiving = true;
        let operation = Operation::Receive(direction);
        self.poll(operation, key, source, libc::POLLIN, backend);
    }

    /// Starts a poll that completes when the sink has room or is gone.
    pub(super) fn await_sink(
        &mut self,
        (key, direction): (Key, Direction),
        sink: &TcpStream,
        backend: &mut Uring,
    ) {
        self.is_sending = true;
        let operation = Operation::Send(direction);
        self.poll(operation, key, sink, libc::POLLOUT, backend);
    }

    fn poll(
        &mut self,
        operation: Operation,
        key: Key,
        socket: &TcpStream,
        events: i16,
        backend: &mut Uring,
    ) {
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), events as u32)
            .build()
            .user_data(operation.user_data(key));
        self.is_polling = true;
        // SAFETY: it points to nothing.
        unsafe { backend.submit(&poll) };
    }
}
