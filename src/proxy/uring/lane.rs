//! The hands of a [`Relay`]: one direction's bytes between its two sockets, through a buffer that the kernel picks.
//!
//! ```text
//!   receive ----> a shared buffer ----> send ----> all of it: the buffer goes back
//!      ^                                  | the sink has no room, and the buffers are getting few
//!      |                                  v
//!      +---- all of it <---- send <---- memory of its own
//! ```
//!
//! A lot is sent from the buffer that it came in, and the next one is asked for when all of it is sent. While a receive waits,
//! it has no buffer. Splicing is in [`splice`].

mod splice;

use std::mem;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::ptr;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::means::{Act, Means};
use crate::proxy::lot::{SLICE, measured};
use crate::proxy::relay::{Direction, Readable, Relay, Step, Via};
use crate::proxy::slab::Key;
use crate::sys::pipe::Pipe;
use crate::uring::buffers::GROUP;
use crate::uring::ring::Completion;

/// Waits for the socket to be readable before the first attempt (`IORING_RECVSEND_POLL_FIRST`, io_uring_enter(2)).
const POLL_FIRST: u16 = 1;

/// What is in hand of one direction, and what of it is under way.
pub(super) struct Lane {
    hand: Hand,
    /// Comes behind what is in hand, which may be on its way and so stays as it is.
    later: Vec<u8>,
    /// With bytes in it.
    pipe: Option<Pipe>,
    receiving: bool,
    sending: bool,
    /// What is under way only waits until it could be done.
    polling: bool,
    /// What its sockets cannot do at once they do not wait for.
    nonblocking: bool,
    /// The source has something, as far as is known.
    likely: bool,
    /// There was no buffer to receive into, or it is another's turn.
    held_back: bool,
}

#[derive(Default)]
enum Hand {
    #[default]
    Nothing,
    /// So many bytes in a shared buffer, some of which are gone.
    Lent {
        buffer: u16,
        bytes: usize,
        gone: usize,
    },
    /// Bytes of its own, so many of which are gone.
    Own { bytes: Vec<u8>, gone: usize },
}

impl Lane {
    /// With nothing in hand. It is `likely` that the source has something already.
    pub(super) fn new(likely: bool) -> Self {
        Self {
            hand: Hand::Nothing,
            later: Vec::new(),
            pipe: None,
            receiving: false,
            sending: false,
            polling: false,
            nonblocking: false,
            likely,
            held_back: false,
        }
    }

