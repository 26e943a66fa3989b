//! Moves the bytes of one direction between its two sockets: the steps of a [`crate::proxy::relay::Relay`], by copying or
//! through a pipe.
//!
//! A connection without a turn has memory of its own only for bytes that its sink did not accept.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;

use mio::net::TcpStream;

use super::resources::Epoll;
use crate::proxy::backend::IoContext;
use crate::proxy::chunk::{SLICE_QUANTUM, chunk_size};
use crate::proxy::pipes::PipeFill;
use crate::proxy::relay::{Direction, Step, Via};
use crate::sys::pipe::Pipe;
use crate::sys::tcp;

/// The bytes of one direction between turns.
#[derive(Debug, Default)]
pub(super) struct Pump {
    unsent: Vec<u8>,
    /// Bytes of `unsent` that were sent.
    sent: usize,
    pipe: Option<Pipe>,
}

impl Pump {
    /// Queues bytes that are sent first, as counted by [`crate::proxy::relay::Flow::queue`].
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Performs the steps of `direction`, for a slice of chunks at most, as far as both sockets exist. Whether it could
    /// continue at once.
    pub(super) fn run(
        &mut self,
        direction: Direction,
        (source, sink): (Option<&TcpStream>, Option<&TcpStream>),
        context: &mut IoContext<'_, Epoll>,
    ) -> bool {
        let IoContext { relay, backend, .. } = context;
        let mut chunks = SLICE_QUANTUM;
        // Bytes of the shared buffer that are sent; used only while it holds this direction's bytes.
        let mut sent = 0;
        let mut fresh = false;
        let can_continue = loop {
            match relay.step(direction) {
                Step::Fill { .. } if chunks == 0 => break true,
                Step::Fill { via, most } => {
                    let Some(source) = source else {
                        break false;
                    };
                    chunks -= 1;
                    let most = chunk_size(relay, direction, sink, most);
                    match self.fill(via, most, source, backend) {
                        Ok(Filled::Bytes(bytes)) => {
                            relay.flow(direction).filled(bytes);
                            (sent, fresh) = (0, via == Via::Copy);
                        }
                        Ok(Filled::End) => relay.flow(direction).ended(),
                        Ok(Filled::NoPipe) => relay.flow(direction).no_pipe(),
                        Err(error) => match error.kind() {
                            ErrorKind::WouldBlock => relay.flow(direction).source_empty(),
                            ErrorKind::Interrupted => {}
                            _ => relay.source_failed(direction),
                        },
                    }
                }
                Step::Drain { via, most, last } => {
                    let Some(sink) = sink else {
                        break false;
                    };
                    let drained = match (via, fresh) {
                        (Via::Copy, true) => tcp::send(
                            sink,
                            backend.buffer.get(sent..sent + most).unwrap_or_default(),
                            last,
                        ),
                        (Via::Copy, false) => {
                            tcp::send(sink, self.unsent.get(self.sent..).unwrap_or_default(), last)
                        }
                        (Via::Pipe, _) => match &self.pipe {
                            Some(pipe) => pipe.drain(sink.as_fd(), most),
                            None => Err(ErrorKind::BrokenPipe.into()),
                        },
                    };
                    if let Some(bytes) = relay.flow(direction).on_drained(drained) {
                        match fresh {
                            true => sent += bytes,
                            false => self.sent += bytes,
                        }
                        if relay.flow(direction).buffered() == 0 {
                            self.release(0, backend);
                            fresh = false;
                        }
                    }
                }
                Step::Shut => {
                    let Some(sink) = sink else {
                        break false;
                    };
                    // This fails only if the peer is gone, which the other direction finds out.
                    let _ = sink.shutdown(Shutdown::Write);
                    relay.flow(direction).shut();
                }
                Step::AwaitSource | Step::AwaitSink | Step::Over => break false,
            }
        };
        let buffered = relay.flow(direction).buffered();
        if fresh && buffered > 0 {
            // The next connection uses the shared buffer.
            self.unsent = backend.buffers.take();
            let left = backend.buffer.get(sent..sent + buffered);
            self.unsent.extend_from_slice(left.unwrap_or_default());
        }
        can_continue
    }

    fn fill(
        &mut self,
        via: Via,
        most: usize,
        mut source: &TcpStream,
        backend: &mut Epoll,
    ) -> io::Result<Filled> {
        Ok(match via {
            Via::Copy => {
                let most = most.min(backend.buffer.len());
                match source.read(backend.buffer.get_mut(..most).unwrap_or_default())? {
                    0 => Filled::End,
                    bytes => Filled::Bytes(bytes),
                }
            }
            Via::Pipe => match backend.pipes.fill(source.as_fd(), most)? {
                PipeFill::Bytes(pipe, bytes) => {
                    self.pipe = Some(pipe);
                    Filled::Bytes(bytes)
                }
                PipeFill::End => Filled::End,
                PipeFill::NoPipe => Filled::NoPipe,
            },
        })
    }

    /// Returns the memory and the pipe of this direction, which contains `unsent` bytes.
    pub(super) fn release(&mut self, unsent: usize, backend: &mut Epoll) {
        if let Some(pipe) = self.pipe.take() {
            backend.pipes.release(pipe, unsent);
        }
        backend.buffers.release(std::mem::take(&mut self.unsent));
        self.sent = 0;
    }
}

enum Filled {
    Bytes(usize),
    End,
    NoPipe,
}
