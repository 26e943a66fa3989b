//! Datagrams over io_uring(7): a multishot receive on each socket, and all runs of a batch sent by one call.
//!
//! Each message is received into a buffer that the kernel picks, and sent from that buffer. A send never waits
//! (`MSG_DONTWAIT`), so it completes within the call that submits it. Several runs of one flow in a batch are a chain
//! (`IOSQE_IO_LINK`), and so are those of an association to its client or to one destination: if one fails, those behind it
//! are cancelled, and all are sent again in order by sendmmsg(2), which handles the error as `epoll` does.
//!
//! The call that sends a batch also receives the next one, if there is one. A socket is closed once its receive has ended.
//!
//! Each buffer has room for the longest message. In smaller buffers, and at the end of a buffer that takes many messages
//! (`IOU_PBUF_RING_INC`), a message that does not fit is truncated, and its end is lost. Few buffers are provided while
//! messages are long runs, and many otherwise; a receive that finds none starts again when the batch is sent.
//!
//! CPU time of a datagram in us (1,000 B in runs of 60, one thread, loopback, 2 cores that other programs kept busy, Linux
//! 6.18, release build without LTO, medians of 4 interleaved rounds of 1 s):
//!
//! | | 400,000/s, 1 client | 900,000/s, 1 client | 400,000/s, 20 clients |
//! |---|---|---|---|
//! | `epoll` | 0.31 | 0.24 | 0.35 |
//! | chains, at most 8 buffers for long runs | 0.31 | 0.23 | 0.34 |
//! | sendmmsg(2) for flows with several runs | 0.30 | 0.24 | 0.32 |
//! | at most 16 buffers for long runs | 0.32 | 0.22 | 0.34 |
//! | at most 32 buffers for long runs | 0.32 | 0.22 | 0.33 |

#![allow(
    unsafe_code,
    reason = "requests carry pointers to memory that the ring owns"
)]

mod messages;
mod send;

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;

use self::messages::{Filled, Messages};
use self::send::{Queue, Results};
use super::{BATCHES, Backend, Group, Left, Received, discard};
use crate::engine::UringSettings;
use crate::proxy::datagrams::sends::Sends;
use crate::proxy::datagrams::sockets::{Socket, SocketId, Sockets};
use crate::proxy::datagrams::transmit::Transmitter;
use crate::sys::clock::monotonic_ns;
use crate::sys::datagrams::Arrivals;
use crate::sys::eventfd::EventFd;
use crate::uring::recvmsg::Shape;
use crate::uring::ring::{Completion, Leak, Ring, RingWithMemory};

/// Operations that one call submits.
const SUBMISSIONS: u32 = 1_024;

/// Completions for which the kernel has room: more only cost time.
const COMPLETIONS: u32 = 16_384;

/// Most runs of a batch that the ring sends.
const MOST_SENDS: usize = SUBMISSIONS as usize / 2;

/// Messages from which on none waits for more.
const COLLECTED: usize = 32;

/// The longest wait in ns for the end of a receive that is cancelled.
const CLOSE: u64 = 100_000_000;

/// The operation of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Receive(SocketId),
    /// The run at this place.
    Send(usize),
}

impl Operation {
    /// Of a send: a number of no socket, and the place.
    const SEND: u64 = 3 << SocketId::KEY_BITS;

    fn user_data(self) -> u64 {
        match self {
            Self::Receive(id) => id.number(),
            Self::Send(place) => Self::SEND | place as u64,
        }
    }

    fn from_user_data(user_data: u64) -> Self {
        match SocketId::from_number(user_data) {
            Some(id) => Self::Receive(id),
            None => Self::Send((user_data ^ Self::SEND) as usize),
        }
    }
}

/// The backend of a thread.
pub(in crate::proxy) struct Uring {
    ring: RingWithMemory<Memory>,
    /// Batches that are left in this pass.
    left: usize,
    /// Received since the last batch: the buffer of a message, or an errno.
    arrived: Vec<(SocketId, Result<Filled, i32>)>,
    /// Sockets whose receive has ended.
    ended: Vec<SocketId>,
    /// Likewise, without a message, as no buffer was free.
    without_buffer: Vec<SocketId>,
    results: Results,
    transmitter: Transmitter,
    /// Messages of sockets that are closed.
    discarded: Arrivals,
    /// The error of an operation that could not be submitted. It ends the loop.
    failure: Option<io::Error>,
}

/// Memory that requests point to.
struct Memory {
    messages: Messages,
    shape: Shape,
    /// Of each direction.
    queues: [Queue; 2],
}

