//! The hands of a [`Relay`]: one direction's bytes between its two sockets, through a buffer that the kernel picks.
//!
//! ```text
//!   receive ----> a shared buffer ----> send, not waiting ----> all of it: the buffer goes back
//!      ^                                        | the sink took some
//!      |                                        v
//!      +-------- all of it <---- send <---- memory of its own
//! ```
//!
//! A lot is sent from the buffer that it came in, in a chain with the next receive: that begins when all of the lot is sent, and
//! is cancelled where it is not. So nothing is taken before the sink has the last lot, and yet both go with one call. While
//! a receive waits, it has no buffer.

use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::means::{Act, Means};
use crate::engine::uring::buffers::GROUP;
use crate::engine::uring::ring::Completion;
use crate::proxy::lane::measured;
use crate::proxy::relay::{Direction, Relay, Step};
use crate::proxy::slab::Key;

/// Waits for the socket to be readable before the first attempt (`IORING_RECVSEND_POLL_FIRST`, io_uring_enter(2)).
const POLL_FIRST: u16 = 1;

/// What is in hand of one direction, and what of it is under way.
pub(super) struct Lane {
    hand: Hand,
    /// Comes behind what is in hand, which may be on its way and so stays as it is.
    later: Vec<u8>,
    receiving: bool,
    sending: bool,
    /// The source has something, as far as is known.
    likely: bool,
    /// There was no buffer to receive into.
    dry: bool,
}

#[derive(Default)]
enum Hand {
    #[default]
    Nothing,
    /// So many bytes in a shared buffer.
    Lent { buffer: u16, bytes: usize },
    /// Bytes of its own, so many of which are gone.
    Own { bytes: Vec<u8>, gone: usize },
}

impl Lane {
    /// With nothing in hand. It is `likely` that the source has something already.
    pub(super) fn new(likely: bool) -> Self {
        Self {
            hand: Hand::Nothing,
            later: Vec::new(),
            receiving: false,
            sending: false,
            likely,
            dry: false,
        }
    }

