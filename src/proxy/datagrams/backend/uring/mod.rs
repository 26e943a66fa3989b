//! Datagrams over io_uring(7): a multishot receive on each socket, and all runs of a batch sent by one call.
//!
//! Each message is received into a buffer that the kernel picks, and sent from that buffer. A send never waits
//! (`MSG_DONTWAIT`), so it completes within the call that submits it. Several runs of one flow in a batch are a chain
//! (`IOSQE_IO_LINK`): if one fails, those behind it are cancelled, and all are sent anew in order by sendmmsg(2), which
//! handles the error as `epoll` does.
//!
//! The call that sends a batch also receives the next one, if there is one. A flow that is closed keeps its socket open
//! until its receive has ended.
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

pub(in crate::proxy) mod messages;
pub(in crate::proxy) mod send;

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;

use self::messages::{Filled, Group, Messages};
use self::send::{Queues, Results};
use super::{Backend, Received, Sends};
use crate::engine::UringSettings;
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::datagrams::table::FlowTable;
use crate::proxy::datagrams::transmit::Transmitter;
use crate::proxy::slab::Key;
use crate::sys::datagrams::QueuedDepartures;
use crate::sys::eventfd::EventFd;
use crate::sys::timer_slack;
use crate::uring::recvmsg::Shape;
use crate::uring::ring::{Completion, Leak, Ring, RingWithMemory};

/// Operations that one call submits.
pub(in crate::proxy) const SUBMISSIONS: u32 = 1_024;

/// Completions for which the kernel has room: more only cost time.
pub(in crate::proxy) const COMPLETIONS: u32 = 16_384;

/// Most runs of a batch that the ring sends.
pub(in crate::proxy) const MOST_SENDS: usize = SUBMISSIONS as usize / 2;

/// Most batches of one pass of the loop: each send may receive the next one.
const BATCHES: usize = 8;

/// Messages from which on none waits for more.
const COLLECTED: usize = 32;

/// Bits of `user_data` that identify an operation; the others are the key of a flow, or the place of a run.
const OPERATION_BITS: u32 = 8;

/// The operation of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    ReceiveFromClients,
    ReceiveFromServer(Key),
    /// The run at this place.
    Send(usize),
}

impl Operation {
    fn user_data(self) -> u64 {
        let (number, operation) = match self {
            Self::ReceiveFromClients => (0, 0),
            Self::ReceiveFromServer(key) => (key.number(), 1),
            Self::Send(place) => (place, 2),
        };
        (number as u64) << OPERATION_BITS | operation
    }

    fn from_user_data(user_data: u64) -> Option<Self> {
        let number = (user_data >> OPERATION_BITS) as usize;
        match user_data & ((1 << OPERATION_BITS) - 1) {
            0 => Some(Self::ReceiveFromClients),
            1 => Some(Self::ReceiveFromServer(Key::from_number(number))),
            2 => Some(Self::Send(number)),
            _ => None,
        }
    }
}

/// The backend of a thread.
pub(in crate::proxy) struct Uring {
    ring: RingWithMemory<Memory>,
    listener: UdpSocket,
    is_v6: bool,
    /// Clients are received from.
    listens: bool,
    /// A receive of the listener is in flight.
    is_receiving: bool,
    /// Batches that are left in this pass.
    left: usize,
    /// Received since the last batch.
    arrived: Vec<(Received, Option<Filled>)>,
    /// Flows whose receive has ended.
    ended: Vec<Key>,
    /// Closed flows whose receive has not ended.
    closing: BTreeMap<Key, UdpSocket>,
    results: Results,
    transmitter: Transmitter,
    /// The error of an operation that could not be submitted. It ends the loop.
    failure: Option<io::Error>,
}

/// Memory that requests point to.
struct Memory {
    messages: Messages,
    shape: Shape,
    queues: Queues,
}

impl Uring {
    /// # Errors
    /// As io_uring_enter(2).
    fn receive_from(
        &mut self,
        socket: RawFd,
        group: Group,
        operation: Operation,
    ) -> io::Result<()> {
        let RingWithMemory { ring, memory } = &mut self.ring;
        let request = opcode::RecvMsgMulti::new(Fd(socket), memory.shape.header(), group.number())
            .build()
            .user_data(operation.user_data());
        // SAFETY: the header is never written again, and the header and the buffers outlive the ring.
        unsafe { ring.push(&request) }
    }