impl Uring {
    /// # Errors
    /// As io_uring_enter(2).
    fn receive_from(&mut self, id: SocketId, socket: &Socket) -> io::Result<()> {
        let RingWithMemory { ring, memory } = &mut self.ring;
        let socket = Fd(socket.as_raw_fd());
        let group = Group::of(id).number();
        let request = opcode::RecvMsgMulti::new(socket, memory.shape.header(), group)
            .build()
            .user_data(Operation::Receive(id).user_data());
        // SAFETY: the header is never written again, and the header and the buffers outlive the ring.
        unsafe { ring.push(&request) }
    }

    /// Starts the receives again that have ended, in most cases as no buffer was free.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn resume(&mut self, sockets: &impl Sockets) -> io::Result<()> {
        // Those that found no buffer first, and the others in order, so that clients that send much do not delay others.
        let [mut first, mut others] = [&mut self.without_buffer, &mut self.ended].map(mem::take);
        for id in first.drain(..).chain(others.drain(..)) {
            if let Some(socket) = sockets.get(id) {
                self.receive_from(id, socket)?;
            }
        }
        (self.without_buffer, self.ended) = (first, others);
        Ok(())
    }

    /// Takes all completions.
    fn reap(&mut self) {
        while let Some(completion) = self.ring.ring.next() {
            match Operation::from_user_data(completion.user_data) {
                Operation::Receive(id) => self.on_received(id, completion),
                Operation::Send(place) => self.results.set(place, completion.result),
            }
        }
    }

    fn on_received(&mut self, id: SocketId, completion: Completion) {
        if !completion.more() {
            let is_empty = completion.errno() == Some(libc::ENOBUFS) && !self.has_arrived(id);
            match is_empty {
                true => self.without_buffer.push(id),
                false => self.ended.push(id),
            }
            self.ring.ring.count_rearm();
        }
        let message = match completion.errno() {
            None => {
                let Some(buffer) = completion.buffer() else {
                    return;
                };
                let filled = Filled {
                    group: Group::of(id),
                    buffer,
                    length: usize::try_from(completion.result).unwrap_or(0),
                };
                self.ring.memory.messages.take(filled);
                Ok(filled)
            }
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::ECANCELED) => return,
            // An error of an earlier datagram is reported once.
            Some(errno) => Err(errno),
        };
        self.arrived.push((id, message));
    }

    /// Ends the receive of a socket: what it has taken from the socket has arrived then.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn end_receive(&mut self, id: SocketId) -> io::Result<()> {
        let has_ended = |of: &mut Vec<SocketId>| {
            let place = of.iter().position(|other| *other == id);
            place.map(|place| of.remove(place)).is_some()
        };
        let deadline = monotonic_ns().saturating_add(CLOSE);
        let mut is_cancelled = false;
        while !has_ended(&mut self.ended) && !has_ended(&mut self.without_buffer) {
            if !mem::replace(&mut is_cancelled, true) {
                let receive = Operation::Receive(id).user_data();
                self.ring.ring.cancel_one(receive)?;
            } else if monotonic_ns() >= deadline {
                break;
            }
            self.ring.ring.submit_and_wait(1, CLOSE)?;
            self.reap();
        }
        Ok(())
    }
}

impl Backend for Uring {
    type Slots = Messages;

    fn new(wake: &EventFd) -> io::Result<Self> {
        let files = [-1, wake.as_fd().as_raw_fd()];
        let settings = UringSettings::default();
        let ring = Ring::new_disabled(&settings, SUBMISSIONS, COMPLETIONS, &files)?;
        let memory = Memory {
            messages: Messages::new(&ring)?,
            shape: Shape::new()?,
            queues: [Queue::new(), Queue::new()],
        };
        Ok(Self {
            ring: RingWithMemory::new(ring, memory),
            left: 0,
            arrived: Vec::new(),
            ended: Vec::new(),
            without_buffer: Vec::new(),
            results: Results::default(),
            transmitter: Transmitter::new(64),
            discarded: Arrivals::new(16),
            failure: None,
        })
    }

    fn start(&mut self) -> io::Result<()> {
        self.ring.ring.enable()
    }

    fn open(&mut self, id: SocketId, socket: &Socket) -> io::Result<()> {
        // A receive of a socket that does not wait would end when no datagram is queued.
        socket.socket().set_nonblocking(false)?;
        self.receive_from(id, socket)
    }