    /// Keeps bytes that the sink is to get first of all, as [`crate::proxy::relay::Flow::hold`] counts them.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.later.extend_from_slice(bytes);
    }

    /// A receive is under way.
    pub(super) fn is_receiving(&self) -> bool {
        self.receiving
    }

    /// A send is under way.
    pub(super) fn is_sending(&self) -> bool {
        self.sending
    }

    /// Asks for what `relay` says of `direction`, unless something of it is under way.
    pub(super) fn drive(
        &mut self,
        relay: &mut Relay,
        (key, direction): (Key, Direction),
        (source, sink): (&TcpStream, &TcpStream),
        means: &mut Means,
    ) {
        while !(self.receiving || self.sending || self.dry) {
            match relay.step(direction) {
                Step::Fill { most, .. } => {
                    let most = measured(relay, direction, sink, most);
                    self.receive((key, direction), source, most, means);
                }
                Step::Drain { .. } => {
                    let next = relay.flow(direction).is_open().then(|| {
                        let lot = relay.flow(direction).lot();
                        (source, measured(relay, direction, sink, lot))
                    });
                    self.send(key, direction, sink, next, means);
                }
                Step::Shut => {
                    // It fails only where the peer is gone, which the other direction meets by itself.
                    let _ = sink.shutdown(Shutdown::Write);
                    relay.flow(direction).shut();
                }
                Step::AwaitSource | Step::AwaitSink | Step::Over => return,
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
        if self.receiving || self.dry {
            return;
        }
        let receive = receive(key, direction, source.as_raw_fd(), most, self.likely);
        self.receiving = true;
        // SAFETY: it points to nothing; the kernel picks one of the buffers that are provided.
        unsafe { means.ask(&[receive]) };
    }

    /// Asks for what is in hand to be sent, and for the `next` lot behind it where it is all sent at once.
    fn send(
        &mut self,
        key: Key,
        direction: Direction,
        sink: &TcpStream,
        next: Option<(&TcpStream, usize)>,
        means: &mut Means,
    ) {
        if let Hand::Nothing = self.hand {
            let bytes = std::mem::take(&mut self.later);
            self.hand = Hand::Own { bytes, gone: 0 };
        }
        self.sending = true;
        let sink = sink.as_raw_fd();
        match &self.hand {
            Hand::Lent { buffer, bytes } => {
                let lot = means.kept.memory.filled(*buffer, *bytes);
                // A short send breaks the chain only where it was to be whole (MSG_WAITALL), and it is not waited for room
                // (MSG_DONTWAIT).
                let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL;
                let send = send(key, direction, sink, lot, flags);
                means.expect_at_once();
                if let Some((source, most)) = next {
                    self.receiving = true;
                    let source = source.as_raw_fd();
                    let receive = receive(key, direction, source, most, self.likely);
                    let chain = [send.flags(squeue::Flags::IO_LINK), receive];
                    // SAFETY: the buffer is not given back before the send's completion, and outlives the ring.
                    unsafe { means.ask(&chain) };
                } else {
                    // SAFETY: as above.
                    unsafe { means.ask(&[send]) };
                }
            }
            Hand::Own { bytes, gone } => {
                let rest = bytes.get(*gone..).unwrap_or_default();
                let send = send(key, direction, sink, rest, 0);
                // SAFETY: the bytes stay where they are until the send's completion: `hold` leaves them alone, and their
                // connection is not let go before. At the end the ring is closed first.
                unsafe { means.ask(&[send]) };
            }
            Hand::Nothing => self.sending = false,
        }
    }

    /// Takes what a receive came to.
    pub(super) fn received(
        &mut self,
        completion: Completion,
        relay: &mut Relay,
        (key, direction): (Key, Direction),
        means: &mut Means,
    ) {
        match self.heard(completion, key, means) {
            Heard::Bytes(buffer, bytes) => {
                relay.flow(direction).filled(bytes);
                self.hand = Hand::Lent { buffer, bytes };
            }
            Heard::End => relay.flow(direction).ended(),
            Heard::Nothing => {}
            Heard::Failed => relay.source_failed(direction),
        }
    }

    /// The same for somebody else than the relay, who gives the buffer back.
    pub(super) fn heard(&mut self, completion: Completion, key: Key, means: &mut Means) -> Heard {
        self.receiving = false;
        self.likely = completion.leaves_some();
        match (completion.errno(), completion.buffer()) {
            (None, Some(buffer)) if completion.result > 0 => {
                return Heard::Bytes(buffer, completion.result as usize);
            }
            (_, Some(buffer)) => means.kept.memory.give_back(buffer),
            _ => {}
        }
        match completion.errno() {
            None => Heard::End,
            Some(libc::ENOBUFS) => {
                means.kept.ring.rearmed();
                means.dry.push(key);
                (self.likely, self.dry) = (true, true);
                Heard::Nothing
            }
            // The lot before it was not sent as a whole, or it was given up.
            Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => Heard::Nothing,
            Some(_) => Heard::Failed,
        }
    }

    /// There are buffers again.
    pub(super) fn refill(&mut self) {
        self.dry = false;
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
        let sent = match completion.errno() {
            None if completion.result > 0 => completion.result as usize,
            Some(libc::EAGAIN | libc::EINTR | libc::ECANCELED) => 0,
            _ => {
                relay.flow(direction).broken();
                return self.put_down(means);
            }
        };
        relay.flow(direction).drained(sent);
        match &mut self.hand {
            Hand::Lent { buffer, bytes } if sent < *bytes => {
                // Others need the buffer before the sink has room.
                let mut bytes_left = means.spare();
                let lot = means.kept.memory.filled(*buffer, *bytes);
                bytes_left.extend_from_slice(lot.get(sent..).unwrap_or_default());
                self.put_down(means);
                let (bytes, gone) = (bytes_left, 0);
                self.hand = Hand::Own { bytes, gone };
            }
            Hand::Own { bytes, gone } if *gone + sent < bytes.len() => *gone += sent,
            _ => self.put_down(means),
        }
    }

    /// Gives back what holds the bytes of this direction. No send of them may be under way.
    pub(super) fn put_down(&mut self, means: &mut Means) {
        match std::mem::take(&mut self.hand) {
            Hand::Nothing => {}
            Hand::Lent { buffer, .. } => means.kept.memory.give_back(buffer),
            Hand::Own { bytes, .. } => means.put_down(bytes),
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

fn receive(
    key: Key,
    direction: Direction,
    source: RawFd,
    most: usize,
    likely: bool,
) -> squeue::Entry {
    opcode::Recv::new(Fd(source), ptr::null_mut(), most as u32)
        .buf_group(GROUP)
        .ioprio(if likely { 0 } else { POLL_FIRST })
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
        .user_data(Act::Receive(direction).of(key))
}

fn send(key: Key, direction: Direction, sink: RawFd, bytes: &[u8], flags: i32) -> squeue::Entry {
    opcode::Send::new(Fd(sink), bytes.as_ptr(), bytes.len() as u32)
        .flags(flags | libc::MSG_NOSIGNAL)
        .build()
        .user_data(Act::Send(direction).of(key))
}