    /// Starts the receives again that have ended, in most cases as no buffer was free, and closes sockets whose receive has
    /// ended.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn resume(&mut self, flows: &FlowTable<UdpSocket>) -> io::Result<()> {
        if self.listens && !mem::replace(&mut self.is_receiving, true) {
            let listener = self.listener.as_raw_fd();
            self.receive_from(listener, Group::Clients, Operation::ReceiveFromClients)?;
        }
        while let Some(key) = self.ended.pop() {
            match flows.get(key) {
                Some(flow) => {
                    let socket = flow.socket.as_raw_fd();
                    self.receive_from(socket, Group::Servers, Operation::ReceiveFromServer(key))?;
                }
                None => drop(self.closing.remove(&key)),
            }
        }
        Ok(())
    }

    /// Takes all completions.
    ///
    /// # Errors
    /// Receiving from clients failed.
    fn reap(&mut self) -> io::Result<()> {
        while let Some(completion) = self.ring.ring.next() {
            match Operation::from_user_data(completion.user_data) {
                Some(Operation::ReceiveFromClients) => self.on_clients(completion)?,
                Some(Operation::ReceiveFromServer(key)) => self.on_server(key, completion),
                Some(Operation::Send(place)) => self.results.set(place, completion.result),
                None => {}
            }
        }
        Ok(())
    }

    fn on_clients(&mut self, completion: Completion) -> io::Result<()> {
        if !completion.more() {
            self.is_receiving = false;
            self.ring.ring.count_rearm();
        }
        match completion.errno() {
            // The slot follows when the batch is received.
            None => self.on_message(Received::OfClient(0), Group::Clients, completion),
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => {}
            Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
        Ok(())
    }

    fn on_server(&mut self, key: Key, completion: Completion) {
        if !completion.more() {
            self.ended.push(key);
            self.ring.ring.count_rearm();
        }
        let cause = match completion.errno() {
            None => {
                let message = Received::OfServer(key, 0);
                return self.on_message(message, Group::Servers, completion);
            }
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::ECANCELED) => return,
            // An error of an earlier datagram is reported once.
            errno => DropCause::of_errno(errno),
        };
        self.arrived.push((Received::Failed(key, cause), None));
    }

    fn on_message(&mut self, message: Received, group: Group, completion: Completion) {
        if let Some(buffer) = completion.buffer() {
            let filled = Filled {
                group,
                buffer,
                length: usize::try_from(completion.result).unwrap_or(0),
            };
            self.ring.memory.messages.take(filled);
            self.arrived.push((message, Some(filled)));
        }
    }
}

impl Backend for Uring {
    type Socket = UdpSocket;
    type Slots = Messages;

    fn new(listener: UdpSocket, wake: &EventFd) -> io::Result<Self> {
        // A receive of a socket that does not wait would end when no datagram is queued.
        listener.set_nonblocking(false)?;
        let files = [-1, wake.as_fd().as_raw_fd()];
        let settings = UringSettings::default();
        let ring = Ring::new_disabled(&settings, SUBMISSIONS, COMPLETIONS, &files)?;
        let memory = Memory {
            messages: Messages::new(&ring)?,
            shape: Shape::new()?,
            queues: [QueuedDepartures::new(), QueuedDepartures::new()],
        };
        Ok(Self {
            ring: RingWithMemory::new(ring, memory),
            is_v6: listener.local_addr()?.is_ipv6(),
            listener,
            listens: false,
            is_receiving: false,
            left: 0,
            arrived: Vec::new(),
            ended: Vec::new(),
            closing: BTreeMap::new(),
            results: Results::default(),
            transmitter: Transmitter::new(64),
            failure: None,
        })
    }

