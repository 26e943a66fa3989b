//! Moves the bytes of one direction between its two sockets: the steps of a [`crate::proxy::relay::Relay`], through a buffer
//! that the kernel picks.
//!
//! ```text
//!   receive ----> a provided buffer ----> send ----> all sent: the buffer is released
//!      ^                                    | the sink has no room, and few buffers are left
//!      |                                    v
//!      +---- all sent <---- send <---- memory of the direction
//! ```
//!
//! A chunk is sent from the buffer into which it was received, and the next receive starts when all of it is sent. A receive
//! that waits occupies no buffer. A source of single messages has a receive that stays in flight: see [`messages`]. Splicing
//! is in [`splice`].

mod messages;
mod splice;

use std::mem;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::ptr;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use self::messages::Messages;
use super::operation::Operation;
use super::provided_buffers::{Filled, Size};
use super::resources::{Context, Uring};
use super::ring::Completion;
use crate::proxy::backend::{Backend, Received};
use crate::proxy::chunk::{SLICE_QUANTUM, chunk_size};
use crate::proxy::relay::{Direction, Step, Via};
use crate::sys::pipe::Pipe;

/// Waits for the socket to be readable before the first attempt (`IORING_RECVSEND_POLL_FIRST`, io_uring_enter(2)).
const POLL_FIRST: u16 = 1;

/// The bytes of one direction and its operations in flight.
pub(super) struct Pump {
    unsent: Unsent,
    /// Bytes to send after `unsent`, which stays as it is while a send is in flight.
    queued: Vec<u8>,
    /// Contains bytes.
    pipe: Option<Pipe>,
    receiving: Receiving,
    sending: Sending,
    /// System calls on the sockets do not wait, as splice(2) on this thread requires.
    nonblocking: bool,
    /// The last chunk was spliced, or the next one is.
    is_splicing: bool,
    /// The source probably has data.
    is_likely: bool,
    /// Waits for a buffer, or for its turn among bulk transfers.
    is_deferred: bool,
    /// The buffer of the next receive, or of the one in flight.
    size: Size,
    messages: Messages,
}

/// The operation in flight on the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    No,
    /// A poll.
    Polling,
    /// One receive.
    Once,
    /// A multishot receive.
    Repeatedly,
}

/// The operation in flight on the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    No,
    /// A poll.
    Polling,
    /// A send.
    Once,
}

#[derive(Default)]
enum Unsent {
    #[default]
    Nothing,
    /// A provided buffer, with so many bytes already sent.
    Provided { buffer: Filled, sent: usize },
    /// Memory of the direction, with so many bytes already sent.
    Owned { bytes: Vec<u8>, sent: usize },
}

impl Pump {
    /// If `is_likely`, the source probably has data.
    pub(super) fn new(is_likely: bool) -> Self {
        Self {
            unsent: Unsent::Nothing,
            queued: Vec::new(),
            pipe: None,
            receiving: Receiving::No,
            sending: Sending::No,
            nonblocking: false,
            is_splicing: false,
            is_likely,
            is_deferred: false,
            size: Size::Small,
            messages: Messages::default(),
        }
    }

