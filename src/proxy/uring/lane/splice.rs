//! A direction through a pipe: the ring tells when a socket is ready, and this thread splices.
//!
//! ```text
//!   poll ----> splice, to a pipe ----> splice, to the sink ----> all of it: the next lot
//!     ^             | all there was         ^ | no room
//!     +-------------+                       +-+ poll
//! ```
//!
//! The ring has a splice of its own, which it always leaves to a worker thread: see the figures in [`crate::proxy::uring`].

use std::io::ErrorKind;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::opcode;
use io_uring::types::Fd;

use super::Lane;
use crate::proxy::pipes::Lot;
use crate::proxy::relay::{Direction, Readable, Relay};
use crate::proxy::slab::Key;
use crate::proxy::uring::means::{Act, Means};

impl Lane {
    /// What is asked for from now on is not waited for by the sockets, but by a poll.
    pub(in crate::proxy::uring) fn set_nonblocking(&mut self, nonblocking: bool) {
        self.nonblocking = nonblocking;
    }

    /// Takes a lot.
    pub(super) fn fill(
        &mut self,
        relay: &mut Relay,
        direction: Direction,
        source: &TcpStream,
        most: usize,
        means: &mut Means,
    ) {
        match means.pipes.fill(source.as_fd(), most) {
            Ok(Lot::Bytes(pipe, bytes)) => {
                (self.pipe, self.likely) = (Some(pipe), false);
                relay.flow(direction).filled(bytes);
                // Or the pipe was short of slots: a poll goes with the next call anyway and tells.
                if bytes < most {
                    relay.flow(direction).source_empty();
                }
            }
            Ok(Lot::End) => relay.flow(direction).ended(),
            Ok(Lot::NoPipe) => relay.flow(direction).no_pipe(),
            Err(error) => match error.kind() {
                // A poll has just said otherwise.
                ErrorKind::WouldBlock if mem::take(&mut self.likely) => {
                    relay.flow(direction).readable(Readable::Doubtful);
                }
                ErrorKind::WouldBlock => relay.flow(direction).source_empty(),
                ErrorKind::Interrupted => {}
                _ => relay.source_failed(direction),
            },
        }
    }

    /// Hands on what is in the pipe.
    pub(super) fn drain(
        &mut self,
        relay: &mut Relay,
        direction: Direction,
        sink: &TcpStream,
        most: usize,
        means: &mut Means,
    ) {
        let drained = match &self.pipe {
            Some(pipe) => pipe.drain(sink.as_fd(), most),
            None => Err(ErrorKind::BrokenPipe.into()),
        };
        match drained {
            Ok(bytes) if bytes > 0 => {
                relay.flow(direction).drained(bytes);
                if relay.flow(direction).held() == 0 {
                    self.put_down(means, 0);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                relay.flow(direction).sink_full();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => relay.flow(direction).broken(),
        }
    }

    /// Asks to be told when the source has something, has ended or failed.
    pub(super) fn await_source(
        &mut self,
        (key, direction): (Key, Direction),
        source: &TcpStream,
        means: &mut Means,
    ) {
        self.receiving = true;
        self.poll(Act::Receive(direction), key, source, libc::POLLIN, means);
    }

    /// Asks to be told when the sink has room, or is gone.
    pub(super) fn await_sink(
        &mut self,
        (key, direction): (Key, Direction),
        sink: &TcpStream,
        means: &mut Means,
    ) {
        self.sending = true;
        self.poll(Act::Send(direction), key, sink, libc::POLLOUT, means);
    }

    fn poll(&mut self, act: Act, key: Key, socket: &TcpStream, until: i16, means: &mut Means) {
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), until as u32)
            .build()
            .user_data(act.of(key));
        self.polling = true;
        // SAFETY: it points to nothing.
        unsafe { means.ask(&poll) };
    }
}