    fn start(&mut self) -> io::Result<()> {
        // A pause is shorter than the slack.
        timer_slack::tighten()?;
        self.ring.ring.enable()
    }

    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn descriptor(socket: &UdpSocket) -> BorrowedFd<'_> {
        socket.as_fd()
    }

    fn open(&mut self, key: Key, socket: UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(false)?;
        let operation = Operation::ReceiveFromServer(key);
        self.receive_from(socket.as_raw_fd(), Group::Servers, operation)?;
        Ok(socket)
    }

    /// The socket stays open until its receive has ended.
    fn close(&mut self, key: Key, socket: UdpSocket) {
        let receive = Operation::ReceiveFromServer(key).user_data();
        if let Err(error) = self.ring.ring.cancel_one(receive) {
            self.failure.get_or_insert(error);
        }
        self.closing.insert(key, socket);
    }

    fn receive_clients(&mut self) {
        self.listens = true;
    }

    fn wait(&mut self, deadline: u64, flows: &mut FlowTable<UdpSocket>) -> io::Result<bool> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.transmitter.start_pass();
        self.left = BATCHES;
        self.resume(flows)?;
        self.ring.ring.arm_wake()?;
        // A batch or a wake-up may have arrived while the previous batch was sent.
        if self.arrived.is_empty() {
            let deadline = match self.ring.ring.is_woken() {
                true => 0,
                false => deadline,
            };
            self.ring.ring.wait(deadline)?;
            self.reap()?;
        }
        Ok(self.ring.ring.was_woken())
    }

    /// A send would receive the next few datagrams, which are collected as well, so the pass has one batch.
    fn collect(&mut self, pause: Duration) -> io::Result<()> {
        self.left = 1;
        if let more @ 1.. = COLLECTED.saturating_sub(self.arrived.len()) {
            let pause = pause.as_nanos() as u64;
            self.ring.ring.submit_and_wait(more, pause)?;
            self.reap()?;
        }
        Ok(())
    }

    fn receive(
        &mut self,
        _flows: &mut FlowTable<UdpSocket>,
        batch: &mut Vec<Received>,
    ) -> io::Result<bool> {
        if self.arrived.is_empty() || self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let messages = &mut self.ring.memory.messages;
        for (message, filled) in self.arrived.drain(..) {
            batch.push(match (message, filled) {
                (Received::OfClient(_), Some(filled)) => Received::OfClient(messages.add(filled)),
                (Received::OfServer(key, _), Some(filled)) => {
                    Received::OfServer(key, messages.add(filled))
                }
                (message, _) => message,
            });
        }
        Ok(true)
    }

    fn slots(&mut self) -> (&Messages, &mut Transmitter) {
        (&self.ring.memory.messages, &mut self.transmitter)
    }

    fn send(
        &mut self,
        flows: &FlowTable<UdpSocket>,
        to_servers: &mut Sends,
        to_clients: &mut Sends,
    ) -> io::Result<()> {
        self.send_all(flows, to_servers, to_clients)
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
    use super::*;
    use crate::proxy::slab::Slab;
    use crate::sys::clock::monotonic_ns;
    use crate::sys::datagrams::{connect, listen};
    use crate::uring::available;

    #[test]
    fn completion_identifies_its_operation() {
        let mut slab = Slab::new();
        for place in 0..3 {
            let key = slab.insert(Ok::<_, ()>).unwrap();
            for operation in [
                Operation::ReceiveFromClients,
                Operation::ReceiveFromServer(key),
                Operation::Send(place),
            ] {
                let user_data = operation.user_data();
                assert_eq!(Operation::from_user_data(user_data), Some(operation));
            }
        }
        assert_eq!(Operation::from_user_data(u64::MAX), None);
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
        let mut backend = Uring::new(listener, &EventFd::new().unwrap()).unwrap();
        backend.start().unwrap();
        backend.receive_clients();
        let mut flows = FlowTable::new(1);
        let mut batch = Vec::new();
        let mut next = 0;
        for round in 1..=20 {
            for number in next..round * MESSAGES {
                sender.send(&number.to_ne_bytes()).unwrap();
            }
            while next < round * MESSAGES {
                let deadline = monotonic_ns() + 10_000_000_000;
                backend.wait(deadline, &mut flows).unwrap();
                assert!(backend.receive(&mut flows, &mut batch).unwrap());
                for part in batch.drain(..) {
                    let Received::OfClient(slot) = part else {
                        panic!("{part:?}");
                    };
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