    /// Queues bytes that are sent first, as counted by [`crate::proxy::relay::Flow::queue`].
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.queued.extend_from_slice(bytes);
    }

    /// A receive is in flight, or a poll of the source.
    pub(super) fn is_receiving(&self) -> bool {
        self.receiving != Receiving::No
    }

    /// A send is in flight, or a poll of the sink.
    pub(super) fn is_sending(&self) -> bool {
        self.sending != Sending::No
    }

    /// Starts the next step of `direction`, unless it waits for an operation in flight, as far as both sockets exist.
    pub(super) fn run(
        &mut self,
        direction: Direction,
        (source, sink): (Option<&TcpStream>, Option<&TcpStream>),
        context: &mut Context<'_>,
    ) {
        let mut chunks = SLICE_QUANTUM;
        while !(self.is_awaiting_source() || self.is_sending() || self.is_deferred) {
            match (context.relay.step(direction), source, sink) {
                (Step::Fill { .. }, ..) if self.receiving == Receiving::Repeatedly => return,
                (Step::Fill { .. }, ..) if self.messages.has_failed() => {
                    context.relay.source_failed(direction);
                }
                (Step::Fill { via: Via::Copy, .. }, Some(source), _) if self.expects_messages() => {
                    self.receive_messages(direction, source, context);
                }
                // The poll completes at once, but after events of other connections. The one before the first chunk finds out
                // whether the source has data, which a copy does not.
                (Step::Fill { via: Via::Pipe, .. }, Some(source), _)
                    if chunks == 0 || !self.is_splicing =>
                {
                    self.is_splicing = true;
                    self.poll(Operation::Receive(direction), source, context);
                }
                (Step::Fill { via, most }, Some(source), _) => {
                    let flow = context.relay.flow(direction);
                    let is_bulk = match via {
                        Via::Copy => flow.is_full() && self.is_likely,
                        Via::Pipe => flow.is_bulk(),
                    };
                    if is_bulk && !context.backend.scheduler.admits((context.key, direction)) {
                        self.is_deferred = true;
                        return;
                    }
                    let most = chunk_size(context.relay, direction, sink, most);
                    match via {
                        Via::Copy => {
                            self.is_splicing = false;
                            self.receive(direction, source, most, context);
                        }
                        Via::Pipe => {
                            chunks -= 1;
                            self.fill(direction, source, most, context);
                        }
                    }
                }
                (Step::Drain { via, most, .. }, _, Some(sink)) => match via {
                    Via::Copy => self.send(direction, sink, context),
                    Via::Pipe => self.drain(direction, sink, most, context),
                },
                (Step::Shut, _, Some(sink)) => {
                    // This fails only if the peer is gone, which the other direction finds out.
                    let _ = sink.shutdown(Shutdown::Write);
                    context.relay.flow(direction).shut();
                }
                (Step::AwaitSource, Some(source), _) if self.nonblocking => {
                    self.poll(Operation::Receive(direction), source, context);
                }
                (Step::AwaitSink, _, Some(sink)) if self.nonblocking => {
                    self.poll(Operation::Send(direction), sink, context);
                }
                _ => return,
            }
        }
    }

    fn is_awaiting_source(&self) -> bool {
        matches!(self.receiving, Receiving::Once | Receiving::Polling)
    }

    /// Starts to receive up to `most` bytes, unless a receive is in flight.
    pub(super) fn receive(
        &mut self,
        direction: Direction,
        source: &TcpStream,
        most: usize,
        context: &mut Context<'_>,
    ) {
        if self.is_receiving() || self.is_deferred {
            return;
        }
        let receive = opcode::Recv::new(Fd(source.as_raw_fd()), ptr::null_mut(), most as u32)
            .buf_group(self.size.group())
            .ioprio(if self.is_likely { 0 } else { POLL_FIRST })
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(Operation::Receive(direction).user_data(context.key));
        self.receiving = Receiving::Once;
        // SAFETY: it points to nothing; the kernel picks one of the buffers that are provided.
        unsafe { context.backend.submit(&receive) };
    }

    /// Starts to send what is unsent.
    fn send(&mut self, direction: Direction, sink: &TcpStream, context: &mut Context<'_>) {
        if let Unsent::Nothing = self.unsent {
            let bytes = mem::take(&mut self.queued);
            self.unsent = Unsent::Owned { bytes, sent: 0 };
        }
        // The send waits for room, unless other receives need the buffer.
        let (bytes, sent, flags) = match &self.unsent {
            Unsent::Provided { buffer, sent } => match context.backend.buffers().is_ample(buffer) {
                true => (context.backend.bytes(buffer), *sent, 0),
                false => (context.backend.bytes(buffer), *sent, libc::MSG_DONTWAIT),
            },
            Unsent::Owned { bytes, sent } => (bytes.as_slice(), *sent, 0),
            Unsent::Nothing => return,
        };
        let rest = bytes.get(sent..).unwrap_or_default();
        let send = opcode::Send::new(Fd(sink.as_raw_fd()), rest.as_ptr(), rest.len() as u32)
            .flags(flags | libc::MSG_NOSIGNAL)
            .build()
            .user_data(Operation::Send(direction).user_data(context.key));
        self.sending = Sending::Once;
        context.backend.scheduler.on_send((context.key, direction));
        // SAFETY: a provided buffer is not released before the send completes, and outlives the ring. Owned bytes stay
        // where they are until then: `queue` does not change them, and their connection is not removed before; at the end
        // the ring is closed first.
        unsafe { context.backend.submit(&send) };
    }

    /// Records the completion of a receive for the relay.
    pub(super) fn on_relay_received(
        &mut self,
        completion: Completion,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        if self.receiving == Receiving::Polling {
            (self.receiving, self.is_likely) = (Receiving::No, true);
            return context.relay.flow(direction).polled();
        }
        let received = self.on_received(completion, context);
        if self.receiving == Receiving::Repeatedly || context.relay.flow(direction).buffered() > 0 {
            return self.on_message(received, direction, context);
        }
        match received {
            Some(Received::Bytes(buffer)) => {
                context.relay.flow(direction).filled(buffer.length());
                self.unsent = Unsent::Provided { buffer, sent: 0 };
            }
            Some(Received::End) => context.relay.flow(direction).ended(),
            Some(Received::Failed) => context.relay.source_failed(direction),
            None if self.nonblocking => context.relay.flow(direction).source_empty(),
            None => {}
        }
    }

    /// The outcome of a receive; `None` if it is to be started again.
    pub(super) fn on_received(
        &mut self,
        completion: Completion,
        context: &mut Context<'_>,
    ) -> Option<Received<Filled>> {
        let before = self.receiving;
        self.receiving = match completion.more() {
            true => Receiving::Repeatedly,
            false => Receiving::No,
        };
        // A poll of a server that is closed now.
        if before == Receiving::Polling {
            return None;
        }
        self.is_likely = completion.has_more_data();
        if let Some(buffer) = completion.buffer() {
            let length = usize::try_from(completion.result).unwrap_or(0);
            let buffer = context
                .backend
                .buffers_mut()
                .take(self.size, buffer, length);
            if length > 0 {
                self.messages.on_received(&buffer);
                // All buffers of a multishot receive are of one size.
                if !completion.more() {
                    self.size = self.next_size(&buffer);
                }
                return Some(Received::Bytes(buffer));
            }
            context.backend.release(buffer);
        }
        match completion.errno() {
            None => Some(Received::End),
            Some(libc::ENOBUFS) => {
                context.backend.on_no_buffer(context.key, self.size);
                (self.is_likely, self.is_deferred) = (true, true);
                None
            }
            // It was cancelled, or is to be tried again.
            Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => None,
            Some(_) => Some(Received::Failed),
        }
    }

    /// More than a small buffer takes large ones from then on, until a small one would do.
    fn next_size(&self, filled: &Filled) -> Size {
        match self.size {
            Size::Small if filled.is_full() && self.is_likely => Size::Large,
            Size::Large if filled.length() <= Size::Small.bytes() => Size::Small,
            size => size,
        }
    }

    /// A buffer may be available, or it is this direction's turn.
    pub(super) fn resume(&mut self) {
        self.is_deferred = false;
    }

    /// Records the completion of a send.
    pub(super) fn on_sent(
        &mut self,
        completion: Completion,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        if mem::replace(&mut self.sending, Sending::No) == Sending::Polling {
            return context.relay.flow(direction).writable();
        }
        let bytes_sent = match completion.errno() {
            None if completion.result > 0 => completion.result as usize,
            Some(libc::EAGAIN | libc::EINTR | libc::ECANCELED) => 0,
            _ => {
                context.relay.flow(direction).broken();
                return self.release(0, context.backend);
            }
        };
        context.relay.flow(direction).drained(bytes_sent);
        match &mut self.unsent {
            Unsent::Provided { buffer, sent } if *sent + bytes_sent < buffer.length() => {
                *sent += bytes_sent;
            }
            Unsent::Owned { bytes, sent } if *sent + bytes_sent < bytes.len() => {
                *sent += bytes_sent;
            }
            _ => self.release(0, context.backend),
        }
        // The send was not to wait, and there is no room.
        if completion.errno() == Some(libc::EAGAIN) {
            if self.nonblocking && matches!(self.unsent, Unsent::Owned { .. }) {
                context.relay.flow(direction).sink_full();
            }
            self.free_buffer(context.backend);
        }
    }

    /// Moves unsent bytes out of a buffer that other receives need.
    fn free_buffer(&mut self, backend: &mut Uring) {
        self.unsent = match mem::take(&mut self.unsent) {
            Unsent::Provided { buffer, sent } => {
                let mut bytes = backend.buffer_pool.take();
                let rest = backend.bytes(&buffer).get(sent..);
                bytes.extend_from_slice(rest.unwrap_or_default());
                backend.release(buffer);
                Unsent::Owned { bytes, sent: 0 }
            }
            unsent => unsent,
        };
    }

    /// Returns the memory and the pipe of this direction, which contains `unsent` bytes. No send of them may be in flight.
    pub(super) fn release(&mut self, unsent: usize, backend: &mut Uring) {
        if let Some(pipe) = self.pipe.take() {
            backend.pipes.release(pipe, unsent);
        }
        match mem::take(&mut self.unsent) {
            Unsent::Nothing => {}
            Unsent::Provided { buffer, .. } => backend.release(buffer),
            Unsent::Owned { bytes, .. } => backend.buffer_pool.release(bytes),
        }
    }
}