    fn close(&mut self, id: SocketId, socket: Socket) -> Left {
        if let Err(error) = self.end_receive(id) {
            self.failure.get_or_insert(error);
        }
        let messages = &mut self.ring.memory.messages;
        let mut datagrams = 0;
        self.arrived.retain(|(of, message)| {
            if *of == id
                && let Ok(filled) = message
            {
                datagrams += messages.discard(*filled) as u64;
            }
            *of != id
        });
        let mut left = discard(socket, &mut self.discarded);
        left.datagrams += datagrams;
        left
    }

    fn receive_again(&mut self, _id: SocketId, _sockets: &mut impl Sockets) {}

    fn has_arrived(&self, id: SocketId) -> bool {
        self.arrived.iter().any(|(of, _)| *of == id)
    }

    fn wait(&mut self, deadline: u64, sockets: &mut impl Sockets) -> io::Result<bool> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.transmitter.start_pass();
        self.left = BATCHES;
        self.resume(sockets)?;
        self.ring.ring.arm_wake()?;
        // A batch or a wake-up may have arrived while the previous batch was sent.
        if self.arrived.is_empty() {
            let deadline = match self.ring.ring.is_woken() {
                true => 0,
                false => deadline,
            };
            self.ring.ring.wait(deadline)?;
            self.reap();
        }
        Ok(self.ring.ring.was_woken())
    }

    /// A send would receive the next few datagrams, which are collected as well, so the pass has one batch.
    fn collect(&mut self, pause: Duration) -> io::Result<()> {
        self.left = 1;
        if let more @ 1.. = COLLECTED.saturating_sub(self.arrived.len()) {
            let pause = pause.as_nanos() as u64;
            self.ring.ring.submit_and_wait(more, pause)?;
            self.reap();
        }
        Ok(())
    }

    fn receive(&mut self, _sockets: &mut impl Sockets, batch: &mut Vec<Received>) -> bool {
        if self.arrived.is_empty() || self.left == 0 {
            return false;
        }
        self.left -= 1;
        let messages = &mut self.ring.memory.messages;
        batch.extend(self.arrived.drain(..).map(|(socket, message)| Received {
            socket,
            message: message.map(|filled| messages.add(filled)),
        }));
        true
    }

    fn slots(&mut self) -> (&Messages, &mut Transmitter) {
        (&self.ring.memory.messages, &mut self.transmitter)
    }

    fn send(&mut self, sockets: &impl Sockets, batch: &mut [Sends; 2]) -> io::Result<()> {
        self.send_all(sockets, batch)
    }

    fn release(&mut self) {
        self.ring.memory.messages.release();
    }
}

impl Leak for Memory {
    fn leak(self) {
        self.messages.leak();
        self.shape.leak();
        mem::forget(self.queues);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Slots;
    use super::super::tests::Listener;
    use super::*;
    use crate::proxy::slab::Key;
    use crate::sys::datagrams::{connect, listen};
    use crate::uring::available;

    #[test]
    fn completion_identifies_its_operation() {
        for place in [0, 1, MOST_SENDS] {
            let flow = SocketId::of_flow(Key::from_number(place));
            let receives = [SocketId::LISTENER, flow].map(Operation::Receive);
            for operation in receives.into_iter().chain([Operation::Send(place)]) {
                assert_eq!(Operation::from_user_data(operation.user_data()), operation);
            }
        }
    }

    #[test]
    fn no_message_is_lost_and_every_buffer_returns() {
        if let Err(reason) = available(&UringSettings::default()) {
            println!("skipped: {reason}");
            return;
        }
        // More messages than there are buffers for clients.
        const MESSAGES: u32 = 200;
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
        let sender = connect(listener.local_addr().unwrap()).unwrap();
        let mut backend = Uring::new(&EventFd::new().unwrap()).unwrap();
        backend.start().unwrap();
        let mut sockets = Listener(listener.into());
        backend.open(SocketId::LISTENER, &sockets.0).unwrap();
        let mut batch = Vec::new();
        let mut next = 0;
        for round in 1..=20 {
            for number in next..round * MESSAGES {
                sender.send(&number.to_ne_bytes()).unwrap();
            }
            while next < round * MESSAGES {
                let deadline = monotonic_ns() + 10_000_000_000;
                backend.wait(deadline, &mut sockets).unwrap();
                assert!(backend.receive(&mut sockets, &mut batch));
                for part in batch.drain(..) {
                    let slot = part.message.unwrap();
                    let arrival = backend.slots().0.arrival(slot).unwrap();
                    assert_eq!(arrival.bytes, next.to_ne_bytes());
                    assert_eq!(arrival.source, Some(sender.local_addr().unwrap()));
                    next += 1;
                }
                backend.release();
            }
        }
        assert!(backend.ring.memory.messages.is_whole());
    }
}
