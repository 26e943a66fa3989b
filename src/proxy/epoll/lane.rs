//! The hands of a [`Relay`]: one direction's bytes between its two sockets, by copying or through a pipe.
//!
//! A connection that waits has memory of its own only for
//! bytes that its sink did not take.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;

use mio::net::TcpStream;

use super::means::Means;
use crate::proxy::lot::{SLICE, measured};
use crate::proxy::pipes::Lot;
use crate::proxy::relay::{Direction, Relay, Step, Via};
use crate::sys::pipe::Pipe;
use crate::sys::tcp;

/// What is in hand of one direction between turns.
#[derive(Debug, Default)]
pub(super) struct Lane {
    rest: Vec<u8>,
    /// Of `rest`, those that are gone.
    taken: usize,
    pipe: Option<Pipe>,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more can be done until a socket is ready.
    Waits,
    /// Others are to have their turn; there is more to do.
    More,
}

impl Lane {
    /// Keeps bytes that the sink is to get first of all, as [`super::relay::Flow::hold`] counts them.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// Does what `relay` says of `direction`, for a slice of lots at most, as far as both ends are there.
    pub(super) fn drive(
        &mut self,
        relay: &mut Relay,
        direction: Direction,
        (source, sink): (Option<&TcpStream>, Option<&TcpStream>),
        means: &mut Means,
    ) -> Turn {
        let mut lots = SLICE;
        // Bytes of the shared buffer that are gone; used only while it holds this direction's bytes.
        let mut gone = 0;
        let mut fresh = false;
        let turn = loop {
            match relay.step(direction) {
                Step::Fill { .. } if lots == 0 => break Turn::More,
                Step::Fill { via, most } => {
                    let Some(source) = source else {
                        break Turn::Waits;
                    };
                    lots -= 1;
                    let most = measured(relay, direction, sink, most);
                    match self.fill(via, most, source, means) {
                        Ok(Filled::Bytes(bytes)) => {
                            relay.flow(direction).filled(bytes);
                            (gone, fresh) = (0, via == Via::Copy);
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
                        break Turn::Waits;
                    };
                    let drained = match (via, fresh) {
                        (Via::Copy, true) => tcp::send(
                            sink,
                            means.buffer.get(gone..gone + most).unwrap_or_default(),
                            last,
                        ),
                        (Via::Copy, false) => {
                            tcp::send(sink, self.rest.get(self.taken..).unwrap_or_default(), last)
                        }
                        (Via::Pipe, _) => match &self.pipe {
                            Some(pipe) => pipe.drain(sink.as_fd(), most),
                            None => Err(ErrorKind::BrokenPipe.into()),
                        },
                    };
                    match drained {
                        Ok(bytes) if bytes > 0 => {
                            relay.flow(direction).drained(bytes);
                            if fresh {
                                gone += bytes
                            } else {
                                self.taken += bytes
                            }
                            if relay.flow(direction).held() == 0 {
                                self.put_down(means, 0);
                                fresh = false;
                            }
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            relay.flow(direction).sink_full();
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        _ => relay.flow(direction).broken(),
                    }
                }
                Step::Shut => {
                    let Some(sink) = sink else {
                        break Turn::Waits;
                    };
                    // It fails only where the peer is gone, which the other direction meets by itself.
                    let _ = sink.shutdown(Shutdown::Write);
                    relay.flow(direction).shut();
                }
                Step::AwaitSource | Step::AwaitSink | Step::Over => break Turn::Waits,
            }
        };
        let held = relay.flow(direction).held();
        if fresh && held > 0 {
            // The next connection needs the buffer.
            self.rest = means.spares.take();
            let left = means.buffer.get(gone..gone + held);
            self.rest.extend_from_slice(left.unwrap_or_default());
        }
        turn
    }

    fn fill(
        &mut self,
        via: Via,
        most: usize,
        mut source: &TcpStream,
        means: &mut Means,
    ) -> io::Result<Filled> {
        Ok(match via {
            Via::Copy => {
                let most = most.min(means.buffer.len());
                match source.read(means.buffer.get_mut(..most).unwrap_or_default())? {
                    0 => Filled::End,
                    bytes => Filled::Bytes(bytes),
                }
            }
            Via::Pipe => match means.pipes.fill(source.as_fd(), most)? {
                Lot::Bytes(pipe, bytes) => {
                    self.pipe = Some(pipe);
                    Filled::Bytes(bytes)
                }
                Lot::End => Filled::End,
                Lot::NoPipe => Filled::NoPipe,
            },
        })
    }

    /// Gives back what held the bytes of this direction, `held` of which are still there.
    pub(super) fn put_down(&mut self, means: &mut Means, held: usize) {
        if let Some(pipe) = self.pipe.take() {
            means.pipes.give(pipe, held);
        }
        means.spares.give(std::mem::take(&mut self.rest));
        self.taken = 0;
    }
}

enum Filled {
    Bytes(usize),
    End,
    NoPipe,
}