    /// Keeps bytes that the sink is to get first of all, as [`crate::proxy::relay::Flow::hold`] counts them.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.later.extend_from_slice(bytes);
    }

    /// A receive is under way, or a poll before one.
    pub(super) fn is_receiving(&self) -> bool {
        self.receiving
    }

    /// A send is under way, or a poll before one.
    pub(super) fn is_sending(&self) -> bool {
        self.sending
    }

    /// Asks for what `relay` says of `direction`, unless something of it is under way, as far as both ends are there.
    pub(super) fn drive(
        &mut self,
        relay: &mut Relay,
        (key, direction): (Key, Direction),
        (source, sink): (Option<&TcpStream>, Option<&TcpStream>),
        means: &mut Means,
    ) {
        let mut lots = SLICE;
        while !(self.receiving || self.sending || self.held_back) {
            match (relay.step(direction), source, sink) {
                // It comes back at once, but behind others.
                (Step::Fill { via: Via::Pipe, .. }, Some(source), _) if lots == 0 => {
                    self.await_source((key, direction), source, means);
                }
                (Step::Fill { via, most }, Some(source), _) => {
                    let is_bulk = relay.flow(direction).is_full() && self.likely;
                    if via == Via::Copy && is_bulk && !means.turns.admits((key, direction)) {
                        self.held_back = true;
                        return;
                    }
                    let most = measured(relay, direction, sink, most);
                    match via {
                        Via::Copy => self.receive((key, direction), source, most, means),
                        Via::Pipe => {
                            lots -= 1;
                            self.fill(relay, direction, source, most, means);
                        }
                    }
                }
                (Step::Drain { via, most, .. }, _, Some(sink)) => match via {
                    Via::Copy => self.send((key, direction), sink, means),
                    Via::Pipe => self.drain(relay, direction, sink, most, means),
                },
                (Step::Shut, _, Some(sink)) => {
                    // It fails only where the peer is gone, which the other direction meets by itself.
                    let _ = sink.shutdown(Shutdown::Write);
                    relay.flow(direction).shut();
                }
                (Step::AwaitSource, Some(source), _) if self.nonblocking => {
                    self.await_source((key, direction), source, means);
                }
                (Step::AwaitSink, _, Some(sink)) if self.nonblocking => {
                    self.await_sink((key, direction), sink, means);
                }
                _ => return,
            }
        }
    }

    /// Asks for up to `most` bytes of `source`, unless that is under way.
    pub(super) fn receive(
        &mut self,
        (key, direction): (Key, Direction),
        source: &TcpStream,
        most: usize,
        means: &mut Means,
    ) {
        if self.receiving || self.held_back {
            return;
        }
        let receive = opcode::Recv::new(Fd(source.as_raw_fd()), ptr::null_mut(), most as u32)
            .buf_group(GROUP)
            .ioprio(if self.likely { 0 } else { POLL_FIRST })
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(Act::Receive(direction).of(key));
        self.receiving = true;
        // SAFETY: it points to nothing; the kernel picks one of the buffers that are on offer.
        unsafe { means.ask(&receive) };
    }

    /// Asks for what is in hand to be sent.
    fn send(&mut self, (key, direction): (Key, Direction), sink: &TcpStream, means: &mut Means) {
        if let Hand::Nothing = self.hand {
            let bytes = mem::take(&mut self.later);
            self.hand = Hand::Own { bytes, gone: 0 };
        }
        let pool = &means.uring.memory;
        // It waits for room, unless others need the buffer before there is any.
        let (bytes, gone, flags) = match &self.hand {
            Hand::Lent {
                buffer,
                bytes,
                gone,
            } => match pool.is_ample() {
                true => (pool.filled(*buffer, *bytes), *gone, 0),
                false => (pool.filled(*buffer, *bytes), *gone, libc::MSG_DONTWAIT),
            },
            Hand::Own { bytes, gone } => (bytes.as_slice(), *gone, 0),
            Hand::Nothing => return,
        };
        let rest = bytes.get(gone..).unwrap_or_default();
        let send = opcode::Send::new(Fd(sink.as_raw_fd()), rest.as_ptr(), rest.len() as u32)
            .flags(flags | libc::MSG_NOSIGNAL)
            .build()
            .user_data(Act::Send(direction).of(key));
        self.sending = true;
        means.turns.sends((key, direction));
        // SAFETY: a shared buffer is not put down before the send's completion, and outlives the ring. Bytes of its own stay
        // where they are until then: `hold` leaves them alone, and their connection is not let go before; at the end
        // the ring is closed first.
        unsafe { means.ask(&send) };
    }

    /// Takes what a receive came to.
    pub(super) fn received(
        &mut self,
        completion: Completion,
        relay: &mut Relay,
        (key, direction): (Key, Direction),
        means: &mut Means,
    ) {
        if mem::take(&mut self.polling) {
            (self.receiving, self.likely) = (false, true);
            return relay.flow(direction).readable(Readable::Open);
        }
        match self.heard(completion, key, means) {
            Heard::Bytes(buffer, bytes) => {
                relay.flow(direction).filled(bytes);
                self.hand = Hand::Lent {
                    buffer,
                    bytes,
                    gone: 0,
                };
            }
            Heard::End => relay.flow(direction).ended(),
            Heard::Nothing if self.nonblocking => relay.flow(direction).source_empty(),
            Heard::Nothing => {}
            Heard::Failed => relay.source_failed(direction),
        }
    }

    /// The same for somebody else than the relay, who gives the buffer back.
    pub(super) fn heard(&mut self, completion: Completion, key: Key, means: &mut Means) -> Heard {
        self.receiving = false;
        if mem::take(&mut self.polling) {
            return Heard::Nothing;
        }
        self.likely = completion.has_more_data();
        if let Some(buffer) = completion.buffer() {
            means.uring.memory.taken();
            if completion.result > 0 {
                return Heard::Bytes(buffer, completion.result as usize);
            }
            means.uring.memory.put_down(buffer);
        }
        match completion.errno() {
            None => Heard::End,
            Some(libc::ENOBUFS) => {
                means.uring.ring.count_rearm();
                means.uring.memory.ran_dry();
                means.dry.push(key);
                (self.likely, self.held_back) = (true, true);
                Heard::Nothing
            }
            // It was given up, or is to be tried again.
            Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => Heard::Nothing,
            Some(_) => Heard::Failed,
        }
    }

    /// There are buffers again.
    pub(super) fn refill(&mut self) {
        self.held_back = false;
    }

    /// Takes what a send came to.
    pub(super) fn sent(
        &mut self,
        completion: Completion,
        relay: &mut Relay,
        direction: Direction,
        means: &mut Means,
    ) {
        self.sending = false;
        if mem::take(&mut self.polling) {
            return relay.flow(direction).writable();
        }
        let sent = match completion.errno() {
            None if completion.result > 0 => completion.result as usize,
            Some(libc::EAGAIN | libc::EINTR | libc::ECANCELED) => 0,
            _ => {
                relay.flow(direction).broken();
                return self.put_down(means, 0);
            }
        };
        relay.flow(direction).drained(sent);
        match &mut self.hand {
            Hand::Lent { bytes, gone, .. } if *gone + sent < *bytes => *gone += sent,
            Hand::Own { bytes, gone } if *gone + sent < bytes.len() => *gone += sent,
            _ => self.put_down(means, 0),
        }
        // It was not to wait, and there is no room.
        if completion.errno() == Some(libc::EAGAIN) {
            self.move_out(means);
            if self.nonblocking {
                relay.flow(direction).sink_full();
            }
        }
    }

    /// Takes what is in hand out of a buffer that others need.
    fn move_out(&mut self, means: &mut Means) {
        if let Hand::Lent {
            buffer,
            bytes,
            gone,
        } = self.hand
        {
            let mut rest = means.spares.take();
            let lot = means.uring.memory.filled(buffer, bytes);
            rest.extend_from_slice(lot.get(gone..).unwrap_or_default());
            means.uring.memory.put_down(buffer);
            self.hand = Hand::Own {
                bytes: rest,
                gone: 0,
            };
        }
    }

    /// Gives back what held the bytes of this direction, `held` of which are in its pipe still. No send of them may be under
    /// way.
    pub(super) fn put_down(&mut self, means: &mut Means, held: usize) {
        if let Some(pipe) = self.pipe.take() {
            means.pipes.give(pipe, held);
        }
        match mem::take(&mut self.hand) {
            Hand::Nothing => {}
            Hand::Lent { buffer, .. } => means.uring.memory.put_down(buffer),
            Hand::Own { bytes, .. } => means.spares.give(bytes),
        }
    }
}

/// What a receive came to.
pub(super) enum Heard {
    /// So many bytes in this buffer.
    Bytes(u16, usize),
    /// The source has ended.
    End,
    /// It is to be asked for again.
    Nothing,
    /// The source is gone.
    Failed,
}
